//! Plain values of an update, for those who need one without the engine.

use crate::limits::ANY_DEPTH_MAX;
use crate::update::cursor::Cursor;

/// A plain value, owned.
#[derive(Debug, Clone, PartialEq)]
pub enum AnyValue {
    /// `null` and `undefined`.
    Null,
    /// A boolean.
    Bool(bool),
    /// A number that was written as an integer; negative zero counts as zero.
    Integer(i64),
    /// Any other number.
    Number(f64),
    /// Text.
    String(String),
    /// A byte array.
    Bytes(Vec<u8>),
    /// A list.
    Array(Vec<AnyValue>),
    /// Keys and values in the order of the bytes; of a key that comes twice the later one counts.
    Object(Vec<(String, AnyValue)>),
}

/// Reads one plain value that fills `bytes`. `None` for anything else, and for what is nested deeper than
/// [`ANY_DEPTH_MAX`]. Takes up to 32 bytes of memory for each byte.
#[must_use]
pub fn read_any(bytes: &[u8]) -> Option<AnyValue> {
    let mut reader = Values { cursor: Cursor::new(bytes), bytes };
    let value = reader.value(0)?;
    (reader.cursor.remaining() == 0).then_some(value)
}

struct Values<'a> {
    cursor: Cursor<'a>,
    bytes: &'a [u8],
}

impl Values<'_> {
    fn value(&mut self, depth: usize) -> Option<AnyValue> {
        if depth > ANY_DEPTH_MAX {
            return None;
        }
        Some(match self.cursor.u8().ok()? {
            127 | 126 => AnyValue::Null,
            125 => AnyValue::Integer(self.int()?),
            124 => AnyValue::Number(f32::from_be_bytes(self.take()?).into()),
            123 => AnyValue::Number(f64::from_be_bytes(self.take()?)),
            122 => AnyValue::Integer(i64::from_be_bytes(self.take()?)),
            121 => AnyValue::Bool(false),
            120 => AnyValue::Bool(true),
            119 => AnyValue::String(self.cursor.string().ok()?.to_owned()),
            118 => AnyValue::Object(self.object(depth)?),
            117 => {
                let count = self.cursor.count(1).ok()?;
                AnyValue::Array((0..count).map(|_| self.value(depth + 1)).collect::<Option<_>>()?)
            }
            116 => AnyValue::Bytes(self.cursor.bytes().ok()?.to_vec()),
            _ => return None,
        })
    }

    fn object(&mut self, depth: usize) -> Option<Vec<(String, AnyValue)>> {
        let count = self.cursor.count(2).ok()?;
        (0..count).map(|_| Some((self.cursor.string().ok()?.to_owned(), self.value(depth + 1)?))).collect()
    }

    /// Continuation, sign and six bits first, then seven bits a byte.
    fn int(&mut self) -> Option<i64> {
        let start = self.cursor.at();
        self.cursor.int().ok()?;
        let (first, rest) = self.bytes[start..self.cursor.at()].split_first()?;
        let low = i64::from(first & 0x3f);
        // At most 53 bits, the cursor has seen to that.
        let value = rest.iter().rev().fold(0, |high, byte| (high << 7) | i64::from(byte & 0x7f)) << 6 | low;
        Some(if first & 0x40 == 0 { value } else { -value })
    }

    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let start = self.cursor.at();
        self.cursor.skip(N).ok()?;
        self.bytes[start..start + N].try_into().ok()
    }
}
