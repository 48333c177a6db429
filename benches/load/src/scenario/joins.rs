//! Many clients open one large document at once, while its author has it open.

use std::time::Duration;

use anyhow::Context;
use anyhow::Result;
use anyhow::ensure;

use crate::scenario::Args;
use crate::scenario::Outcome;
use crate::scenario::Stage;
use crate::scenario::reading::Reading;

const CLIENTS: usize = 50;

/// Groups that come one after the other. Before each the author types a character, so that each costs the server a new
/// state; the first one is for its compiler and its caches, and is not counted.
const GROUPS: usize = 5;

/// What a server gets to see the last group off before the next one comes.
const BETWEEN: Duration = Duration::from_millis(100);

/// So many clients at once, several times.
///
/// # Errors
/// When somebody does not get the whole document.
pub(super) fn run(args: &Args, mut stage: Stage) -> Result<Outcome> {
    let clients = args.clients.unwrap_or(CLIENTS);
    ensure!(clients > 0, "somebody has to join");
    let mut reading = Reading::bring(args, &mut stage)?;
    let mut groups = Vec::new();
    for group in 0..GROUPS {
        reading.type_one(&mut stage)?;
        let meter = stage.meter()?;
        reading.open(&mut stage, clients)?;
        groups.push(meter.outcome(args, stage.fleet.now_ns(), clients as u64, clients as u64)?);
        if group == 0 {
            reading.clear_took();
        }
        reading.verify()?;
        reading.hang_up(&mut stage)?;
        stage.run(&mut reading, BETWEEN)?;
    }
    let outcome = groups.into_iter().skip(1).reduce(Outcome::and).context("there are several groups")?;
    Ok(outcome
        .verified()?
        .with_latency(reading.took())
        .with("clients", clients as f64)
        .with("bytes", reading.bytes() as f64))
}
