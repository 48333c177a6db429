//! Single questions and commands: what REST asks of a document.

use bytes::Bytes;
use syncline_protocol::ErrorCode;
use syncline_protocol::state_vector::StateVector;

use crate::clock::Now;
use crate::document::lineage::Ending;
use crate::document::peer::PeerMessage;
use crate::document::request::Answer;
use crate::document::request::Member;
use crate::document::request::Present;
use crate::document::request::Refusal;
use crate::document::request::Request;
use crate::document::request::Revision;
use crate::document::saving::Ack;
use crate::document::saving::Purpose;
use crate::store::StoreError;

use super::Core;
use super::Creation;
use super::Effect;
use super::Phase;
use super::Reader;
use super::ReaderId;
use super::Ticket;
use super::Whom;
use super::life::stale_history;
use super::merge::EMPTY_UPDATE;
use super::source::Source;

impl<P> Core<P> {
    pub(super) fn ask(&mut self, now: Now, ticket: Ticket, request: Request, effects: &mut Vec<Effect>) {
        match (&self.phase, request) {
            (Phase::Live(_), request) => self.ask_live(now, ticket, request, effects),
            (Phase::Closed { code: ErrorCode::NotFound, .. }, request) if request.creates() => {
                let then = Some(Creation { ticket, request });
                self.phase = Phase::Loading { then, clocks: StateVector::default() };
                effects.push(Effect::Revive);
            }
            (Phase::Closed { code, .. }, request)
                if self.may_live_again(*code) && !matches!(request, Request::Flush) =>
            {
                let then = Some(Creation { ticket, request });
                self.phase = Phase::Loading { then, clocks: StateVector::default() };
                effects.push(Effect::Load);
            }
            (Phase::Closed { .. }, Request::Flush) => answer(effects, ticket, Ok(Answer::Done)),
            (Phase::Closed { code, message, .. }, _) => {
                answer(effects, ticket, Err(Refusal::new(*code, message.clone())));
            }
            (Phase::Loading { .. } | Phase::Building(_) | Phase::Encoding { .. } | Phase::Deleting { .. }, _) => {
                // The shell leaves requests in the inbox meanwhile; one that slips through is told to come back.
                answer(effects, ticket, Err(Refusal::new(ErrorCode::StoreUnavailable, "the document is busy")));
            }
        }
    }

    pub(super) fn ask_live(&mut self, now: Now, ticket: Ticket, request: Request, effects: &mut Vec<Effect>) {
        match request {
            Request::State { have } => self.state(now, ticket, have, effects),
            Request::Update { update, member } => {
                let source = Source::Ticket { ticket, member, purpose: Purpose::Save };
                self.update(now, source, update, effects);
            }
            Request::Create { template, member } => self.create(now, ticket, template, member, effects),
            Request::Say { text } => {
                self.tell_stateless(&text, effects);
                effects.push(Effect::Stateless { from: None, payload: text });
                answer(effects, ticket, Ok(Answer::Done));
            }
            Request::Table(asked) => self.ask_table(now, ticket, asked, effects),
            Request::Presence => answer(effects, ticket, Ok(Answer::Presence(self.present()))),
            Request::Delete => self.delete(now, Some(ticket), effects),
            Request::Flush => self.acknowledge_with(Some(Ack::Ticket { ticket, purpose: Purpose::Flush }), effects),
        }
    }

    fn state(&mut self, now: Now, ticket: Ticket, have: StateVector, effects: &mut Vec<Effect>) {
        let Phase::Live(live) = &self.phase else { return };
        if !live.exists {
            return answer(effects, ticket, Err(no_such_document()));
        }
        if self.lineage.is_stale(&have, live.replica.clocks()) {
            return answer(effects, ticket, Err(stale_history()));
        }
        self.serve(now, Whom::Ticket(ticket), have, effects);
    }

