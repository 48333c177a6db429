//! The last events of one room, bounded in number, bytes and age. Time comes in.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::OnceLock;
use std::sync::PoisonError;
use std::time::Duration;

use syncline_protocol::Moment;

use crate::event::Event;
use crate::event::EventId;

/// Events that are kept for those who listen now, even where no history is wanted: a reader that is a moment late finds
/// them.
const LIVE_EVENTS_MIN: usize = 100;
/// What a batch takes beside its content.
pub(super) const BATCH_BYTES: usize = 256;
/// What an event takes beside its text.
const EVENT_BYTES: usize = 192;
/// The text, and what a dialect makes of it.
const FORMS: usize = 2;

/// What a history may keep.
#[derive(Debug, Clone, Copy)]
pub(super) struct Keep {
    /// 0: nobody can come back to what was missed.
    pub(super) events_max: usize,
    pub(super) keep: Option<Duration>,
    pub(super) bytes_max: usize,
}

/// What happened at once: the events of one transaction, or of one request. Encoded when somebody reads it first.
pub(super) struct Batch<R> {
    first: EventId,
    count: usize,
    number: u64,
    at: Moment,
    raw: Mutex<Option<R>>,
    events: OnceLock<Vec<Arc<Event>>>,
}

impl<R> Batch<R> {
    /// One event that is in no history.
    pub(super) fn passing(id: EventId, at: Moment, raw: R) -> Self {
        Self { first: id, count: 1, number: u64::MAX, at, raw: Mutex::new(Some(raw)), events: OnceLock::new() }
    }

    pub(super) fn first(&self) -> EventId {
        self.first
    }

    fn last(&self) -> EventId {
        self.first.plus(self.count.saturating_sub(1))
    }

    /// The events; whoever comes first has them encoded by `encode`. Also their bytes, for that one.
    pub(super) fn events(&self, encode: impl FnOnce(R) -> Vec<Event>) -> (&[Arc<Event>], Option<usize>) {
        let mut bytes = None;
        let events = self.events.get_or_init(|| {
            let raw = self.raw.lock().unwrap_or_else(PoisonError::into_inner).take();
            let events = raw.map(encode).unwrap_or_default();
            bytes =
                Some(BATCH_BYTES + events.iter().map(|event| EVENT_BYTES + FORMS * event.json.len()).sum::<usize>());
            events.into_iter().map(Arc::new).collect()
        });
        (events, bytes)
    }

    pub(super) fn number(&self) -> u64 {
        self.number
    }

    pub(super) fn at(&self) -> Moment {
        self.at
    }
}

/// Something that happened, before it is in the history.
pub(super) struct News<R> {
    pub(super) first: EventId,
    /// At least 1.
    pub(super) count: usize,
    /// About what the content takes.
    pub(super) bytes: usize,
    pub(super) raw: R,
}

/// What is found at a place in the history.
pub(super) enum Found<R> {
    Batch(Arc<Batch<R>>),
    /// Nothing yet.
    End,
    /// It is gone. Where to go on, and the id of the last event before that.
    Gone(u64, EventId),
}

/// The history of one room.
pub(super) struct History<R> {
    /// With the bytes that each is counted with.
    batches: VecDeque<(Arc<Batch<R>>, usize)>,
    /// The number of the next batch.
    next: u64,
    /// The id before the oldest event that is kept.
    base: EventId,
    /// The newest id.
    last: EventId,
    /// Numbers that follow the clock are not below this one.
    begun: u64,
    /// The newest id that was given to something that is not kept.
    issued: EventId,
    events: usize,
    bytes: usize,
}

impl<R> History<R> {
    /// Nothing happened since this id, which belongs to no event.
    pub(super) fn new(base: EventId) -> Self {
        let issued = EventId::default();
        Self { batches: VecDeque::new(), next: 0, base, last: base, begun: base.index, issued, events: 0, bytes: 0 }
    }

    /// An id was given to something that is not kept. Whoever knows it, knows everything before it.
    pub(super) fn issue(&mut self, id: EventId) {
        self.issued = self.issued.max(id);
    }

    pub(super) fn issued(&self) -> EventId {
        self.issued
    }

    pub(super) fn last(&self) -> EventId {
        self.last
    }

