//! Keys that check signatures: each knows the one algorithm it is for, whatever a token says.

use std::collections::HashMap;
use std::path::Path;

use jsonwebtoken::Algorithm;
use jsonwebtoken::DecodingKey;
use jsonwebtoken::jwk::AlgorithmParameters;
use jsonwebtoken::jwk::EllipticCurve;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::jwk::KeyAlgorithm;
use jsonwebtoken::jwk::PublicKeyUse;

/// A key set has a handful of keys of about a kilobyte each.
pub(super) const KEY_FILE_BYTES_MAX: usize = 256 * 1024;
/// More keys than any provider rotates through.
const KEYS_MAX: usize = 100;

/// A key and its algorithm.
#[derive(Clone)]
pub(super) struct Key {
    pub(super) algorithm: Algorithm,
    pub(super) key: DecodingKey,
}

/// Why a key cannot be used. The text names the file or address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct KeyError(pub(super) String);

/// A set of keys by their `kid`.
#[derive(Clone, Default)]
pub(super) struct KeySet {
    by_id: HashMap<String, Key>,
    without_id: Vec<Key>,
}

impl Key {
    pub(super) fn from_secret(secret: &str) -> Self {
        Self { algorithm: Algorithm::HS256, key: DecodingKey::from_secret(secret.as_bytes()) }
    }

    /// Reads a PEM file with one public key; its type pins the algorithm.
    pub(super) fn from_pem_file(path: &Path) -> Result<Self, KeyError> {
        let shown = path.display();
        let pem = read(path)?;
        if String::from_utf8_lossy(&pem).contains("PRIVATE KEY") {
            return Err(KeyError(format!("{shown} is a private key: the server needs only the public one")));
        }
        Self::from_pem(&pem).ok_or_else(|| {
            KeyError(format!("{shown} is not a public key in PEM (RSA of 2048 bits or more, EC P-256, or Ed25519)"))
        })
    }

    fn from_pem(pem: &[u8]) -> Option<Self> {
        // A certificate also parses, but its first bit string need not be the key.
        if !String::from_utf8_lossy(pem).contains("PUBLIC KEY") {
            return None;
        }
        let rsa = || DecodingKey::from_rsa_pem(pem).ok().map(|key| (Algorithm::RS256, key));
        let ec = || DecodingKey::from_ec_pem(pem).ok().map(|key| (Algorithm::ES256, key));
        let ed = || DecodingKey::from_ed_pem(pem).ok().map(|key| (Algorithm::EdDSA, key));
        let (algorithm, key) = ec().or_else(ed).or_else(rsa)?;
        // An uncompressed point of P-256; other curves would fail on each token instead of once, here.
        let fits = match (algorithm, key.try_get_as_bytes()) {
            (Algorithm::ES256, Ok(point)) => point.len() == 65,
            (Algorithm::EdDSA, Ok(point)) => point.len() == 32,
            (_, Ok(der)) => der.len() > 2048 / 8,
            (_, Err(_)) => false,
        };
        fits.then_some(Self { algorithm, key })
    }

    /// `None` for a key that is for something else: encryption, another algorithm, a symmetric secret.
    fn from_jwk(jwk: &Jwk) -> Option<Self> {
        let (algorithm, word) = match &jwk.algorithm {
            // `n` is base64: 342 characters are 2048 bits. Shorter keys are broken keys.
            AlgorithmParameters::RSA(rsa) if rsa.n.len() >= 342 => (Algorithm::RS256, KeyAlgorithm::RS256),
            AlgorithmParameters::EllipticCurve(ec) if ec.curve == EllipticCurve::P256 => {
                (Algorithm::ES256, KeyAlgorithm::ES256)
            }
            AlgorithmParameters::OctetKeyPair(pair) if pair.curve == EllipticCurve::Ed25519 => {
                (Algorithm::EdDSA, KeyAlgorithm::EdDSA)
            }
            _ => return None,
        };
        let for_signatures = matches!(jwk.common.public_key_use, None | Some(PublicKeyUse::Signature));
        let for_algorithm = jwk.common.key_algorithm.is_none_or(|named| named == word);
        if !for_signatures || !for_algorithm {
            return None;
        }
        DecodingKey::from_jwk(jwk).ok().map(|key| Self { algorithm, key })
    }
}

impl KeySet {
    /// Reads a JSON Web Key Set. Keys that cannot check our tokens are passed over; none at all is an error.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, KeyError> {
        #[derive(serde::Deserialize)]
        struct Keys {
            keys: Vec<serde_json::Value>,
        }
        let keys: Keys = serde_json::from_slice(bytes).map_err(|_| KeyError("it is not a JSON Web Key Set".into()))?;
        if keys.keys.len() > KEYS_MAX {
            return Err(KeyError(format!("it has {} keys, more than {KEYS_MAX}", keys.keys.len())));
        }
        let mut set = Self::default();
        for value in keys.keys {
            let Ok(jwk) = serde_json::from_value::<Jwk>(value) else { continue };
            if let Some(key) = Key::from_jwk(&jwk) {
                match jwk.common.key_id {
                    Some(id) => drop(set.by_id.insert(id, key)),
                    None => set.without_id.push(key),
                }
            }
        }
        if set.len() == 0 {
            return Err(KeyError("it has no key for RS256, ES256 or EdDSA".into()));
        }
        Ok(set)
    }

    pub(super) fn from_file(path: &Path) -> Result<Self, KeyError> {
        Self::parse(&read(path)?).map_err(|error| KeyError(format!("{}: {error}", path.display())))
    }

    /// The key that a token names; a token that names none can only mean the only one.
    pub(super) fn find(&self, id: Option<&str>) -> Option<&Key> {
        match id {
            Some(id) => self.by_id.get(id),
            None if self.len() == 1 => self.by_id.values().chain(&self.without_id).next(),
            None => None,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.by_id.len() + self.without_id.len()
    }
}

fn read(path: &Path) -> Result<Vec<u8>, KeyError> {
    let cannot = |error: std::io::Error| KeyError(format!("cannot read {}: {error}", path.display()));
    let bytes = std::fs::metadata(path).map_err(cannot)?.len();
    if bytes > KEY_FILE_BYTES_MAX as u64 {
        return Err(KeyError(format!("{} has {bytes} bytes: that is no key", path.display())));
    }
    std::fs::read(path).map_err(cannot)
}
