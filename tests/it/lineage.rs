//! A document is deleted and made anew under the same name. Whoever comes back with a copy of the former one is told so, and
//! nothing of it returns.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use reqwest::Client;
use reqwest::Response;
use serde_json::Value;
use serde_json::json;
use syncline_protocol::channel::DocumentMessage;
use syncline_protocol::hocuspocus;
use syncline_protocol::hocuspocus::Address;
use tokio_tungstenite::tungstenite::Message;
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
use crate::server::Setup;
use crate::support::socket::Closed;
use crate::support::socket::Socket;

const EMPTY: &[u8] = &[0, 0];

/// A copy of a document, as a page has one.
struct Page(Doc);

impl Page {
    fn new(client: u64) -> Self {
        Self(Doc::with_client_id(client))
    }

    /// Another copy, with what `self` has.
    fn copied(&self, client: u64) -> Self {
        let copy = Self::new(client);
        copy.hear(&self.state());
        copy
    }

    /// Types at the end. Answers the change.
    fn types(&self, text: &str) -> Vec<u8> {
        let before = self.clocks();
        let root = self.0.get_or_insert_text("text");
        root.push(&mut self.0.transact_mut(), text);
        self.since(&before)
    }

    /// Removes the first letter. Answers the change.
    fn erases(&self) -> Vec<u8> {
        let before = self.clocks();
        let root = self.0.get_or_insert_text("text");
        root.remove_range(&mut self.0.transact_mut(), 0, 1);
        self.since(&before)
    }

    fn hear(&self, update: &[u8]) {
        self.0.transact_mut().apply_update(Update::decode_v1(update).unwrap()).unwrap();
    }

    fn clocks(&self) -> StateVector {
        self.0.transact().state_vector()
    }

    fn since(&self, before: &StateVector) -> Vec<u8> {
        self.0.transact().encode_diff_v1(before)
    }

    fn state(&self) -> Vec<u8> {
        self.since(&StateVector::default())
    }

    fn step1(&self) -> DocumentMessage {
        DocumentMessage::SyncStep1(self.clocks().encode_v1().into())
    }

    fn text(&self) -> String {
        let root = self.0.get_or_insert_text("text");
        root.get_string(&self.0.transact())
    }
}

async fn create(server: &Server, doc: &str, template: &[u8]) {
    let created = Client::new().put(server.url(&format!("/v1/docs/{doc}"))).body(template.to_vec()).send().await;
    assert_eq!(created.unwrap().status(), 201);
}

async fn delete(server: &Server, doc: &str) {
    let deleted = Client::new().delete(server.url(&format!("/v1/docs/{doc}"))).send().await.unwrap();
    assert_eq!(deleted.status(), 204);
}

async fn merge(server: &Server, doc: &str, update: Vec<u8>) -> Response {
    Client::new().post(server.url(&format!("/v1/docs/{doc}/updates"))).body(update).send().await.unwrap()
}

/// Another life under the same name, in which somebody has typed `text`.
async fn again(server: &Server, doc: &str, page: &Page, text: &str) {
    delete(server, doc).await;
    create(server, doc, EMPTY).await;
    assert_eq!(merge(server, doc, page.types(text)).await.status(), 200);
}

async fn text(server: &Server, doc: &str) -> String {
    let state = reqwest::get(server.url(&format!("/v1/docs/{doc}/state"))).await.unwrap();
    let page = Page::new(99);
    page.hear(&state.bytes().await.unwrap());
    page.text()
}

async fn said(server: &Server, doc: &str, messages: Vec<DocumentMessage>) -> Socket {
    let mut socket = server.ws(doc, None).await;
    socket.greeted().await.unwrap();
    for message in messages {
        socket.send(&message).await;
    }
    socket
}

fn stale() -> Closed {
    (4409, "STALE_HISTORY".to_owned())
}

async fn assert_stale(response: Response) {
    let status = response.status().as_u16();
    let body: Value = response.json().await.unwrap();
    assert_eq!((status, body["code"].as_str()), (409, Some("STALE_HISTORY")), "{body}");
}

/// The copy comes to the door as pages do.
async fn assert_refused(server: &Server, doc: &str, copy: &Page) {
    assert_eq!(said(server, doc, vec![copy.step1()]).await.closed().await, stale());
}

async fn assert_welcome(server: &Server, doc: &str, copy: &Page) {
    let mut socket = said(server, doc, vec![copy.step1()]).await;
    let update = copy.types("+");
    socket.update(update.clone()).await;
    assert_eq!(socket.acknowledged(&update).await, Ok(()));
}

