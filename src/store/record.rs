//! How values look on disk. The only place that knows bincode.
//!
//! What is stored has structs of its own here; the types of [`crate::store`] derive nothing. A value goes to disk
//! *sealed*:
//!
//! ```text
//! version u8 │ length u32 LE │ crc32 u32 LE (of version, length, payload) │ payload: bincode, standard configuration
//! ```
//!
//! bincode alone would ask for 103 GB on nine hostile bytes, ignores what trails, and decodes most corruptions: so it
//! runs with a limit, behind a checksum, and the length that it consumed is compared. No bytes make this module panic.

use std::sync::Arc;

use bincode::BorrowDecode;
use bincode::Encode;
use bytes::Bytes;

use crate::store::Record;

/// Version of the sealed values that this build writes, and the newest that it reads.
pub const VERSION: u8 = 1;

/// Largest sealed value: one append, or the table of contents of one segment.
pub const VALUE_BYTES_MAX: usize = 512 << 20;

/// Bytes in front of a sealed value's payload.
const PREFIX_BYTES: usize = 9;

/// Longest user name that is believed. Longer ones mean damage, not people.
const USER_BYTES_MAX: usize = 4096;

/// Why stored bytes cannot be understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Corrupt {
    /// Fewer bytes than the value says.
    #[error("it is cut short")]
    Short,
    /// The checksum does not match.
    #[error("its checksum is wrong")]
    Checksum,
    /// Written by a newer version of the program.
    #[error("it has format version {0}, this program knows {VERSION}")]
    Newer(u8),
    /// The checksum is right, but the content is not what belongs here.
    #[error("its content makes no sense")]
    Content,
}

/// One update, as it stands in a log entry.
#[derive(Encode, BorrowDecode)]
struct StoredRecord<'a> {
    update: &'a [u8],
    user: Option<&'a str>,
    at_ms: u64,
    sidecar: &'a [u8],
}

/// What is known of a document besides its records: the newest note of a document is the truth about it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, BorrowDecode)]
pub struct StoredNote {
    /// Counts the notes of one document; the highest wins.
    pub version: u64,
    /// The life of the document.
    pub epoch: u64,
    /// Its last record when the note was written.
    pub last: u64,
    /// Whether this is a tombstone.
    pub deleted: bool,
    /// When its last record was accepted, in milliseconds since 1970.
    pub updated_at_ms: u64,
    /// Counts the snapshots ever made of this name, so that the parts of two never mix.
    pub generation: u64,
    /// The snapshot in force.
    pub snapshot: Option<StoredSnapshotKey>,
}

/// Which snapshot is in force, and how to know it when it is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, BorrowDecode)]
pub struct StoredSnapshotKey {
    /// Its generation: part of its keys.
    pub generation: u64,
    /// The last record in it.
    pub through: u64,
    /// How many parts it has.
    pub parts: u32,
    /// State and sidecar together.
    pub bytes: u64,
    /// crc32 of state and sidecar together.
    pub crc: u32,
}

/// One part of a snapshot, with enough beside the bytes to recognise it when the log is gone.
#[derive(Debug, Clone, PartialEq, Eq, Encode, BorrowDecode)]
pub struct StoredPart<'a> {
    /// The document.
    pub name: &'a str,
    /// Its life.
    pub epoch: u64,
    /// The snapshot that this is a part of.
    pub key: StoredSnapshotKey,
    /// Which part, from 0.
    pub part: u32,
    /// How many bytes of the whole are the state; the rest is the sidecar.
    pub state_bytes: u64,
    /// The bytes.
    pub bytes: &'a [u8],
}

/// A run of one document's entries in one segment, linked backwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, BorrowDecode)]
pub struct StoredExtent {
    /// The life of the document.
    pub epoch: u64,
    /// Its first record here.
    pub first: u64,
    /// Its last record here.
    pub last: u64,
    /// Where the newest entry starts.
    pub head: u64,
    /// Length of the newest entry.
    pub head_bytes: u32,
    /// All entries together.
    pub bytes: u64,
    /// When the last record was accepted.
    pub at_ms: u64,
}

