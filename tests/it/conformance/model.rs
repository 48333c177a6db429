//! A store as it ought to be, in forty lines; the laws compare the others with it.

use std::collections::BTreeMap;

use bytes::Bytes;
use syncline::store::Epoch;
use syncline::store::Loaded;
use syncline::store::Record;
use syncline::store::Seq;
use syncline::store::Snapshot;
use syncline::store::StoreError;

/// Everything that should be kept, by document number.
#[derive(Debug, Clone, Default)]
pub(super) struct Model(pub(super) BTreeMap<u8, ModelDoc>);

#[derive(Debug, Clone, Default)]
pub(super) struct ModelDoc {
    pub(super) deleted: bool,
    pub(super) kept: Loaded,
}

impl Model {
    pub(super) fn epoch(&self, doc: u8) -> Epoch {
        self.0.get(&doc).map_or(Epoch(0), |d| d.kept.epoch)
    }

    pub(super) fn load(&self, doc: u8) -> Result<Loaded, StoreError> {
        let doc = self.0.get(&doc).cloned().unwrap_or_default();
        if doc.deleted { Err(StoreError::Deleted) } else { Ok(doc.kept) }
    }

    pub(super) fn append(&mut self, doc: u8, records: &[Record]) -> Result<Seq, StoreError> {
        let doc = self.0.entry(doc).or_default();
        if doc.deleted {
            return Err(StoreError::Deleted);
        }
        for record in records {
            doc.kept.last.0 += 1;
            doc.kept.records.push((doc.kept.last, record.clone()));
        }
        Ok(doc.kept.last)
    }

    /// Whether it fits; `None` when the document is deleted.
    pub(super) fn compact(&mut self, doc: u8, snapshot: Snapshot) -> Option<bool> {
        let doc = self.0.entry(doc).or_default();
        if doc.deleted {
            return None;
        }
        let had = doc.kept.snapshot.as_ref().map_or(1, |s| s.through.0);
        if snapshot.through.0 < had || snapshot.through > doc.kept.last {
            return Some(false);
        }
        doc.kept.records.retain(|(seq, _)| *seq > snapshot.through);
        doc.kept.snapshot = Some(snapshot);
        Some(true)
    }

    pub(super) fn delete(&mut self, doc: u8, memo: Bytes) -> bool {
        let doc = self.0.entry(doc).or_default();
        let existed = !doc.deleted && doc.kept.last.0 > 0;
        if existed {
            let kept = Loaded { epoch: doc.kept.epoch, memo, ..Loaded::default() };
            *doc = ModelDoc { deleted: true, kept };
        }
        existed
    }

    pub(super) fn revive(&mut self, doc: u8) -> Epoch {
        let doc = self.0.entry(doc).or_default();
        if doc.deleted {
            doc.deleted = false;
            doc.kept.epoch.0 += 1;
        }
        doc.kept.epoch
    }
}
