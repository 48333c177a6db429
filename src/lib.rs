//! Syncline: a self-hosted server for collaborative state.
//!
//! A keystroke enters in [`http::ws`], is decoded by `syncline_protocol::session`, reaches its document's actor through
//! [`hub`], is validated and applied by [`document::core`], is kept by [`store`], and leaves through [`outbox`].
//!
//! Modules stand in dependency order: each imports only what stands above it (`tests/tidy.rs` proves it).

// leaves
pub mod clock;
pub mod name;
pub mod event;
pub mod limit;
pub mod config;
pub mod telemetry;
pub mod metrics;
pub mod outbox;
// ports, each with its adapters
pub mod auth;
pub mod store;
pub mod bus;
// domain
pub mod table;
pub mod document;
pub mod room;
// union
pub mod hub;
pub mod cluster;
// edge
pub mod http;
// process
pub mod app;
pub mod cli;
