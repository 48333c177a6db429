//! The store's contract as a few maps: what is in here is on disk, and survives every crash.

use std::collections::BTreeMap;

use bytes::Bytes;
use syncline::document::lineage::Ending;
use syncline::document::replica::Deleted;
use syncline::document::replica::Replica;
use syncline::store::Epoch;
use syncline::store::Loaded;
use syncline::store::Record;
use syncline::store::Seq;
use syncline::store::Snapshot;
use syncline::store::StoreError;
use syncline_protocol::state_vector::StateVector;
use syncline_protocol::update::ClientRange;
use syncline_protocol::update::UpdateLimits;
use syncline_protocol::update::validate;

/// Structs and deletions, as runs of clocks.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cover {
    structs: BTreeMap<u64, Vec<(u32, u32)>>,
    deletes: BTreeMap<u64, Vec<(u32, u32)>>,
}

impl Cover {
    pub(crate) fn of(update: &[u8]) -> Self {
        let mut cover = Self::default();
        cover.add(update);
        cover
    }

    pub(crate) fn add(&mut self, update: &[u8]) {
        let summary = validate(update, &UpdateLimits::default()).expect("only what was accepted is kept");
        for range in summary.ranges() {
            insert(&mut self.structs, *range);
        }
        for range in summary.deletes() {
            insert(&mut self.deletes, range);
        }
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        for (mine, theirs) in [(&mut self.structs, &other.structs), (&mut self.deletes, &other.deletes)] {
            for (&client, runs) in theirs {
                for &(start, end) in runs {
                    insert(mine, ClientRange { client, start, end });
                }
            }
        }
    }

    pub(crate) fn contains(&self, other: &Self) -> bool {
        has_all(&self.structs, &other.structs) && has_all(&self.deletes, &other.deletes)
    }

    /// Whether any client of `other` is in it.
    fn meets(&self, other: &Self) -> bool {
        other.structs.keys().any(|client| self.mentions(*client))
    }

    /// Whether any struct of `update` is in it.
    pub(crate) fn touches(&self, update: &[u8]) -> bool {
        let meets = |runs: &[(u32, u32)], others: &[(u32, u32)]| {
            runs.iter().any(|run| others.iter().any(|other| run.0 < other.1 && other.0 < run.1))
        };
        Self::of(update)
            .structs
            .iter()
            .any(|(client, runs)| self.structs.get(client).is_some_and(|known| meets(known, runs)))
    }

    /// Whether anything of `client` is in it.
    pub(crate) fn mentions(&self, client: u64) -> bool {
        self.structs.contains_key(&client)
    }
}

fn insert(map: &mut BTreeMap<u64, Vec<(u32, u32)>>, range: ClientRange) {
    let runs = map.entry(range.client).or_default();
    if let Some(last) = runs.last_mut().filter(|last| last.0 <= range.start && range.start <= last.1) {
        last.1 = last.1.max(range.end);
        return;
    }
    runs.push((range.start, range.end));
    runs.sort_unstable();
    let mut merged: Vec<(u32, u32)> = Vec::with_capacity(runs.len());
    for &(start, end) in runs.iter() {
        match merged.last_mut().filter(|last| start <= last.1) {
            Some(last) => last.1 = last.1.max(end),
            None => merged.push((start, end)),
        }
    }
    *runs = merged;
}

fn has_all(all: &BTreeMap<u64, Vec<(u32, u32)>>, some: &BTreeMap<u64, Vec<(u32, u32)>>) -> bool {
    some.iter().all(|(client, runs)| {
        let here = all.get(client).map_or(&[][..], Vec::as_slice);
        runs.iter().all(|run| here.iter().any(|have| have.0 <= run.0 && run.1 <= have.1))
    })
}

#[derive(Debug, Default)]
struct Kept {
    epoch: Epoch,
    deleted: bool,
    deletions: u64,
    snapshot: Option<Snapshot>,
    records: Vec<(Seq, Record)>,
    last: Seq,
    cover: Cover,
    memo: Bytes,
    /// What was on disk in lives that were deleted.
    former: Cover,
    /// Whether something of them is there again.
    haunted: bool,
}

/// What is on disk.
#[derive(Debug)]
pub(crate) struct Disk {
    docs: Vec<Kept>,
}

impl Disk {
    pub(crate) fn new(docs: usize) -> Self {
        Self { docs: (0..docs).map(|_| Kept::default()).collect() }
    }

    pub(crate) fn load(&self, doc: usize) -> Result<Loaded, StoreError> {
        let kept = &self.docs[doc];
        if kept.deleted {
            return Err(StoreError::Deleted);
        }
        let (snapshot, records) = (kept.snapshot.clone(), kept.records.clone());
        Ok(Loaded { snapshot, records, last: kept.last, epoch: kept.epoch, memo: kept.memo.clone() })
    }

