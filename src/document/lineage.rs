//! What a document remembers of its former lives: who wrote in them.
//!
//! Yjs draws a client id at random for each copy, so an id of a life that was deleted can only come back with a copy of
//! that life. Such a copy must not be merged: what was deleted would be there again, beside what was written since. The
//! ids go through the store as a *memo*, which a deletion leaves and every later life is given.
//!
//! ```text
//! 1 │ lives │ for each, newest first: epoch │ ids │ the lowest id │ the distance to the next, and so on
//! ```
//! Everything after the first byte is varUints.

use std::cmp::Reverse;

use bytes::Bytes;
use bytes::BytesMut;
use syncline_protocol::state_vector::StateVector;
use syncline_protocol::update::Readiness;
use syncline_protocol::update::Summary;
use syncline_protocol::update::UpdateLimits;
use syncline_protocol::update::validate;
use syncline_protocol::wire::ReadError;
use syncline_protocol::wire::Reader;
use syncline_protocol::wire::write_var_uint;

use crate::store::Epoch;
use crate::store::Loaded;
use crate::store::Seq;

/// Ids that are remembered: some 200 KB as a memo, 800 KB in memory while the document is. Full: those of the oldest lives
/// are forgotten first, and of one life those with the highest numbers. A copy names nearly everybody of its life, so a
/// part of them is enough to know it by.
pub const IDS_MAX: usize = 50_000;

const VERSION: u8 = 1;

/// The client ids of former lives.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Lineage {
    /// Sorted by client; with each, the last epoch in which it was there.
    former: Box<[(u64, Epoch)]>,
}

/// A life that is about to end: what the memo for those after it is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending {
    /// The life.
    pub epoch: Epoch,
    /// As far as its log was read, where other nodes may have written on: then the store is to say so, and what they wrote
    /// is to be [read](Self::read_on) first. A memo that lacks somebody would let that copy in again.
    pub through: Option<Seq>,
    lineage: Lineage,
    clocks: StateVector,
}

impl Ending {
    /// The end of a life in which everybody wrote whom `clocks` has.
    #[must_use]
    pub fn new(epoch: Epoch, through: Option<Seq>, lineage: Lineage, clocks: StateVector) -> Self {
        Self { epoch, through, lineage, clocks }
    }

    /// Takes note of what was written behind [`Self::through`].
    pub fn read_on(&mut self, later: &Loaded) {
        let snapshot = later.snapshot.iter().map(|snapshot| &snapshot.state);
        for update in snapshot.chain(later.records.iter().map(|(_, record)| &record.update)) {
            // What cannot be read here was never merged into anything.
            let Ok(summary) = validate(update, &UpdateLimits::none()) else { continue };
            for range in summary.ranges() {
                self.clocks.advance(range.client, range.end);
            }
        }
        self.through = Some(later.last);
    }

    /// What the store is to remember.
    #[must_use]
    pub fn memo(&self) -> Bytes {
        self.lineage.memo(self.epoch, &self.clocks)
    }
}

/// A memo cannot be read: a newer program wrote it, or nobody did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the memo of former lives cannot be read")]
pub struct Unreadable;

impl From<ReadError> for Unreadable {
    fn from(_: ReadError) -> Self {
        Self
    }
}

impl Lineage {
    /// Reads a memo. The empty one is that of a first life.
    ///
    /// # Errors
    /// [`Unreadable`] for anything that [`Self::memo`] does not write.
    pub fn read(memo: &Bytes) -> Result<Self, Unreadable> {
        if memo.is_empty() {
            return Ok(Self::default());
        }
        let mut reader = Reader::new(memo.clone());
        if reader.u8()? != VERSION {
            return Err(Unreadable);
        }
        let mut former = Vec::new();
        for _ in 0..reader.count()? {
            read_life(&mut reader, &mut former)?;
        }
        former.sort_unstable_by_key(|&(client, epoch)| (client, Reverse(epoch)));
        former.dedup_by_key(|&mut (client, _)| client);
        if reader.is_empty() { Ok(Self { former: former.into() }) } else { Err(Unreadable) }
    }

