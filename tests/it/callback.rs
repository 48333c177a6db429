//! Asking the application for rights: what counts, how often, and what happens when it fails.

use axum::http::StatusCode;
use futures_util::FutureExt;
use futures_util::future::join_all;
use serde_json::Value;
use serde_json::json;
use syncline::auth::Auth;
use syncline::auth::AuthError;
use syncline::auth::Identity;
use syncline::auth::Level;
use syncline::auth::Mode;
use syncline::auth::Revocation;
use syncline::clock::Clock;
use syncline::config;
use syncline::config::Sources;
use syncline_protocol::ErrorCode;

use crate::server::Server;
use crate::server::Setup;
use crate::server::signed;
use crate::server::wall_seconds;
use crate::support::app::App;
use crate::support::app::Reply;
use crate::support::app::granted;
use crate::support::pad::Pad;
use crate::support::socket::Socket;

impl App {
    fn auth(&self, more: &[(&str, &str)]) -> Auth {
        auth(&self.url, more)
    }

    fn setup(&self) -> Setup {
        Setup::with_secret().set("AUTH__CALLBACK_URL", &self.url).set("AUTH__HOLD_REFUSED_SECONDS", 0)
    }
}

fn auth(url: &str, more: &[(&str, &str)]) -> Auth {
    let secret = ("SYNCLINE_AUTH__SECRET", "a secret of at least thirty-two bytes");
    let settings = [secret, ("SYNCLINE_AUTH__CALLBACK_URL", url)].into_iter().chain(more.iter().copied());
    let environment = settings.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let config = config::load(&Sources { environment, ..Sources::default() }).unwrap().config;
    Auth::new(&config.auth, false, Clock::start()).unwrap()
}

const UNCACHED: (&str, &str) = ("SYNCLINE_AUTH__CALLBACK_CACHE_SECONDS", "0");
const PATIENT: (&str, &str) = ("SYNCLINE_AUTH__CALLBACK_TIMEOUT_SECONDS", "60");
const IMPATIENT: (&str, &str) = ("SYNCLINE_AUTH__CALLBACK_TIMEOUT_SECONDS", "1");

/// A token that says nothing about access, unless `more` does.
fn token(sub: &str, more: Value) -> String {
    let mut claims = json!({"sub": sub, "iat": wall_seconds(), "exp": wall_seconds() + 3600});
    claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    signed(&claims)
}

async fn identity(auth: &Auth, sub: &str, more: Value) -> Identity {
    auth.authenticate(Some(&token(sub, more))).await.unwrap()
}

fn code(level: Result<Level, AuthError>) -> Option<ErrorCode> {
    level.err().map(|error| error.code)
}

fn operator() -> String {
    token("operator", json!({"access": {"*": "admin"}}))
}

async fn revoke(server: &Server, body: Value) {
    let request = reqwest::Client::new().post(server.url("/v1/admin/revoke")).bearer_auth(operator());
    assert_eq!(request.body(body.to_string()).send().await.unwrap().status(), 200);
}

async fn get(server: &Server, token: &str, path: &str) -> (u16, Value) {
    let response = reqwest::Client::new().get(server.url(path)).bearer_auth(token).send().await.unwrap();
    (response.status().as_u16(), response.json().await.unwrap_or_default())
}

async fn open(server: &Server, token: &str) -> Socket {
    let mut socket = server.ws("doc", Some(token)).await;
    assert_eq!(socket.greeted().await, Ok(()));
    socket
}

async fn goes_on(socket: &mut Socket, client: u64) {
    let update = Pad::new(client).paste("here");
    socket.update(update.clone()).await;
    assert_eq!(socket.acknowledged(&update).await, Ok(()));
}

// ---- what it is asked, and what counts ----------------------------------------------------------------------------

#[tokio::test]
async fn the_lower_of_token_and_application_holds() {
    let app = App::start().await;
    let auth = app.auth(&[UNCACHED]);
    for (claim, answer, want) in [
        (None, "none", Level::None),
        (None, "read", Level::Read),
        (None, "admin", Level::Admin),
        (Some("read"), "admin", Level::Read),
        (Some("admin"), "read", Level::Read),
        (Some("write"), "write", Level::Write),
        (Some("write"), "none", Level::None),
    ] {
        app.reply(granted(answer));
        let claims = claim.map_or(json!({}), |level| json!({"access": {"doc": level}}));
        let who = identity(&auth, "alice", claims).await;
        assert_eq!(auth.authorize(&who, "doc").await, Ok(want), "{claim:?} {answer}");
    }
    let before = app.asked();
    let nothing = identity(&auth, "alice", json!({"access": {"doc": "none"}})).await;
    assert_eq!(auth.authorize(&nothing, "doc").await, Ok(Level::None));
    assert_eq!(app.asked(), before, "no answer could raise it");
}

