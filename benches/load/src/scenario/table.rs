//! A large table: several people change cells all over it, others look on.

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use anyhow::ensure;

use crate::account::Ledger;
use crate::account::Tally;
use crate::account::rebuilt;
use crate::account::same_grid;
use crate::client::ClientId;
use crate::client::Event;
use crate::client::Fleet;
use crate::client::Message;
use crate::client::Say;
use crate::edit::Grid;
use crate::edit::update::Id;
use crate::scenario::Args;
use crate::scenario::Outcome;
use crate::scenario::Stage;
use crate::scenario::fanout::author_base;
use crate::scenario::fanout::on_update;
use crate::scenario::pace::Pace;
use crate::scenario::stage::Load;
use crate::scenario::whole::Clocks;

const RECORDS: usize = 10_000;
const COLUMNS: usize = 10;
const WRITERS: usize = 4;
const READERS: usize = 10;
/// Changes a second of all writers together.
const RATE: f64 = 200.0;

/// Who brings the table, and leaves when everybody has it; the others are the members 0, 1, …
const MAKER: ClientId = 0;

/// Changes at a steady rate, each of one cell.
///
/// # Errors
/// When something is lost.
pub(super) fn run(args: &Args, mut stage: Stage) -> Result<Outcome> {
    ensure!(args.target.answers_sync(), "{} has no state that could be opened", args.target.name());
    let (readers, rate) = (args.readers.unwrap_or(READERS), args.rate.unwrap_or(RATE));
    ensure!(readers > 0, "somebody has to read");
    let mut load = Table::new(args, readers, rate);
    let name = format!("table:{}", stage.new_document());
    stage.open(std::iter::once(name.clone()), &mut load)?;
    let bytes = load.bring(&mut stage)?;
    load.received.resize(load.members + 1, Clocks::default());
    stage.open(std::iter::repeat_n(name, WRITERS + readers), &mut load)?;
    stage.drain(&mut load)?;
    stage.fleet.hang_up(MAKER)?;
    let outcome = stage.measure(&mut load)?;
    stage.drain(&mut load)?;
    load.verify()?;
    let per_change = outcome.server_cpu_s * 1e6 / outcome.sent as f64;
    let outcome = outcome.verified()?.with("readers", readers as f64).with("rate", rate).with("bytes", bytes as f64);
    Ok(outcome.with("server_cpu_us_per_change", per_change))
}

struct Table {
    grid: Grid,
    /// What the maker wrote.
    fresh: Clocks,
    /// What each client that is there has of it; the maker's is the echo.
    received: Vec<Clocks>,
    members: usize,
    ledger: Ledger,
    pace: Pace,
    next_writer: usize,
    random: fastrand::Rng,
    update: Vec<u8>,
}

impl Table {
    fn new(args: &Args, readers: usize, rate: f64) -> Self {
        let mut random = fastrand::Rng::with_seed(args.seed);
        let base = author_base(&mut random);
        let members = WRITERS + readers;
        let mut ledger = Ledger::new(base, WRITERS, members, 1);
        ledger.sample(random.usize(WRITERS..members));
        Self {
            grid: Grid::new(RECORDS, COLUMNS, base + 1000, args.seed),
            fresh: Clocks::default(),
            received: vec![Clocks::default()],
            members,
            ledger,
            pace: Pace::new(rate),
            next_writer: 0,
            random,
            update: Vec::new(),
        }
    }

    /// Sends the whole table, and waits for its echo.
    fn bring(&mut self, stage: &mut Stage) -> Result<usize> {
        let update = self.grid.update();
        self.fresh.take(&update)?;
        stage.fleet.send(MAKER, Say::Update(&update));
        stage.drain(self)?;
        Ok(update.len())
    }

    fn change_one(&mut self) -> usize {
        let writer = self.next_writer;
        self.next_writer = (writer + 1) % WRITERS;
        // Everybody keeps to records of their own: what concurrent writes to one cell end as is the engine's affair.
        let record = self.random.usize(..RECORDS / WRITERS) * WRITERS + writer;
        let place = (record, self.random.usize(..COLUMNS));
        let clock = self.ledger.sent(writer) as u32;
        let author = Id { client: self.ledger.author(writer), clock };
        self.grid.change(place, author, &mut self.random, &mut self.update);
        writer
    }

    fn verify(&self) -> Result<()> {
        let history = self.ledger.history().context("a reader is sampled")?;
        same_grid(&rebuilt(history.updates())?, &self.grid).context("a reader's table")
    }
}

impl Load for Table {
    fn act(&mut self, fleet: &mut Fleet, tally: &mut Tally) -> Result<Option<u64>> {
        let now_ns = fleet.now_ns();
        for _ in 0..self.pace.take_due(now_ns) {
            let writer = self.change_one();
            self.ledger.send(writer, now_ns, tally);
            fleet.send(writer + 1, Say::Update(&self.update));
        }
        Ok(Some(self.pace.next_ns()))
    }

    fn on_event(&mut self, now_ns: u64, id: ClientId, event: Event<'_>, tally: &mut Tally) -> Result<()> {
        if let Event::Message(Message::Update(update) | Message::SyncStep2(update)) = event
            && !self.received[id].cover(&self.fresh)
        {
            self.received[id].take(update)?;
        }
        if id != MAKER {
            return on_update(&mut self.ledger, id - 1, now_ns, event, tally);
        }
        match event {
            Event::Message(Message::Refused(reason)) => bail!("refused: {}", String::from_utf8_lossy(reason)),
            Event::Message(Message::SyncStatus(false)) => bail!("the table was refused"),
            Event::Message(_) | Event::Ready | Event::Closed(..) => Ok(()),
        }
    }

    fn outstanding(&self) -> u64 {
        let incomplete = self.received.iter().filter(|received| !received.cover(&self.fresh));
        incomplete.count() as u64 + self.ledger.undelivered() + self.ledger.unacknowledged()
    }
}
