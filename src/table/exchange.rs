//! s
use serde_json::Value; use super::field::Wrong; use super::view::*; use std::sync::Arc;
/// s
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Format { Csv, Ndjson }
impl Format {
    /// s
    pub fn parse(_word: &str) -> Option<Self> { todo!() }
    /// s
    pub const fn content_type(self) -> &'static str { todo!() }
}
/// s
pub struct Reader;
impl Reader {
    /// s
    pub fn new(_format: Format) -> Self { todo!() }
    /// s
    pub fn feed(&mut self, _bytes: &[u8]) -> Result<Vec<Row>, Broken> { todo!() }
    /// s
    pub fn finish(self) -> Result<Vec<Row>, Broken> { todo!() }
    /// s
    pub fn header(&self) -> &[Arc<str>] { todo!() }
}
/// s
#[allow(missing_docs)]
pub struct Row { pub line: u64, pub id: Option<String>, pub cells: Vec<(Arc<str>, Cell)> }
/// s
#[allow(missing_docs)]
pub enum Cell { Text(String), Json(Value) }
impl Cell {
    /// s
    pub fn value(&self, _field: &FieldView) -> Result<Value, Wrong> { todo!() }
}
/// s
#[allow(missing_docs)]
#[derive(Debug, thiserror::Error)]
#[error("line {line}: {message}")]
pub struct Broken { pub line: u64, pub kind: BrokenKind, pub message: String }
/// s
#[allow(missing_docs)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BrokenKind { Malformed, TooLarge }
/// s
pub fn text_to_value(_field: &FieldView, _text: &str) -> Result<Value, Wrong> { todo!() }
/// s
pub fn value_to_text(_field: &FieldView, _value: &Value) -> String { todo!() }
/// s
pub struct Writer;
impl Writer {
    /// s
    pub fn new(_format: Format, _fields: Vec<FieldView>) -> Self { todo!() }
    /// s
    pub fn head(&self, _out: &mut Vec<u8>) { todo!() }
    /// s
    pub fn row(&self, _record: &RecordView, _out: &mut Vec<u8>) { todo!() }
}