/// Entries known to have been in a segment and to be unreadable now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, BorrowDecode)]
pub struct StoredLoss {
    /// The life of the document.
    pub epoch: u64,
    /// The last record that was in it, 0 for none.
    pub last: u64,
    /// The version of the note that was in it, 0 for none.
    pub note: u64,
    /// Whether it is only possible, not certain, that something of this document was lost.
    pub possible: bool,
}

/// Where one document stood when a roster was written.
#[derive(Debug, Clone, PartialEq, Eq, Encode, BorrowDecode)]
pub struct StoredStanding {
    /// The document.
    pub name: String,
    /// Its life.
    pub epoch: u64,
    /// Its last record.
    pub last: u64,
    /// Its newest note.
    pub note: u64,
}

/// What one segment holds of one document.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, BorrowDecode)]
pub struct StoredContents {
    /// The document.
    pub name: String,
    /// The note in this segment that was in force when it was sealed.
    pub note: Option<StoredNote>,
    /// Its entries.
    pub extents: Vec<StoredExtent>,
    /// What is known to be missing.
    pub losses: Vec<StoredLoss>,
}

/// The table of contents of a sealed segment.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, BorrowDecode)]
pub struct StoredTable {
    /// The segment's number.
    pub segment: u64,
    /// Bytes of the segment that count.
    pub bytes: u64,
    /// Every document in it that mattered when it was sealed.
    pub docs: Vec<StoredContents>,
}

/// Encodes the records of one append.
///
/// # Errors
/// [`Corrupt::Content`] when they are larger than [`VALUE_BYTES_MAX`].
pub fn encode_records(records: &[Record]) -> Result<Vec<u8>, Corrupt> {
    let stored: Vec<_> = records
        .iter()
        .map(|r| StoredRecord { update: &r.update, user: r.user.as_deref(), at_ms: r.at_ms, sidecar: &r.sidecar })
        .collect();
    seal(&stored)
}

/// Decodes what [`encode_records`] made. The updates are slices of `sealed`, not copies.
///
/// # Errors
/// [`Corrupt`] for anything else.
pub fn decode_records(sealed: &Bytes) -> Result<Vec<Record>, Corrupt> {
    let stored: Vec<StoredRecord<'_>> = unseal(sealed)?;
    stored.iter().map(|r| owned(sealed, r)).collect()
}

fn owned(sealed: &Bytes, stored: &StoredRecord<'_>) -> Result<Record, Corrupt> {
    if stored.user.is_some_and(|user| user.len() > USER_BYTES_MAX) {
        return Err(Corrupt::Content);
    }
    Ok(Record {
        update: slice_of(sealed, stored.update),
        user: stored.user.map(Arc::from),
        at_ms: stored.at_ms,
        sidecar: slice_of(sealed, stored.sidecar),
    })
}

/// `part` was borrowed from `whole`, so `slice_ref` finds it; an empty one may point anywhere.
fn slice_of(whole: &Bytes, part: &[u8]) -> Bytes {
    if part.is_empty() { Bytes::new() } else { whole.slice_ref(part) }
}

/// Puts version, length and checksum in front of a value's encoding.
///
/// # Errors
/// [`Corrupt::Content`] when it is larger than [`VALUE_BYTES_MAX`].
pub fn seal<T: Encode>(value: &T) -> Result<Vec<u8>, Corrupt> {
    let mut out = vec![0; PREFIX_BYTES];
    bincode::encode_into_std_write(value, &mut out, config()).map_err(|_| Corrupt::Content)?;
    close(out)
}

/// Puts a good prefix in front of any payload, so that a fuzzer reaches what stands behind the checksum.
#[doc(hidden)]
#[must_use]
pub fn resealed(payload: &[u8]) -> Option<Vec<u8>> {
    close([&[0; PREFIX_BYTES], payload].concat()).ok()
}

/// Fills in the prefix that `out` has room for.
fn close(mut out: Vec<u8>) -> Result<Vec<u8>, Corrupt> {
    let length = out.len() - PREFIX_BYTES;
    if length > VALUE_BYTES_MAX {
        return Err(Corrupt::Content);
    }
    let length = u32::try_from(length).map_err(|_| Corrupt::Content)?;
    out[0] = VERSION;
    out[1..5].copy_from_slice(&length.to_le_bytes());
    let crc = checksum(&out[..5], &out[PREFIX_BYTES..]);
    out[5..PREFIX_BYTES].copy_from_slice(&crc.to_le_bytes());
    Ok(out)
}

