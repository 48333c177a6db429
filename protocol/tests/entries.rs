//! The index of map entries: stories, what Yjs itself wrote, and what it takes in memory.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use serde_json::Value;
use syncline_protocol::update::AnyValue;
use syncline_protocol::update::Content;
use syncline_protocol::update::ContentKinds;
use syncline_protocol::update::DEPTH_MAX;
use syncline_protocol::update::Entries;
use syncline_protocol::update::Gain;
use syncline_protocol::update::Standing;
use syncline_protocol::update::Touch;
use syncline_protocol::update::UpdateLimits;
use syncline_protocol::update::gains;
use syncline_protocol::update::read_any;
use syncline_protocol::update::validate;
use yrs::Any;
use yrs::ClientID;
use yrs::Doc;
use yrs::ID;
use yrs::Map;
use yrs::MapPrelim;
use yrs::MapRef;
use yrs::Number;
use yrs::Options;
use yrs::Out;
use yrs::ReadTxn;
use yrs::Transact;
use yrs::TransactionMut;
use yrs::Update;
use yrs::branch::Branch;
use yrs::branch::BranchPtr;
use yrs::updates::decoder::Decode;

const CORPORA: [&str; 2] =
    [include_str!("../vectors/updates/yjs13.jsonl"), include_str!("../vectors/updates/yjs14.jsonl")];

fn document(client: u64) -> Doc {
    let mut options = Options::with_client_id(ClientID::new(client));
    options.skip_gc = true;
    let doc = Doc::with_options(options);
    doc.get_or_insert_map("rows");
    doc
}

fn rows(doc: &Doc) -> MapRef {
    doc.get_or_insert_map("rows")
}

fn row(txn: &impl ReadTxn, doc_rows: &MapRef, key: &str) -> MapRef {
    match doc_rows.get(txn, key) {
        Some(Out::YMap(row)) => row,
        other => panic!("{key} is {other:?}"),
    }
}

fn change(doc: &Doc, edit: impl FnOnce(&mut TransactionMut<'_>, &MapRef)) -> Vec<u8> {
    let rows = rows(doc);
    let mut txn = doc.transact_mut();
    edit(&mut txn, &rows);
    txn.encode_update_v1()
}

fn whole(doc: &Doc) -> Vec<u8> {
    doc.transact().encode_diff_v1(&yrs::StateVector::default())
}

/// What a server does with an update.
fn receive(server: &Doc, entries: &mut Entries, update: &[u8]) -> Vec<Touch> {
    let touches = entries.survey(update).expect("it was accepted");
    let mut txn = server.transact_mut();
    txn.apply_update(Update::decode_v1(update).expect("it was accepted")).expect("it was accepted");
    let deleted = txn.delete_set();
    let is_deleted = |client, clock| deleted.contains(&ID::new(ClientID::new(client), clock));
    entries.settle(update, is_deleted).expect("it was accepted");
    touches
}

fn paths(touches: &[Touch]) -> Vec<String> {
    touches.iter().map(|touch| touch.path.join("/")).collect()
}

#[test]
fn a_row_comes_with_its_cells_and_one_cell_is_overwritten_by_two() {
    let (server, mut entries) = (document(1), Entries::default());
    let (alice, bob) = (document(2), document(3));
    let made = change(&alice, |txn, rows| {
        rows.insert(txn, "r1", MapPrelim::from([("title", "one")]));
    });
    let touches = receive(&server, &mut entries, &made);
    assert_eq!(paths(&touches), ["rows/r1", "rows/r1/title"]);
    assert_eq!(touches[0].writes[0].content, Content::Type(ContentKinds::MAP));
    assert_eq!((touches[0].standing, touches[1].standing), (Standing::Shown, Standing::New));
    assert_eq!(touches[1].map, Some(touches[0].writes[0].id));
    assert_eq!(touches[1].writes[0].value(&made), Some(AnyValue::String("one".to_owned())));
    assert_eq!(gains(&touches), BTreeMap::from([("rows".into(), Gain { keys: 1, entries: 2 })]));

    bob.transact_mut().apply_update(Update::decode_v1(&made).expect("genuine")).expect("genuine");
    let set = |title: &'static str| {
        move |txn: &mut TransactionMut<'_>, rows: &MapRef| {
            row(txn, rows, "r1").insert(txn, "title", title);
        }
    };
    let (hers, his) = (change(&alice, set("two")), change(&bob, set("three")));
    let touches = receive(&server, &mut entries, &hers);
    assert!(!touches[0].writes[0].is_concurrent && touches[0].deletes_current);
    let hers = touches[0].writes[0].id;
    let touches = receive(&server, &mut entries, &his);
    assert_eq!(touches[0].current, Some(hers));
    assert!(touches[0].writes[0].is_concurrent && !touches[0].adds_key() && gains(&touches).is_empty());
    assert_eq!(entries.current(&["rows", "r1", "title"]), Some(touches[0].writes[0].id), "the higher client wins");
}

