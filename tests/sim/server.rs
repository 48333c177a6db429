//! The server without a runtime: the real `Core`, `Outbox`, `Session` and `compact::build`, and around them what `hub`,
//! `document::actor` and `http::ws` do, step by step.

use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use syncline::clock::Now;
use syncline::document::core::Core;
use syncline::document::core::CoreSettings;
use syncline::document::core::Effect;
use syncline::document::core::Event;
use syncline::document::core::Guards;
use syncline::document::core::Input;
use syncline::document::core::Lost;
use syncline::document::core::ReaderId;
use syncline::document::core::Ticket;
use syncline::document::port::Encoded;
use syncline::document::port::Port;
use syncline::document::request::Answer;
use syncline::document::request::Refusal;
use syncline::document::request::Request;
use syncline::name::DocName;
use syncline::outbox::Budget;
use syncline::outbox::OutboxLimits;
use syncline::table::events::Presence;
use syncline_protocol::channel::DocumentMessage;
use syncline_protocol::channel::ServerMessage;

use crate::calls::Call;
use crate::calls::Work;
use crate::chance::Chance;
use crate::connection::Connection;
use crate::connection::Question;
use crate::fault::Fault;
use crate::mail::Mail;
use crate::mail::must_wait;
use crate::members::Room;
use crate::peering::Lane;
use crate::peering::Peering;
use crate::store::Cover;
use crate::store::Disk;

/// Why a history ends early.
#[derive(Debug)]
pub(crate) enum Stop {
    /// The process dies here.
    Crash,
    /// A law is broken.
    Broken(String),
}

impl Stop {
    /// The same, at one of several nodes.
    pub(crate) fn at(self, node: usize) -> Self {
        match self {
            Self::Broken(law) => Self::Broken(format!("node {node}: {law}")),
            Self::Crash => Self::Crash,
        }
    }
}

pub(crate) type Go<T = ()> = Result<T, Stop>;

pub(crate) fn broken<T>(why: impl Into<String>) -> Go<T> {
    Err(Stop::Broken(why.into()))
}

/// Bounds and settings of one history.
#[derive(Debug, Clone)]
pub(crate) struct Limits {
    pub(crate) inbox: usize,
    pub(crate) batch: usize,
    pub(crate) outbox: OutboxLimits,
    pub(crate) core: CoreSettings,
    /// What stands before the names of documents.
    pub(crate) kind: &'static str,
}

/// One actor.
#[derive(Debug)]
pub(crate) struct Actor {
    pub(crate) doc: usize,
    pub(crate) core: Core<Port>,
    pub(crate) inbox: VecDeque<Mail>,
    /// Senders that wait for room in the inbox, in their order.
    pub(crate) blocked: VecDeque<Mail>,
    /// The rest of a batch that the store interrupted.
    rest: VecDeque<Mail>,
    pub(crate) answers: VecDeque<Input<Port>>,
    pub(crate) effects: Vec<Effect>,
    /// Connections and requests that hold this document.
    pub(crate) holders: usize,
    /// What waits for an answer, with the update that the answer speaks of.
    pub(crate) asked: BTreeMap<Ticket, Option<Bytes>>,
    clearing: bool,
    retired: bool,
    /// Readers that began anew, and how many effects came before.
    begun: VecDeque<(usize, ReaderId)>,
    /// Statuses that were sent before their time.
    early: BTreeMap<ReaderId, u32>,
    pub(crate) room: Room,
    pub(crate) lane: Lane,
}

impl Actor {
    pub(crate) fn send(&mut self, mail: Mail, inbox_max: usize) {
        if self.inbox.len() < inbox_max && self.blocked.is_empty() {
            self.inbox.push_back(mail);
        } else {
            self.blocked.push_back(mail);
        }
    }
}

/// Everything that dies in a crash, and the disk, which does not.
pub(crate) struct Server {
    pub(crate) now: Now,
    pub(crate) limits: Limits,
    pub(crate) fault: Fault,
    pub(crate) disk: Disk,
    pub(crate) directory: Vec<Option<u64>>,
    pub(crate) actors: BTreeMap<u64, Actor>,
    pub(crate) connections: BTreeMap<u64, Connection>,
    pub(crate) calls: Vec<Call>,
    /// Tokens that nobody has looked at yet.
    pub(crate) questions: Vec<Question>,
    /// Connection and client of every reader that ever was.
    pub(crate) routes: BTreeMap<ReaderId, (u64, usize)>,
    /// What somebody was told is saved, document by document.
    pub(crate) promised: Vec<Cover>,
    /// Effects until the process dies.
    pub(crate) fuse: Option<usize>,
    pub(crate) budget: Arc<Budget>,
    /// Whether an update was ever dropped because it waited too long.
    pub(crate) waiting_dropped: bool,
    /// What there is of other nodes.
    pub(crate) peering: Option<Peering>,
    pub(crate) next: u64,
}

