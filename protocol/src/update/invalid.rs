//! Why an update is refused: what, and at which byte.

/// A refusal. Every variant carries the offset of the byte at which reading stopped, so that a log line and the
/// refused bytes are enough to see what a client did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// Longer than [`super::UpdateLimits::bytes_max`].
    #[error("{bytes} bytes are more than the allowed {max}")]
    TooLong {
        /// Length of the update.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// The bytes end inside a value, a length points past the end, or more things are announced than bytes are left.
    #[error("unexpected end at byte {at}")]
    End {
        /// Offset.
        at: usize,
    },
    /// Bytes follow the delete set. A V2 update read as V1 looks like this.
    #[error("bytes trail from byte {at}")]
    Trailing {
        /// Offset.
        at: usize,
    },
    /// An integer of 2^53 or more, or one that is not in its shortest form (readers differ on those).
    #[error("bad integer at byte {at}")]
    Integer {
        /// Offset.
        at: usize,
    },
    /// A string that is not UTF-8.
    #[error("text is not UTF-8 at byte {at}")]
    Utf8 {
        /// Offset.
        at: usize,
    },
    /// More structs than [`super::UpdateLimits::structs_max`].
    #[error("too many structs at byte {at}")]
    TooManyStructs {
        /// Offset.
        at: usize,
    },
    /// More clients than [`super::UpdateLimits::clients_max`].
    #[error("too many clients at byte {at}")]
    TooManyClients {
        /// Offset.
        at: usize,
    },
    /// A client id twice in the structs, or twice in the delete set.
    #[error("client {client} appears twice, at byte {at}")]
    DuplicateClient {
        /// Offset, 0 where it was noticed only after the last byte.
        at: usize,
        /// The client.
        client: u64,
    },
    /// A client without structs or ranges, or a struct or range of length zero.
    #[error("empty struct, range or list at byte {at}")]
    Empty {
        /// Offset.
        at: usize,
    },
    /// A clock that reaches 2^31.
    #[error("clock out of range at byte {at}")]
    Clock {
        /// Offset.
        at: usize,
    },
    /// A content that does not exist, or flags that a struct without origins cannot have.
    #[error("unknown kind of struct {info:#04x} at byte {at}")]
    Info {
        /// Offset.
        at: usize,
        /// The info byte.
        info: u8,
    },
    /// Neither "root name" nor "item id".
    #[error("unknown kind of parent at byte {at}")]
    ParentInfo {
        /// Offset.
        at: usize,
    },
    /// A shared type that does not exist.
    #[error("unknown shared type {type_ref} at byte {at}")]
    TypeRef {
        /// Offset.
        at: usize,
        /// The type's number.
        type_ref: u8,
    },
    /// A move, an experiment of the engine that Yjs does not know.
    #[error("move at byte {at}")]
    Move {
        /// Offset.
        at: usize,
    },
    /// A weak link, an experiment of the engine that Yjs does not know.
    #[error("weak link at byte {at}")]
    WeakLink {
        /// Offset.
        at: usize,
    },
    /// An XML hook. Yjs writes its name, the engine does not read it and would take the name for the next struct.
    #[error("XML hook at byte {at}")]
    XmlHook {
        /// Offset.
        at: usize,
    },
    /// JSON content, which Yjs 13 reads but does not write any more. The engine reads one element too many.
    #[error("JSON content at byte {at}")]
    JsonContent {
        /// Offset.
        at: usize,
    },
    /// A subdocument where [`super::UpdateLimits::allow_subdocuments`] is off.
    #[error("subdocument at byte {at}")]
    Subdocument {
        /// Offset.
        at: usize,
    },
    /// A value or a JSON text nested deeper than [`crate::limits::ANY_DEPTH_MAX`].
    #[error("value nested too deeply at byte {at}")]
    ValueDepth {
        /// Offset.
        at: usize,
    },
    /// A value of an unknown kind.
    #[error("unknown value {tag} at byte {at}")]
    ValueTag {
        /// Offset.
        at: usize,
        /// The tag byte.
        tag: u8,
    },
    /// An embed or a format whose JSON is not JSON.
    #[error("bad JSON at byte {at}")]
    Json {
        /// Offset.
        at: usize,
    },
    /// Delete ranges of one client that overlap or are not in order.
    #[error("delete ranges out of order at byte {at}")]
    DeleteOrder {
        /// Offset.
        at: usize,
    },
    /// A struct that refers to itself or to a later struct of its own client.
    #[error("reference into the future at byte {at}")]
    ForwardReference {
        /// Offset.
        at: usize,
    },
    /// Structs of several clients that wait for each other: no order exists in which they could be integrated.
    #[error("structs of client {client} and others wait for each other")]
    Cycle {
        /// One of the clients.
        client: u64,
    },
    /// A parent, sent in the same update, that cannot have children.
    #[error("the parent of the struct at byte {at} is no shared type")]
    Parent {
        /// Offset.
        at: usize,
    },
    /// Shared types nested deeper within the update than [`super::NESTING_MAX`].
    #[error("shared types nested too deeply at byte {at}")]
    Nesting {
        /// Offset.
        at: usize,
    },
}

impl Invalid {
    /// Whether the update is not impossible, only more than is allowed.
    #[must_use]
    pub const fn is_too_large(&self) -> bool {
        matches!(self, Self::TooLong { .. } | Self::TooManyStructs { .. } | Self::TooManyClients { .. })
    }
}
