//! What an operator does with a data directory that no server has open, or with a database: list, export, import, verify.

pub mod database;

use std::path::Path;

use serde::Serialize;

use crate::name::DocName;
use crate::store::Epoch;
use crate::store::LocalOptions;
use crate::store::LocalStore;
use crate::store::OpenError;
use crate::store::Record;
use crate::store::Seq;
use crate::store::Snapshot;
use crate::store::Store;
use crate::store::StoreError;
use crate::store::local::data_dir::DataDir;
use crate::store::local::load::Reader;
use crate::store::local::open_snapshots;
use crate::store::postgres;
use crate::store::segments::disk::DiskFaults;
use crate::store::segments::files::Survey;
use crate::store::segments::writer::Log;
use crate::store::sled::Snapshots;

/// Why a tool could not do its work.
#[derive(Debug, thiserror::Error)]
pub enum ToolError {
    /// The directory.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The database.
    #[error(transparent)]
    Database(#[from] postgres::OpenError),
    /// The document.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A document in a data directory, deleted ones too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ListedDoc {
    /// Its name.
    pub name: String,
    /// Bytes kept for it.
    pub bytes: u64,
    /// When its last record was accepted: milliseconds since 1970, UTC.
    pub updated_at_ms: u64,
    /// Its last record.
    pub last: u64,
    /// Which life of the document this is.
    pub epoch: u64,
    /// Whether only its tombstone is left.
    pub deleted: bool,
}

/// What could be read of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exported {
    /// Which life of the document this is.
    pub epoch: Epoch,
    /// Its last record, as far as is known.
    pub last: Seq,
    /// The snapshot.
    pub snapshot: Option<Snapshot>,
    /// The records behind it, in order; with gaps where [`Exported::trouble`] says so.
    pub records: Vec<(Seq, Record)>,
    /// Why this is not all of it, where that is so.
    pub trouble: Option<String>,
}

/// The result of a verification.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Whether everything is well. A torn tail is: nobody was told that it was saved.
    pub ok: bool,
    /// Documents that can be loaded.
    pub documents: u64,
    /// Tombstones.
    pub tombstones: u64,
    /// Snapshots that were read and are whole.
    pub snapshots: u64,
    /// Records behind snapshots that were read.
    pub records: u64,
    /// The log's files.
    pub segments: Vec<SegmentReport>,
    /// Documents that cannot be loaded, and why.
    pub damaged: Vec<DamagedDoc>,
}

/// One file of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SegmentReport {
    /// Its number.
    pub segment: u64,
    /// Bytes that count.
    pub bytes: u64,
    /// Whole entries.
    pub entries: u64,
    /// Bytes of an unfinished write at its end.
    pub torn_bytes: u64,
    /// Whether it has a good table of contents, as it should unless the server was killed.
    pub has_contents: bool,
    /// Whether the file itself is gone.
    pub gone: bool,
    /// Damaged places.
    pub holes: Vec<HoleReport>,
}

/// A damaged place in a file of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HoleReport {
    /// Its first byte.
    pub from: u64,
    /// The first byte behind it.
    pub to: u64,
    /// The document whose entry it was, where that is known.
    pub doc: Option<String>,
}

/// A document that cannot be loaded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DamagedDoc {
    /// Its name.
    pub name: String,
    /// Why.
    pub why: String,
}

/// A data directory, opened to look at it. The log's files are not changed.
struct Look {
    log: Log,
    snapshots: Snapshots,
    survey: Survey,
    _dir: DataDir,
}

impl Look {
    fn at(dir: &Path, deep: bool) -> Result<Self, OpenError> {
        let options = LocalOptions::new(dir);
        let dir = DataDir::existing(dir)?;
        let survey = dir.log.survey(deep)?;
        let index = survey.index();
        let snapshots = open_snapshots(&dir, &survey, &index, options.cache_bytes)?;
        let log = Log::new(dir.log.clone(), index, options.segment_bytes, DiskFaults::default(), None);
        Ok(Self { log, snapshots, survey, _dir: dir })
    }

    fn reader(&self) -> Reader<'_> {
        Reader { log: &self.log, snapshots: &self.snapshots }
    }

    fn names(&self) -> Vec<DocName> {
        self.log.index().docs.keys().cloned().collect()
    }
}

