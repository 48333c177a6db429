//! Documents over REST, as an application server uses them.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use reqwest::Client;
use reqwest::Method;
use reqwest::RequestBuilder;
use reqwest::Response;
use serde_json::Value;
use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use yrs::Doc;
use yrs::GetString;
use yrs::ReadTxn;
use yrs::StateVector;
use yrs::Text;
use yrs::Transact;
use yrs::Update;
use yrs::updates::decoder::Decode;
use yrs::updates::encoder::Encode;

use crate::server::Server;

/// What an editor would type, as one update.
fn typed(client: u64, text: &str) -> Vec<u8> {
    let doc = Doc::with_client_id(client);
    let root = doc.get_or_insert_text("text");
    root.push(&mut doc.transact_mut(), text);
    doc.transact().encode_state_as_update_v1(&StateVector::default())
}

/// A replica that has seen these updates.
fn replica(updates: &[&[u8]]) -> Doc {
    let doc = Doc::with_client_id(99);
    for update in updates {
        doc.transact_mut().apply_update(Update::decode_v1(update).unwrap()).unwrap();
    }
    doc
}

fn text_of(doc: &Doc) -> String {
    let root = doc.get_or_insert_text("text");
    root.get_string(&doc.transact())
}

/// Somebody who calls the server.
struct Caller<'a> {
    server: &'a Server,
    token: Option<String>,
}

impl<'a> Caller<'a> {
    fn anybody(server: &'a Server) -> Self {
        Self { server, token: None }
    }

    fn new(server: &'a Server, sub: &str, access: Value) -> Self {
        Self { server, token: Some(server.token(sub, access)) }
    }

