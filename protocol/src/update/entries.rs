//! An index of all entries of a document's maps: which item belongs to which key, and which one is seen there.

mod any;
mod touch;

use std::sync::Arc;

pub use any::AnyValue;
pub use any::read_any;
pub use touch::Content;
pub use touch::EntryId;
pub use touch::Gain;
pub use touch::Standing;
pub use touch::Touch;
pub use touch::Written;
pub use touch::gains;

use crate::update::Invalid;

/// Maps deeper than this are not indexed: their entries are neither touches nor current.
pub const DEPTH_MAX: usize = 32;

/// The entries of all maps of one document, also overwritten and deleted ones.
#[derive(Debug, Clone, Default)]
pub struct Entries {}

impl Entries {
    /// Reads a whole document: an update with its full delete set, from the beginning.
    ///
    /// # Errors
    /// [`Invalid`] when it is no update.
    pub fn read(state: &[u8]) -> Result<Self, Invalid> {
        let _ = state;
        Ok(Self::default())
    }

    /// What a valid, causally ready update would touch, sorted by path. To be asked before the update is applied.
    ///
    /// # Errors
    /// [`Invalid`] when it is no update.
    pub fn survey(&self, update: &[u8]) -> Result<Vec<Touch>, Invalid> {
        let _ = update;
        Ok(Vec::new())
    }

    /// Takes note of an update that the engine has applied. `is_deleted` answers for client and clock whether the
    /// transaction deleted an item.
    ///
    /// # Errors
    /// [`Invalid`] when it is no update; nothing is noted then.
    pub fn settle(&mut self, update: &[u8], is_deleted: impl Fn(u64, u32) -> bool) -> Result<(), Invalid> {
        let _ = (update, is_deleted(0, 0));
        Ok(())
    }

    /// The entry that is seen at a path: a root's name and keys from there down.
    #[must_use]
    pub fn current(&self, path: &[&str]) -> Option<EntryId> {
        let _ = path;
        None
    }

    /// The path of an item that was ever an entry, and whether it is seen there now.
    #[must_use]
    pub fn find(&self, id: EntryId) -> Option<(Vec<Arc<str>>, bool)> {
        let _ = id;
        None
    }
}
