//! Streams of which the last word counts: of what is told too often, the last of each pause, and the lists in it joined.
//! Time comes in.

use std::collections::HashMap;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Map;
use serde_json::Value;
use syncline_protocol::Moment;

use crate::event::Happening;
use crate::name::RoomName;
use crate::table::change::Author;
use crate::table::events::value_weight;

/// One stream is told at most so often.
pub(super) const PAUSE: Duration = Duration::from_millis(250);
/// Streams that were told within the last pause. Full: what belongs to another stream is told at once.
const STREAMS_MAX: usize = 65_536;
/// What is held back, together. Full: as above.
const HELD_BYTES_MAX: usize = 64 << 20;
/// Items of one joined list. Full: the oldest go.
const ITEMS_MAX: usize = 1_000;
/// About what one joined list may take. Full: the oldest go.
const ITEMS_BYTES_MAX: usize = 256 << 10;

/// A stream: the room that it is told in first, and its name there.
type Key = (RoomName, Arc<str>);

/// What is told in a stream.
#[derive(Debug, Clone, PartialEq)]
pub struct Word {
    /// Where, at least one room. The stream belongs to the first.
    pub rooms: Vec<RoomName>,
    /// Who tells it.
    pub author: Author,
    /// What.
    pub happening: Happening,
    /// Members of its data whose lists go on where the list that is held back ends; each a path.
    pub append: Vec<Vec<String>>,
}

/// Streams, and what is held back of them.
#[derive(Default)]
pub(super) struct Coalescer {
    /// With what is held back, and what it weighs.
    streams: HashMap<Key, Option<(Word, usize)>>,
    /// When the pause of each stream is over; each stands here once, in order, as all pauses are equal.
    due: VecDeque<(Moment, Key)>,
    held_bytes: usize,
}

impl Coalescer {
    /// Takes a word of a stream, and gives it back if it is to be told at once.
    #[must_use]
    pub(super) fn offer(&mut self, now: Moment, stream: &str, word: Word) -> Option<Word> {
        let Some(room) = word.rooms.first() else { return Some(word) };
        let key = (room.clone(), Arc::from(stream));
        let Some(slot) = self.streams.get_mut(&key) else {
            if self.streams.len() < STREAMS_MAX {
                self.streams.insert(key.clone(), None);
                self.due.push_back((now.after(PAUSE), key));
            }
            return Some(word);
        };
        let held = slot.take();
        let before = held.as_ref().map_or(0, |(_, weight)| *weight);
        let word = match held {
            Some((held, _)) => joined(held, word),
            None => word,
        };
        let weight = weight(&word.happening);
        self.held_bytes -= before;
        if self.held_bytes + weight > HELD_BYTES_MAX {
            return Some(word);
        }
        self.held_bytes += weight;
        *slot = Some((word, weight));
        None
    }

    /// What is to be told now. Each of it begins a pause of its own.
    #[must_use]
    pub(super) fn take_due(&mut self, now: Moment) -> Vec<Word> {
        let mut words = Vec::new();
        while self.due.front().is_some_and(|(at, _)| *at <= now) {
            let Some((_, key)) = self.due.pop_front() else { break };
            match self.streams.get_mut(&key).and_then(Option::take) {
                Some((word, weight)) => {
                    self.held_bytes -= weight;
                    words.push(word);
                    self.due.push_back((now.after(PAUSE), key));
                }
                None => drop(self.streams.remove(&key)),
            }
        }
        words
    }

    /// When to look again; `None`: no stream was told lately.
    pub(super) fn next_due(&self) -> Option<Moment> {
        self.due.front().map(|(at, _)| *at)
    }
}

/// The later word, with the lists of the earlier before its own.
fn joined(held: Word, mut word: Word) -> Word {
    for path in &word.append {
        let (Some(Value::Array(before)), Some(Value::Array(after))) =
            (found(&held.happening.data, path), found_mut(&mut word.happening.data, path))
        else {
            continue;
        };
        let all: Vec<Value> = before.iter().cloned().chain(after.drain(..)).collect();
        *after = newest(all);
    }
    word
}

/// The end of a list, as much of it as may be.
fn newest(mut items: Vec<Value>) -> Vec<Value> {
    let mut bytes = 0;
    let fits = |item: &&Value| {
        bytes += value_weight(item);
        bytes <= ITEMS_BYTES_MAX
    };
    let kept = items.iter().rev().take(ITEMS_MAX).take_while(fits).count();
    items.split_off(items.len() - kept)
}

fn found<'a>(data: &'a Map<String, Value>, path: &[String]) -> Option<&'a Value> {
    let (first, rest) = path.split_first()?;
    rest.iter().try_fold(data.get(first)?, |value, name| value.get(name))
}

fn found_mut<'a>(data: &'a mut Map<String, Value>, path: &[String]) -> Option<&'a mut Value> {
    let (first, rest) = path.split_first()?;
    rest.iter().try_fold(data.get_mut(first)?, |value, name| value.get_mut(name))
}

