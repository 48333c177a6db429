//! A JSON object a line.

use std::collections::HashSet;
use std::mem;
use std::sync::Arc;

use serde_json::Map;
use serde_json::Value;

use super::Broken;
use super::COLUMNS_MAX;
use super::Cell;
use super::ROW_BYTES_MAX;
use super::Row;
use super::rows::Mark;
use super::rows::Rows;
use super::rows::malformed;
use super::rows::too_large;

/// What the records of an answer have beside their cells: read over, so that an answer can be sent back.
const RECORD_KEYS: [&str; 8] =
    ["version", "createdAt", "createdBy", "updatedAt", "updatedBy", "order", "height", "deleted"];

#[derive(Debug, Default)]
pub(super) struct JsonLines {
    mark: Mark,
    buffer: Vec<u8>,
    /// Ends of line before the buffer.
    line: u64,
    /// Every field that was named, at most [`COLUMNS_MAX`].
    names: HashSet<Arc<str>>,
    rows: Rows,
}

impl JsonLines {
    pub(super) fn feed(&mut self, piece: &[u8]) -> Result<Vec<Row>, Broken> {
        let mut rows = Vec::new();
        for byte in piece {
            for byte in self.mark.pass(*byte) {
                rows.extend(self.push(byte)?);
            }
        }
        Ok(rows)
    }

    pub(super) fn finish(mut self) -> Result<Vec<Row>, Broken> {
        for byte in self.mark.rest() {
            self.push(*byte)?;
        }
        Ok(self.end_line()?.into_iter().collect())
    }

    fn push(&mut self, byte: u8) -> Result<Option<Row>, Broken> {
        if byte == b'\n' {
            return self.end_line();
        }
        self.buffer.push(byte);
        if self.buffer.len() > ROW_BYTES_MAX {
            return Err(too_large(self.line + 1, format!("a row of more than {ROW_BYTES_MAX} bytes")));
        }
        Ok(None)
    }

    fn end_line(&mut self) -> Result<Option<Row>, Broken> {
        let buffer = mem::take(&mut self.buffer);
        self.line += 1;
        if buffer.trim_ascii().is_empty() {
            return Ok(None);
        }
        let object = parse(self.line, &buffer)?;
        let (id, cells) = taken_apart(self.line, object)?;
        let cells = cells
            .into_iter()
            .map(|(name, value)| Ok((self.interned(&name)?, Cell::Json(value))))
            .collect::<Result<Vec<_>, Broken>>()?;
        self.rows.row(self.line, id, cells).map(Some)
    }

    fn interned(&mut self, name: &str) -> Result<Arc<str>, Broken> {
        if let Some(known) = self.names.get(name) {
            return Ok(known.clone());
        }
        if self.names.len() == COLUMNS_MAX {
            return Err(too_large(self.line, format!("more than {COLUMNS_MAX} different fields")));
        }
        let name: Arc<str> = name.into();
        self.names.insert(name.clone());
        Ok(name)
    }
}

fn parse(line: u64, text: &[u8]) -> Result<Map<String, Value>, Broken> {
    match serde_json::from_slice(text) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(malformed(line, "not a JSON object")),
        Err(error) => Err(malformed(line, format!("not JSON, at byte {}", error.column()))),
    }
}

/// A record's id and its cells. With an object under `cells` it is a record as answers show it.
fn taken_apart(line: u64, mut object: Map<String, Value>) -> Result<(Option<String>, Map<String, Value>), Broken> {
    let id = match object.remove("id") {
        None | Some(Value::Null) => None,
        Some(Value::String(id)) => Some(id),
        Some(_) => return Err(malformed(line, "`id` is not a string")),
    };
    if !object.get("cells").is_some_and(Value::is_object) {
        return Ok((id, object));
    }
    let Some(Value::Object(cells)) = object.remove("cells") else { unreachable!("it is one") };
    match object.keys().find(|key| !RECORD_KEYS.contains(&key.as_str())) {
        Some(key) => Err(malformed(line, format!("{key:?} stands beside `cells`"))),
        None => Ok((id, cells)),
    }
}
