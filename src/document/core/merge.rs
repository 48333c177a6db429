//! The way of one update: judged, held back or merged, sent on, saved, acknowledged.

use std::sync::Arc;

use bytes::Bytes;
use syncline_protocol::ErrorCode;
use syncline_protocol::channel::Access;
use syncline_protocol::state_vector::StateVector;
use syncline_protocol::update::Invalid;
use syncline_protocol::update::Readiness;
use syncline_protocol::update::Summary;
use syncline_protocol::update::merge;
use syncline_protocol::update::split_ready;
use syncline_protocol::update::validate;

use crate::clock::Now;
use crate::document::inflight::Work;
use crate::document::memory::added;
use crate::document::replica::Poisoned;
use crate::document::replica::Roots;
use crate::document::request::Refusal;
use crate::document::saving::Ack;
use crate::document::saving::Owed;
use crate::document::waiting::Dropped;
use crate::document::waiting::Held;
use crate::store::Record;
use crate::table::change::Author;
use crate::table::change::ChangeSet;
use crate::table::change::Source as Way;

use super::Applied;
use super::Core;
use super::Effect;
use super::Event;
use super::Live;
use super::PAUSE;
use super::Phase;
use super::ReaderId;
use super::Size;
use super::life::stale_history;
use super::pending::Taken;
use super::questions::Question;
use super::source::Kind;
use super::source::Source;
use super::source::clocks_of;
use super::source::way_of;

/// No client, no struct, no deletion.
pub(super) const EMPTY_UPDATE: &[u8] = &[0, 0];

