//! What every store does.

use std::sync::Arc;

use bytes::Bytes;
use syncline::name::DocName;
use syncline::store::Epoch;
use syncline::store::Loaded;
use syncline::store::MEMO_BYTES_MAX;
use syncline::store::Record;
use syncline::store::Seq;
use syncline::store::Snapshot;
use syncline::store::Store;
use syncline::store::StoreError;

use super::Engine;
use super::doc;
use super::noise;
use super::record;
use super::snapshot;

const FIRST: Epoch = Epoch(0);

fn numbered(records: &[Record]) -> Vec<(Seq, Record)> {
    (1..).map(Seq).zip(records.iter().cloned()).collect()
}

pub(super) async fn appends_come_back_in_order(engine: &mut impl Engine) {
    let store = engine.open();
    let name = doc("ordered");
    let records: Vec<_> = (0..200_u32).map(|n| record(n.to_le_bytes())).collect();
    // All called before any is awaited, awaited from the last to the first.
    let mut pending: Vec<_> = records.iter().map(|r| store.append(&name, FIRST, vec![r.clone()])).collect();
    let mut seqs = Vec::new();
    while let Some(append) = pending.pop() {
        seqs.push(append.await.unwrap().0);
    }
    assert!(seqs.iter().rev().copied().eq(1..=200));
    let loaded = store.load(&name).await.unwrap();
    assert_eq!(loaded, Loaded { records: numbered(&records), last: Seq(200), ..Loaded::default() });
    store.close().await.unwrap();
}

pub(super) async fn an_append_of_several_is_one(engine: &mut impl Engine) {
    let store = engine.open();
    let records: Vec<_> = (0..64_u8).map(|n| record([n; 9])).collect();
    assert_eq!(store.append(&doc("several"), FIRST, records.clone()).await, Ok(Seq(64)));
    assert_eq!(store.load(&doc("several")).await.unwrap().records, numbered(&records));
    store.close().await.unwrap();
}

pub(super) async fn an_append_of_nothing_changes_nothing(engine: &mut impl Engine) {
    let store = engine.open();
    assert_eq!(store.append(&doc("none"), FIRST, vec![]).await, Ok(Seq(0)));
    assert_eq!(store.load(&doc("none")).await, Ok(Loaded::default()));
    assert_eq!(store.list("", None, 10).await.unwrap().docs, vec![]);
    store.append(&doc("none"), FIRST, vec![record("x")]).await.unwrap();
    assert_eq!(store.append(&doc("none"), FIRST, vec![]).await, Ok(Seq(1)));
    // An update may be empty, and a user may be missing: that is still a record.
    let bare = Record { update: vec![].into(), user: None, at_ms: 0, sidecar: vec![].into() };
    store.append(&doc("none"), FIRST, vec![bare.clone()]).await.unwrap();
    assert_eq!(store.load(&doc("none")).await.unwrap().records[1], (Seq(2), bare));
    store.close().await.unwrap();
}

pub(super) async fn a_dropped_future_was_called_all_the_same(engine: &mut impl Engine) {
    let store = engine.open();
    drop(store.append(&doc("dropped"), FIRST, vec![record("one")]));
    assert_eq!(store.append(&doc("dropped"), FIRST, vec![record("two")]).await, Ok(Seq(2)));
    assert_eq!(store.load(&doc("dropped")).await.unwrap().records, numbered(&[record("one"), record("two")]));
    store.close().await.unwrap();
}

/// Names that would hurt if they were ever used as paths, keys or prefixes of each other.
fn hostile_names() -> Vec<DocName> {
    let long = "n".repeat(255);
    let wide = "ü".repeat(127);
    let names = [
        "a",
        "a/",
        "a/b",
        "/",
        "//",
        "..",
        "../..",
        "../../etc/passwd",
        ".",
        "%",
        "%2F",
        "%00",
        "a b",
        " ",
        "table:T",
        ":",
        "🙂",
        "é",
        "e\u{301}",
        "\u{10ffff}",
        "con",
        "LOCK",
        "VERSION",
        "log",
        "sled",
        "*",
        "?",
        "\\",
        "a\\b",
        "\"",
        "'",
        "$(x)",
        "a!",
        "a~",
        &long,
        &wide,
    ];
    names.into_iter().map(doc).collect()
}

