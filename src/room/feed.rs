//! One room: its history, and those who listen to it.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use syncline_protocol::Moment;
use tokio::sync::watch;

use crate::event::Envelope;
use crate::event::Event;
use crate::event::EventId;
use crate::event::Happening;
use crate::event::Listener;
use crate::name::RoomName;
use crate::store::Epoch;
use crate::store::Seq;
use crate::table::change::Author;
use crate::table::change::ChangeSet;
use crate::table::events;
use crate::table::events::Presence;
use crate::table::events::Publisher;

use super::feeds::House;
use super::history::Batch;
use super::history::Found;
use super::history::History;
use super::history::News;

/// What happened, as it was told.
pub(super) enum Raw {
    /// To the document of the same name.
    Changed(ChangeSet),
    /// Anything else.
    Told { author: Author, at_ms: u64, happenings: Vec<Happening> },
}

/// One room.
pub(super) struct Feed {
    room: RoomName,
    state: Mutex<State>,
    /// Wakes those who wait for more.
    told: watch::Sender<()>,
    /// How many loaded documents tell here: one, or for a moment two while one succeeds the other.
    documents: AtomicUsize,
    house: Arc<House>,
}

struct State {
    history: History<Raw>,
    /// Where the document is, as far as it is known: its life, and its last durable record.
    at: (u64, u64),
    /// When free content was told to have changed.
    roots_told: Option<Moment>,
    /// Free content that changed since, with its last record: somebody types, and not every key is an event.
    roots: Option<(EventId, ChangeSet)>,
}

impl Feed {
    pub(super) fn new(room: RoomName, house: Arc<House>) -> Self {
        let base = EventId { epoch: 0, revision: 0, index: house.tick(1) };
        let state = Mutex::new(State { history: History::new(base), at: (0, 0), roots_told: None, roots: None });
        Self { room, state, told: watch::channel(()).0, documents: AtomicUsize::new(0), house }
    }

    /// Whether the document of this name is loaded, so that ids beside its log come out behind it.
    pub(super) fn has_document(&self) -> bool {
        self.documents.load(Ordering::Acquire) > 0
    }

    /// The document is here at least.
    fn reach(&self, epoch: Epoch, seq: Seq) {
        let mut state = self.lock();
        self.tell_roots(&mut state);
        state.at = state.at.max((epoch.0, seq.0));
        let (epoch, revision) = state.at;
        state.history.begin_at(EventId { epoch, revision, index: self.house.tick(1) });
        drop(state);
        self.told.send_replace(());
    }

    /// Tells what is not in a document's log. Answers the id of its last event.
    pub(super) fn tell(&self, author: &Author, at_ms: u64, happenings: Vec<Happening>) -> EventId {
        let mut state = self.lock();
        if happenings.is_empty() {
            return state.history.last();
        }
        self.tell_roots(&mut state);
        let count = happenings.len();
        let bytes = happenings.iter().map(weight).sum();
        let (epoch, revision) = state.at;
        // Under the lock, so that what comes later has a higher one.
        let first = EventId { epoch, revision, index: self.house.tick(count) };
        let raw = Raw::Told { author: author.clone(), at_ms, happenings };
        self.push(&mut state, News { first, count, bytes, raw });
        let last = state.history.last();
        drop(state);
        self.told.send_replace(());
        last
    }

    fn changed(self: &Arc<Self>, epoch: Epoch, seq: Seq, change: ChangeSet) {
        let first = EventId { epoch: epoch.0, revision: seq.0, index: 0 };
        let mut state = self.lock();
        state.at = state.at.max((epoch.0, seq.0));
        if change.is_empty() {
            return;
        }
        if change.is_free_content() && self.is_early(&mut state) {
            return self.hold_roots(state, first, change);
        }
        self.tell_roots(&mut state);
        self.push_change(&mut state, first, change);
        drop(state);
        self.told.send_replace(());
    }

