//! Any bytes as an update: read or refused, and whatever is made of an accepted one is accepted again.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use syncline_protocol::state_vector::StateVector;
use syncline_protocol::update::Readiness;
use syncline_protocol::update::UpdateLimits;
use syncline_protocol::update::merge;
use syncline_protocol::update::parts;
use syncline_protocol::update::split_ready;
use syncline_protocol::update::validate;

// The first two bytes are a known clock for the first client of the update; the rest is the update.
fuzz_target!(|input: &[u8]| {
    let [low, high, update @ ..] = input else { return };
    let update = Bytes::copy_from_slice(update);
    let limits = UpdateLimits { allow_subdocuments: true, ..UpdateLimits::default() };
    // Those that trust their input must survive anything too.
    let _ = parts(&update, &StateVector::default(), 64);
    let _ = merge(&[update.clone(), update.clone()]);
    let Ok(summary) = validate(&update, &limits) else { return };
    let clock = u32::from(u16::from_le_bytes([*low, *high]));
    let known: StateVector = summary.ranges().first().map(|range| (range.client, clock)).into_iter().collect();
    let (ready, waiting) = split_ready(&update, &known, &limits).expect("it was accepted");
    if let Some(ready) = ready {
        let ready = validate(&ready, &limits).expect("made of accepted structs");
        assert_eq!(ready.readiness(&known), Readiness::Ready);
        assert!(!ready.has_gap());
    }
    if let Some(waiting) = waiting {
        validate(&waiting, &limits).expect("made of accepted structs");
    }
    for part in parts(&update, &known, 64).expect("it was accepted") {
        validate(&part, &limits).expect("made of accepted structs");
    }
});
