//! The table itself, and its fields.

use std::collections::BTreeSet;
use std::collections::HashMap;
use std::collections::HashSet;
use std::sync::Arc;

use serde_json::Value;
use syncline_protocol::ErrorCode;

use super::Plan;
use super::Put;
use super::Report;
use super::Sight;
use super::fresh_id;
use super::place::Block;
use super::place::Line;
use super::place::Misplaced;
use super::place::Spot;
use super::place::Standing;
use crate::table::command::FieldPatch;
use crate::table::command::NewField;
use crate::table::field;
use crate::table::field::Wrong;
use crate::table::limits;
use crate::table::order;
use crate::table::refused::Refused;
use crate::table::state::Table;
use crate::table::view::FieldView;

/// Longest title, in characters.
const TITLE_CHARS_MAX: usize = 255;
/// The version of the schema that the server writes.
const SCHEMA_VERSION: u32 = 1;

/// A table where there is none yet.
pub(super) fn create_table(
    sight: &Sight<'_>,
    title: Option<&str>,
    fields: &[NewField],
    chance: &mut dyn FnMut() -> u32,
) -> Result<Plan, Refused> {
    let table = sight.table;
    if table.is_declared() || !table.fields.is_empty() || !table.rows.is_empty() {
        return Err(Refused::new(ErrorCode::AlreadyExists, "there is a table of this name"));
    }
    if title.is_some_and(|title| title.chars().nth(TITLE_CHARS_MAX).is_some()) {
        return Err(Refused::wrong("title", format!("a title has at most {TITLE_CHARS_MAX} characters")));
    }
    limits::check_fields(table, fields.len())?;
    check_together(fields)?;
    let keys = order::jittered_keys_between(None, None, fields.len(), chance).expect("an empty line has room");
    let mut puts = declaration();
    puts.extend(title.map(|title| Put::Meta { key: "title", value: Some(title.into()) }));
    let mut taken: HashSet<String> = fields.iter().filter_map(|new| new.id.clone()).collect();
    for (index, (new, key)) in fields.iter().zip(keys).enumerate() {
        let id = new.id.clone().unwrap_or_else(|| fresh_id(|id| taken.contains(id), || field::new_field_id(chance)));
        taken.insert(id.clone());
        puts.push(new_field(id.into(), new, &key, chance).map_err(|wrong| at(index, wrong))?);
    }
    Ok(Plan { puts, report: Report::Table })
}

/// One more field. It makes a table of what is none.
pub(super) fn add(sight: &Sight<'_>, new: &NewField, chance: &mut dyn FnMut() -> u32) -> Result<Plan, Refused> {
    let table = sight.table;
    if new.id.as_deref().is_some_and(|id| table.fields.contains_key(id)) {
        let message = "there is a field with this id; it may be deleted, and can be restored then";
        return Err(Refused::new(ErrorCode::AlreadyExists, message).with("path", "id"));
    }
    limits::check_fields(table, 1)?;
    field::check_new(new).map_err(Refused::of_description)?;
    check_name_free(table, &new.name, None)?;
    let id: Arc<str> = match &new.id {
        Some(id) => id.as_str().into(),
        None => fresh_id(|id| table.fields.contains_key(id), || field::new_field_id(chance)).into(),
    };
    let mut puts = if table.is_declared() { vec![] } else { declaration() };
    if new.primary {
        puts.extend(primary_elsewhere(table, &id));
    }
    let spot = new.after.as_deref().map_or(Spot::End, Spot::Behind);
    let mut keys = moved(table, &id, spot, chance).map_err(|why| why.refused("after".to_owned()))?;
    let key = keys.remove(&id).expect("it was placed");
    puts.push(new_field(id.clone(), new, &key, chance).map_err(Refused::of_description)?);
    puts.extend(order_puts(keys));
    Ok(Plan { puts, report: Report::Field(id) })
}

/// Changes to a field.
pub(super) fn change(
    sight: &Sight<'_>,
    id: &str,
    patch: &FieldPatch,
    chance: &mut dyn FnMut() -> u32,
) -> Result<Plan, Refused> {
    let field = find(sight.table, id)?;
    let is_restored = field.deleted && patch.deleted == Some(false);
    if field.deleted && !is_restored {
        return Err(Refused::new(ErrorCode::NotFound, "the field is deleted; restore it first").with("fieldId", id));
    }
    if patch.deleted == Some(true) {
        return Err(Refused::wrong("deleted", "a field is deleted by its own command"));
    }
    let patch = trimmed(patch);
    let entries = field::patch_entries(field, &patch, chance).map_err(Refused::of_description)?;
    if patch.name.is_some() || is_restored {
        check_name_free(sight.table, patch.name.as_deref().unwrap_or(&field.name), Some(id))?;
    }
    let mut puts = Vec::new();
    let entry = |(key, value)| Put::Field { field: field.id.clone(), key, value };
    puts.extend(entries.entries.into_iter().map(entry));
    puts.extend(entries.options.into_iter().map(|(key, value)| Put::FieldOption {
        field: field.id.clone(),
        key,
        value,
    }));
    if is_restored {
        limits::check_fields(sight.table, 1)?;
        puts.push(entry(("$d", None)));
    }
    puts.extend(primary_puts(sight.table, field, &patch, is_restored));
    if let Some(after) = &patch.after {
        let keys = moved(sight.table, &field.id, Spot::after(after), chance);
        puts.extend(order_puts(keys.map_err(|why| why.refused("after".to_owned()))?));
    }
    Ok(Plan { puts, report: Report::Field(field.id.clone()) })
}