pub(super) async fn names_of_every_shape(engine: &mut impl Engine) {
    let mut store = engine.open();
    let names = hostile_names();
    for name in &names {
        let own = record(name.as_str());
        store.append(name, FIRST, vec![own.clone(), own]).await.unwrap();
        store.compact(name, FIRST, snapshot(name.as_str(), 1)).await.unwrap();
    }
    if engine.persists() {
        store.close().await.unwrap();
        store = engine.open();
    }
    for name in &names {
        let loaded = store.load(name).await.unwrap();
        assert_eq!(loaded.snapshot, Some(snapshot(name.as_str(), 1)));
        assert_eq!(loaded.records, vec![(Seq(2), record(name.as_str()))]);
    }
    let listed = store.list("", None, 1000).await.unwrap().docs;
    let mut sorted = names;
    sorted.sort_by(|a, b| a.as_str().as_bytes().cmp(b.as_str().as_bytes()));
    assert_eq!(listed.into_iter().map(|info| info.name).collect::<Vec<_>>(), sorted);
    store.close().await.unwrap();
}

pub(super) async fn a_document_that_was_never_written(engine: &mut impl Engine) {
    let store = engine.open();
    assert_eq!(store.load(&doc("nothing")).await, Ok(Loaded::default()));
    assert_eq!(store.delete(&doc("nothing"), memo(1)).await, Ok(false));
    assert_eq!(store.revive(&doc("nothing")).await, Ok(Epoch(0)));
    assert!(matches!(store.compact(&doc("nothing"), FIRST, snapshot("s", 1)).await, Err(StoreError::Conflict(_))));
    assert!(matches!(store.compact(&doc("nothing"), FIRST, snapshot("s", 0)).await, Err(StoreError::Conflict(_))));
    assert_eq!(store.load(&doc("nothing")).await, Ok(Loaded::default()));
    store.close().await.unwrap();
}

async fn five(store: &dyn Store, name: &DocName) {
    for n in 1..=5_u8 {
        store.append(name, FIRST, vec![record([n])]).await.unwrap();
    }
}

pub(super) async fn compaction_keeps_later_records(engine: &mut impl Engine) {
    let store = engine.open();
    let name = doc("compacted");
    five(&*store, &name).await;
    store.compact(&name, FIRST, snapshot("three", 3)).await.unwrap();
    let loaded = store.load(&name).await.unwrap();
    assert_eq!(loaded.snapshot, Some(snapshot("three", 3)));
    assert_eq!(loaded.records, vec![(Seq(4), record([4])), (Seq(5), record([5]))]);
    store.compact(&name, FIRST, snapshot("five", 5)).await.unwrap();
    assert_eq!(store.append(&name, FIRST, vec![record([6])]).await, Ok(Seq(6)), "the count goes on");
    let loaded = store.load(&name).await.unwrap();
    assert_eq!((loaded.snapshot, loaded.last), (Some(snapshot("five", 5)), Seq(6)));
    assert_eq!(loaded.records, vec![(Seq(6), record([6]))]);
    store.close().await.unwrap();
}

