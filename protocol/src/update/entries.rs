//! An index of all entries of a document's maps: which item belongs to which key, and which one is seen there.
//!
//! Yjs keeps the values of a key as a chain of items; the last one is seen unless it was deleted, all others are deleted. An
//! item names the one it was written over (its origin). So who had not seen the current value shows in the bytes: the first
//! item of an update that joins a chain names an older one.
//!
//! ```text
//!   update ──▶ draft: new items, each with its slot ──▶ survey: what would be touched ──▶ (the engine applies it)
//!                                                  └──▶ settle: what became of it, as the engine says
//! ```
//!
//! Decisions that do not follow from the format:
//! - The order within a chain is not kept. The engine knows it, and what is not deleted is last.
//! - Items of sequences, and maps that lie in sequences, have no path of keys and are left out.
//! - What is written into a map that was overwritten or deleted is kept as long as the engine keeps it, and is
//!   [`Standing::Hidden`]. Its entries are not cleared one by one: they are not seen because their map is not.
//! - After a transaction the one new or old item that is not deleted is current. Where all new ones lost, the old one stays;
//!   where everything is deleted, the key is absent.
//! - Nothing is ever forgotten while a document is loaded, as the engine forgets nothing either.

mod any;
mod draft;
mod index;
mod lookup;
mod survey;
mod touch;

use std::sync::Arc;

pub use any::AnyValue;
pub use any::read_any;
pub use touch::Content;
pub use touch::EntryId;
pub use touch::Gain;
pub use touch::Standing;
pub use touch::Touch;
pub use touch::Written;
pub use touch::gains;

use self::draft::Draft;
use self::draft::NewHome;
use self::draft::Node;
use self::draft::Spot;
use self::index::Index;
use self::index::NONE;
use crate::update::Invalid;
use crate::update::content;
use crate::update::cursor::Id;
use crate::update::few::Few;

/// Keys of a path below its root. Maps deeper than this are left out: their entries are neither touches nor current.
pub const DEPTH_MAX: usize = 32;

/// The entries of all maps of one document, also overwritten and deleted ones.
#[derive(Debug, Clone, Default)]
pub struct Entries {
    index: Index,
}

/// An update that was read, with where each of its entries goes: what [`Entries::survey`] and [`Entries::settle`] both begin
/// with, for those who ask for both.
#[derive(Debug)]
pub struct Drafted<'a> {
    draft: Draft<'a>,
    update: &'a [u8],
}

/// Where an item was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The root's name and the keys from there down.
    pub path: Vec<Arc<str>>,
    /// The entry that created the map; `None` for a root.
    pub map: Option<EntryId>,
    /// Whether it is what is seen there.
    pub is_current: bool,
}

impl Entries {
    /// Reads a whole document: an update with its full delete set, from the beginning.
    ///
    /// # Errors
    /// [`Invalid`] when it is no update.
    pub fn read(state: &[u8]) -> Result<Self, Invalid> {
        let mut entries = Self::default();
        let draft = Draft::read(state, &entries.index)?;
        entries.note(&draft, |id| draft.is_deleted(id));
        entries.index.shrink();
        Ok(entries)
    }

    /// What a valid, causally ready update would touch, sorted by path. To be asked before the update is applied. What
    /// the document has already is passed over. Takes some 400 bytes of memory for each struct of the update.
    ///
    /// # Errors
    /// [`Invalid`] when it is no update.
    pub fn survey(&self, update: &[u8]) -> Result<Vec<Touch>, Invalid> {
        Ok(self.touches(&self.draft(update)?))
    }

