//! From a command to the keys that it sets: checked against versions and field types, before anything is touched.
//!
//! ```text
//!  Write ─ guard
//!        ─▶ fields    table and field commands ──────────┐
//!        ─▶ records   create, delete, restore ─ cells ───┤
//!        ─▶ patch     ─ conflict (versions)  ─ place ────┼─▶ Plan { puts, report }
//!        ─▶ nested    components of a record ────────────┘    or Refused, and nothing has happened
//! ```
//!
//! A plan is right for the state it was made from: whoever makes it carries it out before anything else happens.

mod cells;
mod conflict;
mod fields;
mod guard;
mod nested;
mod patch;
mod place;
mod records;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use serde_json::Value;
use serde_json::json;

use super::command::Command;
use super::command::Merged;
use super::command::Write;
use super::content::Components;
use super::content::Raw;
use super::refused::Refused;
use super::state::Table;
use crate::store::Epoch;

use cells::Place;
use conflict::Expectation;

/// One key to set, or to take away (`None`).
#[derive(Debug, Clone, PartialEq)]
pub enum Put {
    /// In the root `meta`.
    Meta {
        /// Which key.
        key: &'static str,
        /// Its value.
        value: Option<Value>,
    },
    /// A new map in the root `rows`.
    NewRow {
        /// The record.
        row: Arc<str>,
        /// Its entries.
        entries: Vec<(String, Value)>,
        /// Whether it gets an empty nested map `$k` for components too.
        components: bool,
    },
    /// In the map of a record: `<field>`, `<field>/<flag>`, `<field>#<client>`, `$o`, `$d`, `$h`.
    Cell {
        /// The record.
        row: Arc<str>,
        /// Which key.
        key: String,
        /// Its value.
        value: Option<Value>,
    },
    /// A new map in the map `$k` of a record, which is made if it is not there. Takes the place of one with the same id.
    NewComponent {
        /// The record.
        row: Arc<str>,
        /// The component.
        component: Arc<str>,
        /// Its entries; `props` becomes a nested map.
        content: serde_json::Map<String, Value>,
    },
    /// In the map of a nested component.
    Component {
        /// The record.
        row: Arc<str>,
        /// The component.
        component: Arc<str>,
        /// Which key; `props/<key>` is one of the nested map `props`, which is made if it is not there.
        key: String,
        /// Its value.
        value: Option<Value>,
    },
    /// A new map in the root `cols`.
    NewField {
        /// The field.
        field: Arc<str>,
        /// Its entries.
        entries: Vec<(String, Value)>,
        /// Becomes the nested map `opts`, and `choices` in it another one.
        options: serde_json::Map<String, Value>,
    },
    /// In the map of a field.
    Field {
        /// The field.
        field: Arc<str>,
        /// Which key.
        key: &'static str,
        /// Its value.
        value: Option<Value>,
    },
    /// In the map `opts` of a field, which is made if it is not there.
    FieldOption {
        /// The field.
        field: Arc<str>,
        /// Which key; `choices/<id>` is one of the nested map `choices`, which is made if it is not there.
        key: String,
        /// Its value.
        value: Option<Value>,
    },
}

/// A put as part of an update: its keys, its item and its deletion take about so much beside the value.
const PUT_BYTES: usize = 64;

impl Put {
    /// About how many bytes it adds to the document.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let entries = |entries: &[(String, Value)]| -> usize {
            entries.iter().map(|(key, value)| PUT_BYTES + key.len() + value_bytes(value)).sum()
        };
        let object = |object: &serde_json::Map<String, Value>| -> usize {
            object.values().map(|value| PUT_BYTES + value_bytes(value)).sum()
        };
        PUT_BYTES
            + match self {
                Self::NewRow { entries: all, .. } => entries(all),
                Self::NewComponent { content, .. } => object(content),
                Self::NewField { entries: all, options, .. } => entries(all) + object(options),
                Self::Meta { value, .. }
                | Self::Cell { value, .. }
                | Self::Component { value, .. }
                | Self::Field { value, .. }
                | Self::FieldOption { value, .. } => value.as_ref().map_or(0, value_bytes),
            }
    }
}

