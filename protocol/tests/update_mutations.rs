//! Real updates with bytes changed, cut, doubled and swapped: refused or accepted, but never a panic, never an endless
//! loop, and never more memory than the bytes are worth.

use bytes::Bytes;
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use serde_json::Value;
use syncline_protocol::state_vector::StateVector;
use syncline_protocol::update::UpdateLimits;
use syncline_protocol::update::merge;
use syncline_protocol::update::parts;
use syncline_protocol::update::split_ready;
use syncline_protocol::update::validate;

/// Bytes of memory for each byte of input, at the worst: a struct of two bytes is a node of 64 when nesting is measured,
/// and lists grow by doubling.
const BYTES_PER_BYTE: u64 = 200;
const BYTES_BESIDE: u64 = 4096;

fn corpus() -> Vec<Vec<u8>> {
    let lines = include_str!("../vectors/updates/yjs13.jsonl").lines().step_by(3);
    let update = |line: &str| {
        let said: Value = serde_json::from_str(line).expect("the generator writes JSON");
        let hex = said["update"].as_str().expect("the generator writes hex");
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex digits")).collect()
    };
    lines.map(update).collect()
}

#[derive(Debug, Clone)]
enum Mutation {
    Set(u32, u8),
    Add(u32, u8),
    Flip(u32, u8),
    Remove(u32),
    Insert(u32, u8),
    Cut(u32),
    Copy(u32, u32, u8),
}

fn mutations() -> impl Strategy<Value = Vec<Mutation>> {
    let at = any::<u32>();
    let telling = prop_oneof![Just(0_u8), Just(1), Just(0x7f), Just(0x80), Just(0xff), 0..12_u8, any::<u8>()];
    let mutation = prop_oneof![
        4 => (at, telling.clone()).prop_map(|(at, byte)| Mutation::Set(at, byte)),
        3 => (at, prop_oneof![Just(1_u8), Just(255_u8)]).prop_map(|(at, byte)| Mutation::Add(at, byte)),
        2 => (at, 0..8_u8).prop_map(|(at, bit)| Mutation::Flip(at, bit)),
        1 => at.prop_map(Mutation::Remove),
        1 => (at, telling).prop_map(|(at, byte)| Mutation::Insert(at, byte)),
        1 => at.prop_map(Mutation::Cut),
        1 => (at, any::<u32>(), any::<u8>()).prop_map(|(to, from, length)| Mutation::Copy(to, from, length)),
    ];
    prop::collection::vec(mutation, 1..5)
}

fn mutate(bytes: &mut Vec<u8>, mutation: &Mutation) {
    if bytes.is_empty() {
        return;
    }
    let place = |at: u32| at as usize % bytes.len();
    match *mutation {
        Mutation::Set(at, byte) => {
            let at = place(at);
            bytes[at] = byte;
        }
        Mutation::Add(at, byte) => {
            let at = place(at);
            bytes[at] = bytes[at].wrapping_add(byte);
        }
        Mutation::Flip(at, bit) => {
            let at = place(at);
            bytes[at] ^= 1 << bit;
        }
        Mutation::Remove(at) => {
            let at = place(at);
            bytes.remove(at);
        }
        Mutation::Insert(at, byte) => {
            let at = place(at);
            bytes.insert(at, byte);
        }
        Mutation::Cut(at) => {
            let at = place(at);
            bytes.truncate(at);
        }
        Mutation::Copy(to, from, length) => {
            let (to, from) = (place(to), place(from));
            let end = bytes.len().min(from + usize::from(length));
            let copy = bytes[from..end].to_vec();
            bytes.splice(to..to, copy);
        }
    }
}

/// Everything that takes bytes. What is made of a valid update must be valid again.
fn exercise(bytes: &[u8], known: &StateVector) {
    let limits = UpdateLimits { allow_subdocuments: true, ..UpdateLimits::default() };
    let update = Bytes::copy_from_slice(bytes);
    let allocated = allocation_counter::measure(|| drop(std::hint::black_box(validate(&update, &limits)))).bytes_total;
    assert!(allocated <= BYTES_BESIDE + BYTES_PER_BYTE * bytes.len() as u64, "{allocated} for {}", bytes.len());
    // These trust their input, but not with the process.
    let _ = parts(&update, known, 64);
    let _ = merge(&[update.clone(), update.clone()]);
    if validate(&update, &limits).is_err() {
        return;
    }
    let (ready, waiting) = split_ready(&update, known, &limits).expect("it was valid");
    for made in ready.into_iter().chain(waiting).chain(parts(&update, known, 64).expect("it was valid")) {
        validate(&made, &limits).expect("made of valid pieces");
    }
}

fn config() -> ProptestConfig {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(2_000);
    let failure_persistence = Some(Box::new(FileFailurePersistence::WithSource("regressions")) as _);
    ProptestConfig { cases, failure_persistence, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn mutated_updates_are_read_or_refused(
        update in prop::sample::select(corpus()),
        mutations in mutations(),
        known in prop::collection::vec((0..300_u64, 0..50_u32), 0..4),
    ) {
        let mut bytes = update;
        mutations.iter().for_each(|mutation| mutate(&mut bytes, mutation));
        exercise(&bytes, &known.into_iter().collect());
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(prop_oneof![0..12_u8, any::<u8>()], 0..60)) {
        exercise(&bytes, &StateVector::default());
    }
}

#[test]
fn a_small_update_is_read_without_allocating() {
    let typing = [1, 1, 0xb6, 0x90, 0xc5, 0x89, 4, 12, 0x84, 0xb6, 0x90, 0xc5, 0x89, 4, 11, 1, b'x', 0];
    let deleting = [0, 2, 5, 2, 0, 1, 7, 2, 1, 1, 3, 1];
    for update in [&typing[..], &deleting] {
        let mut summary = None;
        let used = allocation_counter::measure(|| summary = Some(validate(update, &UpdateLimits::default())));
        assert!(matches!(summary, Some(Ok(_))), "{summary:?}");
        assert_eq!(used.count_total, 0);
    }
}
