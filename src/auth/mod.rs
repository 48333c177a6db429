//! Who is it, and what may they do: tokens in, identities out.
//!
//! [`Auth`] is the door; [`access`] decides by name, [`jwt`] reads tokens.

pub mod access;
mod jwks;
pub mod jwt;
mod keys;

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use syncline_protocol::ErrorCode;

pub use access::AccessMap;
pub use access::Level;
pub use keys::KeyError;

use crate::clock::Clock;
use crate::config::AuthConfig;
use jwt::Verifier;

/// The user that everybody is in development mode.
pub const DEV_SUB: &str = "dev";

/// Somebody whose token was good. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The user.
    pub sub: Arc<str>,
    /// What others see.
    pub name: Option<Arc<str>>,
    /// What others see.
    pub email: Option<Arc<str>>,
    /// The token's own id, to revoke it alone.
    pub jti: Option<Arc<str>>,
    /// When the token runs out: milliseconds since 1970, UTC. `None`: never (development mode).
    pub expires_at_ms: Option<u64>,
    /// What they may do.
    pub access: Arc<AccessMap>,
}

impl Identity {
    /// What this user may do with the document or room `name`.
    #[must_use]
    pub fn level(&self, name: &str) -> Level {
        self.access.level(&self.sub, name)
    }

    /// Whether this user may operate the server: `admin` on `*`.
    #[must_use]
    pub fn is_operator(&self) -> bool {
        self.access.level_everywhere() == Level::Admin
    }
}

/// Why somebody may not enter. The message is for the user; it quotes nothing of the token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct AuthError {
    /// [`ErrorCode::AuthFailed`], [`ErrorCode::AuthExpired`], or a transient one.
    pub code: ErrorCode,
    /// What is wrong.
    pub message: Cow<'static, str>,
}

/// The door.
pub struct Auth {
    mode: Mode,
    clock: Clock,
}

enum Mode {
    /// Everyone is the same user and may do everything. Tokens are not looked at.
    Dev(Identity),
    Tokens(Box<Verifier>),
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_dev() { "Auth(dev)" } else { "Auth(tokens)" })
    }
}

impl Auth {
    /// Reads the configured key. A key set at an address is fetched by [`Self::refresh`] or the first token.
    ///
    /// # Errors
    /// [`KeyError`] when there is no key, or it cannot be used.
    pub fn new(config: &AuthConfig, dev: bool, clock: Clock) -> Result<Self, KeyError> {
        let mode = match &config.key {
            _ if dev => Mode::Dev(developer()),
            Some(source) => Mode::Tokens(Box::new(Verifier::new(source, config, clock)?)),
            None => return Err(KeyError("no key to check tokens with is configured".into())),
        };
        Ok(Self { mode, clock })
    }

    /// Who the token was made for; without one, nobody may enter but in development mode.
    ///
    /// # Errors
    /// [`AuthError`] with [`ErrorCode::AuthExpired`] where a new token helps, [`ErrorCode::AuthFailed`] where it does
    /// not, and a transient code when the token could not be checked.
    pub async fn authenticate(&self, token: Option<&str>) -> Result<Identity, AuthError> {
        match (&self.mode, token) {
            (Mode::Dev(identity), _) => Ok(identity.clone()),
            (Mode::Tokens(verifier), Some(token)) if !token.is_empty() => {
                verifier.verify(token, self.clock.now().wall_ms).await
            }
            (Mode::Tokens(_), _) => Err(AuthError { code: ErrorCode::AuthFailed, message: "a token is needed".into() }),
        }
    }

    /// What somebody may do with the document or room `name`.
    #[must_use]
    pub fn access(&self, identity: &Identity, name: &str) -> Level {
        identity.level(name)
    }

    /// Whether there are no users: then limits per user and per address do not apply.
    #[must_use]
    pub fn is_dev(&self) -> bool {
        matches!(self.mode, Mode::Dev(_))
    }

    /// Fetches a key set at start, so that the first login does not wait for it. `false` when it failed; it was logged,
    /// and is tried again when a token needs it.
    pub async fn refresh(&self) -> bool {
        match &self.mode {
            Mode::Dev(_) => true,
            Mode::Tokens(verifier) => verifier.refresh().await,
        }
    }

    /// Keeps a key set fresh, for ever: the composition root runs this beside the server.
    pub async fn keep_fresh(&self) {
        match &self.mode {
            Mode::Dev(_) => std::future::pending().await,
            Mode::Tokens(verifier) => verifier.keep_fresh().await,
        }
    }
}

fn developer() -> Identity {
    Identity {
        sub: DEV_SUB.into(),
        name: None,
        email: None,
        jti: None,
        expires_at_ms: None,
        access: Arc::new(AccessMap::everything(Level::Admin)),
    }
}
