//! Deleting: what a document is remembered by is safe before its tombstone stands.
//!
//! 1. write the memo into sled under the epoch that ends, flush, sync: no load looks at it, because a life is only shown
//!    memos of epochs before its own
//! 2. write the tombstone to the log, durably: from now on the memo counts
//! 3. remove the memos of older epochs
//!
//! A crash after 1 leaves a memo of a life that goes on; the deletion that ends it writes another in its place.

use bytes::Bytes;
use tokio::sync::oneshot;

use crate::name::DocName;
use crate::store::StoreError;
use crate::store::local::keeper::Keeping;
use crate::store::local::keeper::closed;
use crate::store::local::keeper::wait;
use crate::store::local::load::unavailable;
use crate::store::segments::job::Job;
use crate::store::segments::job::Reply;

/// A document that is to be deleted.
#[derive(Debug)]
pub(crate) struct Deletion {
    pub(crate) doc: DocName,
    pub(crate) memo: Bytes,
    pub(crate) reply: Reply<bool>,
}

impl Keeping {
    /// Deletes documents, each at most once, with one flush for all their memos.
    pub(crate) fn delete(&self, group: Vec<Deletion>) {
        if group.is_empty() {
            return;
        }
        let epochs: Vec<Option<u64>> = group.iter().map(|deletion| self.epoch_that_ends(&deletion.doc)).collect();
        let remembered = self.remember(&group, &epochs);
        let asked: Vec<_> = group
            .iter()
            .map(|deletion| remembered.clone().and_then(|()| self.ask_for_tombstone(&deletion.doc)))
            .collect();
        for ((deletion, epoch), asked) in group.into_iter().zip(epochs).zip(asked) {
            let outcome = asked.and_then(wait);
            if let (Ok(deleted), Some(epoch)) = (&outcome, epoch) {
                self.forget(&deletion.doc, epoch, *deleted);
            }
            let _ = deletion.reply.send(outcome);
        }
    }

    /// `None` where a tombstone stands already: its memo must not be touched.
    fn epoch_that_ends(&self, doc: &DocName) -> Option<u64> {
        match self.log.index().docs.get(doc) {
            Some(state) if state.deleted() => None,
            Some(state) => Some(state.epoch),
            None => Some(0), // Its first append may stand in the writer's line.
        }
    }

    fn remember(&self, group: &[Deletion], epochs: &[Option<u64>]) -> Result<(), StoreError> {
        let bytes = group.iter().map(|deletion| deletion.memo.len() as u64).sum();
        self.heal().and_then(|()| self.snapshots.make_room(bytes)).map_err(|error| unavailable(&error))?;
        let written = group.iter().zip(epochs).try_for_each(|(deletion, epoch)| match epoch {
            Some(epoch) => self.snapshots.write_memo(&deletion.doc, *epoch, &deletion.memo),
            None => Ok(()),
        });
        written.and_then(|()| self.snapshots.flush()).map_err(|error| self.failed(&error))
    }

    fn ask_for_tombstone(&self, doc: &DocName) -> Result<oneshot::Receiver<Result<bool, StoreError>>, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.log.line.push_own(Job::Delete { doc: doc.clone(), reply }).map_err(|_| closed())?;
        Ok(answer)
    }

    /// Removes what does not count: older memos, or the new one where there was nothing to delete.
    fn forget(&self, doc: &DocName, epoch: u64, deleted: bool) {
        let forgotten = self.snapshots.drop_memos(doc, |of| if deleted { of < epoch } else { of == epoch });
        if let Err(error) = forgotten {
            let _ = self.failed(&error);
        }
    }
}
