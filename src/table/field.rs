//! Field types, and what a cell of each may hold.

/// The type of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FieldType {
    /// One line of text.
    Text,
    /// Text of several lines.
    Longtext,
    /// A number.
    Number,
    /// `true` or `false`.
    Checkbox,
    /// One of the choices.
    Select,
    /// Several of the choices.
    Multiselect,
    /// A day: `YYYY-MM-DD`.
    Date,
    /// A moment: milliseconds since 1970, UTC.
    Datetime,
    /// A user, or several.
    Person,
    /// Other records.
    Link,
    /// A web address.
    Url,
    /// A mail address.
    Email,
    /// A small whole number.
    Rating,
    /// Files.
    Attachment,
    /// Any JSON.
    Json,
    /// Rich text in a root of its own.
    Rich,
    /// A number that several people add to.
    Counter,
    /// Computed.
    Formula,
    /// When the record was created.
    Created,
    /// When the record was last changed.
    Updated,
}
