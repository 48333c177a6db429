//! Names of documents and rooms: checked once at the edge, valid ever after.

use std::fmt;
use std::sync::Arc;

/// Longest name in bytes of UTF-8.
pub const NAME_BYTES_MAX: usize = 255;

/// Kinds that name rooms only: a document of such a name is refused.
const ROOM_KINDS: [&str; 10] =
    ["base", "project", "thread", "campaign", "settlement", "structure", "entity", "presence", "user", "global"];

/// A valid name: 1 to 255 bytes of UTF-8 without control characters, with an optional `kind:` prefix. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DocName(Arc<str>);

/// Why a name was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// No character at all.
    #[error("a name needs at least one character")]
    Empty,
    /// More than [`NAME_BYTES_MAX`] bytes.
    #[error("a name has at most {NAME_BYTES_MAX} bytes of UTF-8")]
    TooLong,
    /// A control character, for example a line break or NUL.
    #[error("a name has no control characters")]
    ControlCharacter,
    /// A kind that never becomes a document, for example `user:` or `project:`.
    #[error("names of this kind are rooms, not documents")]
    RoomOnly,
}

impl DocName {
    /// Checks a name that is to be a document.
    ///
    /// # Errors
    /// [`NameError`] says which rule the name breaks.
    pub fn parse(raw: &str) -> Result<Self, NameError> {
        RoomName::parse(raw)?.as_doc().ok_or(NameError::RoomOnly)
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What stands before the first `:`, if anything does.
    #[must_use]
    pub fn kind(&self) -> Option<&str> {
        self.0.split_once(':').map(|(kind, _)| kind).filter(|kind| !kind.is_empty())
    }
}

/// A valid name of a room: of every document, and of rooms without one. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RoomName(DocName);

impl RoomName {
    /// Checks a name that is to be a room.
    ///
    /// # Errors
    /// [`NameError`] says which rule the name breaks; never [`NameError::RoomOnly`].
    pub fn parse(raw: &str) -> Result<Self, NameError> {
        if raw.is_empty() {
            return Err(NameError::Empty);
        }
        if raw.len() > NAME_BYTES_MAX {
            return Err(NameError::TooLong);
        }
        if raw.chars().any(char::is_control) {
            return Err(NameError::ControlCharacter);
        }
        Ok(Self(DocName(raw.into())))
    }

    /// The document of the same name; `None` for a kind that never becomes one.
    #[must_use]
    pub fn as_doc(&self) -> Option<DocName> {
        let is_room_only = self.0.kind().is_some_and(|kind| ROOM_KINDS.contains(&kind)) || self.as_str() == "global";
        (!is_room_only).then(|| self.0.clone())
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl From<&DocName> for RoomName {
    fn from(doc: &DocName) -> Self {
        Self(doc.clone())
    }
}

impl fmt::Display for DocName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for DocName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_documents() {
        for name in ["a", "table:T", "a/b/ü", "x y", ":odd", "🙂", &"n".repeat(255)] {
            assert_eq!(DocName::parse(name).map(|n| n.to_string()), Ok(name.to_owned()));
        }
        assert_eq!(DocName::parse("table:T").unwrap().kind(), Some("table"));
        assert_eq!(DocName::parse(":odd").unwrap().kind(), None);
    }

    #[test]
    fn names_that_are_refused_say_why() {
        assert_eq!(DocName::parse(""), Err(NameError::Empty));
        assert_eq!(DocName::parse(&"é".repeat(128)), Err(NameError::TooLong));
        assert_eq!(DocName::parse("a\nb"), Err(NameError::ControlCharacter));
        assert_eq!(DocName::parse("a\u{0}"), Err(NameError::ControlCharacter));
        assert_eq!(DocName::parse("user:alice"), Err(NameError::RoomOnly));
        assert_eq!(DocName::parse("global"), Err(NameError::RoomOnly));
    }
    #[test]
    fn every_document_is_a_room_and_some_rooms_are_no_documents() {
        let doc = DocName::parse("table:T").unwrap();
        assert_eq!(RoomName::from(&doc).as_doc(), Some(doc));
        for name in ["user:alice", "global", "campaign:7"] {
            let room = RoomName::parse(name).unwrap();
            assert_eq!((room.as_str(), room.as_doc()), (name, None));
        }
        assert_eq!(RoomName::parse("user:a\r"), Err(NameError::ControlCharacter));
    }
}
