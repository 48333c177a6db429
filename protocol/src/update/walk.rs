//! One pass over an update: every check that needs no memory, and every struct handed to a [`Sink`].

use crate::limits::CLOCK_MAX;
use crate::update::Invalid;
use crate::update::UpdateLimits;
use crate::update::content;
use crate::update::content::ContentKinds;
use crate::update::cursor::Cursor;
use crate::update::cursor::Id;

pub(super) const HAS_ORIGIN: u8 = 0x80;
pub(super) const HAS_RIGHT_ORIGIN: u8 = 0x40;
pub(super) const HAS_PARENT_SUB: u8 = 0x20;
/// The bits that number the content.
pub(super) const CONTENT: u8 = 0x1f;

/// Where a struct that has no origins says it belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Parent<'a> {
    /// Whatever its origins belong to; or nothing, for what is not an item.
    Inherited,
    /// A root type; its name starts at `at`.
    Root {
        at: usize,
        name: &'a str,
    },
    Item(Id),
}

/// One struct as it stands in the bytes: from `at` to `end`, its content from `content_at`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Block<'a> {
    pub(super) client: u64,
    pub(super) clock: u32,
    pub(super) length: u32,
    pub(super) at: usize,
    pub(super) content_at: usize,
    pub(super) end: usize,
    pub(super) info: u8,
    pub(super) kind: ContentKinds,
    pub(super) origin: Option<Id>,
    pub(super) right_origin: Option<Id>,
    pub(super) parent: Parent<'a>,
    /// The key in its parent; only of a struct that names its parent.
    pub(super) key: Option<&'a str>,
}

impl Block<'_> {
    pub(super) fn content(&self) -> u8 {
        self.info & CONTENT
    }

    pub(super) fn end_clock(&self) -> u32 {
        self.clock + self.length
    }
}

/// What is done with the things that are found. Offsets are those of the thing in the update.
pub(super) trait Sink<'a> {
    /// A client's structs follow, `structs` of them.
    fn section(&mut self, client: u64, structs: usize, at: usize) -> Result<(), Invalid>;
    /// The next struct of that client.
    fn block(&mut self, block: &Block<'a>) -> Result<(), Invalid>;
    /// A client's deletions follow.
    fn deletes_of(&mut self, client: u64, at: usize) -> Result<(), Invalid>;
    /// One of them; never empty, sorted, not overlapping.
    fn delete(&mut self, client: u64, start: u32, end: u32);
}

/// Reads a whole update.
pub(super) fn walk<'a>(update: &'a [u8], limits: &UpdateLimits, sink: &mut impl Sink<'a>) -> Result<(), Invalid> {
    if update.len() > limits.bytes_max {
        return Err(Invalid::TooLong { bytes: update.len(), max: limits.bytes_max });
    }
    let mut cursor = Cursor::new(update);
    structs(&mut cursor, limits, sink)?;
    deletes(&mut cursor, limits, sink)?;
    if cursor.remaining() > 0 { Err(Invalid::Trailing { at: cursor.at() }) } else { Ok(()) }
}

fn structs<'a>(cursor: &mut Cursor<'a>, limits: &UpdateLimits, sink: &mut impl Sink<'a>) -> Result<(), Invalid> {
    let clients_at = cursor.at();
    // Count, client, clock, and a struct of two bytes.
    let clients = cursor.count(5)?;
    if clients > limits.clients_max {
        return Err(Invalid::TooManyClients { at: clients_at });
    }
    let mut left = limits.structs_max;
    for _ in 0..clients {
        let at = cursor.at();
        let count = cursor.count(2)?;
        if count == 0 {
            return Err(Invalid::Empty { at });
        }
        left = left.checked_sub(count).ok_or(Invalid::TooManyStructs { at })?;
        let client = cursor.client()?;
        let mut clock = cursor.clock()?;
        sink.section(client, count, at)?;
        for _ in 0..count {
            let block = block(cursor, client, clock, limits)?;
            sink.block(&block)?;
            clock = block.end_clock();
        }
    }
    Ok(())
}

