//! Every way of being brought to the whole, against the engine.

use proptest::prelude::Strategy;
use proptest::prelude::any;
use proptest::prop_assert;
use proptest::prop_assert_eq;
use proptest::proptest;
use syncline_protocol::update::UpdateLimits;
use syncline_protocol::update::validate;
use yrs::Doc;
use yrs::Text;
use yrs::Transact;
use yrs::Update;
use yrs::updates::decoder::Decode;

use crate::store::Record;
use crate::store::Seq;
use crate::store::Snapshot;

use super::super::replica::Deleted;
use super::super::replica::Replica;
use super::*;

/// Several people and the server's copy of what they write together.
struct Desk {
    writers: Vec<Doc>,
    replica: Replica,
    states: States,
    /// Everything in order.
    written: Vec<Bytes>,
}

impl Desk {
    fn new() -> Self {
        let writers = (1..=3).map(Doc::with_client_id).collect();
        Self {
            writers,
            replica: Replica::load(Deleted::Kept, std::iter::empty()).unwrap(),
            states: States::default(),
            written: Vec::new(),
        }
    }

    /// One person writes `length` letters somewhere, or deletes so many.
    fn write(&mut self, writer: usize, place: u32, length: u32, deletes: bool) {
        let doc = &self.writers[writer % self.writers.len()];
        let text = doc.get_or_insert_text("text");
        let mut txn = doc.transact_mut();
        let end = text.len(&txn);
        if deletes {
            let from = place % (end + 1);
            text.remove_range(&mut txn, from, length.min(end - from));
        } else {
            text.insert(&mut txn, place % (end + 1), &"x".repeat(length as usize));
        }
        txn.commit();
        let (changed, update) = (txn.has_changes(), Bytes::from(txn.encode_update_v1()));
        drop(txn);
        if changed {
            self.merge(update);
        }
    }

    fn merge(&mut self, update: Bytes) {
        let summary = validate(&update, &UpdateLimits::default()).unwrap();
        self.replica.expect(&summary);
        if !self.replica.apply(&update).unwrap() {
            return; // Somebody else deleted the same before.
        }
        self.states.changed(&update);
        self.written.push(update);
    }

    /// Everybody hears everything.
    fn share(&mut self) {
        let all = self.replica.diff(&StateVector::default()).unwrap();
        for writer in &self.writers {
            writer.transact_mut().apply_update(Update::decode_v1(&all).unwrap()).unwrap();
        }
    }

    /// As `Core::serve`. Answers whether it was here.
    fn serve(&mut self, have: &StateVector, asked: bool) -> (Parts, bool) {
        if let Some(parts) = self.states.find(have, asked) {
            return (parts, true);
        }
        let update = self.replica.diff(have).unwrap();
        (self.states.keep(Prepared::new(have.clone(), update), asked), false)
    }

    /// Somebody who has seen the first `seen` changes takes these parts, and has everything.
    fn brings_to_the_whole(&self, seen: usize, parts: &[Part]) -> bool {
        let steps = parts.iter().map(Part::payload);
        let reader = Replica::load(Deleted::Kept, self.written[..seen].iter().chain(steps)).unwrap();
        !reader.has_pending() && reader.same_history(&self.replica)
    }
}

fn clocks(updates: &[Bytes]) -> StateVector {
    Replica::load(Deleted::Kept, updates.iter()).unwrap().clocks().clone()
}

#[derive(Debug, Clone)]
enum Step {
    Write {
        writer: usize,
        place: u32,
        length: u32,
        deletes: bool,
    },
    Share,
    /// Somebody asks who has seen this part of everything, in 255ths.
    Ask {
        seen: u8,
        asked: bool,
    },
}

fn step() -> impl Strategy<Value = Step> {
    (0..12u8, any::<(usize, u32, bool)>(), any::<u8>(), any::<bool>()).prop_map(
        |(kind, (writer, place, deletes), seen, asked)| match kind {
            0..=4 => Step::Write { writer, place, length: 1 + place % 7, deletes: deletes && kind < 2 },
            5 => Step::Write { writer, place, length: 90_000, deletes: false },
            6 | 7 => Step::Share,
            8 | 9 => Step::Ask { seen: 0, asked },
            _ => Step::Ask { seen, asked },
        },
    )
}

proptest! {
    #![proptest_config(proptest::test_runner::Config { cases: 48, ..Default::default() })]
    #[test]
    fn whoever_asks_is_brought_to_the_whole(steps in proptest::collection::vec(step(), 1..60)) {
        let mut desk = Desk::new();
        for step in steps {
            match step {
                Step::Write { writer, place, length, deletes } => desk.write(writer, place, length, deletes),
                Step::Share => desk.share(),
                Step::Ask { seen, asked } => {
                    let seen = desk.written.len() * usize::from(seen) / 255;
                    let have = clocks(&desk.written[..seen]);
                    let (parts, _) = desk.serve(&have, asked);
                    prop_assert!(desk.brings_to_the_whole(seen, &parts));
                    let (last, steps) = parts.split_last().unwrap();
                    prop_assert_eq!(matches!(last.message, ServerMessage::SyncStep2(_)), asked);
                    prop_assert!(steps.iter().all(|part| matches!(part.message, ServerMessage::Update(_))));
                    prop_assert!(parts.iter().all(|part| part.frame == y_websocket::frame(&part.message)));
                }
            }
            prop_assert!(desk.states.kept.len() <= 1 + DIFFS_MAX);
        }
    }

    #[test]
    fn what_is_stored_brings_a_newcomer_to_the_whole(
        steps in proptest::collection::vec(step(), 1..40),
        share in 0..=100usize,
    ) {
        let mut desk = Desk::new();
        for step in steps {
            match step {
                Step::Write { writer, place, length, deletes } => desk.write(writer, place, length, deletes),
                Step::Share | Step::Ask { .. } => desk.share(),
            }
        }
        let through = desk.written.len() * share / 100;
        let loaded = loaded(&desk.written, through);
        if let Some(parts) = States::stored(&loaded).find(&StateVector::default(), true) {
            prop_assert!(desk.brings_to_the_whole(0, &parts));
        } else {
            let log: usize = desk.written[through..].iter().map(Bytes::len).sum();
            let average_is_small = log < (desk.written.len() - through) * RECORD_BYTES_MIN;
            let snapshot_is_small =
                loaded.snapshot.is_none_or(|snapshot| log > snapshot.state.len() / TAIL_SHARE);
            let cannot_be_joined = desk.written.len() > 1;
            prop_assert!(average_is_small && snapshot_is_small || cannot_be_joined);
        }
    }
}

