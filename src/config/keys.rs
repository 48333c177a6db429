//! Every setting there is: its name, what it takes, and its default. One table drives the file, the environment, the
//! messages and `check-config`, so that they cannot drift apart.

use std::net::Ipv4Addr;
use std::net::SocketAddr;

/// What a setting takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// `true` or `false`.
    Switch,
    /// A whole number from `min` to `max`.
    Count {
        /// Smallest value.
        min: u64,
        /// Largest value.
        max: u64,
    },
    /// A number of bytes, from `min`: a whole number, or text with a unit.
    Bytes {
        /// Smallest value.
        min: u64,
    },
    /// Any text that is not empty.
    Text,
    /// Text that nobody may see.
    Secret,
    /// An address to reach, possibly with a password inside.
    Url,
    /// An address and port to listen on.
    Address,
    /// Several texts: an array, or one text separated by commas.
    List,
    /// One of a few words.
    Choice(&'static [&'static str]),
}

/// A value of the right kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    /// [`Kind::Switch`].
    Switch(bool),
    /// [`Kind::Count`] and [`Kind::Bytes`].
    Number(u64),
    /// Every kind of text.
    Text(String),
    /// [`Kind::List`].
    List(Vec<String>),
}

/// One setting.
#[derive(Debug, Clone, Copy)]
pub(super) struct Key {
    /// Full name, for example `limits.connections`.
    pub(super) name: &'static str,
    /// What it takes.
    pub(super) kind: Kind,
    /// Its default, as text in the way of the environment; `None` when it is simply not set.
    pub(super) default: Option<&'static str>,
}

const fn key(name: &'static str, kind: Kind, default: &'static str) -> Key {
    Key { name, kind, default: Some(default) }
}

const fn unset(name: &'static str, kind: Kind) -> Key {
    Key { name, kind, default: None }
}

const fn count(max: u64) -> Kind {
    Kind::Count { min: 0, max }
}

/// Numbers beyond this are typing errors; it also keeps every sum of two of them far from overflow.
const COUNT_MAX: u64 = 1_000_000_000;
/// Ten years.
const SECONDS_MAX: u64 = 10 * 366 * 24 * 3600;
/// 1 PiB. Larger sizes are typing errors.
const BYTES_MAX: u64 = 1 << 50;

