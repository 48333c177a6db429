//! One document without a server: the real `Core`, and around it what an actor and a store would do, one step at a time.
//! Whoever drives it decides when the store answers, and what. Also used by the fuzz target `core`.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use syncline::clock::Now;
use syncline::document::compact;
use syncline::document::core::Cluster;
use syncline::document::core::Compacted;
use syncline::document::core::Core;
use syncline::document::core::CoreSettings;
use syncline::document::core::Effect;
use syncline::document::core::Event;
use syncline::document::core::Guards;
use syncline::document::core::Input;
use syncline::document::core::Lost;
use syncline::document::core::ReaderId;
use syncline::document::core::Ticket;
use syncline::document::job::Job;
use syncline::document::replica::Deleted;
use syncline::document::request::Answer;
use syncline::document::request::Receipt;
use syncline::document::request::Refusal;
use syncline::document::request::Request;
use syncline::name::DocName;
use syncline::store::Epoch;
use syncline::store::Loaded;
use syncline::store::Record;
use syncline::store::Seq;
use syncline::store::StoreError;
use syncline_protocol::Moment;
use syncline_protocol::channel::Access;
use syncline_protocol::channel::DocumentMessage;
use syncline_protocol::state_vector::StateVector;
use syncline_protocol::update::UpdateLimits;
use syncline_protocol::update::validate;

/// The bounds of `document::waiting` and `document::saving`, with what one batch may add on top.
const WAITING_MAX: usize = 256;
const BACKLOG_MAX: usize = (8 << 20) + (4 << 20);
/// Rounds in which effects follow from effects.
const ROUNDS_MAX: usize = 1000;

/// What the store is asked and has not answered.
#[derive(Debug)]
pub(crate) enum Call {
    Load,
    Job(Job),
    Delete { memo: Bytes },
    Revive,
    Append { batch: u64, epoch: Epoch, records: Vec<Record> },
    Compact { epoch: Epoch, loaded: Loaded },
}

/// What happened so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) applied: u64,
    pub(crate) refused: u64,
    pub(crate) out_of_order: u64,
    pub(crate) poisoned: u64,
}

/// The document, its store and its readers.
pub(crate) struct Shell {
    pub(crate) core: Core<()>,
    pub(crate) counts: Counts,
    pub(crate) calls: Vec<Call>,
    /// Connected, and not told to end.
    pub(crate) readers: BTreeSet<ReaderId>,
    /// Told to end, and not gone yet.
    pub(crate) ended: BTreeSet<ReaderId>,
    /// Whose outboxes take nothing.
    pub(crate) full: BTreeSet<ReaderId>,
    pub(crate) now: Now,
    pub(crate) last_answer: Option<Result<Answer, Refusal>>,
    settings: CoreSettings,
    effects: Vec<Effect>,
    open: BTreeSet<Ticket>,
    stored: Loaded,
    /// What was ever on disk.
    durable: StateVector,
    deleted: bool,
    numbers: u64,
    /// Left memory; the next visitor brings it back.
    gone: bool,
    /// A visitor is on the way.
    wanted: bool,
}

impl Shell {
    /// A document that nobody wrote to yet.
    pub(crate) fn new() -> Self {
        let settings = CoreSettings {
            doc_bytes_max: 1 << 20,
            compact_bytes: 4096,
            idle: Duration::from_secs(2),
            heavy_bytes: usize::MAX,
            update: UpdateLimits::default(),
            cluster: Cluster::Alone,
        };
        let mut effects = Vec::new();
        let core = fresh(&settings, &mut effects);
        let mut shell = Self {
            core,
            counts: Counts::default(),
            calls: Vec::new(),
            readers: BTreeSet::new(),
            ended: BTreeSet::new(),
            full: BTreeSet::new(),
            now: Now { moment: Moment(1), wall_ms: 1_700_000_000_000 },
            last_answer: None,
            settings,
            effects,
            open: BTreeSet::new(),
            stored: Loaded::default(),
            durable: StateVector::default(),
            deleted: false,
            numbers: 0,
            gone: false,
            wanted: false,
        };
        shell.settle();
        shell
    }

