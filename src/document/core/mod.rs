//! What one document decides. Inputs in, effects out; no clock, no socket, no disk, no waiting.
//!
//! [`Core::handle`] takes one input; [`Core::flush`] ends a batch of them and says what follows from the batch as a whole:
//! one frame for everybody, one append. The shell ([`super::actor`], or the simulator) carries effects out in order and
//! then says [`Core::settled`].
//!
//! Laws, each checked by the simulator: an acknowledgement leaves only after the store said "durable"; a reader is always
//! either whole, or marked with a state vector from which one diff makes it whole; nothing reaches the engine that is
//! invalid, quarantined or not causally ready.

mod ask;
mod encode;
mod input;
mod life;
mod merge;
mod peers;
mod pending;
mod presence;
mod questions;
mod readers;
mod remotes;
mod settle;
mod source;
mod tables;

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use syncline_protocol::ErrorCode;
use syncline_protocol::Moment;
use syncline_protocol::channel::DocumentMessage;
use syncline_protocol::state_vector::StateVector;
use syncline_protocol::update::UpdateLimits;

use crate::clock::Now;
use crate::name::DocName;
use crate::store::Epoch;
use crate::table::register::Register;

use super::awareness::Awareness;
use super::inflight::InFlight;
use super::lineage::Lineage;
use super::quarantine::Quarantine;
use super::replica::Replica;
use super::request::Answer;
use super::request::Request;
use super::saving::Saving;
use super::states::States;
use super::waiting::Waiting;

use peers::MaybePeers;
use pending::Pending;
use pending::Taken;
use readers::Reader;
use readers::Sync;

pub use super::request::ReaderId;
pub use super::request::Ticket;
pub use input::Compacted;
pub use input::Effect;
pub use input::Event;
pub use input::Input;
pub use input::Lost;
pub use peers::Cluster;

/// What the core is told once.
#[derive(Debug, Clone)]
pub struct CoreSettings {
    /// Bytes of one encoded document.
    pub doc_bytes_max: usize,
    /// Bytes in the log beyond which a snapshot is made, if the log is also larger than the last snapshot.
    pub compact_bytes: usize,
    /// How long a document that nobody reads stays in memory.
    pub idle: Duration,
    /// Documents of more encoded bytes are read and encoded off the async threads.
    pub heavy_bytes: usize,
    /// What an update may be.
    pub update: UpdateLimits,
    /// Among which other nodes it lives.
    pub cluster: Cluster,
}

/// An encoded state vector of somebody who has nothing.
const NEWCOMER: &[u8] = &[0];

/// After a failed compaction or retirement, and between two requests to the same writer for what we lack.
const PAUSE: Duration = Duration::from_secs(5);

/// The two nets under the engine.
#[derive(Debug, Clone)]
pub struct Guards {
    /// Notes of what the engine is doing.
    pub inflight: Arc<InFlight>,
    /// What must not reach it again.
    pub quarantine: Arc<Quarantine>,
}

impl Guards {
    /// Guards that keep nothing.
    #[must_use]
    pub fn nowhere() -> Self {
        Self { inflight: Arc::new(InFlight::nowhere()), quarantine: Arc::new(Quarantine::nowhere()) }
    }
}

/// One document. `P` is how the shell reaches a reader.
#[derive(Debug)]
pub struct Core<P> {
    name: DocName,
    settings: CoreSettings,
    guards: Guards,
    phase: Phase,
    epoch: Epoch,
    /// Boxed: most documents have one or two, and a map has room for a dozen from its first entry.
    readers: BTreeMap<ReaderId, Box<Reader<P>>>,
    /// Channels that were told to end and have not left yet.
    ended: BTreeMap<ReaderId, P>,
    /// Lagging readers that have read everything.
    catch_ups: BTreeSet<ReaderId>,
    awareness: Awareness,
    /// Before this, changed presence waits in the batch.
    awareness_due: Option<Moment>,
    saving: Saving,
    /// What there was before this document was deleted and created again.
    lineage: Lineage,
    waiting: Waiting,
    /// Writers to be asked for what was dropped, and when.
    ask_later: BTreeMap<ReaderId, Moment>,
    pending: Pending,
    /// What requests that wrote into a table hear when that is durable. As many as wait for an append.
    answers: BTreeMap<Ticket, Answer>,
    /// Updates that broke the engine when they were merged together; each is tried alone once the content is back.
    unproved: VecDeque<Taken>,
    batch: Batch,
    size: Size,
    /// About how many bytes of memory the content takes.
    content_bytes: usize,
    /// Beyond this, the guess is checked.
    weigh_beyond: usize,
    compaction: Compaction,
    idle_since: Option<Moment>,
    retiring: bool,
    /// Whether somebody has listened to the document's room since it was loaded.
    is_heard: bool,
    peers: MaybePeers,
}

