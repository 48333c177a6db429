//! Whole tables at once: import, export, and many records in one request.

use std::fmt::Write as _;

use serde_json::Value;
use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::server::Server;
use crate::tables::App;

const MANY: usize = 10_000;

fn csv(rows: usize) -> String {
    (1..=rows).fold("id,Name,Price,On stock\n".to_owned(), |mut csv, row| {
        let _ = writeln!(csv, "p{row},\"Part, {row}\",{row}.5,");
        csv
    })
}

#[tokio::test]
async fn ten_thousand_records_come_from_csv_and_go_out_the_same() {
    let server = Server::with_secret().await;
    let app = App::new(&server, "alice", json!({"table:*": "write"}));
    app.parts("t", 0).await;
    let before = app.get("t").await.ok(200)["revision"].as_u64().unwrap();
    let done = app.import("t", "csv", csv(MANY)).await.ok(201);
    assert_eq!(done, json!({"imported": MANY, "revision": before + 1}), "one transaction");
    assert_eq!(app.get("t").await.ok(200)["recordCount"], MANY);

    let records = app.pages("t", 1000, "").await;
    assert_eq!(records.len(), MANY);
    for (at, record) in records.iter().enumerate() {
        let row = at + 1;
        let want = json!({"name": format!("Part, {row}"), "price": row as f64 + 0.5});
        assert_eq!((record["id"].as_str(), &record["cells"]), (Some(format!("p{row}").as_str()), &want));
        assert_eq!((&record["version"], &record["createdBy"]), (&json!(1), &json!("alice")));
    }

    let out = app.export("t", "csv").await;
    assert_eq!(out.replace("\r\n", "\n"), csv(MANY));
}

#[tokio::test]
async fn what_went_out_comes_in_again() {
    let server = Server::dev().await;
    let app = App::anybody(&server);
    let fields = json!([
        {"id": "text", "name": "Text", "type": "text"},
        {"id": "long", "name": "Long", "type": "longtext"},
        {"id": "num", "name": "Number", "type": "number"},
        {"id": "done", "name": "Done", "type": "checkbox"},
        {"id": "kind", "name": "Kind", "type": "select", "choices": [{"id": "a", "name": "A"}, {"id": "b", "name": "B;b"}]},
        {"id": "tags", "name": "Tags", "type": "multiselect", "choices": [{"id": "x", "name": "X"}, {"id": "y", "name": "Y;\\"}]},
        {"id": "day", "name": "Day", "type": "date"},
        {"id": "json", "name": "Json", "type": "json"},
    ]);
    let records = json!([
        {"id": "full", "cells": {"text": "=1+1, \"q\" ü🙂", "long": "a\nb\r\nc", "num": -0.25, "done": true, "kind": "b",
            "tags": ["x", "y"], "day": "2026-02-28", "json": {"a": [1, null, "x"]}}},
        {"id": "empty"},
        {"id": "part", "cells": {"text": "  spaces  ", "num": 1e21, "done": false}},
    ]);
    for table in ["from", "csv", "ndjson"] {
        app.put(table, json!({"fields": fields})).await.ok(201);
    }
    app.post("from/records", json!({"records": records})).await.ok(201);
    app.post("from/records", json!({"records": [{"id": "gone"}]})).await.ok(201);
    app.delete("from/records/gone").await.ok(200);
    let cells = async |table: &str| -> Vec<(Value, Value)> {
        let records = app.pages(table, 100, "").await;
        records.into_iter().map(|record| (record["id"].clone(), record["cells"].clone())).collect()
    };
    let want = cells("from").await;
    assert_eq!(want.len(), 3);
    for format in ["csv", "ndjson"] {
        let out = app.export("from", format).await;
        app.import(format, format, out.clone()).await.ok(201);
        assert_eq!(cells(format).await, want, "{format}");
        assert_eq!(app.export(format, format).await, out);
    }
}

#[tokio::test]
async fn an_export_says_what_it_is() {
    let server = Server::dev().await;
    let app = App::anybody(&server);
    app.parts("a%20%2F%22b", 1).await;
    for (format, kind) in [("csv", "text/csv"), ("ndjson", "application/x-ndjson")] {
        let answer =
            app.ask(reqwest::Method::GET, &format!("a%20%2F%22b/export?format={format}")).send().await.unwrap();
        assert!(answer.headers()["content-type"].to_str().unwrap().starts_with(kind));
        let file = answer.headers()["content-disposition"].to_str().unwrap().to_owned();
        assert_eq!(file, format!("attachment; filename*=UTF-8''a%20%2F%22b.{format}"));
    }
    app.get("none/export").await.refused(404, "NOT_FOUND");
    app.import("none", "csv", "Name\nx\n").await.refused(404, "NOT_FOUND");
}

