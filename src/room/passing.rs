//! What is worth hearing now and not worth keeping: who came, where a cursor is, who types. Of each key the last. Time
//! comes in.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use syncline_protocol::Moment;

use crate::event::EventId;

use super::history::BATCH_BYTES;
use super::history::Batch;
use super::history::Content;
use super::history::News;

/// A few for everybody in a busy room. Full: the oldest goes, and whoever has not heard it is told that something was
/// missed.
pub(super) const KEYS_MAX: usize = 4096;
/// About a kilobyte for each key; 500 of the largest states that a client may show. Full: as above.
const BYTES_MAX: usize = 4 << 20;
/// Whoever has not heard it by then is as good as gone.
const KEEP: Duration = Duration::from_secs(60);

/// What passes through one room.
pub(super) struct Passing<R> {
    kept: BTreeMap<u64, Kept<R>>,
    numbers: HashMap<Arc<str>, u64>,
    next: u64,
    /// The newest that went without another in its place: the number behind it, its id, and its place.
    gone: (u64, EventId, u64),
    bytes: usize,
}

struct Kept<R> {
    key: Arc<str>,
    /// Which batch of the history was the next when it came.
    place: u64,
    batch: Arc<Batch<R>>,
    bytes: usize,
}

/// What is found behind a place.
pub(super) enum Passed<R> {
    /// With the number behind it, and where in the history it came.
    Event(u64, Arc<Batch<R>>, u64),
    /// Something is gone. Where to go on, the id of what is gone, and where that came.
    Gone(u64, EventId, u64),
}

impl<R> Passed<R> {
    /// Which batch of the history was the next when it came.
    pub(super) fn place(&self) -> u64 {
        match self {
            Self::Event(_, _, place) | Self::Gone(_, _, place) => *place,
        }
    }
}

impl<R> Default for Passing<R> {
    fn default() -> Self {
        let gone = (0, EventId::default(), 0);
        Self { kept: BTreeMap::new(), numbers: HashMap::new(), next: 0, gone, bytes: 0 }
    }
}

impl<R> Passing<R> {
    /// The place of somebody who has heard everything.
    pub(super) fn end(&self) -> u64 {
        self.next
    }

    /// About what it takes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Something passes when so much was told, in place of what passed under the same key.
    pub(super) fn push(
        &mut self,
        now: Moment,
        place: u64,
        key: &str,
        id: EventId,
        (bytes, content): (usize, Content<R>),
    ) {
        let (key, number, bytes) = (Arc::<str>::from(key), self.next, bytes + 2 * key.len() + BATCH_BYTES);
        let news = News { first: id, count: 1, bytes, content };
        self.next += 1;
        if let Some(before) = self.numbers.insert(key.clone(), number) {
            self.remove(before);
        }
        self.bytes += bytes;
        self.kept.insert(number, Kept { key, place, batch: Arc::new(Batch::passing(news, now)), bytes });
        self.trim(now);
    }

    /// Lets go of what is too much, or too old.
    pub(super) fn trim(&mut self, now: Moment) {
        while let Some((_, oldest)) = self.kept.first_key_value() {
            let is_too_old = now.since(oldest.batch.at()) > KEEP;
            if !is_too_old && self.kept.len() <= KEYS_MAX && self.bytes <= BYTES_MAX {
                return;
            }
            self.drop_oldest();
        }
    }

    /// Lets go of the older half.
    pub(super) fn halve(&mut self) {
        let left = self.bytes / 2;
        while self.bytes > left && !self.kept.is_empty() {
            self.drop_oldest();
        }
    }

    /// Lets go of everything: nobody listens.
    pub(super) fn clear(&mut self) {
        *self = Self { next: self.next, gone: self.gone, ..Self::default() };
    }

    /// What is at a place or behind it.
    pub(super) fn find(&self, place: u64) -> Option<Passed<R>> {
        if place < self.gone.0 {
            return Some(Passed::Gone(self.gone.0, self.gone.1, self.gone.2));
        }
        let (number, kept) = self.kept.range(place..).next()?;
        Some(Passed::Event(number + 1, kept.batch.clone(), kept.place))
    }

    fn drop_oldest(&mut self) {
        let Some((&number, oldest)) = self.kept.first_key_value() else { return };
        self.gone = (number + 1, oldest.batch.first(), oldest.place);
        self.numbers.remove(&oldest.key);
        self.remove(number);
    }

    fn remove(&mut self, number: u64) {
        if let Some(kept) = self.kept.remove(&number) {
            self.bytes -= kept.bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(index: u64) -> EventId {
        EventId { epoch: 0, revision: 0, index }
    }

    /// Everything behind a place: ids, and `None` for a gap.
    fn all(passing: &Passing<()>, mut place: u64) -> Vec<Option<u64>> {
        let mut found = Vec::new();
        while let Some(passed) = passing.find(place) {
            let (next, index) = match passed {
                Passed::Event(next, batch, _) => (next, Some(batch.first().index)),
                Passed::Gone(next, ..) => (next, None),
            };
            found.push(index);
            place = next;
        }
        found
    }

    #[test]
    fn the_last_of_each_key_is_heard_in_the_order_in_which_it_came() {
        let mut passing = Passing::default();
        for (index, key) in ["a", "b", "a", "c", "b"].into_iter().enumerate() {
            passing.push(Moment(0), 0, key, id(index as u64), (10, Content::Raw(())));
        }
        assert_eq!(all(&passing, 0), [Some(2), Some(3), Some(4)]);
        assert_eq!(all(&passing, 4), [Some(4)], "who has heard the others hears the rest");
        assert_eq!(all(&passing, passing.end()), []);
    }

    #[test]
    fn full_means_that_the_oldest_goes_and_those_behind_it_are_told() {
        let mut passing = Passing::default();
        (0..KEYS_MAX as u64 + 2)
            .for_each(|n| passing.push(Moment(0), 0, &n.to_string(), id(n), (10, Content::Raw(()))));
        let found = all(&passing, 0);
        assert_eq!((found.len(), found[0], found[1]), (KEYS_MAX + 1, None, Some(2)));
        assert_eq!(all(&passing, 2)[0], Some(2), "who has heard what went misses nothing");
        (0..1_000).for_each(|n| passing.push(Moment(0), 0, &n.to_string(), id(10_000 + n), (10_000, Content::Raw(()))));
        assert!(passing.bytes() <= BYTES_MAX);
        passing.halve();
        assert!(passing.bytes() <= BYTES_MAX / 2);
        passing.push(Moment(KEEP.as_millis() as u64 + 1), 0, "late", id(20_000), (10, Content::Raw(())));
        assert_eq!(all(&passing, 0), [None, Some(20_000)], "what is old is gone");
        let end = passing.end();
        passing.clear();
        assert_eq!((passing.bytes(), passing.end(), all(&passing, end)), (0, end, vec![]));
    }

    #[test]
    fn the_bytes_are_those_of_what_is_kept() {
        let mut passing = Passing::default();
        for n in 0..10_000_u64 {
            passing.push(
                Moment(n),
                0,
                &(n * n % 97).to_string(),
                id(n),
                (usize::try_from(n % 400).unwrap(), Content::Raw(())),
            );
            let sum: usize = passing.kept.values().map(|kept| kept.bytes).sum();
            assert_eq!((passing.bytes(), passing.numbers.len()), (sum, passing.kept.len()));
        }
    }
}
