//! What passes, what is told in several rooms, who is in a room, and how many may be.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;
use serde_json::json;

use crate::config::RoomRule;
use crate::event::Event;
use crate::event::EventId;
use crate::event::Happening;
use crate::event::Listener;
use crate::name::DocName;
use crate::name::RoomName;
use crate::room::FeedLimits;
use crate::room::Feeds;
use crate::room::Heard;
use crate::room::Listening;
use crate::room::SettingsPatch;
use crate::store::Epoch;
use crate::store::Seq;
use crate::table::change::Author;
use crate::table::change::ChangeSet;
use crate::table::change::Changed;
use crate::table::change::Life;
use crate::table::change::RowChange;
use crate::table::events::Presence;
use crate::table::events::Publish;

use super::all;
use super::feeds;
use super::listen;
use super::room;
use super::tell;

fn pass(feeds: &Feeds, name: &str, key: &str, event: &'static str) {
    feeds.pass(&[room(name)], key, &Author::default(), 0, Happening::new(event));
}

fn events(listening: &mut Listening) -> Vec<Arc<Event>> {
    let next = || match listening.cursor.try_next() {
        Some(Heard::Event(event)) => Some(event),
        Some(Heard::Lagged(_)) => panic!("nothing is missed"),
        None => None,
    };
    std::iter::from_fn(next).collect()
}

fn joined(user: &str) -> Presence {
    Presence::Joined { user: Some(user.into()), name: Some(user.into()), email: None }
}

fn state(client: u64, state: &Value) -> Presence {
    Presence::State { client, state: Some(Bytes::from(state.to_string())) }
}

#[test]
fn who_is_awake_hears_each_and_who_is_slow_the_last_of_each_key() {
    let feeds = feeds(FeedLimits::default());
    let (mut awake, mut slow) = (listen(&feeds, "r", None), listen(&feeds, "r", None));
    let mut heard = Vec::new();
    for (key, event) in [("a", "a1"), ("b", "b1"), ("a", "a2"), ("a", "a3")] {
        pass(&feeds, "r", key, event);
        heard.extend(all(&mut awake));
    }
    assert_eq!(heard, ["a1", "b1", "a2", "a3"]);
    assert_eq!(all(&mut slow), ["b1", "a3"]);
    assert_eq!(all(&mut slow), [""; 0]);
}

#[test]
fn what_passes_has_ids_between_those_of_what_is_kept_and_is_never_replayed() {
    let feeds = feeds(FeedLimits::default());
    let before = tell(&feeds, "r", "before");
    let mut reader = listen(&feeds, "r", None);
    for event in ["p1", "p2"] {
        pass(&feeds, "r", event, event);
        tell(&feeds, "r", "kept");
    }
    pass(&feeds, "r", "p3", "p3");
    let heard = events(&mut reader);
    let names: Vec<_> = heard.iter().map(|event| &*event.name).collect();
    assert_eq!(names, ["p1", "kept", "p2", "kept", "p3"]);
    assert!(heard.is_sorted_by(|one, two| one.id < two.id) && before < heard[0].id);
    // Whoever comes back behind any of them misses what is kept, once.
    for (place, event) in heard.iter().enumerate() {
        let missed = names[place + 1..].iter().filter(|name| **name == "kept").count();
        let mut back = listen(&feeds, "r", Some(event.id));
        assert_eq!((back.recovered, all(&mut back)), (true, vec!["kept".to_owned(); missed]), "behind {place}");
    }
    let later = EventId { index: heard[4].id.index + 1, ..heard[4].id };
    assert!(!listen(&feeds, "r", Some(later)).recovered, "that is an id of nothing");
}

#[test]
fn an_id_of_something_that_passed_is_forgotten_with_what_came_before_it() {
    let feeds = feeds(FeedLimits { events_max: 100, ..FeedLimits::default() });
    let mut reader = listen(&feeds, "r", None);
    tell(&feeds, "r", "first");
    pass(&feeds, "r", "p", "p");
    let passed = events(&mut reader)[1].id;
    (0..100).for_each(|_| {
        tell(&feeds, "r", "more");
    });
    assert!(listen(&feeds, "r", Some(passed)).recovered, "what was told since is still there");
    (0..2).for_each(|_| {
        tell(&feeds, "r", "more");
    });
    assert!(!listen(&feeds, "r", Some(passed)).recovered);
    let none = Feeds::new(FeedLimits { events_max: 0, ..FeedLimits::default() }, crate::clock::Clock::start());
    let mut reader = listen(&none, "r", None);
    pass(&none, "r", "p", "p");
    let passed = events(&mut reader)[0].id;
    assert!(listen(&none, "r", Some(passed)).recovered, "nothing was told since");
    tell(&none, "r", "more");
    assert!(!listen(&none, "r", Some(passed)).recovered);
}

