//! Reads a table's shared types off the engine's document, tolerantly: a branch with map entries is a row whatever its tag
//! says, because clients differ in what they create.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Map as JsonMap;
use serde_json::Value;
use syncline_protocol::update::AnyValue;
use yrs::Any;
use yrs::GetString;
use yrs::Map;
use yrs::MapRef;
use yrs::Number;
use yrs::Out;
use yrs::ReadTxn;
use yrs::Text;
use yrs::branch::Branch;
use yrs::branch::BranchID;
use yrs::branch::BranchPtr;

/// The root with one map for each record.
pub(super) const ROWS: &str = "rows";
/// The root with one map for each field.
pub(super) const COLS: &str = "cols";
/// The root with one map for each view.
pub(super) const VIEWS: &str = "views";
/// The root with what concerns the table as a whole.
pub(super) const META: &str = "meta";

/// Whether a root is one of the schema's.
pub(super) fn is_own(root: &str) -> bool {
    [ROWS, COLS, VIEWS, META].contains(&root)
}

/// Maps in maps in a cell are shown so deep. Deeper ones are left out: nobody edits a cell like that.
const DEPTH_MAX: usize = 8;
/// JSON in a plain value is shown so deep: no deeper one passes the validator.
const ANY_DEPTH_MAX: usize = 64;

/// Raw keys of a record with their values.
pub type Raw = BTreeMap<Arc<str>, Value>;
/// Nested components of a record by id, each with all that it has.
pub type Components = BTreeMap<Arc<str>, JsonMap<String, Value>>;

/// A root as a map, if there is one of that name.
pub(super) fn root(txn: &impl ReadTxn, name: &str) -> Option<MapRef> {
    BranchID::get_root(txn, name).map(MapRef::from)
}

/// The map under a key, whatever kind of shared type it says it is.
pub(super) fn nested(txn: &impl ReadTxn, map: &MapRef, key: &str) -> Option<MapRef> {
    as_map(map.get(txn, key)?)
}

/// The map of one record.
pub(crate) fn row(txn: &impl ReadTxn, id: &str) -> Option<MapRef> {
    nested(txn, &root(txn, ROWS)?, id)
}

/// All keys of one record but its components; empty when it is not there.
#[must_use]
pub fn raw_row(txn: &impl ReadTxn, id: &str) -> Raw {
    row(txn, id).map(|row| raw(txn, &row)).unwrap_or_default()
}

/// The nested components of one record; none when it is not there.
#[must_use]
pub fn row_components(txn: &impl ReadTxn, id: &str) -> Components {
    row(txn, id).map(|row| components(txn, &row)).unwrap_or_default()
}

/// The nested components of a record, each with all that it has.
pub(crate) fn components(txn: &impl ReadTxn, row: &MapRef) -> Components {
    let Some(all) = nested(txn, row, "$k") else { return BTreeMap::new() };
    let each = all.iter(txn).filter_map(|(id, value)| Some((Arc::from(id), object(txn, &as_map(value)?))));
    each.collect()
}

/// All keys of a map that hold something other than a map.
pub(super) fn raw(txn: &impl ReadTxn, map: &MapRef) -> Raw {
    map.iter(txn)
        .filter(|(key, _)| *key != "$k")
        .map(|(key, value)| (Arc::from(key), json(txn, value, 0)))
        .filter(|(_, value)| !value.is_null())
        .collect()
}

/// One key of a map; [`Value::Null`] when it is not there.
pub(super) fn value(txn: &impl ReadTxn, map: &MapRef, key: &str) -> Value {
    map.get(txn, key).map_or(Value::Null, |value| json(txn, value, 0))
}

/// A map with everything in it.
pub(super) fn object(txn: &impl ReadTxn, map: &MapRef) -> JsonMap<String, Value> {
    keys(txn, map, 0)
}

fn as_map(value: Out) -> Option<MapRef> {
    let branch: BranchPtr = match value {
        Out::YMap(map) => return Some(map),
        Out::YXmlElement(element) => BranchPtr::from(AsRef::<Branch>::as_ref(&element)),
        Out::YXmlFragment(fragment) => BranchPtr::from(AsRef::<Branch>::as_ref(&fragment)),
        Out::YXmlText(text) => BranchPtr::from(AsRef::<Branch>::as_ref(&text)),
        Out::YArray(array) => BranchPtr::from(AsRef::<Branch>::as_ref(&array)),
        Out::YText(text) => BranchPtr::from(AsRef::<Branch>::as_ref(&text)),
        Out::UndefinedRef(branch) => branch,
        Out::Any(_) | Out::YDoc(_) => return None,
    };
    Some(MapRef::from(branch))
}

