//! How much memory documents take, and who leaves when it is too much.
//!
//! Every document tells its [`Share`] how much it takes, by estimate, and whether anybody reads it. When all of them
//! together are over the budget, those that nobody reads are asked to leave, the longest unread first, until the rest fits.
//! Documents with readers stay. When they alone are over the budget, [`Memory::has_room`] is `false` and no further
//! document is opened.
//!
//! The bound is soft: a document's size is known only when it was read from the store, and those with readers may grow.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use bytes::Bytes;
use metrics::Counter;
use metrics::Gauge;
use syncline_protocol::update::UpdateLimits;
use syncline_protocol::update::validate;
use tokio::sync::Notify;

/// What the engine needs for one struct: measured on texts and tables, 300 to 370 bytes.
const STRUCT_BYTES: usize = 340;
/// An actor, its inbox and an empty engine.
const DOCUMENT_BYTES: usize = 8 << 10;
/// What an encoded byte becomes before the structs were counted: between 3 for long texts and 16 for tables.
const GUESSED_FACTOR: usize = 8;
/// What a byte of a small change becomes: a letter that joins the one before it takes nothing, one between others two
/// structs.
const CHANGE_FACTOR: usize = 4;
/// Changes below this are not worth the lock.
const REPORT_BYTES: usize = 64 << 10;

/// How much a document is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Weight {
    /// Structs that the engine keeps.
    pub structs: usize,
    /// Bytes when encoded.
    pub bytes: usize,
}

impl Weight {
    /// Counts what is in these updates together; what is in two of them counts twice.
    #[must_use]
    pub fn of<'a>(updates: impl IntoIterator<Item = &'a Bytes>) -> Self {
        let limits = UpdateLimits { bytes_max: usize::MAX, structs_max: usize::MAX, ..UpdateLimits::default() };
        updates.into_iter().fold(Self::default(), |sum, update| {
            let structs = validate(update, &limits).map_or(0, |summary| summary.structs());
            Self { structs: sum.structs + structs, bytes: sum.bytes + update.len() }
        })
    }

    /// About how many bytes of memory that takes.
    #[must_use]
    pub fn memory_bytes(self) -> usize {
        DOCUMENT_BYTES + self.structs * STRUCT_BYTES + self.bytes
    }
}

/// About how many bytes of memory a document takes of which only the encoded length is known.
#[must_use]
pub fn guessed(encoded_bytes: usize) -> usize {
    DOCUMENT_BYTES + encoded_bytes * GUESSED_FACTOR
}

/// About how many bytes of memory a change adds.
#[must_use]
pub fn added(update_bytes: usize) -> usize {
    update_bytes * CHANGE_FACTOR
}

/// The memory that all documents share.
pub struct Memory {
    budget: usize,
    inner: Mutex<Inner>,
    bytes: Gauge,
    unloaded: Counter,
}

#[derive(Default)]
struct Inner {
    used: usize,
    /// Of `used`, documents that were asked to leave.
    leaving: usize,
    /// Documents that nobody reads, the longest unread first.
    idle: BTreeMap<u64, (usize, Arc<Notify>)>,
    turns: u64,
}

/// One document's part. Dropping it gives it back.
#[derive(Debug)]
pub struct Share {
    memory: Arc<Memory>,
    bytes: usize,
    place: Place,
    wake: Arc<Notify>,
}

/// Where a document stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    InUse,
    /// In [`Inner::idle`] under this number, unless it was asked to leave meanwhile.
    Idle(u64),
}

impl Memory {
    /// A budget of `budget` bytes. `bytes` shows what is used, `unloaded` counts documents that were asked to leave.
    #[must_use]
    pub fn new(budget: usize, bytes: Gauge, unloaded: Counter) -> Arc<Self> {
        Arc::new(Self { budget, inner: Mutex::default(), bytes, unloaded })
    }

    /// Whether another document may be opened. `false` when those that somebody reads fill the budget.
    #[must_use]
    pub fn has_room(&self) -> bool {
        let inner = self.lock();
        inner.used - inner.leaving < self.budget || !inner.idle.is_empty()
    }