#[test]
fn what_is_kept_is_not_missed_by_somebody_who_knows_what_passed_meanwhile() {
    let feeds = feeds(FeedLimits { roots_pause: Duration::from_secs(3600), ..FeedLimits::default() });
    let opened = feeds.open(&DocName::parse("notes").unwrap(), Epoch(0), Seq(0));
    let mut reader = listen(&feeds, "notes", None);
    for seq in [1, 2] {
        let typed = ChangeSet { roots: ["a".into()].into(), ..ChangeSet::default() };
        opened.changed(Epoch(0), Seq(seq), typed);
        pass(&feeds, "notes", "cursor", "cursor");
    }
    let heard = events(&mut reader);
    assert_eq!(heard.iter().map(|event| &*event.name).collect::<Vec<_>>(), ["document:changed", "cursor"]);
    feeds.flush();
    let mut back = listen(&feeds, "notes", Some(heard[1].id));
    let missed = events(&mut back);
    assert_eq!((back.recovered, missed.len(), missed[0].id.revision), (true, 1, 2));
    assert_eq!(events(&mut reader), missed, "who stayed hears it as well");
    assert_eq!(tell(&feeds, "notes", "x").revision, 2);
}

#[test]
fn where_nobody_listens_nothing_passes() {
    let feeds = feeds(FeedLimits::default());
    pass(&feeds, "r", "a", "unheard");
    assert_eq!(feeds.stats().all.rooms, 0);
    let mut reader = listen(&feeds, "r", None);
    pass(&feeds, "r", "a", "heard");
    assert_eq!(all(&mut reader), ["heard"]);
    assert!(feeds.stats().bytes > 0);
    drop(reader);
    feeds.sweep();
    assert_eq!((feeds.stats().all.rooms, feeds.stats().bytes), (0, 0));
}

#[test]
fn a_listener_that_is_far_behind_what_passes_is_told_and_hears_the_rest() {
    let feeds = feeds(FeedLimits::default());
    let mut slow = listen(&feeds, "r", None);
    tell(&feeds, "r", "kept");
    for key in 0..5_000 {
        pass(&feeds, "r", &key.to_string(), "p");
    }
    let heard = all(&mut slow);
    assert_eq!(heard[..3], ["kept", "!", "p"]);
    assert!(heard.len() > 1_000 && heard[2..].iter().all(|name| name == "p"));
}

#[test]
fn the_same_told_in_several_rooms_is_one_story() {
    let feeds = feeds(FeedLimits::default());
    let rooms = [room("a"), room("b")];
    let mut both = rooms.each_ref().map(|room| listen(&feeds, room.as_str(), None));
    let ids = feeds.publish_all(&rooms, &Author::default(), ["x", "y"].map(Happening::new).into());
    feeds.pass(&rooms, "k", &Author::default(), 0, Happening::new("z"));
    tell(&feeds, "a", "alone");
    let [a, b] = both.each_mut().map(events);
    assert_eq!((a.len(), b.len(), ids), (4, 3, vec![a[1].id, b[1].id]));
    for (a, b) in a.iter().zip(&b) {
        assert_eq!((&a.name, a.story), (&b.name, b.story));
        assert_ne!(a.json, b.json, "each has the room and the id of its own");
    }
    let stories: BTreeMap<u64, &str> = a.iter().map(|event| (event.story, &*event.name)).collect();
    assert_eq!((stories.len(), stories[&0]), (4, "alone"));
    feeds.publish_all(&rooms[..1], &Author::default(), vec![Happening::new("one room")]);
    assert_eq!(events(&mut both[0])[0].story, 0);
}

#[test]
fn the_others_hear_who_comes_what_it_shows_and_that_it_goes() {
    let feeds = feeds(FeedLimits::default());
    let name = room("project:P");
    let ears = |peer| feeds.listen(&name, Listener { user: None, peer: Some(peer) }, None).unwrap();
    let (mut own, mut other) = (ears(1), ears(2));
    for presence in [joined("alice"), state(7, &json!({"cursor": {"x": 1}})), Presence::Left] {
        feeds.presence(&name, 1, 1_000, presence);
    }
    feeds.presence(&name, 3, 1_000, Presence::Left);
    let heard = events(&mut other);
    let bodies: Vec<Value> = heard.iter().map(|event| serde_json::from_slice(&event.json).unwrap()).collect();
    let of = |body: &Value| body["type"].as_str().unwrap().to_owned();
    // It left before it was heard to come.
    assert_eq!(bodies.iter().map(of).collect::<Vec<_>>(), ["user:cursor-moved", "user:left"]);
    let want = json!({
        "type": "user:cursor-moved", "eventId": heard[0].id.to_string(), "room": "project:P", "userId": "alice",
        "timestamp": "1970-01-01T00:00:01.000Z", "source": "user_action", "projectId": "P", "clientId": 7,
        "position": {"x": 1}, "data": {"userId": "alice", "clientId": 7, "position": {"x": 1}},
    });
    assert_eq!(bodies[0], want);
    assert_eq!(all(&mut own), [""; 0]);
}

