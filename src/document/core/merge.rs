//! The way of one update: judged, held back or merged, sent on, saved, acknowledged.

use std::sync::Arc;

use bytes::Bytes;
use syncline_protocol::ErrorCode;
use syncline_protocol::channel::Access;
use syncline_protocol::state_vector::StateVector;
use syncline_protocol::update::Invalid;
use syncline_protocol::update::Readiness;
use syncline_protocol::update::Summary;
use syncline_protocol::update::split_ready;
use syncline_protocol::update::validate;

use crate::clock::Now;
use crate::document::inflight::Work;
use crate::document::replica::Poisoned;
use crate::document::request::Member;
use crate::document::request::Refusal;
use crate::document::saving::Ack;
use crate::document::saving::Purpose;
use crate::document::waiting::Held;
use crate::store::Record;

use super::Applied;
use super::Core;
use super::Effect;
use super::Event;
use super::PAUSE;
use super::Phase;
use super::ReaderId;
use super::Size;
use super::Ticket;

/// No client, no struct, no deletion.
pub(super) const EMPTY_UPDATE: &[u8] = &[0, 0];

/// Where an update comes from, and who waits for it.
#[derive(Debug, Clone)]
pub(super) enum Source {
    Reader { reader: ReaderId, sent: Bytes, kind: Kind },
    Ticket { ticket: Ticket, member: Option<Member>, purpose: Purpose },
}

/// What a channel sends updates as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// An edit, made now.
    Edit,
    /// What it has and we lack, in answer to our step 1.
    Step2,
}

impl Source {
    pub(super) fn ack(&self) -> Ack {
        match self {
            Self::Reader { reader, sent, .. } => Ack::Echo { reader: *reader, update: sent.clone() },
            Self::Ticket { ticket, purpose, .. } => Ack::Ticket { ticket: *ticket, purpose: *purpose },
        }
    }

    fn reader(&self) -> Option<ReaderId> {
        match self {
            Self::Reader { reader, .. } => Some(*reader),
            Self::Ticket { .. } => None,
        }
    }
}

impl<P> Core<P> {
    /// One update, from a channel or a request. Ends in exactly one of: acknowledged (now or when durable), held back,
    /// refused.
    pub(super) fn update(&mut self, now: Now, source: Source, update: Bytes, effects: &mut Vec<Effect>) {
        let summary = match validate(&update, &self.settings.update) {
            Ok(summary) => summary,
            Err(invalid) => return self.refuse(&source, &refusal_of(&invalid), effects),
        };
        let Phase::Live(live) = &self.phase else {
            return self.refuse(&source, &Refusal::new(ErrorCode::ChannelError, "the document is closing"), effects);
        };
        if summary.is_empty() {
            return self.acknowledge(&source, effects);
        }
        let clocks = live.replica.clocks();
        if self.access_of(&source) == Access::Read {
            if summary.structs_known(clocks) && live.replica.deletions_known(&summary) {
                return self.acknowledge(&source, effects);
            }
            return self.refuse_read_only(&source, effects);
        }
        if summary.has_gap() {
            return self.update_with_gap(now, source, &update, effects);
        }
        if let Readiness::Missing(_) = summary.readiness(clocks) {
            return self.hold(now, source, update, effects);
        }
        let ack = Some(source.ack());
        self.merge(now, &source, update, &summary, ack, effects);
    }

    /// Somebody edits who may not: the channel ends, because its copy diverges. Offline content is another matter: it can be
    /// what others wrote and a crash took before it was durable. Its writer brings it back; this reader only hears no.
    fn refuse_read_only(&mut self, source: &Source, effects: &mut Vec<Effect>) {
        match source {
            Source::Reader { reader, kind: Kind::Step2, .. } => {
                effects.push(Effect::Deny { reader: *reader, code: ErrorCode::Forbidden });
            }
            _ => self.refuse(source, &Refusal::new(ErrorCode::Forbidden, "this channel is read-only"), effects),
        }
    }

    fn access_of(&self, source: &Source) -> Access {
        match source {
            Source::Reader { reader, .. } => self.readers.get(reader).map_or(Access::Read, |reader| reader.access),
            Source::Ticket { .. } => Access::Write,
        }
    }

