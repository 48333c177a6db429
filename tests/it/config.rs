//! Every mistake in the configuration is one clear line, and exit code 2.

use crate::cli::syncline;
use crate::cli::text;

const SECRET: (&str, &str) = ("SYNCLINE_AUTH__SECRET", "a secret of at least thirty-two bytes");

#[test]
fn check_config_prints_the_effective_configuration() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "data_dir = 'from-file'\n[limits]\nconnections = 0\n").unwrap();
    let path = file.path().to_str().unwrap();
    let output = syncline(&["check-config", "--config", path, "--listen", "127.0.0.1:0"], &[SECRET]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let shown = text(&output.stdout);
    assert!(!shown.contains("thirty-two") && !text(&output.stderr).contains("thirty-two"));
    let table: toml::Table = shown.parse().unwrap();
    assert_eq!(table["listen"].as_str(), Some("127.0.0.1:0"));
    assert_eq!(table["data_dir"].as_str(), Some("from-file"));
    assert_eq!(table["limits"]["connections"].as_integer(), Some(0));
    assert_eq!(table["auth"]["secret"].as_str(), Some("[hidden]"));
}

#[test]
fn a_short_secret_is_warned_about() {
    let output = syncline(&["check-config"], &[("SYNCLINE_AUTH__SECRET", "short")]);
    assert_eq!(output.status.code(), Some(0));
    assert!(text(&output.stderr).contains("warning: auth.secret has 5 bytes"), "{}", text(&output.stderr));
}

#[test]
fn mistakes_are_one_line_and_code_2() {
    let private = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/keys/ed-private.pem");
    for (arguments, variables, part) in [
        (&[][..], &[][..], "SYNCLINE_AUTH__SECRET"),
        (&["--dev", "--listen", "0.0.0.0:0"], &[], "--dev lets everyone in"),
        (&["--config", "/does/not/exist.toml"], &[SECRET], "cannot read /does/not/exist.toml"),
        (&["--listen", "8080"], &[SECRET], "from the flag --listen: expected an address and a port"),
        (&[], &[SECRET, ("SYNCLINE_LIMITS__CONECTIONS", "1")], "did you mean SYNCLINE_LIMITS__CONNECTIONS?"),
        (&[], &[SECRET, ("SYNCLINE_AUTH__JWKS_FILE", "x")], "auth.secret and auth.jwks_file are set together"),
        (&[], &[("SYNCLINE_AUTH__PUBLIC_KEY_FILE", private)], "is a private key"),
        (&[], &[("SYNCLINE_AUTH__JWKS_FILE", "/does/not/exist")], "cannot read /does/not/exist"),
        (&[], &[SECRET, ("SYNCLINE_BUS__URL", "redis+sentinel://u:hunter2@h")], "Sentinel is not asked"),
    ] {
        for command in ["serve", "check-config"] {
            let arguments: Vec<_> = [command].iter().chain(arguments).copied().collect();
            let output = syncline(&arguments, variables);
            let said = text(&output.stderr);
            assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
            assert_eq!(said.lines().count(), 1, "{said}");
            assert!(said.starts_with("syncline: ") && said.contains(part), "{arguments:?}: {said}");
            assert!(!said.contains("hunter2") && !said.contains("thirty-two"), "{said}");
            assert!(output.stdout.is_empty());
        }
    }
}
