//! The real program: what it prints, and with which code it ends.

use std::process::Command;
use std::process::Output;

use syncline::auth::Auth;
use syncline::auth::Level;
use syncline::clock::Clock;
use syncline::config;
use syncline::config::Sources;

const SECRET: (&str, &str) = ("SYNCLINE_AUTH__SECRET", "a secret of at least thirty-two bytes");

pub(crate) fn syncline(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_syncline"))
        .args(arguments)
        .env_clear()
        .envs(variables.iter().copied())
        .output()
        .expect("the program starts")
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("output is UTF-8")
}

#[test]
fn version_and_help_are_fine() {
    let version = syncline(&["--version"], &[]);
    assert_eq!(version.status.code(), Some(0));
    assert_eq!(text(&version.stdout).trim(), concat!("syncline ", env!("CARGO_PKG_VERSION")));
    let help = syncline(&["doc", "--help"], &[]);
    assert_eq!(help.status.code(), Some(0));
    for word in ["list", "export", "import", "verify"] {
        assert!(text(&help.stdout).contains(word), "{word}");
    }
}

#[tokio::test]
async fn a_token_opens_what_it_was_made_for() {
    let arguments = [
        "token",
        "--sub",
        "alice",
        "--access",
        "table:*=write,doc=read",
        "--access",
        "x=none",
        "--name",
        "Alice",
        "--jti",
        "t1",
    ];
    let made = syncline(&arguments, &[SECRET]);
    assert_eq!(made.status.code(), Some(0), "{}", text(&made.stderr));
    let environment = vec![(SECRET.0.to_owned(), SECRET.1.to_owned())];
    let config = config::load(&Sources { environment, ..Sources::default() }).unwrap().config;
    let auth = Auth::new(&config.auth, false, Clock::start()).unwrap();
    let identity = auth.authenticate(Some(text(&made.stdout).trim())).await.unwrap();
    assert_eq!(
        (&*identity.sub, identity.name.as_deref(), identity.jti.as_deref()),
        ("alice", Some("Alice"), Some("t1"))
    );
    // An hour is the default, to the second.
    assert_eq!(identity.expires_at_ms.unwrap() - identity.issued_at_ms.expect("it says when it was made"), 3_600_000);
    for (name, level) in [("table:T", Level::Write), ("doc", Level::Read), ("x", Level::None)] {
        assert_eq!(auth.authorize(&identity, name).await, Ok(level), "{name}");
    }
}

#[test]
fn wrong_arguments_are_usage_errors() {
    for (arguments, part) in [
        (&["token", "--sub", "a", "--access", "x=owner"][..], "PATTERN=LEVEL"),
        (&["token", "--sub", "a", "--ttl", "soon"], "90s, 15m, 1h or 7d"),
        (&["token", "--sub", ""], "sub needs"),
        (&["token"], "--sub"),
        (&["serv"], "serve"),
        (&["doc", "export", "user:alice"], "rooms, not documents"),
        (&[], "Usage"),
    ] {
        let output = syncline(arguments, &[SECRET]);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(text(&output.stderr).contains(part), "{arguments:?}: {}", text(&output.stderr));
    }
}

#[test]
fn a_token_needs_a_shared_secret() {
    let key = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/keys/ed-public.pem");
    for (variables, part) in [
        (&[("SYNCLINE_AUTH__PUBLIC_KEY_FILE", key)][..], "only the owner of the private key"),
        (&[], "SYNCLINE_AUTH__SECRET"),
    ] {
        let output = syncline(&["token", "--sub", "a"], variables);
        assert_eq!(output.status.code(), Some(2));
        assert!(text(&output.stderr).contains(part), "{}", text(&output.stderr));
    }
}