    pub(crate) fn load_after(&self, doc: usize, after: Seq) -> Result<Loaded, StoreError> {
        let mut loaded = self.load(doc)?;
        loaded.snapshot = loaded.snapshot.filter(|snapshot| snapshot.through > after);
        loaded.records.retain(|(seq, _)| *seq > after);
        Ok(loaded)
    }

    pub(crate) fn append(&mut self, doc: usize, epoch: Epoch, records: &[Record]) -> Result<Seq, StoreError> {
        let kept = self.living(doc, epoch)?;
        for record in records {
            kept.last = Seq(kept.last.0 + 1);
            kept.haunted |= kept.former.meets(&Cover::of(&record.update));
            kept.cover.add(&record.update);
            kept.records.push((kept.last, record.clone()));
        }
        Ok(kept.last)
    }

    pub(crate) fn compact(&mut self, doc: usize, epoch: Epoch, snapshot: Snapshot) -> Result<(), StoreError> {
        let kept = self.living(doc, epoch)?;
        if snapshot.through > kept.last || kept.snapshot.as_ref().is_some_and(|old| old.through > snapshot.through) {
            return Err(StoreError::Conflict("the snapshot does not fit".into()));
        }
        kept.records.retain(|(seq, _)| *seq > snapshot.through);
        kept.cover = Cover::of(&snapshot.state);
        for (_, record) in &kept.records {
            kept.cover.add(&record.update);
        }
        kept.snapshot = Some(snapshot);
        Ok(())
    }

    fn delete(&mut self, doc: usize, memo: Bytes) -> bool {
        let kept = &mut self.docs[doc];
        let was_there = !kept.deleted && (kept.snapshot.is_some() || kept.last > Seq(0));
        if was_there {
            let (deletions, haunted, mut former) = (kept.deletions + 1, kept.haunted, std::mem::take(&mut kept.former));
            former.merge(&kept.cover);
            *kept = Kept { epoch: kept.epoch, deleted: true, deletions, memo, former, haunted, ..Kept::default() };
        }
        was_there
    }

    /// Ends a life as far as it was read. `None`: others have written on; that was read now, and it is to be tried again.
    pub(crate) fn end(&mut self, doc: usize, ending: &mut Ending, memo: Bytes) -> Option<Result<bool, StoreError>> {
        let Some(through) = ending.through else { return Some(Ok(self.delete(doc, memo))) };
        match self.living(doc, ending.epoch) {
            Err(error) => Some(Err(error)),
            Ok(kept) if kept.last == through => Some(Ok(self.delete(doc, memo))),
            Ok(_) => {
                ending.read_on(&self.load_after(doc, through).expect("it lives"));
                None
            }
        }
    }

    pub(crate) fn revive(&mut self, doc: usize) -> Epoch {
        let kept = &mut self.docs[doc];
        if std::mem::take(&mut kept.deleted) {
            kept.epoch = Epoch(kept.epoch.0 + 1);
        }
        kept.epoch
    }

    pub(crate) fn cover(&self, doc: usize) -> &Cover {
        &self.docs[doc].cover
    }

    /// Whether a fresh load would have all this. Deleting a list deletes what is in it without saying so, and only the
    /// engine knows; it is asked when the words of the log do not suffice.
    pub(crate) fn has(&mut self, doc: usize, cover: &Cover) -> bool {
        let kept = &mut self.docs[doc];
        if kept.cover.contains(cover) {
            return true;
        }
        let snapshot = kept.snapshot.iter().map(|snapshot| &snapshot.state);
        let updates = snapshot.chain(kept.records.iter().map(|(_, record)| &record.update));
        let state = Replica::load(Deleted::Kept, updates).and_then(|replica| replica.diff(&StateVector::default()));
        if let Ok(state) = state {
            kept.cover = Cover::of(&state);
        }
        kept.cover.contains(cover)
    }

    /// Whether all this was there in lives that are over.
    pub(crate) fn had(&self, doc: usize, cover: &Cover) -> bool {
        self.docs[doc].former.contains(cover)
    }

    pub(crate) fn is_deleted(&self, doc: usize) -> bool {
        self.docs[doc].deleted
    }

    /// Whether something of a former life is there again. Nobody restores a copy on purpose.
    pub(crate) fn is_haunted(&self, doc: usize) -> bool {
        self.docs[doc].haunted
    }

    /// How often it was deleted.
    pub(crate) fn deletions(&self, doc: usize) -> u64 {
        self.docs[doc].deletions
    }

    pub(crate) fn last(&self, doc: usize) -> Seq {
        self.docs[doc].last
    }

    fn living(&mut self, doc: usize, epoch: Epoch) -> Result<&mut Kept, StoreError> {
        let kept = &mut self.docs[doc];
        if kept.deleted || kept.epoch != epoch { Err(StoreError::Deleted) } else { Ok(kept) }
    }
}
