//! What a random history of several nodes seldom reaches, or what once went wrong.

use bytes::Bytes;
use syncline::document::core::Effect;
use syncline::document::core::Input;
use syncline::document::peer::PeerMessage;
use syncline::document::request::Request;
use syncline_protocol::ErrorCode;

use crate::cluster::ring::Ring;
use crate::cluster::ring::name_of;
use crate::cluster::ring::reader_of;
use crate::stories::Writer;

const COMPARED_MS: u64 = 6_000;

fn ended(ring: &Ring, at: usize) -> Option<ErrorCode> {
    ring.nodes[at].done.iter().find_map(|effect| match effect {
        Effect::End { reader, code } if *reader == reader_of(at) => Some(*code),
        _ => None,
    })
}

fn echoes(ring: &Ring, at: usize) -> Vec<Bytes> {
    let echo = |effect: &Effect| if let Effect::Echo { update, .. } = effect { Some(update.clone()) } else { None };
    ring.nodes[at].done.iter().filter_map(echo).collect()
}

#[test]
fn alice_types_on_one_node_and_bob_reads_it_on_another_once_it_is_durable() {
    let mut ring = Ring::shared(2).settled();
    let update = Writer::new(7).types("hello");
    ring.is_failing = true;
    ring.send(0, &update);
    ring.settle();
    let broadcasts = |ring: &Ring| ring.nodes[1].done.iter().filter(|e| matches!(e, Effect::Broadcast { .. })).count();
    assert_eq!((broadcasts(&ring), echoes(&ring, 0).len()), (0, 0), "nobody hears of what is not durable");
    ring.is_failing = false;
    ring.wait(100);
    assert_eq!((broadcasts(&ring), echoes(&ring, 0)), (1, vec![update]));
    assert!(ring.are_equal());
}

#[test]
fn a_deletion_that_was_missed_is_found_though_the_state_vectors_are_equal() {
    let mut ring = Ring::apart(2).settled();
    let writer = Writer::new(7);
    ring.send(0, &writer.types("hello"));
    ring.wait(COMPARED_MS);
    assert!(ring.are_equal());
    ring.nodes[1].hears = false;
    ring.send(0, &writer.clears());
    ring.settle();
    ring.nodes[1].hears = true;
    assert_eq!(ring.replica(0).clocks(), ring.replica(1).clocks());
    assert!(!ring.are_equal());
    ring.wait(COMPARED_MS);
    assert!(ring.are_equal(), "holders compare after a change");
}

#[test]
fn two_nodes_that_load_at_the_same_moment_end_equal() {
    for mut ring in [Ring::shared(2), Ring::apart(2)] {
        let (alice, bob) = (Writer::new(7), Writer::new(8));
        ring = ring.settled();
        ring.send(0, &alice.types("from here "));
        ring.send(1, &bob.types("from there "));
        ring.send(0, &alice.clears());
        ring.settle();
        ring.wait(COMPARED_MS);
        assert!(ring.are_equal());
        assert_eq!((echoes(&ring, 0).len(), echoes(&ring, 1).len()), (2, 1));
    }
}

#[test]
fn a_document_that_is_deleted_while_a_node_is_cut_off_is_deleted_there_too_and_stays_so() {
    let mut ring = Ring::shared(2).settled();
    let (alice, bob) = (Writer::new(7), Writer::new(8));
    ring.send(0, &alice.types("hello"));
    ring.wait(COMPARED_MS);
    ring.nodes[1].hears = false;
    ring.ask(0, Request::Delete);
    ring.settle();
    assert!(ring.disks[0].is_deleted(0));
    assert_eq!(ended(&ring, 1), None, "nobody has told it");
    // An edit finds it out, or the way back to the others does.
    ring.send(1, &bob.types("too late"));
    ring.settle();
    assert_eq!(ended(&ring, 1), Some(ErrorCode::NotFound));
    assert!(echoes(&ring, 1).is_empty() && ring.disks[0].is_deleted(0));
}

#[test]
fn a_node_that_comes_back_to_the_bus_finds_a_document_deleted() {
    let mut ring = Ring::shared(2).settled();
    ring.send(0, &Writer::new(7).types("hello"));
    ring.wait(COMPARED_MS);
    ring.nodes[1].hears = false;
    ring.ask(0, Request::Delete);
    ring.settle();
    ring.nodes[1].hears = true;
    ring.put(1, Input::Resumed);
    ring.wait(2_000);
    assert_eq!(ended(&ring, 1), Some(ErrorCode::NotFound));
}

#[test]
fn a_node_cut_off_while_the_document_was_deleted_and_created_anew_leaves_the_former_life() {
    let mut ring = Ring::shared(2).settled();
    ring.send(0, &Writer::new(7).types("former"));
    ring.wait(COMPARED_MS);
    ring.nodes[1].hears = false;
    ring.ask(0, Request::Delete);
    ring.settle();
    ring.ask(0, Request::Create { template: Writer::new(9).types("new"), member: None });
    ring.settle();
    ring.nodes[1].hears = true;
    ring.put(1, Input::Resumed);
    ring.wait(2_000);
    assert_eq!(ended(&ring, 1), Some(ErrorCode::NotFound));
    assert!(!ring.disks[0].is_haunted(0));
}

