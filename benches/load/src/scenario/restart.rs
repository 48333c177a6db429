//! A server is killed and started again; how long the first client waits for all of a large document.

use std::time::Duration;

use anyhow::Context;
use anyhow::Result;
use anyhow::ensure;

use crate::scenario::Args;
use crate::scenario::Outcome;
use crate::scenario::Stage;
use crate::scenario::reading::Reading;

/// Restarts of one run.
const RESTARTS: usize = 3;

/// A server's files have grown to the size of the document, or nearly so if it encodes better than its author, and did not
/// change for so long: it is saved. Hocuspocus begins two seconds after the last edit, in one transaction.
const SAVED_PART: f64 = 0.9;
const QUIET: Duration = Duration::from_millis(400);
const LOOK: Duration = Duration::from_millis(20);

/// Only ends what hangs.
const SAVE_PATIENCE: Duration = Duration::from_secs(30);

/// The time from connecting to the last byte, in a fresh process that listens already.
///
/// # Errors
/// When the document is not saved, or not whole afterwards.
pub(super) fn run(args: &Args, mut stage: Stage) -> Result<Outcome> {
    let mut reading = Reading::bring(args, &mut stage)?;
    reading.type_one(&mut stage)?;
    wait_until_saved(&mut stage, &mut reading)?;
    let mut restarts = Vec::new();
    for _ in 0..RESTARTS {
        stage.crash_and_restart()?;
        reading.forget_clients();
        let meter = stage.meter()?;
        reading.open(&mut stage, 1)?;
        restarts.push(meter.outcome(args, stage.fleet.now_ns(), 1, 1)?);
        reading.verify()?;
    }
    let outcome = restarts.into_iter().reduce(Outcome::and).context("there are several restarts")?;
    Ok(outcome.verified()?.with_latency(reading.took()).with("bytes", reading.bytes() as f64))
}

fn wait_until_saved(stage: &mut Stage, reading: &mut Reading) -> Result<()> {
    let enough = (reading.bytes() as f64 * SAVED_PART) as u64;
    let start_ns = stage.fleet.now_ns();
    let (mut bytes, mut since_ns) = (0, start_ns);
    loop {
        stage.run(reading, LOOK)?;
        let (now_ns, now_bytes) = (stage.fleet.now_ns(), stage.data_bytes()?);
        if now_bytes != bytes {
            (bytes, since_ns) = (now_bytes, now_ns);
        }
        if bytes >= enough && now_ns - since_ns >= QUIET.as_nanos() as u64 {
            return Ok(());
        }
        let waited = Duration::from_nanos(now_ns - start_ns);
        ensure!(waited < SAVE_PATIENCE, "{bytes} bytes are saved after {} s", waited.as_secs());
    }
}
