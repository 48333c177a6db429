//! Two who change one record: what each spelling of "I have seen version N" gets, and the whole of a refusal.

use reqwest::Method;
use serde_json::Value;
use serde_json::json;

use crate::server::Server;
use crate::tables::App;
use crate::tables::Heard;
use crate::tables::hear;

/// `r1` at version 3: alice made it, alice set the price (2), bob set the stock (3).
async fn contested(server: &Server) -> (App, App) {
    let access = json!({"table:*": "write"});
    let (alice, bob) = (App::new(server, "alice", access.clone()), App::new(server, "bob", access));
    alice.parts("t", 1).await;
    alice.patch("t/records/r1", json!({"cells": {"price": 10}})).await.ok(200);
    bob.patch("t/records/r1", json!({"cells": {"stock": 20}})).await.ok(200);
    (alice, bob)
}

async fn matching(app: &App, method: Method, path: &str, tag: &str, body: &Value) -> Heard {
    hear(app.ask(method, path).header("if-match", tag).body(body.to_string())).await
}

#[tokio::test]
async fn a_refusal_has_both_values_who_and_when() {
    let server = Server::with_secret().await;
    let (alice, _) = contested(&server).await;
    let record = alice.get("t/records/r1").await.ok(200);
    let heard =
        alice.patch("t/records/r1", json!({"cells": {"stock": 99, "name": "mine"}, "expectedVersion": 2})).await;
    let message = heard.body["message"].clone();
    let data = heard.refused(409, "CONCURRENT_EDIT");
    let want = json!({
        "doc": "table:t",
        "recordId": "r1",
        "expectedVersion": 2,
        "currentVersion": 3,
        "currentValue": 20,
        "fields": [{
            "fieldId": "stock", "yourValue": 99, "currentValue": 20, "currentVersion": 3,
            "updatedBy": "bob", "updatedAt": record["updatedAt"],
        }],
        "record": record,
        "changedSince": ["stock"],
        "retry": {"expectedVersion": 3},
    });
    assert_eq!(data, want);
    assert!(message.as_str().is_some_and(|message| !message.is_empty()));
    assert_eq!(alice.get("t/records/r1").await.ok(200), record, "nothing of it was done");
    // What the answer says to do is what works.
    let again = alice.patch("t/records/r1", json!({"cells": {"stock": 99}, "expectedVersion": 3})).await.ok(200);
    assert_eq!(again["version"], 4);
}

#[tokio::test]
async fn on_conflict_decides_what_a_stale_version_means() {
    let server = Server::with_secret().await;
    let (alice, _) = contested(&server).await;
    let patch = |cells: Value, seen: u64, on_conflict: &str| json!({"cells": cells, "expectedVersion": seen, "onConflict": on_conflict});

    let merged = alice.patch("t/records/r1", patch(json!({"name": "new"}), 1, "field")).await.ok(200);
    assert_eq!(
        (&merged["merged"], &merged["mergedOver"], &merged["changedSince"], &merged["version"]),
        (&json!(true), &json!([2, 3]), &json!(["price", "stock"]), &json!(4))
    );
    alice.patch("t/records/r1", patch(json!({"price": 11}), 1, "field")).await.refused(409, "CONCURRENT_EDIT");
    alice.patch("t/records/r1", patch(json!({"name": "x"}), 3, "record")).await.refused(409, "CONCURRENT_EDIT");
    let exact = alice.patch("t/records/r1", patch(json!({"name": "exact"}), 4, "record")).await.ok(200);
    assert_eq!((&exact["version"], exact.get("merged")), (&json!(5), None));
    let forced = alice.patch("t/records/r1", patch(json!({"price": 12}), 1, "force")).await.ok(200);
    assert_eq!((&forced["version"], &forced["cells"]["price"]), (&json!(6), &json!(12)));
    alice.patch("t/records/r1", patch(json!({"price": 13}), 7, "field")).await.refused(409, "VERSION_AHEAD");
    alice.patch("t/records/r1", patch(json!({"price": 13}), 7, "never")).await.refused(422, "INVALID_PAYLOAD");
}

