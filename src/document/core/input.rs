//! What happens to a document, and what is to be done about it.

use bytes::Bytes;
use syncline_protocol::ErrorCode;
use syncline_protocol::channel::Access;
use syncline_protocol::channel::DocumentMessage;
use syncline_protocol::state_vector::StateVector;

use crate::bus::NodeId;
use crate::document::job::Job;
use crate::document::job::Outcome;
use crate::document::lineage::Ending;
use crate::document::peer::PeerMessage;
use crate::document::request::Answer;
use crate::document::request::Member;
use crate::document::request::ReaderId;
use crate::document::request::Receipt;
use crate::document::request::Refusal;
use crate::document::request::Request;
use crate::document::request::Ticket;
use crate::document::states::Parts;
use crate::store::Epoch;
use crate::store::Loaded;
use crate::store::Record;
use crate::store::Seq;
use crate::store::StoreError;
use crate::table::change::ChangeSet;
use crate::table::events::Presence;

/// What happens to a document.
#[derive(Debug)]
pub enum Input<P> {
    /// The store answered [`Effect::Load`].
    Loaded(Result<Loaded, StoreError>),
    /// A channel joins.
    Join {
        /// Its number.
        reader: ReaderId,
        /// What it may do.
        access: Access,
        /// How it hears that something is durable.
        receipt: Receipt,
        /// Who it is, where somebody signed in.
        member: Option<Member>,
        /// How the shell reaches it; the core only keeps it.
        port: P,
    },
    /// A channel's rights changed.
    Rights {
        /// Which channel.
        reader: ReaderId,
        /// What it may do from now on.
        access: Access,
    },
    /// A channel is gone.
    Leave {
        /// Which one.
        reader: ReaderId,
    },
    /// A channel says something.
    Message {
        /// Which one.
        reader: ReaderId,
        /// What.
        message: DocumentMessage,
    },
    /// Somebody asks something once.
    Ask {
        /// Names the question.
        ticket: Ticket,
        /// The question.
        request: Request,
    },
    /// The store answered [`Effect::Append`].
    Appended {
        /// Which append.
        batch: u64,
        /// Durable up to here, or why not.
        result: Result<Seq, StoreError>,
    },
    /// A compaction ended.
    Compacted(Result<Compacted, StoreError>),
    /// The store answered [`Effect::Delete`].
    Erased(Result<bool, StoreError>),
    /// The store answered [`Effect::Revive`].
    Revived(Result<Epoch, StoreError>),
    /// Something did not fit a reader's outbox.
    Overflowed {
        /// Whose.
        reader: ReaderId,
        /// What was not queued.
        lost: Lost,
    },
    /// A reader that lost something has read everything that was queued.
    Drained {
        /// Which one.
        reader: ReaderId,
    },
    /// A job of [`Effect::Run`] is done.
    Done(Outcome),
    /// Another node says something.
    Peer {
        /// Which one.
        from: NodeId,
        /// Whether something that it said before was missed.
        missed: bool,
        /// What; `None` if it cannot be read.
        message: Option<PeerMessage>,
    },
    /// The question of [`Effect::Tell`] went to so many other nodes.
    Others(usize),
    /// Another node is gone.
    NodeLost(NodeId),
    /// Something that other nodes said was lost here.
    Missed,
    /// The bus was away, and is back.
    Resumed,
    /// The store answered [`Effect::Pull`].
    Pulled(Result<Loaded, StoreError>),
    /// Memory is short: the document leaves it now, if nobody reads it.
    Unload,
    /// [`super::Core::deadline`] has come.
    Tick,
}

/// What did not fit an outbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lost {
    /// A change of the last batch.
    Change,
    /// So many statuses.
    Status(u32),
    /// The reader's own update, sent back because it is durable.
    Echo(Bytes),
    /// A state: what the reader had, and whether it waits for a step 2.
    State {
        /// What the reader had.
        have: StateVector,
        /// Whether it asked, and waits for a step 2.
        answer: bool,
    },
    /// Presence.
    Awareness,
}

/// What a finished compaction leaves in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compacted {
    /// The snapshot holds everything up to here.
    pub through: Seq,
    /// Size of the snapshot.
    pub state_bytes: usize,
}

