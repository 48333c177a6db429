//! How large a table may become, whoever writes. Single cells and records of Yjs clients are bounded by the repair of
//! what is wrong (`register`) and by the size of the document.

use serde_json::Value;

use crate::table::content::Components;
use crate::table::content::Raw;
use crate::table::refused::Refused;
use crate::table::state::Table;

/// Most records that are not deleted.
pub(crate) const ROWS_MAX: usize = 100_000;
/// Most cells that hold something, also of records that are marked as deleted.
pub(crate) const CELLS_MAX: usize = 1_000_000;
/// Most fields that are not deleted.
pub(crate) const FIELDS_MAX: usize = 500;
/// Most bytes in the map of one record, keys included.
pub(crate) const ROW_BYTES_MAX: usize = 128 * 1024;

/// Most nested components of one record that are not deleted.
pub(crate) const COMPONENTS_MAX: usize = 500;
/// Most bytes in all nested components of one record, deleted ones and keys included.
pub(crate) const COMPONENTS_BYTES_MAX: usize = 1024 * 1024;

/// Refuses `more` records beyond [`ROWS_MAX`].
pub(crate) fn check_rows(table: &Table, more: usize) -> Result<(), Refused> {
    let is_over = table.live.saturating_add(more) > ROWS_MAX;
    if is_over { Err(Refused::too_large(ROWS_MAX, "records in a table")) } else { Ok(()) }
}

/// Refuses `more` cells beyond [`CELLS_MAX`].
pub(crate) fn check_cells(table: &Table, more: usize) -> Result<(), Refused> {
    let is_over = more > 0 && table.cells.saturating_add(more) > CELLS_MAX;
    if is_over { Err(Refused::too_large(CELLS_MAX, "cells in a table")) } else { Ok(()) }
}

/// Refuses `more` fields beyond [`FIELDS_MAX`].
pub(crate) fn check_fields(table: &Table, more: usize) -> Result<(), Refused> {
    let live = table.fields.values().filter(|field| !field.deleted).count();
    let is_over = live.saturating_add(more) > FIELDS_MAX;
    if is_over { Err(Refused::too_large(FIELDS_MAX, "fields in a table")) } else { Ok(()) }
}

/// Refuses one more nested component beside those that are there.
pub(crate) fn check_components(there: &Components) -> Result<(), Refused> {
    let live = there.values().filter(|component| !component.contains_key("$d")).count();
    if live < COMPONENTS_MAX { Ok(()) } else { Err(Refused::too_large(COMPONENTS_MAX, "components in a record")) }
}

/// Refuses so many bytes more in the nested components of a record.
pub(crate) fn check_component_bytes(there: &Components, more: usize) -> Result<(), Refused> {
    let entries = there.values().flatten();
    let bytes: usize = entries.map(|(key, value)| entry_bytes(key, value)).sum();
    let is_over = more > 0 && bytes.saturating_add(more) > COMPONENTS_BYTES_MAX;
    if is_over { Err(Refused::too_large(COMPONENTS_BYTES_MAX, "bytes in the components of a record")) } else { Ok(()) }
}

/// Refuses a record whose map would have so many bytes. `path` says which one.
pub(crate) fn check_row_bytes(bytes: usize, path: impl FnOnce() -> String) -> Result<(), Refused> {
    if bytes <= ROW_BYTES_MAX {
        return Ok(());
    }
    let refused = Refused::too_large(ROW_BYTES_MAX, "bytes in a record");
    Err(refused.with("path", path()))
}

/// Refuses what would make a record too large, or one that is larger still.
pub(crate) fn check_row_growth(
    raw: &Raw,
    writes: &[(String, Option<Value>)],
    path: impl FnOnce() -> String,
) -> Result<(), Refused> {
    let bytes = row_bytes_after(raw, writes);
    let is_shrinking = || bytes <= row_bytes_after(raw, &[]);
    if bytes > ROW_BYTES_MAX && is_shrinking() { Ok(()) } else { check_row_bytes(bytes, path) }
}

/// Bytes of a record's map after these keys are set or taken away.
fn row_bytes_after(raw: &Raw, writes: &[(String, Option<Value>)]) -> usize {
    let is_written = |key: &str| writes.iter().any(|(written, _)| written == key);
    let kept = raw.iter().filter(|(key, _)| !is_written(key)).map(|(key, value)| entry_bytes(key, value));
    let set = writes.iter().filter_map(|(key, value)| Some(entry_bytes(key, value.as_ref()?)));
    kept.chain(set).sum()
}

/// Bytes of one entry of a record's map, about as stored.
pub(crate) fn entry_bytes(key: &str, value: &Value) -> usize {
    key.len() + weight(value)
}

fn weight(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) => 1,
        Value::Number(_) => 8,
        Value::String(text) => text.len() + 1,
        Value::Array(items) => items.iter().map(weight).sum::<usize>() + 1,
        Value::Object(entries) => entries.iter().map(|(key, value)| entry_bytes(key, value)).sum::<usize>() + 1,
    }
}
