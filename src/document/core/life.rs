//! From loading to leaving memory: snapshots, idleness, the end.

use std::time::Duration;

use bytes::Bytes;
use syncline_protocol::ErrorCode;
use syncline_protocol::Moment;
use syncline_protocol::channel::ServerMessage;
use syncline_protocol::limits::PART_BYTES;
use syncline_protocol::state_vector::StateVector;
use syncline_protocol::update::parts;

use std::sync::Arc;

use crate::clock::Now;
use crate::document::inflight::Work;
use crate::document::replica::Deleted;
use crate::document::replica::Poisoned;
use crate::document::replica::Replica;
use crate::document::request::Refusal;
use crate::store::Epoch;
use crate::store::Loaded;
use crate::store::Seq;
use crate::store::StoreError;

use super::Compacted;
use super::Core;
use super::Creation;
use super::Effect;
use super::Live;
use super::PAUSE;
use super::Phase;
use super::ReaderId;
use super::Size;

/// Records in the log beyond which a snapshot is made, however small they are: 10 000 take 5 ms to load.
const COMPACT_RECORDS: usize = 10_000;
/// Log bytes worth a snapshot when the document leaves memory: the next visitor loads faster.
const COMPACT_ON_RETIRE_BYTES: usize = 64 << 10;
/// A document that cannot be used does not linger: the next visitor may find the store repaired.
pub(super) const CLOSED_IDLE: Duration = Duration::from_secs(1);

impl<P> Core<P> {
    pub(super) fn loaded(&mut self, now: Now, result: Result<Loaded, StoreError>, effects: &mut Vec<Effect>) {
        let Phase::Loading { then, .. } = &mut self.phase else { return };
        let then = then.take();
        match result.map_err(Refusal::from).and_then(|loaded| self.rebuild(&loaded)) {
            Ok(live) => {
                self.phase = Phase::Live(live);
                self.greet_newcomers(effects);
                if let Some(Creation { ticket, template, member }) = then {
                    self.create(now, ticket, template, member, effects);
                }
            }
            Err(refusal) => {
                if let Some(Creation { ticket, .. }) = then {
                    effects.push(Effect::Answer { ticket, result: Err(refusal.clone()) });
                }
                self.close(now, &refusal, effects);
            }
        }
    }

    /// Builds the content from what is stored and, after a poisoning, from what is not stored yet.
    fn rebuild(&mut self, loaded: &Loaded) -> Result<Live, Refusal> {
        if self.guards.quarantine.refuses_load(self.name.as_str()) {
            let message = "loading this document stopped the server before; it is quarantined";
            return Err(Refusal::new(ErrorCode::ChannelError, message));
        }
        let flight = self.guards.inflight.begin(Work::Load, self.name.as_str(), None, &[]);
        let snapshot = loaded.snapshot.as_ref().map(|snapshot| &snapshot.state);
        let records = loaded.records.iter().map(|(_, record)| &record.update);
        let replica = Replica::load(Deleted::Kept, snapshot.into_iter().chain(records).chain(self.saving.unsaved()));
        drop(flight);
        let unreadable = |_| Refusal::new(ErrorCode::ChannelError, "the stored document cannot be rebuilt");
        let replica = replica.map_err(unreadable)?;
        let stored = loaded.last > Seq(0) || loaded.snapshot.is_some();
        self.compaction.snapshot_bytes = snapshot.map_or(0, Bytes::len);
        self.compaction.log_bytes = loaded.records.iter().map(|(_, record)| record.update.len()).sum();
        self.compaction.log_records = loaded.records.len();
        self.size = Size { bytes: self.compaction.snapshot_bytes + self.compaction.log_bytes, exact: false };
        if self.epoch == loaded.epoch {
            self.saving.loaded(loaded.last);
        } else {
            self.epoch = loaded.epoch;
            self.saving.reborn(loaded.last);
        }
        let (notes, name) = (self.guards.inflight.clone(), self.name.clone());
        Ok(Live { replica, notes, name, exists: stored || !self.saving.is_idle(), whole: None })
    }

    /// What is in memory cannot be used any more. What is stored, and what is not stored yet, is worth another try.
    pub(super) fn reload(&mut self, effects: &mut Vec<Effect>) {
        let clocks = self.clocks().cloned().unwrap_or_default();
        self.phase = Phase::Loading { then: None, clocks };
        effects.push(Effect::Load);
    }

    /// The engine can merge this document but not encode it.
    pub(super) fn broken(&mut self, now: Now, effects: &mut Vec<Effect>) {
        self.close(now, &Refusal::new(ErrorCode::ChannelError, "the document cannot be encoded"), effects);
    }

    /// Nothing more can be done with this document here: everybody is told, and it leaves memory.
    pub(super) fn close(&mut self, now: Now, refusal: &Refusal, effects: &mut Vec<Effect>) {
        for ticket in self.saving.abandon() {
            effects.push(Effect::Answer { ticket, result: Err(refusal.clone()) });
        }
        let readers: Vec<ReaderId> = self.readers.keys().copied().collect();
        for reader in readers {
            self.end(reader, refusal.code, effects);
        }
        self.batch.applied.clear();
        self.phase = closed(now, refusal);
        self.retire(now, effects);
    }

