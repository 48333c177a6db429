//! Tables of configurations: what they become, and what is said about wrong ones.

use super::*;

const KEY: (&str, &str) = ("SYNCLINE_AUTH__SECRET", "a secret of at least thirty-two bytes");

fn from_environment(variables: &[(&str, &str)]) -> Result<Loaded, ConfigError> {
    let environment = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    load(&Sources { environment, ..Sources::default() })
}

fn from_file(text: &str) -> Result<Loaded, ConfigError> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    load(&Sources { file: Some(file.path().to_owned()), environment: vec![own(KEY)], ..Sources::default() })
}

fn own((name, value): (&str, &str)) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

fn only_mistake(result: Result<Loaded, ConfigError>) -> String {
    let mistakes = result.expect_err("this configuration is wrong").mistakes;
    assert_eq!(mistakes.len(), 1, "{mistakes:?}");
    assert!(!mistakes[0].contains('\n'), "one line: {}", mistakes[0]);
    mistakes[0].clone()
}

#[test]
fn the_defaults_are_those_of_the_design() {
    let config = from_environment(&[KEY]).unwrap().config;
    assert_eq!(config.listen.to_string(), "127.0.0.1:8080");
    assert_eq!(config.data_dir, PathBuf::from("./data"));
    assert!(!config.dev);
    let limits = &config.limits;
    let n = |limit: Limit| limit.map_or(0, NonZeroUsize::get);
    assert_eq!(n(limits.connections), 15_000);
    assert_eq!(n(limits.connections_per_user), 100);
    assert_eq!(n(limits.failed_connects_per_minute), 10);
    assert_eq!(n(limits.message_bytes), 16 << 20);
    assert_eq!(n(limits.doc_bytes), 64 << 20);
    assert_eq!(n(limits.updates_per_second), 5000);
    assert_eq!(n(limits.updates_burst), 50_000);
    assert_eq!(limits.outbox_bytes.get(), 4 << 20);
    assert_eq!(n(limits.outbox_total_bytes), 1 << 30);
    assert_eq!(limits.held_refusals, 1000);
    assert_eq!(config.auth.hold_refused, Duration::from_secs(3));
    assert_eq!(config.auth.leeway, Duration::from_secs(5));
    assert_eq!(config.store.url, StoreUrl::Sled);
    assert_eq!(config.docs.idle, Some(Duration::from_secs(60)));
}

#[test]
fn every_setting_is_read() {
    let source = include_str!("read.rs");
    for key in KEYS {
        assert!(source.contains(&format!("\"{}\"", key.name)), "{} has no effect", key.name);
    }
}

#[test]
fn zero_switches_a_limit_off() {
    let config = from_environment(&[
        KEY,
        ("SYNCLINE_LIMITS__CONNECTIONS", "0"),
        ("SYNCLINE_LIMITS__WRITE_TIMEOUT_SECONDS", "0"),
        ("SYNCLINE_LIMITS__UPDATES_PER_SECOND", "0"),
        ("SYNCLINE_DOCS__IDLE_SECONDS", "0"),
    ])
    .unwrap()
    .config;
    assert_eq!(config.limits.connections, None);
    assert_eq!(config.limits.write_timeout, None);
    assert_eq!(config.limits.updates_per_second, None);
    assert_eq!(config.docs.idle, None);
}

#[test]
fn later_sources_win() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "listen = '127.0.0.1:1'\ndata_dir = 'file'\n[limits]\nconnections = 1\n").unwrap();
    let sources = Sources {
        file: Some(file.path().to_owned()),
        environment: vec![own(KEY), own(("SYNCLINE_LISTEN", "127.0.0.1:2")), own(("SYNCLINE_DATA_DIR", "env"))],
        flags: vec![("--listen", "listen", "127.0.0.1:3".into())],
    };
    let config = load(&sources).unwrap().config;
    assert_eq!(config.listen.port(), 3);
    assert_eq!(config.data_dir, PathBuf::from("env"));
    assert_eq!(config.limits.connections, NonZeroUsize::new(1));
}

