//! `syncline-load compare`: every piece of work on every server, interleaved, one process per run.
//!
//! ```text
//!   round 1: fanout-10 on relay, syncline, hocuspocus, …   fanout-100 on …   …
//!   round 2: the same, each time in another order
//! ```
//!
//! A round puts the servers side by side in time, so its ratios hold even when the machine is not quite at rest; the
//! rounds lie apart, so that the median does not stand on one moment.
//!
//! | module | what it is for |
//! |---|---|
//! | [`work`] | what is done, to whom, and the bar |
//! | [`works`] | the list of it |
//! | [`record`] | the lines that are written down |
//! | [`machine`] | where it was done, and with which versions |

pub(crate) mod machine;
pub(crate) mod record;
pub(crate) mod work;
pub(crate) mod works;

use std::fs;
use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;
use std::process::Stdio;
use std::time::Instant;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use anyhow::ensure;
use clap::ValueEnum;
use serde_json::Map;
use serde_json::Value;

use crate::compare::record::Line;
use crate::compare::record::Run;
use crate::compare::work::Work;
use crate::compare::works::WORKS;
use crate::target::TargetKind;

/// Seconds that `--quick` measures and warms up: enough to see that it works, not to say how fast.
const QUICK_SECONDS: f64 = 1.0;
const QUICK_WARMUP: f64 = 0.5;

/// What `compare` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Measured runs of every piece of work on every server.
    #[arg(long, default_value_t = 5)]
    runs: u32,
    /// Only this work, by name, separated by commas.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Only these servers.
    #[arg(long, value_delimiter = ',')]
    targets: Vec<TargetKind>,
    /// One short run each: whether it works, not how fast it is.
    #[arg(long)]
    quick: bool,
    /// Decides the order and everything else that is left to chance.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where the lines are written; what is there is replaced.
    #[arg(long, default_value = "benches/results/compare.jsonl")]
    out: PathBuf,
    /// Another Syncline than `target/release/syncline`.
    #[arg(long)]
    program: Option<PathBuf>,
    /// Names the work there is, and does nothing.
    #[arg(long)]
    list: bool,
}

impl Args {
    fn rounds(&self) -> u32 {
        if self.quick { 1 } else { self.runs }
    }

    fn works(&self) -> Result<Vec<&'static Work>> {
        let unknown = self.only.iter().find(|name| !WORKS.iter().any(|work| work.name == **name));
        ensure!(unknown.is_none(), "there is no work named {}: see --list", unknown.map_or("", |name| name));
        let is_wanted = |work: &&Work| self.only.is_empty() || self.only.iter().any(|name| *name == work.name);
        Ok(WORKS.iter().filter(is_wanted).collect())
    }

    /// Every server that does any of it.
    fn all_targets(&self, works: &[&'static Work]) -> Vec<TargetKind> {
        let all = TargetKind::value_variants().iter().copied();
        let is_wanted = |target: &TargetKind| works.iter().any(|work| self.order(work, 0, 0).contains(target));
        all.filter(is_wanted).collect()
    }

    /// The servers for one piece of work, each round beginning with another.
    fn order(&self, work: &Work, place: usize, round: u32) -> Vec<TargetKind> {
        let is_wanted = |target: &TargetKind| self.targets.is_empty() || self.targets.contains(target);
        let mut targets: Vec<_> = work.targets.iter().copied().filter(is_wanted).collect();
        let count = targets.len().max(1);
        targets.rotate_left((self.seed as usize + place + round as usize) % count);
        targets
    }
}

/// Runs it, tells on standard error how it goes, and writes the lines.
///
/// # Errors
/// When something is missing, or Syncline fails at some work. What others fail at is written down.
pub(crate) fn main(args: &Args) -> Result<()> {
    if args.list {
        WORKS.iter().for_each(|work| println!("{:<14} {}", work.name, work.title));
        return Ok(());
    }
    // Whoever measures an unoptimised relay, or an unoptimised client, measures nothing.
    ensure!(!cfg!(debug_assertions), "this is a debug build: use `cargo run --release -p syncline-load`");
    let works = args.works()?;
    let mut notes = Notes::begin(args)?;
    let targets = args.all_targets(&works);
    notes.write(&Line::Session(machine::session(args.seed, args.rounds(), &targets, args.program.as_deref())?))?;
    let began = Instant::now();
    let mut failures = Vec::new();
    for round in 1..=args.rounds() {
        for (place, work) in works.iter().enumerate() {
            for target in args.order(work, place, round) {
                let run = measure(args, work, target, round)?;
                eprintln!("{:>5.0} s  {round}/{}  {}", began.elapsed().as_secs_f64(), args.rounds(), run.told(work));
                if run.error.is_some() && target == TargetKind::Syncline {
                    failures.push(format!("{} in round {round}", work.name));
                }
                notes.write(&Line::Run(run))?;
            }
        }
    }
    eprintln!("written: {}", args.out.display());
    if !failures.is_empty() {
        bail!("syncline failed: {}", failures.join(", "));
    }
    Ok(())
}

