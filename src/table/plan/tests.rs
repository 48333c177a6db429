//! A table in memory that plans are made for and carried out in, and what each command comes to.

mod create;
mod fields;
mod life;
mod patch;
mod place;
mod read;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use super::*;
use crate::table::command::Cells;
use crate::table::command::Guard;
use crate::table::command::NewField;
use crate::table::command::NewRecord;
use crate::table::command::OnConflict;
use crate::table::command::RecordPatch;
use crate::table::field;
use crate::table::field::FieldType;
use crate::table::read::page;
use crate::table::state::FieldMark;
use crate::table::state::Row;
use crate::table::view::FieldView;
use crate::table::view::Stamp;

/// Where no record has nested components.
const NO_COMPONENTS: fn(&str) -> Components = |_| Components::new();

/// A table with its records, and who asks of it.
#[derive(Default)]
struct World {
    table: Table,
    raws: BTreeMap<Arc<str>, Raw>,
    components: BTreeMap<Arc<str>, Components>,
    doc: &'static str,
    guard: Option<Guard>,
    now_ms: u64,
    draws: u32,
}

impl World {
    /// Nothing at all.
    fn empty() -> Self {
        Self { now_ms: 1_700_000_000_000, doc: "table:t", ..Self::default() }
    }

    /// A table without fields.
    fn declared() -> Self {
        let mut world = Self::empty();
        world.table.meta.insert("schema".into(), "grid".into());
        world
    }

    /// A table with a text field `t` "Title" and a number field `n` "Count".
    fn simple() -> Self {
        Self::declared().field("t", "Title", FieldType::Text, json!({})).field(
            "n",
            "Count",
            FieldType::Number,
            json!({}),
        )
    }

    fn field(mut self, id: &str, name: &str, kind: FieldType, options: Value) -> Self {
        let Value::Object(options) = options else { panic!("options are an object") };
        let order = format!("a{}", self.table.fields.len());
        let field = FieldView {
            id: id.into(),
            name: name.into(),
            kind,
            width: None,
            order,
            primary: false,
            options,
            deleted: false,
        };
        self.table.fields.insert(id.into(), field);
        self
    }

    /// A record of version 1 that `ann` made.
    fn row(mut self, id: &str, order: &str, cells: Value) -> Self {
        let mut raw: Raw = pairs(&cells).map(|(key, value)| (Arc::from(key), value.clone())).collect();
        raw.insert("$o".into(), order.into());
        let stamp = Stamp { at_ms: 1_600_000_000_000, user: Some("ann".into()) };
        let mut fields: Vec<_> = pairs(&cells).map(|(key, _)| field::field_of(key).to_owned()).collect();
        fields.dedup();
        let mark = |field: String| FieldMark { field: field.into(), version: 1, stamp: stamp.clone() };
        let row = Row {
            order: order.into(),
            version: 1,
            created: stamp.clone(),
            updated: stamp.clone(),
            deleted: None,
            height: Value::Null,
            fields: fields.into_iter().map(mark).collect(),
        };
        self.table.order.insert((order.into(), id.into()));
        self.table.rows.insert(id.into(), row);
        self.table.live += 1;
        self.raws.insert(id.into(), raw);
        self
    }

    fn ask(&mut self, command: Command) -> Result<Plan, Refused> {
        self.ask_as(Some("bob"), command)
    }

    fn ask_as(&mut self, user: Option<&str>, command: Command) -> Result<Plan, Refused> {
        let raw = |row: &str| self.raws.get(row).cloned().unwrap_or_default();
        let components = |row: &str| self.components.get(row).cloned().unwrap_or_default();
        let sight = Sight {
            doc: self.doc,
            epoch: Epoch(3),
            table: &self.table,
            raw: &raw,
            components: &components,
            now_ms: self.now_ms,
        };
        let (user, guard) = (user.map(Arc::from), self.guard.clone());
        let write = Write { command, user, once: None, correlation_id: None, peer: None, guard };
        let draws = &mut self.draws;
        plan(&sight, &write, &mut || {
            *draws += 1;
            mixed(*draws)
        })
    }

