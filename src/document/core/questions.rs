//! Our questions to one channel (step 1) that it has not answered yet (step 2), and what each answer is worth.
//!
//! A client that counts what is unsaved begins anew at one whenever it sends a step 1, counts one for every update after
//! that, and expects to be asked in return. So the answer to that question is worth one, the answer to a question of our
//! own as much as was dropped, and what was owed from before a step 1 is owed no more. (`@hocuspocus/provider` 2 to 4; one
//! status too many, and the older ones take an unsaved edit for saved.)
//!
//! What is written while the socket is down waits in the client and is sent when the socket is up, *after* the step 1: it
//! is in the document that the step 1 describes, and so not in the count. The answer to our question brings it once more.

use std::collections::VecDeque;

use syncline_protocol::state_vector::StateVector;
use syncline_protocol::update::UpdateLimits;
use syncline_protocol::update::validate;

use crate::document::request::Receipt;
use crate::document::saving::Owed;

/// Questions that wait for an answer. Full: nothing more is asked; the answers to come bring everything.
const OPEN_MAX: usize = 16;
/// Clients whose work from before a step 1 is told apart: the user's own, and what a local store kept of some others. The
/// work of more counts as new, which only calls a change saved too early that is still under way.
const AHEAD_MAX: usize = 4096;

/// What a question is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Question {
    /// The client begins, and counts on being asked.
    Whole,
    /// Updates that were dropped before they could be merged.
    Rest,
}

/// What the client's count begins with.
#[derive(Debug)]
enum Count {
    /// It has not begun.
    Never,
    /// It has begun, and has not answered our question yet.
    Begun {
        /// What it had that we lack.
        ahead: StateVector,
        /// What waited for the socket, as far as that has come.
        burst: Burst,
    },
    /// It goes on.
    Running,
}

/// What waits for a socket comes at one go, some time after the step 1: the client may have said other things in between.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Burst {
    /// Perhaps still to come.
    Ahead,
    /// What came last was of it.
    Here,
    /// Over, or nothing can have waited: the socket was up before.
    Over,
}

/// The open questions to one channel.
#[derive(Debug)]
pub(super) struct Questions {
    receipt: Receipt,
    count: Count,
    open: VecDeque<Question>,
    /// Updates that were dropped, and that the client still waits to hear of.
    dropped: u32,
}

impl Questions {
    pub(super) fn new(receipt: Receipt) -> Self {
        Self { receipt, count: Count::Never, open: VecDeque::new(), dropped: 0 }
    }

    /// Whether its client counts.
    pub(super) fn counts(&self) -> bool {
        self.receipt != Receipt::Echo
    }

    /// Whether its client sends back what it hears of who is present.
    pub(super) fn echoes_presence(&self) -> bool {
        self.receipt != Receipt::QuietStatus
    }

    /// What an update is worth that has come now.
    pub(super) fn worth(&mut self, update: &[u8], limits: &UpdateLimits) -> Owed {
        match self.receipt {
            Receipt::Echo => Owed::Echo,
            Receipt::Status | Receipt::QuietStatus => Owed::Status(u32::from(!self.is_from_before(update, limits))),
        }
    }

    /// Whether the client wrote it before it began to count. Nothing tells that of deletions alone: until the burst is known to
    /// be over they are taken for a part of it. Mistaken, a saved change is called unsaved until the next step 1, and the other
    /// mistake would call unsaved changes saved.
    fn is_from_before(&mut self, update: &[u8], limits: &UpdateLimits) -> bool {
        let Count::Begun { ahead, burst } = &mut self.count else { return false };
        let Ok(summary) = validate(update, limits) else { return false };
        if summary.ranges().is_empty() {
            return *burst != Burst::Over;
        }
        let known = summary.structs_known(ahead);
        *burst = match *burst {
            Burst::Ahead | Burst::Here if known => Burst::Here,
            Burst::Here => Burst::Over,
            same => same,
        };
        known
    }

    /// Notes a question. Answers whether it is to be asked.
    pub(super) fn ask(&mut self, question: Question) -> bool {
        if !self.counts() {
            return true; // It does not matter which question an answer answers.
        }
        let room = self.open.len() < OPEN_MAX;
        if room {
            self.open.push_back(question);
        } else if let (Question::Whole, Some(last)) = (question, self.open.back_mut()) {
            *last = question; // Its answer is still to come, so it brings as much.
        }
        room
    }

    /// What an answer is worth that has come now.
    pub(super) fn answered(&mut self) -> Owed {
        let question = self.open.pop_front();
        if question == Some(Question::Whole) {
            self.count = Count::Running;
        }
        match (self.receipt, question) {
            (Receipt::Echo, _) => Owed::Echo,
            (_, Some(Question::Whole)) => Owed::Status(1),
            (_, Some(Question::Rest)) => Owed::Status(std::mem::take(&mut self.dropped)),
            // The answer to a question that was put to the channel before this one, at the same address.
            (_, None) => Owed::Status(0),
        }
    }

