//! Every limit a client can meet: the close code that says so, and that nothing else was harmed.

use std::sync::Arc;

use bytes::Bytes;
use rand::SeedableRng;
use rand::rngs::StdRng;
use serde_json::json;
use syncline_protocol::channel::DocumentMessage;
use syncline_protocol::hocuspocus;
use tokio_tungstenite::tungstenite::Message;

use crate::server::Server;
use crate::server::Setup;
use crate::server::token;
use crate::support::client::Client;
use crate::support::client::converged;
use crate::support::pad::Pad;
use crate::support::socket::Closed;
use crate::support::socket::Socket;

fn closed(code: u16, word: &str) -> Closed {
    (code, word.to_owned())
}

/// An update with a text of so many bytes.
fn text_of(client: u64, bytes: usize) -> Bytes {
    let mut pad = Pad::new(client);
    pad.paste(&"x".repeat(bytes))
}

async fn state(server: &Server, doc: &str) -> Option<Bytes> {
    let response = reqwest::get(server.url(&format!("/v1/docs/{doc}/state"))).await.unwrap();
    (response.status() == 200).then_some(response.bytes().await.unwrap())
}

async fn post(server: &Server, doc: &str, update: Bytes) -> (u16, String) {
    let url = server.url(&format!("/v1/docs/{doc}/updates"));
    let response = reqwest::Client::new().post(url).body(update).send().await.unwrap();
    (response.status().as_u16(), response.text().await.unwrap())
}

#[tokio::test]
async fn a_message_over_the_limit_is_not_read() {
    let server = Setup::dev().set("LIMITS__MESSAGE_BYTES", "4096").start().await;
    let mut socket = server.ws("doc", None).await;
    let fits = text_of(1, 4000);
    socket.update(fits.clone()).await;
    assert_eq!(socket.acknowledged(&fits).await, Ok(()));
    for bytes in [4200, 100_000, 2_000_000] {
        let mut socket = server.ws("doc", None).await;
        socket.update(text_of(2, bytes)).await;
        assert_eq!(socket.closed().await, closed(4413, "PAYLOAD_TOO_LARGE"), "{bytes}");
        assert_eq!(post(&server, "doc", text_of(2, bytes)).await.0, 413);
    }
    assert_eq!(Pad::of(&[&state(&server, "doc").await.unwrap()]).text().len(), 4000);
}

#[tokio::test]
async fn a_full_server_asks_to_come_back_later() {
    let server = Setup::dev().set("LIMITS__CONNECTIONS", 2).set("AUTH__HOLD_REFUSED_SECONDS", 0).start().await;
    let (mut one, mut two) = (server.ws("a", None).await, server.ws("b", None).await);
    assert_eq!((one.greeted().await, two.greeted().await), (Ok(()), Ok(())));
    assert_eq!(server.ws("a", None).await.closed().await, closed(4503, "OVERLOADED"));
    drop(one);
    // The server sees a vanished peer in its own time; each dial is answered.
    while server.ws("c", None).await.greeted().await != Ok(()) {}
}

#[tokio::test]
async fn one_user_cannot_take_all_places() {
    let setup = Setup::with_secret().set("LIMITS__CONNECTIONS_PER_USER", 1).set("AUTH__HOLD_REFUSED_SECONDS", 0);
    let server = setup.start().await;
    let token = |sub| server.token(sub, json!({"*": "write"}));
    let mut alice = server.ws("doc", Some(&token("alice"))).await;
    assert_eq!(alice.greeted().await, Ok(()));
    assert_eq!(server.ws("doc", Some(&token("alice"))).await.closed().await, closed(4529, "RATE_LIMITED"));
    assert_eq!(server.ws("doc", Some(&token("bob"))).await.greeted().await, Ok(()));
}

#[tokio::test]
async fn guessing_tokens_is_slowed_down() {
    let setup = Setup::with_secret().set("LIMITS__FAILED_CONNECTS_PER_MINUTE", 2).set("AUTH__HOLD_REFUSED_SECONDS", 0);
    let server = setup.start().await;
    let good = server.token("alice", json!({"doc": "write"}));
    for _ in 0..5 {
        assert_eq!(server.ws("doc", Some(&good)).await.greeted().await, Ok(()), "only failures count");
    }
    for _ in 0..2 {
        assert_eq!(server.ws("doc", Some("guess")).await.closed().await, closed(4401, "AUTH_FAILED"));
    }
    assert_eq!(server.ws("doc", Some("guess")).await.closed().await, closed(4529, "RATE_LIMITED"));
}

