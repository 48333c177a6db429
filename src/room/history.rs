//! The last events of one room, bounded in number, bytes and age, in the order in which this node heard of them. Time comes
//! in.

mod points;

use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::OnceLock;
use std::sync::PoisonError;
use std::time::Duration;

use syncline_protocol::Moment;

use crate::bus::NodeId;
use crate::event::Event;
use crate::event::EventId;

use super::mark::Mark;
use super::mark::Stamp;
use points::Points;

/// Events that are kept for those who listen now, even where no history is wanted: a reader that is a moment late finds
/// them.
const LIVE_EVENTS_MIN: usize = 100;
/// What a batch takes beside its content.
pub(super) const BATCH_BYTES: usize = 256;
/// What an event takes beside its text.
const EVENT_BYTES: usize = 192;
/// The text, and what a dialect makes of it.
const FORMS: usize = 2;
/// Places are counted from here, so that what happened before can be put in front.
const FIRST_PLACE: u64 = 1 << 32;

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
    stamp: Stamp,
    at: Moment,
    raw: Mutex<Option<R>>,
    events: OnceLock<Vec<Arc<Event>>>,
}

impl<R> Batch<R> {
    fn new(news: News<R>, stamp: Stamp, number: u64, at: Moment) -> Self {
        let News { first, count, content, .. } = news;
        let (raw, events) = match content {
            Content::Raw(raw) => (Some(raw), OnceLock::new()),
            Content::Encoded(events) => (None, OnceLock::from(events)),
        };
        Self { first, count, number, stamp, at, raw: Mutex::new(raw), events }
    }

    /// One event that is in no history.
    pub(super) fn passing(news: News<R>, at: Moment) -> Self {
        Self::new(news, Stamp { origin: NodeId(0), number: 0 }, u64::MAX, at)
    }

    pub(super) fn first(&self) -> EventId {
        self.first
    }

    /// Who told it.
    pub(super) fn stamp(&self) -> Stamp {
        self.stamp
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
            bytes = Some(BATCH_BYTES + weight_of(events.iter()));
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

/// About what encoded events take.
pub(super) fn weight_of<'a>(events: impl Iterator<Item = &'a Event>) -> usize {
    events.map(|event| EVENT_BYTES + FORMS * event.json.len()).sum()
}

/// What happened, as it is known.
pub(super) enum Content<R> {
    /// To be encoded when somebody reads it.
    Raw(R),
    /// By another node.
    Encoded(Vec<Arc<Event>>),
}

impl<R> Content<R> {
    pub(super) fn map(self, change: impl Fn(Arc<Event>) -> Arc<Event>) -> Self {
        match self {
            Self::Raw(_) => self,
            Self::Encoded(events) => Self::Encoded(events.into_iter().map(change).collect()),
        }
    }
}

/// Something that happened, before it is in the history.
pub(super) struct News<R> {
    pub(super) first: EventId,
    /// At least 1.
    pub(super) count: usize,
    /// About what the content takes.
    pub(super) bytes: usize,
    pub(super) content: Content<R>,
}

/// What is found at a place in the history.
pub(super) enum Found<R> {
    Batch(Arc<Batch<R>>),
    /// Nothing yet.
    End,
    /// It is gone. Where to go on, and the id of the last event before that.
    Gone(u64, EventId),
}

/// Where somebody goes on who comes back.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The number of the next batch.
    pub(super) next: u64,
    /// What is known of the batches from there on.
    pub(super) behind: Option<Behind>,
}

/// What somebody knows of the batches that stand before the end that the history had when he came back.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Behind {
    mark: Mark,
    until: u64,
    /// How many of the events of one batch are known.
    partly: (u64, usize),
}

impl Behind {
    /// How many of a batch's events are known; `None` for all of them.
    pub(super) fn known_of<R>(&self, batch: &Batch<R>) -> Option<usize> {
        if batch.number == self.partly.0 {
            return Some(self.partly.1);
        }
        (batch.number >= self.until || !self.mark.covers(batch.stamp)).then_some(0)
    }
}

struct Entry<R> {
    batch: Arc<Batch<R>>,
    /// What it is counted with.
    bytes: usize,
    /// What those know who have heard it. Its stamp is that of the batch.
    mark: Mark,
}

/// The history of one room.
pub(super) struct History<R> {
    entries: VecDeque<Entry<R>>,
    /// The number of the next batch.
    next: u64,
    /// The id before the oldest event that is kept, and what those know who know it.
    base: (EventId, Mark),
    /// Of each node the last that is not kept.
    floor: BTreeMap<NodeId, u64>,
    /// When the newest of that was heard of, at the latest.
    gone_at: Moment,
    /// Ids of what is not kept.
    points: Points,
    events: usize,
    bytes: usize,
}

