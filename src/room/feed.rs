//! One room: its history, what passes through it, who is in it, and those who listen to it.

mod hearing;
mod join;
mod passing;
mod roots;
mod saying;

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use syncline_protocol::Moment;
use tokio::sync::Notify;
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

use super::company::Company;
use super::cursor::Cursor;
use super::feeds::Listening;
use super::history::Batch;
use super::history::Content;
use super::history::Found;
use super::history::History;
use super::history::Keep;
use super::history::News;
use super::house::House;
use super::mark::Known;
use super::members::MemberView;
use super::members::Members;
use super::members::Via;
use super::passing::Passed;
use super::passing::Passing;
use super::seats::RoomFull;
use super::seats::Seat;
use super::seats::Seats;
use super::settings::RoomSettings;
use super::settings::SettingsPatch;

/// What happened, as it was told.
pub(super) enum Raw {
    /// To the document of the same name.
    Changed(ChangeSet, Stories),
    /// Anything else.
    Told { author: Author, at_ms: u64, happenings: Vec<Happening>, stories: Stories },
}

/// Which stories a few events tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stories {
    /// None: they are told here alone.
    None,
    /// The first has this number, the next the next.
    From(u64),
    /// Those of this transaction: what is the same has the same number, wherever it stands among the others.
    Of(u64),
}

impl Stories {
    fn story(self, house: &House, index: usize, happening: &Happening) -> u64 {
        match self {
            Self::None => 0,
            Self::From(first) => first.wrapping_add(index as u64),
            Self::Of(transaction) => house.story_of(transaction, happening),
        }
    }
}

/// One room.
pub(super) struct Feed {
    room: RoomName,
    state: Mutex<State>,
    /// Wakes those who wait for more.
    told: watch::Sender<()>,
    /// How many loaded documents tell here: one, or for a moment two while one succeeds the other.
    documents: AtomicUsize,
    /// Rings when more is known of what happened elsewhere.
    found: Notify,
    house: Arc<House>,
}

struct State {
    history: History<Raw>,
    /// What of the room is in the history, or was.
    known: Known,
    /// The other nodes, where there may be any.
    company: Option<Box<Company>>,
    passing: Passing<Raw>,
    members: Members,
    seats: Seats,
    settings: RoomSettings,
    /// Whether the settings are this room's own, and not those of the rules.
    is_set: bool,
    /// When something was told, or somebody left.
    used: Moment,
    /// Where the document is, as far as it is known: its life, and its last durable record.
    at: (u64, u64),
    /// The last record of this node's document that was told.
    told: (u64, u64),
    /// When free content was told to have changed.
    roots_told: Option<Moment>,
    /// Free content that changed since, with its last record: somebody types, and not every key is an event.
    roots: Option<(EventId, ChangeSet)>,
}

impl State {
    fn bytes(&self) -> usize {
        self.history.bytes() + self.passing.bytes()
    }
}

/// What a listener finds ahead.
pub(super) enum Ahead {
    Found(Found<Raw>),
    Passed(Passed<Raw>),
}

impl Feed {
    /// A room that nobody else knows of.
    pub(super) fn new(room: RoomName, house: Arc<House>) -> Self {
        let index = house.tick(1);
        let mut known = Known::new(house.node(), index);
        let state = State {
            history: History::new(EventId { epoch: 0, revision: 0, index }, known.mark()),
            known,
            company: None,
            passing: Passing::default(),
            members: Members::default(),
            seats: Seats::default(),
            settings: house.settings(&room),
            is_set: false,
            used: house.clock.now().moment,
            at: (0, 0),
            told: (0, 0),
            roots_told: None,
            roots: None,
        };
        let (documents, found) = (AtomicUsize::new(0), Notify::new());
        Self { room, state: Mutex::new(state), told: watch::channel(()).0, documents, found, house }
    }

    pub(super) fn room(&self) -> &RoomName {
        &self.room
    }

    /// Whether the document of this name is loaded, so that ids beside its log come out behind it.
    pub(super) fn has_document(&self) -> bool {
        self.documents.load(Ordering::Acquire) > 0
    }

    /// Whether somebody listens.
    pub(super) fn is_heard(&self) -> bool {
        self.told.receiver_count() > 0
    }

    /// Whether somebody listens, or may go on to listen behind what was told; on whichever node.
    pub(super) fn is_followed(&self) -> bool {
        let now = self.house.clock.now().moment;
        let state = self.lock();
        let is_elsewhere = || state.company.as_ref().is_some_and(|company| company.is_followed(now));
        self.is_heard() || !state.history.is_empty() || is_elsewhere()
    }

