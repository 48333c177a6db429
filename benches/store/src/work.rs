//! What is written: a function of the seed, so that what is read back can be compared without being kept.

use std::sync::Arc;

use bytes::Bytes;
use syncline::name::DocName;
use syncline::store::Record;

/// Most records in one append.
pub(crate) const BATCH_MAX: u64 = 64;
/// Updates are 40 to 140 bytes long, 90 on average: a few typed characters with what Yjs puts around them.
const UPDATE_BYTES: std::ops::RangeInclusive<u64> = 40..=140;

/// A reproducible sequence of numbers (SplitMix64).
#[derive(Debug, Clone)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number from `0..bound`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&self.next().to_le_bytes()[..chunk.len()]);
        }
    }
}

/// One document's edits, in order.
#[derive(Debug, Clone)]
pub(crate) struct Author {
    pub(crate) doc: DocName,
    user: Arc<str>,
    content: Dice,
    sizes: Dice,
    style: Style,
    /// Records written so far.
    pub(crate) records: u64,
}

/// How an author writes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Style {
    pub(crate) seed: u64,
    /// Batches hold at least so many records.
    pub(crate) batch_min: u64,
    /// And at most so many.
    pub(crate) batch_max: u64,
    /// Every update has this length where one is given.
    pub(crate) update_bytes: Option<u64>,
}

impl Style {
    /// Small updates in batches of 1 to 64.
    pub(crate) fn of(seed: u64) -> Self {
        Self { seed, batch_min: 1, batch_max: BATCH_MAX, update_bytes: None }
    }

    /// The same in batches of one size.
    pub(crate) fn in_batches(seed: u64, records: u64) -> Self {
        Self { batch_min: records, batch_max: records, ..Self::of(seed) }
    }
}

impl Author {
    pub(crate) fn new(style: Style, number: u64) -> Self {
        let doc = DocName::parse(&format!("table:bench-{number:06}")).expect("a plain name");
        let content = Dice::new(style.seed ^ number.wrapping_mul(0xa076_1d64_78bd_642f));
        let sizes = Dice::new(content.clone().next());
        Self { doc, user: Arc::from("user-17"), content, sizes, style, records: 0 }
    }

    /// The next batch.
    pub(crate) fn batch(&mut self) -> Vec<Record> {
        self.batch_up_to(u64::MAX)
    }

    /// The next batch, cut short where it would go beyond so many records in all.
    pub(crate) fn batch_up_to(&mut self, records: u64) -> Vec<Record> {
        let count = self.style.batch_min + self.sizes.below(self.style.batch_max - self.style.batch_min + 1);
        (0..count.min(records - self.records)).map(|_| self.record()).collect()
    }

    /// The next record.
    pub(crate) fn record(&mut self) -> Record {
        let span = UPDATE_BYTES.end() - UPDATE_BYTES.start() + 1;
        let length = self.style.update_bytes.unwrap_or_else(|| UPDATE_BYTES.start() + self.content.below(span));
        let mut update = vec![0; usize::try_from(length).expect("updates are small")];
        self.content.fill(&mut update);
        self.records += 1;
        let at_ms = 1_700_000_000_000 + self.records;
        Record { update: Bytes::from(update), user: Some(Arc::clone(&self.user)), at_ms, sidecar: Bytes::new() }
    }
}

/// What a document holds: every update so far, one after the other. Nothing in it is ever superseded, so all of it is
/// live data.
pub(crate) fn folded<'a>(before: &[u8], records: impl Iterator<Item = &'a Record>) -> Bytes {
    let mut state = before.to_vec();
    records.for_each(|record| state.extend_from_slice(&record.update));
    Bytes::from(state)
}
