//! What a transaction is about to touch, and how that looks before it.
//!
//! The engine has forgotten old values once it has merged, and reading the whole table twice would cost as much as the table
//! is long. So the keys that an update writes or deletes are found in its bytes, and only these are read before and after.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::Map as JsonMap;
use serde_json::Value;
use syncline_protocol::update::EntryId;
use syncline_protocol::update::Touch;
use syncline_protocol::update::Written;
use yrs::Map;
use yrs::MapRef;
use yrs::ReadTxn;

use super::content;
use super::content::COLS;
use super::content::META;
use super::content::ROWS;
use super::content::VIEWS;
use super::field;
use super::field::FieldType;
use super::ledger::SERVER_CLIENTS;
use super::plan::Put;
use super::state::Table;
use super::view::FieldView;

/// What a transaction touches.
#[derive(Debug, Default)]
pub(super) struct Before {
    /// Boxed: a node of the map has room for eleven, and nearly every transaction touches one.
    pub(super) rows: BTreeMap<Arc<str>, Box<RowBefore>>,
    pub(super) fields: BTreeSet<Arc<str>>,
    pub(super) views: BTreeMap<Arc<str>, Option<Value>>,
    pub(super) meta: BTreeMap<Arc<str>, Value>,
    pub(super) roots: BTreeSet<Arc<str>>,
    pub(super) contests: Vec<Contest>,
    /// An id that comes for the first time and may be none.
    pub(super) bad_id: Option<Arc<str>>,
    /// Keys that the roots `rows` and `cols` would gain, and cells.
    pub(super) gains: Gains,
}

/// How much a transaction adds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Gains {
    /// Records.
    pub(super) rows: usize,
    /// Fields.
    pub(super) fields: usize,
    /// Cells.
    pub(super) cells: usize,
}

/// One key of a record.
#[derive(Debug, Default)]
pub(super) struct Key {
    /// What stood there.
    pub(super) was: Value,
    /// What stands there after the transaction, once somebody has looked.
    pub(super) now: Option<Value>,
}

/// How one record looked.
#[derive(Debug, Default)]
pub(super) struct RowBefore {
    pub(super) existed: bool,
    /// Its map after the transaction; `None` before that, and when it is gone.
    pub(super) now: Option<MapRef>,
    /// Whether the map of the record itself is written or deleted: then all of its keys may change.
    pub(super) whole: bool,
    /// The keys that are touched.
    pub(super) raw: BTreeMap<Arc<str>, Key>,
    /// The fields that are touched, with what they showed before.
    pub(super) cells: BTreeMap<Arc<str>, Value>,
    /// The components that are touched, as they were.
    pub(super) components: BTreeMap<Arc<str>, Option<JsonMap<String, Value>>>,
    /// Whether the map of all components is written: then each of them may have come.
    pub(super) all_components: bool,
    /// Who wrote last.
    pub(super) client: Option<u64>,
}

/// A cell that somebody writes who has not seen what is in it.
#[derive(Debug)]
pub(super) struct Contest {
    pub(super) row: Arc<str>,
    pub(super) key: Arc<str>,
    pub(super) item: EntryId,
    pub(super) value: Value,
    /// What was there.
    pub(super) was: Value,
    /// Whether the server wrote what was there, for a request that it has acknowledged.
    pub(super) over_server: bool,
}

impl Before {
    /// Of a content that is there already and was never seen: as if all of it came now.
    pub(super) fn of_nothing(txn: &impl ReadTxn) -> Self {
        let ids = |root| {
            let map = content::root(txn, root);
            let keys = map.map(|map| map.keys(txn).map(Arc::from).collect::<Vec<Arc<str>>>());
            keys.unwrap_or_default()
        };
        Self {
            rows: ids(ROWS).into_iter().map(|id| (id, Box::default())).collect(),
            fields: ids(COLS).into_iter().collect(),
            views: ids(VIEWS).into_iter().map(|id| (id, None)).collect(),
            meta: ids(META).into_iter().map(|key| (key, Value::Null)).collect(),
            ..Self::default()
        }
    }

