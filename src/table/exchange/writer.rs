//! Records, written down.

use serde_json::Map;
use serde_json::Value;

use super::Format;
use super::csv::ID_COLUMN;
use super::text::value_to_text;
use crate::table::field::Names;
use crate::table::field::is_read_only;
use crate::table::view::FieldView;
use crate::table::view::RecordView;

/// Writes records so that [`super::Reader`] reads them again. Fields that cannot be written (computed ones, and texts that
/// are edited as such) are left out: an export is something to import.
#[derive(Debug)]
pub struct Writer {
    format: Format,
    fields: Vec<FieldView>,
    /// What each of them is called in the header.
    header: Vec<String>,
}

impl Writer {
    /// For the fields of one table, in the order in which they are to stand. A field goes by its name where that finds it
    /// among them, and by its id where not.
    #[must_use]
    pub fn new(format: Format, mut fields: Vec<FieldView>) -> Self {
        // The names of those that are left out count: a reader knows them too.
        let names = Names::new(&fields);
        let written = fields.iter().filter(|field| !is_read_only(field));
        let header = written.map(|field| column_name(&names, field).to_owned()).collect();
        fields.retain(|field| !is_read_only(field));
        Self { format, fields, header }
    }

    /// What stands before the first record: the header of CSV.
    pub fn head(&self, out: &mut Vec<u8>) {
        if self.format == Format::Csv {
            push_line(out, ID_COLUMN, self.header.iter().cloned());
        }
    }

    /// One record, in a line of its own (of several, where a cell has more than one).
    pub fn row(&self, record: &RecordView, out: &mut Vec<u8>) {
        match self.format {
            Format::Csv => {
                let cell = |field: &FieldView| record.cells.get(&field.id).map(|value| value_to_text(field, value));
                push_line(out, &record.id, self.fields.iter().map(|field| cell(field).unwrap_or_default()));
            }
            Format::Ndjson => {
                let cell = |field: &FieldView| Some((field.id.to_string(), record.cells.get(&field.id)?.clone()));
                let cells: Map<String, Value> = self.fields.iter().filter_map(cell).collect();
                let line = serde_json::json!({ "id": &*record.id, "cells": cells });
                out.extend_from_slice(line.to_string().as_bytes());
                out.push(b'\n');
            }
        }
    }
}

fn column_name<'a>(names: &Names<'_>, field: &'a FieldView) -> &'a str {
    let is_found = names.find(&field.name).is_ok_and(|found| found.id == field.id);
    let is_plain = field.name.trim() == field.name && field.name != ID_COLUMN;
    if is_found && is_plain { &field.name } else { &field.id }
}

fn push_line(out: &mut Vec<u8>, first: &str, rest: impl Iterator<Item = String>) {
    push_cell(out, first);
    for cell in rest {
        out.push(b',');
        push_cell(out, &cell);
    }
    out.extend_from_slice(b"\r\n");
}

fn push_cell(out: &mut Vec<u8>, cell: &str) {
    if !cell.contains(['"', ',', '\r', '\n']) {
        out.extend_from_slice(cell.as_bytes());
        return;
    }
    out.push(b'"');
    out.extend_from_slice(cell.replace('"', "\"\"").as_bytes());
    out.push(b'"');
}
