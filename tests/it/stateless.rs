//! A word to everybody in a document, from a client and from an application server.

use bytes::Bytes;
use reqwest::StatusCode;
use serde_json::json;
use syncline_protocol::channel::DocumentMessage;
use syncline_protocol::hocuspocus;
use syncline_protocol::hocuspocus::Address;
use syncline_protocol::web_socket;
use tokio_tungstenite::tungstenite::Message;

use crate::server::Server;
use crate::support::socket::Socket;

const DOC: &str = "doc";

fn address() -> Address {
    Address::parse(DOC.as_bytes()).unwrap()
}

/// Somebody at `/collab` who has the document open.
async fn join(server: &Server, sub: &str, level: &str) -> Socket {
    let mut socket = Socket::open(&format!("ws://{}/collab", *server.address().borrow())).await;
    let token = server.token(sub, json!({ DOC: level }));
    socket.send_raw(Message::Binary(hocuspocus::encode_token(&address(), &token, Some("4.8.0")))).await;
    say(&mut socket, &DocumentMessage::SyncStep1(Bytes::from_static(&[0]))).await;
    // Authenticated, our question, the answer to its question.
    for _ in 0..3 {
        socket.next().await.unwrap();
    }
    socket
}

async fn say(socket: &mut Socket, message: &DocumentMessage) {
    socket.send_raw(Message::Binary(hocuspocus::encode_client(&address(), message))).await;
}

fn stateless(text: &'static str) -> DocumentMessage {
    DocumentMessage::Stateless(Bytes::from_static(text.as_bytes()))
}

/// What others hear of it.
fn heard(text: &str) -> Bytes {
    let frame = hocuspocus::stateless_frame(&address(), text.as_bytes());
    frame.slice(web_socket::header_len_of(&frame)..)
}

async fn post(server: &Server, level: &str, text: impl Into<reqwest::Body>) -> StatusCode {
    let token = server.token("application", json!({ DOC: level }));
    let request = reqwest::Client::new().post(server.url("/v1/docs/doc/stateless")).bearer_auth(token).body(text);
    request.send().await.unwrap().status()
}

#[tokio::test]
async fn the_others_hear_a_client_that_may_write() {
    let server = Server::with_secret().await;
    let (mut alice, mut bob) = (join(&server, "alice", "write").await, join(&server, "bob", "read").await);
    say(&mut bob, &stateless("nobody hears a reader")).await;
    say(&mut bob, &DocumentMessage::QueryAwareness).await;
    say(&mut alice, &stateless("hi")).await;
    assert_eq!(bob.next().await, Ok(heard("hi")));
    // The reader's word came first, if it came at all.
    assert_eq!(post(&server, "write", "to all").await, 202);
    assert_eq!(alice.next().await, Ok(heard("to all")), "and nobody hears himself");
    assert_eq!(bob.next().await, Ok(heard("to all")));
}

#[tokio::test]
async fn an_application_server_says_what_it_may() {
    let server = Server::with_secret().await;
    let mut alice = join(&server, "alice", "read").await;
    assert_eq!(post(&server, "read", "no").await, 403);
    assert_eq!(post(&server, "write", vec![0xff, 0xfe]).await, 400);
    assert_eq!(post(&server, "write", vec![b'x'; 64 * 1024 + 1]).await, 413);
    assert_eq!(post(&server, "write", "").await, 202);
    assert_eq!(alice.next().await, Ok(heard("")), "what was refused reached nobody");
}