#[tokio::test]
async fn a_copy_of_a_deleted_document_is_refused_whatever_it_says() {
    let server = Server::dev().await;
    let (old, new) = (Page::new(11), Page::new(22));
    create(&server, "plan", &{
        old.types("old");
        old.state()
    })
    .await;
    let mut reader = said(&server, "plan", vec![old.step1()]).await;
    delete(&server, "plan").await;
    assert_eq!(reader.closed().await.0, 4404, "who was there is told that it is gone");
    create(&server, "plan", EMPTY).await;
    assert_eq!(merge(&server, "plan", new.types("new")).await.status(), 200);
    let mut bystander = said(&server, "plan", vec![new.step1()]).await;

    let (empty, state) = (DocumentMessage::SyncStep1(vec![0].into()), Bytes::from(old.state()));
    let relative = old.copied(33);
    let update = |update: Vec<u8>| DocumentMessage::Update(update.into());
    let mixed = new.copied(44);
    mixed.hear(&old.state());
    for (how, messages) in [
        ("its step 1", vec![old.step1()]),
        ("a step 1 of it and of us", vec![mixed.step1()]),
        ("its state, in answer", vec![empty.clone(), DocumentMessage::SyncStep2(state.clone())]),
        ("its state, unasked", vec![DocumentMessage::Update(state)]),
        ("its state, with ours", vec![update(mixed.state())]),
        ("a new edit of it", vec![empty.clone(), update(old.copied(11).types("er"))]),
        ("an edit by somebody else, built on it", vec![empty.clone(), update(relative.types("er"))]),
        ("a deletion in it", vec![empty, update(old.copied(55).erases())]),
    ] {
        assert_eq!(said(&server, "plan", messages).await.closed().await, stale(), "{how}");
        assert_eq!(text(&server, "plan").await, "new", "{how}");
    }

    assert_stale(merge(&server, "plan", old.state()).await).await;
    assert_stale(merge(&server, "plan", mixed.state()).await).await;
    let sv = URL_SAFE_NO_PAD.encode(old.clocks().encode_v1());
    assert_stale(reqwest::get(server.url(&format!("/v1/docs/plan/state?sv={sv}"))).await.unwrap()).await;

    let update = new.types("er");
    bystander.update(update.clone()).await;
    assert_eq!(bystander.acknowledged(&update).await, Ok(()), "nobody else is disturbed");
    assert_welcome(&server, "plan", &Page::new(66)).await;
    assert_eq!(text(&server, "plan").await.replace('+', ""), "newer");
}

#[tokio::test]
async fn it_is_known_after_crashes_and_compactions_and_in_later_lives() {
    let setup = Setup::dev().set("STORE__COMPACT_BYTES", 1024);
    let mut server = setup.start().await;
    let old = Page::new(11);
    create(&server, "plan", EMPTY).await;
    assert_eq!(merge(&server, "plan", old.types("old")).await.status(), 200);

    // Deleted by a process that has never had it in memory.
    server = server.restart().await;
    let second = Page::new(22);
    again(&server, "plan", &second, "second").await;
    assert_refused(&server, "plan", &old).await;
    server = server.restart().await;
    assert_refused(&server, "plan", &old).await;

    let mut writer = said(&server, "plan", vec![second.step1()]).await;
    while compactions(&server).await == 0 {
        let update = second.types(&"more ".repeat(200));
        writer.update(update.clone()).await;
        writer.acknowledged(&update).await.unwrap();
    }
    drop(writer);
    assert_refused(&server, "plan", &old).await;
    server = server.restart().await;
    assert_refused(&server, "plan", &old).await;

    let third = Page::new(33);
    again(&server, "plan", &third, "third").await;
    server = server.restart().await;
    for copy in [&old, &second] {
        assert_refused(&server, "plan", copy).await;
    }
    assert_welcome(&server, "plan", &third).await;
    assert_eq!(text(&server, "plan").await, "third+");
}

async fn compactions(server: &Server) -> u64 {
    let metrics = reqwest::get(server.url("/metrics")).await.unwrap().text().await.unwrap();
    let line = metrics.lines().find_map(|line| line.strip_prefix("syncline_compactions_total "));
    line.and_then(|value| value.parse().ok()).unwrap_or(0)
}