#[derive(Debug)]
enum Phase {
    /// The store is asked for the content; nothing else is handled until it answers.
    Loading {
        then: Option<Creation>,
        /// What was here before a reload; empty at first.
        clocks: StateVector,
    },
    /// The engine reads the content. Newcomers are answered from what is stored.
    Building(Building),
    Live(Live),
    /// The content is being encoded for somebody, and must not change meanwhile; nothing else is handled until it is done.
    Encoding {
        live: Live,
        whom: Whom,
        have: StateVector,
    },
    /// The store is deleting the document; nothing else is handled until it answers.
    Deleting {
        asked: Option<Ticket>,
        live: Live,
    },
    /// Nothing can be done with this document; whoever asks is told why.
    Closed {
        code: ErrorCode,
        message: String,
        since: Moment,
    },
}

/// A request that waits for the document: a creation for its tombstone to be lifted, any other for another node's.
#[derive(Debug)]
struct Creation {
    ticket: Ticket,
    request: Request,
}

#[derive(Debug)]
struct Building {
    then: Option<Creation>,
    clocks: StateVector,
    /// Whether there is, or will be, anything in the store.
    exists: bool,
    states: States,
    /// Readers that have had the content, but not our step 1.
    answered: BTreeSet<ReaderId>,
}

#[derive(Debug)]
struct Live {
    replica: Replica,
    /// What is kept beside it, if it is a table.
    register: Option<Box<Register>>,
    /// Encoding is noted too: the engine has merged updates that it could not encode.
    notes: Arc<InFlight>,
    name: DocName,
    /// Whether there is, or will be, anything in the store.
    exists: bool,
    /// What was encoded, for the next ones who ask for the same.
    states: States,
}

/// Who waits for a state.
#[derive(Debug, Clone, Copy)]
enum Whom {
    /// A reader that sent its step 1.
    Asker(ReaderId),
    /// A reader that fell behind; `answer` if it waits for a step 2 besides.
    Laggard { reader: ReaderId, answer: bool },
    /// A request.
    Ticket(Ticket),
    /// Nobody yet: it is encoded to see how much it is.
    Nobody,
}

/// What the inputs since the last flush add up to.
#[derive(Debug, Default)]
struct Batch {
    applied: Vec<Applied>,
    /// Runs of `applied` that were merged together, and the bytes of that, in order.
    together: Vec<(Range<usize>, Bytes)>,
    /// For each client that advanced: its clock before this batch. Kept until the shell has settled it.
    before: BTreeMap<u64, u32>,
    awareness: BTreeSet<u64>,
}

#[derive(Debug)]
struct Applied {
    from: Option<ReaderId>,
    update: Bytes,
}

/// How large the document is when encoded: known after an encode, an upper bound after further updates.
#[derive(Debug, Default)]
struct Size {
    bytes: usize,
    exact: bool,
}

#[derive(Debug, Default)]
struct Compaction {
    running: bool,
    log_bytes: usize,
    log_records: usize,
    snapshot_bytes: usize,
    not_before: Moment,
}

impl<P> Core<P> {
    /// A document that is about to be loaded: the first effect is [`Effect::Load`].
    #[must_use]
    pub fn new(name: DocName, settings: CoreSettings, guards: Guards, effects: &mut Vec<Effect>) -> Self {
        effects.push(Effect::Load);
        Self {
            name,
            settings,
            guards,
            phase: Phase::Loading { then: None, clocks: StateVector::default() },
            epoch: Epoch::default(),
            readers: BTreeMap::new(),
            ended: BTreeMap::new(),
            catch_ups: BTreeSet::new(),
            awareness: Awareness::default(),
            awareness_due: None,
            saving: Saving::default(),
            lineage: Lineage::default(),
            waiting: Waiting::default(),
            ask_later: BTreeMap::new(),
            pending: Pending::default(),
            answers: BTreeMap::new(),
            unproved: VecDeque::new(),
            batch: Batch::default(),
            size: Size::default(),
            content_bytes: 0,
            weigh_beyond: usize::MAX,
            compaction: Compaction::default(),
            idle_since: None,
            retiring: false,
            is_heard: false,
            peers: MaybePeers::default(),
        }
    }

