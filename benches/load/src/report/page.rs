//! The measured part of the page, in Markdown.

use std::fmt::Write as _;

use crate::compare::record::Session;
use crate::compare::work::Bar;
use crate::compare::work::Unit;
use crate::report::chart;
use crate::report::summary::Figure;
use crate::report::summary::Spread;
use crate::report::summary::Summary;
use crate::report::summary::WorkSummary;

/// Everything between the marks. `charts` is the directory of the charts, as seen from the page.
pub(crate) fn measured(summary: &Summary, charts: &str) -> String {
    let mut page = String::new();
    page.push_str(&bars(summary));
    for (name, _) in chart::all(summary) {
        let _ = writeln!(page, "![{}]({charts}/{name})\n", chart::title(name));
    }
    page.push_str("## Work by work\n\nMedians, and the lowest and highest round in brackets.\n\n");
    summary.works.iter().for_each(|work| page.push_str(&one(work)));
    page.push_str("## Where it was measured\n\n");
    summary.sessions.iter().for_each(|session| page.push_str(&place(session)));
    page
}

/// The table that says what was reached.
fn bars(summary: &Summary) -> String {
    let mut page = "## What Syncline has to reach\n\n| work | figure | median (lowest … highest) | bar | |\n|---|---|---|---|---|\n"
        .to_owned();
    for work in &summary.works {
        for figure in work.figures.iter().filter(|figure| figure.measure.bar != Bar::None) {
            let (bar, unit) = (figure.measure.bar, unit_of(figure));
            let reached = figure.reached.map_or("not measured".to_owned(), |spread| shown(unit, spread));
            let _ = writeln!(
                page,
                "| {} | {} | {reached} | {} | {} |",
                work.work.title,
                figure.what,
                demanded(bar, unit),
                verdict(figure)
            );
        }
    }
    page.push('\n');
    page
}

/// What is compared with the bar is a ratio, or the figure itself.
fn unit_of(figure: &Figure) -> Unit {
    match figure.measure.bar.reference() {
        Some(_) => Unit::Times,
        None => figure.measure.unit,
    }
}

fn demanded(bar: Bar, unit: Unit) -> String {
    match bar {
        Bar::AtMostTimes(target, goal) => format!("≤ {} {}", unit.shown(goal), target.name()),
        Bar::AtLeastTimes(target, goal) => format!("≥ {} {}", unit.shown(goal), target.name()),
        Bar::AtMost(goal) => format!("≤ {}", unit.shown(goal)),
        Bar::AtLeast(goal) => format!("≥ {}", unit.shown(goal)),
        Bar::None => String::new(),
    }
}

fn verdict(figure: &Figure) -> String {
    let bar = figure.measure.bar;
    match figure.reached {
        None => "**not measured**".to_owned(),
        Some(spread) if bar.is_met(spread.median) => "met".to_owned(),
        Some(spread) => match bar.goal() {
            // Nothing was allowed, so a part of it says nothing.
            Some(0.0) => "**missed**".to_owned(),
            _ => format!("**missed by {:.0} %**", (bar.shortfall(spread.median) * 100.0).max(1.0)),
        },
    }
}

/// One piece of work, every server beside the others.
fn one(work: &WorkSummary) -> String {
    let servers = work.work.targets;
    let mut page = format!("### {}\n\n{}\n\n|", work.work.title, work.work.story);
    servers.iter().for_each(|server| page.push_str(&format!(" | {}", server.name())));
    page.push_str(" |\n|---|");
    servers.iter().for_each(|_| page.push_str("---|"));
    page.push('\n');
    for figure in &work.figures {
        let _ = write!(page, "| {}", figure.what);
        for server in servers {
            let spread = figure.servers.iter().find(|(target, _)| target == server);
            let cell = spread.map_or("–".to_owned(), |(_, spread)| shown(figure.measure.unit, *spread));
            let _ = write!(page, " | {cell}");
        }
        page.push_str(" |\n");
    }
    page.push('\n');
    for failure in &work.failures {
        let (name, rounds) = (failure.target.name(), failure.rounds);
        let _ = writeln!(page, "{name} failed in {rounds} of the rounds: {}\n", failure.error);
    }
    page
}

fn shown(unit: Unit, spread: Spread) -> String {
    let Spread { median, min, max } = spread;
    if min == max {
        return unit.shown(median);
    }
    format!("{} ({} … {})", unit.shown(median), unit.number(min), unit.number(max))
}

fn place(session: &Session) -> String {
    let mut page = format!("{} rounds, seed {}.\n\n| | |\n|---|---|\n", session.rounds, session.seed);
    for (name, fact) in &session.facts {
        let _ = writeln!(page, "| {name} | {fact} |");
    }
    page.push('\n');
    page
}
