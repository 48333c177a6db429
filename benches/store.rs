//! How long a change takes until it is saved: alone, and together with 63 others of other documents.

use std::sync::Arc;

use bytes::Bytes;
use criterion::Criterion;
use criterion::Throughput;
use syncline::name::DocName;
use syncline::store::Epoch;
use syncline::store::LocalOptions;
use syncline::store::LocalStore;
use syncline::store::MemoryStore;
use syncline::store::Record;
use syncline::store::Store;

const TOGETHER: usize = 64;

pub(crate) fn benches(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let dir = tempfile::tempdir().expect("a temporary directory");
    let local = LocalStore::open(LocalOptions::new(dir.path())).expect("an empty directory can be opened");
    let stores: [(&str, Arc<dyn Store>); 2] = [("memory", Arc::new(MemoryStore::new())), ("local", Arc::new(local))];
    let docs: Vec<DocName> =
        (0..TOGETHER).map(|number| DocName::parse(&format!("bench {number}")).expect("a plain name")).collect();
    let record =
        || Record { update: Bytes::from(vec![7; 40]), user: None, at_ms: 1_700_000_000_000, sidecar: Bytes::new() };
    let mut group = criterion.benchmark_group("append");
    for (name, store) in &stores {
        for together in [1, TOGETHER] {
            group.throughput(Throughput::Elements(together as u64));
            group.bench_function(format!("{name}, {together} at once"), |bencher| {
                bencher.iter(|| {
                    // Calling starts an append; waiting for it is another matter.
                    let calls: Vec<_> = docs[..together]
                        .iter()
                        .map(|doc| store.append(doc, Epoch::default(), vec![record()]))
                        .collect();
                    runtime.block_on(async {
                        for call in calls {
                            call.await.expect("there is room on the disk");
                        }
                    });
                });
            });
        }
    }
    group.finish();
    for (_, store) in stores {
        runtime.block_on(store.close()).expect("it closes");
    }
}
