//! What follows from a batch: frames for the readers, an append, and acknowledgements once it is durable.

use std::collections::BTreeSet;

use bytes::Bytes;
use syncline_protocol::limits::PART_BYTES;
use syncline_protocol::state_vector::StateVector;
use syncline_protocol::update::UpdateLimits;
use syncline_protocol::update::merge;
use syncline_protocol::update::parts;
use syncline_protocol::update::validate;

use crate::clock::Now;
use crate::document::request::Answer;
use crate::document::request::ReaderId;
use crate::document::request::Refusal;
use crate::document::saving::Ack;
use crate::document::saving::Purpose;
use crate::document::saving::lowered;
use crate::store::Record;
use crate::store::Seq;
use crate::store::StoreError;
use crate::table::sidecar;

use super::Applied;
use super::Core;
use super::Effect;
use super::Event;
use super::Lost;
use super::Phase;
use super::Size;
use super::Sync;
use super::merge::EMPTY_UPDATE;
use super::pending::TOGETHER_MAX;
use super::source::Source;

impl<P> Core<P> {
    /// Nothing in it was new. Whether what it repeats is durable is another question, and this answers that one.
    pub(super) fn acknowledge(&mut self, source: &Source, effects: &mut Vec<Effect>) {
        self.acknowledge_with(Some(source.ack()), effects);
    }

    pub(super) fn acknowledge_with(&mut self, ack: Option<Ack>, effects: &mut Vec<Effect>) {
        if let Some(ack) = ack.and_then(|ack| self.saving.wait(ack)) {
            self.release(ack, effects);
        }
    }

    /// Tells somebody that a change is durable.
    pub(super) fn release(&mut self, ack: Ack, effects: &mut Vec<Effect>) {
        match ack {
            Ack::Echo { update, .. } if update.as_ref() == EMPTY_UPDATE => {}
            Ack::Echo { reader, update } => {
                let Some(known) = self.readers.get(&reader) else { return };
                if matches!(known.sync, Sync::Lagging { .. }) {
                    return self.overflowed(reader, Lost::Echo(update), effects);
                }
                effects.push(Effect::Echo { reader, update });
            }
            Ack::Status { reader, count } if self.readers.contains_key(&reader) => {
                effects.push(Effect::Status { reader, saved: true, count });
            }
            Ack::Status { .. } => {}
            Ack::Since { reader, since } => self.release_since(reader, &since, effects),
            Ack::Ticket { ticket, purpose: Purpose::Write } => self.release_answer(ticket, effects),
            Ack::Ticket { ticket, purpose } => {
                let answer = match purpose {
                    Purpose::Write => return,
                    Purpose::Save => Answer::Saved(self.position().max(self.saving.saved())),
                    Purpose::Create => Answer::Created { created: true, revision: self.revision() },
                    Purpose::Exist => Answer::Created { created: false, revision: self.revision() },
                    Purpose::Flush => Answer::Done,
                };
                effects.push(Effect::Answer { ticket, result: Ok(answer) });
            }
        }
    }

    /// The reader's echoes were folded into one catch-up.
    fn release_since(&mut self, id: ReaderId, since: &[(u64, u32)], effects: &mut Vec<Effect>) {
        let Some(have) = self.clocks().map(|clocks| lowered(clocks, since)) else { return };
        self.overflowed(id, Lost::State { have, answer: false }, effects);
        self.catch_ups.insert(id);
    }

    /// An update brought something new: everybody else is to hear of it.
    pub(super) fn merged(
        &mut self,
        from: Option<ReaderId>,
        before: &[(u64, u32)],
        update: &Bytes,
        effects: &mut Vec<Effect>,
    ) {
        for &(client, clock) in before {
            self.batch.before.entry(client).or_insert(clock);
        }
        self.batch.applied.push(Applied { from, update: update.clone() });
        effects.push(Effect::Count(Event::Applied));
    }

