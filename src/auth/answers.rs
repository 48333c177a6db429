//! What the application has answered lately, and what it is being asked right now: so that it is asked once for many who
//! wait, and not again for a while.

use std::collections::HashMap;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use syncline_protocol::Moment;

use crate::auth::Identity;
use crate::auth::Level;
use crate::auth::watch::Whose;

/// Everything that the application is told, as it may decide by any of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Question {
    pub(super) sub: Arc<str>,
    pub(super) name: Option<Arc<str>>,
    pub(super) email: Option<Arc<str>>,
    pub(super) jti: Option<Arc<str>>,
    pub(super) room: Arc<str>,
}

/// Answers by question, and who is asking (`F`) where there is none yet.
#[derive(Debug)]
pub(super) struct Answers<F> {
    known: HashMap<Arc<Question>, Known>,
    /// The questions of `known` by age, the oldest in front.
    ages: VecDeque<(Arc<Question>, Moment)>,
    asking: HashMap<Arc<Question>, Asking<F>>,
    asked: u64,
    bounds: Bounds,
}

/// How much is kept.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// How long an answer holds; zero keeps none.
    pub(super) keep: Duration,
    /// Answers; full: the oldest goes, and is asked for again.
    pub(super) known_max: usize,
    /// Questions under way, each with somebody who waits; full: no more are begun.
    pub(super) asking_max: usize,
}

#[derive(Debug, Clone, Copy)]
struct Known {
    level: Level,
    at: Moment,
}

#[derive(Debug)]
struct Asking<F> {
    turn: Turn,
    flight: F,
}

/// Names one time that a question was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Turn(u64);

/// What is known about a question.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found<F> {
    /// The answer.
    Known(Level),
    /// Somebody is asking.
    Asking(F),
    /// Nothing; there is room to ask, see [`Answers::begin`].
    Nothing,
    /// Nothing, and too much is being asked.
    Full,
}

impl Question {
    pub(super) fn new(identity: &Identity, room: &str) -> Self {
        let Identity { sub, name, email, jti, .. } = identity;
        Self { sub: sub.clone(), name: name.clone(), email: email.clone(), jti: jti.clone(), room: room.into() }
    }

    fn is_of(&self, whose: Whose<'_>) -> bool {
        match whose {
            Whose::User(sub) => *self.sub == *sub,
            Whose::Token(jti) => self.jti.as_deref() == Some(jti),
            Whose::Room(room) => *self.room == *room,
        }
    }
}

