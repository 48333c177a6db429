//! From a transaction to what a room is told about it.
//!
//! Which events follow, in which order, with which content: decided by the change alone, so that the same log always gives
//! the same events under the same numbers. Somebody who hears all of them can keep the table: `docs/EVENTS.md` says how.

mod channel;
pub(super) mod component;
mod json;
mod nested;
mod table;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;

use crate::event::Happening;
use crate::name::DocName;
use crate::name::RoomName;
use crate::store::Epoch;
use crate::store::Seq;

use super::change::Author;
use super::change::ChangeSet;
use super::change::Changed;
use super::change::RowChange;
use super::change::Side;

/// Records in one `records:updated`: a few hundred kilobytes for wide tables. More of them make more events.
pub const RECORDS_PER_EVENT: usize = 500;

/// Every name that [`happenings`] and [`document_deleted`] use.
pub const NAMES: [&str; 33] = [
    "component:created",
    "component:deleted",
    "component:nested-created",
    "component:nested-deleted",
    "component:nested-updated",
    "component:updated",
    "document:changed",
    "document:deleted",
    "error:validation",
    "field:created",
    "field:deleted",
    "field:restored",
    "field:updated",
    "grid:cell-edited",
    "grid:column-moved",
    "grid:column-resized",
    "grid:conflict",
    "grid:row-moved",
    "grid:row-resized",
    "grid:text-edited",
    "import:progress",
    "message:deleted",
    "message:edited",
    "message:restored",
    "message:sent",
    "message:status",
    "record:created",
    "record:deleted",
    "record:restored",
    "record:updated",
    "records:updated",
    "table:changed",
    "view:changed",
];

/// Where documents tell what happened to them. Stands here because rooms stand below documents.
pub trait Publish: Send + Sync {
    /// The room of a document that was just loaded, whose last durable record is `last`. Held while it is loaded, so that
    /// events beside the log get numbers behind that of the last record.
    fn open(&self, doc: &DocName, epoch: Epoch, last: Seq) -> Arc<dyn Publisher>;
}

/// The room of one document.
pub trait Publisher: Send + Sync {
    /// A record is durable: once for each, in order. Costs little, as nothing is encoded before somebody listens.
    fn changed(&self, epoch: Epoch, seq: Seq, change: ChangeSet);
    /// Something happened that is not in the log, at this time (milliseconds since 1970, UTC).
    fn tell(&self, author: &Author, at_ms: u64, happenings: Vec<Happening>);
    /// Whether somebody listens, or may go on to listen behind what was told: otherwise what costs much to find out need not
    /// be told.
    fn is_heard(&self) -> bool {
        true
    }
    /// Somebody came, went or says something else of itself. Never kept. Costs little while nobody listens.
    fn presence(&self, peer: u64, at_ms: u64, presence: Presence);
}

/// What one connection shows of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Presence {
    /// It came in. The same connection may come in again, and nothing changes.
    Joined {
        /// Who it is; `None` where nobody is signed in.
        user: Option<Arc<str>>,
        /// The name that others see.
        name: Option<Arc<str>>,
        /// The address that others see.
        email: Option<Arc<str>>,
    },
    /// One of its Yjs clients shows this state (JSON text, at most 8 KiB); `None`: it shows nothing any more.
    State {
        /// The client.
        client: u64,
        /// Its state.
        state: Option<Bytes>,
    },
    /// It left, with all its clients.
    Left,
}

/// Where nobody listens.
#[derive(Debug, Clone, Copy)]
pub struct Unheard;

impl Publish for Unheard {
    fn open(&self, _: &DocName, _: Epoch, _: Seq) -> Arc<dyn Publisher> {
        Arc::new(Self)
    }
}

impl Publisher for Unheard {
    fn changed(&self, _: Epoch, _: Seq, _: ChangeSet) {}
    fn tell(&self, _: &Author, _: u64, _: Vec<Happening>) {}
    fn is_heard(&self) -> bool {
        false
    }
    fn presence(&self, _: u64, _: u64, _: Presence) {}
}

/// What the room is told about a change.
#[must_use]
pub fn happenings(doc: &DocName, change: &ChangeSet) -> Vec<Happening> {
    let (key, id) = own_id(doc);
    let mut all = Vec::new();
    walk(doc, change, &mut |happening| all.push(happening().id(key, id)));
    all
}

