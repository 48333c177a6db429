//! Merged settings become the typed configuration.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use crate::config::AuthConfig;
use crate::config::BusConfig;
use crate::config::CallbackConfig;
use crate::config::Config;
use crate::config::DocsConfig;
use crate::config::DrainConfig;
use crate::config::HistoryConfig;
use crate::config::KeySource;
use crate::config::Limit;
use crate::config::LimitsConfig;
use crate::config::LogConfig;
use crate::config::LogFormat;
use crate::config::RoomRule;
use crate::config::Secret;
use crate::config::StoreConfig;
use crate::config::StoreUrl;
use crate::config::keys;
use crate::config::keys::Value;
use crate::config::sources::Settings;
use crate::config::without_password;

/// The typed configuration of these settings.
pub(super) fn effective(settings: &Settings, mistakes: &mut Vec<String>) -> Config {
    let read = Reader { settings };
    Config {
        listen: read.address("listen").unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 8080))),
        admin_listen: read.address("admin_listen"),
        data_dir: PathBuf::from(read.text("data_dir").unwrap_or("./data")),
        dev: read.switch("dev"),
        auth: read.auth(),
        limits: read.limits(),
        history: HistoryConfig { events: read.size("history.events"), keep: read.time_limit("history.seconds") },
        store: StoreConfig {
            url: read.store_url(mistakes),
            compact_bytes: NonZeroU64::new(read.number("store.compact_bytes")),
        },
        bus: BusConfig {
            url: read.secret("bus.url"),
            prefix: read.text("bus.prefix").unwrap_or("syncline").to_owned(),
            heartbeat: read.seconds("bus.heartbeat_seconds"),
        },
        docs: DocsConfig { idle: read.time_limit("docs.idle_seconds"), memory_bytes: read.limit("docs.memory_bytes") },
        rooms: rooms(settings),
        drain: DrainConfig {
            delay: read.seconds("drain.delay_seconds"),
            stagger: read.seconds("drain.stagger_seconds"),
        },
        log: read.log(),
    }
}

fn rooms(settings: &Settings) -> Vec<RoomRule> {
    let rule = |(pattern, values): (&String, &BTreeMap<&'static str, Value>)| {
        let number = |name: &str| match values.get(name) {
            Some(Value::Number(n)) => Some(*n),
            _ => None,
        };
        RoomRule {
            pattern: pattern.clone(),
            max_clients: number("max_clients").and_then(|n| NonZeroUsize::new(size(n))),
            ttl: number("ttl_seconds").filter(|n| *n > 0).map(Duration::from_secs),
            history_events: number("history_events").map(size),
        }
    };
    settings.rooms.iter().map(rule).collect()
}

fn size(n: u64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}

/// Typed access to merged settings. A name that is not in the table is a mistake of ours, found by the first test.
struct Reader<'a> {
    settings: &'a Settings,
}