#[tokio::test]
async fn another_users_room_stays_closed_and_the_own_one_open() {
    let app = App::says("admin").await;
    let auth = app.auth(&[UNCACHED]);
    let alice = identity(&auth, "alice", json!({})).await;
    assert_eq!(auth.authorize(&alice, "user:bob").await, Ok(Level::None));
    assert_eq!(app.asked(), 0);
    assert_eq!(auth.authorize(&alice, "user:alice").await, Ok(Level::Admin));
    app.reply(granted("none"));
    assert_eq!(auth.authorize(&alice, "user:alice").await, Ok(Level::Read));
}

#[tokio::test]
async fn the_application_learns_who_asks_for_what_and_no_token() {
    let app = App::says("write").await;
    let auth = app.auth(&[]);
    let claims = json!({"name": "Alice", "email": "alice@example.org", "jti": "t1"});
    let alice = identity(&auth, "alice", claims).await;
    assert_eq!(auth.authorize(&alice, "notes/ü").await, Ok(Level::Write));
    let want = json!({"sub": "alice", "name": "Alice", "email": "alice@example.org", "jti": "t1", "room": "notes/ü"});
    assert_eq!(app.last_question(), want);
    let bob = identity(&auth, "bob", json!({})).await;
    assert_eq!(auth.authorize(&bob, "doc").await, Ok(Level::Write));
    assert_eq!(app.last_question(), json!({"sub": "bob", "room": "doc"}));
}

// ---- how often it is asked ----------------------------------------------------------------------------------------

#[tokio::test]
async fn an_answer_is_used_again_for_the_same_token_and_room() {
    let app = App::says("write").await;
    let auth = app.auth(&[]);
    let alice = identity(&auth, "alice", json!({"jti": "one"})).await;
    for _ in 0..3 {
        assert_eq!(auth.authorize(&alice, "doc").await, Ok(Level::Write));
    }
    assert_eq!(app.asked(), 1);
    app.reply(granted("read"));
    let shared_link = identity(&auth, "alice", json!({"jti": "two"})).await;
    assert_eq!(auth.authorize(&shared_link, "doc").await, Ok(Level::Read), "the other token has its own answer");
    assert_eq!(auth.authorize(&alice, "doc").await, Ok(Level::Write));
    assert_eq!(auth.authorize(&alice, "other").await, Ok(Level::Read));
    assert_eq!(app.asked(), 3);
}

#[tokio::test]
async fn many_who_want_to_know_the_same_cause_one_request() {
    let app = App::says("write").await;
    let auth = app.auth(&[UNCACHED]);
    let alice = identity(&auth, "alice", json!({})).await;
    // All are polled before the first answer can come.
    let levels = join_all((0..100).map(|_| auth.authorize(&alice, "doc"))).await;
    assert!(levels.iter().all(|level| *level == Ok(Level::Write)));
    assert_eq!(app.asked(), 1);
    assert_eq!(auth.authorize(&alice, "doc").await, Ok(Level::Write));
    assert_eq!(app.asked(), 2, "without a cache it is asked again");
}

#[tokio::test]
async fn one_who_gives_up_does_not_take_the_answer_from_the_others() {
    let app = App::says("write").await;
    app.answer_only(0);
    let auth = app.auth(&[]);
    let alice = identity(&auth, "alice", json!({})).await;
    let mut impatient = Box::pin(auth.authorize(&alice, "doc"));
    tokio::select! {
        level = &mut impatient => panic!("{level:?}"),
        () = app.until_asked(1) => {}
    }
    let mut patient = Box::pin(auth.authorize(&alice, "doc"));
    assert!((&mut patient).now_or_never().is_none());
    drop(impatient);
    app.answer_only(1);
    assert_eq!(patient.await, Ok(Level::Write));
    assert_eq!(app.asked(), 1);
    // And when all give up, the next one asks anew.
    app.answer_only(1);
    let mut alone = Box::pin(auth.authorize(&alice, "other"));
    tokio::select! {
        level = &mut alone => panic!("{level:?}"),
        () = app.until_asked(2) => {}
    }
    drop(alone);
    app.answer_only(usize::MAX);
    assert_eq!(auth.authorize(&alice, "other").await, Ok(Level::Write));
    assert_eq!(app.asked(), 3);
}

