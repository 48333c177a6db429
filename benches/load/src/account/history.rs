//! Everything that one reader was sent, built again with the engine.

use anyhow::Result;
use anyhow::ensure;
use yrs::Doc;
use yrs::GetString;
use yrs::ReadTxn;
use yrs::Transact;
use yrs::Update;
use yrs::updates::decoder::Decode;

/// Bytes of one reader's history. A run that sends more is too long to be checked, and fails.
const HISTORY_BYTES_MAX: usize = 1 << 30;

/// The updates that one reader received, in their order.
#[derive(Debug, Clone, Default)]
pub(crate) struct History {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl History {
    /// Keeps one more.
    ///
    /// # Errors
    /// When the history becomes larger than [`HISTORY_BYTES_MAX`].
    pub(crate) fn keep(&mut self, update: &[u8]) -> Result<()> {
        ensure!(self.bytes.len() + update.len() <= HISTORY_BYTES_MAX, "a run too long to be checked");
        self.bytes.extend_from_slice(update);
        self.ends.push(self.bytes.len());
        Ok(())
    }

    /// The updates.
    pub(crate) fn updates(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, end)| &self.bytes[start..*end])
    }
}

/// The text at the root `root` after all `updates`.
///
/// # Errors
/// When the engine does not take one of them, or misses something at the end.
pub(crate) fn rebuilt_text<'a>(updates: impl IntoIterator<Item = &'a [u8]>, root: &str) -> Result<String> {
    let doc = rebuilt(updates)?;
    let text = doc.get_or_insert_text(root);
    let txn = doc.transact();
    Ok(text.get_string(&txn))
}

/// The document after all `updates`.
///
/// # Errors
/// As [`rebuilt_text`].
pub(crate) fn rebuilt<'a>(updates: impl IntoIterator<Item = &'a [u8]>) -> Result<Doc> {
    let doc = Doc::new();
    for update in updates {
        // One transaction each: the engine joins neighbours at its end, from the last to the first, and copies what it
        // has joined so far every time.
        doc.transact_mut().apply_update(Update::decode_v1(update)?)?;
    }
    ensure!(!doc.transact().has_missing_updates(), "a reader was sent updates that build on others it never saw");
    Ok(doc)
}
