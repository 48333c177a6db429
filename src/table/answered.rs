//! Requests that were done once and must not be done again: what their `Idempotency-Key` stands for.

use std::collections::HashMap;
use std::collections::VecDeque;
use std::sync::Arc;

use super::command::Once;
use super::plan::Report;

/// How long a key is remembered.
pub const KEPT_MS: u64 = 24 * 60 * 60 * 1000;
/// Keys remembered for one table. Full: the oldest is forgotten, and its request would be done again.
const KEYS_MAX: usize = 10_000;
/// Ids of records remembered with them, for one table. Full: the same.
const IDS_MAX: usize = 500_000;

/// What was done, and when.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// What was asked.
    pub fingerprint: u64,
    /// When it was done: milliseconds since 1970.
    pub at_ms: u64,
    /// What the caller was shown.
    pub report: Report,
}

impl Outcome {
    fn ids(&self) -> usize {
        match &self.report {
            Report::Records(records) => records.len(),
            Report::Table | Report::Field(_) | Report::Nested { .. } => 1,
        }
    }
}

/// Outcomes by key.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Answered {
    by_key: HashMap<Arc<str>, Outcome>,
    oldest: VecDeque<Arc<str>>,
    /// Ids of records in all outcomes.
    ids: usize,
}

impl Answered {
    /// What was done under this key, if that is not too long ago.
    #[must_use]
    pub fn find(&self, key: &str, now_ms: u64) -> Option<&Outcome> {
        self.by_key.get(key).filter(|outcome| outcome.at_ms + KEPT_MS > now_ms)
    }

    /// Remembers one.
    pub fn keep(&mut self, once: Once, report: Report, at_ms: u64) {
        let outcome = Outcome { fingerprint: once.fingerprint, at_ms, report };
        self.ids += outcome.ids();
        if let Some(former) = self.by_key.get(&once.key) {
            self.ids -= former.ids();
        }
        if self.by_key.insert(once.key.clone(), outcome).is_none() {
            self.oldest.push_back(once.key);
        }
        self.forget(at_ms);
    }

    /// Forgets what is too old, and what is too much.
    fn forget(&mut self, now_ms: u64) {
        while let Some(key) = self.oldest.front() {
            let too_old = self.by_key.get(key).is_none_or(|outcome| outcome.at_ms + KEPT_MS <= now_ms);
            let too_many = self.oldest.len() > KEYS_MAX || self.ids > IDS_MAX && self.oldest.len() > 1;
            if !too_old && !too_many {
                return;
            }
            if let Some(forgotten) = self.oldest.pop_front().and_then(|key| self.by_key.remove(&key)) {
                self.ids -= forgotten.ids();
            }
        }
    }

    /// Oldest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &Outcome)> {
        self.oldest.iter().filter_map(|key| Some((key, self.by_key.get(key)?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn once(key: &str) -> Once {
        Once { key: key.into(), fingerprint: 1 }
    }

    #[test]
    fn a_key_lives_for_a_day() {
        let mut answered = Answered::default();
        answered.keep(once("a"), Report::Table, 1000);
        assert!(answered.find("a", 1000 + KEPT_MS - 1).is_some());
        assert!(answered.find("a", 1000 + KEPT_MS).is_none());
        answered.keep(once("b"), Report::Table, 1000 + KEPT_MS);
        assert_eq!(answered.iter().count(), 1, "what is too old is not kept");
    }

    #[test]
    fn large_outcomes_make_room_sooner() {
        let mut answered = Answered::default();
        let many = Report::Records(vec![("r".into(), None); IDS_MAX / 2]);
        for key in ["a", "b", "c", "c"] {
            answered.keep(once(key), many.clone(), 5);
        }
        assert_eq!(answered.iter().map(|(key, _)| &**key).collect::<Vec<_>>(), ["b", "c"]);
        answered.keep(once("d"), Report::Table, 5 + KEPT_MS);
        assert_eq!(answered.ids, 1);
    }

    #[test]
    fn the_oldest_makes_room() {
        let mut answered = Answered::default();
        for number in 0..=KEYS_MAX {
            answered.keep(once(&number.to_string()), Report::Table, 5);
        }
        assert_eq!(answered.iter().count(), KEYS_MAX);
        assert!(answered.find("0", 5).is_none() && answered.find("1", 5).is_some());
    }
}
