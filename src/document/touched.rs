//! Which readers a batch concerns.

use super::core::ReaderId;

/// Whose outboxes have something new.
#[derive(Debug)]
pub(super) enum Touched {
    /// These.
    Some(Vec<ReaderId>),
    /// Everybody.
    All,
}

impl Default for Touched {
    fn default() -> Self {
        Self::Some(Vec::new())
    }
}

impl Touched {
    /// One more.
    pub(super) fn add(&mut self, reader: ReaderId) {
        if let Self::Some(readers) = self
            && readers.last() != Some(&reader)
        {
            readers.push(reader);
        }
    }
}
