//! The configuration: built-in defaults < file < environment < flags, checked as a whole before anything starts.
//!
//! A limit of 0 is switched off and is `None` here, so that nobody compares with 0 by accident. Queues of one connection
//! always have a bound.

mod keys;
mod secret;
mod sources;

use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

pub use secret::Secret;
pub use secret::without_password;
pub use sources::Sources;

use keys::KEYS;
use keys::Kind;
use keys::Value;
use sources::Settings;

/// RFC 7518, section 3.2: a key for HS256 has at least the 256 bits of its hash.
const SECRET_BYTES_MIN: usize = 32;

/// A limit on a number of things or bytes; `None` when it is switched off.
pub type Limit = Option<NonZeroUsize>;

/// The effective configuration of one server.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where clients connect. Port 0 means any free one.
    pub listen: SocketAddr,
    /// Where operators connect; `None` means at `listen`.
    pub admin_listen: Option<SocketAddr>,
    /// Where documents are kept.
    pub data_dir: PathBuf,
    /// No token needed, everyone may do everything; only ever on a loopback address.
    pub dev: bool,
    /// Who may enter.
    pub auth: AuthConfig,
    /// Bounds.
    pub limits: LimitsConfig,
    /// What rooms remember.
    pub history: HistoryConfig,
    /// The engine below.
    pub store: StoreConfig,
    /// The other nodes.
    pub bus: BusConfig,
    /// Documents in memory.
    pub docs: DocsConfig,
    /// Rules for some rooms; the longest pattern that fits decides.
    pub rooms: Vec<RoomRule>,
    /// How a server goes.
    pub drain: DrainConfig,
    /// What it says.
    pub log: LogConfig,
}

/// The one thing that signatures of tokens are checked with. It also pins the algorithm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySource {
    /// A shared secret (HS256).
    Secret(Secret),
    /// A PEM file with one public key (RS256, ES256 or EdDSA, by its type).
    PublicKeyFile(PathBuf),
    /// A file with a JSON Web Key Set.
    JwksFile(PathBuf),
    /// The address of a JSON Web Key Set: https, or http on this machine. It may hold a password.
    JwksUrl(Secret),
}

/// Identity and permission.
#[derive(Debug, Clone)]
pub struct AuthConfig {
    /// `None` only together with [`Config::dev`].
    pub key: Option<KeySource>,
    /// Accepted `aud`; any when empty.
    pub audience: Vec<String>,
    /// Accepted `iss`; any when empty.
    pub issuer: Vec<String>,
    /// How far clocks may disagree.
    pub leeway: Duration,
    /// How long a connection lives on after `exp` without a new token.
    pub grace: Duration,
    /// How long a refused connection is held before it is closed, so that old clients do not redial at once.
    pub hold_refused: Duration,
    /// Web origins that may connect; any when empty.
    pub allowed_origins: Vec<String>,
    /// The application's own answer per user and room.
    pub callback: Option<CallbackConfig>,
}

/// Asking the application who may enter.
#[derive(Debug, Clone)]
pub struct CallbackConfig {
    /// Where to ask. It may hold a password.
    pub url: Secret,
    /// How long to wait for an answer.
    pub timeout: Duration,
    /// How long an answer holds.
    pub cache: Duration,
}

/// Bounds.
#[derive(Debug, Clone)]
pub struct LimitsConfig {
    /// Connections at once.
    pub connections: Limit,
    /// Connections of one user at once.
    pub connections_per_user: Limit,
    /// Failed authentications per minute, of one address and of one user.
    pub failed_connects_per_minute: Limit,
    /// One message from a client.
    pub message_bytes: Limit,
    /// One document, encoded.
    pub doc_bytes: Limit,
    /// Updates per second of one connection; it is read more slowly, nothing is refused.
    pub updates_per_second: Limit,
    /// Updates that one connection may send at once; 0 in the file means one second's worth.
    pub updates_burst: Limit,
    /// Messages per minute of one user.
    pub messages_per_minute: Limit,
    /// Typing notices per minute of one user.
    pub typing_per_minute: Limit,
    /// Presence updates per minute of one user.
    pub presence_per_minute: Limit,
    /// Connections that may wait for a place; 0 means that nobody waits.
    pub queue_waiting: usize,
    /// Bytes that may wait for one connection.
    pub outbox_bytes: NonZeroUsize,
    /// Frames that may wait for one connection.
    pub outbox_frames: NonZeroUsize,
    /// Bytes that may wait for all connections together.
    pub outbox_total_bytes: Limit,
    /// Bytes that may wait for all documents together.
    pub inbox_total_bytes: Limit,
    /// A socket that takes nothing for so long is closed.
    pub write_timeout: Option<Duration>,
    /// Refused connections that are held at once; 0 means that none is held.
    pub held_refusals: usize,
}