impl<R> History<R> {
    /// Nothing happened since this id, which belongs to no event.
    pub(super) fn new(base: EventId, mark: Mark) -> Self {
        let (entries, floor, points) = (VecDeque::new(), BTreeMap::new(), Points::default());
        Self { entries, next: FIRST_PLACE, base: (base, mark), floor, gone_at: Moment(0), points, events: 0, bytes: 0 }
    }

    /// An id was given to something that is not kept. Whoever knows it, knows what the mark says.
    pub(super) fn issue(&mut self, id: EventId, mark: Mark) {
        self.points.add(id, mark);
    }

    /// The newest id that this node gave to something that is not kept.
    pub(super) fn issued(&self, me: NodeId) -> EventId {
        self.points.last(me)
    }

    /// The newest id.
    pub(super) fn last(&self) -> EventId {
        self.entries.back().map_or(self.base.0, |entry| entry.batch.last())
    }

    /// The number that the next batch will have.
    pub(super) fn end(&self) -> u64 {
        self.next
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Says that nothing was missed up to `id`, where nothing is kept.
    pub(super) fn begin_at(&mut self, id: EventId, mark: Mark) {
        if self.is_empty() && id > self.base.0 {
            self.base = (id, mark);
        }
    }

    /// Begins anew behind this id: who listens is told that something was missed, and nobody can come back to what was
    /// before. `known`: of each node the last that is not kept.
    pub(super) fn restart(&mut self, now: Moment, id: EventId, mark: Mark, known: Vec<(NodeId, u64)>) {
        while !self.is_empty() {
            self.drop_oldest();
        }
        self.base = (id, mark);
        known.into_iter().for_each(|(node, number)| self.raise_floor(node, number));
        (self.points, self.gone_at) = (Points::default(), now);
        // A place that nobody can have read: whoever stands there missed something.
        self.next += 1;
    }

    /// What of a node's is not kept.
    pub(super) fn raise_floor(&mut self, node: NodeId, number: u64) {
        let floor = self.floor.entry(node).or_default();
        *floor = (*floor).max(number);
    }

    pub(super) fn floor(&self) -> Vec<(NodeId, u64)> {
        self.floor.iter().map(|(node, number)| (*node, *number)).collect()
    }

    /// When the newest that is not kept was heard of, at the latest.
    pub(super) fn gone_at(&self) -> Moment {
        self.gone_at
    }

    pub(super) fn base(&self) -> &(EventId, Mark) {
        &self.base
    }

    /// A node that is gone, and of which nothing is kept, is remembered no more. Whether that is so.
    pub(super) fn forget(&mut self, node: NodeId) -> bool {
        let is_kept = self.entries.iter().any(|entry| entry.batch.stamp.origin == node);
        if !is_kept {
            self.floor.remove(&node);
        }
        !is_kept
    }

    /// Adds what happened. Full: the oldest goes; if it is larger than all that may be kept, it goes at once, and whoever
    /// listens is told that something was missed.
    pub(super) fn push(&mut self, now: Moment, limits: &Keep, mark: Mark, news: News<R>) -> Arc<Batch<R>> {
        let bytes = news.bytes + BATCH_BYTES;
        let batch = Arc::new(Batch::new(news, mark.stamp, self.next, now));
        self.next += 1;
        self.events += batch.count;
        self.bytes += bytes;
        self.entries.push_back(Entry { batch: batch.clone(), bytes, mark });
        self.trim(now, limits);
        batch
    }

    /// Puts what happened before in front of everything, oldest first, each with when it was heard of. `base`, `floor`
    /// and when that was heard of are those of the node that kept it.
    pub(super) fn put_before(
        &mut self,
        limits: &Keep,
        older: Vec<(Moment, Mark, News<R>)>,
        base: (EventId, Mark),
        (floor, gone_at): (&[(NodeId, u64)], Moment),
    ) {
        let own = std::mem::replace(&mut self.base, base);
        self.points.add(own.0, own.1);
        floor.iter().for_each(|(node, number)| self.raise_floor(*node, *number));
        self.gone_at = self.gone_at.max(gone_at);
        let Some((latest, ..)) = older.last() else { return };
        let now = *latest;
        for (at, mark, news) in older.into_iter().rev() {
            let number = self.next - self.entries.len() as u64 - 1;
            let bytes = news.bytes + BATCH_BYTES;
            let batch = Arc::new(Batch::new(news, mark.stamp, number, at));
            self.events += batch.count;
            self.bytes += bytes;
            self.entries.push_front(Entry { batch, bytes, mark });
        }
        self.trim(now, limits);
    }

    /// What is kept, oldest first, with what those know who have heard it.
    pub(super) fn kept(&self) -> impl DoubleEndedIterator<Item = (&Arc<Batch<R>>, &Mark)> {
        self.entries.iter().map(|entry| (&entry.batch, &entry.mark))
    }

    /// What this node told so far was told behind all of this. For what was told while that was not known yet.
    pub(super) fn remark(&mut self, me: NodeId, begin: u64, mark: &Mark) {
        for entry in &mut self.entries {
            let Stamp { origin, number } = entry.batch.stamp;
            if origin == me && number > begin {
                entry.mark.others.clone_from(&mark.others);
            }
        }
        self.points.remark(me, mark);
    }

    /// Lets go of what is too much, or too old.
    pub(super) fn trim(&mut self, now: Moment, limits: &Keep) {
        let events_max = limits.events_max.max(LIVE_EVENTS_MIN);
        while let Some(oldest) = self.entries.front() {
            // The newest transaction stays whole, however many events it makes.
            let is_too_much = self.events > events_max && self.entries.len() > 1;
            let is_too_old = limits.keep.is_some_and(|keep| now.since(oldest.batch.at) > keep);
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
        if let Some(Entry { batch, bytes, mark }) = self.entries.pop_front() {
            self.raise_floor(batch.stamp.origin, batch.stamp.number);
            self.gone_at = self.gone_at.max(batch.at);
            self.base = (batch.last(), mark);
            self.events -= batch.count;
            self.bytes -= bytes;
            let floor = &self.floor;
            self.points.trim(|mark| is_above(floor, mark));
        }
    }

    /// Counts a batch with what it takes now that it is encoded.
    pub(super) fn reweigh(&mut self, now: Moment, limits: &Keep, number: u64, bytes: usize) {
        let Some(place) = self.place(number) else { return };
        let Some(entry) = self.entries.get_mut(place) else { return };
        self.bytes = self.bytes - entry.bytes + bytes;
        entry.bytes = bytes;
        self.trim(now, limits);
    }

    /// What those know who know this id, and the events of one batch that they know. `None` when the id is not known any
    /// more, or was never one of this room.
    pub(super) fn mark_of(&self, id: EventId) -> Option<(&Mark, Option<(u64, usize)>)> {
        let known = |entry: &'_ Entry<R>| Some((entry.batch.number, known_of(&entry.batch, id)?));
        let event = self.entries.iter().rev().find_map(|entry| Some((&entry.mark, Some(known(entry)?))));
        let base = || (id == self.base.0).then_some((&self.base.1, None));
        event.or_else(base).or_else(|| Some((self.points.find(id)?, None)))
    }

    /// What those know at least who know this id: of a transaction of which they know a part, nothing.
    pub(super) fn mark_before(&self, id: EventId) -> Option<Mark> {
        let (mark, partly) = self.mark_of(id)?;
        let mut mark = mark.clone();
        let batch = partly.and_then(|(number, known)| Some((self.entries.get(self.place(number)?)?, known)));
        if batch.is_some_and(|(entry, known)| known < entry.batch.count) {
            mark.stamp.number -= 1;
        }
        Some(mark)
    }

    /// Where somebody goes on who has heard everything up to `since`. `None` when that is not known any more, or was never
    /// an id of this room, or something that was missed is not kept.
    pub(super) fn resume(&self, limits: &Keep, since: EventId) -> Option<Place> {
        let (mark, partly) = self.mark_of(since)?;
        if !is_above(&self.floor, mark) {
            return None;
        }
        let partly = partly.unwrap_or((u64::MAX, 0));
        let behind = Behind { mark: mark.clone(), until: self.next, partly };
        let is_news = |entry: &&Entry<R>| behind.known_of(&entry.batch).is_some_and(|known| known < entry.batch.count);
        let Some(first) = self.entries.iter().find(is_news) else { return Some(self.live()) };
        let next = first.batch.number;
        (limits.events_max > 0).then_some(Place { next, behind: Some(behind) })
    }

    /// The place of somebody who wants to hear what comes next.
    pub(super) fn live(&self) -> Place {
        Place { next: self.next, behind: None }
    }

    pub(super) fn find(&self, number: u64) -> Found<R> {
        if number >= self.next {
            return Found::End;
        }
        match self.place(number).and_then(|place| self.entries.get(place)) {
            Some(entry) => Found::Batch(entry.batch.clone()),
            None => Found::Gone(self.next, self.last()),
        }
    }

    fn place(&self, number: u64) -> Option<usize> {
        let oldest = self.next - self.entries.len() as u64;
        usize::try_from(number.checked_sub(oldest)?).ok()
    }
}

/// Whether everything is kept that is behind a mark.
fn is_above(floor: &BTreeMap<NodeId, u64>, mark: &Mark) -> bool {
    floor.iter().all(|(node, number)| *number <= mark.of(*node))
}

/// How many of these events somebody knows who knows this one.
fn known_of<R>(batch: &Batch<R>, since: EventId) -> Option<usize> {
    let is_of_it = since <= batch.last() && (since.epoch, since.revision) == (batch.first.epoch, batch.first.revision);
    let known = usize::try_from(since.index.checked_sub(batch.first.index)?).ok()? + 1;
    is_of_it.then_some(known)
}
