//! `syncline-load run`: one scenario against one server, one JSON line.
//!
//! | module | what it is for |
//! |---|---|
//! | [`outcome`] | the JSON line |
//! | [`stage`] | a server and the clients on it; from warm-up to the last delivery |
//! | [`meter`] | processor time and memory between two moments |
//! | [`pace`] | what is due when |
//! | [`reading`] | a large document and those who open it |
//! | [`whole`] | whether a client has everything that a document holds |
//! | [`fanout`] | one writer, many readers: at full speed, or at a rate |
//! | [`awareness`] | everybody moves a cursor |
//! | [`pairs`] | many documents with two authors each |
//! | [`typing`] | one writer in a large document |
//! | [`idle`] | many connections that do nothing |
//! | [`joins`] | many clients open one large document at once |
//! | [`restart`] | the first client after a restart opens a large document |
//! | [`table`] | a large table, several people change cells |
//! | [`crash`] | SIGKILL right after an acknowledgement |
//! | [`slow_reader`] | a reader stops reading, and reads again |

mod awareness;
mod crash;
mod fanout;
mod idle;
mod joins;
mod meter;
mod outcome;
mod pace;
mod pairs;
mod reading;
mod restart;
mod slow_reader;
mod stage;
mod table;
mod typing;
mod whole;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use anyhow::Result;
use rustix::process::Resource;
use rustix::process::Rlimit;
use rustix::thread::CpuSet;

pub(crate) use outcome::Outcome;
pub(crate) use stage::Stage;

use crate::target::Access;
use crate::target::StartOptions;
use crate::target::TargetKind;

/// What is done to a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Scenario {
    /// One writer at full speed, `--readers` readers.
    Fanout,
    /// One writer at `--rate`, `--readers` readers.
    Paced,
    /// `--clients` clients in one document, each with `--rate` states a second.
    Awareness,
    /// `--documents` documents with two clients each who both write, `--rate` updates a second in all.
    Pairs,
    /// The same, for the highest rate whose 99th percentile of latency is below 100 ms.
    PairsMax,
    /// One writer at `--rate` in a document of `--bytes`, `--readers` readers.
    Typing,
    /// `--clients` connections at rest, a document each.
    Idle,
    /// `--clients` clients open a document of `--bytes` at once.
    Joins,
    /// The first client after a restart opens a document of `--bytes`.
    Restart,
    /// A table of 10 000 records, four writers with `--rate` changes a second in all, `--readers` readers.
    Table,
    /// SIGKILL right after the last of so many acknowledgements; what is missing afterwards.
    Crash,
    /// `--readers` readers and one that stops reading while 100 MB go by.
    SlowReader,
}

/// What `run` takes. Counts and rates have the scenario's own defaults.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Args {
    /// What is done.
    #[arg(long)]
    pub(crate) scenario: Scenario,
    /// Which server.
    #[arg(long)]
    pub(crate) target: TargetKind,
    /// Decides everything that is left to chance.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// How long is measured.
    #[arg(long, default_value_t = 5.0)]
    pub(crate) seconds: f64,
    /// How long the load runs before that.
    #[arg(long, default_value_t = 1.0)]
    pub(crate) warmup: f64,
    /// Clients that only read.
    #[arg(long)]
    pub(crate) readers: Option<usize>,
    /// Clients that do everything.
    #[arg(long)]
    pub(crate) clients: Option<usize>,
    /// Documents.
    #[arg(long)]
    pub(crate) documents: Option<usize>,
    /// Updates a second in all; for `awareness`, states a second of each client.
    #[arg(long)]
    pub(crate) rate: Option<f64>,
    /// Size of the document that is there at the start.
    #[arg(long, default_value_t = 500_000)]
    pub(crate) bytes: usize,
    /// Clients that wrote that document before.
    #[arg(long, default_value_t = 1000)]
    pub(crate) authors: usize,
    /// A writer at full speed is at most so many updates ahead of the slowest reader.
    #[arg(long, default_value_t = 1000)]
    pub(crate) window: u64,
    /// A server that runs already. Without it one is started on an empty directory.
    #[arg(long, requires = "pid")]
    pub(crate) addr: Option<SocketAddr>,
    /// Its process.
    #[arg(long, requires = "addr")]
    pub(crate) pid: Option<u32>,
    /// Another Syncline than `target/release/syncline`.
    #[arg(long)]
    pub(crate) program: Option<PathBuf>,
    /// A variable of the server's environment, as NAME=VALUE.
    #[arg(long = "env", value_parser = variable)]
    pub(crate) variables: Vec<(String, String)>,
    /// The processor of the server.
    #[arg(long, default_value_t = 0)]
    pub(crate) server_core: usize,
    /// The processor of this program.
    #[arg(long, default_value_t = 1)]
    pub(crate) core: usize,
}

