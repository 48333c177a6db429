//! The entries of one update, each with the slot that it goes to.
//!
//! Clients come in any order in an update, so an item may stand before the one it was written over. All that may be
//! entries are gathered first and placed then; items of sequences are dropped as soon as that can be seen.

use std::cmp::Reverse;
use std::collections::HashMap;

use super::DEPTH_MAX;
use super::index::Index;
use super::index::Run;
use super::index::run_at;
use crate::update::ContentKinds;
use crate::update::Invalid;
use crate::update::UpdateLimits;
use crate::update::content;
use crate::update::cursor::Id;
use crate::update::few::Few;
use crate::update::summary::ClientRange;
use crate::update::walk;
use crate::update::walk::Block;
use crate::update::walk::Parent;
use crate::update::walk::Sink;

/// Where an item goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) enum Spot {
    #[default]
    Unknown,
    /// Being found out: met again, it hangs in the air.
    Pending,
    /// Into no map that has a path.
    Nowhere,
    /// A slot of the index.
    Known(u32),
    /// A slot of the draft.
    New(u32),
}

/// What an item says about where it goes.
#[derive(Debug, Clone, Copy)]
enum Says<'a> {
    /// Where this one went.
    Beside(Id),
    /// A root and a key.
    Root(&'a str, &'a str),
    /// The creator of a map and a key.
    Inside(Id, &'a str),
}

impl Default for Says<'_> {
    fn default() -> Self {
        Self::Root("", "")
    }
}

/// One item that is new and not known to be of a sequence.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Node<'a> {
    pub(super) client: u64,
    pub(super) start: u32,
    pub(super) end: u32,
    pub(super) content: u8,
    pub(super) kind: ContentKinds,
    /// The content's bytes.
    pub(super) content_at: usize,
    pub(super) content_end: usize,
    says: Says<'a>,
    pub(super) spot: Spot,
    origin: Option<Id>,
    /// The nearest item that it was written over and that was known before.
    pub(super) base: Option<Id>,
    /// Whether another was written over it.
    pub(super) is_superseded: bool,
}

impl<'a> Node<'a> {
    fn new(block: &Block<'a>, says: Says<'a>, spot: Spot) -> Self {
        Self {
            client: block.client,
            start: block.clock,
            end: block.end_clock(),
            content: block.content(),
            kind: block.kind,
            content_at: block.content_at,
            content_end: block.end,
            says,
            spot,
            origin: block.origin,
            base: block.origin,
            is_superseded: false,
        }
    }

    pub(super) fn last(&self) -> Id {
        Id { client: self.client, clock: self.end - 1 }
    }

    pub(super) fn creates_type(&self) -> bool {
        self.content == content::TYPE
    }
}

/// The map of a slot of the draft.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum NewHome<'a> {
    Known(u32),
    Root(&'a str),
    /// Created by this node.
    By(u32),
}

/// A slot that the index does not have yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct NewSlot<'a> {
    pub(super) home: NewHome<'a>,
    pub(super) key: &'a str,
}

#[derive(Debug, Default)]
pub(super) struct Draft<'a> {
    /// Higher clients first, then by clock.
    pub(super) nodes: Few<Node<'a>, 1>,
    /// Those that later ones lie in come first. With the depth of their maps.
    pub(super) slots: Vec<(NewSlot<'a>, u32)>,
    slot_of: HashMap<NewSlot<'a>, u32>,
    /// The delete set, sorted by client and clock.
    pub(super) deletes: Few<ClientRange, 4>,
    /// Each client with the clock that its structs reach.
    pub(super) reached: Few<(u64, u32), 1>,
}

impl<'a> Draft<'a> {
    pub(super) fn read(update: &'a [u8], index: &Index) -> Result<Self, Invalid> {
        let mut gather = Gather { index, draft: Self::default(), falling: true, section: 0, reached: 0, runs: &[] };
        walk::walk(update, &UpdateLimits::none(), &mut gather)?;
        let falling = gather.falling;
        let mut draft = gather.draft;
        if !falling {
            draft.nodes.sort_by_key(|node| (Reverse(node.client), node.start));
        }
        draft.deletes.sort_unstable_by_key(|range| (range.client, range.start));
        draft.place(index);
        Ok(draft)
    }

    pub(super) fn is_deleted(&self, id: Id) -> bool {
        let after = self.deletes.partition_point(|range| (range.client, range.start) <= (id.client, id.clock));
        let range = after.checked_sub(1).map(|at| self.deletes[at]);
        range.is_some_and(|range| range.client == id.client && id.clock < range.end)
    }

    fn find(&self, id: Id) -> Option<usize> {
        let before = |node: &Node<'_>| node.client > id.client || (node.client == id.client && node.end <= id.clock);
        let at = self.nodes.partition_point(before);
        self.nodes.get(at).filter(|node| node.client == id.client && node.start <= id.clock).map(|_| at)
    }

    /// Gives every node its spot. No recursion: chains are as long as the update.
    fn place(&mut self, index: &Index) {
        let mut stack = Vec::new();
        for first in 0..self.nodes.len() {
            if !matches!(self.nodes[first].spot, Spot::Unknown) {
                continue;
            }
            stack.push(first);
            while let Some(&at) = stack.last() {
                match self.spot_or_dependency(index, at) {
                    Ok(spot) => {
                        self.nodes[at].spot = spot;
                        stack.pop();
                    }
                    Err(dependency) => {
                        self.nodes[at].spot = Spot::Pending;
                        stack.push(dependency);
                    }
                }
            }
        }
    }

