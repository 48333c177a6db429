//! The child: gives hostile sequences to documents, one after the other, until one of them kills it. What it is doing, and
//! what it has done, stands in a small file that outlives it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use syncline::document::compact;
use syncline::document::core::ReaderId;
use syncline::document::json;
use syncline::document::replica::Deleted;
use syncline_protocol::channel::Access;
use syncline_protocol::channel::DocumentMessage;
use syncline_protocol::state_vector::StateVector;
use syncline_protocol::update::UpdateLimits;
use syncline_protocol::update::validate;

use crate::shell::Shell;
use crate::stories::Step;
use crate::stories::sequence;

/// What was being done to a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    Apply,
    Encode,
    Json,
    Compact,
    Load,
}

impl Stage {
    pub(crate) const ALL: [Self; 5] = [Self::Apply, Self::Encode, Self::Json, Self::Compact, Self::Load];
}

const FIELDS: usize = 12;

/// What a child has done. The first three fields say where it is.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Report {
    pub(crate) seed: u64,
    pub(crate) step: u64,
    pub(crate) stage: u64,
    pub(crate) mutated: u64,
    pub(crate) refused: u64,
    pub(crate) held: u64,
    pub(crate) applied: u64,
    pub(crate) known: u64,
    pub(crate) contained: u64,
    pub(crate) panics: u64,
    pub(crate) peak_kb: u64,
    pub(crate) unshown: u64,
}

impl Report {
    fn fields(&mut self) -> [&mut u64; FIELDS] {
        [
            &mut self.seed,
            &mut self.step,
            &mut self.stage,
            &mut self.mutated,
            &mut self.refused,
            &mut self.held,
            &mut self.applied,
            &mut self.known,
            &mut self.contained,
            &mut self.panics,
            &mut self.peak_kb,
            &mut self.unshown,
        ]
    }

    fn write(mut self, file: &File) {
        let bytes: Vec<u8> = self.fields().into_iter().flat_map(|field| field.to_le_bytes()).collect();
        file.write_all_at(&bytes, 0).expect("the report can be written");
    }

    pub(crate) fn read(path: &Path) -> io::Result<Self> {
        let bytes = std::fs::read(path)?;
        let mut report = Self::default();
        for (field, bytes) in report.fields().into_iter().zip(bytes.as_chunks::<8>().0) {
            *field = u64::from_le_bytes(*bytes);
        }
        Ok(report)
    }

    pub(crate) fn add(&mut self, mut other: Self) {
        let peak = self.peak_kb.max(other.peak_kb);
        for (mine, theirs) in self.fields().into_iter().zip(other.fields()) {
            *mine += *theirs;
        }
        self.peak_kb = peak;
    }
}

static PANICS: AtomicU64 = AtomicU64::new(0);

/// Runs the sequences of these seeds.
pub(crate) fn run(seeds: std::ops::Range<u64>, report: &Path) {
    // The engine's panics are contained and counted; a million backtraces help nobody. One of our own still ends the child.
    std::panic::set_hook(Box::new(|info| {
        PANICS.fetch_add(1, Ordering::Relaxed);
        let engine = info.location().is_some_and(|at| at.file().contains("yrs") || at.file().contains("rustc"));
        if !engine {
            eprintln!("{info}");
        }
    }));
    let file = File::create(report).expect("the report can be made");
    let mut report = Report::default();
    for seed in seeds {
        report.seed = seed;
        live(&sequence(seed), &mut report, &file);
        if seed % 256 == 0 {
            report.peak_kb = peak_kb();
        }
    }
    report.peak_kb = peak_kb();
    report.write(&file);
}

/// One document's life, up to a new start.
pub(crate) fn live(steps: &[Step], report: &mut Report, file: &File) {
    let mut shell = Shell::new();
    shell.answer_all();
    let slow = shell.join(Access::Read);
    shell.say(slow, DocumentMessage::SyncStep1(StateVector::default().encode()));
    shell.full.insert(slow);
    for (index, step) in steps.iter().enumerate() {
        at(report, file, index, Stage::Apply);
        give(&mut shell, slow, step, report);
    }
    at(report, file, steps.len(), Stage::Encode);
    shell.drained(slow);
    let half: StateVector = shell.core.replica().into_iter().flat_map(|r| r.clocks().iter()).map(halved).collect();
    let reader = shell.join(Access::Read);
    shell.say(reader, DocumentMessage::SyncStep1(half.encode()));
    let state = shell.state();
    at(report, file, steps.len(), Stage::Json);
    if let Some(state) = state {
        report.unshown += u64::from(json::render(&state).is_err());
    }
    at(report, file, steps.len(), Stage::Compact);
    let _ = compact::build(shell.stored(), Deleted::Collected);
    at(report, file, steps.len(), Stage::Load);
    shell.start_again();
    let _ = shell.state();
    shell.rest();
}

fn halved((client, clock): (u64, u32)) -> (u64, u32) {
    (client, clock / 2)
}

fn at(report: &mut Report, file: &File, step: usize, stage: Stage) {
    report.step = step as u64;
    report.stage = stage as u64;
    report.panics = PANICS.load(Ordering::Relaxed);
    report.write(file);
}

/// The attacker sends one update, on a new connection where the last one was ended.
fn give(shell: &mut Shell, slow: ReaderId, step: &Step, report: &mut Report) {
    let connected = shell.readers.iter().copied().find(|&reader| reader != slow);
    let attacker = connected.unwrap_or_else(|| shell.join(Access::Write));
    let before = shell.counts;
    shell.say(attacker, DocumentMessage::Update(step.update.clone()));
    shell.answer_all();
    for ended in std::mem::take(&mut shell.ended) {
        shell.leave(ended);
    }
    shell.answer_all();
    if !step.mutated {
        return;
    }
    report.mutated += 1;
    let count = if validate(&step.update, &UpdateLimits::default()).is_err() {
        &mut report.refused
    } else if shell.counts.poisoned > before.poisoned {
        &mut report.contained
    } else if shell.counts.out_of_order > before.out_of_order {
        &mut report.held
    } else if shell.counts.applied > before.applied {
        &mut report.applied
    } else {
        &mut report.known
    };
    *count += 1;
}

fn peak_kb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// What the sequence of a seed sends, for a report.
pub(crate) fn updates_of(steps: &[Step]) -> Vec<Bytes> {
    steps.iter().map(|step| step.update.clone()).collect()
}