    /// Whether free content was told to have changed a moment ago.
    fn is_early(&self, state: &mut State) -> bool {
        let now = self.house.clock.now().moment;
        let pause = self.house.limits.roots_pause;
        let is_early = state.roots.is_some() || state.roots_told.is_some_and(|told| now.since(told) < pause);
        if !is_early {
            state.roots_told = Some(now);
        }
        is_early
    }

    /// Keeps for later that free content changed. However much is typed, this is one change.
    fn hold_roots(self: &Arc<Self>, mut state: MutexGuard<'_, State>, id: EventId, mut change: ChangeSet) {
        let held = state.roots.take();
        let is_first = held.is_none();
        if let Some((_, held)) = held {
            change.roots.extend(held.roots);
        }
        state.roots = Some((id, change));
        drop(state);
        if is_first {
            self.house.is_due(self);
        }
    }

    /// Tells what was held back, before anything that came after it.
    fn tell_roots(&self, state: &mut State) {
        if let Some((id, change)) = state.roots.take() {
            state.roots_told = Some(self.house.clock.now().moment);
            self.push_change(state, id, change);
        }
    }

    /// As [`Self::tell_roots`], because it is time.
    pub(super) fn flush(&self) {
        self.tell_roots(&mut self.lock());
        self.told.send_replace(());
    }

    fn push_change(&self, state: &mut State, first: EventId, change: ChangeSet) {
        let count = self.room.as_doc().map_or(0, |doc| events::count(&doc, &change));
        let bytes = events::weight(&change);
        if count > 0 {
            self.push(state, News { first, count, bytes, raw: Raw::Changed(change) });
        }
    }

    fn push(&self, state: &mut State, news: News<Raw>) {
        let (now, limits, before) = (self.house.clock.now().moment, &self.house.limits, state.history.bytes());
        let id = news.first;
        if !state.history.push(now, limits, news) {
            // A document that was loaded again has nothing new to say about records that were told.
            tracing::debug!(event = "event_told_before", channelId = self.room.as_str(), %id);
        }
        if self.house.is_full() {
            state.history.halve();
        }
        self.house.count(before, state.history.bytes());
    }

    /// Lets go of what is too old, and of half of it when the house is full. Whether nothing is left.
    pub(super) fn trim(&self) -> bool {
        let mut state = self.lock();
        let before = state.history.bytes();
        state.history.trim(self.house.clock.now().moment, &self.house.limits);
        if self.house.is_full() {
            state.history.halve();
        }
        self.house.count(before, state.history.bytes());
        state.history.is_empty()
    }

    /// When something was told last, as far as it is kept.
    pub(super) fn newest_at(&self) -> Moment {
        self.lock().history.newest_at()
    }

    /// Begins to listen, behind `since` if that is known. Also whether it is, and the id of the last event.
    pub(super) fn listen(
        self: &Arc<Self>,
        listener: Listener,
        since: Option<Option<EventId>>,
    ) -> (Cursor, bool, EventId) {
        let told = self.told.subscribe();
        self.trim();
        let state = self.lock();
        let end = (state.history.end(), 0);
        let found = match since {
            None => Some(end),
            Some(since) => since.and_then(|since| state.history.resume(&self.house.limits, since)),
        };
        let (next, skip) = found.unwrap_or(end);
        let last = state.history.last();
        drop(state);
        let cursor = Cursor { feed: self.clone(), told, listener, next, skip, reading: None };
        (cursor, found.is_some(), last)
    }

    fn events_of<'a>(&self, batch: &'a Batch<Raw>) -> &'a [Arc<Event>] {
        let (events, bytes) = batch.events(|raw| self.encode(batch.first(), raw));
        if let Some(bytes) = bytes {
            let mut state = self.lock();
            let before = state.history.bytes();
            state.history.reweigh(self.house.clock.now().moment, &self.house.limits, batch.number(), bytes);
            self.house.count(before, state.history.bytes());
        }
        events
    }

    fn encode(&self, first: EventId, raw: Raw) -> Vec<Event> {
        let (author, at_ms, revision, happenings) = match raw {
            Raw::Changed(change) => {
                // Only documents change.
                let happenings = self.room.as_doc().map(|doc| events::happenings(&doc, &change));
                (change.author, change.at_ms, Some(first.revision), happenings.unwrap_or_default())
            }
            Raw::Told { author, at_ms, happenings } => (author, at_ms, None, happenings),
        };
        let envelope = Envelope {
            room: self.room.as_str(),
            user: author.user.as_deref(),
            at_ms,
            source: author.source.word(),
            revision,
            correlation_id: author.correlation_id.as_deref(),
        };
        let numbered = happenings.into_iter().enumerate();
        numbered.map(|(index, happening)| Event::encode(first.plus(index), envelope, happening)).collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change is made by one call that does not panic in between.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        let kept = self.lock().history.bytes();
        self.house.count(kept, 0);
    }
}

