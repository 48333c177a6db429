//! redb: one table, one write transaction for a group, durable when it commits (its default).

use std::path::Path;

use ::redb::Database;
use ::redb::ReadableDatabase;
use ::redb::TableDefinition;
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

const DOCUMENTS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("documents");

pub(crate) struct Redb {
    db: Database,
}

impl Redb {
    pub(crate) fn open(dir: &Path) -> Result<Self> {
        let cache = usize::try_from(CACHE_BYTES)?;
        let db = Database::builder().set_cache_size(cache).create(dir.join("documents.redb"))?;
        let create = db.begin_write()?;
        create.open_table(DOCUMENTS)?;
        create.commit()?;
        Ok(Self { db })
    }
}

impl Engine for Redb {
    fn commit(&mut self, group: &[Entry]) -> Result<()> {
        let write = self.db.begin_write()?;
        {
            let mut table = write.open_table(DOCUMENTS)?;
            for entry in group {
                table.insert(log_key(&entry.doc, entry.seq).as_slice(), entry.value.as_ref())?;
            }
        }
        Ok(write.commit()?)
    }

    fn fold(&mut self, group: &[Folded]) -> Result<()> {
        let write = self.db.begin_write()?;
        {
            let mut table = write.open_table(DOCUMENTS)?;
            for folded in group {
                table.insert(snapshot_key(&folded.doc, 0).as_slice(), folded.state.as_ref())?;
                let (from, to) = (log_prefix(&folded.doc), log_key(&folded.doc, folded.through));
                table.retain_in(from.as_slice()..=to.as_slice(), |_, _| false)?;
            }
        }
        Ok(write.commit()?)
    }

    fn load(&mut self, doc: &DocName) -> Result<Kept> {
        let table = self.db.begin_read()?.open_table(DOCUMENTS)?;
        let snapshot = table.get(snapshot_key(doc, 0).as_slice())?;
        let snapshot = snapshot.map(|value| Bytes::copy_from_slice(value.value())).unwrap_or_default();
        let (from, to) = (log_prefix(doc), log_key(doc, u64::MAX));
        let values = table.range(from.as_slice()..=to.as_slice())?;
        let values = values.map(|item| Ok(Bytes::copy_from_slice(item?.1.value()))).collect::<Result<_>>()?;
        Ok(Kept { snapshot, values })
    }
}
