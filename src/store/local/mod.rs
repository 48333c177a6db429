//! The store of one node: the log in segment files, snapshots in sled.
//!
//! | thread | does | waits for |
//! |---|---|---|
//! | `store-log` | appends, tombstones, notes: group commit | the disk |
//! | `store-keeper` | snapshots, memos of deletions, cleaning, rebuilding | the disk, `store-log` |
//! | `store-read-N` | loads | the disk |
//!
//! Callers wait for none of them: each call is one entry in a bounded queue and a future. What is durable when, and what
//! a crash leaves after each step, is written in `keeper.rs` and `segments/writer.rs`.

mod clean;
pub(crate) mod data_dir;
mod delete;
pub(crate) mod keeper;
pub(crate) mod load;
mod open;

pub(crate) use crate::store::local::open::open_snapshots;

use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::thread::JoinHandle;

use bytes::Bytes;
use tokio::sync::oneshot;

use crate::metrics::Metrics;
use crate::name::DocName;
use crate::store::DocInfo;
use crate::store::Epoch;
use crate::store::Loaded;
use crate::store::Page;
use crate::store::Pending;
use crate::store::Record;
use crate::store::Seq;
use crate::store::Snapshot;
use crate::store::Store;
use crate::store::StoreError;
use crate::store::admit_memo;
use crate::store::answer;
use crate::store::local::data_dir::DataDir;
use crate::store::local::delete::Deletion;
use crate::store::local::keeper::Keeping;
use crate::store::local::keeper::Task;
use crate::store::local::keeper::closed;
use crate::store::local::load::Reader;
use crate::store::ready;
use crate::store::record;
use crate::store::segments::disk::DiskFaults;
use crate::store::segments::frame::BODY_BYTES_MAX;
use crate::store::segments::index::DocState;
use crate::store::segments::job::Append;
use crate::store::segments::job::Job;
use crate::store::segments::job::Reply;
use crate::store::segments::queue::Queue;
use crate::store::segments::queue::Refused;
use crate::store::segments::writer::Log;

pub use crate::store::local::data_dir::OpenError;

/// Most documents on one page of a listing.
const PAGE_MAX: usize = 10_000;

/// How a data directory is opened.
#[derive(Debug, Clone)]
pub struct LocalOptions {
    /// The data directory; created where there is none.
    pub dir: PathBuf,
    /// A segment of the log is complete at this size.
    pub segment_bytes: u64,
    /// How much memory sled may use for its pages.
    pub cache_bytes: u64,
    /// Lets tests take the disk away.
    pub faults: DiskFaults,
    /// Where the commits of the log are counted.
    pub metrics: Option<Arc<Metrics>>,
}

impl LocalOptions {
    /// The defaults: segments of 64 MiB, a cache of 16 MiB.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        let (faults, metrics) = (DiskFaults::default(), None);
        Self { dir: dir.into(), segment_bytes: 64 << 20, cache_bytes: 16 << 20, faults, metrics }
    }
}

type ReadJob = Box<dyn FnOnce() + Send>;

/// The store in a data directory.
pub struct LocalStore {
    log: Arc<Log>,
    keeping: Arc<Keeping>,
    reads: Arc<Queue<ReadJob>>,
    life: Mutex<Life>,
}

/// Until it is closed, the store holds its threads and the lock of its directory.
enum Life {
    Open(Running),
    Closed,
}

struct Running {
    dir: DataDir,
    writer: JoinHandle<()>,
    keeper: JoinHandle<()>,
    readers: Vec<JoinHandle<()>>,
}

impl std::fmt::Debug for LocalStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LocalStore").field("dir", &self.log.dir.path).finish_non_exhaustive()
    }
}

impl LocalStore {
    /// Opens a data directory, creating it where there is none. Blocks: a log that was not closed is scanned.
    ///
    /// # Errors
    /// [`OpenError`] says what is wrong. Nothing is ever deleted because of an error.
    pub fn open(options: LocalOptions) -> Result<Self, OpenError> {
        open::open(options)
    }

    /// Copies the snapshots into a fresh database, to give unused space back. The store keeps working meanwhile.
    #[must_use]
    pub fn rebuild(&self) -> Pending<()> {
        let (reply, done) = oneshot::channel();
        self.keep(Task::Rebuild { reply }, 0);
        answer(done)
    }

