//! The table that is measured on: 10 000 records of ten cells, made by an ordinary Yjs client, and edits of single cells.

use bytes::Bytes;
use syncline_protocol::update::Summary;
use syncline_protocol::update::UpdateLimits;
use syncline_protocol::update::validate;
use yrs::Any;
use yrs::Doc;
use yrs::Map;
use yrs::MapPrelim;
use yrs::MapRef;
use yrs::Out;
use yrs::Transact;
use yrs::Update;
use yrs::updates::decoder::Decode;

pub(crate) const COLUMNS: usize = 10;
/// The client that makes the table, and the first of those that edit it.
const MAKER: u64 = 0x2f1d_3c55;
const EDITOR: u64 = 0x7a00_41b9;
/// Records in one of the maker's transactions.
const CHUNK: usize = 100;
/// Coprime to the number of cells, so that each is met once, far from the one before.
const STRIDE: usize = 104_729;

/// An update with what the validator says of it.
pub(crate) struct Edit {
    pub(crate) update: Bytes,
    pub(crate) summary: Summary,
}

impl Edit {
    pub(crate) fn new(update: Vec<u8>) -> Self {
        let summary = validate(&update, &UpdateLimits::none()).expect("the engine wrote it");
        Self { update: update.into(), summary }
    }
}

/// A table and what is done to it next.
pub(crate) struct Material {
    pub(crate) records: usize,
    /// The updates that make it.
    pub(crate) table: Vec<Edit>,
}

/// Which cells are edited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Where {
    /// All over the table, each far from the one before.
    Everywhere,
    /// In a hundred records, as people do who have them before their eyes.
    HundredRecords,
}

impl Material {
    pub(crate) fn new(records: usize) -> Self {
        Self { records, table: made(records) }
    }

    pub(crate) fn cells(&self) -> usize {
        self.records * COLUMNS
    }

    /// Edits of single cells by one more client, in order.
    pub(crate) fn edits(&self, editor: u64, place: Where, count: usize) -> Vec<Edit> {
        let doc = Doc::with_client_id(EDITOR + editor);
        for edit in &self.table {
            let update = Update::decode_v1(&edit.update).expect("the engine wrote it");
            doc.transact_mut().apply_update(update).expect("the engine wrote it");
        }
        let rows = doc.get_or_insert_map("rows");
        let records = if place == Where::Everywhere { self.records } else { self.records.min(100) };
        (0..count).map(|number| edited(&doc, &rows, records, number + editor as usize)).collect()
    }
}

/// The id of a record.
pub(crate) fn row_id(row: usize) -> String {
    format!("r{:011}", row * 7919)
}

/// The id of a field.
pub(crate) fn column_id(column: usize) -> String {
    format!("c{column:02}x")
}

/// Six columns of text, four of numbers.
pub(crate) fn is_number(column: usize) -> bool {
    column >= 6
}

fn made(records: usize) -> Vec<Edit> {
    let doc = Doc::with_client_id(MAKER);
    let (meta, cols, rows) =
        (doc.get_or_insert_map("meta"), doc.get_or_insert_map("cols"), doc.get_or_insert_map("rows"));
    let mut txn = doc.transact_mut();
    meta.insert(&mut txn, "schema", "grid");
    meta.insert(&mut txn, "schemaVersion", 1);
    for column in 0..COLUMNS {
        let kind = if is_number(column) { "number" } else { "text" };
        let says = [("name", format!("Column {column}")), ("type", kind.into()), ("$o", format!("a{column}"))];
        cols.insert(&mut txn, column_id(column), says.into_iter().collect::<MapPrelim>());
    }
    let mut updates = vec![Edit::new(txn.encode_update_v1())];
    drop(txn);
    for first in (0..records).step_by(CHUNK) {
        let mut txn = doc.transact_mut();
        for row in first..records.min(first + CHUNK) {
            let order = ("$o".to_owned(), Any::from(format!("b{row:05}V")));
            let cells = (0..COLUMNS).map(|column| (column_id(column), value(row, column, 0)));
            rows.insert(&mut txn, row_id(row), cells.chain([order]).collect::<MapPrelim>());
        }
        updates.push(Edit::new(txn.encode_update_v1()));
    }
    updates
}

fn edited(doc: &Doc, rows: &MapRef, records: usize, number: usize) -> Edit {
    let place = number * STRIDE % (records * COLUMNS);
    let (row, column) = (place / COLUMNS, place % COLUMNS);
    let mut txn = doc.transact_mut();
    let Some(Out::YMap(map)) = rows.get(&txn, &row_id(row)) else { unreachable!("every record is a map") };
    map.insert(&mut txn, column_id(column), value(row, column, number + 1));
    Edit::new(txn.encode_update_v1())
}

fn value(row: usize, column: usize, generation: usize) -> Any {
    if is_number(column) {
        return Any::from((row * 7 + generation) as f64);
    }
    Any::from(format!("Part {row}, {generation}"))
}
