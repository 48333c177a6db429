//! The bars that the store is held to, and how far it is from them.

use std::fmt::Write as _;

use crate::engines::Kind;
use crate::keeping;
use crate::latency;
use crate::report::Report;
use crate::report::readable;
use crate::throughput;

/// A bar: what it is about, what was seen, and what is asked.
struct Bar {
    what: String,
    seen: Option<f64>,
    asked: Asked,
}

#[derive(Clone, Copy)]
enum Asked {
    AtMost(f64),
    AtLeast(f64),
}

impl Asked {
    fn met(self, seen: f64) -> bool {
        match self {
            Self::AtMost(bound) => seen <= bound,
            Self::AtLeast(bound) => seen >= bound,
        }
    }

    fn text(self) -> String {
        match self {
            Self::AtMost(bound) => format!("≤ {}", readable(bound)),
            Self::AtLeast(bound) => format!("≥ {}", readable(bound)),
        }
    }
}

fn bars(report: &Report) -> Vec<Bar> {
    let ours = |scenario: &str, column: &str| report.median(scenario, Kind::Ours, column);
    let bar = |what: &str, seen: Option<f64>, asked: Asked| Bar { what: what.to_owned(), seen, asked };
    let mut bars = vec![bar(
        "one record, durable, p50: × a bare append and fdatasync",
        report.ratio(latency::SCENARIO, "p50 µs", Kind::Ours, Kind::Bare),
        Asked::AtMost(1.5),
    )];
    for batch in throughput::BATCHES {
        let scenario = throughput::scenario(batch);
        let what = format!("durable records/s, {scenario}");
        bars.push(bar(&what, ours(&scenario, "records/s"), Asked::AtLeast(100_000.0)));
    }
    let memory = |scenario| ours(scenario, "resident at most, MB");
    let growth = memory(keeping::LARGE).zip(memory(keeping::SMALL)).map(|(large, small)| large / small);
    let million = |column| ours(keeping::MILLION, column);
    bars.extend([
        bar("a million appends: disk, × live data, at rest", million("disk / live data"), Asked::AtMost(4.0)),
        bar("a million appends: disk, × live data, at most", million("at most, while running"), Asked::AtMost(4.0)),
        bar("four times the data: × resident memory", growth, Asked::AtMost(1.5)),
        bar(
            "opening 10 000 documents after closing, ms",
            ours(keeping::OPENING, "after closing, ms"),
            Asked::AtMost(1000.0),
        ),
        bar(
            "opening 10 000 documents after a crash, ms",
            ours(keeping::OPENING, "after a crash, ms"),
            Asked::AtMost(1000.0),
        ),
    ]);
    bars
}

/// The bars that this run says something about, as a Markdown table.
pub(crate) fn table(report: &Report) -> String {
    let mut text = "### Bars\n\n| bar | asked | seen | |\n|---|---:|---:|---|\n".to_owned();
    for bar in bars(report) {
        let Some(seen) = bar.seen else { continue };
        let verdict = if bar.asked.met(seen) { "met" } else { "**missed**" };
        let _ = writeln!(text, "| {} | {} | {} | {verdict} |", bar.what, bar.asked.text(), readable(seen));
    }
    text
}
