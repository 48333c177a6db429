//! The options of a field: bounded whatever they are, and checked where the server acts on them.

use std::collections::HashSet;

use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use super::check::check_json;
use super::column::check_name;
use super::id::check_choice_id;
use super::id::new_choice_id;
use super::rule::Checked;
use super::rule::Rule;
use super::rule::Wrong;
use crate::table::order::BadKey;
use crate::table::order::is_valid;
use crate::table::order::keys_between;

/// Most choices of a field. A list that people choose from is shorter; a longer one is a table to link to.
const CHOICES_MAX: usize = 1000;
/// Most options of a field; each at most as large as a cell.
const OPTIONS_MAX: usize = 64;
const COLOR_BYTES_MAX: usize = 64;
/// Options that are true or false.
const SWITCHES: [&str; 4] = ["required", "unique", "collab", "multiple"];

/// Any options may be kept, within bounds. Those that mean something here must be what they mean. A null is an option that
/// is to be absent.
pub(super) fn check_options(options: &Map<String, Value>) -> Checked {
    if options.len() > OPTIONS_MAX {
        return Err(Wrong::new(Rule::TooLong, "a field has at most 64 options").under("options"));
    }
    for (key, value) in options.iter().filter(|(_, value)| !value.is_null()) {
        check_choice_id(key)
            .and_then(|()| check_option(key, value))
            .map_err(|wrong| wrong.under(key).under("options"))?;
    }
    let bound = |name: &str| options.get(name).and_then(Value::as_f64);
    if bound("min").zip(bound("max")).is_some_and(|(min, max)| min > max) {
        return Err(Wrong::new(Rule::OutOfRange, "`min` is greater than `max`").under("options.min"));
    }
    Ok(())
}

fn check_option(key: &str, value: &Value) -> Checked {
    match key {
        "choices" => given_choices(value).map(drop),
        "min" | "max" if !value.is_number() => Err(Wrong::new(Rule::WrongType, "a bound is a number")),
        "precision"
            if !value.as_f64().is_some_and(|digits| digits.fract() == 0.0 && (0.0..=20.0).contains(&digits)) =>
        {
            Err(Wrong::new(Rule::OutOfRange, "a precision is 0 to 20 digits"))
        }
        switch if SWITCHES.contains(&switch) && !value.is_boolean() => {
            Err(Wrong::new(Rule::WrongType, "the option is true or false"))
        }
        _ => check_json(value),
    }
}

/// A choice as a request gives it.
struct Given<'a> {
    id: Option<&'a str>,
    name: &'a str,
    color: Option<&'a str>,
}

fn given_choices(list: &Value) -> Checked<Vec<Given<'_>>> {
    let list =
        list.as_array().ok_or_else(|| Wrong::new(Rule::WrongType, "choices are a list of {id?, name, color?}"))?;
    if list.len() > CHOICES_MAX {
        return Err(Wrong::new(Rule::TooLong, "a field has at most 1000 choices"));
    }
    let mut ids = HashSet::new();
    let mut given = Vec::with_capacity(list.len());
    for (at, choice) in list.iter().enumerate() {
        let choice = given_choice(choice).map_err(|wrong| wrong.under(&format!("[{at}]")))?;
        if choice.id.is_some_and(|id| !ids.insert(id)) {
            return Err(Wrong::new(Rule::BadId, "two choices have this id").under(&format!("[{at}].id")));
        }
        given.push(choice);
    }
    Ok(given)
}

/// `{id?, name, color?}`, or a name alone. `order` is what answers say, and is given back unread: the place in the list
/// counts.
fn given_choice(choice: &Value) -> Checked<Given<'_>> {
    if let Value::String(name) = choice {
        return check_name(name).map(|()| Given { id: None, name, color: None });
    }
    let wrong = || Wrong::new(Rule::WrongType, "a choice is {id?, name, color?}");
    let choice = choice.as_object().ok_or_else(wrong)?;
    if let Some(key) = choice.keys().find(|key| !["id", "name", "color", "order"].contains(&key.as_str())) {
        return Err(wrong().under(key));
    }
    let text = |key: &str| match choice.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => value.as_str().map(Some).ok_or_else(|| wrong().under(key)),
    };
    let given = Given { id: text("id")?, name: text("name")?.ok_or_else(wrong)?, color: text("color")? };
    check_name(given.name).map_err(|wrong| wrong.under("name"))?;
    given.id.map_or(Ok(()), check_choice_id).map_err(|wrong| wrong.under("id"))?;
    if given.color.is_some_and(|color| color.len() > COLOR_BYTES_MAX || color.chars().any(char::is_control)) {
        return Err(Wrong::new(Rule::TooLong, "a color has at most 64 bytes").under("color"));
    }
    Ok(given)
}

