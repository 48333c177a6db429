//! What is wrong gets the documented error, and the table stays as it was.

use reqwest::Method;
use serde_json::Value;
use serde_json::json;

use crate::server::Server;
use crate::server::Setup;
use crate::tables::App;
use crate::tables::hear;

const KIB: usize = 1024;

#[tokio::test]
async fn what_is_no_json_is_refused_wherever_json_is_expected() {
    let server = Server::dev().await;
    let app = App::anybody(&server);
    app.parts("t", 2).await;
    let before = app.all("t").await;
    let deep = "[".repeat(100_000);
    for (method, path) in [
        (Method::PUT, "new"),
        (Method::POST, "t/fields"),
        (Method::PATCH, "t/fields/name"),
        (Method::POST, "t/records"),
        (Method::PATCH, "t/records"),
        (Method::PATCH, "t/records/r1"),
    ] {
        for body in [b"{".as_slice(), b"{} {}", b"nonsense", b"\"\xff\"", &[0; 9]] {
            let data = hear(app.ask(method.clone(), path).body(body.to_vec())).await.refused(400, "INVALID_PAYLOAD");
            assert_eq!(data["path"], "body", "{method} {path}");
        }
        // A field's options are open, but not its type.
        for body in ["[]", "null", "7", "{\"type\":1,\"what\":1}", &deep] {
            hear(app.ask(method.clone(), path).body(body.to_owned())).await.refused(422, "INVALID_PAYLOAD");
        }
    }
    assert_eq!(app.all("t").await, before);
    app.get("new").await.refused(404, "NOT_FOUND");
}

#[tokio::test]
async fn each_wrong_record_is_refused_with_the_place() {
    let server = Server::dev().await;
    let app = App::anybody(&server);
    app.parts("t", 2).await;
    let before = app.all("t").await;
    let long = "x".repeat(33 * KIB);
    for (records, status, code, path) in [
        (json!([{"id": "__proto__"}]), 422, "INVALID_PAYLOAD", "records[0].id"),
        (json!([{}, {"id": "a/b"}]), 422, "INVALID_PAYLOAD", "records[1].id"),
        (json!([{"id": "$o"}]), 422, "INVALID_PAYLOAD", "records[0].id"),
        (json!([{"id": ""}]), 422, "INVALID_PAYLOAD", "records[0].id"),
        (json!([{"id": 7}]), 422, "INVALID_PAYLOAD", "records[0].id"),
        (json!([{"id": "r1"}]), 409, "ALREADY_EXISTS", "records[0].id"),
        (json!([{"cells": []}]), 422, "INVALID_PAYLOAD", "records[0].cells"),
        (json!([{}, {"cells": {"price": "dear"}}]), 422, "INVALID_VALUE", "records[1].cells.price"),
        (json!([{"cells": {"name": ["a"]}}]), 422, "INVALID_VALUE", "records[0].cells.name"),
        (json!([{"cells": {"name": long}}]), 413, "PAYLOAD_TOO_LARGE", "records[0].cells.name"),
        (json!([{"cells": {"nothing": 1}}]), 422, "INVALID_PAYLOAD", "records[0].cells.nothing"),
        (json!([{"cells": {"__proto__": 1}}]), 422, "INVALID_PAYLOAD", "records[0].cells.__proto__"),
        (json!([{"cells": {"$d": 1}}]), 422, "INVALID_PAYLOAD", "records[0].cells.$d"),
        (json!([{"after": 7}]), 422, "INVALID_PAYLOAD", "records[0].after"),
        (json!([{"version": 7}]), 422, "INVALID_PAYLOAD", "records[0].version"),
        (json!([]), 422, "INVALID_PAYLOAD", "records"),
    ] {
        let heard = app.post("t/records", json!({"records": records})).await;
        assert!(!heard.body.to_string().contains(&long), "a refusal does not repeat what was sent");
        let data = heard.refused(status, code);
        assert_eq!(data["path"], path, "{records:.100}");
    }
    let twice = json!({"records": [{"id": "same"}, {"id": "same"}]});
    assert_eq!(app.post("t/records", twice).await.refused(422, "INVALID_PAYLOAD")["path"], "records[1].id");
    for (patch, status, code, path) in [
        (json!({"cells": {"price": true}}), 422, "INVALID_VALUE", "cells.price"),
        (json!({"cells": {"name": long}}), 413, "PAYLOAD_TOO_LARGE", "cells.name"),
        (json!({"cells": {"nothing": 1}}), 422, "INVALID_PAYLOAD", "cells.nothing"),
        (json!({"cells": {}, "expectedVersion": "1"}), 422, "INVALID_PAYLOAD", "expectedVersion"),
        (json!({"cells": {}, "expectedVersion": 1.5}), 422, "INVALID_PAYLOAD", "expectedVersion"),
        (json!({"id": "r1", "cells": {}}), 422, "INVALID_PAYLOAD", "id"),
    ] {
        assert_eq!(app.patch("t/records/r1", patch.clone()).await.refused(status, code)["path"], path, "{patch:.100}");
    }
    assert_eq!(app.all("t").await, before);
}

