//! The channels of a document: who joins, what each has, how one that fell behind is made whole.

use std::collections::BTreeSet;

use bytes::Bytes;
use syncline_protocol::ErrorCode;
use syncline_protocol::Moment;
use syncline_protocol::channel::Access;
use syncline_protocol::channel::DocumentMessage;
use syncline_protocol::state_vector::StateVector;

use crate::clock::Now;
use crate::document::request::Member;
use crate::document::request::Receipt;
use crate::document::saving::lowered;
use crate::table::events::Presence;

use super::Core;
use super::Effect;
use super::Event;
use super::Lost;
use super::Phase;
use super::ReaderId;
use super::Whom;
use super::life::CLOSED_IDLE;
use super::questions::Question;
use super::questions::Questions;
use super::settle::starts_of;
use super::source::Kind;
use super::source::Source;

/// One channel.
#[derive(Debug)]
pub(super) struct Reader<P> {
    pub(super) port: P,
    pub(super) access: Access,
    pub(super) member: Option<Member>,
    pub(super) since_ms: u64,
    pub(super) sync: Sync,
    pub(super) awareness_behind: bool,
    pub(super) asked_at: Option<Moment>,
    pub(super) questions: Questions,
    /// What it is to be told when it has read what is on its way.
    owed: u32,
}

/// How much of the document a reader has, or has on its way.
#[derive(Debug)]
pub(super) enum Sync {
    /// It has not said yet what it has.
    Greeted,
    /// Everything.
    Whole,
    /// What `since` covers; the rest when it has drained.
    Lagging { since: StateVector, answer: bool },
}

impl<P> Reader<P> {
    pub(super) fn new(now: Now, access: Access, receipt: Receipt, member: Option<Member>, port: P) -> Self {
        Self {
            port,
            access,
            member,
            since_ms: now.wall_ms,
            sync: Sync::Greeted,
            awareness_behind: false,
            asked_at: None,
            questions: Questions::new(receipt),
            owed: 0,
        }
    }
}

impl<P> Core<P> {
    pub(super) fn join(&mut self, now: Now, id: ReaderId, reader: Box<Reader<P>>, effects: &mut Vec<Effect>) {
        self.idle_since = None;
        self.retiring = false;
        if let Phase::Closed { code, since, .. } = &self.phase
            && now.moment.since(*since) < CLOSED_IDLE
            && !self.may_live_again(*code)
        {
            effects.push(Effect::End { reader: id, code: *code });
            self.ended.insert(id, reader.port);
            return;
        }
        effects.push(reader.joined(id));
        self.readers.insert(id, reader);
        if self.has_peers() {
            self.peers.remotes.joins(id);
        }
        match &self.phase {
            Phase::Live(_) | Phase::Encoding { .. } => self.greet(id, effects),
            // Clients that redial would keep a closed document in memory for ever, so one of them pays for another try.
            Phase::Closed { .. } => self.reload(effects),
            Phase::Loading { .. } | Phase::Building(_) | Phase::Deleting { .. } => {}
        }
    }

    /// Asks for what we lack, and says who is here. A client that counts is asked when it asks.
    fn greet(&self, id: ReaderId, effects: &mut Vec<Effect>) {
        let (Some(_), Some(clocks)) = (self.replica(), self.clocks()) else { return };
        if self.readers.get(&id).is_some_and(|reader| !reader.questions.counts()) {
            effects.push(Effect::Step1 { reader: id, state_vector: clocks.encode() });
        }
        if let Some(entries) = self.awareness.encode_all() {
            effects.push(Effect::Awareness { reader: id, entries });
        }
    }

    /// To those who came before the engine had the content, also if they were `answered` without it.
    pub(super) fn greet_newcomers(&self, answered: &BTreeSet<ReaderId>, effects: &mut Vec<Effect>) {
        for (&id, reader) in &self.readers {
            if matches!(reader.sync, Sync::Greeted) || answered.contains(&id) {
                self.greet(id, effects);
            }
        }
    }