/// Lists everything, in byte order of the names.
///
/// # Errors
/// [`OpenError`] when the directory cannot be opened.
pub fn list(dir: &Path) -> Result<Vec<ListedDoc>, OpenError> {
    let look = Look::at(dir, false)?;
    let index = look.log.index();
    let known = index.docs.iter().filter(|(_, state)| state.exists() || state.deleted());
    let listed = known.map(|(doc, state)| ListedDoc {
        name: doc.to_string(),
        bytes: state.bytes(),
        updated_at_ms: state.updated_at_ms,
        last: state.last,
        epoch: state.epoch,
        deleted: state.deleted(),
    });
    Ok(listed.collect())
}

/// Reads all that can be read of a document, also of a damaged one.
///
/// # Errors
/// [`ToolError::Open`] when the directory cannot be opened, [`StoreError::Deleted`] when only a tombstone is left.
pub fn export(dir: &Path, doc: &DocName) -> Result<Exported, ToolError> {
    let look = Look::at(dir, false)?;
    let trouble = match look.reader().load(doc) {
        Ok(whole) => {
            let (epoch, last, snapshot, records) = (whole.epoch, whole.last, whole.snapshot, whole.records);
            return Ok(Exported { epoch, last, snapshot, records, trouble: None });
        }
        Err(StoreError::Damaged(why)) => why,
        Err(error) => return Err(error.into()),
    };
    Ok(salvage(&look, doc, trouble))
}

fn salvage(look: &Look, doc: &DocName, trouble: String) -> Exported {
    let (state, files) = look.log.index().reading(doc).unwrap_or_default();
    let generations = look.snapshots.generations(doc).unwrap_or_default();
    let readable = generations.into_iter().filter(|(epoch, _)| *epoch == state.epoch);
    let snapshot =
        readable.filter_map(|(epoch, key)| look.snapshots.read(doc, epoch, key).ok()).max_by_key(|s| s.through);
    // All records, also those that the snapshot should hold: merging an update twice does no harm.
    let records = look.reader().collect(doc, &state, &files, 0).records;
    Exported {
        epoch: Epoch(state.epoch),
        last: Seq(state.last),
        snapshot,
        records: records.into_iter().map(|(seq, record)| (Seq(seq), record)).collect(),
        trouble: Some(trouble),
    }
}

/// Appends records to a document, lifting its tombstone if it has one. Answers its last record.
///
/// # Errors
/// [`ToolError`] when the directory cannot be opened or the document cannot be written.
pub async fn import(options: LocalOptions, doc: &DocName, records: Vec<Record>) -> Result<Seq, ToolError> {
    let store = LocalStore::open(options)?;
    let epoch = store.revive(doc).await?;
    let last = store.append(doc, epoch, records).await?;
    store.close().await?;
    Ok(last)
}

/// Reads every entry of the log and every snapshot, and says what is not as it should be.
///
/// # Errors
/// [`OpenError`] when the directory cannot be opened at all.
pub fn verify(dir: &Path) -> Result<Report, OpenError> {
    let look = Look::at(dir, true)?;
    let mut report = Report { segments: look.survey.segments.iter().map(segment).collect(), ..Report::default() };
    for doc in look.names() {
        match look.reader().load(&doc) {
            Ok(loaded) => {
                report.documents += 1;
                report.snapshots += u64::from(loaded.snapshot.is_some());
                report.records += loaded.records.len() as u64;
            }
            Err(StoreError::Deleted) => report.tombstones += 1,
            Err(error) => report.damaged.push(DamagedDoc { name: doc.to_string(), why: error.to_string() }),
        }
    }
    // A segment that is gone is told by the documents that miss it, if there are any.
    let sound = |segment: &SegmentReport| segment.holes.is_empty();
    report.ok = report.damaged.is_empty() && report.segments.iter().all(sound);
    Ok(report)
}

fn segment(found: &crate::store::segments::files::Surveyed) -> SegmentReport {
    let holes = found.holes.iter();
    SegmentReport {
        segment: found.id,
        bytes: found.bytes,
        entries: found.entries,
        torn_bytes: found.torn,
        has_contents: !found.scanned,
        gone: found.file.is_none(),
        holes: holes.map(|hole| HoleReport { from: hole.from, to: hole.to, doc: hole.doc.clone() }).collect(),
    }
}
