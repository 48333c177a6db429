//! Plain values of an update.

/// A plain value, owned.
#[derive(Debug, Clone, PartialEq)]
pub enum AnyValue {
    /// `null` and `undefined`.
    Null,
    /// A boolean.
    Bool(bool),
    /// A number that was written as an integer.
    Integer(i64),
    /// Any other number.
    Number(f64),
    /// Text.
    String(String),
    /// A byte array.
    Bytes(Vec<u8>),
    /// A list.
    Array(Vec<AnyValue>),
    /// Keys and values in the order of the bytes; a key that comes twice counts as the later one.
    Object(Vec<(String, AnyValue)>),
}

/// Reads one plain value that fills `bytes`. `None` for anything else, and for what is nested deeper than
/// [`crate::limits::ANY_DEPTH_MAX`].
#[must_use]
pub fn read_any(bytes: &[u8]) -> Option<AnyValue> {
    let _ = bytes;
    None
}
