//! Hostile updates by the million: each is refused, held, merged, or at worst ends one process once.
//!
//! `cargo test --test hostile` tries some; `fuzz/hostile.sh` tries four million and prints what became of them. The engine is
//! known to end its process now and then (`docs/HAZARDS.md`), so the work is done in child processes. What is promised, and
//! asserted here: our own code never breaks, memory stays bounded, and whatever kills a server is not let in again.

mod parent;
mod server;
mod shell;
mod stories;
mod worker;

use std::ops::Range;
use std::path::PathBuf;
use std::time::Instant;

use parent::Death;
use parent::End;
use server::Outcome;
use stories::STORIES;
use stories::Step;
use worker::Report;
use worker::Stage;

/// Mutated updates in one sequence, on average.
const UPDATES_PER_SEQUENCE: f64 = 4.5;
const CHILDREN: u64 = 2;
/// A child's resident memory: a hostile sequence is a few kilobytes.
const PEAK_KB_MAX: u64 = 256 << 10;

/// Also the body of every child: it then runs the sequences it was given instead.
#[test]
fn genuine_updates_harm_nobody() {
    if let Ok(task) = std::env::var(parent::TASK) {
        return be_a_child(&task);
    }
    let file = tempfile::tempfile().unwrap();
    for story in STORIES.iter() {
        let mut report = Report::default();
        let steps: Vec<Step> =
            story.updates.iter().map(|update| Step { update: update.clone(), mutated: true }).collect();
        worker::live(&steps, &mut report, &file);
        assert_eq!(report.contained, 0);
    }
}

fn be_a_child(task: &str) {
    let report = PathBuf::from(std::env::var_os(parent::REPORT).expect("the parent says where to report"));
    if task == parent::DIE {
        std::process::abort();
    }
    match task.split_once("..") {
        Some((from, to)) => worker::run(from.parse().unwrap()..to.parse().unwrap(), &report),
        None => {
            let steps: Vec<Step> = std::fs::read_to_string(task).unwrap().lines().map(step_of).collect();
            let file = std::fs::File::create(report).unwrap();
            worker::live(&steps, &mut Report::default(), &file);
        }
    }
}

fn step_of(line: &str) -> Step {
    let (mutated, update) = line.split_once(' ').expect("as it was written");
    Step { update: stories::unhex(update), mutated: mutated == "1" }
}

/// Otherwise a day without deaths would prove nothing.
#[test]
fn a_child_that_dies_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let (end, _) = parent::child(parent::DIE, &dir.path().join("report"));
    assert!(matches!(end, End::Died(_)), "{end:?}");
    let (end, report) = parent::child("7..8", &dir.path().join("report"));
    assert_eq!((end, report.seed), (End::Done, 7));
}

#[test]
fn mutated_updates_are_refused_held_merged_or_contained() {
    let wanted = |name: &str, otherwise: u64| std::env::var(name).ok().map_or(otherwise, |text| text.parse().unwrap());
    let updates = wanted("SYNCLINE_HOSTILE_UPDATES", 40_000);
    let first = wanted("SYNCLINE_HOSTILE_SEED", 0);
    let seeds = (updates as f64 / UPDATES_PER_SEQUENCE).ceil() as u64;
    let began = Instant::now();
    let (report, deaths) = run_all(first..first + seeds);
    println!("{}", summary(&report, &deaths, seeds));
    println!("seconds             {:>10}", began.elapsed().as_secs());
    let broken: Vec<&Death> = deaths.iter().filter(|death| death.end == End::Broke).collect();
    assert!(broken.is_empty(), "our own code broke: {broken:?}");
    assert!(report.peak_kb < PEAK_KB_MAX, "a child grew to {} KiB", report.peak_kb);
    let mut again = Vec::new();
    for death in &deaths {
        let outcome = server::judge(&worker::updates_of(&death.steps), death.stage).unwrap();
        let Death { seed, end, stage, repeats, .. } = death;
        println!("seed {seed}: {end:?} in {stage:?}, repeats: {repeats}; a server: {outcome:?}");
        if matches!(outcome, Outcome::Again(_)) {
            again.push(death.seed);
        }
    }
    assert!(again.is_empty(), "a server dies again and again of the sequences {again:?}");
}

fn run_all(seeds: Range<u64>) -> (Report, Vec<Death>) {
    let share = (seeds.end - seeds.start).div_ceil(CHILDREN);
    let ranges = (0..CHILDREN).map(|child| {
        let from = seeds.start + child * share;
        from..(from + share).min(seeds.end)
    });
    let run = |range: Range<u64>| {
        let dir = tempfile::tempdir().expect("a temporary directory can be made");
        parent::run(range, dir.path())
    };
    std::thread::scope(|scope| {
        let children: Vec<_> = ranges.map(|range| scope.spawn(move || run(range))).collect();
        let mut total = (Report::default(), Vec::new());
        for child in children {
            let (report, deaths) = child.join().expect("a parent does not panic");
            total.0.add(report);
            total.1.extend(deaths);
        }
        total
    })
}

fn summary(report: &Report, deaths: &[Death], sequences: u64) -> String {
    let line = |name: &str, count: u64| format!("{name:<20}{count:>10}\n");
    let mut text = line("sequences", sequences) + &line("mutated updates", report.mutated);
    for (name, count) in [
        ("refused", report.refused),
        ("held", report.held),
        ("merged", report.applied),
        ("nothing new", report.known),
        ("contained", report.contained),
        ("engine panics", report.panics),
        ("not shown as JSON", report.unshown),
        ("peak KiB", report.peak_kb),
    ] {
        text += &line(name, count);
    }
    for stage in Stage::ALL {
        let of = |hung: bool| {
            deaths.iter().filter(|death| death.stage == stage && (death.end == End::Hung) == hung).count() as u64
        };
        text += &format!("{:<20}{:>10} died {:>4} hung\n", format!("in {stage:?}"), of(false), of(true));
    }
    text
}
