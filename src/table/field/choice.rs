//! The choices of a select field: `options.choices`, a list of `{id, name, color?, order}`.

use serde_json::Value;

use super::rule::Checked;
use super::rule::Rule;
use super::rule::Wrong;
use crate::table::view::FieldView;

/// Id and name of each choice, in their order.
pub(in crate::table) fn choices(field: &FieldView) -> impl Iterator<Item = (&str, &str)> {
    let list = field.options.get("choices").and_then(Value::as_array);
    list.into_iter().flatten().filter_map(|choice| {
        let id = choice.get("id")?.as_str()?;
        Some((id, choice.get("name").and_then(Value::as_str).unwrap_or(id)))
    })
}

/// Whether the field has a choice of this id.
pub(super) fn has_choice(field: &FieldView, id: &str) -> bool {
    choices(field).any(|(known, _)| known == id)
}

/// The id of the choice that is meant: by its id, or by a name that only one of them has.
///
/// # Errors
/// [`Rule::UnknownOption`].
pub(super) fn meant<'a>(field: &'a FieldView, word: &str) -> Checked<&'a str> {
    if let Some((id, _)) = choices(field).find(|(id, _)| *id == word) {
        return Ok(id);
    }
    let mut named = choices(field).filter(|(_, name)| *name == word);
    match (named.next(), named.next()) {
        (Some((id, _)), None) => Ok(id),
        (Some(_), Some(_)) => Err(Wrong::new(Rule::UnknownOption, "several choices have this name: give the id")),
        (None, _) => Err(Wrong::new(Rule::UnknownOption, "the field has no such choice")),
    }
}

/// What a person calls a choice: its name where [`meant`] finds the way back, its id otherwise.
pub(in crate::table) fn label<'a>(field: &'a FieldView, id: &'a str) -> &'a str {
    let name = choices(field).find(|(known, _)| *known == id).map(|(_, name)| name);
    name.filter(|name| meant(field, name).is_ok_and(|back| back == id)).unwrap_or(id)
}
