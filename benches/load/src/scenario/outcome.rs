//! The JSON line of one run.

use anyhow::Result;
use anyhow::ensure;
use serde::Deserialize;
use serde::Serialize;
use serde_json::Map;
use serde_json::Value;

use crate::account::Histogram;
use crate::account::Tally;
use crate::scenario::Scenario;
use crate::target::TargetKind;

/// What one run measured. Everything but `verified` is of the measured time alone, without warm-up and drain.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Outcome {
    /// What was done.
    pub(crate) scenario: Scenario,
    /// To whom.
    pub(crate) target: TargetKind,
    /// What decided chance.
    pub(crate) seed: u64,
    /// How long.
    pub(crate) seconds: f64,
    /// Updates, or states, that were sent; connections or joins that were begun.
    pub(crate) sent: u64,
    /// Updates, or states, that arrived: one sent to ten readers arrives ten times. Connections or joins that succeeded.
    pub(crate) delivered: u64,
    /// The same per second.
    pub(crate) delivered_per_s: f64,
    /// Processor time of the server, in the kernel and out of it.
    pub(crate) server_cpu_s: f64,
    /// The same in microseconds per delivery.
    pub(crate) server_cpu_us_per_delivered: f64,
    /// Half of the deliveries came within so many microseconds of the sending.
    pub(crate) p50_us: Option<f64>,
    /// 99 of 100 did.
    pub(crate) p99_us: Option<f64>,
    /// Resident memory of the server at the end.
    pub(crate) rss_bytes: u64,
    /// Everything sent in the whole run, warm-up included, reached everybody, and a sampled reader's document was built
    /// again and compared. A run that fails this has no outcome.
    pub(crate) verified: bool,
    /// Processor time of this program. Near `seconds` it was the limit, not the server.
    pub(crate) load_cpu_s: f64,
    /// What only this scenario has: its settings and further figures.
    #[serde(flatten)]
    pub(crate) details: Map<String, Value>,
}

impl Outcome {
    /// Everything was checked.
    ///
    /// # Errors
    /// When there was nothing to be checked.
    pub(crate) fn verified(self) -> Result<Self> {
        ensure!(self.delivered > 0, "nothing was delivered in {:.1} s", self.seconds);
        Ok(Self { verified: true, ..self })
    }

    /// Both together, as one run: counts and processor time add up, memory is the later one's.
    pub(crate) fn and(self, later: Self) -> Self {
        let (seconds, server_cpu_s) = (self.seconds + later.seconds, self.server_cpu_s + later.server_cpu_s);
        let delivered = self.delivered + later.delivered;
        Self {
            seconds,
            sent: self.sent + later.sent,
            delivered,
            delivered_per_s: delivered as f64 / seconds,
            server_cpu_s,
            server_cpu_us_per_delivered: server_cpu_s * 1e6 / delivered as f64,
            load_cpu_s: self.load_cpu_s + later.load_cpu_s,
            ..later
        }
    }

    /// Adds a figure, rounded to thousandths: `updates_per_frame` and `bytes_per_delivered` (all that the clients read, echoes
    /// too, over what was delivered) everywhere, further ones by the scenario.
    pub(crate) fn with(mut self, name: &str, value: impl Into<f64>) -> Self {
        let value = (value.into() * 1000.0).round() / 1000.0;
        self.details.insert(name.to_owned(), value.into());
        self
    }

    /// Adds how long deliveries took.
    pub(crate) fn with_latency(self, latency: &Histogram) -> Self {
        Self { p50_us: latency.quantile_us(0.5), p99_us: latency.quantile_us(0.99), ..self }
    }

    /// Adds how long acknowledgements took, where there were any.
    pub(crate) fn with_acknowledgements(self, tally: &Tally) -> Self {
        let quantiles = (tally.acknowledged.quantile_us(0.5), tally.acknowledged.quantile_us(0.99));
        let (Some(p50), Some(p99)) = quantiles else { return self };
        self.with("ack_p50_us", p50).with("ack_p99_us", p99)
    }
}