/// Reads a sealed value that fills `bytes` exactly.
///
/// # Errors
/// [`Corrupt`] says what is wrong with it.
pub fn unseal<'a, T: BorrowDecode<'a, ()>>(bytes: &'a [u8]) -> Result<T, Corrupt> {
    let (prefix, payload) = bytes.split_at_checked(PREFIX_BYTES).ok_or(Corrupt::Short)?;
    let length = u32::from_le_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]) as usize;
    let crc = u32::from_le_bytes([prefix[5], prefix[6], prefix[7], prefix[8]]);
    if payload.len() < length {
        return Err(Corrupt::Short);
    }
    if payload.len() > length {
        return Err(Corrupt::Content);
    }
    // The checksum comes first: a flipped version byte is damage, not a newer program.
    if checksum(&prefix[..5], payload) != crc {
        return Err(Corrupt::Checksum);
    }
    if prefix[0] != VERSION {
        return Err(Corrupt::Newer(prefix[0]));
    }
    let (value, used) = bincode::borrow_decode_from_slice(payload, config()).map_err(|_| Corrupt::Content)?;
    if used == payload.len() { Ok(value) } else { Err(Corrupt::Content) }
}

fn config() -> impl bincode::config::Config {
    bincode::config::standard().with_limit::<VALUE_BYTES_MAX>()
}

fn checksum(head: &[u8], payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(head);
    hasher.update(payload);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn record(update: &[u8], user: Option<&str>) -> Record {
        Record {
            update: Bytes::copy_from_slice(update),
            user: user.map(Arc::from),
            at_ms: 1_700_000_000_000,
            sidecar: Bytes::from_static(b"side"),
        }
    }

    /// Golden: what one version wrote, every later version reads. Change [`VERSION`] before you change these bytes.
    #[test]
    fn the_bytes_of_version_1() {
        let sealed = encode_records(&[record(b"\x01\x02", Some("alice"))]).unwrap();
        assert_eq!(hex(&sealed), "0119000000bc4a0ace010201020105616c696365fd0068e5cf8b0100000473696465");
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|b| format!("{b:02x}")).collect()
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        let sealed = encode_records(&[record(b"update", None), record(b"", Some("bob"))]).unwrap();
        for bit in 0..sealed.len() * 8 {
            let mut bad = sealed.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(decode_records(&bad.into()).is_err(), "bit {bit}");
        }
        for cut in 0..sealed.len() {
            assert!(decode_records(&Bytes::copy_from_slice(&sealed[..cut])).is_err(), "cut {cut}");
        }
        let mut longer = sealed;
        longer.push(0);
        assert_eq!(decode_records(&longer.into()), Err(Corrupt::Content));
    }

    #[test]
    fn a_length_that_lies_asks_for_no_memory() {
        let payload = [0xfd, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f];
        let mut bytes = vec![VERSION];
        bytes.extend(9_u32.to_le_bytes());
        bytes.extend(checksum(&bytes.clone(), &payload).to_le_bytes());
        bytes.extend(payload);
        assert_eq!(decode_records(&bytes.into()), Err(Corrupt::Content));
    }

    #[test]
    fn a_newer_version_is_told_from_damage() {
        let mut bytes = vec![VERSION + 1, 0, 0, 0, 0];
        bytes.extend(checksum(&bytes.clone(), &[]).to_le_bytes());
        assert_eq!(unseal::<StoredNote>(&bytes), Err(Corrupt::Newer(VERSION + 1)));
    }

    proptest! {
        #[test]
        fn records_come_back(records in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..50), prop::option::of("[a-zü]{0,9}")), 0..9)) {
            let records: Vec<_> = records.iter().map(|(u, user)| record(u, user.as_deref())).collect();
            let sealed = Bytes::from(encode_records(&records).unwrap());
            prop_assert_eq!(decode_records(&sealed).unwrap(), records);
        }

        #[test]
        fn noise_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            for bytes in [resealed(&bytes).unwrap(), bytes] {
                let _ = unseal::<StoredTable>(&bytes);
                let _ = unseal::<Vec<StoredStanding>>(&bytes);
                let _ = unseal::<StoredPart<'_>>(&bytes);
                let _ = decode_records(&bytes.into());
            }
        }
    }
}
