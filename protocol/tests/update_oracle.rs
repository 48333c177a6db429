//! Random histories of several replicas, written by the engine: what is said of an update and what is made of it must be
//! what the engine finds when it applies it. Compared are state vector, delete set and content, never encodings.

use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use syncline_protocol::state_vector::StateVector;
use syncline_protocol::update::Readiness;
use syncline_protocol::update::Summary;
use syncline_protocol::update::UpdateLimits;
use syncline_protocol::update::merge;
use syncline_protocol::update::parts;
use syncline_protocol::update::split_ready;
use syncline_protocol::update::validate;
use yrs::Any;
use yrs::Array;
use yrs::ArrayPrelim;
use yrs::ClientID;
use yrs::Doc;
use yrs::GetString;
use yrs::Map;
use yrs::MapPrelim;
use yrs::OffsetKind;
use yrs::Options;
use yrs::Out;
use yrs::ReadTxn;
use yrs::Snapshot;
use yrs::Text;
use yrs::TextPrelim;
use yrs::Transact;
use yrs::Update;
use yrs::XmlElementPrelim;
use yrs::XmlFragment;
use yrs::types::ToJson;
use yrs::updates::decoder::Decode;
use yrs::updates::encoder::Encode;

/// One step of a history; the numbers choose among what is possible then.
#[derive(Debug, Clone, Copy)]
struct Step {
    replica: usize,
    action: u8,
    place: u32,
    choice: u32,
}

fn steps(longest: usize) -> impl Strategy<Value = Vec<Step>> {
    let step = (0..3_usize, 0..20_u8, any::<u32>(), any::<u32>());
    let step = step.prop_map(|(replica, action, place, choice)| Step { replica, action, place, choice });
    prop::collection::vec(step, 1..longest)
}

fn document(client: u64, skip_gc: bool) -> Doc {
    let mut options = Options::with_client_id(ClientID::new(client));
    options.skip_gc = skip_gc;
    options.offset_kind = OffsetKind::Utf16;
    // Removes redundant formatting marks as soon as they are seen, so it depends on how updates were cut.
    options.cleanup_formatting = false;
    let doc = Doc::with_options(options);
    doc.get_or_insert_text("text");
    doc.get_or_insert_map("map");
    doc.get_or_insert_array("array");
    doc.get_or_insert_xml_fragment("xml");
    doc
}

fn apply(doc: &Doc, update: &[u8]) {
    let update = Update::decode_v1(update).expect("the engine decodes what was accepted");
    doc.transact_mut().apply_update(update).expect("the engine applies what was accepted");
}

fn known(doc: &Doc) -> StateVector {
    doc.transact().state_vector().iter().map(|(client, &clock)| (client.get(), clock)).collect()
}

fn whole(doc: &Doc) -> Bytes {
    doc.transact().encode_diff_v1(&yrs::StateVector::default()).into()
}

fn copy(doc: &Doc) -> Doc {
    let copy = document(999, true);
    apply(&copy, &whole(doc));
    copy
}

fn view(doc: &Doc) -> (Snapshot, [Any; 2], [String; 2]) {
    let (map, array) = (doc.get_or_insert_map("map"), doc.get_or_insert_array("array"));
    let (text, xml) = (doc.get_or_insert_text("text"), doc.get_or_insert_xml_fragment("xml"));
    let txn = doc.transact();
    (txn.snapshot(), [map.to_json(&txn), array.to_json(&txn)], [text.get_string(&txn), xml.get_string(&txn)])
}

fn accept(update: &[u8]) -> Summary {
    let hex = || update.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    validate(update, &UpdateLimits::default()).unwrap_or_else(|invalid| panic!("{invalid}: {}", hex()))
}

/// Applies an update and tells whether the engine had to hold back any of it.
fn engine_takes_it(doc: &Doc, update: &[u8]) -> bool {
    let copy = copy(doc);
    apply(&copy, update);
    let held = copy.transact().has_missing_updates();
    !held && accept(update).ranges().iter().all(|range| known(&copy).clock(range.client) >= range.end)
}

/// Without surrogate pairs: the engine replaces the halves of one that is cut, but only where it was cut.
const WORDS: [&str; 6] = ["a", "word", "größe", "漢字", "é", "a longer text that can be cut ü in the middle of it"];

fn value(choice: u32) -> Any {
    let nested =
        || Any::from(std::collections::HashMap::from([("k".to_owned(), Any::from(vec![Any::Null, Any::from(1)]))]));
    match choice % 7 {
        0 => Any::Null,
        1 => Any::Undefined,
        2 => Any::from(choice.is_multiple_of(2)),
        3 => Any::from(f64::from(choice) / 7.0),
        4 => Any::from(-i64::from(choice)),
        5 => Any::from(["", "word", "größe", "😀"][choice as usize % 4]),
        _ => nested(),
    }
}