#[test]
fn a_deleted_row_takes_its_cells_along_and_hides_what_comes_later() {
    let (server, mut entries) = (document(1), Entries::default());
    let (alice, bob) = (document(2), document(3));
    let made = change(&alice, |txn, rows| {
        rows.insert(txn, "r1", MapPrelim::from([("title", "one")]));
    });
    receive(&server, &mut entries, &made);
    bob.transact_mut().apply_update(Update::decode_v1(&made).expect("genuine")).expect("genuine");
    let removed = change(&alice, |txn, rows| drop(rows.remove(txn, "r1")));
    let late = change(&bob, |txn, rows| {
        row(txn, rows, "r1").insert(txn, "title", "late");
    });
    let touches = receive(&server, &mut entries, &removed);
    assert_eq!(paths(&touches), ["rows/r1", "rows/r1/title"]);
    assert!(touches.iter().all(|touch| touch.deletes_current && touch.writes.is_empty()));
    assert_eq!(entries.shown().count(), 0);
    let touches = receive(&server, &mut entries, &late);
    assert_eq!((touches[0].standing, touches[0].current), (Standing::Hidden, None));
    assert!(!touches[0].writes[0].is_concurrent && !touches[0].adds_key());
    assert_eq!(entries.current(&["rows", "r1", "title"]), None);
    assert_eq!(receive(&server, &mut entries, &removed), [], "nothing is deleted twice");
    assert_eq!(receive(&server, &mut entries, &late), [], "nothing is written twice");
}

#[test]
fn maps_that_are_too_deep_are_left_out() {
    let doc = document(1);
    let update = change(&doc, |txn, rows| {
        let mut map = rows.clone();
        for _ in 0..DEPTH_MAX + 5 {
            map = map.insert(txn, "in", MapPrelim::default());
        }
    });
    let touches = Entries::default().survey(&update).expect("the engine wrote it");
    assert_eq!(touches.iter().map(|touch| touch.path.len()).max(), Some(DEPTH_MAX + 1));
    assert_eq!(touches.len(), DEPTH_MAX);
    let entries = Entries::read(&update).expect("the engine wrote it");
    assert_eq!(entries.shown().count(), DEPTH_MAX);
}

#[test]
fn what_is_no_update_changes_nothing() {
    let mut entries = Entries::default();
    assert!(Entries::read(&[1, 2, 3]).is_err() && entries.survey(&[0]).is_err());
    assert!(entries.settle(&[1, 1, 1, 0, 0x28, 1, 1, b'm', 1, b'k', 8, 1], |_, _| false).is_err());
    assert_eq!(entries.shown().count(), 0);
}

struct Vector {
    name: String,
    update: Vec<u8>,
}

fn vectors() -> impl Iterator<Item = Vector> {
    CORPORA.into_iter().flat_map(str::lines).map(|line| {
        let said: Value = serde_json::from_str(line).expect("the generator writes JSON");
        let text = |key: &str| said[key].as_str().expect("the generator writes strings");
        let hex = text("update");
        let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex digits");
        Vector { name: text("name").to_owned(), update: (0..hex.len()).step_by(2).map(byte).collect() }
    })
}

