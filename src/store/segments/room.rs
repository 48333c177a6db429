//! Room ahead of the log's end: zeros that the next rounds overwrite.
//!
//! A file that grows has to tell so: each `fdatasync` writes the file system's journal too. Inside room nothing changes
//! but the bytes, which took two thirds of the time for a small round (measured on ext4). Room that is only reserved
//! (`fallocate`) is as fast for small rounds, yet is written down in the journal once more for each block that fills up;
//! zeros are not, and every file system has them. They go out with the round that needs room, and share its `fdatasync`.

use std::fs::File;
use std::io;

use crate::store::segments::disk::DiskFaults;

/// A first room for a segment; later ones grow with it.
const ROOM_BYTES_MIN: u64 = 64 << 10;
/// About 800 small appends. More would make the one that pays for it wait longer: writing it takes 0.2 ms.
const ROOM_BYTES_MAX: u64 = 256 << 10;
/// A round of this size pays for its own journal entry, and room would only be written twice.
const ROUND_BYTES_LARGE: usize = 32 << 10;
/// Room ends where blocks do.
const BLOCK_BYTES: u64 = 4096;

/// How far a segment's file is filled with zeros.
#[derive(Debug, Default)]
pub(crate) struct Room {
    end: u64,
    /// The disk had none to spare: from then on this segment grows round by round.
    refused: bool,
}

impl Room {
    /// Writes a round at `at`, with room behind it where there is none left for it. A segment is complete at
    /// `segment_bytes`, so no room is made behind that.
    pub(crate) fn write(
        &mut self,
        faults: &DiskFaults,
        file: &File,
        bytes: &mut Vec<u8>,
        at: u64,
        segment_bytes: u64,
    ) -> io::Result<()> {
        let round_bytes = bytes.len();
        let end = at + round_bytes as u64;
        let wanted = self.wanted(end, round_bytes, segment_bytes);
        if wanted > end {
            bytes.resize(usize::try_from(wanted - at).unwrap_or(round_bytes), 0);
            let written = faults.write_ahead(file, bytes, at);
            bytes.truncate(round_bytes);
            if written.is_ok() {
                self.end = wanted;
                return Ok(());
            }
            self.refused = true;
            // What arrived of it may have taken the last free block.
            file.set_len(at)?;
        }
        faults.write_all_at(file, bytes, at)
    }

    /// Where the file is to end; not behind `end` where the round goes out as it is.
    fn wanted(&self, end: u64, round_bytes: usize, segment_bytes: u64) -> u64 {
        if self.refused || end <= self.end || round_bytes >= ROUND_BYTES_LARGE {
            return 0;
        }
        let ahead = end.clamp(ROOM_BYTES_MIN, ROOM_BYTES_MAX);
        (end + ahead).min(segment_bytes).next_multiple_of(BLOCK_BYTES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_grows_with_the_segment_and_ends_with_it() {
        let room = Room::default();
        let segment = 64 << 20;
        assert_eq!(room.wanted(300, 284, segment), 68 << 10);
        assert_eq!(room.wanted(1 << 20, 284, segment), (1 << 20) + ROOM_BYTES_MAX);
        assert_eq!(room.wanted(segment - 1, 284, segment), segment);
        assert!(room.wanted(segment + 5000, 284, segment) < segment + 5000, "the last round may go over the end");
        assert_eq!(room.wanted(1 << 20, ROUND_BYTES_LARGE, segment), 0);
        assert_eq!(Room { end: 4096, refused: false }.wanted(4096, 284, segment), 0, "it fits");
        assert_eq!(Room { end: 4096, refused: true }.wanted(4097, 284, segment), 0);
    }
}