#[tokio::test]
async fn a_copy_that_a_document_is_made_from_is_its_own_history() {
    let server = Server::dev().await;
    let backup = Page::new(11);
    backup.types("kept");
    create(&server, "plan", &backup.state()).await;
    let later = backup.copied(22);
    assert_eq!(merge(&server, "plan", later.types(" and lost")).await.status(), 200);
    delete(&server, "plan").await;
    create(&server, "plan", &backup.state()).await;

    assert_refused(&server, "plan", &later).await;
    assert_stale(merge(&server, "plan", later.state()).await).await;
    assert_welcome(&server, "plan", &backup).await;
    assert_eq!(text(&server, "plan").await, "kept+");

    // And it is remembered as part of this life too.
    again(&server, "plan", &Page::new(33), "fresh").await;
    assert_refused(&server, "plan", &backup).await;
}

#[tokio::test]
async fn a_reader_with_an_old_copy_would_see_both_and_is_told() {
    let server = Server::with_secret().await;
    let ask = |method: reqwest::Method, body: Vec<u8>| {
        let token = server.token("operator", json!({"plan": "admin"}));
        Client::new().request(method, server.url("/v1/docs/plan")).bearer_auth(token).body(body).send()
    };
    let old = Page::new(11);
    old.types("old");
    assert_eq!(ask(reqwest::Method::PUT, old.state()).await.unwrap().status(), 201);
    assert_eq!(ask(reqwest::Method::DELETE, vec![]).await.unwrap().status(), 204);
    assert_eq!(ask(reqwest::Method::PUT, vec![]).await.unwrap().status(), 201);
    let token = server.token("rita", json!({"plan": "read"}));
    let mut reader = server.ws("plan", Some(&token)).await;
    reader.send(&old.step1()).await;
    assert_eq!(reader.closed().await, stale());
}

/// One socket carries many documents: only the stale one ends, and it is said why.
#[tokio::test]
async fn a_channel_beside_it_goes_on() {
    let server = Server::dev().await;
    let old = Page::new(11);
    old.types("old");
    create(&server, "plan", &old.state()).await;
    again(&server, "plan", &Page::new(22), "new").await;

    let mut socket = Socket::open(&format!("ws://{}/collab", *server.address().borrow())).await;
    let send = |doc: &str, message: &DocumentMessage| {
        Message::Binary(hocuspocus::encode_client(&Address::parse(doc.as_bytes()).unwrap(), message))
    };
    for doc in ["other", "plan"] {
        let address = Address::parse(doc.as_bytes()).unwrap();
        socket.send_raw(Message::Binary(hocuspocus::encode_token(&address, "any", Some("4.8.0")))).await;
    }
    socket.send_raw(send("plan", &old.step1())).await;
    socket.send_raw(send("plan", &DocumentMessage::SyncStep2(old.state().into()))).await;
    let denied = |frame: &[u8]| frame.windows(13).any(|window| window == b"STALE_HISTORY");
    loop {
        let frame = socket.next().await.expect("the socket stays");
        assert!(!frame.windows(3).any(|window| window == b"new"), "it is told nothing of the new content");
        if denied(&frame) {
            break;
        }
    }
    let update = old.types("er");
    socket.send_raw(send("other", &DocumentMessage::Update(old.state().into()))).await;
    socket.send_raw(send("plan", &DocumentMessage::Update(update.into()))).await;
    socket.send_raw(send("other", &DocumentMessage::SyncStep1(vec![0].into()))).await;
    while !socket.next().await.expect("the socket stays").windows(5).any(|window| window == b"older") {}
    assert_eq!(text(&server, "plan").await, "new");
    assert_eq!(text(&server, "other").await, "older");
}

#[tokio::test]
async fn what_an_operator_imports_is_not_foreign() {
    let setup = Setup::dev();
    let server = setup.start().await;
    let (old, forgotten) = (Page::new(11), Page::new(12));
    old.types("old");
    create(&server, "plan", &old.state()).await;
    assert_eq!(merge(&server, "plan", forgotten.types("!")).await.status(), 200);
    delete(&server, "plan").await;
    let _ = server.sigterm().await;
    let file = setup.data_dir().join("backup");
    std::fs::write(&file, old.state()).unwrap();
    let imported = setup.doc_command(&["import", "plan", "--input", file.to_str().unwrap()]).await;
    assert!(imported.status.success(), "{}", imported.stderr);
    let server = setup.start().await;
    assert_refused(&server, "plan", &forgotten).await;
    assert_welcome(&server, "plan", &old).await;
    assert_eq!(text(&server, "plan").await, "old+");
}
