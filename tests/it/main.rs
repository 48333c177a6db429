//! Black-box tests over real ports and real files: one binary, a file a story.

mod auth;
mod cli;
mod config;
mod conformance;
mod docs_match;
mod errors;
mod store_damage;
