//! The one thread that writes the log: group commit over all documents.
//!
//! Each round takes what stands in line, decides it job by job against the index and what was decided before it in the
//! same round, writes all entries with one write, makes them durable with one `fdatasync`, puts the outcome into the
//! index, and only then answers. It never waits to make a round bigger.
//!
//! When writing fails nothing is assumed about the disk. The round and everything in line behind it are refused: what
//! stands behind was called before its callers could know, and a log must not hold a change without the one before it.
//! The segment is cut back to its last good byte before anything else is written, to a new segment; as long as that
//! fails, every round fails. So a full disk heals by itself once there is room.

use std::collections::BTreeSet;
use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use bytes::Bytes;

use crate::name::DocName;
use crate::store::Epoch;
use crate::store::Seq;
use crate::store::StoreError;
use crate::store::record;
use crate::store::record::StoredExtent;
use crate::store::record::StoredNote;
use crate::store::record::StoredSnapshotKey;
use crate::store::record::StoredStanding;
use crate::store::segments::disk::DiskFaults;
use crate::store::segments::files;
use crate::store::segments::files::LogDir;
use crate::store::segments::frame;
use crate::store::segments::frame::Header;
use crate::store::segments::frame::Kind;
use crate::store::segments::frame::Place;
use crate::store::segments::index::DocState;
use crate::store::segments::index::Extent;
use crate::store::segments::index::Index;
use crate::store::segments::index::Segment;
use crate::store::segments::index::SegmentId;
use crate::store::segments::queue::Bounds;
use crate::store::segments::queue::Queue;
use crate::store::segments::scan::SEGMENT_HEADER_BYTES;

/// 131 072 appends or 64 MiB wait at most; behind that an append is refused as unavailable.
pub(crate) const LINE: Bounds = Bounds { jobs: 1 << 17, bytes: 64 << 20 };
/// A round is at most this large, so that one `fdatasync` stays short; the rest goes into the next.
const ROUND_BYTES_MAX: usize = 16 << 20;
const ROUND_JOBS_MAX: usize = 1 << 14;

/// A roster is written after so many bytes, or a part of a segment where segments are small.
const ROSTER_BYTES: u64 = 64 << 10;
/// A roster also tells of what was written so shortly before the one before it, in case a hole took that one with it.
const ROSTER_OVERLAP_BYTES: u64 = 4096;

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

/// What the writer shares with readers and with the keeper of snapshots.
#[derive(Debug)]
pub(crate) struct Log {
    pub(crate) dir: LogDir,
    pub(crate) line: Queue<Job>,
    pub(crate) segment_bytes: u64,
    pub(crate) faults: DiskFaults,
    index: Mutex<Index>,
}

impl Log {
    pub(crate) fn new(dir: LogDir, index: Index, segment_bytes: u64, faults: DiskFaults) -> Self {
        Self { dir, line: Queue::new(LINE), segment_bytes, faults, index: Mutex::new(index) }
    }

    /// The index. Held for moments only, never while a file is touched.
    pub(crate) fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

type Finish = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

/// The segment that is written to.
struct Current {
    id: SegmentId,
    file: Arc<File>,
    end: u64,
    /// Where the last roster was written.
    roster_at: u64,
    /// Who was written to, with the end of the round, since shortly before that. Bounded by the bytes between two rosters.
    recent: Vec<(u64, DocName)>,
}

/// The thread's own state.
pub(crate) struct Writer {
    log: Arc<Log>,
    current: Current,
    /// The current segment may hold bytes behind `current.end` that nobody was told of.
    broken: bool,
    stirred: Stirred,
}

/// Called when there may be something to clean up, with the documents that were deleted.
pub(crate) type Stirred = Box<dyn Fn(Vec<DocName>) + Send>;

/// What one round will have done.
#[derive(Default)]
struct Round {
    bytes: Vec<u8>,
    changed: HashMap<DocName, DocState>,
    finish: Vec<Finish>,
    deleted: Vec<DocName>,
}

impl Writer {
    /// Starts a new segment.
    pub(crate) fn start(log: Arc<Log>, next: SegmentId, stirred: Stirred) -> io::Result<Self> {
        let current = begin(&log, next)?;
        Ok(Self { log, current, broken: false, stirred })
    }

