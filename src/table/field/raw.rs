//! Whether a key that came in an edit may stay.

use serde_json::Value;

use super::FieldType;
use super::Rule;
use super::Shape;
use super::check;
use super::choice::has_choice;
use super::field_of;
use super::key::Part;
use super::moment;
use super::rule::Checked;
use super::rule::Wrong;
use crate::table::view::FieldView;

/// Longest key of a cell in bytes: a field's id, a sign, and the id of a user.
const KEY_BYTES_MAX: usize = 320;

/// Whether a client may have set this key to this value. It need not be pretty (an address is not checked beyond being
/// harmless, an empty required cell is somebody who has not finished) but it must be read as what was written.
/// [`Value::Null`] clears a key, which is always right.
///
/// # Errors
/// The rule for which the key is to be put back.
pub fn check_raw(field: &FieldView, raw_key: &str, value: &Value) -> Result<(), Rule> {
    if field_of(raw_key) != &*field.id {
        return Err(Rule::UnknownField);
    }
    if value.is_null() {
        return Ok(());
    }
    if raw_key.len() > KEY_BYTES_MAX {
        return Err(Rule::TooLong);
    }
    let checked = match (Shape::of(field), Part::of(raw_key)) {
        (Shape::Elsewhere, _) => return Err(Rule::ReadOnly),
        (Shape::Plain, Part::Plain) => plain(field, value),
        (Shape::Counter, Part::Plain | Part::Count) => number(field, value),
        (Shape::Flags, Part::Flag(id)) => flag(field, id, value),
        (Shape::Files, Part::Flag(id)) => file(id, value),
        _ => return Err(Rule::WrongType),
    };
    checked.map_err(|wrong: Wrong| wrong.rule)
}

fn plain(field: &FieldView, value: &Value) -> Checked {
    match field.kind {
        FieldType::Json => check::check_json(value),
        FieldType::Number | FieldType::Rating => number(field, value),
        FieldType::Checkbox => need(value.is_boolean(), Rule::WrongType),
        FieldType::Datetime => {
            need(value.is_number(), Rule::WrongType)?;
            need(moment::read_ms(value).is_some(), Rule::OutOfRange)
        }
        _ => value.as_str().map_or_else(|| need(false, Rule::WrongType), |text| words(field, text)),
    }
}

fn words(field: &FieldView, text: &str) -> Checked {
    if text.is_empty() {
        return Ok(());
    }
    match field.kind {
        FieldType::Select => need(has_choice(field, text), Rule::UnknownOption),
        FieldType::Person => check::check_user(text),
        FieldType::Date => check::check_date(text),
        FieldType::Url => check::check_text(text).and_then(|()| check::check_scheme(text)),
        _ => check::check_text(text),
    }
}

/// A part of a counter is bounded like the whole of it: the field's own bounds are for the sum, which nobody can keep.
fn number(field: &FieldView, value: &Value) -> Checked {
    let number = value.as_f64().ok_or_else(|| Wrong::new(Rule::WrongType, ""))?;
    if field.kind == FieldType::Counter {
        return need(number.abs() <= super::read::WHOLE_MAX, Rule::OutOfRange);
    }
    check::check_number(field, number)
}

fn flag(field: &FieldView, id: &str, value: &Value) -> Checked {
    need(value.is_boolean(), Rule::WrongType)?;
    // Whatever was set once may be taken away.
    if value == false {
        return Ok(());
    }
    if field.kind == FieldType::Multiselect {
        return need(has_choice(field, id), Rule::UnknownOption);
    }
    check::check_flag(field, id)
}

fn file(id: &str, value: &Value) -> Checked {
    super::check_row_id(id)?;
    value.as_object().map_or_else(|| need(false, Rule::WrongType), check::check_file)
}

fn need(is_so: bool, rule: Rule) -> Checked {
    if is_so { Ok(()) } else { Err(Wrong::new(rule, "")) }
}
