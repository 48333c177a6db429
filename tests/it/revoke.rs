//! Taking rights back from people who are connected: who is sent away, who is not, and what a restart remembers.

use bytes::Bytes;
use reqwest::Response;
use serde_json::Value;
use serde_json::json;
use syncline_protocol::channel::DocumentMessage;

use crate::server::PATIENCE;
use crate::server::Server;
use crate::server::Setup;
use crate::server::signed;
use crate::server::wall_seconds;
use crate::support::pad::Pad;
use crate::support::socket::Closed;
use crate::support::socket::Socket;

const OPERATOR: &str = "operator";

fn setup() -> Setup {
    Setup::with_secret().set("AUTH__HOLD_REFUSED_SECONDS", 0)
}

/// A token to write everywhere with; `more` adds claims.
fn token(sub: &str, more: Value) -> String {
    let mut claims = json!({"sub": sub, "iat": wall_seconds(), "exp": wall_seconds() + 3600, "access": {"*": "write"}});
    claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    signed(&claims)
}

fn operator() -> String {
    token(OPERATOR, json!({"access": {"*": "admin"}}))
}

async fn post(server: &Server, token: &str, body: &str) -> Response {
    let request = reqwest::Client::new().post(server.url("/v1/admin/revoke")).bearer_auth(token);
    request.body(body.to_owned()).send().await.unwrap()
}

/// Revokes, and answers how many channels were told.
async fn revoke(server: &Server, body: Value) -> u64 {
    let response = post(server, &operator(), &body.to_string()).await;
    let (status, text) = (response.status(), response.text().await.unwrap());
    assert_eq!(status, 200, "{text}");
    serde_json::from_str::<Value>(&text).unwrap()["channels"].as_u64().unwrap()
}

/// A socket that was let in.
async fn open(server: &Server, doc: &str, token: &str) -> Socket {
    let mut socket = server.ws(doc, Some(token)).await;
    assert_eq!(socket.greeted().await, Ok(()));
    socket
}

/// That a socket still writes.
async fn goes_on(socket: &mut Socket, client: u64) {
    let update = Pad::new(client).paste("here");
    socket.update(update.clone()).await;
    assert_eq!(socket.acknowledged(&update).await, Ok(()));
}

async fn rest(server: &Server, token: &str) -> u16 {
    let request = reqwest::Client::new().get(server.url("/v1/docs/doc/state")).bearer_auth(token);
    request.send().await.unwrap().status().as_u16()
}

fn forbidden() -> Closed {
    (4403, "FORBIDDEN".to_owned())
}

fn failed() -> Closed {
    (4401, "AUTH_FAILED".to_owned())
}

#[tokio::test]
async fn a_user_who_is_thrown_out_leaves_everywhere_and_the_others_stay() {
    let server = setup().start().await;
    let (phone, laptop) = (token("alice", json!({})), token("alice", json!({"iat": null})));
    let mut alice = [open(&server, "doc", &phone).await, open(&server, "other", &laptop).await];
    let mut bob = open(&server, "doc", &token("bob", json!({}))).await;
    assert_eq!(revoke(&server, json!({"sub": "alice", "mode": "disconnect"})).await, 2);
    for socket in &mut alice {
        assert_eq!(socket.closed().await, forbidden());
    }
    goes_on(&mut bob, 1).await;
    for old in [&phone, &laptop] {
        assert_eq!(server.ws("doc", Some(old)).await.closed().await, failed());
        assert_eq!(rest(&server, old).await, 401);
    }
    let later = token("alice", json!({"iat": wall_seconds() + 60}));
    goes_on(&mut open(&server, "doc", &later).await, 2).await;
    assert_eq!(rest(&server, &later).await, 200);
}

#[tokio::test]
async fn a_single_token_is_taken_back_and_no_other() {
    let server = setup().start().await;
    let (lost, kept) = (token("alice", json!({"jti": "lost"})), token("alice", json!({"jti": "kept"})));
    let (mut thief, mut alice) = (open(&server, "doc", &lost).await, open(&server, "doc", &kept).await);
    assert_eq!(revoke(&server, json!({"jti": "lost"})).await, 1);
    assert_eq!(thief.closed().await, failed());
    goes_on(&mut alice, 1).await;
    assert_eq!(server.ws("doc", Some(&lost)).await.closed().await, failed());
    assert_eq!((rest(&server, &lost).await, rest(&server, &kept).await), (401, 200));
    assert_eq!(revoke(&server, json!({"jti": "kept"})).await, 1);
    assert_eq!(alice.closed().await, failed());
}

#[tokio::test]
async fn a_room_is_emptied_and_its_people_may_return() {
    let server = setup().start().await;
    let (alice, bob) = (token("alice", json!({})), token("bob", json!({})));
    let mut inside = [open(&server, "doc", &alice).await, open(&server, "doc", &bob).await];
    let mut next_door = open(&server, "doc2", &bob).await;
    assert_eq!(revoke(&server, json!({"room": "doc"})).await, 2, "looked at again, and nothing has changed");
    goes_on(&mut inside[0], 1).await;
    goes_on(&mut inside[1], 2).await;
    assert_eq!(revoke(&server, json!({"room": "doc", "mode": "disconnect"})).await, 2);
    for socket in &mut inside {
        assert_eq!(socket.closed().await, forbidden());
    }
    goes_on(&mut next_door, 3).await;
    goes_on(&mut open(&server, "doc", &alice).await, 4).await;
}

