//! Records that come and go.

use std::collections::HashSet;
use std::sync::Arc;

use serde_json::Value;
use syncline_protocol::ErrorCode;

use super::Plan;
use super::Put;
use super::Report;
use super::Sight;
use super::cells::Asked;
use super::cells::Place;
use super::cells::Wish;
use super::cells::check_required;
use super::cells::check_unique;
use super::cells::wishes;
use super::conflict;
use super::fresh_id;
use super::place::Line;
use super::place::Spot;
use super::place::Standing;
use super::place::blocks;
use crate::table::column::Column;
use crate::table::column::Columns;
use crate::table::column::is_on;
use crate::table::command::NewRecord;
use crate::table::command::OnConflict;
use crate::table::content::Raw;
use crate::table::field;
use crate::table::limits;
use crate::table::refused::Refused;
use crate::table::state::Row;
use crate::table::state::Table;
use crate::table::view::FieldView;

/// Longest flag: the `sub` of a token may be one.
const FLAG_BYTES_MAX: usize = 255;

/// New records, in the order in which they are given. `at` says where each stands in the request.
pub(super) fn create(
    sight: &Sight<'_>,
    records: &[NewRecord],
    at: fn(usize) -> Place,
    stamp: &Value,
    chance: &mut dyn FnMut() -> u32,
) -> Result<Plan, Refused> {
    check_table(sight)?;
    limits::check_rows(sight.table, records.len())?;
    let ids = ids(sight.table, records, at, chance)?;
    let wished = wished(sight, records, at)?;
    limits::check_cells(sight.table, wished.iter().map(Vec::len).sum())?;
    let keys = places(sight.table, (records, at), &ids, chance)?;
    let has_components = sight.table.meta.get("settings").is_some_and(|settings| settings["components"] == true);
    let mut puts = Vec::with_capacity(records.len());
    for (index, (id, wishes)) in ids.iter().zip(&wished).enumerate() {
        let entries = entries(&keys[index].0, stamp, wishes, at(index))?;
        puts.push(Put::NewRow { row: id.clone(), entries, components: has_components });
    }
    // A gap that was worn out: others got new places too.
    puts.extend(keys.into_iter().skip(ids.len()).map(|(key, row)| order_put(row, &key)));
    Ok(Plan { puts, report: Report::Records(ids.into_iter().map(|id| (id, None)).collect()) })
}

/// Marks a record as deleted. One that is already stays as it is, whatever version is expected: a repeated request must
/// succeed as the first one did.
pub(super) fn delete(sight: &Sight<'_>, id: &str, expected: Option<u64>, stamp: Value) -> Result<Plan, Refused> {
    let (row_id, row) = find(sight.table, id)?;
    if row.deleted.is_some() {
        return Ok(about(row_id, vec![]));
    }
    let nothing: [Wish<'_>; 0] = [];
    conflict::judge(sight, row_id, row, conflict::Expectation::of(expected, OnConflict::Record), &nothing)?;
    Ok(about(row_id, vec![deletion(row_id, Some(stamp))]))
}

/// Takes the mark of deletion away.
pub(super) fn restore(sight: &Sight<'_>, id: &str) -> Result<Plan, Refused> {
    let (row_id, row) = find(sight.table, id)?;
    if row.deleted.is_none() {
        return Ok(about(row_id, vec![]));
    }
    limits::check_rows(sight.table, 1)?;
    let raw = (sight.raw)(row_id);
    let wishes = shown_unique(sight.table, &raw);
    check_unique(sight, &[Asked { id: Some(id), wishes: &wishes, place: Place::Whole }])?;
    Ok(about(row_id, vec![deletion(row_id, None)]))
}

/// Sets a flag of a record. One that is deleted takes none, and nobody is told so: whoever read it could not know.
pub(super) fn flag(sight: &Sight<'_>, id: &str, field: &str, flag: &str) -> Result<Plan, Refused> {
    let (row_id, row) = find(sight.table, id)?;
    if !(1..=FLAG_BYTES_MAX).contains(&flag.len()) {
        return Err(Refused::wrong("flag", "a flag has 1 to 255 bytes"));
    }
    let key = format!("{field}/{flag}");
    let raw = (sight.raw)(row_id);
    if row.deleted.is_some() || raw.get(key.as_str()).is_some_and(|set| *set == true) {
        return Ok(about(row_id, vec![]));
    }
    let value = Some(Value::Bool(true));
    limits::check_row_growth(&raw, &[(key.clone(), value.clone())], || "flag".to_owned())?;
    Ok(about(row_id, vec![Put::Cell { row: row_id.clone(), key, value }]))
}

/// A record, deleted or not.
pub(super) fn find<'t>(table: &'t Table, id: &str) -> Result<(&'t Arc<str>, &'t Row), Refused> {
    table.rows.get_key_value(id).ok_or_else(|| conflict::missing(id))
}

/// A record's place in its line.
pub(super) fn order_put(row: Arc<str>, key: &str) -> Put {
    Put::Cell { row, key: "$o".to_owned(), value: Some(key.into()) }
}

