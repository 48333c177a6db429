//! A view of a segment that slides over it, so that memory does not grow with what is read.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// How much is read at once.
pub(crate) const WINDOW_BYTES: usize = 256 << 10;
/// A disk writes this much at once, at its place, or not at all.
const SECTOR_BYTES: u64 = 512;

/// A sliding view of a file.
pub(crate) struct Window<'a> {
    file: &'a File,
    pub(crate) len: u64,
    start: u64,
    bytes: Vec<u8>,
}

impl<'a> Window<'a> {
    pub(crate) fn over(file: &'a File) -> io::Result<Self> {
        Ok(Self { file, len: file.metadata()?.len(), start: 0, bytes: Vec::new() })
    }

    /// Up to `want` bytes from `at`; fewer only at the end of the file.
    pub(crate) fn slice(&mut self, at: u64, want: usize) -> io::Result<&[u8]> {
        let left = usize::try_from(self.len.saturating_sub(at)).unwrap_or(usize::MAX);
        let want = want.min(left);
        let inside = at >= self.start && at + want as u64 <= self.start + self.bytes.len() as u64;
        if !inside {
            let fill = want.max(WINDOW_BYTES).min(left);
            self.bytes.resize(fill, 0);
            self.start = at;
            self.file.read_exact_at(&mut self.bytes, at)?;
        }
        let from = usize::try_from(at - self.start).unwrap_or(0);
        Ok(&self.bytes[from..from + want])
    }

    /// The end of what is written at or after `at`: behind it lie zeros only. `at` itself where there is nothing.
    pub(crate) fn written_end(&mut self, at: u64) -> io::Result<u64> {
        let (mut from, mut end) = (at, at);
        while from < self.len {
            let bytes = self.slice(from, WINDOW_BYTES)?;
            if let Some(last) = bytes.iter().rposition(|byte| *byte != 0) {
                end = from + last as u64 + 1;
            }
            from += bytes.len().max(1) as u64;
        }
        Ok(end)
    }

    /// Whether some sector that `from..to` touches is still as it was before anything was written at or after `since`.
    pub(crate) fn has_room_in(&mut self, from: u64, to: u64, since: u64) -> io::Result<bool> {
        let mut sector = from - from % SECTOR_BYTES;
        while sector < to {
            let start = sector.max(since);
            let bytes = self.slice(start, usize::try_from(sector + SECTOR_BYTES - start).unwrap_or(0))?;
            if bytes.iter().all(|byte| *byte == 0) {
                return Ok(true);
            }
            sector += SECTOR_BYTES;
        }
        Ok(false)
    }
}
