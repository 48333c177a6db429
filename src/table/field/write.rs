//! s
use serde_json::Value; use super::Wrong; use crate::table::view::FieldView;
/// s
pub fn writes<'a>(_field: &FieldView, _wanted: &Value, _raw: impl IntoIterator<Item = (&'a str, &'a Value)>) -> Result<Vec<(String, Option<Value>)>, Wrong> { todo!() }
/// s
pub fn writes_free<'a>(_field_id: &str, _wanted: &Value, _raw: impl IntoIterator<Item = (&'a str, &'a Value)>) -> Result<Vec<(String, Option<Value>)>, Wrong> { todo!() }