    /// A part for one more document, in use at first.
    #[must_use]
    pub fn share(self: &Arc<Self>) -> Share {
        let mut share = Share { memory: self.clone(), bytes: 0, place: Place::InUse, wake: Arc::default() };
        share.take(DOCUMENT_BYTES);
        share
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // Sizes are far below 2^53.
    #[allow(clippy::cast_precision_loss)]
    fn shrink(&self, mut inner: MutexGuard<'_, Inner>) {
        while inner.used - inner.leaving > self.budget
            && let Some((_, (bytes, wake))) = inner.idle.pop_first()
        {
            inner.leaving += bytes;
            self.unloaded.increment(1);
            wake.notify_one();
        }
        self.bytes.set(inner.used as f64);
    }
}

impl Share {
    /// Says how much the document takes, and whether it can leave. Cheap when neither changed much.
    pub fn report(&mut self, bytes: usize, is_idle: bool) {
        let was_idle = matches!(self.place, Place::Idle(_));
        if was_idle != is_idle || bytes.abs_diff(self.bytes) > REPORT_BYTES {
            self.withdraw();
            self.take(bytes);
            if is_idle {
                self.line_up();
            }
            self.memory.shrink(self.memory.lock());
        }
    }

    /// Waits until the document is asked to leave. It may stay if somebody came meanwhile.
    pub async fn asked_to_leave(&self) {
        self.wake.notified().await;
    }

    fn take(&mut self, bytes: usize) {
        let mut inner = self.memory.lock();
        inner.used = inner.used - self.bytes + bytes;
        self.bytes = bytes;
    }

    fn line_up(&mut self) {
        let mut inner = self.memory.lock();
        inner.turns += 1;
        let turn = inner.turns;
        inner.idle.insert(turn, (self.bytes, self.wake.clone()));
        self.place = Place::Idle(turn);
    }

    /// Leaves the line, or the crowd of those who were asked to leave.
    fn withdraw(&mut self) {
        let Place::Idle(turn) = std::mem::replace(&mut self.place, Place::InUse) else { return };
        let mut inner = self.memory.lock();
        if inner.idle.remove(&turn).is_none() {
            inner.leaving -= self.bytes;
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.withdraw();
        self.take(0);
        self.memory.shrink(self.memory.lock());
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory").field("budget", &self.budget).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    fn memory(budget: usize) -> Arc<Memory> {
        Memory::new(budget, Gauge::noop(), Counter::noop())
    }

    fn asked(share: &Share) -> bool {
        use futures_util::FutureExt;
        share.asked_to_leave().now_or_never().is_some()
    }

    #[test]
    fn the_longest_unread_leave_first_and_no_more_than_needed() {
        let memory = memory(10 * MIB);
        let mut shares: Vec<Share> = (0..4).map(|_| memory.share()).collect();
        for share in &mut shares {
            share.report(2 * MIB, true);
        }
        // The first was read again in between.
        shares[0].report(2 * MIB, false);
        shares[0].report(2 * MIB, true);
        assert!(shares.iter().all(|share| !asked(share)));
        let mut large = memory.share();
        large.report(5 * MIB, false);
        assert_eq!(shares.iter().map(asked).collect::<Vec<_>>(), [false, true, true, false]);
        assert!(memory.has_room());
    }

    #[test]
    fn documents_with_readers_stay_and_fill_the_budget() {
        let memory = memory(4 * MIB);
        let mut read = memory.share();
        read.report(5 * MIB, false);
        assert!(!asked(&read));
        assert!(!memory.has_room());
        read.report(5 * MIB, true);
        assert!(asked(&read));
        assert!(memory.has_room(), "it is on its way out");
        // Somebody came before it left.
        read.report(5 * MIB, false);
        assert!(!memory.has_room());
        drop(read);
        assert!(memory.has_room());
        let inner = memory.lock();
        assert_eq!((inner.used, inner.leaving), (0, 0));
    }

    #[test]
    fn who_was_asked_to_leave_is_not_asked_for_twice_the_room() {
        let memory = memory(4 * MIB);
        let mut shares: Vec<Share> = (0..3).map(|_| memory.share()).collect();
        for share in &mut shares {
            share.report(2 * MIB, true);
        }
        assert_eq!(shares.iter().map(asked).collect::<Vec<_>>(), [true, false, false]);
        shares[2].report(2 * MIB + 2 * REPORT_BYTES, true);
        assert_eq!(shares.iter().map(asked).collect::<Vec<_>>(), [false, true, false]);
        shares.remove(0);
        assert_eq!(memory.lock().leaving, 2 * MIB);
    }

    #[test]
    fn small_changes_are_not_reported() {
        let memory = memory(MIB);
        let mut share = memory.share();
        share.report(DOCUMENT_BYTES + 100, false);
        assert_eq!(memory.lock().used, DOCUMENT_BYTES);
        share.report(DOCUMENT_BYTES + 100, true);
        assert_eq!(memory.lock().used, DOCUMENT_BYTES + 100);
    }
}