    /// Reads an update once for [`Self::touches`] and [`Self::settle_draft`]. Nothing may be noted between the three.
    ///
    /// # Errors
    /// [`Invalid`] when it is no update.
    pub fn draft<'a>(&self, update: &'a [u8]) -> Result<Drafted<'a>, Invalid> {
        Ok(Drafted { draft: Draft::read(update, &self.index)?, update })
    }

    /// As [`Self::survey`].
    #[must_use]
    pub fn touches(&self, drafted: &Drafted<'_>) -> Vec<Touch> {
        survey::touches(&self.index, &drafted.draft, drafted.update)
    }

    /// Takes note of an update that the engine has applied. `is_deleted` answers for client and clock whether the
    /// transaction deleted an item.
    ///
    /// # Errors
    /// [`Invalid`] when it is no update; nothing is noted then.
    pub fn settle(&mut self, update: &[u8], is_deleted: impl Fn(u64, u32) -> bool) -> Result<(), Invalid> {
        let drafted = self.draft(update)?;
        self.settle_draft(&drafted, is_deleted);
        Ok(())
    }

    /// As [`Self::settle`].
    pub fn settle_draft(&mut self, drafted: &Drafted<'_>, is_deleted: impl Fn(u64, u32) -> bool) {
        self.note(&drafted.draft, |id| is_deleted(id.client, id.clock));
    }

    /// The entry that is seen at a path: a root's name and the keys from there down.
    #[must_use]
    pub fn current(&self, path: &[&str]) -> Option<EntryId> {
        let (root, keys) = path.split_first()?;
        let mut map = self.index.root(root)?;
        let mut entry = None;
        for (depth, key) in keys.iter().enumerate() {
            if depth > 0 {
                map = self.index.map_by(entry?)?;
            }
            entry = Some(self.index.undeleted(self.index.slot_in(map, key)?)?);
        }
        entry.map(EntryId::from)
    }

    /// The one copy of a key, or of a root's name, that is kept here; another where the text is neither.
    #[must_use]
    pub fn name(&self, text: &str) -> Arc<str> {
        self.index.text(text)
    }

    /// Where an item was written; `None` for what was never an entry.
    #[must_use]
    pub fn find(&self, id: EntryId) -> Option<Place> {
        let slot = self.index.slot_at(id.into())?;
        Some(Place {
            path: self.index.path(slot),
            map: self.index.creator(self.index.slot(slot).map).map(EntryId::from),
            is_current: self.index.current(slot) == Some(id.into()),
        })
    }

    /// Every entry that is seen, with its path, in no order.
    pub fn shown(&self) -> impl Iterator<Item = (Vec<Arc<str>>, EntryId)> {
        let shown = |slot| Some((self.index.path(slot), self.index.current(slot)?.into()));
        self.index.slots().filter_map(shown)
    }

    fn note(&mut self, draft: &Draft<'_>, is_deleted: impl Fn(Id) -> bool) {
        let mut deleted = Few::<u32, 4>::default();
        survey::each_deleted(&self.index, draft, |slot| deleted.push(slot));
        deleted.iter().for_each(|&slot| self.index.set_undeleted(slot, None));
        draft.reached.iter().for_each(|&(client, clock)| self.index.reach(client, clock));
        let slots = self.add_slots(draft);
        for node in draft.nodes.iter() {
            if let Some(slot) = slot_of(node, &slots) {
                self.note_node(node, slot, &is_deleted);
            }
        }
    }

    fn note_node(&mut self, node: &Node<'_>, slot: u32, is_deleted: &impl Fn(Id) -> bool) {
        self.index.add_run(node.client, node.start, node.end, slot);
        if node.creates_type() {
            self.index.add_map_by(node.last(), slot);
        }
        if node.content != content::DELETED && !is_deleted(node.last()) {
            self.index.set_undeleted(slot, Some(node.last()));
        } else if self.index.undeleted(slot).is_some_and(is_deleted) {
            self.index.set_undeleted(slot, None);
        }
    }

    /// Adds the slots that a draft brings; gives the number of each.
    fn add_slots(&mut self, draft: &Draft<'_>) -> Vec<u32> {
        let mut slots = Vec::with_capacity(draft.slots.len());
        for (slot, _) in &draft.slots {
            let map = match slot.home {
                NewHome::Known(map) => Some(map),
                NewHome::Root(name) => Some(self.index.add_root(name)),
                NewHome::By(node) => {
                    let node = &draft.nodes[node as usize];
                    slot_of(node, &slots).and_then(|slot| self.index.add_map_by(node.last(), slot))
                }
            };
            slots.push(map.map_or(NONE, |map| self.index.add_slot(map, slot.key)));
        }
        slots
    }
}

/// The slot of a node, given the slots of its draft.
fn slot_of(node: &Node<'_>, slots: &[u32]) -> Option<u32> {
    match node.spot {
        Spot::Known(slot) => Some(slot),
        Spot::New(slot) => slots.get(slot as usize).copied().filter(|&slot| slot != NONE),
        Spot::Unknown | Spot::Pending | Spot::Nowhere => None,
    }
}
