//! What a server and this program use between two moments.

use anyhow::Result;
use serde_json::Map;

use crate::account::Cpu;
use crate::account::resident_bytes;
use crate::scenario::Args;
use crate::scenario::Outcome;

/// Started at the first moment.
#[derive(Debug)]
pub(crate) struct Meter {
    pid: u32,
    server: Cpu,
    tool: Cpu,
    start_ns: u64,
}

impl Meter {
    /// For the server with process id `pid`; `now_ns` is on the fleet's clock.
    ///
    /// # Errors
    /// When the server is gone.
    pub(crate) fn start(pid: u32, now_ns: u64) -> Result<Self> {
        Ok(Self { pid, server: Cpu::of(pid)?, tool: Cpu::of(std::process::id())?, start_ns: now_ns })
    }

    /// Reads it: `sent` and `delivered` are what was counted in between. Times of delivery are for the caller to add.
    ///
    /// # Errors
    /// When the server is gone.
    pub(crate) fn outcome(&self, args: &Args, now_ns: u64, sent: u64, delivered: u64) -> Result<Outcome> {
        let server_cpu_s = Cpu::of(self.pid)?.seconds_since(&self.server);
        let load_cpu_s = Cpu::of(std::process::id())?.seconds_since(&self.tool);
        let seconds = (now_ns - self.start_ns) as f64 / 1e9;
        Ok(Outcome {
            scenario: args.scenario,
            target: args.target,
            seed: args.seed,
            seconds,
            sent,
            delivered,
            delivered_per_s: delivered as f64 / seconds,
            server_cpu_s,
            server_cpu_us_per_delivered: server_cpu_s * 1e6 / delivered as f64,
            p50_us: None,
            p99_us: None,
            rss_bytes: resident_bytes(self.pid)?,
            verified: false,
            load_cpu_s,
            details: Map::new(),
        })
    }
}
