//! What is measured on: updates as editors and tables send them.

use bytes::Bytes;
use yrs::Doc;
use yrs::Map;
use yrs::MapPrelim;
use yrs::Out;
use yrs::ReadTxn;
use yrs::StateVector;
use yrs::Text;
use yrs::Transact;
use yrs::Update;
use yrs::updates::decoder::Decode;

/// A person types at the end of a text: one update for each letter.
pub(crate) fn typing(client: u64, letters: usize) -> Vec<Bytes> {
    let doc = Doc::with_client_id(client);
    let text = doc.get_or_insert_text("text");
    let mut updates = Vec::with_capacity(letters);
    for _ in 0..letters {
        let mut txn = doc.transact_mut();
        text.push(&mut txn, "x");
        updates.push(txn.encode_update_v1().into());
    }
    updates
}

/// One cell of a table of maps is set; the row is in the first update, the change in the second.
pub(crate) fn cell(client: u64) -> [Bytes; 2] {
    let doc = Doc::with_client_id(client);
    let rows = doc.get_or_insert_map("rows");
    let mut txn = doc.transact_mut();
    let row = rows.insert(&mut txn, "row 17", MapPrelim::from([("title", "old")]));
    let made = txn.encode_update_v1();
    drop(txn);
    let mut txn = doc.transact_mut();
    row.insert(&mut txn, "title", "a new title of forty characters or so");
    let changed = txn.encode_update_v1();
    [made.into(), changed.into()]
}

/// A table of 10 000 × 10 cells, and updates of another client that overwrite one of them each.
pub(crate) fn grid(overwrites: usize) -> (Bytes, Vec<Bytes>) {
    let doc = Doc::with_client_id(1);
    let rows = doc.get_or_insert_map("rows");
    let mut txn = doc.transact_mut();
    for row in 0..10_000 {
        let row = rows.insert(&mut txn, format!("row {row:08}"), MapPrelim::default());
        for cell in 0..10 {
            row.insert(&mut txn, format!("col{cell}"), "a cell of some length");
        }
    }
    drop(txn);
    let state: Bytes = doc.transact().encode_diff_v1(&StateVector::default()).into();
    let other = Doc::with_client_id(2);
    let rows = other.get_or_insert_map("rows");
    let whole = Update::decode_v1(&state).expect("the engine wrote it");
    other.transact_mut().apply_update(whole).expect("the engine wrote it");
    let overwrite = |at: usize| {
        let mut txn = other.transact_mut();
        let key = format!("row {:08}", at * 7919 % 10_000);
        let Some(Out::YMap(row)) = rows.get(&txn, &key) else { unreachable!("every row is a map") };
        row.insert(&mut txn, format!("col{}", at % 10), "another");
        txn.encode_update_v1().into()
    };
    let updates = (0..overwrites).map(overwrite).collect();
    (state, updates)
}

/// One change of many structs: letters, each before the one before it.
pub(crate) fn many_structs(letters: usize) -> Bytes {
    let doc = Doc::with_client_id(9);
    let text = doc.get_or_insert_text("text");
    let mut txn = doc.transact_mut();
    for _ in 0..letters {
        text.insert(&mut txn, 0, "x");
    }
    txn.encode_update_v1().into()
}

/// About 500 KB of text, inserted here and there: some 5 000 structs.
pub(crate) fn paper() -> Bytes {
    let doc = Doc::with_client_id(7);
    let text = doc.get_or_insert_text("text");
    let sentence = "Every sentence of this paper is as long as the one before it and says no more than that one did. ";
    let mut txn = doc.transact_mut();
    for sentences in 0..5_000_u32 {
        let at = sentences.wrapping_mul(7919) % (sentences + 1) * sentence.len() as u32;
        text.insert(&mut txn, at, sentence);
    }
    drop(txn);
    doc.transact().encode_state_as_update_v1(&StateVector::default()).into()
}
