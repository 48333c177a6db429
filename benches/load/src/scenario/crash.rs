//! SIGKILL right after the last acknowledgement, and what is missing afterwards.
//!
//! Acknowledged means: the echo of one's own update, or a Hocuspocus SyncStatus. The clients do not come back with what
//! they wrote, as if their tabs had been closed.

use std::time::Duration;

use anyhow::Result;
use anyhow::bail;
use anyhow::ensure;

use crate::account::History;
use crate::account::Ledger;
use crate::account::Tally;
use crate::account::rebuilt_text;
use crate::client::ClientId;
use crate::client::Event;
use crate::client::Fleet;
use crate::client::Message;
use crate::client::Say;
use crate::edit::Typist;
use crate::edit::letter;
use crate::edit::root_of;
use crate::scenario::Args;
use crate::scenario::Outcome;
use crate::scenario::Stage;
use crate::scenario::fanout::author_base;
use crate::scenario::fanout::on_update;
use crate::scenario::stage::Load;
use crate::scenario::whole::Clocks;

/// Crashes of one run, each with documents of its own.
const CRASHES: usize = 3;
/// Documents, one author each.
const DOCUMENTS: usize = 8;
/// Updates of each author, and how many of them may be without acknowledgement.
const UPDATES: u64 = 100;
const WINDOW: u64 = 10;

/// What has not come back after so long without any news is lost. y-websocket-server answers before it has read its
/// files, so its first answer says nothing.
const QUIET: Duration = Duration::from_millis(1500);
const LOOK: Duration = Duration::from_millis(20);

/// Counts what was acknowledged and is missing.
///
/// # Errors
/// When nothing is acknowledged, or what came back is not what was written.
pub(super) fn run(args: &Args, mut stage: Stage) -> Result<Outcome> {
    ensure!(args.target.answers_sync(), "{} acknowledges nothing", args.target.name());
    let mut random = fastrand::Rng::with_seed(args.seed);
    let (mut acknowledged, mut found) = (0, 0);
    let mut rounds = Vec::new();
    for crash in 0..CRASHES {
        let mut load = Crash::new(&mut random);
        let names: Vec<_> = (0..DOCUMENTS).map(|document| format!("crash-{crash}-{document}")).collect();
        stage.open(names.iter().cloned(), &mut load)?;
        load.write_all(&mut stage)?;
        stage.crash_and_restart()?;
        load.phase = Phase::Reading;
        let meter = stage.meter()?;
        stage.open(names.into_iter(), &mut load)?;
        load.wait(&mut stage)?;
        load.verify()?;
        let kept = load.kept();
        rounds.push(meter.outcome(args, stage.fleet.now_ns(), UPDATES * DOCUMENTS as u64, kept)?);
        (acknowledged, found) = (acknowledged + UPDATES * DOCUMENTS as u64, found + kept);
        // The next documents are written by the clients after these.
        stage.crash_and_restart()?;
    }
    let Some(outcome) = rounds.into_iter().reduce(Outcome::and) else { bail!("there are several crashes") };
    // What was kept was compared with what was written, even if it is nothing.
    let outcome = Outcome { verified: true, ..outcome };
    let outcome = outcome.with("crashes", CRASHES as f64).with("acknowledged", acknowledged as f64);
    Ok(outcome.with("lost", (acknowledged - found) as f64))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Clients are authors.
    Writing,
    /// Clients have come after the crash and only read.
    Reading,
}

struct Crash {
    phase: Phase,
    ledgers: Vec<Ledger>,
    typists: Vec<Typist>,
    /// What came back of each document.
    clocks: Vec<Clocks>,
    histories: Vec<History>,
    last_news_ns: u64,
    update: Vec<u8>,
}

impl Crash {
    fn new(random: &mut fastrand::Rng) -> Self {
        let ledgers: Vec<_> = (0..DOCUMENTS).map(|_| Ledger::new(author_base(random), 1, 1, 1)).collect();
        Self {
            phase: Phase::Writing,
            typists: ledgers.iter().map(|ledger| Typist::new(ledger.author(0))).collect(),
            ledgers,
            clocks: vec![Clocks::default(); DOCUMENTS],
            histories: vec![History::default(); DOCUMENTS],
            last_news_ns: 0,
            update: Vec::new(),
        }
    }

    /// Until the last acknowledgement is there.
    fn write_all(&mut self, stage: &mut Stage) -> Result<()> {
        while self.ledgers.iter().any(|ledger| ledger.sent(0) < UPDATES) {
            self.act(&mut stage.fleet, &mut stage.tally)?;
            stage.turn(self, LOOK)?;
        }
        stage.drain(self)
    }

    fn wait(&mut self, stage: &mut Stage) -> Result<()> {
        self.last_news_ns = stage.fleet.now_ns();
        while self.kept() < UPDATES * DOCUMENTS as u64 {
            stage.turn(self, LOOK)?;
            if stage.fleet.now_ns() - self.last_news_ns > QUIET.as_nanos() as u64 {
                break;
            }
        }
        Ok(())
    }

    /// Updates that came back.
    fn kept(&self) -> u64 {
        self.clocks.iter().zip(&self.ledgers).map(|(clocks, ledger)| u64::from(clocks.of(ledger.author(0)))).sum()
    }

    fn verify(&self) -> Result<()> {
        for ((history, clocks), ledger) in self.histories.iter().zip(&self.clocks).zip(&self.ledgers) {
            let author = ledger.author(0);
            let text = rebuilt_text(history.updates(), &root_of(author))?;
            let expected = (0..clocks.of(author)).map(letter);
            ensure!(text.bytes().eq(expected), "{text:?} is not the beginning of what was written");
        }
        Ok(())
    }
}

impl Load for Crash {
    fn act(&mut self, fleet: &mut Fleet, tally: &mut Tally) -> Result<Option<u64>> {
        let now_ns = fleet.now_ns();
        for (id, (ledger, typist)) in self.ledgers.iter_mut().zip(&mut self.typists).enumerate() {
            while ledger.sent(0) < UPDATES && ledger.unacknowledged() < WINDOW {
                typist.type_one(&mut self.update);
                ledger.send(0, now_ns, tally);
                fleet.send(id, Say::Update(&self.update));
            }
        }
        Ok(None)
    }

    fn on_event(&mut self, now_ns: u64, id: ClientId, event: Event<'_>, tally: &mut Tally) -> Result<()> {
        self.last_news_ns = now_ns;
        if self.phase == Phase::Writing {
            return on_update(&mut self.ledgers[id], 0, now_ns, event, tally);
        }
        match event {
            Event::Message(Message::Update(update) | Message::SyncStep2(update)) => {
                self.histories[id].keep(update)?;
                self.clocks[id].take(update)
            }
            Event::Message(Message::Refused(reason)) => bail!("refused: {}", String::from_utf8_lossy(reason)),
            Event::Message(_) | Event::Ready | Event::Closed(..) => Ok(()),
        }
    }

    fn outstanding(&self) -> u64 {
        match self.phase {
            Phase::Writing => self.ledgers.iter().map(Ledger::unacknowledged).sum(),
            Phase::Reading => 0,
        }
    }
}
