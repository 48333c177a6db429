//! From a transaction to what a room is told about it.
//!
//! Which events follow, in which order, with which content: decided by the change alone, so that the same log always gives
//! the same events under the same numbers. Somebody who hears all of them can keep the table: `docs/EVENTS.md` says how.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use crate::event::Happening;
use crate::name::DocName;
use crate::store::Epoch;
use crate::store::Seq;

use super::change::Author;
use super::change::ChangeSet;
use super::change::Changed;
use super::change::ComponentChange;
use super::change::FieldChange;
use super::change::Life;
use super::change::Overwrite;
use super::change::Repair;
use super::change::RowChange;
use super::change::Side;

/// Records in one `records:updated`: a few hundred kilobytes for wide tables. More of them make more events.
pub const RECORDS_PER_EVENT: usize = 500;

/// Every name that [`happenings`] and [`document_deleted`] use.
pub const NAMES: [&str; 25] = [
    "component:nested-created",
    "component:nested-deleted",
    "component:nested-updated",
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
    walk(change, &mut |happening| all.push(happening().id(key, id)));
    all
}

/// How many [`happenings`] there are, without making them.
#[must_use]
pub fn count(change: &ChangeSet) -> usize {
    let mut count = 0;
    walk(change, &mut |_| count += 1);
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
pub fn document_deleted(doc: &DocName) -> Happening {
    let (key, id) = own_id(doc);
    Happening::new("document:deleted").id(key, id)
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

fn walk(change: &ChangeSet, tell: Tell<'_>) {
    if !change.meta.is_empty() {
        tell(&|| Happening::new("table:changed").with("changed", object(&change.meta, Value::clone)));
    }
    for (id, field) in &change.fields {
        walk_field(id, field, tell);
    }
    for (id, view) in &change.views {
        tell(&|| Happening::new("view:changed").id("viewId", &**id).with("view", view.clone().unwrap_or_default()));
    }
    match change.rows.len() {
        0 | 1 => change.rows.iter().for_each(|(id, row)| walk_row(id, row, change, tell)),
        _ => walk_rows(change, tell),
    }
    if !change.roots.is_empty() {
        let roots = || change.roots.iter().map(|root| Value::from(&**root)).collect::<Vec<_>>();
        tell(&|| Happening::new("document:changed").with("roots", roots()));
    }
    for overwrite in &change.overwrites {
        walk_overwrite(overwrite, tell);
    }
    for repair in &change.repaired {
        walk_repair(repair, tell);
    }
}

/// The one who wrote is told; the room, where nobody is signed in.
fn walk_repair(repair: &Repair, tell: Tell<'_>) {
    tell(&|| {
        let told = Happening::new("error:validation")
            .id("recordId", &*repair.row)
            .id("fieldId", &*repair.field)
            .both("value", repair.value.clone())
            .with("rule", repair.rule)
            .with("reverted", true);
        match &repair.user {
            Some(user) => told.to(user.clone()),
            None => told,
        }
    });
}

// ---- fields ------------------------------------------------------------------------------------------------------

fn walk_field(id: &Arc<str>, field: &FieldChange, tell: Tell<'_>) {
    let on = |name: &'static str| Happening::new(name).id("fieldId", &**id);
    match field.life {
        Some(Life::Created) => {
            return tell(&|| {
                let mut shown = object(&field.changed, |changed| changed.new.clone());
                shown.insert("id".to_owned(), Value::from(&**id));
                on("field:created").with("field", shown)
            });
        }
        Some(Life::Purged) => return tell(&|| on("field:deleted").with("soft", false)),
        Some(Life::Deleted | Life::Restored) | None => {}
    }
    for (key, name) in [("width", "grid:column-resized"), ("order", "grid:column-moved")] {
        if let Some(changed) = field.changed.get(key) {
            tell(&|| on(name).both(key, changed.new.clone()).with("previous", changed.old.clone()));
        }
    }
    let has_other = field.changed.keys().any(|key| is_property(key));
    if has_other {
        tell(&|| {
            let others = field.changed.iter().filter(|(key, _)| is_property(key));
            let (now, before) = split(others.map(|(key, changed)| (*key, changed)));
            on("field:updated").with("changed", now).with("previous", before)
        });
    }
    match field.life {
        Some(Life::Deleted) => tell(&|| on("field:deleted").with("soft", true)),
        Some(Life::Restored) => tell(&|| on("field:restored")),
        Some(Life::Created | Life::Purged) | None => {}
    }
}

/// Whether a change of it is told by `field:updated` and not by an event of its own.
fn is_property(key: &str) -> bool {
    !matches!(key, "width" | "order")
}

// ---- one record --------------------------------------------------------------------------------------------------

fn walk_row(id: &Arc<str>, row: &RowChange, change: &ChangeSet, tell: Tell<'_>) {
    let on = |name: &'static str| on_record(name, id, row);
    match row.life {
        Some(Life::Created) => tell(&|| on("record:created").both("record", created(id, row, change))),
        Some(Life::Purged) => return tell(&|| on("record:deleted").with("soft", false)),
        Some(Life::Deleted | Life::Restored) | None => walk_content(id, row, tell),
    }
    for (field, length) in &row.texts {
        tell(&|| on("grid:text-edited").id("fieldId", &**field).with("length", *length));
    }
    for (component, changed) in &row.components {
        tell(&|| of_component(on(component_event(changed)), component, changed, row, change));
    }
    match row.life {
        Some(Life::Deleted) => tell(&|| on("record:deleted").with("soft", true)),
        Some(Life::Restored) => tell(&|| on("record:restored")),
        Some(Life::Created | Life::Purged) | None => {}
    }
}

/// What changed of a record that was there before.
fn walk_content(id: &Arc<str>, row: &RowChange, tell: Tell<'_>) {
    let on = |name: &'static str| on_record(name, id, row);
    for (field, cell) in &row.cells {
        tell(&|| {
            let edited = on("grid:cell-edited").id("fieldId", &**field).both("value", cell.new.clone());
            edited.with("previous", cell.old.clone())
        });
    }
    let says_nothing_else = row.order.is_none()
        && row.height.is_none()
        && row.texts.is_empty()
        && row.components.is_empty()
        && row.life.is_none();
    // A version that nothing else explains is told too, so that a listener's versions are right.
    if !row.cells.is_empty() || says_nothing_else {
        tell(&|| {
            let (now, before) = split(row.cells.iter().map(|(field, cell)| (&**field, cell)));
            on("record:updated").with("changed", now).with("previous", before)
        });
    }
    let places = [("order", "grid:row-moved", &row.order), ("height", "grid:row-resized", &row.height)];
    for (key, name, changed) in places {
        if let Some(changed) = changed {
            tell(&|| on(name).both(key, changed.new.clone()).with("previous", changed.old.clone()));
        }
    }
}

fn on_record(name: &'static str, id: &Arc<str>, row: &RowChange) -> Happening {
    Happening::new(name).id("recordId", &**id).both("version", row.version).by(row.user.clone())
}

/// A new record as a reader sees it.
fn created(id: &Arc<str>, row: &RowChange, change: &ChangeSet) -> Value {
    let cells = row.cells.iter().filter(|(_, cell)| !cell.new.is_null());
    let cells: Map<String, Value> = cells.map(|(field, cell)| ((**field).to_owned(), cell.new.clone())).collect();
    let new = |changed: &Option<Changed>| changed.as_ref().map_or(Value::Null, |changed| changed.new.clone());
    json!({
        "id": &**id,
        "cells": cells,
        "order": new(&row.order),
        "height": new(&row.height),
        "version": row.version,
        "deleted": row.is_deleted,
        "createdAt": crate::clock::rfc3339(change.at_ms),
        "createdBy": who(row, change),
    })
}

fn who<'a>(row: &'a RowChange, change: &'a ChangeSet) -> Option<&'a str> {
    row.user.as_deref().or(change.author.user.as_deref())
}

// ---- nested components -------------------------------------------------------------------------------------------

fn component_event(changed: &ComponentChange) -> &'static str {
    match changed.life {
        Some(Life::Created | Life::Restored) => "component:nested-created",
        Some(Life::Deleted | Life::Purged) => "component:nested-deleted",
        None => "component:nested-updated",
    }
}

/// Adds what the event of a component says, in the words of the older clients.
fn of_component(
    happening: Happening,
    id: &Arc<str>,
    component: &ComponentChange,
    row: &RowChange,
    change: &ChangeSet,
) -> Happening {
    let record = happening.fields.get("recordId").cloned().unwrap_or_default();
    let happening = happening.id("rowId", record).id("nestedComponentId", &**id);
    let happening = happening.id("parentId", component.parent.as_deref());
    let who = who(row, change);
    let (now, before) = split(component.changed.iter().map(|(key, changed)| (&**key, changed)));
    match component.life {
        Some(Life::Created | Life::Restored) => {
            let mut shown = now;
            shown.insert("id".to_owned(), Value::from(&**id));
            let restored = component.life == Some(Life::Restored);
            happening.both("nestedComponent", shown).both("createdBy", who).with("restored", restored)
        }
        Some(Life::Deleted | Life::Purged) => happening.both("deletedBy", who),
        None => happening.both("updates", now).with("previous", before).both("updatedBy", who),
    }
}

// ---- many records ------------------------------------------------------------------------------------------------

fn walk_rows(change: &ChangeSet, tell: Tell<'_>) {
    let rows: Vec<_> = change.rows.iter().map(|(id, row)| (id, &**row)).collect();
    for rows in rows.chunks(RECORDS_PER_EVENT) {
        tell(&|| records_updated(rows, change));
    }
}

/// A record may stand in `updated` and in `deleted` or `restored`: it was changed first.
fn records_updated(rows: &[(&Arc<str>, &RowChange)], change: &ChangeSet) -> Happening {
    let [mut created_rows, mut updated, mut deleted, mut restored] = [const { Vec::new() }; 4];
    for (id, row) in rows {
        let line = |more: Value| line(id, row, more);
        match row.life {
            Some(Life::Created) => created_rows.push(with_parts(created(id, row, change), row)),
            Some(Life::Purged) => deleted.push(line(json!({"soft": false}))),
            Some(Life::Deleted | Life::Restored) | None => {
                let only_lives = row.cells.is_empty() && row.order.is_none() && row.height.is_none();
                if row.life.is_none() || !only_lives || !row.texts.is_empty() || !row.components.is_empty() {
                    updated.push(line(with_parts(content(row), row)));
                }
                match row.life {
                    Some(Life::Deleted) => deleted.push(line(json!({"soft": true}))),
                    Some(_) => restored.push(line(json!({}))),
                    None => {}
                }
            }
        }
    }
    let happening = Happening::new("records:updated").with("created", created_rows).with("updated", updated);
    happening.with("deleted", deleted).with("restored", restored)
}

/// One record's line in `records:updated`.
fn line(id: &Arc<str>, row: &RowChange, mut more: Value) -> Value {
    more["recordId"] = Value::from(&**id);
    more["version"] = Value::from(row.version);
    if let Some(user) = &row.user {
        more["userId"] = Value::from(&**user);
    }
    more
}

fn content(row: &RowChange) -> Value {
    let (now, before) = split(row.cells.iter().map(|(field, cell)| (&**field, cell)));
    let mut content = json!({"changed": now, "previous": before});
    for (key, changed) in [("order", &row.order), ("height", &row.height)] {
        if let Some(changed) = changed {
            content[key] = changed.new.clone();
        }
    }
    content
}

/// Adds texts and components, where there are any.
fn with_parts(mut shown: Value, row: &RowChange) -> Value {
    if !row.texts.is_empty() {
        shown["texts"] = object(&row.texts, |length| Value::from(*length)).into();
    }
    if !row.components.is_empty() {
        let components = row.components.iter().map(|(id, changed)| {
            let (now, before) = split(changed.changed.iter().map(|(key, changed)| (&**key, changed)));
            let (_, event) = component_event(changed).split_once("nested-").unwrap_or_default();
            json!({"id": &**id, "parentId": changed.parent.as_deref(), "event": event, "changed": now, "previous": before})
        });
        shown["components"] = components.collect();
    }
    shown
}

// ---- overwrites --------------------------------------------------------------------------------------------------

/// Both are told; one who is not signed in cannot be.
fn walk_overwrite(overwrite: &Overwrite, tell: Tell<'_>) {
    let Overwrite { row, field, winner, loser, resolution, .. } = overwrite;
    let users = [&winner.user, &loser.user];
    let both_are_one = users[0] == users[1];
    for user in users.into_iter().flatten().take(if both_are_one { 1 } else { 2 }) {
        tell(&|| {
            let side = |side: &Side| json!({"value": side.value, "userId": side.user.as_deref()});
            let mut lost = side(loser);
            lost["writtenOffline"] = Value::from(loser.offline);
            Happening::new("grid:conflict")
                .id("recordId", &**row)
                .id("fieldId", &**field)
                .with("winner", side(winner))
                .with("loser", lost)
                .with("resolution", resolution.word())
                .to(user.clone())
        });
    }
}

// ---- JSON --------------------------------------------------------------------------------------------------------

fn object<V>(entries: &BTreeMap<impl AsRef<str>, V>, value: impl Fn(&V) -> Value) -> Map<String, Value> {
    entries.iter().map(|(key, entry)| (key.as_ref().to_owned(), value(entry))).collect()
}

/// What is now, and what was before.
fn split<'a>(entries: impl Iterator<Item = (&'a str, &'a Changed)>) -> (Map<String, Value>, Map<String, Value>) {
    let mut sides = (Map::new(), Map::new());
    for (key, changed) in entries {
        sides.0.insert(key.to_owned(), changed.new.clone());
        sides.1.insert(key.to_owned(), changed.old.clone());
    }
    sides
}
