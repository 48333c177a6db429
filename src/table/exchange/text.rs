//! A cell as text, and back.

use serde_json::Value;

use crate::table::field::FieldType;
use crate::table::field::Rule;
use crate::table::field::Wrong;
use crate::table::field::as_number;
use crate::table::field::as_truth;
use crate::table::field::check;
use crate::table::field::is_list;
use crate::table::field::is_read_only;
use crate::table::field::label;
use crate::table::field::ms_text;
use crate::table::field::parse_ms;
use crate::table::view::FieldView;

/// What a text says, as the field will show it; an empty one is an empty cell ([`Value::Null`]), whether or not the field
/// is required.
///
/// Booleans are `true yes on 1 x` and `false no off 0` in any case, moments RFC 3339 or a day, lists are separated by `;`,
/// JSON and files are JSON.
///
/// # Errors
/// What [`check`] says about the value, or that the text is none of this field.
pub fn text_to_value(field: &FieldView, text: &str) -> Result<Value, Wrong> {
    if is_read_only(field) {
        return check(field, &Value::Null);
    }
    if text.is_empty() {
        return Ok(Value::Null);
    }
    let wrong = |wanted: &str| Wrong::new(Rule::WrongType, format!("the field takes {wanted}"));
    let text_value = || Value::from(text);
    let value = match field.kind {
        _ if is_list(field) => split_list(text).into(),
        FieldType::Number | FieldType::Counter | FieldType::Rating => {
            as_number(&text_value()).map(Value::from).ok_or_else(|| wrong("a number"))?
        }
        FieldType::Checkbox => as_truth(&text_value()).map(Value::from).ok_or_else(|| wrong("true or false"))?,
        FieldType::Datetime => {
            parse_ms(text.trim()).map(Value::from).ok_or_else(|| wrong("a date with time (RFC 3339)"))?
        }
        FieldType::Json | FieldType::Attachment => serde_json::from_str(text).map_err(|_| wrong("JSON"))?,
        FieldType::Date | FieldType::Url | FieldType::Email => text.trim().into(),
        // A choice may have spaces around its name; that a person typed them is likelier.
        FieldType::Select => check(field, &text_value()).or_else(|_| check(field, &text.trim().into()))?,
        _ => text_value(),
    };
    if value.is_null() { Ok(value) } else { check(field, &value) }
}

/// The text that [`text_to_value`] reads as this value.
#[must_use]
pub fn value_to_text(field: &FieldView, value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::Array(ids) if is_list(field) => {
            let labels = ids.iter().filter_map(Value::as_str).map(|id| escaped(label_of(field, id)));
            labels.collect::<Vec<_>>().join("; ")
        }
        Value::Number(number) if field.kind == FieldType::Datetime => {
            number.as_i64().and_then(ms_text).unwrap_or_else(|| number.to_string())
        }
        Value::String(text) if field.kind != FieldType::Json => label_of(field, text).to_owned(),
        other => other.to_string(),
    }
}

fn label_of<'a>(field: &'a FieldView, id: &'a str) -> &'a str {
    match field.kind {
        FieldType::Select | FieldType::Multiselect => label(field, id),
        _ => id,
    }
}

/// With `\` before what would end the entry, and before spaces that would be taken for those around it.
fn escaped(entry: &str) -> String {
    let inner = entry.len() - entry.trim_start().len()..entry.trim_end().len();
    let mut text = String::with_capacity(entry.len());
    for (at, c) in entry.char_indices() {
        if c == ';' || c == '\\' || (c.is_whitespace() && !inner.contains(&at)) {
            text.push('\\');
        }
        text.push(c);
    }
    text
}

/// The entries of a list; empty ones are left out.
fn split_list(text: &str) -> Vec<String> {
    let mut entries = vec![String::new()];
    // Where the last entry ends if only spaces follow.
    let mut end = 0;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        let entry = entries.last_mut().expect("there is always one");
        match c {
            ';' => {
                entry.truncate(end);
                entries.push(String::new());
                end = 0;
            }
            c if c.is_whitespace() => entry.extend((end > 0).then_some(c)),
            c => {
                entry.push(if c == '\\' { chars.next().unwrap_or(c) } else { c });
                end = entry.len();
            }
        }
    }
    entries.last_mut().expect("there is always one").truncate(end);
    entries.retain(|entry| !entry.is_empty());
    entries
}
