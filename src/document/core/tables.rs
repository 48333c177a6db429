//! What a table adds to a document: each update is one transaction with its own consequences, and requests write records.

use std::sync::Arc;

use bytes::Bytes;
use syncline_protocol::ErrorCode;
use syncline_protocol::update::Summary;

use crate::clock::Now;
use crate::document::inflight::Work;
use crate::document::replica::Poisoned;
use crate::document::replica::Watched;
use crate::document::request::Answer;
use crate::document::request::Refusal;
use crate::document::saving::Ack;
use crate::document::saving::Purpose;
use crate::table::change::Author;
use crate::table::change::ChangeSet;
use crate::table::change::Source as Way;
use crate::table::command::Command;
use crate::table::command::Done;
use crate::table::command::Merged;
use crate::table::command::Once;
use crate::table::command::TableAnswer;
use crate::table::command::TableRequest;
use crate::table::command::Write;
use crate::table::content;
use crate::table::plan::Plan;
use crate::table::plan::Put;
use crate::table::plan::Report;
use crate::table::plan::Sight;
use crate::table::plan::plan;
use crate::table::read;
use crate::table::sidecar;

use super::Core;
use super::Effect;
use super::Event;
use super::Live;
use super::Phase;
use super::Ticket;
use super::merge::EMPTY_UPDATE;
use super::source::Source;
use super::source::clocks_of;
use super::source::way_of;

impl<P> Core<P> {
    /// As `merge`, for a table. Nothing waits for other updates here: a version counts transactions.
    pub(super) fn merge_into_table(
        &mut self,
        now: Now,
        source: &Source,
        update: Bytes,
        summary: &Summary,
        ack: Option<Ack>,
        effects: &mut Vec<Effect>,
    ) {
        let author = Author { user: self.user_of(source), source: way_of(source), correlation_id: None, peer: None };
        let Phase::Live(live) = &mut self.phase else { return };
        let before = clocks_of(summary, live.replica.clocks());
        let flight = self.guards.inflight.begin(Work::Apply, self.name.as_str(), author.user.as_deref(), &update);
        let watched = live.apply(&update, summary, &author, now.wall_ms);
        drop(flight);
        match watched {
            Err(Poisoned) => {
                effects.push(Effect::Count(Event::Poisoned));
                self.start_over(effects);
                self.refuse(source, &Refusal::new(ErrorCode::InvalidUpdate, "the update cannot be merged"), effects);
            }
            Ok(Watched::Refused(refused)) => self.refuse(source, &Refusal::from(*refused), effects),
            Ok(Watched::Nothing) => self.acknowledge_with(ack, effects),
            Ok(Watched::Changed(mut change)) => {
                self.merged(source.reader(), &before, &update, effects);
                self.record(now, update, author.user, ack);
                let reply = match &self.phase {
                    Phase::Live(Live { replica, register: Some(register), .. }) => {
                        register.reply_to(&replica.transact(), &mut change)
                    }
                    _ => None,
                };
                let wrong = change.wrong.clone();
                self.tell(*change);
                if let Some(puts) = reply {
                    self.reply(now, &puts, wrong, effects);
                }
            }
        }
    }

    /// Puts back what a client may not have written, and asserts again what the table's policy says.
    fn reply(&mut self, now: Now, puts: &[Put], wrong: Vec<crate::table::change::Repair>, effects: &mut Vec<Effect>) {
        let author = Author { source: Way::System, ..Author::default() };
        match self.write(now, puts, &author, Bytes::new(), None, effects) {
            Ok(mut change) => {
                change.repaired = wrong;
                self.tell(change);
            }
            Err(Poisoned) => self.start_over(effects),
        }
    }

    /// What the register adds to the memory that a document takes.
    pub(super) fn register_bytes(&self) -> usize {
        let Phase::Live(Live { register: Some(register), .. }) = &self.phase else { return 0 };
        register.memory_bytes()
    }

    fn tell(&mut self, change: ChangeSet) {
        self.note_own(&change);
        if !change.is_empty() {
            self.saving.tell(change);
        }
    }

    /// One transaction of the server: merged, recorded and sent like any other.
    fn write(
        &mut self,
        now: Now,
        puts: &[Put],
        author: &Author,
        sidecar: Bytes,
        ack: Option<Ack>,
        effects: &mut Vec<Effect>,
    ) -> Result<ChangeSet, Poisoned> {
        let Phase::Live(Live { replica, register: Some(register), exists, states, .. }) = &mut self.phase else {
            return Err(Poisoned);
        };
        let flight = self.guards.inflight.begin(Work::Apply, self.name.as_str(), author.user.as_deref(), &[]);
        let written = replica.write_table(puts, register, author, now.wall_ms);
        drop(flight);
        let (update, summary, change) = written?;
        *exists = true;
        states.changed(&update);
        let before: Vec<_> = summary.ranges().iter().map(|range| (range.client, range.start)).collect();
        self.merged(None, &before, &update, effects);
        self.record_with(now, update, author.user.clone(), sidecar, ack);
        Ok(change)
    }

