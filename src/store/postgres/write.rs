//! The one task that appends: group commit over all documents.
//!
//! Each round takes what stands in line and appends it with one statement, which is its own transaction: one round trip,
//! one commit. It never waits to make a round bigger. The statement adds to the rows of the documents in byte order of
//! their names, so two nodes that write the same ones wait for each other and never in a circle; under the lock of its
//! row each append gets the positions behind the last one, whoever wrote that. A document that takes no append, because
//! it was deleted or lives in another epoch, is left out by the statement's own condition and refused alone.
//!
//! When a round fails, everything that stands in line behind it is refused with it: it was called before its callers
//! could know, and a log must not hold a change without the one before it. A round whose answer never came may have been
//! done; its callers are told that it was not, and their next append stands behind it.

use std::collections::HashMap;
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use tokio::sync::oneshot;
use tokio::time::timeout;
use tokio_postgres::types::ToSql;

use crate::metrics::Metrics;
use crate::name::DocName;
use crate::store::Epoch;
use crate::store::Record;
use crate::store::Seq;
use crate::store::StoreError;
use crate::store::postgres::address::Address;
use crate::store::postgres::line::Bounds;
use crate::store::postgres::line::Line;
use crate::store::postgres::link::Manners;
use crate::store::postgres::link::Open;
use crate::store::postgres::link::Trouble;
use crate::store::postgres::link::silent;
use crate::store::postgres::outage::Outage;
use crate::store::postgres::row;

/// 131 072 appends or 64 MiB wait at most; behind that an append is refused as unavailable.
pub(super) const LINE: Bounds = Bounds { jobs: 1 << 17, bytes: 64 << 20 };
/// A round is at most this large, so that one statement stays short; the rest goes into the next.
const ROUND: Bounds = Bounds { jobs: 1 << 14, bytes: 16 << 20 };
/// How often a round is tried again that the database sent back because of another one.
const TRIES_MAX: usize = 5;
/// What is estimated of an array is wrong by far when it is long: joining it row by row would take minutes.
pub(super) const MANNERS: Manners = Manners {
    statement: Duration::from_secs(10),
    patience: Duration::from_secs(15),
    wish: Some("SET enable_nestloop = off"),
};

