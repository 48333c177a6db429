//! What a transaction changed: what was noted before it, against what is there now.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::Map as JsonMap;
use serde_json::Value;
use yrs::MapRef;
use yrs::ReadTxn;

use super::before;
use super::before::Before;
use super::before::RowBefore;
use super::change::Author;
use super::change::ChangeSet;
use super::change::Changed;
use super::change::ComponentChange;
use super::change::FieldChange;
use super::change::Life;
use super::change::RowChange;
use super::content;
use super::content::COLS;
use super::content::ROWS;
use super::field;
use super::register::Register;
use super::state;
use super::state::FieldMark;
use super::state::Row;
use super::view::FieldView;
use super::view::Stamp;

/// What is said of a transaction besides its bytes.
#[derive(Debug, Clone)]
pub(super) struct Circumstances<'a> {
    /// Who.
    pub author: &'a Author,
    /// When it was accepted: milliseconds since 1970.
    pub at_ms: u64,
    /// Roots in which something changed, as the engine says.
    pub roots: &'a [Arc<str>],
}

impl Register {
    /// Takes into the register what became visible, and says it.
    pub(super) fn take_in(&mut self, txn: &impl ReadTxn, before: &mut Before, said: &Circumstances<'_>) -> ChangeSet {
        let mut change = ChangeSet { author: said.author.clone(), at_ms: said.at_ms, ..ChangeSet::default() };
        // Fields first: cells are read as their fields say.
        for id in &before.fields {
            if let Some(changed) = self.take_field(txn, id) {
                change.fields.insert(id.clone(), changed);
            }
        }
        for (key, was) in &before.meta {
            let now = before::meta(txn, key);
            if now != *was {
                match now {
                    Value::Null => self.table.meta.remove(key),
                    _ => self.table.meta.insert(key.clone(), now.clone()),
                };
                change.meta.insert(key.clone(), now);
            }
        }
        for (id, was) in &before.views {
            let now = before::view(txn, id);
            if now != *was {
                change.views.insert(id.clone(), now);
            }
        }
        let rows = content::root(txn, ROWS);
        for (id, was) in &mut before.rows {
            was.now = rows.as_ref().and_then(|rows| content::nested(txn, rows, id));
            if let Some(changed) = self.take_row(txn, id, was, said) {
                change.rows.insert(id.clone(), changed);
            }
        }
        self.take_roots(txn, before.roots.iter().chain(said.roots).cloned(), said, &mut change);
        change
    }

    fn take_field(&mut self, txn: &impl ReadTxn, id: &Arc<str>) -> Option<FieldChange> {
        let map = content::root(txn, COLS).and_then(|cols| content::nested(txn, &cols, id));
        let now = map.map(|map| field::from_column(id, &Value::Object(content::object(txn, &map))));
        let was = match &now {
            Some(now) => self.table.fields.insert(id.clone(), now.clone()),
            None => self.table.fields.remove(id),
        };
        let changed = compared(was.as_ref(), now.as_ref());
        let life = match (&was, &now) {
            (None, Some(_)) => Some(Life::Created),
            (Some(_), None) => Some(Life::Purged),
            (Some(was), Some(now)) if was.deleted != now.deleted => {
                Some(if now.deleted { Life::Deleted } else { Life::Restored })
            }
            _ => None,
        };
        (life.is_some() || !changed.is_empty()).then_some(FieldChange { life, changed })
    }

    fn take_row(
        &mut self,
        txn: &impl ReadTxn,
        id: &Arc<str>,
        was: &mut RowBefore,
        said: &Circumstances<'_>,
    ) -> Option<Box<RowChange>> {
        let stamp = Stamp { at_ms: said.at_ms, user: self.user_of(was.client, said.author) };
        let mut changed = Box::new(RowChange { user: stamp.user.clone(), ..RowChange::default() });
        let Some(map) = &was.now.clone() else {
            let gone = self.purge(id)?;
            self.table.cells -= was.cells.values().filter(|cell| !cell.is_null()).count().min(self.table.cells);
            changed.life = Some(Life::Purged);
            changed.version = gone;
            return Some(changed);
        };
        let is_new = !self.table.rows.contains_key(id);
        // What is kept of it shares its name with the entries.
        let id = &if is_new { self.entries.name(id) } else { id.clone() };
        if is_new {
            let raw = content::raw(txn, map);
            let seen = |(id, new)| (id, Changed { old: Value::Null, new });
            changed.cells = self.table.cells(&raw).into_iter().map(seen).collect();
            self.compare_reserved(id, |key| raw.get(key).cloned().unwrap_or_default(), &stamp, &mut changed);
            changed.life = Some(Life::Created);
        } else {
            self.compare_cells(txn, map, was, &mut changed);
            if was.whole || was.raw.keys().any(|key| field::is_reserved(key)) {
                self.compare_reserved(id, |key| content::value(txn, map, key), &stamp, &mut changed);
            }
        }
        compare_components(txn, map, was, is_new, &mut changed);
        let nothing = changed.life.is_none()
            && changed.cells.is_empty()
            && changed.order.is_none()
            && changed.height.is_none()
            && changed.components.is_empty();
        if nothing {
            return None;
        }
        self.mark(id, is_new, &stamp, &mut changed);
        Some(changed)
    }

