//! Whether a client has everything that a document holds.

use std::collections::BTreeMap;

use anyhow::Result;
use anyhow::ensure;
use syncline_protocol::update::UpdateLimits;
use syncline_protocol::update::validate;

/// For each author, the clock up to which their units are there: of a document, or of what a client was sent of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Clocks(BTreeMap<u64, u32>);

impl Clocks {
    /// Takes an update in.
    ///
    /// # Errors
    /// When it is not valid, or leaves something out.
    pub(super) fn take(&mut self, update: &[u8]) -> Result<()> {
        for range in validate(update, &UpdateLimits::default())?.ranges() {
            let end = self.0.entry(range.client).or_default();
            ensure!(range.start <= *end, "lost: clocks {end} to {} of author {}", range.start, range.client);
            *end = range.end.max(*end);
        }
        Ok(())
    }

    /// An author has written up to `end`.
    pub(super) fn advance(&mut self, author: u64, end: u32) {
        self.0.insert(author, end);
    }

    /// How far an author's units go.
    pub(super) fn of(&self, author: u64) -> u32 {
        self.0.get(&author).copied().unwrap_or(0)
    }

    /// Whether everything in `other` is here as well.
    pub(super) fn cover(&self, other: &Self) -> bool {
        other.0.iter().all(|(author, end)| self.of(*author) >= *end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edit::Paper;
    use crate::edit::Typist;

    #[test]
    fn a_document_is_whole_when_nothing_is_left_out() {
        let paper = Paper::new(5_000, 8, 100, 1);
        let mut document = Clocks::default();
        document.take(&paper.update()).unwrap();
        let mut client = Clocks::default();
        assert!(!client.cover(&document));
        client.take(&paper.update()).unwrap();
        assert!(client.cover(&document) && client.cover(&Clocks::default()));

        let mut typist = Typist::new(7);
        let mut updates = [Vec::new(), Vec::new()];
        updates.iter_mut().for_each(|update| typist.type_one(update));
        document.advance(7, 2);
        assert!(!client.cover(&document));
        assert!(client.take(&updates[1]).is_err(), "the first one is missing");
        client.take(&updates[0]).unwrap();
        client.take(&updates[1]).unwrap();
        assert_eq!(client, document);
    }
}