const APPEND: &str = "
    WITH given AS (
        SELECT * FROM unnest($1::bigint[], $2::bytea[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[])
            AS given (place, name, id, epoch, count, bytes, at_ms)
    ), taken AS (
        INSERT INTO syncline_documents AS known (name, id, epoch, last, deleted, bytes, updated_at_ms)
        SELECT name, id, epoch, count, false, bytes, at_ms FROM given
        WHERE epoch = 0 OR (SELECT count(*) FROM syncline_documents older WHERE older.name = given.name) > 0
        ORDER BY name
        ON CONFLICT (name) DO UPDATE SET
            last = known.last + excluded.last,
            bytes = known.bytes + excluded.bytes,
            updated_at_ms = greatest(known.updated_at_ms, excluded.updated_at_ms)
        WHERE known.epoch = excluded.epoch AND NOT known.deleted
        RETURNING known.name, known.id, known.epoch, known.last
    ), placed AS (
        SELECT given.place, taken.id, taken.epoch, taken.last FROM taken JOIN given ON given.name = taken.name
    ), kept AS (
        INSERT INTO syncline_records (doc, epoch, seq, at_ms, author, bytes, sidecar, crc)
        SELECT placed.id, placed.epoch, placed.last - fresh.behind,
            fresh.at_ms, fresh.author, fresh.bytes, fresh.sidecar, fresh.crc
        FROM unnest($8::bigint[], $9::bigint[], $10::bigint[], $11::bytea[], $12::bytea[], $13::bytea[], $14::bigint[])
            AS fresh (place, behind, at_ms, author, bytes, sidecar, crc)
        JOIN placed ON placed.place = fresh.place
    )
    SELECT place, last FROM placed";
const STANDING: &str = "SELECT name, epoch, last, deleted FROM syncline_documents WHERE name = ANY($1::bytea[])";
const PROBE: &str = "UPDATE syncline_probe SET probes = probes + 1 WHERE id = 1";

pub(super) type Reply<T> = oneshot::Sender<Result<T, StoreError>>;

/// What the writer is asked for.
pub(super) enum Job {
    Append(Append),
    Probe { reply: Reply<()> },
}

/// Records of one document.
pub(super) struct Append {
    pub(super) doc: DocName,
    pub(super) epoch: Epoch,
    pub(super) records: Vec<Record>,
    pub(super) reply: Reply<Seq>,
}

impl Job {
    pub(super) fn refuse(self, error: StoreError) {
        // Whoever asked may be gone.
        match self {
            Self::Append(append) => drop(append.reply.send(Err(error))),
            Self::Probe { reply } => drop(reply.send(Err(error))),
        }
    }
}

/// All appends of one document in one round.
struct Group {
    epoch: Epoch,
    count: u64,
    appends: Vec<Append>,
}

/// What goes into one statement: no document twice.
#[derive(Default)]
struct Round {
    groups: Vec<(DocName, Group)>,
    probes: Vec<Reply<()>>,
    records: u32,
    bytes: usize,
}

impl Round {
    /// Takes jobs in their order, up to the first append that belongs to another life of a document that is in already.
    fn fill(jobs: &mut VecDeque<Job>) -> Self {
        let mut round = Self::default();
        let mut places: HashMap<DocName, usize> = HashMap::new();
        while let Some(job) = jobs.pop_front() {
            let append = match job {
                Job::Append(append) => append,
                Job::Probe { reply } => {
                    round.probes.push(reply);
                    continue;
                }
            };
            let place = *places.entry(append.doc.clone()).or_insert_with(|| {
                let group = Group { epoch: append.epoch, count: 0, appends: Vec::new() };
                round.groups.push((append.doc.clone(), group));
                round.groups.len() - 1
            });
            let group = &mut round.groups[place].1;
            if group.epoch != append.epoch {
                jobs.push_front(Job::Append(append));
                break;
            }
            group.count += append.records.len() as u64;
            round.records = round.records.saturating_add(u32::try_from(append.records.len()).unwrap_or(u32::MAX));
            round.bytes += append.records.iter().map(row::bytes_of).sum::<usize>();
            group.appends.push(append);
        }
        round
    }

    fn refuse(self, error: &StoreError) {
        for (_, group) in self.groups {
            group.refuse(error);
        }
        for reply in self.probes {
            let _ = reply.send(Err(error.clone()));
        }
    }
}

impl Group {
    /// Tells each append its position: the last one ends where the group ends.
    fn answer(self, last: u64) {
        let mut seq = last;
        for append in self.appends.into_iter().rev() {
            let count = append.records.len() as u64;
            let _ = append.reply.send(Ok(Seq(seq)));
            seq = seq.saturating_sub(count);
        }
    }

    fn refuse(self, error: &StoreError) {
        for append in self.appends {
            let _ = append.reply.send(Err(error.clone()));
        }
    }
}

/// The task's own state.
pub(super) struct Writer {
    line: Arc<Line<Job>>,
    address: Arc<Address>,
    outage: Arc<Outage>,
    metrics: Option<Arc<Metrics>>,
    state: State,
}

enum State {
    Connected(Open),
    Away { why: String, returning: Pin<Box<dyn Future<Output = Open> + Send>> },
}

/// What the task does next.
enum Event {
    Jobs(Vec<Job>),
    Lost(String),
    Back(Open),
}

impl Writer {
    pub(super) fn new(
        line: Arc<Line<Job>>,
        address: Arc<Address>,
        outage: Arc<Outage>,
        metrics: Option<Arc<Metrics>>,
        open: Open,
    ) -> Self {
        Self { line, address, outage, metrics, state: State::Connected(open) }
    }

    /// Works until the line is closed and empty.
    pub(super) async fn run(mut self) {
        loop {
            let event = match &mut self.state {
                State::Connected(open) => tokio::select! {
                    jobs = self.line.take(ROUND) => Event::Jobs(jobs),
                    why = open.ended() => Event::Lost(why),
                },
                State::Away { returning, .. } => tokio::select! {
                    jobs = self.line.take(ROUND) => Event::Jobs(jobs),
                    open = returning => Event::Back(open),
                },
            };
            match event {
                Event::Jobs(jobs) if jobs.is_empty() => return,
                Event::Jobs(jobs) => self.work(jobs.into()).await,
                Event::Lost(why) => self.lose(why),
                Event::Back(open) => {
                    self.outage.over();
                    self.state = State::Connected(open);
                }
            }
        }
    }

    async fn work(&mut self, mut jobs: VecDeque<Job>) {
        while !jobs.is_empty() {
            let open = match &mut self.state {
                State::Connected(open) => open,
                State::Away { why, .. } => {
                    let refusal = Trouble::Lost(why.clone()).into();
                    return self.refuse(jobs, &refusal);
                }
            };
            let mut round = Round::fill(&mut jobs);
            let started = Instant::now();
            let done = timeout(MANNERS.patience, append(open, &round)).await;
            let done = done.unwrap_or_else(|_| Err(silent()));
            let unanswered = match done {
                Ok(lasts) => {
                    if let Some(metrics) = self.metrics.as_ref().filter(|_| round.records > 0) {
                        metrics.committed(round.records, round.bytes, started.elapsed());
                    }
                    self.outage.over();
                    for reply in round.probes.drain(..) {
                        let _ = reply.send(Ok(()));
                    }
                    answer(&mut round, &lasts)
                }
                Err(trouble) => return self.fail(round, jobs, trouble),
            };
            if let Err(trouble) = self.explain(unanswered).await {
                return self.fail(Round::default(), jobs, trouble);
            }
        }
    }

    /// Says to those that the statement left out why, and to those who brought nothing where the document ends.
    async fn explain(&mut self, groups: Vec<(DocName, Group)>) -> Result<(), Trouble> {
        let State::Connected(open) = &mut self.state else { return Ok(()) };
        if groups.is_empty() {
            return Ok(());
        }
        let asked = timeout(MANNERS.patience, standing(open, &groups)).await;
        let asked = asked.unwrap_or_else(|_| Err(silent()));
        match asked {
            Ok(standings) => {
                for (doc, group) in groups {
                    let standing = standings.get(doc.as_str().as_bytes()).copied().unwrap_or_default();
                    match standing.admit(group.epoch) {
                        Ok(()) if group.count == 0 => group.answer(standing.last),
                        // It was refused, and would be taken now: another node has just lifted the tombstone.
                        Ok(()) => group.refuse(&StoreError::Unavailable("the document has just changed".to_owned())),
                        Err(error) => group.refuse(&error),
                    }
                }
                Ok(())
            }
            Err(trouble) => {
                let refusal = trouble.clone().into();
                groups.into_iter().for_each(|(_, group)| group.refuse(&refusal));
                Err(trouble)
            }
        }
    }

    /// Refuses a round and everything behind it.
    fn fail(&mut self, round: Round, behind: VecDeque<Job>, trouble: Trouble) {
        let refusal = trouble.clone().into();
        match trouble {
            Trouble::Lost(why) => self.lose(why),
            other => self.outage.refusing(&other.why()),
        }
        round.refuse(&refusal);
        self.refuse(behind, &refusal);
    }

    fn refuse(&self, jobs: VecDeque<Job>, refusal: &StoreError) {
        for job in jobs.into_iter().chain(self.line.drain()) {
            job.refuse(refusal.clone());
        }
    }

    fn lose(&mut self, why: String) {
        self.outage.began(&self.address.shown, &why);
        let (address, outage) = (Arc::clone(&self.address), Arc::clone(&self.outage));
        let returning = Box::pin(async move { outage.until_back(&address, MANNERS).await });
        self.state = State::Away { why, returning };
    }
}

/// Answers the groups that were kept, at these last positions by their places; gives the others back.
fn answer(round: &mut Round, lasts: &HashMap<i64, u64>) -> Vec<(DocName, Group)> {
    let groups = std::mem::take(&mut round.groups).into_iter().enumerate();
    let mut unanswered = Vec::new();
    for (place, (doc, group)) in groups {
        match lasts.get(&(place as i64)) {
            Some(last) => group.answer(*last),
            None => unanswered.push((doc, group)),
        }
    }
    unanswered
}

/// Runs the statement. Answers the last position of each place whose document took its append.
async fn append(open: &mut Open, round: &Round) -> Result<HashMap<i64, u64>, Trouble> {
    // First: when it fails nothing was appended.
    if !round.probes.is_empty() {
        let probe = open.statement(PROBE).await?;
        open.client.execute(&probe, &[]).await?;
    }
    if round.records == 0 {
        return Ok(HashMap::new());
    }
    let mut tries = 0;
    loop {
        tries += 1;
        match append_once(open, round).await {
            Err(trouble) if trouble.is_passing() && tries < TRIES_MAX => {}
            outcome => return outcome,
        }
    }
}

async fn append_once(open: &mut Open, round: &Round) -> Result<HashMap<i64, u64>, Trouble> {
    let statement = open.statement(APPEND).await?;
    let columns = Columns::of(round);
    let rows = open.client.query(&statement, &columns.parameters()).await?;
    let mut lasts = HashMap::new();
    for row in rows {
        lasts.insert(row.try_get(0)?, row::position(row.try_get(1)?)?);
    }
    Ok(lasts)
}

/// A round, column by column.
#[derive(Default)]
struct Columns<'a> {
    place: Vec<i64>,
    name: Vec<&'a [u8]>,
    id: Vec<i64>,
    epoch: Vec<i64>,
    count: Vec<i64>,
    bytes: Vec<i64>,
    at_ms: Vec<i64>,
    of: Vec<i64>,
    behind: Vec<i64>,
    record_at_ms: Vec<i64>,
    author: Vec<Option<&'a [u8]>>,
    update: Vec<&'a [u8]>,
    sidecar: Vec<&'a [u8]>,
    crc: Vec<i64>,
}

