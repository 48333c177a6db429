//! What callers are told about tables: views as JSON.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;
use serde::Serializer;
use serde_json::Map;
use serde_json::Value;
use utoipa::ToSchema;

use super::short_name;
use crate::clock::rfc3339;
use crate::name::DocName;
use crate::table::command::Done;
use crate::table::view::FieldView;
use crate::table::view::RecordView;
use crate::table::view::Stamp;
use crate::table::view::TableView;

/// A table, without its records.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::http) struct Table {
    /// Its name, as it stands in its address.
    table: String,
    title: Option<String>,
    /// In order, without deleted ones.
    fields: Vec<Field>,
    /// Records that are not deleted.
    record_count: usize,
    /// Position in the document's log; grows with each change.
    revision: u64,
    /// What clients keep in `meta.settings`; null where there is nothing.
    #[schema(value_type = Object, nullable)]
    settings: Value,
}

/// A field. Further properties are its options: `choices`, `format`, `precision`, `min`, `max`, `required`, `unique`,
/// `collab`, and whatever else a client keeps there.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct Field {
    id: String,
    name: String,
    #[serde(rename = "type")]
    #[schema(example = "text")]
    kind: &'static str,
    /// Pixels; null where nobody has said.
    width: Option<f64>,
    /// Fields stand in byte order of this, then of their ids.
    order: String,
    /// Whether it names the record.
    primary: bool,
    /// Only there, and true, of a deleted one.
    #[serde(skip_serializing_if = "is_false")]
    deleted: bool,
    #[serde(flatten)]
    #[schema(value_type = Object)]
    options: Map<String, Value>,
}

/// A record.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::http) struct Record {
    id: String,
    /// By field id; empty ones are left out.
    #[serde(serialize_with = "by_field")]
    #[schema(value_type = Object)]
    cells: BTreeMap<Arc<str>, Value>,
    /// How often its visible state changed; 1 when it was created.
    version: u64,
    /// RFC 3339, UTC, milliseconds.
    #[schema(example = "2026-03-01T12:00:00.000Z")]
    created_at: String,
    /// The `sub` of the token; null where nobody was signed in.
    created_by: Option<String>,
    #[schema(example = "2026-03-01T12:00:00.000Z")]
    updated_at: String,
    updated_by: Option<String>,
    /// Records stand in byte order of this, then of their ids.
    order: String,
    /// Pixels, where somebody has said.
    #[serde(skip_serializing_if = "Option::is_none")]
    height: Option<f64>,
    /// Only there of a deleted one.
    #[serde(skip_serializing_if = "Option::is_none")]
    deleted: Option<Deleted>,
    #[serde(flatten)]
    merged: Option<Merged>,
}

/// When a record was deleted, and by whom.
#[derive(Serialize, ToSchema)]
struct Deleted {
    /// RFC 3339, UTC, milliseconds.
    #[schema(example = "2026-03-01T12:00:00.000Z")]
    at: String,
    by: Option<String>,
}

/// Only of a change whose `expectedVersion` was stale, and that nothing stood in the way of.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Merged {
    /// Always true.
    merged: bool,
    /// The first and the last version that the caller had not seen.
    merged_over: [u64; 2],
    /// The ids of the fields that changed in them.
    changed_since: Vec<String>,
}

/// Records, in the order of the request.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct Records {
    records: Vec<Record>,
}

/// One page of records.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::http) struct RecordPage {
    /// In the table's order.
    pub(super) records: Vec<Record>,
    /// Goes into `cursor` for the next page; null at the end.
    pub(super) next_cursor: Option<String>,
    /// Where the table stood.
    pub(super) revision: u64,
}

/// What an import did.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct Imported {
    /// How many records came.
    pub(super) imported: usize,
    /// Where the table stands now, the import included.
    pub(super) revision: u64,
}

impl Table {
    pub(super) fn new(doc: &DocName, view: TableView) -> Self {
        let TableView { title, fields, record_count, revision, settings } = view;
        let fields = fields.into_iter().map(Field::from).collect();
        Self { table: short_name(doc).to_owned(), title, fields, record_count, revision, settings }
    }
}

