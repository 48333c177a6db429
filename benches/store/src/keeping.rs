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
use crate::report::Figure;
use crate::report::Report;
use crate::work::Style;

pub(crate) const MILLION: &str = "10 000 documents, 1 000 000 appends, 3 compactions (one run)";
pub(crate) const DISK: &str = "500 documents, 50 000 appends, 3 compactions";
pub(crate) const OPENING: &str = "Opening 10 000 documents";
pub(crate) const SMALL: &str = "150 MB in 600 documents (one run)";
pub(crate) const LARGE: &str = "600 MB in 2400 documents (one run)";

/// Records of a document in each stretch: 25 before each of three compactions, and 25 behind them.
const DISK_RECORDS: u64 = 25;
/// Documents that write at the same time, and where memory is looked at: what is in flight is the same for any size.
const WRITERS: u64 = 1000;
const WRITERS_FEW: u64 = 50;
/// Average length of an update where none is given: what counts as live.
const UPDATE_BYTES: u64 = 90;

/// How much of the full size is done, in thousandths.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scale(pub(crate) u64);

impl Scale {
    fn of(self, full: u64) -> u64 {
        (full * self.0 / 1000).max(1)
    }
}

/// A million appends of one record each, all documents folded after each quarter but the last. The others take minutes
/// for it.
pub(crate) fn million(report: &mut Report, dir: &Path, kinds: &[Kind], seed: u64, scale: Scale) -> Result<()> {
    kinds.iter().try_for_each(|&kind| disk_of(report, MILLION, kind, dir, 0, seed, scale.of(10_000)))
}

/// The same, a twentieth of it.
pub(crate) fn disk(report: &mut Report, dir: &Path, run: u64, seed: u64, scale: Scale) -> Result<()> {
    Kind::STORES.iter().try_for_each(|&kind| disk_of(report, DISK, kind, dir, run, seed, scale.of(500)))
}

fn disk_of(report: &mut Report, scenario: &str, kind: Kind, dir: &Path, run: u64, seed: u64, docs: u64) -> Result<()> {
    let place = dir.join(format!("disk {}", kind.name()));
    let style = Style::in_batches(seed, 1);
    let (records, writers) = (DISK_RECORDS, WRITERS);
    let fill = Fill { kind, dir: place.clone(), docs, writers, records, folds: 3, tail: 1, style, end: End::Closed };
    let filled = child::run(Task::Fill, &fill)?;
    report.add(scenario, kind, run, &disk_figures(&fill, &filled))?;
    child::run(Task::Check, &fill)?;
    Ok(fs::remove_dir_all(&place)?)
}

#[expect(clippy::cast_precision_loss, reason = "sizes and counts are far below 2^53")]
fn disk_figures(fill: &Fill, filled: &Value) -> Vec<Figure> {
    let appends = fill.docs * fill.records_each();
    let live = (appends * UPDATE_BYTES) as f64;
    vec![
        ("disk / live data", number(filled, "disk") / live),
        ("at most, while running", number(filled, "disk_peak") / live),
        ("appends/s", appends as f64 / number(filled, "append_s")),
        ("s for one compaction of all", number(filled, "fold_s") / fill.folds as f64),
        ("resident at most, MB", number(filled, "resident_peak") / 1e6),
    ]
}

/// Documents with a snapshot and records behind it, opened again and again: after closing, and after the process died.
pub(crate) fn opening(report: &mut Report, dir: &Path, runs: u64, seed: u64, scale: Scale) -> Result<()> {
    let style = Style::in_batches(seed, 1);
    let mut fills = Vec::new();
    for kind in Kind::STORES {
        for (end, column) in [(End::Closed, "after closing, ms"), (End::Dead, "after a crash, ms")] {
            let place = dir.join(format!("{column} {}", kind.name()));
            let docs = scale.of(10_000);
            let fill = Fill { kind, dir: place, docs, writers: WRITERS, records: 2, folds: 1, tail: 1, style, end };
            child::run(Task::Fill, &fill)?;
            fills.push((column, fill));
        }
    }
    for run in 0..runs {
        for (column, fill) in &fills {
            // What a crash left is mended by the first who opens it: each opens a copy.
            let copy = Fill { dir: dir.join("copy"), ..fill.clone() };
            copy_dir(&fill.dir, &copy.dir)?;
            let task = if run == 0 { Task::Check } else { Task::Open };
            let opened = child::run(task, &copy)?;
            report.add(OPENING, fill.kind, run, &[(*column, number(&opened, "open_us") / 1e3)])?;
            fs::remove_dir_all(&copy.dir)?;
        }
    }
    fills.iter().try_for_each(|(_, fill)| Ok(fs::remove_dir_all(&fill.dir)?))
}

/// Documents of one size, enough to fill every cache, then four times as many: half of the data in snapshots, half in the log.
pub(crate) fn memory(report: &mut Report, dir: &Path, seed: u64, scale: Scale) -> Result<()> {
    for (scenario, docs) in [(SMALL, 600), (LARGE, 2400)] {
        for kind in Kind::STORES {
            let style = Style { update_bytes: Some(1000), batch_max: 16, ..Style::of(seed) };
            let place = dir.join(format!("memory {}", kind.name()));
            let (docs, writers, end) = (scale.of(docs), WRITERS_FEW, End::Closed);
            let fill = Fill { kind, dir: place.clone(), docs, writers, records: 125, folds: 1, tail: 1, style, end };
            let filled = child::run(Task::Fill, &fill)?;
            let opened = child::run(Task::Open, &fill)?;
            child::run(Task::Check, &fill)?;
            let figures = [
                ("disk MB", number(&filled, "disk") / 1e6),
                ("resident at most, MB", number(&filled, "resident_peak") / 1e6),
                ("resident MB, after opening", number(&opened, "resident") / 1e6),
                ("opening ms", number(&opened, "open_us") / 1e3),
            ];
            report.add(scenario, kind, 0, &figures)?;
            fs::remove_dir_all(&place)?;
        }
    }
    Ok(())
}

fn copy_dir(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_dir(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

fn number(value: &Value, name: &str) -> f64 {
    value[name].as_f64().unwrap_or(f64::NAN)
}
