//! What both formats have in common: bounds, ids that are seen once, and the mark at the beginning.

use std::collections::HashSet;
use std::sync::Arc;

use super::Broken;
use super::BrokenKind;
use super::COLUMNS_MAX;
use super::Cell;
use super::ROWS_MAX;
use super::Row;
use crate::table::field::check_row_id;

/// Builds rows and refuses what goes beyond the bounds.
#[derive(Debug, Default)]
pub(super) struct Rows {
    count: usize,
    ids: HashSet<String>,
}

impl Rows {
    /// A row, numbered and checked.
    pub(super) fn row(&mut self, line: u64, id: Option<String>, cells: Vec<(Arc<str>, Cell)>) -> Result<Row, Broken> {
        self.count += 1;
        if self.count > ROWS_MAX {
            return Err(too_large(line, format!("more than {ROWS_MAX} rows")));
        }
        if cells.len() > COLUMNS_MAX {
            return Err(too_large(line, format!("more than {COLUMNS_MAX} columns")));
        }
        if let Some(id) = &id {
            check_row_id(id).map_err(|wrong| malformed(line, wrong.message))?;
            if !self.ids.insert(id.clone()) {
                return Err(malformed(line, "a row before has the same id"));
            }
        }
        Ok(Row { line, id, cells })
    }
}

/// Leaves out a byte order mark, wherever the pieces are cut.
#[derive(Debug, Default)]
pub(super) struct Mark {
    /// How many of its bytes were seen; all of them, too, once it is certain that there is none.
    seen: usize,
}

impl Mark {
    const BYTES: &'static [u8; 3] = &[0xef, 0xbb, 0xbf];

    /// What is to be read of the next byte: nothing, itself, or what had been taken for the mark and itself.
    pub(super) fn pass(&mut self, byte: u8) -> impl Iterator<Item = u8> + use<> {
        let seen = self.seen;
        let (held, byte) = match Self::BYTES.get(seen) {
            Some(expected) if *expected == byte => {
                self.seen += 1;
                (0, None)
            }
            Some(_) => {
                self.seen = Self::BYTES.len();
                (seen, Some(byte))
            }
            None => (0, Some(byte)),
        };
        Self::BYTES.iter().copied().take(held).chain(byte)
    }

    /// What had been taken for the mark when the input ended in the middle of it.
    pub(super) fn rest(&self) -> &'static [u8] {
        if self.seen < Self::BYTES.len() { &Self::BYTES[..self.seen] } else { &[] }
    }
}

pub(super) fn malformed(line: u64, message: impl Into<String>) -> Broken {
    Broken { line, kind: BrokenKind::Malformed, message: message.into() }
}

pub(super) fn too_large(line: u64, message: impl Into<String>) -> Broken {
    Broken { line, kind: BrokenKind::TooLarge, message: message.into() }
}