    pub(super) fn revived(&mut self, now: Now, result: Result<Epoch, StoreError>, effects: &mut Vec<Effect>) {
        if !matches!(self.phase, Phase::Loading { .. }) {
            return;
        }
        match result {
            Ok(_) => effects.push(Effect::Load),
            Err(error) => {
                let refusal = Refusal::from(error);
                if let Phase::Loading { then: Some(creation), .. } = &self.phase {
                    effects.push(Effect::Answer { ticket: creation.ticket, result: Err(refusal.clone()) });
                }
                self.phase = closed(now, &refusal);
            }
        }
    }

    pub(super) fn tick(&mut self, now: Now, effects: &mut Vec<Effect>) {
        self.batch.awareness.extend(self.awareness.expire(now.moment));
        let dropped = self.waiting.expire(now.moment);
        self.ask_again(now, dropped, effects);
        self.ask_after_pause(now, effects);
        let idle_over = self.idle_since.is_some_and(|since| now.moment >= since.after(self.idle_time()));
        if idle_over && !self.retiring {
            self.retire(now, effects);
        }
    }

    pub(super) fn consider_compaction(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let compaction = &self.compaction;
        let large = compaction.log_bytes > self.settings.compact_bytes.max(compaction.snapshot_bytes);
        if large || compaction.log_records > COMPACT_RECORDS {
            let _ = self.start_compaction(now.moment, effects);
        }
    }

    fn start_compaction(&mut self, now: Moment, effects: &mut Vec<Effect>) -> bool {
        let possible = matches!(self.phase, Phase::Live(_)) && !self.compaction.running && !self.saving.is_failing();
        if possible && now >= self.compaction.not_before {
            self.compaction.running = true;
            effects.push(Effect::Compact { epoch: self.epoch });
            return true;
        }
        false
    }

    pub(super) fn compacted(&mut self, now: Now, result: &Result<Compacted, StoreError>) {
        self.compaction.running = false;
        match result {
            Ok(done) => {
                // What was appended while the snapshot was made is not counted: the next one comes a little later.
                self.compaction.log_bytes = 0;
                self.compaction.log_records = 0;
                self.compaction.snapshot_bytes = done.state_bytes;
            }
            Err(_) => self.compaction.not_before = now.moment.after(PAUSE),
        }
    }

    pub(super) fn consider_idleness(&mut self, now: Now) {
        let busy = !self.readers.is_empty() || !self.saving.is_idle() || self.compaction.running || self.awaits_store();
        if busy {
            self.idle_since = None;
            self.retiring = false;
        } else if self.idle_since.is_none() {
            self.idle_since = Some(now.moment);
        }
    }

    pub(super) fn idle_time(&self) -> Duration {
        if matches!(self.phase, Phase::Closed { .. }) { CLOSED_IDLE } else { self.settings.idle }
    }

    /// Leaves memory, after a snapshot if one is worth it.
    pub(super) fn retire(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let worth_it = self.compaction.log_bytes > COMPACT_ON_RETIRE_BYTES.max(self.compaction.snapshot_bytes / 4);
        if worth_it && self.start_compaction(now.moment, effects) {
            return;
        }
        self.retiring = true;
        effects.push(Effect::Retire);
    }

    /// The shell could not retire the document: somebody came, or has not left yet.
    pub fn stay(&mut self, now: Now) {
        self.retiring = false;
        self.idle_since = Some(now.moment);
    }
}

fn closed(now: Now, refusal: &Refusal) -> Phase {
    Phase::Closed { code: refusal.code, message: refusal.message.to_string(), since: now.moment }
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

    /// The messages that bring a reader from `have` to the whole; the last one is a step 2 if it `asked`. The state of
    /// newcomers is made once and shared.
    pub(super) fn state_parts(&mut self, have: &StateVector, asked: bool) -> Result<Arc<[ServerMessage]>, Poisoned> {
        let newcomer = asked && have.is_empty();
        if let Some(whole) = self.whole.as_ref().filter(|_| newcomer) {
            return Ok(whole.clone());
        }
        let update = self.encode(have)?;
        // A state that cannot be cut, which would be our own mistake, is still sent, in one piece.
        let pieces = if update.len() > PART_BYTES { parts(&update, have, PART_BYTES).ok() } else { None };
        let mut messages: Vec<ServerMessage> =
            pieces.unwrap_or_else(|| vec![update]).into_iter().map(ServerMessage::Update).collect();
        if asked && let Some(ServerMessage::Update(last)) = messages.pop() {
            messages.push(ServerMessage::SyncStep2(last));
        }
        let messages: Arc<[ServerMessage]> = messages.into();
        if newcomer {
            self.whole = Some(messages.clone());
        }
        Ok(messages)
    }
}
