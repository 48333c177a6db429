//! A register as bytes: what a snapshot carries beside the document's state, and what a record carries that its update does
//! not say.
//!
//! ```text
//! sidecar = tag u8 │ …
//!   1 Whole:  version u8 │ names │ meta-free state of the register (below)
//!   2 Once:   key │ fingerprint │ report          what a request was answered, under its Idempotency-Key
//! ```
//! Integers are lib0 varUints, texts varStrings. The store keeps it under a checksum; still, nothing here trusts a length.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::sync::Arc;

use bytes::BufMut;
use bytes::Bytes;
use bytes::BytesMut;
use serde_json::Value;
use syncline_protocol::wire::ReadError;
use syncline_protocol::wire::Reader;
use syncline_protocol::wire::write_var_bytes;
use syncline_protocol::wire::write_var_uint;

use super::answered::Outcome;
use super::command::Merged;
use super::command::Once;
use super::plan::Report;
use super::register::Register;
use super::state::FieldMark;
use super::state::Row;
use super::view::Stamp;

const WHOLE: u8 = 1;
const ONCE: u8 = 2;
/// Of the layout after [`WHOLE`].
const VERSION: u8 = 1;

/// What a record carries beside its update.
#[derive(Debug)]
pub enum Beside {
    /// Nothing: everything follows from the update.
    Nothing,
    /// The whole register as it was after this record, which is a whole state and no single transaction.
    Whole(Box<Marks>),
    /// What a request was answered.
    Once(Once, Report),
}

/// The part of a register that does not follow from a state.
#[derive(Debug, Default)]
pub struct Marks {
    rows: HashMap<Arc<str>, Row>,
    purged: BTreeMap<Arc<str>, u64>,
    clients: Vec<(u64, Arc<str>)>,
    answered: Vec<(Arc<str>, Outcome)>,
}

/// Encodes what a record carries for a request that is to be done once.
#[must_use]
pub fn encode_once(once: &Once, report: &Report) -> Bytes {
    let mut out = BytesMut::new();
    out.put_u8(ONCE);
    text(&mut out, &once.key);
    write_var_bytes(&mut out, &once.fingerprint.to_le_bytes());
    write_report(&mut out, report);
    out.freeze()
}

/// Encodes a register.
#[must_use]
pub fn encode(register: &Register) -> Bytes {
    let mut out = BytesMut::new();
    out.put_u8(WHOLE);
    out.put_u8(VERSION);
    let mut names = Names::default();
    let mut body = BytesMut::new();
    write_body(&mut body, &mut names, register);
    write_var_uint(&mut out, names.list.len() as u64);
    names.list.iter().for_each(|name| text(&mut out, name));
    out.extend_from_slice(&body);
    out.freeze()
}

/// Reads what a record or a snapshot carries.
///
/// # Errors
/// [`ReadError`] for bytes that are neither.
pub fn decode(bytes: &Bytes) -> Result<Beside, ReadError> {
    if bytes.is_empty() {
        return Ok(Beside::Nothing);
    }
    let mut from = Reader::new(bytes.clone());
    match from.u8()? {
        WHOLE if from.u8()? == VERSION => read_whole(&mut from).map(|marks| Beside::Whole(Box::new(marks))),
        ONCE => {
            let key = from.var_string()?.into();
            let fingerprint = fingerprint(&mut from)?;
            Ok(Beside::Once(Once { key, fingerprint }, read_report(&mut from)?))
        }
        _ => Err(ReadError::Range),
    }
}

