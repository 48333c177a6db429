//! The lines of a session: one about the machine, then one for each run. Written by `compare`, read by `report`.

use serde::Deserialize;
use serde::Serialize;
use serde_json::Map;
use serde_json::Value;

use crate::compare::work::Work;
use crate::target::TargetKind;

/// One line.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "line", rename_all = "kebab-case")]
pub(crate) enum Line {
    /// The first line: where, and with what.
    Session(Session),
    /// One run.
    Run(Run),
}

/// Where a session took place, and with which versions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Session {
    /// Decided order and chance.
    pub(crate) seed: u64,
    /// Rounds that were asked for.
    pub(crate) rounds: u32,
    /// What the page says of the machine and the servers: a name and a fact each.
    pub(crate) facts: Vec<(String, String)>,
}

/// One run of one piece of work on one server.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Run {
    /// Its name.
    pub(crate) work: String,
    /// From 1.
    pub(crate) round: u32,
    /// The server.
    pub(crate) target: TargetKind,
    /// What `run` printed; empty when it failed.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub(crate) outcome: Map<String, Value>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
}

impl Run {
    /// A figure of its outcome.
    pub(crate) fn figure(&self, field: &str) -> Option<f64> {
        self.outcome.get(field)?.as_f64()
    }

    /// The run in a line, for whoever watches.
    pub(crate) fn told(&self, work: &Work) -> String {
        let head = format!("{:<14} {:<18}", self.work, self.target.name());
        if let Some(error) = &self.error {
            return format!("{head} FAILED: {error}");
        }
        let figures = work.measures.iter().filter_map(|measure| {
            let figure = self.figure(measure.field)?;
            Some(format!("  {} {}", measure.unit.shown(figure), measure.what))
        });
        head + &figures.collect::<String>()
    }
}
