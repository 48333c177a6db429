//! What stands in columns, checked when it comes back.

use std::sync::Arc;

use bytes::Bytes;
use tokio_postgres::Row;

use crate::store::Epoch;
use crate::store::Record;
use crate::store::Seq;
use crate::store::StoreError;
use crate::store::postgres::link::Trouble;

/// Where a document stands. One that was never written stands at nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Standing {
    pub(super) epoch: u64,
    pub(super) last: u64,
    pub(super) deleted: bool,
}

impl Standing {
    /// Reads `epoch, last, deleted`, from column `at` on.
    pub(super) fn read(row: &Row, at: usize) -> Result<Self, Trouble> {
        let (epoch, last) = (position(row.try_get(at)?)?, position(row.try_get(at + 1)?)?);
        Ok(Self { epoch, last, deleted: row.try_get(at + 2)? })
    }

    /// Whether a writer of this epoch may write.
    pub(super) fn admit(self, epoch: Epoch) -> Result<(), StoreError> {
        if self.deleted || epoch.0 < self.epoch {
            return Err(StoreError::Deleted);
        }
        if epoch.0 > self.epoch {
            return Err(StoreError::Conflict(format!("epoch {} has not begun", epoch.0)));
        }
        Ok(())
    }
}

/// A number as the database has them. What does not fit is no number of ours.
pub(super) fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// A number of ours as it comes back.
pub(super) fn position(value: i64) -> Result<u64, Trouble> {
    u64::try_from(value).map_err(|_| damaged("a number is negative"))
}

pub(super) fn damaged(what: &str) -> Trouble {
    Trouble::Unfit(StoreError::Damaged(what.to_owned()))
}

/// What a record counts for in a listing.
pub(super) fn bytes_of(record: &Record) -> usize {
    record.update.len() + record.sidecar.len()
}

/// The checksum of a record: of all of it, each part with its length.
pub(super) fn crc_of(record: &Record) -> i64 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&number(record.at_ms).to_le_bytes());
    let user = record.user.as_deref().map_or(&[][..], str::as_bytes);
    for part in [user, &record.update[..], &record.sidecar[..]] {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    hasher.finalize().into()
}

/// Reads `seq, at_ms, author, bytes, sidecar, crc`.
pub(super) fn record(row: &Row) -> Result<(Seq, Record), Trouble> {
    let seq = position(row.try_get(0)?)?;
    let author: Option<&[u8]> = row.try_get(2)?;
    let author = author.map(|bytes| std::str::from_utf8(bytes).map(Arc::from)).transpose();
    let record = Record {
        update: Bytes::copy_from_slice(row.try_get(3)?),
        user: author.map_err(|_| damaged(&format!("record {seq} has an author that is no text")))?,
        at_ms: position(row.try_get(1)?)?,
        sidecar: Bytes::copy_from_slice(row.try_get(4)?),
    };
    let crc: i64 = row.try_get(5)?;
    if crc != crc_of(&record) {
        return Err(damaged(&format!("the checksum of record {seq} is wrong")));
    }
    Ok((Seq(seq), record))
}
