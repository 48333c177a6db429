//! Joins the updates of one batch, bytes with bytes.

use std::cmp::Reverse;
use std::ops::Range;

use bytes::BufMut;
use bytes::Bytes;
use bytes::BytesMut;

use crate::update::Invalid;
use crate::update::UpdateLimits;
use crate::update::content;
use crate::update::summary::ClientRange;
use crate::update::walk;
use crate::update::walk::Block;
use crate::update::walk::Sink;
use crate::update::write;
use crate::wire::write_var_uint;

/// Merges consecutive updates into one that brings the same. Structs are copied, not joined: typing a word letter by
/// letter stays a struct a letter.
///
/// `None` when two of them overlap or leave a gap, when one has a gap within, or when one is no update; then they are to
/// be sent one by one.
#[must_use]
pub fn merge(updates: &[Bytes]) -> Option<Bytes> {
    if let [update] = updates {
        return Some(update.clone());
    }
    let mut spans = Spans::default();
    for (index, update) in updates.iter().enumerate() {
        spans.update = index;
        walk::walk(update, &UpdateLimits::none(), &mut spans).ok()?;
    }
    if spans.has_gap {
        return None;
    }
    spans.sections.sort_by_key(|section| Reverse(section.client));
    let follows = |a: &Section, b: &Section| a.client != b.client || a.clocks.end == b.clocks.start;
    if !spans.sections.windows(2).all(|pair| follows(&pair[0], &pair[1])) {
        return None;
    }
    Some(spans.write(updates))
}

/// One client's structs in one of the updates.
#[derive(Debug)]
struct Section {
    client: u64,
    clocks: Range<u32>,
    structs: usize,
    update: usize,
    bytes: Range<usize>,
}

#[derive(Debug, Default)]
struct Spans {
    sections: Vec<Section>,
    deletes: Vec<ClientRange>,
    update: usize,
    has_gap: bool,
}

impl Spans {
    fn write(mut self, updates: &[Bytes]) -> Bytes {
        let mut out = BytesMut::with_capacity(updates.iter().map(Bytes::len).sum());
        let clients = self.sections.chunk_by(|a, b| a.client == b.client);
        write_var_uint(&mut out, clients.clone().count() as u64);
        for sections in clients {
            write_var_uint(&mut out, sections.iter().map(|section| section.structs as u64).sum());
            write_var_uint(&mut out, sections[0].client);
            write_var_uint(&mut out, u64::from(sections[0].clocks.start));
            for section in sections {
                out.put_slice(&updates[section.update][section.bytes.clone()]);
            }
        }
        unite(&mut self.deletes);
        write::write_deletes(&mut out, &self.deletes);
        out.freeze()
    }
}

impl<'a> Sink<'a> for Spans {
    fn section(&mut self, client: u64, structs: usize, _: usize) -> Result<(), Invalid> {
        self.sections.push(Section { client, clocks: 0..0, structs, update: self.update, bytes: 0..0 });
        Ok(())
    }

    fn block(&mut self, block: &Block<'a>) -> Result<(), Invalid> {
        self.has_gap |= block.info == content::SKIP;
        let section = self.sections.last_mut().expect("a section was opened before its first block");
        if section.bytes.is_empty() {
            (section.clocks.start, section.bytes.start) = (block.clock, block.at);
        }
        (section.clocks.end, section.bytes.end) = (block.end_clock(), block.end);
        Ok(())
    }

    fn deletes_of(&mut self, _: u64, _: usize) -> Result<(), Invalid> {
        Ok(())
    }

    fn delete(&mut self, client: u64, start: u32, end: u32) {
        self.deletes.push(ClientRange { client, start, end });
    }
}

/// Sorts ranges as Yjs does and joins those that touch or overlap.
fn unite(ranges: &mut Vec<ClientRange>) {
    ranges.sort_unstable_by_key(|range| (Reverse(range.client), range.start));
    ranges.dedup_by(|range, before| {
        let joins = range.client == before.client && range.start <= before.end;
        if joins {
            before.end = before.end.max(range.end);
        }
        joins
    });
}
