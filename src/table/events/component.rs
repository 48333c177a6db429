//! The events of components: documents in which the record `self` is the component's own data. Other records are told as
//! those of tables.

use serde_json::Value;

use super::Tell;
use super::json::object;
use super::json::split;
use super::table;
use super::table::who;
use crate::clock::rfc3339;
use crate::event::Happening;
use crate::table::change::ChangeSet;
use crate::table::change::Life;
use crate::table::change::RowChange;

/// The record with the component's own data.
pub(in crate::table) const SELF: &str = "self";

/// `id` is the component's.
pub(super) fn walk(id: &str, change: &ChangeSet, tell: Tell<'_>) {
    table::walk_frame(change, tell, |tell| {
        // Whoever changed it shows it already.
        let peer = change.author.peer;
        let mut tell = |happening: &dyn Fn() -> Happening| {
            tell(&|| match happening() {
                told if told.name == "component:nested-updated" => told.to_others(peer),
                told => told,
            });
        };
        if let Some((own, row)) = change.rows.get_key_value(SELF) {
            walk_self(id, row, change, &mut tell);
            if row.life != Some(Life::Purged) {
                table::walk_parts(own, row, change, &mut tell);
            }
        }
        table::walk_rows(table::rows(change).filter(|(own, _)| ***own != *SELF), change, &mut tell);
    });
}

/// What became of the component's own data.
pub(super) fn walk_self(id: &str, row: &RowChange, change: &ChangeSet, tell: Tell<'_>) {
    let on = |name: &'static str| Happening::new(name).both("version", row.version).by(row.user.clone());
    let who = who(row, change);
    match row.life {
        Some(Life::Created) => tell(&|| {
            let on = on("component:created").both("component", shown(id, row)).both("createdBy", who);
            on.with("createdAt", rfc3339(change.at_ms))
        }),
        life if says_something(row) => tell(&|| {
            let (now, before) = split(row.cells.iter().map(|(field, cell)| (&**field, cell)));
            let on = on("component:updated").both("updates", now).with("previous", before).both("updatedBy", who);
            let on = if life == Some(Life::Restored) { on.with("restored", true) } else { on };
            on.to_others(change.author.peer)
        }),
        _ => {}
    }
    let is_gone = row.life == Some(Life::Purged);
    if is_gone || row.is_deleted && row.life.is_some() {
        tell(&|| on("component:deleted").with("soft", !is_gone).both("deletedBy", who));
    }
}

/// Whether `component:updated` follows. A version that nothing else explains is told too.
fn says_something(row: &RowChange) -> bool {
    match row.life {
        Some(Life::Purged) => false,
        Some(Life::Deleted) => !row.cells.is_empty(),
        Some(Life::Restored) => true,
        _ => !row.cells.is_empty() || row.texts.is_empty() && row.components.is_empty(),
    }
}

/// The component as it came.
fn shown(id: &str, row: &RowChange) -> Value {
    let mut shown = object(&row.cells, |cell| cell.new.clone());
    shown.retain(|_, value| !value.is_null());
    shown.insert("id".to_owned(), id.into());
    shown.into()
}

/// What the room is told when the component's document was deleted.
pub(super) fn deleted() -> Happening {
    Happening::new("component:deleted").with("soft", false)
}
