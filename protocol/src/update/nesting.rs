//! How deep the shared types of one update lie in each other, and whether every parent it sends can be one.
//!
//! Walks over a document recurse into nested types; 10 000 levels overflow a stack. This costs a second pass and memory
//! for every struct, so it runs only for updates that create enough types to nest too deeply, or that name a parent whose
//! kind the first pass could not tell.

use std::cmp::Reverse;

use crate::update::Invalid;
use crate::update::UpdateLimits;
use crate::update::content;
use crate::update::cursor::Id;
use crate::update::walk;
use crate::update::walk::Block;
use crate::update::walk::Parent;
use crate::update::walk::Sink;

/// Levels of shared types that one update may add below each other.
pub const NESTING_MAX: usize = 200;

const UNKNOWN: u16 = u16::MAX;

/// An id that nothing has: client ids end at 2^53.
const NOWHERE: Id = Id { client: u64::MAX, clock: 0 };

/// Checks an update that [`super::validate`] has found to be acyclic.
pub(super) fn check(update: &[u8]) -> Result<(), Invalid> {
    let mut nodes = Nodes::default();
    walk::walk(update, &UpdateLimits::none(), &mut nodes)?;
    nodes.nodes.sort_by_key(|node| (Reverse(node.client), node.start));
    for index in 0..nodes.nodes.len() {
        nodes.measure(index)?;
    }
    Ok(())
}

#[derive(Debug, Clone, Copy)]
struct Node {
    client: u64,
    start: u32,
    end: u32,
    at: usize,
    content: u8,
    /// A parent it names, or its neighbours; [`NOWHERE`] where there is none.
    references: [Id; 2],
    /// Whether it lies below what it refers to, or beside it.
    below: bool,
    depth: u16,
}

#[derive(Default)]
struct Nodes {
    nodes: Vec<Node>,
    /// Empty between measurements, kept for its memory.
    stack: Vec<usize>,
}

impl Nodes {
    /// The node that holds a clock; `near` is where it is looked for first, most neighbours are neighbours in the bytes too.
    fn find(&self, id: Id, near: usize) -> Option<usize> {
        let holds = |node: &Node| node.client == id.client && node.start <= id.clock && id.clock < node.end;
        let first = near.saturating_sub(2);
        if let Some(index) = self.nodes[first..near].iter().rposition(holds) {
            return Some(first + index);
        }
        let before = |node: &Node| node.client > id.client || (node.client == id.client && node.end <= id.clock);
        let index = self.nodes.partition_point(before);
        self.nodes.get(index).is_some_and(holds).then_some(index)
    }

    /// Fills in the depth of a node and of everything it depends on. No recursion: chains are as long as the update.
    fn measure(&mut self, index: usize) -> Result<(), Invalid> {
        let mut stack = std::mem::take(&mut self.stack);
        stack.push(index);
        while let Some(&index) = stack.last() {
            if self.nodes[index].depth == UNKNOWN {
                match self.depth_or_dependency(index)? {
                    Ok(depth) => self.nodes[index].depth = depth,
                    Err(dependency) => {
                        stack.push(dependency);
                        continue;
                    }
                }
            }
            stack.pop();
        }
        self.stack = stack;
        Ok(())
    }

    fn depth_or_dependency(&self, index: usize) -> Result<Result<u16, usize>, Invalid> {
        let node = &self.nodes[index];
        let mut depth = 0;
        for id in node.references {
            let Some(other) = self.find(id, index) else { continue };
            // What was deleted or collected may have been a type; its children are dead on arrival.
            let content = self.nodes[other].content;
            if node.below && !matches!(content, content::TYPE | content::DELETED | content::GC) {
                return Err(Invalid::Parent { at: node.at });
            }
            match self.nodes[other].depth {
                UNKNOWN => return Ok(Err(other)),
                known => depth = depth.max(known + u16::from(node.below)),
            }
        }
        if usize::from(depth) > NESTING_MAX { Err(Invalid::Nesting { at: node.at }) } else { Ok(Ok(depth)) }
    }
}

impl<'a> Sink<'a> for Nodes {
    fn section(&mut self, _: u64, _: usize, _: usize) -> Result<(), Invalid> {
        Ok(())
    }

    fn block(&mut self, block: &Block<'a>) -> Result<(), Invalid> {
        if block.info == content::SKIP {
            return Ok(());
        }
        let parent = match block.parent {
            Parent::Item(id) => Some(id),
            Parent::Root { .. } | Parent::Inherited => None,
        };
        self.nodes.push(Node {
            client: block.client,
            start: block.clock,
            end: block.end_clock(),
            at: block.at,
            content: block.content(),
            // A parent is named only where there are no neighbours.
            references: [parent.or(block.origin).unwrap_or(NOWHERE), block.right_origin.unwrap_or(NOWHERE)],
            below: parent.is_some(),
            depth: UNKNOWN,
        });
        Ok(())
    }

    fn deletes_of(&mut self, _: u64, _: usize) -> Result<(), Invalid> {
        Ok(())
    }

    fn delete(&mut self, _: u64, _: u32, _: u32) {}
}