    /// A client that itself waits for something sends what it has with holes in between. What can be merged is; the
    /// writer hears of it when the rest came too, because its update is one.
    fn update_with_gap(&mut self, now: Now, source: Source, update: &Bytes, effects: &mut Vec<Effect>) {
        let Phase::Live(live) = &self.phase else { return };
        match split_ready(update, live.replica.clocks(), &self.settings.update) {
            Err(invalid) => self.refuse(&source, &refusal_of(&invalid), effects),
            Ok((ready, None)) => match ready {
                Some(ready) => self.update(now, source, ready, effects),
                None => self.acknowledge(&source, effects),
            },
            Ok((ready, Some(rest))) => {
                // A request cannot wait for the rest, so none of it is merged.
                if let Some(ready) = ready.filter(|_| source.reader().is_some()) {
                    self.merge_silently(now, &source, ready, effects);
                }
                self.hold(now, source, rest, effects);
            }
        }
    }

    fn merge_silently(&mut self, now: Now, source: &Source, update: Bytes, effects: &mut Vec<Effect>) {
        if let Ok(summary) = validate(&update, &self.settings.update) {
            self.merge(now, source, update, &summary, None, effects);
        }
    }

    /// Keeps an update that came before what it builds on.
    fn hold(&mut self, now: Now, source: Source, update: Bytes, effects: &mut Vec<Effect>) {
        match source {
            Source::Ticket { .. } => {
                let refusal = Refusal::new(ErrorCode::ChannelError, "the update builds on changes that are not here");
                self.refuse(&source, &refusal, effects);
            }
            Source::Reader { reader, sent, .. } => {
                if !self.readers.contains_key(&reader) {
                    return; // Its first half was refused.
                }
                effects.push(Effect::Count(Event::OutOfOrder));
                let dropped = self.waiting.hold(Held { from: reader, update, sent, since: now.moment });
                self.ask_again(now, dropped, effects);
            }
        }
    }

    /// Asks writers whose updates were dropped for everything that we lack.
    pub(super) fn ask_again(&mut self, now: Now, writers: Vec<ReaderId>, effects: &mut Vec<Effect>) {
        for writer in writers {
            effects.push(Effect::Count(Event::WaitingDropped));
            self.ask_for_rest(now, writer, effects);
        }
    }

    /// Not more often than every [`PAUSE`]; what is dropped in between is asked for when the pause is over.
    fn ask_for_rest(&mut self, now: Now, writer: ReaderId, effects: &mut Vec<Effect>) {
        let Phase::Live(live) = &self.phase else { return };
        let Some(reader) = self.readers.get_mut(&writer) else { return };
        let allowed = reader.asked_at.map_or(now.moment, |at| at.after(PAUSE));
        if now.moment < allowed {
            self.ask_later.insert(writer, allowed);
            return;
        }
        reader.asked_at = Some(now.moment);
        effects.push(Effect::Step1 { reader: writer, state_vector: live.replica.clocks().encode() });
    }

    pub(super) fn ask_after_pause(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let due = self.ask_later.iter().filter(|&(_, &at)| at <= now.moment).map(|(&writer, _)| writer);
        for writer in due.collect::<Vec<_>>() {
            self.ask_later.remove(&writer);
            self.ask_for_rest(now, writer, effects);
        }
    }

    /// Tries again what waits, after something was merged.
    pub(super) fn retry_waiting(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let mut merged = 0;
        // Each round that merges something may free others; a round that merges nothing is the last.
        while self.batch.applied.len() > merged && !self.waiting.is_empty() {
            merged = self.batch.applied.len();
            for held in self.waiting.take() {
                self.retry(now, held, effects);
            }
        }
    }

    fn retry(&mut self, now: Now, held: Held, effects: &mut Vec<Effect>) {
        let Some(reader) = self.readers.get(&held.from) else { return };
        if reader.access == Access::Read {
            // Its rights changed meanwhile: judged as if it came now.
            let source = Source::Reader { reader: held.from, sent: held.sent, kind: Kind::Edit };
            return self.update(now, source, held.update, effects);
        }
        let Phase::Live(live) = &self.phase else {
            // A reload came in between; it waits on. What fits now fitted before.
            let _ = self.waiting.hold(held);
            return;
        };
        let Ok((ready, rest)) = split_ready(&held.update, live.replica.clocks(), &self.settings.update) else { return };
        let source = Source::Reader { reader: held.from, sent: held.sent.clone(), kind: Kind::Edit };
        match (ready, rest) {
            (Some(ready), None) => self.update(now, source, ready, effects),
            (None, None) => self.acknowledge(&source, effects),
            (ready, Some(rest)) => {
                if let Some(ready) = ready {
                    self.merge_silently(now, &source, ready, effects);
                }
                let dropped = self.waiting.hold(Held { update: rest, ..held });
                self.ask_again(now, dropped, effects);
            }
        }
    }

