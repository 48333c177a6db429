//! Random histories: people who edit copies of their own and meet now and then, and an application that writes between them.

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
use yrs::Transact;
use yrs::Update;
use yrs::WriteTxn;
use yrs::updates::decoder::Decode;

use crate::document::replica::Watched;
use crate::store::Loaded;
use crate::store::Seq;
use crate::table::change::ChangeSet;
use crate::table::plan::Put;

use super::super::*;

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
pub(super) struct Server {
    pub(super) replica: Replica,
    pub(super) register: Register,
    pub(super) log: Vec<Record>,
    pub(super) said: Vec<ChangeSet>,
    pub(super) now_ms: u64,
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
        let author = Author { user: Some(user.clone()), source: Source::Api, correlation_id: None, peer: None };
        let written = self.replica.write_table(puts, &mut self.register, &author, self.now_ms).unwrap();
        let (update, _, change) = written;
        self.log.push(Record { update, user: Some(user.clone()), at_ms: self.now_ms, sidecar: Bytes::new() });
        self.said.push(change);
    }

    pub(super) fn loaded(&self, records: &[Record]) -> Loaded {
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
    match chance.random_range(0..6) {
        0 => {
            component.insert(txn, "$d", true);
        }
        1 => {
            component.remove(txn, "$d");
        }
        2 => {
            let props = match component.get(txn, "props") {
                Some(Out::YMap(props)) => props,
                _ => component.insert(txn, "props", MapPrelim::default()),
            };
            props.insert(txn, "width", chance.random_range(0..3_i32));
        }
        3 => {
            component.remove(txn, "label");
        }
        _ => {
            component.insert(txn, "label", chance.random_range(0..3_i32));
        }
    }
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

pub(super) fn history(seed: u64) -> Server {
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