pub(super) async fn loading_what_is_beyond_a_position(engine: &mut impl Engine) {
    let store = engine.open();
    let name = doc("beyond");
    assert_eq!(store.load_after(&name, Seq(7)).await, Ok(Loaded::default()));
    five(&*store, &name).await;
    let log: Vec<_> = (1..=5_u8).map(|n| (Seq(n.into()), record([n]))).collect();
    let expected = |snapshot: Option<Snapshot>, from: usize| {
        Ok(Loaded { snapshot, records: log[from..].to_vec(), last: Seq(5), ..Loaded::default() })
    };
    for after in 0..=5 {
        assert_eq!(store.load_after(&name, Seq(after as u64)).await, expected(None, after));
    }
    assert_eq!(store.load_after(&name, Seq(u64::MAX)).await, expected(None, 5), "ahead of the log there is nothing");
    store.compact(&name, FIRST, snapshot("three", 3)).await.unwrap();
    for after in 0..=2 {
        assert_eq!(store.load_after(&name, Seq(after)).await, expected(Some(snapshot("three", 3)), 3));
    }
    for after in 3..=5 {
        assert_eq!(store.load_after(&name, Seq(after as u64)).await, expected(None, after));
    }
    store.delete(&name, memo(1)).await.unwrap();
    assert_eq!(store.load_after(&name, Seq(3)).await, Err(StoreError::Deleted));
    store.revive(&name).await.unwrap();
    let empty = Loaded { epoch: Epoch(1), memo: memo(1), ..Loaded::default() };
    assert_eq!(store.load_after(&name, Seq(3)).await, Ok(empty), "a position of the former life hides nothing");
    store.close().await.unwrap();
}

pub(super) async fn compaction_that_does_not_fit_is_refused(engine: &mut impl Engine) {
    let store = engine.open();
    let name = doc("ahead");
    five(&*store, &name).await;
    for through in [0, 6, u64::MAX] {
        let refused = store.compact(&name, FIRST, snapshot("s", through)).await;
        assert!(matches!(refused, Err(StoreError::Conflict(_))), "through {through}: {refused:?}");
    }
    store.compact(&name, FIRST, snapshot("four", 4)).await.unwrap();
    assert!(matches!(store.compact(&name, FIRST, snapshot("older", 3)).await, Err(StoreError::Conflict(_))));
    store.compact(&name, FIRST, snapshot("again", 4)).await.unwrap();
    assert_eq!(store.load(&name).await.unwrap().snapshot, Some(snapshot("again", 4)));
    store.close().await.unwrap();
}

pub(super) async fn compaction_again_and_again(engine: &mut impl Engine) {
    let store = engine.open();
    let name = doc("often");
    for n in 1..=60_u64 {
        store.append(&name, FIRST, vec![record(noise(300, n))]).await.unwrap();
        store.compact(&name, FIRST, snapshot(noise(1000, n), n)).await.unwrap();
    }
    let loaded = store.load(&name).await.unwrap();
    assert_eq!((loaded.snapshot, loaded.records), (Some(snapshot(noise(1000, 60), 60)), vec![]));
    store.close().await.unwrap();
}

pub(super) async fn an_older_epoch_is_refused(engine: &mut impl Engine) {
    let store = engine.open();
    let name = doc("lives");
    five(&*store, &name).await;
    assert_eq!(store.delete(&name, Bytes::new()).await, Ok(true));
    assert_eq!(store.append(&name, FIRST, vec![record("late")]).await, Err(StoreError::Deleted));
    assert_eq!(store.append(&name, Epoch(1), vec![record("early")]).await, Err(StoreError::Deleted));
    assert_eq!(store.revive(&name).await, Ok(Epoch(1)));
    assert_eq!(store.append(&name, FIRST, vec![record("late")]).await, Err(StoreError::Deleted));
    assert_eq!(store.compact(&name, FIRST, snapshot("late", 5)).await, Err(StoreError::Deleted));
    assert!(matches!(store.append(&name, Epoch(2), vec![record("early")]).await, Err(StoreError::Conflict(_))));
    assert_eq!(store.append(&name, Epoch(1), vec![record("right")]).await, Ok(Seq(1)));
    assert_eq!(store.load(&name).await.unwrap().records, numbered(&[record("right")]));
    store.close().await.unwrap();
}

