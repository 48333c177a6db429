//! Tokens: is the signature ours, are the claims sound, who is it. The time is handed in.

use std::sync::Arc;

use jsonwebtoken::Algorithm;
use jsonwebtoken::EncodingKey;
use jsonwebtoken::Header;
use jsonwebtoken::Validation;
use serde::Deserialize;
use serde::Serialize;
use syncline_protocol::ErrorCode;

use crate::auth::AuthError;
use crate::auth::Identity;
use crate::auth::access::AccessMap;
use crate::auth::access::Level;
use crate::auth::jwks::Jwks;
use crate::auth::jwks::NoKey;
use crate::auth::keys::Key;
use crate::auth::keys::KeyError;
use crate::clock::Clock;
use crate::config::AuthConfig;
use crate::config::KeySource;
use crate::config::Secret;

/// Longest token. It also bounds every claim; proxies rarely let longer headers pass.
pub const TOKEN_BYTES_MAX: usize = 16 * 1024;
/// `user:{sub}` must be a valid name of 255 bytes.
pub const SUB_BYTES_MAX: usize = 250;
/// Longest `name`, `email` and `jti`: they are shown to others and kept per connection.
pub const CLAIM_BYTES_MAX: usize = 1024;
/// The most that `auth.leeway_seconds` may be: a token that ran out longer ago is refused under any configuration.
pub(super) const LEEWAY_MS_MAX: u64 = 300_000;
/// Milliseconds up to here are exact in JSON readers and far from overflow; it is the year 287396.
const SECONDS_MAX: f64 = 9_007_199_254_740.0;

/// Checks tokens against one configured source of keys.
pub struct Verifier {
    keys: Keys,
    audience: Vec<String>,
    issuer: Vec<String>,
    leeway_ms: u64,
}

enum Keys {
    One(Box<Key>),
    Set(Jwks),
}

/// The claims that are read; all others are passed over. A claim that stands twice is an error.
#[derive(Deserialize)]
struct Claims {
    sub: Option<String>,
    exp: Option<f64>,
    iat: Option<f64>,
    nbf: Option<f64>,
    name: Option<String>,
    email: Option<String>,
    jti: Option<String>,
    aud: Option<OneOrMany>,
    iss: Option<String>,
    access: Option<AccessMap>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl OneOrMany {
    fn contains_any_of(&self, accepted: &[String]) -> bool {
        match self {
            Self::One(one) => accepted.contains(one),
            Self::Many(many) => many.iter().any(|one| accepted.contains(one)),
        }
    }
}

impl Verifier {
    /// Reads the configured key. A key set at an address is fetched later, by [`Self::refresh`] or the first token.
    ///
    /// # Errors
    /// [`KeyError`] when a file cannot be read or is not such a key.
    pub fn new(source: &KeySource, config: &AuthConfig, clock: Clock) -> Result<Self, KeyError> {
        let keys = match source {
            KeySource::Secret(secret) => Keys::One(Box::new(Key::from_secret(secret.reveal()))),
            KeySource::PublicKeyFile(path) => Keys::One(Box::new(Key::from_pem_file(path)?)),
            KeySource::JwksFile(path) => {
                super::keys::KeySet::from_file(path)?;
                Keys::Set(Jwks::of_file(path.clone(), clock))
            }
            KeySource::JwksUrl(url) => Keys::Set(Jwks::of_url(url, clock)?),
        };
        let leeway_ms = u64::try_from(config.leeway.as_millis()).unwrap_or(0);
        Ok(Self { keys, audience: config.audience.clone(), issuer: config.issuer.clone(), leeway_ms })
    }

