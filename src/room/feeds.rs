//! The rooms of one process.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::Weak;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use tokio::sync::Notify;

use crate::clock::Clock;
use crate::event::EventId;
use crate::event::Happening;
use crate::event::Listener;
use crate::name::DocName;
use crate::name::RoomName;
use crate::store::Epoch;
use crate::store::Seq;
use crate::table::change::Author;
use crate::table::events::Presence;
use crate::table::events::Publish;
use crate::table::events::Publisher;

use super::coalesce::Coalescer;
use super::coalesce::Word;
use super::cursor::Cursor;
use super::feed::Feed;
use super::feed::Stories;
use super::house::FeedLimits;
use super::house::House;
use super::linked::Linked;
use super::members::MemberView;
use super::members::Via;
use super::opened::Opened;
use super::seats::RoomFull;
use super::seats::Seat;
use super::settings::RoomSettings;
use super::settings::SettingsPatch;
use super::stats::RoomStats;

/// The rooms of one process.
pub struct Feeds {
    /// For documents, which tell other rooms than their own.
    me: Weak<Self>,
    rooms: Mutex<HashMap<RoomName, Arc<Feed>>>,
    house: Arc<House>,
    streams: Mutex<Coalescer>,
    /// Rings when something is held back.
    held: Notify,
    /// Numbers for what has none of its own: loadings of documents, and connections, from above.
    loadings: AtomicU64,
    unnumbered: AtomicU64,
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
        Self::with(limits, clock, None)
    }

    pub(super) fn with(limits: FeedLimits, clock: Clock, link: Option<Linked>) -> Arc<Self> {
        let house = Arc::new(House::new(limits, clock, link));
        Arc::new_cyclic(|me| Self {
            me: me.clone(),
            rooms: Mutex::default(),
            house,
            streams: Mutex::default(),
            held: Notify::new(),
            loadings: AtomicU64::new(0),
            unnumbered: AtomicU64::new(u64::MAX),
        })
    }

    /// Tells a room what happened now. Never waits. Answers the id of the last of it.
    pub fn publish(&self, room: &RoomName, author: &Author, happenings: Vec<Happening>) -> EventId {
        let at_ms = self.house.clock.now().wall_ms;
        self.feed_or_none(room).tell(author, at_ms, happenings, Stories::None)
    }

    /// Tells several rooms the same: whoever listens in more than one of them can tell, by [`crate::event::Event::story`].
    /// Answers the id of the last of it in each.
    pub fn publish_all(&self, rooms: &[RoomName], author: &Author, happenings: Vec<Happening>) -> Vec<EventId> {
        let at_ms = self.house.clock.now().wall_ms;
        let stories = self.stories(rooms, happenings.len());
        let tell = |room| self.feed_or_none(room).tell(author, at_ms, happenings.clone(), stories);
        rooms.iter().map(tell).collect()
    }

    /// Tells the next word of a stream of which the last word counts: at once, or with the next one at the end of the pause.
    /// Answers the ids, where it was told at once.
    pub fn stream(&self, name: &str, word: Word) -> Option<Vec<EventId>> {
        // Told under the lock, so that what is held back next cannot come out before it.
        let mut streams = self.lock_streams();
        let told = streams.offer(self.house.clock.now().moment, name, word);
        self.held.notify_one();
        told.map(|word| self.tell_word(word))
    }

    /// Tells what was held back of streams, each when its pause is over. Does not end.
    pub async fn keep_streaming(&self) {
        loop {
            let due = self.lock_streams().next_due();
            match due {
                Some(due) => tokio::time::sleep_until(self.house.clock.instant(due).into()).await,
                None => self.held.notified().await,
            }
            let words = self.lock_streams().take_due(self.house.clock.now().moment);
            for word in words {
                self.tell_word(word);
            }
        }
    }

    fn tell_word(&self, word: Word) -> Vec<EventId> {
        self.publish_all(&word.rooms, &word.author, vec![word.happening])
    }

    /// Tells those who listen in these rooms now. Whoever is slow hears, of each key, the last alone; nothing of it is kept
    /// for those who come later. For what matters for a moment: cursors, typing, who is there.
    pub fn pass(&self, rooms: &[RoomName], key: &str, author: &Author, at_ms: u64, happening: Happening) {
        let stories = self.stories(rooms, 1);
        for feed in rooms.iter().filter_map(|room| self.known(room)) {
            feed.pass(key, author.clone(), at_ms, happening.clone(), stories);
        }
    }

    /// Says that a connection comes into a room, goes, or shows something else, where no document of the room's name says
    /// so. The others are told. It has to say [`Presence::Left`] before it is gone.
    pub fn presence(&self, room: &RoomName, peer: u64, at_ms: u64, presence: Presence) {
        let feed = match presence {
            // Where there are too many rooms, nobody is there to hear of it.
            Presence::Joined { .. } => self.feed(room).ok(),
            Presence::State { .. } | Presence::Left => self.known(room),
        };
        if let Some(feed) = feed {
            feed.presence(Via::Itself, peer, at_ms, presence);
        }
    }

    /// Who is in a room.
    #[must_use]
    pub fn members(&self, room: &RoomName) -> Vec<MemberView> {
        self.known(room).map(|feed| feed.members()).unwrap_or_default()
    }

    /// Takes a place in a room for a connection; a connection takes one, however often it enters.
    ///
    /// # Errors
    /// [`RoomFull`].
    pub fn enter(&self, room: &RoomName, peer: u64) -> Result<Seat, RoomFull> {
        self.feed_or_none(room).enter(peer)
    }

    /// As [`Self::enter`], for a connection that has no number.
    ///
    /// # Errors
    /// [`RoomFull`].
    pub fn enter_unnumbered(&self, room: &RoomName) -> Result<Seat, RoomFull> {
        // Counted down: those who have a number count up.
        self.enter(room, self.unnumbered.fetch_sub(1, Ordering::Relaxed))
    }

    /// Changes what holds in a room, until the process ends or the room is forgotten. Answers what holds now.
    ///
    /// # Errors
    /// [`RoomsFull`].
    pub fn configure(&self, room: &RoomName, patch: SettingsPatch) -> Result<RoomSettings, RoomsFull> {
        Ok(self.feed(room)?.configure(patch))
    }

    /// Begins to listen to a room: behind the event `since` where one is named, else from now on. What is for one user
    /// or not for one connection is told apart by `listener`.
    ///
    /// # Errors
    /// [`RoomsFull`].
    pub fn listen(&self, room: &RoomName, listener: Listener, since: Option<&str>) -> Result<Listening, RoomsFull> {
        Ok(self.feed(room)?.begin(listener, since))
    }

    /// A number for something that this room is not told, behind everything that it was.
    #[must_use]
    pub fn issue(&self, room: &RoomName) -> EventId {
        self.feed_or_none(room).issue()
    }

    /// The room's latest id, behind which [`Self::listen`] misses nothing. A room that nobody knows of has none yet.
    #[must_use]
    pub fn last(&self, room: &RoomName) -> EventId {
        self.known(room).map_or_else(EventId::default, |feed| feed.last())
    }

    /// Whether ids of this room come out behind those of its document. Otherwise the document should be loaded first.
    #[must_use]
    pub fn has_document(&self, room: &RoomName) -> bool {
        self.lock().get(room).is_some_and(|feed| feed.has_document())
    }

    /// Tells what rooms hold back. To be called every [`FeedLimits::roots_pause`].
    pub fn flush(&self) {
        self.house.take_due().iter().for_each(|feed| feed.flush());
    }

    /// Forgets what is too old. To be called now and then.
    pub fn sweep(&self) {
        for feed in self.all() {
            feed.trim();
        }
        // Nobody else can get hold of a room while the map is locked.
        self.lock().retain(|room, feed| is_held(feed) || self.is_awaited(room) || !feed.is_over());
    }

    /// Whether something waits for the room's user: the room is held, for the nodes on which the user comes.
    fn is_awaited(&self, room: &RoomName) -> bool {
        let user = room.as_str().strip_prefix("user:");
        user.zip(self.house.link.as_ref()).is_some_and(|(user, linked)| linked.courier.has(user))
    }

    /// Rooms in numbers. Looks at each of them.
    #[must_use]
    pub fn stats(&self) -> RoomStats {
        let mut stats = RoomStats::new(self.house.bytes());
        for (room, feed) in self.lock().iter() {
            let (members, listeners) = feed.count();
            stats.add(room, members, listeners);
        }
        stats
    }

    /// The stories of a transaction that more rooms than its own hear of.
    pub(super) fn transaction(&self) -> Stories {
        Stories::Of(self.house.story(1))
    }

    pub(super) fn tell_elsewhere(
        &self,
        rooms: Vec<(RoomName, Vec<Happening>)>,
        author: &Author,
        at_ms: u64,
        stories: Stories,
    ) {
        for (room, happenings) in rooms {
            self.feed_or_none(&room).tell(author, at_ms, happenings, stories);
        }
    }

    fn stories(&self, rooms: &[RoomName], count: usize) -> Stories {
        if rooms.len() > 1 { Stories::From(self.house.story(count)) } else { Stories::None }
    }

    pub(super) fn house(&self) -> &House {
        &self.house
    }

    pub(super) fn all(&self) -> Vec<Arc<Feed>> {
        self.lock().values().cloned().collect()
    }

    pub(super) fn known(&self, room: &RoomName) -> Option<Arc<Feed>> {
        self.lock().get(room).cloned()
    }

    /// The room, or one that nobody else finds, where there are too many.
    fn feed_or_none(&self, room: &RoomName) -> Arc<Feed> {
        self.feed(room).unwrap_or_else(|_| Arc::new(Feed::new(room.clone(), self.house.clone())))
    }

    pub(super) fn feed(&self, room: &RoomName) -> Result<Arc<Feed>, RoomsFull> {
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
        let new = || {
            let feed = Arc::new(Feed::new(room.clone(), self.house.clone()));
            feed.enlist();
            feed
        };
        rooms.entry(room.clone()).or_insert_with(new).clone()
    }

    fn lock_streams(&self) -> MutexGuard<'_, Coalescer> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<RoomName, Arc<Feed>>> {
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Publish for Feeds {
    /// Takes no notice of the bound on rooms: loaded documents are bounded by their memory.
    fn open(&self, doc: &DocName, epoch: Epoch, last: Seq) -> Arc<dyn Publisher> {
        let feed = self.add(&mut self.lock(), &RoomName::from(doc));
        let via = Via::Document(self.loadings.fetch_add(1, Ordering::Relaxed));
        Arc::new(Opened::new(doc.clone(), feed, self.me.clone(), via, (epoch, last)))
    }
}

/// Whether somebody listens, or a document is loaded that tells here.
fn is_held(feed: &Arc<Feed>) -> bool {
    Arc::strong_count(feed) > 1
}

fn forget_half(rooms: &mut HashMap<RoomName, Arc<Feed>>) {
    let mut idle: Vec<_> = rooms.iter().filter(|(_, feed)| !is_held(feed)).collect();
    idle.sort_by_cached_key(|(_, feed)| feed.worth());
    let half = idle.len().div_ceil(2);
    let names: Vec<RoomName> = idle[..half].iter().map(|(name, _)| (*name).clone()).collect();
    for name in names {
        rooms.remove(&name);
    }
}
