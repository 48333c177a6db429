//! Where the database is, as `store.url` says it.
//!
//! The address is read by the driver, but for what it does not know as libpq does: `sslmode=verify-full` and
//! `sslrootcert`. Nothing in here says a password: not in an error, not in [`Address::shown`].

use std::fs;
use std::time::Duration;

use percent_encoding::percent_decode_str;
use tokio_postgres::Config;
use tokio_postgres::config::Host;
use tokio_postgres::config::SslMode;
use tokio_postgres::config::TargetSessionAttrs;

use crate::config::without_password;
use crate::store::postgres::tls::Tls;

/// A connection over which nothing is heard is asked whether it lives, long before a firewall forgets it.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_RETRIES: u32 = 3;
/// What was sent and never confirmed for so long is lost, and the connection with it.
const UNCONFIRMED: Duration = Duration::from_secs(15);
/// The driver's own default, which means that nothing was said.
const DRIVER_KEEPALIVE_IDLE: Duration = Duration::from_secs(2 * 60 * 60);

/// How to reach the database.
pub(super) struct Address {
    pub(super) config: Config,
    pub(super) tls: Tls,
    /// For people and logs: without user and password.
    pub(super) shown: String,
}

/// How much is asked of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Disable,
    Prefer,
    Require,
    VerifyFull,
}

impl Address {
    /// Reads a `postgres://` address.
    pub(super) fn parse(url: &str) -> Result<Self, String> {
        let (bare, mode, authority) = split(url)?;
        let mut config: Config = bare.parse().map_err(|error: tokio_postgres::Error| super::link::told(&error))?;
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            return Err("it names no host".to_owned());
        }
        if mode == Mode::VerifyFull && config.get_hosts().iter().any(|host| !matches!(host, Host::Tcp(_))) {
            return Err("sslmode=verify-full needs the name of a host".to_owned());
        }
        config.ssl_mode(match mode {
            Mode::Disable => SslMode::Disable,
            Mode::Prefer => SslMode::Prefer,
            Mode::Require | Mode::VerifyFull => SslMode::Require,
        });
        let tls = match (mode, authority) {
            (Mode::VerifyFull, Some(file)) => Tls::trusting(&read(&file)?)?,
            (Mode::VerifyFull, None) => Tls::trusting_the_system()?,
            (_, Some(_)) => return Err("sslrootcert is only looked at with sslmode=verify-full".to_owned()),
            (_, None) => Tls::trusting_anybody()?,
        };
        fill_in(&mut config);
        Ok(Self { config, tls, shown: without_password(url) })
    }
}

/// What the driver may read, and what only we understand.
fn split(url: &str) -> Result<(String, Mode, Option<String>), String> {
    let (mut mode, mut authority) = (Mode::Prefer, None);
    let Some((before, query)) = url.split_once('?') else { return Ok((url.to_owned(), mode, authority)) };
    let mut others = Vec::new();
    for pair in query.split('&') {
        match pair.split_once('=') {
            Some(("sslmode", word)) => mode = Mode::parse(word)?,
            Some(("sslrootcert", file)) => {
                authority = Some(percent_decode_str(file).decode_utf8_lossy().into_owned());
            }
            _ => others.push(pair),
        }
    }
    let bare = if others.is_empty() { before.to_owned() } else { format!("{before}?{}", others.join("&")) };
    Ok((bare, mode, authority))
}

impl Mode {
    fn parse(word: &str) -> Result<Self, String> {
        match word {
            "disable" => Ok(Self::Disable),
            "prefer" => Ok(Self::Prefer),
            "require" => Ok(Self::Require),
            "verify-full" => Ok(Self::VerifyFull),
            _ => Err("sslmode is disable, prefer, require or verify-full".to_owned()),
        }
    }
}

fn read(file: &str) -> Result<Vec<u8>, String> {
    fs::read(file).map_err(|error| format!("sslrootcert {file}: {error}"))
}

/// What nobody said.
fn fill_in(config: &mut Config) {
    if config.get_application_name().is_none() {
        config.application_name("syncline");
    }
    if config.get_keepalives_idle() == DRIVER_KEEPALIVE_IDLE {
        config.keepalives_idle(KEEPALIVE_IDLE);
        config.keepalives_interval(KEEPALIVE_INTERVAL);
        config.keepalives_retries(KEEPALIVE_RETRIES);
    }
    if config.get_tcp_user_timeout().is_none() {
        config.tcp_user_timeout(UNCONFIRMED);
    }
    // Of several hosts one takes writes, and which one changes.
    let several = config.get_hosts().len().max(config.get_hostaddrs().len()) > 1;
    if several && config.get_target_session_attrs() == TargetSessionAttrs::Any {
        config.target_session_attrs(TargetSessionAttrs::ReadWrite);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_of_tls_is_understood() {
        for (url, mode) in [
            ("postgres://u:p@h/db", SslMode::Prefer),
            ("postgresql://u:p@h:5433/db?sslmode=disable", SslMode::Disable),
            ("postgres://h/db?connect_timeout=3&sslmode=require&application_name=x", SslMode::Require),
            ("postgres://%2Frun%2Fpostgresql/db", SslMode::Prefer),
        ] {
            let address = Address::parse(url).unwrap_or_else(|why| panic!("{url}: {why}"));
            assert_eq!(address.config.get_ssl_mode(), mode, "{url}");
        }
    }

    #[test]
    fn mistakes_are_told_without_what_opens_the_door() {
        for (url, word) in [
            ("postgres://u:hunter2@h/db?sslmode=verify-ca", "verify-full"),
            ("postgres://u:hunter2@h/db?sslmode=require&sslrootcert=/x", "sslrootcert"),
            ("postgres://u:hunter2@h/db?sslmode=verify-full&sslrootcert=%2Fnot%2Fthere", "/not/there"),
            ("postgres://u:hunter2@%2Frun/db?sslmode=verify-full", "host"),
            ("postgres://u:hunter2@h/db?hunter=2", "hunter"),
            ("postgres://u:hunter2@h:port/db", "port"),
            ("postgres:///db", "host"),
        ] {
            let why = Address::parse(url).err().unwrap_or_else(|| panic!("{url} was taken"));
            assert!(why.contains(word) && !why.contains("hunter2"), "{url}: {why}");
        }
    }

    #[test]
    fn one_of_several_hosts_is_the_one_that_takes_writes() {
        let several = Address::parse("postgres://a,b/db").map(|a| a.config.get_target_session_attrs());
        assert_eq!(several, Ok(TargetSessionAttrs::ReadWrite));
        let one = Address::parse("postgres://a/db").map(|a| a.config.get_target_session_attrs());
        assert_eq!(one, Ok(TargetSessionAttrs::Any));
    }
}
