//! The memory that documents may take: who leaves, who stays, who is asked to come back later.

use bytes::Bytes;

use crate::server::Server;
use crate::server::Setup;
use crate::support::client::Client;
use crate::support::client::converged;
use crate::support::pad::Pad;

const LETTERS: usize = 200_000;

/// Many times the budget of these tests, one document after the other.
const DOCS: usize = 12;

fn text(client: u64) -> Bytes {
    Pad::new(client).paste(&"x".repeat(LETTERS))
}

async fn post(server: &Server, doc: &str, update: Bytes) -> u16 {
    let url = server.url(&format!("/v1/docs/{doc}/updates"));
    reqwest::Client::new().post(url).body(update).send().await.unwrap().status().as_u16()
}

async fn state(server: &Server, doc: &str) -> Bytes {
    reqwest::get(server.url(&format!("/v1/docs/{doc}/state"))).await.unwrap().bytes().await.unwrap()
}

async fn metric(server: &Server, name: &str) -> f64 {
    let text = reqwest::get(server.url("/metrics")).await.unwrap().text().await.unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')).map(str::to_owned);
    line.unwrap_or_else(|| panic!("no {name}")).parse().unwrap()
}

#[tokio::test]
async fn documents_that_nobody_reads_make_room_and_come_back() {
    let server = Setup::dev().set("DOCS__MEMORY_BYTES", "2 MiB").set("DOCS__IDLE_SECONDS", 3600).start().await;
    let mut open = server.ws("open", None).await;
    assert_eq!(open.greeted().await, Ok(()));
    for doc in 0..DOCS {
        assert_eq!(post(&server, &doc.to_string(), text(1 + doc as u64)).await, 200);
    }
    while metric(&server, "syncline_documents_bytes").await > f64::from(2 << 20) {}
    assert!(metric(&server, "syncline_documents_loaded").await < DOCS as f64 / 2.0);
    assert!(metric(&server, "syncline_documents_unloaded_total").await > DOCS as f64 / 2.0);
    for doc in 0..DOCS {
        assert_eq!(Pad::of(&[&state(&server, &doc.to_string()).await]).text().len(), LETTERS, "{doc}");
    }
    // Somebody reads this one, so it stayed.
    let update = text(99);
    open.update(update.clone()).await;
    assert_eq!(open.acknowledged(&update).await, Ok(()));
}

#[tokio::test]
async fn open_documents_stay_and_another_one_is_refused_until_they_close() {
    let server = Setup::dev().set("DOCS__MEMORY_BYTES", "256 KiB").set("DOCS__IDLE_SECONDS", 3600).start().await;
    let mut alice = server.ws("large", None).await;
    let update = text(1);
    alice.update(update.clone()).await;
    assert_eq!(alice.acknowledged(&update).await, Ok(()));
    let overloaded = (4503, "OVERLOADED".to_owned());
    assert_eq!(server.ws("other", None).await.closed().await, overloaded);
    assert_eq!(post(&server, "other", text(2)).await, 503);
    assert_eq!(server.ws("large", None).await.greeted().await, Ok(()), "it is in memory");
    drop(alice);
    // The server sees a vanished peer in its own time; each dial is answered.
    while server.ws("other", None).await.greeted().await != Ok(()) {}
    assert_eq!(Pad::of(&[&state(&server, "large").await]).text().len(), LETTERS);
}

#[tokio::test]
async fn a_large_document_opens_again_after_a_restart_for_newcomers_and_for_those_who_return() {
    let server = Setup::dev().start().await;
    let update = text(1);
    assert_eq!(post(&server, "large", update.clone()).await, 200);
    let letter = Pad::of(&[&update]).paste("a letter");
    assert_eq!(post(&server, "large", letter).await, 200);
    let server = server.restart().await;
    let newcomer = Client::synced(&server, "large", 7).await;
    let other = Client::synced(&server, "large", 8).await;
    converged(&[&newcomer, &other]).await;
    assert_eq!(newcomer.look(|state| state.pad.text().len()), LETTERS + "a letter".len());
    newcomer.go_offline();
    other.change(|pad| pad.paste("more"));
    newcomer.change(|pad| pad.paste("and more"));
    newcomer.go_online();
    converged(&[&newcomer, &other]).await;
}
