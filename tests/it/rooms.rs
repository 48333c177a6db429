//! What applications tell several rooms, or again and again; and what holds in a room.

use reqwest::Method;
use serde_json::Value;
use serde_json::json;
use syncline_protocol::awareness::Entry;
use syncline_protocol::channel::DocumentMessage;

use crate::feed::Ears;
use crate::feed::events;
use crate::feed::publish;
use crate::feed::setup;
use crate::feed::try_publish;
use crate::server::Server;
use crate::server::Setup;
use crate::server::assert_no_panic;

async fn call(server: &Server, token: Option<&str>, method: Method, path: &str, body: &str) -> (u16, Value) {
    let mut request = reqwest::Client::new().request(method, server.url(path)).body(body.to_owned());
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    let response = request.send().await.unwrap();
    (response.status().as_u16(), response.json().await.unwrap())
}

async fn configure(server: &Server, room: &str, body: Value) -> Value {
    let (status, answer) = call(server, None, Method::PUT, &format!("/v1/rooms/{room}"), &body.to_string()).await;
    assert_eq!(status, 200, "{answer}");
    answer
}

async fn listen(server: &Server, room: &str) -> Ears {
    let mut ears = Ears::open(events(server, room, "")).await;
    assert!(ears.ready().await.0);
    ears
}

#[tokio::test]
async fn one_call_tells_several_rooms_each_under_its_own_number() {
    let server = Server::dev().await;
    let mut ears = [listen(&server, "task:1").await, listen(&server, "project:P").await];
    let body = json!({"event": "task_updated", "data": {"n": 1}, "alsoTo": ["project:P", "task:1", "project:P"]});
    let id = publish(&server, None, "task:1", body).await;
    publish(&server, None, "project:P", json!({"event": "next"})).await;
    publish(&server, None, "task:1", json!({"event": "next"})).await;
    let mut said = Vec::new();
    for ears in &mut ears {
        said.push(ears.next().await.unwrap());
        assert_eq!(ears.names().await, ["next"], "it was told once");
    }
    assert_eq!((said[0].id.as_deref(), &said[0].data["room"]), (Some(&*id), &json!("task:1")));
    assert_eq!((&said[1].data["room"], &said[1].data["data"]), (&json!("project:P"), &json!({"n": 1})));
    assert_ne!(said[0].id, said[1].id);
}

#[tokio::test]
async fn who_may_not_tell_one_of_the_rooms_tells_none() {
    let server = setup().start().await;
    let app = server.token("app", json!({"task:*": "write", "project:P": "read"}));
    let mut ears = Ears::open(events(&server, "task:1", "").bearer_auth(&app)).await;
    ears.ready().await;
    for other in ["project:P", "project:Q", "user:alice"] {
        let body = json!({"event": "x", "alsoTo": ["task:2", other]}).to_string();
        let (status, answer) = try_publish(&server, Some(&app), "task:1", &body).await;
        assert_eq!((status, &answer["code"]), (403, &json!("FORBIDDEN")), "{other}");
    }
    let many: Vec<String> = (0..21).map(|n| format!("task:{n}")).collect();
    let path = "x".repeat(129);
    for (body, status, path) in [
        (json!({"event": "x", "alsoTo": ["a\nb"]}), 422, "alsoTo"),
        (json!({"event": "x", "alsoTo": [""]}), 422, "alsoTo"),
        (json!({"event": "x", "alsoTo": "task:2"}), 422, "body"),
        (json!({"event": "x", "alsoTo": many}), 413, ""),
        (json!({"event": "x", "coalesceKey": ""}), 422, "coalesceKey"),
        (json!({"event": "x", "append": ["logs"]}), 422, "append"),
        (json!({"event": "x", "coalesceKey": "k", "append": ["a..b"]}), 422, "append"),
        (json!({"event": "x", "coalesceKey": "k", "append": [path]}), 422, "append"),
        (json!({"event": "x", "coalesceKey": "k", "append": vec!["logs"; 11]}), 413, ""),
    ] {
        let (got, answer) = try_publish(&server, Some(&app), "task:1", &body.to_string()).await;
        let want = if path.is_empty() { Value::Null } else { path.into() };
        assert_eq!((got, &answer["data"]["path"]), (status, &want), "{body:.100}");
    }
    publish(&server, Some(&app), "task:1", json!({"event": "the first"})).await;
    assert_eq!(ears.names().await, ["the first"]);
    assert_no_panic(&server.sigterm().await.stderr);
}