    /// The document was loaded, and is here at least.
    pub(super) fn open(&self, epoch: Epoch, seq: Seq) {
        let mut state = self.lock();
        self.tell_roots(&mut state);
        state.at = state.at.max((epoch.0, seq.0));
        if state.history.is_empty() {
            state.told = state.told.max((epoch.0, seq.0));
        }
        let (id, mark) = (self.next_id(&state, 1), state.known.mark());
        state.history.begin_at(id, mark);
        drop(state);
        self.documents.fetch_add(1, Ordering::AcqRel);
        self.told.send_replace(());
    }

    /// The document is not in memory any more.
    pub(super) fn close(&self, via: Via) {
        self.documents.fetch_sub(1, Ordering::AcqRel);
        self.forget(via);
    }

    /// Tells what is not in a document's log. Answers the id of its last event.
    pub(super) fn tell(&self, author: &Author, at_ms: u64, happenings: Vec<Happening>, stories: Stories) -> EventId {
        let mut state = self.lock();
        if happenings.is_empty() {
            return state.history.last();
        }
        self.tell_roots(&mut state);
        let count = happenings.len();
        let bytes = happenings.iter().map(weight).sum();
        // Under the lock, so that what comes later has a higher one.
        let first = self.next_id(&state, count);
        let raw = Raw::Told { author: author.clone(), at_ms, happenings, stories };
        self.push(&mut state, News { first, count, bytes, content: Content::Raw(raw) });
        let last = state.history.last();
        drop(state);
        self.told.send_replace(());
        last
    }

    /// The id of the last event that is kept.
    pub(super) fn last(&self) -> EventId {
        self.lock().history.last()
    }

    /// Who is here.
    pub(super) fn members(&self) -> Vec<MemberView> {
        self.lock().members.list()
    }

    /// Takes a place for a connection.
    pub(super) fn enter(self: &Arc<Self>, peer: u64) -> Result<Seat, RoomFull> {
        let mut state = self.lock();
        let max_clients = state.settings.max_clients;
        state.seats.take(max_clients, peer)?;
        drop(state);
        Ok(Seat::new(self.clone(), peer))
    }

    /// Gives a place back.
    pub(super) fn leave(&self, peer: u64) {
        let mut state = self.lock();
        state.used = self.house.clock.now().moment;
        state.seats.give_back(peer);
    }

    /// Changes what holds here. Answers what holds now.
    pub(super) fn configure(&self, patch: SettingsPatch) -> RoomSettings {
        let mut state = self.lock();
        state.settings = state.settings.patched(patch);
        (state.is_set, state.used) = (true, self.house.clock.now().moment);
        self.say_settings(&mut state);
        state.settings
    }

    /// The document changed. Whether that is told, and was not before.
    pub(super) fn changed(self: &Arc<Self>, epoch: Epoch, seq: Seq, change: ChangeSet, stories: Stories) -> bool {
        let first = EventId { epoch: epoch.0, revision: seq.0, index: self.house.log_index() };
        let mut state = self.lock();
        state.at = state.at.max((epoch.0, seq.0));
        if change.is_empty() {
            return false;
        }
        if change.is_free_content() && self.is_early(&mut state) {
            self.hold_roots(state, first, change);
            return false;
        }
        self.tell_roots(&mut state);
        let is_new = self.push_change(&mut state, (epoch.0, seq.0), first, change, stories);
        drop(state);
        self.told.send_replace(());
        is_new
    }

    fn push_change(
        &self,
        state: &mut State,
        record: (u64, u64),
        first: EventId,
        change: ChangeSet,
        stories: Stories,
    ) -> bool {
        let Some(doc) = self.room.as_doc() else { return false };
        if record <= state.told {
            // A document that was loaded again has nothing new to say about records that were told.
            tracing::debug!(event = "event_told_before", channelId = self.room.as_str(), id = %first);
            return false;
        }
        state.told = record;
        let (count, bytes) = (events::count(&doc, &change), events::weight(&change));
        if count == 0 {
            return false;
        }
        self.push(state, News { first, count, bytes, content: Content::Raw(Raw::Changed(change, stories)) });
        true
    }

    /// This node tells something.
    fn push(&self, state: &mut State, news: News<Raw>) {
        let (now, keep, mark) = (self.house.clock.now().moment, self.keep(state), state.known.next());
        state.used = now;
        let batch = self.counted(state, |state| state.history.push(now, &keep, mark.clone(), news));
        self.share(state, now, &batch, mark);
    }

    /// Lets go of what is too old, of what nobody is there to hear, and of half of it when the house is full.
    pub(super) fn trim(&self) {
        let mut state = self.lock();
        let (now, keep) = (self.house.clock.now().moment, self.keep(&state));
        self.counted(&mut state, |state| {
            state.history.trim(now, &keep);
            match self.is_heard() {
                true => state.passing.trim(now),
                false => state.passing.clear(),
            }
        });
        self.keep_company(&mut state, now);
    }