    /// The memo for the lives after `epoch`, which ends with `clocks`.
    #[must_use]
    pub fn memo(&self, epoch: Epoch, clocks: &StateVector) -> Bytes {
        let present = clocks.iter().filter(|&(_, clock)| clock > 0).map(|(client, _)| (client, epoch));
        let gone = self.former.iter().copied().filter(|&(client, _)| clocks.clock(client) == 0);
        let mut all: Vec<(u64, Epoch)> = present.chain(gone).collect();
        all.sort_unstable_by_key(|&(client, epoch)| (Reverse(epoch), client));
        all.truncate(IDS_MAX);
        write(&all)
    }

    /// Whether a copy with these clocks is of a former life. `clocks` are those of the present one: what is in it, a
    /// template for example, is not foreign, wherever it was before.
    #[must_use]
    pub fn is_stale(&self, copy: &StateVector, clocks: &StateVector) -> bool {
        !self.former.is_empty() && copy.iter().any(|(client, clock)| clock > 0 && self.is_foreign(client, clocks))
    }

    /// Whether an update is made in a former life, builds on it, or deletes something of it.
    #[must_use]
    pub fn is_of(&self, update: &Summary, clocks: &StateVector) -> bool {
        if self.former.is_empty() {
            return false;
        }
        let foreign = |client| self.is_foreign(client, clocks);
        update.ranges().iter().any(|range| foreign(range.client))
            || update.deletes().any(|range| foreign(range.client))
            || match update.readiness(clocks) {
                Readiness::Ready => false,
                Readiness::Missing(missing) => missing.iter().any(|&(client, _)| foreign(client)),
            }
    }

    /// Bytes of memory.
    #[must_use]
    pub fn bytes(&self) -> usize {
        size_of_val(&*self.former)
    }

    fn is_foreign(&self, client: u64, clocks: &StateVector) -> bool {
        self.former.binary_search_by_key(&client, |&(client, _)| client).is_ok() && clocks.clock(client) == 0
    }
}

fn read_life(reader: &mut Reader, former: &mut Vec<(u64, Epoch)>) -> Result<(), Unreadable> {
    let epoch = Epoch(reader.var_uint()?);
    let mut client = 0_u64;
    for _ in 0..reader.count()? {
        if former.len() == IDS_MAX {
            return Err(Unreadable);
        }
        client = client.checked_add(reader.var_uint()?).ok_or(Unreadable)?;
        former.push((client, epoch));
    }
    Ok(())
}

