//! Gathers a [`Summary`] while the bytes are read, and judges what can only be judged once all of them were.

use std::cmp::Reverse;

use crate::update::ContentKinds;
use crate::update::Invalid;
use crate::update::ROOTS_MAX;
use crate::update::content;
use crate::update::cursor::Id;
use crate::update::few::Few;
use crate::update::nesting;
use crate::update::order;
use crate::update::order::Edge;
use crate::update::order::Section;
use crate::update::summary::ClientRange;
use crate::update::summary::Summary;
use crate::update::summary::range_of;
use crate::update::walk::Block;
use crate::update::walk::Parent;
use crate::update::walk::Sink;

/// The state of one pass. `'a` is the update.
pub(super) struct Survey<'a> {
    update: &'a [u8],
    summary: Summary,
    sections: Few<Section, 2>,
    /// References to other clients, in the order of the structs that make them.
    edges: Few<Edge, 3>,
    /// Items named as parents, without repetitions in a row.
    parents: Few<Id, 2>,
    /// Items that create a shared type.
    types: Few<Id, 2>,
    /// How many of them may lie in another one, as they do not name a root.
    inner_types: usize,
    /// Whether clients came in falling order, as Yjs writes them: then nothing needs sorting and none comes twice.
    falling: bool,
    deletes_falling: bool,
}

impl<'a> Survey<'a> {
    pub(super) fn new(update: &'a [u8]) -> Self {
        Self {
            update,
            summary: Summary::default(),
            sections: Few::default(),
            edges: Few::default(),
            parents: Few::default(),
            types: Few::default(),
            inner_types: 0,
            falling: true,
            deletes_falling: true,
        }
    }

    fn refer(&mut self, block: &Block<'_>, id: Id) {
        if id.client == block.client {
            return;
        }
        let section = self.sections.len() - 1;
        // An earlier struct of this client that refers as far or farther makes this reference redundant.
        let covered = |edge: &Edge| edge.section == section && edge.to.client == id.client && edge.to.clock >= id.clock;
        if !self.edges.iter().rev().take(2).any(covered) {
            self.edges.push(Edge { section, at: block.clock, to: id });
        }
    }

    fn mention(&mut self, at: usize, name: &str) {
        let known = |&(start, end): &(usize, usize)| &self.update[start..end] == name.as_bytes();
        if self.summary.roots.len() < ROOTS_MAX && !self.summary.roots.iter().rev().any(known) {
            self.summary.roots.push((at, at + name.len()));
        }
    }

    fn extend(&mut self, block: &Block<'_>) {
        let (client, start, end) = (block.client, block.clock, block.end_clock());
        match self.summary.ranges.last_mut() {
            Some(last) if last.client == client && last.end == start => last.end = end,
            _ => self.summary.ranges.push(ClientRange { client, start, end }),
        }
    }

    /// The judgement that needs the whole.
    pub(super) fn finish(mut self) -> Result<Summary, Invalid> {
        if !self.deletes_falling {
            unique(self.summary.deletes.chunk_by(|a, b| a.client == b.client).map(|ranges| ranges[0].client))?;
        }
        if !self.falling {
            unique(self.sections.iter().map(|section| section.client))?;
            self.summary.ranges.sort_unstable_by_key(|range| (Reverse(range.client), range.start));
            self.types.sort_unstable_by_key(|id| (Reverse(id.client), id.clock));
        }
        self.judge_edges()?;
        self.summary.types = self.types.len();
        let orphan = |id: &Id| range_of(&self.summary.ranges, id.client, id.clock).is_some() && !self.creates_type(*id);
        // Only a chain of as many types that lie in others can be too deep.
        if self.inner_types > nesting::NESTING_MAX || self.parents.iter().any(orphan) {
            nesting::check(self.update)?;
        }
        Ok(self.summary)
    }

    fn creates_type(&self, id: Id) -> bool {
        self.types.binary_search_by_key(&(Reverse(id.client), id.clock), |id| (Reverse(id.client), id.clock)).is_ok()
    }

    /// References out of the update become needs; those within it must not run in a circle.
    fn judge_edges(&mut self) -> Result<(), Invalid> {
        let ranges = &self.summary.ranges;
        let within = |edge: &Edge| self.sections.len() > 1 && range_of(ranges, edge.to.client, edge.to.clock).is_some();
        let needs = self.edges.iter().filter(|edge| !within(edge)).map(|edge| (edge.to.client, edge.to.clock + 1));
        self.summary.needs = highest(needs);
        if self.sections.len() < 2 {
            return Ok(());
        }
        let mut inner = Few::<Edge, 3>::default();
        self.edges.iter().filter(|edge| within(edge)).for_each(|&edge| inner.push(edge));
        if inner.is_empty() { Ok(()) } else { order::check(&self.sections, &inner) }
    }
}

impl<'a> Sink<'a> for Survey<'a> {
    #[inline]
    fn section(&mut self, client: u64, _: usize, _: usize) -> Result<(), Invalid> {
        self.falling &= self.sections.last().is_none_or(|last| last.client > client);
        self.sections.push(Section { client });
        Ok(())
    }

    #[inline]
    fn block(&mut self, block: &Block<'a>) -> Result<(), Invalid> {
        self.summary.kinds = self.summary.kinds.union(block.kind);
        if block.kind == ContentKinds::SKIP {
            return Ok(());
        }
        self.summary.structs += 1;
        self.extend(block);
        if let Some(id) = block.origin {
            self.refer(block, id);
        }
        if let Some(id) = block.right_origin {
            self.refer(block, id);
        }
        match block.parent {
            Parent::Inherited => {}
            Parent::Root { at, name } => self.mention(at, name),
            Parent::Item(id) => {
                self.refer(block, id);
                if self.parents.last() != Some(&id) {
                    self.parents.push(id);
                }
            }
        }
        if block.content() == content::TYPE {
            self.types.push(Id { client: block.client, clock: block.clock });
            self.inner_types += usize::from(!matches!(block.parent, Parent::Root { .. }));
        }
        Ok(())
    }

    #[inline]
    fn deletes_of(&mut self, client: u64, at: usize) -> Result<(), Invalid> {
        match self.summary.deletes.last() {
            Some(last) if last.client == client => return Err(Invalid::DuplicateClient { at, client }),
            Some(last) if last.client < client => self.deletes_falling = false,
            _ => {}
        }
        Ok(())
    }

    #[inline]
    fn delete(&mut self, client: u64, start: u32, end: u32) {
        self.summary.deletes.push(ClientRange { client, start, end });
    }
}

/// Refuses a client that comes twice.
fn unique(clients: impl Iterator<Item = u64>) -> Result<(), Invalid> {
    let mut clients: Vec<u64> = clients.collect();
    clients.sort_unstable();
    match clients.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(Invalid::DuplicateClient { at: 0, client: pair[0] }),
        None => Ok(()),
    }
}

/// Each client once, with its highest clock.
fn highest(needs: impl Iterator<Item = (u64, u32)>) -> Few<(u64, u32), 3> {
    let mut all = Few::<(u64, u32), 3>::default();
    needs.for_each(|need| all.push(need));
    if all.len() < 2 {
        return all;
    }
    all.sort_unstable_by_key(|&(client, clock)| (client, Reverse(clock)));
    let mut each = Few::default();
    all.chunk_by(|a, b| a.0 == b.0).for_each(|same| each.push(same[0]));
    each
}