    /// Whether nothing is left that somebody could come back to.
    pub(super) fn is_over(&self) -> bool {
        self.trim();
        let state = self.lock();
        let idle = self.house.clock.now().moment.since(state.used);
        let is_past = state.settings.ttl.is_some_and(|ttl| idle > ttl);
        state.members.is_empty() && (is_past || (state.history.is_empty() && !state.is_set))
    }

    /// What goes last when there are too many rooms: those with settings of their own, and those that were used last.
    pub(super) fn worth(&self) -> (bool, Moment) {
        let state = self.lock();
        (state.is_set || !state.members.is_empty(), state.used)
    }

    /// Members, and listeners.
    pub(super) fn count(&self) -> (usize, usize) {
        (self.lock().members.len(), self.told.receiver_count())
    }

    /// Somebody who listened does so no more.
    pub(super) fn stop_listening(&self) {
        self.lock().used = self.house.clock.now().moment;
    }

    fn keep(&self, state: &State) -> Keep {
        let limits = &self.house.limits;
        Keep { events_max: state.settings.history_events, keep: limits.keep, bytes_max: limits.bytes_max }
    }

    /// The number of something that is told to nobody here.
    pub(super) fn issue(&self) -> EventId {
        let mut state = self.lock();
        let (id, mark) = (self.next_id(&state, 1), state.known.mark());
        state.history.issue(id, mark);
        id
    }

    /// The first of so many ids that stand behind everything that was told.
    fn next_id(&self, state: &State, count: usize) -> EventId {
        let (epoch, revision) = state.at;
        EventId { epoch, revision, index: self.house.tick(count) }
    }

    /// Does something, and counts what it takes.
    fn counted<T>(&self, state: &mut State, act: impl FnOnce(&mut State) -> T) -> T {
        let before = state.bytes();
        let answer = act(state);
        if self.house.is_full() {
            state.history.halve();
            state.passing.halve();
        }
        self.house.count(before, state.bytes());
        answer
    }

    /// Begins to listen, behind `since` if that is known.
    pub(super) fn begin(self: &Arc<Self>, listener: Listener, since: Option<&str>) -> Listening {
        let told = self.told.subscribe();
        self.trim();
        let state = self.lock();
        let found = match since {
            None => Some(state.history.live()),
            Some(since) => EventId::parse(since).and_then(|since| state.history.resume(&self.keep(&state), since)),
        };
        let (recovered, place) = (found.is_some(), found.unwrap_or_else(|| state.history.live()));
        let (event_id, passing) = (state.history.last(), state.passing.end());
        drop(state);
        Listening { cursor: Cursor::new(self.clone(), told, listener, place, passing), recovered, event_id }
    }

    /// What comes next for somebody who has come so far in the history, and in what passes: what was here first.
    pub(super) fn ahead(&self, next: u64, passing: u64) -> Option<Ahead> {
        let state = self.lock();
        let passed = state.passing.find(passing);
        match (state.history.find(next), passed) {
            (Found::End, passed) => passed.map(Ahead::Passed),
            (Found::Batch(_), Some(passed)) if passed.place() <= next => Some(Ahead::Passed(passed)),
            (found, _) => Some(Ahead::Found(found)),
        }
    }

    pub(super) fn events_of<'a>(&self, batch: &'a Batch<Raw>) -> &'a [Arc<Event>] {
        let (events, bytes) = batch.events(|raw| self.encode(batch.first(), raw));
        if let Some(bytes) = bytes {
            let mut state = self.lock();
            let (now, keep) = (self.house.clock.now().moment, self.keep(&state));
            self.counted(&mut state, |state| state.history.reweigh(now, &keep, batch.number(), bytes));
        }
        events
    }

    fn encode(&self, first: EventId, raw: Raw) -> Vec<Event> {
        let (author, at_ms, revision, happenings, stories) = match raw {
            Raw::Changed(change, stories) => {
                // Only documents change.
                let happenings = self.room.as_doc().map(|doc| events::happenings(&doc, &change));
                (change.author, change.at_ms, Some(first.revision), happenings.unwrap_or_default(), stories)
            }
            Raw::Told { author, at_ms, happenings, stories } => (author, at_ms, None, happenings, stories),
        };
        let envelope = Envelope {
            room: self.room.as_str(),
            user: author.user.as_deref(),
            at_ms,
            source: author.source.word(),
            revision,
            correlation_id: author.correlation_id.as_deref(),
        };
        let encode = |(index, happening): (usize, Happening)| {
            let story = stories.story(&self.house, index, &happening);
            Event::encode(first.plus(index), envelope, happening).of_story(story)
        };
        happenings.into_iter().enumerate().map(encode).collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change is made by one call that does not panic in between.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.part();
        let kept = self.lock().bytes();
        self.house.count(kept, 0);
    }
}

fn weight(happening: &Happening) -> usize {
    let fields = happening.fields.iter().chain(&happening.data);
    fields.map(|(name, value)| name.len() + events::value_weight(value)).sum::<usize>() + 400
}
