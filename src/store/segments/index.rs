//! What is where: per document a few numbers, never one per record.
//!
//! The writer thread alone changes the index, and only after what it says is durable. Readers copy a document's state
//! out under the lock and go to the files without it.

use std::collections::BTreeMap;
use std::fs::File;
use std::sync::Arc;

use crate::name::DocName;
use crate::store::StoreError;
use crate::store::record::StoredExtent;
use crate::store::record::StoredLoss;
use crate::store::record::StoredNote;
use crate::store::segments::frame::Header;
use crate::store::segments::frame::Place;

/// Number of a segment: part of its file's name, never used twice.
pub(crate) type SegmentId = u64;

/// What a note costs on disk besides its document's name, which it carries twice. At least what it really costs: a
/// segment that looks emptier than it is would be cleaned for ever.
const NOTE_BYTES_ESTIMATE: u64 = 256;

/// One document's linked entries in one segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) segment: SegmentId,
    pub(crate) run: StoredExtent,
    /// Whether the document's next entry in this segment is linked to it. Not so for entries that were moved here
    /// from an older segment: a chain is in order of sequence, so that reading can stop early.
    pub(crate) grows: bool,
}

impl StoredExtent {
    /// A run of one entry.
    pub(crate) fn of(header: &Header, place: Place) -> Self {
        Self {
            epoch: header.epoch,
            first: header.first,
            last: header.last(),
            head: place.offset,
            head_bytes: place.bytes,
            bytes: place.bytes.into(),
            at_ms: header.at_ms,
        }
    }

    /// The run with one more entry, which links to its former head.
    pub(crate) fn lengthen(&mut self, header: &Header, place: Place) {
        self.last = self.last.max(header.last());
        self.at_ms = self.at_ms.max(header.at_ms);
        self.bytes += u64::from(place.bytes);
        (self.head, self.head_bytes) = (place.offset, place.bytes);
    }
}

/// All that is known of one document.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct DocState {
    /// The newest note; its `version` is 0 when there is none.
    pub(crate) note: StoredNote,
    /// The segment that holds the note.
    pub(crate) note_in: Option<SegmentId>,
    pub(crate) epoch: u64,
    pub(crate) last: u64,
    pub(crate) updated_at_ms: u64,
    pub(crate) extents: Vec<Extent>,
    pub(crate) losses: Vec<(SegmentId, StoredLoss)>,
}

impl DocState {
    /// Whether a tombstone stands.
    pub(crate) fn deleted(&self) -> bool {
        self.note.deleted && self.note.epoch == self.epoch
    }

    /// Whether there is a document to list, load or delete.
    pub(crate) fn exists(&self) -> bool {
        !self.deleted() && (self.last > 0 || !self.losses.is_empty())
    }

    /// Whether anything of it is in a segment.
    pub(crate) fn points_to(&self, id: SegmentId) -> bool {
        self.note_in == Some(id)
            || self.extents.iter().any(|extent| extent.segment == id)
            || self.losses.iter().any(|(segment, _)| *segment == id)
    }

    /// The last record in the snapshot in force.
    pub(crate) fn through(&self) -> u64 {
        let current = self.note.epoch == self.epoch;
        self.note.snapshot.filter(|_| current).map_or(0, |snapshot| snapshot.through)
    }

    /// Bytes kept: the snapshot, and the entries after it.
    pub(crate) fn bytes(&self) -> u64 {
        let snapshot = self.note.snapshot.filter(|_| !self.deleted()).map_or(0, |snapshot| snapshot.bytes);
        snapshot + self.extents.iter().map(|e| live_bytes(e, self.through())).sum::<u64>()
    }

    /// Why nothing may be read or written here, where that is so. A gap in the sequence is found by loading.
    pub(crate) fn damage(&self) -> Option<StoreError> {
        self.losses.iter().find_map(|(segment, loss)| {
            let what = if loss.possible {
                "entries of it may have been lost"
            } else if loss.note > self.note.version {
                "a note about it was lost"
            } else {
                return None;
            };
            Some(StoreError::Damaged(format!("{what} in log segment {segment}")))
        })
    }

    /// The writer's question before each change: is this the caller's document?
    pub(crate) fn admit(&self, epoch: u64) -> Result<(), StoreError> {
        if let Some(damage) = self.damage() {
            return Err(damage);
        }
        if self.deleted() || epoch < self.epoch {
            return Err(StoreError::Deleted);
        }
        if epoch > self.epoch {
            return Err(StoreError::Conflict(format!("epoch {epoch} has not begun, it is {}", self.epoch)));
        }
        Ok(())
    }

    /// Whether a snapshot through `through` fits the log.
    pub(crate) fn admit_snapshot(&self, epoch: u64, through: u64) -> Result<(), StoreError> {
        self.admit(epoch)?;
        if through == 0 || through > self.last {
            return Err(StoreError::Conflict(format!("through is {through}, the log ends at {}", self.last)));
        }
        if through < self.through() {
            return Err(StoreError::Conflict(format!("through is {through}, there is one of {}", self.through())));
        }
        Ok(())
    }

