//! From a command to the keys that it sets: checked against versions and field types, before anything is touched.

use std::sync::Arc;

use serde_json::Value;

use super::command::Merged;

/// One key to set, or to take away (`None`).
#[derive(Debug, Clone, PartialEq)]
pub enum Put {
    /// In the root `meta`.
    Meta { key: &'static str, value: Option<Value> },
    /// A new map in the root `rows`, with its entries.
    NewRow { row: Arc<str>, entries: Vec<(String, Value)>, components: bool },
    /// In the map of a record: `<field>`, `<field>/<flag>`, `<field>#<client>`, `$o`, `$d`, `$h`.
    Cell { row: Arc<str>, key: String, value: Option<Value> },
    /// A new map in the root `cols`, with its entries; `opts` becomes a nested map, and `choices` in it another one.
    NewField { field: Arc<str>, entries: Vec<(String, Value)>, options: serde_json::Map<String, Value> },
    /// In the map of a field.
    Field { field: Arc<str>, key: &'static str, value: Option<Value> },
    /// In the map `opts` of a field, which is made if it is not there.
    FieldOption { field: Arc<str>, key: String, value: Option<Value> },
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
}
// STUB
pub struct Sight<'a> { pub doc: &'a str, pub table: &'a super::state::Table, pub raw: &'a dyn Fn(&str) -> super::content::Raw, pub now_ms: u64, pub epoch: crate::store::Epoch }
pub struct Refused { pub code: syncline_protocol::ErrorCode, pub message: String, pub data: serde_json::Map<String, Value> }
pub fn plan(_: &Sight<'_>, _: &super::command::Write, _: &mut dyn FnMut() -> u32) -> Result<Plan, Refused> { Err(Refused { code: syncline_protocol::ErrorCode::Internal, message: String::new(), data: serde_json::Map::new() }) }
impl Put { pub fn bytes(&self) -> usize { 10 } }
