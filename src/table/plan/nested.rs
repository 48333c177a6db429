//! Nested components: maps in the map `$k` of a record, which come, change and go beside its cells.

use std::sync::Arc;

use serde_json::Map;
use serde_json::Value;
use syncline_protocol::ErrorCode;

use super::Plan;
use super::Put;
use super::Report;
use super::Sight;
use super::cells::Place;
use super::conflict;
use super::conflict::Claim;
use super::conflict::Expectation;
use super::fresh_id;
use super::records;
use crate::table::column::Column;
use crate::table::command::Merged;
use crate::table::command::NestedOp;
use crate::table::command::NewRecord;
use crate::table::content::Components;
use crate::table::content::Raw;
use crate::table::field;
use crate::table::limits;
use crate::table::order;
use crate::table::refused::Refused;
use crate::table::state;

type Content = Map<String, Value>;

/// What `op` comes to in a record.
pub(super) fn plan(
    sight: &Sight<'_>,
    (row, op): (&str, &NestedOp),
    expectation: Expectation,
    stamp: Value,
    chance: &mut dyn FnMut() -> u32,
) -> Result<Plan, Refused> {
    let of_row = OfRow { sight, row, all: (sight.components)(row), expectation };
    match op {
        NestedOp::Create { id, content } => of_row.create(id.as_deref(), content, &stamp, chance),
        NestedOp::Update { id, updates } => of_row.update(id, updates),
        NestedOp::Delete { id } => of_row.delete(id, stamp),
    }
}

/// The components of one record.
struct OfRow<'a> {
    sight: &'a Sight<'a>,
    row: &'a str,
    all: Components,
    expectation: Expectation,
}

impl OfRow<'_> {
    /// A new one, or one in the place of one that is marked as deleted.
    fn create(
        &self,
        id: Option<&str>,
        content: &Content,
        stamp: &Value,
        chance: &mut dyn FnMut() -> u32,
    ) -> Result<Plan, Refused> {
        let id: Arc<str> = match id {
            Some(id) => self.checked_id(id)?,
            None => fresh_id(|id| self.all.contains_key(id), || field::new_row_id(chance)).into(),
        };
        let mut content = checked(content, "nestedComponent")?;
        content.retain(|_, value| !value.is_null());
        content.get_mut("props").and_then(Value::as_object_mut).into_iter().for_each(|props| {
            props.retain(|_, value| !value.is_null());
        });
        self.check_parent(&id, &content, "nestedComponent")?;
        content.insert("$o".to_owned(), self.last_place(chance).into());
        limits::check_components(&self.all)?;
        limits::check_component_bytes(
            &self.all,
            content.iter().map(|(key, value)| limits::entry_bytes(key, value)).sum(),
        )?;
        let (mut puts, row) = if self.sight.table.rows.contains_key(self.row) {
            (vec![], self.known_row(&id, &content)?)
        } else {
            (self.new_row(stamp, chance)?, (self.row.into(), None))
        };
        puts.push(Put::NewComponent { row: row.0.clone(), component: id.clone(), content });
        Ok(Plan { puts, report: Report::Nested { id, row } })
    }

    /// Sets what differs.
    fn update(&self, id: &str, updates: &Content) -> Result<Plan, Refused> {
        let updates = checked(updates, "updates")?;
        records::find(self.sight.table, self.row)?;
        let (id, there) = self.live(id)?;
        self.check_parent(id, &updates, "updates")?;
        let row = self.known_row(id, &updates)?;
        let changes = differences(there, updates);
        let bytes = |value: Option<&Value>| value.map_or(0, |value| limits::entry_bytes("", value));
        let grows = |change: &Change<'_>| bytes(change.value.as_ref()).saturating_sub(bytes(change.was));
        limits::check_component_bytes(&self.all, changes.iter().map(grows).sum())?;
        let put = |Change { key, value, .. }| Put::Component { row: row.0.clone(), component: id.clone(), key, value };
        let puts = changes.into_iter().map(put).collect();
        Ok(Plan { puts, report: Report::Nested { id: id.clone(), row } })
    }

    /// Marks it. One that is marked already stays as it is: a repeated request must succeed as the first one did.
    fn delete(&self, id: &str, stamp: Value) -> Result<Plan, Refused> {
        records::find(self.sight.table, self.row)?;
        let (id, there) = self.all.get_key_value(id).ok_or_else(|| self.missing(id))?;
        if is_deleted(there) {
            let (row, _) = records::find(self.sight.table, self.row)?;
            return Ok(Plan { puts: vec![], report: Report::Nested { id: id.clone(), row: (row.clone(), None) } });
        }
        let row = self.known_row(id, &Content::new())?;
        let (key, value) = ("$d".to_owned(), Some(stamp));
        let put = Put::Component { row: row.0.clone(), component: id.clone(), key, value };
        Ok(Plan { puts: vec![put], report: Report::Nested { id: id.clone(), row } })
    }

    /// The record, when it is not deleted and no version stands in the way.
    fn known_row(&self, component: &str, wanted: &Content) -> Result<(Arc<str>, Option<Merged>), Refused> {
        let (id, row) = records::find(self.sight.table, self.row)?;
        if row.deleted.is_some() {
            return Err(conflict::deleted(self.sight, id, row));
        }
        let current = self.all.get(component).cloned().map_or(Value::Null, Value::Object);
        let claim = Wanted { mark: state::component_mark(component), wanted, current };
        let merged = conflict::judge(self.sight, id, row, self.expectation, &[claim])
            .map_err(|refused| refused.with("nestedComponentId", component))?;
        Ok((id.clone(), merged))
    }

    /// An ordinary record at the end, with room for components.
    fn new_row(&self, stamp: &Value, chance: &mut dyn FnMut() -> u32) -> Result<Vec<Put>, Refused> {
        self.expectation.of_none(self.row)?;
        let new = NewRecord { id: Some(self.row.to_owned()), ..NewRecord::default() };
        let mut puts = records::create(self.sight, &[new], |_| Place::Whole, stamp, chance)?.puts;
        if let Some(Put::NewRow { components, .. }) = puts.first_mut() {
            *components = true;
        }
        Ok(puts)
    }

    fn checked_id(&self, id: &str) -> Result<Arc<str>, Refused> {
        let at = |wrong: field::Wrong| Refused::of_description(wrong.under("nestedComponent.id"));
        field::check_row_id(id).map_err(at)?;
        if self.all.get(id).is_some_and(|there| !is_deleted(there)) {
            let refused = Refused::new(ErrorCode::AlreadyExists, "the record has a component with this id");
            return Err(refused.with("recordId", self.row).with("nestedComponentId", id));
        }
        Ok(id.into())
    }

    fn live(&self, id: &str) -> Result<(&Arc<str>, &Content), Refused> {
        let there = self.all.get_key_value(id).filter(|(_, there)| !is_deleted(there));
        there.ok_or_else(|| self.missing(id))
    }

    fn missing(&self, id: &str) -> Refused {
        let refused = Refused::new(ErrorCode::NotFound, "the record has no such component");
        refused.with("recordId", self.row).with("nestedComponentId", id)
    }

    /// A component lies in no other that lies in it.
    fn check_parent(&self, id: &str, content: &Content, path: &str) -> Result<(), Refused> {
        let Some(parent) = content.get("parent").filter(|parent| !parent.is_null()) else { return Ok(()) };
        let wrong = |message: &str| Refused::wrong(format!("{path}.parentId"), message);
        let Some(mut above) = parent.as_str().filter(|parent| field::check_row_id(parent).is_ok()) else {
            return Err(wrong("a parent is the id of a component"));
        };
        // As many steps as there are components: what others have made a circle ends too.
        for _ in 0..=self.all.len() {
            if above == id {
                return Err(wrong("a component cannot lie in itself"));
            }
            let next = self.all.get(above).and_then(|there| there.get("parent")).and_then(Value::as_str);
            let Some(next) = next else { return Ok(()) };
            above = next;
        }
        Ok(())
    }

    /// An order key behind all that are there.
    fn last_place(&self, chance: &mut dyn FnMut() -> u32) -> String {
        let places = self.all.values().filter_map(|there| there.get("$o")?.as_str());
        let last = places.filter(|key| order::is_valid(key)).max();
        let keys = order::jittered_keys_between(last, None, 1, chance);
        // Equal keys are told apart by the ids.
        keys.ok().and_then(|mut keys| keys.pop()).or(last.map(str::to_owned)).unwrap_or_default()
    }
}