    /// What REST asks of the records.
    pub(super) fn ask_table(&mut self, now: Now, ticket: Ticket, asked: TableRequest, effects: &mut Vec<Effect>) {
        let result = match asked {
            TableRequest::Write(write) => match self.command(now, ticket, *write, effects) {
                Ok(()) => return, // Answered when it is durable.
                Err(refusal) => Err(refusal),
            },
            asked => self.read_table(&asked).map(Answer::Table),
        };
        match result {
            // A version that was shown stays one, also after a crash: so what is shown is durable. Only while the store
            // fails nobody is made to wait for it.
            Ok(read) if !self.saving.is_failing() => self.answer_when_durable(ticket, read, effects),
            result => effects.push(Effect::Answer { ticket, result }),
        }
    }

    fn read_table(&self, asked: &TableRequest) -> Result<TableAnswer, Refusal> {
        let Phase::Live(live) = &self.phase else { return Err(no_such_table()) };
        let Some(register) = live.register.as_ref().filter(|_| live.exists) else { return Err(no_such_table()) };
        // Of what is shown, not of what is durable: events behind it are exactly those that are missing here.
        let revision = if self.saving.is_failing() { self.position() } else { self.shown() }.0;
        let txn = live.replica.transact();
        let raw = |row: &str| content::raw_row(&txn, row);
        match asked {
            TableRequest::Describe => Ok(TableAnswer::Table(read::table_view(&register.table, revision))),
            TableRequest::Page { after, limit, fields, include_deleted } => {
                let page =
                    read::page(&register.table, &raw, after.as_ref(), *limit, fields.as_deref(), *include_deleted);
                let (records, next) = page.map_err(Refusal::from)?;
                Ok(TableAnswer::Page { records, next, revision })
            }
            TableRequest::Record { id } => {
                let record = read::record_view(&register.table, id, &raw(id));
                let record = record.ok_or_else(|| Refusal::new(ErrorCode::NotFound, "there is no such record"))?;
                Ok(TableAnswer::Records(vec![Done { record, merged: None }]))
            }
            TableRequest::Write(_) => Err(Refusal::new(ErrorCode::Internal, "a write is no question")),
        }
    }

    /// Carries a command out, once. Its answer leaves when everything that it rests on is durable.
    fn command(&mut self, now: Now, ticket: Ticket, write: Write, effects: &mut Vec<Effect>) -> Result<(), Refusal> {
        let Phase::Live(live) = &self.phase else { return Err(no_such_table()) };
        let Some(register) = live.register.as_ref() else { return Err(no_such_table()) };
        if let Some(report) = repeated(register, write.once.as_ref(), now.wall_ms)? {
            let answer = live.report(&report, self.shown().0)?;
            self.answer_when_durable(ticket, Answer::Repeated(answer), effects);
            return Ok(());
        }
        if !live.exists && write.command.needs_document() {
            return Err(no_such_table());
        }
        let Plan { puts, report } = live.plan(self.name.as_str(), self.epoch, &write, now.wall_ms)?;
        if !self.has_room(now, puts.iter().map(Put::bytes).sum(), effects) {
            return Err(full(self.settings.doc_bytes_max));
        }
        if puts.is_empty() {
            return self.leave_as_it_is(now, ticket, write, report, effects);
        }
        self.carry_out(now, ticket, &puts, write, report, effects)
    }

