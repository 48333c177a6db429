//! What the writer thread is asked to do.

use bytes::Bytes;

use crate::name::DocName;
use crate::store::Epoch;
use crate::store::Seq;
use crate::store::StoreError;
use crate::store::record::StoredSnapshotKey;
use crate::store::segments::index::SegmentId;

/// Where an answer goes.
pub(crate) type Reply<T> = tokio::sync::oneshot::Sender<Result<T, StoreError>>;

/// An append, encoded.
#[derive(Debug)]
pub(crate) struct Append {
    pub(crate) count: u32,
    pub(crate) at_ms: u64,
    pub(crate) body: Bytes,
}

/// Entries of one document that move out of an old segment.
#[derive(Debug)]
pub(crate) struct Moved {
    pub(crate) first: u64,
    pub(crate) append: Append,
}

/// What the thread is asked to do.
#[derive(Debug)]
pub(crate) enum Job {
    Append {
        doc: DocName,
        epoch: Epoch,
        append: Append,
        reply: Reply<Seq>,
    },
    Delete {
        doc: DocName,
        reply: Reply<bool>,
    },
    Revive {
        doc: DocName,
        reply: Reply<Epoch>,
    },
    /// A snapshot is safe on disk: from now on it is in force.
    Snapshot {
        doc: DocName,
        epoch: Epoch,
        key: StoredSnapshotKey,
        reply: Reply<()>,
    },
    /// Writes a document's live entries, or its note, again, so that segment `from` can go.
    Move {
        doc: DocName,
        epoch: u64,
        from: SegmentId,
        entries: Vec<Moved>,
        reply: Reply<()>,
    },
    /// Completes the current segment.
    Roll {
        reply: Reply<()>,
    },
    Probe {
        reply: Reply<()>,
    },
}

impl Job {
    /// Answers a job that cannot be done.
    pub(crate) fn refuse(self, error: StoreError) {
        match self {
            Self::Append { reply, .. } => drop(reply.send(Err(error))),
            Self::Delete { reply, .. } => drop(reply.send(Err(error))),
            Self::Revive { reply, .. } => drop(reply.send(Err(error))),
            Self::Snapshot { reply, .. } | Self::Move { reply, .. } | Self::Roll { reply } | Self::Probe { reply } => {
                drop(reply.send(Err(error)));
            }
        }
    }
}
