//! What passes, who is there, what holds in a room and what is to be acknowledged: on all nodes.

use crate::event::Envelope;
use crate::event::Event;
use crate::event::EventId;
use crate::event::Happening;
use crate::room::SettingsPatch;
use crate::room::tests::all;
use crate::room::tests::room;
use crate::table::change::Author;
use crate::table::events::Presence;

use super::Nodes;
use super::heard;
use super::id_of;
use super::ids;
use super::listener;

fn joined(user: &str) -> Presence {
    Presence::Joined { user: Some(user.into()), name: Some(user.into()), email: None }
}

fn members(nodes: &Nodes, node: usize, name: &str) -> Vec<String> {
    let mut users: Vec<_> =
        nodes.feeds[node].members(&room(name)).into_iter().filter_map(|member| member.user_id).collect();
    users.sort();
    users
}

fn pass(nodes: &Nodes, node: usize, event: &'static str) {
    nodes.feeds[node].pass(&[room("r")], "key", &Author::default(), 0, Happening::new(event));
}

#[test]
fn what_passes_is_heard_on_all_nodes_and_one_may_come_back_behind_it() {
    let nodes = Nodes::new(2);
    let (mut here, mut there) = (nodes.listen(0, "r", None), nodes.listen(1, "r", None));
    nodes.settle();
    pass(&nodes, 0, "cursor");
    nodes.settle();
    let (here, there) = (ids(&mut here), ids(&mut there));
    assert_eq!((here.len(), &here), (1, &there));
    let missed = nodes.tell(1, "r", "missed");
    nodes.settle();
    for node in 0..2 {
        let mut back = nodes.listen(node, "r", Some(here[0]));
        assert_eq!((back.recovered, ids(&mut back)), (true, vec![missed]));
    }
}

#[test]
fn what_passes_goes_to_nodes_where_somebody_listens() {
    let nodes = Nodes::new(2);
    let _here = nodes.listen(0, "r", None);
    nodes.settle();
    let before = nodes.network.published();
    pass(&nodes, 0, "cursor");
    assert_eq!(nodes.network.published(), before);
    let mut there = nodes.listen(1, "r", None);
    nodes.settle();
    pass(&nodes, 0, "cursor");
    nodes.settle();
    assert_eq!(ids(&mut there).len(), 1);
}

#[test]
fn the_one_that_it_comes_from_does_not_hear_it_and_its_namesake_elsewhere_does() {
    let nodes = Nodes::new(2);
    let listen = |node: usize| nodes.feeds[node].listen(&room("r"), listener("alice", 7), None).unwrap();
    let (mut here, mut there) = (listen(0), listen(1));
    nodes.settle();
    let typing = || Happening::new("typing").to_others(Some(7));
    nodes.feeds[0].publish(&room("r"), &Author::default(), vec![typing(), Happening::new("x").to("alice".into())]);
    nodes.settle();
    assert_eq!((all(&mut here), all(&mut there)), (vec!["x".to_owned()], vec!["typing".into(), "x".into()]));
}

#[test]
fn an_id_of_which_only_another_node_knows_is_asked_for() {
    let nodes = Nodes::new(2);
    let name = room("project:P");
    let mut here = nodes.listen(0, "project:P", None);
    nodes.listen(1, "project:P", None);
    nodes.settle();
    // Each node makes its own events of who is there.
    nodes.feeds[0].presence(&name, 1, 0, joined("alice"));
    let known = ids(&mut here)[0];
    let missed = nodes.tell(0, "project:P", "missed");
    nodes.settle();
    let feed = nodes.feeds[1].known(&name).unwrap();
    assert!(!nodes.listen(1, "project:P", Some(known)).recovered);
    assert!(feed.seeks(known));
    nodes.settle();
    let mut back = nodes.listen(1, "project:P", Some(known));
    assert_eq!((back.recovered, ids(&mut back)), (true, vec![missed]));
}