impl Server {
    pub(crate) fn new(docs: usize, limits: Limits, fault: Fault) -> Self {
        Self {
            now: Now { wall_ms: 1_700_000_000_000, ..Now::default() },
            limits,
            fault,
            disk: Disk::new(docs),
            directory: vec![None; docs],
            actors: BTreeMap::new(),
            connections: BTreeMap::new(),
            calls: Vec::new(),
            questions: Vec::new(),
            routes: BTreeMap::new(),
            promised: vec![Cover::default(); docs],
            fuse: None,
            budget: Budget::new(1 << 20),
            waiting_dropped: false,
            peering: None,
            next: 0,
        }
    }

    pub(crate) fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    pub(crate) fn name_of(&self, doc: usize) -> DocName {
        DocName::parse(&format!("{}doc{doc}", self.limits.kind)).expect("a plain name")
    }

    /// The document's actor, a new one if there is none.
    pub(crate) fn actor_of(&mut self, doc: usize) -> u64 {
        let two = |actor: &Actor| self.fault == Fault::TwoActors && actor.core.backlog_bytes() > 0;
        if let Some(id) = self.directory[doc].filter(|id| !two(&self.actors[id])) {
            return id;
        }
        let mut effects = Vec::new();
        let core = Core::new(self.name_of(doc), self.limits.core.clone(), Guards::nowhere(), &mut effects);
        let actor = Actor {
            doc,
            core,
            inbox: VecDeque::new(),
            blocked: VecDeque::new(),
            rest: VecDeque::new(),
            answers: VecDeque::new(),
            effects,
            holders: 0,
            asked: BTreeMap::new(),
            clearing: false,
            retired: false,
            begun: VecDeque::new(),
            early: BTreeMap::new(),
            room: Room::default(),
            lane: Lane::default(),
        };
        let id = self.number();
        self.actors.insert(id, actor);
        self.directory[doc] = Some(id);
        id
    }

    pub(crate) fn ask(&mut self, doc: usize, request: Request, update: Option<Bytes>) {
        let id = self.actor_of(doc);
        let ticket = Ticket(self.number());
        let inbox_max = self.limits.inbox;
        let actor = self.actors.get_mut(&id).expect("just found");
        actor.holders += 1;
        actor.asked.insert(ticket, update);
        actor.send(Mail::Ask { ticket, request }, inbox_max);
    }

    /// One turn of an actor's loop. Answers whether there was anything to do.
    pub(crate) fn turn(&mut self, id: u64, chance: &mut Chance) -> Go<bool> {
        let Some(mut actor) = self.actors.remove(&id) else { return Ok(false) };
        let result = self.turn_of(id, &mut actor, chance);
        let check = self.check_bounds(&actor);
        if !actor.retired {
            self.actors.insert(id, actor);
        }
        let busy = result?;
        check?;
        Ok(busy)
    }

    fn turn_of(&mut self, id: u64, actor: &mut Actor, chance: &mut Chance) -> Go<bool> {
        if !actor.effects.is_empty() {
            self.settle(id, actor)?;
            return Ok(true);
        }
        if let Some(input) = actor.answers.pop_front() {
            actor.clearing =
                self.fault == Fault::ClearDirtyAfterAwait && matches!(input, Input::Appended { result: Ok(_), .. });
            actor.core.handle(self.now, input, &mut actor.effects);
            self.finish_batch(id, actor)?;
            actor.clearing = false;
            return Ok(true);
        }
        let heard = self.hear_peers(actor, chance);
        if actor.core.awaits_store() || actor.core.awaits_peers() || heard && chance.one_in(2) {
            if heard || self.tick(actor) {
                self.finish_batch(id, actor)?;
                return Ok(true);
            }
            return Ok(false);
        }
        if actor.rest.is_empty() && !actor.inbox.is_empty() {
            let count = actor.inbox.len().min(chance.between(1, self.limits.batch));
            actor.rest.extend(actor.inbox.drain(..count));
            while actor.inbox.len() < self.limits.inbox {
                let Some(mail) = actor.blocked.pop_front() else { break };
                actor.inbox.push_back(mail);
            }
        }
        if actor.rest.front().is_some_and(|mail| !must_wait(&actor.core, mail)) {
            while actor.rest.front().is_some_and(|mail| !must_wait(&actor.core, mail))
                && let Some(mail) = actor.rest.pop_front()
            {
                self.deliver(actor, mail);
                if actor.core.awaits_store() || actor.core.awaits_peers() {
                    break;
                }
            }
            self.finish_batch(id, actor)?;
            return Ok(true);
        }
        if self.tick(actor) || heard {
            self.finish_batch(id, actor)?;
            return Ok(true);
        }
        Ok(false)
    }

