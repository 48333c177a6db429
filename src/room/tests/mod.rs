//! What rooms keep, who hears it, and what becomes of those who are late.

use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures_util::poll;
use serde_json::Value;
use syncline_protocol::Moment;

use crate::bus::NodeId;
use crate::clock::Clock;
use crate::event::EventId;
use crate::event::Happening;
use crate::event::Listener;
use crate::name::DocName;
use crate::name::RoomName;
use crate::store::Epoch;
use crate::store::Seq;
use crate::table::change::Author;
use crate::table::change::ChangeSet;
use crate::table::events::Publish;

mod nodes;
mod passing;

use super::FeedLimits;
use super::Feeds;
use super::Heard;
use super::Listening;
use super::history::Content;
use super::history::Found;
use super::history::History;
use super::history::Keep;
use super::history::News;
use super::history::Place;
use super::mark::Known;

fn feeds(limits: FeedLimits) -> Arc<Feeds> {
    Feeds::new(limits, Clock::start())
}

fn room(name: &str) -> RoomName {
    RoomName::parse(name).unwrap()
}

fn tell(feeds: &Feeds, name: &str, event: &'static str) -> EventId {
    feeds.publish(&room(name), &Author::default(), vec![Happening::new(event)])
}

fn listen(feeds: &Feeds, name: &str, since: Option<EventId>) -> Listening {
    feeds.listen(&room(name), Listener::default(), since.map(|id| id.to_string()).as_deref()).unwrap()
}

/// Everything that is there, by name; `!` where something was missed.
fn all(listening: &mut Listening) -> Vec<String> {
    let mut names = Vec::new();
    while let Some(heard) = listening.cursor.try_next() {
        names.push(match heard {
            Heard::Event(event) => event.name.clone().into_owned(),
            Heard::Lagged(_) => "!".to_owned(),
        });
    }
    names
}

fn title(title: &str) -> ChangeSet {
    ChangeSet { meta: [("title".into(), Value::from(title))].into(), ..ChangeSet::default() }
}

#[tokio::test]
async fn who_listens_is_woken_and_hears_everything_once() {
    let feeds = feeds(FeedLimits::default());
    tell(&feeds, "r", "before");
    let mut listening = listen(&feeds, "r", None);
    let mut waiting = Box::pin(listening.cursor.next());
    assert!(poll!(&mut waiting).is_pending());
    tell(&feeds, "other", "elsewhere");
    let id = tell(&feeds, "r", "a");
    tell(&feeds, "r", "b");
    match poll!(&mut waiting) {
        Poll::Ready(Heard::Event(event)) => assert_eq!((event.id, &*event.name), (id, "a")),
        other => panic!("{other:?}"),
    }
    drop(waiting);
    assert_eq!(all(&mut listening), ["b"]);
}

#[test]
fn nobody_misses_anything_between_two_visits() {
    let feeds = feeds(FeedLimits::default());
    let fresh = listen(&feeds, "r", None).event_id;
    let ids = [tell(&feeds, "r", "a"), tell(&feeds, "r", "b"), tell(&feeds, "r", "c")];
    assert!(fresh < ids[0] && ids.is_sorted());
    for (since, missed) in [(fresh, vec!["a", "b", "c"]), (ids[0], vec!["b", "c"]), (ids[2], vec![])] {
        let mut back = listen(&feeds, "r", Some(since));
        assert_eq!(
            (back.recovered, back.event_id, all(&mut back)),
            (true, ids[2], missed.iter().map(|&n| n.into()).collect())
        );
    }
}

#[test]
fn an_id_that_is_not_of_this_room_recovers_nothing() {
    let feeds = feeds(FeedLimits::default());
    let elsewhere = tell(&feeds, "other", "x");
    let id = tell(&feeds, "r", "a");
    let later = EventId { index: id.index + 1, ..id };
    for since in [elsewhere, later, EventId { revision: 1, ..id }, EventId { epoch: 1, ..id }, EventId::default()] {
        let mut back = listen(&feeds, "r", Some(since));
        assert_eq!((back.recovered, back.event_id, all(&mut back)), (false, id, vec![]), "{since}");
        tell(&feeds, "s", "live");
    }
    for since in ["", "garbage", "-", &"0".repeat(10_000)] {
        assert!(!feeds.listen(&room("r"), Listener::default(), Some(since)).unwrap().recovered, "{since}");
    }
}

