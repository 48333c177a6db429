//! What of a document is not on disk yet, and who waits for it to be.
//!
//! One append is under way at a time; what arrives meanwhile becomes the next one, so a busy document makes large batches
//! and an idle one none. A failing store loses nothing: everything stays here, unacknowledged, and is tried again.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use syncline_protocol::Moment;
use syncline_protocol::state_vector::StateVector;

use crate::store::Record;
use crate::store::Seq;
use crate::store::StoreError;
use crate::table::change::ChangeSet;

use super::request::ReaderId;
use super::request::Ticket;

/// Unsaved bytes beyond which a failing store's backlog is folded into the document's whole state, which is bounded.
const BACKLOG_BYTES_MAX: usize = 8 << 20;
/// Unsaved records beyond which the same happens: each costs bookkeeping beside its bytes.
const BACKLOG_RECORDS_MAX: usize = 10_000;
const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_LAST: Duration = Duration::from_secs(2);

/// What a channel hears when something that it sent is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owed {
    /// The same again.
    Echo,
    /// That it is saved, so many times: its client counts.
    Status(u32),
}

/// Somebody who is told when a change is durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ack {
    /// A channel: it hears its own update again.
    Echo {
        /// Whose update.
        reader: ReaderId,
        /// The bytes it sent.
        update: Bytes,
    },
    /// A channel that counts: so many of its updates are durable.
    Status {
        /// Whose updates.
        reader: ReaderId,
        /// How many.
        count: u32,
    },
    /// A channel whose many unsaved updates were folded: it hears what lies beyond `since`.
    Since {
        /// Whose updates.
        reader: ReaderId,
        /// The lowest clocks among them.
        since: Vec<(u64, u32)>,
    },
    /// A single request.
    Ticket {
        /// Which one.
        ticket: Ticket,
        /// What it asked for, which decides what it hears.
        purpose: Purpose,
    },
}

/// What a request waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// An update that it brought.
    Save,
    /// The creation of the document.
    Create,
    /// The creation of the document, which was there.
    Exist,
    /// What it wrote into a table.
    Write,
    /// Everything that came before it.
    Flush,
}

/// The unsaved part of one document.
#[derive(Debug, Default)]
pub struct Saving {
    queue: Backlog,
    writing: Option<Writing>,
    batches: u64,
    failures: u32,
    retry_at: Option<Moment>,
    saved: Seq,
    /// Size of the last fold; the next one waits until it is worth it.
    folded_bytes: usize,
}

#[derive(Debug, Default)]
struct Backlog {
    records: Vec<Record>,
    /// Which of the records came from other nodes.
    foreign: BTreeSet<usize>,
    acks: Vec<Ack>,
    /// What became visible, and by which of the records: told when they are durable.
    changes: Vec<(usize, ChangeSet)>,
    bytes: usize,
}

#[derive(Debug)]
struct Writing {
    batch: u64,
    backlog: Backlog,
}

/// Who hears what after an append came back.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Released {
    /// These are saved.
    pub acks: Vec<Ack>,
    /// These records are durable, without those that came from other nodes.
    pub records: Vec<Record>,
    /// These changes are durable, each with the record that holds it.
    pub changes: Vec<(Seq, ChangeSet)>,
    /// These requests are told that nothing was saved. Their change stays here and is tried again all the same.
    pub refused: Vec<Ticket>,
}

impl Saving {
    /// A document whose last durable record is `saved`.
    #[must_use]
    pub fn new(saved: Seq) -> Self {
        Self { saved, ..Self::default() }
    }

    /// The last durable record.
    #[must_use]
    pub fn saved(&self) -> Seq {
        self.saved
    }

    /// The number that the last record will have that was added, when it is durable: where what is shown now stands. A
    /// backlog that is folded meanwhile takes fewer numbers.
    #[must_use]
    pub fn shown(&self) -> Seq {
        let writing = self.writing.as_ref().map_or(0, |writing| writing.backlog.records.len());
        Seq(self.saved.0 + (writing + self.queue.records.len()) as u64)
    }

    /// Sets the last durable record after loading; what is unsaved stays unsaved.
    pub fn loaded(&mut self, saved: Seq) {
        self.saved = self.saved.max(saved);
    }

    /// As [`Self::loaded`], for a document that lives anew: its log starts again. Numbers of appends go on, so that an
    /// answer which belongs to the former life is not taken for one to this.
    pub fn reborn(&mut self, saved: Seq) {
        self.saved = saved;
    }

    /// Adds a change, and who waits for it.
    pub fn add(&mut self, record: Record, ack: Option<Ack>) {
        self.queue.bytes += record.update.len();
        self.queue.records.push(record);
        self.expect(ack);
    }