    /// Gives a valid, ready update to the engine. `ack` is told when it is durable.
    fn merge(
        &mut self,
        now: Now,
        source: &Source,
        update: Bytes,
        summary: &Summary,
        ack: Option<Ack>,
        effects: &mut Vec<Effect>,
    ) {
        if self.guards.quarantine.holds(self.name.as_str(), summary) {
            let refusal = Refusal::new(ErrorCode::InvalidUpdate, "this update stopped the server before");
            return self.refuse(source, &refusal, effects);
        }
        if !self.has_room(update.len()) {
            let refusal = Refusal::new(ErrorCode::PayloadTooLarge, "the document has reached its largest size");
            return self.refuse(source, &refusal, effects);
        }
        let user = self.user_of(source);
        let Phase::Live(live) = &mut self.phase else { return };
        let clocks = live.replica.clocks();
        let before: Vec<_> = summary.ranges().iter().map(|range| (range.client, clocks.clock(range.client))).collect();
        let flight = self.guards.inflight.begin(Work::Apply, self.name.as_str(), user.as_deref(), &update);
        let result = live.replica.apply(&update, summary);
        drop(flight);
        match result {
            Err(Poisoned) => self.poisoned(source, effects),
            Ok(false) => self.acknowledge_with(ack, effects),
            Ok(true) => {
                live.exists = true;
                live.whole = None;
                for (client, clock) in before {
                    self.batch.before.entry(client).or_insert(clock);
                }
                self.batch.applied.push(Applied { from: source.reader(), update: update.clone() });
                self.record(now, update, user, ack);
                effects.push(Effect::Count(Event::Applied));
            }
        }
    }

    pub(super) fn record(&mut self, now: Now, update: Bytes, user: Option<Arc<str>>, ack: Option<Ack>) {
        self.compaction.log_bytes += update.len();
        self.compaction.log_records += 1;
        self.size = Size { bytes: self.size.bytes + update.len(), exact: false };
        self.saving.add(Record { update, user, at_ms: now.wall_ms, sidecar: Bytes::new() }, ack);
    }

    fn user_of(&self, source: &Source) -> Option<Arc<str>> {
        let member = match source {
            Source::Reader { reader, .. } => self.readers.get(reader)?.member.as_ref(),
            Source::Ticket { member, .. } => member.as_ref(),
        };
        member.map(|member| member.user.clone())
    }

    /// The engine broke. What it holds is worthless now; the store and the unsaved updates are not.
    fn poisoned(&mut self, source: &Source, effects: &mut Vec<Effect>) {
        effects.push(Effect::Count(Event::Poisoned));
        self.refuse(source, &Refusal::new(ErrorCode::InvalidUpdate, "the update cannot be merged"), effects);
        self.reload(effects);
    }

    fn refuse(&mut self, source: &Source, refusal: &Refusal, effects: &mut Vec<Effect>) {
        if refusal.code == ErrorCode::InvalidUpdate {
            effects.push(Effect::Count(Event::Refused));
        }
        match source {
            Source::Reader { reader, .. } => self.end(*reader, refusal.code, effects),
            Source::Ticket { ticket, .. } => {
                effects.push(Effect::Answer { ticket: *ticket, result: Err(refusal.clone()) });
            }
        }
    }

    fn has_room(&mut self, bytes: usize) -> bool {
        let max = self.settings.doc_bytes_max;
        if self.size.bytes + bytes > max
            && !self.size.exact
            && let Phase::Live(live) = &self.phase
        {
            let size = live.encode(&StateVector::default()).map(|state| state.len());
            self.size = Size { bytes: size.unwrap_or(usize::MAX - max), exact: true };
        }
        self.size.bytes + bytes <= max
    }
}

fn refusal_of(invalid: &Invalid) -> Refusal {
    let code = if invalid.is_too_large() { ErrorCode::PayloadTooLarge } else { ErrorCode::InvalidUpdate };
    Refusal::new(code, format!("not an acceptable update: {invalid}"))
}