    fn carry_out(
        &mut self,
        now: Now,
        ticket: Ticket,
        puts: &[Put],
        write: Write,
        report: Report,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Refusal> {
        let way = match write.command {
            Command::CreateRecords { import: true, .. } => Way::Import,
            // Somebody does it now, on a connection of their own.
            _ if write.peer.is_some() => Way::UserAction,
            _ => Way::Api,
        };
        let author = Author { user: write.user, source: way, correlation_id: write.correlation_id, peer: write.peer };
        let beside = write.once.as_ref().map(|once| sidecar::encode_once(once, &report)).unwrap_or_default();
        let ack = Some(Ack::Ticket { ticket, purpose: Purpose::Write });
        let change = match self.write(now, puts, &author, beside, ack, effects) {
            Ok(change) => change,
            Err(Poisoned) => {
                effects.push(Effect::Count(Event::Poisoned));
                self.start_over(effects);
                return Err(Refusal::new(ErrorCode::Internal, "the table could not be written"));
            }
        };
        self.tell(change);
        let shown = self.shown().0;
        let Phase::Live(live) = &mut self.phase else { return Ok(()) };
        let answer = live.report(&report, shown);
        if let (Some(once), Some(register)) = (write.once, &mut live.register) {
            register.answered.keep(once, report, now.wall_ms);
        }
        // What was written can be shown; a record that another one's policy purged in the same breath cannot be.
        self.answers.insert(ticket, Answer::Table(answer?));
        Ok(())
    }

    /// Everything is as the request wants it. Under a key that is an outcome too: asked again later, it must not change
    /// what others did meanwhile.
    fn leave_as_it_is(
        &mut self,
        now: Now,
        ticket: Ticket,
        write: Write,
        report: Report,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Refusal> {
        let shown = self.shown().0;
        let Phase::Live(live) = &mut self.phase else { return Err(no_such_table()) };
        let answer = Answer::Table(live.report(&report, shown)?);
        let (Some(once), Some(register)) = (write.once, &mut live.register) else {
            self.answer_when_durable(ticket, answer, effects);
            return Ok(());
        };
        let beside = sidecar::encode_once(&once, &report);
        register.answered.keep(once, report, now.wall_ms);
        self.answers.insert(ticket, answer);
        let ack = Some(Ack::Ticket { ticket, purpose: Purpose::Write });
        self.record_with(now, Bytes::from_static(EMPTY_UPDATE), write.user, beside, ack);
        Ok(())
    }

    fn answer_when_durable(&mut self, ticket: Ticket, answer: Answer, effects: &mut Vec<Effect>) {
        self.answers.insert(ticket, answer);
        self.acknowledge_with(Some(Ack::Ticket { ticket, purpose: Purpose::Write }), effects);
    }

    pub(super) fn release_answer(&mut self, ticket: Ticket, effects: &mut Vec<Effect>) {
        let Some(answer) = self.answers.remove(&ticket) else { return };
        effects.push(Effect::Answer { ticket, result: Ok(answer) });
    }
}

impl Live {
    fn apply(&mut self, update: &[u8], summary: &Summary, author: &Author, at_ms: u64) -> Result<Watched, Poisoned> {
        let register = self.register.as_mut().ok_or(Poisoned)?;
        let watched = self.replica.apply_to_table(update, summary, register, author, at_ms)?;
        if matches!(watched, Watched::Changed(_)) {
            self.exists = true;
            self.states.changed(update);
        }
        Ok(watched)
    }

    fn plan(&self, doc: &str, epoch: crate::store::Epoch, write: &Write, now_ms: u64) -> Result<Plan, Refusal> {
        let Some(register) = &self.register else { return Err(no_such_table()) };
        let txn = self.replica.transact();
        let raw = |row: &str| content::raw_row(&txn, row);
        let components = |row: &str| content::row_components(&txn, row);
        let sight = Sight { doc, table: &register.table, raw: &raw, components: &components, now_ms, epoch };
        plan(&sight, write, &mut rand::random::<u32>).map_err(Refusal::from)
    }

    fn report(&self, report: &Report, revision: u64) -> Result<TableAnswer, Refusal> {
        let Some(register) = &self.register else { return Err(no_such_table()) };
        let txn = self.replica.transact();
        let done = |(id, merged): &(Arc<str>, Option<Merged>)| {
            let record = read::record_view(&register.table, id, &content::raw_row(&txn, id));
            let gone = || Refusal::new(ErrorCode::NotFound, "there is no such record");
            Ok(Done { record: record.ok_or_else(gone)?, merged: merged.clone() })
        };
        match report {
            Report::Table => Ok(TableAnswer::Table(read::table_view(&register.table, revision))),
            Report::Field(id) => {
                let field = read::field_view(&register.table, id);
                field.map(TableAnswer::Field).ok_or_else(|| Refusal::new(ErrorCode::NotFound, "there is no such field"))
            }
            Report::Records(records) => {
                records.iter().map(done).collect::<Result<Vec<_>, Refusal>>().map(TableAnswer::Records)
            }
            Report::Nested { id, row } => Ok(TableAnswer::Nested { id: id.to_string(), row: done(row)? }),
        }
    }
}

/// What was answered under the same key.
fn repeated(
    register: &crate::table::register::Register,
    once: Option<&Once>,
    now_ms: u64,
) -> Result<Option<Report>, Refusal> {
    let Some(once) = once else { return Ok(None) };
    let Some(outcome) = register.answered.find(&once.key, now_ms) else { return Ok(None) };
    if outcome.fingerprint == once.fingerprint {
        return Ok(Some(outcome.report.clone()));
    }
    let message = "this Idempotency-Key stands for another request";
    let data = serde_json::Map::from_iter([("path".to_owned(), "Idempotency-Key".into())]);
    Err(Refusal { data: Some(Box::new(data)), ..Refusal::new(ErrorCode::InvalidPayload, message) })
}

fn full(limit: usize) -> Refusal {
    let data = serde_json::Map::from_iter([("limit".to_owned(), limit.into())]);
    Refusal { data: Some(Box::new(data)), ..Refusal::new(ErrorCode::PayloadTooLarge, "the table is full") }
}

fn no_such_table() -> Refusal {
    Refusal::new(ErrorCode::NotFound, "there is no such table")
}