#[tokio::test]
async fn each_wrong_field_is_refused_with_the_place() {
    let server = Server::dev().await;
    let app = App::anybody(&server);
    app.parts("t", 1).await;
    let before = app.all("t").await;
    for (field, path) in [
        (json!({"name": "x"}), "body"),
        (json!({"name": "x", "type": "texts"}), "type"),
        (json!({"name": 7, "type": "text"}), "name"),
        (json!({"name": "x", "type": "text", "width": "wide"}), "width"),
        (json!({"name": "x", "type": "text", "order": "a0"}), "order"),
        (json!({"id": "__proto__", "name": "x", "type": "text"}), "id"),
        (json!({"id": "a/b", "name": "x", "type": "text"}), "id"),
    ] {
        assert_eq!(app.post("t/fields", field.clone()).await.refused(422, "INVALID_PAYLOAD")["path"], path, "{field}");
        // What is no field here is no field of a new table either.
        app.put("u", json!({"fields": [{"name": "a", "type": "text"}, field]})).await.refused(422, "INVALID_PAYLOAD");
    }
    app.patch("t/fields/name", json!({"type": "texts"})).await.refused(422, "INVALID_PAYLOAD");
    app.patch("t/fields/name", json!({"id": "other"})).await.refused(422, "INVALID_PAYLOAD");
    assert_eq!(app.all("t").await, before);
    app.get("u").await.refused(404, "NOT_FOUND");
}

#[tokio::test]
async fn the_field_after_the_last_one_is_refused() {
    let server = Server::dev().await;
    let app = App::anybody(&server);
    let fields: Vec<_> = (0..500).map(|at| json!({"name": format!("f{at}"), "type": "text"})).collect();
    app.put("wide", json!({"fields": fields})).await.ok(201);
    let before = app.all("wide").await;
    let data = app.post("wide/fields", json!({"name": "501", "type": "text"})).await.refused(413, "PAYLOAD_TOO_LARGE");
    assert_eq!(data["limit"], 500);
    assert_eq!(app.all("wide").await, before);
}

#[tokio::test]
async fn cursors_limits_and_formats_are_looked_at() {
    let server = Server::dev().await;
    let app = App::anybody(&server);
    app.parts("t", 3).await;
    app.parts("other", 3).await;
    let foreign = app.get("other/records?limit=1").await.ok(200)["nextCursor"].as_str().unwrap().to_owned();
    let own = app.get("t/records?limit=1").await.ok(200)["nextCursor"].as_str().unwrap().to_owned();
    app.get(&format!("t/records?cursor={own}")).await.ok(200);
    for (query, path) in [
        (format!("cursor={foreign}"), "cursor"),
        ("cursor=nonsense".to_owned(), "cursor"),
        ("cursor=".to_owned(), "cursor"),
        ("limit=0".to_owned(), "limit"),
        ("limit=many".to_owned(), "limit"),
        ("includeDeleted=perhaps".to_owned(), "includeDeleted"),
    ] {
        let data = app.get(&format!("t/records?{query}")).await.refused(422, "INVALID_PAYLOAD");
        assert_eq!(data["path"], path, "{query}");
    }
    app.get("t/records?limit=1&limit=2").await.refused(400, "INVALID_PAYLOAD");
    assert_eq!(app.get("t/export?format=xlsx").await.refused(422, "INVALID_PAYLOAD")["path"], "format");
    assert_eq!(app.import("t", "xlsx", "").await.refused(422, "INVALID_PAYLOAD")["path"], "format");
}

#[tokio::test]
async fn names_that_are_no_tables_are_refused() {
    let server = Server::dev().await;
    let app = App::anybody(&server);
    for name in ["a%0Ab", "table:", &"n".repeat(250)] {
        assert_eq!(app.get(name).await.refused(422, "INVALID_PAYLOAD")["path"], "table", "{name}");
    }
    app.get("%FF").await.refused(400, "INVALID_PAYLOAD");
    app.put("user:u", json!({})).await.ok(201);
    assert_eq!(server.json("/v1/docs/table:user:u").await["name"], "table:user:u");
}

#[tokio::test]
async fn what_is_too_large_is_refused_before_it_is_built() {
    let server = Setup::dev().set("LIMITS__MESSAGE_BYTES", 4 << 20).start().await;
    let app = App::anybody(&server);
    app.parts("t", 1).await;
    let before = app.all("t").await;
    let records = |count: usize| format!("{{\"records\":[{}{{}}]}}", "{},".repeat(count - 1));
    for (body, limit) in [
        (records(50_001), 50_000),
        (format!("{{\"records\":[{{\"cells\":{{\"name\":[{}0]}}}}]}}", "0,".repeat(1_000_000)), 1_000_000),
        (" ".repeat((4 << 20) + 1), 4 << 20),
    ] {
        let data = hear(app.ask(Method::POST, "t/records").body(body)).await.refused(413, "PAYLOAD_TOO_LARGE");
        assert_eq!(data["limit"], limit);
    }
    let long = format!("Name\n{}\n", "x".repeat(200 * KIB));
    assert_eq!(app.import("t", "csv", long).await.refused(413, "PAYLOAD_TOO_LARGE")["line"], 2);
    let endless = "a\n".repeat(2 << 20) + "b";
    assert_eq!(app.import("t", "csv", format!("Name\n{endless}")).await.status, 413);
    assert_eq!(app.all("t").await, before);
}

#[tokio::test]
async fn keys_of_a_request_are_looked_at() {
    let server = Server::dev().await;
    let app = App::anybody(&server);
    app.parts("t", 1).await;
    for (header, path) in [("idempotency-key", "Idempotency-Key"), ("x-correlation-id", "X-Correlation-Id")] {
        for value in ["", &"k".repeat(256), "a\tb"] {
            let request = app.ask(Method::POST, "t/records").header(header, value).body("{\"records\":[{}]}");
            assert_eq!(hear(request).await.refused(422, "INVALID_PAYLOAD")["path"], path, "{value}");
        }
    }
    assert_eq!(app.get("t").await.ok(200)["recordCount"], 1);
    let tagged = app.ask(Method::POST, "t/records").header("x-correlation-id", "order-17").body("{\"records\":[{}]}");
    assert_ne!(hear(tagged).await.ok(201)["records"][0]["id"], Value::Null);
}
