//! What a key of `cells` means: a declared field, or, in a table that declares nothing, a cell of any kind.

use std::ops::Bound;
use std::sync::Arc;

use serde_json::Value;

use super::content::Raw;
use super::field;
use super::field::Names;
use super::field::Rule;
use super::field::Wrong;
use super::state::Table;
use super::view::FieldView;

/// The columns of a table by id and by name.
pub(super) struct Columns<'a> {
    names: Names<'a>,
    is_declared: bool,
}

/// Where a cell goes.
#[derive(Debug, Clone, Copy)]
pub(super) enum Column<'a> {
    /// A field of the table.
    Known(&'a FieldView),
    /// A key of a record in a table that does not say which fields it has.
    Free(&'a str),
    /// One flag of such a field, `field/flag`, so that two who set different ones keep both.
    Flag(&'a str),
}

/// Longest flag in bytes: the id of a user may be one.
const FLAG_BYTES_MAX: usize = 255;

impl<'a> Columns<'a> {
    pub(super) fn of(table: &'a Table) -> Self {
        Self { names: Names::new(table.fields.values()), is_declared: table.is_declared() }
    }

    /// The column that `key` names: by id, or by a name that only one field has. In an undeclared table, any id and any flag
    /// of one.
    ///
    /// # Errors
    /// There is none, or several have the name; in an undeclared table, a key that cannot be an id.
    pub(super) fn find(&self, key: &'a str) -> Result<Column<'a>, Wrong> {
        match self.names.find(key) {
            Ok(field) => Ok(Column::Known(field)),
            Err(unknown) if self.is_declared => Err(unknown),
            Err(_) => match key.split_once('/') {
                Some((field, flag)) => check_flag(field, flag).map(|()| Column::Flag(key)),
                None => field::check_row_id(key).map(|()| Column::Free(key)),
            },
        }
    }
}

fn check_flag(field: &str, flag: &str) -> Result<(), Wrong> {
    field::check_row_id(field)?;
    if flag.is_empty() || flag.len() > FLAG_BYTES_MAX || flag.chars().any(char::is_control) {
        let message = format!("a flag has 1 to {FLAG_BYTES_MAX} bytes and no control characters");
        return Err(Wrong { rule: Rule::BadId, path: String::new(), message });
    }
    Ok(())
}

impl<'a> Column<'a> {
    /// The field.
    pub(super) fn id(&self) -> &'a str {
        match self {
            Self::Known(field) => &field.id,
            Self::Free(id) => id,
            Self::Flag(key) => field::field_of(key),
        }
    }

    /// What the record shows there.
    pub(super) fn read(&self, raw: &Raw) -> Value {
        match self {
            Self::Known(field) => field::read(field, keys_of(raw, self.id())),
            Self::Free(id) => field::read_free(keys_of(raw, id)),
            Self::Flag(key) => raw.get(*key).cloned().unwrap_or_default(),
        }
    }

    /// The value as it would be shown.
    pub(super) fn check(&self, wanted: &Value) -> Result<Value, Wrong> {
        match self {
            Self::Known(field) => field::check(field, wanted),
            Self::Free(id) => field::writes_free(id, wanted, []).map(|_| field::read_free([(*id, wanted)])),
            Self::Flag(_) if wanted.is_null() || *wanted == true => Ok(wanted.clone()),
            Self::Flag(_) => {
                let message = "a flag is true, or null to take it away".to_owned();
                Err(Wrong { rule: Rule::WrongType, path: String::new(), message })
            }
        }
    }

    /// The keys to set or to take away; none when the record shows it already.
    pub(super) fn writes(&self, wanted: &Value, raw: &Raw) -> Result<Vec<(String, Option<Value>)>, Wrong> {
        match self {
            Self::Known(field) => field::writes(field, wanted, keys_of(raw, self.id())),
            Self::Free(id) => field::writes_free(id, wanted, keys_of(raw, id)),
            Self::Flag(_) if self.read(raw) == *wanted => Ok(vec![]),
            Self::Flag(key) => Ok(vec![((*key).to_owned(), Some(wanted.clone()).filter(|wanted| !wanted.is_null()))]),
        }
    }

    /// The field, when it wants its values to differ.
    pub(super) fn unique(&self) -> Option<&'a FieldView> {
        match self {
            Self::Known(field) if is_on(field, "unique") => Some(field),
            _ => None,
        }
    }
}

/// Whether a field has this option.
pub(super) fn is_on(field: &FieldView, option: &str) -> bool {
    field.options.get(option).is_some_and(|value| value == true)
}

/// The keys of a record's map that hold one field: `id`, `id/…`, `id#…`.
pub(super) fn keys_of<'r>(raw: &'r Raw, id: &'r str) -> impl Iterator<Item = (&'r str, &'r Value)> {
    // Both separators are below every character that an id may go on with, or nearly: the longer ids come behind.
    let belongs = move |key: &Arc<str>| key.strip_prefix(id).is_some_and(|rest| rest.bytes().next() <= Some(b'/'));
    raw.range::<str, _>((Bound::Included(id), Bound::Unbounded))
        .take_while(move |(key, _)| belongs(key))
        .filter(move |(key, _)| field::field_of(key) == id)
        .map(|(key, value)| (&**key, value))
}

/// The field does not take a second record with the same value.
pub(super) fn not_unique(field: &FieldView) -> Wrong {
    let message = format!("another record has this value in `{}` already", field.name);
    Wrong { rule: Rule::NotUnique, path: String::new(), message }
}
