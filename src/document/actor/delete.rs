//! Deleting a document that other nodes may be writing to.

use std::sync::Arc;

use crate::document::lineage::Ending;
use crate::name::DocName;
use crate::store::Store;
use crate::store::StoreError;

/// How often what others wrote meanwhile is read before the document is deleted all the same: then whoever wrote last
/// may be missing in the memo, and a copy of theirs would be let in again.
const TRIES_MAX: usize = 16;

/// Deletes with a memo of everybody who wrote. `false`: there was nothing to delete.
pub(super) async fn delete(store: Arc<dyn Store>, doc: DocName, mut ending: Ending) -> Result<bool, StoreError> {
    for _ in 0..TRIES_MAX {
        let Some(through) = ending.through else { break };
        match store.delete_as_of(&doc, ending.epoch, through, ending.memo()).await {
            Err(StoreError::Conflict(_)) => {}
            outcome => return outcome,
        }
        let later = store.load_after(&doc, through).await?;
        if later.epoch != ending.epoch {
            return Err(StoreError::Deleted);
        }
        ending.read_on(&later);
    }
    store.delete(&doc, ending.memo()).await
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use syncline_protocol::state_vector::StateVector;

    use super::*;
    use crate::document::lineage::Lineage;
    use crate::store::Epoch;
    use crate::store::Record;
    use crate::store::Seq;
    use crate::store::Snapshot;
    use crate::store::memory::MemoryStore;

    /// A letter in a text.
    fn written_by(client: u8) -> Record {
        let update = [1, 1, client, 0, 4, 1, 4, b't', b'e', b'x', b't', 1, b'a', 0];
        Record { update: Bytes::copy_from_slice(&update), user: None, at_ms: 0, sidecar: Bytes::new() }
    }

    fn clocks_of(client: u64) -> StateVector {
        [(client, 1)].into_iter().collect()
    }

    /// A document that this node has read up to 7's record, and to which 8 and 9 have written on another.
    async fn written_on() -> (Arc<dyn Store>, DocName, Ending) {
        let (store, doc) = (Arc::new(MemoryStore::default()), DocName::parse("a/b").unwrap());
        for client in [7, 8, 9] {
            store.append(&doc, Epoch(0), vec![written_by(client)]).await.unwrap();
        }
        (store, doc, Ending::new(Epoch(0), Some(Seq(1)), Lineage::default(), clocks_of(7)))
    }

    async fn assert_all_are_remembered(store: &dyn Store, doc: &DocName) {
        store.revive(doc).await.unwrap();
        let lineage = Lineage::read(&store.load(doc).await.unwrap().memo).unwrap();
        for client in [7, 8, 9] {
            assert!(lineage.is_stale(&clocks_of(client), &StateVector::default()), "{client}");
        }
    }

    #[tokio::test]
    async fn who_wrote_on_another_node_is_remembered() {
        let (store, doc, ending) = written_on().await;
        assert_eq!(delete(store.clone(), doc.clone(), ending).await, Ok(true));
        assert_all_are_remembered(store.as_ref(), &doc).await;
    }

    #[tokio::test]
    async fn who_wrote_on_another_node_and_is_in_its_snapshot_is_remembered() {
        let (store, doc, ending) = written_on().await;
        let state = [2, 1, 9, 0, 4, 1, 4, b't', b'e', b'x', b't', 1, b'a', 1, 8, 0, 0x84, 9, 0, 1, b'a', 0];
        let snapshot = Snapshot { state: Bytes::copy_from_slice(&state), through: Seq(3), sidecar: Bytes::new() };
        store.compact(&doc, Epoch(0), snapshot).await.unwrap();
        assert_eq!(delete(store.clone(), doc.clone(), ending).await, Ok(true));
        assert_all_are_remembered(store.as_ref(), &doc).await;
    }

    #[tokio::test]
    async fn a_newer_life_is_left_alone() {
        let (store, doc, ending) = written_on().await;
        store.delete(&doc, Bytes::new()).await.unwrap();
        assert_eq!(delete(store.clone(), doc.clone(), ending.clone()).await, Err(StoreError::Deleted));
        store.revive(&doc).await.unwrap();
        store.append(&doc, Epoch(1), vec![written_by(5)]).await.unwrap();
        assert_eq!(delete(store.clone(), doc.clone(), ending).await, Err(StoreError::Deleted));
        assert_eq!(store.load(&doc).await.unwrap().last, Seq(1));
    }
}
