//! The parent: runs children over ranges of seeds, and writes down what killed them.

use std::io;
use std::ops::Range;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::ExitStatus;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;

use crate::stories::Step;
use crate::stories::hex;
use crate::stories::sequence;
use crate::worker::Report;
use crate::worker::Stage;

/// Where a child reads what it is to do: `from..to`, or a file with one sequence.
pub(crate) const TASK: &str = "SYNCLINE_HOSTILE_TASK";
/// A task that no child survives.
pub(crate) const DIE: &str = "die";
/// Where a child reports.
pub(crate) const REPORT: &str = "SYNCLINE_HOSTILE_REPORT";
/// Address space of one child, in KiB.
const MEMORY_KB: u64 = 2 << 20;
/// A child that stays this long in one step hangs: the longest honest one takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(20);

/// How a child came to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum End {
    /// By itself, with everything done.
    Done,
    /// A signal.
    Died(i32),
    /// We ended it.
    Hung,
    /// It ended itself: a panic of our own code, or a broken law.
    Broke,
}

/// One sequence that ended a child.
#[derive(Debug, Clone)]
pub(crate) struct Death {
    pub(crate) seed: u64,
    pub(crate) end: End,
    pub(crate) stage: Stage,
    /// The smallest sequence that was found to do the same, up to the deadly step.
    pub(crate) steps: Vec<Step>,
    /// Whether a second child died of the same sequence.
    pub(crate) repeats: bool,
}

/// Runs all sequences of `seeds`, going on behind each that is deadly.
pub(crate) fn run(seeds: Range<u64>, dir: &Path) -> (Report, Vec<Death>) {
    let mut total = Report::default();
    let mut deaths = Vec::new();
    let mut next = seeds.start;
    while next < seeds.end {
        let report_file = dir.join(format!("report-{}", seeds.start));
        let (end, report) = child(&format!("{next}..{}", seeds.end), &report_file);
        total.add(report);
        if end == End::Done {
            break;
        }
        next = report.seed + 1;
        deaths.push(examine(end, report, dir));
    }
    (total, deaths)
}

pub(crate) fn child(task: &str, report_file: &Path) -> (End, Report) {
    let _ = std::fs::remove_file(report_file);
    let mut child = spawn(task, report_file).expect("this program can be started once more");
    let mut seen = (u64::MAX, 0, 0);
    let mut since = Instant::now();
    loop {
        if let Some(status) = child.try_wait().expect("a child can be asked for") {
            return (end_of(status), Report::read(report_file).unwrap_or_default());
        }
        let report = Report::read(report_file).unwrap_or_default();
        let place = (report.seed, report.step, report.stage);
        if place != seen {
            (seen, since) = (place, Instant::now());
        } else if since.elapsed() > PATIENCE {
            child.kill().and_then(|()| child.wait()).expect("our own child can be ended");
            return (End::Hung, report);
        }
        std::thread::sleep(POLL); // poll
    }
}

fn spawn(task: &str, report_file: &Path) -> io::Result<Child> {
    // The limit has to be set by the shell: there is no safe way to set it from here.
    let script = format!("ulimit -c 0; ulimit -v {MEMORY_KB}; exec \"$@\"");
    Command::new("sh")
        .args(["-c", &script, "sh"])
        .arg(std::env::current_exe()?)
        .args(["--exact", "genuine_updates_harm_nobody", "--nocapture", "--test-threads=1"])
        .env(TASK, task)
        .env(REPORT, report_file)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
}

fn end_of(status: ExitStatus) -> End {
    match status.signal() {
        Some(signal) => End::Died(signal),
        None if status.success() => End::Done,
        None => End::Broke,
    }
}

/// Looks closer at what ended a child: does it again, and with less.
fn examine(end: End, report: Report, dir: &Path) -> Death {
    let stage = Stage::ALL[report.stage as usize % Stage::ALL.len()];
    let mut steps = sequence(report.seed);
    steps.truncate(report.step as usize + 1);
    let repeats = ends_again(&steps, &end, dir);
    if repeats && end != End::Hung {
        steps = smallest(steps, &end, dir);
    }
    let death = Death { seed: report.seed, end, stage, steps, repeats };
    let lines: String =
        death.steps.iter().map(|step| format!("{} {}\n", u8::from(step.mutated), hex(&step.update))).collect();
    let text = format!("# seed {}, {:?} in {:?}, repeats: {}\n{lines}", death.seed, death.end, stage, repeats);
    let kept = artifacts().join(format!("hostile-{}", death.seed));
    std::fs::write(&kept, &text).expect("a finding can be written down");
    println!("{}: {}", kept.display(), text.lines().next().unwrap_or_default());
    death
}

/// Leaves out one step after the other.
fn smallest(mut steps: Vec<Step>, end: &End, dir: &Path) -> Vec<Step> {
    let mut at = steps.len().saturating_sub(1);
    while at > 0 {
        at -= 1;
        let mut fewer = steps.clone();
        fewer.remove(at);
        if ends_again(&fewer, end, dir) {
            steps = fewer;
        }
    }
    steps
}

fn ends_again(steps: &[Step], end: &End, dir: &Path) -> bool {
    let file = dir.join("one-sequence");
    let lines: String =
        steps.iter().map(|step| format!("{} {}\n", u8::from(step.mutated), hex(&step.update))).collect();
    std::fs::write(&file, lines).expect("a sequence can be written down");
    let (again, _) = child(&file.to_string_lossy(), &dir.join("report-again"));
    // A wild pointer may be fatal in more than one way.
    match (end, again) {
        (End::Died(_), End::Died(_)) => true,
        (end, again) => *end == again,
    }
}

fn artifacts() -> PathBuf {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/artifacts/hostile");
    std::fs::create_dir_all(&dir).expect("a place for findings can be made");
    dir
}
