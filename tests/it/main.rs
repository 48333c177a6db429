//! Black-box tests over real ports and real files: one binary, a file a story.

mod auth;
mod callback;
mod cli;
mod collab_hostile;
mod config;
mod conformance;
mod crash;
mod damage;
mod docs;
mod docs_match;
mod drain;
mod errors;
mod feed;
mod feed_replay;
mod limits;
mod lineage;
mod memory;
mod poison;
mod revoke;
mod server;
mod slow_reader;
mod stateless;
mod store_commits;
mod store_damage;
mod store_room;
mod support;
