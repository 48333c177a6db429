//! Puts updates together from the bytes of others.

use std::cmp::Reverse;
use std::ops::Range;

use bytes::BufMut;
use bytes::Bytes;
use bytes::BytesMut;

use crate::update::content;
use crate::update::cursor::Id;
use crate::update::plan::Piece;
use crate::update::summary::ClientRange;
use crate::update::walk::CONTENT;
use crate::update::walk::HAS_ORIGIN;
use crate::update::walk::HAS_RIGHT_ORIGIN;
use crate::wire::var_uint_len;
use crate::wire::write_var_uint;

/// One struct to be written.
#[derive(Debug, Clone)]
pub(super) struct Chunk {
    pub(super) client: u64,
    pub(super) clock: u32,
    pub(super) end_clock: u32,
    pub(super) body: Body,
}

/// Where the bytes of a struct come from; ranges are in the update that is taken apart.
#[derive(Debug, Clone)]
pub(super) enum Body {
    /// As it stands.
    Whole(Range<usize>),
    /// The first part of its content, behind the struct's own head.
    Head { head: Range<usize>, part: Part },
    /// A later part, which follows the one before it.
    Tail { right_origin: Option<Id>, part: Part },
    /// Its head, and how much there was.
    Deleted { head: Range<usize> },
}

/// Some of the characters of a text, or of the values of a list.
#[derive(Debug, Clone)]
pub(super) struct Part {
    pub(super) content: u8,
    /// Bytes of a text, or values.
    pub(super) count: usize,
    pub(super) bytes: Range<usize>,
}

impl Part {
    fn write(&self, update: &[u8], out: &mut BytesMut) {
        write_var_uint(out, self.count as u64);
        out.put_slice(&update[self.bytes.clone()]);
    }
}

impl Chunk {
    pub(super) fn whole(piece: &Piece) -> Self {
        Self {
            client: piece.client,
            clock: piece.clock,
            end_clock: piece.end_clock,
            body: Body::Whole(piece.bytes.clone()),
        }
    }

    /// About how many bytes it takes.
    pub(super) fn size(&self) -> usize {
        match &self.body {
            Body::Whole(bytes) => bytes.len(),
            Body::Head { head, part } => head.len() + part.bytes.len() + 4,
            Body::Tail { part, .. } => part.bytes.len() + 32,
            Body::Deleted { head } => head.len() + 4,
        }
    }

    fn write(&self, update: &[u8], out: &mut BytesMut) {
        match &self.body {
            Body::Whole(bytes) => out.put_slice(&update[bytes.clone()]),
            Body::Head { head, part } => {
                out.put_slice(&update[head.clone()]);
                part.write(update, out);
            }
            Body::Tail { right_origin, part } => {
                let right_flag = if right_origin.is_some() { HAS_RIGHT_ORIGIN } else { 0 };
                out.put_u8(part.content | HAS_ORIGIN | right_flag);
                write_id(out, Id { client: self.client, clock: self.clock - 1 });
                right_origin.iter().for_each(|&id| write_id(out, id));
                part.write(update, out);
            }
            Body::Deleted { head } => {
                out.put_u8(update[head.start] & !CONTENT | content::DELETED);
                out.put_slice(&update[head.start + 1..head.end]);
                write_var_uint(out, u64::from(self.end_clock - self.clock));
            }
        }
    }
}

/// Writes an update. Chunks of one client must be in order; where they leave a gap, a Skip is written.
pub(super) fn write(update: &[u8], mut chunks: Vec<Chunk>, deletes: &[ClientRange]) -> Bytes {
    chunks.sort_by_key(|chunk| Reverse(chunk.client));
    let size = chunks.iter().map(Chunk::size).sum::<usize>() + deletes_size(deletes) + 64;
    let mut out = BytesMut::with_capacity(size);
    write_var_uint(&mut out, chunks.chunk_by(|a, b| a.client == b.client).count() as u64);
    for section in chunks.chunk_by(|a, b| a.client == b.client) {
        let gaps = section.windows(2).filter(|pair| pair[0].end_clock < pair[1].clock).count();
        write_var_uint(&mut out, (section.len() + gaps) as u64);
        write_var_uint(&mut out, section[0].client);
        write_var_uint(&mut out, u64::from(section[0].clock));
        let mut clock = section[0].clock;
        for chunk in section {
            if clock < chunk.clock {
                out.put_u8(content::SKIP);
                write_var_uint(&mut out, u64::from(chunk.clock - clock));
            }
            chunk.write(update, &mut out);
            clock = chunk.end_clock;
        }
    }
    write_deletes(&mut out, deletes);
    out.freeze()
}

/// Writes a delete set; ranges of one client stand together.
pub(super) fn write_deletes(out: &mut BytesMut, deletes: &[ClientRange]) {
    write_var_uint(out, deletes.chunk_by(|a, b| a.client == b.client).count() as u64);
    for ranges in deletes.chunk_by(|a, b| a.client == b.client) {
        write_var_uint(out, ranges[0].client);
        write_var_uint(out, ranges.len() as u64);
        for range in ranges {
            write_var_uint(out, u64::from(range.start));
            write_var_uint(out, u64::from(range.end - range.start));
        }
    }
}

/// About how many bytes a delete set takes.
pub(super) fn deletes_size(deletes: &[ClientRange]) -> usize {
    deletes.iter().map(delete_size).sum()
}

/// About how many bytes one range takes, its client included.
pub(super) fn delete_size(range: &ClientRange) -> usize {
    let length = u64::from(range.end - range.start);
    var_uint_len(range.client) + var_uint_len(u64::from(range.start)) + var_uint_len(length)
}

fn write_id(out: &mut BytesMut, id: Id) {
    write_var_uint(out, id.client);
    write_var_uint(out, u64::from(id.clock));
}
