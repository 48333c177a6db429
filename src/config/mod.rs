//! The configuration: built-in defaults < file < environment < flags, checked as a whole before anything starts.
//!
//! A limit of 0 is switched off and is `None` here, so that nobody compares with 0 by accident. Queues of one
//! connection always have a bound.

mod check;
mod keys;
mod read;
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
    /// How long a connection may be open on which nobody has shown a good token.
    pub within: Duration,
    /// How long a refused connection is held before it is closed, so that old clients do not redial at once.
    pub hold_refused: Duration,
    /// Web origins that may connect; any when empty.
    pub allowed_origins: Vec<String>,
    /// The application's own answer per user and room.
    pub callback: Option<CallbackConfig>,
    /// How long a revocation is kept when nobody knows when the token runs out: longer than any token lives.
    pub keep_revoked: Duration,
}

/// Asking the application who may enter.
#[derive(Debug, Clone)]
pub struct CallbackConfig {
    /// Where to ask: https or http. It may hold a password.
    pub url: Secret,
    /// How long to wait for an answer.
    pub timeout: Duration,
    /// How long an answer holds; zero asks every time.
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
    /// A document's log is compacted when it has so many bytes; `None` takes the built-in bound.
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
#[derive(Debug, Clone, Copy)]
pub struct DrainConfig {
    /// From being not ready to the first close: load balancers should have seen it by then.
    pub delay: Duration,
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
    let config = read::effective(&settings, &mut mistakes);
    check::check(&config, &settings, &mut mistakes);
    if !mistakes.is_empty() {
        return Err(ConfigError { mistakes });
    }
    let warnings = check::warnings(&config);
    Ok(Loaded { config, warnings, settings })
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