#[test]
fn a_copy_that_wrote_at_another_node_just_before_the_end_does_not_bring_it_back() {
    let mut ring = Ring::shared(2).settled();
    ring.send(0, &Writer::new(7).types("former"));
    ring.wait(COMPARED_MS);
    ring.nodes[0].hears = false;
    ring.send(1, &Writer::new(8).types("unheard"));
    ring.settle();
    ring.ask(0, Request::Delete);
    ring.settle();
    ring.ask(0, Request::Create { template: Writer::new(9).types("new"), member: None });
    ring.settle();
    ring.join(0);
    ring.send(0, &Writer::new(8).types("unheard"));
    ring.settle();
    assert_eq!(ended(&ring, 0), Some(ErrorCode::NotFound));
    assert!(!ring.disks[0].is_haunted(0));
}

#[test]
fn a_node_that_hears_nothing_converges_by_reading_the_store_when_its_own_append_shows_a_hole() {
    let mut ring = Ring::shared(2).settled();
    ring.nodes[1].hears = false;
    let (alice, bob) = (Writer::new(7), Writer::new(8));
    ring.send(0, &alice.types("one "));
    ring.settle();
    ring.send(0, &alice.types("two "));
    ring.settle();
    assert!(!ring.are_equal());
    let bobs = bob.types("three");
    ring.send(1, &bobs);
    ring.wait(500);
    assert!(ring.replica(1).clocks().covers(&[(7, 8), (8, 5)].into_iter().collect()), "it has read what it missed");
    assert_eq!(echoes(&ring, 1), [bobs]);
    ring.put(0, Input::Resumed);
    ring.wait(2_000);
    assert!(ring.are_equal());
}

#[test]
fn a_node_reads_on_behind_a_snapshot_that_another_one_made() {
    let mut ring = Ring::shared(2).settled();
    let alice = Writer::new(7);
    ring.send(0, &alice.types("hello"));
    ring.wait(COMPARED_MS);
    ring.nodes[1].hears = false;
    ring.send(0, &alice.clears());
    ring.settle();
    ring.send(0, &alice.types("again"));
    ring.settle();
    ring.compact();
    ring.send(0, &alice.types(" and more"));
    ring.settle();
    assert!(ring.disks[0].load(0).unwrap().snapshot.is_some());
    ring.nodes[1].hears = true;
    ring.put(1, Input::Missed);
    ring.wait(1_000);
    assert!(ring.are_equal());
}

#[test]
fn a_snapshot_that_ends_with_a_nodes_own_record_brings_it_what_lies_before() {
    let mut ring = Ring::shared(2).settled();
    ring.nodes[1].hears = false;
    ring.send(0, &Writer::new(7).types("missed"));
    ring.settle();
    ring.send(1, &Writer::new(8).types("own"));
    ring.settle();
    ring.compact();
    ring.wait(500);
    assert!(ring.replica(1).clocks().covers(&[(7, 6), (8, 3)].into_iter().collect()));
}

#[test]
fn a_document_that_is_closed_has_nothing_to_do() {
    let mut ring = Ring::shared(2).settled();
    ring.send(0, &Writer::new(7).types("hello"));
    ring.settle();
    ring.put(0, Input::Missed); // Something is due soon.
    ring.ask(0, Request::Delete);
    ring.settle();
    let now = ring.now.moment;
    for node in &ring.nodes {
        assert!(node.core.deadline().is_none_or(|due| due > now));
    }
    ring.wait(2_000);
}

#[test]
fn a_client_that_was_not_introduced_is_not_shown_and_comparing_brings_it() {
    let mut ring = Ring::shared(2).settled();
    let present = |ring: &Ring, at: usize| ring.nodes[at].core.everybody().count();
    assert_eq!((present(&ring, 0), present(&ring, 1)), (2, 2));
    // The introduction is lost, and so is the question for it.
    ring.nodes[1].hears = false;
    ring.put(0, Input::Leave { reader: reader_of(0) });
    ring.settle();
    ring.nodes[1].hears = true;
    assert_eq!((present(&ring, 0), present(&ring, 1)), (1, 2));
    ring.wait(70_000);
    assert_eq!((present(&ring, 0), present(&ring, 1)), (1, 1));
}

#[test]
fn clients_of_a_node_that_was_silent_for_minutes_are_gone_whoever_was_told() {
    let mut ring = Ring::shared(2).settled();
    let present = |ring: &Ring| ring.nodes[0].core.everybody().count();
    ring.nodes[1].hears = false;
    ring.wait(170_000);
    assert_eq!(present(&ring), 2);
    ring.wait(90_000);
    assert_eq!(present(&ring), 1);
}

#[test]
fn holders_whose_first_question_was_lost_find_each_other() {
    for mut ring in [Ring::shared(2), Ring::apart(2)] {
        ring.nodes[1].hears = false;
        ring = ring.settled();
        assert_eq!(ring.nodes[0].core.everybody().count(), 1);
        ring.nodes[1].hears = true;
        ring.wait(62_000);
        assert!(ring.nodes.iter().all(|node| node.core.everybody().count() == 2));
    }
}

#[test]
fn a_node_that_is_lost_takes_its_clients_along() {
    let mut ring = Ring::shared(3).settled();
    assert_eq!(ring.nodes[0].core.everybody().count(), 3);
    ring.put(0, Input::NodeLost(name_of(1)));
    ring.settle();
    assert_eq!(ring.nodes[0].core.everybody().count(), 2);
}

#[test]
fn each_append_is_told_once_however_many_nodes_there_are() {
    for count in [2, 3, 6] {
        let mut ring = Ring::shared(count).settled();
        ring.send(0, &Writer::new(7).types("hello"));
        ring.settle();
        let told =
            |at: usize| ring.nodes[at].said.iter().filter(|said| matches!(said, PeerMessage::Records { .. })).count();
        assert_eq!((0..count).map(told).sum::<usize>(), 1);
    }
}
