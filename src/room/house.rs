//! What all rooms of one process share: limits, the clock, and what they take together.

use std::hash::BuildHasher;
use std::hash::RandomState;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::Weak;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::Map;
use serde_json::Value;

use crate::bus::NodeId;
use crate::clock::Clock;
use crate::config::RoomRule;
use crate::event::EventId;
use crate::event::Happening;
use crate::name::RoomName;

use super::feed::Feed;
use super::linked::Linked;
use super::settings::RoomSettings;

/// Of an id's index, the lowest bits count within a millisecond: a node that tells more of what is in no log in a
/// millisecond borrows from the next one.
const COUNT_BITS: u32 = 10;
/// Bits above those tell nodes apart; the rest is the time.
const TAG_BITS: u32 = 12;
/// The bits of what is in the log of a document count its events. Where each node has a log of its own, those above tell
/// nodes apart, below anything that has the time in it.
const LOG_COUNT_BITS: u32 = 20;
const LOG_TAG_BITS: u32 = 40;

/// Which of the nodes gave an id that is in no log.
pub(super) fn tag_of(id: EventId) -> u64 {
    (id.index >> COUNT_BITS) & ((1 << TAG_BITS) - 1)
}

/// What rooms may keep.
#[derive(Debug, Clone)]
pub struct FeedLimits {
    /// Events of one room. 0: nobody can come back to what was missed. A transaction is kept or forgotten as a whole.
    pub events_max: usize,
    /// For how long; `None` for as long as their number allows.
    pub keep: Option<Duration>,
    /// Free content that changes all the time is told to have changed so often.
    pub roots_pause: Duration,
    /// Bytes of one room. Full: the oldest go.
    pub bytes_max: usize,
    /// Bytes of all rooms. Full: each room that hears something lets go of the older half of what it keeps.
    pub total_bytes_max: usize,
    /// Rooms that are kept. Full: of those without listeners the half that was silent longest is forgotten; if there are
    /// none, what happens in further rooms is heard by nobody, and nobody may begin to listen there.
    pub rooms_max: usize,
    /// What holds in some rooms.
    pub rules: Vec<RoomRule>,
}

impl Default for FeedLimits {
    fn default() -> Self {
        Self {
            events_max: 1000,
            keep: Some(Duration::from_secs(3600)),
            roots_pause: Duration::from_secs(1),
            bytes_max: 8 << 20,
            total_bytes_max: 512 << 20,
            rooms_max: 100_000,
            rules: Vec::new(),
        }
    }
}

/// What all rooms share.
pub(super) struct House {
    pub(super) limits: FeedLimits,
    pub(super) clock: Clock,
    /// The way to other nodes, if there may be any.
    pub(super) link: Option<Linked>,
    bytes: AtomicUsize,
    /// Time and count of the next id that is in no log.
    ticks: AtomicU64,
    tag: AtomicU64,
    stories: AtomicU64,
    seed: RandomState,
    /// Rooms that hold something back: each once.
    due: Mutex<Vec<Weak<Feed>>>,
}

impl House {
    pub(super) fn new(limits: FeedLimits, clock: Clock, link: Option<Linked>) -> Self {
        let seed = RandomState::new();
        let tag = link.as_ref().map_or(0, |link| spread(link.node()) & ((1 << TAG_BITS) - 1));
        Self {
            limits,
            clock,
            link,
            bytes: AtomicUsize::new(0),
            ticks: AtomicU64::new(0),
            tag: AtomicU64::new(tag),
            // 0 is no story. Nodes begin at places of their own, far from each other.
            stories: AtomicU64::new(seed.hash_one("stories") >> 1 | 1),
            seed,
            due: Mutex::default(),
        }
    }

    /// This node.
    pub(super) fn node(&self) -> NodeId {
        self.link.as_ref().map_or(NodeId(0), Linked::node)
    }