#[tokio::test]
async fn one_broken_line_leaves_nothing() {
    let server = Server::dev().await;
    let app = App::anybody(&server);
    app.parts("t", 2).await;
    let before = app.all("t").await;
    let with = |line: usize, text: &str| {
        let mut lines: Vec<_> = csv(MANY).lines().map(str::to_owned).collect();
        text.clone_into(&mut lines[line - 1]);
        lines.join("\n")
    };
    for (line, text, status, code) in [
        (7000, "x,\"closed\"x,1,2", 400, "INVALID_PAYLOAD"),
        // It is open until the next quote, which closes it.
        (7001, "x,\"open", 400, "INVALID_PAYLOAD"),
        (7000, "x,too,1,2,many", 400, "INVALID_PAYLOAD"),
        (7000, "p1,same id,1,2", 400, "INVALID_PAYLOAD"),
        (7000, "__proto__,n,1,2", 400, "INVALID_PAYLOAD"),
        (7000, "x,n,dear,2", 422, "INVALID_VALUE"),
        (7000, "r2,is there,1,2", 409, "ALREADY_EXISTS"),
        (1, "id,Name,Cost,On stock", 422, "INVALID_PAYLOAD"),
        (1, "id,Name,name,On stock", 422, "INVALID_PAYLOAD"),
    ] {
        let heard = app.import("t", "csv", with(line.min(7000), text)).await;
        let message = heard.body["message"].as_str().unwrap().to_owned();
        let data = heard.refused(status, code);
        assert_eq!(data["line"], line, "{text}: {message}");
        assert!(message.contains(&format!("line {line}")), "{message}");
    }
    let data = app.import("t", "csv", with(1, "id,Name,Cost,On stock")).await.refused(422, "INVALID_PAYLOAD");
    assert_eq!(data["path"], "header.Cost");

    let mut lines: Vec<_> =
        (1..=MANY).map(|row| json!({"id": format!("p{row}"), "cells": {"name": "n"}}).to_string()).collect();
    for text in ["{\"id\":\"x\",\"cells\":{\"price\":\"dear\"}}", "{\"cells\":{\"cost\":1}}", "{\"cells\":", "[]"] {
        text.clone_into(&mut lines[6_999]);
        let heard = app.import("t", "ndjson", lines.join("\n")).await;
        assert!([400, 422].contains(&heard.status), "{}", heard.body);
        assert_eq!(heard.body["data"]["line"], 7000, "{}", heard.body);
    }
    for nothing in ["", "\n", "Name\n"] {
        let status = app.import("t", "csv", nothing).await.status;
        assert!([400, 422].contains(&status), "{nothing:?}");
    }
    assert_eq!(app.all("t").await, before);
}

#[tokio::test]
async fn a_body_that_ends_early_leaves_nothing() {
    let server = Server::dev().await;
    let app = App::anybody(&server);
    app.parts("t", 1).await;
    let before = app.all("t").await;
    let text = csv(MANY);
    let url = server.url("/v1/tables/t/import");
    let (host, path) = url.strip_prefix("http://").and_then(|rest| rest.split_once('/')).unwrap();
    let mut socket = TcpStream::connect(host).await.unwrap();
    let head = format!("POST /{path} HTTP/1.1\r\nhost: {host}\r\ncontent-length: {}\r\n\r\n", text.len());
    socket.write_all(head.as_bytes()).await.unwrap();
    socket.write_all(&text.as_bytes()[..text.len() / 2]).await.unwrap();
    socket.shutdown().await.unwrap();
    let mut answer = String::new();
    let _ = socket.read_to_string(&mut answer).await; // It may be cut as well as answered.
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert_eq!(app.all("t").await, before);
}

#[tokio::test]
async fn ten_thousand_records_fit_in_one_request() {
    let server = Server::dev().await;
    let app = App::anybody(&server);
    app.parts("t", 0).await;
    let records: Vec<_> = (0..MANY).map(|at| json!({"cells": {"name": format!("n{at}"), "price": at}})).collect();
    let done = app.post("t/records", json!({"records": records})).await.ok(201);
    let done = done["records"].as_array().unwrap();
    assert!(done.iter().enumerate().all(|(at, record)| record["cells"]["price"] == at));
    let patch: Vec<_> =
        done.iter().map(|record| json!({"id": record["id"], "cells": {"stock": 1}, "expectedVersion": 1})).collect();
    let patched = app.patch("t/records", json!({"records": patch})).await.ok(200);
    assert!(patched["records"].as_array().unwrap().iter().all(|record| record["version"] == 2));
    assert_eq!(app.pages("t", 1000, "").await, *patched["records"].as_array().unwrap());
}

#[tokio::test]
async fn an_export_costs_a_page_and_not_the_table() {
    const EXPORTS: usize = 8;
    let server = Server::dev().await;
    let app = App::anybody(&server);
    app.parts("t", 0).await;
    let name = "n".repeat(900);
    let records: Vec<_> = (0..MANY).map(|at| json!({"cells": {"name": name, "price": at}})).collect();
    app.post("t/records", json!({"records": records})).await.ok(201);
    let bytes = app.export("t", "ndjson").await.len() as u64;

    server.forget_peak_memory();
    let before = server.peak_memory();
    let mut begun = Vec::new();
    for _ in 0..EXPORTS {
        begun.push(app.ask(reqwest::Method::GET, "t/export?format=ndjson").send().await.unwrap());
    }
    for export in begun {
        assert_eq!(export.text().await.unwrap().lines().count(), MANY);
    }
    let grown = server.peak_memory().saturating_sub(before);
    assert!(grown < bytes * EXPORTS as u64 / 4, "{grown} bytes more for {EXPORTS} exports of {bytes} each");
}
