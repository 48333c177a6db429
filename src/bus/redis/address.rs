//! Where Redis is.

use std::fmt;

use redis::Client;
use redis::ConnectionAddr;
use redis::ConnectionInfo;
use redis::IntoConnectionInfo;
use redis::ProtocolVersion;
use redis::RedisError;

use crate::config::Secret;

/// What this program is called in Redis's list of clients.
const CLIENT_NAME: &str = "syncline";

/// Where Redis is, and what opens it. Shown without what opens it.
#[derive(Clone)]
pub struct Address(ConnectionInfo);

/// An address that cannot be used. Says nothing of what it holds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("bus.url cannot be used: {0}")]
pub struct AddressError(String);

impl Address {
    /// Reads `redis://`, `rediss://` (TLS), `redis+unix://` and the same with `valkey`.
    ///
    /// # Errors
    /// [`AddressError`] says what is wrong with it.
    pub fn parse(url: &Secret) -> Result<Self, AddressError> {
        let refused = |error: RedisError| AddressError(error.to_string());
        let info = url.reveal().into_connection_info().map_err(refused)?;
        if matches!(info.addr(), ConnectionAddr::TcpTls { insecure: true, .. }) {
            return Err(AddressError("a certificate is always checked: nothing may follow a #".to_owned()));
        }
        // Messages are pushed in this version of the protocol only; Redis has it since version 6.
        let settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
        let settings = settings.set_lib_name(CLIENT_NAME, env!("CARGO_PKG_VERSION"));
        if matches!(info.addr(), ConnectionAddr::TcpTls { .. }) {
            // More than one implementation may be compiled in, and then one has to be chosen; whoever was first was right.
            let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        }
        let address = Self(info.set_redis_settings(settings));
        address.client().map_err(refused)?;
        Ok(address)
    }

    pub(super) fn client(&self) -> Result<Client, RedisError> {
        Client::open(self.0.clone())
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.addr().fmt(f)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_shown_without_passwords() {
        for (url, shown) in [
            ("redis://127.0.0.1", "127.0.0.1:6379"),
            ("redis://user:hunter2@redis.example:7000/3", "redis.example:7000"),
            ("redis://:hunter2@[::1]:7000", "::1:7000"),
            ("rediss://:hunter2@redis.example:7000", "redis.example:7000"),
            ("valkey://redis.example", "redis.example:6379"),
            ("redis+unix:///run/redis.sock?db=1&user=u&pass=hunter2", "/run/redis.sock"),
        ] {
            let address = Address::parse(&Secret::new(url)).unwrap_or_else(|error| panic!("{url}: {error}"));
            assert_eq!(address.to_string(), shown, "{url}");
            assert!(!format!("{address:?}").contains("hunter2"), "{url}");
        }
    }

    #[test]
    fn what_opens_it_is_read() {
        let address = Address::parse(&Secret::new("redis://us%40er:hunt%2Fer2@h:7000/3")).unwrap();
        let settings = address.0.redis_settings();
        assert_eq!((settings.username(), settings.password()), (Some("us@er"), Some("hunt/er2")));
        assert_eq!(settings.db(), 3);
    }

    #[test]
    fn other_addresses_are_refused_without_repeating_them() {
        for url in [
            "redis://",
            "redis://u:hunter2@h/x",
            "rediss://u:hunter2@h#insecure",
            "redis+cluster://u:hunter2@h",
            "redis://u:hunter2@0.0.0.0",
            "http://u:hunter2@h",
            "h",
        ] {
            let error = Address::parse(&Secret::new(url)).expect_err(url).to_string();
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}
