//! A no to a command about a table, with what a program needs to act on it.

use std::fmt::Display;

use serde_json::Map;
use serde_json::Value;
use syncline_protocol::ErrorCode;
use thiserror::Error;

use super::field::CELL_BYTES_MAX;
use super::field::Rule;
use super::field::Wrong;

/// Why nothing was done.
#[derive(Debug, Clone, PartialEq, Error)]
#[error("{message}")]
pub struct Refused {
    /// Which kind of no. [`ErrorCode::InvalidPayload`] always comes with `path`: it was parsed, and is wrong.
    pub code: ErrorCode,
    /// One sentence for people.
    pub message: String,
    /// What the code promises: `path`, `rule`, `limit`, `recordId`, and for a stale version all of it.
    pub data: Map<String, Value>,
}

impl Refused {
    /// A refusal without facts.
    #[must_use]
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), data: Map::new() }
    }

    /// Something in the request that was parsed and is wrong.
    #[must_use]
    pub fn wrong(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(ErrorCode::InvalidPayload, message).with("path", path.into())
    }

    /// Over a limit; `what` is the plural of what is limited.
    #[must_use]
    pub fn too_large(limit: usize, what: impl Display) -> Self {
        Self::new(ErrorCode::PayloadTooLarge, format!("more than {limit} {what}")).with("limit", limit)
    }

    /// Adds a fact.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.data.insert(key.to_owned(), value.into());
        self
    }

    /// A part of a table's or a field's description is wrong.
    #[must_use]
    pub fn of_description(wrong: Wrong) -> Self {
        Self::wrong(wrong.path, wrong.message).with("rule", wrong.rule.word())
    }

    /// A cell is wrong: it names no field, or its field does not take `value`.
    #[must_use]
    pub fn of_cell(wrong: Wrong, value: &Value) -> Self {
        let is_oversized = wrong.rule == Rule::TooLong && text_bytes(value) > CELL_BYTES_MAX;
        let refused = match wrong.rule {
            Rule::UnknownField | Rule::BadId => Self::new(ErrorCode::InvalidPayload, wrong.message),
            _ if is_oversized => Self::too_large(CELL_BYTES_MAX, "bytes in a cell"),
            _ => Self::new(ErrorCode::InvalidValue, wrong.message),
        };
        refused.with("path", wrong.path).with("rule", wrong.rule.word())
    }
}

fn text_bytes(value: &Value) -> usize {
    value.as_str().map_or_else(|| value.to_string().len(), str::len)
}
