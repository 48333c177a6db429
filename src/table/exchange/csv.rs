//! Comma-separated values, byte by byte.
//!
//! Stricter than most readers in one point: a quote that is opened must be closed, and only a comma or the end of the line
//! may follow it. A forgotten quote would swallow rows otherwise, silently.

use std::collections::HashSet;
use std::mem;
use std::sync::Arc;

use super::Broken;
use super::COLUMNS_MAX;
use super::Cell;
use super::ROW_BYTES_MAX;
use super::Row;
use super::rows::Mark;
use super::rows::Rows;
use super::rows::malformed;
use super::rows::too_large;

/// The column of record ids.
pub(super) const ID_COLUMN: &str = "id";

#[derive(Debug, Default)]
pub(super) struct Csv {
    mark: Mark,
    lines: Lines,
    header: Option<Header>,
    rows: Rows,
}

/// Which field each column is.
#[derive(Debug)]
struct Header {
    names: Vec<Arc<str>>,
    /// The place of the column of ids.
    id: Option<usize>,
}

impl Csv {
    pub(super) fn feed(&mut self, piece: &[u8]) -> Result<Vec<Row>, Broken> {
        let mut rows = Vec::new();
        for byte in piece {
            for byte in self.mark.pass(*byte) {
                if let Some(record) = self.lines.push(byte)? {
                    rows.extend(self.record(record)?);
                }
            }
        }
        Ok(rows)
    }

    pub(super) fn finish(mut self) -> Result<Vec<Row>, Broken> {
        let mut rows = Vec::new();
        for byte in self.mark.rest() {
            self.lines.push(*byte)?;
        }
        if let Some(record) = self.lines.finish()? {
            rows.extend(self.record(record)?);
        }
        if self.header.is_none() { Err(malformed(1, "there is no header")) } else { Ok(rows) }
    }

    pub(super) fn header(&self) -> &[Arc<str>] {
        self.header.as_ref().map(|header| header.names.as_slice()).unwrap_or_default()
    }

    fn record(&mut self, record: Record) -> Result<Option<Row>, Broken> {
        let Some(header) = &self.header else {
            self.header = Some(Header::new(record)?);
            return Ok(None);
        };
        let columns = header.names.len() + usize::from(header.id.is_some());
        let Record { line, mut cells } = record;
        if cells.len() != columns {
            return Err(malformed(line, format!("{} cells in {columns} columns", cells.len())));
        }
        let id = header.id.map(|place| cells.remove(place)).filter(|id| !id.is_empty());
        let cells = header.names.iter().cloned().zip(cells.into_iter().map(Cell::Text)).collect();
        self.rows.row(line, id, cells).map(Some)
    }
}

impl Header {
    fn new(record: Record) -> Result<Self, Broken> {
        let mut names: Vec<Arc<str>> = record.cells.iter().map(|name| name.trim().into()).collect();
        let mut seen = HashSet::new();
        for (at, name) in names.iter().enumerate() {
            if name.is_empty() {
                return Err(malformed(record.line, format!("column {} has no name", at + 1)));
            }
            if !seen.insert(name) {
                return Err(malformed(record.line, format!("two columns are named {name:?}")));
            }
        }
        let id = names.iter().position(|name| &**name == ID_COLUMN);
        id.map(|place| names.remove(place));
        Ok(Self { names, id })
    }
}

/// The cells of one line, or of several where a quoted cell spans them.
#[derive(Debug, Default)]
struct Record {
    line: u64,
    cells: Vec<String>,
}

/// Where in a record the next byte stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum At {
    /// Before the first byte of a cell.
    #[default]
    Start,
    Plain,
    /// Inside of quotes, opened on this line.
    Quoted(u64),
    /// Behind a quote inside of quotes: the end of the cell, or the first half of a quote that is meant.
    Quote(u64),
}

#[derive(Debug, Default)]
struct Lines {
    at: At,
    cell: Vec<u8>,
    cells: Vec<String>,
    /// Bytes of the record so far.
    bytes: usize,
    /// Ends of line before this byte.
    line: u64,
    /// The same at the record's first byte.
    first_line: u64,
    /// The last byte was the first half of CRLF, and has ended the record.
    is_after_return: bool,
}

impl Lines {
    fn push(&mut self, byte: u8) -> Result<Option<Record>, Broken> {
        if mem::take(&mut self.is_after_return) && byte == b'\n' {
            return Ok(None);
        }
        self.bytes += 1;
        if self.bytes > ROW_BYTES_MAX {
            return Err(self.too_long());
        }
        match (self.at, byte) {
            (At::Quoted(opened), b'"') => self.at = At::Quote(opened),
            (At::Quoted(_), byte) => {
                self.line += u64::from(byte == b'\n');
                self.cell.push(byte);
            }
            (At::Quote(opened), b'"') => {
                self.at = At::Quoted(opened);
                self.cell.push(byte);
            }
            (_, b',') => self.end_cell()?,
            (_, b'\n' | b'\r') => {
                self.is_after_return = byte == b'\r';
                return self.end_record();
            }
            (At::Quote(_), _) => return Err(malformed(self.line + 1, "text behind a closing quote")),
            (At::Start, b'"') => self.at = At::Quoted(self.line),
            (At::Start | At::Plain, byte) => {
                self.at = At::Plain;
                self.cell.push(byte);
            }
        }
        Ok(None)
    }

    fn finish(&mut self) -> Result<Option<Record>, Broken> {
        match self.at {
            At::Quoted(opened) => Err(malformed(opened + 1, "a quote is not closed")),
            _ => self.end_record(),
        }
    }

    fn end_cell(&mut self) -> Result<(), Broken> {
        self.at = At::Start;
        let cell = String::from_utf8(mem::take(&mut self.cell));
        self.cells.push(cell.map_err(|_| malformed(self.first_line + 1, "not UTF-8"))?);
        // One more for the ids.
        if self.cells.len() > COLUMNS_MAX + 1 {
            return Err(too_large(self.first_line + 1, format!("more than {COLUMNS_MAX} columns")));
        }
        Ok(())
    }

    /// An empty line is no record.
    fn end_record(&mut self) -> Result<Option<Record>, Broken> {
        let is_blank = self.at == At::Start && self.cells.is_empty();
        if !is_blank {
            self.end_cell()?;
        }
        let line = self.first_line + 1;
        self.line += 1;
        self.first_line = self.line;
        self.bytes = 0;
        let cells = mem::take(&mut self.cells);
        Ok((!is_blank).then_some(Record { line, cells }))
    }

    /// Named by the quote that swallowed the rest, where one did.
    fn too_long(&self) -> Broken {
        match self.at {
            At::Quoted(opened) if opened < self.line => {
                too_large(opened + 1, format!("a row of more than {ROW_BYTES_MAX} bytes: is a quote not closed?"))
            }
            _ => too_large(self.first_line + 1, format!("a row of more than {ROW_BYTES_MAX} bytes")),
        }
    }
}
