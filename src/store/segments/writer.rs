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
use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Instant;

use crate::metrics::Metrics;
use crate::name::DocName;
use crate::store::StoreError;
use crate::store::record;
use crate::store::record::StoredStanding;
use crate::store::segments::disk::DiskFaults;
use crate::store::segments::files;
use crate::store::segments::files::LogDir;
use crate::store::segments::frame::Kind;
use crate::store::segments::index::DocState;
use crate::store::segments::index::Index;
use crate::store::segments::index::Segment;
use crate::store::segments::index::SegmentId;
use crate::store::segments::job::Job;
use crate::store::segments::queue::Bounds;
use crate::store::segments::queue::Queue;
use crate::store::segments::room::Room;
use crate::store::segments::round::Finish;
use crate::store::segments::round::Round;
use crate::store::segments::round::plain;
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

/// What the writer shares with readers and with the keeper of snapshots.
#[derive(Debug)]
pub(crate) struct Log {
    pub(crate) dir: LogDir,
    pub(crate) line: Queue<Job>,
    pub(crate) segment_bytes: u64,
    pub(crate) faults: DiskFaults,
    metrics: Option<Arc<Metrics>>,
    index: Mutex<Index>,
}

impl Log {
    pub(crate) fn new(
        dir: LogDir,
        index: Index,
        segment_bytes: u64,
        faults: DiskFaults,
        metrics: Option<Arc<Metrics>>,
    ) -> Self {
        Self { dir, line: Queue::new(LINE), segment_bytes, faults, metrics, index: Mutex::new(index) }
    }

    /// The index. Held for moments only, never while a file is touched.
    pub(crate) fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The segment that is written to.
struct Current {
    id: SegmentId,
    file: Arc<File>,
    end: u64,
    room: Room,
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
    /// Whether the failure that lasts has been reported.
    reported: bool,
    stirred: Stirred,
}

/// Called when there may be something to clean up, with the documents that were deleted.
pub(crate) type Stirred = Box<dyn Fn(Vec<DocName>) + Send>;

impl Writer {
    /// Starts a new segment.
    pub(crate) fn start(log: Arc<Log>, next: SegmentId, stirred: Stirred) -> io::Result<Self> {
        let current = begin(&log, next)?;
        Ok(Self { log, current, broken: false, reported: false, stirred })
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
        let log = Arc::clone(&self.log);
        let mut round = Round::new(&log, self.current.id, self.current.end);
        let roster = self.roster(&mut round);
        let mut rolls = Vec::new();
        for job in jobs {
            match job {
                Job::Roll { reply } => rolls.push(reply),
                job => round.decide(job),
            }
        }
        if let Err(error) = self.write(&mut round.bytes, round.records) {
            self.broken = true;
            let finish = std::mem::take(&mut round.finish);
            return self.refuse(Vec::new(), finish, &error);
        }
        if self.reported && !round.bytes.is_empty() {
            tracing::info!(event = "store_log_recovered", segment = self.current.id, "the log can be written again");
            self.reported = false;
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
            self.broken = false;
        } else if self.current.end >= self.log.segment_bytes {
            self.roll()?;
            (self.stirred)(Vec::new());
        }
        Ok(())
    }

    fn repair(&self) -> io::Result<()> {
        self.log.faults.check_write()?;
        self.current.file.set_len(self.current.end)?;
        self.current.file.sync_all()
    }

    fn roll(&mut self) -> io::Result<()> {
        self.log.faults.check_write()?;
        let next = begin(&self.log, self.current.id + 1)?;
        self.seal();
        self.current = next;
        Ok(())
    }

    /// Completes the current segment: gives its room back. Without its table of contents it is merely scanned at the next
    /// start, without being cut it is cut then.
    fn seal(&self) {
        let table = files::table_of(&self.log.index(), self.current.id);
        let cut = self.current.file.set_len(self.current.end);
        if let Err(error) = cut.and_then(|()| self.log.dir.write_table(&table)) {
            tracing::warn!(event = "store_table_unwritten", segment = table.segment, %error, "a segment will be scanned");
        }
        // Only now: a sealed segment that nothing points to may be deleted at any moment, its table too.
        if let Some(segment) = self.log.index().segments.get_mut(&self.current.id) {
            segment.sealed = true;
        }
    }

    fn write(&mut self, bytes: &mut Vec<u8>, records: u32) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let started = Instant::now();
        let (log, Current { file, end, room, .. }) = (&self.log, &mut self.current);
        room.write(&log.faults, file, bytes, *end, log.segment_bytes)?;
        log.faults.sync_data(file)?;
        if let Some(metrics) = &log.metrics {
            metrics.committed(records, bytes.len(), started.elapsed());
        }
        Ok(())
    }

    /// Writes a roster where one is due; answers since where the next one has to tell.
    fn roster(&self, round: &mut Round<'_>) -> Option<u64> {
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
        round.entry(&mut plain(Kind::Roster, "", 0, since), &body);
        Some(current.end.saturating_sub(ROSTER_OVERLAP_BYTES))
    }

    fn publish(&mut self, round: Round<'_>) {
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
    fn refuse(&mut self, jobs: Vec<Job>, finish: Vec<Finish>, error: &io::Error) {
        let behind = self.log.line.drain();
        let (segment, refused) = (self.current.id, jobs.len() + finish.len() + behind.len());
        if self.reported {
            tracing::debug!(event = "store_log_failing", segment, refused, %error);
        } else {
            tracing::error!(event = "store_log_failed", segment, refused, %error, "the log cannot be written");
            self.reported = true;
        }
        let refusal = unavailable(error);
        for finish in finish {
            finish(Err(refusal.clone()));
        }
        for job in jobs.into_iter().chain(behind) {
            job.refuse(refusal.clone());
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
    let (end, roster_at) = (SEGMENT_HEADER_BYTES, SEGMENT_HEADER_BYTES);
    Ok(Current { id, file, end, room: Room::default(), roster_at, recent: Vec::new() })
}

fn standing(doc: &DocName, state: &DocState) -> StoredStanding {
    let name = doc.as_str().to_owned();
    StoredStanding { name, epoch: state.epoch, last: state.last, note: state.note.version }
}

fn unavailable(error: &io::Error) -> StoreError {
    StoreError::Unavailable(format!("the log cannot be written: {error}"))
}