#[test]
fn a_file_may_set_everything() {
    let config = from_file(
        "[limits]\nmessage_bytes = '1 MiB'\n[auth]\nallowed_origins = ['https://a.example']\naudience = 'x, y'\n\
         [rooms.'table:*']\nmax_clients = 5\nttl_seconds = 0\n[log]\nformat = 'json'\nlevel = 'debug'\n",
    )
    .unwrap()
    .config;
    assert_eq!(config.limits.message_bytes, NonZeroUsize::new(1 << 20));
    assert_eq!(config.auth.audience, ["x", "y"]);
    let rule =
        RoomRule { pattern: "table:*".into(), max_clients: NonZeroUsize::new(5), ttl: None, history_events: None };
    assert_eq!(config.rooms, [rule]);
    assert_eq!(config.log.format, LogFormat::Json);
    assert_eq!(config.log.level, tracing::Level::DEBUG);
}

#[test]
fn mistakes_in_a_file_are_named() {
    for (text, parts) in [
        ("lisen = 'x'", &["unknown setting lisen in ", "did you mean listen?"][..]),
        ("[limits]\nconections = 1", &["limits.conections", "did you mean limits.connections?"]),
        ("connections = 1", &["unknown setting connections", "did you mean limits.connections?"]),
        ("[colours]\nred = 1", &["unknown setting colours in "]),
        ("limits = 3", &["limits in ", "is a section"]),
        ("[limits]\nconnections = -1", &["limits.connections = -1", "expected a whole number"]),
        ("[limits]\nconnections = 'many'", &["limits.connections = \"many\"", "expected a whole number"]),
        ("[limits]\nconnections = 1.5", &["limits.connections = 1.5", "expected a whole number"]),
        ("[limits]\noutbox_bytes = 0", &["limits.outbox_bytes = 0", "expected a number of bytes from 65536"]),
        ("dev = 'yes'", &["dev = \"yes\"", "expected true or false"]),
        ("listen = '8080'", &["listen = \"8080\"", "127.0.0.1:8080"]),
        ("listen = [1]", &["listen = [1]", "expected an address"]),
        ("[auth]\nleeway_seconds = 100000", &["auth.leeway_seconds", "from 0 to 300"]),
        ("[auth]\nallowed_origins = ['app.example']", &["auth.allowed_origins", "app.example"]),
        ("[log]\nformat = 'xml'", &["log.format = \"xml\"", "one of auto, json, pretty"]),
        ("[rooms.'a*']\nmax_client = 1", &["rooms.\"a*\".max_client", "did you mean max_clients?"]),
        ("[rooms]\nmax_clients = 1", &["rooms.\"max_clients\"", "table"]),
        ("[store]\nurl = 'mysql://u:hunter2@h/'", &["store.url", "[hidden]@h", "expected \"sled:\""]),
        ("a = 1\n\n= 2", &["line 3"]),
        ("a = 1\na = 2", &["line 2", "duplicate key"]),
    ] {
        let mistake = only_mistake(from_file(text));
        for part in parts {
            assert!(mistake.contains(part), "{text:?} gave {mistake:?}, without {part:?}");
        }
        assert!(!mistake.contains("hunter2"), "{mistake}");
    }
}

#[test]
fn mistakes_in_the_environment_are_named() {
    for (variable, value, parts) in [
        ("SYNCLINE_AUTH_SECRET", "hunter2", &["did you mean SYNCLINE_AUTH__SECRET?"][..]),
        ("SYNCLINE_LISTENN", "x", &["unknown setting listenn", "SYNCLINE_LISTENN", "did you mean SYNCLINE_LISTEN?"]),
        ("SYNCLINE_listen", "127.0.0.1:1", &["SYNCLINE_listen", "did you mean SYNCLINE_LISTEN?"]),
        ("SYNCLINE_DEV", "maybe", &["dev = \"maybe\"", "SYNCLINE_DEV", "true or false"]),
        ("SYNCLINE_LIMITS__DOC_BYTES", "64 MB", &["limits.doc_bytes", "1 MiB"]),
        ("SYNCLINE_ROOMS__X__MAX_CLIENTS", "1", &["rooms can only be set in a file"]),
        ("SYNCLINE_XYZZY", "1", &["unknown setting xyzzy from the environment (SYNCLINE_XYZZY)"]),
    ] {
        let mistake = only_mistake(from_environment(&[KEY, (variable, value)]));
        for part in parts {
            assert!(mistake.contains(part), "{variable} gave {mistake:?}, without {part:?}");
        }
        assert!(!mistake.contains("hunter2"), "{mistake}");
    }
}

