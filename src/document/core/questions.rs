//! Our questions to one channel (step 1) that it has not answered yet (step 2), and what each answer is worth.
//!
//! A client that counts what is unsaved begins anew at one whenever it sends a step 1, counts one for every update after
//! that, and expects to be asked in return. So the answer to that question is worth one, the answer to a question of our
//! own as much as was dropped, and what was owed from before a step 1 is owed no more. (`@hocuspocus/provider` 2 to 4; one
//! status too many, and the older ones take an unsaved edit for saved.)

use std::collections::VecDeque;

use crate::document::request::Receipt;
use crate::document::saving::Owed;

/// Questions that wait for an answer. Full: nothing more is asked; the answers to come bring everything.
const OPEN_MAX: usize = 16;

/// What a question is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Question {
    /// The client begins, and counts on being asked.
    Whole,
    /// Updates that were dropped before they could be merged.
    Rest,
}

/// The open questions to one channel.
#[derive(Debug)]
pub(super) struct Questions {
    receipt: Receipt,
    open: VecDeque<Question>,
    /// Updates that were dropped, and that the client still waits to hear of.
    dropped: u32,
}

impl Questions {
    pub(super) fn new(receipt: Receipt) -> Self {
        Self { receipt, open: VecDeque::new(), dropped: 0 }
    }

    /// Whether its client counts.
    pub(super) fn counts(&self) -> bool {
        self.receipt == Receipt::Status
    }

    /// What one update is worth.
    pub(super) fn worth(&self) -> Owed {
        match self.receipt {
            Receipt::Echo => Owed::Echo,
            Receipt::Status => Owed::Status(1),
        }
    }

    /// Notes a question. Answers whether it is to be asked.
    pub(super) fn ask(&mut self, question: Question) -> bool {
        if !self.counts() {
            return true; // It does not matter which question an answer answers.
        }
        let room = self.open.len() < OPEN_MAX;
        if room {
            self.open.push_back(question);
        }
        room
    }

    /// What an answer is worth that has come now.
    pub(super) fn answered(&mut self) -> Owed {
        match (self.receipt, self.open.pop_front()) {
            (Receipt::Echo, _) => Owed::Echo,
            (Receipt::Status, Some(Question::Whole) | None) => Owed::Status(1),
            (Receipt::Status, Some(Question::Rest)) => Owed::Status(std::mem::take(&mut self.dropped)),
        }
    }

    /// An update of this worth was dropped; it comes back with the answer to [`Question::Rest`].
    pub(super) fn dropped(&mut self, owed: Owed) {
        if let Owed::Status(count) = owed {
            self.dropped = self.dropped.saturating_add(count);
        }
    }

    /// The client begins anew.
    pub(super) fn forgive(&mut self) {
        self.dropped = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_worth_what_the_client_waits_for() {
        let mut questions = Questions::new(Receipt::Status);
        assert!(questions.ask(Question::Whole));
        assert_eq!(questions.answered(), Owed::Status(1));
        assert_eq!(questions.worth(), Owed::Status(1));

        questions.dropped(Owed::Status(1));
        questions.dropped(Owed::Status(1));
        assert!(questions.ask(Question::Rest) && questions.ask(Question::Rest));
        assert_eq!(questions.answered(), Owed::Status(2));
        assert_eq!(questions.answered(), Owed::Status(0));
        assert_eq!(questions.answered(), Owed::Status(1), "nobody asked: it is answered all the same");
    }

    #[test]
    fn a_client_that_begins_anew_is_owed_nothing_from_before() {
        let mut questions = Questions::new(Receipt::Status);
        questions.dropped(Owed::Status(5));
        assert!(questions.ask(Question::Rest));
        questions.forgive();
        assert_eq!(questions.answered(), Owed::Status(0));
    }

    #[test]
    fn a_client_that_never_answers_is_not_asked_for_ever() {
        let mut questions = Questions::new(Receipt::Status);
        assert!((0..OPEN_MAX).all(|_| questions.ask(Question::Whole)));
        assert!(!questions.ask(Question::Whole));
        let mut echoed = Questions::new(Receipt::Echo);
        assert!((0..2 * OPEN_MAX).all(|_| echoed.ask(Question::Whole)), "nothing is kept for it");
    }
}
