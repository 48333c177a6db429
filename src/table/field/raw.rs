//! s
use serde_json::Value; use super::Rule; use crate::table::view::FieldView;
/// s
pub fn check_raw(_field: &FieldView, _raw_key: &str, _value: &Value) -> Result<(), Rule> { todo!() }
