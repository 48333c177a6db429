//! Work that is done in a process of its own, so that its memory is its own: fill a directory, or open one.

use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use anyhow::Context;
use anyhow::Result;
use anyhow::ensure;
use serde_json::Value;
use serde_json::json;
use tokio::runtime::Runtime;

use crate::engines::Kind;
use crate::gauge;
use crate::subject::Subject;
use crate::verify::verify;
use crate::work::Author;
use crate::work::Style;
use crate::work::folded;

/// Documents that are folded at the same time.
const FOLDERS: u64 = 16;
/// How often the size on disk is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What to fill a directory with.
#[derive(Debug, Clone)]
pub(crate) struct Fill {
    pub(crate) kind: Kind,
    pub(crate) dir: PathBuf,
    pub(crate) docs: u64,
    /// Documents that write at the same time.
    pub(crate) writers: u64,
    /// Records of each document in each stretch.
    pub(crate) records: u64,
    /// Stretches of writing after which every document is folded into a snapshot.
    pub(crate) folds: u64,
    /// Stretches behind the last of those.
    pub(crate) tail: u64,
    pub(crate) style: Style,
    pub(crate) end: End,
}

/// How the filling process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// Everything is closed.
    Closed,
    /// It is gone from one moment to the next.
    Dead,
}

impl Fill {
    pub(crate) fn records_each(&self) -> u64 {
        self.records * (self.folds + self.tail)
    }

    fn to_json(&self) -> Value {
        json!({
            "kind": self.kind.name(), "dir": self.dir, "docs": self.docs, "writers": self.writers, "records": self.records, "folds": self.folds,
            "tail": self.tail, "seed": self.style.seed, "batch_min": self.style.batch_min, "batch_max": self.style.batch_max,
            "update_bytes": self.style.update_bytes, "dead": self.end == End::Dead,
        })
    }

    fn of_json(value: &Value) -> Result<Self> {
        let number = |name: &str| value[name].as_u64().with_context(|| format!("{name} is missing"));
        let text = |name: &str| value[name].as_str().with_context(|| format!("{name} is missing"));
        let style = Style {
            seed: number("seed")?,
            batch_min: number("batch_min")?,
            batch_max: number("batch_max")?,
            update_bytes: value["update_bytes"].as_u64(),
        };
        Ok(Self {
            kind: Kind::parse(text("kind")?).context("no such engine")?,
            dir: text("dir")?.into(),
            docs: number("docs")?,
            writers: number("writers")?,
            records: number("records")?,
            folds: number("folds")?,
            tail: number("tail")?,
            style,
            end: if value["dead"] == true { End::Dead } else { End::Closed },
        })
    }
}

/// What a child is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Task {
    Fill,
    /// Opens what was filled and closes it.
    Open,
    /// Opens what was filled and compares all of it.
    Check,
}

