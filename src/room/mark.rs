//! How much of a room a node knows: of each node, how many of the transactions that it told.
//!
//! Whoever heard something knows at least what the node knew that told it, because every node hears things in an order in
//! which nothing comes before what it followed. So a mark says of an event what those have heard who heard the event, on
//! whichever node they did.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::VecDeque;
use std::sync::Arc;

use crate::bus::NodeId;

/// Nodes of which one room remembers how much they told: runs of nodes, as one that restarts is another. Full: a further one
/// takes the place of the one that was not heard of for longest.
pub(super) const NODES_MAX: usize = 64;

/// One transaction: who told it, and which one of that node's in this room it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) origin: NodeId,
    pub(super) number: u64,
}

/// What a node had told and heard at some time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mark {
    /// The node, and the last of its own.
    pub(super) stamp: Stamp,
    /// The last of each of the others; `None` where it has heard of no other.
    pub(super) others: Option<Arc<[(NodeId, u64)]>>,
}

impl Mark {
    /// The last that was known of a node; 0 for nothing.
    pub(super) fn of(&self, node: NodeId) -> u64 {
        if node == self.stamp.origin {
            return self.stamp.number;
        }
        let others = self.others.as_deref().unwrap_or_default();
        others.iter().find(|(other, _)| *other == node).map_or(0, |(_, number)| *number)
    }

    /// Whether whoever knows this knows that transaction.
    pub(super) fn covers(&self, stamp: Stamp) -> bool {
        stamp.number <= self.of(stamp.origin)
    }
}

/// What this node has told and heard so far.
#[derive(Debug)]
pub(super) struct Known {
    me: NodeId,
    /// What its own numbers begin behind: higher than any that it gave before the room was last forgotten.
    begin: u64,
    own: u64,
    others: BTreeMap<NodeId, u64>,
    /// Nothing that is not above this is missing of nodes that are not remembered: numbers follow the clock.
    forgotten: u64,
    /// Nodes in the order in which they were last heard of.
    heard: VecDeque<NodeId>,
    /// Of whom something may have been missed that nobody has noticed.
    doubted: BTreeSet<NodeId>,
    /// The same as in `others`, as long as that does not change.
    shared: Option<Arc<[(NodeId, u64)]>>,
}

impl Known {
    pub(super) fn new(me: NodeId, begin: u64) -> Self {
        Self {
            me,
            begin,
            own: begin,
            others: BTreeMap::new(),
            forgotten: 0,
            heard: VecDeque::new(),
            doubted: BTreeSet::new(),
            shared: None,
        }
    }

    pub(super) fn begin(&self) -> u64 {
        self.begin
    }

    /// This node tells something more.
    pub(super) fn next(&mut self) -> Mark {
        self.own += 1;
        self.mark()
    }

    pub(super) fn mark(&mut self) -> Mark {
        if self.shared.is_none() && !self.others.is_empty() {
            self.shared = Some(self.others.iter().map(|(node, number)| (*node, *number)).collect());
        }
        Mark { stamp: Stamp { origin: self.me, number: self.own }, others: self.shared.clone() }
    }

    /// All of it, this node as well.
    pub(super) fn all(&self) -> Vec<(NodeId, u64)> {
        let others = self.others.iter().map(|(node, number)| (*node, *number));
        others.chain([(self.me, self.own)]).collect()
    }

    /// How much of a node; `None` where it was never heard of.
    pub(super) fn of(&self, node: NodeId) -> Option<u64> {
        if node == self.me { Some(self.own) } else { self.others.get(&node).copied() }
    }

    /// As much of a node is known, and perhaps more.
    pub(super) fn raise(&mut self, node: NodeId, number: u64) {
        if node == self.me || self.of(node).is_some_and(|known| known >= number) {
            return;
        }
        self.others.insert(node, number);
        self.shared = None;
        self.touch(node);
        if self.others.len() > NODES_MAX
            && let Some(oldest) = self.heard.front().copied()
        {
            self.forget(oldest);
        }
    }

    /// A node was heard of.
    pub(super) fn touch(&mut self, node: NodeId) {
        if self.others.contains_key(&node) && self.heard.back() != Some(&node) {
            self.heard.retain(|other| *other != node);
            self.heard.push_back(node);
        }
    }

    /// Whether so much of a node is known. Of what this node told, nobody knows more than it does.
    pub(super) fn has_of(&self, node: NodeId, number: u64) -> bool {
        node == self.me || number <= self.others.get(&node).copied().unwrap_or(self.forgotten)
    }

    /// Whether all of this is known, too.
    pub(super) fn has(&self, all: &[(NodeId, u64)]) -> bool {
        all.iter().all(|(node, number)| self.has_of(*node, *number))
    }

    /// Those other nodes that are remembered.
    pub(super) fn nodes(&self) -> impl Iterator<Item = NodeId> {
        self.others.keys().copied()
    }

    /// A node that is gone is remembered no more.
    pub(super) fn forget(&mut self, node: NodeId) {
        let number = self.others.remove(&node).unwrap_or_default();
        self.forgotten = self.forgotten.max(number);
        self.heard.retain(|other| *other != node);
        self.doubted.remove(&node);
        self.shared = None;
    }

    pub(super) fn doubt(&mut self, node: NodeId) {
        self.doubted.insert(node);
    }

    pub(super) fn doubt_all(&mut self) {
        self.doubted.extend(self.others.keys());
    }

    pub(super) fn is_doubted(&self, node: NodeId) -> bool {
        self.doubted.contains(&node)
    }

    /// Answers whether it was doubted.
    pub(super) fn trust(&mut self, node: NodeId) -> bool {
        self.doubted.remove(&node)
    }
}
