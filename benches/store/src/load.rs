//! Reading one document back: from its log, and from its snapshot.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;
use tokio::runtime::Runtime;

use crate::engines::Kind;
use crate::gauge;
use crate::report::Report;
use crate::subject::Subject;
use crate::verify::verify;
use crate::work::Author;
use crate::work::Style;
use crate::work::folded;

pub(crate) const SCENARIO: &str = "Loading one document";
/// Documents whose entries lie between each other's.
const DOCS: u64 = 64;
/// How often each document is loaded.
const LOADS: usize = 3;

/// Documents with a log of `appends` entries of one record each, then with all of that in a snapshot.
pub(crate) fn measure(
    report: &mut Report,
    runtime: &Runtime,
    dir: &Path,
    run: u64,
    seed: u64,
    appends: u64,
) -> Result<()> {
    for kind in Kind::STORES {
        let place = dir.join(format!("load {}", kind.name()));
        let subject = Arc::new(Subject::open(kind, &place)?);
        let style = Style::in_batches(seed, 1);
        runtime.block_on(fill(&subject, style, appends))?;
        // Opened anew, so that nothing is still in a cache of writing.
        let subject = reopened(runtime, kind, &place, subject)?;
        let log = runtime.block_on(loads(&subject))?;
        runtime.block_on(fold(&subject))?;
        let subject = reopened(runtime, kind, &place, subject)?;
        let snapshot = runtime.block_on(loads(&subject))?;
        let figures = [("from a log of 1000 appends, µs", log), ("from a snapshot of 90 KB, µs", snapshot)];
        report.add(SCENARIO, kind, run, &figures)?;
        let wrote = (0..DOCS).map(|number| (Author::new(style, number), appends));
        runtime.block_on(verify(&subject, wrote))?;
        drop(subject);
        std::fs::remove_dir_all(&place)?;
    }
    Ok(())
}

fn reopened(runtime: &Runtime, kind: Kind, place: &Path, subject: Arc<Subject>) -> Result<Arc<Subject>> {
    let subject = Arc::into_inner(subject).expect("nobody works with it");
    runtime.block_on(subject.close())?;
    Ok(Arc::new(Subject::open(kind, place)?))
}

async fn fill(subject: &Arc<Subject>, style: Style, appends: u64) -> Result<()> {
    let writers: Vec<_> = (0..DOCS)
        .map(|number| {
            let subject = Arc::clone(subject);
            let mut author = Author::new(style, number);
            tokio::spawn(async move {
                while author.records < appends {
                    let batch = author.batch();
                    subject.append(&author.doc, author.records, batch).await?;
                }
                anyhow::Ok(())
            })
        })
        .collect();
    for writer in writers {
        writer.await??;
    }
    Ok(())
}

async fn fold(subject: &Subject) -> Result<()> {
    for number in 0..DOCS {
        let doc = Author::new(Style::of(0), number).doc;
        let found = subject.load(&doc).await?;
        let state = folded(&found.snapshot, found.records.iter());
        subject.fold(&doc, found.records.len() as u64, state).await?;
    }
    Ok(())
}

/// Microseconds for one load, the median.
async fn loads(subject: &Subject) -> Result<f64> {
    let mut samples = Vec::new();
    for _ in 0..LOADS {
        for number in 0..DOCS {
            let doc = Author::new(Style::of(0), number).doc;
            let start = Instant::now();
            let found = subject.load(&doc).await?;
            samples.push(gauge::us(start.elapsed()));
            drop(found);
        }
    }
    Ok(gauge::quantile(&mut samples, 0.5))
}