impl From<FieldView> for Field {
    fn from(view: FieldView) -> Self {
        let FieldView { id, name, kind, width, order, primary, mut options, deleted } = view;
        // A client may keep any option in the document; one that is called like a property would stand here twice.
        for property in ["id", "name", "type", "width", "order", "primary", "deleted", "after"] {
            options.remove(property);
        }
        Self { id: id.as_ref().to_owned(), name, kind: kind.word(), width, order, primary, deleted, options }
    }
}

impl From<RecordView> for Record {
    fn from(view: RecordView) -> Self {
        let RecordView { id, cells, order, height, version, created, updated, deleted } = view;
        let ((created_at, created_by), (updated_at, updated_by)) = (told(created), told(updated));
        let deleted = deleted.map(told).map(|(at, by)| Deleted { at, by });
        let id = id.as_ref().to_owned();
        Self {
            id,
            cells,
            version,
            created_at,
            created_by,
            updated_at,
            updated_by,
            order,
            height,
            deleted,
            merged: None,
        }
    }
}

impl From<Done> for Record {
    fn from(done: Done) -> Self {
        let merged = done.merged.map(|merged| {
            let (first, last) = merged.over;
            Merged { merged: true, merged_over: [first, last], changed_since: merged.changed_since }
        });
        Self { merged, ..Self::from(done.record) }
    }
}

impl From<Vec<Done>> for Records {
    fn from(done: Vec<Done>) -> Self {
        Self { records: done.into_iter().map(Record::from).collect() }
    }
}

fn told(stamp: Stamp) -> (String, Option<String>) {
    (rfc3339(stamp.at_ms), stamp.user.map(|user| user.as_ref().to_owned()))
}

fn by_field<S: Serializer>(cells: &BTreeMap<Arc<str>, Value>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(cells.iter().map(|(field, value)| (field.as_ref(), value)))
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde hands out references
fn is_false(flag: &bool) -> bool {
    !flag
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::table::command::Merged as MergedOver;
    use crate::table::field::FieldType;

    fn record() -> RecordView {
        RecordView {
            id: "r1".into(),
            cells: BTreeMap::from([("f1".into(), json!("x"))]),
            order: "a0".to_owned(),
            version: 3,
            created: Stamp { at_ms: 1, user: Some("alice".into()) },
            updated: Stamp { at_ms: 2, user: None },
            ..RecordView::default()
        }
    }

    #[test]
    fn a_record_is_told_in_camel_case() {
        let plain = json!({
            "id": "r1", "cells": {"f1": "x"}, "version": 3, "order": "a0",
            "createdAt": "1970-01-01T00:00:00.001Z", "createdBy": "alice",
            "updatedAt": "1970-01-01T00:00:00.002Z", "updatedBy": null,
        });
        assert_eq!(serde_json::to_value(Record::from(record())).unwrap(), plain);

        assert_eq!(Value::Object(record().json()), plain, "a conflict shows it the same way");

        let merged = Some(MergedOver { over: (2, 3), changed_since: vec!["f2".to_owned()] });
        let deleted = Some(Stamp { at_ms: 3, user: Some("bob".into()) });
        let done = Done { record: RecordView { height: Some(40.0), deleted, ..record() }, merged };
        let told = serde_json::to_value(Record::from(done)).unwrap();
        assert_eq!(told["deleted"], json!({"at": "1970-01-01T00:00:00.003Z", "by": "bob"}));
        assert_eq!(told["height"], 40.0);
        assert_eq!(
            (&told["merged"], &told["mergedOver"], &told["changedSince"]),
            (&json!(true), &json!([2, 3]), &json!(["f2"]))
        );
    }

    #[test]
    fn a_field_shows_its_options_beside_its_properties() {
        let options = json!({"precision": 2, "name": "hidden"});
        let Value::Object(options) = options else { panic!("it is an object") };
        let view = FieldView {
            id: "f1".into(),
            name: "Price".to_owned(),
            kind: FieldType::Number,
            width: None,
            order: "a0".to_owned(),
            primary: false,
            options,
            deleted: false,
        };
        let want = json!({
            "id": "f1", "name": "Price", "type": "number", "width": null, "order": "a0", "primary": false, "precision": 2
        });
        assert_eq!(serde_json::to_value(Field::from(view)).unwrap(), want);
    }
}
