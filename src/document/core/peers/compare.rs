//! Holders of a document compare what they have: state vector and deletions, in short; and who lacks something asks.

use std::time::Duration;

use bytes::Bytes;
use syncline_protocol::limits::PART_BYTES;
use syncline_protocol::state_vector::StateVector;
use syncline_protocol::update::parts;

use crate::bus::NodeId;
use crate::clock::Now;
use crate::document::core::Core;
use crate::document::core::Effect;
use crate::document::core::Phase;
use crate::document::core::remotes::hash_of;
use crate::document::peer::Digest;
use crate::document::peer::PeerMessage;
use crate::store::Record;
use crate::table::change::ChangeSet;

use super::DIGEST_AFTER;
use super::DIGEST_EVERY;
use super::DIGEST_PAUSE;
use super::HOLE_PATIENCE;
use super::LONELY;
use super::LONELY_DOUBLINGS;

impl<P> Core<P> {
    pub(super) fn compare_soon(&mut self, now: Now, wait: Duration) {
        let earliest = self.peers.digested_at.map_or(now.moment, |at| at.after(DIGEST_PAUSE));
        let jitter = if wait.is_zero() { Duration::ZERO } else { self.jitter(now) };
        let at = now.moment.after(wait + jitter).max(earliest);
        self.peers.digest_at = Some(self.peers.digest_at.map_or(at, |known| known.min(at)));
    }

    pub(super) fn compare(&mut self, now: Now, effects: &mut Vec<Effect>) {
        if self.is_settled() || self.peers.asks {
            self.say_digest(now, effects);
        } else {
            self.peers.digest_at = Some(now.moment.after(DIGEST_AFTER));
        }
    }

    pub(super) fn say_digest(&mut self, now: Now, effects: &mut Vec<Effect>) {
        self.lose_silent(now, effects);
        let Phase::Live(live) = &self.phase else { return };
        let digest = Digest {
            epoch: self.epoch,
            last: self.position(),
            clocks: live.replica.clocks().encode(),
            deleted: live.replica.deletions_hash(),
            readers: hash_of(self.readers.keys().map(|reader| reader.0)),
            asks: std::mem::take(&mut self.peers.asks),
        };
        effects.push(Effect::Tell(PeerMessage::Digest(digest)));
        self.peers.digested_at = Some(now.moment);
        let mut pause = DIGEST_EVERY;
        if self.peers.holders.is_empty() {
            pause *= 1 << self.peers.lonely.saturating_sub(LONELY).min(LONELY_DOUBLINGS);
            self.peers.lonely = self.peers.lonely.saturating_add(1);
            self.peers.asks = self.is_shared(); // Apart, every node would load the document to answer.
        }
        self.peers.digest_at = Some(now.moment.after(pause + self.jitter(now)));
    }

    pub(super) fn digest(&mut self, now: Now, from: NodeId, theirs: &Digest, effects: &mut Vec<Effect>) {
        let Phase::Live(live) = &self.phase else { return };
        let Ok(clocks) = StateVector::decode(theirs.clocks.clone()) else { return };
        let ours = live.replica.clocks();
        let (they_have_more, we_have_more) = (!ours.covers(&clocks), !clocks.covers(ours));
        let deletions_differ = theirs.deleted != live.replica.deletions_hash();
        // In one log, whoever is not at the same place has to read on first, and needs nobody for that.
        let comparable = !self.is_shared() || (theirs.last == self.position() && self.is_settled());
        let asks = comparable && (they_have_more || deletions_differ);
        if asks {
            let have = ours.encode();
            effects.push(Effect::Tell(PeerMessage::Ask { epoch: self.epoch, whom: from, have }));
        }
        if theirs.asks {
            self.peers.remotes.introduce();
        }
        if !self.peers.remotes.are_all(from, theirs.readers) {
            self.peers.asks = true;
            self.compare_soon(now, HOLE_PATIENCE);
        }
        if self.is_shared() && theirs.last > self.peers.heard.last() {
            self.pull_soon(now, HOLE_PATIENCE);
        }
        let is_ahead = if self.is_shared() { theirs.last < self.position() } else { we_have_more };
        if theirs.asks || is_ahead || (comparable && deletions_differ) {
            self.compare_soon(now, Duration::ZERO);
        }
        if let Some(greeting) = &mut self.peers.greeting {
            greeting.answered.insert(from);
            if asks {
                greeting.asked.insert(from);
            }
            self.end_greeting();
        }
    }

    pub(super) fn answer_peer(&mut self, now: Now, have: &Bytes, effects: &mut Vec<Effect>) {
        if self.is_shared() && !self.saving.is_idle() {
            return; // Nothing leaves a node before it is durable. Whoever asks hears it then.
        }
        let Phase::Live(live) = &self.phase else { return };
        let Ok(have) = StateVector::decode(have.clone()) else { return };
        let Ok(update) = live.replica.diff(&have) else { return self.broken(now, effects) };
        let states = parts(&update, &have, PART_BYTES).unwrap_or_else(|_| vec![update]);
        let epoch = self.epoch;
        effects.extend(states.into_iter().map(|update| Effect::Tell(PeerMessage::State { epoch, update })));
    }

    /// What is in no log that this node knows of goes into its own, whatever the arrangement: it cannot hurt twice. In a log
    /// that all write, the others are told of it as of any record.
    pub(super) fn state_of_peer(&mut self, now: Now, from: NodeId, update: Bytes, effects: &mut Vec<Effect>) {
        let news = self.batch.applied.len();
        let record = Record { update, user: None, at_ms: now.wall_ms, sidecar: Bytes::new() };
        let _ = self.take_in(now, None, &record, effects);
        if self.is_shared() && self.batch.applied.len() > news {
            self.note_own(&ChangeSet::default());
            self.record(now, record.update, None, None);
        }
        if let Some(greeting) = &mut self.peers.greeting {
            greeting.asked.remove(&from);
        }
        self.end_greeting();
    }
}