    /// Of an update that somebody made. `touches` is what it touches.
    pub(super) fn of_update(table: &Table, txn: &impl ReadTxn, update: &[u8], touches: &[Touch]) -> Self {
        let mut before = Self::default();
        let rows = content::root(txn, ROWS);
        for touch in touches {
            let client = touch.writes.last().map(|written| written.id.client);
            before.note(table, txn, rows.as_ref(), &touch.path, client);
            before.count(touch);
            before.contest(update, touch);
        }
        before
    }

    /// Of a plan of ours.
    pub(super) fn of_puts(table: &Table, txn: &impl ReadTxn, puts: &[Put]) -> Self {
        let mut before = Self::default();
        let rows = content::root(txn, ROWS);
        for put in puts {
            let path: Vec<Arc<str>> = match put {
                Put::Meta { key, .. } => vec![META.into(), Arc::from(*key)],
                Put::NewRow { row, .. } => vec![ROWS.into(), row.clone()],
                Put::Cell { row, key, .. } => vec![ROWS.into(), row.clone(), Arc::from(key.as_str())],
                Put::NewComponent { row, component, .. } | Put::Component { row, component, .. } => {
                    vec![ROWS.into(), row.clone(), "$k".into(), component.clone()]
                }
                Put::NewField { field, .. } | Put::Field { field, .. } | Put::FieldOption { field, .. } => {
                    vec![COLS.into(), field.clone()]
                }
            };
            before.note(table, txn, rows.as_ref(), &path, None);
        }
        before
    }

    /// Reads what lies under a path before it changes.
    fn note(
        &mut self,
        table: &Table,
        txn: &impl ReadTxn,
        rows: Option<&MapRef>,
        path: &[Arc<str>],
        client: Option<u64>,
    ) {
        match path {
            [root, id, rest @ ..] if **root == *ROWS => {
                let row = self.rows.entry(id.clone()).or_default();
                row.client = client.or(row.client);
                row.note(table, txn, rows.and_then(|rows| content::nested(txn, rows, id)).as_ref(), rest);
            }
            [root, id, ..] if **root == *COLS => {
                self.fields.insert(id.clone());
            }
            [root, id, ..] if **root == *VIEWS => {
                self.views.entry(id.clone()).or_insert_with(|| view(txn, id));
            }
            [root, key, ..] if **root == *META => {
                self.meta.entry(key.clone()).or_insert_with(|| meta(txn, key));
            }
            [root, ..] => {
                self.roots.insert(root.clone());
            }
            [] => {}
        }
    }

    fn count(&mut self, touch: &Touch) {
        if !touch.adds_key() {
            return;
        }
        if let [root, id] = &*touch.path
            && [ROWS, COLS, VIEWS].contains(&&**root)
            && field::check_row_id(id).is_err()
        {
            self.bad_id.get_or_insert_with(|| id.clone());
        }
        match &*touch.path {
            [root, _] if **root == *ROWS => self.gains.rows += 1,
            [root, _] if **root == *COLS => self.gains.fields += 1,
            [root, _, key] if **root == *ROWS && !field::is_reserved(key) => self.gains.cells += 1,
            _ => {}
        }
    }

    fn contest(&mut self, update: &[u8], touch: &Touch) {
        let [root, row, key] = &*touch.path else { return };
        let over_server = touch.current.is_some_and(|current| current.client >= SERVER_CLIENTS);
        // Of the reserved keys a request sets the order; the mark of a deletion is never overwritten, only taken away.
        if **root != *ROWS || field::is_reserved(key) && !(over_server && **key == *"$o") {
            return;
        }
        let lasting = |written: &&Written| written.is_concurrent && !written.is_deleted_here;
        for written in touch.last_writes().filter(lasting) {
            let Some(any) = written.value(update) else { continue };
            let value = content::from_any_value(any);
            let was = self.rows.get(row).and_then(|row| row.raw.get(key));
            let was = was.map_or(Value::Null, |key| key.was.clone());
            self.contests.push(Contest {
                row: row.clone(),
                key: key.clone(),
                item: written.id,
                value,
                was,
                over_server,
            });
        }
    }
}

