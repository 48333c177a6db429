//! Settings that are fine one by one and wrong together, and what is allowed but unwise.

use crate::config::Config;
use crate::config::KeySource;
use crate::config::StoreUrl;
use crate::config::sources::Settings;
use crate::config::without_password;

/// RFC 7518, section 3.2: a key for HS256 has at least the 256 bits of its hash.
const SECRET_BYTES_MIN: usize = 32;

/// What is configurable by design but has no implementation yet. Each line goes with its feature's arrival.
pub(super) fn refuse_later_features(config: &Config, mistakes: &mut Vec<String>) {
    let mut refuse = |name: &str| mistakes.push(format!("{name} is not supported by this build yet"));
    if config.bus.url.is_some() {
        refuse("bus.url");
    }
}

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
    if config.store.url == StoreUrl::Memory {
        warnings.push("store.url is memory: nothing survives the end of this process".into());
    }
    warnings
}