    /// Whether the store is being asked, or a job done that the content must not change under. Until there is an answer,
    /// only [`Input::Loaded`], [`Input::Revived`], [`Input::Erased`], [`Input::Appended`], [`Input::Compacted`],
    /// [`Input::Overflowed`] and [`Input::Done`] may be handled; the rest waits in the inbox.
    #[must_use]
    pub fn awaits_store(&self) -> bool {
        matches!(self.phase, Phase::Loading { .. } | Phase::Deleting { .. } | Phase::Encoding { .. })
    }

    /// Whether the content is not in memory yet, though it can be read. What [`Self::must_wait`] says waits then, and
    /// everything behind it.
    #[must_use]
    pub fn awaits_engine(&self) -> bool {
        matches!(self.phase, Phase::Building(_))
    }

    /// Whether a message, or a request (`None`), has to wait until [`Self::awaits_engine`] is over.
    #[must_use]
    pub fn must_wait(&self, message: Option<&DocumentMessage>) -> bool {
        let Phase::Building(building) = &self.phase else { return false };
        match message {
            Some(DocumentMessage::SyncStep1(have)) => *have != NEWCOMER || !building.states.welcome_newcomers(),
            Some(DocumentMessage::SyncStep2(update) | DocumentMessage::Update(update)) => {
                *update != merge::EMPTY_UPDATE
            }
            Some(DocumentMessage::Awareness(_) | DocumentMessage::QueryAwareness | DocumentMessage::Stateless(_)) => {
                false
            }
            None => true,
        }
    }

    /// The readers that hear every change.
    pub fn whole_readers(&self) -> impl Iterator<Item = (ReaderId, &P)> {
        let whole = self.readers.iter().filter(|(_, reader)| matches!(reader.sync, Sync::Whole));
        whole.map(|(&id, reader)| (id, &reader.port))
    }

    /// Everybody, whole or not.
    pub fn readers(&self) -> impl ExactSizeIterator<Item = (ReaderId, &P)> {
        self.readers.iter().map(|(&id, reader)| (id, &reader.port))
    }

    /// How to reach one reader, also one that was told to end.
    #[must_use]
    pub fn port(&self, reader: ReaderId) -> Option<&P> {
        self.readers.get(&reader).map(|reader| &reader.port).or_else(|| self.ended.get(&reader))
    }

    /// Whether a reader lacks nothing, or has it on its way.
    #[must_use]
    pub fn is_whole(&self, reader: ReaderId) -> bool {
        self.readers.get(&reader).is_some_and(|reader| matches!(reader.sync, Sync::Whole))
    }

    /// The content, while it is in memory.
    #[must_use]
    pub fn replica(&self) -> Option<&Replica> {
        match &self.phase {
            Phase::Live(live) | Phase::Encoding { live, .. } | Phase::Deleting { live, .. } => Some(&live.replica),
            Phase::Loading { .. } | Phase::Building(_) | Phase::Closed { .. } => None,
        }
    }

    /// Whether the last append failed.
    #[must_use]
    pub fn is_store_failing(&self) -> bool {
        self.saving.is_failing()
    }

    /// Bytes that are not durable yet. Bounded: a failing store's backlog is folded.
    #[must_use]
    pub fn backlog_bytes(&self) -> usize {
        self.saving.backlog_bytes()
    }

