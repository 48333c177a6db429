//! Somebody who keeps a table by its events alone: the reference of what an application has to do.

use std::collections::BTreeMap;

use serde_json::Map;
use serde_json::Value;

/// A table as its events tell it.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Replayer {
    pub(crate) records: BTreeMap<String, Record>,
    pub(crate) fields: BTreeMap<String, Field>,
    pub(crate) views: BTreeMap<String, Value>,
    pub(crate) meta: BTreeMap<String, Value>,
    /// Of the last event.
    pub(crate) revision: u64,
}

/// A record; [`Value::Null`] where there is nothing.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Record {
    pub(crate) cells: BTreeMap<String, Value>,
    pub(crate) order: Value,
    pub(crate) height: Value,
    pub(crate) version: u64,
    pub(crate) deleted: bool,
}

/// A field with its properties.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Field {
    pub(crate) properties: BTreeMap<String, Value>,
    pub(crate) deleted: bool,
}

impl Replayer {
    /// Takes the next event. Panics on one that makes no sense, and on a `previous` that is not what is known.
    pub(crate) fn take(&mut self, event: &Value) {
        let (name, data) = (text(&event["type"]), &event["data"]);
        if let Some(revision) = event["revision"].as_u64() {
            assert!(revision >= self.revision, "{event} comes after revision {}", self.revision);
            self.revision = revision;
        }
        match name {
            "table:changed" => set_all(&mut self.meta, object(&data["changed"])),
            "view:changed" => set(&mut self.views, text(&event["viewId"]), &data["view"]),
            "records:updated" => self.take_many(data),
            _ if name.starts_with("field:") || name.starts_with("grid:column-") => self.take_field(name, event),
            _ if event.get("recordId").is_some() => self.take_record(name, event),
            "document:changed" => {}
            _ => panic!("an unknown event: {event}"),
        }
    }

    fn take_record(&mut self, name: &str, event: &Value) {
        let (id, data) = (text(&event["recordId"]), &event["data"]);
        match name {
            "record:created" => return self.create(&data["record"]),
            "record:deleted" if data["soft"] == false => {
                self.records.remove(id).expect("it was there");
                return;
            }
            // To single users, about what the table does not hold.
            "grid:conflict" | "error:validation" => return,
            _ => {}
        }
        let record = self.records.get_mut(id).unwrap_or_else(|| panic!("{event} is about an unknown record"));
        record.version = data["version"].as_u64().expect("events of records have their version");
        match name {
            "record:updated" => record.update(data),
            // The same cell stands in `record:updated`, which comes behind it.
            "grid:cell-edited" => assert_eq!(known(&record.cells, text(&event["fieldId"])), data["previous"]),
            "grid:row-moved" => record.order = data["order"].clone(),
            "grid:row-resized" => record.height = data["height"].clone(),
            "record:deleted" => record.deleted = true,
            "record:restored" => record.deleted = false,
            // Texts and components are not kept here.
            "grid:text-edited"
            | "component:nested-created"
            | "component:nested-updated"
            | "component:nested-deleted" => {}
            _ => panic!("an unknown event of a record: {event}"),
        }
    }

    fn take_many(&mut self, data: &Value) {
        for created in list(&data["created"]) {
            self.create(created);
        }
        for line in list(&data["updated"]) {
            let record = self.line(line);
            record.update(line);
            if let Some(order) = line.get("order") {
                record.order = order.clone();
            }
            if let Some(height) = line.get("height") {
                record.height = height.clone();
            }
        }
        for line in list(&data["deleted"]) {
            if line["soft"] == true {
                self.line(line).deleted = true;
            } else {
                self.records.remove(text(&line["recordId"])).expect("it was there");
            }
        }
        for line in list(&data["restored"]) {
            self.line(line).deleted = false;
        }
    }

    fn create(&mut self, shown: &Value) {
        let record = Record {
            cells: object(&shown["cells"]).iter().map(|(key, value)| (key.clone(), value.clone())).collect(),
            order: shown["order"].clone(),
            height: shown["height"].clone(),
            version: shown["version"].as_u64().unwrap(),
            deleted: shown["deleted"] == true,
        };
        let former = self.records.insert(text(&shown["id"]).to_owned(), record);
        assert_eq!(former, None, "a record is created once");
    }

    fn line(&mut self, line: &Value) -> &mut Record {
        let record = self.records.get_mut(text(&line["recordId"])).expect("a known record");
        record.version = line["version"].as_u64().unwrap();
        record
    }

    fn take_field(&mut self, name: &str, event: &Value) {
        let (id, data) = (text(&event["fieldId"]), &event["data"]);
        match name {
            "field:created" => {
                let properties = object(&data["field"]).iter().filter(|(key, _)| *key != "id");
                let properties = properties.map(|(key, value)| (key.clone(), value.clone())).collect();
                assert_eq!(self.fields.insert(id.to_owned(), Field { properties, deleted: false }), None);
                return;
            }
            "field:deleted" if data["soft"] == false => {
                self.fields.remove(id).expect("it was there");
                return;
            }
            _ => {}
        }
        let field = self.fields.get_mut(id).expect("a known field");
        match name {
            "field:updated" => set_all(&mut field.properties, object(&data["changed"])),
            "field:deleted" => field.deleted = true,
            "field:restored" => field.deleted = false,
            "grid:column-resized" => set(&mut field.properties, "width", &data["width"]),
            "grid:column-moved" => set(&mut field.properties, "order", &data["order"]),
            _ => panic!("an unknown event of a field: {event}"),
        }
    }
}

impl Record {
    fn update(&mut self, data: &Value) {
        for (field, previous) in object(&data["previous"]) {
            assert_eq!(known(&self.cells, field), *previous, "{field}");
        }
        set_all(&mut self.cells, object(&data["changed"]));
    }
}

fn known(entries: &BTreeMap<String, Value>, key: &str) -> Value {
    entries.get(key).cloned().unwrap_or_default()
}

fn set_all(entries: &mut BTreeMap<String, Value>, changed: &Map<String, Value>) {
    for (key, value) in changed {
        set(entries, key, value);
    }
}

/// Null is nothing.
fn set(entries: &mut BTreeMap<String, Value>, key: &str, value: &Value) {
    if value.is_null() {
        entries.remove(key);
    } else {
        entries.insert(key.to_owned(), value.clone());
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text"))
}

fn object(value: &Value) -> &Map<String, Value> {
    value.as_object().unwrap_or_else(|| panic!("{value} is no object"))
}

fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap_or_else(|| panic!("{value} is no list"))
}
