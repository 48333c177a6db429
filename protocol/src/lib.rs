//! The pure part of Syncline: what the bytes on a socket mean, and what one connection may do next.
//!
//! Nothing in here knows a runtime, a clock, a socket or a CRDT engine. Time comes in as [`Moment`]s, bytes come in as
//! [`bytes::Bytes`], decisions go out as values. That makes every rule testable with a list of inputs.
//!
//! ```text
//!   frame ──▶ Session::handle(now, input, &mut outputs) ──▶ Output::Document ──▶ the document actor
//!                                                     └───▶ Output::Send / Output::Close
//! ```
//!
//! Modules, in dependency order (a module imports only what stands above it):

pub mod moment;
pub mod error_code;
pub mod limits;
pub mod wire;
pub mod state_vector;
pub mod update;
pub mod awareness;
pub mod channel;
pub mod message;
pub mod y_websocket;
pub mod session;

pub use error_code::ErrorCode;
pub use moment::Moment;
