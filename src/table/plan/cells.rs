//! The cells of a request: which columns they name, and whether these take them.

use std::collections::HashMap;
use std::collections::HashSet;

use serde_json::Value;

use super::Sight;
use crate::table::column::Column;
use crate::table::column::Columns;
use crate::table::column::not_unique;
use crate::table::command::Cells;
use crate::table::field::Rule;
use crate::table::field::Wrong;
use crate::table::refused::Refused;
use crate::table::view::FieldView;

/// A cell to be.
#[derive(Debug)]
pub(super) struct Wish<'a> {
    pub(super) column: Column<'a>,
    /// As the caller names the column.
    pub(super) key: &'a str,
    /// As it would be shown; [`Value::Null`] for an empty cell.
    pub(super) value: Value,
}

/// Where a record stands in a request.
#[derive(Debug, Clone, Copy)]
pub(super) enum Place {
    /// It is all of it.
    Whole,
    /// It is one of `records`.
    Nth(usize),
}

impl Place {
    /// The path of one of its members.
    pub(super) fn path(self, member: &str) -> String {
        match self {
            Self::Whole => member.to_owned(),
            Self::Nth(index) => format!("records[{index}].{member}"),
        }
    }

    pub(super) fn cell(self, key: &str) -> String {
        format!("{}.{key}", self.path("cells"))
    }

    fn refused(self, key: &str, wrong: Wrong, value: &Value) -> Refused {
        Refused::of_cell(wrong.under(&self.cell(key)), value)
    }
}

/// The cells of one record, checked one by one.
pub(super) fn wishes<'a>(columns: &Columns<'a>, cells: &'a Cells, place: Place) -> Result<Vec<Wish<'a>>, Refused> {
    let mut wishes: Vec<Wish<'a>> = Vec::with_capacity(cells.len());
    let mut seen = HashSet::with_capacity(cells.len());
    for (key, wanted) in cells {
        let column = columns.find(key).map_err(|wrong| place.refused(key, wrong, wanted))?;
        let own = if let Column::Flag(key) = column { key } else { column.id() };
        if !seen.insert(own) {
            return Err(Refused::wrong(place.cell(key), "this field is given twice, by id and by name"));
        }
        let value = column.check(wanted).map_err(|wrong| place.refused(key, wrong, wanted))?;
        wishes.push(Wish { column, key, value });
    }
    Ok(wishes)
}

/// Fields that a new record must fill.
pub(super) fn check_required(required: &[&FieldView], wishes: &[Wish<'_>], place: Place) -> Result<(), Refused> {
    let is_given = |field: &&&FieldView| wishes.iter().any(|wish| wish.column.id() == &*field.id);
    let Some(missing) = required.iter().find(|field| !is_given(field)) else { return Ok(()) };
    let message = format!("`{}` must not be empty", missing.name);
    let wrong = Wrong { rule: Rule::Required, path: String::new(), message };
    Err(place.refused(&missing.id, wrong, &Value::Null))
}

/// One record of a request.
pub(super) struct Asked<'a, 'w> {
    /// Its id; `None` for one to be.
    pub(super) id: Option<&'a str>,
    pub(super) wishes: &'w [Wish<'a>],
    pub(super) place: Place,
}

/// Refuses a value that another record has in a field that wants its values to differ.
///
/// Reads every record of the table when the request touches such a field.
pub(super) fn check_unique(sight: &Sight<'_>, asked: &[Asked<'_, '_>]) -> Result<(), Refused> {
    let mut held = held(sight, asked);
    if held.is_empty() {
        return Ok(());
    }
    for Asked { wishes, place, .. } in asked {
        for wish in wishes.iter().filter(|wish| !wish.value.is_null()) {
            let Some(field) = wish.column.unique() else { continue };
            let is_free = held.get_mut(&*field.id).is_none_or(|values| values.insert(mark(&wish.value)));
            if !is_free {
                return Err(place.refused(wish.key, not_unique(field), &wish.value));
            }
        }
    }
    Ok(())
}

/// What records that the request leaves alone hold, by unique field.
fn held<'a>(sight: &Sight<'_>, asked: &[Asked<'a, '_>]) -> HashMap<&'a str, HashSet<String>> {
    let mut fields: HashMap<&str, (&FieldView, HashSet<&str>)> = HashMap::new();
    for Asked { id, wishes, .. } in asked {
        for field in wishes.iter().filter_map(|wish| wish.column.unique()) {
            fields.entry(&field.id).or_insert_with(|| (field, HashSet::new())).1.extend(id);
        }
    }
    let mut held: HashMap<&str, HashSet<String>> = fields.keys().map(|id| (*id, HashSet::new())).collect();
    if fields.is_empty() {
        return held;
    }
    for (row, _) in sight.table.rows.iter().filter(|(_, row)| row.deleted.is_none()) {
        let raw = (sight.raw)(row);
        for (id, (field, leaving)) in &fields {
            let value = if leaving.contains(&**row) { Value::Null } else { Column::Known(field).read(&raw) };
            if !value.is_null() {
                held.entry(id).or_default().insert(mark(&value));
            }
        }
    }
    held
}

/// Equal for values that are shown alike: `1` and `1.0` are.
fn mark(value: &Value) -> String {
    value.as_f64().map_or_else(|| value.to_string(), |number| number.to_string())
}
