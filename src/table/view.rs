//! Tables, fields and records as an application sees them.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use super::field::FieldType;

/// A table.
#[derive(Debug, Clone, PartialEq)]
pub struct TableView {
    /// Its title.
    pub title: Option<String>,
    /// Its fields in order, without deleted ones.
    pub fields: Vec<FieldView>,
    /// Records that are not deleted.
    pub record_count: usize,
    /// Position in the document's log.
    pub revision: u64,
    /// Its settings: `meta.settings`.
    pub settings: Value,
}

/// A field.
#[derive(Debug, Clone, PartialEq)]
pub struct FieldView {
    /// Its id.
    pub id: Arc<str>,
    /// Its name.
    pub name: String,
    /// Its type.
    pub kind: FieldType,
    /// Width in pixels.
    pub width: Option<f64>,
    /// Order key.
    pub order: String,
    /// Whether it names the record.
    pub primary: bool,
    /// `choices` (a list of `{id, name, color, order}`), `format`, `precision`, `min`, `max`, `required`, `unique`,
    /// `collab`, and whatever else a client keeps there.
    pub options: serde_json::Map<String, Value>,
    /// Whether it is marked as deleted.
    pub deleted: bool,
}

/// A record.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RecordView {
    /// Its id.
    pub id: Arc<str>,
    /// Its cells by field id; empty ones are left out.
    pub cells: BTreeMap<Arc<str>, Value>,
    /// Order key.
    pub order: String,
    /// Height in pixels.
    pub height: Option<f64>,
    /// How often its visible state changed, its creation included.
    pub version: u64,
    /// When it was created, as milliseconds since 1970, and by whom.
    pub created: Stamp,
    /// When it was last changed and by whom.
    pub updated: Stamp,
    /// When it was marked as deleted and by whom, if it is.
    pub deleted: Option<Stamp>,
}

/// When and who.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Stamp {
    /// Milliseconds since 1970, UTC.
    pub at_ms: u64,
    /// `None` where nobody was signed in.
    pub user: Option<Arc<str>>,
}
// STUB
use super::content::Raw; use super::state::Table; use super::plan::Refused; use super::command::Position;
pub fn record_view(_: &Table, _: &str, _: &Raw) -> Option<RecordView> { None }
pub fn field_view(_: &Table, _: &str) -> Option<FieldView> { None }
pub fn table_view(_: &Table, _: u64) -> TableView { TableView { title: None, fields: vec![], record_count: 0, revision: 0, settings: Value::Null } }
pub fn page(_: &Table, _: &dyn Fn(&str) -> Raw, _: Option<&Position>, _: usize, _: Option<&[String]>, _: bool) -> Result<(Vec<RecordView>, Option<Position>), Refused> { Ok((vec![], None)) }