#[tokio::test]
async fn an_etag_is_a_version_and_stricter() {
    let server = Server::with_secret().await;
    let (alice, _) = contested(&server).await;
    let name = json!({"cells": {"name": "new"}});
    let one = "t/records/r1";
    matching(&alice, Method::PATCH, one, "\"2\"", &name).await.refused(409, "CONCURRENT_EDIT");
    let relaxed = json!({"cells": {"name": "new"}, "onConflict": "field"});
    let merged = matching(&alice, Method::PATCH, one, "\"2\"", &relaxed).await;
    assert_eq!(merged.etag(), "\"4\"");
    assert_eq!(merged.ok(200)["merged"], true);
    matching(&alice, Method::PATCH, one, "W/\"4\"", &json!({"cells": {"name": "newer"}})).await.ok(200);
    matching(&alice, Method::PATCH, one, "*", &json!({"cells": {"name": "newest"}})).await.ok(200);
    matching(&alice, Method::PATCH, "t/records/none", "*", &name).await.refused(404, "NOT_FOUND");

    let both = json!({"cells": {"name": "x"}, "expectedVersion": 6});
    matching(&alice, Method::PATCH, one, "\"6\"", &both).await.ok(200);
    let data = matching(&alice, Method::PATCH, one, "\"5\"", &both).await.refused(422, "INVALID_PAYLOAD");
    assert_eq!(data["path"], "expectedVersion");
    for tag in ["7", "\"seven\"", "\"6\", \"7\""] {
        let data = matching(&alice, Method::PATCH, one, tag, &name).await.refused(400, "INVALID_PAYLOAD");
        assert_eq!(data["path"], "If-Match", "{tag}");
    }
    let batch = json!({"records": [{"id": "r1", "cells": {"name": "y"}}]});
    for (method, path, body) in [
        (Method::PATCH, "t/records", &batch),
        (Method::POST, "t/records", &batch),
        (Method::POST, "t/records/r1/restore", &Value::Null),
        (Method::PATCH, "t/fields/name", &json!({"name": "z"})),
        (Method::PUT, "u", &json!({})),
    ] {
        let data = matching(&alice, method, path, "\"7\"", body).await.refused(422, "INVALID_PAYLOAD");
        assert_eq!(data["path"], "If-Match", "{path}");
    }
    assert_eq!(alice.get(one).await.ok(200)["version"], 7);
}

#[tokio::test]
async fn deleting_looks_at_the_version_too() {
    let server = Server::with_secret().await;
    let (alice, _) = contested(&server).await;
    let one = "t/records/r1";
    let data = alice.delete(&format!("{one}?expectedVersion=2")).await.refused(409, "CONCURRENT_EDIT");
    assert_eq!((&data["currentVersion"], &data["retry"]), (&json!(3), &json!({"expectedVersion": 3})));
    matching(&alice, Method::DELETE, one, "\"2\"", &Value::Null).await.refused(409, "CONCURRENT_EDIT");
    alice.delete(&format!("{one}?expectedVersion=9")).await.refused(409, "VERSION_AHEAD");
    for bad in ["x", "-1", "1.0", ""] {
        let data = alice.delete(&format!("{one}?expectedVersion={bad}")).await.refused(422, "INVALID_PAYLOAD");
        assert_eq!(data["path"], "expectedVersion", "{bad}");
    }
    let differing = matching(&alice, Method::DELETE, &format!("{one}?expectedVersion=2"), "\"3\"", &Value::Null).await;
    differing.refused(422, "INVALID_PAYLOAD");
    let deleted = matching(&alice, Method::DELETE, one, "\"3\"", &Value::Null).await.ok(200);
    assert_eq!(deleted["version"], 4);
}

#[tokio::test]
async fn a_batch_is_done_as_a_whole_or_not_at_all() {
    let server = Server::with_secret().await;
    let (alice, _) = contested(&server).await;
    alice.post("t/records", json!({"records": [{"id": "r2"}, {"id": "r3"}]})).await.ok(201);
    alice.delete("t/records/r3").await.ok(200);
    let before = alice.all("t").await;

    let one_stale = json!({"records": [
        {"id": "r2", "cells": {"price": 1}}, {"id": "r1", "cells": {"stock": 9}, "expectedVersion": 2},
    ]});
    let data = alice.patch("t/records", one_stale).await.refused(409, "CONCURRENT_EDIT");
    let results = data["results"].as_array().unwrap();
    assert_eq!(results.len(), 2, "a line for each: {data}");
    assert_eq!((&results[0]["recordId"], &results[1]["recordId"]), (&json!("r2"), &json!("r1")));
    assert_eq!((&results[0]["status"], &results[1]["status"]), (&json!("ok"), &json!("conflict")), "{data}");
    assert_eq!((results[0].get("code"), &results[1]["code"]), (None, &json!("CONCURRENT_EDIT")), "{data}");
    assert_eq!(results[1]["fields"][0]["yourValue"], 9);

    let batch = |second: Value| json!({"records": [{"id": "r2", "cells": {"price": 1}}, second]});
    alice.patch("t/records", batch(json!({"id": "r3", "cells": {"price": 1}}))).await.refused(409, "RECORD_DELETED");
    alice.patch("t/records", batch(json!({"id": "none", "cells": {}}))).await.refused(404, "NOT_FOUND");
    let data = alice.patch("t/records", batch(json!({"id": "r1", "cells": {"price": "dear"}}))).await;
    assert_eq!(data.refused(422, "INVALID_VALUE")["path"], "records[1].cells.price");
    assert_eq!(alice.all("t").await, before);

    let fine = json!({"records": [
        {"id": "r1", "cells": {"price": 5}, "expectedVersion": 3}, {"id": "r2", "cells": {"price": 6}, "after": null},
    ]});
    let done = alice.patch("t/records", fine).await.ok(200);
    let told = |at: usize| (done["records"][at]["id"].clone(), done["records"][at]["version"].clone());
    assert_eq!((told(0), told(1)), ((json!("r1"), json!(4)), (json!("r2"), json!(2))));
    let revisions =
        [&before["table"]["revision"], &alice.get("t").await.ok(200)["revision"]].map(|at| at.as_u64().unwrap());
    assert_eq!(revisions[0] + 1, revisions[1], "one transaction");
}
