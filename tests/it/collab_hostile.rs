//! Sockets at `/collab` on which nobody has proved anything: what they cost, and how they end.

use bytes::Bytes;
use syncline_protocol::channel::DocumentMessage;
use syncline_protocol::hocuspocus;
use syncline_protocol::hocuspocus::Address;
use tokio_tungstenite::tungstenite::Message;

use crate::server::Server;
use crate::server::Setup;
use crate::support::socket::Socket;

/// What a handful of such sockets may cost together: what is held for one (5 MiB a document, 16 MiB a socket), and what an
/// allocator does not give back.
const COST_MAX: u64 = 48 << 20;
/// What all of them may cost together: 128 MiB of what they said, and what was on its way when that was full.
const COST_TOGETHER_MAX: u64 = 224 << 20;
const MEBIBYTE: usize = 1 << 20;

async fn server() -> Server {
    Setup::with_secret().set("AUTH__WITHIN_SECONDS", 1).start().await
}

/// A server that waits for tokens longer than a test takes.
async fn patient_server() -> Server {
    Setup::with_secret().set("AUTH__WITHIN_SECONDS", 3600).start().await
}

async fn socket(server: &Server) -> Socket {
    Socket::open(&format!("ws://{}/collab", *server.address().borrow())).await
}

fn address(name: &str) -> Address {
    Address::parse(name.as_bytes()).unwrap()
}

/// An edit of so many bytes, for a document that its sender was not let into.
fn edit(doc: &str, bytes: usize) -> Message {
    let message = DocumentMessage::Update(Bytes::from(vec![0; bytes]));
    Message::Binary(hocuspocus::encode_client(&address(doc), &message))
}

/// Somebody who was let in still gets an answer: the server lives, and is not busy.
async fn assert_serves(server: &Server) {
    let token = server.token("alice", serde_json::json!({"doc": "write"}));
    let mut alice = socket(server).await;
    let doc = address("doc");
    alice.send_raw(Message::Binary(hocuspocus::encode_token(&doc, &token, Some("4.8.0")))).await;
    let step1 = DocumentMessage::SyncStep1(Bytes::from_static(&[0]));
    alice.send_raw(Message::Binary(hocuspocus::encode_client(&doc, &step1))).await;
    assert!(alice.next().await.is_ok(), "she is let in");
}

#[tokio::test]
async fn a_hundred_megabytes_before_a_token_are_not_kept() {
    let server = patient_server().await;
    let usual = server.peak_memory();
    let mut stranger = socket(&server).await;
    for _ in 0..100 {
        stranger.send_raw(edit("doc", MEBIBYTE)).await;
    }
    assert_eq!(stranger.closed().await.0, 4205);
    let cost = server.peak_memory().saturating_sub(usual);
    assert!(cost <= COST_MAX, "{cost} bytes more than {usual}");
    assert_serves(&server).await;
}

#[tokio::test]
async fn ten_thousand_documents_before_a_token_are_too_many() {
    let server = patient_server().await;
    let usual = server.peak_memory();
    let mut stranger = socket(&server).await;
    for number in 0..10_000 {
        stranger.send_raw(edit(&format!("doc {number}"), 10)).await;
    }
    assert_eq!(stranger.closed().await.0, 4205);
    let cost = server.peak_memory().saturating_sub(usual);
    assert!(cost <= COST_MAX, "{cost} bytes more than {usual}");
    assert_serves(&server).await;
}

#[tokio::test]
async fn who_says_nothing_is_closed_and_may_come_back() {
    let server = server().await;
    assert_eq!(socket(&server).await.closed().await, (4501, "AUTH_EXPIRED".to_owned()));
    assert_serves(&server).await;
}

#[tokio::test]
async fn who_only_speaks_of_documents_is_closed_as_well() {
    let server = server().await;
    let mut stranger = socket(&server).await;
    stranger.send_raw(edit("doc", 10)).await;
    let (code, _) = stranger.closed().await;
    assert_eq!(code, 4501);
}

#[tokio::test]
async fn many_who_each_stay_within_their_bounds_do_not_fill_the_memory_together() {
    const EACH: usize = 4 * MEBIBYTE;
    let server = patient_server().await;
    let usual = server.peak_memory();
    let mut strangers = Vec::new();
    for _ in 0..64 {
        let mut stranger = socket(&server).await;
        // Half of one message, which is waited for, and some whole ones, which are held.
        for _ in 0..4 {
            stranger.send_raw(edit("doc", EACH / 4)).await;
        }
        strangers.push(stranger);
    }
    let mut closed = 0;
    for stranger in strangers.iter_mut().rev().take(16) {
        closed += usize::from(stranger.closed().await == (4503, "OVERLOADED".to_owned()));
    }
    assert_eq!(closed, 16, "the last ones found no room");
    let cost = server.peak_memory().saturating_sub(usual);
    assert!(cost <= COST_TOGETHER_MAX, "{cost} bytes more than {usual}");
    assert_serves(&server).await;
}

#[tokio::test]
async fn nobody_is_let_in_without_a_token_or_with_a_foreign_one() {
    let server = patient_server().await;
    for token in ["", "nonsense", "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhIn0."] {
        let mut stranger = socket(&server).await;
        let doc = address("doc");
        stranger.send_raw(Message::Binary(hocuspocus::encode_token(&doc, token, None))).await;
        let denied = hocuspocus::permission_denied(doc.as_str().as_bytes(), "AUTH_FAILED");
        assert_eq!(stranger.next().await, Ok(denied), "{token:?}");
    }
}