/// One transaction; its update, which may be empty.
fn edit(doc: &Doc, step: Step) -> Bytes {
    let (text, xml) = (doc.get_or_insert_text("text"), doc.get_or_insert_xml_fragment("xml"));
    let (map, array) = (doc.get_or_insert_map("map"), doc.get_or_insert_array("array"));
    let mut txn = doc.transact_mut();
    let txn = &mut txn;
    let (length, elements, children) = (text.len(txn), array.len(txn), xml.len(txn));
    let key = ["a", "b", "c", "größe"][step.place as usize % 4];
    let nested = map.get(txn, key);
    let attrs = || yrs::types::Attrs::from([(Arc::from(["b", "i"][step.choice as usize % 2]), value(step.choice / 2))]);
    match step.action {
        0..=3 => text.insert(txn, step.place % (length + 1), WORDS[step.choice as usize % WORDS.len()]),
        4 => text.insert_with_attributes(txn, step.place % (length + 1), "styled", attrs()),
        5 | 6 if length > 0 => {
            let start = step.place % length;
            text.remove_range(txn, start, 1 + step.choice % (length - start));
        }
        7 if length > 0 => {
            let start = step.place % length;
            text.format(txn, start, 1 + step.choice % (length - start), attrs());
        }
        8 => {
            text.insert_embed(txn, step.place % (length + 1), value(6));
        }
        9 => {
            map.insert(txn, key, value(step.choice));
        }
        10 => {
            map.insert(txn, key, MapPrelim::from([("k", "in"), ("l", "side")]));
        }
        11 => {
            map.remove(txn, key);
        }
        12 | 13 => match nested {
            Some(Out::YMap(nested)) if step.choice.is_multiple_of(3) => {
                nested.insert(txn, "deeper", MapPrelim::from([("n", step.choice)]));
            }
            Some(Out::YMap(nested)) => {
                nested.insert(txn, WORDS[step.choice as usize % 3], value(step.choice));
            }
            _ => {
                map.insert(txn, key, ArrayPrelim::from([1, 2, 3]));
            }
        },
        14 => {
            let values = [value(step.choice), value(step.choice / 7)];
            array.insert_range(txn, step.place % (elements + 1), values);
        }
        15 => {
            array.insert(txn, step.place % (elements + 1), TextPrelim::new("inner"));
        }
        16 if elements > 0 => array.remove(txn, step.place % elements),
        17 => {
            xml.insert(txn, step.place % (children + 1), XmlElementPrelim::empty("p"));
        }
        18 if children > 0 => xml.remove_range(txn, step.place % children, 1),
        _ => {}
    }
    txn.encode_update_v1().into()
}

/// Replicas that edit, the updates in the order in which they were made, and the replica that has seen them all.
struct History {
    replicas: Vec<Doc>,
    log: Vec<Bytes>,
    hub: Doc,
}

fn play(steps: &[Step], skip_gc: bool) -> History {
    let replicas: Vec<_> = [7, 1 << 40, 300].into_iter().map(|client| document(client, skip_gc)).collect();
    let mut history = History { replicas, log: Vec::new(), hub: document(998, true) };
    for &step in steps {
        let replica = &history.replicas[step.replica];
        if step.action == 19 {
            let missing = history.hub.transact().encode_diff_v1(&replica.transact().state_vector());
            apply(replica, &missing);
            continue;
        }
        let update = edit(replica, step);
        if !accept(&update).is_empty() {
            apply(&history.hub, &update);
            history.log.push(update);
        }
    }
    history
}

/// Updates of many shapes: as made, with gaps, as states and differences.
fn samples(history: &History, step: Step) -> Vec<Bytes> {
    let mut samples = history.log.clone();
    let mut mix = u64::from(step.place) << 32 | u64::from(step.choice);
    let mut coin = || {
        mix = mix.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        mix >> 62 != 0
    };
    let some: Vec<_> = history.log.iter().filter(|_| coin()).collect();
    if some.len() > 1 {
        samples.push(yrs::merge_updates_v1(some).expect("genuine updates merge").into());
    }
    samples.extend(history.replicas.iter().map(whole));
    let vectors = history.replicas.iter().map(|doc| doc.transact().state_vector());
    samples.extend(vectors.map(|vector| Bytes::from(history.hub.transact().encode_diff_v1(&vector))));
    samples
}