#[test]
fn several_mistakes_are_told_at_once() {
    let error = from_environment(&[("SYNCLINE_A", "1"), ("SYNCLINE_DEV", "x")]).unwrap_err();
    assert_eq!(error.mistakes.len(), 2);
}

#[test]
fn variables_of_others_and_empty_ones_are_not_settings() {
    for name in ["SYNCLINE_PORT", "SYNCLINE_PORT_8080_TCP_ADDR", "SYNCLINE_SERVICE_HOST", "PATH", "syncline_x"] {
        assert!(from_environment(&[KEY, (name, "tcp://10.0.0.1:80")]).is_ok(), "{name}");
    }
    assert!(from_environment(&[KEY, ("SYNCLINE_LISTEN", "")]).is_ok());
}

#[test]
fn who_may_enter_must_be_decided() {
    let none = only_mistake(from_environment(&[]));
    assert!(none.contains("SYNCLINE_AUTH__SECRET") && none.contains("--dev"), "{none}");
    let two = only_mistake(from_environment(&[KEY, ("SYNCLINE_AUTH__JWKS_URL", "https://idp.example/keys")]));
    assert!(two.contains("auth.secret and auth.jwks_url"), "{two}");
    assert!(from_environment(&[("SYNCLINE_DEV", "1")]).is_ok());
    let open = only_mistake(from_environment(&[("SYNCLINE_DEV", "1"), ("SYNCLINE_LISTEN", "0.0.0.0:80")]));
    assert!(open.contains("--dev") && open.contains("0.0.0.0:80"), "{open}");
}

#[test]
fn keys_come_over_a_safe_way() {
    for (url, fine) in [
        ("https://idp.example/keys", true),
        ("http://127.0.0.1:9/keys", true),
        ("http://[::1]:9/keys", true),
        ("http://localhost/keys", true),
        ("http://idp.example/keys", false),
        ("http://127.0.0.1.evil.example/keys", false),
        ("http://127.0.0.1@evil.example/keys", false),
        ("file:///etc/passwd", false),
        ("ftp://127.0.0.1/", false),
    ] {
        assert_eq!(from_environment(&[("SYNCLINE_AUTH__JWKS_URL", url)]).is_ok(), fine, "{url}");
    }
}

#[test]
fn a_database_is_taken_and_what_opens_it_not_shown() {
    let loaded = from_environment(&[KEY, ("SYNCLINE_STORE__URL", "postgres://u:hunter2@h/db")]).expect("it is fine");
    assert!(matches!(loaded.config.store.url, StoreUrl::Postgres(_)));
    assert!(!format!("{:?} {}", loaded.config, loaded.to_toml()).contains("hunter2"));
}

