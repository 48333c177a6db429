//! Somebody who hears every event of a table has the table: random changes, told as events, kept by the reference replayer.

use std::collections::BTreeMap;
use std::sync::Arc;

use rand::RngExt;
use rand::SeedableRng;
use rand::rngs::StdRng;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;
use syncline::event::Audience;
use syncline::event::Envelope;
use syncline::event::Event;
use syncline::event::EventId;
use syncline::name::DocName;
use syncline::table::change::ChangeSet;
use syncline::table::change::Changed;
use syncline::table::change::ComponentChange;
use syncline::table::change::FieldChange;
use syncline::table::change::Life;
use syncline::table::change::Overwrite;
use syncline::table::change::Repair;
use syncline::table::change::Resolution;
use syncline::table::change::RowChange;
use syncline::table::change::Side;
use syncline::table::events;

use crate::support::replayer::Field;
use crate::support::replayer::Record;
use crate::support::replayer::Replayer;

const PROPERTIES: [&str; 4] = ["name", "type", "width", "order"];

/// The table as it is, which makes changes and keeps them.
#[derive(Default)]
struct Model {
    truth: Replayer,
    ids: usize,
}

impl Model {
    fn change(&mut self, rng: &mut StdRng) -> ChangeSet {
        let mut change = ChangeSet::default();
        if rng.random_bool(0.2) {
            let value = value(rng);
            change.meta.insert("title".into(), value.clone());
            put(&mut self.truth.meta, "title", &value);
        }
        if rng.random_bool(0.2) {
            let view = value(rng);
            change.views.insert("v1".into(), Some(view.clone()).filter(|view| !view.is_null()));
            put(&mut self.truth.views, "v1", &view);
        }
        for _ in 0..rng.random_range(0..3) {
            self.change_field(&mut change, rng);
        }
        let rows = if rng.random_bool(0.03) { 1200 } else { [0, 1, 1, 1, 2, 5][rng.random_range(0..6)] };
        for _ in 0..rows {
            self.change_row(&mut change, rng);
        }
        self.truth.revision += 1;
        change
    }

    fn change_field(&mut self, change: &mut ChangeSet, rng: &mut StdRng) {
        let id = format!("f{}", rng.random_range(0..6));
        if change.fields.contains_key(id.as_str()) {
            return; // One change of each in a transaction.
        }
        let mut told = FieldChange::default();
        match self.truth.fields.get_mut(&id) {
            None => {
                let mut field = Field::default();
                for key in PROPERTIES {
                    let new = value(rng);
                    told.changed.insert(key, Changed { old: Value::Null, new: new.clone() });
                    // What is created is shown as it is, nulls too.
                    field.properties.insert(key.to_owned(), new);
                }
                told.life = Some(Life::Created);
                self.truth.fields.insert(id.clone(), field);
            }
            Some(_) if rng.random_bool(0.1) => {
                told.life = Some(Life::Purged);
                self.truth.fields.remove(&id);
            }
            Some(field) => {
                for key in some(&PROPERTIES, rng) {
                    told.changed.insert(key, changed(&mut field.properties, key, rng));
                }
                told.life = flip(&mut field.deleted, rng);
            }
        }
        change.fields.insert(id.into(), told);
    }

    fn change_row(&mut self, change: &mut ChangeSet, rng: &mut StdRng) {
        let known = self.truth.records.len();
        if known == 0 || rng.random_bool(0.3) {
            self.ids += 1;
            let (id, mut told, mut record) = (format!("r{}", self.ids), RowChange::default(), Record::default());
            for field in ["a", "b"] {
                told.cells.insert(field.into(), changed(&mut record.cells, field, rng));
            }
            record.order = json!(format!("a{}", rng.random_range(0..100)));
            told.order = Some(Changed { old: Value::Null, new: record.order.clone() });
            (told.life, told.version, record.version) = (Some(Life::Created), 1, 1);
            change.rows.insert(id.as_str().into(), Box::new(told));
            self.truth.records.insert(id, record);
            return;
        }
        let id = self.truth.records.keys().nth(rng.random_range(0..known)).unwrap().clone();
        if change.rows.contains_key(id.as_str()) {
            return;
        }
        let record = self.truth.records.get_mut(&id).unwrap();
        let mut told = RowChange { version: record.version + 1, ..RowChange::default() };
        record.version += 1;
        if rng.random_bool(0.1) {
            told.life = Some(Life::Purged);
            self.truth.records.remove(&id);
        } else {
            for field in some(&["a", "b", "c"], rng) {
                told.cells.insert(field.into(), changed(&mut record.cells, field, rng));
            }
            told.order = rng.random_bool(0.2).then(|| replace(&mut record.order, json!(rng.random_range(0..9))));
            told.height = rng.random_bool(0.2).then(|| replace(&mut record.height, value(rng)));
            told.life = flip(&mut record.deleted, rng);
            if rng.random_bool(0.1) {
                told.texts.insert("c9".into(), Some(3));
                told.components.insert("k1".into(), ComponentChange::default());
            }
        }
        change.rows.insert(id.into(), Box::new(told));
    }
}