    /// What was merged since the last flush, to everybody but its writers: they have it, and hear of it when it is durable.
    pub(super) fn send_batch(&mut self, effects: &mut Vec<Effect>) {
        let applied = std::mem::take(&mut self.batch.applied);
        let together = std::mem::take(&mut self.batch.together);
        let Some(clocks) = self.clocks().filter(|_| !applied.is_empty()).cloned() else { return };
        let clocks = &clocks;
        let writers: BTreeSet<ReaderId> = applied.iter().filter_map(|update| update.from).collect();
        let writers: Vec<ReaderId> = writers.into_iter().collect();
        let mut next = 0;
        for (run, bytes) in together.into_iter().chain(std::iter::once((applied.len()..applied.len(), Bytes::new()))) {
            let alone = &applied[next..run.start];
            let frames = frames(alone.iter().map(|update| &update.update), clocks);
            let merged = (!bytes.is_empty()).then_some(bytes);
            for update in frames.into_iter().chain(merged) {
                effects.push(Effect::Broadcast { update, except: writers.clone() });
            }
            next = run.end;
        }
        for &writer in &writers {
            let others = applied.iter().filter(|update| update.from != Some(writer)).map(|update| &update.update);
            for update in frames(others, clocks) {
                effects.push(Effect::Change { reader: writer, update });
            }
        }
    }

    pub(super) fn appended(
        &mut self,
        now: Now,
        batch: u64,
        result: &Result<Seq, StoreError>,
        effects: &mut Vec<Effect>,
    ) {
        let released = self.saving.finished(now.moment, batch, result);
        if let Ok(last) = result {
            self.tell_records(now, *last, released.records, effects);
        }
        for (seq, change) in released.changes {
            effects.push(Effect::Publish { epoch: self.epoch, seq, change: Box::new(change) });
        }
        for ack in released.acks {
            self.release(ack, effects);
        }
        let Err(error) = result else { return };
        effects.push(Effect::Count(Event::AppendFailed));
        let refusal = Refusal::from(error.clone());
        for ticket in released.refused {
            self.answers.remove(&ticket);
            effects.push(Effect::Answer { ticket, result: Err(refusal.clone()) });
        }
        if *error == StoreError::Deleted && matches!(self.phase, Phase::Live(_)) {
            self.close(now, &refusal, effects);
        }
    }

    pub(super) fn fold_backlog(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let Phase::Live(live) = &self.phase else { return };
        if !self.saving.is_overfull() {
            return;
        }
        let Ok(update) = live.encode(&StateVector::default()) else { return self.broken(now, effects) };
        self.size = Size { bytes: update.len(), exact: true };
        // One record for many: what followed from each of them goes along.
        let sidecar = live.register.as_ref().map(|register| sidecar::encode(register)).unwrap_or_default();
        self.saving.fold(Record { update, user: None, at_ms: now.wall_ms, sidecar }, starts_of);
    }
}

/// One frame's worth of updates each, in order. `clocks` is what a reader has after the last of them.
fn frames<'a>(updates: impl Iterator<Item = &'a Bytes>, clocks: &StateVector) -> Vec<Bytes> {
    let mut frames = Vec::new();
    let mut chunk: Vec<Bytes> = Vec::new();
    let mut bytes = 0;
    for update in updates {
        if chunk.len() == TOGETHER_MAX || bytes + update.len() > PART_BYTES {
            close_frame(&mut chunk, &mut frames);
            bytes = 0;
        }
        if update.len() > 2 * PART_BYTES {
            // One huge frame is silence to a client's watchdog for as long as it takes to arrive.
            close_frame(&mut chunk, &mut frames);
            match parts(update, &lowered(clocks, &starts_of(update)), PART_BYTES) {
                Ok(parts) => frames.extend(parts),
                Err(_) => frames.push(update.clone()),
            }
            continue;
        }
        bytes += update.len();
        chunk.push(update.clone());
    }
    close_frame(&mut chunk, &mut frames);
    frames
}

/// Merges a chunk into one frame where its bytes fit together, as those of one batch nearly always do.
fn close_frame(chunk: &mut Vec<Bytes>, frames: &mut Vec<Bytes>) {
    match merge(chunk).filter(|_| chunk.len() > 1) {
        Some(frame) => frames.push(frame),
        None => frames.append(chunk),
    }
    chunk.clear();
}

/// The clocks at which an update starts, client by client.
pub(super) fn starts_of(update: &Bytes) -> Vec<(u64, u32)> {
    let summary = validate(update, &UpdateLimits::default());
    summary
        .map(|summary| summary.ranges().iter().map(|range| (range.client, range.start)).collect())
        .unwrap_or_default()
}
