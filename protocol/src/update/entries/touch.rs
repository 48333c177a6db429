//! What an update does to the entries of maps.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use super::any::AnyValue;
use super::any::read_any;
use crate::update::ContentKinds;
use crate::update::cursor::Id;

/// The address of an item: a client and the number of its unit of content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Hash)]
pub struct EntryId {
    /// Whose.
    pub client: u64,
    /// The last clock that the item takes.
    pub clock: u32,
}

impl From<Id> for EntryId {
    fn from(id: Id) -> Self {
        Self { client: id.client, clock: id.clock }
    }
}

impl From<EntryId> for Id {
    fn from(id: EntryId) -> Self {
        Self { client: id.client, clock: id.clock }
    }
}

/// One key of one map that an update writes or deletes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Touch {
    /// The root's name and the keys from there down: at least two parts, at most [`super::DEPTH_MAX`] + 1.
    pub path: Vec<Arc<str>>,
    /// The entry that created the map; `None` for a root. Two maps may have the same path, one of them hidden.
    pub map: Option<EntryId>,
    /// Whether the map can be seen.
    pub standing: Standing,
    /// The new writes in the order of the update; empty when the entry is only deleted.
    pub writes: Vec<Written>,
    /// The entry that can be seen before; `None` when the key is absent, or the map not shown.
    pub current: Option<EntryId>,
    /// Whether the update's delete set covers `current`. It does also when a write of the update overwrites it.
    pub deletes_current: bool,
}

/// Whether a map can be seen, before an update is applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Standing {
    /// A root, or every entry from the root down to it is current.
    Shown,
    /// It, or a map that it lies in, comes with the update; which of several new maps is shown is known afterwards.
    New,
    /// It was overwritten or deleted: what is written into it is lost.
    Hidden,
}

/// One new item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// The item. Several writes that the update carries as one struct count as their last.
    pub id: EntryId,
    /// The nearest item that it was written over, by origin, and that was known before the update.
    pub base: Option<EntryId>,
    /// What was written.
    pub content: Content,
    /// Whether the one who wrote it, or the first of the update's writes that it was written over, had not seen
    /// [`Touch::current`].
    pub is_concurrent: bool,
    /// Whether another write of the update was written over it.
    pub is_superseded: bool,
    /// Whether it arrives deleted: overwritten or deleted by its writer, or lost already on the way.
    pub is_deleted_here: bool,
}

/// What an item holds; ranges are those of bytes in the update.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// A plain value, for [`read_any`].
    Any(Range<usize>),
    /// The bytes of a byte array.
    Bytes(Range<usize>),
    /// A new shared type: one of [`ContentKinds::MAP`], [`ContentKinds::TEXT`], …
    Type(ContentKinds),
    /// Nothing any more: it was deleted, and its value is not in the update.
    Gone,
    /// What no client puts into a map: text, marks, embedded objects; and subdocuments.
    Other,
}

impl Written {
    /// The plain value, if it is one; `update` is what was surveyed.
    #[must_use]
    pub fn value(&self, update: &[u8]) -> Option<AnyValue> {
        match &self.content {
            Content::Any(range) => read_any(update.get(range.clone())?),
            Content::Bytes(range) => Some(AnyValue::Bytes(update.get(range.clone())?.to_vec())),
            Content::Type(_) | Content::Gone | Content::Other => None,
        }
    }
}

impl Touch {
    /// The writes over which nothing in the update was written: several where it brings what several wrote.
    pub fn last_writes(&self) -> impl Iterator<Item = &Written> {
        self.writes.iter().filter(|written| !written.is_superseded)
    }

    /// Whether writers of the same update did not know of each other: two branches begin at the same base. Branches of
    /// different bases say nothing of each other, but only one of them can begin at `current`; the others are concurrent.
    #[must_use]
    pub fn has_rivals(&self) -> bool {
        let mut bases: Vec<_> = self.last_writes().map(|written| written.base).collect();
        bases.sort_unstable();
        bases.windows(2).any(|pair| pair[0] == pair[1])
    }

    /// Whether a key comes that was absent before. Too often rather than too seldom: the map may turn out hidden.
    #[must_use]
    pub fn adds_key(&self) -> bool {
        self.current.is_none()
            && self.standing != Standing::Hidden
            && self.writes.iter().any(|written| !written.is_deleted_here)
    }
}

/// What a root map gains by an update.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Gain {
    /// Keys of its own.
    pub keys: usize,
    /// Keys of its own and of all maps below it.
    pub entries: usize,
}

/// What each root map gains by the touches of one update; roots that gain nothing are left out.
#[must_use]
pub fn gains(touches: &[Touch]) -> BTreeMap<Arc<str>, Gain> {
    let mut gains = BTreeMap::<Arc<str>, Gain>::new();
    for touch in touches.iter().filter(|touch| touch.adds_key()) {
        let gain = gains.entry(touch.path[0].clone()).or_default();
        gain.entries += 1;
        gain.keys += usize::from(touch.path.len() == 2);
    }
    gains
}
