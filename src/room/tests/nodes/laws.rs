//! What is told: heard everywhere, under the same id, once; and what becomes of those who move.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::event::EventId;
use crate::event::Happening;
use crate::name::DocName;
use crate::room::FeedLimits;
use crate::room::Feeds;
use crate::room::Logs;
use crate::room::Waits;
use crate::room::tests::all;
use crate::room::tests::room;
use crate::room::tests::title;
use crate::store::Epoch;
use crate::store::Seq;
use crate::table::change::Author;
use crate::table::events::Publish;

use super::NO_WAITS;
use super::Nodes;
use super::heard;
use super::id_of;
use super::ids;

#[test]
fn what_is_told_on_one_node_is_heard_on_all_under_the_same_id_once() {
    let nodes = Nodes::new(3);
    let mut ears: Vec<_> = (0..3).map(|node| nodes.listen(node, "r", None)).collect();
    nodes.settle();
    let told = [nodes.tell(0, "r", "a"), nodes.tell(0, "r", "b")];
    nodes.settle();
    let other = nodes.tell(2, "r", "c");
    nodes.settle();
    for ears in &mut ears {
        assert_eq!(ids(ears), [told[0], told[1], other]);
    }
}

#[test]
fn an_event_is_published_once_however_many_nodes_there_are_and_not_where_nobody_else_is() {
    for count in [2, 3, 6] {
        let nodes = Nodes::new(count);
        let _ears: Vec<_> = (0..nodes.feeds.len()).map(|node| nodes.listen(node, "r", None)).collect();
        nodes.tell(0, "alone", "x");
        nodes.settle();
        let before = nodes.network.published();
        for _ in 0..10 {
            nodes.tell(0, "r", "a");
        }
        assert_eq!(nodes.network.published() - before, 10);
        for _ in 0..10 {
            nodes.tell(0, "alone", "a");
        }
        assert_eq!(nodes.network.published() - before, 10, "nobody holds the other room");
    }
}

#[test]
fn everybody_reads_the_bytes_that_the_first_node_made() {
    let nodes = Nodes::new(2);
    let (mut here, mut there) = (nodes.listen(0, "r", None), nodes.listen(1, "r", None));
    nodes.settle();
    let happening = Happening::new("x").id("type", "t").with("text", "\u{1}é");
    nodes.feeds[0].publish(&room("r"), &Author::default(), vec![happening]);
    nodes.settle();
    let (here, there) = (heard(&mut here).remove(0).unwrap(), heard(&mut there).remove(0).unwrap());
    assert_eq!((&here.json, &here.name, here.id), (&there.json, &there.name, there.id));
}

#[test]
fn whoever_comes_back_to_another_node_hears_exactly_what_was_missed() {
    let nodes = Nodes::new(3);
    let fresh = nodes.listen(0, "r", None).event_id;
    let ids_told: Vec<EventId> = ["a", "b", "c"].map(|event| nodes.tell(0, "r", event)).into();
    nodes.settle();
    for node in [1, 2, 0] {
        // A node that comes to the room now takes over what was told there.
        drop(nodes.listen(node, "r", None));
        nodes.settle();
        for (since, missed) in [(fresh, 0), (ids_told[0], 1), (ids_told[2], 3)] {
            let mut back = nodes.listen(node, "r", Some(since));
            assert_eq!((back.recovered, ids(&mut back)), (true, ids_told[missed..].to_vec()), "node {node}");
        }
    }
    let mut back = nodes.listen(1, "r", Some(EventId { index: 7, ..fresh }));
    assert_eq!((back.recovered, ids(&mut back)), (false, vec![]));
}

#[test]
fn what_was_told_while_a_node_came_in_is_heard_there_once_and_no_history_is_heard_as_news() {
    let nodes = Nodes::new(2);
    let old = nodes.tell(0, "r", "old");
    nodes.settle();
    nodes.let_a_moment_pass();
    let mut live = nodes.listen(1, "r", None);
    let early = nodes.tell(1, "r", "early");
    assert_eq!(all(&mut live), ["early"], "its own listeners do not wait");
    nodes.attend(1);
    let meanwhile = nodes.tell(0, "r", "meanwhile");
    nodes.settle();
    assert_eq!(ids(&mut live), [meanwhile]);
    for node in [0, 1] {
        let mut back = nodes.listen(node, "r", Some(old));
        assert!(back.recovered);
        assert_eq!(ids(&mut back).into_iter().collect::<BTreeSet<_>>(), [early, meanwhile].into());
        let mut back = nodes.listen(node, "r", Some(early));
        assert_eq!((back.recovered, ids(&mut back).contains(&old)), (true, false), "it was there before");
    }
}

