//! One document on one connection: what is said on it, and how far its rights reach.
//!
//! A [`Channel`] knows no dialect. It says *that* it must end and why; its session says so in the client's language.

use std::fmt;

use bytes::Bytes;

use crate::Moment;
use crate::awareness::Entry;
pub use held::Held;
pub use held::Sort;
pub use life::Channel;
pub use life::Due;
pub use life::Judgement;
pub use life::Opened;
pub use life::Phase;
pub use life::Terms;

mod held;
mod life;

/// A connection's own number for one of its documents, used once. The `y-websocket` dialect has exactly one, number 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChannelId(pub u32);

/// What a holder may do with a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Access {
    /// See everything, be present, write nothing.
    Read,
    /// See and write.
    Write,
}

/// What a client tells a document, whatever its dialect. All bytes are slices of the frame they came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DocumentMessage {
    /// "This is what I have": an encoded state vector. Answered with a step 2.
    SyncStep1(Bytes),
    /// "This is what you lack": an update in answer to our step 1. Acknowledged like [`Self::Update`].
    SyncStep2(Bytes),
    /// A change, as Yjs update v1. Acknowledged once, when durable.
    Update(Bytes),
    /// Presence of one or more client ids.
    Awareness(Vec<Entry>),
    /// "Who is here?" Answered with every known presence.
    QueryAwareness,
    /// An application's own text (UTF-8), for everybody else in the document. Kept nowhere, acknowledged never.
    Stateless(Bytes),
}

/// What a document tells a client of any dialect. What only one dialect can say has a function there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServerMessage {
    /// Our encoded state vector; without it a client's offline edits would never arrive.
    SyncStep1(Bytes),
    /// The answer to a client's step 1: an update v1.
    SyncStep2(Bytes),
    /// A change, as update v1.
    Update(Bytes),
    /// Encoded awareness entries (`varUint n`, then `n` entries); `00` is the keep-alive.
    Awareness(Bytes),
}

/// What somebody was allowed, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grant {
    /// How much.
    pub access: Access,
    /// When it runs out; `None` for never.
    pub expires_at: Option<Moment>,
}

/// A client's proof of who it is. Shown to whoever checks it, and to nobody else.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Token(String);

impl Token {
    /// The token as it came; empty when the client has none.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// What is to be checked. Not to be logged.
    #[must_use]
    pub fn secret(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "Token(none)" } else { "Token(…)" })
    }
}
