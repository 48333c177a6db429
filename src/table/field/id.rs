//! Ids of records, fields, views and choices, and the keys of a record's map that are made of them.

use super::rule::Checked;
use super::rule::Rule;
use super::rule::Wrong;

/// Longest id that a client may bring, in bytes. Every cell repeats its field's id: short ones pay.
pub const ID_BYTES_MAX: usize = 64;

const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Names that mean something else to a JavaScript object.
const TRAPS: [&str; 3] = ["__proto__", "constructor", "prototype"];

/// 71 bits: records are made by everybody at once, and two with one id would lose the cells of one.
const ROW_CHARS: usize = 12;
/// 36 bits, in each cell of the column.
const FIELD_CHARS: usize = 6;
const VIEW_CHARS: usize = 8;
const CHOICE_CHARS: usize = 6;

/// The field that a key of a record's map belongs to: what stands before the first `/` or `#`.
#[must_use]
pub fn field_of(raw_key: &str) -> &str {
    raw_key.split(['/', '#']).next().unwrap_or(raw_key)
}

/// Whether a key of a record's map is the schema's own: `$o`, `$d`, and those yet to come.
#[must_use]
pub fn is_reserved(raw_key: &str) -> bool {
    raw_key.starts_with('$')
}

/// Whether this may be the id of a record: 1..=64 bytes, printable, without `/`, `#`, `~` and space, no `$` first, and no
/// name that JavaScript gives a meaning.
///
/// # Errors
/// [`Rule::BadId`].
pub fn check_row_id(id: &str) -> Checked {
    check_id(id)
}

/// Whether this may be the id of a new field: as for a record, and not `id`, which imports use for the record.
///
/// # Errors
/// [`Rule::BadId`].
pub fn check_field_id(id: &str) -> Checked {
    if id == "id" {
        return Err(Wrong::new(Rule::BadId, "`id` is the id of the record"));
    }
    check_id(id)
}

/// Whether this may be the id of a view: as for a record.
///
/// # Errors
/// [`Rule::BadId`].
pub fn check_view_id(id: &str) -> Checked {
    check_id(id)
}

/// Whether this may be the id of a choice: as for a record.
///
/// # Errors
/// [`Rule::BadId`].
pub fn check_choice_id(id: &str) -> Checked {
    check_id(id)
}

/// A fresh id for a record.
pub fn new_row_id(rand: &mut dyn FnMut() -> u32) -> String {
    random(ROW_CHARS, rand)
}

/// A fresh id for a field. The caller looks whether the table has it already.
pub fn new_field_id(rand: &mut dyn FnMut() -> u32) -> String {
    random(FIELD_CHARS, rand)
}

/// A fresh id for a view.
pub fn new_view_id(rand: &mut dyn FnMut() -> u32) -> String {
    random(VIEW_CHARS, rand)
}

/// A fresh id for a choice. The caller looks whether the field has it already.
pub fn new_choice_id(rand: &mut dyn FnMut() -> u32) -> String {
    random(CHOICE_CHARS, rand)
}

fn random(chars: usize, rand: &mut dyn FnMut() -> u32) -> String {
    (0..chars).map(|_| char::from(BASE62[rand() as usize % BASE62.len()])).collect()
}

fn check_id(id: &str) -> Checked {
    let bad = |message: &str| Err(Wrong::new(Rule::BadId, message));
    if id.is_empty() || id.len() > ID_BYTES_MAX {
        return bad("an id has 1 to 64 bytes");
    }
    if id.starts_with('$') || TRAPS.contains(&id) {
        return bad("this id is reserved");
    }
    if id.chars().any(|c| c.is_control() || c.is_whitespace() || "/#~".contains(c)) {
        return bad("an id has no `/`, `#`, `~`, spaces or control characters");
    }
    Ok(())
}