#[test]
fn who_came_in_first_hears_the_first_that_others_tell() {
    let waits = Waits { blind: Duration::from_secs(3600), ..NO_WAITS };
    let nodes = Nodes::waiting(3, Logs::Shared, &FeedLimits::default(), waits);
    let mut ears = nodes.listen(0, "r", None);
    nodes.settle();
    let told = [nodes.tell(1, "r", "a"), nodes.tell(1, "r", "b")];
    nodes.settle();
    assert_eq!(ids(&mut ears), told, "though it could not know that nothing was told before it came");
    nodes.let_a_moment_pass();
    let mut back = nodes.listen(2, "r", None);
    nodes.attend(2);
    let told = nodes.tell(0, "r", "c");
    nodes.settle();
    assert_eq!(ids(&mut back), [told]);
}

#[test]
fn who_came_in_while_nobody_answered_is_told_that_there_was_more() {
    let waits = Waits { blind: Duration::from_secs(3600), ..NO_WAITS };
    let nodes = Nodes::waiting(2, Logs::Shared, &FeedLimits::default(), waits);
    nodes.tell(1, "r", "before");
    nodes.settle();
    nodes.cut(0);
    let mut ears = nodes.listen(0, "r", None);
    nodes.settle();
    nodes.tell(1, "r", "missed");
    nodes.heal(0);
    nodes.settle();
    assert_eq!(heard(&mut ears), [None]);
    let next = nodes.tell(1, "r", "next");
    nodes.settle();
    assert_eq!(ids(&mut ears), [next]);
}

#[test]
fn a_message_that_was_lost_is_asked_for_and_heard_in_its_place() {
    let nodes = Nodes::new(2);
    let mut there = nodes.listen(1, "r", None);
    nodes.tell(0, "r", "first");
    nodes.settle();
    let lost = nodes.tell(0, "r", "lost");
    assert!(nodes.network.lose_next(id_of(0), id_of(1)));
    let next = nodes.tell(0, "r", "next");
    nodes.settle();
    assert_eq!(ids(&mut there)[1..], [lost, next]);
}

#[test]
fn what_was_lost_last_is_found_when_its_node_says_that_it_is_there() {
    let nodes = Nodes::new(2);
    let mut there = nodes.listen(1, "r", None);
    nodes.tell(0, "r", "first");
    nodes.settle();
    let lost = nodes.tell(0, "r", "lost");
    assert!(nodes.network.lose_next(id_of(0), id_of(1)));
    nodes.feeds[1].resumed();
    nodes.settle();
    assert_eq!(ids(&mut there)[1..], [lost]);
}

#[test]
fn what_is_gone_before_it_could_be_had_is_said_to_be_missed() {
    let nodes = Nodes::with(2, Logs::Shared, FeedLimits { events_max: 100, ..FeedLimits::default() });
    let mut there = nodes.listen(1, "r", None);
    let first = nodes.tell(0, "r", "first");
    nodes.settle();
    assert_eq!(ids(&mut there), [first]);
    nodes.cut(1);
    for _ in 0..200 {
        nodes.tell(0, "r", "lost");
    }
    nodes.heal(1);
    nodes.settle();
    assert_eq!(heard(&mut there), [None]);
    let next = nodes.tell(0, "r", "next");
    nodes.settle();
    assert_eq!(ids(&mut there), [next]);
    assert!(!nodes.listen(1, "r", Some(first)).recovered);
}

#[test]
fn two_nodes_that_were_apart_hear_all_of_each_other() {
    let nodes = Nodes::new(3);
    let mut ears: Vec<_> = (0..3).map(|node| nodes.listen(node, "r", None)).collect();
    nodes.settle();
    nodes.cut(1);
    let told: BTreeSet<_> = (0..3).map(|node| nodes.tell(node, "r", "x")).collect();
    nodes.settle();
    nodes.heal(1);
    nodes.settle();
    for ears in &mut ears {
        let heard = ids(ears);
        assert_eq!((heard.len(), heard.into_iter().collect::<BTreeSet<_>>()), (3, told.clone()));
    }
}

