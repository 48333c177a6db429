//! s
use serde_json::Value; use super::rule::Checked; use crate::table::view::FieldView;
/// s
pub fn check(_field: &FieldView, _wanted: &Value) -> Checked<Value> { todo!() }
