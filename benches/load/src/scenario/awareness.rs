//! One document in which everybody moves a cursor and sees everybody else's.

use std::iter;

use anyhow::Result;
use anyhow::bail;
use anyhow::ensure;

use crate::account::Presence;
use crate::account::Tally;
use crate::client::ClientId;
use crate::client::Event;
use crate::client::Fleet;
use crate::client::Message;
use crate::client::Say;
use crate::scenario::Args;
use crate::scenario::Outcome;
use crate::scenario::Stage;
use crate::scenario::fanout::author_base;
use crate::scenario::pace::Pace;
use crate::scenario::stage::Load;

const CLIENTS: usize = 100;
const STATES_PER_SECOND: f64 = 10.0;

/// Every client has so many states a second, the clients evenly spread in time. A delivery is one client that knows one
/// other's state, or a later one that stands for it.
///
/// # Errors
/// When a last state does not reach everybody.
pub(super) fn run(args: &Args, mut stage: Stage) -> Result<Outcome> {
    let clients = args.clients.unwrap_or(CLIENTS);
    let rate = args.rate.unwrap_or(STATES_PER_SECOND);
    ensure!(clients > 1, "somebody has to see it");
    let mut random = fastrand::Rng::with_seed(args.seed);
    let mut load = Cursors {
        presence: Presence::new(author_base(&mut random), clients),
        pace: Pace::new(rate * clients as f64),
        clients,
        next: 0,
        entries: Vec::new(),
    };
    let document = stage.new_document();
    stage.open(iter::repeat_n(document, clients), &mut load)?;
    let outcome = stage.measure(&mut load)?;
    stage.drain(&mut load)?;
    Ok(outcome.verified()?.with("clients", clients as f64).with("rate", rate))
}

struct Cursors {
    presence: Presence,
    pace: Pace,
    clients: usize,
    next: ClientId,
    entries: Vec<u8>,
}

impl Load for Cursors {
    fn act(&mut self, fleet: &mut Fleet, tally: &mut Tally) -> Result<Option<u64>> {
        let now_ns = fleet.now_ns();
        for _ in 0..self.pace.take_due(now_ns) {
            self.presence.send(self.next, now_ns, &mut self.entries, tally);
            fleet.send(self.next, Say::Awareness(&self.entries));
            self.next = (self.next + 1) % self.clients;
        }
        Ok(Some(self.pace.next_ns()))
    }

    fn on_event(&mut self, now_ns: u64, id: ClientId, event: Event<'_>, tally: &mut Tally) -> Result<()> {
        match event {
            Event::Message(Message::Awareness(entries)) => self.presence.receive(id, now_ns, entries, tally),
            Event::Message(Message::Refused(reason)) => bail!("refused: {}", String::from_utf8_lossy(reason)),
            Event::Message(_) | Event::Ready | Event::Closed(..) => Ok(()),
        }
    }

    fn outstanding(&self) -> u64 {
        self.presence.outdated()
    }
}
