//! The CRDT behind one document. The only place on the path of an edit that knows the engine.
//!
//! The engine is not memory-safe against hostile updates, nor against merely reordered ones (`docs/HAZARDS.md`), so nothing
//! reaches it that [`validate`] refused or that is not causally ready, and it keeps deleted content (`skip_gc`).

use std::panic::AssertUnwindSafe;
use std::panic::catch_unwind;

use bytes::Bytes;
use syncline_protocol::limits::CLIENT_ID_MAX;
use syncline_protocol::state_vector::StateVector;
use syncline_protocol::update::Summary;
use yrs::ClientID;
use yrs::Doc;
use yrs::OffsetKind;
use yrs::Options;
use yrs::ReadTxn;
use yrs::Transact;
use yrs::Update;
use yrs::updates::decoder::Decode;

/// An update broke the engine. The replica is half changed and must be thrown away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the update cannot be merged")]
pub struct Poisoned;

/// One document's content.
pub struct Replica {
    doc: Doc,
    /// Kept beside the engine's own, because the causal gate asks for it with every update.
    clocks: StateVector,
}

/// Whether deleted content is kept in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deleted {
    /// As live documents do: odd but valid updates can refer to what was deleted.
    Kept,
    /// As a compaction does, in a document of its own that is checked before it replaces anything.
    Collected,
}

impl Replica {
    /// An empty document.
    #[must_use]
    pub fn new(deleted: Deleted) -> Self {
        let mut options = Options::with_client_id(server_client_id());
        options.skip_gc = deleted == Deleted::Kept;
        options.offset_kind = OffsetKind::Utf16;
        options.cleanup_formatting = false; // A server that tidies formatting makes edits of its own.
        Self { doc: Doc::with_options(options), clocks: StateVector::default() }
    }

    /// A document made of stored updates, merged in one transaction: 10 000 of them take milliseconds.
    ///
    /// # Errors
    /// [`Poisoned`] when one of them cannot be merged.
    pub fn load<'a>(deleted: Deleted, updates: impl Iterator<Item = &'a Bytes>) -> Result<Self, Poisoned> {
        let mut replica = Self::new(deleted);
        contain(|| {
            let mut txn = replica.doc.transact_mut();
            for update in updates {
                let decoded = Update::decode_v1(update).map_err(|_| Poisoned)?;
                txn.apply_update(decoded).map_err(|_| Poisoned)?;
            }
            Ok(())
        })?;
        replica.clocks = replica.engine_clocks();
        Ok(replica)
    }

    /// Merges a valid, causally ready update. Answers whether anything in it was new.
    ///
    /// # Errors
    /// [`Poisoned`] when the engine refuses it or panics: throw this replica away and load again.
    pub fn apply(&mut self, update: &[u8], summary: &Summary) -> Result<bool, Poisoned> {
        let changed = contain(|| {
            let decoded = Update::decode_v1(update).map_err(|_| Poisoned)?;
            let mut txn = self.doc.transact_mut();
            txn.apply_update(decoded).map_err(|_| Poisoned)?;
            Ok(txn.has_changes())
        })?;
        for range in summary.ranges() {
            self.clocks.advance(range.client, range.end);
        }
        Ok(changed)
    }

    /// How much of each client's history is here.
    #[must_use]
    pub fn clocks(&self) -> &StateVector {
        &self.clocks
    }

    /// What `have` lacks, as update v1, with the whole delete set.
    ///
    /// # Errors
    /// [`Poisoned`] when the engine cannot encode what it merged.
    pub fn diff(&self, have: &StateVector) -> Result<Bytes, Poisoned> {
        contain(|| {
            let mut theirs = yrs::StateVector::default();
            for (client, clock) in have.iter() {
                theirs.set_max(ClientID::new(client), clock);
            }
            Ok(self.doc.transact().encode_diff_v1(&theirs).into())
        })
    }

    /// Whether every deletion in `summary` is already here.
    #[must_use]
    pub fn deletions_known(&self, summary: &Summary) -> bool {
        let mut deletions = summary.deletes().peekable();
        if deletions.peek().is_none() {
            return true;
        }
        let here = self.doc.transact().snapshot().delete_set;
        let mut asked = yrs::IdSet::new();
        for range in deletions {
            asked.insert(yrs::ID::new(ClientID::new(range.client), range.start), range.end - range.start);
        }
        asked.diff(&here).is_empty()
    }

    /// Whether two replicas have seen the same: state vector and delete set. Encodings may differ between equal ones.
    #[must_use]
    pub fn same_history(&self, other: &Self) -> bool {
        let (mine, theirs) = (self.doc.transact().snapshot(), other.doc.transact().snapshot());
        self.engine_clocks() == other.engine_clocks()
            && mine.delete_set.diff(&theirs.delete_set).is_empty()
            && theirs.delete_set.diff(&mine.delete_set).is_empty()
    }

    /// Whether the engine holds something back for want of a predecessor. The causal gate makes this impossible.
    #[must_use]
    pub fn has_pending(&self) -> bool {
        self.doc.transact().has_missing_updates()
    }

    /// The engine's document, for readers that walk its content.
    #[must_use]
    pub(super) fn doc(&self) -> &Doc {
        &self.doc
    }

    fn engine_clocks(&self) -> StateVector {
        let vector = self.doc.transact().state_vector();
        vector.iter().map(|(client, clock)| (client.get(), *clock)).collect()
    }
}

impl std::fmt::Debug for Replica {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Replica").field("clocks", &self.clocks).finish_non_exhaustive()
    }
}

/// Above 2^32, so that the server's concurrent writes win over those of browsers, and never used twice.
fn server_client_id() -> ClientID {
    ClientID::new(rand::random_range(1 << 40..CLIENT_ID_MAX))
}

/// A panic in the engine becomes an error. It is no safety net: a transaction that unwinds commits on its way and may
/// abort the process, which is why the note of [`super::inflight`] is written first.
fn contain<T>(work: impl FnOnce() -> Result<T, Poisoned>) -> Result<T, Poisoned> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or(Err(Poisoned))
}
