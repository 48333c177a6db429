//! Many documents with two clients each; both write, both read.

use std::collections::BTreeSet;

use anyhow::Context;
use anyhow::Result;
use anyhow::ensure;

use crate::account::Ledger;
use crate::account::Tally;
use crate::account::rebuilt_text;
use crate::client::ClientId;
use crate::client::Event;
use crate::client::Fleet;
use crate::client::Say;
use crate::edit::Typist;
use crate::edit::letter;
use crate::edit::root_of;
use crate::scenario::Args;
use crate::scenario::Outcome;
use crate::scenario::Stage;
use crate::scenario::fanout::author_base;
use crate::scenario::fanout::on_update;
use crate::scenario::pace::Pace;
use crate::scenario::stage::Load;

const DOCUMENTS: usize = 200;
/// Updates a second in all documents together.
const RATE: f64 = 8000.0;
/// One document in so many is built again and compared.
const SAMPLED_ONE_IN: usize = 10;

/// A rate is too high when the 99th percentile of latency reaches this.
const P99_MAX_US: f64 = 100_000.0;
/// A rate is also too high when so many seconds' worth of updates have not arrived; then no more are sent.
const BACKLOG_MAX_SECONDS: f64 = 1.0;
/// The search goes up (or down) in such steps until the limit lies between two rates, and then halves the distance until
/// they are this close.
const RATE_STEP: f64 = 1.5;
const RATE_CLOSENESS: f64 = 1.06;
const RATES: std::ops::RangeInclusive<f64> = 100.0..=1e6;

/// At a fixed rate.
///
/// # Errors
/// When something is lost, or the server does not keep up.
pub(super) fn at_a_rate(args: &Args, mut stage: Stage) -> Result<Outcome> {
    let rate = args.rate.unwrap_or(RATE);
    let mut load = Pairs::open(args, &mut stage)?;
    let outcome = load.step(&mut stage, rate)?;
    ensure!(!load.is_overloaded, "the server does not keep up with {rate} updates/s");
    load.finish(outcome, rate)
}

/// At the highest rate that is delivered in time; every step warms up and is measured as long as a run.
///
/// # Errors
/// When something is lost.
pub(super) fn at_the_highest_rate(args: &Args, mut stage: Stage) -> Result<Outcome> {
    let mut load = Pairs::open(args, &mut stage)?;
    let mut search = Search::from(args.rate.unwrap_or(RATE));
    let mut best = None;
    while let Some(rate) = search.next() {
        let outcome = load.step(&mut stage, rate)?;
        let is_in_time = !load.is_overloaded && outcome.p99_us.is_some_and(|p99_us| p99_us < P99_MAX_US);
        search.note(rate, is_in_time);
        if is_in_time {
            best = Some((outcome, rate));
        }
    }
    let (outcome, rate) = best.context("the server is not in time at any rate")?;
    load.finish(outcome, rate)
}

/// Which rate to try next.
#[derive(Debug)]
struct Search {
    next: f64,
    passed: Option<f64>,
    failed: Option<f64>,
}

impl Search {
    fn from(rate: f64) -> Self {
        Self { next: rate, passed: None, failed: None }
    }

    /// `None` when the highest rate is known closely enough, or is beyond [`RATES`].
    fn next(&self) -> Option<f64> {
        let is_close = |(passed, failed): (f64, f64)| failed / passed <= RATE_CLOSENESS;
        let is_found = self.passed.zip(self.failed).is_some_and(is_close);
        (!is_found && RATES.contains(&self.next)).then_some(self.next)
    }

    fn note(&mut self, rate: f64, is_in_time: bool) {
        let side = if is_in_time { &mut self.passed } else { &mut self.failed };
        *side = Some(rate);
        self.next = match (self.passed, self.failed) {
            (Some(passed), Some(failed)) => (passed * failed).sqrt(),
            (Some(passed), None) => passed * RATE_STEP,
            (None, _) => rate / RATE_STEP,
        };
    }
}

struct Pairs {
    /// Clients 2n and 2n + 1 are the members 0 and 1 of ledger n.
    ledgers: Vec<Ledger>,
    typists: Vec<Typist>,
    pace: Pace,
    next: ClientId,
    in_flight: u64,
    in_flight_max: u64,
    is_overloaded: bool,
    is_acknowledged: bool,
    update: Vec<u8>,
}