/// Marks a field as deleted; one that is already stays as it is.
pub(super) fn delete(sight: &Sight<'_>, id: &str, stamp: Value) -> Result<Plan, Refused> {
    let field = find(sight.table, id)?;
    let mark = || Put::Field { field: field.id.clone(), key: "$d", value: Some(stamp) };
    let puts = if field.deleted { vec![] } else { vec![mark()] };
    Ok(Plan { puts, report: Report::Field(field.id.clone()) })
}

fn find<'t>(table: &'t Table, id: &str) -> Result<&'t FieldView, Refused> {
    let missing = || Refused::new(ErrorCode::NotFound, "there is no such field").with("fieldId", id);
    table.fields.get(id).ok_or_else(missing)
}

/// What says that the document is a table.
fn declaration() -> Vec<Put> {
    let meta = |key, value: Value| Put::Meta { key, value: Some(value) };
    vec![meta("schema", "grid".into()), meta("schemaVersion", SCHEMA_VERSION.into())]
}

fn new_field(id: Arc<str>, new: &NewField, key: &str, chance: &mut dyn FnMut() -> u32) -> Result<Put, Wrong> {
    let new = NewField { name: new.name.trim().to_owned(), ..new.clone() };
    let column = field::column_entries(&new, key, chance)?;
    Ok(Put::NewField { field: id, entries: column.entries, options: column.options })
}

fn trimmed(patch: &FieldPatch) -> FieldPatch {
    FieldPatch { name: patch.name.as_ref().map(|name| name.trim().to_owned()), ..patch.clone() }
}

/// Whether fields can come into one table together: their ids, names and places, and one that names the record at most.
fn check_together(fields: &[NewField]) -> Result<(), Refused> {
    let (mut ids, mut names) = (HashSet::new(), HashSet::new());
    let mut has_primary = false;
    for (index, new) in fields.iter().enumerate() {
        field::check_new(new).map_err(|wrong| at(index, wrong))?;
        let wrong = |member: &str, why: &str| Err(Refused::wrong(format!("fields[{index}].{member}"), why));
        if new.id.as_ref().is_some_and(|id| !ids.insert(id)) {
            return wrong("id", "two fields have the same id");
        }
        if !names.insert(new.name.trim()) {
            return wrong("name", "two fields have the same name");
        }
        if new.after.is_some() {
            return wrong("after", "fields of a new table stand in the order in which they are given");
        }
        if new.primary && std::mem::replace(&mut has_primary, true) {
            return wrong("primary", "two fields are to name the record");
        }
    }
    Ok(())
}

fn at(index: usize, wrong: Wrong) -> Refused {
    Refused::of_description(wrong.under(&format!("fields[{index}]")))
}

/// Names are compared as written, without the spaces around them. Those of deleted fields are free.
fn check_name_free(table: &Table, name: &str, own: Option<&str>) -> Result<(), Refused> {
    let mut others = table.fields.values().filter(|field| !field.deleted && Some(&*field.id) != own);
    let is_taken = others.any(|field| field.name.trim() == name.trim());
    if is_taken { Err(Refused::wrong("name", "another field has this name")) } else { Ok(()) }
}

/// Takes the title role off every other field.
fn primary_elsewhere(table: &Table, id: &str) -> impl Iterator<Item = Put> {
    let others = table.fields.values().filter(move |field| field.primary && &*field.id != id);
    others.map(|field| Put::Field { field: field.id.clone(), key: "primary", value: None })
}

/// One field names the record: a restored one gives way to the one that does so now.
fn primary_puts(table: &Table, field: &FieldView, patch: &FieldPatch, is_restored: bool) -> Vec<Put> {
    if patch.primary == Some(true) {
        return primary_elsewhere(table, &field.id).collect();
    }
    let has_other = table.fields.values().any(|other| other.primary && !other.deleted && other.id != field.id);
    if is_restored && field.primary && has_other && patch.primary.is_none() {
        return vec![Put::Field { field: field.id.clone(), key: "primary", value: None }];
    }
    vec![]
}

/// The keys of fields that do not stand where they stood.
fn moved(
    table: &Table,
    id: &Arc<str>,
    spot: Spot<'_>,
    chance: &mut dyn FnMut() -> u32,
) -> Result<HashMap<Arc<str>, Arc<str>>, Misplaced> {
    let key_of = |id: &str| table.fields.get(id).map(|field| Arc::from(field.order.as_str()));
    let is_hidden = |id: &str| table.fields.get(id).is_some_and(|field| field.deleted);
    let standing = |field: &FieldView| (Arc::from(field.order.as_str()), field.id.clone());
    let kept: BTreeSet<Standing> = table.fields.values().map(standing).collect();
    let mut line = Line::new(&kept, &is_hidden, &key_of);
    line.place(&Block { spot, ids: vec![id.clone()] }, chance)?;
    Ok(line.into_keys())
}

fn order_puts(keys: HashMap<Arc<str>, Arc<str>>) -> impl Iterator<Item = Put> {
    let mut keys: Vec<Standing> = keys.into_iter().collect();
    keys.sort();
    keys.into_iter().map(|(field, key)| Put::Field { field, key: "$o", value: Some((&*key).into()) })
}
