//! Carries a plan out: keys of the shared types, in one transaction of the engine.

use serde_json::Map as JsonMap;
use serde_json::Value;
use yrs::Map;
use yrs::MapPrelim;
use yrs::MapRef;
use yrs::TransactionMut;
use yrs::WriteTxn;

use super::content::COLS;
use super::content::META;
use super::content::ROWS;
use super::content::any_of;
use super::content::nested;
use super::plan::Put;

/// Sets what the plan says. A record or field that is not there any more is left out: the plan was made in the same breath.
pub fn carry_out(txn: &mut TransactionMut, puts: &[Put]) {
    for put in puts {
        match put {
            Put::Meta { key, value } => {
                let meta = txn.get_or_insert_map(META);
                set(txn, &meta, key, value.as_ref());
            }
            Put::NewRow { row, entries, components } => {
                let rows = txn.get_or_insert_map(ROWS);
                let row = rows.insert(txn, row.as_ref(), MapPrelim::default());
                fill(txn, &row, entries.iter().map(|(key, value)| (key.as_str(), value)));
                if *components {
                    row.insert(txn, "$k", MapPrelim::default());
                }
            }
            Put::Cell { row, key, value } => {
                let rows = txn.get_or_insert_map(ROWS);
                if let Some(row) = nested(txn, &rows, row) {
                    set(txn, &row, key, value.as_ref());
                }
            }
            Put::NewComponent { row, component, content } => {
                let rows = txn.get_or_insert_map(ROWS);
                let Some(row) = nested(txn, &rows, row) else { continue };
                let all = map_under(txn, &row, "$k");
                let map = all.insert(txn, component.as_ref(), MapPrelim::default());
                content.iter().for_each(|(key, value)| set_in_component(txn, &map, key, Some(value)));
            }
            Put::Component { row, component, key, value } => {
                let rows = txn.get_or_insert_map(ROWS);
                let all = nested(txn, &rows, row).and_then(|row| nested(txn, &row, "$k"));
                if let Some(map) = all.and_then(|all| nested(txn, &all, component)) {
                    set_in_component(txn, &map, key, value.as_ref());
                }
            }
            Put::NewField { field, entries, options } => {
                let cols = txn.get_or_insert_map(COLS);
                let field = cols.insert(txn, field.as_ref(), MapPrelim::default());
                fill(txn, &field, entries.iter().map(|(key, value)| (key.as_str(), value)));
                if !options.is_empty() {
                    let into = field.insert(txn, "opts", MapPrelim::default());
                    options.iter().for_each(|(key, value)| set_option(txn, &into, key, Some(value)));
                }
            }
            Put::Field { field, key, value } => {
                let cols = txn.get_or_insert_map(COLS);
                if let Some(field) = nested(txn, &cols, field) {
                    set(txn, &field, key, value.as_ref());
                }
            }
            Put::FieldOption { field, key, value } => {
                let cols = txn.get_or_insert_map(COLS);
                let Some(field) = nested(txn, &cols, field) else { continue };
                let into = nested(txn, &field, "opts");
                let into = into.unwrap_or_else(|| field.insert(txn, "opts", MapPrelim::default()));
                set_option(txn, &into, key, value.as_ref());
            }
        }
    }
}

fn fill<'a>(txn: &mut TransactionMut, map: &MapRef, entries: impl Iterator<Item = (&'a str, &'a Value)>) {
    for (key, value) in entries {
        set(txn, map, key, Some(value));
    }
}

fn set(txn: &mut TransactionMut, map: &MapRef, key: &str, value: Option<&Value>) {
    match value {
        Some(value) => {
            map.insert(txn, key, any_of(value));
        }
        None => {
            map.remove(txn, key);
        }
    }
}

/// `props` is a map of its own, so that two who set different ones keep both: all of it, or one as `props/<key>`.
fn set_in_component(txn: &mut TransactionMut, component: &MapRef, key: &str, value: Option<&Value>) {
    match (key.strip_prefix("props/"), key, value) {
        (Some(prop), ..) => {
            let props = map_under(txn, component, "props");
            set(txn, &props, prop, value);
        }
        (None, "props", Some(Value::Object(wanted))) => {
            let props = map_under(txn, component, "props");
            fill(txn, &props, wanted.iter().map(|(key, value)| (key.as_str(), value)));
        }
        _ => set(txn, component, key, value),
    }
}

/// The map under a key, made if it is not there. A plain object that somebody put there becomes one.
fn map_under(txn: &mut TransactionMut, map: &MapRef, key: &str) -> MapRef {
    if let Some(known) = nested(txn, map, key) {
        return known;
    }
    let plain = super::content::value(txn, map, key);
    let made = map.insert(txn, key, MapPrelim::default());
    if let Value::Object(entries) = &plain {
        fill(txn, &made, entries.iter().map(|(key, value)| (key.as_str(), value)));
    }
    made
}

/// The choices are maps in a map, so that two people who add one at the same time keep both: `choices` adds all of a new
/// field, `choices/<id>` sets or takes away one.
fn set_option(txn: &mut TransactionMut, options: &MapRef, key: &str, value: Option<&Value>) {
    match (key.strip_prefix("choices/"), key, value) {
        (Some(id), _, Some(choice)) => {
            let choices = choices_of(txn, options);
            set_choice(txn, &choices, id, choice);
        }
        (Some(id), _, None) => {
            choices_of(txn, options).remove(txn, id);
        }
        (None, "choices", Some(Value::Object(wanted))) => {
            let choices = choices_of(txn, options);
            wanted.iter().for_each(|(id, choice)| set_choice(txn, &choices, id, choice));
        }
        _ => set(txn, options, key, value),
    }
}

fn choices_of(txn: &mut TransactionMut, options: &MapRef) -> MapRef {
    map_under(txn, options, "choices")
}

fn set_choice(txn: &mut TransactionMut, choices: &MapRef, id: &str, choice: &Value) {
    let empty = JsonMap::new();
    let wanted = choice.as_object().unwrap_or(&empty);
    let map = nested(txn, choices, id);
    let map = map.unwrap_or_else(|| choices.insert(txn, id, MapPrelim::default()));
    for (key, value) in wanted {
        if super::content::value(txn, &map, key) != *value {
            set(txn, &map, key, Some(value));
        }
    }
}
