//! Black-box tests: one binary, a file a story.

mod auth;
mod cli;
mod config;
mod errors;
//! Black box and suite tests, one binary, a file a story.

mod conformance;
mod store_damage;
