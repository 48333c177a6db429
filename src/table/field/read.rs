//! From the keys of a cell to the value that is shown.

use serde_json::Map;
use serde_json::Value;

use super::FieldType;
use super::Shape;
use super::key::Parts;
use super::moment;
use crate::table::view::FieldView;

/// The one value that a field shows, from the keys of the record's map that belong to it ([`super::field_of`]), in any
/// order. [`Value::Null`] is an empty cell. The table in the head of this module says what is read as what.
pub fn read<'a>(field: &FieldView, raw: impl IntoIterator<Item = (&'a str, &'a Value)>) -> Value {
    of_parts(field, &Parts::new(raw))
}

/// As [`read`], for a record whose table declares no fields: the value under the plain key as it is; else the sum of its
/// counts; else its flags, as a sorted list when all of them are `true` and as an object when not.
pub fn read_free<'a>(raw: impl IntoIterator<Item = (&'a str, &'a Value)>) -> Value {
    free_of_parts(&Parts::new(raw))
}

pub(super) fn of_parts(field: &FieldView, parts: &Parts<'_>) -> Value {
    match Shape::of(field) {
        Shape::Elsewhere => Value::Null,
        Shape::Counter => total(parts),
        Shape::Flags => flags(parts),
        Shape::Files => files(parts),
        Shape::Plain => plain(field, parts),
    }
}

pub(super) fn free_of_parts(parts: &Parts<'_>) -> Value {
    if is_counter(parts) {
        return total(parts);
    }
    if let Some(plain) = parts.plain {
        return normal(plain);
    }
    if parts.flags.values().all(|value| **value == true) {
        return list(parts.set_flags().map(Value::from).collect());
    }
    parts.flags.iter().map(|(id, value)| ((*id).to_owned(), normal(value))).collect::<Map<_, _>>().into()
}

/// Whether a cell of an undeclared field is a sum.
pub(super) fn is_counter(parts: &Parts<'_>) -> bool {
    !parts.counts.is_empty() && parts.plain.is_none_or(Value::is_number)
}

/// One spelling for each number: whole ones without a fraction, as far as a double counts one by one. Equal values are
/// equal JSON then, whether they came from a document or from a request.
pub(super) fn normal(value: &Value) -> Value {
    match value {
        Value::Number(number) => number.as_f64().map_or(Value::Null, number_value),
        Value::Array(items) => items.iter().map(normal).collect(),
        Value::Object(map) => map.iter().map(|(key, value)| (key.clone(), normal(value))).collect::<Map<_, _>>().into(),
        other => other.clone(),
    }
}

/// [`Value::Null`] for what is no number in JSON.
#[expect(clippy::cast_possible_truncation, reason = "whole and within the range that a double counts one by one")]
pub(super) fn number_value(number: f64) -> Value {
    if number.fract() == 0.0 && number.abs() <= WHOLE_MAX { Value::from(number as i64) } else { Value::from(number) }
}

/// 2^53: up to here a double knows every whole number.
pub(super) const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;

fn total(parts: &Parts<'_>) -> Value {
    let start = parts.plain.and_then(as_number);
    if start.is_none() && parts.counts.is_empty() {
        return Value::Null;
    }
    number_value(parts.counted() + start.unwrap_or(0.0))
}

fn flags(parts: &Parts<'_>) -> Value {
    let plain = parts.plain.map(std::slice::from_ref).unwrap_or_default();
    let plain = if let [Value::Array(items)] = plain { items } else { plain };
    let mut ids: Vec<&str> = plain.iter().filter_map(Value::as_str).filter(|id| !id.is_empty()).collect();
    ids.extend(parts.set_flags());
    ids.sort_unstable();
    ids.dedup();
    list(ids.into_iter().map(Value::from).collect())
}

fn files(parts: &Parts<'_>) -> Value {
    let flagged = parts.flags.iter().filter_map(|(id, value)| Some((*id, value.as_object()?)));
    let listed = parts.plain.and_then(Value::as_array).into_iter().flatten();
    let listed = listed.filter_map(|file| Some((file.get("id")?.as_str()?, file.as_object()?)));
    // Collected by id: a file that is both listed and flagged is the flagged one.
    let files: std::collections::BTreeMap<_, _> = listed.chain(flagged).collect();
    list(files.into_iter().map(|(id, file)| file_value(id, file)).collect())
}

fn file_value(id: &str, file: &Map<String, Value>) -> Value {
    let mut shown: Map<_, _> = file.iter().map(|(key, value)| (key.clone(), normal(value))).collect();
    shown.insert("id".to_owned(), id.into());
    shown.into()
}

fn list(items: Vec<Value>) -> Value {
    if items.is_empty() { Value::Null } else { items.into() }
}

fn plain(field: &FieldView, parts: &Parts<'_>) -> Value {
    if field.kind == FieldType::Number && is_counter(parts) {
        return total(parts);
    }
    let Some(value) = parts.plain else {
        let is_choice = matches!(field.kind, FieldType::Select | FieldType::Person);
        return parts.set_flags().next().filter(|_| is_choice).map_or(Value::Null, Value::from);
    };
    match field.kind {
        FieldType::Json => normal(value),
        FieldType::Number => as_number(value).map_or(Value::Null, number_value),
        FieldType::Rating => as_number(value).map_or(Value::Null, |number| number_value(number.round().max(0.0))),
        FieldType::Checkbox => as_truth(value).map_or(Value::Null, Value::from),
        FieldType::Date => moment::read_date(value).map_or(Value::Null, Value::from),
        FieldType::Datetime => moment::read_ms(value).map_or(Value::Null, Value::from),
        _ => as_text(value).map_or(Value::Null, Value::from),
    }
}

fn as_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()).filter(|text| !text.is_empty()),
        Value::Number(_) => Some(normal(value).to_string()),
        Value::Bool(truth) => Some(truth.to_string()),
        _ => None,
    }
}

/// A finite number.
pub(in crate::table) fn as_number(value: &Value) -> Option<f64> {
    let number = match value {
        Value::Number(number) => number.as_f64(),
        Value::Bool(truth) => Some(f64::from(*truth)),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    number.filter(|number| number.is_finite())
}

/// What people write for yes and no.
pub(in crate::table) fn as_truth(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(truth) => Some(*truth),
        Value::Number(number) => Some(number.as_f64()? != 0.0),
        Value::String(text) => match text.trim().to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" | "1" | "x" => Some(true),
            "false" | "no" | "off" | "0" => Some(false),
            _ => None,
        },
        _ => None,
    }
}
