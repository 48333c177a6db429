//! Tables over REST, as an application server uses them: what each request answers.

use reqwest::Client;
use reqwest::Method;
use reqwest::RequestBuilder;
use reqwest::Response;
use reqwest::header::HeaderMap;
use serde_json::Value;
use serde_json::json;

use crate::server::Server;

/// An application that calls `/v1/tables`.
pub(crate) struct App {
    client: Client,
    at: String,
    token: Option<String>,
}

/// What it hears.
#[derive(Debug)]
pub(crate) struct Heard {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
}

impl App {
    pub(crate) fn anybody(server: &Server) -> Self {
        Self { client: Client::new(), at: server.url("/v1/tables"), token: None }
    }

    pub(crate) fn new(server: &Server, sub: &str, access: Value) -> Self {
        Self { token: Some(server.token(sub, access)), ..Self::anybody(server) }
    }

    /// `path` is what follows `/v1/tables/`.
    pub(crate) fn ask(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.client.request(method, format!("{}/{path}", self.at));
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    pub(crate) async fn get(&self, path: &str) -> Heard {
        hear(self.ask(Method::GET, path)).await
    }

    pub(crate) async fn put(&self, path: &str, body: Value) -> Heard {
        hear(self.ask(Method::PUT, path).body(body.to_string())).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Heard {
        hear(self.ask(Method::POST, path).body(body.to_string())).await
    }

    pub(crate) async fn patch(&self, path: &str, body: Value) -> Heard {
        hear(self.ask(Method::PATCH, path).body(body.to_string())).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Heard {
        hear(self.ask(Method::DELETE, path)).await
    }

    pub(crate) async fn import(&self, table: &str, format: &str, body: impl Into<reqwest::Body>) -> Heard {
        hear(self.ask(Method::POST, &format!("{table}/import?format={format}")).body(body)).await
    }

    pub(crate) async fn export(&self, table: &str, format: &str) -> String {
        let answer = self.ask(Method::GET, &format!("{table}/export?format={format}")).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        answer.text().await.unwrap()
    }

    /// A table of parts with a name, a price and a stock, and records `r1`, `r2`, …
    pub(crate) async fn parts(&self, table: &str, records: usize) {
        let fields = json!([
            {"id": "name", "name": "Name", "type": "text", "primary": true},
            {"id": "price", "name": "Price", "type": "number"},
            {"id": "stock", "name": "On stock", "type": "number"},
        ]);
        self.put(table, json!({"title": "Parts", "fields": fields})).await.ok(201);
        if records > 0 {
            let record =
                |number: usize| json!({"id": format!("r{number}"), "cells": {"name": format!("Part {number}")}});
            let records: Vec<_> = (1..=records).map(record).collect();
            self.post(&format!("{table}/records"), json!({ "records": records })).await.ok(201);
        }
    }

    /// Everything that can be seen of a table.
    pub(crate) async fn all(&self, table: &str) -> Value {
        let table_seen = self.get(table).await.ok(200);
        json!({"table": table_seen, "records": self.pages(table, 1000, "&includeDeleted").await})
    }

    /// Every record, page by page.
    pub(crate) async fn pages(&self, table: &str, limit: usize, also: &str) -> Vec<Value> {
        let (mut records, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = self.get(&format!("{table}/records?limit={limit}{also}{cursor}")).await.ok(200);
            let found = page["records"].as_array().unwrap();
            assert!(found.len() <= limit);
            records.extend(found.iter().cloned());
            let Some(next) = page["nextCursor"].as_str() else { return records };
            cursor = format!("&cursor={next}");
        }
    }
}

impl Heard {
    /// The body, when the status is this one.
    #[track_caller]
    pub(crate) fn ok(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.body);
        self.body
    }

    /// The data of a refusal, in the one shape.
    #[track_caller]
    pub(crate) fn refused(self, status: u16, code: &str) -> Value {
        let Self { status: got, body, .. } = self;
        assert_eq!(
            (got, body["status"].as_str(), body["code"].as_str()),
            (status, Some("error"), Some(code)),
            "{body}"
        );
        assert!(body["message"].as_str().is_some_and(|message| !message.is_empty()), "{body}");
        body["data"].clone()
    }

    pub(crate) fn etag(&self) -> &str {
        self.headers["etag"].to_str().unwrap()
    }

    pub(crate) fn is_replayed(&self) -> bool {
        self.headers.get("idempotency-replayed").is_some_and(|value| value == "true")
    }
}

pub(crate) async fn hear(request: RequestBuilder) -> Heard {
    let answer: Response = request.send().await.unwrap();
    let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
    let text = answer.text().await.unwrap();
    let body = if text.is_empty() { Value::Null } else { serde_json::from_str(&text).unwrap() };
    Heard { status, headers, body }
}

pub(crate) fn ids(records: &[Value]) -> Vec<&str> {
    records.iter().map(|record| record["id"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_table_is_created_once_and_described() {
    let server = Server::dev().await;
    let app = App::anybody(&server);
    app.get("plants").await.refused(404, "NOT_FOUND");
    let created = app.put("plants", json!({"title": "Plants", "fields": [
        {"name": "Name", "type": "text", "primary": true},
        {"id": "height", "name": "Height", "type": "number", "width": 90, "precision": 1},
        {"id": "kind", "name": "Kind", "type": "select", "choices": [{"id": "tree", "name": "Tree", "color": "green"}]},
    ]})).await;
    assert_eq!(created.headers["location"], "/v1/tables/plants");
    let table = created.ok(201);
    assert_eq!(
        (&table["table"], &table["title"], &table["recordCount"]),
        (&json!("plants"), &json!("Plants"), &json!(0))
    );
    let fields = table["fields"].as_array().unwrap();
    assert_eq!(fields.len(), 3);
    assert!(fields[0]["id"].as_str().is_some_and(|id| id.len() >= 4) && fields[0]["primary"] == true);
    let height = &fields[1];
    assert_eq!((&height["type"], &height["width"], &height["precision"]), (&json!("number"), &json!(90.0), &json!(1)));
    assert_eq!(fields[2]["choices"][0]["name"], "Tree");
    assert!(fields.is_sorted_by_key(|field| field["order"].as_str().unwrap().to_owned()));

    let again = app.get("plants").await.ok(200);
    assert_eq!(again, table);
    app.put("plants", json!({"title": "Other"})).await.refused(409, "ALREADY_EXISTS");
    assert_eq!(app.get("table:plants").await.ok(200), table, "a name that has its prefix is taken as it is");
    hear(app.ask(Method::PUT, "empty")).await.ok(201);
    let doc = server.json("/v1/docs/table:plants").await;
    assert_eq!(doc["roots"]["meta"]["schema"], "grid", "{doc}");
}

#[tokio::test]
async fn a_field_is_added_changed_moved_deleted_and_restored() {
    let server = Server::dev().await;
    let app = App::anybody(&server);
    let first = app.post("t/fields", json!({"id": "a", "name": "A", "type": "text"})).await.ok(201);
    assert_eq!((&first["id"], &first["type"]), (&json!("a"), &json!("text")), "and the table with it");
    app.post("t/fields", json!({"id": "c", "name": "C", "type": "number", "precision": 2})).await.ok(201);
    app.post("t/fields", json!({"id": "b", "name": "B", "type": "text", "after": "a"})).await.ok(201);
    let order = async || {
        let table = app.get("t").await.ok(200);
        ids(table["fields"].as_array().unwrap()).join("")
    };
    assert_eq!(order().await, "abc");
    app.post("t/fields", json!({"id": "a", "name": "other", "type": "text"})).await.refused(409, "ALREADY_EXISTS");

    app.patch("t/fields/c", json!({"after": null})).await.ok(200);
    assert_eq!(order().await, "cab");
    let changed =
        app.patch("t/fields/c", json!({"name": "Count", "type": "rating", "width": 44.5, "precision": null, "max": 7}));
    let changed = changed.await.ok(200);
    assert_eq!(
        (&changed["name"], &changed["type"], &changed["width"]),
        (&json!("Count"), &json!("rating"), &json!(44.5))
    );
    assert_eq!((changed.get("precision"), &changed["max"]), (None, &json!(7)));
    let revision = app.get("t").await.ok(200)["revision"].clone();
    app.patch("t/fields/c", json!({"name": "Count"})).await.ok(200);
    assert_eq!(app.get("t").await.ok(200)["revision"], revision, "what is so already is no change");

    app.post("t/records", json!({"records": [{"id": "r", "cells": {"A": "by name", "Count": 3}}]})).await.ok(201);
    assert_eq!(app.delete("t/fields/a").await.ok(200)["deleted"], true);
    assert_eq!(order().await, "cb");
    let data = app.patch("t/records/r", json!({"cells": {"a": "gone"}})).await.refused(422, "INVALID_PAYLOAD");
    assert_eq!(data["path"], "cells.a");
    app.patch("t/fields/a", json!({"deleted": false})).await.ok(200);
    assert_eq!(app.get("t/records/r").await.ok(200)["cells"], json!({"a": "by name", "c": 3}));
    app.patch("t/fields/unknown", json!({"name": "x"})).await.refused(404, "NOT_FOUND");
    app.delete("t/fields/unknown").await.refused(404, "NOT_FOUND");
}

#[tokio::test]
async fn a_record_lives_from_creation_to_restoration() {
    let server = Server::with_secret().await;
    let alice = App::new(&server, "alice", json!({"table:*": "write"}));
    let bob = App::new(&server, "bob", json!({"table:*": "write"}));
    alice.parts("t", 0).await;
    let made = alice
        .post("t/records", json!({"records": [{"cells": {"Name": "Bolt", "price": 2.5}}, {"id": "nut"}]}))
        .await
        .ok(201);
    let [bolt, nut] = [0, 1].map(|at| made["records"][at].clone());
    assert_eq!((&bolt["cells"], &bolt["version"]), (&json!({"name": "Bolt", "price": 2.5}), &json!(1)));
    assert_eq!((&bolt["createdBy"], &bolt["updatedBy"], &nut["id"]), (&json!("alice"), &json!("alice"), &json!("nut")));
    assert_eq!(bolt["createdAt"], bolt["updatedAt"]);

    let id = bolt["id"].as_str().unwrap();
    let changed = bob.patch(&format!("t/records/{id}"), json!({"cells": {"price": null, "stock": 3}})).await;
    assert_eq!(changed.etag(), "\"2\"");
    let changed = changed.ok(200);
    assert_eq!(changed["cells"], json!({"name": "Bolt", "stock": 3}));
    assert_eq!((&changed["createdBy"], &changed["updatedBy"]), (&json!("alice"), &json!("bob")));
    let same = bob.patch(&format!("t/records/{id}"), json!({"cells": {"stock": 3}})).await.ok(200);
    assert_eq!(same, changed, "what is so already makes no version");

    let deleted = bob.delete(&format!("t/records/{id}")).await.ok(200);
    assert_eq!((&deleted["version"], &deleted["deleted"]["by"]), (&json!(3), &json!("bob")));
    assert_eq!(ids(&alice.pages("t", 10, "").await), ["nut"]);
    assert_eq!(alice.pages("t", 10, "&includeDeleted").await.len(), 2);
    assert_eq!(alice.get(&format!("t/records/{id}")).await.ok(200), deleted);
    alice.patch(&format!("t/records/{id}"), json!({"cells": {"stock": 4}})).await.refused(409, "RECORD_DELETED");
    let restored = alice.post(&format!("t/records/{id}/restore"), json!({})).await.ok(200);
    assert_eq!(
        (&restored["version"], &restored["cells"], restored.get("deleted")),
        (&json!(4), &changed["cells"], None)
    );
    assert_eq!(alice.get("t").await.ok(200)["recordCount"], 2);
    for path in ["t/records/unknown", "nothing/records/r", "t/records/__proto__"] {
        alice.get(path).await.refused(404, "NOT_FOUND");
        alice.patch(path, json!({"cells": {}})).await.refused(404, "NOT_FOUND");
        alice.delete(path).await.refused(404, "NOT_FOUND");
    }
}

#[tokio::test]
async fn records_stand_where_they_were_put() {
    let server = Server::dev().await;
    let app = App::anybody(&server);
    app.parts("t", 3).await;
    let made = json!({"records": [{"id": "first", "after": null}, {"id": "mid", "after": "r1"}, {"id": "last"}, {"id": "mid2", "after": "mid"}]});
    app.post("t/records", made).await.ok(201);
    assert_eq!(ids(&app.pages("t", 2, "").await), ["first", "r1", "mid", "mid2", "r2", "r3", "last"]);
    app.patch("t/records/r1", json!({"after": "last"})).await.ok(200);
    app.patch("t/records/r3", json!({"after": null})).await.ok(200);
    assert_eq!(ids(&app.pages("t", 3, "").await), ["r3", "first", "mid", "mid2", "r2", "last", "r1"]);
    app.patch("t/records/r1", json!({"after": "unknown"})).await.refused(422, "INVALID_PAYLOAD");
}

#[tokio::test]
async fn a_page_has_the_fields_that_were_asked_for() {
    let server = Server::dev().await;
    let app = App::anybody(&server);
    app.parts("t", 1).await;
    app.patch("t/records/r1", json!({"cells": {"price": 1, "stock": 2}})).await.ok(200);
    for (fields, want) in
        [("price,On%20stock", json!({"price": 1, "stock": 2})), ("name", json!({"name": "Part 1"})), ("", json!({}))]
    {
        let page = app.get(&format!("t/records?fields={fields}")).await.ok(200);
        assert_eq!(page["records"][0]["cells"], want, "{fields}");
    }
    let data = app.get("t/records?fields=price,nothing").await.refused(422, "INVALID_PAYLOAD");
    assert_eq!(data["path"], "fields");
}

#[tokio::test]
async fn pages_neither_skip_nor_repeat_while_records_come_and_go() {
    let server = Server::dev().await;
    let app = App::anybody(&server);
    app.parts("t", 200).await;
    let (mut seen, mut cursor, mut round) = (Vec::new(), String::new(), 0);
    loop {
        let page = app.get(&format!("t/records?limit=7{cursor}")).await.ok(200);
        seen.extend(page["records"].as_array().unwrap().iter().map(|record| record["id"].as_str().unwrap().to_owned()));
        let Some(next) = page["nextCursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
        // In front of the place, at it, behind it; and the last one that was shown goes.
        let last = seen.last().unwrap();
        let made = json!({"records": [
            {"id": format!("front{round}"), "after": null}, {"id": format!("here{round}"), "after": last}, {"id": format!("end{round}")},
        ]});
        app.post("t/records", made).await.ok(201);
        app.delete(&format!("t/records/{last}")).await.ok(200);
        round += 1;
    }
    let numbers: Vec<usize> = seen.iter().filter_map(|id| id.strip_prefix('r')?.parse().ok()).collect();
    assert_eq!(numbers, (1..=200).collect::<Vec<_>>());
    assert!(seen.iter().all(|id| !id.starts_with("front")), "what came in front of the place is not on a later page");
    let unique: std::collections::BTreeSet<_> = seen.iter().collect();
    assert_eq!(unique.len(), seen.len());
}

#[tokio::test]
async fn who_has_a_version_is_not_sent_it_again() {
    let server = Server::dev().await;
    let app = App::anybody(&server);
    app.parts("t", 1).await;
    let tag = app.get("t/records/r1").await.etag().to_owned();
    assert_eq!(tag, "\"1\"");
    let again = async |tag: &str| hear(app.ask(Method::GET, "t/records/r1").header("if-none-match", tag)).await;
    let unchanged = again(&tag).await;
    assert_eq!((unchanged.status, unchanged.etag()), (304, "\"1\""));
    app.patch("t/records/r1", json!({"cells": {"price": 5}})).await.ok(200);
    let changed = again(&tag).await;
    assert_eq!((changed.status, changed.etag()), (200, "\"2\""));
}

#[tokio::test]
async fn each_right_opens_what_it_should_and_no_more() {
    let server = Server::with_secret().await;
    let writer = App::new(&server, "wendy", json!({"table:team*": "write", "component:*": "write"}));
    let reader = App::new(&server, "rita", json!({"table:team*": "read"}));
    let stranger = App::new(&server, "sam", json!({"team": "admin"}));
    App::anybody(&server).get("team").await.refused(401, "AUTH_FAILED");
    writer.parts("team", 1).await;
    writer.put("other", json!({})).await.refused(403, "FORBIDDEN");
    writer.put("component:C", json!({})).await.ok(201);
    for path in ["team", "team/records", "team/records/r1"] {
        reader.get(path).await.ok(200);
        stranger.get(path).await.refused(403, "FORBIDDEN");
    }
    assert_eq!(reader.export("team", "csv").await.lines().count(), 2);
    let before = writer.all("team").await;
    for caller in [&reader, &stranger] {
        caller.put("team2", json!({})).await.refused(403, "FORBIDDEN");
        caller.post("team/fields", json!({"name": "x", "type": "text"})).await.refused(403, "FORBIDDEN");
        caller.patch("team/fields/name", json!({"name": "x"})).await.refused(403, "FORBIDDEN");
        caller.delete("team/fields/name").await.refused(403, "FORBIDDEN");
        caller.post("team/records", json!({"records": [{}]})).await.refused(403, "FORBIDDEN");
        caller
            .patch("team/records", json!({"records": [{"id": "r1", "cells": {"price": 1}}]}))
            .await
            .refused(403, "FORBIDDEN");
        caller.patch("team/records/r1", json!({"cells": {"price": 1}})).await.refused(403, "FORBIDDEN");
        caller.delete("team/records/r1").await.refused(403, "FORBIDDEN");
        caller.post("team/records/r1/restore", json!({})).await.refused(403, "FORBIDDEN");
        caller.import("team", "csv", "Name\nx\n").await.refused(403, "FORBIDDEN");
    }
    assert_eq!(writer.all("team").await, before);
}