    /// Where the numbers of the events of a record begin.
    pub(super) fn log_index(&self) -> u64 {
        let apart = self.link.as_ref().filter(|link| link.is_apart);
        apart.map_or(0, |link| spread(link.node()) >> (64 - LOG_TAG_BITS) << LOG_COUNT_BITS)
    }

    /// Another node gave this id. If it tells its ids apart by the same bits as this one, one of the two takes others.
    pub(super) fn mind(&self, id: EventId, origin: NodeId) {
        let tag = self.tag.load(Ordering::Relaxed);
        if id.index >> (COUNT_BITS + TAG_BITS) != 0 && tag_of(id) == tag && origin < self.node() {
            let next = spread(NodeId(self.node().0 ^ self.clock.now().wall_ms)) & ((1 << TAG_BITS) - 1);
            self.tag.store(next, Ordering::Relaxed);
        }
    }

    /// What the rules say of a room.
    pub(super) fn settings(&self, room: &RoomName) -> RoomSettings {
        RoomSettings::of(&self.limits.rules, self.limits.events_max, room)
    }

    /// Rooms that hold something back; after this, none does.
    pub(super) fn take_due(&self) -> Vec<Arc<Feed>> {
        let due = std::mem::take(&mut *self.due.lock().unwrap_or_else(PoisonError::into_inner));
        due.iter().filter_map(Weak::upgrade).collect()
    }

    /// The first of so many numbers that no story has had.
    pub(super) fn story(&self, count: usize) -> u64 {
        self.stories.fetch_add(count as u64, Ordering::Relaxed)
    }

    /// The number of something that is told of a transaction, in whatever room. That two of the few hundred that anybody
    /// remembers are the same by chance is less likely than that the machine fails; who tells does not know the seed.
    pub(super) fn story_of(&self, transaction: u64, happening: &Happening) -> u64 {
        let Happening { name, fields, data, .. } = happening;
        let text = |map: &Map<String, Value>| serde_json::to_string(map).unwrap_or_default();
        self.seed.hash_one((transaction, name, text(fields), text(data))) | 1
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// A room holds something back.
    pub(super) fn is_due(&self, feed: &Arc<Feed>) {
        self.due.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(feed));
    }

    /// The first of so many numbers, at most a thousand, that this process, those before it, and other nodes have never
    /// given. They follow the wall clock and never go back while the process lives; a clock that is set back while it is
    /// down must have caught up before the next start.
    pub(super) fn tick(&self, count: usize) -> u64 {
        let now = self.clock.now().wall_ms << COUNT_BITS;
        let first = |last: u64| {
            let first = last.max(now);
            let is_over = (first & ((1 << COUNT_BITS) - 1)) + count as u64 > 1 << COUNT_BITS;
            if is_over { ((first >> COUNT_BITS) + 1) << COUNT_BITS } else { first }
        };
        let next = |last: u64| Some(first(last) + count as u64);
        let last = self.ticks.fetch_update(Ordering::AcqRel, Ordering::Acquire, next);
        let first = first(last.unwrap_or_else(|last| last));
        let (ms, count) = (first >> COUNT_BITS, first & ((1 << COUNT_BITS) - 1));
        (ms << TAG_BITS | self.tag.load(Ordering::Relaxed)) << COUNT_BITS | count
    }

    pub(super) fn is_full(&self) -> bool {
        self.bytes.load(Ordering::Relaxed) > self.limits.total_bytes_max
    }

    /// Counts a room that had so many bytes and has so many now.
    pub(super) fn count(&self, before: usize, after: usize) {
        if after >= before {
            self.bytes.fetch_add(after - before, Ordering::Relaxed);
        } else {
            self.bytes.fetch_sub(before - after, Ordering::Relaxed);
        }
    }
}

/// A number's bits, in all of the places.
fn spread(node: NodeId) -> u64 {
    let mixed = (node.0 ^ node.0 >> 32).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    mixed ^ mixed >> 29
}