#[test]
fn somebody_on_two_nodes_is_one_line_comes_once_and_goes_once() {
    let nodes = Nodes::new(3);
    let name = room("project:P");
    let mut ears = nodes.listen(2, "project:P", None);
    nodes.listen(1, "project:P", None);
    nodes.settle();
    for node in [0, 1] {
        nodes.feeds[node].presence(&name, 1, 1_000, joined("alice"));
        nodes.settle();
    }
    assert_eq!(all(&mut ears), ["user:joined"]);
    for node in 0..3 {
        assert_eq!(members(&nodes, node, "project:P"), ["alice"], "node {node}");
    }
    nodes.feeds[0].presence(&name, 1, 1_000, Presence::Left);
    nodes.settle();
    assert_eq!((all(&mut ears), members(&nodes, 2, "project:P").len()), (vec![], 1));
    nodes.feeds[1].presence(&name, 1, 1_000, Presence::Left);
    nodes.settle();
    assert_eq!((all(&mut ears), members(&nodes, 2, "project:P").len()), (vec!["user:left".to_owned()], 0));
}

#[test]
fn who_was_there_with_a_node_that_is_gone_has_left() {
    let nodes = Nodes::new(2);
    let name = room("project:P");
    let mut ears = nodes.listen(1, "project:P", None);
    nodes.feeds[0].presence(&name, 1, 1_000, joined("alice"));
    nodes.feeds[0].presence(&name, 2, 1_000, joined("bob"));
    nodes.feeds[1].presence(&name, 1, 1_000, joined("bob"));
    nodes.settle();
    assert_eq!(members(&nodes, 1, "project:P"), ["alice", "bob"], "who was there before this node came as well");
    all(&mut ears);
    nodes.cut(0);
    nodes.feeds[1].lost(id_of(0));
    assert_eq!(
        (all(&mut ears), members(&nodes, 1, "project:P")),
        (vec!["user:left".to_owned()], vec!["bob".to_owned()])
    );
    nodes.feeds[0].presence(&name, 3, 1_000, joined("carol"));
    nodes.heal(0);
    nodes.settle();
    assert_eq!(members(&nodes, 1, "project:P"), ["alice", "bob", "carol"], "it was alive after all");
    assert_eq!(members(&nodes, 0, "project:P"), ["alice", "bob", "carol"]);
}

#[test]
fn who_left_while_nobody_heard_it_is_gone_when_the_list_comes() {
    let nodes = Nodes::new(2);
    let name = room("project:P");
    nodes.listen(1, "project:P", None);
    for peer in 0..450 {
        nodes.feeds[0].presence(&name, peer, 1_000, joined(&format!("user {peer}")));
    }
    nodes.settle();
    assert_eq!(members(&nodes, 1, "project:P").len(), 450);
    nodes.cut(1);
    for peer in 0..400 {
        nodes.feeds[0].presence(&name, peer, 1_000, Presence::Left);
    }
    nodes.heal(1);
    nodes.settle();
    assert_eq!(members(&nodes, 1, "project:P").len(), 50);
}