    /// The documents that keep the oldest segments of the log from being deleted, at most `limit`: those whose
    /// compaction gives most space back. The store also moves such entries by itself.
    #[must_use]
    pub fn pinning(&self, limit: usize) -> Vec<DocName> {
        let index = self.log.index();
        let mut oldest: BTreeMap<(u64, &DocName), ()> = BTreeMap::new();
        for (doc, state) in &index.docs {
            let Some(segment) = state.extents.iter().map(|e| e.segment).min() else { continue };
            oldest.insert((segment, doc), ());
            if oldest.len() > limit {
                oldest.pop_last();
            }
        }
        oldest.into_keys().map(|(_, doc)| doc.clone()).collect()
    }

    fn life(&self) -> MutexGuard<'_, Life> {
        self.life.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, job: Job, bytes: usize) {
        if let Err((job, refused)) = self.log.line.push(job, bytes) {
            job.refuse(refusal(&refused, "write"));
        }
    }

    fn keep(&self, task: Task, bytes: usize) {
        let Err((task, refused)) = self.keeping.line.push(task, bytes) else { return };
        match task {
            Task::Compact { reply, .. } | Task::Rebuild { reply } => {
                let _ = reply.send(Err(refusal(&refused, "compaction")));
            }
            Task::Delete(deletion) => drop(deletion.reply.send(Err(refusal(&refused, "deletion")))),
            Task::Purge { .. } | Task::Clean => {}
        }
    }

    fn read<T: Send + 'static>(
        &self,
        act: impl FnOnce(&Reader<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Pending<T> {
        let (reply, done): (Reply<T>, _) = oneshot::channel();
        let (log, keeping) = (Arc::clone(&self.log), Arc::clone(&self.keeping));
        let job: ReadJob = Box::new(move || {
            let outcome = act(&Reader { log: &log, snapshots: &keeping.snapshots });
            let _ = reply.send(outcome);
        });
        match self.reads.push(job, 0) {
            Ok(()) => answer(done),
            Err((_, refused)) => ready(Err(refusal(&refused, "read"))),
        }
    }

    /// Stops the threads, each after what stands in its line, in the order in which they need each other.
    fn shut(running: Running, log: &Log, keeping: &Keeping, reads: &Queue<ReadJob>) -> Result<(), StoreError> {
        keeping.line.close();
        let kept = running.keeper.join();
        log.line.close();
        let written = running.writer.join();
        reads.close();
        for reader in running.readers {
            // A reader that died has answered by dropping its reply.
            let _ = reader.join();
        }
        let closed = keeping.snapshots.close().map_err(|error| load::unavailable(&error));
        drop(running.dir);
        match (kept, written) {
            (Ok(()), Ok(())) => closed,
            _ => Err(StoreError::Unavailable("a thread of the store died".to_owned())),
        }
    }
}

impl Store for LocalStore {
    fn append(&self, doc: &DocName, epoch: Epoch, records: Vec<Record>) -> Pending<Seq> {
        let append = match encode(&records) {
            Ok(append) => append,
            Err(error) => return ready(Err(error)),
        };
        let (reply, done) = oneshot::channel();
        let bytes = append.body.len();
        self.write(Job::Append { doc: doc.clone(), epoch, append, reply }, bytes);
        answer(done)
    }

    fn load(&self, doc: &DocName) -> Pending<Loaded> {
        let doc = doc.clone();
        self.read(move |reader| reader.load(&doc))
    }

    fn compact(&self, doc: &DocName, epoch: Epoch, snapshot: Snapshot) -> Pending<()> {
        let (reply, done) = oneshot::channel();
        let bytes = snapshot.state.len() + snapshot.sidecar.len();
        self.keep(Task::Compact { doc: doc.clone(), epoch, snapshot, reply }, bytes);
        answer(done)
    }

    fn delete(&self, doc: &DocName, memo: Bytes) -> Pending<bool> {
        if let Err(error) = admit_memo(&memo) {
            return ready(Err(error));
        }
        let (reply, done) = oneshot::channel();
        let bytes = memo.len();
        self.keep(Task::Delete(Deletion { doc: doc.clone(), memo, reply }), bytes);
        answer(done)
    }

