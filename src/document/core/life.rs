//! From loading to leaving memory: snapshots, idleness, the end.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use syncline_protocol::ErrorCode;
use syncline_protocol::Moment;

use crate::clock::Now;
use crate::document::heard::Heard;
use crate::document::job::Built;
use crate::document::job::Job;
use crate::document::job::Task;
use crate::document::lineage::Lineage;
use crate::document::lineage::Unreadable;
use crate::document::memory::guessed;
use crate::document::replica::Poisoned;
use crate::document::request::Refusal;
use crate::document::states::States;
use crate::store::Epoch;
use crate::store::Loaded;
use crate::store::Seq;
use crate::store::StoreError;

use super::Building;
use super::Compacted;
use super::Core;
use super::Creation;
use super::Effect;
use super::Event;
use super::Live;
use super::PAUSE;
use super::Phase;
use super::ReaderId;
use super::Size;
use super::Sync;
use super::Ticket;

/// Records in the log beyond which a snapshot is made, however small they are: 10 000 take 5 ms to load.
const COMPACT_RECORDS: usize = 10_000;
/// Log bytes worth a snapshot when the document leaves memory: the next visitor loads faster.
const COMPACT_ON_RETIRE_BYTES: usize = 64 << 10;
/// A document that cannot be used does not linger: the next visitor may find the store repaired.
pub(super) const CLOSED_IDLE: Duration = Duration::from_secs(1);

impl<P> Core<P> {
    pub(super) fn loaded(&mut self, now: Now, result: Result<Loaded, StoreError>, effects: &mut Vec<Effect>) {
        if !matches!(self.phase, Phase::Loading { .. }) {
            return;
        }
        if self.guards.quarantine.refuses_load(self.name.as_str()) {
            let message = "loading this document stopped the server before; it is quarantined";
            return self.not_loaded(now, &Refusal::new(ErrorCode::ChannelError, message), effects);
        }
        match result {
            Ok(loaded) => {
                self.note_stored(&loaded);
                self.remember(&loaded.memo, effects);
                let heavy = self.size.bytes > self.settings.heavy_bytes;
                // Whoever was here before a reload has more than what is stored.
                let newcomers = self.readers.values().all(|reader| matches!(reader.sync, Sync::Greeted))
                    && self.saving.unsaved().next().is_none();
                if heavy && newcomers {
                    effects.push(self.run(Task::Cut(loaded)));
                } else {
                    self.build(now, loaded, States::default(), effects);
                }
            }
            Err(error) => self.not_loaded(now, &Refusal::from(error), effects),
        }
    }

    /// What is known of a document before the engine has read it.
    fn note_stored(&mut self, loaded: &Loaded) {
        self.compaction.snapshot_bytes = loaded.snapshot.as_ref().map_or(0, |snapshot| snapshot.state.len());
        self.compaction.log_bytes = loaded.records.iter().map(|(_, record)| record.update.len()).sum();
        self.compaction.log_records = loaded.records.len();
        self.size = Size { bytes: self.compaction.snapshot_bytes + self.compaction.log_bytes, exact: false };
        self.content_bytes = guessed(self.size.bytes);
        if self.epoch == loaded.epoch {
            self.saving.loaded(loaded.last);
        } else {
            self.epoch = loaded.epoch;
            self.saving.reborn(loaded.last);
        }
        if self.has_peers() {
            self.peers.heard = Heard::up_to(loaded.last);
        }
    }

    /// What former lives left. Without it the document is as good as before, and less guarded.
    fn remember(&mut self, memo: &Bytes, effects: &mut Vec<Effect>) {
        self.lineage = Lineage::read(memo).unwrap_or_else(|Unreadable| {
            effects.push(Effect::Count(Event::MemoUnreadable));
            Lineage::default()
        });
    }