impl Args {
    /// How a server is started for them.
    pub(crate) fn start_options(&self) -> StartOptions {
        let mut variables = self.variables.clone();
        if self.scenario == Scenario::SlowReader {
            // A document remembers what was overwritten in it, so this one grows beyond what is allowed by default.
            variables.push(("SYNCLINE_LIMITS__DOC_BYTES".to_owned(), "0".to_owned()));
        }
        StartOptions { core: self.server_core, access: self.access(), program: self.program.clone(), variables }
    }

    /// Who may connect: opening connections is measured with everything that belongs to it.
    pub(crate) fn access(&self) -> Access {
        if self.scenario == Scenario::Idle { Access::Token } else { Access::Open }
    }

    /// How long the load runs before it is measured.
    pub(crate) fn warmup(&self) -> Duration {
        Duration::from_secs_f64(self.warmup)
    }

    /// How long is measured.
    pub(crate) fn measured(&self) -> Duration {
        Duration::from_secs_f64(self.seconds)
    }
}

/// Runs it and prints one JSON line.
///
/// # Errors
/// When the server does not start, or what arrived is not what was sent.
pub(crate) fn main(args: &Args) -> Result<()> {
    println!("{}", serde_json::to_string(&run(args)?)?);
    Ok(())
}

/// Runs it.
///
/// # Errors
/// As [`main`].
pub(crate) fn run(args: &Args) -> Result<Outcome> {
    bind_to(args.core)?;
    raise_open_files()?;
    let stage = Stage::new(args)?;
    match args.scenario {
        Scenario::Fanout => fanout::at_full_speed(args, stage),
        Scenario::Paced => fanout::at_a_rate(args, stage),
        Scenario::Awareness => awareness::run(args, stage),
        Scenario::Pairs => pairs::at_a_rate(args, stage),
        Scenario::PairsMax => pairs::at_the_highest_rate(args, stage),
        Scenario::Typing => typing::run(args, stage),
        Scenario::Idle => idle::run(args, stage),
        Scenario::Joins => joins::run(args, stage),
        Scenario::Restart => restart::run(args, stage),
        Scenario::Table => table::run(args, stage),
        Scenario::Crash => crash::run(args, stage),
        Scenario::SlowReader => slow_reader::run(args, stage),
    }
}

fn bind_to(core: usize) -> Result<()> {
    let mut cores = CpuSet::new();
    cores.set(core);
    rustix::thread::sched_setaffinity(None, &cores).with_context(|| format!("there is no processor {core}"))
}

/// As many open files as may be had, for this process and for the server that it starts.
fn raise_open_files() -> Result<()> {
    let Rlimit { maximum, .. } = rustix::process::getrlimit(Resource::Nofile);
    Ok(rustix::process::setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?)
}

fn variable(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// What `run` makes of these words.
#[cfg(test)]
fn args_of(words: &[&str]) -> Args {
    #[derive(clap::Parser)]
    struct Run {
        #[command(flatten)]
        args: Args,
    }
    let words = std::iter::once("run").chain(words.iter().copied());
    <Run as clap::Parser>::try_parse_from(words).expect("the words of a test are well chosen").args
}
