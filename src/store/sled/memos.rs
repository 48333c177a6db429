//! Memos of deletions, in a tree of their own: compactions and purges never touch them.
//!
//! A memo is written like a snapshot, in the same parts, under the number of the epoch that ended. No note names it. A
//! life is shown the newest whole memo of an epoch before its own, so one that was written for a deletion that failed
//! does not count until there is a later life.

use bytes::Bytes;

use crate::name::DocName;
use crate::store::Seq;
use crate::store::Snapshot;
use crate::store::record;
use crate::store::record::StoredPart;

use super::Open;
use super::SnapshotError;
use super::Snapshots;
use super::generation_prefix;
use super::guard;
use super::part_key;
use super::prefix;
use super::read_at;
use super::write_at;

impl Snapshots {
    /// Writes the memo of an epoch that is about to end, over one that was written for it before. Not durable before
    /// [`Snapshots::flush`].
    pub(crate) fn write_memo(&self, doc: &DocName, epoch: u64, memo: &Bytes) -> Result<(), SnapshotError> {
        let whole = Snapshot { state: memo.clone(), through: Seq(0), sidecar: Bytes::new() };
        self.with(|open| write_at(&open.memos, doc, epoch, epoch, &whole).map(drop))
    }

    /// The newest whole memo of an epoch before `epoch`.
    pub(crate) fn memo(&self, doc: &DocName, epoch: u64) -> Result<Option<Bytes>, SnapshotError> {
        self.with(|open| {
            let mut before = epoch;
            while let Some(of) = newest(open, doc, before)? {
                match read(open, doc, of) {
                    Ok(memo) => return Ok(Some(memo)),
                    Err(SnapshotError::Bad(why)) => {
                        tracing::error!(event = "store_memo_damaged", %doc, epoch = of, why, "a memo cannot be read");
                    }
                    Err(error @ SnapshotError::Engine(_)) => return Err(error),
                }
                before = of;
            }
            Ok(None)
        })
    }

    /// Removes the memos of the epochs that `unwanted` names.
    pub(crate) fn drop_memos(&self, doc: &DocName, unwanted: impl Fn(u64) -> bool) -> Result<(), SnapshotError> {
        self.with(|open| {
            for key in open.memos.scan_prefix(prefix(doc)).keys() {
                let key = guard(|| key)?;
                if epoch_of(doc, &key).is_some_and(&unwanted) {
                    guard(|| open.memos.remove(&key))?;
                }
            }
            Ok(())
        })
    }

    /// Bytes of all memos.
    pub(crate) fn memo_bytes(&self) -> Result<u64, SnapshotError> {
        self.with(|open| {
            open.memos.iter().values().try_fold(0, |bytes, value| Ok(bytes + guard(|| value)?.len() as u64))
        })
    }
}

/// All of them are needed: a name keeps its memo for as long as it is known.
pub(super) fn copy(from: &Open, to: &Open) -> Result<(), SnapshotError> {
    for item in from.memos.iter() {
        let (key, value) = guard(|| item)?;
        guard(|| to.memos.insert(key, value))?;
    }
    Ok(())
}

fn newest(open: &Open, doc: &DocName, before: u64) -> Result<Option<u64>, SnapshotError> {
    let mut earlier = open.memos.range(prefix(doc)..generation_prefix(doc, before)).keys();
    let key = guard(|| earlier.next_back().transpose())?;
    Ok(key.and_then(|key| epoch_of(doc, &key)))
}

fn read(open: &Open, doc: &DocName, epoch: u64) -> Result<Bytes, SnapshotError> {
    let first = guard(|| open.memos.get(part_key(doc, epoch, 0)))?;
    let part = first.as_ref().and_then(|value| record::unseal::<StoredPart<'_>>(value).ok());
    let key = part.map(|part| part.key).filter(|key| key.generation == epoch);
    let key = key.ok_or_else(|| SnapshotError::Bad("its first part cannot be read".to_owned()))?;
    read_at(&open.memos, doc, epoch, key).map(|whole| whole.state)
}

fn epoch_of(doc: &DocName, key: &[u8]) -> Option<u64> {
    let number = key.strip_prefix(prefix(doc).as_slice())?.first_chunk::<8>()?;
    Some(u64::from_be_bytes(*number))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::sled::Keep;

    #[test]
    fn a_damaged_memo_costs_itself_and_no_more() {
        let dir = tempfile::tempdir().unwrap();
        let snapshots = Snapshots::open(dir.path().join("sled"), 1 << 20).unwrap();
        let (doc, other) = (DocName::parse("doc").unwrap(), DocName::parse("doc/1").unwrap());
        let (long, short) = (Bytes::from(vec![7; 100_000]), Bytes::from_static(b"short"));
        // One whose deletion failed, written again, shorter.
        snapshots.write_memo(&doc, 0, &long).unwrap();
        snapshots.write_memo(&doc, 0, &short).unwrap();
        snapshots.write_memo(&doc, 3, &long).unwrap();
        snapshots.write_memo(&other, 0, &long).unwrap();
        let memo = |epoch| snapshots.memo(&doc, epoch).unwrap();
        assert_eq!((memo(0), memo(1), memo(3)), (None, Some(short.clone()), Some(short.clone())));
        assert_eq!(memo(4), Some(long.clone()));

        snapshots.rebuild(|_| Keep::Nothing).unwrap();
        assert_eq!(memo(4), Some(long.clone()), "a rebuild keeps it, though the document is deleted");
        for part in [5, 0] {
            snapshots.with(|open| guard(|| open.memos.insert(part_key(&doc, 3, part), b"damaged"))).unwrap();
            assert_eq!(memo(4), Some(short.clone()), "part {part}");
        }
        snapshots.drop_memos(&doc, |epoch| epoch < 3).unwrap();
        assert_eq!(memo(4), None);
        assert_eq!(snapshots.memo(&other, 1).unwrap(), Some(long));
    }
}
