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

use crate::clock::Clock;
use crate::config::RoomRule;
use crate::event::Happening;
use crate::name::RoomName;

use super::feed::Feed;
use super::settings::RoomSettings;

/// Bits of an id's index that count within a millisecond; the rest is the time. A thousand events a microsecond.
const TICK_BITS: u32 = 20;

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
    bytes: AtomicUsize,
    ticks: AtomicU64,
    stories: AtomicU64,
    seed: RandomState,
    /// Rooms that hold something back: each once.
    due: Mutex<Vec<Weak<Feed>>>,
}

impl House {
    pub(super) fn new(limits: FeedLimits, clock: Clock) -> Self {
        Self {
            limits,
            clock,
            bytes: AtomicUsize::new(0),
            ticks: AtomicU64::new(0),
            // 0 is no story.
            stories: AtomicU64::new(1),
            seed: RandomState::new(),
            due: Mutex::default(),
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

    /// The first of so many numbers that this process, and those before it, have never given. They follow the wall clock
    /// and never go back while the process lives; a clock that is set back while it is down must have caught up before the
    /// next start.
    pub(super) fn tick(&self, count: usize) -> u64 {
        let now = self.clock.now().wall_ms << TICK_BITS;
        let next = |last: u64| Some(last.max(now) + count as u64);
        let last = self.ticks.fetch_update(Ordering::AcqRel, Ordering::Acquire, next);
        last.unwrap_or_else(|last| last).max(now)
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