#[test]
fn a_room_lists_who_is_there_and_lasts_as_long() {
    let feeds = feeds(FeedLimits { keep: Some(Duration::ZERO), ..FeedLimits::default() });
    let name = room("lobby");
    feeds.presence(&name, 1, 1_000, joined("alice"));
    feeds.presence(&name, 1, 1_000, state(7, &json!({"a": 1})));
    feeds.sweep();
    let members = feeds.members(&name);
    assert_eq!((members.len(), &members[0].client_ids[..], &members[0].state), (1, &[7][..], &json!({"a": 1})));
    let stats = feeds.stats();
    assert_eq!((stats.all.members, stats.by_kind["other"].members, stats.by_kind["table"].rooms), (1, 1, 0));
    feeds.presence(&name, 1, 1_000, Presence::Left);
    assert_eq!(feeds.members(&name), []);
    feeds.sweep();
    assert_eq!(feeds.stats().all.rooms, 0);
}

#[test]
fn a_document_that_leaves_memory_takes_along_those_it_had() {
    let feeds = feeds(FeedLimits::default());
    let doc = DocName::parse("table:T").unwrap();
    let mut ears = listen(&feeds, "table:T", None);
    let opened = feeds.open(&doc, Epoch(0), Seq(0));
    opened.presence(1, 1_000, joined("alice"));
    assert_eq!(all(&mut ears), ["user:joined"]);
    let again = feeds.open(&doc, Epoch(0), Seq(0));
    again.presence(1, 1_000, joined("alice"));
    drop(opened);
    assert_eq!((all(&mut ears), feeds.members(&room("table:T")).len()), (vec![], 1), "the next one has taken over");
    drop(again);
    assert_eq!((all(&mut ears), feeds.members(&room("table:T")).len()), (vec!["user:left".to_owned()], 0));
}

fn rule(pattern: &str, max_clients: usize, ttl: Option<Duration>) -> FeedLimits {
    let max_clients = NonZeroUsize::new(max_clients);
    let rule = RoomRule { pattern: pattern.into(), max_clients, ttl, history_events: None };
    FeedLimits { rules: vec![rule], ..FeedLimits::default() }
}

#[test]
fn a_full_room_lets_nobody_in_until_somebody_leaves() {
    let feeds = feeds(rule("table:*", 2, None));
    let name = room("table:T");
    let first = feeds.enter(&name, 1).unwrap();
    let again = feeds.enter(&name, 1).unwrap();
    let second = feeds.enter_unnumbered(&name).unwrap();
    assert_eq!(feeds.enter(&name, 3).err().map(|full| full.max_clients), Some(2));
    drop(first);
    assert!(feeds.enter(&name, 3).is_err(), "it is there in another way still");
    drop(again);
    let third = feeds.enter(&name, 3).unwrap();
    assert!(feeds.enter(&name, 4).is_err());
    let raised = feeds.configure(&name, SettingsPatch { max_clients: Some(0), ..SettingsPatch::default() });
    assert_eq!(raised.unwrap().max_clients, None);
    assert!(feeds.enter(&name, 4).is_ok());
    drop((second, third));
    let unlimited: Vec<_> = (0..10).map(|peer| feeds.enter(&room("lobby"), peer).unwrap()).collect();
    assert_eq!(unlimited.len(), 10);
}

#[test]
fn a_room_that_nobody_uses_is_forgotten_after_its_time() {
    let feeds = feeds(rule("brief", 0, Some(Duration::ZERO)));
    let patch = SettingsPatch { history_events: Some(5), ..SettingsPatch::default() };
    for name in ["brief", "lasting"] {
        feeds.configure(&room(name), patch).unwrap();
        tell(&feeds, name, "x");
    }
    let seat = feeds.enter(&room("brief"), 1).unwrap();
    feeds.sweep();
    assert_eq!(feeds.stats().all.rooms, 2, "somebody is there");
    drop(seat);
    while feeds.stats().all.rooms > 1 {
        feeds.sweep(); // Until a millisecond has passed.
    }
    let settings = |name| feeds.configure(&room(name), SettingsPatch::default()).unwrap().history_events;
    assert_eq!((settings("brief"), settings("lasting")), (FeedLimits::default().events_max, 5));
}

#[test]
fn a_room_may_remember_less_than_others() {
    let feeds = feeds(FeedLimits::default());
    feeds.configure(&room("r"), SettingsPatch { history_events: Some(0), ..SettingsPatch::default() }).unwrap();
    for name in ["r", "s"] {
        let first = tell(&feeds, name, "a");
        tell(&feeds, name, "b");
        assert_eq!(listen(&feeds, name, Some(first)).recovered, name == "s");
    }
}

