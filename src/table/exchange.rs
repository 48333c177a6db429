//! Import and export: records as CSV or as JSON lines, piece by piece.
//!
//! **CSV** as RFC 4180 has it: UTF-8 (a byte order mark is skipped), commas, CRLF or LF, quotes around what contains them.
//! The first line names fields by id or by name; a column `id` is the record's id. An empty cell is empty. Lists are
//! separated by `;`, with `\` before a `;` or `\` that belongs to an entry; choices go by name where it is theirs alone.
//! What begins with `=` or `@` is written as it is: it is data, and who opens it in a spreadsheet imports it as text.
//!
//! **JSON lines**: one `{id?, cells: {…}}` a line, as the records of an answer, or the cells alone with `id` among them.
//!
//! A reader stops at the first line that it cannot read and names it. Every part is bounded: a row, a table's columns, and
//! the rows of one import.

mod csv;
mod json_lines;
mod rows;
mod text;
mod writer;

use std::sync::Arc;

use serde_json::Value;
use thiserror::Error;

pub use text::text_to_value;
pub use text::value_to_text;
pub use writer::Writer;

use super::field::Wrong;
use super::field::check;
use super::view::FieldView;
use csv::Csv;
use json_lines::JsonLines;

/// Longest row in bytes, as in the table itself.
pub const ROW_BYTES_MAX: usize = 128 * 1024;
/// Most columns, the one of ids not counted.
pub const COLUMNS_MAX: usize = 500;
/// Most rows of one import.
pub const ROWS_MAX: usize = 100_000;

/// How records are written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Comma-separated values.
    Csv,
    /// A JSON object a line.
    Ndjson,
}

impl Format {
    /// The format that a request names.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        match word {
            "csv" => Some(Self::Csv),
            "ndjson" => Some(Self::Ndjson),
            _ => None,
        }
    }

    /// Its media type.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Csv => "text/csv; charset=utf-8; header=present",
            Self::Ndjson => "application/x-ndjson",
        }
    }
}

/// A record as it was written down.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// The line on which it begins, the first one being 1.
    pub line: u64,
    /// Its id, a valid one that no row before it has; `None` where there is none.
    pub id: Option<String>,
    /// Its cells, each with the id or the name of its field as given ([`super::field::Names::find`]), no field twice.
    pub cells: Vec<(Arc<str>, Cell)>,
}

/// A cell as it was written down.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell {
    /// In CSV.
    Text(String),
    /// In JSON.
    Json(Value),
}

impl Cell {
    /// What it says, as the field will show it.
    ///
    /// # Errors
    /// What [`check`] or [`text_to_value`] say about it.
    pub fn value(&self, field: &FieldView) -> Result<Value, Wrong> {
        match self {
            Self::Text(text) => text_to_value(field, text),
            Self::Json(value) => check(field, value),
        }
    }
}

/// Why reading stopped, and where.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("line {line}: {message}")]
pub struct Broken {
    /// The line, the first one being 1.
    pub line: u64,
    /// What is wrong with it.
    pub kind: BrokenKind,
    /// The same for people.
    pub message: String,
}

/// What is wrong with a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BrokenKind {
    /// It is not written as the format wants it.
    Malformed,
    /// It goes beyond [`ROW_BYTES_MAX`], [`COLUMNS_MAX`] or [`ROWS_MAX`].
    TooLarge,
}

/// Reads records from pieces of any size. Memory: one row, the ids so far, and the rows of one piece.
#[derive(Debug)]
pub struct Reader {
    format: Syntax,
    broken: Option<Broken>,
}

#[derive(Debug)]
enum Syntax {
    Csv(Csv),
    Ndjson(JsonLines),
}

impl Reader {
    /// At the beginning.
    #[must_use]
    pub fn new(format: Format) -> Self {
        let format = match format {
            Format::Csv => Syntax::Csv(Csv::default()),
            Format::Ndjson => Syntax::Ndjson(JsonLines::default()),
        };
        Self { format, broken: None }
    }

    /// The rows that end in this piece.
    ///
    /// # Errors
    /// The first line that cannot be read; rows of the same piece before it are dropped. Everything after it gets the same
    /// answer.
    pub fn feed(&mut self, piece: &[u8]) -> Result<Vec<Row>, Broken> {
        if let Some(broken) = &self.broken {
            return Err(broken.clone());
        }
        let rows = match &mut self.format {
            Syntax::Csv(csv) => csv.feed(piece),
            Syntax::Ndjson(lines) => lines.feed(piece),
        };
        rows.inspect_err(|broken| self.broken = Some(broken.clone()))
    }

    /// The last row, where no end of line follows it.
    ///
    /// # Errors
    /// As [`Reader::feed`], a quote that is not closed, and CSV without a header.
    pub fn finish(self) -> Result<Vec<Row>, Broken> {
        match (self.broken, self.format) {
            (Some(broken), _) => Err(broken),
            (None, Syntax::Csv(csv)) => csv.finish(),
            (None, Syntax::Ndjson(lines)) => lines.finish(),
        }
    }

    /// The names in the header of CSV once it was read, without `id`; nothing of JSON lines.
    #[must_use]
    pub fn header(&self) -> &[Arc<str>] {
        match &self.format {
            Syntax::Csv(csv) => csv.header(),
            Syntax::Ndjson(_) => &[],
        }
    }
}