    /// Adds a change that another node has told of.
    pub fn add_foreign(&mut self, record: Record) {
        self.queue.foreign.insert(self.queue.records.len());
        self.add(record, None);
    }

    /// Somebody waits for the record that was added last.
    pub fn expect(&mut self, ack: Option<Ack>) {
        if let (Some(Ack::Status { reader, count }), Some(Ack::Status { reader: last, count: counted })) =
            (&ack, self.queue.acks.last_mut())
            && reader == last
        {
            *counted += count;
            return;
        }
        self.queue.acks.extend(ack);
    }

    /// Something became visible by the record that was added last.
    pub fn tell(&mut self, change: ChangeSet) {
        let record = self.queue.records.len().saturating_sub(1);
        self.queue.changes.push((record, change));
    }

    /// Somebody asks about changes that brought nothing new. They may still be unsaved: the answer comes when everything
    /// before it is durable. Gives the ack back when it is already so.
    #[must_use]
    pub fn wait(&mut self, ack: Ack) -> Option<Ack> {
        if self.is_idle() {
            return Some(ack);
        }
        self.expect(Some(ack));
        None
    }

    /// Whether everything is durable and everybody was told.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.writing.is_none() && self.queue.records.is_empty() && self.queue.acks.is_empty()
    }

    /// Whether the last append failed.
    #[must_use]
    pub fn is_failing(&self) -> bool {
        self.failures > 0
    }

    /// Bytes that are not durable.
    #[must_use]
    pub fn backlog_bytes(&self) -> usize {
        self.queue.bytes + self.writing.as_ref().map_or(0, |writing| writing.backlog.bytes)
    }

    /// The next append, if one is due: its number and its records.
    #[must_use]
    pub fn start(&mut self, now: Moment) -> Option<(u64, Vec<Record>)> {
        if self.writing.is_some() || self.queue.records.is_empty() || self.retry_at.is_some_and(|at| now < at) {
            return None;
        }
        self.batches += 1;
        let backlog = std::mem::take(&mut self.queue);
        let records = backlog.records.clone();
        self.writing = Some(Writing { batch: self.batches, backlog });
        Some((self.batches, records))
    }

    /// An append came back. Only what was in that append is released: more may have arrived since.
    #[must_use]
    pub fn finished(&mut self, now: Moment, batch: u64, result: &Result<Seq, StoreError>) -> Released {
        let Some(writing) = self.writing.take_if(|writing| writing.batch == batch) else {
            return Released::default();
        };
        match result {
            Ok(saved) => {
                self.saved = self.saved.max(*saved);
                self.failures = 0;
                self.retry_at = None;
                let mut acks = writing.backlog.acks;
                if self.queue.records.is_empty() {
                    acks.append(&mut self.queue.acks);
                }
                // Records are numbered without a gap, and these are the last of them.
                let first = saved.0.saturating_sub(writing.backlog.records.len() as u64) + 1;
                let changes = writing.backlog.changes.into_iter();
                let changes = changes.map(|(record, change)| (Seq(first + record as u64), change)).collect();
                let records = writing.backlog.records.into_iter().enumerate();
                let own = records.filter(|(at, _)| !writing.backlog.foreign.contains(at)).map(|(_, record)| record);
                Released { acks, records: own.collect(), changes, refused: Vec::new() }
            }
            Err(_) => self.put_back(now, writing.backlog),
        }
    }

    fn put_back(&mut self, now: Moment, failed: Backlog) -> Released {
        let later = std::mem::replace(&mut self.queue, failed);
        self.queue.bytes += later.bytes;
        let before = self.queue.records.len();
        self.queue.changes.extend(later.changes.into_iter().map(|(record, change)| (before + record, change)));
        self.queue.foreign.extend(later.foreign.into_iter().map(|record| before + record));
        self.queue.records.extend(later.records);
        self.queue.acks.extend(later.acks);
        let wait = RETRY_FIRST.saturating_mul(1 << self.failures.min(10)).min(RETRY_LAST);
        self.failures = self.failures.saturating_add(1);
        self.retry_at = Some(now.after(wait));
        Released { refused: self.take_tickets(), ..Released::default() }
    }

    fn take_tickets(&mut self) -> Vec<Ticket> {
        let mut tickets = Vec::new();
        self.queue.acks.retain(|ack| match ack {
            Ack::Ticket { ticket, .. } => {
                tickets.push(*ticket);
                false
            }
            Ack::Echo { .. } | Ack::Status { .. } | Ack::Since { .. } => true,
        });
        tickets
    }

    /// When [`Self::start`] may have something to do again.
    #[must_use]
    pub fn deadline(&self) -> Option<Moment> {
        if self.queue.records.is_empty() { None } else { self.retry_at }
    }

    /// The unsaved records, oldest first: what a reload from the store has to merge again.
    pub fn unsaved(&self) -> impl Iterator<Item = &Record> {
        let writing = self.writing.iter().flat_map(|writing| &writing.backlog.records);
        writing.chain(&self.queue.records)
    }

    /// Whether the backlog should be folded by [`Self::fold`].
    #[must_use]
    pub fn is_overfull(&self) -> bool {
        self.queue.bytes > BACKLOG_BYTES_MAX.max(2 * self.folded_bytes)
            || self.queue.records.len() > BACKLOG_RECORDS_MAX
            || self.queue.acks.len() > BACKLOG_RECORDS_MAX
            || self.queue.changes.len() > BACKLOG_RECORDS_MAX
    }

    /// Replaces the queued updates by the document's whole state, which contains them, the echoes of each reader by one
    /// catch-up, and what each is to be told by one number. `starts_of` gives the clocks at which an update starts.
    pub fn fold(&mut self, state: Record, starts_of: impl Fn(&Bytes) -> Vec<(u64, u32)>) {
        let mut since: BTreeMap<ReaderId, BTreeMap<u64, u32>> = BTreeMap::new();
        let mut counts: BTreeMap<ReaderId, u32> = BTreeMap::new();
        let mut tickets = Vec::new();
        for ack in self.queue.acks.drain(..) {
            let (reader, starts) = match ack {
                Ack::Echo { reader, update } => (reader, starts_of(&update)),
                Ack::Since { reader, since } => (reader, since),
                Ack::Status { reader, count } => {
                    *counts.entry(reader).or_default() += count;
                    continue;
                }
                Ack::Ticket { .. } => {
                    tickets.push(ack);
                    continue;
                }
            };
            let lowest = since.entry(reader).or_default();
            for (client, clock) in starts {
                lowest.entry(client).and_modify(|known| *known = clock.min(*known)).or_insert(clock);
            }
        }
        let folded = since.into_iter().map(|(reader, since)| Ack::Since { reader, since: since.into_iter().collect() });
        let counted = counts.into_iter().map(|(reader, count)| Ack::Status { reader, count });
        self.queue.acks = folded.chain(counted).chain(tickets).collect();
        self.folded_bytes = state.update.len();
        self.queue.bytes = self.folded_bytes;
        self.queue.records = vec![state];
        self.queue.foreign.clear();
        self.queue.changes.iter_mut().for_each(|(record, _)| *record = 0);
    }

    /// Whether a reader waits to hear its own updates again because they are durable.
    #[must_use]
    pub fn awaits(&self, who: ReaderId) -> bool {
        let own = |ack: &Ack| matches!(ack, Ack::Echo { reader, .. } | Ack::Since { reader, .. } if *reader == who);
        let writing = self.writing.iter().flat_map(|writing| &writing.backlog.acks);
        writing.chain(&self.queue.acks).any(own)
    }

    /// Forgets what a reader that counts waits for: it has begun anew.
    pub fn forgive(&mut self, who: ReaderId) {
        let stays = |ack: &Ack| !matches!(ack, Ack::Status { reader, .. } if *reader == who);
        self.queue.acks.retain(stays);
        if let Some(writing) = &mut self.writing {
            writing.backlog.acks.retain(stays);
        }
    }

    /// Forgets what a reader waits for: it is gone.
    pub fn leave(&mut self, gone: ReaderId) {
        let stays = |ack: &Ack| match ack {
            Ack::Echo { reader, .. } | Ack::Status { reader, .. } | Ack::Since { reader, .. } => *reader != gone,
            Ack::Ticket { .. } => true,
        };
        self.queue.acks.retain(stays);
        if let Some(writing) = &mut self.writing {
            writing.backlog.acks.retain(stays);
        }
    }

    /// Gives up: the document was deleted. Answers who was waiting.
    pub fn abandon(&mut self) -> Vec<Ticket> {
        let writing = self.writing.take().map(|writing| writing.backlog.acks).unwrap_or_default();
        self.queue.acks.extend(writing);
        let tickets = self.take_tickets();
        self.queue = Backlog::default();
        (self.failures, self.retry_at) = (0, None); // Whatever failed is not wanted any more.
        tickets
    }
}

/// `clocks`, lowered to what somebody had who missed what starts at `starts`.
#[must_use]
pub fn lowered(clocks: &StateVector, starts: &[(u64, u32)]) -> StateVector {
    let mut lowered = clocks.clone();
    for (client, clock) in starts {
        lowered.lower(*client, *clock);
    }
    lowered
}