impl<P> Core<P> {
    /// One update, from a channel or a request. Ends in exactly one of: acknowledged (now or when durable), held back,
    /// refused.
    pub(super) fn update(&mut self, now: Now, source: Source, update: Bytes, effects: &mut Vec<Effect>) {
        let summary = match validate(&update, &self.settings.update) {
            Ok(summary) => summary,
            Err(invalid) => return self.refuse(&source, &refusal_of(&invalid), effects),
        };
        if summary.is_empty() {
            return self.acknowledge(&source, effects);
        }
        let Phase::Live(live) = &self.phase else {
            return self.refuse(&source, &Refusal::new(ErrorCode::ChannelError, "the document is closing"), effects);
        };
        let clocks = live.replica.clocks();
        // The template that a document is created from may be a copy of a former life: a backup, on purpose.
        if !source.begins() && self.lineage.is_of(&summary, clocks) {
            return self.refuse(&source, &stale_history(), effects);
        }
        if self.access_of(&source) == Access::Read {
            self.merge_pending(now, effects);
            let Phase::Live(live) = &self.phase else { return };
            if summary.structs_known(live.replica.clocks()) && live.replica.deletions_known(&summary) {
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

    /// Somebody edits who may not. One that can be told that its edit counts for nothing is told so. Elsewhere the channel
    /// ends, because its copy diverges. Offline content is another matter: it can be what others wrote and a crash took
    /// before it was durable. Its writer brings it back; this reader only hears no.
    fn refuse_read_only(&mut self, source: &Source, effects: &mut Vec<Effect>) {
        match source {
            Source::Reader { reader, owed: Owed::Status(count), .. } if *count > 0 => {
                effects.push(Effect::Status { reader: *reader, saved: false, count: *count });
            }
            Source::Reader { owed: Owed::Status(_), .. } => {} // Its client does not count it.
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
        self.merge_pending(now, effects);
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
            Source::Reader { reader, sent, owed, .. } => {
                if !self.readers.contains_key(&reader) {
                    return; // Its first half was refused.
                }
                effects.push(Effect::Count(Event::OutOfOrder));
                let dropped = self.waiting.hold(Held { from: reader, update, sent, owed, since: now.moment });
                self.ask_again(now, dropped, effects);
            }
        }
    }

    /// Asks writers whose updates were dropped for everything that we lack.
    pub(super) fn ask_again(&mut self, now: Now, dropped: Vec<Dropped>, effects: &mut Vec<Effect>) {
        for Dropped { from, owed } in dropped {
            effects.push(Effect::Count(Event::WaitingDropped));
            if let Some(reader) = self.readers.get_mut(&from) {
                reader.questions.dropped(owed);
            }
            self.ask_for_rest(now, from, effects);
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
        if reader.questions.ask(Question::Rest) {
            effects.push(Effect::Step1 { reader: writer, state_vector: live.replica.clocks().encode() });
        }
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
            self.merge_pending(now, effects);
        }
    }

    fn retry(&mut self, now: Now, held: Held, effects: &mut Vec<Effect>) {
        self.merge_pending(now, effects);
        let Some(reader) = self.readers.get(&held.from) else { return };
        if reader.access == Access::Read {
            // Its rights changed meanwhile: judged as if it came now.
            let source = Source::Reader { reader: held.from, sent: held.sent, kind: Kind::Edit, owed: held.owed };
            return self.update(now, source, held.update, effects);
        }
        let Phase::Live(live) = &self.phase else {
            // A reload came in between; it waits on. What fits now fitted before.
            let _ = self.waiting.hold(held);
            return;
        };
        let Ok((ready, rest)) = split_ready(&held.update, live.replica.clocks(), &self.settings.update) else { return };
        let source = Source::Reader { reader: held.from, sent: held.sent.clone(), kind: Kind::Edit, owed: held.owed };
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

    /// Takes a valid, ready update in. `ack` is told when it is durable.
    ///
    /// What surely brings something new goes to the engine together with the rest of the batch: a transaction, a note and a
    /// record each cost more than a keystroke.
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
        if !self.has_room(now, update.len(), effects) {
            let refusal = Refusal::new(ErrorCode::PayloadTooLarge, "the document has reached its largest size");
            return self.refuse(source, &refusal, effects);
        }
        if matches!(&self.phase, Phase::Live(Live { register: Some(_), .. })) {
            return self.merge_into_table(now, source, update, summary, ack, effects);
        }
        if !self.pending.has_room(update.len()) {
            self.merge_pending(now, effects);
        }
        let user = self.user_of(source);
        let mut taken = Taken { source: source.clone(), update, user, ack, before: Vec::new() };
        let Phase::Live(live) = &mut self.phase else { return self.unproved.push_back(taken) };
        let clocks = live.replica.clocks();
        let surely_new = summary.ranges().iter().any(|range| clocks.clock(range.client) < range.end);
        taken.before = clocks_of(summary, clocks);
        if surely_new {
            for &(client, clock) in &taken.before {
                self.batch.before.entry(client).or_insert(clock);
            }
            live.replica.expect(summary);
            self.pending.push(taken);
        } else {
            self.merge_pending(now, effects);
            self.merge_one(now, taken, effects);
        }
    }

    /// Gives what was taken in to the engine. Called before anything reads the content, and at the end of each batch.
    pub(super) fn merge_pending(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let taken = self.pending.take();
        if taken.len() > 1
            && let Some(together) = merge(&taken.iter().map(|taken| taken.update.clone()).collect::<Vec<_>>())
        {
            return self.merge_together(now, together, taken, effects);
        }
        for taken in taken {
            self.merge_one(now, taken, effects);
        }
    }

    fn merge_together(&mut self, now: Now, together: Bytes, taken: Vec<Taken>, effects: &mut Vec<Effect>) {
        match self.engine(&together, None) {
            Ok(changed) => {
                let user = taken[0].user.clone();
                let way = way_of(&taken[0].source);
                let one_user = taken.iter().all(|taken| taken.user == user);
                if one_user {
                    self.record(now, together.clone(), user.clone(), None);
                }
                let first = self.batch.applied.len();
                self.batch.together.push((first..first + taken.len(), together));
                for Taken { source, update, user, ack, .. } in taken {
                    self.batch.applied.push(Applied { from: source.reader(), update: update.clone() });
                    if one_user {
                        self.saving.expect(ack);
                    } else {
                        self.record(now, update, user, ack);
                    }
                }
                effects.push(Effect::Count(Event::Applied));
                self.tell_roots(now, user.filter(|_| one_user), way, changed);
            }
            // One of them broke the engine. Which, shows when the content is back and each is tried alone.
            Err(Poisoned) => {
                self.unproved.extend(taken);
                self.start_over(effects);
            }
        }
    }

    fn merge_one(&mut self, now: Now, taken: Taken, effects: &mut Vec<Effect>) {
        if !matches!(self.phase, Phase::Live(_)) {
            // The one before it broke the engine.
            self.unproved.push_back(taken);
            return self.forget_expected();
        }
        match self.engine(&taken.update, taken.user.as_deref()) {
            Err(Poisoned) => {
                effects.push(Effect::Count(Event::Poisoned));
                self.start_over(effects);
                self.unexpect(&taken.before);
                let refusal = Refusal::new(ErrorCode::InvalidUpdate, "the update cannot be merged");
                self.refuse(&taken.source, &refusal, effects);
            }
            Ok(None) => self.acknowledge_with(taken.ack, effects),
            Ok(changed) => {
                let Taken { source, update, user, ack, before } = taken;
                self.merged(source.reader(), &before, &update, effects);
                self.record(now, update, user.clone(), ack);
                self.tell_roots(now, user, way_of(&source), changed);
            }
        }
    }

    /// The engine's part, noted while it lasts. Answers where something changed, as far as somebody wants to know; `None` if
    /// nothing was new.
    fn engine(&mut self, update: &[u8], user: Option<&str>) -> Result<Option<Roots>, Poisoned> {
        let Phase::Live(live) = &mut self.phase else { return Err(Poisoned) };
        let flight = self.guards.inflight.begin(Work::Apply, self.name.as_str(), user, update);
        let changed = if self.is_heard {
            live.replica.apply_and_look(update)
        } else {
            live.replica.apply(update).map(|is_new| is_new.then(Roots::new))
        };
        drop(flight);
        if let Ok(Some(_)) = &changed {
            live.exists = true;
            live.states.changed(update);
        }
        changed
    }

    /// Somebody listens to the document's room: from now on it is told which roots change. Asked only once, as whoever
    /// stops to listen may go on later behind what he has heard.
    pub fn hear(&mut self) {
        self.is_heard = true;
    }

    /// Whether the room is told which roots change.
    #[must_use]
    pub fn is_heard(&self) -> bool {
        self.is_heard
    }

    fn tell_roots(&mut self, now: Now, user: Option<Arc<str>>, source: Way, changed: Option<Roots>) {
        let Some(roots) = changed.filter(|roots| !roots.is_empty()) else { return };
        let author = Author { user, source, correlation_id: None, peer: None };
        self.saving.tell(ChangeSet { author, at_ms: now.wall_ms, roots, ..ChangeSet::default() });
    }

    /// Loads again: the engine broke. What it holds is worthless now; the store and the unsaved updates are not.
    pub(super) fn start_over(&mut self, effects: &mut Vec<Effect>) {
        self.reload(effects);
        self.forget_expected();
    }

    /// What was expected and not merged is not here.
    fn forget_expected(&mut self) {
        let befores: Vec<_> = self.unproved.iter().flat_map(|taken| taken.before.iter().copied()).collect();
        self.unexpect(&befores);
    }

    fn unexpect(&mut self, before: &[(u64, u32)]) {
        if let Phase::Loading { clocks, .. } = &mut self.phase {
            before.iter().for_each(|&(client, clock)| clocks.lower(client, clock));
        }
    }

    /// After the engine broke on several updates at once: each alone, until one breaks it again.
    pub(super) fn merge_unproved(&mut self, now: Now, effects: &mut Vec<Effect>) {
        while let Phase::Live(live) = &self.phase
            && let Some(Taken { source, update, ack, .. }) = self.unproved.pop_front()
        {
            let Ok(summary) = validate(&update, &self.settings.update) else { continue };
            if let Readiness::Missing(_) = summary.readiness(live.replica.clocks()) {
                self.hold(now, source, update, effects); // It builds on the one that was refused.
                continue;
            }
            self.merge(now, &source, update, &summary, ack, effects);
            self.merge_pending(now, effects);
        }
    }

    pub(super) fn record(&mut self, now: Now, update: Bytes, user: Option<Arc<str>>, ack: Option<Ack>) {
        self.record_with(now, update, user, Bytes::new(), ack);
    }

    /// As [`Self::record`], with what does not follow from the update.
    pub(super) fn record_with(
        &mut self,
        now: Now,
        update: Bytes,
        user: Option<Arc<str>>,
        sidecar: Bytes,
        ack: Option<Ack>,
    ) {
        self.count_record(update.len());
        self.saving.add(Record { update, user, at_ms: now.wall_ms, sidecar }, ack);
    }

    /// A record of another node, for this node's own store. The others are not told of it.
    pub(super) fn record_foreign(&mut self, record: Record) {
        self.count_record(record.update.len());
        self.saving.add_foreign(record);
    }

    fn count_record(&mut self, bytes: usize) {
        self.compaction.log_bytes += bytes;
        self.compaction.log_records += 1;
        self.size = Size { bytes: self.size.bytes + bytes, exact: false };
        self.content_bytes += added(bytes);
    }

    pub(super) fn user_of(&self, source: &Source) -> Option<Arc<str>> {
        let member = match source {
            Source::Reader { reader, .. } => self.readers.get(reader)?.member.as_ref(),
            Source::Ticket { member, .. } => member.as_ref(),
        };
        member.map(|member| member.user.clone())
    }

    pub(super) fn refuse(&mut self, source: &Source, refusal: &Refusal, effects: &mut Vec<Effect>) {
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

    pub(super) fn has_room(&mut self, now: Now, bytes: usize, effects: &mut Vec<Effect>) -> bool {
        let max = self.settings.doc_bytes_max;
        if self.size.bytes + self.pending.bytes + bytes > max {
            self.merge_pending(now, effects);
            if let Phase::Live(live) = &self.phase
                && !self.size.exact
                && self.size.bytes + bytes > max
            {
                let size = live.encode(&StateVector::default()).map(|state| state.len());
                self.size = Size { bytes: size.unwrap_or(usize::MAX - max), exact: true };
            }
        }
        self.size.bytes + self.pending.bytes + bytes <= max
    }
}

fn refusal_of(invalid: &Invalid) -> Refusal {
    let code = if invalid.is_too_large() { ErrorCode::PayloadTooLarge } else { ErrorCode::InvalidUpdate };
    Refusal::new(code, format!("not an acceptable update: {invalid}"))
}
