//! A reader stops reading while 100 MB go by, and reads again.
//!
//! The same is done twice to one server, in two documents. First everybody reads: that is what the document itself costs in
//! memory, and how long deliveries take. Then one reader stops: what memory grows by beyond that is the price of this
//! reader, and whoever else notices has a longer 99th percentile.

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use anyhow::ensure;
use yrs::Any;
use yrs::Map;
use yrs::Out;
use yrs::Transact;

use crate::account::History;
use crate::account::Ledger;
use crate::account::Tally;
use crate::account::rebuilt;
use crate::account::resident_bytes;
use crate::client::ClientId;
use crate::client::Event;
use crate::client::Fleet;
use crate::client::Message;
use crate::client::Say;
use crate::edit::update;
use crate::edit::update::Content;
use crate::edit::update::Deletion;
use crate::edit::update::Id;
use crate::edit::update::Parent;
use crate::edit::update::Place;
use crate::edit::update::Section;
use crate::edit::update::Value;
use crate::scenario::Args;
use crate::scenario::Outcome;
use crate::scenario::Stage;
use crate::scenario::fanout::author_base;
use crate::scenario::fanout::on_update;
use crate::scenario::pace::Pace;
use crate::scenario::stage::Load;
use crate::scenario::whole::Clocks;

const READERS: usize = 10;
/// Together 20 MB a second: five seconds are 100 MB.
const RATE: f64 = 1250.0;
const VALUE_CHARS: usize = 16_000;
/// Values that are there at the same time; each is overwritten again and again.
const KEYS: u32 = 64;
const ROOT: &str = "values";

/// The writer of each document; its readers follow, and then the one that will stop, or its like.
const WRITER: usize = 0;

/// Runs it.
///
/// # Errors
/// When something is lost, or anybody is disconnected.
pub(super) fn run(args: &Args, mut stage: Stage) -> Result<Outcome> {
    ensure!(args.target.answers_sync(), "{} has nothing to catch up with", args.target.name());
    let (readers, rate) = (args.readers.unwrap_or(READERS), args.rate.unwrap_or(RATE));
    let mut load = SlowReader::new(args, &stage, readers, rate);
    for _document in [CALM, SLOW] {
        let name = stage.new_document();
        stage.open(std::iter::repeat_n(name, readers + 2), &mut load)?;
    }
    stage.run(&mut load, args.warmup())?;
    stage.drain(&mut load)?;

    let calm = load.phase(&mut stage, args)?;
    let (without_p99_us, calm_growth) = (calm.p99_us, load.growth());
    load.at = SLOW;
    stage.fleet.pause(load.stopped());
    let outcome = load.phase(&mut stage, args)?;
    let (bytes, slow_growth) = (outcome.sent * VALUE_CHARS as u64, load.growth());

    load.documents[SLOW].extra_is_awaited = true;
    (load.frames, load.frame_bytes_max, load.caught_up_bytes) = (0, 0, 0);
    load.watch_memory()?;
    let resumed_ns = stage.fleet.now_ns();
    stage.fleet.resume(load.stopped());
    stage.drain(&mut load)?;
    let catch_up_ms = (stage.fleet.now_ns() - resumed_ns) as f64 / 1e6;
    load.look_at_memory()?;
    load.verify()?;

    let outcome = outcome.verified()?.with("readers", readers as f64).with("bytes_gone_by", bytes as f64);
    let ratio = outcome.p99_us.zip(without_p99_us).map(|(with, without)| with / without);
    let outcome = outcome.with("p99_without_us", without_p99_us.context("somebody reads")?);
    let outcome = outcome.with("p99_ratio", ratio.context("somebody reads")?);
    let outcome = outcome.with("stopped_reader_mb", (slow_growth - calm_growth).max(0.0) / 1e6);
    let outcome = outcome.with("document_mb", calm_growth / 1e6).with("catch_up_memory_mb", load.growth() / 1e6);
    let outcome = outcome.with("catch_up_ms", catch_up_ms).with("catch_up_frames", load.frames as f64);
    let outcome = outcome.with("catch_up_mb", load.caught_up_bytes as f64 / 1e6);
    Ok(outcome.with("catch_up_largest_frame_mb", load.frame_bytes_max as f64 / 1e6))
}

const CALM: usize = 0;
const SLOW: usize = 1;

struct SlowReader {
    documents: [Document; 2],
    /// The document that is written to.
    at: usize,
    members: usize,
    pace: Pace,
    rate: f64,
    pid: u32,
    /// Resident memory when it was first looked at, and the most that was seen since.
    memory: (u64, u64),
    /// What the stopped reader was sent since it reads again.
    frames: u64,
    frame_bytes_max: usize,
    caught_up_bytes: usize,
    update: Vec<u8>,
}

/// One document with its writer and readers.
struct Document {
    ledger: Ledger,
    /// What was written.
    written: Clocks,
    /// What the last client has, the one that stops in the second document.
    extra: Clocks,
    history: History,
    extra_is_awaited: bool,
}

