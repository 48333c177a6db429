//! The thread that keeps snapshots and gives space back. Never in the path of an append.
//!
//! The order of a compaction, and what a crash after each step leaves:
//! 1. write the parts of the new generation into sled, flush, sync — parts that nothing names; the log is untouched
//! 2. read them back and compare — the same
//! 3. write the note that names the new generation to the log, durably — the new snapshot is in force; records up to it
//!    are no longer needed, and the old generation is still there, unnamed
//! 4. remove the old generation's parts from sled
//! 5. delete segments that nothing needs any more: table of contents first, then the entries
//!
//! A deletion is its memo in sled first, durably, then a note in the log, durably, then steps 4 and 5 (`delete.rs`). Cleaning a segment writes what is needed of it to
//! the end of the log, durably, then does step 5: a crash in between leaves the same entries twice, which is no harm.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use tokio::sync::oneshot;

use crate::name::DocName;
use crate::store::Epoch;
use crate::store::Snapshot;
use crate::store::StoreError;
use crate::store::local::delete::Deletion;
use crate::store::local::load::unavailable;
use crate::store::record::StoredSnapshotKey;
use crate::store::segments::job::Job;
use crate::store::segments::job::Reply;
use crate::store::segments::queue::Bounds;
use crate::store::segments::queue::Queue;
use crate::store::segments::writer::Log;
use crate::store::sled::Keep;
use crate::store::sled::SnapshotError;
use crate::store::sled::Snapshots;

/// 4096 compactions or 256 MiB of snapshots wait at most; behind that a compaction is refused as unavailable.
const LINE: Bounds = Bounds { jobs: 4096, bytes: 256 << 20 };
/// One flush serves so many compactions.
const GROUP_JOBS_MAX: usize = 256;
const GROUP_BYTES_MAX: usize = 64 << 20;
/// Below this much waste sled's file is left alone.
const WASTE_BYTES_MIN: u64 = 64 << 20;

/// What the thread is asked to do.
#[derive(Debug)]
pub(crate) enum Task {
    Compact {
        doc: DocName,
        epoch: Epoch,
        snapshot: Snapshot,
        reply: Reply<()>,
    },
    Delete(Deletion),
    /// A document was deleted: its snapshots can go.
    Purge {
        doc: DocName,
    },
    /// There may be segments to clean.
    Clean,
    Rebuild {
        reply: Reply<()>,
    },
}

/// What the keeper shares with callers.
pub(crate) struct Keeping {
    pub(crate) log: Arc<Log>,
    pub(crate) snapshots: Snapshots,
    pub(crate) line: Queue<Task>,
    /// Whether a [`Task::Clean`] stands in line already.
    clean_waits: AtomicBool,
    /// Whether the database failed and has to be opened again first.
    sick: AtomicBool,
    /// Number of the newest generation that was begun. Never used twice, so that a failed attempt whose note may yet
    /// turn up after a crash keeps its parts.
    generation: AtomicU64,
    /// What the last rebuild could not make smaller.
    rebuilt_bytes: AtomicU64,
}

struct Compaction {
    doc: DocName,
    epoch: Epoch,
    snapshot: Snapshot,
    reply: Reply<()>,
}

impl Keeping {
    pub(crate) fn new(log: Arc<Log>, snapshots: Snapshots) -> Self {
        let generation = log.index().docs.values().map(|state| state.note.generation).max().unwrap_or(0);
        Self {
            log,
            snapshots,
            line: Queue::new(LINE),
            clean_waits: AtomicBool::new(false),
            sick: AtomicBool::new(false),
            generation: AtomicU64::new(generation),
            rebuilt_bytes: AtomicU64::new(0),
        }
    }

    /// Asks for a look at the segments, once however often it is called.
    pub(crate) fn stir(&self) {
        if !self.clean_waits.swap(true, Ordering::SeqCst) {
            // Closed: the next start cleans.
            let _ = self.line.push_own(Task::Clean);
        }
    }

