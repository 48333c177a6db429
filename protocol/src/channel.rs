//! One document on one connection.

use bytes::Bytes;

use crate::awareness::Entry;

/// A connection's own number for one of its documents. The `y-websocket` dialect has exactly one, number 0.
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
}

/// What a document tells a client; each dialect has its own encoding of it.
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
