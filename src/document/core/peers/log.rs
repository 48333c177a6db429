//! The log that several nodes write: what others wrote, what was missed, and in which order.

use std::time::Duration;

use bytes::Bytes;
use syncline_protocol::ErrorCode;
use syncline_protocol::state_vector::StateVector;
use syncline_protocol::update::Readiness;
use syncline_protocol::update::UpdateLimits;
use syncline_protocol::update::validate;

use crate::clock::Now;
use crate::document::core::Core;
use crate::document::core::Effect;
use crate::document::core::Event;
use crate::document::core::Live;
use crate::document::core::PAUSE;
use crate::document::core::Phase;
use crate::document::core::Size;
use crate::document::core::ask::DELETED;
use crate::document::core::source::clocks_of;
use crate::document::inflight::Work;
use crate::document::memory::added;
use crate::document::peer::PeerMessage;
use crate::document::replay;
use crate::document::request::Refusal;
use crate::store::Loaded;
use crate::store::Record;
use crate::store::Seq;
use crate::store::StoreError;
use crate::table::change::ChangeSet;

use super::DIGEST_AFTER;
use super::EARLY_MAX;
use super::Early;
use super::HOLE_PATIENCE;
use super::RESETTLE;
use super::rows_of;

impl<P> Core<P> {
    pub(super) fn records(&mut self, now: Now, first: Seq, records: Vec<Record>, effects: &mut Vec<Effect>) {
        for (at, record) in (first.0..).map(Seq).zip(records) {
            if self.is_shared() && self.peers.heard.has(at) {
                continue;
            }
            if !self.take_in(now, Some(at), &record, effects) {
                return self.missed_something(now);
            }
            if !matches!(self.phase, Phase::Live(_)) {
                return;
            }
        }
        if self.peers.heard.has_hole() {
            self.pull_soon(now, HOLE_PATIENCE);
        }
    }

    /// Merges a record of another node. `false`: what it builds on is not here yet.
    pub(super) fn take_in(&mut self, now: Now, at: Option<Seq>, record: &Record, effects: &mut Vec<Effect>) -> bool {
        let Ok(summary) = validate(&record.update, &UpdateLimits::none()) else {
            effects.push(Effect::Count(Event::Refused));
            return true; // No node of ours sends it; it is not in the store, or is found there on the next load.
        };
        let is_shared = self.is_shared();
        let Phase::Live(live) = &mut self.phase else { return false };
        let clocks = live.replica.clocks();
        if summary.has_gap() || matches!(summary.readiness(clocks), Readiness::Missing(_)) {
            return false;
        }
        let foreign = self.lineage.is_of(&summary, clocks);
        if self.guards.quarantine.holds(self.name.as_str(), &summary) || (!is_shared && foreign) {
            effects.push(Effect::Count(Event::Refused));
            return true;
        }
        let before = clocks_of(&summary, clocks);
        let flight =
            self.guards.inflight.begin(Work::Apply, self.name.as_str(), record.user.as_deref(), &record.update);
        let merged = match live {
            Live { replica, register: Some(register), .. } => replay::take(replica, register, record),
            Live { replica, .. } => {
                replica.expect(&summary);
                replica.apply(&record.update).map(|is_new| is_new.then(|| Box::new(ChangeSet::default())))
            }
        };
        drop(flight);
        let Ok(merged) = merged else {
            effects.push(Effect::Count(Event::Poisoned));
            self.start_over(effects);
            return true;
        };
        if self.is_shared()
            && let Some(at) = at
        {
            self.peers.heard.add(at);
        }
        let is_new = merged.is_some();
        if let Some(change) = merged {
            if let Phase::Live(live) = &mut self.phase {
                live.exists = true;
                live.states.changed(&record.update);
            }
            self.settle_order(now, at, &change);
            self.merged(None, &before, &record.update, effects);
        } else {
            // Perhaps because one of ours had it, which stands behind it in the log.
            self.settle_order(now, at, &ChangeSet::default());
        }
        self.keep(record, is_new);
        self.compare_soon(now, DIGEST_AFTER);
        true
    }

    /// Notes what was merged; and where this node has a store of its own, it goes there too.
    fn keep(&mut self, record: &Record, is_new: bool) {
        if is_new && !self.is_shared() {
            self.record_foreign(record.clone());
        } else if is_new {
            self.size = Size { bytes: self.size.bytes + record.update.len(), exact: false };
            self.content_bytes += added(record.update.len());
        } else if let Phase::Live(live) = &mut self.phase {
            live.exists = true; // An empty update creates an empty document.
        }
    }

    pub(super) fn pull_soon(&mut self, now: Now, wait: Duration) {
        let at = now.moment.after(wait);
        self.peers.pull_at = Some(self.peers.pull_at.map_or(at, |known| known.min(at)));
    }

    pub(super) fn pull(&mut self, effects: &mut Vec<Effect>) {
        self.peers.pull_at = None;
        if self.is_shared() {
            self.peers.is_pulling = true;
            effects.push(Effect::Pull { after: self.peers.heard.last() });
        }
    }

