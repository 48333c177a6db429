//! Many documents at once, each with one append in flight, as the server's documents do.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
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

/// Documents that write at the same time.
const CROWD: u64 = 256;
/// Records in one append.
pub(crate) const BATCHES: [u64; 3] = [1, 8, 64];

pub(crate) fn scenario(batch: u64) -> String {
    format!("{CROWD} documents at once, {batch} {} an append", if batch == 1 { "record" } else { "records" })
}

/// What one document saw.
struct Seen {
    author: Author,
    samples: Vec<f64>,
}

pub(crate) fn measure(
    report: &mut Report,
    runtime: &Runtime,
    dir: &Path,
    run: u64,
    seed: u64,
    length: Duration,
) -> Result<()> {
    for batch in BATCHES {
        let style = Style::in_batches(seed, batch);
        for kind in Kind::ALL {
            let place = dir.join(format!("{batch} {}", kind.name()));
            let subject = Arc::new(Subject::open(kind, &place)?);
            let (cpu, start) = (gauge::cpu(), Instant::now());
            let seen = runtime.block_on(write(&subject, style, length))?;
            let (cpu, took) = (gauge::cpu() - cpu, start.elapsed());
            #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
            let records = seen.iter().map(|seen| seen.author.records).sum::<u64>() as f64;
            let mut samples: Vec<f64> = seen.iter().flat_map(|seen| seen.samples.iter().copied()).collect();
            let figures = [
                ("records/s", records / took.as_secs_f64()),
                ("processor µs/record", gauge::us(cpu) / records),
                ("append p50 µs", gauge::quantile(&mut samples, 0.5)),
                ("append p99 µs", gauge::quantile(&mut samples, 0.99)),
            ];
            report.add(&scenario(batch), kind, run, &figures)?;
            let subject = Arc::into_inner(subject).expect("every writer has ended");
            runtime.block_on(subject.close())?;
            let wrote = (0..).zip(&seen).map(|(n, seen)| (Author::new(style, n), seen.author.records));
            let again = Subject::open(kind, &place)?;
            runtime.block_on(verify(&again, wrote))?;
            runtime.block_on(again.close())?;
            std::fs::remove_dir_all(&place)?;
        }
    }
    Ok(())
}

async fn write(subject: &Arc<Subject>, style: Style, length: Duration) -> Result<Vec<Seen>> {
    let end = Instant::now() + length;
    let writers: Vec<_> = (0..CROWD)
        .map(|number| {
            let (subject, mut author) = (Arc::clone(subject), Author::new(style, number));
            tokio::spawn(async move {
                let mut samples = Vec::new();
                while Instant::now() < end {
                    let batch = author.batch();
                    let start = Instant::now();
                    subject.append(&author.doc, author.records, batch).await?;
                    samples.push(gauge::us(start.elapsed()));
                }
                anyhow::Ok(Seen { author, samples })
            })
        })
        .collect();
    let mut seen = Vec::new();
    for writer in writers {
        seen.push(writer.await??);
    }
    Ok(seen)
}