    /// Works until the line is closed and empty, then completes the segment.
    pub(crate) fn run(mut self) {
        let log = Arc::clone(&self.log);
        // However this thread ends, nobody may stand in its line for ever.
        let _closing = CloseOnDrop(&log);
        loop {
            let jobs = log.line.take(ROUND_JOBS_MAX, ROUND_BYTES_MAX);
            if jobs.is_empty() {
                break;
            }
            self.round(jobs);
        }
        if !self.broken || self.repair().is_ok() {
            self.seal();
        }
    }

    fn round(&mut self, jobs: Vec<Job>) {
        if let Err(error) = self.make_ready() {
            return self.refuse(jobs, Vec::new(), &error);
        }
        let mut round = Round::default();
        let roster = self.roster(&mut round);
        let mut rolls = Vec::new();
        for job in jobs {
            match job {
                Job::Roll { reply } => rolls.push(reply),
                job => self.decide(&mut round, job),
            }
        }
        if let Err(error) = self.write(&round.bytes) {
            self.broken = true;
            return self.refuse(Vec::new(), round.finish, &error);
        }
        if let Some(since) = roster {
            self.current.roster_at = self.current.end;
            self.current.recent.retain(|(end, _)| *end > since);
        }
        let deleted = std::mem::take(&mut round.deleted);
        self.publish(round);
        for reply in rolls {
            let outcome = if self.current.end > SEGMENT_HEADER_BYTES { self.roll() } else { Ok(()) };
            let _ = reply.send(outcome.map_err(|error| unavailable(&error)));
        }
        if !deleted.is_empty() {
            (self.stirred)(deleted);
        }
    }

    /// Mends what a failure left, and starts a new segment where the current one is full.
    fn make_ready(&mut self) -> io::Result<()> {
        if self.broken {
            self.repair()?;
            self.roll()?;
            tracing::info!(event = "store_log_recovered", segment = self.current.id, "the log can be written again");
        } else if self.current.end >= self.log.segment_bytes {
            self.roll()?;
            (self.stirred)(Vec::new());
        }
        Ok(())
    }

    fn repair(&mut self) -> io::Result<()> {
        self.log.faults.check_write()?;
        self.current.file.set_len(self.current.end)?;
        self.current.file.sync_all()?;
        self.broken = false;
        Ok(())
    }

    fn roll(&mut self) -> io::Result<()> {
        self.log.faults.check_write()?;
        let next = begin(&self.log, self.current.id + 1)?;
        self.seal();
        self.current = next;
        Ok(())
    }

    /// Completes the current segment. Without its table of contents it is merely scanned at the next start.
    fn seal(&self) {
        let table = {
            let mut index = self.log.index();
            if let Some(segment) = index.segments.get_mut(&self.current.id) {
                segment.sealed = true;
            }
            files::table_of(&index, self.current.id)
        };
        if let Err(error) = self.log.dir.write_table(&table) {
            tracing::warn!(event = "store_table_unwritten", segment = table.segment, %error, "a segment will be scanned");
        }
    }

    fn write(&self, bytes: &[u8]) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.log.faults.write_all_at(&self.current.file, bytes, self.current.end)?;
        self.log.faults.sync_data(&self.current.file)
    }

    /// Writes a roster where one is due; answers since where the next one has to tell.
    fn roster(&self, round: &mut Round) -> Option<u64> {
        let current = &self.current;
        let due = (self.log.segment_bytes / 16).min(ROSTER_BYTES);
        if current.end - current.roster_at < due || current.recent.is_empty() {
            return None;
        }
        let since = current.roster_at.saturating_sub(ROSTER_OVERLAP_BYTES);
        let docs: BTreeSet<&DocName> = current.recent.iter().map(|(_, doc)| doc).collect();
        let standings: Vec<_> = {
            let index = self.log.index();
            docs.into_iter().filter_map(|doc| Some(standing(doc, index.docs.get(doc)?))).collect()
        };
        let body = record::seal(&standings).expect("a roster is small");
        self.entry(round, &mut plain(Kind::Roster, "", 0, since), &body);
        Some(current.end.saturating_sub(ROSTER_OVERLAP_BYTES))
    }

    fn publish(&mut self, round: Round) {
        self.current.end += round.bytes.len() as u64;
        let end = self.current.end;
        self.current.recent.extend(round.changed.keys().map(|doc| (end, doc.clone())));
        let mut index = self.log.index();
        if let Some(segment) = index.segments.get_mut(&self.current.id) {
            segment.bytes = self.current.end;
        }
        for (doc, state) in round.changed {
            index.replace(doc, state);
        }
        drop(index);
        for finish in round.finish {
            finish(Ok(()));
        }
    }