/// What somebody wants of a component: one field, as far as versions go.
struct Wanted<'a> {
    mark: Arc<str>,
    wanted: &'a Content,
    current: Value,
}

impl Claim for Wanted<'_> {
    fn field(&self) -> &str {
        &self.mark
    }

    fn wanted(&self) -> Value {
        Value::Object(self.wanted.clone())
    }

    fn current(&self, _: &Raw) -> Value {
        self.current.clone()
    }
}

fn is_deleted(component: &Content) -> bool {
    component.contains_key("$d")
}

/// A content as it is kept: without `id`, with `parent` for `parentId`, every value as it would be shown.
fn checked(content: &Content, path: &str) -> Result<Content, Refused> {
    let mut kept = Content::new();
    for (key, value) in content.iter().filter(|(key, _)| *key != "id") {
        let value = match (key.as_str(), value) {
            ("props", Value::Object(props)) => Value::Object(checked_props(props, &format!("{path}.props"))?),
            ("props", Value::Null) => Value::Null,
            ("props", _) => return Err(Refused::wrong(format!("{path}.props"), "`props` is an object")),
            _ => checked_value(key, value, path)?,
        };
        let key = if key == "parentId" { "parent" } else { key };
        kept.insert(key.to_owned(), value);
    }
    Ok(kept)
}

fn checked_props(props: &Content, path: &str) -> Result<Content, Refused> {
    props.iter().map(|(key, value)| Ok((key.clone(), checked_value(key, value, path)?))).collect()
}

/// As for a cell of a table that declares no fields.
fn checked_value(key: &str, value: &Value, path: &str) -> Result<Value, Refused> {
    let column = field::check_row_id(key).map(|()| Column::Free(key));
    let checked = column.and_then(|column| column.check(value));
    checked.map_err(|wrong| Refused::of_cell(wrong.under(&format!("{path}.{key}")), value))
}

/// One key to set, or to take away.
struct Change<'a> {
    /// `props/<key>` for one of the props.
    key: String,
    value: Option<Value>,
    was: Option<&'a Value>,
}

fn differences(there: &Content, wanted: Content) -> Vec<Change<'_>> {
    let mut changes = Vec::new();
    for (key, value) in wanted {
        match (key.as_str(), value) {
            ("props", Value::Object(props)) => {
                let known = there.get("props").and_then(Value::as_object);
                for (prop, value) in props {
                    let was = known.and_then(|known| known.get(&prop));
                    changes.extend(difference(format!("props/{prop}"), was, value));
                }
            }
            (_, value) => {
                let was = there.get(&key);
                changes.extend(difference(key, was, value));
            }
        }
    }
    changes
}

fn difference(key: String, was: Option<&Value>, wanted: Value) -> Option<Change<'_>> {
    let value = Some(wanted).filter(|wanted| !wanted.is_null());
    (was != value.as_ref()).then_some(Change { key, value, was })
}