impl Register {
    /// Takes over marks that were kept. The fields, the order and the current entries come from the document's content.
    pub fn adopt(&mut self, marks: Marks) {
        for (id, marked) in marks.rows {
            if let Some(row) = self.table.rows.get_mut(&id) {
                let (order, height, deleted) = (row.order.clone(), row.height.clone(), row.deleted.take());
                *row = Row { order, height, ..marked };
                // The content says whether it is deleted, the mark when and by whom.
                row.deleted = deleted.map(|known| row.deleted.take().unwrap_or(known));
            }
        }
        self.purged = marks.purged;
        marks.clients.into_iter().for_each(|(client, user)| self.ledger.insert(client, user));
        for (key, outcome) in marks.answered {
            let once = Once { key, fingerprint: outcome.fingerprint };
            self.answered.keep(once, outcome.report, outcome.at_ms);
        }
    }
}

/// Texts that come again and again, each written once.
#[derive(Default)]
struct Names {
    list: Vec<Arc<str>>,
    places: HashMap<Arc<str>, u64>,
}

impl Names {
    fn place(&mut self, name: &Arc<str>) -> u64 {
        if let Some(place) = self.places.get(name) {
            return *place;
        }
        let place = self.list.len() as u64;
        self.list.push(name.clone());
        self.places.insert(name.clone(), place);
        place
    }
}

fn write_body(out: &mut BytesMut, names: &mut Names, register: &Register) {
    write_var_uint(out, register.table.rows.len() as u64);
    let mut rows: Vec<_> = register.table.rows.iter().collect();
    rows.sort_unstable_by(|a, b| a.0.cmp(b.0));
    for (id, row) in rows {
        text(out, id);
        write_var_uint(out, row.version);
        stamp(out, names, &row.created);
        stamp(out, names, &row.updated);
        out.put_u8(u8::from(row.deleted.is_some()));
        if let Some(deleted) = &row.deleted {
            stamp(out, names, deleted);
        }
        write_var_uint(out, row.fields.len() as u64);
        for mark in &row.fields {
            write_var_uint(out, names.place(&mark.field));
            write_var_uint(out, mark.version);
            stamp(out, names, &mark.stamp);
        }
    }
    write_var_uint(out, register.purged.len() as u64);
    for (id, version) in &register.purged {
        text(out, id);
        write_var_uint(out, *version);
    }
    write_var_uint(out, register.ledger.iter().len() as u64);
    for (client, user) in register.ledger.iter() {
        write_var_uint(out, client);
        write_var_uint(out, names.place(user));
    }
    let answered: Vec<_> = register.answered.iter().collect();
    write_var_uint(out, answered.len() as u64);
    for (key, outcome) in answered {
        text(out, key);
        write_var_bytes(out, &outcome.fingerprint.to_le_bytes());
        write_var_uint(out, outcome.at_ms);
        write_report(out, &outcome.report);
    }
}

fn read_whole(from: &mut Reader) -> Result<Marks, ReadError> {
    let names = list(from, |from| Ok(Arc::<str>::from(from.var_string()?)))?;
    let rows = list(from, |from| read_row(from, &names))?;
    let purged = list(from, |from| Ok((Arc::<str>::from(from.var_string()?), from.var_uint()?)))?;
    let clients = list(from, |from| Ok((from.var_uint()?, name(from, &names)?)))?;
    let answered = list(from, |from| {
        let key = Arc::<str>::from(from.var_string()?);
        let (fingerprint, at_ms) = (fingerprint(from)?, from.var_uint()?);
        Ok((key, Outcome { fingerprint, at_ms, report: read_report(from)? }))
    })?;
    Ok(Marks { rows: rows.into_iter().collect(), purged: purged.into_iter().collect(), clients, answered })
}

fn read_row(from: &mut Reader, names: &[Arc<str>]) -> Result<(Arc<str>, Row), ReadError> {
    let id = Arc::<str>::from(from.var_string()?);
    let version = from.var_uint()?;
    let (created, updated) = (read_stamp(from, names)?, read_stamp(from, names)?);
    let deleted = if from.u8()? == 0 { None } else { Some(read_stamp(from, names)?) };
    let fields = list(from, |from| {
        let (field, version) = (name(from, names)?, from.var_uint()?);
        Ok(FieldMark { field, version, stamp: read_stamp(from, names)? })
    })?;
    Ok((id, Row { order: "".into(), height: Value::Null, version, created, updated, deleted, fields }))
}