impl RowBefore {
    fn note(&mut self, table: &Table, txn: &impl ReadTxn, row: Option<&MapRef>, rest: &[Arc<str>]) {
        let Some(row) = row else { return };
        self.existed = true;
        match rest {
            [] => self.note_all(table, txn, row),
            [key] if **key == *"$k" => self.note_components(txn, row),
            [key, component, ..] if **key == *"$k" => {
                let was = content::nested(txn, row, "$k").and_then(|all| content::nested(txn, &all, component));
                let was = || was.map(|was| content::object(txn, &was));
                self.components.entry(component.clone()).or_insert_with(was);
            }
            [key, ..] => {
                let known = || Key { was: content::value(txn, row, key), now: None };
                let known = self.raw.entry(key.clone()).or_insert_with(known);
                if field::is_reserved(key) {
                    return;
                }
                let id = field::field_of(key);
                if id.len() == key.len() && is_plain(table, id) {
                    let shown = || table.cell(id, std::iter::once((id, &known.was)));
                    self.cells.entry(key.clone()).or_insert_with(shown);
                } else if !self.cells.contains_key(id) {
                    self.cells.insert(Arc::from(id), cell(table, txn, row, id));
                }
            }
        }
    }

    /// Everything of it may change.
    fn note_all(&mut self, table: &Table, txn: &impl ReadTxn, row: &MapRef) {
        self.whole = true;
        let raw = content::raw(txn, row);
        for (id, value) in table.cells(&raw) {
            self.cells.entry(id).or_insert(value);
        }
        for (key, value) in raw {
            self.raw.entry(key).or_insert(Key { was: value, now: None });
        }
        self.note_components(txn, row);
    }

    /// Each of its components may change, come or go.
    fn note_components(&mut self, txn: &impl ReadTxn, row: &MapRef) {
        self.all_components = true;
        let present = content::components(txn, row).into_iter().map(|(id, content)| (id, Some(content)));
        self.components.extend(present);
    }
}

/// What a field of a record shows.
pub(super) fn cell(table: &Table, txn: &impl ReadTxn, row: &MapRef, id: &str) -> Value {
    if is_plain(table, id) {
        let plain = content::value(txn, row, id);
        return table.cell(id, std::iter::once((id, &plain)));
    }
    let own = row.iter(txn).map(|(key, _)| key).filter(|key| field::field_of(key) == id);
    let raw: BTreeMap<&str, Value> = own.map(|key| (key, content::value(txn, row, key))).collect();
    table.cell(id, raw.iter().map(|(key, value)| (*key, value)))
}

/// Whether a field's cells lie under its own id and nowhere else.
pub(super) fn is_plain(table: &Table, id: &str) -> bool {
    table.fields.get(id).is_some_and(|field| !is_spread(field))
}

/// Whether its cells may lie under several keys.
fn is_spread(field: &FieldView) -> bool {
    use FieldType::Attachment;
    use FieldType::Counter;
    use FieldType::Link;
    use FieldType::Multiselect;
    use FieldType::Person;
    matches!(field.kind, Multiselect | Link | Attachment | Counter | Person)
}

pub(super) fn view(txn: &impl ReadTxn, id: &str) -> Option<Value> {
    let views = content::root(txn, VIEWS)?;
    let view = content::nested(txn, &views, id)?;
    Some(Value::Object(content::object(txn, &view)))
}

pub(super) fn meta(txn: &impl ReadTxn, key: &str) -> Value {
    content::root(txn, META).map_or(Value::Null, |meta| content::value(txn, &meta, key))
}