/// Ids and entries `{n, c?, o}` of the choices in `list`. `current` are those of the field, as it shows them: a choice
/// without an id is the current one of its name, and order keys stay where the order does.
pub(super) fn choice_entries(
    current: &[Value],
    list: &Value,
    rand: &mut dyn FnMut() -> u32,
) -> Checked<Vec<(String, Value)>> {
    let given = given_choices(list)?;
    let ids = ids_of(current, &given, rand);
    let order_of =
        |id: &String| current.iter().find(|choice| choice["id"] == **id).and_then(|choice| choice["order"].as_str());
    let orders = order_keys(&ids.iter().map(order_of).collect::<Vec<_>>());
    let entries = given.iter().zip(ids).zip(orders).map(|((choice, id), order)| {
        let mut entry = json!({ "n": choice.name, "o": order });
        if let Some(color) = choice.color {
            entry["c"] = color.into();
        }
        (id, entry)
    });
    Ok(entries.collect())
}

fn ids_of(current: &[Value], given: &[Given<'_>], rand: &mut dyn FnMut() -> u32) -> Vec<String> {
    let mut taken: HashSet<String> = given.iter().filter_map(|choice| choice.id).map(str::to_owned).collect();
    let mut known: HashSet<String> =
        current.iter().filter_map(|choice| choice["id"].as_str()).map(str::to_owned).collect();
    let mut ids = Vec::with_capacity(given.len());
    for choice in given {
        let same_name =
            current.iter().filter(|known| known["name"] == choice.name).filter_map(|known| known["id"].as_str());
        let found = choice.id.or_else(|| same_name.into_iter().find(|id| !taken.contains(*id)));
        let id = found.map_or_else(|| fresh(&known, &taken, rand), str::to_owned);
        known.insert(id.clone());
        taken.insert(id.clone());
        ids.push(id);
    }
    ids
}

fn fresh(known: &HashSet<String>, taken: &HashSet<String>, rand: &mut dyn FnMut() -> u32) -> String {
    let mut id = new_choice_id(rand);
    // A source of chance that repeats itself must not keep us here: then the count makes the difference.
    for count in 0.. {
        if !known.contains(&id) && !taken.contains(&id) {
            break;
        }
        id = format!("{}{count}", new_choice_id(rand));
    }
    id
}

/// Ascending keys: the old ones where they ascend, new ones in the gaps; all new where they do not.
fn order_keys(old: &[Option<&str>]) -> Vec<String> {
    let kept: Vec<&str> = old.iter().copied().flatten().collect();
    let is_sound = kept.iter().all(|key| is_valid(key)) && kept.windows(2).all(|pair| pair[0] < pair[1]);
    let filled = if is_sound { filled(old) } else { Err(BadKey::Invalid) };
    filled.or_else(|_| keys_between(None, None, old.len())).expect("an empty line has room for every list")
}

fn filled(old: &[Option<&str>]) -> Result<Vec<String>, BadKey> {
    let mut keys: Vec<String> = Vec::with_capacity(old.len());
    while keys.len() < old.len() {
        let rest = &old[keys.len()..];
        let gap = rest.iter().take_while(|key| key.is_none()).count();
        let next = rest.get(gap).copied().flatten();
        let fresh = keys_between(keys.last().map(String::as_str), next, gap)?;
        keys.extend(fresh);
        keys.extend(next.map(str::to_owned));
    }
    Ok(keys)
}

/// The list that a field shows, in order, from the nested map `{id: {n, c?, o}}`; a choice that is no map is named by its
/// text or its id.
pub(super) fn choices_of_map(choices: &Value) -> Value {
    let mut list: Vec<Value> = choices.as_object().into_iter().flatten().map(|(id, entry)| shown(id, entry)).collect();
    let place =
        |choice: &Value| (choice["order"].as_str().map(str::to_owned), choice["id"].as_str().map(str::to_owned));
    list.sort_by_cached_key(place);
    list.into()
}

fn shown(id: &str, entry: &Value) -> Value {
    let text = |key: &str| entry.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
    let name = entry.as_str().or_else(|| text("n")).unwrap_or(id);
    let mut choice = json!({ "id": id, "name": name, "order": text("o").unwrap_or_default() });
    if let Some(color) = text("c") {
        choice["color"] = color.into();
    }
    choice
}
