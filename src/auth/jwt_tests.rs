//! Tables of tokens: good ones, foreign ones and hostile ones.

use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;
use serde_json::json;

use super::*;

const SECRET: &str = "a secret of at least thirty-two bytes";
/// 2026-01-01.
const NOW_S: u64 = 1_767_225_600;

fn test_key(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/keys").join(name)
}

fn config() -> AuthConfig {
    AuthConfig {
        key: None,
        audience: vec![],
        issuer: vec![],
        leeway: Duration::from_secs(5),
        grace: Duration::ZERO,
        within: Duration::from_secs(60),
        hold_refused: Duration::ZERO,
        allowed_origins: vec![],
        callback: None,
        keep_revoked: Duration::ZERO,
    }
}

fn verifier(source: &KeySource) -> Verifier {
    Verifier::new(source, &config(), Clock::start()).unwrap()
}

fn of_secret() -> Verifier {
    verifier(&KeySource::Secret(Secret::new(SECRET)))
}

fn encode(part: &str) -> String {
    URL_SAFE_NO_PAD.encode(part)
}

/// Signs any text, whether it is a sound token or not.
fn sign_raw(header: &str, claims: &str, key: &EncodingKey, algorithm: Algorithm) -> String {
    let message = format!("{}.{}", encode(header), encode(claims));
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), key, algorithm).unwrap();
    format!("{message}.{signature}")
}

fn hs256(header: &str, claims: &str) -> String {
    sign_raw(header, claims, &EncodingKey::from_secret(SECRET.as_bytes()), Algorithm::HS256)
}