/// What rooms other than the document's own are told about a change: the thread of a new message, and the entity that a
/// component belongs to. Costs nothing for tables. A name that cannot be a room's is left out, and so are messages that are
/// not told one by one.
#[must_use]
pub fn elsewhere(doc: &DocName, change: &ChangeSet) -> Vec<(RoomName, Vec<Happening>)> {
    let (key, id) = own_id(doc);
    let mut rooms: BTreeMap<String, Vec<Happening>> = BTreeMap::new();
    match doc.kind() {
        Some("channel") => {
            for (message, row) in table::rows(change).take(RECORDS_PER_EVENT) {
                let Some(thread) = channel::thread(row) else { continue };
                let told = channel::sent(message, row, change).id(key, id);
                rooms.entry(format!("thread:{thread}")).or_default().push(told);
            }
        }
        Some("component") => {
            if let (Some(entity), Some(row)) = (&change.entity, change.rows.get(component::SELF)) {
                let told = rooms.entry(format!("entity:{}:{}", entity.kind, entity.id)).or_default();
                component::walk_self(id, row, change, &mut |happening| told.push(happening().id(key, id)));
            }
        }
        _ => {}
    }
    let named = rooms.into_iter().filter_map(|(room, told)| Some((RoomName::parse(&room).ok()?, told)));
    named.filter(|(_, told)| !told.is_empty()).collect()
}

/// How many [`happenings`] there are, without making them.
#[must_use]
pub fn count(doc: &DocName, change: &ChangeSet) -> usize {
    let mut count = 0;
    walk(doc, change, &mut |_| count += 1);
    count
}

/// About how many bytes the events of a change take.
#[must_use]
pub fn weight(change: &ChangeSet) -> usize {
    let changed = |changed: &Changed| 2 * value_weight(&changed.old) + 4 * value_weight(&changed.new) + 500;
    let row = |row: &RowChange| {
        let cells: usize = row.cells.values().map(changed).sum();
        let components = row.components.values().flat_map(|component| component.changed.values());
        let components: usize = components.map(changed).sum();
        500 + cells + components + 500 * (row.texts.len() + row.components.len())
    };
    let rows: usize = change.rows.values().map(|changed| row(changed)).sum();
    let fields = change.fields.values().flat_map(|field| field.changed.values());
    let fields: usize = fields.map(changed).sum::<usize>() + 500 * change.fields.len();
    let views: usize = change.views.values().flatten().map(|view| 500 + value_weight(view)).sum();
    let meta: usize = change.meta.values().map(|value| 500 + value_weight(value)).sum();
    let side = |side: &Side| 2 * value_weight(&side.value);
    let overwrites: usize = change.overwrites.iter().map(|lost| 1000 + side(&lost.winner) + side(&lost.loser)).sum();
    let repaired: usize = change.repaired.iter().map(|repair| 500 + 2 * value_weight(&repair.value)).sum();
    rows + fields
        + views
        + meta
        + overwrites
        + repaired
        + change.roots.iter().map(|root| 500 + root.len()).sum::<usize>()
}

/// About how many bytes a value takes.
#[must_use]
pub fn value_weight(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) => 8,
        Value::Number(_) => 24,
        Value::String(text) => text.len() + 24,
        Value::Array(items) => items.iter().map(value_weight).sum::<usize>() + 24,
        Value::Object(entries) => {
            entries.iter().map(|(key, value)| key.len() + 24 + value_weight(value)).sum::<usize>() + 24
        }
    }
}

/// What the room is told while records are imported: how many lines were read, and whether they are there.
#[must_use]
pub fn import_progress(doc: &DocName, records: usize, state: ImportState) -> Happening {
    let (key, id) = own_id(doc);
    let state = match state {
        ImportState::Reading => "reading",
        ImportState::Done => "done",
        ImportState::Refused => "refused",
    };
    Happening::new("import:progress").id(key, id).both("records", records).both("state", state)
}

/// How far an import is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImportState {
    /// Its lines are being read; none is in the table yet.
    Reading,
    /// All of them are in the table.
    Done,
    /// None of them is.
    Refused,
}

/// What the room is told when the document was deleted.
#[must_use]
pub fn document_deleted(doc: &DocName) -> Vec<Happening> {
    let (key, id) = own_id(doc);
    let of_component = (doc.kind() == Some("component")).then(component::deleted);
    let told = of_component.into_iter().chain([Happening::new("document:deleted")]);
    told.map(|told| told.id(key, id)).collect()
}

/// Under which name the document's own id stands: `tableId`, `componentId`, `channelId`, or `documentId`.
fn own_id(doc: &DocName) -> (&'static str, &str) {
    let name = doc.as_str();
    let rest = name.split_once(':').map_or(name, |(_, rest)| rest);
    match doc.kind() {
        Some("table") => ("tableId", rest),
        Some("component") => ("componentId", rest),
        Some("channel") => ("channelId", rest),
        _ => ("documentId", name),
    }
}

/// Takes what makes an event; whoever only counts does not make it.
type Tell<'a> = &'a mut dyn FnMut(&dyn Fn() -> Happening);

fn walk(doc: &DocName, change: &ChangeSet, tell: Tell<'_>) {
    match doc.kind() {
        Some("component") => component::walk(own_id(doc).1, change, tell),
        Some("channel") => channel::walk(change, tell),
        _ => table::walk(change, tell),
    }
}
