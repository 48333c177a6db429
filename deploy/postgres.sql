-- A role that can do what Syncline needs and nothing else. Run by an administrator of the database, with psql 14 or newer and
-- the role's password in SYNCLINE_DATABASE_PASSWORD.
\getenv password SYNCLINE_DATABASE_PASSWORD
\set ON_ERROR_STOP on
-- Twice six connections for each of three nodes: old and new ones overlap for a moment.
CREATE ROLE syncline LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION CONNECTION LIMIT 40 PASSWORD :'password';
CREATE DATABASE syncline;
REVOKE ALL ON DATABASE syncline FROM PUBLIC;
GRANT CONNECT ON DATABASE syncline TO syncline;
\connect syncline
REVOKE ALL ON SCHEMA public FROM PUBLIC;
-- The servers make their tables themselves, and own them. They ask for CREATE at every start, so it stays.
GRANT USAGE, CREATE ON SCHEMA public TO syncline;
