//! sled alone: one tree, one batch and one flush for a group.
//!
//! Its flush on Linux is `sync_file_range`, which does not wait for the device's own cache: it promises less than the
//! others do.

use std::path::Path;

use ::sled::Batch;
use ::sled::Db;
use ::sled::Tree;
use anyhow::Result;
use bytes::Bytes;
use syncline::name::DocName;

use crate::engines::CACHE_BYTES;
use crate::engines::Engine;
use crate::engines::Entry;
use crate::engines::Folded;
use crate::engines::Kept;
use crate::engines::log_key;
use crate::engines::log_prefix;
use crate::engines::snapshot_key;
use crate::engines::snapshot_prefix;

/// Larger values become files of their own, which sled never syncs.
const PART_BYTES: usize = 16 << 10;

pub(crate) struct Sled {
    db: Db,
    tree: Tree,
}

impl Sled {
    pub(crate) fn open(dir: &Path) -> Result<Self> {
        let db = ::sled::Config::new().path(dir).cache_capacity(CACHE_BYTES).flush_every_ms(None).open()?;
        let tree = db.open_tree("documents")?;
        Ok(Self { db, tree })
    }

    fn apply(&self, batch: Batch) -> Result<()> {
        self.tree.apply_batch(batch)?;
        self.db.flush()?;
        Ok(())
    }
}

impl Engine for Sled {
    fn commit(&mut self, group: &[Entry]) -> Result<()> {
        let mut batch = Batch::default();
        for entry in group {
            batch.insert(log_key(&entry.doc, entry.seq), entry.value.as_ref());
        }
        self.apply(batch)
    }

    fn fold(&mut self, group: &[Folded]) -> Result<()> {
        let mut batch = Batch::default();
        for folded in group {
            for (part, bytes) in (0..).zip(folded.state.chunks(PART_BYTES)) {
                batch.insert(snapshot_key(&folded.doc, part), bytes);
            }
            let covered = log_prefix(&folded.doc)..=log_key(&folded.doc, folded.through);
            for key in self.tree.range(covered).keys() {
                batch.remove(key?);
            }
        }
        self.apply(batch)
    }

    fn load(&mut self, doc: &DocName) -> Result<Kept> {
        let mut snapshot = Vec::new();
        for part in self.tree.scan_prefix(snapshot_prefix(doc)).values() {
            snapshot.extend_from_slice(&part?);
        }
        let values = self.tree.scan_prefix(log_prefix(doc)).values();
        let values = values.map(|value| Ok(Bytes::copy_from_slice(&value?))).collect::<Result<_>>()?;
        Ok(Kept { snapshot: Bytes::from(snapshot), values })
    }
}