#[tokio::test]
async fn of_a_stream_the_last_word_is_told_and_no_line_is_lost() {
    const LAST: u64 = 200;
    let server = Server::dev().await;
    let mut ears = [listen(&server, "task:1").await, listen(&server, "project:P").await];
    let mut held = false;
    for n in 0..=LAST {
        let body = json!({
            "event": "task_progress", "coalesceKey": "progress", "alsoTo": ["project:P"], "append": ["task.logs"],
            "data": {"n": n, "task": {"logs": [n, n + 1_000]}},
        });
        let (status, answer) = try_publish(&server, None, "task:1", &body.to_string()).await;
        assert_eq!(status, 202, "{answer}");
        assert!(n > 0 || answer["eventId"].is_string(), "the first is told at once");
        held |= answer["eventId"].is_null();
    }
    assert!(held, "not all of them came a pause apart");
    for ears in &mut ears {
        let (mut numbers, mut lines) = (Vec::new(), Vec::new());
        while numbers.last() != Some(&LAST) {
            let said = ears.next().await.unwrap();
            numbers.push(said.data["data"]["n"].as_u64().unwrap());
            lines.extend(
                said.data["data"]["task"]["logs"].as_array().unwrap().iter().map(|line| line.as_u64().unwrap()),
            );
        }
        assert!(numbers[0] == 0 && numbers.is_sorted_by(|one, two| one < two), "{numbers:?}");
        let want: Vec<u64> = (0..=LAST).flat_map(|n| [n, n + 1_000]).collect();
        assert_eq!(lines, want);
    }
}

#[tokio::test]
async fn a_room_holds_as_many_as_it_may() {
    let server = Server::dev().await;
    let set = configure(&server, "lobby", json!({"maxClients": 1, "ttlSeconds": 60})).await;
    assert_eq!(set, json!({"maxClients": 1, "ttlSeconds": 60, "historyEvents": 1000}));
    let first = listen(&server, "lobby").await;
    let (status, answer) = call(&server, None, Method::GET, "/v1/rooms/lobby/events", "").await;
    assert_eq!((status, &answer["code"]), (409, &json!("ROOM_FULL")));
    let _elsewhere = listen(&server, "hall").await;
    let set = configure(&server, "lobby", json!({"maxClients": 0})).await;
    assert_eq!(set, json!({"maxClients": 0, "ttlSeconds": 60, "historyEvents": 1000}));
    let _second = listen(&server, "lobby").await;
    configure(&server, "lobby", json!({"maxClients": 2})).await;
    drop(first);
    // The server notices with the next thing that it writes, or when the connection is closed under it.
    let again = async {
        while events(&server, "lobby", "").send().await.unwrap().status() != 200 {
            publish(&server, None, "lobby", json!({"event": "x"})).await;
        }
    };
    tokio::time::timeout(crate::server::PATIENCE, again).await.expect("its place is free");
}

#[tokio::test]
async fn patterns_of_the_configuration_hold_until_a_room_has_its_own() {
    let rules = r#"
        [rooms."brief:*"]
        max_clients = 3
        history_events = 0
        [rooms."brief:long"]
        ttl_seconds = 5
    "#;
    let server = Setup::dev().file(rules).start().await;
    let of = async |room: &str| configure(&server, room, json!({})).await;
    assert_eq!(of("lobby").await, json!({"maxClients": 0, "ttlSeconds": 0, "historyEvents": 1000}));
    assert_eq!(of("brief:1").await, json!({"maxClients": 3, "ttlSeconds": 0, "historyEvents": 0}));
    assert_eq!(of("brief:long").await, json!({"maxClients": 0, "ttlSeconds": 5, "historyEvents": 1000}));
    for (room, recovered) in [("brief:1", false), ("brief:long", true)] {
        let id = publish(&server, None, room, json!({"event": "a"})).await;
        publish(&server, None, room, json!({"event": "b"})).await;
        let mut back = Ears::open(events(&server, room, &format!("?lastEventId={id}"))).await;
        assert_eq!(back.ready().await.0, recovered, "{room}");
    }
    configure(&server, "brief:1", json!({"historyEvents": 10})).await;
    let server = server.restart().await;
    let again = configure(&server, "brief:1", json!({})).await;
    assert_eq!(again["historyEvents"], 0, "a restart forgets it");
}