    fn tick(&self, actor: &mut Actor) -> bool {
        let is_due = actor.core.deadline().is_some_and(|deadline| deadline <= self.now.moment);
        if is_due {
            actor.core.handle(self.now, Input::Tick, &mut actor.effects);
        }
        is_due
    }

    fn deliver(&mut self, actor: &mut Actor, mail: Mail) {
        if let (Fault::StatusOnReceipt, Mail::Message { reader, message: DocumentMessage::Update(_) }) =
            (self.fault, &mail)
        {
            self.status(actor, *reader, true, 1);
            *actor.early.entry(*reader).or_default() += 1;
        }
        let input = match mail {
            Mail::Join { reader, access, member, port } => {
                Input::Join { reader, access, receipt: port.receipt(), member, port }
            }
            Mail::Rights { reader, access } => Input::Rights { reader, access },
            Mail::Leave { reader } => Input::Leave { reader },
            Mail::Message { reader, message } => {
                if let DocumentMessage::SyncStep1(_) = message {
                    actor.begun.push_back((actor.effects.len(), reader));
                }
                Input::Message { reader, message }
            }
            Mail::Drained { reader } => Input::Drained { reader },
            Mail::Ask { ticket, request } => Input::Ask { ticket, request },
        };
        actor.core.handle(self.now, input, &mut actor.effects);
    }

    fn finish_batch(&mut self, id: u64, actor: &mut Actor) -> Go {
        actor.core.flush(self.now, &mut actor.effects);
        self.settle(id, actor)
    }

    fn settle(&mut self, id: u64, actor: &mut Actor) -> Go {
        while !actor.effects.is_empty() {
            let begun = std::mem::take(&mut actor.begun);
            let mut begun = begun.into_iter().peekable();
            for (index, effect) in std::mem::take(&mut actor.effects).into_iter().enumerate() {
                while let Some((_, reader)) = begun.next_if(|(before, _)| *before <= index) {
                    self.begun(reader);
                }
                if let Some(left) = &mut self.fuse {
                    *left = left.checked_sub(1).ok_or(Stop::Crash)?;
                }
                self.perform(id, actor, effect)?;
            }
            for (_, reader) in begun {
                self.begun(reader);
            }
        }
        actor.core.settled();
        actor.room.check(&actor.core, false)?;
        actor.core.readers().filter_map(|(_, port)| port.outbox()).for_each(|outbox| _ = outbox.flush(self.now.moment));
        Ok(())
    }

