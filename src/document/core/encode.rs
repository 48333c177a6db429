//! How a state reaches whoever asked for it: shared with those who asked before, encoded here, or encoded elsewhere.

use bytes::Bytes;
use syncline_protocol::ErrorCode;
use syncline_protocol::state_vector::StateVector;

use crate::clock::Now;
use crate::document::inflight::Work;
use crate::document::job::Job;
use crate::document::job::Outcome;
use crate::document::job::Task;
use crate::document::memory::Weight;
use crate::document::replica::Poisoned;
use crate::document::request::Answer;
use crate::document::request::Refusal;
use crate::document::states::Parts;
use crate::document::states::Prepared;

use super::Core;
use super::Effect;
use super::Event;
use super::Live;
use super::Phase;
use super::Size;
use super::Sync;
use super::Ticket;
use super::Whom;

/// Guesses below this are near enough.
const WEIGH_MIN_BYTES: usize = 4 << 20;

impl<P> Core<P> {
    /// Sends a reader what it lacks beyond `have`, or answers a request with it. A large document is encoded elsewhere, and
    /// until then nothing more is handled: those who ask for the same meanwhile find it encoded.
    pub(super) fn serve(&mut self, now: Now, whom: Whom, have: StateVector, effects: &mut Vec<Effect>) {
        let Phase::Live(live) = &mut self.phase else { return };
        if let Some(parts) = whom.answer().and_then(|answer| live.states.find(&have, answer)) {
            return self.hand_over(whom, have, parts, effects);
        }
        if self.size.bytes > self.settings.heavy_bytes {
            return self.encode_elsewhere(whom, have, effects);
        }
        let update = live.encode(&have);
        match whom {
            Whom::Ticket(ticket) => self.encoded_whole(now, ticket, update, effects),
            _ => {
                let prepared = update.map(|update| Prepared::new(have.clone(), update));
                self.encoded(now, whom, have, prepared, effects);
            }
        }
    }

    fn encode_elsewhere(&mut self, whom: Whom, have: StateVector, effects: &mut Vec<Effect>) {
        let Some(live) = self.take_live() else { return };
        let (view, wanted) = (live.replica.view(), have.clone());
        let task = match whom {
            Whom::Ticket(_) => Task::EncodeWhole { view, have: wanted },
            Whom::Asker(_) | Whom::Laggard { .. } | Whom::Nobody => Task::Encode { view, have: wanted },
        };
        // What it says it has counts, not what we thought it had.
        let whom = self.laggard(whom, |since| since.clone_from(&have));
        self.phase = Phase::Encoding { live, whom, have };
        effects.push(self.run(task));
    }

    /// Somebody who waits and lags: what it lacks can grow until it is served. `meet` notes what is to be sent at least.
    fn laggard(&mut self, whom: Whom, meet: impl FnOnce(&mut StateVector)) -> Whom {
        let Whom::Asker(id) = whom else { return whom };
        match self.readers.get_mut(&id).map(|reader| &mut reader.sync) {
            Some(Sync::Lagging { since, answer }) => {
                meet(since);
                *answer = true;
                Whom::Laggard { reader: id, answer: true }
            }
            _ => whom,
        }
    }

    /// The content, out of a phase that is to become another.
    fn take_live(&mut self) -> Option<Live> {
        let placeholder = Phase::Loading { then: None, clocks: StateVector::default() };
        match std::mem::replace(&mut self.phase, placeholder) {
            Phase::Live(live) | Phase::Encoding { live, .. } => Some(live),
            other => {
                self.phase = other;
                None
            }
        }
    }

    pub(super) fn run(&self, task: Task) -> Effect {
        Effect::Run(Job { doc: self.name.clone(), notes: self.guards.inflight.clone(), task })
    }

    /// A job came back.
    pub(super) fn done(&mut self, now: Now, outcome: Outcome, effects: &mut Vec<Effect>) {
        match (&self.phase, outcome) {
            (Phase::Loading { .. }, Outcome::Cut { loaded, states }) => self.build(now, loaded, states, effects),
            (Phase::Building(_), Outcome::Built(built)) => self.built(now, built, effects),
            (Phase::Loading { .. } | Phase::Building(_), Outcome::Lost) => self.built(now, Err(Poisoned), effects),
            (Phase::Encoding { .. }, outcome) => {
                let Some((whom, have)) = self.encoding_ends() else { return };
                let whom = self.laggard(whom, |since| since.meet(&have));
                match (whom, outcome) {
                    (Whom::Ticket(ticket), Outcome::EncodedWhole(update)) => {
                        self.encoded_whole(now, ticket, update, effects);
                    }
                    (Whom::Ticket(ticket), _) => self.encoded_whole(now, ticket, Err(Poisoned), effects),
                    (_, Outcome::Encoded(prepared)) => self.encoded(now, whom, have, prepared, effects),
                    (_, _) => self.broken(now, effects),
                }
            }
            _ => {}
        }
    }

