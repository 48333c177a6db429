//! What was measured, as tables of medians with the lowest and the highest round.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::Context;
use anyhow::Result;

const MARK: &str = "<!-- measured: written by `make bench-tables` -->";
const END_MARK: &str = "<!-- end of measured -->";

/// A bound on the median of one row.
pub(crate) struct Bar {
    pub(crate) what: &'static str,
    pub(crate) title: &'static str,
    pub(crate) row: &'static str,
    pub(crate) at_most: f64,
}

/// The rounds of each row, by section, in the order in which they were measured.
#[derive(Default)]
pub(crate) struct Report {
    order: Vec<(&'static str, String)>,
    rows: BTreeMap<(&'static str, String), (&'static str, Vec<f64>)>,
}

impl Report {
    /// What one round says of one row.
    pub(crate) fn add(&mut self, title: &'static str, row: &str, unit: &'static str, value: f64) {
        let key = (title, row.to_owned());
        if !self.rows.contains_key(&key) {
            self.order.push(key.clone());
        }
        self.rows.entry(key).or_insert_with(|| (unit, Vec::new())).1.push(value);
    }

    /// Bars first, then a table for each section.
    pub(crate) fn text(&self, bars: &[Bar]) -> String {
        let mut text = String::new();
        let bars: Vec<_> = bars.iter().filter_map(|bar| self.verdict(bar)).collect();
        if !bars.is_empty() {
            let _ = writeln!(text, "### Bars\n\n| bar | asked | seen | |\n|---|---:|---:|---|\n{}", bars.concat());
        }
        let mut titles: Vec<&str> = self.order.iter().map(|(title, _)| *title).collect();
        titles.dedup();
        for title in titles {
            let _ = writeln!(text, "### {title}\n\n| | median (lowest … highest) |\n|---|---:|");
            for key in self.order.iter().filter(|(of, _)| *of == title) {
                let (unit, rounds) = &self.rows[key];
                let _ = writeln!(text, "| {} | {} |", key.1, spread(rounds, unit));
            }
            text.push('\n');
        }
        text
    }

    fn verdict(&self, bar: &Bar) -> Option<String> {
        let (_, rounds) = self.rows.get(&(bar.title, bar.row.to_owned()))?;
        let seen = median(rounds);
        let verdict = if seen <= bar.at_most { "met" } else { "**missed**" };
        Some(format!("| {} | ≤ {} | {} | {verdict} |\n", bar.what, readable(bar.at_most), readable(seen)))
    }
}

fn spread(rounds: &[f64], unit: &str) -> String {
    let (low, high) = rounds.iter().fold((f64::MAX, f64::MIN), |(low, high), &round| (low.min(round), high.max(round)));
    let median = readable(median(rounds));
    if rounds.len() < 2 {
        return format!("{median} {unit}");
    }
    format!("{median} {unit} ({} … {})", readable(low), readable(high))
}

fn median(rounds: &[f64]) -> f64 {
    quantile(&mut rounds.to_vec(), 0.5)
}

/// The value below which this part of the samples lies; 0 when there are none.
pub(crate) fn quantile(samples: &mut [f64], part: f64) -> f64 {
    samples.sort_unstable_by(f64::total_cmp);
    let at = (samples.len() as f64 * part) as usize;
    samples.get(at.min(samples.len().saturating_sub(1))).copied().unwrap_or(0.0)
}

/// Puts the text between the two comments of a page that say where it belongs.
pub(crate) fn write_between_markers(page: &Path, text: &str) -> Result<()> {
    let former = fs::read_to_string(page)?;
    let (head, rest) = former.split_once(MARK).context("the page has no mark for what was measured")?;
    let (_, tail) = rest.split_once(END_MARK).context("the page has no mark for the end of what was measured")?;
    Ok(fs::write(page, format!("{head}{MARK}\n\n{}\n\n{END_MARK}{tail}", text.trim_end()))?)
}

/// Three digits that matter.
fn readable(value: f64) -> String {
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