/// All settings but `rooms."PATTERN".…`, in the order in which `check-config` prints them.
pub(super) const KEYS: &[Key] = &[
    key("listen", Kind::Address, "127.0.0.1:8080"),
    unset("admin_listen", Kind::Address),
    key("data_dir", Kind::Text, "./data"),
    key("dev", Kind::Switch, "false"),
    unset("auth.secret", Kind::Secret),
    unset("auth.public_key_file", Kind::Text),
    unset("auth.jwks_file", Kind::Text),
    unset("auth.jwks_url", Kind::Url),
    unset("auth.audience", Kind::List),
    unset("auth.issuer", Kind::List),
    // Beyond five minutes a leeway is no longer about clocks that disagree.
    key("auth.leeway_seconds", count(300), "5"),
    key("auth.grace_seconds", count(86_400), "30"),
    key("auth.within_seconds", Kind::Count { min: 1, max: 3600 }, "60"),
    // A browser gives up on a handshake, and a person on a page, well before a minute.
    key("auth.hold_refused_seconds", count(60), "3"),
    unset("auth.allowed_origins", Kind::List),
    unset("auth.callback_url", Kind::Url),
    key("auth.callback_timeout_seconds", Kind::Count { min: 1, max: 60 }, "5"),
    key("auth.callback_cache_seconds", count(3600), "30"),
    key("auth.keep_revoked_seconds", Kind::Count { min: 60, max: SECONDS_MAX }, "86400"),
    key("limits.connections", count(COUNT_MAX), "15000"),
    key("limits.connections_per_user", count(COUNT_MAX), "100"),
    key("limits.failed_connects_per_minute", count(COUNT_MAX), "10"),
    key("limits.message_bytes", Kind::Bytes { min: 0 }, "16 MiB"),
    key("limits.doc_bytes", Kind::Bytes { min: 0 }, "64 MiB"),
    key("limits.updates_per_second", count(COUNT_MAX), "5000"),
    key("limits.updates_burst", count(COUNT_MAX), "50000"),
    key("limits.messages_per_minute", count(COUNT_MAX), "60"),
    key("limits.typing_per_minute", count(COUNT_MAX), "10"),
    key("limits.presence_per_minute", count(COUNT_MAX), "30"),
    key("limits.queue_waiting", count(1_000_000), "1000"),
    // One connection's queue always needs a bound: 0 is refused.
    key("limits.outbox_bytes", Kind::Bytes { min: 64 * 1024 }, "4 MiB"),
    key("limits.outbox_frames", Kind::Count { min: 8, max: 1_000_000 }, "1024"),
    key("limits.outbox_total_bytes", Kind::Bytes { min: 0 }, "1 GiB"),
    key("limits.inbox_total_bytes", Kind::Bytes { min: 0 }, "256 MiB"),
    key("limits.write_timeout_seconds", count(SECONDS_MAX), "60"),
    key("limits.held_refusals", count(1_000_000), "1000"),
    key("history.events", count(1_000_000), "1000"),
    key("history.seconds", count(SECONDS_MAX), "3600"),
    key("store.url", Kind::Url, "sled:"),
    key("store.compact_bytes", Kind::Bytes { min: 0 }, "1 MiB"),
    unset("bus.url", Kind::Url),
    key("bus.prefix", Kind::Text, "syncline"),
    key("bus.heartbeat_seconds", Kind::Count { min: 1, max: 3600 }, "5"),
    key("docs.idle_seconds", count(SECONDS_MAX), "60"),
    key("docs.memory_bytes", Kind::Bytes { min: 0 }, "1 GiB"),
    key("drain.delay_seconds", count(600), "0"),
    key("drain.stagger_seconds", count(600), "2"),
    key("log.format", Kind::Choice(&["auto", "json", "pretty"]), "auto"),
    key("log.level", Kind::Choice(&["error", "warn", "info", "debug", "trace"]), "info"),
];

/// What one `rooms."PATTERN"` table takes.
pub(super) const ROOM_KEYS: &[Key] = &[
    unset("max_clients", count(COUNT_MAX)),
    unset("ttl_seconds", count(SECONDS_MAX)),
    unset("history_events", count(1_000_000)),
];

/// The setting of that name.
pub(super) fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}

impl Kind {
    /// What a message says the setting takes.
    pub(super) fn expected(self) -> String {
        match self {
            Self::Switch => "true or false".into(),
            Self::Count { min, max } => format!("a whole number from {min} to {max}"),
            Self::Bytes { min } => {
                format!("a number of bytes from {min}, for example 1048576 or \"1 MiB\"")
            }
            Self::Text | Self::Secret => "text that is not empty".into(),
            Self::Url => "an address, for example \"https://example.org/keys\"".into(),
            Self::Address => "an address and a port, for example \"127.0.0.1:8080\"".into(),
            Self::List => "texts, for example [\"a\", \"b\"] (in the environment: a,b)".into(),
            Self::Choice(words) => format!("one of {}", words.join(", ")),
        }
    }

    /// Reads a value from a file.
    pub(super) fn read_toml(self, value: &toml::Value) -> Option<Value> {
        match (self, value) {
            (Self::Switch, toml::Value::Boolean(on)) => Some(Value::Switch(*on)),
            (Self::Count { .. } | Self::Bytes { .. }, toml::Value::Integer(n)) => self.checked(u64::try_from(*n).ok()?),
            (Self::Switch | Self::Count { .. }, _) => None,
            (Self::List, toml::Value::Array(items)) => {
                items.iter().map(|item| item.as_str().and_then(item_of)).collect::<Option<_>>().map(Value::List)
            }
            (_, toml::Value::String(text)) => self.read_text(text),
            _ => None,
        }
    }

