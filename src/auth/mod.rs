//! Who is it, and what may they do: tokens in, identities out, and taking back what was given.
//!
//! ```text
//!  token ── jwt (keys, jwks) ── revoked? ──▶ Identity ── access ∧ callback ──▶ Level
//!                                  ▲                            ▲ asked again
//!  revoke ─────────────────────────┴────────▶ watch ──▶ live channels
//! ```
//!
//! [`Auth`] is the door; [`access`] decides by name, [`jwt`] reads tokens, [`watch`] knows who is there.

pub mod access;
mod answers;
mod callback;
mod fetch;
mod jwks;
pub mod jwt;
mod keys;
pub mod revoked;
mod revoked_file;
pub mod told;
pub mod watch;

use std::borrow::Cow;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

pub use access::AccessMap;
pub use access::Level;
pub use keys::KeyError;
use metrics::Counter;
pub use revoked::RevokedList;
use syncline_protocol::ErrorCode;
pub use watch::Watch;

use crate::clock::Clock;
use crate::config::AuthConfig;
use crate::metrics::Metrics;
use callback::Callback;
use callback::Counts;
use jwt::Verifier;
use revoked::Revoked;
use watch::Ring;
use watch::Whose;

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
    /// When the token was made: milliseconds since 1970, UTC. `None`: it does not say.
    pub issued_at_ms: Option<u64>,
    /// When the token runs out: milliseconds since 1970, UTC. `None`: never (development mode).
    pub expires_at_ms: Option<u64>,
    /// What the token lets them do; `None` where it says nothing about that.
    pub access: Option<Arc<AccessMap>>,
    /// How many revocations there had been when the token was checked: those after it are looked at by
    /// [`Watch::enter`].
    pub as_of: u64,
}

impl Identity {
    /// What the token lets this user do with the document or room `name`. Whether the application agrees is for
    /// [`Auth::authorize`].
    #[must_use]
    pub fn level(&self, name: &str) -> Level {
        match &self.access {
            Some(access) => access.level(&self.sub, name),
            None => AccessMap::default().level(&self.sub, name),
        }
    }

    /// Whether this user may operate the server: `admin` on `*`, by the token alone.
    #[must_use]
    pub fn is_operator(&self) -> bool {
        self.access.as_ref().is_some_and(|access| access.level_everywhere() == Level::Admin)
    }
}

/// Taking back what was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Revocation {
    /// The token with this `jti` is refused from now on, and its channels end.
    Token(String),
    /// With [`Mode::Disconnect`] all tokens of this user that were issued so far are refused, and their channels end.
    User(String, Mode),
    /// Everybody who is in this room.
    Room(String, Mode),
}

/// How channels are told that their rights changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Their rights are looked up again, and hold from then on.
    Recheck,
    /// They end.
    Disconnect,
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
    source: Source,
    callback: Option<Callback>,
    revoked: RevokedList,
    /// How long a revocation is kept when nobody knows when the token runs out.
    keep_revoked: Duration,
    watch: Arc<Watch>,
    revocations: Counter,
    revocations_forgotten: Counter,
    clock: Clock,
}

