//! One document: what it holds, who reads it, what is saved.
//!
//! [`core`] decides and never waits; [`actor`] is the loop that feeds it and carries out its effects. Only this module
//! (and `table`) knows the CRDT engine, and only through [`replica`].

pub mod actor;
pub mod awareness;
pub mod compact;
pub mod core;
pub mod heard;
pub mod inbox;
pub mod inflight;
pub mod job;
pub mod json;
pub mod lineage;
pub mod mail;
pub mod memory;
pub mod peer;
pub mod port;
pub mod quarantine;
pub mod replay;
pub mod replica;
pub mod request;
pub mod saving;
pub mod states;
pub mod surroundings;
mod touched;
pub mod waiting;
mod work;
