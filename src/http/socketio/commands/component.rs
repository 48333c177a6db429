//! Components of the component editor, and those nested in their rows.

use serde::Deserialize;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use super::Work;
use super::grid::version;
use super::payload::doc_of;
use super::payload::read;
use super::write::Errand;
use crate::http::problem::Problem;
use crate::http::socketio::reply::Reply;
use crate::http::socketio::session::Session;
use crate::name::DocName;
use crate::table::command::Command;
use crate::table::command::NestedOp;
use crate::table::command::OnConflict;
use crate::table::command::RecordPatch;
use crate::table::command::TableAnswer;

/// The record that is the component itself.
pub(super) const SELF: &str = "self";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Update {
    component_id: String,
    updates: Map<String, Value>,
    expected_version: Option<u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CreateNested {
    component_id: String,
    row_id: String,
    nested_component: Map<String, Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct UpdateNested {
    component_id: String,
    row_id: String,
    nested_component_id: String,
    updates: Map<String, Value>,
    expected_version: Option<u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DeleteNested {
    component_id: String,
    row_id: String,
    nested_component_id: String,
}

pub(super) async fn update(session: &mut Session, asked: &Value) -> Result<Work, Problem> {
    let Update { component_id, updates, expected_version } = read(asked)?;
    let cells = updates.into_iter().collect();
    let patch = RecordPatch { id: SELF.to_owned(), cells, expected_version, ..RecordPatch::default() };
    let command = Command::PutRecord { patch, on_conflict: OnConflict::default() };
    Errand::new(component(&component_id)?, command, asked)?.run(session, version).await
}

pub(super) async fn create_nested(session: &mut Session, asked: &Value) -> Result<Work, Problem> {
    let CreateNested { component_id, row_id, mut nested_component } = read(asked)?;
    let id = match nested_component.remove("id") {
        None | Some(Value::Null) => None,
        Some(Value::String(id)) => Some(id),
        Some(_) => return Err(Problem::wrong("nestedComponent.id", "an id is text")),
    };
    let op = NestedOp::Create { id, content: nested_component };
    nested(session, &component_id, row_id, op, None, asked).await
}

pub(super) async fn update_nested(session: &mut Session, asked: &Value) -> Result<Work, Problem> {
    let UpdateNested { component_id, row_id, nested_component_id, updates, expected_version } = read(asked)?;
    let op = NestedOp::Update { id: nested_component_id, updates };
    nested(session, &component_id, row_id, op, expected_version, asked).await
}

pub(super) async fn delete_nested(session: &mut Session, asked: &Value) -> Result<Work, Problem> {
    let DeleteNested { component_id, row_id, nested_component_id } = read(asked)?;
    nested(session, &component_id, row_id, NestedOp::Delete { id: nested_component_id }, None, asked).await
}

async fn nested(
    session: &mut Session,
    component_id: &str,
    row: String,
    op: NestedOp,
    expected_version: Option<u64>,
    asked: &Value,
) -> Result<Work, Problem> {
    let command = Command::Nested { row, op, expected_version, on_conflict: OnConflict::default() };
    Errand::new(component(component_id)?, command, asked)?.run(session, nested_answer).await
}

fn nested_answer(answer: TableAnswer) -> Reply {
    let TableAnswer::Nested { id, row } = answer else { return Err(Problem::internal("not about a nested component")) };
    Ok(json!({"nestedComponentId": id, "version": row.record.version}))
}

fn component(id: &str) -> Result<DocName, Problem> {
    doc_of("component", id, "componentId")
}
