//! The shared store as two nodes see it: at the same documents at the same moment, while the database comes and goes.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use syncline::config::Secret;
use syncline::store::Epoch;
use syncline::store::Loaded;
use syncline::store::PostgresOptions;
use syncline::store::PostgresStore;
use syncline::store::Record;
use syncline::store::Seq;
use syncline::store::Store;
use syncline::store::StoreError;
use syncline::store::postgres::OpenError;
use tokio_postgres::Client;
use tokio_postgres::NoTls;

use crate::conformance::doc;
use crate::conformance::noise;
use crate::conformance::record;
use crate::conformance::snapshot;
use crate::support::postgres::PASSWORD;
use crate::support::postgres::database;

pub(crate) const FIRST: Epoch = Epoch(0);

pub(crate) fn options(url: &str) -> PostgresOptions {
    PostgresOptions { start_within: Duration::from_secs(60), ..PostgresOptions::new(Secret::new(url)) }
}

/// One node's view of the database.
pub(crate) async fn node(url: &str) -> Arc<PostgresStore> {
    Arc::new(try_node(options(url)).await.expect("the database opens"))
}

pub(crate) async fn try_node(options: PostgresOptions) -> Result<PostgresStore, OpenError> {
    tokio::task::spawn_blocking(move || PostgresStore::open(options)).await.expect("opening does not panic")
}

/// Somebody at the database itself.
pub(crate) async fn operator(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.expect("the database is there");
    tokio::spawn(connection);
    client
}

/// What node `node` writes as its `n`th.
pub(crate) fn marked(node: u64, n: u64) -> Record {
    record([node.to_le_bytes(), n.to_le_bytes()].concat())
}

