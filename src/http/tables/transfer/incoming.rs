//! Lines of a file as records to be, and what is wrong with a line.

use std::collections::HashSet;
use std::sync::Arc;

use serde_json::Map;
use serde_json::Value;
use syncline_protocol::ErrorCode;

use crate::document::request::Refusal;
use crate::http::problem::Problem;
use crate::table::command::Cells;
use crate::table::command::NewRecord;
use crate::table::exchange::Broken;
use crate::table::exchange::BrokenKind;
use crate::table::exchange::Cell;
use crate::table::exchange::Format;
use crate::table::exchange::Reader;
use crate::table::exchange::Row;
use crate::table::field::Names;
use crate::table::field::Wrong;
use crate::table::refused::Refused;
use crate::table::view::FieldView;

/// Records of one import: what a table can have at all.
const RECORDS_MAX: usize = 100_000;
/// Cells of one import that are not empty: what a table can have at all.
const CELLS_MAX: usize = 1_000_000;

/// An import that is being read.
pub(super) struct Incoming {
    reader: Reader,
    fields: Vec<FieldView>,
    is_header_known: bool,
    cells: usize,
    parsed: Parsed,
}

/// What was read.
#[derive(Default)]
pub(super) struct Parsed {
    pub(super) records: Vec<NewRecord>,
    /// The line of each.
    pub(super) lines: Vec<u64>,
}

impl Incoming {
    pub(super) fn new(format: Format, fields: Vec<FieldView>) -> Self {
        // The lines of NDJSON name their fields each for itself.
        let is_header_known = matches!(format, Format::Ndjson);
        Self { reader: Reader::new(format), fields, is_header_known, cells: 0, parsed: Parsed::default() }
    }

    /// Records read so far.
    pub(super) fn records(&self) -> usize {
        self.parsed.records.len()
    }

    /// # Errors
    /// A refusal that names the line.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Result<(), Problem> {
        let rows = self.reader.feed(bytes).map_err(|broken| of_broken(&broken))?;
        self.check_header()?;
        self.add(rows)
    }

    /// # Errors
    /// As [`Self::take`].
    pub(super) fn end(mut self) -> Result<Parsed, Problem> {
        let reader = std::mem::replace(&mut self.reader, Reader::new(Format::Ndjson));
        let rows = reader.finish().map_err(|broken| of_broken(&broken))?;
        self.add(rows)?;
        if self.parsed.records.is_empty() {
            return Err(Problem::wrong("body", "there is no record in the body"));
        }
        Ok(self.parsed)
    }

    /// Even where no line follows that has a cell in the column.
    fn check_header(&mut self) -> Result<(), Problem> {
        let header = self.reader.header();
        if self.is_header_known || header.is_empty() {
            return Ok(());
        }
        let names = Names::new(&self.fields);
        let mut seen = HashSet::new();
        for name in header {
            let at = format!("header.{name}");
            let field = names.find(name).map_err(|wrong| of_refused(1, Refused::of_description(wrong.under(&at))))?;
            if !seen.insert(&field.id) {
                return Err(twice(1, at));
            }
        }
        self.is_header_known = true;
        Ok(())
    }

    fn add(&mut self, rows: Vec<Row>) -> Result<(), Problem> {
        let names = Names::new(&self.fields);
        for Row { line, id, cells } in rows {
            let cells = cells_of(&names, line, cells)?;
            self.cells += cells.len();
            bounded(line, self.cells, CELLS_MAX, "cells")?;
            self.parsed.records.push(NewRecord { id, cells, after: None });
            self.parsed.lines.push(line);
            bounded(line, self.parsed.records.len(), RECORDS_MAX, "records")?;
        }
        Ok(())
    }
}

fn cells_of(names: &Names<'_>, line: u64, cells: Vec<(Arc<str>, Cell)>) -> Result<Cells, Problem> {
    let mut known = Cells::new();
    for (name, cell) in cells {
        let at = || format!("cells.{name}");
        let of_cell = |wrong: Wrong| of_refused(line, Refused::of_cell(wrong.under(&at()), &shown(&cell)));
        let value = names.find(&name).and_then(|field| Ok((field, cell.value(field)?)));
        let (field, value) = value.map_err(of_cell)?;
        let is_new = value.is_null() || known.insert(field.id.as_ref().to_owned(), value).is_none();
        if !is_new {
            return Err(twice(line, at()));
        }
    }
    Ok(known)
}

/// Once by its id and once by its name.
fn twice(line: u64, at: String) -> Problem {
    Problem::wrong("body", format!("line {line}: {at}: the same field stands here twice"))
        .with("line", line)
        .with("path", at)
}

fn bounded(line: u64, count: usize, limit: usize, what: &str) -> Result<(), Problem> {
    if count <= limit {
        return Ok(());
    }
    let message = format!("line {line}: at most {limit} {what} in one import");
    Err(Problem::too_large(limit, message).with("line", line))
}

fn of_broken(broken: &Broken) -> Problem {
    let problem = match broken.kind {
        BrokenKind::Malformed => Problem::unreadable("body", broken.to_string()),
        BrokenKind::TooLarge => Problem::new(ErrorCode::PayloadTooLarge, broken.to_string()),
    };
    problem.with("line", broken.line)
}

/// As the table itself would refuse it, said about the line.
fn of_refused(line: u64, refused: Refused) -> Problem {
    let path = refused.data.get("path").and_then(Value::as_str).unwrap_or_default();
    let message = format!("line {line}: {path}: {refused}");
    Problem::from(Refusal { message: message.into(), ..Refusal::from(refused) }).with("line", line)
}

fn shown(cell: &Cell) -> Value {
    match cell {
        Cell::Text(text) => text.as_str().into(),
        Cell::Json(value) => value.clone(),
    }
}

/// A refusal of the table about one of the records, said about its line.
pub(super) fn at_line(mut refusal: Refusal, lines: &[u64]) -> Refusal {
    let Some(data) = refusal.data.as_mut() else { return refusal };
    let Some((line, rest)) = line_of(data, lines) else { return refusal };
    data.insert("path".to_owned(), rest.into());
    data.insert("line".to_owned(), line.into());
    refusal.message = format!("line {line}: {}", refusal.message).into();
    refusal
}

/// `records[6998].cells.price` is `cells.price` of a line.
fn line_of(data: &Map<String, Value>, lines: &[u64]) -> Option<(u64, String)> {
    let path = data.get("path")?.as_str()?;
    let (index, rest) = path.strip_prefix("records[")?.split_once(']')?;
    let line = lines.get(index.parse::<usize>().ok()?)?;
    Some((*line, rest.trim_start_matches('.').to_owned()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn refusal(data: Value) -> Refusal {
        let Value::Object(data) = data else { panic!("it is an object") };
        Refusal { data: Some(Box::new(data)), ..Refusal::new(ErrorCode::AlreadyExists, "it is there") }
    }

    #[test]
    fn a_record_of_the_table_is_a_line_of_the_file() {
        let told = at_line(refusal(json!({"path": "records[1].cells.price", "rule": "not_unique"})), &[2, 5]);
        assert_eq!(told.message, "line 5: it is there");
        assert_eq!(Value::Object(*told.data.unwrap()), json!({"path": "cells.price", "rule": "not_unique", "line": 5}));
    }

    #[test]
    fn what_is_about_no_line_stays() {
        for data in [json!({}), json!({"path": "table"}), json!({"path": "records[2]"}), json!({"path": "records[x"})] {
            let told = at_line(refusal(data.clone()), &[2, 5]);
            assert_eq!((told.message.as_ref(), Value::Object(*told.data.unwrap())), ("it is there", data));
        }
    }
}
