//! What takes the engine, or the bytes of a large document, so long that it is done off the async threads.
//!
//! The core hands a [`Job`] out as an effect and takes its [`Outcome`] as an input. Nothing else touches the document
//! meanwhile: the engine's own lock would make the async thread wait.

use std::sync::Arc;

use bytes::Bytes;
use syncline_protocol::state_vector::StateVector;

use crate::name::DocName;
use crate::store::Loaded;
use crate::store::Record;
use crate::table::is_table;
use crate::table::register::Register;

use super::inflight::InFlight;
use super::inflight::Work;
use super::memory::Weight;
use super::replica::Deleted;
use super::replica::Poisoned;
use super::replica::Replica;
use super::replay::replay;
use super::replica::View;
use super::states::Prepared;
use super::states::States;

/// Documents of more encoded bytes than this are worth another thread: about where reading one takes the engine two
/// milliseconds, and encoding it half of one.
pub const HEAVY_BYTES: usize = 128 << 10;

/// Something to do. Blocking and processor-bound.
#[derive(Debug)]
pub struct Job {
    /// The document.
    pub doc: DocName,
    /// Says what the engine is at.
    pub notes: Arc<InFlight>,
    /// What to do.
    pub task: Task,
}

/// What there is to do.
#[derive(Debug)]
pub enum Task {
    /// Make the first state of what is stored, without the engine.
    Cut(Loaded),
    /// Give the engine what is stored, and what is not stored yet.
    Build {
        /// What is stored.
        loaded: Loaded,
        /// What is not, oldest first.
        unsaved: Vec<Record>,
    },
    /// Encode what a reader lacks.
    Encode {
        /// The content.
        view: View,
        /// What the reader has.
        have: StateVector,
    },
    /// Encode what somebody lacks who wants it in one piece.
    EncodeWhole {
        /// The content.
        view: View,
        /// What the asker has.
        have: StateVector,
    },
}

/// What came of it.
#[derive(Debug)]
pub enum Outcome {
    /// Of [`Task::Cut`].
    Cut {
        /// What is stored, as it was given.
        loaded: Loaded,
        /// What newcomers can have of it.
        states: States,
    },
    /// Of [`Task::Build`].
    Built(Result<Built, Poisoned>),
    /// Of [`Task::Encode`].
    Encoded(Result<Prepared, Poisoned>),
    /// Of [`Task::EncodeWhole`].
    EncodedWhole(Result<Bytes, Poisoned>),
    /// Its thread died.
    Lost,
}

/// A document that the engine has read.
#[derive(Debug)]
pub struct Built {
    /// Its content.
    pub replica: Replica,
    /// How much it is.
    pub weight: Weight,
    /// What is kept of it beside, if it is a table.
    pub register: Option<Box<Register>>,
}

impl PartialEq for Job {
    /// Two jobs are equal when they are one.
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
    }
}

impl Eq for Job {}

impl Job {
    /// Does it.
    #[must_use]
    pub fn run(self) -> Outcome {
        let Self { doc, notes, task } = self;
        // A death while encoding would repeat with the next reader just as one while loading, so both are one kind.
        let noted = || notes.begin(Work::Load, doc.as_str(), None, &[]);
        match task {
            Task::Cut(loaded) => Outcome::Cut { states: States::stored(&loaded), loaded },
            Task::Build { loaded, unsaved } => {
                let _flight = noted();
                let snapshot = loaded.snapshot.iter().map(|snapshot| &snapshot.state);
                let records = loaded.records.iter().map(|(_, record)| &record.update);
                let updates = snapshot.chain(records).chain(unsaved.iter().map(|record| &record.update));
                let weight = Weight::of(updates.clone());
                if is_table(&doc) {
                    let replayed = replay(&loaded, &unsaved);
                    return Outcome::Built(replayed.map(|(replica, register)| {
                        Built { replica, weight, register: Some(Box::new(register)) }
                    }));
                }
                let replica = Replica::load(Deleted::Kept, updates);
                Outcome::Built(replica.map(|replica| Built { replica, weight, register: None }))
            }
            Task::Encode { view, have } => {
                let flight = noted();
                let update = view.diff(&have);
                drop(flight);
                Outcome::Encoded(update.map(|update| Prepared::new(have, update)))
            }
            Task::EncodeWhole { view, have } => {
                let _flight = noted();
                Outcome::EncodedWhole(view.diff(&have))
            }
        }
    }
}