/// Everything that was ever appended, in order, where nothing was compacted.
pub(crate) fn written(loaded: &Loaded) -> Vec<(Seq, Record)> {
    assert!(loaded.snapshot.is_none());
    assert!(loaded.records.iter().map(|(seq, _)| seq.0).eq(1..=loaded.last.0), "no hole");
    loaded.records.clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_append_to_the_same_documents_and_see_one_order() {
    let url = database().await;
    let nodes = [node(&url).await, node(&url).await];
    let names: Vec<_> = (0..5).map(|n| doc(&format!("shared {n}"))).collect();
    let writers = nodes.iter().zip(0_u64..).map(|(store, number)| {
        let (store, names) = (store.clone(), names.clone());
        tokio::spawn(async move {
            let mut told = Vec::new();
            for n in 0..60 {
                // All documents at once, in another order on each node.
                let mut order = names.clone();
                if number == 1 {
                    order.reverse();
                }
                let pending: Vec<_> = order
                    .iter()
                    .map(|name| (name.clone(), store.append(name, FIRST, vec![marked(number, n), marked(number, n)])))
                    .collect();
                for (name, append) in pending {
                    told.push((name, n, append.await.expect("it is kept")));
                }
            }
            told
        })
    });
    let writers: Vec<_> = writers.collect();
    for (writer, number) in writers.into_iter().zip(0_u64..) {
        for (name, n, seq) in writer.await.unwrap() {
            let log = written(&nodes[0].load(&name).await.unwrap());
            let at = usize::try_from(seq.0).unwrap();
            assert_eq!(log[at - 2..at].iter().map(|(_, r)| r).collect::<Vec<_>>(), [&marked(number, n); 2]);
        }
    }
    for name in &names {
        let (one, other) = (nodes[0].load(name).await, nodes[1].load(name).await);
        assert_eq!(one, other);
        assert_eq!(one.unwrap().last, Seq(2 * 2 * 60));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_compacts_while_the_other_appends() {
    let url = database().await;
    let (compacting, appending) = (node(&url).await, node(&url).await);
    let name = doc("busy");
    appending.append(&name, FIRST, vec![marked(0, 0)]).await.unwrap();
    let done = Arc::new(AtomicBool::new(false));
    let writer = {
        let (name, done) = (name.clone(), done.clone());
        tokio::spawn(async move {
            for n in 1..300 {
                assert_eq!(appending.append(&name, FIRST, vec![marked(0, n)]).await, Ok(Seq(n + 1)));
            }
            done.store(true, Ordering::Release);
        })
    };
    let mut compactions = 0;
    while !done.load(Ordering::Acquire) {
        let loaded = compacting.load(&name).await.unwrap();
        // A snapshot says how many records are in it: they are the first ones.
        let through = loaded.snapshot.as_ref().map_or(0, |s| s.through.0);
        assert!(loaded.records.iter().map(|(seq, _)| seq.0).eq(through + 1..=loaded.last.0), "no hole, nothing twice");
        assert!(loaded.records.iter().all(|(seq, record)| *record == marked(0, seq.0 - 1)));
        compacting.compact(&name, FIRST, snapshot(loaded.last.0.to_le_bytes(), loaded.last.0)).await.unwrap();
        compactions += 1;
    }
    writer.await.unwrap();
    assert!(compactions > 1);
    let loaded = compacting.load(&name).await.unwrap();
    let through = loaded.snapshot.unwrap();
    assert_eq!(through, snapshot(through.through.0.to_le_bytes(), through.through.0));
    assert_eq!(loaded.records.len() as u64, 300 - through.through.0);
    let listed = compacting.list("", None, 9).await.unwrap().docs;
    let kept: usize = loaded.records.iter().map(|(_, r)| r.update.len() + r.sidecar.len()).sum();
    assert_eq!(listed[0].bytes, (through.state.len() + through.sidecar.len() + kept) as u64, "the sum was kept up");
}

/// Holds the turn of a document from outside, as a node that compacts it does.
async fn hold_turn(url: &str) -> Client {
    let operator = operator(url).await;
    operator.batch_execute("BEGIN; SELECT doc FROM syncline_snapshots FOR UPDATE").await.unwrap();
    operator
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_compacts_keeps_others_from_compacting_and_nobody_from_writing() {
    let url = database().await;
    let store = node(&url).await;
    let name = doc("turn");
    store.append(&name, FIRST, vec![record("one"), record("two")]).await.unwrap();
    store.compact(&name, FIRST, snapshot("one", 1)).await.unwrap();
    let other = hold_turn(&url).await;
    let refused = store.compact(&name, FIRST, snapshot("two", 2)).await;
    assert!(matches!(&refused, Err(StoreError::Conflict(why)) if why.contains("another node")), "{refused:?}");
    let deleting = store.delete(&name, Bytes::from_static(b"memo"));
    // The deletion waits for its turn. Edits do not: this would wait for ever if they did.
    assert_eq!(store.append(&name, FIRST, vec![record("three")]).await, Ok(Seq(3)));
    assert_eq!(store.load(&name).await.unwrap().last, Seq(3));
    other.batch_execute("COMMIT").await.unwrap();
    assert_eq!(deleting.await, Ok(true));
    assert_eq!(store.load(&name).await, Err(StoreError::Deleted));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_compactions_at_once_leave_one_whole_snapshot() {
    let url = database().await;
    let nodes = [node(&url).await, node(&url).await];
    let name = doc("contested");
    for round in 1..=20_u64 {
        nodes[0].append(&name, FIRST, vec![record("a"), record("b")]).await.unwrap();
        let made = [snapshot(noise(3 << 20, round), 2 * round - 1), snapshot(noise(100, round), 2 * round)];
        let pending =
            nodes.iter().zip(&made).map(|(node, made)| tokio::spawn(node.compact(&name, FIRST, made.clone())));
        let mut taken = Vec::new();
        for (pending, made) in pending.collect::<Vec<_>>().into_iter().zip(made) {
            match pending.await.unwrap() {
                Ok(()) => taken.push(made),
                Err(StoreError::Conflict(_)) => {}
                Err(error) => panic!("{error}"),
            }
        }
        let loaded = nodes[1].load(&name).await.unwrap();
        let kept = loaded.snapshot.expect("one of them was first");
        assert!(taken.contains(&kept), "what was acknowledged, or what was acknowledged after it");
        assert_eq!(kept.through, taken.iter().map(|s| s.through).max().unwrap());
        assert!(loaded.records.iter().map(|(seq, _)| seq.0).eq(kept.through.0 + 1..=2 * round));
    }
    let parts = "SELECT count(DISTINCT generation) FROM syncline_snapshot_parts";
    let generations: i64 = operator(&url).await.query_one(parts, &[]).await.unwrap().get(0);
    assert_eq!(generations, 1, "no part of another is left");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_writer_of_another_node_does_not_revive_what_was_deleted() {
    let url = database().await;
    let nodes = [node(&url).await, node(&url).await];
    let operator = operator(&url).await;
    let name = doc("mortal");
    for life in 0..15_u64 {
        let epoch = Epoch(life);
        nodes[0].append(&name, epoch, vec![record("born")]).await.unwrap();
        // The other node writes and compacts on, whatever happens.
        let late: Vec<_> = (0..20).map(|n| nodes[1].append(&name, epoch, vec![marked(1, n)])).collect();
        let compaction = nodes[1].compact(&name, epoch, snapshot(noise(1 << 20, life), 1));
        let memo = Bytes::from(life.to_le_bytes().to_vec());
        assert_eq!(nodes[0].delete(&name, memo.clone()).await, Ok(true));
        for append in late {
            assert!(matches!(append.await, Ok(_) | Err(StoreError::Deleted)));
        }
        assert!(matches!(compaction.await, Ok(()) | Err(StoreError::Deleted | StoreError::Conflict(_))));
        assert_eq!(nodes[1].append(&name, epoch, vec![record("late")]).await, Err(StoreError::Deleted));
        assert_eq!(nodes[1].compact(&name, epoch, snapshot("late", 1)).await, Err(StoreError::Deleted));
        assert_eq!(nodes[1].load(&name).await, Err(StoreError::Deleted));
        for table in ["syncline_records", "syncline_snapshot_parts"] {
            let left: i64 = operator.query_one(&format!("SELECT count(*) FROM {table}"), &[]).await.unwrap().get(0);
            assert_eq!(left, 0, "{table} in life {life}");
        }
        assert_eq!(nodes[1].revive(&name).await, Ok(Epoch(life + 1)));
        assert_eq!(nodes[0].append(&name, epoch, vec![record("late")]).await, Err(StoreError::Deleted));
        let empty = Loaded { epoch: Epoch(life + 1), memo, ..Loaded::default() };
        assert_eq!(nodes[0].load(&name).await, Ok(empty));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_document_is_deleted_only_as_it_was_read() {
    let url = database().await;
    let nodes = [node(&url).await, node(&url).await];
    let name = doc("read");
    let memo = |life: u64| Bytes::from(life.to_le_bytes().to_vec());
    assert_eq!(nodes[0].delete_as_of(&name, FIRST, Seq(0), memo(9)).await, Ok(false), "there is nothing");
    for life in 0..15_u64 {
        let epoch = Epoch(life);
        nodes[0].append(&name, epoch, vec![record("read")]).await.unwrap();
        let early = nodes[0].delete_as_of(&name, Epoch(life + 1), Seq(1), memo(9)).await;
        assert!(matches!(early, Err(StoreError::Conflict(_))), "{early:?}");
        // The other node writes on meanwhile.
        let later: Vec<_> = (0..20).map(|n| tokio::spawn(nodes[1].append(&name, epoch, vec![marked(1, n)]))).collect();
        let through = loop {
            let read = nodes[0].load(&name).await.unwrap();
            match nodes[0].delete_as_of(&name, epoch, read.last, memo(life)).await {
                Ok(done) => break done.then_some(read.last).expect("it was there"),
                Err(StoreError::Conflict(_)) => {}
                Err(error) => panic!("{error}"),
            }
        };
        for append in later {
            match append.await.unwrap() {
                Ok(at) => assert!(at <= through, "{at:?} was acknowledged, and nobody read it before the end"),
                Err(error) => assert_eq!(error, StoreError::Deleted),
            }
        }
        assert_eq!(nodes[1].delete_as_of(&name, epoch, through, memo(9)).await, Err(StoreError::Deleted));
        assert_eq!(nodes[1].revive(&name).await, Ok(Epoch(life + 1)));
        assert_eq!(nodes[1].delete_as_of(&name, epoch, through, memo(9)).await, Err(StoreError::Deleted));
        assert_eq!(nodes[0].load(&name).await.unwrap().memo, memo(life));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_document_takes_no_other_down_with_it() {
    let url = database().await;
    let store = node(&url).await;
    let (gone, fresh) = (doc("gone"), doc("fresh"));
    store.append(&gone, FIRST, vec![record("x")]).await.unwrap();
    store.delete(&gone, Bytes::new()).await.unwrap();
    for n in 0..50 {
        // Called together, so that most of them are in one statement.
        let dead = store.append(&gone, FIRST, vec![record("late")]);
        let early = store.append(&doc("never"), Epoch(1), vec![record("early")]);
        let first = store.append(&fresh, FIRST, vec![marked(0, n)]);
        let ahead = store.append(&fresh, Epoch(1), vec![record("early")]);
        let nothing = store.append(&fresh, FIRST, vec![]);
        let second = store.append(&fresh, FIRST, vec![marked(1, n)]);
        assert_eq!(dead.await, Err(StoreError::Deleted));
        assert!(matches!(early.await, Err(StoreError::Conflict(_))));
        assert_eq!(first.await, Ok(Seq(2 * n + 1)));
        assert!(matches!(ahead.await, Err(StoreError::Conflict(_))));
        assert_eq!(nothing.await, Ok(Seq(2 * n + 1)));
        assert_eq!(second.await, Ok(Seq(2 * n + 2)));
    }
    assert_eq!(store.load(&doc("never")).await, Ok(Loaded::default()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_of_seventy_megabytes() {
    let url = database().await;
    let store = node(&url).await;
    let name = doc("huge");
    store.append(&name, FIRST, vec![record("x"), record("y")]).await.unwrap();
    let huge = snapshot(noise(70 << 20, 3), 1);
    store.compact(&name, FIRST, huge.clone()).await.unwrap();
    let loaded = store.load(&name).await.unwrap();
    assert!(loaded.snapshot == Some(huge), "it comes back as it was");
    assert_eq!(loaded.records, [(Seq(2), record("y"))]);
    let after = store.load_after(&name, Seq(1)).await.unwrap();
    assert!(after.snapshot.is_none(), "what is known is not sent again");
    store.compact(&name, FIRST, snapshot("small", 2)).await.unwrap();
    assert_eq!(store.list("", None, 9).await.unwrap().docs[0].bytes, 11);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn prefixes_are_bytes_and_no_patterns() {
    let url = database().await;
    let store = node(&url).await;
    let names = [
        "%",
        "%a",
        "'; DROP TABLE syncline_documents; --",
        "\\",
        "\\%",
        "_",
        "_a",
        "a",
        "a%",
        "a_",
        "aa",
        "ä",
        "ÿ",
        "🙂",
    ];
    for name in names {
        store.append(&doc(name), FIRST, vec![record(name)]).await.unwrap();
    }
    let listed = async |prefix: &str| -> Vec<String> {
        let page = store.list(prefix, None, 100).await.unwrap();
        page.docs.into_iter().map(|info| info.name.to_string()).collect()
    };
    for prefix in ["", "%", "_", "\\", "'", "a", "ÿ", "🙂", "z", "\u{10ffff}", "\0"] {
        let mut expected: Vec<_> = names.iter().filter(|name| name.starts_with(prefix)).copied().collect();
        expected.sort_unstable();
        assert_eq!(listed(prefix).await, expected, "{prefix:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_nodes_that_start_at_once_make_the_tables_once() {
    let url = database().await;
    let nodes: Vec<_> = (0..8).map(|_| tokio::spawn(try_node(options(&url)))).collect();
    for (n, node) in (1..).zip(nodes) {
        let node = node.await.unwrap().expect("it starts");
        assert_eq!(node.append(&doc("all"), FIRST, vec![record("here")]).await, Ok(Seq(n)));
        node.close().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_of_a_newer_version_are_left_alone() {
    let url = database().await;
    node(&url).await.close().await.unwrap();
    operator(&url).await.batch_execute("UPDATE syncline_schema SET version = 99").await.unwrap();
    let refused = try_node(options(&url)).await.unwrap_err();
    assert_eq!(refused, OpenError::Newer { found: 99, known: 2 });
    assert!(refused.to_string().contains("newer version"), "{refused}");
    // The refusal held no lock: the right version starts at once.
    operator(&url).await.batch_execute("UPDATE syncline_schema SET version = 2").await.unwrap();
    node(&url).await.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_says_which_store_it_is() {
    let (url, another) = (database().await, database().await);
    let (first, second, elsewhere) = tokio::join!(node(&url), node(&url), node(&another));
    assert_ne!(first.identity(), 0);
    assert_eq!(first.identity(), second.identity());
    assert_ne!(first.identity(), elsewhere.identity());
    // Tables of the first version have no number yet.
    let before = "DROP TABLE syncline_store; UPDATE syncline_schema SET version = 1";
    operator(&url).await.batch_execute(before).await.unwrap();
    let (third, fourth) = tokio::join!(node(&url), node(&url));
    assert!(third.identity() != 0 && third.identity() == fourth.identity());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_cannot_be_used_is_told_without_the_password() {
    let url = database().await;
    let short = |url: &str| PostgresOptions { start_within: Duration::from_secs(1), ..options(url) };
    let nowhere = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (before, after) = url.split_once("@127").expect("an address");
    let elsewhere = format!("{before}@{nowhere}/db");
    let wrong = format!("{before}x@127{after}");
    let missing = format!("{}/missing", url.rsplit_once('/').expect("an address").0);
    for (url, word) in
        [(elsewhere, "cannot be reached"), (wrong, "password authentication failed"), (missing, "does not exist")]
    {
        let refused = try_node(short(&url)).await.unwrap_err();
        let told = format!("{refused} {refused:?}");
        assert!(told.contains(word) && !told.contains("hunter2") && !told.contains(PASSWORD), "{told}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_document_that_lost_a_row_is_damaged_and_the_others_are_not() {
    let url = database().await;
    let store = node(&url).await;
    for name in ["hole", "flipped", "part", "fine"] {
        store.append(&doc(name), FIRST, (0..4_u8).map(|n| record([n; 20])).collect()).await.unwrap();
        store.compact(&doc(name), FIRST, snapshot(noise(3 << 20, 1), 2)).await.unwrap();
    }
    let of = |name: &str| format!("(SELECT id FROM syncline_documents WHERE name = convert_to('{name}', 'UTF8'))");
    let operator = operator(&url).await;
    for (sql, name) in [
        ("DELETE FROM syncline_records WHERE seq = 3 AND doc =", "hole"),
        ("UPDATE syncline_records SET bytes = set_byte(bytes, 3, 7) WHERE seq = 4 AND doc =", "flipped"),
        ("DELETE FROM syncline_snapshot_parts WHERE part = 1 AND doc =", "part"),
    ] {
        assert_eq!(operator.execute(&format!("{sql} {}", of(name)), &[]).await.unwrap(), 1);
        let loaded = store.load(&doc(name)).await;
        assert!(matches!(loaded, Err(StoreError::Damaged(_))), "{name}: {loaded:?}");
    }
    assert_eq!(store.load(&doc("fine")).await.unwrap().records.len(), 2);
}
