//! The rooms of one process.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::Weak;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::clock::Clock;
use crate::event::EventId;
use crate::event::Happening;
use crate::event::Listener;
use crate::name::DocName;
use crate::name::RoomName;
use crate::store::Epoch;
use crate::store::Seq;
use crate::table::change::Author;
use crate::table::events::Publish;
use crate::table::events::Publisher;

use super::feed::Cursor;
use super::feed::Feed;
use super::feed::Opened;

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
        }
    }
}

/// What all rooms share.
pub(super) struct House {
    pub(super) limits: FeedLimits,
    pub(super) clock: Clock,
    bytes: AtomicUsize,
    ticks: AtomicU64,
    /// Rooms that hold something back: each once.
    due: Mutex<Vec<Weak<Feed>>>,
}

impl House {
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

/// The rooms of one process.
pub struct Feeds {
    rooms: Mutex<HashMap<RoomName, Arc<Feed>>>,
    house: Arc<House>,
}

/// Somebody who begins to listen.
pub struct Listening {
    /// Where it reads.
    pub cursor: Cursor,
    /// Whether nothing was missed: `false` when `since` is not known (any more).
    pub recovered: bool,
    /// The room's latest id when this began.
    pub event_id: EventId,
}

/// There are too many rooms that somebody listens to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many rooms are listened to")]
pub struct RoomsFull;

impl Feeds {
    /// No rooms yet.
    #[must_use]
    pub fn new(limits: FeedLimits, clock: Clock) -> Arc<Self> {
        let house = Arc::new(House {
            limits,
            clock,
            bytes: AtomicUsize::new(0),
            ticks: AtomicU64::new(0),
            due: Mutex::default(),
        });
        Arc::new(Self { rooms: Mutex::default(), house })
    }

    /// Tells a room what happened now. Never waits. Answers the id of the last of it.
    pub fn publish(&self, room: &RoomName, author: &Author, happenings: Vec<Happening>) -> EventId {
        let at_ms = self.house.clock.now().wall_ms;
        let feed = self.feed(room).unwrap_or_else(|_| Arc::new(Feed::new(room.clone(), self.house.clone())));
        feed.tell(author, at_ms, happenings)
    }

    /// Begins to listen to a room: behind the event `since` where one is named, else from now on. What is for one user
    /// or not for one connection is told apart by `listener`.
    ///
    /// # Errors
    /// [`RoomsFull`].
    pub fn listen(&self, room: &RoomName, listener: Listener, since: Option<&str>) -> Result<Listening, RoomsFull> {
        let (cursor, recovered, event_id) = self.feed(room)?.listen(listener, since.map(EventId::parse));
        Ok(Listening { cursor, recovered, event_id })
    }

    /// Whether ids of this room come out behind those of its document. Otherwise the document should be loaded first.
    #[must_use]
    pub fn has_document(&self, room: &RoomName) -> bool {
        self.lock().get(room).is_some_and(|feed| feed.has_document())
    }

    /// Tells what rooms hold back. To be called every [`FeedLimits::roots_pause`].
    pub fn flush(&self) {
        let due = std::mem::take(&mut *self.house.due.lock().unwrap_or_else(PoisonError::into_inner));
        for feed in due.iter().filter_map(Weak::upgrade) {
            feed.flush();
        }
    }

    /// Forgets what is too old. To be called now and then.
    pub fn sweep(&self) {
        let rooms: Vec<Arc<Feed>> = self.lock().values().cloned().collect();
        for feed in rooms {
            feed.trim();
        }
        // Nobody else can get hold of a room while the map is locked.
        self.lock().retain(|_, feed| is_held(feed) || !feed.trim());
    }

    /// Rooms, and about what their histories take in bytes.
    #[must_use]
    pub fn stats(&self) -> (usize, usize) {
        (self.lock().len(), self.house.bytes.load(Ordering::Relaxed))
    }

    fn feed(&self, room: &RoomName) -> Result<Arc<Feed>, RoomsFull> {
        let mut rooms = self.lock();
        if let Some(feed) = rooms.get(room) {
            return Ok(feed.clone());
        }
        if rooms.len() >= self.house.limits.rooms_max {
            forget_half(&mut rooms);
        }
        if rooms.len() >= self.house.limits.rooms_max {
            return Err(RoomsFull);
        }
        Ok(self.add(&mut rooms, room))
    }

    fn add(&self, rooms: &mut HashMap<RoomName, Arc<Feed>>, room: &RoomName) -> Arc<Feed> {
        let new = || Arc::new(Feed::new(room.clone(), self.house.clone()));
        rooms.entry(room.clone()).or_insert_with(new).clone()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<RoomName, Arc<Feed>>> {
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Publish for Feeds {
    /// Takes no notice of the bound on rooms: loaded documents are bounded by their memory.
    fn open(&self, doc: &DocName, epoch: Epoch, last: Seq) -> Arc<dyn Publisher> {
        let feed = self.add(&mut self.lock(), &RoomName::from(doc));
        Arc::new(Opened::new(feed, epoch, last))
    }
}

/// Whether somebody listens, or a document is loaded that tells here.
fn is_held(feed: &Arc<Feed>) -> bool {
    Arc::strong_count(feed) > 1
}

fn forget_half(rooms: &mut HashMap<RoomName, Arc<Feed>>) {
    let mut idle: Vec<_> = rooms.iter().filter(|(_, feed)| !is_held(feed)).collect();
    idle.sort_by_key(|(_, feed)| feed.newest_at());
    let half = idle.len().div_ceil(2);
    let names: Vec<RoomName> = idle[..half].iter().map(|(name, _)| (*name).clone()).collect();
    for name in names {
        rooms.remove(&name);
    }
}
