//! One record, alone: how long until it is durable. Engines take turns in short blocks within one run.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;
use bytes::Bytes;
use syncline::store::Epoch;
use syncline::store::LocalOptions;
use syncline::store::LocalStore;
use syncline::store::Store;
use syncline::store::record;
use tokio::runtime::Runtime;

use crate::engines::Engine;
use crate::engines::Entry;
use crate::engines::Kind;
use crate::gauge;
use crate::report::Report;
use crate::subject::Subject;
use crate::verify::verify;
use crate::work::Author;
use crate::work::Style;

pub(crate) const SCENARIO: &str = "One record, alone";
/// Appends of one engine before it is another's turn.
const BLOCK: u64 = 25;
/// Documents that are written to in turn.
const DOCS: u64 = 64;

struct Contestant {
    kind: Kind,
    way: Way,
    authors: Vec<Author>,
    samples: Vec<f64>,
}

enum Way {
    /// From a task of the runtime, as the server's documents do.
    Task(Arc<LocalStore>),
    /// Straight into the engine, from the thread that waits: no change of threads at all.
    Call(Box<dyn Engine>),
}

pub(crate) fn measure(
    report: &mut Report,
    runtime: &Runtime,
    dir: &Path,
    run: u64,
    seed: u64,
    appends: u64,
) -> Result<()> {
    let mut contestants = Vec::new();
    for kind in Kind::ALL {
        let place = dir.join(kind.name());
        let way = match kind {
            Kind::Ours => Way::Task(Arc::new(LocalStore::open(LocalOptions::new(&place))?)),
            _ => Way::Call(kind.open(&place)?),
        };
        let authors = (0..DOCS).map(|number| Author::new(Style::of(seed), number)).collect();
        contestants.push(Contestant { kind, way, authors, samples: Vec::new() });
    }
    // The first turns warm up, and do not count.
    for turn in 0..=(appends / BLOCK) {
        for contestant in &mut contestants {
            if turn == 1 {
                contestant.samples.clear();
            }
            contestant.block(runtime)?;
        }
    }
    for mut contestant in contestants {
        let quantiles = [0.5, 0.9, 0.99].map(|part| gauge::quantile(&mut contestant.samples, part));
        let [p50, p90, p99] = quantiles;
        report.add(SCENARIO, contestant.kind, run, &[("p50 µs", p50), ("p90 µs", p90), ("p99 µs", p99)])?;
        let place = dir.join(contestant.kind.name());
        contestant.verify(runtime, &place, seed)?;
    }
    Ok(())
}

impl Contestant {
    fn block(&mut self, runtime: &Runtime) -> Result<()> {
        for _ in 0..BLOCK {
            let turn = self.authors.iter().map(|author| author.records).sum::<u64>() % DOCS;
            let author = &mut self.authors[usize::try_from(turn)?];
            let record = author.record();
            let doc = author.doc.clone();
            let took = match &mut self.way {
                Way::Task(store) => {
                    let store = Arc::clone(store);
                    runtime.block_on(runtime.spawn(async move {
                        let start = Instant::now();
                        store.append(&doc, Epoch::default(), vec![record]).await?;
                        anyhow::Ok(start.elapsed())
                    }))??
                }
                Way::Call(engine) => {
                    let value = Bytes::from(record::encode_records(&[record])?);
                    let entry = Entry { doc, seq: author.records, value };
                    let start = Instant::now();
                    engine.commit(std::slice::from_ref(&entry))?;
                    start.elapsed()
                }
            };
            self.samples.push(gauge::us(took));
        }
        Ok(())
    }

    fn verify(self, runtime: &Runtime, dir: &Path, seed: u64) -> Result<()> {
        match self.way {
            Way::Task(store) => runtime.block_on(store.close())?,
            Way::Call(engine) => drop(engine),
        }
        let wrote = (0..).zip(&self.authors).map(|(n, author)| (Author::new(Style::of(seed), n), author.records));
        let subject = Subject::open(self.kind, dir)?;
        runtime.block_on(async {
            verify(&subject, wrote).await?;
            subject.close().await
        })
    }
}
