//! Records and cells of tables.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;
use serde_json::json;
use syncline_protocol::ErrorCode;

use super::Work;
use super::payload::doc_of;
use super::payload::given;
use super::payload::read;
use super::write::Errand;
use super::write::one;
use crate::http::problem::Problem;
use crate::http::socketio::reply::Reply;
use crate::http::socketio::session::Session;
use crate::http::tables::OnConflictWord;
use crate::http::tables::RECORDS_MAX;
use crate::name::DocName;
use crate::table::command::Command;
use crate::table::command::FieldPatch;
use crate::table::command::NewRecord;
use crate::table::command::OnConflict;
use crate::table::command::RecordPatch;
use crate::table::command::TableAnswer;

type Cells = BTreeMap<String, Value>;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Create {
    table_id: String,
    #[serde(default)]
    cells: Cells,
    record_id: Option<String>,
    #[serde(default, deserialize_with = "given")]
    after: Option<Option<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Update {
    table_id: String,
    record_id: String,
    #[serde(default)]
    cells: Cells,
    #[serde(default, deserialize_with = "given")]
    after: Option<Option<String>>,
    expected_version: Option<u64>,
    on_conflict: Option<OnConflictWord>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct UpdateMany {
    table_id: String,
    updates: Vec<OneOfMany>,
    on_conflict: Option<OnConflictWord>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OneOfMany {
    record_id: String,
    #[serde(default)]
    cells: Cells,
    expected_version: Option<u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct EditCell {
    table_id: Option<String>,
    record_id: String,
    field_id: String,
    #[serde(default)]
    value: Value,
    expected_version: Option<u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ResizeColumn {
    table_id: String,
    field_id: String,
    width: f64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ResizeRow {
    table_id: String,
    record_id: String,
    height: f64,
}

pub(super) async fn create(session: &mut Session, asked: &Value) -> Result<Work, Problem> {
    let Create { table_id, cells, record_id, after } = read(asked)?;
    let records = vec![NewRecord { id: record_id, cells, after }];
    let errand = Errand::new(table(&table_id)?, Command::CreateRecords { records, import: false }, asked)?;
    errand
        .run(session, |answer| {
            let record = one(answer)?.record;
            Ok(json!({"recordId": &*record.id, "version": record.version}))
        })
        .await
}

pub(super) async fn update(session: &mut Session, asked: &Value) -> Result<Work, Problem> {
    let Update { table_id, record_id, cells, after, expected_version, on_conflict } = read(asked)?;
    let patch = RecordPatch { id: record_id, cells, after, expected_version, ..RecordPatch::default() };
    patch_one(session, table(&table_id)?, patch, on_conflict, asked, version).await
}

pub(super) async fn delete(session: &mut Session, asked: &Value) -> Result<Work, Problem> {
    let Update { table_id, record_id, expected_version, .. } = read(asked)?;
    let command = Command::DeleteRecord { id: record_id, expected_version };
    Errand::new(table(&table_id)?, command, asked)?.run(session, version).await
}

pub(super) async fn restore(session: &mut Session, asked: &Value) -> Result<Work, Problem> {
    let Update { table_id, record_id, .. } = read(asked)?;
    Errand::new(table(&table_id)?, Command::RestoreRecord { id: record_id }, asked)?.run(session, version).await
}

pub(super) async fn update_many(session: &mut Session, asked: &Value) -> Result<Work, Problem> {
    let UpdateMany { table_id, updates, on_conflict } = read(asked)?;
    if updates.is_empty() {
        return Err(Problem::wrong("updates", "expected at least one update"));
    }
    if updates.len() > RECORDS_MAX {
        return Err(Problem::too_large(RECORDS_MAX, "too many updates in one command"));
    }
    let patch = |one: OneOfMany| RecordPatch {
        id: one.record_id,
        cells: one.cells,
        expected_version: one.expected_version,
        ..RecordPatch::default()
    };
    let records = updates.into_iter().map(patch).collect();
    let command = Command::PatchRecords { records, on_conflict: on_conflict_of(on_conflict), is_batch: true };
    Errand::new(table(&table_id)?, command, asked)?.run(session, versions).await
}

pub(super) async fn edit_cell(session: &mut Session, asked: &Value) -> Result<Work, Problem> {
    let EditCell { table_id, record_id, field_id, value, expected_version } = read(asked)?;
    let doc = match &table_id {
        Some(table_id) => table(table_id)?,
        None => session.rooms.only("table").and_then(|room| room.as_doc()).ok_or_else(unclear_table)?,
    };
    let cells = Cells::from([(field_id.clone(), value)]);
    let patch = RecordPatch { id: record_id, cells, expected_version, ..RecordPatch::default() };
    let stored = move |answer| {
        let record = one(answer)?.record;
        let value = record.cells.get(field_id.as_str()).cloned().unwrap_or_default();
        Ok(json!({"version": record.version, "value": value}))
    };
    patch_one(session, doc, patch, None, asked, stored).await
}

pub(super) async fn resize_column(session: &mut Session, asked: &Value) -> Result<Work, Problem> {
    let ResizeColumn { table_id, field_id, width } = read(asked)?;
    let patch = FieldPatch { width: Some(width), ..FieldPatch::default() };
    let errand = Errand::new(table(&table_id)?, Command::ChangeField { id: field_id, patch }, asked)?;
    errand.run(session, |_| Ok(json!({}))).await
}

pub(super) async fn resize_row(session: &mut Session, asked: &Value) -> Result<Work, Problem> {
    let ResizeRow { table_id, record_id, height } = read(asked)?;
    let patch = RecordPatch { id: record_id, height: Some(height), ..RecordPatch::default() };
    patch_one(session, table(&table_id)?, patch, None, asked, version).await
}

async fn patch_one(
    session: &mut Session,
    doc: DocName,
    patch: RecordPatch,
    on_conflict: Option<OnConflictWord>,
    asked: &Value,
    read: impl FnOnce(TableAnswer) -> Reply + Send + 'static,
) -> Result<Work, Problem> {
    let on_conflict = on_conflict_of(on_conflict);
    let command = Command::PatchRecords { records: vec![patch], on_conflict, is_batch: false };
    Errand::new(doc, command, asked)?.run(session, read).await
}

fn on_conflict_of(word: Option<OnConflictWord>) -> OnConflict {
    word.map(OnConflict::from).unwrap_or_default()
}

fn table(id: &str) -> Result<DocName, Problem> {
    doc_of("table", id, "tableId")
}

fn unclear_table() -> Problem {
    let message = "say which table: this connection is in none, or in several";
    Problem::new(ErrorCode::InvalidPayload, message).with("path", "tableId")
}

pub(super) fn version(answer: TableAnswer) -> Reply {
    Ok(json!({"version": one(answer)?.record.version}))
}

fn versions(answer: TableAnswer) -> Reply {
    let TableAnswer::Records(records) = answer else { return Err(Problem::internal("a batch has records")) };
    let results: Vec<Value> =
        records.iter().map(|done| json!({"recordId": &*done.record.id, "version": done.record.version})).collect();
    Ok(json!({"results": results}))
}