/// All keys that the engine shows, in maps of any tag.
fn shown(doc: &Doc, roots: &[String]) -> BTreeSet<String> {
    fn collect(txn: &impl ReadTxn, map: &MapRef, path: &str, all: &mut BTreeSet<String>) {
        if path.matches('/').count() == DEPTH_MAX {
            return;
        }
        for (key, value) in map.iter(txn) {
            let path = format!("{path}/{key}");
            all.insert(path.clone());
            match value {
                Out::YMap(inner) => collect(txn, &inner, &path, all),
                // A map of version 14.
                Out::YXmlFragment(inner) => {
                    collect(txn, &MapRef::from(BranchPtr::from(AsRef::<Branch>::as_ref(&inner))), &path, all)
                }
                _ => {}
            }
        }
    }
    let maps: Vec<_> = roots.iter().map(|root| (root, doc.get_or_insert_map(root.as_str()))).collect();
    let (txn, mut all) = (doc.transact(), BTreeSet::new());
    maps.iter().for_each(|(root, map)| collect(&txn, map, root, &mut all));
    all
}

fn joined(entries: &Entries) -> BTreeSet<String> {
    entries.shown().map(|(path, _)| path.join("/")).collect()
}

#[test]
fn states_that_yjs_wrote_show_what_the_engine_shows() {
    let is_state = |vector: &Vector| vector.name.ends_with("whole") || vector.name.contains(" end ");
    let limits = UpdateLimits { allow_subdocuments: true, ..UpdateLimits::default() };
    let (mut states, mut keys) = (0, 0);
    for Vector { name, update } in vectors().filter(is_state) {
        let summary = validate(&update, &limits).expect("genuine");
        let roots: Vec<String> = summary.roots(&update).map(str::to_owned).collect();
        let doc = document(1);
        doc.transact_mut().apply_update(Update::decode_v1(&update).expect("genuine")).expect("genuine");
        let entries = Entries::read(&update).expect("genuine");
        let differs = joined(&entries).symmetric_difference(&shown(&doc, &roots)).next().cloned();
        assert_eq!(differs, None, "{name}");
        // The same, told in one update to an empty index, and written by the engine.
        let mut told = Entries::default();
        receive(&document(2), &mut told, &update);
        assert_eq!(joined(&told), joined(&entries), "{name}");
        assert_eq!(joined(&Entries::read(&whole(&doc)).expect("the engine wrote it")), joined(&entries), "{name}");
        states += 1;
        keys += entries.shown().count();
    }
    println!("{states} states, {keys} keys");
    assert!(states > 30 && keys > 700, "the corpus lost its maps: {states} {keys}");
}

#[test]
fn stories_that_yjs_tells_step_by_step_end_in_what_it_tells_at_once() {
    let all: Vec<Vector> = vectors().collect();
    let wholes = all.iter().filter_map(|vector| Some((vector.name.strip_suffix(" whole")?, &vector.update)));
    let mut told = 0;
    for (story, end) in wholes.filter(|(story, _)| !story.starts_with("version 14")) {
        let (server, mut entries) = (document(1), Entries::default());
        for step in 0.. {
            let name = format!("{story} {step}");
            let Some(step) = all.iter().find(|vector| vector.name == name) else { break };
            receive(&server, &mut entries, &step.update);
            told += 1;
        }
        assert_eq!(joined(&entries), joined(&Entries::read(end).expect("genuine")), "{story}");
    }
    assert!(told > 200, "the corpus lost its stories: {told}");
}

fn values() -> impl Strategy<Value = Any> {
    let leaf = prop_oneof![
        Just(Any::Null),
        Just(Any::Undefined),
        any::<bool>().prop_map(Any::Bool),
        any::<f64>().prop_map(|number| Any::Number(Number::Float(number))),
        any::<f32>().prop_map(|number| Any::Number(Number::Float(number.into()))),
        (-(1_i64 << 53) + 1..1 << 53).prop_map(|number| Any::Number(Number::Int(number))),
        any::<i64>().prop_map(|number| Any::Number(Number::Int(number))),
        ".{0,9}".prop_map(Any::from),
        prop::collection::vec(any::<u8>(), 0..9).prop_map(Any::from),
    ];
    leaf.prop_recursive(4, 32, 5, |inner| {
        let list = prop::collection::vec(inner.clone(), 0..5).prop_map(Any::from);
        let object = prop::collection::hash_map(".{0,4}", inner, 0..5).prop_map(Any::from);
        prop_oneof![list, object]
    })
}