#[test]
fn the_bus_is_one_redis() {
    for (url, part) in [
        ("redis://h", None),
        ("REDIS://u:hunter2@h:1/15", None),
        ("rediss://:hunter2@redis.example:6380", None),
        ("valkeys://h/", None),
        ("redis+unix:///run/redis.sock", None),
        ("redis+sentinel://u:hunter2@h:26379/mymaster", Some("follows the master")),
        ("redis-sentinel://:hunter2@h", Some("follows the master")),
        ("redis+cluster://u:hunter2@h", Some("any one node")),
        ("redis-cluster://u:hunter2@h", Some("any one node")),
        ("rediss+cluster://u:hunter2@h", Some("any one node")),
        ("rediss://u:hunter2@h#insecure", Some("always checked")),
        ("redis://", Some("a host")),
        ("redis://u:hunter2@h:99999", Some("a host")),
        ("redis://u:hunter2@h/orders", Some("database number")),
        ("nats://u:hunter2@h", Some("expected redis://")),
        ("h:6379", Some("expected redis://")),
    ] {
        let loaded = from_environment(&[KEY, ("SYNCLINE_BUS__URL", url)]);
        match part {
            None => {
                assert!(!format!("{:?} {}", loaded, loaded.as_ref().unwrap().to_toml()).contains("hunter2"), "{url}")
            }
            Some(part) => {
                let mistake = only_mistake(loaded);
                assert!(mistake.contains(part) && mistake.contains("bus.url"), "{mistake}");
                assert!(!mistake.contains("hunter2"), "{mistake}");
            }
        }
    }
    for prefix in ["a:b", "a b", "*", "a/b", "ü", &"x".repeat(65)] {
        let mistake = only_mistake(from_environment(&[KEY, ("SYNCLINE_BUS__PREFIX", prefix)]));
        assert!(mistake.contains("bus.prefix"), "{mistake}");
    }
    assert!(from_environment(&[KEY, ("SYNCLINE_BUS__PREFIX", "Sync_1.2-x")]).is_ok());
}

#[test]
fn nodes_that_keep_documents_apart_are_warned_of() {
    let warnings = |store: &str| {
        let loaded = from_environment(&[KEY, ("SYNCLINE_BUS__URL", "redis://h"), ("SYNCLINE_STORE__URL", store)]);
        loaded.unwrap().warnings.join("\n")
    };
    for store in ["sled:", "memory:"] {
        assert!(warnings(store).contains("away until it returns"), "{store}");
    }
}

#[test]
fn the_application_is_asked_over_the_web_and_better_over_https() {
    for (url, fine, warned) in [
        ("https://app.example/may?key=hunter2", true, false),
        ("http://127.0.0.1:3000/may", true, false),
        ("http://app:3000/may?key=hunter2", true, true),
        ("file:///etc/passwd", false, false),
        ("app:3000", false, false),
        ("https://", false, false),
    ] {
        match from_environment(&[KEY, ("SYNCLINE_AUTH__CALLBACK_URL", url)]) {
            Ok(loaded) => {
                assert!(fine, "{url}");
                assert_eq!(loaded.warnings.iter().any(|warning| warning.contains("plain http")), warned, "{url}");
                assert!(!format!("{:?} {}", loaded.warnings, loaded.to_toml()).contains("hunter2"), "{url}");
            }
            Err(_) => assert!(!fine, "{url}"),
        }
    }
    let dev = [("SYNCLINE_DEV", "1"), ("SYNCLINE_AUTH__CALLBACK_URL", "https://app.example/may")];
    assert!(from_environment(&dev).unwrap().warnings.iter().any(|warning| warning.contains("is not asked")));
}

#[test]
fn a_short_secret_is_a_warning() {
    let loaded = from_environment(&[("SYNCLINE_AUTH__SECRET", "short")]).unwrap();
    assert!(loaded.warnings[0].contains("5 bytes"), "{:?}", loaded.warnings);
    assert!(from_environment(&[KEY]).unwrap().warnings.is_empty());
}

#[test]
fn the_effective_configuration_is_toml_without_secrets() {
    let loaded = from_file("[rooms.'we\"ird*']\nmax_clients = 5").unwrap();
    let text = loaded.to_toml();
    assert!(!text.contains("thirty-two"), "{text}");
    assert!(!format!("{loaded:?}").contains("hunter2"));
    let table: toml::Table = text.parse().unwrap();
    assert_eq!(table["auth"]["secret"].as_str(), Some("[hidden]"));
    assert_eq!(table["limits"]["connections"].as_integer(), Some(15_000));
    assert_eq!(table["rooms"]["we\"ird*"]["max_clients"].as_integer(), Some(5));
    assert!(text.contains("# from the environment (SYNCLINE_AUTH__SECRET)"), "{text}");
}

#[test]
fn debug_output_hides_secrets() {
    let loaded = from_environment(&[("SYNCLINE_AUTH__SECRET", "hunter2")]).unwrap();
    assert!(!format!("{loaded:?}").contains("hunter2"), "{loaded:?}");
}