    /// Takes what the cells showed before.
    fn compare_cells(&self, txn: &impl ReadTxn, map: &MapRef, was: &mut RowBefore, changed: &mut RowChange) {
        let mut cells = std::mem::take(&mut was.cells);
        if was.whole {
            let now = self.table.cells(&content::raw(txn, map));
            for id in now.into_keys() {
                cells.entry(id).or_default();
            }
        }
        for (id, old) in cells {
            let new = match was.raw.get_mut(&id) {
                // Who judges it does not read it again.
                Some(key) if before::is_plain(&self.table, &id) => {
                    let now = key.now.insert(content::value(txn, map, &id));
                    self.table.cell(&id, std::iter::once((&*id, &*now)))
                }
                _ => before::cell(&self.table, txn, map, &id),
            };
            if old != new {
                changed.cells.insert(id, Changed { old, new });
            }
        }
    }

    /// Order, height and deletion.
    fn compare_reserved(&mut self, id: &Arc<str>, now: impl Fn(&str) -> Value, stamp: &Stamp, changed: &mut RowChange) {
        let row = self.table.rows.entry(id.clone()).or_default();
        let order: Arc<str> = now("$o").as_str().unwrap_or_default().into();
        if row.order != order || changed.life.is_none() && !self.table.order.contains(&(order.clone(), id.clone())) {
            self.table.order.remove(&(row.order.clone(), id.clone()));
            changed.order = Some(Changed { old: (&*row.order).into(), new: (&*order).into() });
            row.order = order;
        }
        self.table.order.insert((row.order.clone(), id.clone()));
        let height = now("$h");
        if row.height != height {
            changed.height = Some(Changed { old: row.height.clone(), new: height.clone() });
            row.height = height;
        }
        let is_deleted = !now("$d").is_null();
        if is_deleted != row.deleted.is_some() {
            row.deleted = is_deleted.then(|| stamp.clone());
            changed.life = Some(if is_deleted { Life::Deleted } else { Life::Restored });
        }
    }

    /// Counts the change and remembers who made it.
    fn mark(&mut self, id: &Arc<str>, is_new: bool, stamp: &Stamp, changed: &mut RowChange) {
        let purged = if is_new { self.purged.remove(id) } else { None };
        if is_new {
            self.table.rows.entry(id.clone()).or_default();
        }
        let Some(row) = self.table.rows.get_mut(id) else { return };
        if is_new {
            row.version = purged.unwrap_or(0);
            row.created = stamp.clone();
        }
        self.table.live = self.table.live + usize::from(matches!(changed.life, Some(Life::Created | Life::Restored)))
            - usize::from(matches!(changed.life, Some(Life::Deleted)))
            - usize::from(is_new && row.deleted.is_some());
        row.version += 1;
        row.updated = stamp.clone();
        changed.version = row.version;
        changed.is_deleted = row.deleted.is_some();
        for field in changed.cells.keys().chain(changed.texts.keys()) {
            row.mark(field, stamp);
        }
        for component in changed.components.keys() {
            row.mark(&state::component_mark(component), stamp);
        }
        let come = changed.cells.values().filter(|cell| cell.old.is_null()).count();
        let gone = changed.cells.values().filter(|cell| cell.new.is_null()).count();
        self.table.cells = (self.table.cells + come).saturating_sub(gone);
    }

    /// Forgets a record that is gone but for its version. Answers that, one higher: the record must not count from 1 again
    /// when an undo brings it back.
    fn purge(&mut self, id: &Arc<str>) -> Option<u64> {
        let row = self.table.rows.remove(id)?;
        self.table.order.remove(&(row.order, id.clone()));
        self.table.live -= usize::from(row.deleted.is_none());
        self.purged.insert(id.clone(), row.version + 1);
        Some(row.version + 1)
    }

    /// Texts of cells in roots of their own, and free content.
    fn take_roots(
        &mut self,
        txn: &impl ReadTxn,
        roots: impl Iterator<Item = Arc<str>>,
        said: &Circumstances<'_>,
        change: &mut ChangeSet,
    ) {
        for root in roots {
            match text_cell(&root) {
                Some((row, field)) if self.table.rows.contains_key(row) => {
                    let (row, field): (Arc<str>, Arc<str>) = (row.into(), field.into());
                    let changed = change.rows.entry(row.clone()).or_default();
                    if changed.texts.insert(field.clone(), content::text_length(txn, &root)).is_some() {
                        continue;
                    }
                    let stamp = Stamp { at_ms: said.at_ms, user: said.author.user.clone() };
                    if changed.version == 0 {
                        changed.user.clone_from(&stamp.user);
                        self.mark(&row, false, &stamp, changed);
                    } else if let Some(row) = self.table.rows.get_mut(&row) {
                        row.mark(&field, &stamp);
                    }
                }
                _ => {
                    change.roots.insert(root);
                }
            }
        }
    }