    /// Who the token was made for.
    ///
    /// # Errors
    /// [`ErrorCode::AuthFailed`] for a token that will never be good, [`ErrorCode::AuthExpired`] for one that was,
    /// [`ErrorCode::Overloaded`] when the keys to check it cannot be had right now.
    pub async fn verify(&self, token: &str, wall_ms: u64) -> Result<Identity, AuthError> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(failed("the token is too long"));
        }
        let header = jsonwebtoken::decode_header(token).map_err(|_| failed("the token is not a JWT"))?;
        if header.crit.is_some() {
            return Err(failed("the token demands extensions (crit) that are not known here"));
        }
        let key = self.key(header.kid.as_deref()).await?;
        let claims = checked_signature(token, &key)?;
        self.check_origin(&claims)?;
        self.identity(claims, wall_ms)
    }

    /// Fetches a key set; nothing to do for a fixed key. `false` when it failed.
    pub async fn refresh(&self) -> bool {
        match &self.keys {
            Keys::One(_) => true,
            Keys::Set(set) => set.refresh().await,
        }
    }

    /// Keeps a key set fresh, for ever; never returns.
    pub async fn keep_fresh(&self) {
        match &self.keys {
            Keys::One(_) => std::future::pending().await,
            Keys::Set(set) => set.keep_fresh().await,
        }
    }

    async fn key(&self, id: Option<&str>) -> Result<Key, AuthError> {
        match &self.keys {
            Keys::One(key) => Ok(Key::clone(key)),
            Keys::Set(set) => set.key(id).await.map_err(|none| match none {
                NoKey::Unknown => failed("the token is signed with a key that is not known here"),
                NoKey::Unavailable => AuthError {
                    code: ErrorCode::Overloaded,
                    message: "the keys to check this token are not available right now".into(),
                },
            }),
        }
    }

    fn check_origin(&self, claims: &Claims) -> Result<(), AuthError> {
        let audience_fits = claims.aud.as_ref().is_some_and(|aud| aud.contains_any_of(&self.audience));
        if !self.audience.is_empty() && !audience_fits {
            return Err(failed("the token is for another audience"));
        }
        let issuer_fits = claims.iss.as_ref().is_some_and(|iss| self.issuer.contains(iss));
        if !self.issuer.is_empty() && !issuer_fits {
            return Err(failed("the token is of another issuer"));
        }
        Ok(())
    }

    fn identity(&self, claims: Claims, wall_ms: u64) -> Result<Identity, AuthError> {
        let sub = claims.sub.filter(|sub| is_sound_sub(sub));
        let sub = sub.ok_or_else(|| failed("the token has no usable sub (1 to 250 bytes, no control characters)"))?;
        let exp = claims.exp.ok_or_else(|| failed("the token has no exp"))?;
        let expires_at_ms = milliseconds(exp).ok_or_else(|| failed("the token's exp is not a time"))?;
        let begins_at_ms = match claims.nbf {
            Some(nbf) => milliseconds(nbf).ok_or_else(|| failed("the token's nbf is not a time"))?,
            None => 0,
        };
        let issued_at_ms = match claims.iat {
            Some(iat) => Some(milliseconds(iat).ok_or_else(|| failed("the token's iat is not a time"))?),
            None => None,
        };
        let texts = [&claims.name, &claims.email, &claims.jti];
        if texts.into_iter().flatten().any(|text| text.len() > CLAIM_BYTES_MAX) {
            return Err(failed("name, email or jti of the token is too long"));
        }
        if begins_at_ms > wall_ms.saturating_add(self.leeway_ms) {
            return Err(failed("the token is not valid yet"));
        }
        if expires_at_ms.saturating_add(self.leeway_ms) <= wall_ms {
            return Err(AuthError { code: ErrorCode::AuthExpired, message: "the token has expired".into() });
        }
        Ok(Identity {
            sub: sub.into(),
            name: claims.name.map(Arc::from),
            email: claims.email.map(Arc::from),
            jti: claims.jti.map(Arc::from),
            issued_at_ms,
            expires_at_ms: Some(expires_at_ms),
            access: claims.access.map(Arc::new),
            as_of: 0,
        })
    }
}

/// The library checks the signature only, with the key's own algorithm: its clock cannot be handed in, and its defaults
/// (`nbf`, `iss`, a missing `aud`) are not ours.
fn checked_signature(token: &str, key: &Key) -> Result<Claims, AuthError> {
    let mut validation = Validation::new(key.algorithm);
    validation.required_spec_claims.clear();
    validation.validate_exp = false;
    validation.validate_nbf = false;
    validation.validate_aud = false;
    match jsonwebtoken::decode::<Claims>(token, &key.key, &validation) {
        Ok(data) => Ok(data.claims),
        Err(error) => Err(failed(match error.kind() {
            jsonwebtoken::errors::ErrorKind::InvalidAlgorithm => "the token is signed with another algorithm",
            jsonwebtoken::errors::ErrorKind::InvalidSignature => "the token's signature does not fit",
            // Never the library's text: it quotes claims.
            jsonwebtoken::errors::ErrorKind::Json(_) => "the token's claims are not as expected",
            _ => "the token cannot be checked",
        })),
    }
}

/// Whether tokens may have this `sub`: 1 to [`SUB_BYTES_MAX`] bytes without control characters.
#[must_use]
pub fn is_sound_sub(sub: &str) -> bool {
    !sub.is_empty() && sub.len() <= SUB_BYTES_MAX && !sub.chars().any(char::is_control)
}

/// A `NumericDate` may have a fraction. `None` when it is not a time of this or a near epoch.
fn milliseconds(seconds: f64) -> Option<u64> {
    let in_range = (0.0..=SECONDS_MAX).contains(&seconds);
    // In range, the product is below 2^53; out of range, the cast saturates and the result is not used.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    in_range.then_some((seconds * 1000.0) as u64)
}

fn failed(message: &'static str) -> AuthError {
    AuthError { code: ErrorCode::AuthFailed, message: message.into() }
}

/// What a new token says.
#[derive(Debug, Clone, Serialize)]
pub struct NewToken<'a> {
    /// The user.
    pub sub: &'a str,
    /// When it was made: seconds since 1970, UTC. A revocation of its user's tokens goes by this.
    pub iat: u64,
    /// When it runs out: seconds since 1970, UTC.
    pub exp: u64,
    /// Shown to others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<&'a str>,
    /// Shown to others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub email: Option<&'a str>,
    /// To revoke this token alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jti: Option<&'a str>,
    /// From pattern to level.
    pub access: std::collections::BTreeMap<String, Level>,
}

/// Signs a token with a shared secret (HS256).
///
/// # Errors
/// [`KeyError`] for a `sub` that no server would take.
pub fn mint(secret: &Secret, token: &NewToken<'_>) -> Result<String, KeyError> {
    if !is_sound_sub(token.sub) {
        return Err(KeyError(format!("sub needs 1 to {SUB_BYTES_MAX} bytes without control characters")));
    }
    let key = EncodingKey::from_secret(secret.reveal().as_bytes());
    let text = jsonwebtoken::encode(&Header::new(Algorithm::HS256), token, &key)
        .map_err(|error| KeyError(format!("cannot sign: {error}")))?;
    if text.len() > TOKEN_BYTES_MAX {
        return Err(KeyError(format!("the token would be longer than {TOKEN_BYTES_MAX} bytes")));
    }
    Ok(text)
}

#[cfg(test)]
#[path = "jwt_tests.rs"]
mod tests;