pub(super) async fn a_tombstone_and_a_new_life(engine: &mut impl Engine) {
    let mut store = engine.open();
    let name = doc("phoenix");
    for life in 0..3_u64 {
        let records = [record(life.to_le_bytes()), record("second")];
        assert_eq!(store.append(&name, Epoch(life), records.to_vec()).await, Ok(Seq(2)));
        store.compact(&name, Epoch(life), snapshot(life.to_le_bytes(), 1)).await.unwrap();
        assert_eq!(store.delete(&name, memo(life)).await, Ok(true));
        assert_eq!(store.delete(&name, memo(99)).await, Ok(false));
        if engine.persists() {
            store.close().await.unwrap();
            store = engine.open();
        }
        assert_eq!(store.load(&name).await, Err(StoreError::Deleted));
        assert_eq!(store.compact(&name, Epoch(life), snapshot("dead", 1)).await, Err(StoreError::Deleted));
        assert_eq!(store.revive(&name).await, Ok(Epoch(life + 1)));
        assert_eq!(store.revive(&name).await, Ok(Epoch(life + 1)));
        let empty = Loaded { epoch: Epoch(life + 1), memo: memo(life), ..Loaded::default() };
        assert_eq!(store.load(&name).await, Ok(empty.clone()), "nothing of the former life but its memo");
        assert_eq!(store.delete(&name, memo(99)).await, Ok(false), "nothing to delete yet");
        assert_eq!(store.load(&name).await, Ok(empty), "and nothing forgotten");
    }
    store.close().await.unwrap();
}

/// A memo is there in every life but the first, through compactions and restarts, and it is the last one.
pub(super) async fn a_memo_stays_for_as_long_as_the_name_lives(engine: &mut impl Engine) {
    let mut store = engine.open();
    let name = doc("remembered");
    assert_eq!(store.append(&name, FIRST, vec![record("first")]).await, Ok(Seq(1)));
    assert_eq!(store.load(&name).await.unwrap().memo, Bytes::new());
    // Longer, then shorter, than what fits one page.
    for (life, memo) in [(1, Bytes::from(noise(200_000, 7))), (2, memo(5)), (3, Bytes::new()), (4, memo(6))] {
        assert_eq!(store.delete(&name, memo.clone()).await, Ok(true));
        assert_eq!(store.revive(&name).await, Ok(Epoch(life)));
        for n in 1..=40 {
            assert_eq!(store.append(&name, Epoch(life), vec![record(noise(300, n))]).await, Ok(Seq(n)));
            if n % 10 == 0 {
                store.compact(&name, Epoch(life), snapshot(noise(2000, n), n)).await.unwrap();
            }
        }
        if engine.persists() {
            store.close().await.unwrap();
            store = engine.open();
        }
        let loaded = store.load(&name).await.unwrap();
        assert_eq!((loaded.memo == memo, loaded.epoch, loaded.last), (true, Epoch(life), Seq(40)));
    }
    let too_large = Bytes::from(vec![0; MEMO_BYTES_MAX + 1]);
    assert!(matches!(store.delete(&name, too_large).await, Err(StoreError::Conflict(_))));
    assert_eq!(store.load(&name).await.unwrap().memo, memo(6), "it was not deleted");
    store.close().await.unwrap();
}

/// Each deletion has its own, however many are under way.
pub(super) async fn many_deletions_at_once(engine: &mut impl Engine) {
    let store = engine.open();
    let names: Vec<_> = (0..50).map(|n| doc(&format!("many/{n}"))).collect();
    for name in &names {
        store.append(name, FIRST, vec![record("x")]).await.unwrap();
    }
    let deletions: Vec<_> = (0..).zip(&names).map(|(n, name)| store.delete(name, memo(n))).collect();
    let again: Vec<_> = names.iter().map(|name| store.delete(name, memo(99))).collect();
    for (first, second) in deletions.into_iter().zip(again) {
        assert_eq!((first.await, second.await), (Ok(true), Ok(false)));
    }
    for (n, name) in (0..).zip(&names) {
        store.revive(name).await.unwrap();
        assert_eq!(store.load(name).await.unwrap().memo, memo(n));
    }
    store.close().await.unwrap();
}

fn memo(n: u64) -> Bytes {
    noise(100, n + 1).into()
}

