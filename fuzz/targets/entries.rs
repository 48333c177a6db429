//! Any two updates, the second on the first, and an engine that gives any answers: the index of map entries takes them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use syncline_protocol::update::Entries;
use syncline_protocol::update::UpdateLimits;
use syncline_protocol::update::gains;
use syncline_protocol::update::validate;

// A byte that makes the answers, the length of the first update, both updates.
fuzz_target!(|input: &[u8]| {
    let [answers, low, high, updates @ ..] = input else { return };
    let first = usize::from(u16::from_le_bytes([*low, *high])).min(updates.len());
    let (first, second) = updates.split_at(first);
    // It trusts what was validated, but must survive anything.
    let mut entries = Entries::read(first).unwrap_or_default();
    let _ = entries.survey(second);
    let limits = UpdateLimits { allow_subdocuments: true, ..UpdateLimits::default() };
    if validate(second, &limits).is_err() {
        return;
    }
    let touches = entries.survey(second).expect("it was accepted");
    assert!(touches.is_sorted_by(|a, b| (&a.path, a.map) < (&b.path, b.map)));
    let gained: usize = gains(&touches).values().map(|gain| gain.entries).sum();
    assert!(gained <= touches.len());
    let answer = |client: u64, clock: u32| (client ^ u64::from(clock) ^ u64::from(*answers)).count_ones() % 2 == 0;
    entries.settle(second, answer).expect("it was accepted");
    for touch in &touches {
        for written in &touch.writes {
            let place = entries.find(written.id).expect("it was noted");
            assert_eq!((&place.path, place.map), (&touch.path, touch.map));
            let _ = written.value(second);
        }
    }
    let again = entries.survey(second).expect("it was accepted");
    assert!(again.iter().all(|touch| touch.writes.is_empty()));
    for (path, id) in entries.shown() {
        let path: Vec<&str> = path.iter().map(AsRef::as_ref).collect();
        assert_eq!(entries.current(&path), Some(id));
    }
});
