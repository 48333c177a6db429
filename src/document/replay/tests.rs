//! Laws of tables, over random histories of several people: what was said live adds up to what is there, and a log read
//! again gives what was kept live.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;
use yrs::Map;
use yrs::ReadTxn;

use crate::document::compact;
use crate::event;
use crate::event::Audience;
use crate::event::Envelope;
use crate::event::EventId;
use crate::name::DocName;
use crate::store::Loaded;
use crate::table::change::ChangeSet;
use crate::table::change::Life;
use crate::table::content;
use crate::table::events;

use super::*;

use history::Server;
use history::history;

mod history;
#[path = "../../../tests/it/support/replayer.rs"]
mod replayer;

/// What somebody knows who hears every change and never sees the document.
#[derive(Debug, Default, PartialEq)]
struct Model {
    rows: BTreeMap<Arc<str>, ModelRow>,
    fields: BTreeMap<Arc<str>, BTreeMap<&'static str, Value>>,
    meta: BTreeMap<Arc<str>, Value>,
}

#[derive(Debug, Default, PartialEq, Clone)]
struct ModelRow {
    version: u64,
    deleted: bool,
    order: String,
    height: Value,
    cells: BTreeMap<Arc<str>, Value>,
    components: BTreeMap<Arc<str>, BTreeMap<Arc<str>, Value>>,
}

impl Model {
    fn hear(&mut self, change: &ChangeSet) {
        for (id, changed) in &change.rows {
            if changed.life == Some(Life::Purged) {
                self.rows.remove(id).expect("only what is there goes");
                continue;
            }
            let is_new = changed.life == Some(Life::Created);
            assert_eq!(is_new, !self.rows.contains_key(id), "{id}: created exactly once");
            let row = self.rows.entry(id.clone()).or_default();
            assert!(changed.version == row.version + 1 || is_new, "{id}: one version for one change");
            row.version = changed.version;
            match changed.life {
                Some(Life::Deleted) => row.deleted = true,
                Some(Life::Restored) => row.deleted = false,
                _ => {}
            }
            row.deleted |= is_new && changed.is_deleted;
            assert_eq!(row.deleted, changed.is_deleted, "{id}: the mark is said");
            if let Some(order) = &changed.order {
                assert_eq!(order.old, Value::from(row.order.clone()));
                row.order = order.new.as_str().unwrap_or_default().to_owned();
            }
            if let Some(height) = &changed.height {
                row.height = height.new.clone();
            }
            for (field, cell) in &changed.cells {
                let old = row.cells.remove(field).unwrap_or_default();
                assert_eq!(old, cell.old, "{id}/{field}: what was there is what was said");
                assert_ne!(cell.old, cell.new, "{id}/{field}: a change changes something");
                if !cell.new.is_null() {
                    row.cells.insert(field.clone(), cell.new.clone());
                }
            }
            for (component, changed) in &changed.components {
                let known = row.components.entry(component.clone()).or_default();
                for (key, value) in &changed.changed {
                    known.insert(key.clone(), value.new.clone());
                }
                known.retain(|_, value| !value.is_null());
                if changed.life == Some(Life::Purged) {
                    row.components.remove(component);
                }
            }
        }
        for (id, changed) in &change.fields {
            let field = self.fields.entry(id.clone()).or_default();
            changed.changed.iter().for_each(|(name, value)| {
                field.insert(name, value.new.clone());
            });
            field.retain(|_, value| !value.is_null());
            if changed.life == Some(Life::Purged) {
                self.fields.remove(id);
            }
        }
        self.meta.extend(change.meta.clone());
    }
}

