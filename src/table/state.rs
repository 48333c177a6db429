//! What is kept of a table beside its content: who changed what when, in which order records stand, which fields there are.
//!
//! Everything here follows from the document's log, record by record, so it is the same after every start.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::HashMap;
use std::sync::Arc;

use serde_json::Value;

use super::change::Resolution;
use super::content::Raw;
use super::field;
use super::view::FieldView;
use super::view::Stamp;

/// The table as it is now, without its cells: they are in the document.
#[derive(Debug, Default)]
pub struct Table {
    /// Every record, deleted ones too.
    pub(crate) rows: HashMap<Arc<str>, Row>,
    /// Order key and id of every record, deleted ones too, in byte order.
    pub(crate) order: BTreeSet<(Arc<str>, Arc<str>)>,
    /// Every field, deleted ones too.
    pub(crate) fields: BTreeMap<Arc<str>, FieldView>,
    /// The root `meta`: `schema`, `title`, `settings`, …
    pub(crate) meta: BTreeMap<Arc<str>, Value>,
    /// Records that are not deleted.
    pub(crate) live: usize,
    /// Cells that hold something, also of deleted records.
    pub(crate) cells: usize,
}

/// What is kept of one record.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Row {
    /// Its order key; empty when it has none.
    pub(crate) order: Arc<str>,
    /// How often its visible state changed.
    pub(crate) version: u64,
    /// When it came.
    pub(crate) created: Stamp,
    /// When it last changed.
    pub(crate) updated: Stamp,
    /// When it was marked as deleted, if it is.
    pub(crate) deleted: Option<Stamp>,
    /// Its height in pixels; [`Value::Null`] when it has none of its own.
    pub(crate) height: Value,
    /// Its fields that were ever written, and its nested components as `$k/<id>`, sorted by id.
    pub(crate) fields: Vec<FieldMark>,
}

/// When a cell last changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldMark {
    /// The field.
    pub(crate) field: Arc<str>,
    /// The record's version then.
    pub(crate) version: u64,
    /// When and by whom.
    pub(crate) stamp: Stamp,
}

/// Under which name the versions of a nested component are kept among those of fields.
pub(crate) fn component_mark(component: &str) -> Arc<str> {
    format!("$k/{component}").into()
}

impl Table {
    /// What is done when two wrote one cell without knowing of each other: `meta.settings.staleOffline`.
    #[must_use]
    pub fn policy(&self) -> Resolution {
        let word = self.meta.get("settings").and_then(|settings| settings.get("staleOffline")).and_then(Value::as_str);
        let all = [Resolution::LatestArrival, Resolution::OnlineWins];
        all.into_iter().find(|policy| Some(policy.word()) == word).unwrap_or_default()
    }

    /// What each field shows, from the raw keys of a record. Reserved keys are no cells.
    #[must_use]
    pub fn cells(&self, raw: &Raw) -> BTreeMap<Arc<str>, Value> {
        let cells = raw.iter().filter(|(key, _)| !field::is_reserved(key)).map(|(key, value)| (&**key, value));
        let mut by_field: BTreeMap<&str, Vec<(&str, &Value)>> = BTreeMap::new();
        cells.for_each(|(key, value)| by_field.entry(field::field_of(key)).or_default().push((key, value)));
        let shown = by_field.into_iter().map(|(id, raw)| (self.id_of(id), self.cell(id, raw)));
        shown.filter(|(_, value)| !value.is_null()).collect()
    }

    /// What one field shows, from the raw keys that are its.
    pub(crate) fn cell<'a>(&self, id: &str, raw: impl IntoIterator<Item = (&'a str, &'a Value)>) -> Value {
        match self.fields.get(id) {
            Some(field) => field::read(field, raw),
            None => field::read_free(raw),
        }
    }

    /// The field's own name of itself, so that there is one allocation of it.
    fn id_of(&self, id: &str) -> Arc<str> {
        self.fields.get_key_value(id).map_or_else(|| Arc::from(id), |(id, _)| id.clone())
    }

    /// Whether the document says of itself that it is a grid: then its fields are declared, and cells are checked.
    #[must_use]
    pub fn is_declared(&self) -> bool {
        self.meta.get("schema").is_some_and(|schema| schema == "grid")
    }
}