#[tokio::test]
async fn nobody_enters_without_a_right() {
    let server = Setup::with_secret().set("AUTH__HOLD_REFUSED_SECONDS", 0).start().await;
    let elsewhere = server.token("alice", json!({"other": "write"}));
    assert_eq!(server.ws("doc", Some(&elsewhere)).await.closed().await, closed(4403, "FORBIDDEN"));
    assert_eq!(server.ws("doc", None).await.closed().await, closed(4401, "AUTH_FAILED"));
    let late = token("alice", json!({"doc": "write"}), -3600);
    assert_eq!(server.ws("doc", Some(&late)).await.closed().await, closed(4501, "AUTH_EXPIRED"));
}

#[tokio::test]
async fn a_reader_who_writes_is_closed_and_nothing_changed() {
    let server = Server::with_secret().await;
    let writer = server.token("wendy", json!({"doc": "write"}));
    let reader = server.token("rita", json!({"doc": "read"}));
    let author = Client::new(&server, "doc", &format!("?token={writer}"), 7);
    author.change(|pad| pad.write(0));
    author.settled().await;
    let witness = Client::new(&server, "doc", &format!("?token={reader}"), 8);
    converged(&[&author, &witness]).await;

    let mut socket = server.ws("doc", Some(&reader)).await;
    let known = author.look(|state| state.pad.diff(&[0]));
    socket.update(known.clone()).await;
    assert_eq!(socket.acknowledged(&known).await, Ok(()), "what is known changes nothing");
    let forbidden = text_of(9, 10);
    socket.update(forbidden.clone()).await;
    assert_eq!(socket.acknowledged(&forbidden).await, Err(closed(4403, "FORBIDDEN")));

    author.change(|pad| pad.write(1));
    converged(&[&author, &witness]).await;
    assert!(!witness.look(|state| state.pad.text()).contains('x'));
}

#[tokio::test]
async fn what_is_no_message_closes_the_socket() {
    let server = Server::dev().await;
    let wrong = [
        Message::text("hello"),
        Message::binary(vec![]),
        Message::binary(vec![0, 9, 1, 0]),
        Message::binary(vec![0, 2, 200]),
        Message::binary(vec![255; 20]),
        Message::binary(vec![1, 3, 2, 0x84, 0xaf]),
    ];
    for message in wrong {
        let mut socket = server.ws("doc", None).await;
        socket.send_raw(message.clone()).await;
        assert_eq!(socket.closed().await, closed(4400, "INVALID_PAYLOAD"), "{message:?}");
    }
    assert_eq!(server.json("/readyz").await["status"], "ready");
}

#[tokio::test]
async fn what_is_no_name_opens_nothing() {
    let server = Setup::dev().set("AUTH__HOLD_REFUSED_SECONDS", 0).start().await;
    for name in ["user%3Abob", "global", "a%0Ab", "%00", "%ff", &"n".repeat(256)] {
        assert_eq!(server.ws(name, None).await.closed().await, closed(4400, "INVALID_PAYLOAD"), "{name}");
    }
    assert_eq!(server.ws(&"n".repeat(255), None).await.greeted().await, Ok(()));
}

#[tokio::test]
async fn a_token_that_runs_out_ends_the_connection_and_keeps_the_work() {
    let server = Setup::with_secret().set("AUTH__GRACE_SECONDS", 0).start().await;
    let short = token("alice", json!({"doc": "write"}), 3);
    let client = Client::new(&server, "doc", &format!("?token={short}"), 5);
    client.change(|pad| pad.write(0));
    client.until("the end", |state| !state.closes.is_empty()).await;
    assert_eq!(client.look(|state| state.closes.clone()), [closed(4501, "AUTH_EXPIRED")]);
    let token = server.token("alice", json!({"doc": "write"}));
    let again = Client::new(&server, "doc", &format!("?token={token}"), 6);
    again.settled().await;
    assert_eq!(again.look(|state| client.look(|former| former.pad.lost_in(&state.pad))), Vec::<String>::new());
}

