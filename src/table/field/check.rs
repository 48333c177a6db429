//! Whether a field takes a value that an application wants it to have.

use std::collections::BTreeMap;

use serde_json::Map;
use serde_json::Value;

use super::CELL_BYTES_MAX;
use super::FLAGS_MAX;
use super::FieldType;
use super::JSON_DEPTH_MAX;
use super::Shape;
use super::choice::meant;
use super::id::check_row_id;
use super::is_on;
use super::is_read_only;
use super::moment;
use super::read::WHOLE_MAX;
use super::read::as_number;
use super::read::normal;
use super::read::number_value;
use super::rule::Checked;
use super::rule::Rule;
use super::rule::Wrong;
use crate::table::view::FieldView;

/// Longest user id, in bytes.
const USER_BYTES_MAX: usize = 255;
/// The highest rating of a field that does not say its own.
const RATING_MAX: f64 = 100.0;
/// Longest web or mail address, in bytes.
const ADDRESS_BYTES_MAX: usize = 2048;
/// Addresses that run as a program in whoever follows them.
const RUNNING_SCHEMES: [&str; 3] = ["javascript", "vbscript", "data"];

/// The value as the field will show it: numbers and lists in their one spelling, choices by id although they may be given
/// by name, moments in milliseconds although they may be given in RFC 3339. [`Value::Null`], an empty string and an empty
/// list are an empty cell. `unique` is for the caller to check, who sees the other records; `precision` and `format` are
/// about display and change nothing.
///
/// # Errors
/// Whatever [`Rule`] the value breaks; the path leads into lists.
pub fn check(field: &FieldView, wanted: &Value) -> Checked<Value> {
    if is_read_only(field) {
        return Err(Wrong::new(Rule::ReadOnly, format!("a {} field is not written as a value", field.kind.word())));
    }
    if is_empty(field, wanted) {
        let is_required = is_on(field, "required");
        return if is_required {
            Err(Wrong::new(Rule::Required, "the field must not be empty"))
        } else {
            Ok(Value::Null)
        };
    }
    match Shape::of(field) {
        Shape::Flags => flags(field, wanted),
        Shape::Files => files(wanted),
        Shape::Counter | Shape::Plain | Shape::Elsewhere => plain(field, wanted),
    }
}

fn is_empty(field: &FieldView, wanted: &Value) -> bool {
    match wanted {
        Value::Null => true,
        Value::String(text) => text.is_empty() && field.kind != FieldType::Json,
        Value::Array(items) => items.is_empty() && matches!(Shape::of(field), Shape::Flags | Shape::Files),
        _ => false,
    }
}

fn plain(field: &FieldView, wanted: &Value) -> Checked<Value> {
    match field.kind {
        FieldType::Json => check_json(wanted).map(|()| normal(wanted)),
        FieldType::Number | FieldType::Counter | FieldType::Rating => {
            check_number(field, number(wanted)?).map(|()| normal(wanted))
        }
        FieldType::Checkbox => wanted.as_bool().map(Value::from).ok_or_else(|| wrong_type("true or false")),
        FieldType::Datetime => moment(wanted),
        kind => {
            let text = text(wanted)?;
            match kind {
                FieldType::Select => return Ok(meant(field, text)?.into()),
                FieldType::Person => check_user(text)?,
                FieldType::Date => check_date(text)?,
                FieldType::Url => check_address(text)?,
                FieldType::Email => check_email(text)?,
                _ => check_text(text)?,
            }
            Ok(text.into())
        }
    }
}

fn flags(field: &FieldView, wanted: &Value) -> Checked<Value> {
    let mut ids = items(wanted)?
        .iter()
        .enumerate()
        .map(|(at, id)| flag(field, id).map_err(|wrong| wrong.under(&format!("[{at}]"))))
        .collect::<Checked<Vec<&str>>>()?;
    ids.sort_unstable();
    ids.dedup();
    Ok(ids.into())
}

fn flag<'a>(field: &'a FieldView, wanted: &'a Value) -> Checked<&'a str> {
    let id = text(wanted)?;
    if field.kind == FieldType::Multiselect {
        return meant(field, id);
    }
    check_flag(field, id).map(|()| id)
}

