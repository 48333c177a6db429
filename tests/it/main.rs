//! Black-box tests over real ports and real files: one binary, a file a story.

mod auth;
mod cli;
mod config;
mod conformance;
mod crash;
mod docs;
mod errors;
mod server;
mod store_damage;
mod support;