    fn create(&mut self, now: Now, ticket: Ticket, template: Bytes, member: Option<Member>, effects: &mut Vec<Effect>) {
        let Phase::Live(live) = &mut self.phase else { return };
        if live.exists {
            // It may have been created a moment ago, and not be durable yet.
            return self.acknowledge_with(Some(Ack::Ticket { ticket, purpose: Purpose::Exist }), effects);
        }
        if template.as_ref() == EMPTY_UPDATE {
            // Nothing for the engine, but the store is to remember that the document is there.
            live.exists = true;
            let user = member.map(|member| member.user);
            return self.record(now, template, user, Some(Ack::Ticket { ticket, purpose: Purpose::Create }));
        }
        self.update(now, Source::Ticket { ticket, member, purpose: Purpose::Create }, template, effects);
    }

    pub(super) fn revision(&self) -> Revision {
        Revision { epoch: self.epoch, seq: self.position(), settled: self.is_settled() }
    }

    fn present(&self) -> Vec<Present> {
        let line = |id: ReaderId, reader: &Reader<P>| Present {
            member: reader.member.clone(),
            clients: self.awareness.states_of(id).collect(),
            since_ms: reader.since_ms,
        };
        self.readers.iter().map(|(&id, reader)| line(id, reader)).chain(self.remote_presence()).collect()
    }

    /// `ticket` where somebody asked here; otherwise another node has deleted its copy.
    pub(super) fn delete(&mut self, now: Now, ticket: Option<Ticket>, effects: &mut Vec<Effect>) {
        match std::mem::replace(&mut self.phase, gone(now)) {
            Phase::Live(live) if live.exists => {
                let through = self.is_shared().then(|| self.peers.heard.last());
                let clocks = live.replica.clocks().clone();
                let ending = Ending::new(self.epoch, through, self.lineage.clone(), clocks);
                self.phase = Phase::Deleting { asked: ticket, live };
                effects.push(Effect::Delete { ending });
            }
            other => {
                self.phase = other;
                answer_if_asked(effects, ticket, Err(no_such_document()));
            }
        }
    }

    pub(super) fn erased(&mut self, now: Now, result: Result<bool, StoreError>, effects: &mut Vec<Effect>) {
        let (ticket, live) = match std::mem::replace(&mut self.phase, gone(now)) {
            Phase::Deleting { asked, live } => (asked, live),
            other => {
                self.phase = other;
                return;
            }
        };
        match result {
            Ok(_) => {
                answer_if_asked(effects, ticket, Ok(Answer::Done));
                if ticket.is_some() && self.has_peers() {
                    effects.push(Effect::Tell(PeerMessage::Deleted(self.epoch)));
                }
                self.close(now, &Refusal::new(ErrorCode::NotFound, DELETED), effects);
            }
            Err(StoreError::Deleted) => {
                // Another node was first, and somebody may have created it anew since.
                answer_if_asked(effects, ticket, Err(no_such_document()));
                self.close(now, &Refusal::new(ErrorCode::NotFound, DELETED), effects);
            }
            Err(error) => {
                self.phase = Phase::Live(live);
                answer_if_asked(effects, ticket, Err(error.into()));
            }
        }
    }
}

pub(super) const DELETED: &str = "the document was deleted";

fn gone(now: Now) -> Phase {
    Phase::Closed { code: ErrorCode::NotFound, message: DELETED.to_owned(), since: now.moment }
}

fn no_such_document() -> Refusal {
    Refusal::new(ErrorCode::NotFound, "there is no such document")
}

fn answer_if_asked(effects: &mut Vec<Effect>, ticket: Option<Ticket>, result: Result<Answer, Refusal>) {
    if let Some(ticket) = ticket {
        answer(effects, ticket, result);
    }
}

fn answer(effects: &mut Vec<Effect>, ticket: Ticket, result: Result<Answer, Refusal>) {
    effects.push(Effect::Answer { ticket, result });
}
