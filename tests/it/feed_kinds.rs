//! Components and channels, which begin with their first record and tell what happens in words of their own.

use serde_json::json;

use crate::feed::Ears;
use crate::feed::events;
use crate::server::Server;
use crate::tables::App;

#[tokio::test]
async fn a_component_begins_with_its_first_record_and_ends_with_its_document() {
    let server = Server::dev().await;
    let app = App::anybody(&server);
    let mut ears = Ears::open(events(&server, "component:C", "")).await;
    ears.ready().await;
    let new = json!({"records": [{"id": "self", "cells": {"title": "A", "box": {"w": 1}}}]});
    app.post("component:C/records", new).await.ok(201);
    let created = ears.next().await.unwrap();
    assert_eq!(created.event, "component:created");
    assert_eq!(created.data["component"], json!({"id": "C", "title": "A", "box": {"w": 1}}));

    app.patch("component:C/records/self", json!({"cells": {"title": "B"}})).await.ok(200);
    let updated = ears.next().await.unwrap();
    assert_eq!((&*updated.event, &updated.data["componentId"]), ("component:updated", &json!("C")));
    assert_eq!((&updated.data["updates"], &updated.data["version"]), (&json!({"title": "B"}), &json!(2)));

    let gone = reqwest::Client::new().delete(server.url("/v1/docs/component:C")).send().await.unwrap();
    assert!(gone.status().is_success());
    assert_eq!(ears.names().await, ["component:deleted", "document:deleted"]);
    let late = json!({"records": [{"id": "self", "cells": {"title": "C"}}]});
    app.post("component:C/records", late).await.refused(404, "NOT_FOUND");
    app.post("table:T/records", json!({"records": [{}]})).await.refused(404, "NOT_FOUND");
}

#[tokio::test]
async fn messages_are_heard_by_those_in_the_channel() {
    let server = Server::dev().await;
    let app = App::anybody(&server);
    let mut ears = Ears::open(events(&server, "channel:H", "")).await;
    ears.ready().await;
    app.post("channel:H/records", json!({"records": [{"id": "m1", "cells": {"text": "hi"}}]})).await.ok(201);
    app.patch("channel:H/records/m1", json!({"cells": {"text": "hello", "read/ann": true}})).await.ok(200);
    app.delete("channel:H/records/m1").await.ok(200);
    assert_eq!(ears.names().await, ["message:sent", "message:edited", "message:status", "message:deleted"]);
}

#[tokio::test]
async fn a_row_is_resized_over_rest() {
    let server = Server::dev().await;
    let app = App::anybody(&server);
    app.parts("t", 2).await;
    let mut ears = Ears::open(events(&server, "table:t", "")).await;
    ears.ready().await;
    let resized = app.patch("t/records/r1", json!({"height": 48, "expectedVersion": 1})).await.ok(200);
    assert_eq!((&resized["height"], &resized["version"]), (&json!(48.0), &json!(2)));
    let heard = ears.next().await.unwrap();
    assert_eq!((&*heard.event, &heard.data["height"]), ("grid:row-resized", &json!(48)));
    let many = json!({"records": [{"id": "r1", "height": 20}, {"id": "r2", "height": 0}]});
    let data = app.patch("t/records", many).await.refused(422, "INVALID_PAYLOAD");
    assert_eq!(data["path"], "records[1].height");
}