/// The line in which the records of a table stand.
pub(super) fn in_line<T>(table: &Table, then: impl FnOnce(Line<'_>) -> T) -> T {
    let is_hidden = |id: &str| table.rows.get(id).is_some_and(|row| row.deleted.is_some());
    let key_of = |id: &str| table.rows.get(id).map(|row| row.order.clone());
    then(Line::new(&table.order, &is_hidden, &key_of))
}

fn about(id: &Arc<str>, puts: Vec<Put>) -> Plan {
    Plan { puts, report: Report::Records(vec![(id.clone(), None)]) }
}

fn deletion(row: &Arc<str>, value: Option<Value>) -> Put {
    Put::Cell { row: row.clone(), key: "$d".to_owned(), value }
}

/// A document named `table:…` that nobody made a table holds no records: the name is probably a mistake. Those of other
/// kinds come with their first record.
fn check_table(sight: &Sight<'_>) -> Result<(), Refused> {
    let table = sight.table;
    let is_there = table.is_declared() || !table.rows.is_empty() || !table.fields.is_empty();
    if is_there || !sight.doc.starts_with("table:") {
        return Ok(());
    }
    Err(Refused::new(ErrorCode::NotFound, "there is no such table; create it first"))
}

/// The ids of new records: those that were brought, checked, and new ones.
fn ids(
    table: &Table,
    records: &[NewRecord],
    at: fn(usize) -> Place,
    chance: &mut dyn FnMut() -> u32,
) -> Result<Vec<Arc<str>>, Refused> {
    let mut taken: HashSet<Arc<str>> = HashSet::with_capacity(records.len());
    for (index, id) in records.iter().enumerate().filter_map(|(index, new)| Some((index, new.id.as_deref()?))) {
        let path = || at(index).path("id");
        field::check_row_id(id).map_err(|wrong| Refused::of_description(wrong.under(&path())))?;
        if !taken.insert(id.into()) {
            return Err(Refused::wrong(path(), "two records of this request have the same id"));
        }
        if table.rows.contains_key(id) {
            let refused = Refused::new(ErrorCode::AlreadyExists, "there is a record with this id");
            return Err(refused.with("path", path()).with("recordId", id));
        }
    }
    let mut fresh = || {
        let is_taken = |id: &str| table.rows.contains_key(id) || taken.contains(id);
        let id: Arc<str> = fresh_id(is_taken, || field::new_row_id(chance)).into();
        taken.insert(id.clone());
        id
    };
    Ok(records.iter().map(|new| new.id.as_deref().map_or_else(&mut fresh, Arc::from)).collect())
}

/// The cells of new records, checked.
fn wished<'a>(
    sight: &Sight<'a>,
    records: &'a [NewRecord],
    at: fn(usize) -> Place,
) -> Result<Vec<Vec<Wish<'a>>>, Refused> {
    let columns = Columns::of(sight.table);
    let required: Vec<_> = sight.table.fields.values().filter(|field| is_required(field)).collect();
    let mut wished = Vec::with_capacity(records.len());
    for (index, new) in records.iter().enumerate() {
        let wishes = wishes(&columns, &new.cells, at(index))?;
        check_required(&required, &wishes, at(index))?;
        wished.push(wishes);
    }
    let asked = |(index, wishes): (usize, _)| Asked { id: None, wishes, place: at(index) };
    check_unique(sight, &wished.iter().map(Vec::as_slice).enumerate().map(asked).collect::<Vec<_>>())?;
    Ok(wished)
}

fn is_required(field: &FieldView) -> bool {
    !field.deleted && !field::is_read_only(field) && is_on(field, "required")
}

/// Order keys: first those of the new records as they were given, then those of others that had to make room.
fn places(
    table: &Table,
    (records, at): (&[NewRecord], fn(usize) -> Place),
    ids: &[Arc<str>],
    chance: &mut dyn FnMut() -> u32,
) -> Result<Vec<Standing>, Refused> {
    let spots = records.iter().map(|new| new.after.as_ref().map_or(Spot::End, Spot::after));
    let blocks = blocks(ids.iter().cloned().zip(spots));
    let mut keys = in_line(table, |mut line| {
        let mut first = 0;
        for block in &blocks {
            line.place(block, chance).map_err(|why| why.refused(at(first).path("after")))?;
            first += block.ids.len();
        }
        Ok(line.into_keys())
    })?;
    let own = ids.iter().map(|id| (keys.remove(id).expect("every new record was placed"), id.clone()));
    let mut places: Vec<Standing> = own.collect();
    let mut others: Vec<Standing> = keys.into_iter().map(|(id, key)| (key, id)).collect();
    others.sort();
    places.append(&mut others);
    Ok(places)
}

/// The map of a new record.
fn entries(order: &str, stamp: &Value, wishes: &[Wish<'_>], place: Place) -> Result<Vec<(String, Value)>, Refused> {
    let nothing = Raw::new();
    let mut entries = Vec::with_capacity(wishes.len() + 2);
    entries.push(("$o".to_owned(), order.into()));
    entries.push(("$n".to_owned(), stamp.clone()));
    for wish in wishes {
        let writes = wish.column.writes(&wish.value, &nothing);
        let writes = writes.map_err(|wrong| Refused::of_cell(wrong.under(&place.cell(wish.key)), &wish.value))?;
        entries.extend(writes.into_iter().filter_map(|(key, value)| Some((key, value?))));
    }
    let bytes = entries.iter().map(|(key, value)| limits::entry_bytes(key, value)).sum();
    limits::check_row_bytes(bytes, || place.path("cells"))?;
    Ok(entries)
}

/// What a deleted record would show again in fields that want their values to differ.
fn shown_unique<'a>(table: &'a Table, raw: &Raw) -> Vec<Wish<'a>> {
    let columns = table.fields.values().filter(|field| !field.deleted).map(Column::Known);
    let unique = columns.filter(|column| column.unique().is_some());
    unique.map(|column| Wish { column, key: column.id(), value: column.read(raw) }).collect()
}
