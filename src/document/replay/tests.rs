//! Laws of tables, over random histories of several people: what was said live adds up to what is there, and a log read
//! again gives what was kept live.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use rand::Rng;
use rand::RngExt;
use rand::SeedableRng;
use rand::rngs::StdRng;
use serde_json::Value;
use yrs::Any;
use yrs::Doc;
use yrs::Map;
use yrs::MapPrelim;
use yrs::MapRef;
use yrs::Options;
use yrs::Out;
use yrs::ReadTxn;
use yrs::Transact;
use yrs::Update;
use yrs::WriteTxn;
use yrs::updates::decoder::Decode;

use crate::document::compact;
use crate::document::replica::Watched;
use crate::event;
use crate::event::Audience;
use crate::event::Envelope;
use crate::event::EventId;
use crate::name::DocName;
use crate::store::Loaded;
use crate::store::Seq;
use crate::table::change::ChangeSet;
use crate::table::change::Life;
use crate::table::content;
use crate::table::events;
use crate::table::plan::Put;

use super::*;

#[path = "../../../tests/it/support/replayer.rs"]
mod replayer;

const ROWS: usize = 6;
const COLS: [&str; 3] = ["c1", "c2", "c3"];

/// A person with a copy of their own.
struct Person {
    name: Arc<str>,
    doc: Doc,
    /// How much of the server's log it has seen.
    seen: usize,
    /// What it made and has not sent.
    unsent: Vec<Bytes>,
}

/// The server: a table, its log, and all that it said.
struct Server {
    replica: Replica,
    register: Register,
    log: Vec<Record>,
    said: Vec<ChangeSet>,
    now_ms: u64,
}

impl Server {
    fn new() -> Self {
        let (replica, register) = replay(&Loaded::default(), &[]).unwrap();
        Self { replica, register, log: Vec::new(), said: Vec::new(), now_ms: 1_000 }
    }

    fn take(&mut self, update: &Bytes, user: &Arc<str>) {
        self.now_ms += 1;
        let author = Author { user: Some(user.clone()), ..Author::default() };
        let summary = validate(update, &UpdateLimits::none()).unwrap();
        let watched = self.replica.apply_to_table(update, &summary, &mut self.register, &author, self.now_ms).unwrap();
        match watched {
            Watched::Changed(change) => {
                let sidecar = Bytes::new();
                self.log.push(Record { update: update.clone(), user: Some(user.clone()), at_ms: self.now_ms, sidecar });
                self.said.push(*change);
            }
            Watched::Nothing => {}
            Watched::Refused(refused) => panic!("{refused:?}"),
        }
    }

    fn write(&mut self, puts: &[Put], user: &Arc<str>) {
        self.now_ms += 1;
        let author = Author { user: Some(user.clone()), source: Source::Api, correlation_id: None };
        let written = self.replica.write_table(puts, &mut self.register, &author, self.now_ms).unwrap();
        let (update, _, change) = written;
        self.log.push(Record { update, user: Some(user.clone()), at_ms: self.now_ms, sidecar: Bytes::new() });
        self.said.push(change);
    }

    fn loaded(&self, records: &[Record]) -> Loaded {
        let records: Vec<_> = records.iter().cloned().zip(1..).map(|(record, seq)| (Seq(seq), record)).collect();
        Loaded { last: Seq(records.len() as u64), records, ..Loaded::default() }
    }
}

impl Person {
    fn new(name: &str, client: u64) -> Self {
        let doc = Doc::with_options(Options::with_client_id(yrs::ClientID::new(client)));
        Self { name: name.into(), doc, seen: 0, unsent: Vec::new() }
    }

    fn edit(&mut self, chance: &mut StdRng) {
        let mut txn = self.doc.transact_mut();
        for _ in 0..chance.random_range(1..4) {
            edit_once(&mut txn, chance);
        }
        let update = txn.encode_update_v1();
        drop(txn);
        if update != [0, 0] {
            self.unsent.push(update.into());
        }
    }

    fn send(&mut self, server: &mut Server, merged: bool) {
        let unsent = std::mem::take(&mut self.unsent);
        if merged && unsent.len() > 1 {
            let together = yrs::merge_updates_v1(unsent.iter().map(|update| &update[..])).unwrap();
            return server.take(&together.into(), &self.name);
        }
        unsent.iter().for_each(|update| server.take(update, &self.name));
    }

    fn receive(&mut self, server: &Server) {
        let mut txn = self.doc.transact_mut();
        for record in &server.log[self.seen..] {
            txn.apply_update(Update::decode_v1(&record.update).unwrap()).unwrap();
        }
        self.seen = server.log.len();
    }
}