impl<F: Clone> Answers<F> {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self { known: HashMap::new(), ages: VecDeque::new(), asking: HashMap::new(), asked: 0, bounds }
    }

    pub(super) fn find(&self, question: &Question, now: Moment) -> Found<F> {
        if let Some(known) = self.known.get(question).filter(|known| now.since(known.at) < self.bounds.keep) {
            return Found::Known(known.level);
        }
        match self.asking.get(question) {
            Some(asking) => Found::Asking(asking.flight.clone()),
            None if self.asking.len() >= self.bounds.asking_max => Found::Full,
            None => Found::Nothing,
        }
    }

    /// Names the next time that something is asked; [`Self::begin`] follows.
    pub(super) fn next_turn(&mut self) -> Turn {
        self.asked += 1;
        Turn(self.asked)
    }

    pub(super) fn begin(&mut self, question: Arc<Question>, turn: Turn, flight: F) {
        self.asking.insert(question, Asking { turn, flight });
    }

    /// Nobody asks any more. With an answer it is kept, unless the question was forgotten meanwhile: then the answer is of
    /// before.
    pub(super) fn end(&mut self, question: &Arc<Question>, turn: Turn, answer: Option<Level>, now: Moment) {
        if self.asking.get(question).is_none_or(|asking| asking.turn != turn) {
            return;
        }
        self.asking.remove(question);
        if let Some(level) = answer {
            self.keep(question, level, now);
        }
    }

    /// Forgets answers, and what is being asked: whoever asks next gets an answer of after this call.
    pub(super) fn forget(&mut self, whose: Whose<'_>) {
        self.known.retain(|question, _| !question.is_of(whose));
        self.ages.retain(|(question, _)| !question.is_of(whose));
        self.asking.retain(|question, _| !question.is_of(whose));
    }

    fn keep(&mut self, question: &Arc<Question>, level: Level, now: Moment) {
        let Bounds { keep, known_max, .. } = self.bounds;
        if keep.is_zero() {
            return;
        }
        // What is too old goes first. Nothing is asked while its answer holds, so no question is in the row twice.
        while self.ages.front().is_some_and(|(_, at)| now.since(*at) >= keep || self.ages.len() >= known_max) {
            if let Some((oldest, _)) = self.ages.pop_front() {
                self.known.remove(&oldest);
            }
        }
        self.known.insert(question.clone(), Known { level, at: now });
        self.ages.push_back((question.clone(), now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds { keep: Duration::from_secs(30), known_max: 3, asking_max: 2 };

    fn question(sub: &str, room: &str) -> Arc<Question> {
        Arc::new(Question { sub: sub.into(), name: None, email: None, jti: Some("t".into()), room: room.into() })
    }

    fn answered(answers: &mut Answers<u32>, question: &Arc<Question>, level: Level, now: Moment) {
        let turn = answers.next_turn();
        answers.begin(question.clone(), turn, 0);
        answers.end(question, turn, Some(level), now);
    }

    fn sizes(answers: &Answers<u32>) -> [usize; 3] {
        [answers.known.len(), answers.ages.len(), answers.asking.len()]
    }

    #[test]
    fn a_question_is_asked_once_and_its_answer_holds_for_its_time() {
        let (mut answers, one) = (Answers::new(BOUNDS), question("alice", "one"));
        assert_eq!(answers.find(&one, Moment(0)), Found::Nothing);
        let turn = answers.next_turn();
        answers.begin(one.clone(), turn, 7);
        assert_eq!(answers.find(&one, Moment(0)), Found::Asking(7));
        answers.end(&one, turn, Some(Level::Read), Moment(1_000));
        assert_eq!(answers.find(&one, Moment(30_999)), Found::Known(Level::Read));
        assert_eq!(answers.find(&one, Moment(31_000)), Found::Nothing);
        answered(&mut answers, &one, Level::None, Moment(31_000));
        assert_eq!(answers.find(&one, Moment(31_000)), Found::Known(Level::None), "no is an answer too");
        assert_eq!(sizes(&answers), [1, 1, 0]);
    }

    #[test]
    fn another_token_is_another_question() {
        let (mut answers, one) = (Answers::new(BOUNDS), question("alice", "one"));
        answered(&mut answers, &one, Level::Admin, Moment(0));
        let base = || Question::clone(&one);
        for other in [
            Question { jti: None, ..base() },
            Question { jti: Some("u".into()), ..base() },
            Question { name: Some("Alice".into()), ..base() },
            Question { email: Some("alice@example.org".into()), ..base() },
            Question { sub: "bob".into(), ..base() },
            Question { room: "two".into(), ..base() },
        ] {
            assert_eq!(answers.find(&other, Moment(0)), Found::Nothing, "{other:?}");
        }
    }

    #[test]
    fn a_failure_is_not_kept() {
        let (mut answers, one) = (Answers::<u32>::new(BOUNDS), question("alice", "one"));
        let turn = answers.next_turn();
        answers.begin(one.clone(), turn, 1);
        answers.end(&one, turn, None, Moment(0));
        assert_eq!(answers.find(&one, Moment(0)), Found::Nothing);
    }

    #[test]
    fn an_answer_of_before_a_revocation_is_not_kept_and_nobody_waits_for_it() {
        let (mut answers, one) = (Answers::new(BOUNDS), question("alice", "one"));
        for whose in [Whose::User("alice"), Whose::Room("one"), Whose::Token("t")] {
            answered(&mut answers, &one, Level::Write, Moment(0));
            answers.forget(whose);
            assert_eq!(answers.find(&one, Moment(0)), Found::Nothing, "{whose:?}");
            let (early, late) = (answers.next_turn(), answers.next_turn());
            answers.begin(one.clone(), early, 1);
            answers.forget(whose);
            answers.begin(one.clone(), late, 2);
            answers.end(&one, early, Some(Level::Write), Moment(0));
            assert_eq!(answers.find(&one, Moment(0)), Found::Asking(2), "{whose:?}");
            answers.end(&one, late, Some(Level::Read), Moment(0));
            assert_eq!(answers.find(&one, Moment(0)), Found::Known(Level::Read));
            answers.forget(whose);
            assert_eq!(sizes(&answers), [0, 0, 0]);
        }
        answered(&mut answers, &one, Level::Write, Moment(0));
        answers.forget(Whose::User("one"));
        assert_eq!(answers.find(&one, Moment(0)), Found::Known(Level::Write));
    }

    #[test]
    fn full_means_that_the_oldest_goes_and_nothing_more_is_asked() {
        let mut answers = Answers::new(BOUNDS);
        let rooms: Vec<_> = (0..100_u64).map(|n| question("alice", &n.to_string())).collect();
        for (room, at) in rooms.iter().zip(0..) {
            answered(&mut answers, room, Level::Read, Moment(at));
            assert!(sizes(&answers)[..2].iter().all(|size| *size <= BOUNDS.known_max));
        }
        assert_eq!(answers.find(&rooms[99], Moment(99)), Found::Known(Level::Read));
        assert_eq!(answers.find(&rooms[96], Moment(99)), Found::Nothing);
        for room in &rooms[..2] {
            let turn = answers.next_turn();
            answers.begin(room.clone(), turn, 0);
        }
        assert_eq!(answers.find(&rooms[2], Moment(99)), Found::Full);
        assert_eq!(answers.find(&rooms[1], Moment(99)), Found::Asking(0));
    }

    #[test]
    fn without_a_time_nothing_is_kept() {
        let (mut answers, one) = (Answers::new(Bounds { keep: Duration::ZERO, ..BOUNDS }), question("alice", "one"));
        answered(&mut answers, &one, Level::Read, Moment(0));
        assert_eq!(sizes(&answers), [0, 0, 0]);
    }
}