    /// The store answered [`Effect::Pull`].
    pub(in crate::document::core) fn pulled(
        &mut self,
        now: Now,
        result: Result<Loaded, StoreError>,
        effects: &mut Vec<Effect>,
    ) {
        self.peers.is_pulling = false;
        if !matches!(self.phase, Phase::Live(_)) {
            return;
        }
        match result {
            Ok(loaded) if self.is_same_life(now, loaded.epoch, effects) => self.catch_up_with_log(now, loaded, effects),
            Ok(_) => {}
            Err(StoreError::Deleted) => self.close(now, &Refusal::new(ErrorCode::NotFound, DELETED), effects),
            Err(_) => self.pull_soon(now, PAUSE),
        }
    }

    fn catch_up_with_log(&mut self, now: Now, loaded: Loaded, effects: &mut Vec<Effect>) {
        let Loaded { snapshot, records, last, .. } = loaded;
        // Its last record may be here, and others in it not.
        if let Some(snapshot) = snapshot.filter(|snapshot| snapshot.through > self.peers.heard.last()) {
            if self.is_table() {
                return self.reload(effects); // What stands beside it is of the same moment.
            }
            let record = Record { update: snapshot.state, user: None, at_ms: now.wall_ms, sidecar: Bytes::new() };
            if !self.take_in(now, None, &record, effects) {
                return self.reload(effects);
            }
            self.peers.heard.add_run(Seq(0), snapshot.through);
        }
        for (at, record) in records {
            if self.peers.heard.has(at) || !matches!(self.phase, Phase::Live(_)) {
                continue;
            }
            if !self.take_in(now, Some(at), &record, effects) {
                return self.reload(effects);
            }
        }
        self.peers.heard.add_run(Seq(0), last);
    }

    /// Takes note of what is durable of this node's own, and tells the others.
    pub(in crate::document::core) fn tell_records(
        &mut self,
        now: Now,
        last: Seq,
        records: Vec<Record>,
        effects: &mut Vec<Effect>,
    ) {
        if !self.has_peers() || records.is_empty() {
            return;
        }
        let first = Seq(last.0.saturating_sub(records.len() as u64) + 1);
        if self.is_shared() {
            self.peers.heard.add_run(first, last);
            if self.saving.is_idle() {
                self.peers.early.iter_mut().for_each(|early| early.at = early.at.or(Some(last)));
            }
            let whole = self.peers.heard.last();
            self.peers.early.retain(|early| early.at.is_none_or(|at| at > whole));
            if self.peers.heard.has_hole() {
                self.pull_soon(now, HOLE_PATIENCE);
            }
        }
        effects.push(Effect::Tell(PeerMessage::Records { epoch: self.epoch, first, records }));
        self.compare_soon(now, DIGEST_AFTER);
    }

    /// This node wrote into a table; where that stands in the log is not known yet.
    pub(in crate::document::core) fn note_own(&mut self, change: &ChangeSet) {
        if self.is_shared() {
            self.came_early(Early::of(change));
        }
    }

    /// Versions follow from the log. A record that came in behind one that stands after it may have been counted in another
    /// order than other nodes count: then the table is read again, once it is quiet.
    fn settle_order(&mut self, now: Now, at: Option<Seq>, change: &ChangeSet) {
        let Some(at) = at.filter(|_| self.is_shared() && self.is_table()) else { return };
        // Of one that changed several, some may show nothing now that would have shown in the other order.
        let rows = rows_of(change).filter(|rows| rows.len() == 1);
        let behind = |early: &Early| early.at.is_none_or(|early| early > at);
        if self.peers.early.iter().any(|early| behind(early) && early.meets(rows.as_ref())) {
            self.peers.resettle_at.get_or_insert(now.moment.after(RESETTLE));
        }
        if self.peers.heard.last() < at {
            self.came_early(Early { at: Some(at), rows });
        }
    }

    fn came_early(&mut self, early: Early) {
        self.peers.early.push(early);
        let over = self.peers.early.len().saturating_sub(EARLY_MAX);
        self.peers.early.drain(..over);
    }

    pub(super) fn resettle(&mut self, now: Now, effects: &mut Vec<Effect>) {
        if self.saving.is_idle() && !self.peers.heard.has_hole() && !self.peers.is_pulling {
            self.reload(effects);
        } else {
            self.peers.resettle_at = Some(now.moment.after(HOLE_PATIENCE));
        }
    }

    /// Readers that were here before a reload have what `had` covers; the log may hold more by now.
    pub(in crate::document::core) fn bring_up(&mut self, had: &StateVector, effects: &mut Vec<Effect>) {
        let Phase::Live(live) = &self.phase else { return };
        if !self.has_peers() || self.readers.is_empty() {
            return;
        }
        let Ok(diff) = live.replica.diff(had) else { return };
        let clocks = live.replica.clocks();
        let before: Vec<(u64, u32)> = clocks
            .iter()
            .map(|(client, _)| (client, had.clock(client)))
            .filter(|&(c, had)| clocks.clock(c) > had)
            .collect();
        self.merged(None, &before, &diff, effects);
    }
}