/// One run in a process of its own: nothing of the last one is left in its memory or its caches.
fn measure(args: &Args, work: &Work, target: TargetKind, round: u32) -> Result<Run> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["run", "--scenario", &value_name(work.scenario)?, "--target", &value_name(target)?]);
    command.args(["--seed", &(args.seed + u64::from(round)).to_string()]).args(work.args);
    let (seconds, warmup) = if args.quick { (QUICK_SECONDS, QUICK_WARMUP) } else { (work.seconds, work.warmup) };
    command.args(["--seconds", &seconds.to_string(), "--warmup", &warmup.to_string()]);
    if let Some(program) = args.program.as_ref().filter(|_| target == TargetKind::Syncline) {
        command.arg("--program").arg(program);
    }
    let output = command.env("RUST_LIB_BACKTRACE", "0").stdin(Stdio::null()).output()?;
    let run = Run { work: work.name.to_owned(), round, target, outcome: Map::new(), error: None };
    if !output.status.success() {
        let error = one_line(&String::from_utf8_lossy(&output.stderr));
        return Ok(Run { error: Some(error), ..run });
    }
    let outcome: Value = serde_json::from_slice(&output.stdout).context("a run did not print one JSON line")?;
    let Value::Object(outcome) = outcome else { bail!("a run did not print an object") };
    Ok(Run { outcome, ..run })
}

/// What a failed run says, with its causes, outermost first.
fn one_line(error: &str) -> String {
    let lines = error.lines().map(str::trim).filter(|line| !line.is_empty() && *line != "Caused by:");
    lines.collect::<Vec<_>>().join("; ")
}

/// How a value is written on the command line.
fn value_name(value: impl ValueEnum) -> Result<String> {
    let value = value.to_possible_value().context("every value has a name")?;
    Ok(value.get_name().to_owned())
}

/// The file of lines, written as they come: a session that is cut short leaves what it has.
struct Notes(File);

impl Notes {
    fn begin(args: &Args) -> Result<Self> {
        let dir = args.out.parent().filter(|dir| !dir.as_os_str().is_empty());
        dir.map(fs::create_dir_all).transpose()?;
        Ok(Self(File::create(&args.out).with_context(|| args.out.display().to_string())?))
    }

    fn write(&mut self, line: &Line) -> Result<()> {
        let mut text = serde_json::to_string(line)?;
        text.push('\n');
        Ok(self.0.write_all(text.as_bytes())?)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    fn args(words: &[&str]) -> Args {
        Cli::parse_from([&["compare"], words].concat()).args
    }

    #[test]
    fn every_server_comes_first_as_often_as_the_others() {
        let args = args(&[]);
        for (place, work) in WORKS.iter().enumerate() {
            let count = work.targets.len();
            let firsts: std::collections::BTreeSet<_> =
                (1..=count as u32).map(|round| value_name(args.order(work, place, round)[0]).unwrap()).collect();
            assert_eq!(firsts.len(), count, "{}", work.name);
        }
    }

    #[test]
    fn work_is_chosen_by_name_and_a_wrong_name_is_an_error() {
        let name = WORKS[1].name;
        let chosen: Vec<_> = args(&["--only", name]).works().unwrap().iter().map(|work| work.name).collect();
        assert_eq!(chosen, [name]);
        assert_eq!(args(&[]).works().unwrap().len(), WORKS.len());
        assert!(args(&["--only", "nothing"]).works().is_err());
    }

    #[test]
    fn servers_are_chosen_by_name() {
        let args = args(&["--targets", "relay,y-websocket-server"]);
        assert!(
            args.order(&WORKS[0], 0, 1)
                .iter()
                .all(|target| { matches!(target, TargetKind::Relay | TargetKind::YWebsocketServer) })
        );
    }
}