#[test]
fn one_transaction_is_several_events_and_one_can_come_back_between_them() {
    let feeds = feeds(FeedLimits::default());
    let published = feeds.publish(&room("r"), &Author::default(), ["a", "b", "c"].map(Happening::new).into());
    let first = EventId { index: published.index - 2, ..published };
    let mut back = listen(&feeds, "r", Some(first));
    assert_eq!((back.recovered, all(&mut back)), (true, vec!["b".to_owned(), "c".to_owned()]));
    assert!(tell(&feeds, "r", "d") > published);
}

#[test]
fn a_reader_that_falls_behind_is_told_and_goes_on() {
    let feeds = feeds(FeedLimits { events_max: 200, ..FeedLimits::default() });
    let mut slow = listen(&feeds, "r", None);
    for _ in 0..201 {
        tell(&feeds, "r", "lost");
    }
    let last = tell(&feeds, "r", "lost");
    assert_eq!(slow.cursor.try_next(), Some(Heard::Lagged(last)));
    assert_eq!(slow.cursor.try_next(), None);
    tell(&feeds, "r", "live");
    assert_eq!(all(&mut slow), ["live"]);
}

#[test]
fn without_a_history_who_listens_hears_and_who_was_away_is_told() {
    let feeds = feeds(FeedLimits { events_max: 0, ..FeedLimits::default() });
    let mut here = listen(&feeds, "r", None);
    let ids = [tell(&feeds, "r", "a"), tell(&feeds, "r", "b")];
    assert_eq!(all(&mut here), ["a", "b"]);
    assert!(!listen(&feeds, "r", Some(ids[0])).recovered);
    assert!(listen(&feeds, "r", Some(ids[1])).recovered, "nothing was missed");
}

#[test]
fn memory_is_bounded_in_a_room_and_in_all_of_them() {
    let (bytes_max, total_bytes_max) = (20_000, 100_000);
    let feeds = feeds(FeedLimits { bytes_max, total_bytes_max, ..FeedLimits::default() });
    let large = |name: &str| {
        let happening = Happening::new("large").with("text", "\u{1}".repeat(1_000));
        feeds.publish(&room(name), &Author::default(), vec![happening]);
    };
    // Encoded, a control character takes six bytes: what is read is counted with what it takes then.
    let mut reader = listen(&feeds, "r", None);
    for _ in 0..100 {
        large("r");
        let _ = reader.cursor.try_next();
        assert!(feeds.stats().bytes <= bytes_max);
    }
    for n in 0..100 {
        for _ in 0..10 {
            large(&n.to_string());
            assert!(feeds.stats().bytes <= total_bytes_max + bytes_max);
        }
    }
    drop(reader);
    drop(feeds);
}

#[test]
fn what_is_larger_than_a_history_may_be_is_not_kept_and_that_is_said() {
    let feeds = feeds(FeedLimits { bytes_max: 2_000, ..FeedLimits::default() });
    let mut reader = listen(&feeds, "r", None);
    let before = tell(&feeds, "r", "small");
    assert_eq!(all(&mut reader), ["small"]);
    let huge = Happening::new("huge").with("text", "x".repeat(10_000));
    let last = feeds.publish(&room("r"), &Author::default(), vec![huge]);
    assert_eq!(reader.cursor.try_next(), Some(Heard::Lagged(last)));
    assert!(!listen(&feeds, "r", Some(before)).recovered);
    assert_eq!(feeds.stats().bytes, 0);
}

#[test]
fn rooms_without_listeners_and_history_vanish() {
    let feeds = feeds(FeedLimits { keep: Some(Duration::ZERO), ..FeedLimits::default() });
    let held = listen(&feeds, "held", None);
    let doc = feeds.open(&DocName::parse("doc").unwrap(), Epoch(0), Seq(3));
    tell(&feeds, "gone", "a");
    while feeds.stats().all.rooms > 2 {
        feeds.sweep(); // Until a millisecond has passed.
    }
    drop(held);
    drop(doc);
    feeds.sweep();
    assert_eq!((feeds.stats().all.rooms, feeds.stats().bytes), (0, 0));
}

