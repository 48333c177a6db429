//! One entry of a segment file: pure layout, no files.
//!
//! ```text
//! header │ name │ crc │ body (sealed value) │ trailer │ name │ crc
//! ```
//!
//! The trailer repeats who the entry belongs to, at its other end: one damaged place spoils either the header, the body
//! or the trailer, and what is left says which document was hit. Checksums start from a salt that is random per data
//! directory, so that bytes which a client put into an update are never taken for an entry when the reader has lost its
//! place and searches for the next one.

use crc32fast::Hasher;

/// Starts a header; the last byte is the layout's version.
pub(crate) const HEADER_MAGIC: [u8; 4] = [0xa5, b'S', b'L', 1];
/// Starts a trailer.
pub(crate) const TRAILER_MAGIC: [u8; 4] = [0x5a, b'S', b'L', 1];

const HEADER_FIXED: usize = 56;
const TRAILER_FIXED: usize = 32;
const CRC_BYTES: usize = 4;
/// Longest name in an entry.
const NAME_BYTES_MAX: usize = crate::name::NAME_BYTES_MAX;
/// A header with the longest name.
pub(crate) const HEADER_BYTES_MAX: usize = HEADER_FIXED + NAME_BYTES_MAX + CRC_BYTES;
/// A trailer with the longest name.
pub(crate) const TRAILER_BYTES_MAX: usize = TRAILER_FIXED + NAME_BYTES_MAX + CRC_BYTES;
/// Longest body: what one append may carry.
pub(crate) const BODY_BYTES_MAX: usize = 128 << 20;

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The records of one append.
    Append,
    /// What is known of a document besides its records; `first` is the note's version.
    Note,
    /// Written to see whether writing works.
    Probe,
    /// Where every document stands that was written to since offset `first` of the segment.
    Roster,
}

impl Kind {
    fn code(self) -> u8 {
        match self {
            Self::Append => 1,
            Self::Note => 2,
            Self::Probe => 3,
            Self::Roster => 4,
        }
    }

    fn of(code: u8) -> Option<Self> {
        [Self::Append, Self::Note, Self::Probe, Self::Roster].into_iter().find(|kind| kind.code() == code)
    }
}

/// Where an entry lies in its segment. Offset 0 is the segment's own header, so it means "nowhere".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Place {
    pub(crate) offset: u64,
    pub(crate) bytes: u32,
}

/// An entry without its body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) kind: Kind,
    pub(crate) name: String,
    pub(crate) epoch: u64,
    /// First record, or the note's version.
    pub(crate) first: u64,
    /// How many records.
    pub(crate) count: u32,
    /// When the last record was accepted.
    pub(crate) at_ms: u64,
    /// The same document's entry before this one in the same segment.
    pub(crate) prev: Place,
    pub(crate) body_bytes: u32,
}

impl Header {
    /// The last record of the entry.
    pub(crate) fn last(&self) -> u64 {
        self.first.saturating_add(u64::from(self.count)).saturating_sub(1)
    }

    fn bytes(&self) -> usize {
        HEADER_FIXED + self.name.len() + CRC_BYTES
    }

    /// Length of the whole entry.
    pub(crate) fn frame_bytes(&self) -> usize {
        self.bytes() + self.body_bytes as usize + TRAILER_FIXED + self.name.len() + CRC_BYTES
    }
}

/// What the trailer says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Trailer {
    pub(crate) kind: Kind,
    pub(crate) name: String,
    pub(crate) epoch: u64,
    pub(crate) last: u64,
    /// From the entry's first byte to the trailer's first.
    pub(crate) distance: u32,
    /// From the first byte that was written together with the entry to the entry's first. 0 where that is not known.
    pub(crate) in_round: u32,
    /// The trailer's own length.
    pub(crate) bytes: usize,
}

/// Bytes of an entry in front of its trailer.
pub(crate) fn trailer_distance(header: &Header) -> usize {
    header.bytes() + header.body_bytes as usize
}