#[test]
fn rooms_with_settings_of_their_own_are_forgotten_last() {
    let feeds = feeds(FeedLimits { rooms_max: 10, ..FeedLimits::default() });
    let name = RoomName::parse("set").unwrap();
    feeds.configure(&name, SettingsPatch { history_events: Some(5), ..SettingsPatch::default() }).unwrap();
    (0..1000).for_each(|n| {
        tell(&feeds, &n.to_string(), "a");
    });
    assert_eq!(feeds.configure(&name, SettingsPatch::default()).unwrap().history_events, 5);
}

#[test]
fn what_a_document_tells_elsewhere_is_the_same_story_and_told_once() {
    let feeds = feeds(FeedLimits::default());
    let opened = feeds.open(&DocName::parse("channel:H").unwrap(), Epoch(0), Seq(0));
    let mut channel = listen(&feeds, "channel:H", None);
    let mut thread = listen(&feeds, "thread:1", None);
    let cell = |new: &str| Changed { old: Value::Null, new: new.into() };
    let message = |text: &str| RowChange {
        life: Some(Life::Created),
        version: 1,
        cells: [("text".into(), cell(text)), ("threadId".into(), cell("1"))].into(),
        ..RowChange::default()
    };
    let sent = |text: &str| {
        let rows = [("m1".into(), Box::new(message(text))), ("m2".into(), Box::new(message(text)))];
        ChangeSet { rows: rows.into(), at_ms: 1_000, ..ChangeSet::default() }
    };
    opened.changed(Epoch(0), Seq(1), sent("hello"));
    opened.changed(Epoch(0), Seq(1), sent("hello"));
    let (here, there) = (events(&mut channel), events(&mut thread));
    assert_eq!((here.len(), there.len()), (2, 2), "not again, when the document is loaded again");
    for (here, there) in here.iter().zip(&there) {
        assert_eq!((&*here.name, here.story), ("message:sent", there.story));
        assert_ne!(here.story, 0);
    }
    assert_ne!(here[0].story, here[1].story);
    opened.changed(Epoch(0), Seq(2), sent("hello"));
    assert_ne!(events(&mut channel)[0].story, here[0].story, "the same said again is another story");
    opened.changed(Epoch(0), Seq(3), ChangeSet { rows: [("m3".into(), Box::default())].into(), ..sent("") });
    assert!(events(&mut channel).iter().all(|event| event.story == 0));
}

/// Whatever is kept, passes and is held back, in whatever order: whoever comes back behind anything it heard hears exactly
/// what was kept since, or is told that something is missing.
#[test]
fn coming_back_behind_anything_that_was_heard_is_exact_or_refused() {
    for seed in 1..100_u64 {
        let limits = FeedLimits { events_max: 120, roots_pause: Duration::from_secs(3600), ..FeedLimits::default() };
        let feeds = feeds(limits);
        let opened = feeds.open(&DocName::parse("notes").unwrap(), Epoch(0), Seq(0));
        let mut reader = listen(&feeds, "notes", None);
        let (mut heard, mut seq, mut chance): (Vec<Arc<Event>>, u64, u64) = (Vec::new(), 0, seed);
        for _ in 0..400 {
            chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            match (chance >> 33) % 6 {
                0 => {
                    feeds.publish(&room("notes"), &Author::default(), ["a", "b"].map(Happening::new).into());
                }
                1 | 2 => pass(&feeds, "notes", "k", "passing"),
                3 | 4 => {
                    seq += 1;
                    let typed = ChangeSet { roots: ["a".into()].into(), ..ChangeSet::default() };
                    opened.changed(Epoch(0), Seq(seq), typed);
                }
                _ => feeds.flush(),
            }
            heard.extend(events(&mut reader));
            let Some(known) = heard.get(usize::try_from(chance >> 40).unwrap() % (heard.len() + 1)) else { continue };
            let mut back = listen(&feeds, "notes", Some(known.id));
            let missed: Vec<EventId> = events(&mut back).iter().map(|event| event.id).collect();
            let kept = heard.iter().filter(|event| event.name != "passing" && event.id > known.id);
            let want: Vec<EventId> = kept.map(|event| event.id).collect();
            let gone = heard.iter().rev().filter(|event| event.name != "passing").take(119).last();
            assert_eq!(missed, if back.recovered { want } else { Vec::new() }, "seed {seed}");
            assert!(
                back.recovered || gone.is_some_and(|gone| known.id < gone.id),
                "seed {seed}: nothing was forgotten"
            );
        }
        assert!(heard.is_sorted_by(|one, two| one.id < two.id), "seed {seed}");
    }
}