#[tokio::test]
async fn a_document_that_is_full_keeps_what_it_has() {
    let server = Setup::dev().set("LIMITS__DOC_BYTES", 10_000).start().await;
    let mut socket = server.ws("doc", None).await;
    let mut kept = 0;
    let refused = loop {
        let update = text_of(kept + 1, 1000);
        socket.update(update.clone()).await;
        match socket.acknowledged(&update).await {
            Ok(()) => kept += 1,
            Err(closed) => break closed,
        }
    };
    assert_eq!(refused, closed(4413, "PAYLOAD_TOO_LARGE"));
    assert!((8..10).contains(&kept), "{kept}");
    let (status, body) = post(&server, "doc", text_of(99, 1000)).await;
    assert_eq!(status, 413, "{body}");
    let text = Pad::of(&[&state(&server, "doc").await.unwrap()]).text();
    assert_eq!(text.len() as u64, kept * 1000);
    let elsewhere = text_of(1, 1000);
    let mut socket = server.ws("other", None).await;
    socket.update(elsewhere.clone()).await;
    assert_eq!(socket.acknowledged(&elsewhere).await, Ok(()));
}

#[tokio::test]
async fn a_flood_is_read_slowly_and_loses_nothing() {
    let server = Setup::dev().set("LIMITS__UPDATES_PER_SECOND", 300).set("LIMITS__UPDATES_BURST", 300).start().await;
    let (flooding, quiet) = (Client::synced(&server, "doc", 1).await, Client::synced(&server, "doc", 2).await);
    let mut rng = StdRng::seed_from_u64(1);
    for _ in 0..600 {
        flooding.edit(&mut rng);
    }
    quiet.change(|pad| pad.write(0));
    converged(&[&flooding, &quiet]).await;
    assert_eq!(flooding.look(|state| (state.acknowledged, state.closes.len())), (600, 0));
}

#[tokio::test]
async fn asking_for_the_unaskable_is_refused() {
    let server = Server::dev().await;
    let honest = Arc::new(Client::synced(&server, "doc", 1).await);
    for state_vector in ["8084af5f", "ffffffffffffffffff01", "0501", ""] {
        let bytes = crate::poison::unhex(state_vector);
        let mut socket = server.ws("doc", None).await;
        socket.send(&DocumentMessage::SyncStep1(bytes.into())).await;
        assert_eq!(socket.closed().await.0, 4400, "{state_vector}");
    }
    honest.change(|pad| pad.write(0));
    honest.settled().await;
}

#[tokio::test]
async fn pages_of_strangers_cannot_connect() {
    let server = Setup::dev().set("AUTH__HOLD_REFUSED_SECONDS", 0).start().await;
    let url = server.url("/sync/doc").replace("http:", "ws:");
    for stranger in ["https://evil.example", "http://localhost.evil:5173", "null"] {
        assert_eq!(Socket::open_from(stranger, &url).await.closed().await, closed(4403, "FORBIDDEN"), "{stranger}");
    }
    for friend in [server.url(""), "http://localhost:5173".to_owned()] {
        assert!(Socket::open_from(&friend, &url).await.next().await.is_ok(), "{friend}");
    }
    let server = Setup::with_secret().set("AUTH__ALLOWED_ORIGINS", "https://app.example").start().await;
    let token = server.token("alice", json!({ "*": "write" }));
    let url = server.url(&format!("/sync/doc?token={token}")).replace("http:", "ws:");
    assert!(Socket::open_from("https://app.example", &url).await.next().await.is_ok());
    assert_eq!(Socket::open_from("http://localhost:5173", &url).await.closed().await, closed(4403, "FORBIDDEN"));
    let url = server.url("/collab").replace("http:", "ws:");
    assert_eq!(Socket::open_from("http://localhost:5173", &url).await.closed().await, closed(4403, "FORBIDDEN"));
    let mut friend = Socket::open_from("https://app.example", &url).await;
    friend.send_raw(Message::Binary(hocuspocus::PING.clone())).await;
    assert_eq!(friend.next().await, Ok(hocuspocus::PONG.clone()));
}
