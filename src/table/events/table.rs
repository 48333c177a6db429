//! The events of tables, and of what other documents of records have in common with them.

use std::sync::Arc;

use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use super::RECORDS_PER_EVENT;
use super::Tell;
use super::json::object;
use super::json::split;
use super::nested;
use crate::event::Happening;
use crate::table::change::ChangeSet;
use crate::table::change::Changed;
use crate::table::change::FieldChange;
use crate::table::change::Life;
use crate::table::change::Overwrite;
use crate::table::change::Repair;
use crate::table::change::RowChange;
use crate::table::change::Side;

/// A record that changed.
pub(super) type Row<'c> = (&'c Arc<str>, &'c RowChange);

pub(super) fn walk(change: &ChangeSet, tell: Tell<'_>) {
    walk_frame(change, tell, |tell| walk_rows(rows(change), change, tell));
}

/// What became of the document as a whole, with what became of its records in its place.
pub(super) fn walk_frame(change: &ChangeSet, tell: Tell<'_>, of_records: impl FnOnce(Tell<'_>)) {
    if !change.meta.is_empty() {
        tell(&|| Happening::new("table:changed").with("changed", object(&change.meta, Value::clone)));
    }
    for (id, field) in &change.fields {
        walk_field(id, field, tell);
    }
    for (id, view) in &change.views {
        tell(&|| Happening::new("view:changed").id("viewId", &**id).with("view", view.clone().unwrap_or_default()));
    }
    of_records(tell);
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

/// The records of a change, by id.
pub(super) fn rows(change: &ChangeSet) -> impl Iterator<Item = Row<'_>> + Clone {
    change.rows.iter().map(|(id, row)| (id, &**row))
}

/// One record is told in its own events, several are told together.
pub(super) fn walk_rows<'c>(rows: impl Iterator<Item = Row<'c>> + Clone, change: &ChangeSet, tell: Tell<'_>) {
    let mut first = rows.clone();
    match (first.next(), first.next()) {
        (None, _) => {}
        (Some((id, row)), None) => walk_row(id, row, change, tell),
        _ => walk_together(rows, change, tell),
    }
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
    walk_parts(id, row, change, tell);
    match row.life {
        Some(Life::Deleted) => tell(&|| on("record:deleted").with("soft", true)),
        Some(Life::Restored) => tell(&|| on("record:restored")),
        Some(Life::Created | Life::Purged) | None => {}
    }
}

/// What a record has beside its cells: texts of their own, and nested components.
pub(super) fn walk_parts(id: &Arc<str>, row: &RowChange, change: &ChangeSet, tell: Tell<'_>) {
    let on = |name: &'static str| on_record(name, id, row);
    for (field, length) in &row.texts {
        tell(&|| on("grid:text-edited").id("fieldId", &**field).with("length", *length));
    }
    for (component, changed) in &row.components {
        tell(&|| nested::told(on(nested::name(changed)), component, changed, who(row, change)));
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

/// Who changed a record.
pub(super) fn who<'a>(row: &'a RowChange, change: &'a ChangeSet) -> Option<&'a str> {
    row.user.as_deref().or(change.author.user.as_deref())
}

// ---- many records ------------------------------------------------------------------------------------------------

pub(super) fn walk_together<'c>(rows: impl Iterator<Item = Row<'c>>, change: &ChangeSet, tell: Tell<'_>) {
    let rows: Vec<_> = rows.collect();
    for rows in rows.chunks(RECORDS_PER_EVENT) {
        tell(&|| records_updated(rows, change));
    }
}

/// A record may stand in `updated` and in `deleted` or `restored`: it was changed first.
fn records_updated(rows: &[Row<'_>], change: &ChangeSet) -> Happening {
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
        shown["components"] = row.components.iter().map(|(id, changed)| nested::line(id, changed)).collect();
    }
    shown
}

// ---- what was lost --------------------------------------------------------------------------------------------------

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
