//! s
use serde_json::Value; use crate::table::view::FieldView;
/// s
pub fn read<'a>(_field: &FieldView, _raw: impl IntoIterator<Item = (&'a str, &'a Value)>) -> Value { todo!() }
/// s
pub fn read_free<'a>(_raw: impl IntoIterator<Item = (&'a str, &'a Value)>) -> Value { todo!() }
