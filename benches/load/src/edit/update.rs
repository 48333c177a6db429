//! Yjs update v1, written by hand: structs with their neighbours, and what they delete.

use crate::client::message::write_var_bytes;
use crate::client::message::write_var_uint;

const HAS_ORIGIN: u8 = 0x80;
const HAS_RIGHT_ORIGIN: u8 = 0x40;
const HAS_KEY: u8 = 0x20;
const STRING: u8 = 4;
const TYPE: u8 = 7;
const ANY: u8 = 8;
const MAP: u64 = 1;

/// One unit of content: who wrote it, and its number among what that author wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Id {
    /// The author's client id.
    pub(crate) client: u64,
    /// Counts the author's units from 0.
    pub(crate) clock: u32,
}

/// What a struct is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Parent<'a> {
    /// A type at the document's root, by name.
    Root(&'a str),
    /// A nested type, by the struct that made it.
    Item(Id),
}

/// Where a struct stands. With a neighbour, the parent follows from it and is not written, as Yjs does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place<'a> {
    /// The first in its parent, or the first at `key` of a map.
    First { parent: Parent<'a>, key: Option<&'a str> },
    /// In a sequence, between two units; at its end without a `right`.
    After { left: Id, right: Option<Id> },
    /// At a key of a map, over the value before it. That one has to be deleted in the same update.
    Over { before: Id },
}

/// What a struct holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Content<'a> {
    /// Text; takes a clock for every UTF-16 unit. Ours is ASCII.
    Text(&'a str),
    /// One value; takes one clock.
    Value(Value<'a>),
    /// An empty nested map; takes one clock.
    Map,
}

/// A plain value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Value<'a> {
    /// Text.
    Text(&'a str),
    /// A whole number.
    Number(i32),
}

/// A run of units to delete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Deletion {
    /// The first.
    pub(crate) from: Id,
    /// How many.
    pub(crate) length: u32,
}

/// One author's structs, in a row from a clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Section<'a> {
    /// The first struct's id.
    pub(crate) from: Id,
    /// The structs, without a gap.
    pub(crate) structs: &'a [(Place<'a>, Content<'a>)],
}

