//! What the stories play with: clients that behave like the npm ones, bare sockets that do not, and what they write.

pub(crate) mod app;
pub(crate) mod cable;
pub(crate) mod client;
pub(crate) mod pad;
pub(crate) mod postgres;
pub(crate) mod redis;
pub(crate) mod replayer;
pub(crate) mod socket;