/// The first changes as a snapshot, the others as a log.
fn loaded(written: &[Bytes], through: usize) -> Loaded {
    let snapshot = (through > 0).then(|| {
        let replica = Replica::load(Deleted::Kept, written[..through].iter()).unwrap();
        let state = replica.diff(&StateVector::default()).unwrap();
        Snapshot { state, through: Seq(through as u64), sidecar: Bytes::new() }
    });
    let record = |(index, update): (usize, &Bytes)| {
        (Seq(1 + index as u64), Record { update: update.clone(), user: None, at_ms: 0, sidecar: Bytes::new() })
    };
    let records = written.iter().enumerate().skip(through).map(record).collect();
    Loaded { snapshot, records, last: Seq(written.len() as u64), ..Loaded::default() }
}

fn large() -> Desk {
    let mut desk = Desk::new();
    for place in 0..6 {
        desk.write(0, place * 7, 100_000, false);
    }
    desk
}

#[test]
fn a_large_state_is_encoded_once_though_somebody_types() {
    let mut desk = large();
    let newcomer = StateVector::default();
    let (first, found) = desk.serve(&newcomer, true);
    assert!(!found && first.len() > 2);
    for _ in 0..200 {
        desk.write(1, 5, 1, false);
        let (parts, found) = desk.serve(&newcomer, true);
        assert!(found, "encoded again");
        assert!(Arc::ptr_eq(&desk.serve(&newcomer, true).0, &parts), "made again");
        assert!(std::ptr::eq(parts[0].frame.as_ptr(), first[0].frame.as_ptr()), "copied");
        assert!(parts.len() <= first.len() + 12, "{} parts", parts.len());
    }
    let parts = desk.states.find(&newcomer, true).unwrap();
    assert!(desk.brings_to_the_whole(0, &parts));
    assert_eq!(desk.states.log.len(), 0, "every tail has everything");
}

#[test]
fn a_long_tail_makes_room_for_another_encode() {
    let mut desk = large();
    desk.serve(&StateVector::default(), true);
    let bytes = desk.states.bytes();
    for _ in 0..3 {
        desk.write(1, 5, 60_000, false);
        assert!(desk.states.bytes() <= bytes + bytes / TAIL_SHARE);
    }
    assert_eq!((desk.states.kept.len(), desk.states.log.len(), desk.states.bytes()), (0, 0, 0));
    desk.write(1, 5, 1, false);
    assert_eq!(desk.states.log.len(), 0, "nobody needs it");
}

#[test]
fn those_who_come_back_with_the_same_share_too_and_the_oldest_makes_room() {
    let mut desk = large();
    let haves: Vec<StateVector> = (0..=5).map(|seen| clocks(&desk.written[..seen])).collect();
    assert!(!desk.serve(&haves[0], true).1);
    // Three small ones beside the whole.
    for have in &haves[3..] {
        assert!(!desk.serve(have, true).1);
        assert!(desk.serve(have, true).1);
    }
    assert!(desk.serve(&haves[3], true).1);
    assert!(!desk.serve(&haves[2], true).1);
    assert!(desk.serve(&haves[3], true).1, "it was asked for a moment ago");
    assert!(!desk.serve(&haves[4], true).1, "it was not");
    assert!(desk.serve(&haves[0], true).1, "the whole stays");
}

#[test]
fn a_small_document_is_one_message() {
    let mut desk = Desk::new();
    desk.write(0, 0, 1000, false);
    let (parts, _) = desk.serve(&StateVector::default(), true);
    assert!(matches!(&parts[..], [Part { message: ServerMessage::SyncStep2(_), .. }]));
    desk.write(1, 0, 3, false);
    let (parts, found) = desk.serve(&StateVector::default(), true);
    assert!(found && parts.len() == 2);
    let (parts, _) = desk.serve(&StateVector::default(), false);
    assert!(parts.iter().all(|part| matches!(part.message, ServerMessage::Update(_))));
}

#[test]
fn a_log_of_single_letters_is_not_worth_sending() {
    let mut desk = Desk::new();
    for _ in 0..100 {
        desk.write(0, 0, 1, false);
    }
    assert!(!States::stored(&loaded(&desk.written, 0)).welcome_newcomers());
    desk.write(0, 0, 90_000, false);
    assert!(States::stored(&loaded(&desk.written, 0)).welcome_newcomers());
    desk.write(0, 0, 1, false);
    assert!(States::stored(&loaded(&desk.written, desk.written.len() - 1)).welcome_newcomers());
}