/// What rooms remember for those who come back.
#[derive(Debug, Clone)]
pub struct HistoryConfig {
    /// Events per room; 0 means none.
    pub events: usize,
    /// How long; `None` means as long as their number allows.
    pub keep: Option<Duration>,
}

/// Which engine keeps the documents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreUrl {
    /// Segment files and sled in the data directory.
    Sled,
    /// Nothing survives the process.
    Memory,
    /// A shared database.
    Postgres(Secret),
}

/// The engine below.
#[derive(Debug, Clone)]
pub struct StoreConfig {
    /// Which one.
    pub url: StoreUrl,
    /// A document's log is compacted when it has so many bytes; `None` means by count alone.
    pub compact_bytes: Option<NonZeroU64>,
}

/// The other nodes.
#[derive(Debug, Clone)]
pub struct BusConfig {
    /// `None`: this is the only node.
    pub url: Option<Secret>,
    /// What this cluster's names on the bus start with.
    pub prefix: String,
    /// How often a node says that it lives.
    pub heartbeat: Duration,
}

/// Documents in memory.
#[derive(Debug, Clone)]
pub struct DocsConfig {
    /// A document that nobody has open leaves memory after this; `None`: only when memory runs short.
    pub idle: Option<Duration>,
    /// Memory that documents may take together.
    pub memory_bytes: Limit,
}

/// A rule for the rooms that a pattern names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoomRule {
    /// A name, or a prefix ending in `*`.
    pub pattern: String,
    /// Clients at once.
    pub max_clients: Limit,
    /// A room that nobody uses is forgotten after this.
    pub ttl: Option<Duration>,
    /// Events to remember, in place of [`HistoryConfig::events`].
    pub history_events: Option<usize>,
}

/// How a server goes.
#[derive(Debug, Clone)]
pub struct DrainConfig {
    /// Connections are closed spread over this time, so that they do not all come back in one second.
    pub stagger: Duration,
}

/// How lines of the log look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Pretty on a terminal, JSON elsewhere.
    Auto,
    /// One JSON object per line.
    Json,
    /// For people.
    Pretty,
}

/// What the server says.
#[derive(Debug, Clone)]
pub struct LogConfig {
    /// How lines look.
    pub format: LogFormat,
    /// The least important level that is written.
    pub level: tracing::Level,
}

/// What is wrong with a configuration: one line per mistake, each naming the setting and where it was set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .mistakes.join("\n"))]
pub struct ConfigError {
    /// At least one line.
    pub mistakes: Vec<String>,
}

/// A configuration that may be used, and what else should be said about it.
#[derive(Debug)]
pub struct Loaded {
    /// The effective configuration.
    pub config: Config,
    /// What is allowed but unwise, one line each.
    pub warnings: Vec<String>,
    settings: Settings,
}

/// Reads, merges and checks all sources.
///
/// # Errors
/// [`ConfigError`] lists every mistake that was found.
pub fn load(sources: &Sources) -> Result<Loaded, ConfigError> {
    let loaded = load_without_key(sources)?;
    if loaded.config.auth.key.is_none() && !loaded.config.dev {
        return Err(ConfigError { mistakes: vec![NO_KEY.into()] });
    }
    Ok(loaded)
}

const NO_KEY: &str = "no key to check tokens with: set one of auth.secret (SYNCLINE_AUTH__SECRET), \
                      auth.public_key_file, auth.jwks_file or auth.jwks_url, or use --dev on your own machine";

/// As [`load`], for tools that let nobody in: they work without a key to check tokens with.
///
/// # Errors
/// [`ConfigError`] lists every mistake that was found.
pub fn load_without_key(sources: &Sources) -> Result<Loaded, ConfigError> {
    let mut mistakes = Vec::new();
    let settings = Settings::merge(sources, &mut mistakes);
    // Mistakes of the second kind often follow from those of the first: no key, because its name was misspelt.
    if !mistakes.is_empty() {
        return Err(ConfigError { mistakes });
    }
    let config = effective(&settings, &mut mistakes);
    refuse_later_features(&config, &mut mistakes);
    check(&config, &settings, &mut mistakes);
    if !mistakes.is_empty() {
        return Err(ConfigError { mistakes });
    }
    let warnings = warnings(&config);
    Ok(Loaded { config, warnings, settings })
}

/// What is configurable by design but has no implementation yet. Each line goes with its feature's arrival.
fn refuse_later_features(config: &Config, mistakes: &mut Vec<String>) {
    let mut refuse = |name: &str| mistakes.push(format!("{name} is not supported by this build yet"));
    if matches!(config.store.url, StoreUrl::Postgres(_)) {
        refuse("store.url with postgres://");
    }
    if config.bus.url.is_some() {
        refuse("bus.url");
    }
    if config.auth.callback.is_some() {
        refuse("auth.callback_url");
    }
}

