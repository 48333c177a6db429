//! What it costs to know what an edit changed: the same updates merged plainly, and merged and watched.

use std::hint::black_box;
use std::time::Instant;

use anyhow::Result;
use anyhow::ensure;
use syncline::document::replica::Deleted;
use syncline::document::replica::Replica;
use syncline::document::replica::Watched;
use syncline::table::change::Author;
use syncline::table::change::ChangeSet;
use syncline::table::change::Source;
use syncline::table::register::Register;
use syncline_protocol::update::Entries;

use crate::Sizes;
use crate::material::Edit;
use crate::material::Material;
use crate::material::Where;
use crate::report::Bar;
use crate::report::Report;

/// Edits that one way does before the other has its turn.
const TURN: usize = 500;
const AT_MS: u64 = 1_700_000_000_000;

const EVERYWHERE: &str = "One cell edit in memory, each far from the one before";
const HUNDRED: &str = "One cell edit in memory, in a hundred records";

/// A table as the server has it.
pub(crate) struct Table {
    pub(crate) replica: Replica,
    pub(crate) register: Register,
    author: Author,
}

impl Table {
    pub(crate) fn new(edits: &[Edit]) -> Result<Self> {
        let author =
            Author { user: Some("alice".into()), source: Source::UserAction, correlation_id: None, peer: None };
        let mut table =
            Self { replica: Replica::load(Deleted::Kept, std::iter::empty())?, register: Register::default(), author };
        edits.iter().try_for_each(|edit| table.merge(edit).map(drop))?;
        Ok(table)
    }

    fn merge(&mut self, edit: &Edit) -> Result<Watched> {
        let Self { replica, register, author } = self;
        Ok(replica.apply_to_table(&edit.update, &edit.summary, register, author, AT_MS)?)
    }
}

/// Parts of the way, in turns over the same edits. Nanoseconds of all of them together.
#[derive(Default)]
struct Spent {
    plain: f64,
    watched: f64,
    /// Of the second: finding the touched keys; that and reading them before.
    survey: f64,
    look: f64,
}

pub(crate) fn measure(report: &mut Report, sizes: &Sizes) -> Result<()> {
    let material = Material::new(sizes.records);
    compare(report, sizes, &material, EVERYWHERE, Where::Everywhere)?;
    compare(report, sizes, &material, HUNDRED, Where::HundredRecords)
}

fn compare(report: &mut Report, sizes: &Sizes, material: &Material, title: &'static str, place: Where) -> Result<()> {
    let edits = material.edits(0, place, sizes.edits * sizes.rounds);
    let mut plain = Replica::load(Deleted::Kept, material.table.iter().map(|edit| &edit.update))?;
    let mut table = Table::new(&material.table)?;
    // The parts have a table of their own: they would warm the caches for the whole.
    let mut parts = Table::new(&material.table)?;
    let mut entries = Entries::default();
    material.table.iter().try_for_each(|edit| entries.settle(&edit.update, |_, _| false))?;
    for round in edits.chunks(sizes.edits) {
        let mut spent = Spent::default();
        for turn in round.chunks(TURN) {
            spent.plain += merged(&mut plain, turn)?;
            spent.watched += watched(&mut table, turn)?;
            spent.survey += surveyed(&mut entries, turn)?;
            spent.look += looked_at(&mut parts, turn)?;
        }
        note(report, title, &spent, round.len());
    }
    ensure!(plain.same_history(&table.replica), "both ways have to end with the same content");
    Ok(())
}

fn merged(plain: &mut Replica, turn: &[Edit]) -> Result<f64> {
    let began = Instant::now();
    for edit in turn {
        plain.expect(&edit.summary);
        black_box(plain.apply(&edit.update)?);
    }
    Ok(ns(began))
}

fn watched(table: &mut Table, turn: &[Edit]) -> Result<f64> {
    let began = Instant::now();
    for edit in turn {
        let seen = table.merge(edit)?;
        let as_made = |change: &ChangeSet| change.rows.len() == 1 && change.wrong.is_empty();
        ensure!(matches!(&seen, Watched::Changed(change) if as_made(change)), "one record changes");
        black_box(seen);
    }
    Ok(ns(began))
}

fn surveyed(entries: &mut Entries, turn: &[Edit]) -> Result<f64> {
    let began = Instant::now();
    for edit in turn {
        black_box(entries.survey(&edit.update)?);
    }
    let spent = ns(began);
    for edit in turn {
        let is_deleted = |client, clock| {
            let mut ranges = edit.summary.deletes();
            ranges.any(|range| range.client == client && (range.start..range.end).contains(&clock))
        };
        entries.settle(&edit.update, is_deleted)?;
    }
    Ok(spent)
}

fn looked_at(parts: &mut Table, turn: &[Edit]) -> Result<f64> {
    let began = Instant::now();
    for edit in turn {
        black_box(parts.register.look(&parts.replica.transact(), &edit.update)?);
    }
    let spent = ns(began);
    watched(parts, turn)?;
    Ok(spent)
}

fn note(report: &mut Report, title: &'static str, spent: &Spent, edits: usize) {
    let each = |ns: f64| ns / edits as f64 / 1000.0;
    report.add(title, "merged", "µs", each(spent.plain));
    report.add(title, "merged, and what it changed is known", "µs", each(spent.watched));
    report.add(title, "the difference", "µs", each(spent.watched - spent.plain));
    report.add(title, "the two, as a ratio", "×", spent.watched / spent.plain);
    report.add(title, "part: which keys it touches", "µs", each(spent.survey));
    report.add(title, "part: that, and what stood there", "µs", each(spent.look));
}

pub(crate) fn bars() -> Vec<Bar> {
    let bar = |what, title| Bar { what, title, row: "the difference", at_most: 2.0 };
    vec![
        bar("to know what one cell edit changed, beyond merging it, µs: in a hundred records", HUNDRED),
        bar("the same, each edit far from the one before, µs", EVERYWHERE),
    ]
}

fn ns(since: Instant) -> f64 {
    since.elapsed().as_nanos() as f64
}
