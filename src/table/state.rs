//! What is kept of a table beside its content: who changed what when, in which order records stand, which fields there are.
//!
//! Everything here follows from the document's log, record by record, so it is the same after every start.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::HashMap;
use std::sync::Arc;

use serde_json::Value;

use super::view::FieldView;
use super::view::Stamp;

/// The table as it is now, without its cells: they are in the document.
#[derive(Debug, Default)]
pub struct Table {
    /// Every record, deleted ones too.
    pub(super) rows: HashMap<Arc<str>, Row>,
    /// Order key and id of every record, deleted ones too, in byte order.
    pub(super) order: BTreeSet<(Arc<str>, Arc<str>)>,
    /// Every field, deleted ones too.
    pub(super) fields: BTreeMap<Arc<str>, FieldView>,
    /// The root `meta`: `schema`, `title`, `settings`, …
    pub(super) meta: BTreeMap<Arc<str>, Value>,
    /// Records that are not deleted.
    pub(super) live: usize,
}

/// What is kept of one record.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Row {
    /// Its order key; empty when it has none.
    pub(super) order: Arc<str>,
    /// How often its visible state changed.
    pub(super) version: u64,
    /// When it came.
    pub(super) created: Stamp,
    /// When it last changed.
    pub(super) updated: Stamp,
    /// When it was marked as deleted, if it is.
    pub(super) deleted: Option<Stamp>,
    /// Its fields that were ever written, sorted by id.
    pub(super) fields: Vec<FieldMark>,
}

/// When a cell last changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldMark {
    /// The field.
    pub(super) field: Arc<str>,
    /// The record's version then.
    pub(super) version: u64,
    /// When and by whom.
    pub(super) stamp: Stamp,
}

impl Table {
    /// Whether the document says of itself that it is a grid: then its fields are declared, and cells are checked.
    #[must_use]
    pub fn is_declared(&self) -> bool {
        self.meta.get("schema").is_some_and(|schema| schema == "grid")
    }
}
