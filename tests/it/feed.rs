//! What happens in a room, told over REST and heard as server-sent events.

use reqwest::RequestBuilder;
use reqwest::Response;
use serde_json::Value;
use serde_json::json;

use crate::server::PATIENCE;
use crate::server::Server;
use crate::server::Setup;
use crate::server::assert_no_panic;
use crate::server::token;

/// One message of a stream.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Said {
    pub(crate) id: Option<String>,
    pub(crate) event: String,
    pub(crate) data: Value,
}

/// Somebody who listens.
#[derive(Debug)]
pub(crate) struct Ears {
    response: Response,
    read: String,
}

impl Ears {
    /// Asks for a stream that must be granted.
    pub(crate) async fn open(request: RequestBuilder) -> Self {
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self { response, read: String::new() }
    }

    /// The next message; `None` at the end. Comments are passed over.
    pub(crate) async fn next(&mut self) -> Option<Said> {
        tokio::time::timeout(PATIENCE, self.read_next()).await.expect("something is said")
    }

    async fn read_next(&mut self) -> Option<Said> {
        loop {
            while let Some((message, rest)) = self.read.split_once("\n\n") {
                let said = parse(message);
                self.read = rest.to_owned();
                if said.is_some() {
                    return said;
                }
            }
            let chunk = self.response.chunk().await.unwrap()?;
            self.read.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }

    pub(crate) async fn ready(&mut self) -> (bool, String) {
        let said = self.next().await.unwrap();
        assert_eq!(said.event, "ready");
        (said.data["recovered"].as_bool().unwrap(), said.data["eventId"].as_str().unwrap().to_owned())
    }

    /// The names of the next messages.
    pub(crate) async fn names<const N: usize>(&mut self) -> [String; N] {
        let mut names = [const { String::new() }; N];
        for name in &mut names {
            *name = self.next().await.unwrap().event;
        }
        names
    }

    /// The code with which the stream ends.
    async fn end(mut self) -> Value {
        let said = self.next().await.unwrap();
        assert_eq!(said.event, "end");
        assert_eq!(self.next().await, None);
        said.data["code"].clone()
    }
}

fn parse(message: &str) -> Option<Said> {
    let mut said = Said::default();
    for line in message.lines() {
        match line.split_once(": ") {
            Some(("id", id)) => said.id = Some(id.to_owned()),
            Some(("event", event)) => said.event = event.to_owned(),
            Some(("data", data)) => said.data = serde_json::from_str(data).unwrap(),
            _ => {}
        }
    }
    (!said.event.is_empty()).then_some(said)
}

pub(crate) fn events(server: &Server, room: &str, query: &str) -> RequestBuilder {
    reqwest::Client::new().get(server.url(&format!("/v1/rooms/{room}/events{query}")))
}

/// Publishes what must be taken; gives the id.
pub(crate) async fn publish(server: &Server, token: Option<&str>, room: &str, body: Value) -> String {
    let (status, body) = try_publish(server, token, room, &body.to_string()).await;
    assert_eq!(status, 202, "{body}");
    body["eventId"].as_str().unwrap().to_owned()
}

pub(crate) async fn try_publish(server: &Server, token: Option<&str>, room: &str, body: &str) -> (u16, Value) {
    let mut request = reqwest::Client::new().post(server.url(&format!("/v1/rooms/{room}/events")));
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    let response = request.body(body.to_owned()).send().await.unwrap();
    (response.status().as_u16(), serde_json::from_str(&response.text().await.unwrap()).unwrap())
}

pub(crate) fn setup() -> Setup {
    Setup::with_secret().set("AUTH__GRACE_SECONDS", 0)
}

#[tokio::test]
async fn what_an_application_tells_is_heard_by_everybody_in_the_room() {
    let server = setup().start().await;
    let (alice, app) =
        (server.token("alice", json!({"campaign:*": "read"})), server.token("app", json!({"*": "write"})));
    let mut two = [
        Ears::open(events(&server, "campaign:7", "").bearer_auth(&alice)).await,
        Ears::open(events(&server, "campaign%3A7", &format!("?token={alice}"))).await,
    ];
    for ears in &mut two {
        assert!(ears.ready().await.0);
    }
    publish(&server, Some(&app), "campaign:8", json!({"event": "elsewhere"})).await;
    let body = json!({
        "event": "settlement_updated", "correlationId": "c1", "source": "user_action",
        "data": {"settlementId": "s1", "changed": ["name"], "room": "forged", "eventId": "forged"},
    });
    let id = publish(&server, Some(&app), "campaign:7", body).await;
    for ears in &mut two {
        let mut said = ears.next().await.unwrap();
        assert_eq!((said.id.as_deref(), said.event.as_str()), (Some(&*id), "settlement_updated"));
        let timestamp = said.data["timestamp"].take();
        assert!(timestamp.as_str().unwrap().ends_with('Z'), "{timestamp}");
        let want = json!({
            "type": "settlement_updated", "eventId": id, "room": "campaign:7", "userId": "app", "timestamp": null,
            "source": "user_action", "correlationId": "c1", "settlementId": "s1",
            "data": {"settlementId": "s1", "changed": ["name"], "room": "forged", "eventId": "forged"},
        });
        assert_eq!(said.data, want);
    }
}

#[tokio::test]
async fn whoever_comes_back_hears_what_it_missed() {
    let server = Server::dev().await;
    let mut ids = Vec::new();
    for event in ["a", "b", "c"] {
        ids.push(publish(&server, None, "lobby", json!({"event": event})).await);
    }
    assert!(ids.is_sorted());
    let by_header = events(&server, "lobby", "?lastEventId=garbage").header("Last-Event-ID", &ids[0]);
    let by_query = events(&server, "lobby", &format!("?lastEventId={}", ids[0]));
    let mut both = [Ears::open(by_header).await, Ears::open(by_query).await];
    for ears in &mut both {
        assert_eq!(ears.ready().await, (true, ids[2].clone()));
        assert_eq!(ears.names().await, ["b", "c"]);
    }
    publish(&server, None, "lobby", json!({"event": "live"})).await;
    for ears in &mut both {
        assert_eq!(ears.names().await, ["live"]);
    }
}

#[tokio::test]
async fn what_is_not_known_any_more_is_said() {
    let server = Setup::dev().set("HISTORY__EVENTS", 100).start().await;
    let first = publish(&server, None, "lobby", json!({"event": "first"})).await;
    for _ in 0..101 {
        publish(&server, None, "lobby", json!({"event": "more"})).await;
    }
    let elsewhere = publish(&server, None, "hall", json!({"event": "x"})).await;
    for since in [&first, &elsewhere, "garbage", "%F0%9F%99%82"] {
        let mut ears = Ears::open(events(&server, "lobby", &format!("?lastEventId={since}"))).await;
        assert!(!ears.ready().await.0, "{since}");
        publish(&server, None, "lobby", json!({"event": "live"})).await;
        assert_eq!(ears.names().await, ["live"], "nothing is replayed");
    }
}

#[tokio::test]
async fn ids_go_on_after_a_restart_and_what_was_before_it_is_not_recovered() {
    let server = Server::dev().await;
    let before = publish(&server, None, "lobby", json!({"event": "before"})).await;
    let server = server.restart().await;
    let after = publish(&server, None, "lobby", json!({"event": "after"})).await;
    assert!(before < after);
    let mut ears = Ears::open(events(&server, "lobby", &format!("?lastEventId={before}"))).await;
    assert_eq!(ears.ready().await, (false, after));
}

#[tokio::test]
async fn a_filter_lets_through_what_was_asked_for() {
    let server = Server::dev().await;
    let mut ears = Ears::open(events(&server, "lobby", "?events=task_*,system_status")).await;
    assert!(ears.ready().await.0);
    for event in ["other", "task_created", "system", "system_status", "task_progress"] {
        publish(&server, None, "lobby", json!({"event": event})).await;
    }
    assert_eq!(ears.names().await, ["task_created", "system_status", "task_progress"]);
    let many = "a,".repeat(101);
    for query in ["?events=a,,b", &format!("?events={many}")] {
        assert!(events(&server, "lobby", query).send().await.unwrap().status().is_client_error(), "{query}");
    }
}

/// The next letter of client 1 in the text `t`. Only the first says where it stands.
fn letter(clock: u8) -> Vec<u8> {
    match clock {
        0 => vec![1, 1, 1, 0, 4, 1, 1, b't', 1, b'a', 0],
        _ => vec![1, 1, 1, clock, 0x84, 1, clock - 1, 1, b'b', 0],
    }
}

#[tokio::test]
async fn of_a_document_that_is_no_table_it_is_heard_which_roots_changed_and_that_it_went() {
    let server = Server::dev().await;
    let (client, doc) = (reqwest::Client::new(), server.url("/v1/docs/paper"));
    assert_eq!(client.put(format!("{doc}?ifAbsent=true")).body(letter(0)).send().await.unwrap().status(), 201);
    let mut ears = Ears::open(events(&server, "paper", "")).await;
    assert!(ears.ready().await.0);

    assert_eq!(client.post(format!("{doc}/updates")).body(letter(1)).send().await.unwrap().status(), 200);
    let said = ears.next().await.unwrap();
    assert_eq!((said.event.as_str(), &said.data["documentId"]), ("document:changed", &json!("paper")));
    assert_eq!((&said.data["data"], &said.data["source"]), (&json!({"roots": ["t"]}), &json!("api")));
    let heard = said.id.unwrap();

    // Whoever is away for a moment misses nothing.
    drop(ears);
    assert_eq!(client.post(format!("{doc}/updates")).body(letter(2)).send().await.unwrap().status(), 200);
    let mut ears = Ears::open(events(&server, "paper", &format!("?lastEventId={heard}"))).await;
    assert!(ears.ready().await.0);
    assert_eq!(client.delete(&doc).send().await.unwrap().status(), 204);
    assert_eq!(ears.names().await, ["document:changed", "document:deleted"]);
}

#[tokio::test]
async fn rights_decide_and_nobody_hears_another_users_room() {
    let server = setup().start().await;
    let reader = server.token("alice", json!({"lobby": "read", "user:alice": "write"}));
    let master = server.token("master", json!({"*": "admin", "user:*": "admin", "user:alice": "admin"}));
    let status = async |token: &str, room: &str| {
        events(&server, room, "").bearer_auth(token).send().await.unwrap().status().as_u16()
    };
    assert_eq!(events(&server, "lobby", "").send().await.unwrap().status(), 401);
    assert_eq!(status(&reader, "hall").await, 403);
    assert_eq!(status(&master, "user:alice").await, 403);
    assert_eq!(status(&master, "user%3Aalice").await, 403);
    let body = json!({"event": "x"});
    for (token, room, want) in
        [(&reader, "lobby", 403), (&reader, "hall", 403), (&master, "user:alice", 403), (&master, "user:", 403)]
    {
        let (got, body) = try_publish(&server, Some(token), room, &body.to_string()).await;
        assert_eq!((got, &body["code"]), (want, &json!("FORBIDDEN")), "{room}");
    }
    let mut own = Ears::open(events(&server, "user:alice", "").bearer_auth(&reader)).await;
    assert!(own.ready().await.0);
    publish(&server, Some(&reader), "user:alice", body).await;
    assert_eq!(own.names().await, ["x"]);
}

#[tokio::test]
async fn what_is_no_event_is_refused() {
    let server = Server::dev().await;
    let long = "n".repeat(129);
    for (body, status, path) in [
        ("", 400, "body"),
        ("{", 400, "body"),
        ("[]", 422, "body"),
        ("{}", 422, "body"),
        (r#"{"event":7}"#, 422, "body"),
        (r#"{"event":"x","data":[]}"#, 422, "body"),
        (r#"{"event":"x","source":"nobody"}"#, 422, "body"),
        (r#"{"event":"x","to":["y"]}"#, 422, "body"),
        (r#"{"event":"x","event":"y"}"#, 422, "body"),
        (r#"{"event":""}"#, 422, "event"),
        (r#"{"event":"a\nid: forged"}"#, 422, "event"),
        (r#"{"event":"ready"}"#, 422, "event"),
        (&format!(r#"{{"event":"{long}"}}"#), 422, "event"),
        (&format!(r#"{{"event":"x","correlationId":"{long}"}}"#), 422, "correlationId"),
        (&format!(r#"{{"event":"x","data":{{"deep":{}{}}}}}"#, "[".repeat(9_000), "]".repeat(9_000)), 400, "body"),
    ] {
        let (got, answer) = try_publish(&server, None, "lobby", body).await;
        assert_eq!(
            (got, &answer["code"], &answer["data"]["path"]),
            (status, &json!("INVALID_PAYLOAD"), &json!(path)),
            "{body:.100}"
        );
    }
    let large = json!({"event": "x", "data": {"text": "t".repeat(256 * 1024)}}).to_string();
    let (status, answer) = try_publish(&server, None, "lobby", &large).await;
    assert_eq!((status, &answer["code"]), (413, &json!("PAYLOAD_TOO_LARGE")));
    let (status, answer) = try_publish(&server, None, "a%0Ab", r#"{"event":"x"}"#).await;
    assert_eq!((status, &answer["data"]["path"]), (422, &json!("room")));
    let mut ears = Ears::open(events(&server, "lobby", "")).await;
    ears.ready().await;
    let text = "line\r\nid: 7\n\nevent: forged\u{2028}";
    publish(&server, None, "lobby", json!({"event": "x", "data": {"text": text}})).await;
    assert_eq!(ears.next().await.unwrap().data["data"]["text"], text);
    assert_no_panic(&server.sigterm().await.stderr);
}

#[tokio::test]
async fn a_stream_ends_with_the_right_to_hear_it() {
    let server = setup().start().await;
    let operator = server.token("operator", json!({"*": "admin"}));
    let alice = server.token("alice", json!({"lobby": "read"}));
    let bob = server.token("bob", json!({"lobby": "read"}));
    let open = async |token: &str| {
        let mut ears = Ears::open(events(&server, "lobby", "").bearer_auth(token)).await;
        ears.ready().await;
        ears
    };
    let (thrown_out, mut stays) = (open(&alice).await, open(&bob).await);
    let brief = open(&token("carol", json!({"lobby": "read"}), 2)).await;
    let revoke = reqwest::Client::new().post(server.url("/v1/admin/revoke")).bearer_auth(&operator);
    let answer = revoke.body(json!({"sub": "alice", "mode": "disconnect"}).to_string()).send().await.unwrap();
    assert_eq!(answer.json::<Value>().await.unwrap()["channels"], 1);
    assert_eq!(thrown_out.end().await, "FORBIDDEN");
    assert_eq!(brief.end().await, "AUTH_EXPIRED");
    let revoke = reqwest::Client::new().post(server.url("/v1/admin/revoke")).bearer_auth(&operator);
    let answer = revoke.body(json!({"room": "lobby"}).to_string()).send().await.unwrap();
    assert_eq!(answer.json::<Value>().await.unwrap()["channels"], 1, "looked at again, and nothing has changed");
    publish(&server, Some(&operator), "lobby", json!({"event": "x"})).await;
    assert_eq!(stays.names().await, ["x"]);
}

#[tokio::test]
async fn streams_are_bounded_and_leave_their_place() {
    let server = Setup::dev().set("LIMITS__CONNECTIONS", 1).start().await;
    let mut first = Ears::open(events(&server, "lobby", "")).await;
    first.ready().await;
    let refused = events(&server, "lobby", "").send().await.unwrap();
    assert_eq!(refused.status(), 503);
    drop(first);
    // The server notices with the next thing that it writes, or when the connection is closed under it.
    let again = async {
        loop {
            let response = events(&server, "lobby", "").send().await.unwrap();
            if response.status() == 200 {
                return;
            }
            publish(&server, None, "lobby", json!({"event": "x"})).await;
        }
    };
    tokio::time::timeout(PATIENCE, again).await.expect("its place is free");
}

#[tokio::test]
async fn a_server_that_goes_ends_the_streams() {
    let server = Server::dev().await;
    let mut ears = Ears::open(events(&server, "lobby", "")).await;
    ears.ready().await;
    server.signal("TERM");
    assert_eq!(ears.next().await, None);
    let ended = server.ended().await;
    assert_eq!(ended.status.code(), Some(0));
    assert_no_panic(&ended.stderr);
}
