//! What a client has heard already: one thing may be told in several of its rooms.

use std::collections::VecDeque;

/// So many are remembered: what is told in several rooms is told there at the same time.
const REMEMBERED: usize = 256;

/// The last stories that a client heard.
#[derive(Debug, Default)]
pub(super) struct Stories(VecDeque<u64>);

impl Stories {
    /// Whether this is told for the first time. 0 is no story, and always new.
    pub(super) fn is_new(&mut self, story: u64) -> bool {
        if story == 0 {
            return true;
        }
        if self.0.contains(&story) {
            return false;
        }
        if self.0.len() == REMEMBERED {
            self.0.pop_front();
        }
        self.0.push_back(story);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_story_is_heard_once_and_events_without_one_always() {
        let mut stories = Stories::default();
        assert!(stories.is_new(7) && !stories.is_new(7) && stories.is_new(8));
        assert!(stories.is_new(0) && stories.is_new(0));
        for story in 10..10 + REMEMBERED as u64 {
            assert!(stories.is_new(story));
        }
        assert!(stories.is_new(7), "forgotten long after");
    }
}
