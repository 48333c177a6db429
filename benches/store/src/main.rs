//! What the local store costs beside a bare append, sled alone, redb and fjall: `make bench-store`.
//!
//! All of them do the same work in one run, in turns, so that what else the machine does hits all of them; what counts
//! are the ratios. After each measurement everything that was acknowledged is read back from a newly opened store and
//! compared. A missed bar is printed as such and is no error; content that differs is one.

mod bars;
mod child;
mod engines;
mod gauge;
mod keeping;
mod latency;
mod load;
mod report;
mod subject;
mod throughput;
mod verify;
mod work;

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use clap::Parser;
use clap::Subcommand;

use crate::engines::Kind;
use crate::keeping::Scale;
use crate::report::Report;

/// Measures the local store beside a bare append, sled, redb and fjall.
#[derive(Debug, Parser)]
struct Args {
    /// Interleaved runs of the short measurements; medians are printed.
    #[arg(long, default_value_t = 5)]
    runs: u64,
    /// Everything that is written follows from it.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where to write: on the disk that is to be measured. A directory in it is used, and deleted in the end.
    #[arg(long, default_value = "target/bench-store")]
    dir: PathBuf,
    /// Only these: latency, throughput, disk, million, opening, memory, and load, which is else left out.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Lets the other engines do a million appends too. They take a quarter of an hour for it.
    #[arg(long)]
    full: bool,
    /// Writes the tables into this file, between its markers, instead of printing them.
    #[arg(long)]
    write: Option<PathBuf>,
    /// A few seconds in all, to see that it works. Its figures mean nothing.
    #[arg(long = "try")]
    attempt: bool,
    #[command(subcommand)]
    work: Option<Work>,
}

#[derive(Debug, Subcommand)]
enum Work {
    /// What the program asks of itself in another process.
    #[command(hide = true)]
    Child { task: String, fill: String },
}

/// How much is done.
struct Sizes {
    runs: u64,
    appends_alone: u64,
    crowd: Duration,
    load_appends: u64,
    scale: Scale,
}

impl Sizes {
    fn of(args: &Args) -> Self {
        if args.attempt {
            let crowd = Duration::from_millis(50);
            return Self { runs: 1, appends_alone: 50, crowd, load_appends: 50, scale: Scale(10) };
        }
        let crowd = Duration::from_millis(300);
        Self { runs: args.runs, appends_alone: 1000, crowd, load_appends: 1000, scale: Scale(1000) }
    }
}

fn main() -> Result<()> {
    let args = Args::parse();
    if let Some(Work::Child { task, fill }) = &args.work {
        return child::main(task, fill);
    }
    fs::create_dir_all(&args.dir)?;
    let lines = args.dir.join("results.jsonl");
    let mut report = Report::to(&lines)?;
    let place = args.dir.join("data");
    remove(&place)?;
    measure(&args, &mut report, &place)?;
    remove(&place)?;
    let text = format!("{}\n{}", bars::table(&report), report.tables());
    eprintln!("JSON lines: {}", lines.display());
    if let Some(page) = &args.write {
        return report::write_between_markers(page, &text);
    }
    print!("{text}");
    Ok(())
}

fn measure(args: &Args, report: &mut Report, place: &Path) -> Result<()> {
    let sizes = Sizes::of(args);
    let wanted = |name: &str| {
        let usual = args.only.is_empty() && (name != "load" || args.attempt);
        usual || args.only.iter().any(|only| only == name)
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_time().build()?;
    for run in 0..sizes.runs {
        // Another seed for each run, so that no run repeats another's luck.
        let (seed, dir) = (args.seed.wrapping_mul(1000) + run, place.join(run.to_string()));
        if wanted("latency") {
            latency::measure(report, &runtime, &dir.join("latency"), run, seed, sizes.appends_alone)?;
        }
        if wanted("throughput") {
            throughput::measure(report, &runtime, &dir, run, seed, sizes.crowd)?;
        }
        if wanted("disk") {
            keeping::disk(report, &dir, run, seed, sizes.scale)?;
        }
        if wanted("load") {
            load::measure(report, &runtime, &dir, run, seed, sizes.load_appends)?;
        }
        remove(&dir)?;
    }
    if wanted("million") {
        let kinds: &[Kind] = if args.full { &Kind::STORES } else { &[Kind::Ours] };
        keeping::million(report, place, kinds, args.seed, sizes.scale)?;
    }
    if wanted("opening") {
        keeping::opening(report, place, sizes.runs, args.seed, sizes.scale)?;
    }
    if wanted("memory") {
        keeping::memory(report, place, args.seed, sizes.scale)?;
    }
    Ok(())
}

fn remove(dir: &Path) -> Result<()> {
    if dir.exists() {
        fs::remove_dir_all(dir)?;
    }
    Ok(())
}