fn json(txn: &impl ReadTxn, value: Out, depth: usize) -> Value {
    match value {
        Out::Any(any) => any_json(&any, 0),
        Out::YText(text) => Value::String(text.get_string(txn)),
        Out::YMap(map) => Value::Object(keys(txn, &map, depth)),
        Out::YXmlFragment(_) | Out::YXmlElement(_) | Out::YXmlText(_) | Out::UndefinedRef(_) => {
            as_map(value).map_or(Value::Null, |map| Value::Object(keys(txn, &map, depth)))
        }
        // Lists and subdocuments have no place in a cell.
        Out::YArray(_) | Out::YDoc(_) => Value::Null,
    }
}

fn keys(txn: &impl ReadTxn, map: &MapRef, depth: usize) -> JsonMap<String, Value> {
    if depth >= DEPTH_MAX {
        return JsonMap::new();
    }
    map.iter(txn).map(|(key, value)| (key.to_owned(), json(txn, value, depth + 1))).collect()
}

fn any_json(any: &Any, depth: usize) -> Value {
    if depth > ANY_DEPTH_MAX {
        return Value::Null;
    }
    match any {
        Any::Null | Any::Undefined => Value::Null,
        Any::Bool(flag) => Value::Bool(*flag),
        Any::Number(number) => number_json(number),
        Any::String(text) => Value::String(text.to_string()),
        Any::Buffer(bytes) => bytes_json(bytes),
        Any::Array(items) => Value::Array(items.iter().map(|item| any_json(item, depth + 1)).collect()),
        Any::Map(map) => {
            Value::Object(map.iter().map(|(key, item)| (key.clone(), any_json(item, depth + 1))).collect())
        }
    }
}

/// A number of the engine.
pub(crate) fn number_json(number: &Number) -> Value {
    match number {
        Number::Int(integer) => Value::from(*integer),
        Number::Float(float) => float_json(*float),
    }
}

/// JavaScript has one kind of number: 3 and 3.0 are the same. What is no number is nothing.
fn float_json(float: f64) -> Value {
    if float.fract() == 0.0 && float.abs() < 9_007_199_254_740_992.0 {
        #[allow(clippy::cast_possible_truncation)] // Whole and below 2^53.
        return Value::from(float as i64);
    }
    Value::from(float)
}

/// JSON as the engine keeps it.
pub(super) fn any_of(value: &Value) -> Any {
    match value {
        Value::Null => Any::Null,
        Value::Bool(flag) => Any::Bool(*flag),
        // As a JavaScript number: a browser reads 64-bit integers as something else.
        Value::Number(number) => Any::from(number.as_f64().unwrap_or_default()),
        Value::String(text) => Any::from(text.as_str()),
        Value::Array(items) => Any::Array(items.iter().map(any_of).collect()),
        Value::Object(map) => Any::from(
            map.iter().map(|(key, value)| (key.clone(), any_of(value))).collect::<std::collections::HashMap<_, _>>(),
        ),
    }
}

/// A value as it stands in an update.
pub(super) fn from_any_value(any: AnyValue) -> Value {
    match any {
        AnyValue::Null => Value::Null,
        AnyValue::Bool(flag) => Value::Bool(flag),
        AnyValue::Integer(integer) => Value::from(integer),
        AnyValue::Number(float) => float_json(float),
        AnyValue::String(text) => Value::String(text),
        AnyValue::Bytes(bytes) => bytes_json(&bytes),
        AnyValue::Array(items) => Value::Array(items.into_iter().map(from_any_value).collect()),
        AnyValue::Object(entries) => {
            Value::Object(entries.into_iter().map(|(key, item)| (key, from_any_value(item))).collect())
        }
    }
}

/// UTF-16 units of a text root; `None` for one that is no text.
pub(super) fn text_length(txn: &impl ReadTxn, root: &str) -> Option<u64> {
    match txn.get(root)? {
        Out::YText(text) => Some(u64::from(text.len(txn))),
        _ => None,
    }
}

/// Bytes, which JSON has no way to say: `{"base64": …}`.
pub(crate) fn bytes_json(bytes: &[u8]) -> Value {
    use base64::Engine;
    serde_json::json!({ "base64": base64::engine::general_purpose::STANDARD.encode(bytes) })
}
