//! The CRDT behind one document. The only place on the path of an edit that knows the engine.
//!
//! The engine is not memory-safe against hostile updates, nor against merely reordered ones (`docs/HAZARDS.md`), so nothing
//! reaches it that [`validate`] refused or that is not causally ready, and it keeps deleted content (`skip_gc`).

use std::collections::BTreeSet;
use std::panic::AssertUnwindSafe;
use std::panic::catch_unwind;
use std::sync::Arc;

use bytes::Bytes;
use syncline_protocol::limits::CLIENT_ID_MAX;
use syncline_protocol::state_vector::StateVector;
use syncline_protocol::update::Summary;
use syncline_protocol::update::UpdateLimits;
use syncline_protocol::update::validate;
use yrs::ClientID;
use yrs::Doc;
use yrs::MapRef;
use yrs::OffsetKind;
use yrs::Options;
use yrs::ReadTxn;
use yrs::RootRef;
use yrs::Transact;
use yrs::TransactionMut;
use yrs::Update;
use yrs::branch::BranchID;
use yrs::updates::decoder::Decode;

use crate::table::change::Author;
use crate::table::change::ChangeSet;
use crate::table::change::Source;
use crate::table::plan::Put;
use crate::table::refused::Refused;
use crate::table::register::Register;

/// An update broke the engine. The replica is half changed and must be thrown away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the update cannot be merged")]
pub struct Poisoned;

/// Bytes of stored updates merged in one transaction. A transaction costs about as much as merging a small update, but
/// what follows each other in it is only joined at its end, in time quadratic in how much that is: 80 000 keystrokes took
/// seconds and a gigabyte.
const LOAD_TOGETHER_BYTES: usize = 4 * 1024;

/// Names of roots in which something changed.
pub type Roots = BTreeSet<Arc<str>>;

/// Roots that are named to those who listen. Editors have a handful; where more change at once, these stand for all.
const ROOTS_NAMED_MAX: usize = 50;

/// One document's content.
pub struct Replica {
    doc: Doc,
    /// Kept beside the engine's own, because the causal gate asks for it with every update.
    clocks: StateVector,
    /// Whether the engine was told that every root has a type.
    is_watched: bool,
}

/// Reads one document's content from another thread. Whoever holds the [`Replica`] merges nothing meanwhile: it would wait
/// for the engine's lock.
pub struct View(Doc);

/// What came of an update to a table.
#[derive(Debug)]
pub enum Watched {
    /// Nothing in it was new.
    Nothing,
    /// It was merged. Nothing need have become visible.
    Changed(Box<ChangeSet>),
    /// The table does not take it, and it was not merged.
    Refused(Box<Refused>),
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
    fn new() -> Self {
        let mut options = Options::with_client_id(server_client_id());
        options.skip_gc = true; // What is collected is collected once, when everything is there.
        options.offset_kind = OffsetKind::Utf16;
        options.cleanup_formatting = false; // A server that tidies formatting makes edits of its own.
        Self { doc: Doc::with_options(options), clocks: StateVector::default(), is_watched: false }
    }