fn weight(happening: &Happening) -> usize {
    let fields = happening.fields.iter().chain(&happening.data);
    fields.map(|(name, value)| name.len() + value_weight(value)).sum()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn word(room: &str, data: Value, append: &[&str]) -> Word {
        let Value::Object(data) = data else { panic!("data is an object") };
        let path = |path: &&str| path.split('.').map(str::to_owned).collect();
        Word {
            rooms: vec![RoomName::parse(room).unwrap()],
            author: Author::default(),
            happening: Happening { data, ..Happening::new("task_progress") },
            append: append.iter().map(path).collect(),
        }
    }

    fn n(n: u64) -> Word {
        word("r", json!({"n": n}), &[])
    }

    fn data(word: Word) -> Value {
        Value::from(word.happening.data)
    }

    fn due(coalescer: &mut Coalescer, at: u64) -> Vec<Value> {
        coalescer.take_due(Moment(at)).into_iter().map(data).collect()
    }

    #[test]
    fn the_first_is_told_at_once_and_then_the_last_of_each_pause() {
        let mut coalescer = Coalescer::default();
        assert_eq!(coalescer.next_due(), None);
        assert_eq!(coalescer.offer(Moment(0), "k", n(0)), Some(n(0)));
        assert_eq!([1, 2].map(|i| coalescer.offer(Moment(i), "k", n(i))), [None, None]);
        assert_eq!(coalescer.next_due(), Some(Moment(250)));
        assert_eq!(due(&mut coalescer, 249), [] as [Value; 0]);
        assert_eq!(due(&mut coalescer, 250), [json!({"n": 2})]);
        assert_eq!(coalescer.offer(Moment(300), "k", n(3)), None, "a pause follows what was told late too");
        assert_eq!(due(&mut coalescer, 499), [] as [Value; 0]);
        assert_eq!(due(&mut coalescer, 500), [json!({"n": 3})], "the last is always told");
        assert_eq!(due(&mut coalescer, 750), [] as [Value; 0]);
        assert_eq!((coalescer.streams.len(), coalescer.next_due(), coalescer.held_bytes), (0, None, 0));
        assert_eq!(coalescer.offer(Moment(751), "k", n(4)), Some(n(4)), "it is a first one again");
    }

    #[test]
    fn streams_do_not_wait_for_each_other() {
        let mut coalescer = Coalescer::default();
        let told = |coalescer: &mut Coalescer, room, key| coalescer.offer(Moment(0), key, word(room, json!({}), &[]));
        for (room, key) in [("r", "a"), ("r", "b"), ("s", "a")] {
            assert!(told(&mut coalescer, room, key).is_some());
            assert!(told(&mut coalescer, room, key).is_none());
        }
        assert_eq!(coalescer.take_due(Moment(250)).len(), 3);
    }

    #[test]
    fn lists_go_on_and_everything_else_is_replaced() {
        let mut coalescer = Coalescer::default();
        let mut offer = |data: Value| coalescer.offer(Moment(0), "k", word("r", data, &["logs", "task.lines", "none"]));
        assert!(offer(json!({"logs": [0]})).is_some());
        assert!(offer(json!({"logs": [1], "at": 1, "task": {"lines": ["a"], "x": [1]}})).is_none());
        assert!(offer(json!({"logs": [2, 3], "task": {"lines": ["b"], "x": [2]}})).is_none());
        assert_eq!(due(&mut coalescer, 250), [json!({"logs": [1, 2, 3], "task": {"lines": ["a", "b"], "x": [2]}})]);
        let mut offer = |data: Value| coalescer.offer(Moment(260), "k", word("r", data, &["logs"]));
        assert!(offer(json!({"logs": [4]})).is_none());
        assert!(offer(json!({"logs": "no list"})).is_none());
        assert_eq!(due(&mut coalescer, 500), [json!({"logs": "no list"})], "what was told is not told again");
    }

    #[test]
    fn a_joined_list_is_bounded_in_items_and_bytes_and_its_end_stays() {
        let mut coalescer = Coalescer::default();
        let mut offer = |items: Vec<Value>| coalescer.offer(Moment(0), "k", word("r", json!({"l": items}), &["l"]));
        assert!(offer(vec![]).is_some());
        (0..1_200).for_each(|i| assert!(offer(vec![json!(i)]).is_none()));
        let told = due(&mut coalescer, 250).remove(0);
        let items = told["l"].as_array().unwrap();
        assert_eq!((items.len(), &items[0], &items[999]), (1_000, &json!(200), &json!(1_199)));
        let mut offer = |text: String| coalescer.offer(Moment(251), "k", word("r", json!({"l": [text]}), &["l"]));
        (0..10).for_each(|i| assert!(offer(i.to_string().repeat(60_000)).is_none()));
        let told = due(&mut coalescer, 500).remove(0);
        assert_eq!((told["l"].as_array().unwrap().len(), &told["l"][3].as_str().unwrap()[..1]), (4, "9"));
    }

    #[test]
    fn more_than_can_be_held_is_told_at_once() {
        let mut coalescer = Coalescer::default();
        let large = || word("r", json!({"text": "x".repeat(200_000)}), &[]);
        let mut at_once = 0;
        for i in 0..1_000 {
            assert!(coalescer.offer(Moment(0), &i.to_string(), n(i)).is_some());
            at_once += usize::from(coalescer.offer(Moment(0), &i.to_string(), large()).is_some());
            assert!(coalescer.held_bytes <= HELD_BYTES_MAX);
        }
        assert!(at_once > 600);
        assert_eq!(coalescer.take_due(Moment(250)).len() + at_once, 1_000);
        assert_eq!(coalescer.held_bytes, 0);
        for i in 0..STREAMS_MAX as u64 + 10 {
            let _ = coalescer.offer(Moment(1_000), &format!("more {i}"), n(i));
        }
        assert_eq!((coalescer.streams.len(), coalescer.due.len()), (STREAMS_MAX, STREAMS_MAX));
        assert!(coalescer.offer(Moment(1_000), "one too many", n(1)).is_some());
        assert!(coalescer.offer(Moment(1_000), "one too many", n(2)).is_some());
    }
}