fn value_bytes(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) => 1,
        Value::Number(_) => 9,
        Value::String(text) => text.len() + 3,
        Value::Array(items) => items.iter().map(value_bytes).sum::<usize>() + 3,
        Value::Object(entries) => {
            entries.iter().map(|(key, value)| key.len() + 3 + value_bytes(value)).sum::<usize>() + 3
        }
    }
}

/// What a command comes to.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Keys to set, in one transaction; none when everything is as it should be already.
    pub puts: Vec<Put>,
    /// What the caller is shown afterwards.
    pub report: Report,
}

/// What the caller is shown after a command.
#[derive(Debug, Clone, PartialEq)]
pub enum Report {
    /// The table.
    Table,
    /// One field.
    Field(Arc<str>),
    /// These records, in this order.
    Records(Vec<(Arc<str>, Option<Merged>)>),
    /// A nested component, and its record.
    Nested {
        /// The component.
        id: Arc<str>,
        /// The record.
        row: (Arc<str>, Option<Merged>),
    },
}

/// What a plan is made from.
#[derive(Clone, Copy)]
pub struct Sight<'a> {
    /// The document's name, as a conflict tells it.
    pub doc: &'a str,
    /// Which life of the document it is, as a version from another one is told.
    pub epoch: Epoch,
    /// The table.
    pub table: &'a Table,
    /// The map of a record as stored; empty if it is not there.
    pub raw: &'a dyn Fn(&str) -> Raw,
    /// The nested components of a record as stored; none if it is not there.
    pub components: &'a dyn Fn(&str) -> Components,
    /// Milliseconds since 1970, UTC.
    pub now_ms: u64,
}

/// Works out what `write` comes to. `chance` gives any number, evenly.
///
/// # Errors
/// The command cannot be carried out as a whole: then no part of it is.
pub fn plan(sight: &Sight<'_>, write: &Write, chance: &mut dyn FnMut() -> u32) -> Result<Plan, Refused> {
    if let Some(guard) = &write.guard {
        guard::check(sight, guard, &write.command)?;
    }
    let stamp = stamp(sight.now_ms, write.user.as_deref());
    match &write.command {
        Command::CreateTable { title, fields, settings } => {
            fields::create_table(sight, (title.as_deref(), settings.as_ref()), fields, chance)
        }
        Command::AddField(new) => fields::add(sight, new, chance),
        Command::ChangeField { id, patch } => fields::change(sight, id, patch, chance),
        Command::DeleteField { id } => fields::delete(sight, id, stamp),
        Command::CreateRecords { records, import: _ } => records::create(sight, records, Place::Nth, &stamp, chance),
        Command::PatchRecords { records, on_conflict, is_batch } => {
            patch::patch(sight, records, patch::Manner { on_conflict: *on_conflict, is_batch: *is_batch }, chance)
        }
        Command::PutRecord { patch, on_conflict } => patch::put(sight, patch, *on_conflict, &stamp, chance),
        Command::Nested { row, op, expected_version, on_conflict } => {
            let expectation = Expectation::of(*expected_version, *on_conflict);
            nested::plan(sight, (row, op), expectation, stamp, chance)
        }
        Command::DeleteRecord { id, expected_version } => records::delete(sight, id, *expected_version, stamp),
        Command::Flag { row, field, flag } => records::flag(sight, row, field, flag),
        Command::RestoreRecord { id } => records::restore(sight, id),
    }
}

/// When and by whom, as the document keeps it: `{t, by}`. Only a hint there; what counts is what the server keeps beside it.
fn stamp(now_ms: u64, user: Option<&str>) -> Value {
    match user {
        Some(user) => json!({"t": now_ms, "by": user}),
        None => json!({"t": now_ms}),
    }
}

/// An id that nothing has yet.
fn fresh_id(is_taken: impl Fn(&str) -> bool, mut make: impl FnMut() -> String) -> String {
    let mut id = make();
    // A source of chance that repeats itself must not keep us here: then the count makes the difference.
    for count in 0_u64.. {
        if !is_taken(&id) {
            break;
        }
        id = format!("{}{count}", make());
    }
    id
}
