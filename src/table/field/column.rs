//! A field's description in the document: the map `cols.<field>`, read and written.

use serde_json::Map;
use serde_json::Value;

use super::FieldType;
use super::id::check_field_id;
use super::options::check_options;
use super::options::choice_entries;
use super::options::choices_of_map;
use super::read::normal;
use super::read::number_value;
use super::rule::Checked;
use super::rule::Rule;
use super::rule::Wrong;
use crate::table::command::FieldPatch;
use crate::table::command::NewField;
use crate::table::view::FieldView;

/// Longest name of a field or a choice, in characters.
pub(super) const NAME_CHARS_MAX: usize = 255;
/// Narrowest and widest field, in pixels.
const WIDTH_PX: std::ops::RangeInclusive<f64> = 20.0..=2000.0;

/// What a new field's map is to hold.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ColumnEntries {
    /// `name`, `type`, `$o`, and `width` and `primary` where they were given.
    pub entries: Vec<(String, Value)>,
    /// The nested map `opts`. Its `choices`, where there are any, are `{id: {n, c?, o}}`, to become a nested map themselves.
    pub options: Map<String, Value>,
}

/// What is to be set (`Some`) and taken away (`None`) in a field's map.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PatchEntries {
    /// `name`, `type`, `width`, `primary`.
    pub entries: Vec<(&'static str, Option<Value>)>,
    /// In the nested map `opts`. `choices/<id>` is an entry `{n, c?, o}` of its nested map `choices` (what stands behind
    /// the first `/` is the id), so that choices that others add meanwhile stay.
    pub options: Vec<(String, Option<Value>)>,
}

/// A field as its map in the document says, whatever that holds: a type that is none is `text`, a missing name is the id,
/// and what cannot be understood of the rest is left out. Any `$d` but null marks it as deleted.
#[must_use]
pub fn from_column(id: &str, column: &Value) -> FieldView {
    let text = |key: &str| column.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
    let mut options = match column.get("opts").map(normal) {
        Some(Value::Object(options)) => options,
        _ => Map::new(),
    };
    if let Some(choices) = options.remove("choices") {
        options.insert("choices".to_owned(), choices_of_map(&choices));
    }
    FieldView {
        id: id.into(),
        name: text("name").unwrap_or(id).to_owned(),
        kind: text("type").and_then(FieldType::parse).unwrap_or(FieldType::Text),
        width: column.get("width").and_then(Value::as_f64).filter(|width| *width > 0.0),
        order: text("$o").unwrap_or_default().to_owned(),
        primary: column.get("primary").is_some_and(|primary| primary == true),
        options,
        deleted: column.get("$d").is_some_and(|mark| !mark.is_null()),
    }
}

/// Whether a field can be made of this: name, width, id and options.
///
/// # Errors
/// What is wrong, and its path in the request.
pub fn check_new(new: &NewField) -> Checked {
    if let Some(id) = &new.id {
        check_field_id(id).map_err(|wrong| wrong.under("id"))?;
    }
    check_name(&new.name).map_err(|wrong| wrong.under("name"))?;
    check_width(new.width)?;
    check_options(&new.options)
}

/// The entries of a new field's map. `order` is its order key; choices without an id get one.
///
/// # Errors
/// As [`check_new`].
pub fn column_entries(new: &NewField, order: &str, rand: &mut dyn FnMut() -> u32) -> Checked<ColumnEntries> {
    check_new(new)?;
    let mut entries: Vec<(String, Value)> = vec![
        ("name".to_owned(), new.name.as_str().into()),
        ("type".to_owned(), new.kind.word().into()),
        ("$o".to_owned(), order.into()),
    ];
    entries.extend(new.width.map(|width| ("width".to_owned(), number_value(width))));
    if new.primary {
        entries.push(("primary".to_owned(), true.into()));
    }
    let mut options = Map::new();
    for (key, value) in new.options.iter().filter(|(_, value)| !value.is_null()) {
        let kept = if key == "choices" {
            let choices = choice_entries(&[], value, rand).map_err(|wrong| wrong.under("options.choices"))?;
            choices.into_iter().collect::<Map<_, _>>().into()
        } else {
            normal(value)
        };
        options.insert(key.clone(), kept);
    }
    Ok(ColumnEntries { entries, options })
}

