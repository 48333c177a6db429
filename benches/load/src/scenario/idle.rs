//! Many connections that do nothing: what it costs to open one, and to hold it.

use std::collections::HashMap;

use anyhow::Result;
use anyhow::bail;
use anyhow::ensure;

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

const CONNECTIONS: usize = 10_000;

/// Opened before anything is counted: what a server loads with its first connections is no cost of the others.
const WARMUP: usize = 100;

/// In so many documents, at the end, a guest joins and sees what the idle client types.
const GUESTS: usize = 50;

/// So many connections, a document each.
///
/// # Errors
/// When one is refused or closed, or turns out to be dead.
pub(super) fn run(args: &Args, mut stage: Stage) -> Result<Outcome> {
    let connections = args.clients.unwrap_or(CONNECTIONS);
    ensure!(connections >= GUESTS, "too few connections");
    let mut load = Idle { name: stage.new_document(), ..Idle::default() };
    let name = load.name.clone();
    stage.open((0..WARMUP).map(|n| format!("{name}-warm-up-{n}")), &mut load)?;
    let before = stage.resident_bytes()?;
    let meter = stage.meter()?;
    stage.open((0..connections).map(|n| format!("{name}-{n}")), &mut load)?;
    let outcome = meter.outcome(args, stage.fleet.now_ns(), connections as u64, connections as u64)?;
    let rest = stage.meter()?;
    stage.run(&mut load, args.measured())?;
    let rest = rest.outcome(args, stage.fleet.now_ns(), 0, 0)?;
    let grown = rest.rss_bytes as f64 - before as f64;
    load.bring_guests(args, &mut stage, connections)?;
    load.verify()?;
    let per_second = connections as f64 / outcome.seconds;
    let outcome = outcome.verified()?.with("connections", connections as f64).with("connects_per_s", per_second);
    let outcome = outcome.with("kib_per_connection", grown / 1024.0 / connections as f64);
    Ok(outcome.with("rest_cpu_percent", rest.server_cpu_s / rest.seconds * 100.0))
}

/// Those who do something at last.
#[derive(Default)]
struct Idle {
    /// What documents are named after.
    name: String,
    pairs: Vec<(Ledger, Typist)>,
    /// Which pair a client belongs to, and as which member.
    places: HashMap<ClientId, (usize, usize)>,
}

impl Idle {
    fn bring_guests(&mut self, args: &Args, stage: &mut Stage, connections: usize) -> Result<()> {
        let mut random = fastrand::Rng::with_seed(args.seed);
        let hosts = random.choose_multiple(0..connections, GUESTS);
        let first = stage.fleet.clients();
        for (pair, host) in hosts.iter().enumerate() {
            let mut ledger = Ledger::new(author_base(&mut random), 1, 2, 1);
            ledger.sample(1);
            self.pairs.push((ledger, Typist::new(0)));
            self.places.insert(WARMUP + host, (pair, 0));
            self.places.insert(first + pair, (pair, 1));
        }
        let name = self.name.clone();
        stage.open(hosts.iter().map(|host| format!("{name}-{host}")), self)?;
        let mut update = Vec::new();
        for (host, (ledger, typist)) in hosts.iter().zip(&mut self.pairs) {
            *typist = Typist::new(ledger.author(0));
            typist.type_one(&mut update);
            ledger.send(0, stage.fleet.now_ns(), &mut stage.tally);
            stage.fleet.send(WARMUP + host, Say::Update(&update));
        }
        stage.drain(self)
    }

    fn verify(&self) -> Result<()> {
        for (ledger, typist) in &self.pairs {
            let updates = ledger.history().into_iter().flat_map(|history| history.updates());
            let text = rebuilt_text(updates, &root_of(ledger.author(0)))?;
            ensure!(text.bytes().eq((0..typist.typed()).map(letter)), "a guest sees {text:?}");
        }
        Ok(())
    }
}

impl Load for Idle {
    fn act(&mut self, _: &mut Fleet, _: &mut Tally) -> Result<Option<u64>> {
        Ok(None)
    }

    fn on_event(&mut self, now_ns: u64, id: ClientId, event: Event<'_>, tally: &mut Tally) -> Result<()> {
        if let Event::Message(Message::Refused(reason)) = event {
            bail!("refused: {}", String::from_utf8_lossy(reason));
        }
        match self.places.get(&id) {
            Some((pair, member)) => on_update(&mut self.pairs[*pair].0, *member, now_ns, event, tally),
            None => Ok(()),
        }
    }

    fn outstanding(&self) -> u64 {
        self.pairs.iter().map(|(ledger, _)| ledger.undelivered()).sum()
    }
}
