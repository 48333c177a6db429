//! What may be asked of a document, and what it answers.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use syncline_protocol::ErrorCode;
use syncline_protocol::state_vector::StateVector;

use crate::store::Epoch;
use crate::store::Seq;
use crate::store::StoreError;
use crate::table::command::TableAnswer;
use crate::table::command::TableRequest;
use crate::table::refused::Refused;

/// One channel, as its document knows it. Never used twice in a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ReaderId(pub u64);

/// One request that waits for its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// How a channel hears that something it sent is durable. Its client's language decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Receipt {
    /// It hears its own update again.
    Echo,
    /// It is told so, exactly once for each update and each step 2; and it is told when something counts for nothing.
    Status,
    /// As [`Self::Status`]; besides, it does not send back what it hears of who is present.
    QuietStatus,
}

/// Somebody signed in, as far as a document needs to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The `sub` of the token.
    pub user: Arc<str>,
    /// The `name` of the token.
    pub name: Option<Arc<str>>,
    /// The `email` of the token.
    pub email: Option<Arc<str>>,
}

/// A no, with its reason. The code decides the HTTP status and the close code.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// Which kind of no.
    pub code: ErrorCode,
    /// One sentence for the one who asked.
    pub message: Cow<'static, str>,
    /// What the code promises besides, where it promises something.
    pub data: Option<Box<serde_json::Map<String, serde_json::Value>>>,
}

impl Refusal {
    /// A refusal with a fixed or a made sentence.
    #[must_use]
    pub fn new(code: ErrorCode, message: impl Into<Cow<'static, str>>) -> Self {
        Self { code, message: message.into(), data: None }
    }
}

impl From<Refused> for Refusal {
    fn from(refused: Refused) -> Self {
        Self { code: refused.code, message: refused.message.into(), data: Some(Box::new(refused.data)) }
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        let code = match error {
            StoreError::Unavailable(_) => ErrorCode::StoreUnavailable,
            StoreError::Deleted => ErrorCode::NotFound,
            StoreError::Damaged(_) | StoreError::Conflict(_) => ErrorCode::ChannelError,
        };
        Self::new(code, error.to_string())
    }
}

/// A single question or command, answered once.
#[derive(Debug, Clone)]
pub enum Request {
    /// The state as one update, without what `have` covers.
    State {
        /// What the asker has; empty for the whole state.
        have: StateVector,
    },
    /// Merge one update. Answered when it is durable.
    Update {
        /// Yjs update v1.
        update: Bytes,
        /// Who sends it.
        member: Option<Member>,
    },
    /// Create the document from a template, if it is not there. Answered when it is durable.
    Create {
        /// Yjs update v1; the empty update creates an empty document.
        template: Bytes,
        /// Who sends it.
        member: Option<Member>,
    },
    /// Say something to everybody whose client can hear it. Not kept.
    Say {
        /// UTF-8.
        text: Bytes,
    },
    /// Something about the records of a table.
    Table(TableRequest),
    /// Who is present.
    Presence,
    /// Delete the document: its readers are closed, a tombstone stays.
    Delete,
    /// Answer when everything that was accepted so far is durable.
    Flush,
}

impl Request {
    /// Whether it creates a document that is not there, or is there no more.
    #[must_use]
    pub fn creates(&self) -> bool {
        matches!(self, Self::Create { .. }) || matches!(self, Self::Table(asked) if asked.creates())
    }
}

/// Where a document stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Revision {
    /// Its life.
    pub epoch: Epoch,
    /// Its last durable record.
    pub seq: Seq,
    /// Whether that record holds everything that was shown; otherwise the same position can be seen with other content.
    pub settled: bool,
}

/// The answer to a [`Request`].
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// To [`Request::State`].
    State {
        /// Yjs update v1.
        update: Bytes,
        /// Where the document stands.
        revision: Revision,
    },
    /// To [`Request::Update`]: saved at this position.
    Saved(Seq),
    /// To [`Request::Create`].
    Created {
        /// `false` when the document was there and is untouched.
        created: bool,
        /// Where it stands.
        revision: Revision,
    },
    /// To [`Request::Table`].
    Table(TableAnswer),
    /// To a [`Request::Table`] that was done before, under the same key.
    Repeated(TableAnswer),
    /// To [`Request::Presence`].
    Presence(Vec<Present>),
    /// To [`Request::Say`], [`Request::Delete`] and [`Request::Flush`].
    Done,
}

/// One member's line in a presence list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Present {
    /// Who; `None` for a connection without a user.
    pub member: Option<Member>,
    /// The Yjs client ids of that member's connection with their states (JSON text).
    pub clients: Vec<(u64, Bytes)>,
    /// When the connection joined: milliseconds since 1970, UTC.
    pub since_ms: u64,
}