    fn revive(&self, doc: &DocName) -> Pending<Epoch> {
        let (reply, done) = oneshot::channel();
        self.write(Job::Revive { doc: doc.clone(), reply }, 0);
        answer(done)
    }

    fn list(&self, prefix: &str, after: Option<&DocName>, limit: usize) -> Pending<Page> {
        if matches!(*self.life(), Life::Closed) {
            return ready(Err(closed()));
        }
        ready(Ok(page(&self.log.index().docs, prefix, after, limit.min(PAGE_MAX))))
    }

    fn probe(&self) -> Pending<()> {
        let (reply, done) = oneshot::channel();
        self.write(Job::Probe { reply }, 0);
        answer(done)
    }

    fn close(&self) -> Pending<()> {
        let life = std::mem::replace(&mut *self.life(), Life::Closed);
        let Life::Open(running) = life else { return ready(Err(closed())) };
        let (log, keeping, reads) = (Arc::clone(&self.log), Arc::clone(&self.keeping), Arc::clone(&self.reads));
        let (reply, done) = oneshot::channel();
        // What is called from here on is refused; what was called before is finished by the threads.
        log.line.close_door();
        keeping.line.close_door();
        reads.close_door();
        let closing = move || drop(reply.send(Self::shut(running, &log, &keeping, &reads)));
        match std::thread::Builder::new().name("store-close".to_owned()).spawn(closing) {
            Ok(_) => answer(done),
            Err(error) => ready(Err(StoreError::Unavailable(format!("no thread to close the store: {error}")))),
        }
    }
}

impl Drop for LocalStore {
    /// A store that was not closed finishes what it was asked, and then lets go of its directory.
    fn drop(&mut self) {
        if let Life::Open(running) = std::mem::replace(&mut *self.life(), Life::Closed)
            && let Err(error) = Self::shut(running, &self.log, &self.keeping, &self.reads)
        {
            tracing::error!(event = "store_close_failed", %error);
        }
    }
}

fn encode(records: &[Record]) -> Result<Append, StoreError> {
    let too_large = || StoreError::Unavailable(format!("an append is larger than {BODY_BYTES_MAX} bytes"));
    let size = |r: &Record| r.update.len() + r.sidecar.len() + r.user.as_ref().map_or(0, |user| user.len());
    if records.iter().map(size).sum::<usize>() > BODY_BYTES_MAX {
        return Err(too_large());
    }
    let body = record::encode_records(records).map_err(|_| too_large())?;
    let count = u32::try_from(records.len()).map_err(|_| too_large())?;
    if body.len() > BODY_BYTES_MAX {
        return Err(too_large());
    }
    Ok(Append { count, at_ms: records.last().map_or(0, |record| record.at_ms), body: Bytes::from(body) })
}

fn page(docs: &BTreeMap<DocName, DocState>, prefix: &str, after: Option<&DocName>, limit: usize) -> Page {
    // The first name of the prefix, and of the cursor, can only be found by the order of the text itself.
    let from = DocName::parse(prefix).ok();
    let start = match (after, &from) {
        (Some(after), Some(from)) if after < from => Bound::Included(from),
        (Some(after), _) => Bound::Excluded(after),
        (None, Some(from)) => Bound::Included(from),
        (None, None) => Bound::Unbounded,
    };
    let mut page = Page::default();
    for (doc, state) in docs.range((start, Bound::Unbounded)) {
        if !doc.as_str().starts_with(prefix) {
            // Behind the prefix nothing more comes; in front of it only when the prefix is no name itself.
            if doc.as_str() > prefix {
                break;
            }
            continue;
        }
        if !state.exists() {
            continue;
        }
        if page.docs.len() == limit {
            page.next = page.docs.last().map(|info: &DocInfo| info.name.clone());
            break;
        }
        let (bytes, updated_at_ms, last) = (state.bytes(), state.updated_at_ms, Seq(state.last));
        page.docs.push(DocInfo { name: doc.clone(), bytes, updated_at_ms, last });
    }
    page
}

fn refusal(refused: &Refused, line: &str) -> StoreError {
    match refused {
        Refused::Full => StoreError::Unavailable(format!("the {line} queue is full")),
        Refused::Closed => closed(),
    }
}
