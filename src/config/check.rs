//! Settings that are fine one by one and wrong together, and what is allowed but unwise.

use crate::config::Config;
use crate::config::KeySource;
use crate::config::StoreUrl;
use crate::config::sources::Settings;
use crate::config::without_password;

/// RFC 7518, section 3.2: a key for HS256 has at least the 256 bits of its hash.
const SECRET_BYTES_MIN: usize = 32;

/// Names of channels, which Redis keeps in memory for each subscriber, begin with it.
const PREFIX_BYTES_MAX: usize = 64;
const A_REDIS: &str = "expected redis://, rediss:// or redis+unix://";

/// What no single setting shows: whether they fit together.
pub(super) fn check(config: &Config, settings: &Settings, mistakes: &mut Vec<String>) {
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
    if let Some(callback) = &config.auth.callback
        && !is_web_address(callback.url.reveal())
    {
        let shown = without_password(callback.url.reveal());
        mistakes.push(format!("auth.callback_url = {shown:?}: expected https:// or http://"));
    }
    check_bus(config, mistakes);
    if let Some(origin) = config.auth.allowed_origins.iter().find(|origin| !is_origin(origin)) {
        mistakes.push(format!("auth.allowed_origins has {origin:?}: expected for example \"https://app.example.org\""));
    }
}

fn check_bus(config: &Config, mistakes: &mut Vec<String>) {
    if let Some(url) = &config.bus.url
        && let Some(why) = wrong_bus(url.reveal())
    {
        let shown = without_password(url.reveal());
        mistakes.push(format!("bus.url = {shown:?}: {why}"));
    }
    // Names of documents follow behind a colon: with one in it, a prefix could be made to look like another.
    let prefix = &config.bus.prefix;
    if prefix.len() > PREFIX_BYTES_MAX || !prefix.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c)) {
        mistakes.push(format!(
            "bus.prefix = {prefix:?}: expected at most {PREFIX_BYTES_MAX} letters, digits, hyphens, underscores and full stops"
        ));
    }
}

/// What keeps an address of Redis from being used, if anything does.
fn wrong_bus(url: &str) -> Option<&'static str> {
    let Some((scheme, _)) = url.split_once("://") else { return Some(A_REDIS) };
    match scheme.to_ascii_lowercase().as_str() {
        "redis" | "valkey" => {}
        "rediss" | "valkeys" if url.contains('#') => {
            return Some("a certificate is always checked: nothing may follow a #");
        }
        "rediss" | "valkeys" => {}
        "redis+unix" | "valkey+unix" | "unix" => return None,
        word if word.contains("sentinel") => {
            return Some(
                "Sentinel is not asked for addresses: name one that follows the master, for example of a proxy or a service",
            );
        }
        word if word.contains("cluster") => {
            return Some("name any one node of the Redis Cluster as redis:// or rediss://: it passes messages to all");
        }
        _ => return Some(A_REDIS),
    }
    let parsed = reqwest::Url::parse(url).ok();
    let has_host = parsed.as_ref().is_some_and(|url| url.host_str().is_some_and(|host| !host.is_empty()));
    if !has_host {
        return Some("expected a host, and a port between 1 and 65535 if any");
    }
    let database = parsed.map(|url| url.path().trim_matches('/').to_owned()).unwrap_or_default();
    (!database.is_empty() && database.parse::<u16>().is_err()).then_some("what follows the host is a database number")
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

fn is_web_address(url: &str) -> bool {
    reqwest::Url::parse(url).is_ok_and(|url| matches!(url.scheme(), "https" | "http") && url.has_host())
}

/// As a browser sends it: scheme, host and port, nothing behind.
fn is_origin(origin: &str) -> bool {
    origin.split_once("://").is_some_and(|(scheme, rest)| {
        !scheme.is_empty() && !rest.is_empty() && !rest.contains(['/', '?', '#', '@', '*']) && !rest.contains(' ')
    })
}

/// What is allowed but unwise, one line each.
pub(super) fn warnings(config: &Config) -> Vec<String> {
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
    if let Some(callback) = &config.auth.callback {
        let url = callback.url.reveal();
        if config.dev {
            warnings.push("--dev is on: auth.callback_url is not asked".into());
        } else if !is_safe_url(url) {
            let shown = without_password(url);
            warnings
                .push(format!("auth.callback_url = {shown:?}: over plain http, whoever is on the way can give rights"));
        }
    }
    if config.bus.url.is_some() && !matches!(config.store.url, StoreUrl::Postgres(_)) {
        warnings.push(
            "bus.url is set and store.url is no shared database: each node keeps what it has served, nodes become equal while \
             they are up, and what a dead node had not passed on yet is away until it returns"
                .into(),
        );
    }
    if config.store.url == StoreUrl::Memory {
        warnings.push("store.url is memory: nothing survives the end of this process".into());
    }
    warnings
}