/// `all` is sorted, newest life first.
fn write(all: &[(u64, Epoch)]) -> Bytes {
    let lives = || all.chunk_by(|one, next| one.1 == next.1);
    let mut out = BytesMut::from(&[VERSION][..]);
    write_var_uint(&mut out, lives().count() as u64);
    for life in lives() {
        write_var_uint(&mut out, life[0].1.0);
        write_var_uint(&mut out, life.len() as u64);
        let mut last = 0;
        for &(client, _) in life {
            write_var_uint(&mut out, client - last);
            last = client;
        }
    }
    out.freeze()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use syncline_protocol::limits::CLIENT_ID_MAX;

    use super::*;
    use crate::store::MEMO_BYTES_MAX;

    fn clocks(clients: &[u64]) -> StateVector {
        clients.iter().map(|&client| (client, 3)).collect()
    }

    fn after(lives: &[&[u64]]) -> Lineage {
        let end = |lineage: Lineage, (epoch, ids): (u64, &&[u64])| {
            Lineage::read(&lineage.memo(Epoch(epoch), &clocks(ids))).unwrap()
        };
        (0..).zip(lives).fold(Lineage::default(), end)
    }

    /// Golden: what one version wrote, every later version reads.
    #[test]
    fn the_bytes_of_version_1() {
        let memo = after(&[&[5, 300], &[7]]).memo(Epoch(2), &clocks(&[300]));
        assert_eq!(memo.as_ref(), [1, 3, 2, 1, 0xac, 2, 1, 1, 7, 0, 1, 5]);
    }

    #[test]
    fn a_copy_of_any_former_life_is_known_and_the_present_one_is_not_foreign() {
        let lineage = after(&[&[5, 300], &[7]]);
        for (copy, present, stale) in [
            (vec![5], vec![], true),
            (vec![7, 9], vec![9], true),
            (vec![300], vec![300], false),
            (vec![5, 300], vec![300], true),
            (vec![9], vec![], false),
            (vec![], vec![], false),
        ] {
            assert_eq!(lineage.is_stale(&clocks(&copy), &clocks(&present)), stale, "{copy:?} in {present:?}");
        }
        let nothing: StateVector = [(5, 0)].into_iter().collect();
        assert!(!lineage.is_stale(&nothing, &StateVector::default()), "it has nothing of 5");
        assert!(!Lineage::default().is_stale(&clocks(&[5]), &StateVector::default()));
    }

    #[test]
    fn the_oldest_lives_are_forgotten_first() {
        let (old, new): (Vec<u64>, Vec<u64>) = ((1..=30_000).collect(), (100_000..140_000).collect());
        let lineage = after(&[&old, &new]);
        assert_eq!(lineage.former.len(), IDS_MAX);
        let knows = |client| lineage.is_stale(&clocks(&[client]), &StateVector::default());
        assert!(new.iter().all(|&client| knows(client)));
        assert!(knows(1) && knows(10_000) && !knows(10_001));
        assert!(lineage.memo(Epoch(2), &StateVector::default()).len() < MEMO_BYTES_MAX);
    }

    #[test]
    fn the_largest_memo_fits_the_store() {
        let far = CLIENT_ID_MAX - 1;
        let lives: Vec<(u64, Epoch)> = (0..IDS_MAX as u64).map(|n| (far - n, Epoch(CLIENT_ID_MAX / 2 - n))).collect();
        assert!(write(&lives).len() <= MEMO_BYTES_MAX);
    }

    #[test]
    fn what_is_no_memo_is_refused() {
        let huge = [&[1, 1, 0, 2][..], &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x0f].repeat(2)].concat();
        assert!(Lineage::read(&huge.into()).is_ok(), "twice the largest distance is no overflow");
        for bad in [&[2_u8][..], &[1], &[1, 1], &[1, 1, 0, 5, 1], &[1, 0, 0], &[0]] {
            assert_eq!(Lineage::read(&Bytes::copy_from_slice(bad)), Err(Unreadable), "{bad:?}");
        }
        let mut many = BytesMut::from(&[1, 1, 0][..]);
        write_var_uint(&mut many, IDS_MAX as u64 + 1);
        many.extend(std::iter::repeat_n(1, IDS_MAX + 1));
        assert_eq!(Lineage::read(&many.freeze()), Err(Unreadable));
    }

    proptest! {
        #[test]
        fn memos_come_back(lives in prop::collection::vec(prop::collection::btree_set(0..CLIENT_ID_MAX, 0..9), 0..5)) {
            let lives: Vec<Vec<u64>> = lives.into_iter().map(|ids| ids.into_iter().collect()).collect();
            let slices: Vec<&[u64]> = lives.iter().map(Vec::as_slice).collect();
            let lineage = after(&slices);
            for &client in lives.iter().flatten() {
                prop_assert!(lineage.is_stale(&clocks(&[client]), &StateVector::default()));
            }
            prop_assert!(lineage.former.is_sorted());
        }

        #[test]
        fn noise_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let memo = [&[VERSION], bytes.as_slice()].concat();
            if let Ok(lineage) = Lineage::read(&memo.into()) {
                let _ = lineage.memo(Epoch(1), &clocks(&[1]));
            }
        }
    }
}
