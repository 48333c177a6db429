//! What one transaction changed, as people see it.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::Value;

/// Who made a transaction, and how.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Author {
    /// The `sub` of the token; `None` under `--dev` and for the server itself.
    pub user: Option<Arc<str>>,
    /// On which way it came.
    pub source: Source,
    /// What the caller named it, to find its events again.
    pub correlation_id: Option<Arc<str>>,
    /// The connection on which it came, where the others are to hear of it and that one is not.
    pub peer: Option<u64>,
}

/// On which way a change came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub enum Source {
    /// Somebody edits, now.
    #[default]
    UserAction,
    /// A request of an application.
    Api,
    /// The server itself: a repair, or a policy.
    System,
    /// An import.
    Import,
    /// Somebody who was offline brings what was made meanwhile.
    Offline,
}

impl Source {
    /// The word in events.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::UserAction => "user_action",
            Self::Api => "api",
            Self::System => "system",
            Self::Import => "import",
            Self::Offline => "offline",
        }
    }
}

/// What one transaction changed. Everything is sorted, so equal histories give equal changes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ChangeSet {
    /// Who made it.
    pub author: Author,
    /// When it was accepted: milliseconds since 1970, UTC.
    pub at_ms: u64,
    /// Records by id. Boxed: a node of the map has room for eleven, and nearly every transaction changes one.
    pub rows: BTreeMap<Arc<str>, Box<RowChange>>,
    /// Fields by id.
    pub fields: BTreeMap<Arc<str>, FieldChange>,
    /// Views that changed in any way; the value is the view as it is now, `None` for one that is gone.
    pub views: BTreeMap<Arc<str>, Option<Value>>,
    /// Keys of the root `meta` with their values now, [`Value::Null`] for one that is gone.
    pub meta: BTreeMap<Arc<str>, Value>,
    /// Other roots that changed: free content.
    pub roots: BTreeSet<Arc<str>>,
    /// What was lost although somebody wrote it.
    pub overwrites: Vec<Overwrite>,
    /// Cells of it that their fields do not take. The server puts them back in its next transaction, which has the same
    /// list in `repaired`.
    pub wrong: Vec<Repair>,
    /// What a request had written, the server had acknowledged, and an edit that had not seen it replaced: record, raw key
    /// and value. The server writes it again.
    pub again: Vec<(Arc<str>, Arc<str>, Value)>,
    /// What this transaction of the server puts back.
    pub repaired: Vec<Repair>,
    /// Where the component of this document belongs, when its record `self` changed and says so. Boxed: few have one.
    pub entity: Option<Box<Entity>>,
}

/// What a component belongs to: what its record `self` shows as `entityType` and `entityId`, both texts that are not empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entity {
    /// `entityType`.
    pub kind: String,
    /// `entityId`.
    pub id: String,
}

impl ChangeSet {
    /// Whether nothing became visible.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
            && self.fields.is_empty()
            && self.views.is_empty()
            && self.meta.is_empty()
            && self.roots.is_empty()
            && self.overwrites.is_empty()
            && self.repaired.is_empty()
    }

    /// Whether nothing but free content changed.
    #[must_use]
    pub fn is_free_content(&self) -> bool {
        !self.roots.is_empty()
            && self.rows.is_empty()
            && self.fields.is_empty()
            && self.views.is_empty()
            && self.meta.is_empty()
            && self.overwrites.is_empty()
            && self.repaired.is_empty()
    }
}

/// What became of one record.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RowChange {
    /// Its version after the change.
    pub version: u64,
    /// Who changed it: the user to whom the client id of the writes is bound, where that is another than the author.
    pub user: Option<Arc<str>>,
    /// Whether it came or went.
    pub life: Option<Life>,
    /// Whether it is marked as deleted after the change. A record can come with the mark.
    pub is_deleted: bool,
    /// Cells by field id: what was shown and what is shown now; [`Value::Null`] for an empty cell. Of a created record, all
    /// that it has.
    pub cells: BTreeMap<Arc<str>, Changed>,
    /// Its order key, when it moved.
    pub order: Option<Changed>,
    /// Its height in pixels.
    pub height: Option<Changed>,
    /// Fields whose text root (`t/…`, `f/…`) changed, with its length in UTF-16 units where it is known.
    pub texts: BTreeMap<Arc<str>, Option<u64>>,
    /// Nested components by id.
    pub components: BTreeMap<Arc<str>, ComponentChange>,
}

/// How a record, a field or a component came or went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    /// It is there for the first time.
    Created,
    /// It was marked as deleted; its content is kept.
    Deleted,
    /// The mark was taken away.
    Restored,
    /// It is gone with its content.
    Purged,
}

/// A value before and after.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Changed {
    /// [`Value::Null`] when there was none.
    pub old: Value,
    /// [`Value::Null`] when there is none.
    pub new: Value,
}

/// What became of one field.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FieldChange {
    /// Whether it came or went.
    pub life: Option<Life>,
    /// Its properties (`name`, `type`, `width`, `order`, `options`, …) before and after. Of a created one, all.
    pub changed: BTreeMap<&'static str, Changed>,
}

/// What became of one nested component.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ComponentChange {
    /// Whether it came or went.
    pub life: Option<Life>,
    /// The component that it lies in.
    pub parent: Option<Arc<str>>,
    /// Its properties before and after; those in `props` as `props/<key>`. Of one that came or came back, all.
    pub changed: BTreeMap<Arc<str>, Changed>,
}

/// Two wrote one cell without knowing of each other, and one of them lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overwrite {
    /// The record.
    pub row: Arc<str>,
    /// The field.
    pub field: Arc<str>,
    /// Whose value stands.
    pub winner: Side,
    /// Whose value is gone.
    pub loser: Side,
    /// What the server did about it.
    pub resolution: Resolution,
    /// The raw key of the record's map.
    pub key: Arc<str>,
    /// Whether what arrived last won.
    pub arrived_won: bool,
}

/// One of two who wrote the same cell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Side {
    /// What they wrote.
    pub value: Value,
    /// Who; `None` where nobody was signed in.
    pub user: Option<Arc<str>>,
    /// Whether it was written offline: it came with a reconnect.
    pub offline: bool,
}

/// What the server did about two who wrote the same cell: the table's setting `staleOffline`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Resolution {
    /// Nothing: the winner is that of the CRDT.
    #[default]
    Crdt,
    /// What arrived last was written again.
    LatestArrival,
    /// What was written online was written again.
    OnlineWins,
    /// What a request had written was written again: it was acknowledged, and the edit had not seen it.
    Acknowledged,
}

impl Resolution {
    /// The word in settings and events.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Crdt => "crdt",
            Self::LatestArrival => "latest-arrival",
            Self::OnlineWins => "online-wins",
            Self::Acknowledged => "acknowledged",
        }
    }
}

/// A cell of an edit that its field does not take, put back by the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repair {
    /// The record.
    pub row: Arc<str>,
    /// The field.
    pub field: Arc<str>,
    /// The raw key of the record's map.
    pub key: Arc<str>,
    /// What was written.
    pub value: Value,
    /// What was there before, and is put back; [`Value::Null`] when the key is taken away.
    pub was: Value,
    /// Which rule it broke: a word of [`crate::table::field::Rule`].
    pub rule: &'static str,
    /// Who wrote it, where that is known: they are told.
    pub user: Option<Arc<str>>,
}