fn same(ours: &AnyValue, engines: &Any) -> bool {
    match (ours, engines) {
        (AnyValue::Null, Any::Null | Any::Undefined) => true,
        (AnyValue::Bool(ours), Any::Bool(theirs)) => ours == theirs,
        (AnyValue::Integer(ours), Any::Number(Number::Int(theirs))) => ours == theirs,
        // Whole numbers that are long as integers are written as others, and the other way round.
        (AnyValue::Integer(ours), Any::Number(Number::Float(theirs))) => *ours as f64 == *theirs,
        (AnyValue::Number(ours), Any::Number(Number::Int(theirs))) => *ours == *theirs as f64,
        (AnyValue::Number(ours), Any::Number(Number::Float(theirs))) => {
            ours == theirs || (ours.is_nan() && theirs.is_nan())
        }
        (AnyValue::String(ours), Any::String(theirs)) => **ours == **theirs,
        (AnyValue::Bytes(ours), Any::Buffer(theirs)) => **ours == **theirs,
        (AnyValue::Array(ours), Any::Array(theirs)) => {
            ours.len() == theirs.len() && ours.iter().zip(theirs.iter()).all(|(ours, theirs)| same(ours, theirs))
        }
        (AnyValue::Object(ours), Any::Map(theirs)) => {
            let found = |(key, value): &(String, AnyValue)| theirs.get(key).is_some_and(|theirs| same(value, theirs));
            ours.len() == theirs.len() && ours.iter().all(found)
        }
        _ => false,
    }
}

fn config() -> ProptestConfig {
    let failure_persistence = Some(Box::new(FileFailurePersistence::WithSource("regressions")) as _);
    ProptestConfig { failure_persistence, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn values_are_read_as_the_engine_wrote_them(value in values()) {
        let doc = document(1);
        let update = change(&doc, |txn, rows| {
            rows.insert(txn, "key", value.clone());
        });
        let touches = Entries::default().survey(&update).expect("the engine wrote it");
        let ours = touches[0].writes[0].value(&update).expect("a plain value");
        prop_assert!(same(&ours, &value), "{ours:?} {value:?}");
    }

    #[test]
    fn any_bytes_are_a_value_or_none(bytes in prop::collection::vec(any::<u8>(), 0..64), tag in 110..=127_u8) {
        let _ = read_any(&bytes);
        let _ = read_any(&[&[tag][..], &bytes].concat());
    }
}

#[test]
fn values_nested_too_deeply_are_none() {
    let nested = |depth: usize| [[117, 1].repeat(depth), vec![126]].concat();
    assert!(read_any(&nested(32)).is_some());
    assert!(read_any(&nested(33)).is_none());
    assert!(read_any(&nested(100_000)).is_none());
}

#[test]
fn a_large_table_takes_at_most_sixty_bytes_a_cell() {
    let doc = document(1);
    let update = change(&doc, |txn, rows| {
        for at in 0..10_000 {
            let row = rows.insert(txn, format!("row {at:08}"), MapPrelim::default());
            for cell in 0..10 {
                row.insert(txn, format!("col{cell}"), "text");
            }
        }
    });
    let state = whole(&doc);
    let mut entries = None;
    let read = allocation_counter::measure(|| entries = Entries::read(&state).ok());
    let mut told = Entries::default();
    let noted = allocation_counter::measure(|| told.settle(&update, |_, _| false).expect("the engine wrote it"));
    assert_eq!(entries.map(|entries| entries.shown().count()), Some(110_000));
    let a_cell = |bytes: i64| bytes as f64 / 100_000.0;
    println!(
        "bytes for each of 100 000 cells: {:.1} read from a state ({:.1} at the peak), {:.1} noted from an update",
        a_cell(read.bytes_current),
        a_cell(read.bytes_max as i64),
        a_cell(noted.bytes_current),
    );
    assert!(a_cell(read.bytes_current) <= 60.0);
}
