//! WebSocket clients, all of them on one thread: cheap enough that the server is what is measured.
//!
//! ```text
//!   scenario ──▶ Fleet::send ──▶ Client (masked frames, out buffer) ──▶ socket
//!   scenario ◀── Fleet::turn ◀── Client (phase, frames read in place) ◀── one shared read buffer
//! ```
//!
//! A scenario connects clients with [`Fleet::open_all`], then alternates between [`Fleet::send`] and [`Fleet::turn`], which
//! hands every message to a closure as a slice of the bytes that were read.

mod connection;
mod fleet;
mod frame;
mod handshake;
pub(crate) mod message;

pub(crate) use connection::ClientId;
pub(crate) use connection::Door;
pub(crate) use connection::Event;
pub(crate) use fleet::Fleet;
pub(crate) use message::Dialect;
pub(crate) use message::Message;
pub(crate) use message::Say;

#[cfg(test)]
mod tests;
