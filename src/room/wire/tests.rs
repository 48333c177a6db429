//! What goes over the bus: bytes that later versions read as well, and nothing that comes back as something else.

use std::num::NonZeroUsize;
use std::time::Duration;

use proptest::prelude::Strategy;
use proptest::prelude::any;
use proptest::prelude::prop;
use proptest::proptest;

use crate::room::mark::Stamp;

use super::*;

fn id(index: u64) -> EventId {
    EventId { epoch: 1, revision: 2, index }
}

fn event(index: u64, audience: Audience) -> Event {
    Event::received(id(index), "record:updated".to_owned(), audience, Bytes::from_static(b"{\"a\":1}"), 9)
}

fn mark() -> Mark {
    let others = Some([(NodeId(2), 20), (NodeId(3), 30)].into());
    Mark { stamp: Stamp { origin: NodeId(1), number: 10 }, others }
}

fn told() -> Told {
    let events = [event(5, Audience::Room), event(6, Audience::User("alice".into()))].map(Arc::new);
    Told { mark: mark(), begin: 4, age_ms: 7, events: Some(events.into()) }
}

fn settings() -> RoomSettings {
    RoomSettings { max_clients: NonZeroUsize::new(3), ttl: Some(Duration::from_secs(60)), history_events: 5 }
}

/// One of each.
fn every_message() -> Vec<Message> {
    let numbers = vec![(NodeId(1), 10), (NodeId(2), 20)];
    let here = Here { asks: true, is_in: true, follows: false, begin: 4, known: numbers.clone(), settings: None };
    let member = Member {
        peer: 7,
        since_ms: 8,
        user: Some("alice".into()),
        name: None,
        email: Some("a@example.org".into()),
        clients: vec![(99, Bytes::from_static(b"{}"))],
    };
    let missed = Missed {
        to: NodeId(2),
        part: 1,
        is_last: true,
        floor: numbers.clone(),
        gone_ms: 3,
        known: numbers.clone(),
        base: (id(1), mark()),
        told: vec![told(), Told { events: None, ..told() }],
    };
    let joined = Presence::Joined { user: Some("alice".into()), name: Some("Alice".into()), email: None };
    let presences = [
        joined,
        Presence::State { client: 99, state: Some(Bytes::from_static(b"{}")) },
        Presence::State { client: 99, state: None },
        Presence::Left,
    ];
    let mut all = vec![
        Message::Here(here.clone()),
        Message::Here(Here { settings: Some((6, settings())), ..here }),
        Message::Bye,
        Message::Told(told()),
        Message::Passed { key: "cursor 99".into(), mark: mark(), event: event(5, Audience::OthersElsewhere(7)) },
        Message::Want { whom: NodeId(1), have: numbers },
        Message::Missed(missed),
        Message::Where(id(5)),
        Message::Point { id: id(5), mark: mark() },
        Message::Set { at_ms: 6, settings: settings() },
        Message::Members { is_first: true, is_last: false, members: vec![member] },
        Message::Parcel { age_ms: 7, event: event(5, Audience::Room) },
        Message::Signed(id(5)),
    ];
    all.extend(presences.map(|presence| Message::Member { peer: 7, at_ms: 8, presence }));
    all
}

#[test]
fn what_is_said_is_what_is_heard() {
    for message in every_message() {
        assert_eq!(Message::decode(message.encode()), Some(message));
    }
}

#[test]
fn the_bytes_are_those_of_version_1() {
    let hex = |message: &Message| message.encode().iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let node = |node: u8| format!("{node:016x}");
    let others = format!("02{}{}{}{}", node(2), node(20), node(3), node(30));
    let mark_bytes = format!("{}{}{others}", node(1), node(10));
    let id_bytes = |index: u8| format!("{}{}{}", node(1), node(2), node(index));
    assert_eq!(hex(&Message::Bye), "0101");
    assert_eq!(hex(&Message::Signed(id(5))), format!("010c{}", id_bytes(5)));
    let event = |audience: &str| format!("0e7265636f72643a75706461746564{audience}{}077b2261223a317d", node(9));
    let want =
        format!("0102{mark_bytes}{}{}01{}02{}{}", node(4), node(7), id_bytes(5), event("00"), event("0105616c696365"));
    assert_eq!(hex(&Message::Told(told())), want);
    let want = format!("0104030000000000000102{}{}{}{}", node(1), node(10), node(2), node(20));
    let have = vec![(NodeId(1), 10), (NodeId(2), 20)];
    assert_eq!(hex(&Message::Want { whom: NodeId(0x0300_0000_0000_0001), have }), want);
}

#[test]
fn a_message_that_is_cut_short_or_goes_on_is_none() {
    for message in every_message() {
        let whole = message.encode();
        for length in 0..whole.len() {
            assert_eq!(Message::decode(whole.slice(..length)), None, "{message:?} cut at {length}");
        }
        let longer: Bytes = whole.iter().copied().chain([0]).collect();
        assert_eq!(Message::decode(longer), None);
        let newer: Bytes = [2].into_iter().chain(whole[1..].iter().copied()).collect();
        assert_eq!(Message::decode(newer), None);
    }
}

#[test]
fn an_event_is_one_object_on_one_line_under_a_name() {
    let decoded = |name: &str, json: &'static str| {
        let event = Event::received(id(1), name.to_owned(), Audience::Room, Bytes::from_static(json.as_bytes()), 0);
        Message::decode(Message::Parcel { age_ms: 0, event }.encode())
    };
    assert!(decoded("x", "{}").is_some());
    for (name, json) in
        [("x", "{\n}"), ("x", "{"), ("x", "[]"), ("x", "{}{}"), ("x", ""), ("", "{}"), ("a\nb", "{}"), ("x", "{\r}")]
    {
        assert!(decoded(name, json).is_none(), "{name:?} {json:?}");
    }
    assert!(decoded(&"x".repeat(2_000), "{}").is_none());
}

#[test]
fn lists_are_no_longer_than_may_be() {
    let numbers = |count: u64| Message::Want { whom: NodeId(1), have: (0..count).map(|n| (NodeId(n), n)).collect() };
    assert!(Message::decode(numbers(65).encode()).is_some() && Message::decode(numbers(66).encode()).is_none());
    let settings = RoomSettings { history_events: usize::MAX, ..settings() };
    assert!(Message::decode(Message::Set { at_ms: 1, settings }.encode()).is_none());
}

fn changed() -> impl Strategy<Value = Vec<u8>> {
    let all: Vec<Vec<u8>> = every_message().iter().map(|message| message.encode().to_vec()).collect();
    let edits = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4);
    (prop::sample::select(all), edits).prop_map(|(mut bytes, edits)| {
        for (place, byte) in edits {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        bytes
    })
}

proptest! {
    #[test]
    fn whatever_comes_is_read_or_passed_over(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Message::decode(bytes.into());
    }

    #[test]
    fn what_can_be_read_says_the_same_when_it_is_said_again(bytes in changed()) {
        if let Some(message) = Message::decode(bytes.into()) {
            let again = Message::decode(message.encode());
            proptest::prop_assert_eq!(again, Some(message));
        }
    }
}
