//! What one struct holds: read past it, check it, and say how many clocks it takes.

use crate::limits::ANY_DEPTH_MAX;
use crate::update::Invalid;
use crate::update::UpdateLimits;
use crate::update::cursor::Cursor;
use crate::update::json;
use crate::update::json::Fault;

pub(super) const GC: u8 = 0;
pub(super) const DELETED: u8 = 1;
const JSON: u8 = 2;
pub(super) const BINARY: u8 = 3;
pub(super) const STRING: u8 = 4;
const EMBED: u8 = 5;
const FORMAT: u8 = 6;
pub(super) const TYPE: u8 = 7;
pub(super) const ANY: u8 = 8;
const DOC: u8 = 9;
pub(super) const SKIP: u8 = 10;
const MOVE: u8 = 11;

/// The kinds of content seen in an update, as a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct ContentKinds(u32);

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $bit:expr;)*) => { $($(#[$doc])* pub const $name: Self = Self(1 << $bit);)* };
}

impl ContentKinds {
    kinds! {
        /// Structs whose content was collected.
        GC = GC;
        /// Items whose content was deleted.
        DELETED = DELETED;
        /// Byte arrays.
        BINARY = BINARY;
        /// Text.
        STRING = STRING;
        /// Embedded objects in text.
        EMBED = EMBED;
        /// Formatting marks in text.
        FORMAT = FORMAT;
        /// Plain values of maps and arrays.
        ANY = ANY;
        /// Subdocuments.
        DOC = DOC;
        /// Gaps.
        SKIP = SKIP;
        /// Nested arrays.
        ARRAY = 16;
        /// Nested maps.
        MAP = 17;
        /// Nested texts.
        TEXT = 18;
        /// XML elements.
        XML_ELEMENT = 19;
        /// XML fragments.
        XML_FRAGMENT = 20;
        /// XML texts.
        XML_TEXT = 22;
    }

    /// Whether every kind of `other` is here.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether any kind of `other` is here.
    #[must_use]
    pub const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Both sets together.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    fn of_content(content: u8) -> Self {
        Self(1 << content)
    }
}

/// Whether this is content that nothing else refers to.
pub(super) fn is_plain(content: u8) -> bool {
    matches!(content, BINARY | STRING | EMBED | ANY)
}

/// Reads the content numbered `content`. The number of clocks it takes is never 0.
#[inline]
pub(super) fn read(
    cursor: &mut Cursor<'_>,
    content: u8,
    info: u8,
    limits: &UpdateLimits,
) -> Result<(u32, ContentKinds), Invalid> {
    let at = cursor.at();
    let mut kind = ContentKinds::of_content(content);
    let length = match content {
        STRING => utf16_units(cursor.string()?, at)?,
        ANY => values(cursor)?,
        DELETED => cursor.length()?,
        BINARY => {
            cursor.bytes()?;
            1
        }
        EMBED => json_text(cursor)?,
        FORMAT => {
            cursor.string()?;
            json_text(cursor)?
        }
        TYPE => {
            kind = type_ref(cursor)?;
            1
        }
        DOC if !limits.allow_subdocuments => return Err(Invalid::Subdocument { at }),
        DOC => {
            cursor.string()?;
            value(cursor, 0)?;
            1
        }
        JSON => return Err(Invalid::JsonContent { at }),
        MOVE => return Err(Invalid::Move { at }),
        _ => return Err(Invalid::Info { at, info }),
    };
    Ok((length, kind))
}

fn utf16_units(text: &str, at: usize) -> Result<u32, Invalid> {
    let units = count_utf16(text.as_bytes());
    if units == 0 {
        return Err(Invalid::Empty { at });
    }
    u32::try_from(units).map_err(|_| Invalid::Clock { at })
}

/// UTF-16 units of valid UTF-8: one for each character, one more for those of four bytes.
#[inline]
pub(super) fn count_utf16(text: &[u8]) -> usize {
    text.iter().map(|&byte| usize::from(byte & 0xc0 != 0x80) + usize::from(byte >= 0xf0)).sum()
}

fn type_ref(cursor: &mut Cursor<'_>) -> Result<ContentKinds, Invalid> {
    let at = cursor.at();
    // One byte, not a varUint: the engine reads one byte and Yjs a varUint, which must not mean two things.
    let type_ref = cursor.u8()?;
    match type_ref {
        3 => {
            cursor.string()?;
        }
        0..=2 | 4 | 6 => {}
        5 => return Err(Invalid::XmlHook { at }),
        7 => return Err(Invalid::WeakLink { at }),
        _ => return Err(Invalid::TypeRef { at, type_ref }),
    }
    Ok(ContentKinds(1 << (16 + type_ref)))
}

fn json_text(cursor: &mut Cursor<'_>) -> Result<u32, Invalid> {
    let at = cursor.at();
    match json::check(cursor.string()?) {
        Ok(()) => Ok(1),
        Err(Fault::Syntax) => Err(Invalid::Json { at }),
        Err(Fault::Depth) => Err(Invalid::ValueDepth { at }),
    }
}

fn values(cursor: &mut Cursor<'_>) -> Result<u32, Invalid> {
    let at = cursor.at();
    let count = cursor.count(1)?;
    if count == 0 {
        return Err(Invalid::Empty { at });
    }
    for _ in 0..count {
        value(cursor, 0)?;
    }
    u32::try_from(count).map_err(|_| Invalid::Clock { at })
}

/// Reads past one plain value that lies `depth` deep.
pub(super) fn value(cursor: &mut Cursor<'_>, depth: usize) -> Result<(), Invalid> {
    let at = cursor.at();
    if depth > ANY_DEPTH_MAX {
        return Err(Invalid::ValueDepth { at });
    }
    match cursor.u8()? {
        // undefined, null, false, true
        127 | 126 | 121 | 120 => {}
        125 => cursor.int()?,
        124 => cursor.skip(4)?,
        123 | 122 => cursor.skip(8)?,
        119 => {
            cursor.string()?;
        }
        118 => {
            for _ in 0..cursor.count(2)? {
                cursor.string()?;
                value(cursor, depth + 1)?;
            }
        }
        117 => {
            for _ in 0..cursor.count(1)? {
                value(cursor, depth + 1)?;
            }
        }
        116 => {
            cursor.bytes()?;
        }
        tag => return Err(Invalid::ValueTag { at, tag }),
    }
    Ok(())
}
