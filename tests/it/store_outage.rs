//! The shared store while its database crashes, freezes, hangs up, or asks for encryption.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use syncline::name::DocName;
use syncline::store::PostgresOptions;
use syncline::store::PostgresStore;
use syncline::store::Record;
use syncline::store::Seq;
use syncline::store::Store;
use syncline::store::StoreError;

use crate::conformance::doc;
use crate::conformance::record;
use crate::conformance::snapshot;
use crate::server::PATIENCE;
use crate::store_postgres::FIRST;
use crate::store_postgres::marked;
use crate::store_postgres::node;
use crate::store_postgres::operator;
use crate::store_postgres::options;
use crate::store_postgres::try_node;
use crate::store_postgres::written;
use crate::support::postgres::Server;
use crate::support::postgres::database;

/// Appends until told to stop, and answers what was acknowledged and how often it was not.
async fn insist(
    store: Arc<PostgresStore>,
    name: DocName,
    number: u64,
    stop: Arc<AtomicBool>,
) -> (Vec<(Seq, Record)>, u64) {
    let (mut kept, mut refused) = (Vec::new(), 0);
    for n in 0.. {
        if stop.load(Ordering::Acquire) {
            break;
        }
        let record = marked(number, n);
        let answer = tokio::time::timeout(PATIENCE, store.append(&name, FIRST, vec![record.clone()])).await;
        match answer.expect("no call hangs") {
            Ok(seq) => kept.push((seq, record)),
            Err(StoreError::Unavailable(_)) => {
                refused += 1;
                tokio::time::sleep(Duration::from_millis(5)).await; // poll: the database is outside of this process
            }
            Err(error) => panic!("{error}"),
        }
    }
    (kept, refused)
}

/// Waits until the database takes writes again.
async fn until_back(store: &PostgresStore) {
    let back = async {
        while store.probe().await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await; // poll: the database is outside of this process
        }
    };
    tokio::time::timeout(PATIENCE, back).await.expect("it comes back by itself");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_crashes_loses_nothing_that_was_acknowledged() {
    let server = Server::start().await;
    let nodes = [node(server.url()).await, node(server.url()).await];
    let stop = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..6_u64)
        .map(|number| {
            let store = nodes[usize::try_from(number % 2).unwrap()].clone();
            tokio::spawn(insist(store, doc(&format!("crashed {}", number / 2)), number, stop.clone()))
        })
        .collect();
    for _ in 0..3 {
        until_back(&nodes[0]).await;
        until_back(&nodes[1]).await;
        server.stop();
        // While it is away nothing hangs, and nothing is promised.
        assert!(matches!(nodes[0].probe().await, Err(StoreError::Unavailable(_))));
        assert!(matches!(nodes[1].load(&doc("crashed 0")).await, Err(StoreError::Unavailable(_))));
        assert!(matches!(nodes[1].list("", None, 1).await, Err(StoreError::Unavailable(_))));
        assert!(matches!(nodes[0].delete(&doc("crashed 0"), Bytes::new()).await, Err(StoreError::Unavailable(_))));
        server.start_again();
    }
    until_back(&nodes[0]).await;
    until_back(&nodes[1]).await;
    stop.store(true, Ordering::Release);
    let mut refusals = 0;
    for (writer, number) in writers.into_iter().zip(0_u64..) {
        let (kept, refused) = writer.await.unwrap();
        let log = written(&nodes[0].load(&doc(&format!("crashed {}", number / 2))).await.unwrap());
        assert!(
            kept.iter().all(|kept| log.contains(kept)),
            "everything acknowledged is there, where it was said to be"
        );
        let own: Vec<_> = log.iter().filter(|(_, r)| r.update[..8] == number.to_le_bytes()).collect();
        assert!(own.is_sorted_by_key(|(_, record)| record.update[8..].iter().rev().copied().collect::<Vec<_>>()));
        assert!(!kept.is_empty());
        refusals += refused;
    }
    assert!(refusals > 0, "the stops were noticed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_freezes_is_given_up_and_found_again() {
    let server = Server::start().await;
    let store = node(server.url()).await;
    let name = doc("frozen");
    assert_eq!(store.append(&name, FIRST, vec![record("before")]).await, Ok(Seq(1)));
    server.freeze();
    let stuck = store.append(&name, FIRST, vec![record("stuck")]);
    let reading = store.load(&name);
    let behind: Vec<_> = (0..10).map(|n| store.append(&name, FIRST, vec![marked(0, n)])).collect();
    assert!(matches!(tokio::time::timeout(PATIENCE, stuck).await, Ok(Err(StoreError::Unavailable(_)))));
    for append in behind {
        assert!(matches!(append.await, Err(StoreError::Unavailable(_))), "what was called behind it fails with it");
    }
    assert!(matches!(reading.await, Err(StoreError::Unavailable(_))));
    server.thaw();
    until_back(&store).await;
    store.append(&name, FIRST, vec![record("after")]).await.unwrap();
    let log = written(&store.load(&name).await.unwrap());
    // The round that was under way may have happened, whole: the stuck one, and as many as had come to it by then. What was
    // called behind that round was never sent.
    let mut called = vec![record("stuck")];
    called.extend((0..10).map(|n| marked(0, n)));
    called.truncate(log.len() - 2);
    let expected = [vec![record("before")], called, vec![record("after")]].concat();
    assert_eq!(log, (1..).map(Seq).zip(expected).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_is_cut_is_made_again() {
    let url = database().await;
    let store = node(&url).await;
    let name = doc("cut");
    let operator = operator(&url).await;
    let cut = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
        WHERE application_name = 'syncline' AND datname = current_database()";
    for n in 1..=5 {
        store.append(&name, FIRST, vec![marked(0, n)]).await.unwrap();
        store.compact(&name, FIRST, snapshot("s", n)).await.unwrap();
        store.load(&name).await.unwrap();
        let ended: i64 = operator.query_one(cut, &[]).await.unwrap().get(0);
        assert!(ended >= 3);
        until_back(&store).await;
    }
    assert_eq!(store.load(&name).await.unwrap().last, Seq(5));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_encrypted_connection_is_checked_when_it_is_asked_to_be() {
    let server = Server::start().await;
    let (certificate, stranger) = server.encrypt();
    let named = server.url().replace("127.0.0.1", "localhost");
    let with = |url: &str, rest: &str| PostgresOptions {
        start_within: Duration::from_secs(3),
        ..options(&format!("{url}?{rest}"))
    };
    let full = |file: &std::path::Path| format!("sslmode=verify-full&sslrootcert={}", file.display());
    for (url, rest, fine) in [
        (&named, full(&certificate), true),
        (&named, full(&stranger), false),
        // The certificate says localhost, and nothing of 127.0.0.1.
        (&server.url().to_owned(), full(&certificate), false),
        (&named, "sslmode=require".to_owned(), true),
        (&named, "sslmode=disable".to_owned(), false),
    ] {
        match try_node(with(url, &rest)).await {
            Ok(store) => {
                assert!(fine, "{rest} was let in");
                assert_eq!(store.probe().await, Ok(()));
            }
            Err(error) => assert!(!fine, "{rest}: {error}"),
        }
    }
}