#[tokio::test]
async fn the_application_is_not_asked_more_than_it_can_take() {
    let app = App::says("write").await;
    app.answer_only(0);
    let auth = app.auth(&[PATIENT]);
    let alice = identity(&auth, "alice", json!({})).await;
    let rooms: Vec<_> = (0..200).map(|n| n.to_string()).collect();
    let mut levels = Box::pin(join_all(rooms.iter().map(|room| auth.authorize(&alice, room))));
    tokio::select! {
        levels = &mut levels => panic!("{levels:?}"),
        () = app.until_asked(64) => {}
    }
    // Whatever else could be sent would have been sent by now: each further answer lets exactly one question through.
    for answered in 1..=20 {
        app.answer_only(answered);
        tokio::select! {
            levels = &mut levels => panic!("{levels:?}"),
            () = app.until_asked(64 + answered) => {}
        }
        assert_eq!(app.asked(), 64 + answered);
    }
    app.answer_only(usize::MAX);
    assert!(levels.await.iter().all(|level| *level == Ok(Level::Write)));
    assert_eq!(app.asked(), 200);
}

#[tokio::test]
async fn after_a_revocation_nobody_gets_an_answer_of_before() {
    let app = App::says("write").await;
    let auth = app.auth(&[]);
    for revocation in
        [Revocation::User("alice".into(), Mode::Recheck), Revocation::Room("doc".into(), Mode::Disconnect)]
    {
        app.reply(granted("write"));
        let alice = identity(&auth, "alice", json!({})).await;
        assert_eq!(auth.authorize(&alice, "doc").await, Ok(Level::Write));
        app.reply(granted("read"));
        assert_eq!(auth.authorize(&alice, "doc").await, Ok(Level::Write), "it is kept");
        auth.revoke(&revocation).await.unwrap();
        assert_eq!(auth.authorize(&alice, "doc").await, Ok(Level::Read), "{revocation:?}");
        auth.revoke(&revocation).await.unwrap();
    }
}

// ---- when it fails -------------------------------------------------------------------------------------------------