    /// Whose the change is: that of the client id which wrote, where that is known.
    pub(super) fn user_of(&self, client: Option<u64>, author: &Author) -> Option<Arc<str>> {
        client.and_then(|client| self.ledger.user_of(client)).or(author.user.as_ref()).cloned()
    }
}

impl Row {
    /// A field changed with the record's present version.
    fn mark(&mut self, field: &Arc<str>, stamp: &Stamp) {
        let (version, stamp) = (self.version, stamp.clone());
        match self.fields.binary_search_by(|known| known.field.cmp(field)) {
            // The name stays, so that there is one allocation of it.
            Ok(at) => (self.fields[at].version, self.fields[at].stamp) = (version, stamp),
            Err(at) => self.fields.insert(at, FieldMark { field: field.clone(), version, stamp }),
        }
    }
}

/// The record and the field of a root such as `t/<row>/<field>`.
fn text_cell(root: &str) -> Option<(&str, &str)> {
    let rest = root.strip_prefix("t/").or_else(|| root.strip_prefix("f/"))?;
    rest.split_once('/')
}

fn compare_components(txn: &impl ReadTxn, map: &MapRef, was: &RowBefore, is_new: bool, changed: &mut RowChange) {
    if !is_new && was.components.is_empty() && !was.all_components {
        return;
    }
    let now = content::components(txn, map);
    let ids: BTreeSet<&Arc<str>> = was.components.keys().chain(now.keys()).collect();
    for id in ids {
        if !is_new && !was.all_components && !was.components.contains_key(id) {
            continue;
        }
        let old = was.components.get(id).and_then(Option::as_ref);
        let new = now.get(id);
        if let Some(component) = compared_component(old, new) {
            changed.components.insert(id.clone(), component);
        }
    }
}

fn compared_component(
    old: Option<&JsonMap<String, Value>>,
    new: Option<&JsonMap<String, Value>>,
) -> Option<ComponentChange> {
    let flat = |content: Option<&JsonMap<String, Value>>| content.map(flattened).unwrap_or_default();
    let (was, is) = (flat(old), flat(new));
    let keys: BTreeSet<&Arc<str>> = was.keys().chain(is.keys()).collect();
    let pick = |from: &BTreeMap<Arc<str>, Value>, key: &Arc<str>| from.get(key).cloned().unwrap_or_default();
    let pairs = keys.into_iter().map(|key| (key.clone(), Changed { old: pick(&was, key), new: pick(&is, key) }));
    let changed: BTreeMap<Arc<str>, Changed> =
        pairs.filter(|(key, changed)| changed.old != changed.new && **key != *"$d").collect();
    let deleted = |content: Option<&JsonMap<String, Value>>| content.is_some_and(|content| content.contains_key("$d"));
    let life = match (old, new) {
        (None, None) => None,
        (None, Some(_)) => Some(Life::Created),
        (Some(_), None) => Some(Life::Purged),
        _ if deleted(old) == deleted(new) => None,
        _ => Some(if deleted(new) { Life::Deleted } else { Life::Restored }),
    };
    let parent = is.get("parent").and_then(Value::as_str).map(Arc::from);
    (life.is_some() || !changed.is_empty()).then_some(ComponentChange { life, parent, changed })
}

/// `props` beside the other keys, without their own level.
fn flattened(content: &JsonMap<String, Value>) -> BTreeMap<Arc<str>, Value> {
    let mut flat = BTreeMap::new();
    for (key, value) in content {
        match value {
            Value::Object(props) if key == "props" => {
                flat.extend(props.iter().map(|(key, value)| (Arc::from(key.as_str()), value.clone())));
            }
            _ => {
                flat.insert(Arc::from(key.as_str()), value.clone());
            }
        }
    }
    flat
}

/// The properties in which two versions of a field differ.
fn compared(was: Option<&FieldView>, now: Option<&FieldView>) -> BTreeMap<&'static str, Changed> {
    let of = |field: Option<&FieldView>| field.map(properties).unwrap_or_default();
    let (was, now) = (of(was), of(now));
    let names: BTreeSet<&'static str> = was.keys().chain(now.keys()).copied().collect();
    let pick = |from: &BTreeMap<&'static str, Value>, name| from.get(name).cloned().unwrap_or_default();
    names
        .into_iter()
        .map(|name| (name, Changed { old: pick(&was, name), new: pick(&now, name) }))
        .filter(|(_, changed)| changed.old != changed.new)
        .collect()
}

fn properties(field: &FieldView) -> BTreeMap<&'static str, Value> {
    BTreeMap::from([
        ("name", Value::from(field.name.clone())),
        ("type", Value::from(field.kind.word())),
        ("width", field.width.map_or(Value::Null, Value::from)),
        ("order", Value::from(field.order.clone())),
        ("primary", Value::from(field.primary)),
        ("options", Value::Object(field.options.clone())),
    ])
}