#[tokio::test]
async fn a_restart_lets_nobody_back_in() {
    let server = setup().start().await;
    let (alice, lost) = (token("alice", json!({})), token("bob", json!({"jti": "lost"})));
    assert_eq!(revoke(&server, json!({"sub": "alice", "mode": "disconnect"})).await, 0);
    assert_eq!(revoke(&server, json!({"jti": "lost"})).await, 0);
    let server = server.restart().await;
    for old in [&alice, &lost] {
        assert_eq!(server.ws("doc", Some(old)).await.closed().await, failed());
        assert_eq!(rest(&server, old).await, 401);
    }
    goes_on(&mut open(&server, "doc", &token("bob", json!({"jti": "new"}))).await, 1).await;
}

#[tokio::test]
async fn a_damaged_list_is_no_reason_to_let_somebody_in() {
    let setup = setup();
    let server = setup.start().await;
    assert_eq!(revoke(&server, json!({"jti": "lost"})).await, 0);
    assert_eq!(server.sigterm().await.status.code(), Some(0));
    let file = setup.data_dir().join("revoked.jsonl");
    let good = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, good.replace("lost", "last")).unwrap();
    let ended = setup.try_start().await.expect_err("it does not start");
    assert_eq!(ended.status.code(), Some(1));
    assert!(ended.stderr.contains("revoked.jsonl") && ended.stderr.contains("checksum"), "{}", ended.stderr);
    std::fs::remove_file(&file).unwrap();
    let server = setup.start().await;
    assert_eq!(rest(&server, &token("bob", json!({"jti": "lost"}))).await, 404, "let in; there is no document");
}

#[tokio::test]
async fn without_files_it_works_as_long_as_the_process() {
    let server = setup().set("STORE__URL", "memory:").start().await;
    let lost = token("alice", json!({"jti": "lost"}));
    let mut alice = open(&server, "doc", &lost).await;
    assert_eq!(revoke(&server, json!({"jti": "lost"})).await, 1);
    assert_eq!(alice.closed().await, failed());
    assert_eq!(rest(&server, &lost).await, 401);
    assert!(!server.setup().data_dir().join("revoked.jsonl").exists());
}

#[tokio::test]
async fn only_operators_take_back_and_only_what_makes_sense() {
    let server = setup().start().await;
    let mut alice = open(&server, "doc", &token("alice", json!({}))).await;
    let everything = r#"{"sub":"alice","mode":"disconnect"}"#;
    assert_eq!(post(&server, &token("bob", json!({})), everything).await.status(), 403);
    assert_eq!(post(&server, "no token", everything).await.status(), 401);
    for (body, status) in [("", 400), ("{}", 422), (r#"{"sub":"alice","room":"doc"}"#, 422)] {
        let response = post(&server, &operator(), body).await;
        assert_eq!(response.status(), status, "{body}");
        assert_eq!(response.json::<Value>().await.unwrap()["code"], "INVALID_PAYLOAD");
    }
    goes_on(&mut alice, 1).await;
}

/// A client that does not read keeps its socket full. It must not be able to write on for as long as it likes by that.
#[tokio::test]
async fn somebody_who_does_not_read_is_thrown_out_all_the_same() {
    let setup = setup().set("LIMITS__OUTBOX_BYTES", 64 * 1024).set("LIMITS__WRITE_TIMEOUT_SECONDS", 100_000);
    let server = setup.start().await;
    let address = server.address().borrow().clone();
    let path = format!("/sync/doc?token={}", token("alice", json!({})));
    let mut alice = Socket::open_narrow(&address, &path).await;
    assert_eq!(alice.greeted().await, Ok(()));
    alice.send(&DocumentMessage::SyncStep1(Pad::new(2).state_vector())).await;
    let mut bob = open(&server, "doc", &token("bob", json!({}))).await;
    let mut pad = Pad::new(1);
    let filled = async {
        while metric(&server, "syncline_lagging_total").await == 0.0 {
            let update = pad.paste(&"x".repeat(1 << 20));
            bob.update(update.clone()).await;
            assert_eq!(bob.acknowledged(&update).await, Ok(()));
        }
    };
    tokio::time::timeout(PATIENCE, filled).await.expect("alice's socket fills");
    assert_eq!(revoke(&server, json!({"sub": "alice", "mode": "disconnect"})).await, 1);
    let gone = async { while readers(&server).await != 1 {} };
    tokio::time::timeout(PATIENCE, gone).await.expect("alice leaves the document");
    let late: Bytes = Pad::new(2).paste("I am still here");
    alice.update(late).await;
    goes_on(&mut bob, 3).await;
    let state = reqwest::Client::new().get(server.url("/v1/docs/doc/state")).bearer_auth(operator());
    let state = state.send().await.unwrap().bytes().await.unwrap();
    assert!(!Pad::of(&[&state]).text().contains("still here"));
}

async fn metric(server: &Server, name: &str) -> f64 {
    let text = reqwest::get(server.url("/metrics")).await.unwrap().text().await.unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)).expect("it is shown from the start");
    line.trim().parse().unwrap()
}

async fn readers(server: &Server) -> u64 {
    let request = reqwest::Client::new().get(server.url("/v1/admin/stats")).bearer_auth(operator());
    request.send().await.unwrap().json::<Value>().await.unwrap()["readers"].as_u64().unwrap()
}