fn shown(server: &Server) -> Model {
    let txn = server.replica.transact();
    let mut model = Model::default();
    let rows = txn.get_map("rows");
    for id in rows.iter().flat_map(|rows| rows.keys(&txn).map(str::to_owned).collect::<Vec<_>>()) {
        let raw = content::raw_row(&txn, &id);
        let known = &server.register.table.rows[&*id];
        let text = |key: &str| raw.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let components = content::row(&txn, &id).map(|row| content::components(&txn, &row)).unwrap_or_default();
        let components = components.into_iter().map(|(id, content)| {
            let told = content.into_iter().filter(|(key, _)| key != "$d").flat_map(|(key, value)| match value {
                Value::Object(props) => props.into_iter().map(|(key, value)| (format!("props/{key}"), value)).collect(),
                value => vec![(key, value)],
            });
            (id, told.map(|(key, value)| (Arc::from(key), value)).collect())
        });
        let row = ModelRow {
            version: known.version,
            deleted: raw.contains_key("$d"),
            order: text("$o"),
            height: raw.get("$h").cloned().unwrap_or_default(),
            cells: server.register.table.cells(&raw),
            components: components.collect(),
        };
        model.rows.insert(id.into(), row);
    }
    let field = |(id, field): (&Arc<str>, &crate::table::view::FieldView)| {
        let properties = [
            ("name", Value::from(field.name.clone())),
            ("type", Value::from(field.kind.word())),
            ("width", field.width.map_or(Value::Null, Value::from)),
            ("order", Value::from(field.order.clone())),
            ("primary", Value::from(field.primary)),
            ("options", Value::Object(field.options.clone())),
        ];
        (id.clone(), properties.into_iter().filter(|(_, value)| !value.is_null()).collect())
    };
    model.fields = server.register.table.fields.iter().map(field).collect();
    model.meta.clone_from(&server.register.table.meta);
    model
}

/// The whole of what is kept, as text that can be compared.
fn kept(register: &Register) -> String {
    let mut rows: Vec<_> = register.table.rows.iter().collect();
    rows.sort_by(|a, b| a.0.cmp(b.0));
    let table = &register.table;
    format!(
        "{rows:#?} {:#?} {:#?} {:#?} {} {:#?}",
        table.order,
        table.fields,
        table.meta,
        table.live,
        register.marks_text()
    )
}

fn assert_same(one: &str, other: &str, seed: u64) {
    if one != other {
        let differ = one.lines().zip(other.lines()).enumerate().find(|(_, (one, other))| one != other);
        let (line, (here, there)) = differ.unwrap_or((0, (one, other)));
        let around: Vec<&str> = one.lines().skip(line.saturating_sub(30)).take(30).collect();
        panic!("seed {seed}, line {line}: {here} is not {there}, after\n{}", around.join("\n"));
    }
}

#[test]
fn what_was_said_adds_up_to_what_is_there() {
    for seed in 0..1_000 {
        let server = history(seed);
        let mut model = Model::default();
        server.said.iter().for_each(|change| model.hear(change));
        let shown = shown(&server);
        model.meta.retain(|_, value| !value.is_null());
        assert_eq!(model.rows.keys().collect::<Vec<_>>(), shown.rows.keys().collect::<Vec<_>>(), "seed {seed}");
        assert_eq!(model, shown, "seed {seed}");
        assert_eq!(server.register.table.live, shown.rows.values().filter(|row| !row.deleted).count(), "seed {seed}");
        assert_eq!(server.register.table.order.len(), shown.rows.len(), "seed {seed}");
    }
}