    /// A document made of stored updates.
    ///
    /// # Errors
    /// [`Poisoned`] when one of them cannot be merged.
    pub fn load<'a>(deleted: Deleted, updates: impl Iterator<Item = &'a Bytes>) -> Result<Self, Poisoned> {
        let mut replica = Self::new();
        let mut updates = updates.peekable();
        contain(|| {
            while updates.peek().is_some() {
                let mut txn = replica.doc.transact_mut();
                let mut bytes = 0;
                while bytes < LOAD_TOGETHER_BYTES
                    && let Some(update) = updates.next()
                {
                    bytes += update.len();
                    let decoded = Update::decode_v1(update).map_err(|_| Poisoned)?;
                    txn.apply_update(decoded).map_err(|_| Poisoned)?;
                }
            }
            if deleted == Deleted::Collected {
                replica.doc.transact_mut().gc(None);
            }
            Ok(())
        })?;
        replica.clocks = replica.engine_clocks();
        Ok(replica)
    }

    /// Counts the structs of a valid, causally ready update as here, so that the next one can be judged before this one
    /// is merged. [`Self::apply`] has to follow before the content is read.
    pub fn expect(&mut self, summary: &Summary) {
        advance(&mut self.clocks, summary);
    }

    /// Merges a valid, causally ready update, or several as one, that were expected or bring no structs that are new.
    /// Answers whether anything in it was new.
    ///
    /// # Errors
    /// [`Poisoned`] when the engine refuses it or panics: throw this replica away and load again.
    pub fn apply(&mut self, update: &[u8]) -> Result<bool, Poisoned> {
        contain(|| {
            let decoded = Update::decode_v1(update).map_err(|_| Poisoned)?;
            let mut txn = self.doc.transact_mut();
            txn.apply_update(decoded).map_err(|_| Poisoned)?;
            Ok(txn.has_changes())
        })
    }

    /// As [`Self::apply`], and answers in which roots something changed; `None` if nothing was new. Not for tables.
    ///
    /// # Errors
    /// As [`Self::apply`].
    pub fn apply_and_look(&mut self, update: &[u8]) -> Result<Option<Roots>, Poisoned> {
        let summary = validate(update, &UpdateLimits::none()).map_err(|_| Poisoned)?;
        contain(|| {
            let decoded = Update::decode_v1(update).map_err(|_| Poisoned)?;
            self.watch();
            let mut txn = self.doc.transact_mut();
            summary.roots(update).for_each(|root| watch(root, &mut txn));
            self.is_watched = summary.roots_complete(); // Otherwise there are others, to be found next time.
            txn.apply_update(decoded).map_err(|_| Poisoned)?;
            if !txn.has_changes() {
                return Ok(None);
            }
            txn.commit();
            let mut roots = Roots::new();
            for branch in txn.changed_parent_types() {
                // A root comes once for each of its parts that changed.
                if let BranchID::Root(name) = branch.id()
                    && (roots.len() < ROOTS_NAMED_MAX || roots.contains(&name))
                {
                    roots.insert(name);
                }
            }
            Ok(Some(roots))
        })
    }

    /// Has the engine report changes in all roots that are here.
    fn watch(&mut self) {
        if !std::mem::replace(&mut self.is_watched, true) {
            let names: Vec<String> = self.doc.transact().root_refs().map(|(name, _)| name.to_owned()).collect();
            let mut txn = self.doc.transact_mut();
            names.iter().for_each(|root| watch(root, &mut txn));
        }
    }

    /// As [`Self::apply`], of a table, and says what became visible. The structs need not be expected: they are counted
    /// here. Nothing is merged when the table has no room for it.
    ///
    /// # Errors
    /// As [`Self::apply`].
    pub fn apply_to_table(
        &mut self,
        update: &[u8],
        summary: &Summary,
        register: &mut Register,
        author: &Author,
        at_ms: u64,
    ) -> Result<Watched, Poisoned> {
        contain(|| {
            declare(&self.doc, summary.roots(update));
            let decoded = Update::decode_v1(update).map_err(|_| Poisoned)?;
            let mut txn = self.doc.transact_mut();
            let seen = register.look(&txn, update).map_err(|_| Poisoned)?;
            // What the server itself brings was judged before.
            if author.source != Source::System
                && let Err(refused) = register.admit(&seen)
            {
                return Ok(Watched::Refused(Box::new(refused)));
            }
            txn.apply_update(decoded).map_err(|_| Poisoned)?;
            advance(&mut self.clocks, summary);
            if !txn.has_changes() {
                return Ok(Watched::Nothing);
            }
            txn.commit();
            let change = register.observe(&txn, seen, update, summary, author, at_ms).map_err(|_| Poisoned)?;
            Ok(Watched::Changed(Box::new(change)))
        })
    }

    /// Writes into a table with the server's own client id. Answers the update that it makes, and what became visible.
    ///
    /// # Errors
    /// [`Poisoned`] when the engine panics.
    pub fn write_table(
        &mut self,
        puts: &[Put],
        register: &mut Register,
        author: &Author,
        at_ms: u64,
    ) -> Result<(Bytes, Summary, ChangeSet), Poisoned> {
        contain(|| {
            let mut txn = self.doc.transact_mut();
            let (update, change) = register.carry_out(&mut txn, puts, author, at_ms).map_err(|_| Poisoned)?;
            let summary = validate(&update, &UpdateLimits::none()).map_err(|_| Poisoned)?;
            advance(&mut self.clocks, &summary);
            Ok((update.into(), summary, change))
        })
    }

    /// Says of the roots that are there what type those are whose name tells.
    pub(super) fn declare_roots(&self) {
        let names: Vec<String> = self.doc.transact().root_refs().map(|(name, _)| name.to_owned()).collect();
        declare(&self.doc, names.iter().map(String::as_str));
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
        diff(&self.doc, have)
    }

    /// A way to read this from another thread.
    #[must_use]
    pub fn view(&self) -> View {
        View(self.doc.clone())
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

    /// A number for what is deleted: the same for the same deletions, however they came; most likely another one for others
    /// (FNV-1a, 64 bits, over clients and ranges in order).
    #[must_use]
    pub fn deletions_hash(&self) -> u64 {
        let deleted = self.doc.transact().snapshot().delete_set;
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        let mut feed = |number: u64| {
            for byte in number.to_le_bytes() {
                hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
            }
        };
        for (client, ranges) in deleted.iter() {
            feed(client.get());
            // Neighbours are one, however the engine has them.
            let mut open: Option<(u32, u32)> = None;
            for range in ranges.iter().filter(|range| !range.is_empty()) {
                open = match open {
                    Some((start, end)) if end >= range.start => Some((start, end.max(range.end))),
                    other => {
                        other.into_iter().for_each(|(start, end)| feed(u64::from(start) << 32 | u64::from(end)));
                        Some((range.start, range.end))
                    }
                };
            }
            open.into_iter().for_each(|(start, end)| feed(u64::from(start) << 32 | u64::from(end)));
        }
        hash
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

    /// A look at the content. One at a time: nothing is merged while it lasts.
    #[must_use]
    pub fn transact(&self) -> yrs::Transaction<'_> {
        self.doc.transact()
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

fn advance(clocks: &mut StateVector, summary: &Summary) {
    for range in summary.ranges() {
        clocks.advance(range.client, range.end);
    }
}

/// The engine reports changes only in roots whose type it was told. Of the roots of cells the name tells.
fn declare<'a>(doc: &Doc, roots: impl Iterator<Item = &'a str>) {
    for root in roots {
        if root.starts_with("t/") {
            let _ = doc.get_or_insert_text(root);
        } else if root.starts_with("f/") {
            let _ = doc.get_or_insert_xml_fragment(root);
        }
    }
}

/// The engine reports changes only in roots whose type it was told. Which type makes no difference here: nobody reads the
/// content of a free document where it is changed, and states name roots without a type.
fn watch(root: &str, txn: &mut TransactionMut<'_>) {
    let _ = MapRef::root(root).get_or_create(txn);
}

impl View {
    /// As [`Replica::diff`].
    ///
    /// # Errors
    /// As [`Replica::diff`].
    pub fn diff(&self, have: &StateVector) -> Result<Bytes, Poisoned> {
        diff(&self.0, have)
    }
}

fn diff(doc: &Doc, have: &StateVector) -> Result<Bytes, Poisoned> {
    contain(|| {
        let mut theirs = yrs::StateVector::default();
        for (client, clock) in have.iter() {
            theirs.set_max(ClientID::new(client), clock);
        }
        // To its length: the encoder begins with a kilobyte and doubles, and a state is kept for those who come later.
        Ok(doc.transact().encode_diff_v1(&theirs).into_boxed_slice().into())
    })
}

impl std::fmt::Debug for View {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("View")
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

#[cfg(test)]
mod tests;