/// Whether this may be a flag of a field whose flags are no choices.
pub(super) fn check_flag(field: &FieldView, id: &str) -> Checked {
    if field.kind == FieldType::Link { check_row_id(id) } else { check_user(id) }
}

fn files(wanted: &Value) -> Checked<Value> {
    let mut files = BTreeMap::new();
    for (at, file) in items(wanted)?.iter().enumerate() {
        let (id, file) = file_with_id(file).map_err(|wrong| wrong.under(&format!("[{at}]")))?;
        files.insert(id, file);
    }
    Ok(files.into_values().collect())
}

fn file_with_id(wanted: &Value) -> Checked<(String, Value)> {
    let file = wanted.as_object().ok_or_else(|| wrong_type("an object with name and url"))?;
    check_file(file)?;
    let id = match file.get("id") {
        None => file_id(file),
        Some(id) => text(id).map_err(|wrong| wrong.under("id"))?.to_owned(),
    };
    check_row_id(&id).map_err(|wrong| wrong.under("id"))?;
    let mut file: Map<_, _> = file.iter().map(|(key, value)| (key.clone(), normal(value))).collect();
    file.insert("id".to_owned(), id.as_str().into());
    Ok((id, file.into()))
}

/// An id for a file that was given without: the same for the same address, so that a repeated request adds nothing.
fn file_id(file: &Map<String, Value>) -> String {
    let url = file.get("url").and_then(Value::as_str).unwrap_or_default();
    // FNV-1a: stable for ever, which is all that is asked of it.
    let hash = url
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    format!("f{hash:016x}")
}

/// `{name, mime?, size?, url, …}`.
pub(super) fn check_file(file: &Map<String, Value>) -> Checked {
    let string = |key: &str| file.get(key).map(text).transpose().map_err(|wrong| wrong.under(key));
    string("name")?.ok_or_else(|| wrong_type("a file with a name"))?;
    string("mime")?;
    let url = string("url")?.ok_or_else(|| wrong_type("a file with an address"))?;
    check_scheme(url).map_err(|wrong| wrong.under("url"))?;
    if file.get("size").is_some_and(|size| size.as_f64().is_none_or(|size| !(0.0..=WHOLE_MAX).contains(&size))) {
        return Err(wrong_type("a size in bytes").under("size"));
    }
    check_encoded(&mut file.iter().map(|(key, value)| key.len() + encoded_bytes(value)))
}

fn items(wanted: &Value) -> Checked<&Vec<Value>> {
    let items = wanted.as_array().ok_or_else(|| wrong_type("a list"))?;
    if items.len() > FLAGS_MAX { Err(too_long("at most 1000 entries")) } else { Ok(items) }
}

fn text(wanted: &Value) -> Checked<&str> {
    wanted.as_str().ok_or_else(|| wrong_type("a string"))
}

fn number(wanted: &Value) -> Checked<f64> {
    as_number(wanted).filter(|_| wanted.is_number()).ok_or_else(|| wrong_type("a number"))
}

fn moment(wanted: &Value) -> Checked<Value> {
    let ms = match wanted {
        Value::Number(_) if number(wanted)?.fract() != 0.0 => None,
        Value::Number(_) | Value::String(_) => moment::read_ms(wanted),
        _ => return Err(wrong_type("milliseconds since 1970 or a date with time (RFC 3339)")),
    };
    ms.map(Value::from).ok_or_else(|| bad_format("milliseconds since 1970 or a date with time (RFC 3339)"))
}

/// At most [`CELL_BYTES_MAX`].
pub(super) fn check_text(text: &str) -> Checked {
    if text.len() > CELL_BYTES_MAX { Err(too_long("at most 32 KB")) } else { Ok(()) }
}