    /// Reads a value from the environment, a flag or the table of defaults.
    pub(super) fn read_text(self, text: &str) -> Option<Value> {
        match self {
            Self::Switch => switch(text).map(Value::Switch),
            Self::Count { .. } => self.checked(text.trim().parse().ok()?),
            Self::Bytes { .. } => self.checked(bytes(text)?),
            // A secret is taken as it is: a space at its end may belong to it.
            Self::Secret => (!text.is_empty()).then(|| Value::Text(text.into())),
            Self::Text => item_of(text).map(Value::Text),
            Self::Url => item_of(text).filter(|url| url.contains(':')).map(Value::Text),
            Self::Address => address(text.trim()).map(|found| Value::Text(found.to_string())),
            Self::List => text.split(',').map(item_of).collect::<Option<_>>().map(Value::List),
            Self::Choice(words) => words.iter().find(|word| **word == text).map(|word| Value::Text((*word).into())),
        }
    }

    fn checked(self, n: u64) -> Option<Value> {
        let (min, max) = match self {
            Self::Count { min, max } => (min, max),
            _ => (if let Self::Bytes { min } = self { min } else { 0 }, BYTES_MAX),
        };
        (min..=max).contains(&n).then_some(Value::Number(n))
    }
}

fn item_of(text: &str) -> Option<String> {
    let text = text.trim();
    (!text.is_empty() && !text.chars().any(char::is_control)).then(|| text.to_owned())
}

fn switch(text: &str) -> Option<bool> {
    match text.trim().to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Some(true),
        "false" | "0" | "no" | "off" => Some(false),
        _ => None,
    }
}

fn bytes(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let unit: u64 = match text[digits..].trim() {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    text[..digits].parse::<u64>().ok()?.checked_mul(unit)
}

/// `localhost` is the one name that is taken: any other could mean a different machine after a change in DNS.
pub(super) fn address(text: &str) -> Option<SocketAddr> {
    match text.strip_prefix("localhost:") {
        Some(port) => Some((Ipv4Addr::LOCALHOST, port.parse().ok()?).into()),
        None => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_is_of_its_kind() {
        for key in KEYS {
            if let Some(default) = key.default {
                assert!(key.kind.read_text(default).is_some(), "{} = {default}", key.name);
            }
        }
    }

    #[test]
    fn no_name_is_taken_twice_or_begins_another() {
        for (at, key) in KEYS.iter().enumerate() {
            for other in &KEYS[at + 1..] {
                assert_ne!(key.name, other.name);
                assert!(!other.name.starts_with(&format!("{}.", key.name)), "{} is a value and a section", key.name);
            }
        }
    }

    #[test]
    fn sizes_take_units() {
        let kind = Kind::Bytes { min: 0 };
        for (text, n) in [("0", 0), ("7", 7), ("64KiB", 65_536), ("16 MiB", 16 << 20), (" 1 GiB ", 1 << 30)] {
            assert_eq!(kind.read_text(text), Some(Value::Number(n)), "{text}");
        }
        for text in ["", "MiB", "1 MB", "-1", "1.5 MiB", "99999999999 GiB", "99999999999999999999"] {
            assert_eq!(kind.read_text(text), None, "{text}");
        }
    }

    #[test]
    fn addresses() {
        for good in ["127.0.0.1:0", "[::1]:8080", "0.0.0.0:80", "localhost:9"] {
            assert!(address(good).is_some(), "{good}");
        }
        for bad in ["", "8080", ":8080", "localhost", "example.org:80", "127.0.0.1:70000", "127.0.0.1"] {
            assert!(address(bad).is_none(), "{bad}");
        }
    }
}