#[test]
fn a_status_is_one_story_in_all_rooms_of_all_nodes() {
    let nodes = Nodes::new(2);
    let rooms = ["project:1", "presence:global"];
    let mut ears: Vec<_> = (0..2).flat_map(|node| rooms.map(|name| nodes.listen(node, name, None))).collect();
    nodes.settle();
    for name in rooms {
        nodes.feeds[0].presence(&room(name), 5, 0, joined("alice"));
        let state = Some(r#"{"status":"away","statusRev":1}"#.into());
        nodes.feeds[0].presence(&room(name), 5, 0, Presence::State { client: 99, state });
    }
    nodes.settle();
    let stories: Vec<u64> = ears
        .iter_mut()
        .flat_map(|ears| heard(ears).into_iter().flatten().filter(|event| event.name == "presence:updated"))
        .map(|event| event.story)
        .collect();
    assert_eq!(stories.len(), 4);
    assert!(stories[0] != 0 && stories.iter().all(|story| *story == stories[0]));
}

#[test]
fn what_holds_in_a_room_holds_on_all_nodes_and_the_last_word_counts() {
    let nodes = Nodes::new(2);
    let name = room("r");
    let set = |node: usize, history_events| {
        let patch = SettingsPatch { history_events, ..SettingsPatch::default() };
        nodes.feeds[node].configure(&name, patch).unwrap().history_events
    };
    nodes.listen(1, "r", None);
    nodes.settle();
    set(0, Some(5));
    nodes.settle();
    assert_eq!(set(1, None), 5);
    let nodes = Nodes::new(2);
    nodes.feeds[0].configure(&name, SettingsPatch { max_clients: Some(3), ..SettingsPatch::default() }).unwrap();
    nodes.settle();
    nodes.listen(1, "r", None);
    nodes.settle();
    let now = nodes.feeds[1].configure(&name, SettingsPatch::default()).unwrap();
    assert_eq!(now.max_clients.map(usize::from), Some(3), "also where it was set before the node came");
}

#[test]
fn a_parcel_reaches_its_user_on_another_node_and_is_acknowledged_there() {
    let nodes = Nodes::new(3);
    let (name, alice) = (room("user:alice"), "alice".into());
    let now = syncline_protocol::Moment(0);
    let event = |id: EventId| {
        let envelope =
            Envelope { room: "user:alice", user: None, at_ms: 0, source: "api", revision: None, correlation_id: None };
        Event::encode(id, envelope, Happening::new("x"))
    };
    nodes.listen(1, "user:alice", None);
    nodes.settle();
    let (first, second) = (nodes.feeds[0].issue(&name), nodes.feeds[0].issue(&name));
    nodes.settle();
    nodes.couriers[0].hand_in(&alice, event(first), now).unwrap();
    nodes.couriers[0].hand_in(&alice, event(second), now).unwrap();
    nodes.settle();
    let waiting = |node: usize| {
        nodes.couriers[node].waiting("alice", 0, now).into_iter().map(|parcel| parcel.event.id).collect::<Vec<_>>()
    };
    assert_eq!((waiting(0), waiting(1), waiting(2)), (vec![first, second], vec![first, second], vec![]));
    let number = nodes.couriers[1].waiting("alice", 0, now)[0].number;
    nodes.couriers[1].signed("alice", number);
    nodes.settle();
    assert_eq!((waiting(0), waiting(1)), (vec![second], vec![second]));
    nodes.listen(2, "user:alice", None);
    nodes.settle();
    assert_eq!((waiting(2), waiting(1)), (vec![second], vec![second]), "and on the node to which the user moves");
    nodes.feeds[0].sweep();
    assert!(nodes.feeds[0].known(&name).is_some(), "the room is held as long as something waits there");
}

#[test]
fn nothing_that_the_bus_brings_does_harm_or_makes_a_room() {
    use crate::bus::Heard;
    let nodes = Nodes::new(2);
    let mut ears = nodes.listen(0, "r", None);
    nodes.settle();
    for body in [&b""[..], b"\x01", b"\x01\x02\xff\xff\xff\xff", b"\x02\x00", b"\x01\x0d"] {
        for name in ["r", "unheard of"] {
            let heard = Heard { from: id_of(1), missed: false, body: bytes::Bytes::copy_from_slice(body) };
            nodes.feeds[0].heard(&room(name), heard);
        }
    }
    nodes.settle();
    assert_eq!((nodes.feeds[0].stats().all.rooms, all(&mut ears)), (1, vec![]));
}

#[test]
fn a_room_outlives_more_runs_of_nodes_than_it_remembers() {
    use crate::bus::Heard;
    use crate::bus::NodeId;
    use crate::room::mark::Mark;
    use crate::room::mark::Stamp;
    use crate::room::wire::Message;
    use crate::room::wire::Told;
    let nodes = Nodes::new(2);
    let mut ears = [nodes.listen(0, "r", None), nodes.listen(1, "r", None)];
    nodes.settle();
    for run in 1..150 {
        let begin = nodes.tell(1, "r", "x").index;
        nodes.settle();
        let mark = Mark { stamp: Stamp { origin: NodeId(1_000 + run), number: begin + 1 }, others: None };
        let id = EventId { index: begin + (1 << 21), ..EventId::default() };
        let event = Event::received(id, "short-lived".into(), crate::event::Audience::Room, "{}".into(), 0);
        let body = Message::Told(Told { mark, begin, age_ms: 0, events: Some(vec![event.into()]) }).encode();
        nodes.feeds[0].heard(&room("r"), Heard { from: NodeId(1_000 + run), missed: false, body });
        nodes.tell(0, "r", "y");
        nodes.settle();
        if run % 20 == 0 {
            nodes.feeds[1].resumed();
            nodes.settle();
        }
    }
    for ears in &mut ears {
        assert_eq!(ids(ears).len(), 3 * 149, "and nobody is told that something was missed");
    }
}
