//! Large documents: how long their first reader waits, what each further one costs, and what a keystroke does.

use criterion::BatchSize;
use criterion::Criterion;
use syncline::document::core::ReaderId;
use syncline::store::Epoch;
use syncline::store::Loaded;
use syncline::store::Record;
use syncline::store::Seq;
use syncline::store::Snapshot;
use syncline_protocol::channel::DocumentMessage;
use syncline_protocol::state_vector::StateVector;

use bytes::Bytes;

use crate::document::Desk;
use crate::large::Large;
use crate::large::novel;
use crate::large::paper;
use crate::large::sheet;

/// Changes in the log behind the snapshot.
const LOGGED: usize = 200;
const WRITER: ReaderId = ReaderId(1);
const VISITOR: ReaderId = ReaderId(2);

pub(crate) fn benches(criterion: &mut Criterion) {
    for (name, large) in [("paper", paper()), ("novel", novel()), ("sheet", sheet())] {
        let mut group = criterion.benchmark_group(name);
        group.sample_size(20);
        let stored = stored(&large);
        let step1 = |have: &StateVector| DocumentMessage::SyncStep1(have.encode());
        let newcomer = step1(&StateVector::default());

        group.bench_function("load", |bencher| {
            bencher.iter_batched(|| stored.clone(), |stored| Desk::open(stored, 0), BatchSize::PerIteration);
        });
        group.bench_function("load and first join", |bencher| {
            bencher.iter_batched(|| stored.clone(), |stored| Desk::open(stored, 1), BatchSize::PerIteration);
        });

        let mut desk = Desk::open(stored.clone(), 2);
        group.bench_function("join", |bencher| {
            bencher.iter(|| {
                desk.say(VISITOR, newcomer.clone());
                desk.finish();
            });
        });
        let mut changes = large.changes.iter().skip(LOGGED);
        let mut change = || DocumentMessage::Update(changes.next().expect("there are changes enough").clone());
        group.bench_function("join after a change", |bencher| {
            bencher.iter_batched(
                &mut change,
                |change| {
                    desk.say(WRITER, change);
                    desk.finish();
                    desk.say(VISITOR, newcomer.clone());
                    desk.finish();
                },
                BatchSize::PerIteration,
            );
        });
        let behind = step1(&large.clocks_after(LOGGED as u32 - 1));
        group.bench_function("return one change behind", |bencher| {
            bencher.iter(|| {
                desk.say(VISITOR, behind.clone());
                desk.finish();
            });
        });
        drop(desk);

        let mut desk = Desk::open(stored.clone(), 10);
        let mut changes = large.changes.iter().skip(LOGGED);
        let mut change = || DocumentMessage::Update(changes.next().expect("there are changes enough").clone());
        group.bench_function("change, 10 readers", |bencher| {
            bencher.iter_batched(
                &mut change,
                |change| {
                    desk.say(WRITER, change);
                    desk.finish();
                },
                BatchSize::PerIteration,
            );
        });
        group.finish();
    }
}

/// A snapshot, and the first changes behind it.
fn stored(large: &Large) -> Loaded {
    let snapshot = Snapshot { state: large.state.clone(), through: Seq(1), sidecar: Bytes::new() };
    let record = |(index, update): (usize, &Bytes)| {
        let record = Record { update: update.clone(), user: None, at_ms: 1_700_000_000_000, sidecar: Bytes::new() };
        (Seq(2 + index as u64), record)
    };
    Loaded {
        snapshot: Some(snapshot),
        records: large.changes[..LOGGED].iter().enumerate().map(record).collect(),
        last: Seq(1 + LOGGED as u64),
        epoch: Epoch(0),
        memo: Bytes::new(),
    }
}