    fn perform(&mut self, id: u64, actor: &mut Actor, effect: Effect) -> Go {
        match effect {
            Effect::Pull { after } => self.pull(id, actor, after),
            Effect::Tell(message) => self.tell_peers(actor, message),
            Effect::Load => self.load(id, actor),
            Effect::Run(job) => self.call(id, actor.doc, Work::Job(Some(job))),
            Effect::Delete { ending } => self.call(id, actor.doc, Work::Delete { ending }),
            Effect::Revive => self.call(id, actor.doc, Work::Revive),
            Effect::Compact { epoch } => self.call(id, actor.doc, Work::Compact { epoch, loaded: None }),
            Effect::Append { batch, epoch, records } => {
                let saved = Input::Appended { batch, result: Ok(self.disk.last(actor.doc)) };
                if actor.clearing {
                    actor.answers.push_back(saved);
                    return Ok(());
                }
                if self.fault == Fault::AckBeforeDurable {
                    actor.answers.push_back(saved);
                }
                self.publish_early(actor.doc, epoch, &records);
                self.call(id, actor.doc, Work::Append { batch, epoch, records });
            }
            Effect::Broadcast { update, except } => {
                let mut message = Encoded::new(&ServerMessage::Update(update));
                let readers: Vec<ReaderId> = actor.core.whole_readers().map(|(reader, _)| reader).collect();
                for reader in readers.into_iter().filter(|reader| !except.contains(reader)) {
                    self.push(actor, reader, &mut message, Lost::Change);
                }
            }
            Effect::BroadcastAwareness(entries) => {
                let readers: Vec<ReaderId> = actor.core.readers().map(|(reader, _)| reader).collect();
                for reader in readers {
                    self.push_awareness(actor, reader, entries.clone());
                }
            }
            Effect::Change { reader, update } if actor.core.is_whole(reader) => {
                self.push(actor, reader, &mut Encoded::new(&ServerMessage::Update(update)), Lost::Change);
            }
            Effect::Change { reader, .. } => self.lost(actor, reader, Lost::Change),
            Effect::Echo { reader, update } => {
                self.promise(actor.doc, &update, "an echo")?;
                let mut message = Encoded::new(&ServerMessage::Update(update.clone()));
                self.push(actor, reader, &mut message, Lost::Echo(update));
            }
            Effect::Status { reader, saved, count } => {
                let early = actor.early.entry(reader).or_default();
                let told = count.min(*early);
                *early -= told;
                self.status(actor, reader, saved, count - told);
            }
            Effect::Stateless { from, payload } => {
                for (_, port) in actor.core.readers().filter(|(reader, _)| Some(*reader) != from) {
                    let _ = port.push_stateless(&payload);
                }
            }
            Effect::State { reader, have, answer, parts } => {
                if !actor.core.port(reader).is_none_or(|port| port.push_state(&parts)) {
                    self.lost(actor, reader, Lost::State { have, answer });
                }
            }
            Effect::Step1 { reader, state_vector } => {
                if let Some(port) = actor.core.port(reader) {
                    port.push_step1(state_vector);
                }
            }
            Effect::Awareness { reader, entries } => self.push_awareness(actor, reader, entries),
            Effect::Answer { ticket, result } => return self.answer(actor, ticket, result),
            Effect::End { reader, code } => {
                if let Some(port) = actor.core.port(reader) {
                    port.end(code);
                }
            }
            Effect::Deny { reader, code } => {
                if let Some(port) = actor.core.port(reader) {
                    port.push_denial(code);
                }
            }
            Effect::Retire => self.retire(id, actor),
            Effect::Presence { presence: Presence::State { .. }, .. } if self.fault == Fault::StateUntold => {}
            Effect::Presence { reader, presence } => actor.room.hear(reader, presence)?,
            Effect::Publish { .. } => {} // Nobody listens here.
            Effect::Count(event) => self.waiting_dropped |= event == Event::WaitingDropped,
        }
        Ok(())
    }

    pub(crate) fn call(&mut self, actor: u64, doc: usize, work: Work) {
        self.calls.push(Call { actor, doc, work, answer: None });
    }

    fn push(&mut self, actor: &mut Actor, reader: ReaderId, message: &mut Encoded, lost: Lost) {
        let fits = actor.core.port(reader).is_none_or(|port| port.push(message));
        if !fits {
            self.lost(actor, reader, lost);
        }
    }

    fn push_awareness(&mut self, actor: &mut Actor, reader: ReaderId, entries: Bytes) {
        let mut message = Encoded::new(&ServerMessage::Awareness(entries));
        let fits = actor.core.port(reader).is_none_or(|port| port.push_awareness(&mut message));
        if !fits {
            self.lost(actor, reader, Lost::Awareness);
        }
    }

    pub(crate) fn lost(&mut self, actor: &mut Actor, reader: ReaderId, lost: Lost) {
        if self.fault == Fault::DropOnFullQueue {
            return;
        }
        if lost != Lost::Awareness {
            for connection in self.connections.values_mut().filter(|connection| connection.has(reader)) {
                connection.lagged = true;
            }
        }
        actor.core.handle(self.now, Input::Overflowed { reader, lost }, &mut actor.effects);
    }

    fn answer(&mut self, actor: &mut Actor, ticket: Ticket, result: Result<Answer, Refusal>) -> Go {
        let Some(update) = actor.asked.remove(&ticket) else { return broken("a request was answered twice") };
        actor.holders -= 1;
        let revision = match result {
            Ok(Answer::Saved(seq)) => Some(seq),
            Ok(Answer::Created { created: true, revision }) => Some(revision.seq),
            _ => None,
        };
        match (revision, update) {
            (Some(revision), Some(update)) => {
                if revision > self.disk.last(actor.doc) && !self.disk.is_deleted(actor.doc) {
                    return broken("the answer names a revision that the log has not reached");
                }
                self.promise(actor.doc, &update, "an answer")
            }
            _ => Ok(()),
        }
    }

    fn retire(&mut self, id: u64, actor: &mut Actor) {
        actor.retired = actor.holders == 0 && actor.inbox.is_empty() && actor.blocked.is_empty();
        if !actor.retired {
            actor.core.stay(self.now);
            return;
        }
        if self.directory[actor.doc] == Some(id) {
            self.directory[actor.doc] = None;
        }
        self.leave_peers(actor);
    }
}
