//! What people do to a document: text, formatting, maps, lists, nested types, XML, deletions.

use std::sync::Arc;

use bytes::Bytes;
use yrs::Any;
use yrs::Array;
use yrs::ArrayPrelim;
use yrs::ClientID;
use yrs::Doc;
use yrs::GetString;
use yrs::Map;
use yrs::MapPrelim;
use yrs::OffsetKind;
use yrs::Options;
use yrs::Out;
use yrs::ReadTxn;
use yrs::Text;
use yrs::TextPrelim;
use yrs::TextRef;
use yrs::Transact;
use yrs::TransactionMut;
use yrs::XmlElementPrelim;
use yrs::XmlFragment;
use yrs::XmlTextPrelim;

use crate::chance::Chance;

/// A document as a browser has it: collects deleted content, random 32-bit id.
pub(crate) fn new_doc(chance: &mut Chance) -> Doc {
    let mut options = Options::with_client_id(ClientID::new(1 + chance.next() % u64::from(u32::MAX)));
    options.offset_kind = OffsetKind::Utf16;
    options.skip_gc = chance.one_in(3);
    // Otherwise receiving would be editing.
    options.cleanup_formatting = false;
    Doc::with_options(options)
}

/// One transaction of one to three changes. `None` when they came to nothing.
pub(crate) fn edit(doc: &Doc, chance: &mut Chance) -> Option<Bytes> {
    // Roots are declared before the transaction: declaring takes one of its own.
    let (text, map) = (doc.get_or_insert_text("text"), doc.get_or_insert_map("map"));
    let (list, xml) = (doc.get_or_insert_array("list"), doc.get_or_insert_xml_fragment("xml"));
    let mut txn = doc.transact_mut();
    for _ in 0..chance.between(1, 3) {
        match chance.below(12) {
            0..=3 => type_or_delete(&text, &mut txn, chance),
            4 => format(&text, &mut txn, chance),
            5 | 6 => set_key(&map, &mut txn, chance),
            7 => nest(&map, &mut txn, chance),
            8 | 9 => change_list(&list, &mut txn, chance),
            _ => change_xml(&xml, &mut txn, chance),
        }
    }
    txn.commit();
    if !txn.has_changes() {
        return None;
    }
    Some(txn.encode_update_v1().into())
}

/// One cell of one record, as somebody writes it who has a table in the browser.
pub(crate) fn edit_record(doc: &Doc, chance: &mut Chance) -> Bytes {
    let rows = doc.get_or_insert_map("rows");
    let mut txn = doc.transact_mut();
    let id = record_id(chance);
    let row = match rows.get(&txn, &id) {
        Some(Out::YMap(row)) => row,
        _ => rows.insert(&mut txn, id, MapPrelim::default()),
    };
    row.insert(&mut txn, key(chance), chance.below(1000) as f64);
    txn.commit();
    txn.encode_update_v1().into()
}

pub(crate) fn record_id(chance: &mut Chance) -> String {
    format!("record{}", chance.below(3))
}

const WORDS: &[&str] =
    &["a", "hello ", "\u{1f600}", "\u{e9}t\u{e9}", "x\u{1f469}\u{200d}\u{1f680}y", "\n", "typing along "];

/// The places between characters, counted in UTF-16 units.
fn places(text: &TextRef, txn: &impl ReadTxn) -> Vec<u32> {
    let mut places = vec![0];
    let mut at = 0;
    for char in text.get_string(txn).chars() {
        at += char.len_utf16() as u32;
        places.push(at);
    }
    places
}

fn range(text: &TextRef, txn: &impl ReadTxn, chance: &mut Chance) -> (u32, u32) {
    let places = places(text, txn);
    let (a, b) = (places[chance.below(places.len())], places[chance.below(places.len())]);
    (a.min(b), a.max(b) - a.min(b))
}

fn type_or_delete(text: &TextRef, txn: &mut TransactionMut<'_>, chance: &mut Chance) {
    let (at, length) = range(text, txn, chance);
    if length > 0 && chance.one_in(3) {
        text.remove_range(txn, at, length.min(12).min(length_to_char(text, txn, at, length)));
    } else {
        text.insert(txn, at, WORDS[chance.below(WORDS.len())]);
    }
}

/// A length that does not end within a surrogate pair.
fn length_to_char(text: &TextRef, txn: &impl ReadTxn, at: u32, length: u32) -> u32 {
    let end = at + length.min(12);
    places(text, txn).into_iter().filter(|&place| place >= at && place <= end).max().unwrap_or(at) - at
}

fn format(text: &TextRef, txn: &mut TransactionMut<'_>, chance: &mut Chance) {
    let (at, length) = range(text, txn, chance);
    if length > 0 {
        let bold = if chance.one_in(3) { Any::Null } else { Any::from(true) };
        text.format(txn, at, length, [(Arc::from("bold"), bold)].into());
    }
}

pub(crate) fn key(chance: &mut Chance) -> String {
    format!("key{}", chance.below(4))
}

fn set_key(map: &yrs::MapRef, txn: &mut TransactionMut<'_>, chance: &mut Chance) {
    if chance.one_in(4) {
        map.remove(txn, &key(chance));
    } else {
        map.insert(txn, key(chance), chance.below(1000) as f64);
    }
}

fn nest(map: &yrs::MapRef, txn: &mut TransactionMut<'_>, chance: &mut Chance) {
    let key = key(chance);
    match map.get(txn, &key) {
        Some(Out::YMap(inner)) => set_key(&inner, txn, chance),
        Some(Out::YArray(inner)) => change_list(&inner, txn, chance),
        Some(Out::YText(inner)) => type_or_delete(&inner, txn, chance),
        _ => match chance.below(3) {
            0 => drop(map.insert(txn, key, MapPrelim::default())),
            1 => drop(map.insert(txn, key, ArrayPrelim::default())),
            _ => drop(map.insert(txn, key, TextPrelim::new("nested"))),
        },
    }
}

fn change_list(list: &yrs::ArrayRef, txn: &mut TransactionMut<'_>, chance: &mut Chance) {
    let length = list.len(txn);
    let at = chance.below(length as usize + 1) as u32;
    if at < length && chance.one_in(3) {
        list.remove_range(txn, at, 1 + chance.below(2.min((length - at) as usize)) as u32);
    } else if chance.one_in(4) {
        list.insert(txn, at, MapPrelim::default());
    } else {
        list.insert(txn, at, chance.below(1000) as f64);
    }
}

fn change_xml(xml: &yrs::XmlFragmentRef, txn: &mut TransactionMut<'_>, chance: &mut Chance) {
    let length = xml.len(txn);
    let at = chance.below(length as usize + 1) as u32;
    if at < length && chance.one_in(3) {
        xml.remove_range(txn, at, 1);
    } else if chance.one_in(2) {
        xml.insert(txn, at, XmlElementPrelim::empty("p"));
    } else {
        xml.insert(txn, at, XmlTextPrelim::new("word"));
    }
}