    /// Refuses a round and all that was called before anybody could know of it.
    fn refuse(&self, jobs: Vec<Job>, finish: Vec<Finish>, error: &io::Error) {
        let behind = self.log.line.drain();
        tracing::error!(
            event = "store_log_failed",
            segment = self.current.id,
            refused = jobs.len() + finish.len() + behind.len(),
            %error,
            "the log cannot be written"
        );
        let refusal = unavailable(error);
        for finish in finish {
            finish(Err(refusal.clone()));
        }
        for job in jobs.into_iter().chain(behind) {
            job.refuse(refusal.clone());
        }
    }

    fn decide(&self, round: &mut Round, job: Job) {
        match job {
            Job::Append { doc, epoch, append, reply } => {
                let outcome = self.append(round, &doc, epoch, &append);
                round.answer(reply, outcome);
            }
            Job::Delete { doc, reply } => {
                let outcome = self.delete(round, &doc);
                round.answer(reply, Ok(outcome));
            }
            Job::Revive { doc, reply } => {
                let outcome = self.revive(round, &doc);
                round.answer(reply, outcome);
            }
            Job::Snapshot { doc, epoch, key, reply } => {
                let outcome = self.snapshot(round, &doc, epoch, key);
                round.answer(reply, outcome);
            }
            Job::Move { doc, epoch, from, entries, reply } => {
                self.relocate(round, &doc, epoch, from, &entries);
                round.answer(reply, Ok(()));
            }
            Job::Probe { reply } => {
                self.entry(round, &mut plain(Kind::Probe, "", 0, 0), &[]);
                round.answer(reply, Ok(()));
            }
            Job::Roll { reply } => round.answer(reply, Ok(())),
        }
    }

    fn append(&self, round: &mut Round, doc: &DocName, epoch: Epoch, append: &Append) -> Result<Seq, StoreError> {
        let mut state = self.state(round, doc);
        state.admit(epoch.0)?;
        if append.count == 0 {
            return Ok(Seq(state.last));
        }
        let grown = state.extents.iter().position(|e| e.grows && e.segment == self.current.id);
        let prev = grown.map_or(Place::default(), |at| head(&state.extents[at]));
        let mut header = Header {
            count: append.count,
            at_ms: append.at_ms,
            prev,
            ..plain(Kind::Append, doc.as_str(), epoch.0, state.last + 1)
        };
        let place = self.entry(round, &mut header, &append.body);
        match grown {
            Some(at) => state.extents[at].run.lengthen(&header, place),
            None => state.extents.push(Extent {
                segment: self.current.id,
                run: StoredExtent::of(&header, place),
                grows: true,
            }),
        }
        let last = header.last();
        round.change(doc, state);
        Ok(Seq(last))
    }

    fn delete(&self, round: &mut Round, doc: &DocName) -> bool {
        let state = self.state(round, doc);
        if !state.exists() {
            return false;
        }
        let note = StoredNote { epoch: state.epoch, last: 0, deleted: true, snapshot: None, ..state.note.clone() };
        self.note(round, doc, state, note);
        round.deleted.push(doc.clone());
        true
    }

    fn revive(&self, round: &mut Round, doc: &DocName) -> Result<Epoch, StoreError> {
        let state = self.state(round, doc);
        if !state.deleted() {
            return state.damage().map_or(Ok(Epoch(state.epoch)), Err);
        }
        let epoch = state.epoch + 1;
        let note = StoredNote { epoch, last: 0, deleted: false, snapshot: None, ..state.note.clone() };
        self.note(round, doc, state, note);
        Ok(Epoch(epoch))
    }

    fn snapshot(
        &self,
        round: &mut Round,
        doc: &DocName,
        epoch: Epoch,
        key: StoredSnapshotKey,
    ) -> Result<(), StoreError> {
        let state = self.state(round, doc);
        state.admit_snapshot(epoch.0, key.through)?;
        let note = StoredNote {
            epoch: epoch.0,
            last: state.last,
            deleted: false,
            updated_at_ms: state.updated_at_ms,
            generation: key.generation,
            snapshot: Some(key),
            ..state.note.clone()
        };
        self.note(round, doc, state, note);
        Ok(())
    }

    /// Writes the next note of a document.
    fn note(&self, round: &mut Round, doc: &DocName, mut state: DocState, mut note: StoredNote) {
        let lost = state.losses.iter().map(|(_, loss)| loss.note).max().unwrap_or(0);
        note.version = state.note.version.max(lost) + 1;
        state.note = note;
        self.write_note(round, doc, &mut state);
        round.change(doc, state);
    }