/// What of a patch differs from the field; its place (`after`) and its mark (`deleted`) are for the caller, who knows the
/// other fields and the time. `options.choices` is the whole list: what it leaves out is taken away, and what has no id is
/// the choice of the same name, where there is one.
///
/// # Errors
/// As [`check_new`].
pub fn patch_entries(field: &FieldView, patch: &FieldPatch, rand: &mut dyn FnMut() -> u32) -> Checked<PatchEntries> {
    if let Some(name) = &patch.name {
        check_name(name).map_err(|wrong| wrong.under("name"))?;
    }
    check_width(patch.width)?;
    check_options(&merged(&field.options, &patch.options))?;
    let mut options = Vec::new();
    for (key, value) in &patch.options {
        if key == "choices" {
            options.extend(choice_changes(field, value, rand).map_err(|wrong| wrong.under("options.choices"))?);
        } else if field.options.get(key).cloned().unwrap_or_default() != normal(value) {
            options.push((key.clone(), Some(normal(value)).filter(|value| !value.is_null())));
        }
    }
    Ok(PatchEntries { entries: property_changes(field, patch), options })
}

fn property_changes(field: &FieldView, patch: &FieldPatch) -> Vec<(&'static str, Option<Value>)> {
    let mut entries = Vec::new();
    if let Some(name) = patch.name.as_ref().filter(|name| **name != field.name) {
        entries.push(("name", Some(name.as_str().into())));
    }
    if let Some(kind) = patch.kind.filter(|kind| *kind != field.kind) {
        entries.push(("type", Some(kind.word().into())));
    }
    if let Some(width) = patch.width.filter(|width| Some(*width) != field.width) {
        entries.push(("width", Some(number_value(width))));
    }
    if let Some(primary) = patch.primary.filter(|primary| *primary != field.primary) {
        entries.push(("primary", primary.then_some(Value::Bool(true))));
    }
    entries
}

fn choice_changes(
    field: &FieldView,
    wanted: &Value,
    rand: &mut dyn FnMut() -> u32,
) -> Checked<Vec<(String, Option<Value>)>> {
    let current = field.options.get("choices").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let wanted = if wanted.is_null() { Vec::new() } else { choice_entries(current, wanted, rand)? };
    let shown: Map<String, Value> = wanted.iter().cloned().collect();
    let shown = choices_of_map(&shown.into());
    let still = |id: &Value| shown.as_array().into_iter().flatten().find(|choice| &choice["id"] == id);
    let gone = current.iter().map(|choice| &choice["id"]).filter(|id| still(id).is_none());
    let mut changes: Vec<_> = gone.filter_map(Value::as_str).map(|id| (format!("choices/{id}"), None)).collect();
    changes.extend(wanted.into_iter().filter_map(|(id, entry)| {
        let is_same = current.iter().any(|choice| choice["id"] == *id && still(&choice["id"]) == Some(choice));
        (!is_same).then(|| (format!("choices/{id}"), Some(entry)))
    }));
    Ok(changes)
}

fn merged(options: &Map<String, Value>, patch: &Map<String, Value>) -> Map<String, Value> {
    // Choices that the patch leaves alone were accepted once, perhaps from a client with looser rules.
    let kept = options.iter().filter(|(key, _)| *key != "choices");
    kept.chain(patch).map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// 1..=255 characters, not all of them spaces, none a control character.
pub(super) fn check_name(name: &str) -> Checked {
    if name.trim().is_empty() || name.chars().any(char::is_control) {
        return Err(Wrong::new(Rule::BadFormat, "a name has characters that can be seen, and no control characters"));
    }
    let is_long = name.chars().nth(NAME_CHARS_MAX).is_some();
    if is_long { Err(Wrong::new(Rule::TooLong, "a name has at most 255 characters")) } else { Ok(()) }
}

fn check_width(width: Option<f64>) -> Checked {
    let is_fine = width.is_none_or(|width| WIDTH_PX.contains(&width));
    let wrong = || Wrong::new(Rule::OutOfRange, "a field is 20 to 2000 pixels wide").under("width");
    is_fine.then_some(()).ok_or_else(wrong)
}
