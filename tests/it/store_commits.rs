//! What the numbers of the log's commits say, as an operator reads them.

use std::sync::Arc;

use syncline::metrics::Metrics;
use syncline::store::DiskFaults;
use syncline::store::DiskMood;
use syncline::store::Epoch;
use syncline::store::LocalOptions;
use syncline::store::LocalStore;
use syncline::store::Store;

use crate::conformance::doc;
use crate::conformance::noise;
use crate::conformance::record;

fn shown(text: &str, name: &str) -> f64 {
    let line = text.lines().find(|line| line.split(' ').next() == Some(name));
    line.and_then(|line| line.rsplit(' ').next()).and_then(|value| value.parse().ok()).unwrap_or(f64::NAN)
}

#[tokio::test]
async fn commits_are_counted_with_what_all_documents_put_into_them() {
    let dir = tempfile::tempdir().unwrap();
    let (metrics, handle) = Metrics::install();
    let faults = DiskFaults::default();
    let options =
        LocalOptions { metrics: Some(Arc::clone(&metrics)), faults: faults.clone(), ..LocalOptions::new(dir.path()) };
    let store = LocalStore::open(options).unwrap();
    // Called at once: how many commits they become is up to the disk.
    let called: Vec<_> = (0..50_u64)
        .map(|n| {
            let records = (0..3).map(|k| record(noise(200, n * 3 + k))).collect();
            store.append(&doc(&format!("doc {n}")), Epoch(0), records)
        })
        .collect();
    for append in called {
        append.await.unwrap();
    }
    let text = handle.render();
    let commits = shown(&text, "syncline_store_commit_seconds_count");
    assert!((1.0..=50.0).contains(&commits), "{text}");
    assert_eq!(shown(&text, "syncline_store_commit_records_count"), commits);
    assert_eq!(shown(&text, "syncline_store_commit_records_sum"), 150.0);
    let bytes = shown(&text, "syncline_store_commit_bytes_sum");
    assert!((30_000.0..60_000.0).contains(&bytes), "room is not counted: {bytes}");
    faults.set(DiskMood::SyncFails);
    assert!(store.append(&doc("doc 0"), Epoch(0), vec![record("x")]).await.is_err());
    assert_eq!(shown(&handle.render(), "syncline_store_commit_seconds_count"), commits, "it was no commit");
    store.close().await.unwrap();
}