    /// Plans and carries out; the ids of the records it is about.
    fn run(&mut self, command: Command) -> Vec<String> {
        let plan = self.ask(command).unwrap_or_else(|no| panic!("refused: {no:?}"));
        self.carry_out(&plan);
        match plan.report {
            Report::Records(records) => records.into_iter().map(|(id, _)| id.to_string()).collect(),
            Report::Field(id) => vec![id.to_string()],
            Report::Nested { id, .. } => vec![id.to_string()],
            Report::Table => vec![],
        }
    }

    /// What the engine does with a plan, and what follows from it for versions.
    fn carry_out(&mut self, plan: &Plan) {
        let mut touched = BTreeMap::<Arc<str>, Vec<String>>::new();
        for put in plan.puts.clone() {
            match put {
                Put::Meta { key, value } => drop(self.table.meta.insert(key.into(), value.unwrap_or_default())),
                Put::NewRow { row, entries, .. } => {
                    touched.entry(row.clone()).or_default().extend(entries.iter().map(|(key, _)| key.clone()));
                    let raw = entries.into_iter().map(|(key, value)| (Arc::from(key), value)).collect();
                    assert!(self.raws.insert(row, raw).is_none(), "a new record has a new id");
                }
                Put::Cell { row, key, value } => {
                    touched.entry(row.clone()).or_default().push(key.clone());
                    let raw = self.raws.get_mut(&row).expect("cells are put into records that are there");
                    match value {
                        Some(value) => drop(raw.insert(key.into(), value)),
                        None => drop(raw.remove(key.as_str())),
                    }
                }
                Put::NewComponent { row, component, content } => {
                    touched.entry(row.clone()).or_default().push(format!("$k/{component}"));
                    self.components.entry(row).or_default().insert(component, content);
                }
                Put::Component { row, component, key, value } => {
                    touched.entry(row.clone()).or_default().push(format!("$k/{component}"));
                    let all = self.components.get_mut(&row).expect("components are changed where they are");
                    let content = all.get_mut(&component).expect("components that are there are changed");
                    let (content, key) = match key.strip_prefix("props/") {
                        Some(prop) => {
                            let props = content.entry("props").or_insert_with(|| json!({}));
                            (props.as_object_mut().expect("props are an object"), prop)
                        }
                        None => (content, &*key),
                    };
                    match value {
                        Some(value) => drop(content.insert(key.to_owned(), value)),
                        None => drop(content.remove(key)),
                    }
                }
                put => self.carry_out_on_field(put),
            }
        }
        touched.into_iter().for_each(|(row, keys)| self.follow(&row, &keys));
    }

    fn carry_out_on_field(&mut self, put: Put) {
        match put {
            Put::NewField { field, entries, options } => {
                let mut column: Map<String, Value> = entries.into_iter().collect();
                column.insert("opts".to_owned(), options.into());
                self.table.fields.insert(field.clone(), field::from_column(&field, &column.into()));
            }
            Put::Field { field, key, value } => {
                let view = self.table.fields.get_mut(&field).expect("fields that are there are changed");
                let text = || value.as_ref().and_then(Value::as_str).unwrap_or_default().to_owned();
                match key {
                    "name" => view.name = text(),
                    "$o" => view.order = text(),
                    "$d" => view.deleted = value.is_some(),
                    "primary" => view.primary = value == Some(Value::Bool(true)),
                    "width" => view.width = value.as_ref().and_then(Value::as_f64),
                    "type" => view.kind = FieldType::parse(&text()).expect("a type"),
                    other => panic!("a field has no {other}"),
                }
            }
            other => panic!("not carried out here: {other:?}"),
        }
    }