/// Where identities come from.
enum Source {
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
        let source = match &config.key {
            _ if dev => Source::Dev(developer()),
            Some(source) => Source::Tokens(Box::new(Verifier::new(source, config, clock)?)),
            None => return Err(KeyError("no key to check tokens with is configured".into())),
        };
        // In development mode there is nobody to ask about.
        let callback = config.callback.as_ref().filter(|_| !dev);
        Ok(Self {
            source,
            callback: callback.map(|config| Callback::new(config, clock)).transpose()?,
            revoked: RevokedList::nowhere(),
            keep_revoked: config.keep_revoked,
            watch: Arc::default(),
            revocations: Counter::noop(),
            revocations_forgotten: Counter::noop(),
            clock,
        })
    }

    /// Refuses what this list refuses, and adds to it.
    #[must_use]
    pub fn with_revoked(self, revoked: RevokedList) -> Self {
        Self { revoked, ..self }
    }

    /// Counts what happens.
    #[must_use]
    pub fn with_metrics(mut self, metrics: &Metrics) -> Self {
        if let Some(callback) = &mut self.callback {
            callback.count(Counts {
                requests: metrics.callback_requests.clone(),
                failures: metrics.callback_failures.clone(),
                seconds: metrics.callback_seconds.clone(),
            });
        }
        self.revocations = metrics.revocations.clone();
        self.revocations_forgotten = metrics.revocations_forgotten.clone();
        self
    }

    /// Who the token was made for; without one, nobody may enter but in development mode.
    ///
    /// # Errors
    /// [`AuthError`] with [`ErrorCode::AuthExpired`] where a new token helps, [`ErrorCode::AuthFailed`] where it does
    /// not or was revoked, and a transient code when the token could not be checked.
    pub async fn authenticate(&self, token: Option<&str>) -> Result<Identity, AuthError> {
        // Read first: a revocation that comes from here on is noticed by whoever enters with this identity.
        let as_of = self.watch.revocations();
        let identity = match (&self.source, token) {
            (Source::Dev(identity), _) => return Ok(Identity { as_of, ..identity.clone() }),
            (Source::Tokens(verifier), Some(token)) if !token.is_empty() => {
                verifier.verify(token, self.clock.now().wall_ms).await?
            }
            (Source::Tokens(_), _) => return Err(auth_failed("a token is needed")),
        };
        self.refuse_revoked(&identity)?;
        Ok(Identity { as_of, ..identity })
    }

    /// What somebody may do with the document or room `name`, by the token and by the application, as far as it is asked:
    /// the lower of the two; by the application alone where the token says nothing. Another user's room is closed and the
    /// own one is readable whatever they say.
    ///
    /// # Errors
    /// [`ErrorCode::AuthFailed`] when the token was revoked meanwhile, [`ErrorCode::Overloaded`] when the application
    /// cannot be asked right now.
    pub async fn authorize(&self, identity: &Identity, name: &str) -> Result<Level, AuthError> {
        if self.is_dev() {
            return Ok(identity.level(name));
        }
        self.refuse_revoked(identity)?;
        match &self.callback {
            None => Ok(identity.level(name)),
            // Boxed, because those who need not ask should not carry the room for it.
            Some(callback) => Box::pin(ask(callback, identity, name)).await,
        }
    }

    /// Whether the application is asked about everything that somebody opens.
    #[must_use]
    pub fn asks_application(&self) -> bool {
        self.callback.is_some()
    }

    /// The channels that are open. Whoever opens one enters it here.
    #[must_use]
    pub fn watch(&self) -> &Arc<Watch> {
        &self.watch
    }

    /// Takes rights back: in force when this is first polled, and durable when it is done. Answers how many live channels
    /// were told; they act on it by themselves.
    ///
    /// # Errors
    /// When the list of what is refused could not be written: it is in force, but a restart would forget it.
    pub async fn revoke(&self, revocation: &Revocation) -> io::Result<usize> {
        self.keep(self.take_back(revocation)).await
    }

    /// What has to be remembered of a revocation.
    fn entry(&self, revocation: &Revocation) -> Option<Revoked> {
        let now = self.clock.now().wall_ms;
        let kept = now.saturating_add(u64::try_from(self.keep_revoked.as_millis()).unwrap_or(u64::MAX));
        let known = |whose| Some(self.watch.last_expiry_ms(whose)?.saturating_add(jwt::LEEWAY_MS_MAX));
        match revocation {
            Revocation::Token(jti) => {
                Some(Revoked::Token { jti: jti.clone(), until_ms: known(Whose::Token(jti)).unwrap_or(kept) })
            }
            Revocation::User(sub, Mode::Disconnect) => {
                // There may be more tokens than are in use.
                let until_ms = known(Whose::User(sub)).unwrap_or(0).max(kept);
                Some(Revoked::User { sub: sub.clone(), issued_until_ms: now, until_ms })
            }
            Revocation::User(_, Mode::Recheck) | Revocation::Room(..) => None,
        }
    }

    fn refuse_revoked(&self, identity: &Identity) -> Result<(), AuthError> {
        if self.revoked.refuses(identity, self.clock.now().wall_ms) {
            return Err(auth_failed("the token was revoked"));
        }
        Ok(())
    }

    /// Whether there are no users: then limits per user and per address do not apply.
    #[must_use]
    pub fn is_dev(&self) -> bool {
        matches!(self.source, Source::Dev(_))
    }

    /// Fetches a key set at start, so that the first login does not wait for it. `false` when it failed; it was logged,
    /// and is tried again when a token needs it.
    pub async fn refresh(&self) -> bool {
        match &self.source {
            Source::Dev(_) => true,
            Source::Tokens(verifier) => verifier.refresh().await,
        }
    }

    /// Keeps a key set fresh, for ever: the composition root runs this beside the server.
    pub async fn keep_fresh(&self) {
        match &self.source {
            Source::Dev(_) => std::future::pending().await,
            Source::Tokens(verifier) => verifier.keep_fresh().await,
        }
    }
}

impl Mode {
    fn ring(self) -> Ring {
        match self {
            Self::Recheck => Ring::Recheck,
            Self::Disconnect => Ring::End(ErrorCode::Forbidden),
        }
    }
}

/// The lower of what the token and the application allow. Nobody is asked where the answer makes no difference.
async fn ask(callback: &Callback, identity: &Identity, name: &str) -> Result<Level, AuthError> {
    let owner = name.strip_prefix("user:");
    let least = if owner == Some(&*identity.sub) { Level::Read } else { Level::None };
    let most = match owner {
        Some(owner) if owner != &*identity.sub => Level::None,
        _ if identity.access.is_some() => identity.level(name),
        _ => Level::Admin,
    };
    if most <= least {
        return Ok(most);
    }
    Ok(callback.level(identity, name).await?.min(most).max(least))
}

fn auth_failed(message: &'static str) -> AuthError {
    AuthError { code: ErrorCode::AuthFailed, message: message.into() }
}

fn developer() -> Identity {
    Identity {
        sub: DEV_SUB.into(),
        name: None,
        email: None,
        jti: None,
        issued_at_ms: None,
        expires_at_ms: None,
        access: Some(Arc::new(AccessMap::everything(Level::Admin))),
        as_of: 0,
    }
}