    fn encoding_ends(&mut self) -> Option<(Whom, StateVector)> {
        let Phase::Encoding { whom, have, .. } = &mut self.phase else { return None };
        let (whom, have) = (*whom, std::mem::take(have));
        self.phase = Phase::Live(self.take_live()?);
        Some((whom, have))
    }

    fn encoded(
        &mut self,
        now: Now,
        whom: Whom,
        have: StateVector,
        prepared: Result<Prepared, Poisoned>,
        effects: &mut Vec<Effect>,
    ) {
        let (Ok(prepared), Some(answer)) = (prepared, whom.answer()) else { return self.broken(now, effects) };
        if let Some(weight) = prepared.weight() {
            self.size = Size { bytes: weight.bytes, exact: true };
            self.weighed(weight);
        }
        let Phase::Live(live) = &mut self.phase else { return };
        let parts = live.states.keep(prepared, answer);
        self.hand_over(whom, have, parts, effects);
    }

    fn encoded_whole(&mut self, now: Now, ticket: Ticket, update: Result<Bytes, Poisoned>, effects: &mut Vec<Effect>) {
        let result = match update {
            Ok(update) => Ok(Answer::State { update, revision: self.revision() }),
            Err(Poisoned) => Err(Refusal::new(ErrorCode::ChannelError, "the document cannot be encoded")),
        };
        let broken = result.is_err();
        effects.push(Effect::Answer { ticket, result });
        if broken {
            self.broken(now, effects);
        }
    }

    /// What brings a reader to the whole goes on its way.
    fn hand_over(&mut self, whom: Whom, have: StateVector, parts: Parts, effects: &mut Vec<Effect>) {
        match whom {
            Whom::Asker(id) => {
                let Some(reader) = self.readers.get_mut(&id) else { return };
                reader.sync = Sync::Whole;
                effects.push(Effect::State { reader: id, have, answer: true, parts });
            }
            Whom::Laggard { reader: id, answer } => {
                let Some(reader) = self.readers.get_mut(&id) else { return };
                if !matches!(&reader.sync, Sync::Lagging { since, .. } if *since == have) {
                    self.catch_ups.insert(id); // It has come to lack more meanwhile.
                    return;
                }
                reader.sync = Sync::Whole;
                effects.push(Effect::State { reader: id, have, answer, parts });
                effects.push(Effect::Count(Event::CaughtUp));
            }
            Whom::Ticket(_) | Whom::Nobody => {}
        }
    }

    pub(super) fn weighed(&mut self, weight: Weight) {
        self.content_bytes = weight.memory_bytes();
        self.weigh_beyond = 2 * self.content_bytes + WEIGH_MIN_BYTES;
    }

    /// What changes add is guessed, so a document that seems to have doubled is encoded to see how much it is. The next
    /// newcomer finds it encoded.
    pub(super) fn consider_weighing(&mut self, effects: &mut Vec<Effect>) {
        if self.content_bytes > self.weigh_beyond && matches!(self.phase, Phase::Live(_)) {
            self.encode_elsewhere(Whom::Nobody, StateVector::default(), effects);
        }
    }
}

impl Whom {
    /// Whether a reader waits for a step 2; `None` for a request.
    fn answer(self) -> Option<bool> {
        match self {
            Self::Asker(_) | Self::Nobody => Some(true),
            Self::Laggard { answer, .. } => Some(answer),
            Self::Ticket(_) => None,
        }
    }
}

impl Live {
    /// What `have` lacks, as one update.
    pub(super) fn encode(&self, have: &StateVector) -> Result<Bytes, Poisoned> {
        // The trial of a noted load encodes as well.
        let flight = self.notes.begin(Work::Load, self.name.as_str(), None, &[]);
        let update = self.replica.diff(have);
        drop(flight);
        update
    }
}