#[test]
fn the_number_of_rooms_is_bounded() {
    let feeds = feeds(FeedLimits { rooms_max: 10, ..FeedLimits::default() });
    for n in 0..1000 {
        tell(&feeds, &n.to_string(), "a");
        assert!(feeds.stats().all.rooms <= 10);
    }
    let held: Vec<_> = (0..10).map(|n| listen(&feeds, &format!("held {n}"), None)).collect();
    assert!(feeds.listen(&room("one more"), Listener::default(), None).is_err());
    tell(&feeds, "one more", "unheard");
    drop(held);
    assert!(feeds.listen(&room("one more"), Listener::default(), None).is_ok());
}

#[test]
fn ids_beside_the_log_stand_between_those_of_its_records() {
    let feeds = feeds(FeedLimits::default());
    let (doc, name) = (DocName::parse("table:T").unwrap(), room("table:T"));
    let early = tell(&feeds, "table:T", "before it was loaded");
    let opened = feeds.open(&doc, Epoch(1), Seq(7));
    assert!(feeds.has_document(&name));
    let beside = tell(&feeds, "table:T", "beside");
    assert_eq!((beside.epoch, beside.revision), (1, 7));
    opened.changed(Epoch(1), Seq(8), title("new"));
    let after = tell(&feeds, "table:T", "after");
    let mut everything = listen(&feeds, "table:T", Some(early));
    let mut ids = Vec::new();
    while let Some(Heard::Event(event)) = everything.cursor.try_next() {
        ids.push(event.id);
    }
    assert_eq!(ids, [beside, EventId { epoch: 1, revision: 8, index: 0 }, after]);
    assert!(early < ids[0] && ids.is_sorted());
    drop(opened);
    assert!(!feeds.has_document(&name));
}

#[test]
fn a_record_is_told_once_however_often_it_is_read() {
    let feeds = feeds(FeedLimits::default());
    let doc = DocName::parse("table:T").unwrap();
    let mut reader = listen(&feeds, "table:T", None);
    let opened = feeds.open(&doc, Epoch(0), Seq(0));
    for seq in [1, 2, 2, 1, 3] {
        opened.changed(Epoch(0), Seq(seq), title("new"));
    }
    opened.changed(Epoch(0), Seq(4), ChangeSet::default());
    assert_eq!(all(&mut reader), ["table:changed"; 3]);
    assert_eq!(tell(&feeds, "table:T", "x").revision, 4, "a record that changed nothing visible counts");
    opened.changed(Epoch(1), Seq(1), title("another life"));
    assert_eq!(all(&mut reader), ["x", "table:changed"]);
}