    /// The writer's word that there is something to clean up. Where the line is full, what a deleted document has in
    /// sled stays until the next rebuild.
    pub(crate) fn stirred(&self, deleted: Vec<DocName>) {
        for doc in deleted {
            let _ = self.line.push(Task::Purge { doc }, 0);
        }
        self.stir();
    }

    /// Works until the line is closed and empty.
    pub(crate) fn run(&self) {
        loop {
            let tasks = self.line.take(GROUP_JOBS_MAX, GROUP_BYTES_MAX);
            if tasks.is_empty() {
                return;
            }
            self.work(tasks);
        }
    }

    fn work(&self, tasks: Vec<Task>) {
        let mut group: Vec<Compaction> = Vec::new();
        let mut deletions: Vec<Deletion> = Vec::new();
        for task in tasks {
            match task {
                Task::Compact { doc, epoch, snapshot, reply } => {
                    // Two of one document are two groups: the second is judged by what the first left.
                    if group.iter().any(|other| other.doc == doc) {
                        self.compact(std::mem::take(&mut group));
                    }
                    group.push(Compaction { doc, epoch, snapshot, reply });
                }
                Task::Delete(deletion) => {
                    if deletions.iter().any(|other| other.doc == deletion.doc) {
                        self.delete(std::mem::take(&mut deletions));
                    }
                    deletions.push(deletion);
                }
                Task::Purge { doc } => self.purge_deleted(&doc),
                Task::Clean => self.clean_waits.store(false, Ordering::SeqCst),
                Task::Rebuild { reply } => {
                    self.compact(std::mem::take(&mut group));
                    let _ = reply.send(self.rebuild().map_err(|error| unavailable(&error)));
                }
            }
        }
        self.compact(group);
        self.delete(deletions);
        self.clean();
        self.rebuild_if_wasteful();
    }

    fn compact(&self, group: Vec<Compaction>) {
        if group.is_empty() {
            return;
        }
        let bytes = group.iter().map(|c| (c.snapshot.state.len() + c.snapshot.sidecar.len()) as u64).sum();
        // No room is no failure of the database: it has not been touched.
        let mut failed = self.snapshots.make_room(bytes).map_err(|error| unavailable(&error)).err();
        let mut written = Vec::new();
        for compaction in group {
            let outcome = match &failed {
                None => self.write(&compaction),
                Some(error) => Err(StoreError::clone(error)),
            };
            match outcome {
                Ok(key) => written.push((compaction, key)),
                Err(error) => {
                    if matches!(error, StoreError::Unavailable(_)) {
                        failed = Some(error.clone());
                    }
                    let _ = compaction.reply.send(Err(error));
                }
            }
        }
        if written.is_empty() {
            return;
        }
        let flushed = self.snapshots.flush().map_err(|error| self.failed(&error));
        let noted: Vec<_> = written
            .into_iter()
            .map(|(compaction, key)| {
                let noted = flushed.clone().and_then(|()| self.put_in_force(&compaction, key));
                (compaction, key, noted)
            })
            .collect();
        for (compaction, key, noted) in noted {
            let outcome = noted.and_then(wait);
            self.finish(compaction, key, outcome);
        }
    }

    fn write(&self, compaction: &Compaction) -> Result<StoredSnapshotKey, StoreError> {
        let state = self.log.index().docs.get(&compaction.doc).cloned().unwrap_or_default();
        state.admit_snapshot(compaction.epoch.0, compaction.snapshot.through.0)?;
        self.heal().map_err(|error| unavailable(&error))?;
        let generation = self.generation.fetch_add(1, Ordering::SeqCst) + 1;
        self.snapshots
            .write(&compaction.doc, compaction.epoch.0, generation, &compaction.snapshot)
            .map_err(|error| self.failed(&error))
    }

    /// Reads a flushed snapshot back and asks the writer to put it in force.
    fn put_in_force(
        &self,
        compaction: &Compaction,
        key: StoredSnapshotKey,
    ) -> Result<oneshot::Receiver<Result<(), StoreError>>, StoreError> {
        let read = self.snapshots.read(&compaction.doc, compaction.epoch.0, key);
        let read = read.map_err(|error| self.failed(&error))?;
        if read != compaction.snapshot {
            return Err(StoreError::Unavailable("a snapshot was read back differently".to_owned()));
        }
        let (reply, noted) = oneshot::channel();
        let job = Job::Snapshot { doc: compaction.doc.clone(), epoch: compaction.epoch, key, reply };
        self.log.line.push_own(job).map_err(|_| closed())?;
        Ok(noted)
    }