#[inline]
fn block<'a>(cursor: &mut Cursor<'a>, client: u64, clock: u32, limits: &UpdateLimits) -> Result<Block<'a>, Invalid> {
    let at = cursor.at();
    let info = cursor.u8()?;
    let mut block = Block {
        client,
        clock,
        length: 0,
        at,
        content_at: cursor.at(),
        end: 0,
        info,
        kind: ContentKinds::default(),
        origin: None,
        right_origin: None,
        parent: Parent::Inherited,
        key: None,
    };
    match info {
        content::GC => (block.length, block.kind) = (cursor.length()?, ContentKinds::GC),
        content::SKIP => (block.length, block.kind) = (cursor.length()?, ContentKinds::SKIP),
        _ => item(cursor, &mut block, limits)?,
    }
    block.end = cursor.at();
    match clock.checked_add(block.length) {
        Some(end) if end <= CLOCK_MAX => Ok(block),
        _ => Err(Invalid::Clock { at }),
    }
}

#[inline]
fn item<'a>(cursor: &mut Cursor<'a>, block: &mut Block<'a>, limits: &UpdateLimits) -> Result<(), Invalid> {
    // Refused before the ids are read: with such a number nothing after it has a meaning.
    if matches!(block.content(), content::GC | content::SKIP | 12..) {
        return Err(Invalid::Info { at: block.at, info: block.info });
    }
    if block.info & HAS_ORIGIN != 0 {
        block.origin = Some(reference(cursor, block)?);
    }
    if block.info & HAS_RIGHT_ORIGIN != 0 {
        block.right_origin = Some(reference(cursor, block)?);
    }
    if block.info & (HAS_ORIGIN | HAS_RIGHT_ORIGIN) == 0 {
        let at = cursor.at();
        block.parent = match cursor.u8()? {
            1 => {
                let name = cursor.string()?;
                Parent::Root { at: cursor.at() - name.len(), name }
            }
            0 => Parent::Item(reference(cursor, block)?),
            _ => return Err(Invalid::ParentInfo { at }),
        };
        if block.info & HAS_PARENT_SUB != 0 {
            block.key = Some(cursor.string()?);
        }
    }
    block.content_at = cursor.at();
    (block.length, block.kind) = content::read(cursor, block.content(), block.info, limits)?;
    Ok(())
}

/// The id of something this struct was made beside or inside of, hence of something older.
#[inline]
fn reference(cursor: &mut Cursor<'_>, block: &Block<'_>) -> Result<Id, Invalid> {
    let at = cursor.at();
    let id = cursor.id()?;
    if id.client == block.client && id.clock >= block.clock { Err(Invalid::ForwardReference { at }) } else { Ok(id) }
}

fn deletes<'a>(cursor: &mut Cursor<'a>, limits: &UpdateLimits, sink: &mut impl Sink<'a>) -> Result<(), Invalid> {
    let clients_at = cursor.at();
    let clients = cursor.count(4)?;
    if clients > limits.clients_max {
        return Err(Invalid::TooManyClients { at: clients_at });
    }
    for _ in 0..clients {
        let client_at = cursor.at();
        let client = cursor.client()?;
        sink.deletes_of(client, client_at)?;
        let at = cursor.at();
        let ranges = cursor.count(2)?;
        if ranges == 0 {
            return Err(Invalid::Empty { at });
        }
        let mut previous_end = 0;
        for _ in 0..ranges {
            let at = cursor.at();
            let start = cursor.clock()?;
            let length = cursor.length()?;
            let end = start.checked_add(length).filter(|&end| end <= CLOCK_MAX).ok_or(Invalid::Clock { at })?;
            if start < previous_end {
                return Err(Invalid::DeleteOrder { at });
            }
            sink.delete(client, start, end);
            previous_end = end;
        }
    }
    Ok(())
}
