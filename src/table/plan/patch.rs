//! Changes to records: all of them, or none.

use std::collections::HashSet;
use std::ops::RangeInclusive;
use std::slice;
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
use super::cells::check_unique;
use super::cells::wishes;
use super::conflict;
use super::conflict::Expectation;
use super::place::Spot;
use super::place::blocks;
use super::records;
use super::records::find;
use super::records::in_line;
use super::records::order_put;
use crate::table::column::Columns;
use crate::table::command::Merged;
use crate::table::command::NewRecord;
use crate::table::command::OnConflict;
use crate::table::command::RecordPatch;
use crate::table::limits;
use crate::table::refused::Refused;
use crate::table::state::Table;

/// How a patch is to be taken.
#[derive(Debug, Clone, Copy)]
pub(super) struct Manner {
    pub(super) on_conflict: OnConflict,
    pub(super) is_batch: bool,
}

/// A patch that may be made.
struct Change<'a> {
    id: &'a Arc<str>,
    wishes: Vec<Wish<'a>>,
    merged: Option<Merged>,
}

impl Manner {
    fn place(self, index: usize) -> Place {
        if self.is_batch { Place::Nth(index) } else { Place::Whole }
    }
}

/// Changes to records: cells, and places.
pub(super) fn patch(
    sight: &Sight<'_>,
    records: &[RecordPatch],
    manner: Manner,
    chance: &mut dyn FnMut() -> u32,
) -> Result<Plan, Refused> {
    check_distinct(records, manner)?;
    let changes = changes(sight, records, manner)?;
    check_unique(sight, &asked(&changes, manner))?;
    limits::check_cells(sight.table, changes.iter().map(|change| first_cells(sight.table, change)).sum())?;
    let mut puts = Vec::new();
    for (index, change) in changes.iter().enumerate() {
        cell_puts(sight, change, manner.place(index), &mut puts)?;
    }
    puts.extend(height_puts(sight.table, records, manner)?);
    puts.extend(moves(sight.table, records, &changes, manner, chance)?);
    let report = changes.into_iter().map(|change| (change.id.clone(), change.merged)).collect();
    Ok(Plan { puts, report: Report::Records(report) })
}

fn asked<'a, 'w>(changes: &'w [Change<'a>], manner: Manner) -> Vec<Asked<'a, 'w>> {
    let one = |(index, change): (usize, &'w Change<'a>)| Asked {
        id: Some(change.id),
        wishes: &change.wishes,
        place: manner.place(index),
    };
    changes.iter().enumerate().map(one).collect()
}

/// Changes to one record, or the record itself when it is not there.
pub(super) fn put(
    sight: &Sight<'_>,
    patch: &RecordPatch,
    on_conflict: OnConflict,
    stamp: &Value,
    chance: &mut dyn FnMut() -> u32,
) -> Result<Plan, Refused> {
    if sight.doc.starts_with("table:") {
        return Err(Refused::new(ErrorCode::ChannelError, "records of a table are created before they are changed"));
    }
    let expectation = Expectation::of(patch.expected_version, on_conflict);
    if sight.table.rows.contains_key(patch.id.as_str()) {
        // Who expects none is in conflict with any.
        let wants_none = patch.expected_version == Some(0) && on_conflict == OnConflict::Field;
        let on_conflict = if wants_none { OnConflict::Record } else { on_conflict };
        return self::patch(sight, slice::from_ref(patch), Manner { on_conflict, is_batch: false }, chance);
    }
    expectation.of_none(&patch.id)?;
    let height = patch.height.map(|height| check_height(height, Place::Whole)).transpose()?;
    let RecordPatch { id, cells, after, .. } = patch.clone();
    let new = NewRecord { id: Some(id), cells, after };
    let mut plan = records::create(sight, &[new], |_| Place::Whole, stamp, chance)?;
    if let (Some(height), Some(Put::NewRow { entries, .. })) = (height, plan.puts.first_mut()) {
        entries.push(("$h".to_owned(), height));
    }
    Ok(plan)
}

/// Heights of a row, in pixels.
const HEIGHTS: RangeInclusive<f64> = 1.0..=2000.0;

fn check_height(height: f64, place: Place) -> Result<Value, Refused> {
    if !HEIGHTS.contains(&height) {
        return Err(Refused::wrong(place.path("height"), "a height is 1 to 2000 pixels"));
    }
    Ok(height.into())
}

/// The heights that are not yet as they shall be.
fn height_puts(table: &Table, records: &[RecordPatch], manner: Manner) -> Result<Vec<Put>, Refused> {
    let mut puts = Vec::new();
    for (index, patch) in records.iter().enumerate() {
        let (Some(height), Some((id, row))) = (patch.height, table.rows.get_key_value(patch.id.as_str())) else {
            continue;
        };
        let value = Some(check_height(height, manner.place(index))?);
        if row.height.as_f64() != Some(height) {
            puts.push(Put::Cell { row: id.clone(), key: "$h".to_owned(), value });
        }
    }
    Ok(puts)
}

