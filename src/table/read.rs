//! From what is stored to what an application sees.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::Arc;

use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use crate::clock::rfc3339;

use super::column::Column;
use super::column::Columns;
use super::command::Position;
use super::content::Raw;
use super::field;
use super::field::FieldType;
use super::refused::Refused;
use super::state::Row;
use super::state::Table;
use super::view::FieldView;
use super::view::RecordView;
use super::view::Stamp;
use super::view::TableView;

/// One record, deleted or not; `None` when there is none with this id.
#[must_use]
pub fn record_view(table: &Table, id: &str, raw: &Raw) -> Option<RecordView> {
    let (id, row) = table.rows.get_key_value(id)?;
    let mut view = frame(id, row, raw);
    for field in table.fields.values().filter(|field| !field.deleted) {
        show(&mut view, Column::Known(field), raw);
    }
    if !table.is_declared() {
        for id in free_ids(table, raw) {
            show(&mut view, Column::Free(id), raw);
        }
    }
    Some(view)
}

/// A field that is not deleted, or is.
#[must_use]
pub fn field_view(table: &Table, id: &str) -> Option<FieldView> {
    table.fields.get(id).cloned()
}

/// The table itself; `revision` is its position in the log.
#[must_use]
pub fn table_view(table: &Table, revision: u64) -> TableView {
    let mut fields: Vec<_> = table.fields.values().filter(|field| !field.deleted).cloned().collect();
    fields.sort_by(|a, b| (&a.order, &a.id).cmp(&(&b.order, &b.id)));
    TableView {
        title: table.meta.get("title").and_then(Value::as_str).map(str::to_owned),
        fields,
        record_count: table.live,
        revision,
        settings: table.meta.get("settings").cloned().unwrap_or(Value::Null),
    }
}

/// At most `limit` records (at least one) in byte order of order key and id, and where the next page starts, if there is
/// one. `raw` gives the map of a record. `fields` are ids or names; `None` is all.
///
/// # Errors
/// One of `fields` is none.
pub fn page(
    table: &Table,
    raw: &dyn Fn(&str) -> Raw,
    after: Option<&Position>,
    limit: usize,
    fields: Option<&[String]>,
    include_deleted: bool,
) -> Result<(Vec<RecordView>, Option<Position>), Refused> {
    let columns = fields.map(|fields| selected(table, fields)).transpose()?;
    let mut rows = behind(table, after)
        .filter_map(|(_, id)| table.rows.get_key_value(id))
        .filter(|(_, row)| include_deleted || row.deleted.is_none());
    let of_row = |(id, row): (&Arc<str>, &Row)| match &columns {
        Some(columns) => narrow(id, row, columns, &raw(id)),
        None => record_view(table, id, &raw(id)).unwrap_or_default(),
    };
    let records: Vec<_> = rows.by_ref().take(limit.max(1)).map(of_row).collect();
    let last = rows.next().and_then(|_| records.last());
    let next = last.map(|last| Position { order: last.order.clone(), id: last.id.to_string() });
    Ok((records, next))
}

impl RecordView {
    /// As JSON: `{id, cells, order, version, createdAt, createdBy, updatedAt, updatedBy}`, with `height` and
    /// `deleted: {at, by}` where it has them.
    #[must_use]
    pub fn json(&self) -> Map<String, Value> {
        let cells: Map<_, _> = self.cells.iter().map(|(id, value)| (id.to_string(), value.clone())).collect();
        let json = json!({
            "id": &*self.id,
            "cells": cells,
            "order": self.order,
            "version": self.version,
            "createdAt": rfc3339(self.created.at_ms),
            "createdBy": self.created.user.as_deref(),
            "updatedAt": rfc3339(self.updated.at_ms),
            "updatedBy": self.updated.user.as_deref(),
        });
        let Value::Object(mut json) = json else { return Map::new() };
        if let Some(height) = self.height {
            json.insert("height".to_owned(), height.into());
        }
        if let Some(Stamp { at_ms, user }) = &self.deleted {
            json.insert("deleted".to_owned(), json!({"at": rfc3339(*at_ms), "by": user.as_deref()}));
        }
        json
    }
}

/// A record without its cells.
fn frame(id: &Arc<str>, row: &Row, raw: &Raw) -> RecordView {
    RecordView {
        id: id.clone(),
        cells: Default::default(),
        order: row.order.to_string(),
        height: raw.get("$h").and_then(Value::as_f64),
        version: row.version,
        created: row.created.clone(),
        updated: row.updated.clone(),
        deleted: row.deleted.clone(),
    }
}

fn show(view: &mut RecordView, column: Column<'_>, raw: &Raw) {
    let kind = if let Column::Known(field) = column { Some(field.kind) } else { None };
    let value = match kind {
        Some(FieldType::Created) => view.created.at_ms.into(),
        Some(FieldType::Updated) => view.updated.at_ms.into(),
        _ => column.read(raw),
    };
    if !value.is_null() {
        view.cells.insert(column.id().into(), value);
    }
}

fn narrow(id: &Arc<str>, row: &Row, columns: &[Column<'_>], raw: &Raw) -> RecordView {
    let mut view = frame(id, row, raw);
    for column in columns {
        show(&mut view, *column, raw);
    }
    view
}

fn selected<'a>(table: &'a Table, fields: &'a [String]) -> Result<Vec<Column<'a>>, Refused> {
    let columns = Columns::of(table);
    let find = |field: &'a String| columns.find(field);
    fields.iter().map(|field| find(field).map_err(|wrong| Refused::of_description(wrong.under("fields")))).collect()
}

/// Positions behind one, in order.
fn behind<'t>(table: &'t Table, after: Option<&Position>) -> impl Iterator<Item = &'t (Arc<str>, Arc<str>)> {
    let start = after.map(|after| (Arc::from(after.order.as_str()), Arc::from(after.id.as_str())));
    table.order.range((start.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded))
}

/// Keys of a record that belong to no field.
fn free_ids<'r>(table: &Table, raw: &'r Raw) -> BTreeSet<&'r str> {
    let ids = raw.keys().map(|key| field::field_of(key));
    ids.filter(|id| !field::is_reserved(id) && !table.fields.contains_key(*id)).collect()
}