    /// About how many bytes of memory the document takes.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        let states = match &self.phase {
            Phase::Live(live) | Phase::Encoding { live, .. } | Phase::Deleting { live, .. } => live.states.bytes(),
            Phase::Building(building) => building.states.bytes(),
            Phase::Loading { .. } | Phase::Closed { .. } => 0,
        };
        self.content_bytes + self.register_bytes() + states + self.saving.backlog_bytes() + self.lineage.bytes()
    }

    /// Whether nobody reads it and nothing is under way: it can leave memory at any moment.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.idle_since.is_some() && !self.retiring
    }

    /// Updates that wait for their predecessors. Bounded.
    #[must_use]
    pub fn waiting_len(&self) -> usize {
        self.waiting.len()
    }

    /// When [`Input::Tick`] is due, if nothing else happens.
    #[must_use]
    pub fn deadline(&self) -> Option<Moment> {
        if self.awaits_store() || self.awaits_engine() {
            return None;
        }
        let idle = self.idle_since.filter(|_| !self.retiring).map(|since| since.after(self.idle_time()));
        let ask = self.ask_later.values().min().copied();
        let cursors = self.awareness_due.filter(|_| !self.batch.awareness.is_empty());
        let mine = [self.awareness.deadline(), self.waiting.deadline(), self.saving.deadline(), ask, idle, cursors];
        mine.into_iter().chain([self.peers_deadline()]).flatten().min()
    }

    /// Takes one input.
    pub fn handle(&mut self, now: Now, input: Input<P>, effects: &mut Vec<Effect>) {
        let leaves_content_alone = matches!(
            input,
            Input::Message {
                message: DocumentMessage::Update(_) | DocumentMessage::SyncStep2(_) | DocumentMessage::Awareness(_),
                ..
            }
        );
        if !leaves_content_alone {
            self.merge_pending(now, effects);
        }
        match input {
            Input::Loaded(result) => self.loaded(now, result, effects),
            Input::Join { reader, access, receipt, member, port } => {
                let joining = Box::new(Reader::new(now, access, receipt, member, port));
                self.join(now, reader, joining, effects);
            }
            Input::Rights { reader, access } => {
                if let Some(reader) = self.readers.get_mut(&reader) {
                    reader.access = access;
                }
            }
            Input::Leave { reader } => self.leave(reader, effects),
            Input::Message { reader, message } => self.message(now, reader, message, effects),
            Input::Ask { ticket, request } => self.ask(now, ticket, request, effects),
            Input::Appended { batch, result } => self.appended(now, batch, &result, effects),
            Input::Compacted(result) => self.compacted(now, &result),
            Input::Erased(result) => self.erased(now, result, effects),
            Input::Revived(result) => self.revived(now, result, effects),
            Input::Overflowed { reader, lost } => self.overflowed(reader, lost, effects),
            Input::Drained { reader } => self.drained(reader, effects),
            Input::Done(outcome) => self.done(now, outcome, effects),
            Input::Peer { from, missed, message } => {
                if missed {
                    self.missed_something(now);
                }
                if let Some(message) = message {
                    self.peer(now, from, message, effects);
                }
            }
            Input::Others(count) => self.asked_others(count),
            Input::NodeLost(node) => self.node_lost(now, node, effects),
            Input::Missed => self.missed_something(now),
            Input::Resumed => self.bus_resumed(now),
            Input::Pulled(result) => self.pulled(now, result, effects),
            Input::Unload => self.unload(effects),
            Input::Tick => self.tick(now, effects),
        }
    }

    /// Ends a batch of inputs: what was merged leaves as one frame and one append.
    pub fn flush(&mut self, now: Now, effects: &mut Vec<Effect>) {
        self.merge_pending(now, effects);
        self.retry_waiting(now, effects);
        self.catch_up(now, effects);
        self.send_batch(effects);
        self.send_awareness(now, effects);
        self.fold_backlog(now, effects);
        if let Some((batch, records)) = self.saving.start(now.moment) {
            effects.push(Effect::Append { batch, epoch: self.epoch, records });
        }
        self.consider_compaction(now, effects);
        self.consider_weighing(effects);
        self.consider_idleness(now);
    }

    /// The shell has carried out the effects of a flush: what did not fit an outbox has been reported.
    pub fn settled(&mut self) {
        self.batch.before.clear();
    }

    /// What is, or was before a reload, in this document.
    fn clocks(&self) -> Option<&StateVector> {
        match &self.phase {
            Phase::Live(live) | Phase::Encoding { live, .. } | Phase::Deleting { live, .. } => {
                Some(live.replica.clocks())
            }
            Phase::Loading { clocks, .. } | Phase::Building(Building { clocks, .. }) => Some(clocks),
            Phase::Closed { .. } => None,
        }
    }
}