    fn ask(&self, method: Method, path: &str) -> RequestBuilder {
        let request = Client::new().request(method, self.server.url(path));
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    async fn get(&self, path: &str) -> Response {
        self.ask(Method::GET, path).send().await.unwrap()
    }

    async fn json(&self, path: &str) -> Value {
        let response = self.get(path).await;
        assert_eq!(response.status(), 200, "{path}");
        response.json().await.unwrap()
    }

    async fn merge(&self, doc: &str, update: Vec<u8>) -> Response {
        self.ask(Method::POST, &format!("/v1/docs/{doc}/updates")).body(update).send().await.unwrap()
    }

    async fn create(&self, path: &str, template: Vec<u8>) -> Response {
        self.ask(Method::PUT, path).body(template).send().await.unwrap()
    }

    async fn delete(&self, doc: &str) -> Response {
        self.ask(Method::DELETE, &format!("/v1/docs/{doc}")).send().await.unwrap()
    }

    /// Creates documents with a few letters in each.
    async fn fill(&self, names: &[&str]) {
        for name in names {
            assert_eq!(self.create(&format!("/v1/docs/{name}?ifAbsent"), typed(1, "hello")).await.status(), 201);
        }
    }
}

/// Asserts the one shape of a refusal, and gives its data.
async fn refused(response: Response, status: u16, code: &str) -> Value {
    let got = response.status().as_u16();
    let body: Value = response.json().await.unwrap();
    assert_eq!((got, body["status"].as_str(), body["code"].as_str()), (status, Some("error"), Some(code)), "{body}");
    assert!(body["message"].as_str().is_some_and(|message| !message.is_empty()));
    body["data"].clone()
}

async fn names(caller: &Caller<'_>, path: &str) -> Vec<String> {
    let list = caller.json(path).await;
    list["docs"].as_array().unwrap().iter().map(|doc| doc["name"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn two_writers_merge_and_a_reader_sees_both() {
    let server = Server::dev().await;
    let app = Caller::anybody(&server);
    app.fill(&["letter"]).await;

    let before = app.json("/v1/docs/letter").await["revision"].as_u64().unwrap();
    let saved: Value = app.merge("letter", typed(2, " world")).await.json().await.unwrap();
    assert!(saved["revision"].as_u64().unwrap() > before);

    let state = app.get("/v1/docs/letter/state").await;
    assert_eq!(state.headers()["content-type"], "application/octet-stream");
    let seen = text_of(&replica(&[&state.bytes().await.unwrap()]));
    assert!(seen.contains("hello") && seen.contains(" world"), "{seen}");

    let content = app.json("/v1/docs/letter").await;
    assert_eq!(content["name"], "letter");
    assert_eq!(content["kind"], Value::Null);
    assert_eq!(content["revision"], saved["revision"]);
    assert_eq!(content["counts"], json!({"roots": 1, "members": 0}));
    assert!(content["bytes"].as_u64().unwrap() > 0);
    assert!(content["roots"].get("text").is_some(), "{content}");
}

#[tokio::test]
async fn a_state_vector_in_any_spelling_gets_only_what_is_missing() {
    let server = Server::dev().await;
    let app = Caller::anybody(&server);
    app.fill(&["diff"]).await;
    let first = app.get("/v1/docs/diff/state").await.bytes().await.unwrap();
    app.merge("diff", typed(2, &"long ".repeat(100))).await.error_for_status().unwrap();
    let whole = app.get("/v1/docs/diff/state").await.bytes().await.unwrap();

    let have = replica(&[&first]).transact().state_vector().encode_v1();
    let padded = STANDARD.encode(&have).replace('+', "%2B").replace('/', "%2F").replace('=', "%3D");
    for sv in [padded, URL_SAFE_NO_PAD.encode(&have)] {
        let diff = app.get(&format!("/v1/docs/diff/state?sv={sv}")).await.bytes().await.unwrap();
        assert!(diff.len() < whole.len());
        assert_eq!(text_of(&replica(&[&first, &diff])), text_of(&replica(&[&whole])));
    }
    assert_eq!(refused(app.get("/v1/docs/diff/state?sv=!").await, 400, "INVALID_PAYLOAD").await["path"], "sv");
    assert_eq!(refused(app.get("/v1/docs/diff/state?sv=AAA").await, 422, "INVALID_PAYLOAD").await["path"], "sv");
}

#[tokio::test]
async fn what_did_not_change_is_not_sent_again() {
    let server = Server::dev().await;
    let app = Caller::anybody(&server);
    app.fill(&["same"]).await;
    for path in ["/v1/docs/same", "/v1/docs/same/state"] {
        let tag = app.get(path).await.headers()["etag"].to_str().unwrap().to_owned();
        let again = app.ask(Method::GET, path).header("if-none-match", &tag).send().await.unwrap();
        assert_eq!((again.status().as_u16(), again.headers()["etag"].to_str().unwrap()), (304, tag.as_str()));
        app.merge("same", typed(tag.len() as u64 + path.len() as u64, "more")).await.error_for_status().unwrap();
        let changed = app.ask(Method::GET, path).header("if-none-match", &tag).send().await.unwrap();
        assert_eq!(changed.status(), 200);
        assert_ne!(changed.headers()["etag"].to_str().unwrap(), tag);
    }
}

#[tokio::test]
async fn creating_is_done_once_and_never_overwrites() {
    let server = Server::dev().await;
    let app = Caller::anybody(&server);
    let created = app.create("/v1/docs/a%2Fb%20%C3%BC?ifAbsent", typed(1, "template")).await;
    assert_eq!(created.status(), 201);
    let address = created.headers()["location"].to_str().unwrap().to_owned();
    assert_eq!(app.json(&address).await["name"], "a/b ü");

    assert_eq!(app.create(&format!("{address}?ifAbsent=true"), typed(2, "other")).await.status(), 200);
    refused(app.create(&address, typed(2, "other")).await, 409, "ALREADY_EXISTS").await;
    refused(app.create(&format!("{address}?ifAbsent=maybe"), vec![]).await, 422, "INVALID_PAYLOAD").await;
    let state = app.get(&format!("{address}/state")).await.bytes().await.unwrap();
    assert_eq!(text_of(&replica(&[&state])), "template");

    assert_eq!(app.create("/v1/docs/empty", vec![]).await.status(), 201);
    assert_eq!(app.json("/v1/docs/empty").await["roots"], json!({}));
}

#[tokio::test]
async fn what_is_no_update_is_refused_and_nothing_is_saved() {
    let server = Server::dev().await;
    let app = Caller::anybody(&server);
    app.fill(&["safe"]).await;
    let before = app.json("/v1/docs/safe").await;
    assert_eq!(refused(app.merge("safe", vec![]).await, 400, "INVALID_PAYLOAD").await["path"], "body");
    for bad in [&b"hello"[..], &[1], &[255; 40], &typed(1, "cut short")[..9]] {
        refused(app.merge("safe", bad.to_vec()).await, 422, "INVALID_UPDATE").await;
    }
    refused(app.create("/v1/docs/never", b"hello".to_vec()).await, 422, "INVALID_UPDATE").await;
    refused(app.get("/v1/docs/never").await, 404, "NOT_FOUND").await;
    assert_eq!(app.json("/v1/docs/safe").await, before);
}

#[tokio::test]
async fn names_that_are_no_documents_are_refused() {
    let server = Server::dev().await;
    let app = Caller::anybody(&server);
    for name in ["user:alice", "global", "a%0Ab", &"n".repeat(256)] {
        let data = refused(app.get(&format!("/v1/docs/{name}")).await, 422, "INVALID_PAYLOAD").await;
        assert_eq!(data["path"], "doc", "{name}");
    }
    refused(app.get("/v1/docs/%FF").await, 400, "INVALID_PAYLOAD").await;
}

#[tokio::test]
async fn a_deleted_document_is_gone() {
    let server = Server::dev().await;
    let app = Caller::anybody(&server);
    app.fill(&["short", "lasting"]).await;
    assert_eq!(app.delete("short").await.status(), 204);
    for path in ["/v1/docs/short", "/v1/docs/short/state", "/v1/docs/short/presence"] {
        refused(app.get(path).await, 404, "NOT_FOUND").await;
    }
    refused(app.delete("short").await, 404, "NOT_FOUND").await;
    assert_eq!(names(&app, "/v1/docs").await, ["lasting"]);
}

#[tokio::test]
async fn the_list_goes_page_by_page_without_gap_or_repetition() {
    let server = Server::dev().await;
    let app = Caller::anybody(&server);
    app.fill(&["a1", "a2", "a3", "b1", "table:T"]).await;

    let mut seen = Vec::new();
    let mut path = "/v1/docs?limit=2".to_owned();
    loop {
        let page = app.json(&path).await;
        let docs = page["docs"].as_array().unwrap();
        assert!(docs.len() <= 2);
        seen.extend(docs.iter().map(|doc| doc["name"].as_str().unwrap().to_owned()));
        let Some(cursor) = page["nextCursor"].as_str() else { break };
        path = format!("/v1/docs?limit=2&cursor={cursor}");
    }
    assert_eq!(seen, ["a1", "a2", "a3", "b1", "table:T"]);

    assert_eq!(names(&app, "/v1/docs?prefix=a").await, ["a1", "a2", "a3"]);
    let table = &app.json("/v1/docs?prefix=table:").await["docs"][0];
    assert_eq!(table["kind"], "table");
    assert!(table["bytes"].as_u64().unwrap() > 0);
    assert!(table["updatedAt"].as_str().unwrap().ends_with('Z'));
    for (query, at) in [("limit=0", "limit"), ("limit=x", "limit"), ("cursor=bg", "cursor")] {
        let data = refused(app.get(&format!("/v1/docs?{query}")).await, 422, "INVALID_PAYLOAD").await;
        assert_eq!(data["path"], at);
    }
    refused(app.get("/v1/docs?limit=1&limit=2").await, 400, "INVALID_PAYLOAD").await;
}

#[tokio::test]
async fn nobody_is_present_where_nobody_is_connected() {
    let server = Server::dev().await;
    let app = Caller::anybody(&server);
    app.fill(&["quiet"]).await;
    assert_eq!(app.json("/v1/docs/quiet/presence").await, json!({"members": []}));
}

#[tokio::test]
async fn each_right_opens_what_it_should_and_no_more() {
    let server = Server::with_secret().await;
    let admin = Caller::new(&server, "root", json!({"*": "admin"}));
    let writer = Caller::new(&server, "wendy", json!({"team/*": "write"}));
    let reader = Caller::new(&server, "rita", json!({"team/*": "read", "team/hidden": "none"}));
    let stranger = Caller::new(&server, "sam", json!({}));
    admin.fill(&["team%2Fplan", "team%2Fhidden", "other"]).await;

    refused(Caller::anybody(&server).get("/v1/docs/team%2Fplan").await, 401, "AUTH_FAILED").await;
    let plan = "/v1/docs/team%2Fplan";
    for (caller, read, write, delete) in
        [(&stranger, 403, 403, 403), (&reader, 200, 403, 403), (&writer, 200, 200, 403), (&admin, 200, 200, 204)]
    {
        for path in [plan.to_owned(), format!("{plan}/state"), format!("{plan}/presence")] {
            assert_eq!(caller.get(&path).await.status(), read, "{path}");
        }
        assert_eq!(caller.merge("team%2Fplan", typed(5, "x")).await.status(), write);
        assert_eq!(caller.create(&format!("{plan}?ifAbsent"), vec![]).await.status(), write);
        assert_eq!(caller.delete("team%2Fplan").await.status(), delete);
    }
    refused(reader.get("/v1/docs/team%2Fnot-there").await, 404, "NOT_FOUND").await;
    refused(reader.get("/v1/docs/not-there").await, 403, "FORBIDDEN").await;
}

#[tokio::test]
async fn the_list_shows_only_what_the_caller_may_read() {
    let server = Server::with_secret().await;
    let admin = Caller::new(&server, "root", json!({"*": "admin"}));
    admin.fill(&["a", "m1", "m2", "m3", "z"]).await;
    let reader = Caller::new(&server, "rita", json!({"m*": "read", "m2": "none"}));
    assert_eq!(names(&reader, "/v1/docs").await, ["m1", "m3"]);
    assert_eq!(reader.json("/v1/docs?limit=2").await["nextCursor"], Value::Null);
    assert_eq!(names(&Caller::new(&server, "sam", json!({})), "/v1/docs").await, Vec::<String>::new());
}

#[tokio::test]
async fn the_token_may_stand_in_the_query() {
    let server = Server::with_secret().await;
    let token = server.token("root", json!({"*": "admin"}));
    let anybody = Caller::anybody(&server);
    let token: String = token
        .chars()
        .map(|c| if c.is_alphanumeric() { c.to_string() } else { format!("%{:02X}", u32::from(c)) })
        .collect();
    assert_eq!(anybody.get(&format!("/v1/docs?limit=1&token={token}")).await.status(), 200);
    refused(anybody.get("/v1/docs?token=nonsense").await, 401, "AUTH_FAILED").await;
}

#[tokio::test]
async fn operators_need_admin_on_everything() {
    let server = Server::with_secret().await;
    let admin = Caller::new(&server, "root", json!({"*": "admin"}));
    let writer = Caller::new(&server, "wendy", json!({"*": "write", "team/*": "admin"}));
    refused(writer.get("/v1/admin/stats").await, 403, "FORBIDDEN").await;
    refused(writer.ask(Method::POST, "/v1/admin/drain").send().await.unwrap(), 403, "FORBIDDEN").await;
    assert_eq!(admin.json("/v1/admin/stats").await["draining"], false);
    refused(admin.get("/v1/admin/unheard-of").await, 404, "NOT_FOUND").await;
    for path in ["/healthz", "/readyz", "/metrics", "/openapi.json", "/"] {
        assert_eq!(Caller::anybody(&server).get(path).await.status(), 200, "{path}");
    }
}

#[tokio::test]
async fn answers_are_compressed_for_those_who_ask() {
    let server = Server::dev().await;
    let app = Caller::anybody(&server);
    app.create("/v1/docs/long", typed(1, &"again and ".repeat(1000))).await.error_for_status().unwrap();
    for encoding in ["gzip", "br", "zstd"] {
        let request = app.ask(Method::GET, "/v1/docs/long/state").header("accept-encoding", encoding);
        let answer = request.send().await.unwrap();
        assert_eq!(answer.headers()["content-encoding"], encoding);
        assert!(answer.bytes().await.unwrap().len() < 5_000);
    }
    assert!(app.get("/v1/docs/long/state").await.headers().get("content-encoding").is_none());
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_before_it_is_sent() {
    let server = Server::dev().await;
    let limit = 16 * 1024 * 1024;
    let url = server.url("/v1/docs/large/updates");
    let (host, path) = url.strip_prefix("http://").and_then(|rest| rest.split_once('/')).unwrap();
    let mut socket = TcpStream::connect(host).await.unwrap();
    let head =
        format!("POST /{path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", limit + 1);
    socket.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    assert!(answer.contains(&format!("\"data\":{{\"limit\":{limit}}}")), "{answer}");
}