impl<'a> Reader<'a> {
    fn value(&self, name: &str) -> Option<&'a Value> {
        debug_assert!(keys::find(name).is_some(), "{name} is not a setting");
        self.settings.values.get(name).map(|(value, _)| value)
    }

    fn number(&self, name: &str) -> u64 {
        match self.value(name) {
            Some(Value::Number(n)) => *n,
            _ => 0,
        }
    }

    fn size(&self, name: &str) -> usize {
        size(self.number(name))
    }

    fn limit(&self, name: &str) -> Limit {
        NonZeroUsize::new(self.size(name))
    }

    fn bound(&self, name: &str) -> NonZeroUsize {
        self.limit(name).unwrap_or(NonZeroUsize::MIN)
    }

    fn seconds(&self, name: &str) -> Duration {
        Duration::from_secs(self.number(name))
    }

    fn time_limit(&self, name: &str) -> Option<Duration> {
        Some(self.seconds(name)).filter(|time| !time.is_zero())
    }

    fn switch(&self, name: &str) -> bool {
        matches!(self.value(name), Some(Value::Switch(true)))
    }

    fn text(&self, name: &str) -> Option<&'a str> {
        match self.value(name) {
            Some(Value::Text(text)) => Some(text),
            _ => None,
        }
    }

    fn secret(&self, name: &str) -> Option<Secret> {
        self.text(name).map(Secret::new)
    }

    fn address(&self, name: &str) -> Option<SocketAddr> {
        self.text(name).and_then(keys::address)
    }

    fn list(&self, name: &str) -> Vec<String> {
        match self.value(name) {
            Some(Value::List(items)) => items.clone(),
            _ => Vec::new(),
        }
    }

    fn auth(&self) -> AuthConfig {
        let file = |name| self.text(name).map(PathBuf::from);
        let key = None
            .or_else(|| self.secret("auth.secret").map(KeySource::Secret))
            .or_else(|| file("auth.public_key_file").map(KeySource::PublicKeyFile))
            .or_else(|| file("auth.jwks_file").map(KeySource::JwksFile))
            .or_else(|| self.secret("auth.jwks_url").map(KeySource::JwksUrl));
        AuthConfig {
            key,
            audience: self.list("auth.audience"),
            issuer: self.list("auth.issuer"),
            leeway: self.seconds("auth.leeway_seconds"),
            grace: self.seconds("auth.grace_seconds"),
            within: self.seconds("auth.within_seconds"),
            hold_refused: self.seconds("auth.hold_refused_seconds"),
            allowed_origins: self.list("auth.allowed_origins"),
            callback: self.secret("auth.callback_url").map(|url| CallbackConfig {
                url,
                timeout: self.seconds("auth.callback_timeout_seconds"),
                cache: self.seconds("auth.callback_cache_seconds"),
            }),
            keep_revoked: self.seconds("auth.keep_revoked_seconds"),
        }
    }

    fn limits(&self) -> LimitsConfig {
        LimitsConfig {
            connections: self.limit("limits.connections"),
            connections_per_user: self.limit("limits.connections_per_user"),
            failed_connects_per_minute: self.limit("limits.failed_connects_per_minute"),
            message_bytes: self.limit("limits.message_bytes"),
            doc_bytes: self.limit("limits.doc_bytes"),
            updates_per_second: self.limit("limits.updates_per_second"),
            updates_burst: self.limit("limits.updates_burst").or(self.limit("limits.updates_per_second")),
            messages_per_minute: self.limit("limits.messages_per_minute"),
            typing_per_minute: self.limit("limits.typing_per_minute"),
            presence_per_minute: self.limit("limits.presence_per_minute"),
            queue_waiting: self.size("limits.queue_waiting"),
            outbox_bytes: self.bound("limits.outbox_bytes"),
            outbox_frames: self.bound("limits.outbox_frames"),
            outbox_total_bytes: self.limit("limits.outbox_total_bytes"),
            inbox_total_bytes: self.limit("limits.inbox_total_bytes"),
            write_timeout: self.time_limit("limits.write_timeout_seconds"),
            held_refusals: self.size("limits.held_refusals"),
        }
    }

    fn store_url(&self, mistakes: &mut Vec<String>) -> StoreUrl {
        match self.text("store.url").unwrap_or("sled:") {
            "sled:" => StoreUrl::Sled,
            "memory:" => StoreUrl::Memory,
            url if url.starts_with("postgres://") || url.starts_with("postgresql://") => {
                StoreUrl::Postgres(Secret::new(url))
            }
            url => {
                let shown = without_password(url);
                mistakes.push(format!("store.url = {shown:?}: expected \"sled:\", \"memory:\" or \"postgres://…\""));
                StoreUrl::Memory
            }
        }
    }

    fn log(&self) -> LogConfig {
        let format = match self.text("log.format") {
            Some("json") => LogFormat::Json,
            Some("pretty") => LogFormat::Pretty,
            _ => LogFormat::Auto,
        };
        let level = self.text("log.level").and_then(|word| word.parse().ok()).unwrap_or(tracing::Level::INFO);
        LogConfig { format, level }
    }
}
