//! Cuts a large update into several that are taken one after the other.
//!
//! A client that hears nothing for 30 seconds hangs up, and one huge frame in flight counts as silence. So a large first
//! state travels as several updates, each of which a document can integrate as soon as it has those before it.

use std::ops::Range;

use bytes::Bytes;

use crate::state_vector::StateVector;
use crate::update::Invalid;
use crate::update::content::count_utf16;
use crate::update::cursor::Cursor;
use crate::update::plan::Piece;
use crate::update::plan::Plan;
use crate::update::plan::Schedule;
use crate::update::split::split_deletes;
use crate::update::summary::ClientRange;
use crate::update::write;
use crate::update::write::Body;
use crate::update::write::Chunk;

/// Smaller parts would be more head than content.
const PART_BYTES_MIN: usize = 64;

/// Cuts an update into parts of about `part_bytes`, each ready after its predecessors on top of `known`, the state of
/// the receiver. Deletions come last. Long texts are cut between characters, other structs stay whole.
///
/// What is below `known` is left out, except its deletions. What cannot be integrated on `known` comes in one last part.
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
    for &index in &schedule.order {
        parts.piece(&plan.pieces[index])?;
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
        if !piece.is_text || piece.bytes.len() <= self.part_bytes {
            self.chunk(Chunk::whole(piece));
            return Ok(());
        }
        let text = text_of(self.update, piece)?;
        let mut clock = piece.clock;
        let mut start = text.start;
        while start < text.end {
            let end = char_boundary(self.update, start + self.part_bytes, text.end);
            let end_clock = clock + count_utf16(&self.update[start..end]) as u32;
            let body = if start == text.start {
                Body::TextHead { head: piece.bytes.start..piece.content_at, text: start..end }
            } else {
                Body::TextTail { right_origin: piece.right_origin, text: start..end }
            };
            self.chunk(Chunk { client: piece.client, clock, end_clock, body });
            (clock, start) = (end_clock, end);
        }
        Ok(())
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
