//! Puts the same load on Syncline and on the servers people would otherwise pick, and checks what arrives.
//!
//! ```text
//!   core 0: the server under load            core 1: this program, one thread
//!   /proc/<pid>: processor time, memory ◀──── scenario ──▶ client (epoll, both dialects) ──▶ account (content)
//! ```
//!
//! `run` makes one measurement and prints one JSON line; `compare` makes many, interleaved; `report` writes the tables;
//! `relay` is the server to measure against: it only copies frames.

mod account;
mod client;
mod compare;
mod edit;
mod relay;
mod report;
mod scenario;
#[allow(dead_code, reason = "restarts and tokens are for scenarios of their own")]
mod target;

use anyhow::Result;
use clap::Parser;

#[derive(Debug, Parser)]
#[command(name = "syncline-load", about = "Load for servers that speak Yjs, checked by content")]
enum Cli {
    /// One scenario against one server: one JSON line on standard output.
    Run(Box<scenario::Args>),
    /// Several scenarios against several servers, interleaved.
    Compare(compare::Args),
    /// Tables out of JSON lines.
    Report(report::Args),
    /// A server that copies frames between the clients of a document and knows nothing else.
    Relay(relay::Args),
}

fn main() -> Result<()> {
    match Cli::parse() {
        Cli::Run(args) => scenario::main(&args),
        Cli::Compare(args) => compare::main(&args),
        Cli::Report(args) => report::main(&args),
        Cli::Relay(args) => relay::main(&args),
    }
}
