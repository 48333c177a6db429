//! Results: a JSON line for each measurement, tables of medians for people.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use anyhow::Context;
use anyhow::Result;
use serde_json::json;

use crate::engines::Kind;
use crate::gauge;

/// Where the tables begin and end on a page.
const MARK: &str = "<!-- measured: written by `make bench-store` -->";
const END_MARK: &str = "<!-- end of measured -->";

/// A number with the name of its column. The unit is part of the name.
pub(crate) type Figure = (&'static str, f64);

/// All that was measured.
pub(crate) struct Report {
    lines: File,
    /// By scenario, in the order in which they were measured.
    scenarios: Vec<(String, Scenario)>,
}

#[derive(Default)]
struct Scenario {
    columns: Vec<&'static str>,
    samples: BTreeMap<(&'static str, &'static str), Vec<f64>>,
}

impl Report {
    pub(crate) fn to(lines: &Path) -> Result<Self> {
        Ok(Self { lines: File::create(lines)?, scenarios: Vec::new() })
    }

    /// Takes what one run of one scenario measured of one engine.
    pub(crate) fn add(&mut self, scenario: &str, kind: Kind, run: u64, figures: &[Figure]) -> Result<()> {
        let named: BTreeMap<&str, f64> = figures.iter().copied().collect();
        let line = json!({ "scenario": scenario, "engine": kind.name(), "run": run, "figures": named });
        writeln!(self.lines, "{line}")?;
        let at = self.scenarios.iter().position(|(name, _)| name == scenario).unwrap_or_else(|| {
            self.scenarios.push((scenario.to_owned(), Scenario::default()));
            self.scenarios.len() - 1
        });
        let (_, scenario) = &mut self.scenarios[at];
        for &(column, value) in figures {
            if !scenario.columns.contains(&column) {
                scenario.columns.push(column);
            }
            scenario.samples.entry((kind.name(), column)).or_default().push(value);
        }
        Ok(())
    }

    /// The median of a column over all runs; `None` where it was not measured.
    pub(crate) fn median(&self, scenario: &str, kind: Kind, column: &str) -> Option<f64> {
        let samples = self.samples(scenario, kind, column)?;
        Some(gauge::quantile(&mut samples.clone(), 0.5))
    }

    /// The median of the ratios between two engines, run by run.
    pub(crate) fn ratio(&self, scenario: &str, column: &str, of: Kind, to: Kind) -> Option<f64> {
        let (of, to) = (self.samples(scenario, of, column)?, self.samples(scenario, to, column)?);
        let mut ratios: Vec<f64> = of.iter().zip(to).filter(|(_, to)| **to > 0.0).map(|(of, to)| of / to).collect();
        (!ratios.is_empty()).then(|| gauge::quantile(&mut ratios, 0.5))
    }

    fn samples(&self, scenario: &str, kind: Kind, column: &str) -> Option<&Vec<f64>> {
        let (_, found) = self.scenarios.iter().find(|(name, _)| name == scenario)?;
        found.samples.iter().find(|((engine, name), _)| *engine == kind.name() && *name == column).map(|(_, s)| s)
    }

    /// One Markdown table for each scenario.
    pub(crate) fn tables(&self) -> String {
        let mut text = String::new();
        for (name, scenario) in &self.scenarios {
            let _ = writeln!(text, "### {name}\n\n| engine | {} |", scenario.columns.join(" | "));
            let _ = writeln!(text, "|---{}|", "|---:".repeat(scenario.columns.len()));
            for kind in Kind::ALL {
                let cell = |column: &&str| self.median(name, kind, column).map_or("–".to_owned(), readable);
                let cells: Vec<String> = scenario.columns.iter().map(cell).collect();
                if cells.iter().any(|cell| cell != "–") {
                    let _ = writeln!(text, "| {} | {} |", kind.name(), cells.join(" | "));
                }
            }
            text.push('\n');
        }
        text
    }
}

/// Puts the text between the two comments of a page that say where it belongs.
pub(crate) fn write_between_markers(page: &Path, text: &str) -> Result<()> {
    let former = fs::read_to_string(page)?;
    let (head, rest) = former.split_once(MARK).context("the page has no mark for what was measured")?;
    let (_, tail) = rest.split_once(END_MARK).context("the page has no mark for the end of what was measured")?;
    Ok(fs::write(page, format!("{head}{MARK}\n\n{}\n\n{END_MARK}{tail}", text.trim_end()))?)
}

/// Three digits that matter.
pub(crate) fn readable(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        size if size >= 1000.0 => {
            let digits = format!("{value:.0}");
            let groups: Vec<&str> =
                digits.as_bytes().rchunks(3).rev().filter_map(|group| std::str::from_utf8(group).ok()).collect();
            groups.join(" ")
        }
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}
