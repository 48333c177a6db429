//! Field types, and what a cell of each may hold.
//!
//! A cell is kept under one or more keys of its record's map and shown as one value. [`read()`] folds keys into the value,
//! [`writes()`] turns a wanted value into keys, [`check_raw()`] judges keys that came in an edit. Cells stay as they are
//! when their field's type changes and are read as the new type:
//!
//! | type | kept as | shown as | what else is read |
//! |---|---|---|---|
//! | text, longtext, url, email | string | string | numbers and booleans as written |
//! | number, rating | number | number (rating: rounded, not below 0) | numeric text, `true` 1, `false` 0 |
//! | counter | numbers under `field#client`, and one under `field` | their sum | – |
//! | checkbox | boolean | boolean | numbers (not 0), `true yes on 1 x`, `false no off 0` |
//! | select, person | string | string | numbers and booleans as written; the first flag |
//! | multiselect, link, person with `multiple` | `true` under `field/id` | sorted list of ids | a string, a list of strings |
//! | attachment | `{name, mime, size, url}` under `field/id` | list of `{id, name, mime, size, url}`, by id | a list of them |
//! | date | `YYYY-MM-DD` | the same | RFC 3339 (its day as written), milliseconds (the day in UTC) |
//! | datetime | milliseconds since 1970 | the same | RFC 3339, `YYYY-MM-DD` (midnight UTC) |
//! | json | any JSON | the same | – |
//! | rich, text with `collab` | a root of its own: [`text_root()`] | nothing | – |
//! | formula, created, updated | nothing | nothing: computed | – |
//!
//! What cannot be read is shown as empty and stays in the document, so changing the type back brings it back. An empty
//! string is an empty cell. What is shown depends on the field's type, `multiple` and `collab` alone, never on its choices
//! or bounds: changing those changes no record.

mod check;
mod choice;
mod column;
mod id;
mod key;
mod moment;
mod names;
mod options;
mod raw;
mod read;
mod rule;
#[cfg(test)]
mod tests;
mod write;

pub use check::check;
pub use column::ColumnEntries;
pub use column::PatchEntries;
pub use column::check_new;
pub use column::column_entries;
pub use column::from_column;
pub use column::patch_entries;
pub use id::ID_BYTES_MAX;
pub use id::check_choice_id;
pub use id::check_field_id;
pub use id::check_row_id;
pub use id::check_view_id;
pub use id::field_of;
pub use id::is_reserved;
pub use id::new_choice_id;
pub use id::new_field_id;
pub use id::new_row_id;
pub use id::new_view_id;
pub use names::Names;
pub use raw::check_raw;
pub use read::read;
pub use read::read_free;
pub use rule::Rule;
pub use rule::Wrong;
pub use write::writes;
pub use write::writes_free;

use super::view::FieldView;
pub(super) use choice::label;
pub(super) use moment::ms_text;
pub(super) use moment::parse_ms;
pub(super) use read::as_number;
pub(super) use read::as_truth;

/// Longest cell in bytes: of a string, or of JSON as written without spaces.
pub const CELL_BYTES_MAX: usize = 32 * 1024;
/// Most ids or files in one cell.
pub const FLAGS_MAX: usize = 1000;
/// Deepest JSON in a cell.
pub const JSON_DEPTH_MAX: usize = 32;

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

impl FieldType {
    /// Every type.
    pub const ALL: [Self; 20] = [
        Self::Text,
        Self::Longtext,
        Self::Number,
        Self::Checkbox,
        Self::Select,
        Self::Multiselect,
        Self::Date,
        Self::Datetime,
        Self::Person,
        Self::Link,
        Self::Url,
        Self::Email,
        Self::Rating,
        Self::Attachment,
        Self::Json,
        Self::Rich,
        Self::Counter,
        Self::Formula,
        Self::Created,
        Self::Updated,
    ];

    /// The type that this word names.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.word() == word)
    }

    /// The word in the document and over REST.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Longtext => "longtext",
            Self::Number => "number",
            Self::Checkbox => "checkbox",
            Self::Select => "select",
            Self::Multiselect => "multiselect",
            Self::Date => "date",
            Self::Datetime => "datetime",
            Self::Person => "person",
            Self::Link => "link",
            Self::Url => "url",
            Self::Email => "email",
            Self::Rating => "rating",
            Self::Attachment => "attachment",
            Self::Json => "json",
            Self::Rich => "rich",
            Self::Counter => "counter",
            Self::Formula => "formula",
            Self::Created => "created",
            Self::Updated => "updated",
        }
    }

    /// Whether its cells are never stored.
    #[must_use]
    pub const fn is_computed(self) -> bool {
        matches!(self, Self::Formula | Self::Created | Self::Updated)
    }
}

/// How the cells of a field are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// One value under the field's id.
    Plain,
    /// Ids, each a key of its own, so that two who add different ones both succeed.
    Flags,
    /// Files, likewise.
    Files,
    /// Numbers, one per client, that are added up.
    Counter,
    /// Nothing in the record's map.
    Elsewhere,
}

impl Shape {
    fn of(field: &FieldView) -> Self {
        match field.kind {
            FieldType::Multiselect | FieldType::Link => Self::Flags,
            FieldType::Person if is_on(field, "multiple") => Self::Flags,
            FieldType::Attachment => Self::Files,
            FieldType::Counter => Self::Counter,
            _ if is_read_only(field) => Self::Elsewhere,
            _ => Self::Plain,
        }
    }
}

/// Whether its cells show a list of ids.
pub(super) fn is_list(field: &FieldView) -> bool {
    Shape::of(field) == Shape::Flags
}

/// Whether values cannot be written into its cells: they are computed, or a text that is edited as such.
#[must_use]
pub fn is_read_only(field: &FieldView) -> bool {
    field.kind.is_computed() || is_text_root(field)
}

/// The root of the document that holds the content of such a cell: `f/<row>/<field>` of a rich field, `t/<row>/<field>` of
/// a text field with `collab`.
#[must_use]
pub fn text_root(field: &FieldView, row: &str) -> Option<String> {
    let prefix = if field.kind == FieldType::Rich { "f" } else { "t" };
    is_text_root(field).then(|| format!("{prefix}/{row}/{}", field.id))
}

fn is_text_root(field: &FieldView) -> bool {
    match field.kind {
        FieldType::Rich => true,
        FieldType::Text | FieldType::Longtext => is_on(field, "collab"),
        _ => false,
    }
}

fn is_on(field: &FieldView, option: &str) -> bool {
    field.options.get(option).is_some_and(|value| value == true)
}

/// A field that the table does not declare: it takes any JSON, and its name is its id.
#[must_use]
pub fn undeclared(id: &str) -> FieldView {
    from_column(id, &serde_json::json!({ "type": FieldType::Json.word() }))
}