impl<'a> Columns<'a> {
    fn of(round: &'a Round) -> Self {
        let mut columns = Self::default();
        let kept = round.groups.iter().enumerate().filter(|(_, (_, group))| group.count > 0);
        for (place, (doc, group)) in kept {
            columns.group(place as i64, doc, group);
        }
        columns
    }

    fn group(&mut self, place: i64, doc: &'a DocName, group: &'a Group) {
        let (mut bytes, mut at_ms, mut behind) = (0_i64, 0_i64, row::number(group.count));
        for record in group.appends.iter().flat_map(|append| &append.records) {
            behind -= 1;
            bytes += row::number(row::bytes_of(record) as u64);
            at_ms = at_ms.max(row::number(record.at_ms));
            self.of.push(place);
            self.behind.push(behind);
            self.record_at_ms.push(row::number(record.at_ms));
            self.author.push(record.user.as_ref().map(|user| user.as_bytes()));
            self.update.push(&record.update);
            self.sidecar.push(&record.sidecar);
            self.crc.push(row::crc_of(record));
        }
        self.place.push(place);
        self.name.push(doc.as_str().as_bytes());
        // One in 2^63 meets another, fails, and the append is tried again with a new one.
        self.id.push(rand::random_range(0..i64::MAX));
        self.epoch.push(row::number(group.epoch.0));
        self.count.push(row::number(group.count));
        self.bytes.push(bytes);
        self.at_ms.push(at_ms);
    }

    fn parameters(&self) -> [&(dyn ToSql + Sync); 14] {
        [
            &self.place,
            &self.name,
            &self.id,
            &self.epoch,
            &self.count,
            &self.bytes,
            &self.at_ms,
            &self.of,
            &self.behind,
            &self.record_at_ms,
            &self.author,
            &self.update,
            &self.sidecar,
            &self.crc,
        ]
    }
}

/// Where documents stand.
async fn standing(open: &mut Open, groups: &[(DocName, Group)]) -> Result<HashMap<Vec<u8>, row::Standing>, Trouble> {
    let names: Vec<&[u8]> = groups.iter().map(|(doc, _)| doc.as_str().as_bytes()).collect();
    let statement = open.statement(STANDING).await?;
    let mut standings = HashMap::new();
    for row in open.client.query(&statement, &[&names]).await? {
        standings.insert(row.try_get(0)?, row::Standing::read(&row, 1)?);
    }
    Ok(standings)
}
