//! Our questions to one channel (step 1) that it has not answered yet (step 2), and what each answer is worth.
//!
//! A client that counts what is unsaved counts one for its whole state when it sends its own step 1, and one for every
//! update after that. So an answer is worth one if it brings the whole state; as much as was dropped if it brings that
//! again; and nothing if the client does not wait for it.

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
    /// It was asked already: its content had to be loaded again.
    Again,
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
    /// Whether it has been asked for its whole state.
    greeted: bool,
    /// Whether it has begun.
    begun: bool,
}

impl Questions {
    pub(super) fn new(receipt: Receipt) -> Self {
        Self { receipt, open: VecDeque::new(), dropped: 0, greeted: false, begun: false }
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

    /// Notes a question that is being asked.
    pub(super) fn ask(&mut self, question: Question) {
        if self.counts() && self.open.len() < OPEN_MAX {
            self.open.push_back(question);
        }
    }

    /// The same for the question that greets a channel.
    pub(super) fn greet(&mut self) {
        let question = if std::mem::replace(&mut self.greeted, true) { Question::Again } else { Question::Whole };
        self.ask(question);
    }

    /// What an answer is worth that has come now.
    pub(super) fn answered(&mut self) -> Owed {
        match (self.receipt, self.open.pop_front()) {
            (Receipt::Echo, _) => Owed::Echo,
            (Receipt::Status, Some(Question::Whole) | None) => Owed::Status(1),
            (Receipt::Status, Some(Question::Rest)) => Owed::Status(std::mem::take(&mut self.dropped)),
            (Receipt::Status, Some(Question::Again)) => Owed::Status(0),
        }
    }

    /// An update of this worth was dropped; it comes back with the answer to [`Question::Rest`].
    pub(super) fn dropped(&mut self, owed: Owed) {
        if let Owed::Status(count) = owed {
            self.dropped = self.dropped.saturating_add(count);
        }
    }

    /// The client says its own step 1. Answers whether it is to be asked in return: one that begins anew has forgotten what
    /// it counted, and counts on being asked again.
    pub(super) fn begins(&mut self) -> bool {
        self.dropped = 0;
        let anew = std::mem::replace(&mut self.begun, true);
        anew && self.counts() && self.open.len() < OPEN_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_worth_what_the_client_waits_for() {
        let mut questions = Questions::new(Receipt::Status);
        questions.greet();
        assert!(!questions.begins(), "it was asked when it came");
        assert_eq!(questions.answered(), Owed::Status(1));
        assert_eq!(questions.worth(), Owed::Status(1));

        questions.dropped(Owed::Status(1));
        questions.dropped(Owed::Status(1));
        questions.ask(Question::Rest);
        questions.ask(Question::Rest);
        assert_eq!(questions.answered(), Owed::Status(2));
        assert_eq!(questions.answered(), Owed::Status(0));

        questions.greet();
        assert_eq!(questions.answered(), Owed::Status(0), "it does not count a second greeting");
        assert_eq!(questions.answered(), Owed::Status(1), "nobody asked: it is answered all the same");
    }

    #[test]
    fn a_client_that_begins_anew_is_asked_again_within_bounds() {
        let mut questions = Questions::new(Receipt::Status);
        questions.begins();
        questions.dropped(Owed::Status(5));
        for _ in 0..OPEN_MAX {
            assert!(questions.begins());
            questions.ask(Question::Whole);
        }
        assert!(!questions.begins(), "enough is asked already");
        assert_eq!(questions.dropped, 0);
    }
}