/// The same from outside: events as JSON, and the reference of what an application does with them.
#[test]
fn events_replayed_over_nothing_give_the_table() {
    let doc = DocName::parse("table:t").unwrap();
    for seed in 0..1_000 {
        let server = history(seed);
        let mut replayer = replayer::Replayer::default();
        for (change, revision) in server.said.iter().zip(1..) {
            for (happening, index) in events::happenings(&doc, change).into_iter().zip(0..) {
                let id = EventId { epoch: 0, revision, index };
                let (user, correlation_id) = (change.author.user.as_deref(), None);
                let (source, at_ms, revision) = (change.author.source.word(), change.at_ms, Some(revision));
                let envelope = Envelope { room: doc.as_str(), user, at_ms, source, revision, correlation_id };
                let event = event::Event::encode(id, envelope, happening);
                if event.audience == Audience::Room {
                    replayer.take(&serde_json::from_slice(&event.json).unwrap());
                }
            }
        }
        let shown = shown(&server);
        assert_eq!(replayer.records.len(), shown.rows.len(), "seed {seed}");
        for (id, row) in &shown.rows {
            let told = &replayer.records[&**id];
            let cells: BTreeMap<String, Value> =
                row.cells.iter().map(|(field, value)| (field.to_string(), value.clone())).collect();
            assert_eq!(
                (&told.cells, told.version, told.deleted),
                (&cells, row.version, row.deleted),
                "seed {seed}, {id}"
            );
            assert_eq!(
                (&told.order, &told.height),
                (&Value::from(row.order.clone()), &row.height),
                "seed {seed}, {id}"
            );
        }
        let meta: BTreeMap<String, Value> =
            shown.meta.iter().map(|(key, value)| (key.to_string(), value.clone())).collect();
        assert_eq!(replayer.meta, meta, "seed {seed}");
        assert_eq!(replayer.fields.len(), shown.fields.len(), "seed {seed}");
        for (id, field) in &shown.fields {
            for (name, value) in field {
                assert_eq!(&replayer.fields[&**id].properties[*name], value, "seed {seed}, {id}.{name}");
            }
        }
    }
}

#[test]
fn every_kind_counts_what_it_tells() {
    for seed in 0..200 {
        let server = history(seed);
        for doc in ["table:t", "component:c", "channel:h"].map(|doc| DocName::parse(doc).unwrap()) {
            for change in &server.said {
                let told = events::happenings(&doc, change);
                assert_eq!(told.len(), events::count(&doc, change), "seed {seed}, {doc}");
                let of_records = told.iter().filter(|told| told.name.starts_with("record:")).count();
                assert!(of_records == 0 || doc.kind() != Some("channel"), "seed {seed}, {doc}");
                assert!(told.iter().all(|told| events::NAMES.contains(&&*told.name)), "seed {seed}, {doc}");
            }
        }
    }
}

#[test]
fn a_log_read_again_gives_what_was_kept() {
    for seed in 0..300 {
        let server = history(seed);
        let (replica, register) = replay(&server.loaded(&server.log), &[]).unwrap();
        assert!(replica.same_history(&server.replica), "seed {seed}");
        assert_same(&kept(&register), &kept(&server.register), seed);
    }
}

#[test]
fn a_snapshot_and_the_rest_of_the_log_give_what_was_kept() {
    let doc = DocName::parse("table:t").unwrap();
    for seed in 0..200 {
        let server = history(seed);
        let middle = server.log.len() / 2;
        let early = server.loaded(&server.log[..middle]);
        let Some(snapshot) = compact::build_for(&doc, &early, Deleted::Collected).unwrap() else { continue };
        let all = server.loaded(&server.log);
        let late = all.records[middle..].to_vec();
        let loaded = Loaded { snapshot: Some(snapshot), records: late, last: all.last, ..Loaded::default() };
        let (replica, register) = replay(&loaded, &[]).unwrap();
        assert!(replica.same_history(&server.replica), "seed {seed}");
        assert_same(&kept(&register), &kept(&server.register), seed);
    }
}

/// A store that fails for long: many records became one.
#[test]
fn a_folded_log_gives_what_was_kept() {
    for seed in 0..100 {
        let server = history(seed);
        let update = server.replica.diff(&StateVector::default()).unwrap();
        let sidecar = sidecar::encode(&server.register);
        let folded = Record { update, user: None, at_ms: server.now_ms, sidecar };
        let middle = server.log.len() / 2;
        let records: Vec<Record> = server.log[..middle].iter().cloned().chain([folded]).collect();
        let (replica, register) = replay(&server.loaded(&records), &[]).unwrap();
        assert!(replica.same_history(&server.replica), "seed {seed}");
        assert_same(&kept(&register), &kept(&server.register), seed);
    }
}
