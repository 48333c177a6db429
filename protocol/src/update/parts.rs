//! Cuts a large update into several that are taken one after the other.
//!
//! A client that hears nothing for 30 seconds hangs up, and one huge frame in flight counts as silence. So a large first
//! state travels as several updates, each of which a document can integrate as soon as it has those before it.

use std::ops::Range;

use bytes::Bytes;

use crate::state_vector::StateVector;
use crate::update::Invalid;
use crate::update::content;
use crate::update::content::count_utf16;
use crate::update::cursor::Cursor;
use crate::update::plan::Cut;
use crate::update::plan::Piece;
use crate::update::plan::Plan;
use crate::update::plan::Schedule;
use crate::update::split::split_deletes;
use crate::update::summary::ClientRange;
use crate::update::write;
use crate::update::write::Body;
use crate::update::write::Chunk;
use crate::update::write::Part;

/// Smaller parts would be more head than content.
const PART_BYTES_MIN: usize = 64;

/// Cuts an update into parts of about `part_bytes`, each ready after its predecessors on top of `known`, the state of
/// the receiver. Deletions come last. Long texts are cut between characters and lists between values; other structs stay
/// whole.
///
/// What is below `known` is left out, except its deletions. Of plain content that the update itself deletes only the
/// length is left: a document that keeps what was deleted would send all of it to everybody, and one large value that was
/// replaced a thousand times is one struct of a thousand values. What cannot be integrated on `known` comes in one last
/// part.
/// An update of at most `part_bytes` comes back unread.
///
/// # Errors
/// [`Invalid`] when it is not an update at all. It is not validated as a client's would be.
pub fn parts(update: &Bytes, known: &StateVector, part_bytes: usize) -> Result<Vec<Bytes>, Invalid> {
    if update.len() <= part_bytes {
        return Ok(vec![update.clone()]);
    }
    let plan = Plan::read(update)?;
    let schedule = Schedule::new(&plan, known);
    let mut parts = Parts { update, part_bytes: part_bytes.max(PART_BYTES_MIN), ..Parts::default() };
    let deleted = Deleted::new(&plan.deletes);
    for &index in &schedule.order {
        let piece = &plan.pieces[index];
        if piece.is_plain && deleted.covers(piece) {
            let body = Body::Deleted { head: piece.bytes.start..piece.content_at };
            parts.chunk(Chunk { body, ..Chunk::whole(piece) });
        } else {
            parts.piece(piece)?;
        }
    }
    let (deletes, late) = split_deletes(&plan.deletes, &schedule);
    deletes.iter().for_each(|&range| parts.delete(range));
    parts.flush();
    let waiting: Vec<_> =
        (0..plan.sections.len()).flat_map(|section| schedule.waiting(section)).map(Chunk::whole).collect();
    if !waiting.is_empty() || !late.is_empty() {
        parts.done.push(write::write(update, waiting, &late));
    }
    Ok(parts.done)
}

#[derive(Default)]
struct Parts<'a> {
    update: &'a [u8],
    part_bytes: usize,
    done: Vec<Bytes>,
    chunks: Vec<Chunk>,
    deletes: Vec<ClientRange>,
    size: usize,
}

impl Parts<'_> {
    fn piece(&mut self, piece: &Piece) -> Result<(), Invalid> {
        if piece.bytes.len() <= self.part_bytes {
            self.chunk(Chunk::whole(piece));
            return Ok(());
        }
        match piece.cut {
            Cut::Text => self.text(piece),
            Cut::Values => self.values(piece),
            Cut::Nowhere => {
                self.chunk(Chunk::whole(piece));
                Ok(())
            }
        }
    }

    fn text(&mut self, piece: &Piece) -> Result<(), Invalid> {
        let text = text_of(self.update, piece)?;
        let mut clock = piece.clock;
        let mut start = text.start;
        while start < text.end {
            let end = char_boundary(self.update, start + self.part_bytes, text.end);
            let part = Part { content: content::STRING, count: end - start, bytes: start..end };
            clock = self.part(piece, clock, count_utf16(&self.update[start..end]), part);
            start = end;
        }
        Ok(())
    }

    fn values(&mut self, piece: &Piece) -> Result<(), Invalid> {
        let mut cursor = Cursor::new(&self.update[..piece.bytes.end]);
        cursor.skip(piece.content_at)?;
        let mut left = cursor.count(1)?;
        let mut clock = piece.clock;
        while left > 0 {
            let (start, before) = (cursor.at(), left);
            while left > 0 && cursor.at() - start < self.part_bytes {
                content::value(&mut cursor, 0)?;
                left -= 1;
            }
            let count = before - left;
            let part = Part { content: content::ANY, count, bytes: start..cursor.at() };
            clock = self.part(piece, clock, count, part);
        }
        Ok(())
    }

    /// A part of a piece, which takes so many clocks. Gives the clock after it.
    fn part(&mut self, piece: &Piece, clock: u32, length: usize, part: Part) -> u32 {
        // The whole piece's length is a clock, so this one's is.
        let end_clock = clock + length as u32;
        let body = if clock == piece.clock {
            Body::Head { head: piece.bytes.start..piece.content_at, part }
        } else {
            Body::Tail { right_origin: piece.right_origin, part }
        };
        self.chunk(Chunk { client: piece.client, clock, end_clock, body });
        end_clock
    }

    fn chunk(&mut self, chunk: Chunk) {
        self.make_room(chunk.size());
        self.chunks.push(chunk);
    }

    fn delete(&mut self, range: ClientRange) {
        self.make_room(write::delete_size(&range));
        self.deletes.push(range);
    }

    fn make_room(&mut self, size: usize) {
        if self.size + size > self.part_bytes {
            self.flush();
        }
        self.size += size;
    }

    fn flush(&mut self) {
        if self.chunks.is_empty() && self.deletes.is_empty() {
            return;
        }
        let chunks = std::mem::take(&mut self.chunks);
        self.done.push(write::write(self.update, chunks, &std::mem::take(&mut self.deletes)));
        self.size = 0;
    }
}

/// What an update deletes, without seams.
struct Deleted(Vec<ClientRange>);

impl Deleted {
    fn new(deletes: &[ClientRange]) -> Self {
        let mut ranges = deletes.to_vec();
        ranges.sort_by_key(|range| (range.client, range.start));
        ranges.dedup_by(|next, range| {
            let follows = next.client == range.client && next.start <= range.end;
            if follows {
                range.end = range.end.max(next.end);
            }
            follows
        });
        Self(ranges)
    }

    fn covers(&self, piece: &Piece) -> bool {
        let after = self.0.partition_point(|range| (range.client, range.start) <= (piece.client, piece.clock));
        let before = after.checked_sub(1).map(|at| self.0[at]);
        before.is_some_and(|range| range.client == piece.client && piece.end_clock <= range.end)
    }
}

/// Where the text itself stands, behind its length.
fn text_of(update: &[u8], piece: &Piece) -> Result<Range<usize>, Invalid> {
    let mut cursor = Cursor::new(&update[..piece.bytes.end]);
    cursor.skip(piece.content_at)?;
    let length = cursor.count(1)?;
    Ok(cursor.at()..cursor.at() + length)
}

/// The end of the text, or a place between two characters at or shortly before `at`.
fn char_boundary(update: &[u8], at: usize, end: usize) -> usize {
    if at >= end {
        return end;
    }
    // UTF-8 characters have at most four bytes, parts at least 64.
    (at - 3..=at).rev().find(|&at| update[at] & 0xc0 != 0x80).unwrap_or(at)
}
