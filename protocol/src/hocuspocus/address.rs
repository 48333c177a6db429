//! What stands in front of every frame: which document, and for which of its sessions on this socket.

use std::borrow::Borrow;
use std::fmt;
use std::hash::Hash;
use std::hash::Hasher;
use std::sync::Arc;

use crate::limits::ADDRESS_NAME_BYTES_MAX;
use crate::limits::ADDRESS_SESSION_BYTES_MAX;

/// Between the document's name and the session.
const SEPARATOR: char = '\0';

/// The address of a channel as its client sends it, and wants it back: a document's name, or a name, NUL and a session of the
/// client's choice. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address {
    raw: Arc<str>,
    name_bytes: u16,
}

/// Why there is no such address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Not UTF-8: it cannot be answered.
    #[error("an address that is not text")]
    Utf8,
    /// No name, or a name or a session that is too long.
    #[error("an address that no document has")]
    Name,
}

impl Address {
    /// Reads an address. Whether its name may be a document's is for others to say.
    ///
    /// # Errors
    /// [`AddressError`] when it is not UTF-8, its name is blank or longer than [`ADDRESS_NAME_BYTES_MAX`], or its session is
    /// longer than [`ADDRESS_SESSION_BYTES_MAX`].
    pub fn parse(raw: &[u8]) -> Result<Self, AddressError> {
        let raw = std::str::from_utf8(raw).map_err(|_| AddressError::Utf8)?;
        let (name, session) = raw.split_once(SEPARATOR).unwrap_or((raw, ""));
        let fits = name.len() <= ADDRESS_NAME_BYTES_MAX && session.len() <= ADDRESS_SESSION_BYTES_MAX;
        if !fits || name.trim().is_empty() {
            return Err(AddressError::Name);
        }
        // At most 255.
        Ok(Self { raw: raw.into(), name_bytes: name.len() as u16 })
    }

    /// All of it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.raw
    }

    /// The document's name, as it was sent.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.raw[..usize::from(self.name_bytes)]
    }

    /// The session, where the client keeps several channels of one document apart. `None`: the plain address, under which
    /// all readers of a document can share their frames.
    #[must_use]
    pub fn session(&self) -> Option<&str> {
        self.raw[usize::from(self.name_bytes)..].strip_prefix(SEPARATOR)
    }
}

/// Addresses are looked up by the bytes at the front of a frame; text is ordered as its bytes are.
impl Borrow<[u8]> for Address {
    fn borrow(&self) -> &[u8] {
        self.raw.as_bytes()
    }
}

/// As its bytes hash, which text does not.
impl Hash for Address {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.raw.as_bytes().hash(state);
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.raw)
    }
}