    /// An update of this worth was dropped; it comes back with the answer to [`Question::Rest`].
    pub(super) fn dropped(&mut self, owed: Owed) {
        if let Owed::Status(count) = owed {
            self.dropped = self.dropped.saturating_add(count);
        }
    }

    /// The client begins anew, with this that we lack. It counts on one more question, whatever it is still to answer.
    pub(super) fn begin(&mut self, ahead: Vec<(u64, u32)>) {
        let burst = match self.count {
            Count::Never => Burst::Ahead,
            Count::Begun { burst, .. } => burst,
            Count::Running => Burst::Over,
        };
        self.count = Count::Begun { ahead: ahead.into_iter().take(AHEAD_MAX).collect(), burst };
        self.dropped = 0;
        self.open.iter_mut().for_each(|question| *question = Question::Rest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Deletes the first struct of client 7.
    const DELETION: [u8; 6] = [0, 1, 7, 1, 0, 1];

    /// The insertion of one struct: a string in a root.
    fn edit(client: u8, clock: u8) -> Vec<u8> {
        vec![1, 1, client, clock, 4, 1, 1, b't', 1, b'x', 0]
    }

    #[test]
    fn an_answer_is_worth_what_the_client_waits_for() {
        let mut questions = Questions::new(Receipt::Status);
        assert!(questions.ask(Question::Whole));
        assert_eq!(questions.answered(), Owed::Status(1));
        assert_eq!(questions.worth(&edit(7, 0), &UpdateLimits::default()), Owed::Status(1));

        questions.dropped(Owed::Status(1));
        questions.dropped(Owed::Status(1));
        assert!(questions.ask(Question::Rest) && questions.ask(Question::Rest));
        assert_eq!(questions.answered(), Owed::Status(2));
        assert_eq!(questions.answered(), Owed::Status(0));
        assert_eq!(questions.answered(), Owed::Status(0), "nobody asked, so the client does not count it");
    }

    #[test]
    fn a_client_that_begins_anew_is_owed_nothing_from_before() {
        let mut questions = Questions::new(Receipt::Status);
        questions.dropped(Owed::Status(5));
        assert!(questions.ask(Question::Rest));
        questions.begin(Vec::new());
        assert_eq!(questions.answered(), Owed::Status(0));
    }

    #[test]
    fn of_many_beginnings_only_the_last_counts() {
        for beginnings in [2, OPEN_MAX, OPEN_MAX + 1, 3 * OPEN_MAX] {
            let mut questions = Questions::new(Receipt::Status);
            let mut asked = 0;
            for _ in 0..beginnings {
                questions.begin(Vec::new());
                asked += usize::from(questions.ask(Question::Whole));
            }
            let owed: Vec<Owed> = (0..asked).map(|_| questions.answered()).collect();
            assert_eq!(owed.iter().filter(|owed| **owed == Owed::Status(1)).count(), 1, "{beginnings}");
            assert_eq!(owed.last(), Some(&Owed::Status(1)), "{beginnings}");
        }
    }

    #[test]
    fn what_waited_for_the_socket_is_not_in_the_count() {
        let limits = UpdateLimits::default();
        let worth = |questions: &mut Questions, update: &[u8]| questions.worth(update, &limits);
        let mut questions = Questions::new(Receipt::Status);
        assert_eq!(worth(&mut questions, &edit(7, 0)), Owed::Status(1), "no step 1 yet");
        questions.begin(vec![(7, 2)]);
        assert!(questions.ask(Question::Whole));
        assert_eq!(worth(&mut questions, &DELETION), Owed::Status(0));
        assert_eq!(worth(&mut questions, &edit(7, 0)), Owed::Status(0));
        assert_eq!(worth(&mut questions, &edit(7, 1)), Owed::Status(0));
        assert_eq!(worth(&mut questions, &DELETION), Owed::Status(0));
        assert_eq!(worth(&mut questions, &edit(7, 2)), Owed::Status(1), "written since");
        assert_eq!(worth(&mut questions, &DELETION), Owed::Status(1), "and this after it");
        assert_eq!(worth(&mut questions, &edit(8, 0)), Owed::Status(1), "by somebody else");
        assert_eq!(worth(&mut questions, b"broken"), Owed::Status(1), "and will be refused");
        assert_eq!(questions.answered(), Owed::Status(1));
        assert_eq!(worth(&mut questions, &edit(7, 1)), Owed::Status(1));
        assert_eq!(worth(&mut questions, &DELETION), Owed::Status(1));

        let mut early = Questions::new(Receipt::Status);
        early.begin(vec![(7, 2)]);
        assert_eq!(worth(&mut early, &edit(7, 2)), Owed::Status(1), "written before what had waited was sent");
        assert_eq!(worth(&mut early, &DELETION), Owed::Status(0), "so this may still have waited");

        // Later on the socket is up, so nothing waits for it; a delayed batch can still be from before.
        questions.begin(vec![(7, 4)]);
        assert_eq!(worth(&mut questions, &edit(7, 3)), Owed::Status(0));
        assert_eq!(worth(&mut questions, &DELETION), Owed::Status(1));
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