/// Appends an update. Sections are of different authors, higher client ids first; deletions of one author stand together
/// in the order of their clocks.
pub(crate) fn write(out: &mut Vec<u8>, sections: &[Section<'_>], deletions: &[Deletion]) {
    write_var_uint(out, sections.len() as u64);
    for section in sections {
        write_var_uint(out, section.structs.len() as u64);
        write_id(out, section.from);
        section.structs.iter().for_each(|(place, content)| write_struct(out, *place, *content));
    }
    let authors = deletions.chunk_by(|a, b| a.from.client == b.from.client);
    write_var_uint(out, authors.clone().count() as u64);
    for ranges in authors {
        write_var_uint(out, ranges[0].from.client);
        write_var_uint(out, ranges.len() as u64);
        for range in ranges {
            write_var_uint(out, u64::from(range.from.clock));
            write_var_uint(out, u64::from(range.length));
        }
    }
}

fn write_struct(out: &mut Vec<u8>, place: Place<'_>, content: Content<'_>) {
    let kind = match content {
        Content::Text(_) => STRING,
        Content::Value(_) => ANY,
        Content::Map => TYPE,
    };
    match place {
        Place::First { parent, key } => {
            out.push(kind | if key.is_some() { HAS_KEY } else { 0 });
            write_parent(out, parent);
            key.iter().for_each(|key| write_var_bytes(out, key.as_bytes()));
        }
        Place::After { left, right } => {
            out.push(kind | HAS_ORIGIN | if right.is_some() { HAS_RIGHT_ORIGIN } else { 0 });
            write_id(out, left);
            right.iter().for_each(|right| write_id(out, *right));
        }
        Place::Over { before } => {
            out.push(kind | HAS_ORIGIN | HAS_KEY);
            write_id(out, before);
        }
    }
    match content {
        Content::Text(text) => write_var_bytes(out, text.as_bytes()),
        Content::Value(value) => {
            write_var_uint(out, 1);
            write_value(out, value);
        }
        Content::Map => write_var_uint(out, MAP),
    }
}

fn write_parent(out: &mut Vec<u8>, parent: Parent<'_>) {
    match parent {
        Parent::Root(name) => {
            out.push(1);
            write_var_bytes(out, name.as_bytes());
        }
        Parent::Item(id) => {
            out.push(0);
            write_id(out, id);
        }
    }
}

fn write_value(out: &mut Vec<u8>, value: Value<'_>) {
    match value {
        Value::Text(text) => {
            out.push(119);
            write_var_bytes(out, text.as_bytes());
        }
        Value::Number(number) => {
            out.push(125);
            write_var_int(out, number);
        }
    }
}

/// lib0's signed integer: six bits and the sign in the first byte.
fn write_var_int(out: &mut Vec<u8>, number: i32) {
    let sign = if number < 0 { 0x40 } else { 0 };
    let mut rest = number.unsigned_abs();
    let more = |rest: u32| if rest > 0 { 0x80 } else { 0 };
    let low = (rest & 0x3f) as u8;
    rest >>= 6;
    out.push(more(rest) | sign | low);
    while rest > 0 {
        let low = (rest & 0x7f) as u8;
        rest >>= 7;
        out.push(more(rest) | low);
    }
}

fn write_id(out: &mut Vec<u8>, id: Id) {
    write_var_uint(out, id.client);
    write_var_uint(out, u64::from(id.clock));
}

#[cfg(test)]
mod tests {
    use syncline_protocol::update::UpdateLimits;
    use syncline_protocol::update::validate;
    use yrs::Any;
    use yrs::Doc;
    use yrs::Map;
    use yrs::Out;
    use yrs::ReadTxn;
    use yrs::Transact;
    use yrs::Update;
    use yrs::updates::decoder::Decode;

    use super::*;

    fn apply(doc: &Doc, update: &[u8]) {
        validate(update, &UpdateLimits::default()).unwrap();
        doc.transact_mut().apply_update(Update::decode_v1(update).unwrap()).unwrap();
    }

    fn value(doc: &Doc, path: &[&str]) -> Option<Any> {
        let txn = doc.transact();
        let (key, maps) = path.split_last()?;
        let mut map = txn.get_map(maps[0])?;
        for name in &maps[1..] {
            let Some(Out::YMap(inner)) = map.get(&txn, name) else { return None };
            map = inner;
        }
        match map.get(&txn, key)? {
            Out::Any(any) => Some(any),
            _ => None,
        }
    }

    #[test]
    fn a_record_is_made_and_two_of_its_fields_are_overwritten() {
        let author = 0x1234_5678;
        let id = |clock| Id { client: author, clock };
        let field = |key| Place::First { parent: Parent::Item(id(0)), key: Some(key) };
        let doc = Doc::new();
        doc.get_or_insert_map("records");
        let mut update = Vec::new();
        let record = Place::First { parent: Parent::Root("records"), key: Some("r1") };
        let structs = [
            (record, Content::Map),
            (field("a"), Content::Value(Value::Number(-64))),
            (field("b"), Content::Value(Value::Text("old"))),
        ];
        write(&mut update, &[Section { from: id(0), structs: &structs }], &[]);
        apply(&doc, &update);
        assert_eq!(value(&doc, &["records", "r1", "a"]), Some(Any::from(-64)));

        update.clear();
        let structs = [
            (Place::Over { before: id(1) }, Content::Value(Value::Number(1_000_000))),
            (Place::Over { before: id(2) }, Content::Value(Value::Text("new"))),
        ];
        let deleted = [Deletion { from: id(1), length: 2 }];
        write(&mut update, &[Section { from: id(3), structs: &structs }], &deleted);
        let summary = validate(&update, &UpdateLimits::default()).unwrap();
        assert_eq!(summary.ranges().iter().map(|range| (range.start, range.end)).collect::<Vec<_>>(), [(3, 5)]);
        apply(&doc, &update);
        assert_eq!(value(&doc, &["records", "r1", "a"]), Some(Any::from(1_000_000)));
        assert_eq!(value(&doc, &["records", "r1", "b"]), Some(Any::from("new")));
    }

    #[test]
    fn whole_numbers_of_every_length() {
        for number in [0, 1, -1, 63, 64, -64, 8191, 8192, -8192, i32::MAX, i32::MIN + 1] {
            let doc = Doc::new();
            doc.get_or_insert_map("m");
            let mut update = Vec::new();
            let place = Place::First { parent: Parent::Root("m"), key: Some("k") };
            let structs = [(place, Content::Value(Value::Number(number)))];
            write(&mut update, &[Section { from: Id { client: 7, clock: 0 }, structs: &structs }], &[]);
            apply(&doc, &update);
            assert_eq!(value(&doc, &["m", "k"]), Some(Any::from(number)));
        }
    }
}