impl Pairs {
    fn open(args: &Args, stage: &mut Stage) -> Result<Self> {
        let documents = args.documents.unwrap_or(DOCUMENTS);
        ensure!(documents > 0, "there has to be a document");
        let mut random = fastrand::Rng::with_seed(args.seed);
        let mut ledgers: Vec<_> = (0..documents).map(|_| Ledger::new(author_base(&mut random), 2, 2, 1)).collect();
        let sampled: BTreeSet<_> =
            (0..documents.div_ceil(SAMPLED_ONE_IN)).map(|_| random.usize(0..documents)).collect();
        sampled.into_iter().for_each(|document| ledgers[document].sample(1));
        let typists = ledgers.iter().flat_map(|ledger| [0, 1].map(|member| Typist::new(ledger.author(member))));
        let mut pairs = Self {
            typists: typists.collect(),
            ledgers,
            pace: Pace::new(RATE),
            next: 0,
            in_flight: 0,
            in_flight_max: 0,
            is_overloaded: false,
            is_acknowledged: args.target.answers_sync(),
            update: Vec::new(),
        };
        let name = stage.new_document();
        stage.open((0..2 * documents).map(|client| format!("{name}-{}", client / 2)), &mut pairs)?;
        Ok(pairs)
    }

    fn step(&mut self, stage: &mut Stage, rate: f64) -> Result<Outcome> {
        self.pace = Pace::new(rate);
        self.in_flight_max = (rate * BACKLOG_MAX_SECONDS) as u64;
        self.is_overloaded = false;
        let outcome = stage.measure(self)?;
        stage.drain(self)?;
        Ok(outcome)
    }

    fn finish(&self, outcome: Outcome, rate: f64) -> Result<Outcome> {
        for (ledger, typist) in self.ledgers.iter().zip(self.typists.iter().step_by(2)) {
            let Some(history) = ledger.history() else { continue };
            let text = rebuilt_text(history.updates(), &root_of(ledger.author(0)))?;
            let is_same = text.bytes().eq((0..typist.typed()).map(letter));
            ensure!(is_same, "a reader's text of {} characters is not the writer's", text.len());
        }
        Ok(outcome.verified()?.with("documents", self.ledgers.len() as f64).with("rate", rate))
    }
}

impl Load for Pairs {
    fn act(&mut self, fleet: &mut Fleet, tally: &mut Tally) -> Result<Option<u64>> {
        let now_ns = fleet.now_ns();
        let due = self.pace.take_due(now_ns);
        self.is_overloaded |= self.in_flight + due > self.in_flight_max;
        if self.is_overloaded {
            return Ok(None);
        }
        for _ in 0..due {
            let (document, member) = (self.next / 2, self.next % 2);
            self.typists[self.next].type_one(&mut self.update);
            self.ledgers[document].send(member, now_ns, tally);
            fleet.send(self.next, Say::Update(&self.update));
            self.next = (self.next + 1) % self.typists.len();
        }
        self.in_flight += due;
        Ok(Some(self.pace.next_ns()))
    }

    fn on_event(&mut self, now_ns: u64, id: ClientId, event: Event<'_>, tally: &mut Tally) -> Result<()> {
        let before = tally.delivered;
        on_update(&mut self.ledgers[id / 2], id % 2, now_ns, event, tally)?;
        self.in_flight -= tally.delivered - before;
        Ok(())
    }

    fn outstanding(&self) -> u64 {
        let of =
            |ledger: &Ledger| ledger.undelivered() + if self.is_acknowledged { ledger.unacknowledged() } else { 0 };
        self.ledgers.iter().map(of).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the search finds, and how many rates it tries.
    fn found(limit: f64) -> (Option<f64>, usize) {
        let mut search = Search::from(RATE);
        let mut tried = 0;
        while let Some(rate) = search.next() {
            search.note(rate, rate <= limit);
            tried += 1;
        }
        (search.passed, tried)
    }

    #[test]
    fn the_highest_rate_is_found_wherever_it_is() {
        for limit in [150.0, 1000.0, 7999.0, 8000.0, 8001.0, 23_456.0, 60_000.0, 341_000.0] {
            let (passed, tried) = found(limit);
            let passed = passed.unwrap();
            assert!(passed <= limit && limit / passed <= RATE_CLOSENESS, "{limit}: {passed}");
            assert!(tried <= 16, "{limit}: {tried}");
        }
    }

    #[test]
    fn a_server_that_is_never_in_time_and_one_that_always_is_end_the_search() {
        assert_eq!(found(0.0).0, None);
        assert!(found(f64::INFINITY).0.unwrap() >= 1e6 / RATE_STEP);
    }
}