    pub(super) fn leave(&mut self, reader: ReaderId, effects: &mut Vec<Effect>) {
        self.ended.remove(&reader);
        self.take_out(reader, effects);
    }

    pub(super) fn end(&mut self, id: ReaderId, code: ErrorCode, effects: &mut Vec<Effect>) {
        if let Some(reader) = self.take_out(id, effects) {
            self.ended.insert(id, reader.port);
            effects.push(Effect::End { reader: id, code });
        }
    }

    fn take_out(&mut self, id: ReaderId, effects: &mut Vec<Effect>) -> Option<Box<Reader<P>>> {
        self.ask_later.remove(&id);
        self.catch_ups.remove(&id);
        let reader = self.readers.remove(&id)?;
        self.batch.awareness.extend(self.awareness.leave(id));
        self.saving.leave(id);
        if self.has_peers() {
            self.peers.remotes.leaves(id);
        }
        effects.push(Effect::Presence { reader: id, presence: Presence::Left });
        Some(reader)
    }

    pub(super) fn message(&mut self, now: Now, reader: ReaderId, message: DocumentMessage, effects: &mut Vec<Effect>) {
        let Some(known) = self.readers.get_mut(&reader) else {
            return; // It was ended, and its last words were still under way.
        };
        match message {
            DocumentMessage::SyncStep1(state_vector) => self.step1(now, reader, state_vector, effects),
            DocumentMessage::SyncStep2(update) => {
                let owed = known.questions.answered();
                let source = Source::Reader { reader, sent: update.clone(), kind: Kind::Step2, owed };
                self.update(now, source, update, effects);
            }
            DocumentMessage::Update(update) => {
                let owed = known.questions.worth(&update, &self.settings.update);
                let source = Source::Reader { reader, sent: update.clone(), kind: Kind::Edit, owed };
                self.update(now, source, update, effects);
            }
            DocumentMessage::Awareness(entries) => self.show(now, reader, &entries, effects),
            DocumentMessage::QueryAwareness => {
                if let Some(entries) = self.awareness.encode_all() {
                    effects.push(Effect::Awareness { reader, entries });
                }
            }
            DocumentMessage::Stateless(payload) if known.access == Access::Write => {
                self.tell_stateless(&payload, effects);
                effects.push(Effect::Stateless { from: Some(reader), payload });
            }
            DocumentMessage::Stateless(_) => effects.push(Effect::Count(Event::StatelessRefused)),
        }
    }

    /// A client that counts begins anew: it has forgotten what it was owed, and expects to be asked in return.
    fn begin(&mut self, id: ReaderId, theirs: &StateVector, effects: &mut Vec<Effect>) {
        let ours = |client| self.clocks().map_or(0, |clocks| clocks.clock(client));
        let ahead: Vec<(u64, u32)> = theirs.iter().filter(|&(client, clock)| clock > ours(client)).collect();
        let Some(reader) = self.readers.get_mut(&id).filter(|reader| reader.questions.counts()) else { return };
        reader.owed = 0;
        reader.questions.begin(ahead);
        let asks = reader.questions.ask(Question::Whole);
        self.saving.forgive(id);
        self.waiting.forgive(id);
        if let Some(clocks) = self.clocks().filter(|_| asks) {
            effects.push(Effect::Step1 { reader: id, state_vector: clocks.encode() });
        }
    }

    fn step1(&mut self, now: Now, id: ReaderId, state_vector: Bytes, effects: &mut Vec<Effect>) {
        let Ok(theirs) = StateVector::decode(state_vector) else {
            return self.end(id, ErrorCode::InvalidPayload, effects);
        };
        // Before it is asked or told anything: its copy stays as it is, and can be exported.
        if self.replica().is_some_and(|replica| self.lineage.is_stale(&theirs, replica.clocks())) {
            return self.end(id, ErrorCode::StaleHistory, effects);
        }
        self.begin(id, &theirs, effects);
        match &self.phase {
            Phase::Building(_) => self.answer_early(id, &theirs, effects),
            _ => {
                let Some(ours) = self.clocks() else { return };
                // What the asker has beyond us does not matter here, and need not be remembered.
                let common = |(client, clock): (u64, u32)| (client, clock.min(ours.clock(client)));
                let have: StateVector = theirs.iter().map(common).collect();
                self.serve(now, Whom::Asker(id), have, effects);
            }
        }
    }