    fn finish(&self, compaction: Compaction, key: StoredSnapshotKey, outcome: Result<(), StoreError>) {
        // A refusal means that the new generation never counted; a failed write of the note means that it may, after a
        // restart: then both stay, and the next compaction removes one.
        let keep = match &outcome {
            Ok(()) => Some(key.generation),
            Err(StoreError::Deleted) => None,
            Err(_) => return drop(compaction.reply.send(outcome)),
        };
        if let Err(error) = self.snapshots.purge(&compaction.doc, keep) {
            let _ = self.failed(&error);
        }
        let _ = compaction.reply.send(outcome);
    }

    fn purge_deleted(&self, doc: &DocName) {
        let deleted = self.log.index().docs.get(doc).is_some_and(|state| state.note.snapshot.is_none());
        // It may have been revived and compacted since; then the compaction has purged.
        if deleted && let Err(error) = self.heal().and_then(|()| self.snapshots.purge(doc, None)) {
            let _ = self.failed(&error);
        }
    }

    pub(crate) fn failed(&self, error: &SnapshotError) -> StoreError {
        tracing::error!(event = "store_snapshots_failed", %error, "snapshots cannot be written");
        self.sick.store(true, Ordering::SeqCst);
        unavailable(error)
    }

    /// Opens the database again after a failure: sled does not recover by itself.
    pub(crate) fn heal(&self) -> Result<(), SnapshotError> {
        if self.sick.load(Ordering::SeqCst) {
            self.snapshots.reopen()?;
            self.sick.store(false, Ordering::SeqCst);
            tracing::info!(event = "store_snapshots_recovered", "snapshots can be written again");
        }
        Ok(())
    }

    /// Copies sled's live values into a new database.
    pub(crate) fn rebuild(&self) -> Result<(), SnapshotError> {
        self.heal()?;
        let before = self.snapshots.disk_bytes();
        let needed = self.log.index().snapshot_bytes.saturating_add(self.snapshots.memo_bytes()?);
        self.snapshots.make_room(needed)?;
        let outcome = self.snapshots.rebuild(|name| self.keep(name));
        match &outcome {
            Ok(()) => {
                let after = self.snapshots.disk_bytes();
                self.rebuilt_bytes.store(after, Ordering::SeqCst);
                tracing::info!(event = "store_rebuilt", before, after, "the snapshot database was rebuilt");
            }
            Err(error) => drop(self.failed(error)),
        }
        outcome
    }

    fn keep(&self, name: &str) -> Keep {
        let index = self.log.index();
        let state = DocName::parse(name).ok().and_then(|doc| index.docs.get(&doc));
        match state {
            None => Keep::Everything,
            Some(state) if state.deleted() => Keep::Nothing,
            Some(state) => state.note.snapshot.map_or(Keep::Everything, |key| Keep::Generation(key.generation)),
        }
    }

    /// Gives space back when sled's file is far larger than what is in it, and than what the last rebuild left.
    pub(crate) fn rebuild_if_wasteful(&self) {
        let live = self.log.index().snapshot_bytes;
        let bound = live.saturating_mul(4).max(self.rebuilt_bytes.load(Ordering::SeqCst).saturating_mul(2));
        if self.snapshots.disk_bytes() > bound.max(WASTE_BYTES_MIN) {
            // It has been reported; the next compaction tries again.
            let _ = self.rebuild();
        }
    }
}

/// Waits for the writer. Only our own threads do that.
pub(crate) fn wait<T>(answer: oneshot::Receiver<Result<T, StoreError>>) -> Result<T, StoreError> {
    answer.blocking_recv().unwrap_or_else(|_| Err(closed()))
}

pub(crate) fn closed() -> StoreError {
    StoreError::Unavailable("the store is closed".to_owned())
}