#[test]
fn typing_in_free_content_is_told_now_and_then() {
    let feeds = feeds(FeedLimits { roots_pause: Duration::from_secs(3600), ..FeedLimits::default() });
    let opened = feeds.open(&DocName::parse("notes").unwrap(), Epoch(0), Seq(0));
    let mut reader = listen(&feeds, "notes", None);
    let typed = |seq, root: &str| {
        opened.changed(Epoch(0), Seq(seq), ChangeSet { roots: [root.into()].into(), ..ChangeSet::default() });
    };
    let mut heard = || {
        let mut heard = Vec::new();
        while let Some(Heard::Event(event)) = reader.cursor.try_next() {
            let body: Value = serde_json::from_slice(&event.json).unwrap();
            heard.push((event.id.revision, body["data"]["roots"].to_string()));
        }
        heard
    };
    let one = |seq, roots: &str| vec![(seq, roots.to_owned())];
    typed(1, "a");
    assert_eq!(heard(), one(1, r#"["a"]"#), "the first at once");
    (2..100).for_each(|seq| typed(seq, "b"));
    typed(100, "a");
    assert_eq!(heard(), []);
    feeds.flush();
    assert_eq!(heard(), one(100, r#"["a","b"]"#));
    feeds.flush();
    assert_eq!(heard(), []);
    typed(101, "c");
    let beside = tell(&feeds, "notes", "x");
    assert_eq!(heard(), [(101, r#"["c"]"#.to_owned()), (101, "null".to_owned())], "what was held back goes first");
    assert_eq!(beside.revision, 101);
    typed(102, "c");
    opened.changed(Epoch(0), Seq(103), title("new"));
    feeds.flush();
    assert_eq!(heard().iter().map(|(revision, _)| *revision).collect::<Vec<_>>(), [102, 103]);
}

#[test]
fn what_is_for_one_user_is_heard_by_no_other() {
    let feeds = feeds(FeedLimits::default());
    let of = |user: Option<&str>| {
        let listener = Listener { user: user.map(Into::into), peer: None };
        feeds.listen(&room("r"), listener, None).unwrap()
    };
    let (mut alice, mut bob, mut nobody) = (of(Some("alice")), of(Some("bob")), of(None));
    let private = Happening::new("private").to("alice".into());
    feeds.publish(&room("r"), &Author::default(), vec![private, Happening::new("public")]);
    assert_eq!(all(&mut alice), ["private", "public"]);
    assert_eq!((all(&mut bob), all(&mut nobody)), (vec!["public".to_owned()], vec!["public".to_owned()]));
}

#[test]
fn everybody_is_sent_the_same_bytes() {
    let feeds = feeds(FeedLimits::default());
    let (mut one, mut two) = (listen(&feeds, "r", None), listen(&feeds, "r", None));
    tell(&feeds, "r", "a");
    let (Some(Heard::Event(one)), Some(Heard::Event(two))) = (one.cursor.try_next(), two.cursor.try_next()) else {
        panic!("both hear it");
    };
    assert!(Arc::ptr_eq(&one, &two));
}

#[test]
fn many_threads_tell_and_one_hears_them_in_order() {
    let feeds = feeds(FeedLimits { events_max: 10_000, ..FeedLimits::default() });
    let mut reader = listen(&feeds, "r", None);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                (0..1_000).for_each(|_| {
                    tell(&feeds, "r", "a");
                })
            });
        }
    });
    let mut last = EventId::default();
    let mut heard = 0;
    while let Some(Heard::Event(event)) = reader.cursor.try_next() {
        assert!(event.id > last);
        (last, heard) = (event.id, heard + 1);
    }
    assert_eq!(heard, 4_000);
}

/// The history against a list that forgets nothing: whoever comes back hears exactly what it missed, or is told.
#[test]
fn coming_back_is_exact_or_refused() {
    let limits = Keep { events_max: 120, keep: Some(Duration::from_millis(50)), bytes_max: 1 << 20 };
    for seed in 0..200_u64 {
        let mut known = Known::new(NodeId(0), 1);
        let mut history = History::new(EventId::default(), known.mark());
        let mut told: Vec<EventId> = Vec::new();
        let mut chance = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let mut draw = |below: u64| {
            chance ^= chance << 13;
            chance ^= chance >> 7;
            chance ^= chance << 17;
            chance % below
        };
        let mut now = Moment(0);
        for revision in 1..150 {
            now = Moment(now.0 + draw(4));
            let count = usize::try_from(1 + draw(5)).unwrap();
            let first = EventId { epoch: 0, revision, index: draw(3) };
            let news = News { first, count, bytes: 10, content: Content::Raw(()) };
            let _ = history.push(now, &limits, known.next(), news);
            told.extend((0..count).map(|index| first.plus(index)));
            let since = told[usize::try_from(draw(told.len() as u64)).unwrap()];
            let Some(Place { next, behind }) = history.resume(&limits, since) else { continue };
            let mut missed = Vec::new();
            for number in next..history.end() {
                let Found::Batch(batch) = history.find(number) else { panic!("seed {seed}: it was said to be there") };
                let Some(skip) = behind.as_ref().map_or(Some(0), |behind| behind.known_of(&batch)) else { continue };
                let of_it = told.iter().filter(|id| id.revision == batch.first().revision);
                missed.extend(of_it.skip(skip).copied());
            }
            let want: Vec<_> = told.iter().filter(|id| **id > since).copied().collect();
            assert_eq!(missed, want, "seed {seed}");
        }
        assert!(history.resume(&limits, *told.last().unwrap()).is_some());
        assert!(history.resume(&limits, told[0]).is_none(), "seed {seed}: the first is long gone");
    }
}