#[test]
fn what_was_told_apart_is_not_missed_by_whoever_moves() {
    let nodes = Nodes::new(2);
    let mut ears = nodes.listen(1, "r", None);
    nodes.listen(0, "r", None);
    nodes.settle();
    nodes.cut(1);
    // The one on the node that is cut off hears this alone, while the others hear much else.
    let known = nodes.tell(1, "r", "known");
    let missed: Vec<_> = (0..5).map(|_| nodes.tell(0, "r", "missed")).collect();
    assert_eq!(ids(&mut ears), [known]);
    assert!(!nodes.listen(0, "r", Some(known)).recovered, "nobody can say what it knows");
    nodes.heal(1);
    nodes.settle();
    let mut moved = nodes.listen(0, "r", Some(known));
    assert_eq!((moved.recovered, ids(&mut moved)), (true, missed), "though they stand before it there");
}

#[test]
fn what_only_a_dead_node_had_told_is_had_from_those_who_heard_it() {
    let nodes = Nodes::new(3);
    let mut there = nodes.listen(1, "r", None);
    nodes.listen(2, "r", None);
    nodes.tell(0, "r", "first");
    nodes.settle();
    assert_eq!(all(&mut there), ["first"]);
    let lost = nodes.tell(0, "r", "lost");
    assert!(nodes.network.lose_next(id_of(0), id_of(1)));
    while nodes.deliver_one(0) {}
    nodes.cut(0);
    nodes.feeds[1..].iter().for_each(|feeds| feeds.lost(id_of(0)));
    let next = nodes.tell(2, "r", "next");
    nodes.settle();
    assert_eq!(ids(&mut there), [lost, next]);
}

#[test]
fn ids_of_two_nodes_are_never_equal() {
    for logs in [Logs::Shared, Logs::Apart] {
        let nodes = Nodes::with(3, logs, FeedLimits { events_max: 10_000, ..FeedLimits::default() });
        let mut ears = nodes.listen(0, "table:T", None);
        let documents: Vec<_> =
            nodes.feeds.iter().map(|feeds| feeds.open(&DocName::parse("table:T").unwrap(), Epoch(1), Seq(0))).collect();
        nodes.settle();
        for round in 1..=500 {
            for (node, document) in (0..).zip(&documents) {
                nodes.tell(node, "table:T", "beside");
                let seq = if logs == Logs::Apart { round } else { 3 * round + node as u64 };
                document.changed(Epoch(1), Seq(seq), title("new"));
            }
        }
        nodes.settle();
        let heard = ids(&mut ears);
        assert_eq!((heard.len(), heard.iter().collect::<BTreeSet<_>>().len()), (3_000, 3_000), "{logs:?}");
    }
}

#[test]
fn nodes_that_tell_their_ids_apart_by_the_same_bits_part() {
    let nodes = Nodes::new(2);
    let _ears = [nodes.listen(0, "r", None), nodes.listen(1, "r", None)];
    nodes.settle();
    let tag = |id| crate::room::house::tag_of(id);
    let same = EventId { index: nodes.tell(1, "r", "x").index, ..EventId::default() };
    nodes.feeds[1].house().mind(same, id_of(0));
    assert_ne!(tag(nodes.tell(1, "r", "x")), tag(same), "the later one takes others");
    let same = nodes.tell(0, "r", "x");
    nodes.feeds[0].house().mind(same, id_of(1));
    assert_eq!(tag(nodes.tell(0, "r", "x")), tag(same), "the earlier one keeps them");
}

#[test]
fn records_of_a_document_are_told_on_their_own_node_though_later_ones_were_heard_of() {
    let nodes = Nodes::new(2);
    let doc = DocName::parse("table:T").unwrap();
    let documents = [0, 1].map(|node| Publish::open(&*nodes.feeds[node], &doc, Epoch(1), Seq(4)));
    let mut ears = [0, 1].map(|node| nodes.listen(node, "table:T", None));
    nodes.settle();
    documents[1].changed(Epoch(1), Seq(6), title("later"));
    nodes.settle();
    documents[0].changed(Epoch(1), Seq(5), title("earlier"));
    let beside = nodes.tell(0, "table:T", "beside");
    nodes.settle();
    assert_eq!(beside.revision, 6, "it stands behind everything that was heard");
    let revisions = |ids: Vec<EventId>| ids.into_iter().map(|id| id.revision).collect::<Vec<_>>();
    for ears in &mut ears {
        assert_eq!(revisions(ids(ears)), [6, 5, 6]);
    }
}

