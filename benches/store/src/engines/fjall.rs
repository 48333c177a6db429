//! fjall: one keyspace, one write batch for a group, `fdatasync` of its journal at the end.

use std::path::Path;

use ::fjall::Database;
use ::fjall::Keyspace;
use ::fjall::KeyspaceCreateOptions;
use ::fjall::PersistMode;
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

pub(crate) struct Fjall {
    db: Database,
    documents: Keyspace,
}

impl Fjall {
    pub(crate) fn open(dir: &Path) -> Result<Self> {
        let db = Database::builder(dir).cache_size(CACHE_BYTES).open()?;
        let documents = db.keyspace("documents", KeyspaceCreateOptions::default)?;
        Ok(Self { db, documents })
    }
}

impl Engine for Fjall {
    fn commit(&mut self, group: &[Entry]) -> Result<()> {
        let mut batch = self.db.batch().durability(Some(PersistMode::SyncData));
        for entry in group {
            batch.insert(&self.documents, log_key(&entry.doc, entry.seq), entry.value.as_ref());
        }
        Ok(batch.commit()?)
    }

    fn fold(&mut self, group: &[Folded]) -> Result<()> {
        let mut batch = self.db.batch().durability(Some(PersistMode::SyncData));
        for folded in group {
            batch.insert(&self.documents, snapshot_key(&folded.doc, 0), folded.state.as_ref());
            let covered = log_prefix(&folded.doc)..=log_key(&folded.doc, folded.through);
            for item in self.documents.range(covered) {
                batch.remove(&self.documents, item.key()?);
            }
        }
        Ok(batch.commit()?)
    }

    fn load(&mut self, doc: &DocName) -> Result<Kept> {
        let snapshot = self.documents.get(snapshot_key(doc, 0))?;
        let snapshot = snapshot.map(|value| Bytes::copy_from_slice(&value)).unwrap_or_default();
        let values = self.documents.prefix(log_prefix(doc));
        let values = values.map(|item| Ok(Bytes::copy_from_slice(&item.value()?))).collect::<Result<_>>()?;
        Ok(Kept { snapshot, values })
    }
}
