//! What may be wrong with a value, in words that programs can tell apart.

use thiserror::Error;

/// A rule that a value, an id or a field's description broke.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Rule {
    /// The value is of another type than its field.
    WrongType,
    /// No field has this id, nor one field alone this name.
    UnknownField,
    /// Too many bytes, characters, entries or levels.
    TooLong,
    /// The field is computed, or edited as a text of its own.
    ReadOnly,
    /// Another record has this value already.
    NotUnique,
    /// None of the field's choices.
    UnknownOption,
    /// Beyond the field's `min` or `max`, or what a number of this kind may be.
    OutOfRange,
    /// The field must not be empty.
    Required,
    /// The right type, but not written as this field wants it.
    BadFormat,
    /// Not an id, or a reserved one.
    BadId,
}

impl Rule {
    /// Every rule.
    pub const ALL: [Self; 10] = [
        Self::WrongType,
        Self::UnknownField,
        Self::TooLong,
        Self::ReadOnly,
        Self::NotUnique,
        Self::UnknownOption,
        Self::OutOfRange,
        Self::Required,
        Self::BadFormat,
        Self::BadId,
    ];

    /// The word in answers and events.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::WrongType => "wrong_type",
            Self::UnknownField => "unknown_field",
            Self::TooLong => "too_long",
            Self::ReadOnly => "read_only",
            Self::NotUnique => "not_unique",
            Self::UnknownOption => "unknown_option",
            Self::OutOfRange => "out_of_range",
            Self::Required => "required",
            Self::BadFormat => "bad_format",
            Self::BadId => "bad_id",
        }
    }
}

/// A value that is refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{message}")]
pub struct Wrong {
    /// Which rule it broke.
    pub rule: Rule,
    /// Where in what was given, as `options.choices[3].name`; empty for all of it.
    pub path: String,
    /// What a person can do about it. Never contains the value itself.
    pub message: String,
}

impl Wrong {
    pub(in crate::table) fn new(rule: Rule, message: impl Into<String>) -> Self {
        Self { rule, path: String::new(), message: message.into() }
    }

    /// The same, found inside of `parent`.
    #[must_use]
    pub fn under(mut self, parent: &str) -> Self {
        let joint = if self.path.is_empty() || self.path.starts_with('[') { "" } else { "." };
        self.path = format!("{parent}{joint}{}", self.path);
        self
    }
}

/// As `Result`, for what can only be refused.
pub(in crate::table) type Checked<T = ()> = Result<T, Wrong>;
