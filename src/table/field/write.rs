//! From a wanted value to the keys that are to be set and taken away.

use std::collections::BTreeMap;

use serde_json::Value;

use super::Shape;
use super::Wrong;
use super::check::check;
use super::check::check_json;
use super::id::check_row_id;
use super::key::Parts;
use super::read::as_number;
use super::read::free_of_parts;
use super::read::is_counter;
use super::read::normal;
use super::read::number_value;
use super::read::of_parts;
use crate::table::view::FieldView;

/// The keys to set (`Some`) and to take away (`None`), sorted, after which the field shows `wanted`; none when it does so
/// already. `raw` are the keys of the record's map that belong to the field ([`super::field_of`]), in any order.
///
/// What an earlier type left behind is taken away. A counter keeps what clients have counted, and changes what it starts
/// from instead (the plain key), so that counting on at the same time is not lost; with fractions the sum is right to the
/// last digit of a double.
///
/// # Errors
/// What [`check`] says about `wanted`.
pub fn writes<'a>(
    field: &FieldView,
    wanted: &Value,
    raw: impl IntoIterator<Item = (&'a str, &'a Value)>,
) -> Result<Vec<(String, Option<Value>)>, Wrong> {
    let wanted = check(field, wanted)?;
    let raw: Vec<_> = raw.into_iter().collect();
    let parts = Parts::new(raw.iter().copied());
    if of_parts(field, &parts) == wanted {
        return Ok(Vec::new());
    }
    let kept = match Shape::of(field) {
        Shape::Counter => counter(&field.id, &wanted, &parts),
        Shape::Flags => flags(&field.id, &wanted),
        Shape::Files => files(&field.id, &wanted),
        Shape::Plain | Shape::Elsewhere => plain(&field.id, &wanted),
    };
    Ok(difference(&raw, kept))
}

/// As [`writes`], for a field of a table that declares none: any JSON, kept as it is kept already (counted, flagged) where
/// the wanted value can be, and under the plain key otherwise.
///
/// # Errors
/// A field id that is none, and JSON that is too long or too deep.
pub fn writes_free<'a>(
    field_id: &str,
    wanted: &Value,
    raw: impl IntoIterator<Item = (&'a str, &'a Value)>,
) -> Result<Vec<(String, Option<Value>)>, Wrong> {
    check_row_id(field_id)?;
    check_json(wanted)?;
    let wanted = normal(wanted);
    let raw: Vec<_> = raw.into_iter().collect();
    let parts = Parts::new(raw.iter().copied());
    if free_of_parts(&parts) == wanted {
        return Ok(Vec::new());
    }
    let is_flagged = parts.plain.is_none() && !parts.flags.is_empty() && parts.set_flags().count() == parts.flags.len();
    let is_id = |id: &Value| id.as_str().is_some_and(|id| !id.is_empty());
    let kept = if is_counter(&parts) && wanted.is_number() {
        counter(field_id, &wanted, &parts)
    } else if is_flagged && wanted.as_array().is_some_and(|ids| is_strictly_ascending(ids) && ids.iter().all(is_id)) {
        flags(field_id, &wanted)
    } else {
        plain(field_id, &wanted)
    };
    Ok(difference(&raw, kept))
}

/// What is to be under which key; keys that are not in it are to be taken away.
type Kept = BTreeMap<String, Value>;

fn plain(field: &str, wanted: &Value) -> Kept {
    if wanted.is_null() { Kept::new() } else { Kept::from([(field.to_owned(), wanted.clone())]) }
}

fn flags(field: &str, wanted: &Value) -> Kept {
    let ids = wanted.as_array().into_iter().flatten().filter_map(Value::as_str);
    ids.map(|id| (format!("{field}/{id}"), Value::Bool(true))).collect()
}

fn files(field: &str, wanted: &Value) -> Kept {
    let files = wanted.as_array().into_iter().flatten().filter_map(Value::as_object);
    files
        .filter_map(|file| {
            let mut file = file.clone();
            let id = file.remove("id")?;
            Some((format!("{field}/{}", id.as_str()?), file.into()))
        })
        .collect()
}

fn counter(field: &str, wanted: &Value, parts: &Parts<'_>) -> Kept {
    let Some(sum) = as_number(wanted) else { return Kept::new() };
    let mut kept: Kept = parts.counts.iter().map(|(key, count)| ((*key).to_owned(), number_value(*count))).collect();
    let start = sum - parts.counted();
    // Nothing counted yet: a zero has to be written to be seen.
    if start != 0.0 || kept.is_empty() {
        kept.insert(field.to_owned(), number_value(start));
    }
    kept
}

fn difference(raw: &[(&str, &Value)], kept: Kept) -> Vec<(String, Option<Value>)> {
    let there: BTreeMap<&str, Value> =
        raw.iter().filter(|(_, value)| !value.is_null()).map(|(key, value)| (*key, normal(value))).collect();
    let gone = there.keys().filter(|key| !kept.contains_key(**key)).map(|key| ((*key).to_owned(), None));
    let mut writes: Vec<_> = gone.collect();
    writes.extend(
        kept.into_iter().filter(|(key, value)| there.get(key.as_str()) != Some(value)).map(|(k, v)| (k, Some(v))),
    );
    writes.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
    writes
}

fn is_strictly_ascending(ids: &[Value]) -> bool {
    ids.windows(2).all(|pair| pair[0].as_str() < pair[1].as_str())
}
