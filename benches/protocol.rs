//! Reading what a socket brings: frames, and the updates in them.

use std::hint::black_box;
use std::time::Duration;
use std::time::Instant;

use bytes::Bytes;
use criterion::Criterion;
use criterion::Throughput;
use syncline_protocol::channel::DocumentMessage;
use syncline_protocol::update::Entries;
use syncline_protocol::update::UpdateLimits;
use syncline_protocol::update::merge;
use syncline_protocol::update::validate;
use syncline_protocol::y_websocket;
use yrs::Doc;
use yrs::Map;
use yrs::MapPrelim;
use yrs::Out;
use yrs::ReadTxn;
use yrs::StateVector;
use yrs::Transact;
use yrs::Update;
use yrs::updates::decoder::Decode;

use crate::material::cell;
use crate::material::many_structs;
use crate::material::paper;
use crate::material::typing;

pub(crate) fn benches(criterion: &mut Criterion) {
    let limits = UpdateLimits::default();
    let letters = typing(1, 33);
    let mut group = criterion.benchmark_group("validate");
    let updates = [
        ("typing", letters[32].clone()),
        ("cell", cell(1)[1].clone()),
        ("64 structs", many_structs(64)),
        ("500 KB", paper()),
    ];
    for (name, update) in updates {
        group.throughput(Throughput::Bytes(update.len() as u64));
        group.bench_function(name, |bencher| bencher.iter(|| validate(black_box(&update), &limits).is_ok()));
    }
    group.finish();

    entries(criterion);

    let frame = y_websocket::encode_client(&DocumentMessage::Update(letters[32].clone()));
    let mut group = criterion.benchmark_group("frame");
    group.bench_function("decode", |bencher| bencher.iter(|| y_websocket::decode(black_box(frame.clone()))));
    group.finish();

    let one_writer: Vec<Bytes> = letters[..32].to_vec();
    let many_writers: Vec<Bytes> = (1..=32).map(|client| typing(client, 1)[0].clone()).collect();
    let mut group = criterion.benchmark_group("merge 32");
    group.bench_function("one writer", |bencher| bencher.iter(|| merge(black_box(&one_writer))));
    group.bench_function("32 writers", |bencher| bencher.iter(|| merge(black_box(&many_writers))));
    group.finish();
}

/// One-cell updates of a table of 10 000 × 10: read once, and surveyed and noted. In one group, so that they compare.
fn entries(criterion: &mut Criterion) {
    let (state, updates) = grid(1_000);
    let limits = UpdateLimits::default();
    let entries = Entries::read(&state).expect("the engine wrote it");
    let mut group = criterion.benchmark_group("cell of 100 000");
    group.throughput(Throughput::Elements(updates.len() as u64));
    group.bench_function("validate", |bencher| {
        bencher.iter(|| updates.iter().filter(|update| validate(black_box(update), &limits).is_ok()).count());
    });
    group.bench_function("survey", |bencher| {
        bencher.iter(|| updates.iter().filter_map(|update| entries.survey(black_box(update)).ok()).count());
    });
    group.bench_function("survey and settle", |bencher| {
        bencher.iter_custom(|rounds| (0..rounds).map(|_| survey_and_settle(&entries, &updates)).sum());
    });
    group.finish();
}

/// Time for all the updates one after the other, on a copy of the index that was made before.
fn survey_and_settle(entries: &Entries, updates: &[Bytes]) -> Duration {
    let mut entries = entries.clone();
    let began = Instant::now();
    for update in updates {
        black_box(entries.survey(black_box(update)).is_ok());
        // An overwritten item is deleted, and was not touched again here: new ones are not.
        black_box(entries.settle(update, |client, _| client == 1).is_ok());
    }
    began.elapsed()
}

/// A table of 10 000 × 10 cells, and updates of another client that overwrite one of them each.
fn grid(overwrites: usize) -> (Bytes, Vec<Bytes>) {
    let doc = Doc::with_client_id(1);
    let rows = doc.get_or_insert_map("rows");
    let mut txn = doc.transact_mut();
    for row in 0..10_000 {
        let row = rows.insert(&mut txn, format!("row {row:08}"), MapPrelim::default());
        for cell in 0..10 {
            row.insert(&mut txn, format!("col{cell}"), "a cell of some length");
        }
    }
    drop(txn);
    let state: Bytes = doc.transact().encode_diff_v1(&StateVector::default()).into();
    let other = Doc::with_client_id(2);
    let rows = other.get_or_insert_map("rows");
    let whole = Update::decode_v1(&state).expect("the engine wrote it");
    other.transact_mut().apply_update(whole).expect("the engine wrote it");
    let overwrite = |at: usize| {
        let mut txn = other.transact_mut();
        let key = format!("row {:08}", at * 7919 % 10_000);
        let Some(Out::YMap(row)) = rows.get(&txn, &key) else { unreachable!("every row is a map") };
        row.insert(&mut txn, format!("col{}", at % 10), "another");
        txn.encode_update_v1().into()
    };
    let updates = (0..overwrites).map(overwrite).collect();
    (state, updates)
}