fn value(rng: &mut StdRng) -> Value {
    let shapes =
        [Value::Null, json!(rng.random_range(0..100)), json!("text\n\u{1}\"é"), json!(true), json!(["x", {"y": 1}])];
    shapes[rng.random_range(0..shapes.len())].clone()
}

fn some(of: &[&'static str], rng: &mut StdRng) -> Vec<&'static str> {
    of.iter().copied().filter(|_| rng.random_bool(0.4)).collect()
}

fn put(entries: &mut BTreeMap<String, Value>, key: &str, value: &Value) {
    if value.is_null() {
        entries.remove(key);
    } else {
        entries.insert(key.to_owned(), value.clone());
    }
}

fn changed(entries: &mut BTreeMap<String, Value>, key: &str, rng: &mut StdRng) -> Changed {
    let (old, new) = (entries.get(key).cloned().unwrap_or_default(), value(rng));
    put(entries, key, &new);
    Changed { old, new }
}

fn replace(place: &mut Value, new: Value) -> Changed {
    let old = std::mem::replace(place, new.clone());
    Changed { old, new }
}

fn flip(deleted: &mut bool, rng: &mut StdRng) -> Option<Life> {
    rng.random_bool(0.2).then(|| {
        *deleted = !*deleted;
        if *deleted { Life::Deleted } else { Life::Restored }
    })
}

fn doc() -> DocName {
    DocName::parse("table:T").unwrap()
}

/// The events of a change, as an application gets them.
fn told(revision: u64, change: &ChangeSet) -> Vec<Value> {
    let envelope = Envelope {
        room: "table:T",
        user: None,
        at_ms: 0,
        source: "api",
        revision: Some(revision),
        correlation_id: None,
    };
    let happenings = events::happenings(&doc(), change);
    assert_eq!(happenings.len(), events::count(&doc(), change));
    assert!(happenings.iter().all(|happening| events::NAMES.contains(&&*happening.name)));
    let first = EventId { epoch: 0, revision, index: 0 };
    let events = happenings.into_iter().enumerate().map(|(n, told)| Event::encode(first.plus(n), envelope, told));
    events.map(|event| serde_json::from_slice(&event.json).unwrap()).collect()
}

#[test]
fn the_events_of_a_random_history_give_the_table() {
    for seed in 0..300 {
        let mut rng = StdRng::seed_from_u64(seed);
        let (mut model, mut listener) = (Model::default(), Replayer::default());
        for revision in 1..40 {
            let change = model.change(&mut rng);
            for event in told(revision, &change) {
                assert_eq!((&event["room"], &event["tableId"]), (&json!("table:T"), &json!("T")), "seed {seed}");
                listener.take(&event);
            }
            listener.revision = revision; // A transaction that changes nothing visible is not told.
            assert_eq!(listener, model.truth, "seed {seed}, revision {revision}");
        }
    }
}

fn row(row: RowChange) -> ChangeSet {
    ChangeSet { rows: [("r1".into(), Box::new(row))].into(), ..ChangeSet::default() }
}

fn cell(old: Value, new: Value) -> BTreeMap<Arc<str>, Changed> {
    [("c1".into(), Changed { old, new })].into()
}

fn names(change: &ChangeSet) -> Vec<String> {
    told(1, change).iter().map(|event| event["type"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn an_edited_cell_is_told_under_both_names() {
    let events = told(7, &row(RowChange { version: 3, cells: cell(json!("x"), json!("y")), ..RowChange::default() }));
    let [edited, updated] = &events[..] else { panic!("{events:?}") };
    for (field, want) in [
        ("type", json!("grid:cell-edited")),
        ("recordId", json!("r1")),
        ("fieldId", json!("c1")),
        ("value", json!("y")),
        ("version", json!(3)),
        ("revision", json!(7)),
        ("data", json!({"value": "y", "previous": "x", "version": 3})),
    ] {
        assert_eq!(edited[field], want, "{field}");
    }
    assert_eq!(updated["data"], json!({"changed": {"c1": "y"}, "previous": {"c1": "x"}, "version": 3}));
}

#[test]
fn many_records_are_one_event_in_parts() {
    let rows = (0..1100).map(|n| {
        (format!("r{n:04}").into(), Box::new(RowChange { life: Some(Life::Created), ..RowChange::default() }))
    });
    let events = told(1, &ChangeSet { rows: rows.collect(), ..ChangeSet::default() });
    let sizes: Vec<_> = events.iter().map(|event| event["data"]["created"].as_array().unwrap().len()).collect();
    assert_eq!(sizes, [500, 500, 100]);
    assert!(events.iter().all(|event| event["type"] == "records:updated" && event["revision"] == 1));
}

#[test]
fn a_record_that_was_edited_and_deleted_at_once_is_told_in_that_order() {
    let both = RowChange { life: Some(Life::Deleted), cells: cell(Value::Null, json!(1)), ..RowChange::default() };
    assert_eq!(names(&row(both)), ["grid:cell-edited", "record:updated", "record:deleted"]);
    let purged = RowChange { life: Some(Life::Purged), cells: cell(json!(1), Value::Null), ..RowChange::default() };
    assert_eq!(told(1, &row(purged.clone()))[0]["data"]["soft"], false);
    assert_eq!(names(&row(purged)), ["record:deleted"]);
}

#[test]
fn a_nested_component_is_told_in_the_words_of_older_clients() {
    let changed = [("label".into(), Changed { old: json!("a"), new: json!("b") })].into();
    let component = ComponentChange { life: None, parent: Some("k0".into()), changed };
    let user = Some("bob".into());
    let events =
        told(1, &row(RowChange { user, components: [("k1".into(), component)].into(), ..RowChange::default() }));
    let [event] = &events[..] else { panic!("{events:?}") };
    for (field, want) in [
        ("type", json!("component:nested-updated")),
        ("rowId", json!("r1")),
        ("nestedComponentId", json!("k1")),
        ("parentId", json!("k0")),
        ("updates", json!({"label": "b"})),
        ("updatedBy", json!("bob")),
        ("userId", json!("bob")),
    ] {
        assert_eq!(event[field], want, "{field}");
    }
}

#[test]
fn who_lost_and_who_won_are_told_and_nobody_else() {
    let side = |user: Option<&str>, offline| Side { value: json!(user), user: user.map(Into::into), offline };
    let lost = |winner, loser| {
        let resolution = Resolution::OnlineWins;
        let (row, field, key) = ("r1".into(), "c1".into(), "c1".into());
        let overwrite = Overwrite { row, field, key, winner, loser, resolution, arrived_won: true };
        let change = ChangeSet { overwrites: vec![overwrite], ..ChangeSet::default() };
        events::happenings(&doc(), &change)
    };
    let both = lost(side(Some("alice"), false), side(Some("bob"), true));
    assert_eq!(both.len(), 2);
    let data = Value::from(both[0].data.clone());
    let want = json!({
        "winner": {"value": "alice", "userId": "alice"},
        "loser": {"value": "bob", "userId": "bob", "writtenOffline": true},
        "resolution": "online-wins",
    });
    assert_eq!(data, want);
    let audiences: Vec<_> = both.iter().map(|told| format!("{:?}", told.audience)).collect();
    assert_eq!(audiences, [r#"User("alice")"#, r#"User("bob")"#]);
    assert_eq!(lost(side(Some("alice"), false), side(None, true)).len(), 1);
    assert_eq!(lost(side(None, false), side(None, true)).len(), 0);
}

#[test]
fn a_cell_that_was_put_back_is_told_to_its_writer_alone() {
    let repair = |user: Option<&str>| Repair {
        row: "r1".into(),
        field: "c1".into(),
        key: "c1".into(),
        value: json!("many"),
        was: json!(1),
        rule: "type",
        user: user.map(Into::into),
    };
    let change = ChangeSet { repaired: vec![repair(Some("alice"))], ..ChangeSet::default() };
    let [told] = &events::happenings(&doc(), &change)[..] else { panic!("one") };
    assert_eq!(told.audience, Audience::User("alice".into()));
    assert_eq!(Value::from(told.data.clone()), json!({"value": "many", "rule": "type", "reverted": true}));
}

#[test]
fn every_event_is_in_the_catalogue_and_the_catalogue_has_no_other() {
    let catalogue = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/EVENTS.md")).unwrap();
    let (_, of_tables) = catalogue.split_once("## Events of documents").expect("the section");
    let (of_tables, _) = of_tables.split_once("\n## ").expect("the next section");
    let described: Vec<&str> =
        of_tables.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    let mut sorted = described.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, events::NAMES);
    let source = [
        include_str!("../../src/table/events.rs"),
        include_str!("../../src/table/events/channel.rs"),
        include_str!("../../src/table/events/component.rs"),
        include_str!("../../src/table/events/nested.rs"),
        include_str!("../../src/table/events/table.rs"),
    ]
    .concat();
    for name in events::NAMES {
        assert!(source.matches(&format!("\"{name}\"")).count() > 1, "{name} is listed and never used");
    }
    let examples = of_tables.split("```json\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    for example in examples.flat_map(str::lines) {
        let example: Map<String, Value> =
            serde_json::from_str(example).unwrap_or_else(|error| panic!("{example}: {error}"));
        assert!(events::NAMES.contains(&example["type"].as_str().unwrap()));
    }
}
