//! What tables cost: `make bench-tables`. One edit in memory, memory for each cell, requests, events, imports.

mod bulk;
mod cost;
mod events;
mod material;
mod memory;
mod patch;
mod report;
mod server;

use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use clap::Parser;

use crate::report::Report;

/// Measures tables of 10 000 records.
#[derive(Debug, Parser)]
struct Args {
    /// Interleaved rounds; medians are printed, with the lowest and the highest.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Only these: cost, memory, patch, events, bulk.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Everything once, small and briefly: whether it works. The figures mean nothing.
    #[arg(long = "test")]
    attempt: bool,
    /// Writes the tables into this page, between its markers, instead of printing them.
    #[arg(long)]
    write: Option<PathBuf>,
    /// Where the servers keep their data: on the disk that is to be measured. A directory in it is used, and deleted.
    #[arg(long, default_value = "target")]
    dir: PathBuf,
    /// What the program asks of itself in another process.
    #[arg(long, hide = true, num_args = 2, value_names = ["TASK", "FILE"])]
    child: Option<Vec<String>>,
    /// As `cargo bench` calls it.
    #[arg(long, hide = true)]
    bench: bool,
}

/// How much is done.
#[derive(Debug, Clone, Copy)]
struct Sizes {
    rounds: usize,
    records: usize,
    /// Edits of one round in memory.
    edits: usize,
    /// Requests of one round over HTTP, each way.
    requests: usize,
    /// How long writers write at full speed.
    stretch: Duration,
}

impl Sizes {
    fn of(args: &Args) -> Self {
        if args.attempt {
            return Self { rounds: 1, records: 200, edits: 500, requests: 64, stretch: Duration::from_millis(100) };
        }
        Self { rounds: args.rounds, records: 10_000, edits: 20_000, requests: 960, stretch: Duration::from_secs(2) }
    }
}

fn main() -> Result<()> {
    let args = Args::parse();
    if let Some([task, file]) = args.child.as_deref() {
        return memory::child(task, Path::new(file));
    }
    let sizes = Sizes::of(&args);
    let dir = tempfile::tempdir_in(&args.dir)?;
    let mut report = Report::default();
    let wanted = |name: &str| args.only.is_empty() || args.only.iter().any(|only| only == name);
    if wanted("cost") {
        cost::measure(&mut report, &sizes)?;
    }
    if wanted("memory") {
        memory::measure(&mut report, &sizes, dir.path())?;
    }
    if wanted("patch") {
        patch::measure(&mut report, &sizes, dir.path())?;
    }
    if wanted("events") {
        events::measure(&mut report, &sizes, dir.path())?;
    }
    if wanted("bulk") {
        bulk::measure(&mut report, &sizes, dir.path())?;
    }
    let text = report.text(&cost::bars());
    match &args.write {
        Some(page) => report::write_between_markers(page, &text)?,
        None => print!("{text}"),
    }
    Ok(())
}