pub(super) async fn listing_in_pages(engine: &mut impl Engine) {
    let store = engine.open();
    let mut names: Vec<String> = (0..25).map(|n| format!("table:{n}")).collect();
    names.extend(["tabl", "table", "table;", "tablet:1", "zebra"].map(str::to_owned));
    for name in &names {
        store.append(&doc(name), FIRST, vec![record(name.as_str())]).await.unwrap();
    }
    names.retain(|name| name.starts_with("table:"));
    names.sort();
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let page = store.list("table:", after.as_ref(), 7).await.unwrap();
        assert!(page.docs.len() <= 7);
        assert!(page.docs.iter().all(|info| info.last == Seq(1) && info.bytes > 0 && info.updated_at_ms > 0));
        seen.extend(page.docs.into_iter().map(|info| info.name.to_string()));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(seen, names);
    let past = store.list("table:", Some(&doc("zebra")), 7).await.unwrap();
    assert_eq!((past.docs, past.next), (vec![], None));
    let before = store.list("table:", Some(&doc("a")), 100).await.unwrap();
    assert_eq!(before.docs.len(), 25);
    assert_eq!(store.list("user:", None, 100).await.unwrap().docs, vec![], "a prefix need not be a name");
    assert_eq!(store.list("tab\nle", None, 100).await.unwrap().docs, vec![]);
    assert_eq!(store.list("", None, 0).await.unwrap().docs, vec![]);
    store.close().await.unwrap();
}

pub(super) async fn listing_leaves_out_the_deleted(engine: &mut impl Engine) {
    let store = engine.open();
    for name in ["a", "b", "c"] {
        store.append(&doc(name), FIRST, vec![record(name)]).await.unwrap();
    }
    store.delete(&doc("b"), memo(1)).await.unwrap();
    let listed = |page: syncline::store::Page| page.docs.into_iter().map(|i| i.name.to_string()).collect::<Vec<_>>();
    assert_eq!(listed(store.list("", None, 9).await.unwrap()), ["a", "c"]);
    assert_eq!(listed(store.list("", Some(&doc("a")), 9).await.unwrap()), ["c"]);
    store.revive(&doc("b")).await.unwrap();
    assert_eq!(listed(store.list("", None, 9).await.unwrap()), ["a", "c"], "nothing was written yet");
    store.append(&doc("b"), Epoch(1), vec![record("b")]).await.unwrap();
    assert_eq!(listed(store.list("", None, 9).await.unwrap()), ["a", "b", "c"]);
    store.close().await.unwrap();
}

pub(super) async fn reopening_keeps_everything(engine: &mut impl Engine) {
    if !engine.persists() {
        return;
    }
    let names = ["plain", "compacted", "both"].map(doc);
    for round in 0..6_u64 {
        let store = engine.open();
        for (n, name) in names.iter().enumerate() {
            let loaded = store.load(name).await.unwrap();
            assert_eq!(loaded.last, Seq(round * 3), "{name}");
            for k in 1..=3 {
                store.append(name, FIRST, vec![record((round * 3 + k).to_le_bytes())]).await.unwrap();
            }
            if n > 0 {
                let through = round * 3 + if n == 1 { 3 } else { 2 };
                store.compact(name, FIRST, snapshot(through.to_le_bytes(), through)).await.unwrap();
            }
        }
        store.close().await.unwrap();
    }
    let store = engine.open();
    let all: Vec<_> = (1..=18_u64).map(|n| record(n.to_le_bytes())).collect();
    assert_eq!(store.load(&names[0]).await.unwrap().records, numbered(&all));
    assert_eq!(store.load(&names[1]).await.unwrap().records, vec![]);
    let both = store.load(&names[2]).await.unwrap();
    assert_eq!(both.snapshot, Some(snapshot(17_u64.to_le_bytes(), 17)));
    assert_eq!(both.records, vec![(Seq(18), all[17].clone())]);
    store.close().await.unwrap();
}

pub(super) async fn many_writers_to_many_documents(engine: &mut impl Engine) {
    let store = engine.open();
    let writers: Vec<_> = (0..16_u64).map(|writer| tokio::spawn(write_some(Arc::clone(&store), writer))).collect();
    for writer in writers {
        writer.await.unwrap();
    }
    for n in 0..8 {
        let loaded = store.load(&doc(&format!("shared {n}"))).await.unwrap();
        let through = loaded.snapshot.as_ref().map_or(0, |s| s.through.0);
        assert_eq!(loaded.last, Seq(16 * 25));
        assert!(loaded.records.iter().map(|(seq, _)| seq.0).eq(through + 1..=16 * 25));
    }
    store.close().await.unwrap();
}