    /// The number that the next batch will have.
    pub(super) fn end(&self) -> u64 {
        self.next
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// Says that nothing was missed up to `id`, where nothing is kept.
    pub(super) fn begin_at(&mut self, id: EventId) {
        if self.is_empty() && id > self.last {
            (self.base, self.last) = (id, id);
        }
    }

    /// Adds what happened. Full: the oldest goes; if it is larger than all that may be kept, it goes at once, and whoever
    /// listens is told that something was missed. `false` when it is not newer than the last: it was told before.
    #[must_use]
    pub(super) fn push(&mut self, now: Moment, limits: &Keep, news: News<R>) -> bool {
        let News { first, count, bytes, raw } = news;
        if first <= self.last {
            return false;
        }
        let (raw, events) = (Mutex::new(Some(raw)), OnceLock::new());
        let batch = Batch { first, count, number: self.next, at: now, raw, events };
        self.next += 1;
        self.last = batch.last();
        self.events += count;
        let bytes = bytes + BATCH_BYTES;
        self.bytes += bytes;
        self.batches.push_back((Arc::new(batch), bytes));
        self.trim(now, limits);
        true
    }

    /// Lets go of what is too much, or too old.
    pub(super) fn trim(&mut self, now: Moment, limits: &Keep) {
        let events_max = limits.events_max.max(LIVE_EVENTS_MIN);
        while let Some((oldest, _)) = self.batches.front() {
            // The newest transaction stays whole, however many events it makes.
            let is_too_much = self.events > events_max && self.batches.len() > 1;
            let is_too_old = limits.keep.is_some_and(|keep| now.since(oldest.at) > keep);
            if !is_too_much && !is_too_old && self.bytes <= limits.bytes_max {
                return;
            }
            self.drop_oldest();
        }
    }

    /// Lets go of the older half.
    pub(super) fn halve(&mut self) {
        let left = self.bytes / 2;
        while self.bytes > left && !self.is_empty() {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        if let Some((oldest, bytes)) = self.batches.pop_front() {
            self.base = oldest.last();
            self.events -= oldest.count;
            self.bytes -= bytes;
        }
    }

    /// Counts a batch with what it takes now that it is encoded.
    pub(super) fn reweigh(&mut self, now: Moment, limits: &Keep, number: u64, bytes: usize) {
        let Some(place) = self.place(number) else { return };
        let Some((_, counted)) = self.batches.get_mut(place) else { return };
        self.bytes = self.bytes - *counted + bytes;
        *counted = bytes;
        self.trim(now, limits);
    }

    /// Where somebody goes on who has heard everything up to `since`: the number of a batch, and how many of its events
    /// are known. `None` when that is not known any more, or was never an id of this room.
    pub(super) fn resume(&self, limits: &Keep, since: EventId) -> Option<(u64, usize)> {
        if since == self.last {
            return Some((self.next, 0));
        }
        if limits.events_max == 0 {
            return (since > self.last && self.is_point(since)).then_some((self.next, 0));
        }
        let oldest = self.next - self.batches.len() as u64;
        if since == self.base {
            return Some((oldest, 0));
        }
        let after = self.batches.partition_point(|(batch, _)| batch.first <= since);
        let known = after.checked_sub(1).and_then(|place| known_of(&self.batches[place].0, since));
        let point = || self.is_point(since).then_some((oldest + after as u64, 0));
        known.or_else(point)
    }

    /// Whether this is an id of something that was not kept, or might have been: a point in time that is known.
    fn is_point(&self, since: EventId) -> bool {
        let is_timed = (self.begun..=self.issued.index).contains(&since.index);
        is_timed && self.base < since && since <= self.issued
    }

    pub(super) fn find(&self, number: u64) -> Found<R> {
        if number >= self.next {
            return Found::End;
        }
        match self.place(number).and_then(|place| self.batches.get(place)) {
            Some((batch, _)) => Found::Batch(batch.clone()),
            None => Found::Gone(self.next, self.last),
        }
    }

    fn place(&self, number: u64) -> Option<usize> {
        let oldest = self.next - self.batches.len() as u64;
        usize::try_from(number.checked_sub(oldest)?).ok()
    }
}

/// The place behind `since`, if that is one of these events.
fn known_of<R>(batch: &Batch<R>, since: EventId) -> Option<(u64, usize)> {
    let is_of_it = since <= batch.last() && (since.epoch, since.revision) == (batch.first.epoch, batch.first.revision);
    let known = usize::try_from(since.index.checked_sub(batch.first.index)?).ok()? + 1;
    is_of_it.then_some((batch.number, known))
}
