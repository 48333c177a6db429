//! A table of the schema `grid@1`: made as one update, and changed cell by cell.

use crate::edit::update;
use crate::edit::update::Content;
use crate::edit::update::Deletion;
use crate::edit::update::Id;
use crate::edit::update::Parent;
use crate::edit::update::Place;
use crate::edit::update::Section;
use crate::edit::update::Value;

const META: &str = "meta";
const COLUMNS: &str = "cols";
const RECORDS: &str = "rows";
const ORDER: &str = "$o";

const ID_LETTERS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const RECORD_ID_CHARS: usize = 12;
const COLUMN_ID_CHARS: usize = 4;
/// Characters in a fresh text.
const TEXT_CHARS: std::ops::RangeInclusive<usize> = 4..=12;

/// What stands in a cell. Even columns hold text, odd ones numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Cell {
    /// Text.
    Text(String),
    /// A whole number.
    Number(i32),
}

impl Cell {
    fn value(&self) -> Value<'_> {
        match self {
            Self::Text(text) => Value::Text(text),
            Self::Number(number) => Value::Number(*number),
        }
    }
}

/// A table that one client has made and several change. It knows what every cell should hold.
#[derive(Debug, Clone)]
pub(crate) struct Grid {
    maker: u64,
    records: Vec<String>,
    columns: Vec<String>,
    /// By record, then by column: what stands there, and the struct that brought it.
    cells: Vec<(Cell, Id)>,
}

impl Grid {
    /// A table full of chance, made by the client `maker`.
    pub(crate) fn new(records: usize, columns: usize, maker: u64, seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let nobody = Id { client: maker, clock: 0 };
        let mut name = |chars: usize| (0..chars).map(|_| char::from(ID_LETTERS[random.usize(..62)])).collect();
        let (records, columns): (Vec<String>, Vec<String>) = (
            (0..records).map(|_| name(RECORD_ID_CHARS)).collect(),
            (0..columns).map(|_| name(COLUMN_ID_CHARS)).collect(),
        );
        let places = (0..records.len()).flat_map(|_| 0..columns.len());
        let cells = places.map(|column| (fresh(column, &mut random), nobody)).collect();
        Self { maker, records, columns, cells }
    }

    /// How many records.
    pub(crate) fn records(&self) -> usize {
        self.records.len()
    }

    /// How many columns.
    pub(crate) fn columns(&self) -> usize {
        self.columns.len()
    }

    /// The root that holds the records.
    pub(crate) fn root(&self) -> &'static str {
        RECORDS
    }

    /// A record's id.
    pub(crate) fn record_id(&self, record: usize) -> &str {
        &self.records[record]
    }

    /// A column's id.
    pub(crate) fn column_id(&self, column: usize) -> &str {
        &self.columns[column]
    }

    /// What a cell should hold.
    pub(crate) fn cell(&self, record: usize, column: usize) -> &Cell {
        &self.cells[record * self.columns.len() + column].0
    }

    /// The whole of it as one update, as its maker sends it.
    pub(crate) fn update(&mut self) -> Vec<u8> {
        let Self { maker, records, columns, cells } = self;
        let orders: Vec<String> = (0..records.len().max(columns.len())).map(|n| format!("a{n:05}")).collect();
        let mut maker = Maker { client: *maker, structs: Vec::new() };
        let root = Parent::Root;
        maker.add(root(META), "schema", Content::Value(Value::Text("grid")));
        maker.add(root(META), "schemaVersion", Content::Value(Value::Number(1)));
        for (index, column) in columns.iter().enumerate() {
            let map = Parent::Item(maker.add(root(COLUMNS), column, Content::Map));
            let kind = if index % 2 == 0 { "text" } else { "number" };
            maker.add(map, "name", Content::Value(Value::Text(column)));
            maker.add(map, "type", Content::Value(Value::Text(kind)));
            maker.add(map, ORDER, Content::Value(Value::Text(&orders[index])));
        }
        let mut ids = Vec::with_capacity(cells.len());
        for (index, (record, cells)) in records.iter().zip(cells.chunks(columns.len())).enumerate() {
            let map = Parent::Item(maker.add(root(RECORDS), record, Content::Map));
            maker.add(map, ORDER, Content::Value(Value::Text(&orders[index])));
            for (column, (cell, _)) in columns.iter().zip(cells) {
                ids.push(maker.add(map, column, Content::Value(cell.value())));
            }
        }
        let mut out = Vec::new();
        let from = Id { client: maker.client, clock: 0 };
        update::write(&mut out, &[Section { from, structs: &maker.structs }], &[]);
        self.cells.iter_mut().zip(ids).for_each(|((_, id), new)| *id = new);
        out
    }

    /// `author` puts a new value into a cell as their unit `clock`; `out` is replaced by the update. Nobody else may
    /// change the same cell before they have seen it.
    pub(crate) fn change(&mut self, place: (usize, usize), author: Id, random: &mut fastrand::Rng, out: &mut Vec<u8>) {
        let (record, column) = place;
        let columns = self.columns.len();
        let (cell, id) = &mut self.cells[record * columns + column];
        let before = *id;
        (*cell, *id) = (fresh(column, random), author);
        out.clear();
        let structs = [(Place::Over { before }, Content::Value(cell.value()))];
        update::write(out, &[Section { from: author, structs: &structs }], &[Deletion { from: before, length: 1 }]);
    }
}

/// Structs in a row by one client.
struct Maker<'a> {
    client: u64,
    structs: Vec<(Place<'a>, Content<'a>)>,
}

impl<'a> Maker<'a> {
    fn add(&mut self, parent: Parent<'a>, key: &'a str, content: Content<'a>) -> Id {
        let clock = u32::try_from(self.structs.len()).expect("a table has fewer cells than a client has clocks");
        self.structs.push((Place::First { parent, key: Some(key) }, content));
        Id { client: self.client, clock }
    }
}

fn fresh(column: usize, random: &mut fastrand::Rng) -> Cell {
    if column % 2 == 1 {
        return Cell::Number(random.i32(-1_000_000..1_000_000));
    }
    let chars = random.usize(TEXT_CHARS);
    Cell::Text((0..chars).map(|_| char::from(ID_LETTERS[random.usize(..62)])).collect())
}

#[cfg(test)]
mod tests {
    use syncline_protocol::update::UpdateLimits;
    use syncline_protocol::update::validate;

    use super::*;
    use crate::account::rebuilt;
    use crate::account::same_grid;

    #[test]
    fn the_engine_reads_the_table_and_its_changes() {
        let mut grid = Grid::new(50, 10, 7000, 1);
        let mut history = vec![grid.update()];
        let mut random = fastrand::Rng::with_seed(2);
        for clock in 0..200 {
            let place = (random.usize(..50), random.usize(..10));
            let mut update = Vec::new();
            grid.change(place, Id { client: 9000, clock }, &mut random, &mut update);
            validate(&update, &UpdateLimits::default()).unwrap();
            history.push(update);
        }
        let doc = rebuilt(history.iter().map(Vec::as_slice)).unwrap();
        same_grid(&doc, &grid).unwrap();
        let last = rebuilt(history[..200].iter().map(Vec::as_slice)).unwrap();
        assert!(same_grid(&last, &grid).is_err(), "the last change is missing");
    }

    #[test]
    fn ten_thousand_records_take_as_much_as_the_schema_says() {
        let bytes = Grid::new(10_000, 10, 0x7000_0000, 1).update().len();
        assert!((2_400_000..3_200_000).contains(&bytes), "{bytes} bytes");
    }
}