    /// Drops what no longer matters and derives the rest. Called after every change.
    pub(crate) fn settle(&mut self) {
        let seen = self.extents.iter().map(|e| e.run.epoch).chain(self.losses.iter().map(|(_, l)| l.epoch)).max();
        self.epoch = self.note.epoch.max(seen.unwrap_or(0));
        let (epoch, through, deleted, version) = (self.epoch, self.through(), self.deleted(), self.note.version);
        self.extents.retain(|e| !deleted && e.run.epoch == epoch && e.run.last > through);
        self.losses
            .retain(|(_, l)| !deleted && l.epoch == epoch && (l.possible || l.last > through || l.note > version));
        let noted = if self.note.epoch == epoch { self.note.last } else { 0 };
        let logged = self.extents.iter().map(|e| e.run.last).chain(self.losses.iter().map(|(_, l)| l.last)).max();
        self.last = if deleted { 0 } else { noted.max(logged.unwrap_or(0)) };
        let at = self.extents.iter().map(|e| e.run.at_ms).max().unwrap_or(0);
        self.updated_at_ms = at.max(self.note.updated_at_ms);
    }
}

/// How many of an extent's bytes are not in the snapshot, by proportion.
fn live_bytes(extent: &Extent, through: u64) -> u64 {
    let all = extent.run.last.saturating_sub(extent.run.first).saturating_add(1);
    let live = extent.run.last.saturating_sub(through.max(extent.run.first.saturating_sub(1))).min(all);
    u64::try_from(u128::from(extent.run.bytes) * u128::from(live) / u128::from(all)).unwrap_or(extent.run.bytes)
}

/// One file of the log.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) file: Arc<File>,
    pub(crate) bytes: u64,
    /// Whether it is complete: the writer is done with it.
    pub(crate) sealed: bool,
    /// How many extents, notes and losses of documents point here.
    pub(crate) refs: u64,
    /// Estimate of the bytes that are still needed.
    pub(crate) live: u64,
    /// Whether cleaning it failed: it holds something that cannot be read.
    pub(crate) stuck: bool,
}

/// Every document and every segment.
#[derive(Debug, Default)]
pub(crate) struct Index {
    pub(crate) docs: BTreeMap<DocName, DocState>,
    pub(crate) segments: BTreeMap<SegmentId, Segment>,
    /// Bytes of all snapshots in force.
    pub(crate) snapshot_bytes: u64,
}

impl Index {
    /// Puts a settled state in place of a document's former one.
    pub(crate) fn replace(&mut self, doc: DocName, state: DocState) {
        let note_bytes = NOTE_BYTES_ESTIMATE + 2 * doc.as_str().len() as u64;
        self.count(&state, note_bytes, true);
        if let Some(former) = self.docs.insert(doc, state) {
            self.count(&former, note_bytes, false);
        }
    }

    fn count(&mut self, state: &DocState, note_bytes: u64, add: bool) {
        let snapshot = state.note.snapshot.map_or(0, |key| key.bytes);
        self.snapshot_bytes =
            if add { self.snapshot_bytes + snapshot } else { self.snapshot_bytes.saturating_sub(snapshot) };
        let through = state.through();
        let extents = state.extents.iter().map(|e| (e.segment, live_bytes(e, through)));
        let note = state.note_in.map(|segment| (segment, note_bytes));
        let losses = state.losses.iter().map(|(segment, _)| (*segment, 0));
        for (segment, bytes) in extents.chain(note).chain(losses) {
            let Some(segment) = self.segments.get_mut(&segment) else { continue };
            let (refs, live) = if add {
                (segment.refs + 1, segment.live + bytes)
            } else {
                (segment.refs.saturating_sub(1), segment.live.saturating_sub(bytes))
            };
            (segment.refs, segment.live) = (refs, live);
        }
    }

    /// A document's state with the files that it needs, for reading without the lock.
    pub(crate) fn reading(&self, doc: &DocName) -> Option<(DocState, BTreeMap<SegmentId, Arc<File>>)> {
        let state = self.docs.get(doc)?.clone();
        let files = state.extents.iter().filter_map(|e| {
            let segment = self.segments.get(&e.segment)?;
            Some((e.segment, Arc::clone(&segment.file)))
        });
        let files = files.collect();
        Some((state, files))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::record::StoredSnapshotKey;

    fn extent(epoch: u64, first: u64, last: u64) -> Extent {
        let run = StoredExtent { epoch, first, last, head: 16, head_bytes: 90, bytes: 100, at_ms: last };
        Extent { segment: 1, run, grows: true }
    }

    #[test]
    fn a_snapshot_and_a_newer_epoch_let_go_of_entries() {
        let mut state =
            DocState { extents: vec![extent(0, 1, 9), extent(1, 1, 4), extent(1, 5, 6)], ..DocState::default() };
        let key = StoredSnapshotKey { generation: 1, through: 4, parts: 1, bytes: 10, crc: 0 };
        state.note = StoredNote { version: 2, epoch: 1, snapshot: Some(key), ..StoredNote::default() };
        state.settle();
        assert_eq!((state.epoch, state.last, state.extents), (1, 6, vec![extent(1, 5, 6)]));
    }

    #[test]
    fn a_loss_stands_until_something_newer_covers_it() {
        let loss = |last, note, possible| (1, StoredLoss { epoch: 0, last, note, possible });
        let mut state = DocState { losses: vec![loss(3, 0, false)], ..DocState::default() };
        state.settle();
        assert_eq!((state.last, state.damage()), (3, None), "loading finds the gap");
        state.losses.push(loss(0, 1, false));
        assert!(state.damage().is_some());
        state.note.version = 1;
        assert!(state.damage().is_none());
        state.losses.push(loss(0, 0, true));
        assert!(matches!(state.admit(0), Err(StoreError::Damaged(_))));
        state.note = StoredNote { version: 2, deleted: true, ..StoredNote::default() };
        state.settle();
        assert_eq!(state.losses, vec![]);
    }
}