#[tokio::test]
async fn whatever_is_no_answer_lets_nobody_in_and_is_asked_again() {
    let app = App::start().await;
    let auth = app.auth(&[IMPATIENT]);
    let alice = identity(&auth, "alice", json!({})).await;
    let says = |status: u16, body: &str| Reply::Says(StatusCode::from_u16(status).unwrap(), body.to_owned());
    let huge = format!("{{\"access\":\"admin\",\"filler\":\"{}\"}}", "x".repeat(1 << 20));
    for (what, reply) in [
        ("an error", says(500, r#"{"access":"admin"}"#)),
        ("a refusal by status", says(403, r#"{"access":"admin"}"#)),
        ("no body", says(200, "")),
        ("another success", says(201, r#"{"access":"admin"}"#)),
        ("no JSON", says(200, "admin")),
        ("another word", says(200, r#"{"access":"owner"}"#)),
        ("another case", says(200, r#"{"access":"ADMIN"}"#)),
        ("another type", says(200, r#"{"access":true}"#)),
        ("nothing", says(200, r#"{"access":null}"#)),
        ("another field", says(200, r#"{"level":"admin"}"#)),
        ("two answers", says(200, r#"{"access":"read","access":"admin"}"#)),
        ("a huge answer", says(200, &huge)),
        ("a redirect", Reply::SendsAway),
        ("silence", Reply::Nothing),
        ("an answer that never ends", Reply::Begins),
    ] {
        app.reply(reply);
        let before = app.asked();
        assert_eq!(code(auth.authorize(&alice, "doc").await), Some(ErrorCode::Overloaded), "{what}");
        assert_eq!(app.asked(), before + 1, "{what}");
    }
    app.reply(granted("read"));
    assert_eq!(auth.authorize(&alice, "doc").await, Ok(Level::Read));
}

#[tokio::test]
async fn nobody_at_that_address() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/may", listener.local_addr().unwrap());
    drop(listener);
    let auth = auth(&url, &[]);
    let alice = identity(&auth, "alice", json!({})).await;
    assert_eq!(code(auth.authorize(&alice, "doc").await), Some(ErrorCode::Overloaded));
}

// ---- over real ports -----------------------------------------------------------------------------------------------

#[tokio::test]
async fn while_the_application_fails_young_answers_hold_and_others_come_back_later() {
    let app = App::says("write").await;
    let server = app.setup().start().await;
    let (alice, bob) = (token("alice", json!({})), token("bob", json!({})));
    goes_on(&mut open(&server, &alice).await, 1).await;
    app.reply(Reply::Says(StatusCode::BAD_GATEWAY, String::new()));
    goes_on(&mut open(&server, &alice).await, 2).await;
    assert_eq!(server.ws("doc", Some(&bob)).await.closed().await, (4503, "OVERLOADED".to_owned()));
    let (status, body) = get(&server, &bob, "/v1/docs/doc").await;
    assert_eq!((status, body["code"].as_str()), (503, Some("OVERLOADED")));
    app.reply(granted("read"));
    assert_eq!(get(&server, &bob, "/v1/docs/doc").await.0, 200);
    let metrics = reqwest::get(server.url("/metrics")).await.unwrap().text().await.unwrap();
    for line in ["syncline_auth_callback_requests_total 4", "syncline_auth_callback_failures_total 2"] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
}

#[tokio::test]
async fn rights_that_changed_reach_who_is_there() {
    let app = App::says("write").await;
    let server = app.setup().start().await;
    let (alice, bob) = (token("alice", json!({})), token("bob", json!({})));
    let (mut writer, mut other) = (open(&server, &alice).await, open(&server, &bob).await);
    revoke(&server, json!({"sub": "alice"})).await;
    app.until_asked(3).await;
    goes_on(&mut writer, 1).await;
    app.reply(granted("read"));
    revoke(&server, json!({"sub": "alice"})).await;
    assert_eq!(writer.closed().await, (4403, "FORBIDDEN".to_owned()), "a reader must not go on believing it may write");
    goes_on(&mut other, 2).await;
    let mut reader = open(&server, &alice).await;
    app.reply(granted("none"));
    revoke(&server, json!({"room": "doc", "mode": "recheck"})).await;
    for socket in [&mut reader, &mut other] {
        assert_eq!(socket.closed().await, (4403, "FORBIDDEN".to_owned()));
    }
}

#[tokio::test]
async fn a_reader_who_may_write_now_goes_on_and_writes() {
    let app = App::says("read").await;
    let server = app.setup().start().await;
    let mut socket = open(&server, &token("alice", json!({}))).await;
    app.reply(granted("write"));
    // A connection looks once at a time: when it asks again, the document knows what it found before.
    for asked in [2, 3] {
        revoke(&server, json!({"sub": "alice"})).await;
        app.until_asked(asked).await;
    }
    goes_on(&mut socket, 1).await;
}

#[tokio::test]
async fn a_recheck_that_finds_nobody_to_ask_ends_with_a_code_to_come_back() {
    let app = App::says("write").await;
    let server = app.setup().start().await;
    let mut socket = open(&server, &token("alice", json!({}))).await;
    app.reply(Reply::SendsAway);
    revoke(&server, json!({"room": "doc"})).await;
    assert_eq!(socket.closed().await, (4503, "OVERLOADED".to_owned()));
}

#[tokio::test]
async fn operators_act_while_the_application_is_silent_and_it_makes_no_operators() {
    let app = App::says("admin").await;
    let server = app.setup().start().await;
    let alice = token("alice", json!({}));
    for path in ["/v1/admin/stats", "/v1/docs"] {
        assert_eq!(get(&server, &alice, path).await.0, 403, "{path}");
    }
    app.reply(Reply::Nothing);
    for path in ["/v1/admin/stats", "/v1/docs"] {
        assert_eq!(get(&server, &operator(), path).await.0, 200, "{path}");
    }
    assert_eq!(app.asked(), 0);
}

#[tokio::test]
async fn what_the_address_hides_is_used_and_never_said() {
    let app = App::says("write").await;
    let hidden = app.url.replace("http://", "http://user:hunter2@") + "?key=hunter3";
    let setup = app.setup().set("AUTH__CALLBACK_URL", hidden).set("LOG__LEVEL", "trace");
    let server = setup.start().await;
    let alice = token("alice", json!({}));
    drop(open(&server, &alice).await);
    let authorization = app.authorization();
    assert!(authorization.is_some_and(|value| value.starts_with("Basic ")));
    for reply in [Reply::SendsAway, Reply::Says(StatusCode::NOT_FOUND, "x".repeat(100_000))] {
        app.reply(reply);
        assert_eq!(server.ws("other", Some(&alice)).await.closed().await.0, 4503);
    }
    let ended = server.sigterm().await;
    assert!(ended.stderr.contains("callback_failed"), "{}", ended.stderr);
    for secret in ["hunter2", "hunter3", alice.as_str()] {
        assert!(!ended.stderr.contains(secret), "{}", ended.stderr);
    }
}
