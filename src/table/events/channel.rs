//! The events of channels: documents with one record for each message.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::Map;
use serde_json::Value;

use super::RECORDS_PER_EVENT;
use super::Tell;
use super::json::object;
use super::table;
use super::table::who;
use crate::clock::rfc3339;
use crate::event::Happening;
use crate::table::change::ChangeSet;
use crate::table::change::Changed;
use crate::table::change::Life;
use crate::table::change::RowChange;

/// Fields of a message whose flags are users, and who they are told of.
const STATUSES: [&str; 2] = ["delivered", "read"];
/// Fields of a message that have a place of their own in its events.
const OWN: [&str; 6] = ["text", "threadId", "clientId", "authorId", "delivered", "read"];

pub(super) fn walk(change: &ChangeSet, tell: Tell<'_>) {
    table::walk_frame(change, tell, |tell| {
        for (id, row) in table::rows(change).take(RECORDS_PER_EVENT) {
            walk_message(id, row, change, tell);
        }
        // Nobody chats so fast: this is an import, or the messages of a long journey.
        table::walk_together(table::rows(change).skip(RECORDS_PER_EVENT), change, tell);
    });
}

fn walk_message(id: &Arc<str>, row: &RowChange, change: &ChangeSet, tell: Tell<'_>) {
    let on = |name: &'static str| on_message(name, id, row);
    match row.life {
        Some(Life::Created) => tell(&|| sent(id, row, change)),
        Some(Life::Purged) => return tell(&|| on("message:deleted").with("soft", false)),
        _ => {
            if let Some(text) = row.cells.get("text") {
                tell(&|| on("message:edited").both("text", text.new.clone()).both("editedAt", edited_at(row, change)));
            }
        }
    }
    for status in STATUSES {
        let Some(changed) = row.cells.get(status) else { continue };
        let before = users(&changed.old);
        for user in users(&changed.new).difference(&before) {
            tell(&|| on("message:status").both("status", status).with("userId", *user).by(Some((*user).into())));
        }
    }
    match row.life {
        Some(Life::Restored) => tell(&|| on("message:restored")),
        Some(_) if row.is_deleted => tell(&|| on("message:deleted").with("soft", true)),
        _ => {}
    }
}

/// A new message.
pub(super) fn sent(id: &Arc<str>, row: &RowChange, change: &ChangeSet) -> Happening {
    let cell = |field: &str| row.cells.get(field).map_or(Value::Null, |cell| cell.new.clone());
    let author = Some(cell("authorId")).filter(|author| !author.is_null());
    let mut told = on_message("message:sent", id, row)
        .both("text", cell("text"))
        .both("authorId", author.unwrap_or_else(|| who(row, change).into()))
        .both("createdAt", rfc3339(change.at_ms));
    for field in ["threadId", "clientId"] {
        let value = cell(field);
        told = if value.is_null() { told } else { told.both(field, value) };
    }
    match others(row) {
        others if others.is_empty() => told,
        others => told.with("cells", others),
    }
}

/// The thread of a new message, if it has one.
pub(super) fn thread(row: &RowChange) -> Option<&str> {
    let is_new = row.life == Some(Life::Created);
    row.cells.get("threadId").filter(|_| is_new)?.new.as_str().filter(|thread| !thread.is_empty())
}

fn on_message(name: &'static str, id: &Arc<str>, row: &RowChange) -> Happening {
    Happening::new(name).id("messageId", &**id).both("version", row.version).by(row.user.clone())
}

fn edited_at(row: &RowChange, change: &ChangeSet) -> Value {
    let said = row.cells.get("editedAt").map(|cell| cell.new.clone()).filter(Value::is_string);
    said.unwrap_or_else(|| rfc3339(change.at_ms).into())
}

/// What an application keeps with its messages.
fn others(row: &RowChange) -> Map<String, Value> {
    let mut others = object(&row.cells, |cell: &Changed| cell.new.clone());
    others.retain(|field, value| !value.is_null() && !OWN.contains(&field.as_str()));
    others
}

/// The users of a field of flags: a list of them, or an object where not all flags are `true`.
fn users(shown: &Value) -> BTreeSet<&str> {
    match shown {
        Value::Array(users) => users.iter().filter_map(Value::as_str).collect(),
        Value::Object(flags) => {
            flags.iter().filter(|(_, flag)| **flag == true).map(|(user, _)| user.as_str()).collect()
        }
        _ => BTreeSet::new(),
    }
}
