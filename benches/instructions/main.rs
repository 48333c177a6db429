//! Runs one hot path so many times: `scripts/instructions.sh` lets valgrind count the instructions of it.
//!
//! ```text
//! syncline-instructions          the names of the paths, and how often each runs
//! syncline-instructions NAME     prepares NAME, warms it up, runs it
//! ```
//!
//! Only what happens inside of [`counted_rounds`] is counted, by the name of that function: start and preparation cost
//! what they like (one of our libraries calibrates a clock until it is content). Inputs are the same on every run. Where
//! an operation leaves something behind (a document that grows), it is one of many alike.

mod document;
#[path = "../material.rs"]
mod material;
mod paths;
mod room;

use std::env;
use std::process::exit;

use paths::Operation;
use paths::PATHS;
use paths::Path;

/// The first rounds fill caches, grow buffers and initialise what is initialised once: one for so many that are counted.
const WARM_UP_SHARE: usize = 8;

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => PATHS.iter().for_each(|path| println!("{} {}", path.name, path.rounds)),
        [name] => run(found(name)),
        _ => usage(),
    }
}

fn run(path: &Path) {
    let warm_up = path.rounds.div_ceil(WARM_UP_SHARE);
    let mut operation = (path.prepare)(warm_up + path.rounds);
    (0..warm_up).for_each(&mut operation);
    counted_rounds(&mut operation, warm_up, path.rounds);
    // Nobody waits for what is tidied up after the last round.
    exit(0);
}

/// Known to `scripts/instructions.sh` by name.
#[inline(never)]
fn counted_rounds(operation: &mut Operation, from: usize, rounds: usize) {
    (from..from + rounds).for_each(operation);
}

fn found(name: &str) -> &'static Path {
    PATHS.iter().find(|path| path.name == name).unwrap_or_else(|| usage())
}

fn usage() -> ! {
    eprintln!("syncline-instructions [NAME]; without a name: the names");
    exit(2);
}