    /// Answers a newcomer with what is stored, while the engine still reads it.
    fn answer_early(&mut self, id: ReaderId, have: &StateVector, effects: &mut Vec<Effect>) {
        let Phase::Building(building) = &mut self.phase else { return };
        let Some(parts) = building.states.find(have, true) else { return };
        let Some(reader) = self.readers.get_mut(&id) else { return };
        reader.sync = Sync::Whole;
        building.answered.insert(id);
        effects.push(Effect::State { reader: id, have: have.clone(), answer: true, parts });
    }

    pub(super) fn overflowed(&mut self, id: ReaderId, lost: Lost, effects: &mut Vec<Effect>) {
        // From here on the reader is passed over, so whatever was lost, it lacks what is still to be sent of this batch too.
        let before: Vec<(u64, u32)> = self.batch.before.iter().map(|(&id, &clock)| (id, clock)).collect();
        let missing = self.clocks().and_then(|clocks| match &lost {
            Lost::Change => Some((lowered(clocks, &before), false)),
            Lost::Echo(update) => Some((lowered(&lowered(clocks, &before), &starts_of(update)), false)),
            Lost::State { have, answer } => Some((lowered(have, &before), *answer)),
            Lost::Awareness | Lost::Status(_) => None,
        });
        let Some(reader) = self.readers.get_mut(&id) else { return };
        if let Lost::Status(count) = lost {
            reader.owed = reader.owed.saturating_add(count);
            return;
        }
        let Some((missing, answer)) = missing else {
            reader.awareness_behind = true;
            return;
        };
        if let Sync::Lagging { since, answer: owed } = &mut reader.sync {
            since.meet(&missing);
            *owed |= answer;
        } else {
            reader.sync = Sync::Lagging { since: missing, answer };
            effects.push(Effect::Count(Event::Lagging));
        }
    }

    pub(super) fn drained(&mut self, id: ReaderId, effects: &mut Vec<Effect>) {
        let Some(reader) = self.readers.get_mut(&id) else { return };
        if matches!(reader.sync, Sync::Lagging { .. }) {
            self.catch_ups.insert(id);
        }
        let count = std::mem::take(&mut reader.owed);
        if count > 0 {
            effects.push(Effect::Status { reader: id, saved: true, count });
        }
        if std::mem::take(&mut reader.awareness_behind)
            && let Some(entries) = self.awareness.encode_all()
        {
            effects.push(Effect::Awareness { reader: id, entries });
        }
    }

    /// Makes lagging readers whole that have read everything. One whose own edits are not durable yet waits for them:
    /// clients take any frame that brings their own content back for "saved".
    pub(super) fn catch_up(&mut self, now: Now, effects: &mut Vec<Effect>) {
        if !matches!(self.phase, Phase::Live(_)) {
            return;
        }
        let (later, due) = self.catch_ups.iter().partition(|reader| self.saving.awaits(**reader));
        self.catch_ups = later;
        let due: BTreeSet<ReaderId> = due;
        for id in due {
            let Some(reader) = self.readers.get(&id) else { continue };
            let Sync::Lagging { since, answer } = &reader.sync else { continue };
            let (have, answer) = (since.clone(), *answer);
            if matches!(self.phase, Phase::Live(_)) {
                self.serve(now, Whom::Laggard { reader: id, answer }, have, effects);
            } else {
                self.catch_ups.insert(id); // Another one's state is being encoded: after it.
            }
        }
    }
}