/// Appends a whole entry to `out`, which holds what is written together with it. `header.body_bytes` is set from `body`,
/// which is at most [`BODY_BYTES_MAX`] long.
pub(crate) fn write(out: &mut Vec<u8>, salt: u32, header: &mut Header, body: &[u8]) {
    let start = out.len();
    let in_round = u32::try_from(start).expect("rounds are bounded");
    header.body_bytes = u32::try_from(body.len()).expect("bodies are bounded by BODY_BYTES_MAX");
    let name_bytes = u16::try_from(header.name.len()).expect("names are at most 255 bytes");
    out.extend_from_slice(&HEADER_MAGIC);
    out.extend_from_slice(&[header.kind.code(), 0]);
    out.extend_from_slice(&name_bytes.to_le_bytes());
    out.extend_from_slice(&header.body_bytes.to_le_bytes());
    out.extend_from_slice(&header.count.to_le_bytes());
    out.extend_from_slice(&header.epoch.to_le_bytes());
    out.extend_from_slice(&header.first.to_le_bytes());
    out.extend_from_slice(&header.at_ms.to_le_bytes());
    out.extend_from_slice(&header.prev.offset.to_le_bytes());
    out.extend_from_slice(&header.prev.bytes.to_le_bytes());
    // The body's checksum belongs to the salted header, so that a body cannot stand under another header.
    out.extend_from_slice(&crc(salt, body).to_le_bytes());
    out.extend_from_slice(header.name.as_bytes());
    close(out, start, salt);
    out.extend_from_slice(body);
    let distance = u32::try_from(out.len() - start).expect("header and body are bounded");
    let start = out.len();
    out.extend_from_slice(&TRAILER_MAGIC);
    out.extend_from_slice(&[header.kind.code(), 0]);
    out.extend_from_slice(&name_bytes.to_le_bytes());
    out.extend_from_slice(&distance.to_le_bytes());
    out.extend_from_slice(&in_round.to_le_bytes());
    out.extend_from_slice(&header.epoch.to_le_bytes());
    out.extend_from_slice(&if header.kind == Kind::Note { header.first } else { header.last() }.to_le_bytes());
    out.extend_from_slice(header.name.as_bytes());
    close(out, start, salt);
}

fn close(out: &mut Vec<u8>, start: usize, salt: u32) {
    let sum = crc(salt, &out[start..]);
    out.extend_from_slice(&sum.to_le_bytes());
}

/// Reads a header at the start of `bytes`, which may be longer or cut. Answers it with the body's checksum.
pub(crate) fn header(bytes: &[u8], salt: u32) -> Option<(Header, u32)> {
    let name_bytes = named(bytes, HEADER_MAGIC, HEADER_FIXED, salt)?;
    let header = Header {
        kind: Kind::of(bytes[4])?,
        name: text(&bytes[HEADER_FIXED..HEADER_FIXED + name_bytes])?,
        body_bytes: u32_at(bytes, 8),
        count: u32_at(bytes, 12),
        epoch: u64_at(bytes, 16),
        first: u64_at(bytes, 24),
        at_ms: u64_at(bytes, 32),
        prev: Place { offset: u64_at(bytes, 40), bytes: u32_at(bytes, 48) },
    };
    let plausible =
        header.body_bytes as usize <= BODY_BYTES_MAX && header.first.checked_add(header.count.into()).is_some();
    plausible.then_some((header, u32_at(bytes, 52)))
}

/// Reads a trailer at the start of `bytes`.
pub(crate) fn trailer(bytes: &[u8], salt: u32) -> Option<Trailer> {
    let name_bytes = named(bytes, TRAILER_MAGIC, TRAILER_FIXED, salt)?;
    Some(Trailer {
        kind: Kind::of(bytes[4])?,
        name: text(&bytes[TRAILER_FIXED..TRAILER_FIXED + name_bytes])?,
        distance: u32_at(bytes, 8),
        in_round: u32_at(bytes, 12),
        epoch: u64_at(bytes, 16),
        last: u64_at(bytes, 24),
        bytes: TRAILER_FIXED + name_bytes + CRC_BYTES,
    })
}