/// Each writer appends to all documents, and one of them compacts as it goes.
async fn write_some(store: Arc<dyn Store>, writer: u64) {
    for round in 0..25_u64 {
        for n in 0..8 {
            let name = doc(&format!("shared {n}"));
            let mine = record([writer.to_le_bytes(), round.to_le_bytes()].concat());
            let seq = store.append(&name, FIRST, vec![mine.clone()]).await.unwrap();
            let loaded = store.load(&name).await.unwrap();
            assert!(loaded.last >= seq, "what was acknowledged is read");
            if writer == 0 && round % 8 == 0 {
                store.compact(&name, FIRST, snapshot("state", loaded.last.0)).await.unwrap();
            }
        }
    }
}

pub(super) async fn large_values(engine: &mut impl Engine) {
    let mut store = engine.open();
    for (n, size) in [300 << 10, 5 << 20].into_iter().enumerate() {
        let name = doc(&format!("large {n}"));
        let state = noise(size, n as u64);
        store.append(&name, FIRST, vec![record(state.clone()), record("small")]).await.unwrap();
        assert_eq!(store.load(&name).await.unwrap().records[0].1, record(state.clone()));
        store.compact(&name, FIRST, snapshot(state, 1)).await.unwrap();
    }
    // Sizes at which a snapshot's last part is full, or just not.
    for (n, size) in
        [0, 1, (16 << 10) - 6, 16 << 10, (256 << 10) - 6, 256 << 10, (256 << 10) + 1].into_iter().enumerate()
    {
        let name = doc(&format!("edge {n}"));
        store.append(&name, FIRST, vec![record("x")]).await.unwrap();
        store.compact(&name, FIRST, snapshot(noise(size, 7), 1)).await.unwrap();
        assert_eq!(store.load(&name).await.unwrap().snapshot, Some(snapshot(noise(size, 7), 1)));
    }
    if engine.persists() {
        store.close().await.unwrap();
        store = engine.open();
    }
    for (n, size) in [300 << 10, 5 << 20].into_iter().enumerate() {
        let loaded = store.load(&doc(&format!("large {n}"))).await.unwrap();
        assert_eq!(loaded.snapshot, Some(snapshot(noise(size, n as u64), 1)));
        assert_eq!(loaded.records, vec![(Seq(2), record("small"))]);
    }
    store.close().await.unwrap();
}

pub(super) async fn a_probe_succeeds(engine: &mut impl Engine) {
    let store = engine.open();
    assert_eq!(store.probe().await, Ok(()));
    assert_eq!(store.list("", None, 9).await.unwrap().docs, vec![], "a probe is no document");
    store.close().await.unwrap();
}

pub(super) async fn a_closed_store_says_so(engine: &mut impl Engine) {
    let store = engine.open();
    let name = doc("last words");
    // Called before the close, awaited after it.
    let late = store.append(&name, FIRST, vec![record("x")]);
    store.close().await.unwrap();
    assert_eq!(late.await, Ok(Seq(1)));
    let closed = |answer: Option<StoreError>| matches!(answer, Some(StoreError::Unavailable(_)));
    assert!(closed(store.append(&name, FIRST, vec![record("y")]).await.err()));
    assert!(closed(store.load(&name).await.err()));
    assert!(closed(store.compact(&name, FIRST, snapshot("s", 1)).await.err()));
    assert!(closed(store.delete(&name, memo(1)).await.err()));
    assert!(closed(store.revive(&name).await.err()));
    assert!(closed(store.list("", None, 1).await.err()));
    assert!(closed(store.probe().await.err()));
    assert!(closed(store.close().await.err()));
    if engine.persists() {
        let store = engine.open();
        assert_eq!(store.load(&name).await.unwrap().last, Seq(1));
        store.close().await.unwrap();
    }
}