#[tokio::test]
async fn who_may_not_sets_nothing_and_sees_nobody() {
    let server = setup().start().await;
    let writer = server.token("alice", json!({"lobby": "write", "hall": "admin"}));
    let put = async |room: &str, body: &str| {
        let (status, answer) = call(&server, Some(&writer), Method::PUT, &format!("/v1/rooms/{room}"), body).await;
        (status, answer["code"].clone(), answer["data"]["path"].clone())
    };
    assert_eq!(put("lobby", r#"{"maxClients":1}"#).await.0, 403);
    assert_eq!(put("hall", r#"{"maxClients":1}"#).await.0, 200);
    for (body, status, path) in [
        ("", 400, "body"),
        ("[]", 422, "body"),
        (r#"{"maxClients":-1}"#, 422, "body"),
        (r#"{"maxClients":1.5}"#, 422, "body"),
        (r#"{"max_clients":1}"#, 422, "body"),
        (r#"{"maxClients":1000001}"#, 422, "maxClients"),
        (r#"{"ttlSeconds":99999999999}"#, 422, "ttlSeconds"),
        (r#"{"historyEvents":100001}"#, 422, "historyEvents"),
    ] {
        assert_eq!(put("hall", body).await, (status, json!("INVALID_PAYLOAD"), json!(path)), "{body}");
    }
    let members = async |token: Option<&str>, room: &str| {
        call(&server, token, Method::GET, &format!("/v1/rooms/{room}/presence"), "").await
    };
    assert_eq!(members(Some(&writer), "lobby").await, (200, json!({"members": []})));
    assert_eq!(members(Some(&writer), "elsewhere").await.0, 403);
    assert_eq!(members(Some(&writer), "user:bob").await.0, 403);
    assert_eq!(members(None, "lobby").await.0, 401);
    let (status, answer) = call(&server, Some(&writer), Method::GET, "/v1/rooms/a%0Ab/presence", "").await;
    assert_eq!((status, &answer["data"]["path"]), (422, &json!("room")));
    assert_no_panic(&server.sigterm().await.stderr);
}

fn shows(clock: u64, state: Option<Value>) -> DocumentMessage {
    let state = state.map(|state| state.to_string().into());
    DocumentMessage::Awareness(vec![Entry { client: 7, clock, state }])
}

#[tokio::test]
async fn who_listens_hears_who_comes_what_it_shows_and_that_it_goes() {
    let server = setup().start().await;
    let app = server.token("app", json!({"*": "write"}));
    let alice = server.token("alice", json!({"table:T": "write"}));
    let mut ears = Ears::open(events(&server, "table:T", "").bearer_auth(&app)).await;
    assert!(ears.ready().await.0);
    let filtered = events(&server, "table:T", "?events=user:left,message").bearer_auth(&app);
    let mut filtered = Ears::open(filtered).await;
    assert!(filtered.ready().await.0);
    let (mut first, mut second) = (server.ws("table:T", Some(&alice)).await, server.ws("table:T", Some(&alice)).await);
    first.greeted().await.unwrap();
    second.greeted().await.unwrap();
    let came = ears.next().await.unwrap();
    assert_eq!(
        (came.event.as_str(), &came.data["userId"], &came.data["tableId"]),
        ("user:joined", &json!("alice"), &json!("T"))
    );
    first.send(&shows(1, Some(json!({"cursor": {"x": 1}, "name": "A"})))).await;
    let moved = ears.next().await.unwrap();
    assert_eq!((moved.event.as_str(), &moved.data["data"]["position"]), ("user:cursor-moved", &json!({"x": 1})));
    assert!(came.id < moved.id);

    let path = "/v1/rooms/table:T/presence";
    let (status, list) = call(&server, Some(&app), Method::GET, path, "").await;
    let members = list["members"].as_array().unwrap();
    assert_eq!((status, members.len()), (200, 1), "two connections of one user are one member");
    assert_eq!((&members[0]["userId"], &members[0]["clientIds"]), (&json!("alice"), &json!([7])));
    assert_eq!(members[0]["state"], json!({"cursor": {"x": 1}, "name": "A"}));

    // What passed is a point to come back to, and is not told again.
    publish(&server, Some(&app), "table:T", json!({"event": "message"})).await;
    let back = format!("?lastEventId={}", came.id.unwrap());
    let mut back = Ears::open(events(&server, "table:T", &back).bearer_auth(&app)).await;
    assert!(back.ready().await.0);
    assert_eq!(back.names().await, ["message"]);
    drop((first, second));
    // The one cursor goes with its connection, or with its user: which connection is noticed first is not certain.
    let mut names = vec![ears.next().await.unwrap().event];
    while names.last().is_some_and(|name| name != "user:left") {
        names.push(ears.next().await.unwrap().event);
    }
    assert_eq!(names[0], "message");
    assert_eq!(filtered.names().await, ["message", "user:left"]);
    assert_eq!(call(&server, Some(&app), Method::GET, path, "").await.1, json!({"members": []}));
}

#[test]
fn what_is_told_of_those_who_are_there_is_in_the_catalogue() {
    let catalogue = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/EVENTS.md")).unwrap();
    let (_, section) = catalogue.split_once("### Who is there").expect("the section");
    let (section, _) = section.split_once("\n## ").expect("the next section");
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    let mut described: Vec<&str> = rows.collect();
    described.sort_unstable();
    assert_eq!(described, syncline::room::announce::NAMES);
}