#[test]
fn a_document_is_followed_from_another_node_and_not_for_ever() {
    let nodes = Nodes::with(2, Logs::Shared, FeedLimits { keep: Some(Duration::ZERO), ..FeedLimits::default() });
    let doc = DocName::parse("notes").unwrap();
    let document = Publish::open(&*nodes.feeds[0], &doc, Epoch(1), Seq(0));
    nodes.settle();
    assert!(!document.is_heard(), "nobody listens");
    let ears = nodes.listen(1, "notes", None);
    nodes.settle();
    assert!(document.is_heard());
    drop(ears);
    nodes.feeds[1].sweep();
    nodes.settle();
    assert!(!document.is_heard());
}

#[test]
fn a_story_is_told_once_in_all_rooms_of_all_nodes() {
    let nodes = Nodes::new(2);
    let rooms = [room("r"), room("s")];
    let mut ears: Vec<_> = (0..2).flat_map(|node| ["r", "s"].map(|name| nodes.listen(node, name, None))).collect();
    nodes.settle();
    for node in 0..2 {
        nodes.feeds[node].publish_all(&rooms, &Author::default(), vec![Happening::new("x")]);
    }
    nodes.settle();
    let stories: Vec<BTreeSet<u64>> =
        ears.iter_mut().map(|ears| heard(ears).into_iter().map(|event| event.unwrap().story).collect()).collect();
    assert_eq!(stories[0].len(), 2, "that of one node is not that of the other");
    assert!(stories.iter().all(|told| *told == stories[0] && !told.contains(&0)));
}

#[test]
fn a_room_that_was_forgotten_and_is_used_again_goes_on_where_others_hold_it() {
    let nodes = Nodes::with(2, Logs::Shared, FeedLimits { keep: Some(Duration::ZERO), ..FeedLimits::default() });
    let mut ears = nodes.listen(1, "r", None);
    nodes.settle();
    for n in 0..3 {
        nodes.tell(0, "r", format!("{n}"));
        nodes.settle();
        assert_eq!(all(&mut ears), [format!("{n}")], "and nobody is told that something was missed");
        while nodes.network.topics_of(id_of(0)) > 0 {
            nodes.feeds[0].sweep(); // Until a millisecond has passed.
        }
        nodes.settle();
    }
}

#[test]
fn what_is_too_large_for_the_bus_is_said_to_be_missed() {
    let nodes = Nodes::with(2, Logs::Shared, FeedLimits { bytes_max: 64 << 20, ..FeedLimits::default() });
    let mut there = nodes.listen(1, "r", None);
    nodes.settle();
    let huge = Happening::new("huge").with("text", "x".repeat(9 << 20));
    nodes.feeds[0].publish(&room("r"), &Author::default(), vec![huge]);
    nodes.settle();
    assert_eq!(heard(&mut there), [None]);
    let next = nodes.tell(0, "r", "next");
    nodes.settle();
    assert_eq!(ids(&mut there), [next]);
}

#[test]
fn a_long_history_is_taken_over_in_parts() {
    let nodes = Nodes::new(2);
    let first = nodes.tell(0, "r", "first");
    let large = || Happening::new("large").with("text", "x".repeat(10_000));
    for _ in 0..300 {
        nodes.feeds[0].publish(&room("r"), &Author::default(), vec![large()]);
    }
    nodes.settle();
    drop(nodes.listen(1, "r", None));
    nodes.settle();
    let mut back = nodes.listen(1, "r", Some(first));
    assert_eq!((back.recovered, ids(&mut back).len()), (true, 300));
}

#[tokio::test]
async fn whoever_comes_back_first_waits_for_what_other_nodes_know() {
    let nodes = Nodes::new(2);
    let (first, second) = (nodes.tell(0, "r", "a"), nodes.tell(0, "r", "b"));
    nodes.settle();
    let feeds: &Feeds = &nodes.feeds[1];
    let since = first.to_string();
    let room = room("r");
    let listener = crate::event::Listener::default();
    let mut coming = Box::pin(feeds.follow(&room, listener, Some(&since)));
    // Its own task has not asked yet: with no time to wait, it listens as soon as it is looked at.
    assert!(futures_util::poll!(&mut coming).is_pending());
    nodes.settle();
    let mut back = coming.await.unwrap();
    assert_eq!((back.recovered, ids(&mut back)), (true, vec![second]));
}
