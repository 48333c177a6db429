//! Reading what a socket brings: frames, and the updates in them.

use std::hint::black_box;

use bytes::Bytes;
use criterion::Criterion;
use criterion::Throughput;
use syncline_protocol::channel::DocumentMessage;
use syncline_protocol::update::UpdateLimits;
use syncline_protocol::update::merge;
use syncline_protocol::update::validate;
use syncline_protocol::y_websocket;

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