    fn write_note(&self, round: &mut Round, doc: &DocName, state: &mut DocState) {
        let body = record::seal(&state.note).expect("a note is small");
        self.entry(round, &mut plain(Kind::Note, doc.as_str(), state.note.epoch, state.note.version), &body);
        state.note_in = Some(self.current.id);
    }

    /// Moves only what is still as it was when it was read: the document may have been compacted or deleted since.
    fn relocate(&self, round: &mut Round, doc: &DocName, epoch: u64, from: SegmentId, entries: &[Moved]) {
        let mut state = self.state(round, doc);
        if state.note_in == Some(from) {
            self.write_note(round, doc, &mut state);
        }
        if state.epoch == epoch && state.extents.iter().any(|e| e.segment == from) {
            let through = state.through();
            state.extents.retain(|e| e.segment != from);
            let mut extent: Option<Extent> = None;
            for moved in entries {
                let mut header = Header {
                    count: moved.append.count,
                    at_ms: moved.append.at_ms,
                    prev: extent.as_ref().map_or(Place::default(), head),
                    ..plain(Kind::Append, doc.as_str(), epoch, moved.first)
                };
                if header.last() <= through {
                    continue;
                }
                let place = self.entry(round, &mut header, &moved.append.body);
                match &mut extent {
                    Some(extent) => extent.run.lengthen(&header, place),
                    None => {
                        let run = StoredExtent::of(&header, place);
                        extent = Some(Extent { segment: self.current.id, run, grows: false });
                    }
                }
            }
            state.extents.extend(extent);
        }
        round.change(doc, state);
    }

    fn state(&self, round: &Round, doc: &DocName) -> DocState {
        let known = round.changed.get(doc).cloned();
        known.or_else(|| self.log.index().docs.get(doc).cloned()).unwrap_or_default()
    }

    fn entry(&self, round: &mut Round, header: &mut Header, body: &[u8]) -> Place {
        let offset = self.current.end + round.bytes.len() as u64;
        frame::write(&mut round.bytes, self.log.dir.salt, header, body);
        let bytes = u32::try_from(header.frame_bytes()).expect("entries are bounded by BODY_BYTES_MAX");
        Place { offset, bytes }
    }
}

impl Round {
    fn change(&mut self, doc: &DocName, mut state: DocState) {
        state.settle();
        self.changed.insert(doc.clone(), state);
    }

    /// Answers when the round is durable; a refusal too, so that answers keep the order of the calls.
    fn answer<T: Send + 'static>(&mut self, reply: Reply<T>, outcome: Result<T, StoreError>) {
        self.finish.push(Box::new(move |done| {
            // The caller may have gone away; what it asked for is done all the same.
            let _ = reply.send(done.and(outcome));
        }));
    }
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

struct CloseOnDrop<'a>(&'a Log);

impl Drop for CloseOnDrop<'_> {
    fn drop(&mut self) {
        self.0.line.close();
        for job in self.0.line.drain() {
            job.refuse(StoreError::Unavailable("the log is closed".to_owned()));
        }
    }
}

fn begin(log: &Log, id: SegmentId) -> io::Result<Current> {
    // A file of that number is what an earlier failure of this very call left: nothing in it was ever acknowledged.
    log.dir.remove(id)?;
    let file = Arc::new(log.dir.create(id)?);
    let segment =
        Segment { file: Arc::clone(&file), bytes: SEGMENT_HEADER_BYTES, sealed: false, refs: 0, live: 0, stuck: false };
    log.index().segments.insert(id, segment);
    Ok(Current { id, file, end: SEGMENT_HEADER_BYTES, roster_at: SEGMENT_HEADER_BYTES, recent: Vec::new() })
}

fn standing(doc: &DocName, state: &DocState) -> StoredStanding {
    let name = doc.as_str().to_owned();
    StoredStanding { name, epoch: state.epoch, last: state.last, note: state.note.version }
}

fn plain(kind: Kind, name: &str, epoch: u64, first: u64) -> Header {
    let prev = Place::default();
    Header { kind, name: name.to_owned(), epoch, first, count: 0, at_ms: 0, prev, body_bytes: 0 }
}

fn head(extent: &Extent) -> Place {
    Place { offset: extent.run.head, bytes: extent.run.head_bytes }
}

fn unavailable(error: &io::Error) -> StoreError {
    StoreError::Unavailable(format!("the log cannot be written: {error}"))
}
