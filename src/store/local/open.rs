//! Opening a data directory: look at everything, repair what a crash leaves, refuse what it does not.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::Mutex;
use std::thread;
use std::thread::JoinHandle;

use crate::store::local::Life;
use crate::store::local::LocalOptions;
use crate::store::local::LocalStore;
use crate::store::local::OpenError;
use crate::store::local::ReadJob;
use crate::store::local::Running;
use crate::store::local::data_dir::DataDir;
use crate::store::local::keeper::Keeping;
use crate::store::segments::files;
use crate::store::segments::files::LogDir;
use crate::store::segments::files::Survey;
use crate::store::segments::files::Surveyed;
use crate::store::segments::index::Index;
use crate::store::segments::queue::Bounds;
use crate::store::segments::queue::Queue;
use crate::store::segments::writer::Log;
use crate::store::segments::writer::Writer;
use crate::store::sled::Snapshots;

/// Loads read big values one after the other; more threads only fight for the disk.
const READERS: usize = 4;
/// 16 384 loads wait at most: more than documents that are opened at once.
const READ_LINE: Bounds = Bounds { jobs: 1 << 14, bytes: usize::MAX };

pub(crate) fn open(options: LocalOptions) -> Result<LocalStore, OpenError> {
    let dir = DataDir::open(&options.dir)?;
    let survey = dir.log.survey(false)?;
    survey.segments.iter().for_each(report);
    let index = survey.index();
    let snapshots = open_snapshots(&dir, &survey, &index, options.cache_bytes)?;
    survey.segments.iter().try_for_each(|segment| settle(&dir.log, &index, segment))?;
    let next = survey.next_id();
    drop(survey);
    let log = Arc::new(Log::new(dir.log.clone(), index, options.segment_bytes, options.faults, options.metrics));
    let keeping = Arc::new(Keeping::new(Arc::clone(&log), snapshots));
    keeping.rebuild_if_wasteful();
    let failed = |error: io::Error| OpenError::io("the log cannot be written", &error);
    let stirred = Arc::clone(&keeping);
    let writer =
        Writer::start(Arc::clone(&log), next, Box::new(move |deleted| stirred.stirred(deleted))).map_err(failed)?;
    keeping.stir();
    let reads: Arc<Queue<ReadJob>> = Arc::new(Queue::new(READ_LINE));
    let kept = Arc::clone(&keeping);
    let running = Running {
        dir,
        writer: spawn("store-log", move || writer.run())?,
        keeper: spawn("store-keeper", move || kept.run())?,
        readers: (0..READERS).map(|n| reader(n, &reads)).collect::<Result<_, _>>()?,
    };
    Ok(LocalStore { log, keeping, reads, life: Mutex::new(Life::Open(running)) })
}

/// What the log names must be there, and the other way round: a missing half is never taken for an empty one.
pub(crate) fn open_snapshots(
    dir: &DataDir,
    survey: &Survey,
    index: &Index,
    cache_bytes: u64,
) -> Result<Snapshots, OpenError> {
    let named = index.docs.values().any(|state| state.note.snapshot.is_some());
    if named && !dir.has_snapshots() {
        return Err(OpenError::Damaged(format!("{} is gone", dir.snapshots().display())));
    }
    let snapshots = Snapshots::open(dir.snapshots(), cache_bytes)?;
    if survey.segments.is_empty() && !snapshots.is_empty()? {
        return Err(OpenError::Damaged(format!("the log in {} is gone", dir.log.path.display())));
    }
    Ok(snapshots)
}

fn report(segment: &Surveyed) {
    let id = segment.id;
    if segment.file.is_none() {
        tracing::error!(event = "store_segment_gone", segment = id, "a segment of the log is gone");
    }
    if segment.torn > 0 {
        let bytes = segment.torn;
        tracing::warn!(event = "store_torn_tail_cut", segment = id, bytes, "a write that was not finished is cut off");
    }
    for hole in &segment.holes {
        let (from, to) = (hole.from, hole.to);
        match &hole.doc {
            Some(doc) => tracing::error!(event = "store_damage", segment = id, from, to, doc, "an entry is damaged"),
            None => tracing::error!(event = "store_damage", segment = id, from, to, "unknown entries are damaged"),
        }
    }
}

/// Cuts room and a torn tail off, and gives the segment its table of contents.
fn settle(log: &LogDir, index: &Index, segment: &Surveyed) -> Result<(), OpenError> {
    let Some(file) = segment.file.as_deref() else {
        // A table whose segment was deleted, and which a crash left, goes too; one that is needed stays as evidence.
        let needed = index.docs.values().any(|state| state.points_to(segment.id));
        return if needed {
            Ok(())
        } else {
            log.remove(segment.id).map_err(|error| OpenError::io("a table of contents cannot be deleted", &error))
        };
    };
    if segment.excess > 0 {
        cut(file, segment.bytes).map_err(|error| OpenError::io("a segment's end cannot be cut", &error))?;
    }
    if !segment.scanned {
        return Ok(());
    }
    let table = files::table_of(index, segment.id);
    if let Err(error) = log.write_table(&table) {
        // No room: the segment is scanned again next time.
        tracing::warn!(event = "store_table_unwritten", segment = segment.id, %error);
    }
    Ok(())
}

fn cut(file: &File, bytes: u64) -> io::Result<()> {
    file.set_len(bytes)?;
    file.sync_all()
}

fn reader(number: usize, reads: &Arc<Queue<ReadJob>>) -> Result<JoinHandle<()>, OpenError> {
    let reads = Arc::clone(reads);
    spawn(&format!("store-read-{number}"), move || {
        while let Some(job) = reads.take(1, usize::MAX).pop() {
            job();
        }
    })
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, OpenError> {
    let spawned = thread::Builder::new().name(name.to_owned()).spawn(run);
    spawned.map_err(|error| OpenError::io("a thread of the store cannot be started", &error))
}
