//! Which positions of a log that several nodes write are in a copy of the document.

use std::collections::BTreeMap;

use crate::store::Seq;

/// Runs remembered behind a hole. Full: the one farthest off is forgotten, and comes once more with what filled the hole.
const RUNS_MAX: usize = 1024;

/// The positions that are in a copy: all up to one, and runs behind that.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Heard {
    last: u64,
    /// First and last of each run; they neither touch each other nor `last`.
    beyond: BTreeMap<u64, u64>,
}

impl Heard {
    /// Everything up to `last`.
    #[must_use]
    pub fn up_to(last: Seq) -> Self {
        Self { last: last.0, beyond: BTreeMap::new() }
    }

    /// The position up to which nothing is missing.
    #[must_use]
    pub fn last(&self) -> Seq {
        Seq(self.last)
    }

    /// The highest position.
    #[must_use]
    pub fn highest(&self) -> Seq {
        Seq(self.beyond.last_key_value().map_or(self.last, |(_, &last)| last))
    }

    /// Whether something is missing in between.
    #[must_use]
    pub fn has_hole(&self) -> bool {
        !self.beyond.is_empty()
    }

    /// Whether this position is there.
    #[must_use]
    pub fn has(&self, seq: Seq) -> bool {
        seq.0 <= self.last || self.beyond.range(..=seq.0).next_back().is_some_and(|(_, &last)| seq.0 <= last)
    }

    /// One more position.
    pub fn add(&mut self, seq: Seq) {
        self.add_run(seq, seq);
    }

    /// From `first` to `last`, both with it. Nothing if there is none between them.
    pub fn add_run(&mut self, first: Seq, last: Seq) {
        let (mut first, mut last) = (first.0, last.0);
        if first > last || last <= self.last {
            return;
        }
        // What touches it, or lies in it, becomes one with it.
        while let Some((&from, &to)) = self.beyond.range(..=last.saturating_add(1)).next_back()
            && to.saturating_add(1) >= first
        {
            self.beyond.remove(&from);
            (first, last) = (first.min(from), last.max(to));
        }
        if first <= self.last.saturating_add(1) {
            self.last = last;
            return;
        }
        self.beyond.insert(first, last);
        if self.beyond.len() > RUNS_MAX {
            self.beyond.pop_last();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_hole_is_seen_until_it_is_filled() {
        let mut heard = Heard::up_to(Seq(3));
        heard.add_run(Seq(6), Seq(7));
        assert!(heard.has_hole() && heard.has(Seq(6)) && !heard.has(Seq(4)));
        assert_eq!((heard.last(), heard.highest()), (Seq(3), Seq(7)));
        heard.add(Seq(5));
        heard.add(Seq(4));
        assert_eq!((heard.last(), heard.has_hole()), (Seq(7), false));
    }

    #[test]
    fn what_is_too_much_is_forgotten_from_the_far_end() {
        let mut heard = Heard::default();
        for run in 1..=RUNS_MAX as u64 + 5 {
            heard.add(Seq(run * 2));
        }
        assert_eq!(heard.beyond.len(), RUNS_MAX);
        assert!(heard.has(Seq(2)) && !heard.has(Seq(2 * (RUNS_MAX as u64 + 5))));
        heard.add_run(Seq(u64::MAX), Seq(u64::MAX));
        heard.add_run(Seq(0), Seq(u64::MAX));
        assert_eq!(heard.last(), Seq(u64::MAX));
    }

    proptest! {
        #[test]
        fn it_is_a_set(runs in prop::collection::vec((0_u64..40, 0_u64..6), 0..30)) {
            let (mut heard, mut set) = (Heard::default(), BTreeSet::from([0]));
            for (first, length) in runs {
                heard.add_run(Seq(first), Seq((first + length).saturating_sub(1)));
                set.extend(first..first + length);
                for seq in 0..50 {
                    prop_assert_eq!(heard.has(Seq(seq)), set.contains(&seq), "{} in {:?}", seq, heard);
                }
                let whole = (0..).take_while(|seq| set.contains(seq)).last().unwrap_or_default();
                prop_assert_eq!(heard.last(), Seq(whole));
                prop_assert_eq!(heard.highest().0, *set.last().unwrap());
            }
        }
    }
}
