//! Where documents are kept: per document an append-only log of updates and one snapshot.
//!
//! "Saved" means that the future returned by [`Store::append`] resolved with `Ok`: the change is on disk. Nothing that
//! a store does may lose an acknowledged record, whatever dies and whenever; every engine passes `tests/it/conformance`.

pub mod faulty;
pub mod local;
pub mod memory;
pub mod postgres;
pub mod record;
mod segments;
mod sled;
pub mod tools;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;

use crate::name::DocName;

pub use crate::store::faulty::Faulty;
pub use crate::store::local::LocalOptions;
pub use crate::store::local::LocalStore;
pub use crate::store::local::OpenError;
pub use crate::store::memory::MemoryStore;
pub use crate::store::postgres::PostgresOptions;
pub use crate::store::postgres::PostgresStore;
pub use crate::store::segments::disk::DiskFaults;
pub use crate::store::segments::disk::DiskMood;

/// Position in one document's log. The first record of a document is 1; each record counts one up, across compactions,
/// and never starts again within one [`Epoch`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Seq(pub u64);

/// Which life of a document this is: 0 at first, one more each time it is created again after a deletion.
/// A writer that still holds an older epoch is refused: it must not revive what was deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Epoch(pub u64);

/// Largest memo of a deletion. A larger one is refused as [`StoreError::Conflict`].
pub const MEMO_BYTES_MAX: usize = 1 << 20;

/// One update in a document's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Yjs update v1, as it was accepted.
    pub update: Bytes,
    /// Who made it, where somebody was signed in.
    pub user: Option<Arc<str>>,
    /// When it was accepted: milliseconds since 1970, UTC.
    pub at_ms: u64,
    /// What the domain keeps beside the document (record versions, attribution); empty when there is nothing.
    pub sidecar: Bytes,
}

/// A document's state up to and including `through`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The whole state as one Yjs update v1.
    pub state: Bytes,
    /// The last record that is part of it.
    pub through: Seq,
    /// What the domain keeps beside the document, folded.
    pub sidecar: Bytes,
}

/// All that is kept of one document.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Loaded {
    /// The newest snapshot, where one was made.
    pub snapshot: Option<Snapshot>,
    /// The records after the snapshot, in order and without a gap.
    pub records: Vec<(Seq, Record)>,
    /// The last record ever appended in this epoch; 0 when there is none.
    pub last: Seq,
    /// The life of the document that this is.
    pub epoch: Epoch,
    /// What [`Store::delete`] was given when the former life ended; empty in a first life.
    pub memo: Bytes,
}

impl Loaded {
    /// What `after` does not cover.
    fn beyond(mut self, after: Seq) -> Self {
        self.snapshot = self.snapshot.filter(|snapshot| snapshot.through > after);
        self.records.retain(|(seq, _)| *seq > after);
        self
    }
}

/// One line of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DocInfo {
    /// The document.
    pub name: DocName,
    /// Bytes kept for it: its snapshot and the records after it.
    pub bytes: u64,
    /// When its last record was accepted: milliseconds since 1970, UTC.
    pub updated_at_ms: u64,
    /// Its last record.
    pub last: Seq,
}

/// One page of a listing, in byte order of the names.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Page {
    /// At most as many as were asked for. Deleted documents are not listed.
    pub docs: Vec<DocInfo>,
    /// Pass this as `after` to get the next page; `None` at the end.
    pub next: Option<DocName>,
}

/// Why a store could not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The engine fails as a whole, for now: disk full, connection lost. Trying again may work.
    #[error("the store is not available: {0}")]
    Unavailable(String),
    /// What is kept of this one document cannot be read. Other documents are not affected.
    #[error("the stored document is damaged: {0}")]
    Damaged(String),
    /// The document was deleted, or lives in a newer epoch than the caller's.
    #[error("the document was deleted")]
    Deleted,
    /// A compaction was asked for that does not fit what is kept (for example `through` lies ahead of the log).
    #[error("the snapshot does not fit the log: {0}")]
    Conflict(String),
}

/// What a call to a store returns.
pub type Pending<T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send>>;