fn config() -> ProptestConfig {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(60);
    let failure_persistence = Some(Box::new(FileFailurePersistence::WithSource("regressions")) as _);
    ProptestConfig { cases, failure_persistence, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn ready_is_what_the_engine_takes(steps in steps(25), gc in any::<bool>()) {
        let history = play(&steps, !gc);
        let empty = document(997, true);
        for update in samples(&history, steps[0]) {
            let summary = accept(&update);
            for doc in history.replicas.iter().chain([&history.hub, &empty]) {
                let known = known(doc);
                let ready = summary.readiness(&known) == Readiness::Ready;
                prop_assert_eq!(ready, engine_takes_it(doc, &update), "{:?} on {:?}: {:?}", summary, known, summary.readiness(&known));
            }
        }
    }

    #[test]
    fn a_split_update_says_the_same(steps in steps(25), gc in any::<bool>()) {
        let history = play(&steps, !gc);
        let empty = document(997, true);
        for update in samples(&history, steps[0]) {
            for doc in history.replicas.iter().chain([&history.hub, &empty]) {
                let (ready, waiting) = split_ready(&update, &known(doc), &UpdateLimits::default()).expect("valid");
                let doc = copy(doc);
                if let Some(ready) = &ready {
                    prop_assert!(!accept(ready).has_gap());
                    prop_assert_eq!(accept(ready).readiness(&known(&doc)), Readiness::Ready);
                    prop_assert!(engine_takes_it(&doc, ready));
                    apply(&doc, ready);
                }
                if let Some(waiting) = &waiting {
                    let again = split_ready(waiting, &known(&doc), &UpdateLimits::default()).expect("valid");
                    prop_assert_eq!(again.0, None, "something was left behind");
                    prop_assert!(again.1.is_some());
                    prop_assert_ne!(accept(waiting).readiness(&known(&doc)), Readiness::Ready);
                }
                // Its neighbours come: without its bytes nothing may be missing, with them nothing may change.
                let complete = copy(&doc);
                apply(&complete, &whole(&history.hub));
                let expected = copy(&history.hub);
                apply(&expected, &update);
                if let Some(waiting) = &waiting {
                    prop_assert_eq!(accept(waiting).readiness(&known(&complete)), Readiness::Ready);
                    apply(&complete, waiting);
                }
                prop_assert_eq!(view(&complete), view(&expected));
            }
        }
    }

    /// Only the parts are applied: they alone must bring what the whole brings.
    #[test]
    fn parts_bring_what_the_whole_brings(steps in steps(60), gc in any::<bool>(), part_bytes in 1..400_usize) {
        let history = play(&steps, !gc);
        let empty = document(997, true);
        for receiver in history.replicas.iter().chain([&empty]) {
            let update = whole(&history.hub);
            let doc = copy(receiver);
            for part in parts(&update, &known(&doc), part_bytes).expect("valid") {
                prop_assert!(part.len() < 2 * part_bytes.max(64) + 200, "{} bytes", part.len());
                prop_assert_eq!(accept(&part).readiness(&known(&doc)), Readiness::Ready);
                prop_assert!(engine_takes_it(&doc, &part));
                apply(&doc, &part);
            }
            prop_assert_eq!(view(&doc), view(&history.hub));
        }
    }

    #[test]
    fn merged_updates_bring_what_they_bring_one_by_one(steps in steps(40), gc in any::<bool>(), cuts in prop::collection::vec(1..12_usize, 40)) {
        let history = play(&steps, !gc);
        let doc = document(997, true);
        let mut rest = &history.log[..];
        for cut in cuts {
            let (batch, after) = rest.split_at(cut.min(rest.len()));
            let merged = merge(batch).expect("consecutive updates of one document");
            prop_assert_eq!(accept(&merged).readiness(&known(&doc)), Readiness::Ready);
            prop_assert!(merged.len() <= batch.iter().map(Bytes::len).sum::<usize>().max(2));
            apply(&doc, &merged);
            rest = after;
        }
        for update in rest {
            apply(&doc, update);
        }
        prop_assert_eq!(view(&doc), view(&history.hub));
    }
}

#[test]
fn what_does_not_join_is_not_merged() {
    let steps: Vec<_> = (0..3).map(|_| Step { replica: 0, action: 0, place: 0, choice: 1 }).collect();
    let log = play(&steps, true).log;
    assert_eq!(merge(&[]).as_deref(), Some(&[0, 0][..]));
    assert_eq!(merge(&log[..1]), Some(log[0].clone()));
    assert!(merge(&log).is_some());
    assert_eq!(merge(&[log[0].clone(), log[2].clone()]), None, "a gap");
    assert_eq!(merge(&[log[1].clone(), log[0].clone()]), None, "the wrong order");
    assert_eq!(merge(&[log[0].clone(), log[0].clone()]), None, "twice the same");
    assert_eq!(merge(&[log[0].clone(), Bytes::from_static(b"junk")]), None);
}

#[test]
fn a_v2_update_is_never_taken_for_v1() {
    let steps: Vec<_> = (0..30).map(|action| Step { replica: 0, action: action % 18, place: 3, choice: 5 }).collect();
    for update in play(&steps, true).log {
        let v2 = Update::decode_v1(&update).expect("genuine").encode_v2();
        assert!(validate(&v2, &UpdateLimits::default()).is_err());
    }
}

#[test]
fn one_huge_text_is_cut_between_characters() {
    let doc = document(5, true);
    let text = doc.get_or_insert_text("text");
    text.insert(&mut doc.transact_mut(), 0, "<>");
    text.insert(&mut doc.transact_mut(), 1, &"größe 😀 漢字 ".repeat(5_000));
    let update = whole(&doc);
    let parts = parts(&update, &StateVector::default(), 1_000).expect("valid");
    assert!(parts.len() > 80, "{}", parts.len());
    let other = document(6, true);
    for part in parts {
        assert!(part.len() < 1_200, "{}", part.len());
        assert!(engine_takes_it(&other, &part));
        apply(&other, &part);
    }
    assert_eq!(view(&other), view(&doc));
}

#[test]
fn one_long_list_is_cut_between_values() {
    let doc = document(5, true);
    let list = doc.get_or_insert_array("list");
    list.insert_range(&mut doc.transact_mut(), 0, ["first", "last"]);
    list.insert_range(&mut doc.transact_mut(), 1, (0..5_000).map(|number| format!("value {number}")));
    let parts = parts(&whole(&doc), &StateVector::default(), 1_000).expect("valid");
    assert!(parts.len() > 50, "{}", parts.len());
    let other = document(6, true);
    for part in parts {
        assert!(part.len() < 1_200, "{}", part.len());
        assert!(engine_takes_it(&other, &part));
        apply(&other, &part);
    }
    assert_eq!(view(&other), view(&doc));
}

#[test]
fn of_what_was_deleted_only_the_length_travels() {
    let doc = document(5, true);
    let (map, text) = (doc.get_or_insert_map("map"), doc.get_or_insert_text("text"));
    for number in 0..100 {
        map.insert(&mut doc.transact_mut(), "one key", format!("{number} ").repeat(1_000));
        text.insert(&mut doc.transact_mut(), 0, &"words ".repeat(100));
    }
    text.remove_range(&mut doc.transact_mut(), 10, 59_000);
    let all = whole(&doc);
    assert!(all.len() > 300_000, "a live document keeps what was deleted: {}", all.len());
    for gc in [true, false] {
        let other = document(6, !gc);
        let parts = parts(&all, &StateVector::default(), 2_000).expect("valid");
        let bytes: usize = parts.iter().map(Bytes::len).sum();
        assert!(bytes < 15_000, "{bytes}");
        for part in parts {
            assert!(engine_takes_it(&other, &part));
            apply(&other, &part);
        }
        assert_eq!(view(&other), view(&doc));
    }
}

#[test]
fn what_cannot_be_integrated_comes_whole_in_the_last_part() {
    let steps: Vec<_> = (0..40).map(|place| Step { replica: 0, action: 0, place, choice: 5 }).collect();
    let log = play(&steps, true).log;
    let late = merge(&log[10..]).expect("consecutive");
    let parts = parts(&late, &StateVector::default(), 100).expect("valid");
    assert_eq!(parts.len(), 1);
    assert_eq!(accept(&parts[0]).ranges(), accept(&late).ranges());
}

/// A crash between the two would have lost the value that was replaced: the deletion durable, the replacement not there.
#[test]
fn a_value_stays_until_what_replaces_it_is_there() {
    let (server, writer) = (document(1, true), document(2, true));
    let entries = server.get_or_insert_map("entries");
    entries.insert(&mut server.transact_mut(), "count", 1);
    apply(&writer, &whole(&server));
    let text = writer.get_or_insert_text("text");
    text.push(&mut writer.transact_mut(), "never delivered");
    let entries = writer.get_or_insert_map("entries");
    let mut txn = writer.transact_mut();
    entries.insert(&mut txn, "count", 2);
    let replaced = Bytes::from(txn.encode_update_v1());
    drop(txn);
    let (ready, waiting) = split_ready(&replaced, &known(&server), &UpdateLimits::default()).unwrap();
    assert_eq!((ready, waiting.as_ref()), (None, Some(&replaced)));
}
