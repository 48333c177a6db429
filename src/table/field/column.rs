//! s
use super::Wrong; use serde_json::Value; use crate::table::view::FieldView; use crate::table::command::*;
/// s
pub struct ColumnEntries { 
    /// s
    pub entries: Vec<(String, Value)>, 
    /// s
    pub options: serde_json::Map<String, Value> }
/// s
pub struct PatchEntries { 
    /// s
    pub entries: Vec<(&'static str, Option<Value>)>,
    /// s
    pub options: Vec<(String, Option<Value>)> }
/// s
pub fn from_column(_id: &str, _column: &Value) -> FieldView { todo!() }
/// s
pub fn check_new(_new: &NewField) -> Result<(), Wrong> { todo!() }
/// s
pub fn column_entries(_new: &NewField, _order: &str, _rand: &mut dyn FnMut() -> u32) -> Result<ColumnEntries, Wrong> { todo!() }
/// s
pub fn patch_entries(_field: &FieldView, _patch: &FieldPatch, _rand: &mut dyn FnMut() -> u32) -> Result<PatchEntries, Wrong> { todo!() }