/// A user is written as one more than the place of the name; 0 is nobody.
fn stamp(out: &mut BytesMut, names: &mut Names, stamp: &Stamp) {
    write_var_uint(out, stamp.at_ms);
    write_var_uint(out, stamp.user.as_ref().map_or(0, |user| names.place(user) + 1));
}

fn read_stamp(from: &mut Reader, names: &[Arc<str>]) -> Result<Stamp, ReadError> {
    let at_ms = from.var_uint()?;
    let user = match from.var_uint()? {
        0 => None,
        place => Some(pick(names, place - 1)?),
    };
    Ok(Stamp { at_ms, user })
}

const TABLE: u8 = 0;
const FIELD: u8 = 1;
const RECORDS: u8 = 2;
const NESTED: u8 = 3;

fn write_report(out: &mut BytesMut, report: &Report) {
    match report {
        Report::Table => out.put_u8(TABLE),
        Report::Field(field) => {
            out.put_u8(FIELD);
            text(out, field);
        }
        Report::Records(records) => {
            out.put_u8(RECORDS);
            write_var_uint(out, records.len() as u64);
            records.iter().for_each(|record| write_record(out, record));
        }
        Report::Nested { id, row } => {
            out.put_u8(NESTED);
            text(out, id);
            write_record(out, row);
        }
    }
}

fn write_record(out: &mut BytesMut, (id, merged): &(Arc<str>, Option<Merged>)) {
    text(out, id);
    out.put_u8(u8::from(merged.is_some()));
    if let Some(Merged { over, changed_since }) = merged {
        write_var_uint(out, over.0);
        write_var_uint(out, over.1);
        write_var_uint(out, changed_since.len() as u64);
        changed_since.iter().for_each(|field| text(out, field));
    }
}

fn read_report(from: &mut Reader) -> Result<Report, ReadError> {
    match from.u8()? {
        TABLE => Ok(Report::Table),
        FIELD => Ok(Report::Field(from.var_string()?.into())),
        RECORDS => list(from, read_record).map(Report::Records),
        NESTED => Ok(Report::Nested { id: from.var_string()?.into(), row: read_record(from)? }),
        _ => Err(ReadError::Range),
    }
}

fn read_record(from: &mut Reader) -> Result<(Arc<str>, Option<Merged>), ReadError> {
    let id = Arc::<str>::from(from.var_string()?);
    if from.u8()? == 0 {
        return Ok((id, None));
    }
    let over = (from.var_uint()?, from.var_uint()?);
    let changed_since = list(from, Reader::var_string)?;
    Ok((id, Some(Merged { over, changed_since })))
}

/// A count and so many things. Nothing is allocated for a count that was merely told: each takes a byte at least.
fn list<T>(from: &mut Reader, each: impl Fn(&mut Reader) -> Result<T, ReadError>) -> Result<Vec<T>, ReadError> {
    let count = from.count()?;
    (0..count).map(|_| each(from)).collect()
}

fn text(out: &mut BytesMut, text: &str) {
    write_var_bytes(out, text.as_bytes());
}

fn fingerprint(from: &mut Reader) -> Result<u64, ReadError> {
    let bytes = from.var_bytes()?;
    bytes.as_ref().try_into().map(u64::from_le_bytes).map_err(|_| ReadError::End)
}

fn name(from: &mut Reader, names: &[Arc<str>]) -> Result<Arc<str>, ReadError> {
    let place = from.var_uint()?;
    pick(names, place)
}

fn pick(names: &[Arc<str>], place: u64) -> Result<Arc<str>, ReadError> {
    usize::try_from(place).ok().and_then(|place| names.get(place)).cloned().ok_or(ReadError::Range)
}