    /// Gives the engine what is stored and, after a poisoning, what is not stored yet. A large document is read elsewhere.
    pub(super) fn build(&mut self, now: Now, loaded: Loaded, states: States, effects: &mut Vec<Effect>) {
        let Phase::Loading { then, clocks } = &mut self.phase else { return };
        let (then, clocks) = (then.take(), std::mem::take(clocks));
        let exists = loaded.last > Seq(0) || loaded.snapshot.is_some() || !self.saving.is_idle();
        self.phase = Phase::Building(Building { then, clocks, exists, states, answered: BTreeSet::new() });
        let task = Task::Build { loaded, unsaved: self.saving.unsaved().cloned().collect() };
        let job = Job { doc: self.name.clone(), notes: self.guards.inflight.clone(), task };
        if self.size.bytes > self.settings.heavy_bytes {
            effects.push(Effect::Run(job));
        } else {
            self.done(now, job.run(), effects);
        }
    }

    /// The engine has read it.
    pub(super) fn built(&mut self, now: Now, built: Result<Built, Poisoned>, effects: &mut Vec<Effect>) {
        let Ok(Built { replica, weight, register }) = built else {
            let refusal = Refusal::new(ErrorCode::ChannelError, "the stored document cannot be rebuilt");
            return self.not_loaded(now, &refusal, effects);
        };
        let Phase::Building(building) = &mut self.phase else { return };
        let (exists, states) = (building.exists, std::mem::take(&mut building.states));
        let (answered, then) = (std::mem::take(&mut building.answered), building.then.take());
        let had = std::mem::take(&mut building.clocks);
        let (notes, name) = (self.guards.inflight.clone(), self.name.clone());
        self.weighed(weight);
        self.phase = Phase::Live(Live { replica, register, notes, name, exists, states });
        self.meet_peers(now, effects);
        self.bring_up(&had, effects);
        self.merge_unproved(now, effects);
        self.greet_newcomers(&answered, effects);
        if let Some(Creation { ticket, request }) = then {
            self.ask_live(now, ticket, request, effects);
        }
    }

    fn not_loaded(&mut self, now: Now, refusal: &Refusal, effects: &mut Vec<Effect>) {
        if let Phase::Loading { then, .. } | Phase::Building(Building { then, .. }) = &mut self.phase
            && let Some(Creation { ticket, .. }) = then.take()
        {
            effects.push(Effect::Answer { ticket, result: Err(refusal.clone()) });
        }
        self.close(now, refusal, effects);
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
        let unproved = self.unproved.drain(..).filter_map(|taken| taken.ticket());
        let lost: Vec<Ticket> = unproved.chain(self.pending.abandon()).chain(self.saving.abandon()).collect();
        for ticket in lost {
            effects.push(Effect::Answer { ticket, result: Err(refusal.clone()) });
        }
        let readers: Vec<ReaderId> = self.readers.keys().copied().collect();
        for reader in readers {
            self.end(reader, refusal.code, effects);
        }
        self.answers.clear();
        self.batch.applied.clear();
        self.batch.together.clear();
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
        self.peers_tick(now, effects);
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
        let awaits = self.awaits_store() || self.awaits_engine();
        let busy = !self.readers.is_empty() || !self.saving.is_idle() || self.compaction.running || awaits;
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

    /// Memory is short. Nobody reads this document, so it leaves, and without a snapshot: building one takes more memory.
    pub(super) fn unload(&mut self, effects: &mut Vec<Effect>) {
        if self.is_idle() {
            self.retiring = true;
            effects.push(Effect::Retire);
        }
    }

    /// The shell could not retire the document: somebody came, or has not left yet.
    pub fn stay(&mut self, now: Now) {
        self.retiring = false;
        self.idle_since = Some(now.moment);
    }
}

/// To somebody whose copy is of a life that was deleted.
pub(super) fn stale_history() -> Refusal {
    let message = "this copy is of an earlier document of that name, which was deleted; save what it holds elsewhere and load anew";
    Refusal::new(ErrorCode::StaleHistory, message)
}

fn closed(now: Now, refusal: &Refusal) -> Phase {
    Phase::Closed { code: refusal.code, message: refusal.message.to_string(), since: now.moment }
}
