//! Large documents and what is done to them next.

use bytes::BufMut;
use bytes::Bytes;
use bytes::BytesMut;
use syncline_protocol::wire::write_var_bytes;
use syncline_protocol::wire::write_var_uint;
use yrs::Doc;
use yrs::Map;
use yrs::MapPrelim;
use yrs::ReadTxn;
use yrs::StateVector;
use yrs::Text;
use yrs::Transact;

/// A large document and what is done to it next.
pub(crate) struct Large {
    /// The whole of it, encoded.
    pub(crate) state: Bytes,
    /// Small changes by one more client, each an update of its own.
    pub(crate) changes: Vec<Bytes>,
    clock: u32,
}

/// Changes made to each large document, none at the same place as another: more than a benchmark takes.
const CHANGES: u32 = 90_000;
const AUTHOR: u64 = 7;
const WRITER: u64 = 99;
/// Coprime to the number of places, so that each is met once, far from the one before.
const STRIDE: u32 = 104_729;
const ROWS: u32 = 10_000;
const COLUMNS: u32 = 10;

impl Large {
    /// What somebody has who has seen so many of the changes.
    pub(crate) fn clocks_after(&self, changes: u32) -> syncline_protocol::state_vector::StateVector {
        [(AUTHOR, self.clock), (WRITER, changes)].into_iter().collect()
    }
}

/// About 500 KB of text, inserted by the sentence: 5 000 structs. Then letters here and there.
pub(crate) fn paper() -> Large {
    text("Every sentence of this paper is as long as the one before it and says no more than that one did. ", 5_000)
}

/// About 500 KB of text as many sittings leave it: 25 000 structs. Then letters here and there.
pub(crate) fn novel() -> Large {
    text("words, few ", 25_000)
}

fn text(piece: &str, pieces: u32) -> Large {
    let doc = Doc::with_client_id(AUTHOR);
    let text = doc.get_or_insert_text("text");
    let length = piece.len() as u32;
    let mut txn = doc.transact_mut();
    for number in 0..pieces {
        // The engine walks to a place from the start, so all are near it.
        text.insert(&mut txn, number * STRIDE % (number + 1).min(100) * length, piece);
    }
    drop(txn);
    let places = pieces * (length - 1);
    let letter = |number: u32| {
        let place = (u64::from(number) * u64::from(STRIDE) % u64::from(places)) as u32;
        let left = place / (length - 1) * length + place % (length - 1);
        let mut out = BytesMut::from(&[1, 1][..]);
        write_var_uint(&mut out, WRITER);
        write_var_uint(&mut out, u64::from(number));
        out.put_u8(0xc4); // text between two neighbours
        for clock in [left, left + 1] {
            write_var_uint(&mut out, AUTHOR);
            write_var_uint(&mut out, u64::from(clock));
        }
        write_var_bytes(&mut out, b"x");
        out.put_u8(0);
        out.freeze()
    };
    Large { state: encode(&doc), changes: (0..CHANGES.min(places)).map(letter).collect(), clock: pieces * length }
}

/// A table of 10 000 rows and 10 columns. Then cells are set.
pub(crate) fn sheet() -> Large {
    let doc = Doc::with_client_id(AUTHOR);
    let rows = doc.get_or_insert_map("rows");
    let mut txn = doc.transact_mut();
    for row in 0..ROWS {
        let cells = (0..COLUMNS).map(|column| (format!("c{column}xyz"), format!("row {row}, column {column}")));
        rows.insert(&mut txn, format!("{row:012}"), cells.collect::<MapPrelim>());
    }
    drop(txn);
    let cell = |number: u32| {
        let place = (u64::from(number) * u64::from(STRIDE) % u64::from(ROWS * COLUMNS)) as u32;
        // A row takes one clock, and each of its cells one.
        let former = place / COLUMNS * (COLUMNS + 1) + 1 + place % COLUMNS;
        let mut out = BytesMut::from(&[1, 1][..]);
        write_var_uint(&mut out, WRITER);
        write_var_uint(&mut out, u64::from(number));
        out.put_u8(0x88); // a value in the place of a former one
        write_var_uint(&mut out, AUTHOR);
        write_var_uint(&mut out, u64::from(former));
        out.put_slice(&[1, 119]); // one value, a string
        write_var_bytes(&mut out, b"a new value");
        out.put_slice(&[1]);
        write_var_uint(&mut out, AUTHOR);
        out.put_u8(1);
        write_var_uint(&mut out, u64::from(former));
        out.put_u8(1);
        out.freeze()
    };
    Large { state: encode(&doc), changes: (0..CHANGES).map(cell).collect(), clock: ROWS * (COLUMNS + 1) }
}

fn encode(doc: &Doc) -> Bytes {
    doc.transact().encode_state_as_update_v1(&StateVector::default()).into()
}