    fn spot_or_dependency(&mut self, index: &Index, at: usize) -> Result<Spot, usize> {
        match self.nodes[at].says {
            Says::Beside(id) => self.beside(at, id),
            Says::Root(name, key) => {
                let home = index.root(name).map_or(NewHome::Root(name), NewHome::Known);
                Ok(self.slot(index, home, key, 0))
            }
            Says::Inside(id, key) => self.inside(index, id, key),
        }
    }

    fn beside(&mut self, at: usize, id: Id) -> Result<Spot, usize> {
        let Some(other) = self.find(id) else { return Ok(Spot::Nowhere) };
        let other_node = self.nodes[other];
        match other_node.spot {
            Spot::Unknown => return Err(other),
            Spot::Pending => return Ok(Spot::Nowhere),
            Spot::Nowhere | Spot::Known(_) | Spot::New(_) => {}
        }
        // Beside its right neighbour alone it stands left of everything: it was written over nothing.
        if self.nodes[at].origin == Some(id) {
            self.nodes[at].base = other_node.base;
            self.nodes[other].is_superseded |= other_node.last() == id;
        }
        Ok(other_node.spot)
    }

    fn inside(&mut self, index: &Index, id: Id, key: &'a str) -> Result<Spot, usize> {
        if let Some(map) = index.map_by(id) {
            return Ok(self.slot(index, NewHome::Known(map), key, index.map(map).depth));
        }
        let Some(creator) = self.find(id).filter(|&at| self.nodes[at].creates_type()) else {
            return Ok(Spot::Nowhere);
        };
        let depth = match self.nodes[creator].spot {
            Spot::Unknown => return Err(creator),
            Spot::Pending | Spot::Nowhere => return Ok(Spot::Nowhere),
            Spot::Known(slot) => index.map(index.slot(slot).map).depth + 1,
            Spot::New(slot) => self.slots[slot as usize].1 + 1,
        };
        if depth >= DEPTH_MAX as u32 {
            return Ok(Spot::Nowhere);
        }
        Ok(self.slot(index, NewHome::By(creator as u32), key, depth))
    }

    fn slot(&mut self, index: &Index, home: NewHome<'a>, key: &'a str, depth: u32) -> Spot {
        if let NewHome::Known(map) = home
            && let Some(slot) = index.slot_in(map, key)
        {
            return Spot::Known(slot);
        }
        let slot = NewSlot { home, key };
        let next = self.slots.len() as u32;
        let known = *self.slot_of.entry(slot).or_insert(next);
        if known == next {
            self.slots.push((slot, depth));
        }
        Spot::New(known)
    }
}

struct Gather<'a, 'i> {
    index: &'i Index,
    draft: Draft<'a>,
    falling: bool,
    /// The first node of this client.
    section: usize,
    /// What is known of this client: up to which clock there is anything, and the entries.
    reached: u32,
    runs: &'i [Run],
}

impl<'a> Gather<'a, '_> {
    /// What an item says of its place, unless that is in no map.
    fn says(&self, block: &Block<'a>) -> Option<(Says<'a>, Spot)> {
        if let Some(id) = block.origin.or(block.right_origin) {
            let runs = if id.client == block.client { self.runs } else { self.index.runs_of(id.client) };
            return match run_at(runs, id.clock) {
                Some(run) => Some((Says::Beside(id), Spot::Known(run.slot))),
                // Other clients' nodes may be yet to come; its own stand before it.
                None if id.client != block.client || self.gathered(id.clock) => Some((Says::Beside(id), Spot::Unknown)),
                None => None,
            };
        }
        let says = match block.parent {
            Parent::Root { name, .. } => Says::Root(name, block.key?),
            Parent::Item(id) => Says::Inside(id, block.key?),
            Parent::Inherited => return None,
        };
        Some((says, Spot::Unknown))
    }

    /// Whether the client's clock is that of a node.
    fn gathered(&self, clock: u32) -> bool {
        let own = &self.draft.nodes[self.section..];
        let Some(last) = own.last().filter(|last| clock < last.end) else { return false };
        last.start <= clock || own[own.partition_point(|node| node.end <= clock)].start <= clock
    }
}

impl<'a> Sink<'a> for Gather<'a, '_> {
    fn section(&mut self, client: u64, _: usize, _: usize) -> Result<(), Invalid> {
        self.falling &= self.draft.reached.last().is_none_or(|&(last, _)| last > client);
        self.draft.reached.push((client, 0));
        self.section = self.draft.nodes.len();
        (self.reached, self.runs) = self.index.known_of(client);
        Ok(())
    }

    fn block(&mut self, block: &Block<'a>) -> Result<(), Invalid> {
        if block.info == content::SKIP {
            return Ok(());
        }
        if let Some((_, reached)) = self.draft.reached.last_mut() {
            *reached = block.end_clock();
        }
        if block.info == content::GC || block.end_clock() <= self.reached {
            return Ok(());
        }
        let mut block = *block;
        // The engine passes over what it has and takes the rest as written over that.
        if block.clock < self.reached {
            (block.clock, block.length) = (self.reached, block.end_clock() - self.reached);
            block.origin = Some(Id { client: block.client, clock: self.reached - 1 });
        }
        if let Some((says, spot)) = self.says(&block) {
            self.draft.nodes.push(Node::new(&block, says, spot));
        }
        Ok(())
    }

    fn deletes_of(&mut self, _: u64, _: usize) -> Result<(), Invalid> {
        Ok(())
    }

    fn delete(&mut self, client: u64, start: u32, end: u32) {
        self.draft.deletes.push(ClientRange { client, start, end });
    }
}
