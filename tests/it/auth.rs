//! Keys that somebody else rotates: a provider of key sets is a small server here.

use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use jsonwebtoken::Algorithm;
use jsonwebtoken::EncodingKey;
use jsonwebtoken::Header;
use jsonwebtoken::jwk::Jwk;
use serde_json::Value;
use serde_json::json;
use syncline::auth::Auth;
use syncline::clock::Clock;
use syncline::config;
use syncline::config::Config;
use syncline::config::Sources;
use syncline_protocol::ErrorCode;

struct Provider {
    url: String,
    answer: Arc<Mutex<(StatusCode, String)>>,
    asked: Arc<AtomicUsize>,
}

impl Provider {
    async fn start() -> Self {
        let answer = Arc::new(Mutex::new((StatusCode::OK, String::new())));
        let asked = Arc::new(AtomicUsize::new(0));
        let (replies, count) = (Arc::clone(&answer), Arc::clone(&asked));
        let reply = move || {
            count.fetch_add(1, Ordering::SeqCst);
            let reply = replies.lock().unwrap().clone();
            async move { reply }
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/keys", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, Router::new().route("/keys", get(reply))).await });
        Self { url, answer, asked }
    }

    fn answer(&self, status: u16, body: String) {
        *self.answer.lock().unwrap() = (StatusCode::from_u16(status).unwrap(), body);
    }

    fn auth(&self) -> Auth {
        auth("SYNCLINE_AUTH__JWKS_URL", &self.url)
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

fn configured(variable: &str, value: &str) -> Config {
    let environment = vec![(variable.to_owned(), value.to_owned())];
    config::load(&Sources { environment, ..Sources::default() }).unwrap().config
}

fn auth(variable: &str, value: &str) -> Auth {
    Auth::new(&configured(variable, value).auth, false, Clock::start()).unwrap()
}

fn signer(algorithm: Algorithm) -> EncodingKey {
    let read = |name: &str| {
        std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/keys").join(name)).expect("a key for tests")
    };
    match algorithm {
        Algorithm::RS256 => EncodingKey::from_rsa_pem(&read("rsa-private.pem")).unwrap(),
        Algorithm::ES256 => EncodingKey::from_ec_pem(&read("ec-private.pem")).unwrap(),
        _ => EncodingKey::from_ed_pem(&read("ed-private.pem")).unwrap(),
    }
}

fn jwk(algorithm: Algorithm, id: &str) -> Value {
    let mut jwk = Jwk::from_encoding_key(&signer(algorithm), algorithm).unwrap();
    jwk.common.key_id = Some(id.into());
    serde_json::to_value(jwk).unwrap()
}

fn set(keys: &[Value]) -> String {
    json!({"keys": keys}).to_string()
}

fn token(algorithm: Algorithm, id: Option<&str>) -> String {
    let header = Header { kid: id.map(str::to_owned), ..Header::new(algorithm) };
    let claims = json!({"sub": "alice", "exp": 4_000_000_000_u64});
    jsonwebtoken::encode(&header, &claims, &signer(algorithm)).unwrap()
}

async fn code(auth: &Auth, token: &str) -> Option<ErrorCode> {
    auth.authenticate(Some(token)).await.err().map(|error| error.code)
}

#[tokio::test]
async fn keys_are_fetched_once_and_used_for_their_own_algorithm() {
    let provider = Provider::start().await;
    let keys = [jwk(Algorithm::RS256, "r"), jwk(Algorithm::ES256, "e"), jwk(Algorithm::EdDSA, "d")];
    provider.answer(200, set(&keys));
    let auth = provider.auth();
    for (algorithm, id) in [(Algorithm::RS256, "r"), (Algorithm::ES256, "e"), (Algorithm::EdDSA, "d")] {
        assert_eq!(code(&auth, &token(algorithm, Some(id))).await, None, "{algorithm:?}");
    }
    assert_eq!(code(&auth, &token(Algorithm::ES256, Some("r"))).await, Some(ErrorCode::AuthFailed));
    assert_eq!(provider.asked(), 1);
}

#[tokio::test]
async fn a_rotated_key_is_found_and_unknown_ids_do_not_flood_the_provider() {
    let provider = Provider::start().await;
    provider.answer(200, set(&[jwk(Algorithm::ES256, "old")]));
    let auth = provider.auth();
    assert!(auth.refresh().await);
    assert_eq!(code(&auth, &token(Algorithm::ES256, Some("old"))).await, None);
    provider.answer(200, set(&[jwk(Algorithm::EdDSA, "new")]));
    for id in ["new", "../../etc/passwd", "http://evil.example/", ""] {
        // It was fetched just now: the answer is transient, so that an honest client comes back.
        assert_eq!(code(&auth, &token(Algorithm::EdDSA, Some(id))).await, Some(ErrorCode::Overloaded), "{id}");
    }
    assert_eq!(provider.asked(), 1);
    assert!(auth.refresh().await);
    assert_eq!(code(&auth, &token(Algorithm::EdDSA, Some("new"))).await, None);
    assert_eq!(code(&auth, &token(Algorithm::EdDSA, None)).await, None, "the only key needs no name");
    assert!(code(&auth, &token(Algorithm::ES256, Some("old"))).await.is_some(), "a withdrawn key is gone");
}

#[tokio::test]
async fn a_token_with_an_unknown_key_fetches_and_is_refused_for_good() {
    let provider = Provider::start().await;
    provider.answer(200, set(&[jwk(Algorithm::ES256, "a")]));
    assert_eq!(code(&provider.auth(), &token(Algorithm::ES256, Some("b"))).await, Some(ErrorCode::AuthFailed));
}

#[tokio::test]
async fn while_the_provider_fails_the_last_set_serves() {
    let provider = Provider::start().await;
    provider.answer(200, set(&[jwk(Algorithm::ES256, "a")]));
    let auth = provider.auth();
    assert!(auth.refresh().await);
    let too_long = format!("{{\"keys\":[],\"filler\":\"{}\"}}", "x".repeat(300 * 1024));
    for (status, body) in
        [(500, ""), (404, ""), (301, ""), (200, ""), (200, "{}"), (200, r#"{"keys":[]}"#), (200, &too_long)]
    {
        provider.answer(status, body.to_owned());
        assert!(!auth.refresh().await, "{status} {body:.30}");
        assert_eq!(code(&auth, &token(Algorithm::ES256, Some("a"))).await, None, "{status} {body:.30}");
    }
}

#[tokio::test]
async fn a_provider_that_was_never_reached_is_a_transient_refusal() {
    let provider = Provider::start().await;
    provider.answer(503, String::new());
    assert_eq!(code(&provider.auth(), &token(Algorithm::ES256, Some("a"))).await, Some(ErrorCode::Overloaded));
}

#[tokio::test]
async fn a_symmetric_key_in_a_set_is_never_used() {
    let provider = Provider::start().await;
    let shared = json!({"kty": "oct", "kid": "s", "alg": "HS256", "k": "c2VjcmV0"});
    let encryption = {
        let mut key = jwk(Algorithm::RS256, "enc");
        key["use"] = json!("enc");
        key
    };
    provider.answer(200, set(&[shared, encryption, jwk(Algorithm::ES256, "e")]));
    let auth = provider.auth();
    let header = Header { kid: Some("s".into()), ..Header::new(Algorithm::HS256) };
    let claims = json!({"sub": "alice", "exp": 4_000_000_000_u64});
    let forged = jsonwebtoken::encode(&header, &claims, &EncodingKey::from_secret(b"secret")).unwrap();
    assert_eq!(code(&auth, &forged).await, Some(ErrorCode::AuthFailed));
    assert!(code(&auth, &token(Algorithm::RS256, Some("enc"))).await.is_some());
    assert_eq!(code(&auth, &token(Algorithm::ES256, Some("e"))).await, None);
}

#[tokio::test]
async fn a_key_set_in_a_file() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), set(&[jwk(Algorithm::EdDSA, "d")])).unwrap();
    let auth = auth("SYNCLINE_AUTH__JWKS_FILE", file.path().to_str().unwrap());
    assert_eq!(code(&auth, &token(Algorithm::EdDSA, Some("d"))).await, None);
    std::fs::write(file.path(), set(&[jwk(Algorithm::ES256, "e")])).unwrap();
    assert!(auth.refresh().await);
    assert_eq!(code(&auth, &token(Algorithm::ES256, Some("e"))).await, None);
}

#[tokio::test]
async fn nobody_enters_without_a_token_but_in_development() {
    let tokens = auth("SYNCLINE_AUTH__SECRET", "a secret of at least thirty-two bytes");
    for token in [None, Some("")] {
        assert_eq!(tokens.authenticate(token).await.unwrap_err().code, ErrorCode::AuthFailed);
    }
    let dev = Auth::new(&configured("SYNCLINE_DEV", "1").auth, true, Clock::start()).unwrap();
    for token in [None, Some(""), Some("whatever")] {
        let identity = dev.authenticate(token).await.unwrap();
        assert!(identity.is_operator() && identity.expires_at_ms.is_none());
    }
    let waits = tokio::time::timeout(Duration::from_millis(1), dev.keep_fresh()).await;
    assert!(waits.is_err(), "there is nothing to keep fresh, and no end to it");
}
