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
//! | module | what it is for |
//! |---|---|
//! | [`error_code`] | every way of saying no: word, HTTP status, close code |
//! | [`limits`], [`moment`], [`wire`] | bounds, time as a value, lib0's integers and byte arrays |
//! | [`state_vector`], [`awareness`] | the two small Yjs encodings that the server itself reads |
//! | [`update`] | the bounded reader of Yjs updates |
//! | [`channel`] | one document on one connection: what is said on it, how far its rights reach |
//! | [`message`] | the messages that all dialects share |
//! | [`y_websocket`] | frames of the `y-websocket` dialect: one document per socket |
//! | [`hocuspocus`] | frames of the `@hocuspocus/provider` dialect: many documents on one socket, each frame addressed |
//! | [`socket_io`] | packets of Socket.IO around their JSON |
//! | [`session`] | one connection: what may happen next, and what must |
//!
//! Modules in dependency order (a module imports only what stands above it):

// leaves
pub mod error_code;
pub mod limits;
pub mod moment;
pub mod web_socket;
pub mod wire;
// Yjs encodings
pub mod awareness;
pub mod state_vector;
pub mod update;
// what is said
pub mod channel;
pub mod message;
// dialects
pub mod y_websocket;
pub mod hocuspocus;
pub mod socket_io;
// decisions
pub mod session;

pub use error_code::ErrorCode;
pub use moment::Moment;
