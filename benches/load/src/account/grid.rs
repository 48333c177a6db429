//! Whether a table that was built again holds what its writers put into it.

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use anyhow::ensure;
use yrs::Any;
use yrs::Doc;
use yrs::Map;
use yrs::Out;
use yrs::ReadTxn;
use yrs::Transact;

use crate::edit::Cell;
use crate::edit::Grid;

/// Compares every cell.
///
/// # Errors
/// Names the first cell that is not as it should be.
pub(crate) fn same_grid(doc: &Doc, grid: &Grid) -> Result<()> {
    let rows = doc.get_or_insert_map(grid.root());
    let txn = doc.transact();
    ensure!(rows.len(&txn) as usize == grid.records(), "{} records instead of {}", rows.len(&txn), grid.records());
    for record in 0..grid.records() {
        let id = grid.record_id(record);
        let Some(Out::YMap(row)) = rows.get(&txn, id) else { bail!("record {id} is missing") };
        for column in 0..grid.columns() {
            let name = grid.column_id(column);
            let found = cell(&txn, &row, name).with_context(|| format!("record {id}, column {name}"))?;
            let expected = grid.cell(record, column);
            ensure!(found == *expected, "record {id}, column {name}: {found:?} instead of {expected:?}");
        }
    }
    Ok(())
}

fn cell(txn: &impl ReadTxn, row: &yrs::MapRef, column: &str) -> Result<Cell> {
    match row.get(txn, column) {
        Some(Out::Any(Any::String(text))) => Ok(Cell::Text(text.to_string())),
        Some(Out::Any(Any::Number(yrs::any::Number::Int(number)))) => Ok(Cell::Number(i32::try_from(number)?)),
        other => bail!("{other:?} is no value of this table"),
    }
}