impl SlowReader {
    fn new(args: &Args, stage: &Stage, readers: usize, rate: f64) -> Self {
        let mut random = fastrand::Rng::with_seed(args.seed);
        let mut document = |extra_is_awaited| Document {
            ledger: Ledger::new(author_base(&mut random), 1, readers + 1, 1),
            written: Clocks::default(),
            extra: Clocks::default(),
            history: History::default(),
            extra_is_awaited,
        };
        Self {
            documents: [document(true), document(false)],
            at: CALM,
            members: readers + 2,
            pace: Pace::new(rate),
            rate,
            pid: stage.pid(),
            memory: (0, 0),
            frames: 0,
            frame_bytes_max: 0,
            caught_up_bytes: 0,
            update: Vec::new(),
        }
    }

    /// The client that stops.
    fn stopped(&self) -> ClientId {
        2 * self.members - 1
    }

    /// Writes to one document for the measured time, and waits until everybody who reads has it.
    fn phase(&mut self, stage: &mut Stage, args: &Args) -> Result<Outcome> {
        stage.tally.clear();
        self.pace = Pace::new(self.rate);
        self.watch_memory()?;
        let meter = stage.meter()?;
        stage.run(self, args.measured())?;
        stage.drain(self)?;
        self.look_at_memory()?;
        let tally = &stage.tally;
        let outcome = meter.outcome(args, stage.fleet.now_ns(), tally.sent, tally.delivered)?;
        Ok(outcome.with_latency(&tally.latency))
    }

    fn watch_memory(&mut self) -> Result<()> {
        let now = resident_bytes(self.pid)?;
        self.memory = (now, now);
        Ok(())
    }

    fn look_at_memory(&mut self) -> Result<()> {
        self.memory.1 = self.memory.1.max(resident_bytes(self.pid)?);
        Ok(())
    }

    fn growth(&self) -> f64 {
        (self.memory.1 - self.memory.0) as f64
    }

    fn write_one(&mut self) -> Result<()> {
        let document = &mut self.documents[self.at];
        let author = Id { client: document.ledger.author(WRITER), clock: document.ledger.sent(WRITER) as u32 };
        let (key, text) = (key_of(author.clock), text_of(author.clock));
        let before = author.clock.checked_sub(KEYS).map(|clock| Id { clock, ..author });
        let place = match before {
            Some(before) => Place::Over { before },
            None => Place::First { parent: Parent::Root(ROOT), key: Some(&key) },
        };
        let deleted: Vec<_> = before.map(|from| Deletion { from, length: 1 }).into_iter().collect();
        let structs = [(place, Content::Value(Value::Text(&text)))];
        self.update.clear();
        update::write(&mut self.update, &[Section { from: author, structs: &structs }], &deleted);
        document.written.advance(author.client, author.clock + 1);
        Ok(())
    }

    /// The stopped reader's document holds the last value of every key.
    fn verify(&self) -> Result<()> {
        let document = &self.documents[SLOW];
        let doc = rebuilt(document.history.updates())?;
        let values = doc.get_or_insert_map(ROOT);
        let txn = doc.transact();
        let written = document.ledger.sent(WRITER) as u32;
        for clock in written.saturating_sub(KEYS)..written {
            let key = key_of(clock);
            let Some(Out::Any(Any::String(text))) = values.get(&txn, &key) else { bail!("{key} holds no text") };
            ensure!(*text == *text_of(clock), "{key} holds something else than what was written last");
        }
        Ok(())
    }
}

fn key_of(clock: u32) -> String {
    format!("k{}", clock % KEYS)
}

/// A value that tells which one it is.
fn text_of(clock: u32) -> String {
    format!("{clock:-<VALUE_CHARS$}")
}

impl Load for SlowReader {
    fn act(&mut self, fleet: &mut Fleet, tally: &mut Tally) -> Result<Option<u64>> {
        let now_ns = fleet.now_ns();
        self.look_at_memory()?;
        for _ in 0..self.pace.take_due(now_ns) {
            self.write_one()?;
            self.documents[self.at].ledger.send(WRITER, now_ns, tally);
            fleet.send(self.at * self.members + WRITER, Say::Update(&self.update));
        }
        Ok(Some(self.pace.next_ns()))
    }

    fn on_event(&mut self, now_ns: u64, id: ClientId, event: Event<'_>, tally: &mut Tally) -> Result<()> {
        let (at, member) = (id / self.members, id % self.members);
        let is_stopped = id == self.stopped();
        let document = &mut self.documents[at];
        if member + 1 < self.members {
            return on_update(&mut document.ledger, member, now_ns, event, tally);
        }
        if let Event::Message(Message::Update(update) | Message::SyncStep2(update)) = event {
            document.extra.take(update)?;
            if is_stopped {
                document.history.keep(update)?;
                self.frames += 1;
                self.frame_bytes_max = self.frame_bytes_max.max(update.len());
                self.caught_up_bytes += update.len();
                self.look_at_memory()?;
            }
        }
        Ok(())
    }

    fn outstanding(&self) -> u64 {
        let of = |document: &Document| {
            let is_behind = document.extra_is_awaited && !document.extra.cover(&document.written);
            document.ledger.undelivered() + document.ledger.unacknowledged() + u64::from(is_behind)
        };
        self.documents.iter().map(of).sum()
    }
}
