//! Puts a document together from its snapshot and its records, or says why that cannot be done.
//!
//! A document is whole when its records continue its snapshot without a gap up to the last one that is known. Nothing
//! is ever answered that is shorter than that: a vanished snapshot, a lost entry, a snapshot without a note are damage.

use bytes::Bytes;

use crate::name::DocName;
use crate::store::Epoch;
use crate::store::Loaded;
use crate::store::Seq;
use crate::store::Snapshot;
use crate::store::StoreError;
use crate::store::segments::index::DocState;
use crate::store::segments::read;
use crate::store::segments::read::Collected;
use crate::store::segments::read::Files;
use crate::store::segments::writer::Log;
use crate::store::sled::SnapshotError;
use crate::store::sled::Snapshots;

/// How often a load starts again because the document was compacted under it.
const TRIES_MAX: usize = 16;

/// Everything that is needed to read.
#[derive(Clone, Copy)]
pub(crate) struct Reader<'a> {
    pub(crate) log: &'a Log,
    pub(crate) snapshots: &'a Snapshots,
}

impl Reader<'_> {
    /// Reads a document.
    pub(crate) fn load(&self, doc: &DocName) -> Result<Loaded, StoreError> {
        let mut failure = StoreError::Unavailable("the document changes faster than it can be read".to_owned());
        for _ in 0..TRIES_MAX {
            let reading = self.log.index().reading(doc);
            let Some((state, files)) = reading else { return self.unknown(doc) };
            match self.assemble(doc, &state, &files) {
                Ok(loaded) => return Ok(loaded),
                Err(error) => failure = error,
            }
            let unchanged = self.log.index().docs.get(doc) == Some(&state);
            if unchanged {
                break;
            }
        }
        Err(failure)
    }

    /// The log knows nothing of it. Then no snapshot may be there either: a note is never dropped.
    fn unknown(&self, doc: &DocName) -> Result<Loaded, StoreError> {
        if self.snapshots.any(doc).map_err(|error| unavailable(&error))? && !self.log.index().docs.contains_key(doc) {
            return Err(StoreError::Damaged("there is a snapshot, but the log knows nothing of it".to_owned()));
        }
        Ok(Loaded::default())
    }

    pub(crate) fn assemble(&self, doc: &DocName, state: &DocState, files: &Files) -> Result<Loaded, StoreError> {
        if let Some(damage) = state.damage() {
            return Err(damage);
        }
        if state.deleted() {
            return Err(StoreError::Deleted);
        }
        let key = state.note.snapshot.filter(|_| state.note.epoch == state.epoch);
        let snapshot = key.map(|key| self.snapshots.read(doc, state.epoch, key)).transpose();
        let mut trouble = match snapshot {
            Ok(snapshot) => {
                let collected = self.collect(doc, state, files, state.through());
                if collected.reaches(state.through(), state.last) {
                    return self.with_memo(doc, loaded(state, snapshot, collected));
                }
                collected.trouble
            }
            Err(SnapshotError::Bad(why)) => vec![why],
            Err(error @ SnapshotError::Engine(_)) => return Err(unavailable(&error)),
        };
        if let Some(loaded) = self.other_generation(doc, state, files)? {
            tracing::warn!(event = "store_snapshot_replaced", %doc, "another whole snapshot took the place of a damaged one");
            return self.with_memo(doc, loaded);
        }
        if trouble.is_empty() {
            trouble.push(format!("records are missing between {} and {}", state.through(), state.last));
        }
        Err(StoreError::Damaged(trouble.join("; ")))
    }

    /// A memo is a guard, and no part of the content: a document is not withheld because its memo cannot be read.
    fn with_memo(&self, doc: &DocName, mut loaded: Loaded) -> Result<Loaded, StoreError> {
        if loaded.epoch > Epoch(0) {
            let memo = self.snapshots.memo(doc, loaded.epoch.0).map_err(|error| unavailable(&error))?;
            loaded.memo = memo.unwrap_or_default();
        }
        Ok(loaded)
    }

    /// A snapshot of the same epoch that is whole and that the log continues is as good as the one in force.
    fn other_generation(&self, doc: &DocName, state: &DocState, files: &Files) -> Result<Option<Loaded>, StoreError> {
        for (epoch, key) in self.snapshots.generations(doc).map_err(|error| unavailable(&error))? {
            if epoch != state.epoch || key.through > state.last {
                continue;
            }
            let collected = self.collect(doc, state, files, key.through);
            if collected.reaches(key.through, state.last)
                && let Ok(snapshot) = self.snapshots.read(doc, epoch, key)
            {
                return Ok(Some(loaded(state, Some(snapshot), collected)));
            }
        }
        Ok(None)
    }

    pub(crate) fn collect(&self, doc: &DocName, state: &DocState, files: &Files, through: u64) -> Collected {
        read::collect(state, files, doc.as_str(), self.log.dir.salt, through)
    }
}

fn loaded(state: &DocState, snapshot: Option<Snapshot>, collected: Collected) -> Loaded {
    let through = snapshot.as_ref().map_or(0, |snapshot| snapshot.through.0);
    let records = collected.records.into_iter().filter(|(seq, _)| *seq > through);
    Loaded {
        snapshot,
        records: records.map(|(seq, record)| (Seq(seq), record)).collect(),
        last: Seq(state.last),
        epoch: Epoch(state.epoch),
        memo: Bytes::new(),
    }
}

pub(crate) fn unavailable(error: &SnapshotError) -> StoreError {
    StoreError::Unavailable(format!("snapshots: {error}"))
}
