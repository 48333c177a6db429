//! What keeping costs: disk after many appends and compactions, memory beside the data, and starting again.

use std::fs;
use std::path::Path;

use anyhow::Result;
use serde_json::Value;

use crate::child;
use crate::child::End;
use crate::child::Fill;
use crate::child::Task;
use crate::engines::Kind;
use crate::report::Report;
use crate::work::Style;

pub(crate) const DISK: &str = "10 000 documents, 1 000 000 appends, 3 compactions";
pub(crate) const OPENING: &str = "Opening those 10 000 documents again";
pub(crate) const SMALL: &str = "1000 documents, 100 MB of them";
pub(crate) const LARGE: &str = "1000 documents, 1 GB of them";

/// How much of the full size is done, in thousandths.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scale(pub(crate) u64);

impl Scale {
    fn of(self, full: u64) -> u64 {
        (full * self.0 / 1000).max(1)
    }
}

/// Appends of one record each, in three stretches, all documents folded after each.
pub(crate) fn disk(report: &mut Report, dir: &Path, run: u64, seed: u64, scale: Scale) -> Result<()> {
    for kind in Kind::STORES {
        for end in [End::Closed, End::Dead] {
            let style = Style { batch_max: 1, ..Style::of(seed) };
            let place = dir.join(format!("disk {}", kind.name()));
            let docs = scale.of(10_000);
            let fill = Fill { kind, dir: place.clone(), docs, records: 25, folds: 3, tail: 1, style, end };
            let filled = child::run(Task::Fill, &fill)?;
            if end == End::Closed {
                report.add(DISK, kind, run, &disk_figures(&fill, &filled))?;
            }
            let opened = child::run(Task::Open, &fill)?;
            let column = if end == End::Closed { "after closing, ms" } else { "after a crash, ms" };
            report.add(OPENING, kind, run, &[(column, number(&opened, "open_us") / 1e3)])?;
            child::run(Task::Check, &fill)?;
            fs::remove_dir_all(&place)?;
        }
    }
    Ok(())
}

fn disk_figures(fill: &Fill, filled: &Value) -> Vec<crate::report::Figure> {
    #[expect(clippy::cast_precision_loss, reason = "sizes are far below 2^53")]
    let live = (fill.docs * fill.records_each() * 90) as f64;
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
    let appends = (fill.docs * fill.records_each()) as f64;
    let folds = fill.folds as f64;
    vec![
        ("disk / live data", number(filled, "disk") / live),
        ("at most, while running", number(filled, "disk_peak") / live),
        ("appends/s", appends / number(filled, "append_s")),
        ("s for one compaction of all", number(filled, "fold_s") / folds),
        ("resident MB", number(filled, "resident") / 1e6),
        ("at most, MB", number(filled, "resident_peak") / 1e6),
    ]
}

/// The same documents, ten times as large: half of the data in snapshots, half in the log.
pub(crate) fn memory(report: &mut Report, dir: &Path, run: u64, seed: u64, scale: Scale) -> Result<()> {
    for (scenario, records) in [(SMALL, 50), (LARGE, 500)] {
        for kind in Kind::STORES {
            let style = Style { update_bytes: Some(1000), batch_max: 16, ..Style::of(seed) };
            let place = dir.join(format!("memory {}", kind.name()));
            let docs = scale.of(1000);
            let fill = Fill { kind, dir: place.clone(), docs, records, folds: 1, tail: 1, style, end: End::Closed };
            let filled = child::run(Task::Fill, &fill)?;
            let opened = child::run(Task::Open, &fill)?;
            child::run(Task::Check, &fill)?;
            let figures = [
                ("disk MB", number(&filled, "disk") / 1e6),
                ("resident MB, after writing", number(&filled, "resident") / 1e6),
                ("at most, MB", number(&filled, "resident_peak") / 1e6),
                ("resident MB, after opening", number(&opened, "resident") / 1e6),
                ("opening ms", number(&opened, "open_us") / 1e3),
            ];
            report.add(scenario, kind, run, &figures)?;
            fs::remove_dir_all(&place)?;
        }
    }
    Ok(())
}

fn number(value: &Value, name: &str) -> f64 {
    value[name].as_f64().unwrap_or(f64::NAN)
}
