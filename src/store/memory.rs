//! A store that keeps nothing beyond the process: for tests, and for `memory:`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use bytes::Bytes;

use crate::name::DocName;
use crate::store::DocInfo;
use crate::store::Epoch;
use crate::store::Loaded;
use crate::store::Page;
use crate::store::Pending;
use crate::store::Record;
use crate::store::Seq;
use crate::store::Snapshot;
use crate::store::Store;
use crate::store::StoreError;
use crate::store::admit_memo;
use crate::store::ready;

/// Documents in memory. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct MemoryStore(Arc<Mutex<Shelf>>);

#[derive(Debug, Default)]
struct Shelf {
    docs: BTreeMap<DocName, Doc>,
    closed: bool,
}

#[derive(Debug, Clone, Default)]
struct Doc {
    kept: Loaded,
    deleted: bool,
    updated_at_ms: u64,
}

impl MemoryStore {
    /// A store without documents.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn shelf(&self) -> Result<MutexGuard<'_, Shelf>, StoreError> {
        let shelf = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if shelf.closed { Err(StoreError::Unavailable("the store is closed".to_owned())) } else { Ok(shelf) }
    }

    fn with<T: Send + 'static>(&self, act: impl FnOnce(&mut Shelf) -> Result<T, StoreError>) -> Pending<T> {
        ready(self.shelf().and_then(|mut shelf| act(&mut shelf)))
    }

    /// `stands`: only where the document still does.
    fn delete_if(&self, doc: &DocName, stands: Option<(Epoch, Seq)>, memo: Bytes) -> Pending<bool> {
        self.with(|shelf| {
            admit_memo(&memo)?;
            let Some(doc) = shelf.docs.get_mut(doc) else { return Ok(false) };
            if let Some((epoch, through)) = stands {
                doc.admit(epoch)?;
                if doc.kept.last != through && doc.exists() {
                    return Err(StoreError::Conflict("somebody else has written on".to_owned()));
                }
            }
            if !doc.exists() {
                return Ok(false);
            }
            let kept = Loaded { epoch: doc.kept.epoch, memo, ..Loaded::default() };
            *doc = Doc { kept, deleted: true, updated_at_ms: doc.updated_at_ms };
            Ok(true)
        })
    }
}

impl Doc {
    fn exists(&self) -> bool {
        !self.deleted && self.kept.last.0 > 0
    }

    fn admit(&self, epoch: Epoch) -> Result<(), StoreError> {
        if self.deleted || epoch < self.kept.epoch {
            return Err(StoreError::Deleted);
        }
        if epoch > self.kept.epoch {
            return Err(StoreError::Conflict(format!("epoch {} has not begun", epoch.0)));
        }
        Ok(())
    }

    fn compact(&mut self, snapshot: Snapshot) -> Result<(), StoreError> {
        let had = self.kept.snapshot.as_ref().map_or(Seq(0), |snapshot| snapshot.through);
        let through = snapshot.through;
        if through.0 == 0 || through > self.kept.last || through < had {
            return Err(StoreError::Conflict(format!(
                "through is {}, the log ends at {}",
                through.0, self.kept.last.0
            )));
        }
        self.kept.records.retain(|(seq, _)| *seq > through);
        self.kept.snapshot = Some(snapshot);
        Ok(())
    }

    fn info(&self, name: &DocName) -> DocInfo {
        let snapshot = self.kept.snapshot.as_ref().map_or(0, |s| s.state.len() + s.sidecar.len());
        let records: usize = self.kept.records.iter().map(|(_, r)| r.update.len() + r.sidecar.len()).sum();
        let bytes = (snapshot + records) as u64;
        DocInfo { name: name.clone(), bytes, updated_at_ms: self.updated_at_ms, last: self.kept.last }
    }
}

impl Store for MemoryStore {
    fn append(&self, doc: &DocName, epoch: Epoch, records: Vec<Record>) -> Pending<Seq> {
        self.with(|shelf| {
            let unwritten = Doc::default();
            let known = shelf.docs.get(doc).unwrap_or(&unwritten);
            known.admit(epoch)?;
            if records.is_empty() {
                return Ok(known.kept.last);
            }
            let doc = shelf.docs.entry(doc.clone()).or_default();
            for record in records {
                doc.kept.last.0 += 1;
                doc.updated_at_ms = doc.updated_at_ms.max(record.at_ms);
                doc.kept.records.push((doc.kept.last, record));
            }
            Ok(doc.kept.last)
        })
    }

    fn load(&self, doc: &DocName) -> Pending<Loaded> {
        self.with(|shelf| match shelf.docs.get(doc) {
            Some(doc) if doc.deleted => Err(StoreError::Deleted),
            Some(doc) => Ok(doc.kept.clone()),
            None => Ok(Loaded::default()),
        })
    }

    fn compact(&self, doc: &DocName, epoch: Epoch, snapshot: Snapshot) -> Pending<()> {
        self.with(|shelf| {
            let mut known = shelf.docs.get(doc).cloned().unwrap_or_default();
            known.admit(epoch)?;
            known.compact(snapshot)?;
            shelf.docs.insert(doc.clone(), known);
            Ok(())
        })
    }

    fn delete(&self, doc: &DocName, memo: Bytes) -> Pending<bool> {
        self.delete_if(doc, None, memo)
    }

    fn delete_as_of(&self, doc: &DocName, epoch: Epoch, through: Seq, memo: Bytes) -> Pending<bool> {
        self.delete_if(doc, Some((epoch, through)), memo)
    }

    fn revive(&self, doc: &DocName) -> Pending<Epoch> {
        self.with(|shelf| {
            let Some(doc) = shelf.docs.get_mut(doc) else { return Ok(Epoch(0)) };
            if doc.deleted {
                doc.deleted = false;
                doc.kept.epoch.0 += 1;
            }
            Ok(doc.kept.epoch)
        })
    }

    fn list(&self, prefix: &str, after: Option<&DocName>, limit: usize) -> Pending<Page> {
        self.with(|shelf| {
            let wanted = |name: &DocName| name.as_str().starts_with(prefix) && after.is_none_or(|after| name > after);
            let found = shelf.docs.iter().filter(|(name, doc)| wanted(name) && doc.exists());
            let mut docs: Vec<_> = found.take(limit.saturating_add(1)).map(|(name, doc)| doc.info(name)).collect();
            let more = docs.len() > limit;
            docs.truncate(limit);
            let next = docs.last().filter(|_| more).map(|info| info.name.clone());
            Ok(Page { docs, next })
        })
    }

    fn probe(&self) -> Pending<()> {
        self.with(|_| Ok(()))
    }

    fn close(&self) -> Pending<()> {
        self.with(|shelf| {
            shelf.closed = true;
            Ok(())
        })
    }
}
