//! In which roots something changed.

use yrs::Array;
use yrs::Map;
use yrs::MapPrelim;
use yrs::Text;
use yrs::TextPrelim;
use yrs::WriteTxn;

use super::*;

/// A client's copy; what is done in it comes as an update.
struct Client(Doc);

impl Client {
    fn new() -> Self {
        Self(Doc::with_client_id(7))
    }

    fn does(&self, edit: impl FnOnce(&mut TransactionMut<'_>)) -> Bytes {
        let mut txn = self.0.transact_mut();
        edit(&mut txn);
        txn.encode_update_v1().into()
    }
}

fn named(replica: &mut Replica, update: &Bytes) -> Vec<String> {
    let roots = replica.apply_and_look(update).unwrap().expect("something is new");
    roots.iter().map(ToString::to_string).collect()
}

fn replica(updates: &[&Bytes]) -> Replica {
    Replica::load(Deleted::Kept, updates.iter().copied()).unwrap()
}

#[test]
fn every_kind_of_change_names_its_root() {
    let client = Client::new();
    let first = client.does(|txn| {
        txn.get_or_insert_text("title").push(txn, "a");
        txn.get_or_insert_map("things").insert(txn, "one", MapPrelim::default());
    });
    let mut here = replica(&[&first]);
    assert_eq!(here.apply_and_look(&first), Ok(None));

    // None of these says the name of its root.
    let types = client.does(|txn| txn.get_or_insert_text("title").push(txn, "b"));
    assert_eq!(named(&mut here, &types), ["title"]);
    let deletes = client.does(|txn| txn.get_or_insert_text("title").remove_range(txn, 0, 1));
    assert_eq!(named(&mut here, &deletes), ["title"]);
    let nested = client.does(|txn| {
        let map = txn.get_or_insert_map("things").get(txn, "one").unwrap().cast::<MapRef>().unwrap();
        map.insert(txn, "note", TextPrelim::new("deep"));
    });
    assert_eq!(named(&mut here, &nested), ["things"]);

    // A root that was not here before, and two at once.
    let new = client.does(|txn| {
        txn.get_or_insert_array("list").push_back(txn, 1);
        txn.get_or_insert_text("title").push(txn, "c");
    });
    assert_eq!(named(&mut here, &new), ["list", "title"]);
    let more = client.does(|txn| {
        txn.get_or_insert_array("list").push_back(txn, 2);
    });
    assert_eq!(named(&mut here, &more), ["list"]);
}

#[test]
fn to_look_changes_nothing_about_the_document() {
    let client = Client::new();
    let edits: Vec<Bytes> = (0..4)
        .map(|step| {
            client.does(|txn| {
                txn.get_or_insert_text("title").insert(txn, 0, "x");
                txn.get_or_insert_array("list").push_back(txn, step);
            })
        })
        .collect();
    let (mut looked, mut plain) = (replica(&edits[..1].iter().collect::<Vec<_>>()), replica(&[&edits[0]]));
    for edit in &edits[1..] {
        looked.apply_and_look(edit).unwrap();
        plain.apply(edit).unwrap();
    }
    let nothing = StateVector::default();
    assert_eq!(looked.diff(&nothing), plain.diff(&nothing));
    assert!(looked.same_history(&plain));
}

#[test]
fn so_many_roots_are_named_and_no_more() {
    let client = Client::new();
    let flood = client.does(|txn| {
        for root in 0..ROOTS_NAMED_MAX + 50 {
            txn.get_or_insert_text(format!("root{root}")).push(txn, "a");
        }
    });
    let mut here = replica(&[]);
    assert_eq!(named(&mut here, &flood).len(), ROOTS_NAMED_MAX);
    // Also a change in one that was the last of too many is told.
    let last = format!("root{}", ROOTS_NAMED_MAX + 49);
    let types = client.does(|txn| txn.get_or_insert_text(&*last).push(txn, "b"));
    assert_eq!(named(&mut here, &types), [last]);
}