/// The same record twice would make the second patch one of a state that nobody has seen.
fn check_distinct(records: &[RecordPatch], manner: Manner) -> Result<(), Refused> {
    let mut seen = HashSet::with_capacity(records.len());
    let twice = records.iter().position(|patch| !seen.insert(patch.id.as_str()));
    twice.map_or(Ok(()), |index| {
        Err(Refused::wrong(manner.place(index).path("id"), "two patches of this request name the same record"))
    })
}

/// The patches with their cells, when no version stands in the way of any.
fn changes<'a>(sight: &Sight<'a>, records: &'a [RecordPatch], manner: Manner) -> Result<Vec<Change<'a>>, Refused> {
    let columns = Columns::of(sight.table);
    let wishes_of = |(index, patch): (usize, &'a RecordPatch)| {
        // That one record is not there says more than what is wrong with its cells.
        let standing = if manner.is_batch { Ok(()) } else { find(sight.table, &patch.id).map(drop) };
        standing.and_then(|()| wishes(&columns, &patch.cells, manner.place(index)))
    };
    let wished: Vec<_> = records.iter().enumerate().map(wishes_of).collect::<Result<_, _>>()?;
    let verdicts: Vec<_> =
        records.iter().zip(&wished).map(|(patch, wishes)| verdict(sight, patch, wishes, manner.on_conflict)).collect();
    if verdicts.iter().any(Result::is_err) {
        return Err(refusal(sight, records, verdicts, manner));
    }
    let passed = verdicts.into_iter().flatten().zip(wished);
    Ok(passed.map(|((id, merged), wishes)| Change { id, wishes, merged }).collect())
}

type Verdict<'a> = Result<(&'a Arc<str>, Option<Merged>), Refused>;

fn verdict<'a>(sight: &Sight<'a>, patch: &RecordPatch, wishes: &[Wish<'_>], on_conflict: OnConflict) -> Verdict<'a> {
    let (id, row) = find(sight.table, &patch.id)?;
    if row.deleted.is_some() {
        return Err(conflict::deleted(sight, id, row));
    }
    let expectation = Expectation::of(patch.expected_version, on_conflict);
    Ok((id, conflict::judge(sight, id, row, expectation, wishes)?))
}

fn refusal(sight: &Sight<'_>, records: &[RecordPatch], verdicts: Vec<Verdict<'_>>, manner: Manner) -> Refused {
    if !manner.is_batch {
        return verdicts.into_iter().find_map(Result::err).expect("the caller has seen one");
    }
    let version = |id: &str| sight.table.rows.get(id).map_or(0, |row| row.version);
    let named = records.iter().map(|patch| patch.id.as_str()).zip(verdicts);
    let told = named.map(|(id, verdict)| conflict::Verdict { id, version: version(id), refused: verdict.err() });
    conflict::of_batch(sight, told.collect())
}

/// How many cells the record never had before.
fn first_cells(table: &Table, change: &Change<'_>) -> usize {
    let Some(row) = table.rows.get(change.id) else { return 0 };
    let is_first = |wish: &&Wish<'_>| {
        !wish.value.is_null() && row.fields.binary_search_by(|mark| (*mark.field).cmp(wish.column.id())).is_err()
    };
    change.wishes.iter().filter(is_first).count()
}

/// The keys of the cells that are not yet as they shall be.
fn cell_puts(sight: &Sight<'_>, change: &Change<'_>, place: Place, puts: &mut Vec<Put>) -> Result<(), Refused> {
    let raw = (sight.raw)(change.id);
    let mut all = Vec::new();
    for wish in &change.wishes {
        let writes = wish.column.writes(&wish.value, &raw);
        all.extend(writes.map_err(|wrong| Refused::of_cell(wrong.under(&place.cell(wish.key)), &wish.value))?);
    }
    if all.is_empty() {
        return Ok(());
    }
    limits::check_row_growth(&raw, &all, || place.path("cells"))?;
    puts.extend(all.into_iter().map(|(key, value)| Put::Cell { row: change.id.clone(), key, value }));
    Ok(())
}

/// The order keys of records that move, and of others that had to make room, by record.
fn moves(
    table: &Table,
    records: &[RecordPatch],
    changes: &[Change<'_>],
    manner: Manner,
    chance: &mut dyn FnMut() -> u32,
) -> Result<Vec<Put>, Refused> {
    let moving = || records.iter().enumerate().filter_map(|(index, patch)| Some((index, patch.after.as_ref()?)));
    let blocks = blocks(moving().map(|(index, after)| (changes[index].id.clone(), Spot::after(after))));
    let mut first_of_block = moving().map(|(index, _)| index);
    let keys = in_line(table, |mut line| {
        for block in &blocks {
            let index = first_of_block.next().unwrap_or_default();
            line.place(block, chance).map_err(|why| why.refused(manner.place(index).path("after")))?;
            first_of_block.by_ref().take(block.ids.len() - 1).for_each(drop);
        }
        Ok(line.into_keys())
    })?;
    let mut keys: Vec<_> = keys.into_iter().collect();
    keys.sort();
    Ok(keys.into_iter().map(|(row, key)| order_put(row, &key)).collect())
}