impl Task {
    const ALL: [(Self, &'static str); 3] = [(Self::Fill, "fill"), (Self::Open, "open"), (Self::Check, "check")];

    fn name(self) -> &'static str {
        Self::ALL.iter().find(|(task, _)| *task == self).map_or("", |(_, name)| name)
    }
}

/// Lets a child do it, and answers its figures.
pub(crate) fn run(task: Task, fill: &Fill) -> Result<Value> {
    let mut command = Command::new(std::env::current_exe()?);
    let output = command.args(["child", task.name(), &fill.to_json().to_string()]).output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{} of {}: {complained}", task.name(), fill.kind.name());
    serde_json::from_str(said.lines().last().unwrap_or_default()).with_context(|| format!("{complained}{said}"))
}

/// The child's side.
pub(crate) fn main(task: &str, fill: &str) -> Result<()> {
    let task = Task::ALL.iter().find(|(_, name)| *name == task).context("no such task")?.0;
    let fill = Fill::of_json(&serde_json::from_str(fill)?)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_time().build()?;
    match task {
        Task::Fill => filling(&runtime, &fill),
        Task::Open | Task::Check => opening(&runtime, &fill, task),
    }
}

fn opening(runtime: &Runtime, fill: &Fill, task: Task) -> Result<()> {
    let start = Instant::now();
    let subject = Subject::open(fill.kind, &fill.dir)?;
    let took = start.elapsed();
    let (resident, _) = gauge::memory();
    if task == Task::Check {
        let wrote = (0..fill.docs).map(|n| (Author::new(fill.style, n), fill.records_each()));
        runtime.block_on(verify(&subject, wrote))?;
    }
    runtime.block_on(subject.close())?;
    println!("{}", json!({ "open_us": gauge::us(took), "resident": resident, "disk": gauge::disk(&fill.dir) }));
    Ok(())
}

fn filling(runtime: &Runtime, fill: &Fill) -> Result<()> {
    let subject = Arc::new(Subject::open(fill.kind, &fill.dir)?);
    let mut authors: Vec<Author> = (0..fill.docs).map(|number| Author::new(fill.style, number)).collect();
    let peak = watch_disk(&fill.dir);
    let (mut appending, mut folding) = (Duration::ZERO, Duration::ZERO);
    for stretch in 0..fill.folds + fill.tail {
        let start = Instant::now();
        authors = runtime.block_on(write(&subject, authors, fill.writers, fill.records * (stretch + 1)))?;
        appending += start.elapsed();
        if stretch < fill.folds {
            let start = Instant::now();
            runtime.block_on(fold(&subject, &authors))?;
            folding += start.elapsed();
        }
    }
    let (resident, resident_peak) = gauge::memory();
    let running = gauge::disk(&fill.dir);
    if fill.end == End::Closed {
        let subject = Arc::into_inner(subject).context("a writer is left")?;
        runtime.block_on(subject.close())?;
    }
    let answer = json!({
        "append_s": appending.as_secs_f64(), "fold_s": folding.as_secs_f64(), "resident": resident,
        "resident_peak": resident_peak, "disk_running": running, "disk_peak": peak.load(Ordering::Relaxed).max(running),
        "disk": gauge::disk(&fill.dir),
    });
    println!("{answer}");
    // Nothing is closed, flushed or dropped where the store is still open.
    std::process::exit(0)
}

/// Notes the largest size on disk, until the process ends.
fn watch_disk(dir: &Path) -> Arc<AtomicU64> {
    let (peak, dir) = (Arc::new(AtomicU64::new(0)), dir.to_owned());
    let noted = Arc::clone(&peak);
    std::thread::spawn(move || {
        loop {
            noted.fetch_max(gauge::disk(&dir), Ordering::Relaxed);
            std::thread::sleep(LOOK_EVERY);
        }
    });
    peak
}

/// Every document writes until it has so many records; a bounded number of them at the same time.
async fn write(subject: &Arc<Subject>, authors: Vec<Author>, writers: u64, records: u64) -> Result<Vec<Author>> {
    let each = authors.len().div_ceil(usize::try_from(writers)?);
    let mut tasks = Vec::new();
    let mut left = authors.into_iter().peekable();
    while left.peek().is_some() {
        let (subject, mut mine): (_, Vec<Author>) = (Arc::clone(subject), left.by_ref().take(each).collect());
        tasks.push(tokio::spawn(async move {
            // In turn, as people do: one document's records are spread over the whole stretch.
            while mine.iter().any(|author| author.records < records) {
                for author in mine.iter_mut().filter(|author| author.records < records) {
                    let batch = author.batch_up_to(records);
                    subject.append(&author.doc, author.records, batch).await?;
                }
            }
            anyhow::Ok(mine)
        }));
    }
    let mut authors = Vec::new();
    for task in tasks {
        authors.extend(task.await??);
    }
    Ok(authors)
}

/// Folds every document: what is kept of it is read, joined, and put in the place of its records.
async fn fold(subject: &Arc<Subject>, authors: &[Author]) -> Result<()> {
    let each = authors.len().div_ceil(usize::try_from(FOLDERS)?);
    let mut tasks = Vec::new();
    for part in authors.chunks(each) {
        let subject = Arc::clone(subject);
        let part: Vec<_> = part.iter().map(|author| (author.doc.clone(), author.records)).collect();
        tasks.push(tokio::spawn(async move {
            for (doc, through) in part {
                let found = subject.load(&doc).await?;
                let state = folded(&found.snapshot, found.records.iter());
                subject.fold(&doc, through, state).await?;
            }
            anyhow::Ok(())
        }));
    }
    for task in tasks {
        task.await??;
    }
    Ok(())
}
