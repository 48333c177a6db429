//! What a restart and a repetition leave of a table: the same.

use reqwest::Method;
use serde_json::Value;
use serde_json::json;

use crate::server::Server;
use crate::server::Setup;
use crate::tables::App;
use crate::tables::Heard;
use crate::tables::hear;

async fn once(app: &App, method: Method, path: &str, key: &str, body: &str) -> Heard {
    hear(app.ask(method, path).header("idempotency-key", key).body(body.to_owned())).await
}

fn alice(server: &Server) -> App {
    App::new(server, "alice", json!({"table:*": "write"}))
}

/// A few of everything, by two people.
async fn lived(server: &Server) -> Value {
    let (app, bob) = (alice(server), App::new(server, "bob", json!({"table:*": "write"})));
    app.parts("t", 5).await;
    bob.patch("t/records/r1", json!({"cells": {"price": 1}})).await.ok(200);
    app.patch("t/records/r1", json!({"cells": {"price": 2, "stock": 3}})).await.ok(200);
    bob.delete("t/records/r2").await.ok(200);
    app.delete("t/records/r3").await.ok(200);
    bob.post("t/records/r3/restore", json!({})).await.ok(200);
    app.patch("t/records/r5", json!({"after": null})).await.ok(200);
    app.patch("t/fields/stock", json!({"name": "Stock", "width": 77})).await.ok(200);
    app.all("t").await
}

#[tokio::test]
async fn versions_and_stamps_are_the_same_after_a_crash() {
    let mut server = Server::with_secret().await;
    let seen = lived(&server).await;
    for _ in 0..2 {
        server = server.restart().await;
        assert_eq!(alice(&server).all("t").await, seen);
    }
    let next = alice(&server).patch("t/records/r1", json!({"cells": {"price": 9}, "expectedVersion": 3})).await.ok(200);
    assert_eq!(next["version"], 4);
}

#[tokio::test]
async fn versions_and_stamps_are_the_same_after_a_clean_end() {
    // Small enough for the log to be folded into a snapshot on the way.
    let setup = Setup::with_secret().set("STORE__COMPACT_BYTES", 1_000);
    let server = setup.start().await;
    let seen = lived(&server).await;
    assert!(server.sigterm().await.status.success());
    let server = setup.start().await;
    assert_eq!(alice(&server).all("t").await, seen);
    let stale = json!({"cells": {"price": 9}, "expectedVersion": 2});
    let data = alice(&server).patch("t/records/r1", stale).await.refused(409, "CONCURRENT_EDIT");
    assert_eq!((&data["fields"][0]["updatedBy"], &data["changedSince"]), (&json!("alice"), &json!(["price", "stock"])));
}

#[tokio::test]
async fn a_repetition_is_answered_and_not_done() {
    let server = Server::with_secret().await;
    let app = alice(&server);
    app.parts("t", 1).await;
    let create = r#"{"records":[{"cells":{"name":"Bolt"}},{"cells":{"name":"Nut"}}]}"#;
    for (method, path, body, status) in [
        (Method::PUT, "u", "{\"title\":\"U\"}", 201),
        (Method::POST, "t/fields", r#"{"name":"Color","type":"text"}"#, 201),
        (Method::PATCH, "t/fields/stock", r#"{"name":"Stock"}"#, 200),
        (Method::POST, "t/records", create, 201),
        (Method::PATCH, "t/records/r1", r#"{"cells":{"price":1},"expectedVersion":1}"#, 200),
        (Method::PATCH, "t/records", r#"{"records":[{"id":"r1","cells":{"price":2},"expectedVersion":2}]}"#, 200),
        (Method::DELETE, "t/records/r1?expectedVersion=3", "", 200),
        (Method::POST, "t/records/r1/restore", "", 200),
        (Method::POST, "t/import?format=csv", "Name\nImported\n", 201),
    ] {
        let key = format!("{method} {path}");
        let first = once(&app, method.clone(), path, &key, body).await;
        assert!(!first.is_replayed());
        let first = first.ok(status);
        let seen = app.all("t").await;
        let second = once(&app, method.clone(), path, &key, body).await;
        assert!(second.is_replayed(), "{key}");
        assert_eq!(second.ok(status), first, "{key}");
        assert_eq!(app.all("t").await, seen, "{key}");
    }
    assert_eq!(app.get("t").await.ok(200)["recordCount"], 4);
}

#[tokio::test]
async fn a_key_stands_for_one_request_of_one_caller() {
    let server = Server::with_secret().await;
    let (app, bob) = (alice(&server), App::new(&server, "bob", json!({"table:*": "write"})));
    app.parts("t", 0).await;
    let body = r#"{"records":[{"cells":{"name":"Bolt"}}]}"#;
    once(&app, Method::POST, "t/records", "k", body).await.ok(201);
    for (method, path, other) in [
        (Method::POST, "t/records", r#"{"records":[{"cells":{"name":"Nut"}}]}"#),
        (Method::POST, "u/fields", r#"{"name":"Bolt","type":"text"}"#),
        (Method::PATCH, "t/fields/name", r#"{"name":"Bolt"}"#),
        (Method::DELETE, "t/fields/name", ""),
    ] {
        // Keys are remembered per table.
        if path.starts_with('u') {
            once(&app, method, path, "k", other).await.ok(201);
            continue;
        }
        let data = once(&app, method, path, "k", other).await.refused(422, "INVALID_PAYLOAD");
        assert_eq!(data["path"], "Idempotency-Key", "{path}");
    }
    let of_bob = once(&bob, Method::POST, "t/records", "k", body).await;
    assert!(!of_bob.is_replayed(), "keys of two callers are two");
    of_bob.ok(201);
    assert_eq!(app.get("t").await.ok(200)["recordCount"], 2);
    // What was refused was not done, so it may be tried again.
    once(&app, Method::PATCH, "t/records/none", "later", r#"{"cells":{}}"#).await.refused(404, "NOT_FOUND");
    app.post("t/records", json!({"records": [{"id": "none"}]})).await.ok(201);
    once(&app, Method::PATCH, "t/records/none", "later", r#"{"cells":{}}"#).await.ok(200);
}

#[tokio::test]
async fn a_key_outlives_a_crash_and_a_clean_end() {
    let setup = Setup::with_secret().set("STORE__COMPACT_BYTES", 1_000);
    let mut server = setup.start().await;
    alice(&server).parts("t", 0).await;
    let body = r#"{"records":[{"cells":{"name":"Bolt"}}]}"#;
    let first = once(&alice(&server), Method::POST, "t/records", "k", body).await.ok(201);
    for end in 0..3 {
        server = if end == 1 {
            assert!(server.sigterm().await.status.success());
            setup.start().await
        } else {
            server.restart().await
        };
        let again = once(&alice(&server), Method::POST, "t/records", "k", body).await;
        assert!(again.is_replayed());
        assert_eq!(again.ok(201), first);
        // Enough for the log to be folded.
        let app = alice(&server);
        for _ in 0..20 {
            app.post("t/records", json!({"records": [{"cells": {"name": "x".repeat(100)}}]})).await.ok(201);
        }
    }
    let other = once(&alice(&server), Method::POST, "t/records", "k", r#"{"records":[{}]}"#).await;
    assert_eq!(other.refused(422, "INVALID_PAYLOAD")["path"], "Idempotency-Key");
    assert_eq!(alice(&server).get("t").await.ok(200)["recordCount"], 61);
}