/// Within the field's bounds; ratings are whole, and counts small enough to be added up one by one.
pub(super) fn check_number(field: &FieldView, number: f64) -> Checked {
    let bound = |name: &str| field.options.get(name).and_then(Value::as_f64);
    let is_rating = field.kind == FieldType::Rating;
    if is_rating && number.fract() != 0.0 {
        return Err(bad_format("a whole number"));
    }
    let min = if is_rating { 0.0 } else { bound("min").unwrap_or(f64::MIN) };
    let max = bound("max").unwrap_or(if is_rating { RATING_MAX } else { f64::MAX });
    let is_countable = field.kind != FieldType::Counter || number.abs() <= WHOLE_MAX;
    if number < min || number > max || !is_countable {
        let (min, max) = (number_value(min), number_value(max));
        return Err(Wrong::new(Rule::OutOfRange, format!("the field takes numbers from {min} to {max}")));
    }
    Ok(())
}

/// `YYYY-MM-DD`, and a day that there is.
pub(super) fn check_date(text: &str) -> Checked {
    moment::parse_date(text).map(drop).ok_or_else(|| bad_format("a day as YYYY-MM-DD"))
}

/// 1..=255 bytes without control characters.
pub(super) fn check_user(id: &str) -> Checked {
    if id.is_empty() || id.chars().any(char::is_control) {
        return Err(bad_format("the id of a user"));
    }
    if id.len() > USER_BYTES_MAX { Err(too_long("at most 255 bytes")) } else { Ok(()) }
}

/// A scheme and something behind it.
fn check_address(text: &str) -> Checked {
    if text.len() > ADDRESS_BYTES_MAX {
        return Err(too_long("at most 2048 bytes"));
    }
    let is_address = scheme(text).is_some_and(|scheme| text.len() > scheme.len() + 1);
    if !is_address || text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(bad_format("an address like https://example.com"));
    }
    check_scheme(text)
}

/// Not an address that is a program.
pub(super) fn check_scheme(address: &str) -> Checked {
    // Browsers skip control characters and leading spaces when they look for the scheme.
    let seen: String = address.chars().filter(|c| !c.is_control()).skip_while(|c| c.is_whitespace()).take(64).collect();
    let is_running =
        scheme(&seen).is_some_and(|scheme| RUNNING_SCHEMES.iter().any(|bad| scheme.eq_ignore_ascii_case(bad)));
    if is_running { Err(bad_format("an address that is no program")) } else { Ok(()) }
}

fn scheme(address: &str) -> Option<&str> {
    let (scheme, _) = address.split_once(':')?;
    let is_scheme = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    is_scheme.then_some(scheme)
}

fn check_email(text: &str) -> Checked {
    if text.len() > ADDRESS_BYTES_MAX {
        return Err(too_long("at most 2048 bytes"));
    }
    let is_address =
        text.split_once('@').is_some_and(|(name, host)| !name.is_empty() && !host.is_empty() && !host.contains('@'));
    if !is_address || text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(bad_format("an address like ann@example.com"));
    }
    Ok(())
}

/// At most [`CELL_BYTES_MAX`] as written without spaces, and [`JSON_DEPTH_MAX`] levels.
pub(super) fn check_json(value: &Value) -> Checked {
    if !is_shallow(value, JSON_DEPTH_MAX) {
        return Err(too_long("at most 32 levels"));
    }
    check_encoded(&mut std::iter::once(encoded_bytes(value)))
}

fn check_encoded(bytes: &mut dyn Iterator<Item = usize>) -> Checked {
    if bytes.sum::<usize>() > CELL_BYTES_MAX { Err(too_long("at most 32 KB")) } else { Ok(()) }
}

fn is_shallow(value: &Value, levels: usize) -> bool {
    match value {
        Value::Array(items) => levels > 0 && items.iter().all(|item| is_shallow(item, levels - 1)),
        Value::Object(map) => levels > 0 && map.values().all(|item| is_shallow(item, levels - 1)),
        _ => true,
    }
}

fn encoded_bytes(value: &Value) -> usize {
    value.to_string().len()
}

fn wrong_type(wanted: &str) -> Wrong {
    Wrong::new(Rule::WrongType, format!("the field takes {wanted}"))
}

fn bad_format(wanted: &str) -> Wrong {
    Wrong::new(Rule::BadFormat, format!("the field takes {wanted}"))
}

fn too_long(bound: &str) -> Wrong {
    Wrong::new(Rule::TooLong, format!("the field takes {bound}"))
}