fn token(claims: &Value) -> String {
    hs256(r#"{"alg":"HS256","typ":"JWT"}"#, &claims.to_string())
}

fn sound() -> Value {
    json!({"sub": "alice", "exp": NOW_S + 60})
}

fn with(name: &str, value: Value) -> Value {
    let mut claims = sound();
    claims[name] = value;
    claims
}

async fn verify(verifier: &Verifier, token: &str) -> Result<Identity, ErrorCode> {
    verifier.verify(token, NOW_S * 1000).await.map_err(|error| error.code)
}

async fn code(token: &str) -> Option<ErrorCode> {
    verify(&of_secret(), token).await.err()
}

#[tokio::test]
async fn a_good_token_says_who_it_is() {
    let claims = json!({
        "sub": "alice", "exp": NOW_S + 60, "name": "Alice", "email": "a@example.org", "jti": "t1", "iat": NOW_S,
        "access": {"table:*": "write"}, "roles": ["x", {"deep": [1]}],
    });
    let identity = verify(&of_secret(), &token(&claims)).await.unwrap();
    assert_eq!(&*identity.sub, "alice");
    assert_eq!(identity.name.as_deref(), Some("Alice"));
    assert_eq!(identity.email.as_deref(), Some("a@example.org"));
    assert_eq!(identity.jti.as_deref(), Some("t1"));
    assert_eq!(identity.expires_at_ms, Some((NOW_S + 60) * 1000));
    assert_eq!(identity.level("table:T"), Level::Write);
    assert_eq!(identity.level("other"), Level::None);
    assert!(!identity.is_operator());
}

#[tokio::test]
async fn times_are_checked_with_leeway() {
    for (claims, refused) in [
        (with("exp", json!(NOW_S + 1)), None),
        (with("exp", json!(NOW_S - 4)), None),
        (with("exp", json!(NOW_S - 5)), Some(ErrorCode::AuthExpired)),
        (with("exp", json!(0)), Some(ErrorCode::AuthExpired)),
        (with("exp", json!(NOW_S as f64 + 0.5)), None),
        (with("exp", json!(-1)), Some(ErrorCode::AuthFailed)),
        (with("exp", json!(u64::MAX)), Some(ErrorCode::AuthFailed)),
        (with("exp", json!(1e300)), Some(ErrorCode::AuthFailed)),
        (with("exp", json!("tomorrow")), Some(ErrorCode::AuthFailed)),
        (with("exp", Value::Null), Some(ErrorCode::AuthFailed)),
        (with("nbf", json!(NOW_S + 5)), None),
        (with("nbf", json!(NOW_S + 6)), Some(ErrorCode::AuthFailed)),
        (with("nbf", json!(u64::MAX)), Some(ErrorCode::AuthFailed)),
        (with("iat", json!(NOW_S + 1000)), None),
        (with("iat", json!(u64::MAX)), Some(ErrorCode::AuthFailed)),
        (with("iat", json!(-1)), Some(ErrorCode::AuthFailed)),
        (with("iat", json!("today")), Some(ErrorCode::AuthFailed)),
        (json!({"sub": "alice"}), Some(ErrorCode::AuthFailed)),
    ] {
        assert_eq!(code(&token(&claims)).await, refused, "{claims}");
    }
}

#[tokio::test]
async fn claims_that_are_not_sound_are_refused() {
    let deep = "[".repeat(500) + &"]".repeat(500);
    let exp = NOW_S + 60;
    for claims in [
        json!({"exp": exp}).to_string(),
        with("sub", json!("")).to_string(),
        with("sub", json!("a\nb")).to_string(),
        with("sub", json!(7)).to_string(),
        with("sub", json!("x".repeat(251))).to_string(),
        with("name", json!("x".repeat(1025))).to_string(),
        with("name", json!({"first": "A"})).to_string(),
        with("access", json!({"*": "owner"})).to_string(),
        with("access", json!({"*": {"*": "admin"}})).to_string(),
        with("access", json!("admin")).to_string(),
        format!(r#"{{"sub":"alice","sub":"bob","exp":{exp}}}"#),
        format!(r#"{{"sub":"alice","exp":1,"exp":{exp}}}"#),
        format!(r#"{{"sub":"alice","exp":{exp},"access":{{"*":"read","*":"admin"}}}}"#),
        format!(r#"{{"sub":"alice","exp":{exp},"access":{{}},"access":{{"*":"admin"}}}}"#),
        format!(r#"{{"sub":"alice","exp":{exp},"access":{deep}}}"#),
        "[]".into(),
        "null".into(),
        "{".into(),
        String::new(),
    ] {
        assert_eq!(code(&hs256(r#"{"alg":"HS256"}"#, &claims)).await, Some(ErrorCode::AuthFailed), "{claims:.200}");
    }
}

#[tokio::test]
async fn deep_claims_of_others_are_skipped_without_recursion() {
    let deep = "[".repeat(5000) + &"]".repeat(5000);
    let exp = NOW_S + 60;
    let claims = format!(r#"{{"sub":"alice","exp":{exp},"other":{deep}}}"#);
    assert_eq!(code(&hs256(r#"{"alg":"HS256"}"#, &claims)).await, None);
    let header = format!(r#"{{"alg":"HS256","other":{deep}}}"#);
    assert_eq!(code(&hs256(&header, &sound().to_string())).await, Some(ErrorCode::AuthFailed));
}

#[tokio::test]
async fn headers_do_not_choose_the_algorithm() {
    let claims = sound().to_string();
    for header in [
        r#"{"alg":"none"}"#,
        r#"{"alg":"None"}"#,
        r#"{"alg":""}"#,
        r#"{"alg":null}"#,
        r#"{"alg":["HS256"]}"#,
        r#"{"alg":"hs256"}"#,
        r#"{"alg":"HS256","alg":"none"}"#,
        r#"{"alg":"HS384"}"#,
        r#"{"alg":"HS512"}"#,
        r#"{"alg":"RS256"}"#,
        r#"{"alg":"EdDSA"}"#,
        r#"{"alg":"HS256","crit":["exp"]}"#,
        r#"{"typ":"JWT"}"#,
        "{}",
        "",
    ] {
        assert_eq!(code(&hs256(header, &claims)).await, Some(ErrorCode::AuthFailed), "{header}");
        let unsigned = format!("{}.{}.", encode(header), encode(&claims));
        assert_eq!(code(&unsigned).await, Some(ErrorCode::AuthFailed), "unsigned {header}");
    }
    for header in [r#"{"alg":"HS256","kid":"../../../../dev/null"}"#, r#"{"alg":"HS256","jku":"http://evil.example"}"#]
    {
        assert_eq!(code(&hs256(header, &claims)).await, None, "{header} changes nothing");
    }
}

#[tokio::test]
async fn what_is_no_token_is_refused() {
    let good = token(&sound());
    let (start, signature) = good.rsplit_once('.').unwrap();
    let flipped = if signature.starts_with('A') { 'B' } else { 'A' };
    for text in [
        String::new(),
        ".".into(),
        "..".into(),
        "a.b.c".into(),
        "ü.ü.ü".into(),
        format!("{good}."),
        format!(".{good}"),
        format!("{good}\n"),
        format!("Bearer {good}"),
        start.to_owned(),
        format!("{start}."),
        format!("{start}.{flipped}{}", &signature[1..]),
        "a".repeat(TOKEN_BYTES_MAX + 1),
        token(&with("filler", json!("x".repeat(TOKEN_BYTES_MAX)))),
        ".".repeat(TOKEN_BYTES_MAX),
    ] {
        assert_eq!(code(&text).await, Some(ErrorCode::AuthFailed), "{text:.100}");
    }
    assert_eq!(code(&good).await, None);
    let foreign = EncodingKey::from_secret(b"another secret");
    let foreign = sign_raw(r#"{"alg":"HS256"}"#, &sound().to_string(), &foreign, Algorithm::HS256);
    assert_eq!(code(&foreign).await, Some(ErrorCode::AuthFailed));
}

#[tokio::test]
async fn messages_quote_nothing_of_the_token() {
    for claims in [with("sub", json!("hunter2\n")), with("access", json!({"hunter2": "hunter2"}))] {
        let error = of_secret().verify(&token(&claims), NOW_S * 1000).await.unwrap_err();
        assert!(!error.message.contains("hunter2"), "{error}");
    }
}

#[tokio::test]
async fn audience_and_issuer_are_checked_when_configured() {
    let config = AuthConfig { audience: vec!["us".into(), "we".into()], issuer: vec!["idp".into()], ..config() };
    let strict = Verifier::new(&KeySource::Secret(Secret::new(SECRET)), &config, Clock::start()).unwrap();
    for (aud, iss, fine) in [
        (json!("us"), json!("idp"), true),
        (json!(["them", "we"]), json!("idp"), true),
        (json!("them"), json!("idp"), false),
        (json!([]), json!("idp"), false),
        (Value::Null, json!("idp"), false),
        (json!("us"), json!("other"), false),
        (json!("us"), Value::Null, false),
        (json!(7), json!("idp"), false),
    ] {
        let mut claims = sound();
        claims["aud"] = aud;
        claims["iss"] = iss;
        assert_eq!(verify(&strict, &token(&claims)).await.is_ok(), fine, "{claims}");
    }
    assert_eq!(code(&token(&with("aud", json!("anybody")))).await, None, "not configured, not checked");
}

#[tokio::test]
async fn each_public_key_takes_its_own_algorithm_only() {
    let read = |name: &str| std::fs::read(test_key(name)).unwrap();
    let signers = [
        (Algorithm::RS256, EncodingKey::from_rsa_pem(&read("rsa-private.pem")).unwrap(), "rsa-public.pem"),
        (Algorithm::ES256, EncodingKey::from_ec_pem(&read("ec-private.pem")).unwrap(), "ec-public.pem"),
        (Algorithm::EdDSA, EncodingKey::from_ed_pem(&read("ed-private.pem")).unwrap(), "ed-public.pem"),
    ];
    for (_, _, public) in &signers {
        let verifier = verifier(&KeySource::PublicKeyFile(test_key(public)));
        for (algorithm, key, own) in &signers {
            let text = jsonwebtoken::encode(&Header::new(*algorithm), &sound(), key).unwrap();
            assert_eq!(verify(&verifier, &text).await.is_ok(), own == public, "{algorithm:?} with {public}");
        }
        // The classic: the public key, which everybody knows, as a shared secret.
        let confused = EncodingKey::from_secret(&read(public));
        let text = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &sound(), &confused).unwrap();
        assert!(verify(&verifier, &text).await.is_err(), "{public} as a secret");
    }
    let other = jsonwebtoken::encode(&Header::new(Algorithm::RS384), &sound(), &signers[0].1).unwrap();
    assert!(verify(&verifier(&KeySource::PublicKeyFile(test_key("rsa-public.pem"))), &other).await.is_err());
}

#[test]
fn files_that_are_no_good_key_are_named() {
    let empty = tempfile::NamedTempFile::new().unwrap();
    for (path, part) in [
        (test_key("rsa-private.pem"), "private key"),
        (test_key("rsa-1024-public.pem"), "not a public key in PEM"),
        (test_key("ec-p384-public.pem"), "not a public key in PEM"),
        (test_key("README.md"), "not a public key in PEM"),
        (test_key("missing.pem"), "cannot read"),
        (empty.path().to_owned(), "not a public key in PEM"),
    ] {
        let error = Verifier::new(&KeySource::PublicKeyFile(path.clone()), &config(), Clock::start()).err().unwrap();
        let name = path.file_name().unwrap().to_str().unwrap();
        assert!(error.0.contains(part) && error.0.contains(name), "{error}");
    }
    for text in ["", "{}", r#"{"keys":[]}"#, r#"{"keys":[{"kty":"oct","k":"c2VjcmV0"}]}"#, r#"{"keys":[1,null]}"#] {
        std::fs::write(empty.path(), text).unwrap();
        let source = KeySource::JwksFile(empty.path().to_owned());
        assert!(Verifier::new(&source, &config(), Clock::start()).is_err(), "{text}");
    }
}

#[tokio::test]
async fn a_minted_token_is_good_here() {
    let access = [("table:*".to_owned(), Level::Write)].into();
    let new =
        NewToken { sub: "alice", iat: NOW_S, exp: NOW_S + 60, name: Some("Alice"), email: None, jti: None, access };
    let text = mint(&Secret::new(SECRET), &new).unwrap();
    let identity = verify(&of_secret(), &text).await.unwrap();
    assert_eq!((&*identity.sub, identity.level("table:T")), ("alice", Level::Write));
    assert!(mint(&Secret::new(SECRET), &NewToken { sub: "", ..new }).is_err());
}