/// What is to be done.
#[derive(Debug, PartialEq)]
pub enum Effect {
    /// Load the document.
    Load,
    /// Read what the log holds behind this; answer with [`Input::Pulled`]. Everything else goes on meanwhile.
    Pull {
        /// Up to here it is known.
        after: Seq,
    },
    /// Say this to the other holders. A digest that asks is answered with [`Input::Others`].
    Tell(PeerMessage),
    /// Do this off the async threads; answer with [`Input::Done`].
    Run(Job),
    /// Append these records; answer with [`Input::Appended`].
    Append {
        /// Names the append.
        batch: u64,
        /// The document's life.
        epoch: Epoch,
        /// What to append.
        records: Vec<Record>,
    },
    /// Make a snapshot, off the path of edits; answer with [`Input::Compacted`].
    Compact {
        /// The document's life.
        epoch: Epoch,
    },
    /// Delete what is stored; answer with [`Input::Erased`].
    Delete {
        /// What the lives to come need to know of those that were.
        ending: Ending,
    },
    /// Lift the tombstone; answer with [`Input::Revived`].
    Revive,
    /// To every whole reader but these: a change.
    Broadcast {
        /// Yjs update v1.
        update: Bytes,
        /// Its writers, who hear it when it is durable.
        except: Vec<ReaderId>,
    },
    /// To one reader: a change.
    Change {
        /// To whom.
        reader: ReaderId,
        /// Yjs update v1.
        update: Bytes,
    },
    /// To one reader: its own update, which is durable now.
    Echo {
        /// To whom.
        reader: ReaderId,
        /// What it sent.
        update: Bytes,
    },
    /// To one reader: so many of its updates are durable, or count for nothing.
    Status {
        /// To whom.
        reader: ReaderId,
        /// Whether they are durable.
        saved: bool,
        /// How many times it is to hear that.
        count: u32,
    },
    /// To every reader but one that can hear it: what a client says to the others.
    Stateless {
        /// Who says it.
        from: Option<ReaderId>,
        /// The text.
        payload: Bytes,
    },
    /// To one reader: a state, in parts that arrive one after the other.
    State {
        /// To whom.
        reader: ReaderId,
        /// What it had; to be given back if the state does not fit.
        have: StateVector,
        /// Whether it asked, and the last part is a step 2.
        answer: bool,
        /// The parts.
        parts: Parts,
    },
    /// To one reader: our step 1, asking for what we lack.
    Step1 {
        /// To whom.
        reader: ReaderId,
        /// Our encoded state vector.
        state_vector: Bytes,
    },
    /// To every reader: presence.
    BroadcastAwareness(Bytes),
    /// To one reader: presence.
    Awareness {
        /// To whom.
        reader: ReaderId,
        /// Encoded entries.
        entries: Bytes,
    },
    /// A reader came, shows something else of itself, or went: to the document's room.
    Presence {
        /// Which one.
        reader: ReaderId,
        /// What.
        presence: Presence,
    },
    /// The answer to one request.
    Answer {
        /// Which one.
        ticket: Ticket,
        /// The answer.
        result: Result<Answer, Refusal>,
    },
    /// What became visible in a table, and is durable: to whoever listens.
    Publish {
        /// The document's life.
        epoch: Epoch,
        /// The record that holds it.
        seq: Seq,
        /// What.
        change: Box<ChangeSet>,
    },
    /// This channel is to be told that something it said counts for nothing, and why. It goes on.
    Deny {
        /// Which one.
        reader: ReaderId,
        /// Why.
        code: ErrorCode,
    },
    /// This channel is to be told that it ended, and why. It hears nothing more, and leaves when its connection knows.
    End {
        /// Which one.
        reader: ReaderId,
        /// Why.
        code: ErrorCode,
    },
    /// Nobody needs this document in memory.
    Retire,
    /// Something that operators count.
    Count(Event),
}

/// What operators count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// An update was merged.
    Applied,
    /// An update was refused as impossible or forbidden.
    Refused,
    /// An update had to wait for its predecessors.
    OutOfOrder,
    /// Updates that waited were dropped; their writers were asked again.
    WaitingDropped,
    /// An update broke the engine; the document was loaded again.
    Poisoned,
    /// A reader began to lag.
    Lagging,
    /// A lagging reader was caught up.
    CaughtUp,
    /// An append failed.
    AppendFailed,
    /// What former lives left cannot be read: copies of them are not known any more.
    MemoUnreadable,
    /// Somebody who may not publish said something to the others.
    StatelessRefused,
}
