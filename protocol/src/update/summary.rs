//! What an update would bring, and what must be there before it can be applied.

use std::cmp::Reverse;

use crate::state_vector::StateVector;
use crate::update::ContentKinds;
use crate::update::few::Few;

/// A run of one client's clocks: `start` is in it, `end` is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct ClientRange {
    /// Whose.
    pub client: u64,
    /// The first clock.
    pub start: u32,
    /// One past the last clock.
    pub end: u32,
}

/// Whether an update can be applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readiness {
    /// Nothing that it builds on is missing.
    Ready,
    /// For each client, the clock that has to be reached first.
    Missing(Vec<(u64, u32)>),
}

/// What one valid update contains. Made by [`super::validate`]; small updates are summed up without allocating.
#[derive(Debug, Clone, Default)]
pub struct Summary {
    /// Sorted: higher clients first, then by start. Never touching each other.
    pub(super) ranges: Few<ClientRange, 2>,
    /// In the order of the bytes.
    pub(super) deletes: Few<ClientRange, 4>,
    /// What the structs refer to outside of `ranges`: clients, each at most once, with the clock to reach.
    pub(super) needs: Few<(u64, u32), 3>,
    /// Where the root names stand in the bytes, each name once.
    pub(super) roots: Few<(usize, usize), 2>,
    pub(super) structs: usize,
    pub(super) types: usize,
    pub(super) kinds: ContentKinds,
}

impl Summary {
    /// The clocks that the update fills, higher clients first. A client has several ranges where a Skip lies between.
    #[must_use]
    pub fn ranges(&self) -> &[ClientRange] {
        &self.ranges
    }

    /// The delete set: sorted and not overlapping within each client.
    pub fn deletes(&self) -> impl Iterator<Item = ClientRange> + '_ {
        self.deletes.iter().copied()
    }

    /// Whether the update says nothing at all: no structs (gaps are none) and no deletions.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.structs == 0 && self.deletes.is_empty()
    }

    /// Number of structs, gaps not counted.
    #[must_use]
    pub fn structs(&self) -> usize {
        self.structs
    }

    /// Number of shared types that the update creates: an upper bound of how deep it nests.
    #[must_use]
    pub fn types(&self) -> usize {
        self.types
    }

    /// The kinds of content and of nested types in it.
    #[must_use]
    pub fn kinds(&self) -> ContentKinds {
        self.kinds
    }

    /// The root names that its structs mention, each once; `update` is what was validated. After
    /// [`super::ROOTS_MAX`] different names the rest is left out, see [`Self::roots_complete`]. Structs that have
    /// neighbours do not name their root, so an update may well touch roots it does not mention.
    pub fn roots<'a>(&'a self, update: &'a [u8]) -> impl Iterator<Item = &'a str> {
        self.roots.iter().filter_map(|&(start, end)| std::str::from_utf8(update.get(start..end)?).ok())
    }

    /// Whether [`Self::roots`] yields every mentioned name.
    #[must_use]
    pub fn roots_complete(&self) -> bool {
        self.roots.len() < super::ROOTS_MAX
    }

    /// Whether Skip blocks are in it. Such an update goes through [`super::split_ready`], never to the engine.
    #[must_use]
    pub fn has_gap(&self) -> bool {
        self.kinds.contains(ContentKinds::SKIP)
    }

    /// The causal gate: whether everything that the structs follow or refer to, and everything that is deleted, is
    /// in `known` or in the update itself.
    #[must_use]
    pub fn readiness(&self, known: &StateVector) -> Readiness {
        // Every range has to start at something known: two ranges of one client never touch.
        let starts = self.ranges.iter().map(|range| (range.client, range.start));
        let needs = starts.chain(self.needs.iter().copied());
        let mut missing: Vec<_> = needs.filter(|&(client, clock)| known.clock(client) < clock).collect();
        let absent = self.deletes.iter().filter(|range| known.clock(range.client) < range.end);
        missing.extend(absent.filter(|range| self.reach(range.client, known) < range.end).map(|r| (r.client, r.end)));
        if missing.is_empty() {
            return Readiness::Ready;
        }
        missing.sort_unstable_by_key(|&(client, clock)| (client, Reverse(clock)));
        missing.dedup_by_key(|&mut (client, _)| client);
        Readiness::Missing(missing)
    }

    /// The clock up to which `client` is whole once the update was applied on `known`.
    fn reach(&self, client: u64, known: &StateVector) -> u32 {
        let mut reach = known.clock(client);
        let first = self.ranges.partition_point(|range| range.client > client);
        for range in self.ranges[first..].iter().take_while(|range| range.client == client) {
            if range.start > reach {
                break;
            }
            reach = reach.max(range.end);
        }
        reach
    }

    /// Whether every struct in it is below `known`. Deletions are not judged: they may still be new.
    #[must_use]
    pub fn structs_known(&self, known: &StateVector) -> bool {
        self.ranges.iter().all(|range| range.end <= known.clock(range.client))
    }
}

/// The range of `ranges` (sorted as those of a [`Summary`]) that holds a clock.
pub(super) fn range_of(ranges: &[ClientRange], client: u64, clock: u32) -> Option<&ClientRange> {
    let index = ranges.partition_point(|r| r.client > client || (r.client == client && r.end <= clock));
    ranges.get(index).filter(|range| range.client == client && range.start <= clock)
}