/// A place where documents are kept. Futures are started by the call, not by the first poll: two appends to one document
/// are kept in the order in which they were called, even when the first future is polled last, or dropped.
pub trait Store: Send + Sync + 'static {
    /// Appends records to a document's log, creating the document if it is not there. All or none of them are kept.
    /// Resolves with the position of the last one when they are durable; an append of nothing answers the document's
    /// last record and creates nothing.
    ///
    /// After [`StoreError::Unavailable`] it does not count, though after a crash it may turn up. What was called behind
    /// it before it failed has failed too: a log never holds a change without the one before it, unless its caller went
    /// on after it was told.
    fn append(&self, doc: &DocName, epoch: Epoch, records: Vec<Record>) -> Pending<Seq>;

    /// Reads all that is kept of a document; [`Loaded::default`] for one that was never written,
    /// [`StoreError::Deleted`] for one whose tombstone stands.
    fn load(&self, doc: &DocName) -> Pending<Loaded>;

    /// As [`load`](Self::load), without what `after` covers: the records up to it, and a snapshot that reaches no
    /// further. A position counts within one epoch only, so the caller compares [`Loaded::epoch`] with its own first.
    fn load_after(&self, doc: &DocName, after: Seq) -> Pending<Loaded> {
        let loaded = self.load(doc);
        Box::pin(async move { loaded.await.map(|loaded| loaded.beyond(after)) })
    }

    /// Replaces the snapshot and the records up to `snapshot.through`. The former snapshot stays until the new one
    /// was written durably and read back. Records after `through` stay as they are. `through` is at least 1, at least
    /// that of the former snapshot, and at most the last record.
    fn compact(&self, doc: &DocName, epoch: Epoch, snapshot: Snapshot) -> Pending<()>;

    /// Deletes a document and leaves a tombstone. `false` when there was nothing to delete; then nothing is changed.
    ///
    /// `memo` is what the domain remembers of this life and of those before it, at most [`MEMO_BYTES_MAX`]. It takes the
    /// place of the former memo, is durable when the tombstone is, and comes back as [`Loaded::memo`] in all that the
    /// name lives through afterwards.
    fn delete(&self, doc: &DocName, memo: Bytes) -> Pending<bool>;

    /// As [`delete`](Self::delete), of a document whose last record in the life `epoch` is `through`: a memo can only tell
    /// of what its writer has read. [`StoreError::Conflict`] where another node has written on, [`StoreError::Deleted`]
    /// where that life is over. A store that one process has to itself does not look: nobody else writes.
    fn delete_as_of(&self, doc: &DocName, _epoch: Epoch, _through: Seq, memo: Bytes) -> Pending<bool> {
        self.delete(doc, memo)
    }

    /// Lifts a tombstone, so that the name can be used again, in the next epoch. Without a tombstone it only answers
    /// the epoch.
    fn revive(&self, doc: &DocName) -> Pending<Epoch>;

    /// Lists documents whose names start with `prefix`, in byte order, after `after`.
    fn list(&self, prefix: &str, after: Option<&DocName>, limit: usize) -> Pending<Page>;

    /// Writes and makes durable a probe: an error means that appends would fail too.
    fn probe(&self) -> Pending<()>;

    /// Which store this is: a number at random, the same for every process that opens it. 0: nobody else can.
    fn identity(&self) -> u64 {
        0
    }

    /// Waits until everything that was called before is done, then releases files and locks. Later calls fail.
    fn close(&self) -> Pending<()>;
}

/// Whether a memo may be kept.
fn admit_memo(memo: &Bytes) -> Result<(), StoreError> {
    if memo.len() <= MEMO_BYTES_MAX {
        return Ok(());
    }
    Err(StoreError::Conflict(format!("a memo of {} bytes is too large", memo.len())))
}

/// A future that was answered before it was made.
fn ready<T: Send + 'static>(outcome: Result<T, StoreError>) -> Pending<T> {
    Box::pin(std::future::ready(outcome))
}

/// A future that another thread answers. One that dies without an answer has not done what it was asked.
fn answer<T: Send + 'static>(from: tokio::sync::oneshot::Receiver<Result<T, StoreError>>) -> Pending<T> {
    Box::pin(
        async move { from.await.unwrap_or_else(|_| Err(StoreError::Unavailable("the store has stopped".to_owned()))) },
    )
}
