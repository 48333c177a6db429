//! Updates written by the real Yjs (`vectors/updates/generate.mjs`): every one is accepted, and summed up as Yjs does.

use serde_json::Value;
use syncline_protocol::state_vector::StateVector;
use syncline_protocol::update::ClientRange;
use syncline_protocol::update::ContentKinds;
use syncline_protocol::update::Invalid;
use syncline_protocol::update::Readiness;
use syncline_protocol::update::UpdateLimits;
use syncline_protocol::update::validate;

const CORPORA: [&str; 2] =
    [include_str!("../vectors/updates/yjs13.jsonl"), include_str!("../vectors/updates/yjs14.jsonl")];

struct Vector {
    name: String,
    update: Vec<u8>,
    said: Value,
}

fn vectors() -> impl Iterator<Item = Vector> {
    CORPORA.into_iter().flat_map(str::lines).map(|line| {
        let said: Value = serde_json::from_str(line).expect("the generator writes JSON");
        let text = |key: &str| said[key].as_str().expect("the generator writes strings").to_owned();
        Vector { name: text("name"), update: unhex(&text("update")), said }
    })
}

fn unhex(hex: &str) -> Vec<u8> {
    let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex digits");
    (0..hex.len()).step_by(2).map(byte).collect()
}

fn ranges(said: &Value) -> Vec<ClientRange> {
    let number = |value: &Value| value.as_u64().expect("a number");
    let clock = |value: &Value| u32::try_from(number(value)).expect("a clock");
    let range = |r: &Value| ClientRange { client: number(&r[0]), start: clock(&r[1]), end: clock(&r[2]) };
    said.as_array().expect("a list").iter().map(range).collect()
}

fn generous() -> UpdateLimits {
    UpdateLimits { allow_subdocuments: true, ..UpdateLimits::default() }
}

#[test]
fn every_genuine_update_is_accepted_and_summed_up_as_yjs_does() {
    let mut gaps = 0;
    for Vector { name, update, said } in vectors() {
        let summary = validate(&update, &generous()).unwrap_or_else(|invalid| panic!("{name}: {invalid}"));
        assert_eq!(summary.ranges(), ranges(&said["ranges"]), "{name}");
        let mut deletes: Vec<_> = summary.deletes().collect();
        deletes.sort_by_key(|range| (std::cmp::Reverse(range.client), range.start));
        assert_eq!(deletes, ranges(&said["deletes"]), "{name}");
        assert_eq!(summary.structs() as u64, said["structs"].as_u64().expect("a number"), "{name}");
        assert_eq!(summary.has_gap(), said["gap"].as_bool().expect("a flag"), "{name}");
        assert_eq!(summary.is_empty(), summary.ranges().is_empty() && deletes.is_empty(), "{name}");
        gaps += usize::from(summary.has_gap());
    }
    assert!(gaps > 20, "the corpus lost its updates with gaps: {gaps}");
}

#[test]
fn the_state_vector_that_yjs_reads_in_an_update_knows_its_structs_up_to_the_first_gap() {
    for Vector { name, update, said } in vectors() {
        let summary = validate(&update, &generous()).expect("genuine");
        let pair = |p: &Value| (p[0].as_u64().expect("a client"), p[1].as_u64().expect("a clock") as u32);
        let known: StateVector = said["stateVector"].as_array().expect("a list").iter().map(pair).collect();
        let whole = summary.ranges().iter().filter(|range| range.start == 0);
        let reached: StateVector = whole.map(|range| (range.client, range.end)).collect();
        assert_eq!(reached, known, "{name}");
        let from_zero = summary.ranges().iter().all(|range| range.start == 0);
        assert_eq!(summary.structs_known(&known), from_zero, "{name}");
    }
}

#[test]
fn a_whole_state_is_ready_for_an_empty_document() {
    let whole = |vector: &Vector| vector.name.ends_with("whole") || vector.name.contains(" end ");
    let mut seen = 0;
    for Vector { name, update, .. } in vectors().filter(whole) {
        let summary = validate(&update, &generous()).expect("genuine");
        assert_eq!(summary.readiness(&StateVector::default()), Readiness::Ready, "{name}");
        assert!(summary.structs_known(&summary.ranges().iter().map(|r| (r.client, r.end)).collect()), "{name}");
        seen += 1;
    }
    assert!(seen > 30, "{seen}");
}

#[test]
fn subdocuments_are_refused_unless_allowed() {
    let subdocument = |vector: &Vector| vector.name.starts_with("subdocuments");
    let strict = UpdateLimits::default();
    let refused = |v: &Vector| matches!(validate(&v.update, &strict), Err(Invalid::Subdocument { .. }));
    assert!(vectors().filter(subdocument).any(|vector| refused(&vector)));
    assert!(!vectors().filter(|vector| !subdocument(vector)).any(|vector| refused(&vector)));
}

#[test]
fn kinds_and_roots_are_reported() {
    let find = |name: &str| vectors().find(|vector| vector.name == name).expect("in the corpus");
    let summary = |update: &[u8]| validate(update, &generous()).expect("genuine");
    let formatting = find("formatting whole").update;
    let kinds = summary(&formatting).kinds();
    assert!(kinds.contains(ContentKinds::STRING.union(ContentKinds::FORMAT).union(ContentKinds::EMBED)));
    assert!(!kinds.intersects(ContentKinds::XML_ELEMENT.union(ContentKinds::DOC)));
    let values = find("any values whole").update;
    assert_eq!(summary(&values).roots(&values).collect::<Vec<_>>(), ["a", "m"]);
    let xml = vectors().filter(|vector| vector.name.starts_with("xml")).map(|vector| summary(&vector.update).kinds());
    let xml = xml.fold(ContentKinds::default(), ContentKinds::union);
    assert!(xml.contains(ContentKinds::XML_ELEMENT.union(ContentKinds::XML_TEXT).union(ContentKinds::XML_FRAGMENT)));
}

#[test]
fn limits_are_kept() {
    let update = vectors().find(|vector| vector.name == "history 2 end 0").expect("in the corpus").update;
    let summary = validate(&update, &generous()).expect("genuine");
    let structs_max = summary.structs();
    assert!(validate(&update, &UpdateLimits { structs_max, ..generous() }).is_ok());
    let fewer = UpdateLimits { structs_max: structs_max - 1, ..generous() };
    assert!(matches!(validate(&update, &fewer), Err(Invalid::TooManyStructs { .. })));
    let one = UpdateLimits { clients_max: 1, ..generous() };
    assert!(matches!(validate(&update, &one), Err(Invalid::TooManyClients { .. })));
    let short = UpdateLimits { bytes_max: update.len() - 1, ..generous() };
    assert!(matches!(validate(&update, &short), Err(Invalid::TooLong { .. })));
}
