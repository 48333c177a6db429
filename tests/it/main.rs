//! Black-box tests: one binary, a file a story.

mod auth;
mod cli;
mod config;
mod errors;
