//! What is measured on: updates as editors and tables send them.

use bytes::Bytes;
use yrs::Doc;
use yrs::Map;
use yrs::MapPrelim;
use yrs::ReadTxn;
use yrs::StateVector;
use yrs::Text;
use yrs::Transact;

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