fn weight(happening: &Happening) -> usize {
    let fields = happening.fields.iter().chain(&happening.data);
    fields.map(|(name, value)| name.len() + events::value_weight(value)).sum::<usize>() + 400
}

/// A loaded document's hold on its room.
pub(super) struct Opened(Arc<Feed>);

impl Opened {
    pub(super) fn new(feed: Arc<Feed>, epoch: Epoch, last: Seq) -> Self {
        feed.reach(epoch, last);
        feed.documents.fetch_add(1, Ordering::AcqRel);
        Self(feed)
    }
}

impl Publisher for Opened {
    fn changed(&self, epoch: Epoch, seq: Seq, change: ChangeSet) {
        self.0.changed(epoch, seq, change);
    }

    fn tell(&self, author: &Author, at_ms: u64, happenings: Vec<Happening>) {
        self.0.tell(author, at_ms, happenings);
    }

    fn presence(&self, _peer: u64, _at_ms: u64, _presence: Presence) {}
}

impl Drop for Opened {
    fn drop(&mut self) {
        self.0.documents.fetch_sub(1, Ordering::AcqRel);
    }
}

/// What somebody who listens hears.
#[derive(Debug, Clone, PartialEq)]
pub enum Heard {
    /// An event.
    Event(Arc<Event>),
    /// Some were missed, because it was too slow. It goes on behind this id.
    Lagged(EventId),
}

/// Somebody who listens: a place in the history, and a bell. While it reads, it keeps what it reads in memory: one
/// transaction.
pub struct Cursor {
    feed: Arc<Feed>,
    told: watch::Receiver<()>,
    listener: Listener,
    /// The batch to read next, and how many of its events are known.
    next: u64,
    skip: usize,
    /// The batch that is being read, and how far.
    reading: Option<(Arc<Batch<Raw>>, usize)>,
}

impl Cursor {
    /// What comes next; waits for it. May be dropped while it waits, and nothing is lost.
    pub async fn next(&mut self) -> Heard {
        loop {
            // Seen before it is looked for, so that what comes in between wakes.
            self.told.borrow_and_update();
            if let Some(heard) = self.try_next() {
                return heard;
            }
            // The sender lives as long as the feed, which is held here.
            let _ = self.told.changed().await;
        }
    }

    /// What comes next, if it is there.
    pub fn try_next(&mut self) -> Option<Heard> {
        loop {
            if let Some(event) = self.read() {
                return Some(Heard::Event(event));
            }
            let found = self.feed.lock().history.find(self.next);
            match found {
                Found::Batch(batch) => {
                    self.next += 1;
                    self.reading = Some((batch, std::mem::take(&mut self.skip)));
                }
                Found::End => return None,
                Found::Gone(next, last) => {
                    (self.next, self.skip) = (next, 0);
                    return Some(Heard::Lagged(last));
                }
            }
        }
    }

    /// The next event of the batch that is being read, for this listener.
    fn read(&mut self) -> Option<Arc<Event>> {
        let (batch, index) = self.reading.as_mut()?;
        let events = self.feed.events_of(batch).get(*index..).unwrap_or_default();
        match events.iter().position(|event| event.is_for(&self.listener)) {
            Some(place) => {
                *index += place + 1;
                Some(events[place].clone())
            }
            None => {
                self.reading = None;
                None
            }
        }
    }
}