/// The body of a whole entry whose header was read, where its checksum holds.
pub(crate) fn body<'a>(frame: &'a [u8], header: &Header, sum: u32, salt: u32) -> Option<&'a [u8]> {
    let start = header.bytes();
    let body = frame.get(start..start + header.body_bytes as usize)?;
    (crc(salt, body) == sum).then_some(body)
}

/// Checks magic, name length and checksum; answers the name's length.
fn named(bytes: &[u8], magic: [u8; 4], fixed: usize, salt: u32) -> Option<usize> {
    if bytes.len() < fixed || bytes[..4] != magic {
        return None;
    }
    let name_bytes = usize::from(u16::from_le_bytes([bytes[6], bytes[7]]));
    let end = fixed + name_bytes;
    if name_bytes > NAME_BYTES_MAX || bytes.len() < end + CRC_BYTES {
        return None;
    }
    (crc(salt, &bytes[..end]) == u32_at(bytes, end)).then_some(name_bytes)
}

fn crc(salt: u32, bytes: &[u8]) -> u32 {
    let mut hasher = Hasher::new_with_initial(salt);
    hasher.update(bytes);
    hasher.finalize()
}

fn text(bytes: &[u8]) -> Option<String> {
    std::str::from_utf8(bytes).ok().map(str::to_owned)
}

/// The four bytes at `at`; callers checked the length.
fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes[at..at + 4].try_into().map_or(0, u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes[at..at + 8].try_into().map_or(0, u64::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> (Header, Vec<u8>) {
        let mut header = Header {
            kind: Kind::Append,
            name: "table:ü".into(),
            epoch: 3,
            first: 7,
            count: 2,
            at_ms: 99,
            prev: Place { offset: 16, bytes: 120 },
            body_bytes: 0,
        };
        let mut out = Vec::new();
        write(&mut out, 42, &mut header, b"the body");
        (header, out)
    }

    #[test]
    fn an_entry_comes_back_from_both_ends() {
        let (wrote, bytes) = sample();
        let (read, sum) = header(&bytes, 42).unwrap();
        assert_eq!(read, wrote);
        assert_eq!(read.frame_bytes(), bytes.len());
        assert_eq!(body(&bytes, &read, sum, 42), Some(&b"the body"[..]));
        let at = (0..bytes.len()).find(|&at| trailer(&bytes[at..], 42).is_some()).unwrap();
        let end = trailer(&bytes[at..], 42).unwrap();
        assert_eq!((end.distance as usize, end.last, end.epoch, end.name.as_str()), (at, 8, 3, "table:ü"));
        assert_eq!(at + end.bytes, bytes.len());
    }

    #[test]
    fn a_trailer_tells_where_its_round_began() {
        let (mut header, mut round) = sample();
        let second = round.len();
        write(&mut round, 42, &mut header, b"another");
        let starts = (0..round.len()).filter_map(|at| trailer(&round[at..], 42)).map(|end| end.in_round as usize);
        assert_eq!(starts.collect::<Vec<_>>(), [0, second]);
    }

    #[test]
    fn one_flipped_bit_leaves_one_end_readable() {
        let (_, bytes) = sample();
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            let whole = header(&bad, 42).is_some_and(|(h, sum)| body(&bad, &h, sum, 42).is_some());
            let end = (0..bad.len()).any(|at| trailer(&bad[at..], 42).is_some());
            assert!(whole || end, "bit {bit}");
        }
    }

    #[test]
    fn another_salt_reads_nothing() {
        let (_, bytes) = sample();
        assert_eq!(header(&bytes, 43), None);
        assert!((0..bytes.len()).all(|at| trailer(&bytes[at..], 43).is_none()));
    }
}