    pub(crate) fn join(&mut self, access: Access) -> ReaderId {
        self.bring_back();
        let reader = ReaderId(self.number());
        self.readers.insert(reader);
        self.handle(Input::Join { reader, access, receipt: Receipt::Echo, member: None, port: () });
        reader
    }

    pub(crate) fn leave(&mut self, reader: ReaderId) {
        self.readers.remove(&reader);
        self.ended.remove(&reader);
        self.full.remove(&reader);
        self.handle(Input::Leave { reader });
    }

    pub(crate) fn say(&mut self, reader: ReaderId, message: DocumentMessage) {
        self.handle(Input::Message { reader, message });
    }

    pub(crate) fn ask(&mut self, request: Request) {
        self.bring_back();
        let ticket = Ticket(self.number());
        self.open.insert(ticket);
        self.handle(Input::Ask { ticket, request });
    }

    pub(crate) fn drained(&mut self, reader: ReaderId) {
        self.full.remove(&reader);
        self.handle(Input::Drained { reader });
    }

    /// Gives the core one input. [`Self::flush`] ends the batch.
    pub(crate) fn handle(&mut self, input: Input<()>) {
        if !self.gone {
            self.core.handle(self.now, input, &mut self.effects);
        }
    }

    /// Whoever wants a document that left memory waits until it is loaded.
    fn bring_back(&mut self) {
        if self.gone {
            self.wanted = true;
            self.start_again();
            self.answer_all();
            self.wanted = false;
        }
    }

    /// Ends a batch, as the actor does.
    pub(crate) fn flush(&mut self) {
        if self.gone {
            return;
        }
        self.core.flush(self.now, &mut self.effects);
        self.settle();
        if self.gone {
            self.calls.clear();
        }
        self.check();
    }

    /// Lets time pass.
    pub(crate) fn wait(&mut self, milliseconds: u64) {
        self.now.moment = Moment(self.now.moment.0 + milliseconds);
        self.now.wall_ms += milliseconds;
        if !self.gone && self.core.deadline().is_some_and(|due| due <= self.now.moment) {
            self.handle(Input::Tick);
        }
    }

    /// The store answers one of its calls: does it, or fails.
    pub(crate) fn answer(&mut self, call: usize, failure: Option<StoreError>) {
        if call >= self.calls.len() {
            return;
        }
        let call = self.calls.remove(call);
        let input = self.carry_out(call, failure);
        self.handle(input);
    }

    /// Answers everything, until nothing is asked any more.
    pub(crate) fn answer_all(&mut self) {
        for _ in 0..ROUNDS_MAX {
            self.flush();
            if self.calls.is_empty() {
                return;
            }
            self.answer(0, None);
        }
        panic!("the core never stops asking the store");
    }

    /// Comes to rest: everything answered, every retry made. Then nobody may be left without an answer.
    pub(crate) fn rest(&mut self) {
        for _ in 0..20 {
            self.answer_all();
            self.wait(2_000);
        }
        self.answer_all();
        assert!(self.open.is_empty(), "asked and never answered: {:?}", self.open);
        assert!(self.gone || self.core.backlog_bytes() == 0, "a healthy store, and still something unsaved");
    }

    /// What is on disk.
    pub(crate) fn stored(&self) -> &Loaded {
        &self.stored
    }

    /// A new start on the same disk, as after a crash.
    pub(crate) fn start_again(&mut self) {
        self.calls.clear();
        self.open.clear();
        self.readers.clear();
        self.ended.clear();
        self.full.clear();
        self.effects.clear();
        self.gone = false;
        self.core = fresh(&self.settings, &mut self.effects);
        self.settle();
    }

    fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    fn carry_out(&mut self, call: Call, failure: Option<StoreError>) -> Input<()> {
        let failed = |otherwise| failure.map_or(otherwise, Err);
        match call {
            Call::Load => {
                let loaded = if self.deleted { Err(StoreError::Deleted) } else { Ok(self.stored.clone()) };
                Input::Loaded(failed_or(failed(Ok(())), loaded))
            }
            Call::Job(job) => Input::Done(job.run()),
            Call::Delete { memo } => {
                let result = failed(Ok(()));
                if result.is_ok() {
                    self.deleted = true;
                    self.stored = Loaded { epoch: self.stored.epoch, memo, ..Loaded::default() };
                }
                Input::Erased(result.map(|()| true))
            }
            Call::Revive => {
                let result = failed(Ok(()));
                if result.is_ok() && std::mem::take(&mut self.deleted) {
                    self.stored.epoch = Epoch(self.stored.epoch.0 + 1);
                }
                Input::Revived(result.map(|()| self.stored.epoch))
            }
            Call::Append { batch, epoch, records } => {
                let result = failed_or(failed(Ok(())), self.append(epoch, records));
                Input::Appended { batch, result }
            }
            Call::Compact { epoch, loaded } => Input::Compacted(match failed(Ok(())) {
                Ok(()) => self.compact(epoch, &loaded),
                Err(error) => Err(error),
            }),
        }
    }

    fn append(&mut self, epoch: Epoch, records: Vec<Record>) -> Result<Seq, StoreError> {
        if self.deleted || epoch != self.stored.epoch {
            return Err(StoreError::Deleted);
        }
        for record in records {
            let summary = validate(&record.update, &self.settings.update).expect("only what is valid is kept");
            summary.ranges().iter().for_each(|range| self.durable.advance(range.client, range.end));
            self.stored.last = Seq(self.stored.last.0 + 1);
            self.stored.records.push((self.stored.last, record));
        }
        Ok(self.stored.last)
    }

    fn compact(&mut self, epoch: Epoch, loaded: &Loaded) -> Result<Compacted, StoreError> {
        let refused = || StoreError::Conflict("no snapshot".into());
        let snapshot = compact::build(loaded, Deleted::Collected).map_err(|_| refused())?.ok_or_else(refused)?;
        if self.deleted || epoch != self.stored.epoch {
            return Err(StoreError::Deleted);
        }
        let done = Compacted { through: snapshot.through, state_bytes: snapshot.state.len() };
        self.stored.records.retain(|(seq, _)| *seq > snapshot.through);
        self.stored.snapshot = Some(snapshot);
        Ok(done)
    }

    fn settle(&mut self) {
        for _ in 0..ROUNDS_MAX {
            if self.effects.is_empty() {
                return self.core.settled();
            }
            for effect in std::mem::take(&mut self.effects) {
                self.perform(effect);
            }
        }
        panic!("effects follow from effects without end");
    }

    fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Publish { .. } | Effect::Presence { .. } => {} // Nobody listens here.
            Effect::Pull { .. } | Effect::Tell(_) => {}            // There are no other nodes here.
            Effect::Load => self.call(Call::Load),
            Effect::Run(job) => self.call(Call::Job(job)),
            Effect::Delete { ending } => self.call(Call::Delete { memo: ending.memo() }),
            Effect::Revive => self.call(Call::Revive),
            Effect::Append { batch, epoch, records } => self.call(Call::Append { batch, epoch, records }),
            Effect::Compact { epoch } => {
                let loaded = self.stored.clone();
                self.call(Call::Compact { epoch, loaded });
            }
            Effect::Broadcast { except, .. } => {
                let whole: Vec<ReaderId> = self.core.whole_readers().map(|(reader, ())| reader).collect();
                for reader in whole.into_iter().filter(|reader| !except.contains(reader)) {
                    self.push(reader, Lost::Change);
                }
            }
            Effect::BroadcastAwareness(_) => {
                let all: Vec<ReaderId> = self.core.readers().map(|(reader, ())| reader).collect();
                all.into_iter().for_each(|reader| self.push(reader, Lost::Awareness));
            }
            Effect::Change { reader, .. } if self.core.is_whole(reader) => self.push(reader, Lost::Change),
            Effect::Change { reader, .. } => self.handle(Input::Overflowed { reader, lost: Lost::Change }),
            Effect::Echo { reader, update } => {
                let summary = validate(&update, &self.settings.update).expect("it was accepted");
                assert!(summary.structs_known(&self.durable), "{update:?} is called saved and is not");
                self.push_to_living(reader, Lost::Echo(update));
            }
            Effect::State { reader, have, answer, parts } => {
                assert!(!parts.is_empty(), "a state in no parts");
                self.push_to_living(reader, Lost::State { have, answer });
            }
            Effect::Status { reader, .. } => assert!(!self.ended.contains(&reader), "an answer after the end"),
            Effect::Stateless { .. } => {}
            Effect::Deny { reader, .. } => assert!(!self.ended.contains(&reader), "a no after the end"),
            Effect::Step1 { reader, .. } => assert!(!self.ended.contains(&reader), "a question after the end"),
            Effect::Awareness { reader, .. } => self.push_to_living(reader, Lost::Awareness),
            Effect::Answer { ticket, result } => {
                assert!(self.open.remove(&ticket), "{ticket:?} was answered twice, or never asked");
                self.last_answer = Some(result);
            }
            Effect::End { reader, .. } => {
                assert!(!self.ended.contains(&reader), "{reader:?} was ended twice");
                // One that left in the same batch hears nothing of it any more.
                if self.readers.remove(&reader) {
                    self.ended.insert(reader);
                }
            }
            Effect::Retire => self.retire(),
            Effect::Count(event) => self.count(event),
        }
    }

    fn push_to_living(&mut self, reader: ReaderId, lost: Lost) {
        assert!(!self.ended.contains(&reader), "{reader:?} hears {lost:?} after its end");
        self.push(reader, lost);
    }

    fn push(&mut self, reader: ReaderId, lost: Lost) {
        if self.full.contains(&reader) {
            self.handle(Input::Overflowed { reader, lost });
        }
    }

    fn call(&mut self, call: Call) {
        let slot = |call: &Call| match call {
            Call::Load | Call::Job(_) | Call::Delete { .. } | Call::Revive => 0,
            Call::Append { .. } => 1,
            Call::Compact { .. } => 2,
        };
        if let Some(former) = self.calls.iter().position(|other| slot(other) == slot(&call)) {
            // The actor has one place for each: the answer to the former is never heard. Nobody may be waiting for it,
            // which is so for an append to a life of the document that has ended.
            let former = self.calls.remove(former);
            let lives = |call: &Call| match call {
                Call::Append { epoch, .. } => Some(*epoch),
                _ => None,
            };
            assert!(lives(&former) < lives(&call), "{call:?} while {former:?}");
            let _ = self.carry_out(former, None);
        }
        self.calls.push(call);
    }

    fn retire(&mut self) {
        if self.readers.is_empty() && self.ended.is_empty() && self.open.is_empty() && !self.wanted {
            self.gone = true;
        } else {
            self.core.stay(self.now);
        }
    }

    fn count(&mut self, event: Event) {
        match event {
            Event::Applied => self.counts.applied += 1,
            Event::Refused => self.counts.refused += 1,
            Event::OutOfOrder => self.counts.out_of_order += 1,
            Event::Poisoned => self.counts.poisoned += 1,
            Event::WaitingDropped | Event::Lagging | Event::CaughtUp | Event::AppendFailed => {}
            Event::StatelessRefused => {}
            Event::MemoUnreadable => panic!("a memo of our own cannot be read"),
        }
    }

    fn check(&self) {
        assert!(self.core.replica().is_none_or(|replica| !replica.has_pending()), "the gate let something through");
        assert!(self.core.waiting_len() <= WAITING_MAX, "{} updates wait", self.core.waiting_len());
        assert!(self.core.backlog_bytes() <= BACKLOG_MAX, "{} bytes unsaved", self.core.backlog_bytes());
    }

    /// The state as a stranger would get it; `None` when there is no such document.
    pub(crate) fn state(&mut self) -> Option<Bytes> {
        self.last_answer = None;
        self.ask(Request::State { have: StateVector::default() });
        self.answer_all();
        match self.last_answer.take() {
            Some(Ok(Answer::State { update, .. })) => Some(update),
            _ => None,
        }
    }
}

fn failed_or<T>(gate: Result<(), StoreError>, result: Result<T, StoreError>) -> Result<T, StoreError> {
    gate.and(result)
}

fn fresh(settings: &CoreSettings, effects: &mut Vec<Effect>) -> Core<()> {
    let name = DocName::parse("doc").expect("a plain name");
    Core::new(name, settings.clone(), Guards::nowhere(), effects)
}
