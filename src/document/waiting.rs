//! Updates that came before what they build on. The engine would hold them without bound and in quadratic time, so it
//! never sees them; they wait here, within bounds, and are merged when their predecessors have come.
//!
//! Full, or waited too long: the update is dropped, and its writer is asked for everything we lack (a step 1), which brings
//! it back together with its predecessors. It was not acknowledged, so nothing that was called saved is lost.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use syncline_protocol::Moment;

use super::request::ReaderId;
use super::saving::Owed;

/// Updates that wait. Reordering on one path is a handful; a relay that reconnects sends a few dozen.
const HELD_MAX: usize = 256;
/// Bytes that wait.
const HELD_BYTES_MAX: usize = 4 << 20;
/// After this long the predecessor is not merely late.
const PATIENCE: Duration = Duration::from_secs(30);

/// One update that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Its writer's channel.
    pub from: ReaderId,
    /// What cannot be merged yet.
    pub update: Bytes,
    /// What the writer sent: the echo, once `update` is durable.
    pub sent: Bytes,
    /// What the writer is owed once all of it is durable.
    pub owed: Owed,
    /// When it came.
    pub since: Moment,
}

/// An update that waited and was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dropped {
    /// Its writer's channel.
    pub from: ReaderId,
    /// What the writer is still owed for it: it comes back in answer to our question, and is durable then.
    pub owed: Owed,
}

/// The waiting updates of one document.
#[derive(Debug, Default)]
pub struct Waiting {
    held: VecDeque<Held>,
    bytes: usize,
}

impl Waiting {
    /// Holds an update. Answers what had to be dropped for it.
    #[must_use]
    pub fn hold(&mut self, update: Held) -> Vec<Dropped> {
        let mut dropped = Vec::new();
        if update.update.len() > HELD_BYTES_MAX {
            return vec![Dropped::from(update)];
        }
        self.bytes += update.update.len();
        self.held.push_back(update);
        while self.held.len() > HELD_MAX || self.bytes > HELD_BYTES_MAX {
            dropped.extend(self.drop_oldest());
        }
        dropped
    }

    /// A writer that counts has begun anew: it does not wait for these any more.
    pub fn forgive(&mut self, writer: ReaderId) {
        for held in self.held.iter_mut().filter(|held| held.from == writer) {
            if let Owed::Status(count) = &mut held.owed {
                *count = 0;
            }
        }
    }

    /// Takes everything out, oldest first, to be tried again.
    #[must_use]
    pub fn take(&mut self) -> VecDeque<Held> {
        self.bytes = 0;
        std::mem::take(&mut self.held)
    }

    /// Drops what waited too long, and answers it.
    #[must_use]
    pub fn expire(&mut self, now: Moment) -> Vec<Dropped> {
        let mut dropped = Vec::new();
        while self.held.front().is_some_and(|held| now.since(held.since) >= PATIENCE) {
            dropped.extend(self.drop_oldest());
        }
        dropped
    }

    /// When [`Self::expire`] has something to do next.
    #[must_use]
    pub fn deadline(&self) -> Option<Moment> {
        self.held.front().map(|held| held.since.after(PATIENCE))
    }

    /// Number of updates that wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.held.len()
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    fn drop_oldest(&mut self) -> Option<Dropped> {
        let held = self.held.pop_front()?;
        self.bytes -= held.update.len();
        Some(Dropped::from(held))
    }
}

impl From<Held> for Dropped {
    fn from(held: Held) -> Self {
        Self { from: held.from, owed: held.owed }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(from: u64, length: usize, since: u64) -> Held {
        let update = Bytes::from(vec![0; length]);
        Held { from: ReaderId(from), sent: update.clone(), owed: Owed::Echo, update, since: Moment(since) }
    }

    #[test]
    fn the_oldest_make_room_and_their_writers_are_named() {
        let mut waiting = Waiting::default();
        for writer in 0..HELD_MAX as u64 {
            assert_eq!(waiting.hold(held(writer, 1, 0)), vec![]);
        }
        assert_eq!(waiting.hold(held(999, 1, 0)), vec![Dropped { from: ReaderId(0), owed: Owed::Echo }]);
        assert_eq!(waiting.hold(held(999, HELD_BYTES_MAX - HELD_MAX + 2, 0)).len(), 2);
        assert_eq!(waiting.hold(held(7, HELD_BYTES_MAX + 1, 0))[0].from, ReaderId(7));
        assert!(waiting.bytes <= HELD_BYTES_MAX);
        assert_eq!(waiting.take().len(), HELD_MAX - 1);
        assert_eq!(waiting.bytes, 0);
    }

    #[test]
    fn what_waits_too_long_is_dropped() {
        let mut waiting = Waiting::default();
        assert_eq!(waiting.hold(held(1, 1, 0)), vec![]);
        assert_eq!(waiting.hold(held(2, 1, 10)), vec![]);
        let late = Moment(0).after(PATIENCE);
        assert_eq!(waiting.deadline(), Some(late));
        assert_eq!(waiting.expire(late), vec![Dropped { from: ReaderId(1), owed: Owed::Echo }]);
        assert_eq!(waiting.len(), 1);
    }
}