fn edit_once(txn: &mut yrs::TransactionMut, chance: &mut StdRng) {
    let rows = txn.get_or_insert_map("rows");
    let id = format!("r{}", chance.random_range(0..ROWS));
    let Some(Out::YMap(row)) = rows.get(txn, &id) else {
        let row = rows.insert(txn, id, MapPrelim::default());
        row.insert(txn, "$o", format!("a{}", chance.random_range(0..5)));
        row.insert(txn, COLS[1], "new");
        return;
    };
    match chance.random_range(0..20) {
        0 => {
            rows.remove(txn, &id);
        }
        1 | 2 => {
            row.insert(txn, "$d", true);
        }
        3 => {
            row.remove(txn, "$d");
        }
        4 => {
            row.insert(txn, "$o", format!("a{}", chance.random_range(0..5)));
        }
        5 => {
            row.insert(txn, "$h", chance.random_range(20..24_i32));
        }
        6 => {
            row.remove(txn, COLS[chance.random_range(0..3)]);
        }
        7 | 8 => set_flag(txn, &row, chance),
        9 => add_component(txn, &row, chance),
        10 => {
            let meta = txn.get_or_insert_map("meta");
            meta.insert(txn, "title", format!("t{}", chance.random_range(0..3)));
        }
        11 => add_field(txn, chance),
        12 => {
            let text = txn.get_or_insert_text(format!("t/{id}/c3"));
            yrs::Text::push(&text, txn, "x");
        }
        _ => {
            row.insert(txn, COLS[chance.random_range(0..3)], chance.random_range(0..4_i32));
        }
    }
}

fn set_flag(txn: &mut yrs::TransactionMut, row: &MapRef, chance: &mut StdRng) {
    let key = format!("tags/{}", chance.random_range(0..3));
    if chance.random() {
        row.insert(txn, key, true);
    } else {
        row.remove(txn, &key);
    }
}

fn add_component(txn: &mut yrs::TransactionMut, row: &MapRef, chance: &mut StdRng) {
    let all = match row.get(txn, "$k") {
        Some(Out::YMap(all)) => all,
        _ => row.insert(txn, "$k", MapPrelim::default()),
    };
    let id = format!("k{}", chance.random_range(0..2));
    let component = match all.get(txn, &id) {
        Some(Out::YMap(component)) => component,
        _ => all.insert(txn, id, MapPrelim::default()),
    };
    component.insert(txn, "label", chance.random_range(0..3_i32));
}

fn add_field(txn: &mut yrs::TransactionMut, chance: &mut StdRng) {
    let cols = txn.get_or_insert_map("cols");
    let id = COLS[chance.random_range(0..3)];
    let field = match cols.get(txn, id) {
        Some(Out::YMap(field)) => field,
        _ => cols.insert(txn, id, MapPrelim::default()),
    };
    field.insert(txn, "name", format!("n{}", chance.random_range(0..3)));
    field.insert(txn, "width", Any::from(f64::from(chance.random_range(50..53_i32))));
}

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
        let components = content::components_of(&txn, &id);
        let components = components.into_iter().map(|(id, content)| {
            (id, content.into_iter().map(|(key, value)| (Arc::from(key.as_str()), value)).collect())
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

fn history(seed: u64) -> Server {
    let mut chance = StdRng::seed_from_u64(seed);
    let mut server = Server::new();
    for (field, kind) in COLS.into_iter().chain(["tags"]).zip(["number", "text", "number", "multiselect"]) {
        let entries = vec![("name".to_owned(), field.into()), ("type".to_owned(), kind.into())];
        server
            .write(&[Put::NewField { field: field.into(), entries, options: serde_json::Map::new() }], &"robot".into());
    }
    let mut people: Vec<Person> = ["alice", "bob", "carol"]
        .iter()
        .zip(1..)
        .map(|(name, client)| Person::new(name, client * 7 + seed % 5))
        .collect();
    for _ in 0..chance.random_range(5..60) {
        let who = chance.random_range(0..people.len());
        match chance.random_range(0..10) {
            0..5 => people[who].edit(&mut chance),
            5 | 6 => people[who].send(&mut server, chance.random()),
            7 | 8 => people[who].receive(&server),
            _ => request(&mut server, &mut chance),
        }
    }
    for person in &mut people {
        person.send(&mut server, chance.random());
        // A duplicate says nothing.
        let said = server.said.len();
        if let Some(Record { update, user: Some(user), .. }) = server.log.last().cloned() {
            server.take(&update, &user);
        }
        assert_eq!(server.said.len(), said);
    }
    server
}

fn request(server: &mut Server, chance: &mut impl Rng) {
    let row: Arc<str> = format!("r{}", chance.random_range(0..ROWS)).into();
    let api: Arc<str> = "robot".into();
    if server.register.table.rows.contains_key(&row) {
        let key = COLS[chance.random_range(0..3)].to_owned();
        let value = Some(Value::from(chance.random_range(10..13)));
        return server.write(&[Put::Cell { row, key, value }], &api);
    }
    let entries = vec![("$o".to_owned(), "a7".into()), ("c2".to_owned(), "made".into())];
    server.write(&[Put::NewRow { row, entries, components: false }], &api);
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