    fn follow(&mut self, id: &Arc<str>, keys: &[String]) {
        let raw = &self.raws[id];
        let stamp = Stamp { at_ms: self.now_ms, user: Some("bob".into()) };
        let row = self.table.rows.entry(id.clone()).or_default();
        self.table.order.remove(&(row.order.clone(), id.clone()));
        row.height = raw.get("$h").cloned().unwrap_or_default();
        row.order = raw["$o"].as_str().expect("records have a place").into();
        self.table.order.insert((row.order.clone(), id.clone()));
        row.version += 1;
        row.deleted = raw.contains_key("$d").then(|| stamp.clone());
        for key in keys.iter().filter(|key| !field::is_reserved(key) || key.starts_with("$k/")) {
            let id = if field::is_reserved(key) { key } else { field::field_of(key) };
            let mark = FieldMark { field: id.into(), version: row.version, stamp: stamp.clone() };
            match row.fields.binary_search_by(|known| known.field.cmp(&mark.field)) {
                Ok(at) => row.fields[at] = mark,
                Err(at) => row.fields.insert(at, mark),
            }
        }
        self.table.live = self.table.rows.values().filter(|row| row.deleted.is_none()).count();
    }

    /// Ids of the records that are not deleted, in order.
    fn line(&self) -> Vec<String> {
        let raw = |row: &str| self.raws.get(row).cloned().unwrap_or_default();
        let (records, _) = page(&self.table, &raw, None, usize::MAX, None, false).expect("no field is selected");
        records.into_iter().map(|record| record.id.to_string()).collect()
    }

    fn mark_deleted(&mut self, id: &str) {
        self.run(Command::DeleteRecord { id: id.into(), expected_version: None });
    }
}

/// Numbers that look like chance, and are the same in every run.
fn mixed(count: u32) -> u32 {
    let mut bits = u64::from(count).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    u32::try_from(bits >> 32).expect("half of the bits")
}

fn pairs(object: &Value) -> impl Iterator<Item = (&str, &Value)> {
    object.as_object().expect("an object").iter().map(|(key, value)| (key.as_str(), value))
}

fn cells(object: Value) -> Cells {
    pairs(&object).map(|(key, value)| (key.to_owned(), value.clone())).collect()
}

fn new_record(id: &str, object: Value) -> NewRecord {
    NewRecord { id: Some(id.to_owned()).filter(|id| !id.is_empty()), cells: cells(object), after: None }
}

fn create(records: Vec<NewRecord>) -> Command {
    Command::CreateRecords { records, import: false }
}

fn patch_of(id: &str, object: Value, expected_version: Option<u64>) -> RecordPatch {
    RecordPatch { id: id.into(), cells: cells(object), expected_version, ..RecordPatch::default() }
}

fn patch_one(id: &str, object: Value, expected: Option<u64>, on_conflict: OnConflict) -> Command {
    Command::PatchRecords { records: vec![patch_of(id, object, expected)], on_conflict, is_batch: false }
}

fn set(id: &str, object: Value) -> Command {
    patch_one(id, object, None, OnConflict::Field)
}

fn batch(records: Vec<RecordPatch>) -> Command {
    Command::PatchRecords { records, on_conflict: OnConflict::Field, is_batch: true }
}

fn new_field(id: Option<&str>, name: &str, kind: FieldType) -> NewField {
    NewField {
        id: id.map(str::to_owned),
        name: name.into(),
        kind,
        width: None,
        after: None,
        primary: false,
        options: Map::new(),
    }
}

/// The code word of a refusal and where it points.
fn no(result: Result<Plan, Refused>) -> (&'static str, String) {
    let refused = result.expect_err("this is refused");
    let path = refused.data.get("path").and_then(Value::as_str).unwrap_or_default();
    (refused.code.word(), path.to_owned())
}

fn cell_put(row: &str, key: &str, value: Value) -> Put {
    Put::Cell { row: row.into(), key: key.into(), value: Some(value).filter(|value| !value.is_null()) }
}