fn check(config: &Config, settings: &Settings, mistakes: &mut Vec<String>) {
    let keys = ["auth.secret", "auth.public_key_file", "auth.jwks_file", "auth.jwks_url"];
    let set: Vec<_> = keys.into_iter().filter(|name| settings.values.contains_key(name)).collect();
    if set.len() > 1 {
        mistakes.push(format!("only one key can check tokens: {} are set together", set.join(" and ")));
    }
    if config.dev && !config.listen.ip().is_loopback() {
        mistakes.push(format!(
            "--dev lets everyone in and therefore only listens on a loopback address: listen is {}",
            config.listen
        ));
    }
    if let (true, Some(admin)) = (config.dev, config.admin_listen.filter(|admin| !admin.ip().is_loopback())) {
        mistakes.push(format!("--dev lets everyone in: admin_listen must be a loopback address, it is {admin}"));
    }
    if let Some(KeySource::JwksUrl(url)) = &config.auth.key
        && !is_safe_url(url.reveal())
    {
        let shown = without_password(url.reveal());
        mistakes.push(format!("auth.jwks_url = {shown:?}: expected https://, or http:// on a loopback address"));
    }
    if let Some(origin) = config.auth.allowed_origins.iter().find(|origin| !is_origin(origin)) {
        mistakes.push(format!("auth.allowed_origins has {origin:?}: expected for example \"https://app.example.org\""));
    }
}

/// Keys fetched over plain http could be replaced on the way, and with them every identity.
fn is_safe_url(url: &str) -> bool {
    let Ok(url) = reqwest::Url::parse(url) else { return false };
    let loopback = match url.host_str() {
        Some("localhost") => true,
        Some(host) => {
            host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
        }
        None => return false,
    };
    url.scheme() == "https" || (url.scheme() == "http" && loopback)
}

/// As a browser sends it: scheme, host and port, nothing behind.
fn is_origin(origin: &str) -> bool {
    origin.split_once("://").is_some_and(|(scheme, rest)| {
        !scheme.is_empty() && !rest.is_empty() && !rest.contains(['/', '?', '#', '@', '*']) && !rest.contains(' ')
    })
}

fn warnings(config: &Config) -> Vec<String> {
    let mut warnings = Vec::new();
    if let Some(KeySource::Secret(secret)) = &config.auth.key
        && secret.reveal().len() < SECRET_BYTES_MIN
    {
        let n = secret.reveal().len();
        warnings.push(format!("auth.secret has {n} bytes; RFC 7518 asks for at least {SECRET_BYTES_MIN} with HS256"));
    }
    if config.dev {
        warnings.push("--dev is on: no token is needed and everyone on this machine may do everything".into());
    }
    if config.store.url == StoreUrl::Memory {
        warnings.push("store.url is memory: nothing survives the end of this process".into());
    }
    warnings
}

fn effective(settings: &Settings, mistakes: &mut Vec<String>) -> Config {
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
        drain: DrainConfig { stagger: read.seconds("drain.stagger_seconds") },
        log: read.log(),
    }
}

fn rooms(settings: &Settings) -> Vec<RoomRule> {
    let rule = |(pattern, values): (&String, &std::collections::BTreeMap<&'static str, Value>)| {
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
            hold_refused: self.seconds("auth.hold_refused_seconds"),
            allowed_origins: self.list("auth.allowed_origins"),
            callback: self.secret("auth.callback_url").map(|url| CallbackConfig {
                url,
                timeout: self.seconds("auth.callback_timeout_seconds"),
                cache: self.seconds("auth.callback_cache_seconds"),
            }),
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

impl Loaded {
    /// The effective configuration as TOML, each line with where it was set; secrets are hidden, what is not set is
    /// a comment.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let mut out = String::new();
        let mut section = "";
        for key in KEYS {
            let (in_section, word) = key.name.split_once('.').unwrap_or(("", key.name));
            if in_section != section {
                out.push_str(&format!("\n[{in_section}]\n"));
                section = in_section;
            }
            match self.settings.values.get(key.name) {
                Some((value, origin)) => out.push_str(&format!("{word} = {} # {origin}\n", shown(key.kind, value))),
                None => out.push_str(&format!("# {word} is not set\n")),
            }
        }
        for (pattern, values) in &self.settings.rooms {
            out.push_str(&format!("\n[rooms.{}]\n", toml::Value::from(pattern.as_str())));
            for (word, value) in values {
                out.push_str(&format!("{word} = {}\n", shown(Kind::Text, value)));
            }
        }
        out
    }
}

fn shown(kind: Kind, value: &Value) -> String {
    match (kind, value) {
        (Kind::Secret, _) => "\"[hidden]\"".into(),
        (Kind::Url, Value::Text(url)) => toml::Value::from(without_password(url)).to_string(),
        (_, Value::Text(text)) => toml::Value::from(text.as_str()).to_string(),
        (_, Value::Switch(on)) => on.to_string(),
        (_, Value::Number(n)) => n.to_string(),
        (_, Value::List(items)) => toml::Value::from(items.clone()).to_string(),
    }
}

#[cfg(test)]
mod tests;
