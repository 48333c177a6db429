//! The other nodes that hold one room, as far as this one knows: what is waited for from them, and until when.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::VecDeque;
use std::sync::Arc;

use syncline_protocol::Moment;

use crate::bus::NodeId;
use crate::event::Event;

use super::linked::Waits;
use super::mark::Mark;
use super::mark::NODES_MAX;
use super::members::PEERS_MAX;
use super::wire::Told;

/// What came before something that it followed. It waits for that as long as two questions take; a busy room tells some
/// hundred times in that time. Full: as if that could not be had any more.
const HELD_MAX: usize = 1024;
const HELD_BYTES_MAX: usize = 8 << 20;
/// Somebody who has what was missed is asked so often.
pub(super) const ATTEMPTS_MAX: u32 = 3;

/// The other nodes that hold one room.
pub(super) struct Company {
    pub(super) phase: Phase,
    holders: BTreeMap<NodeId, Holder>,
    pub(super) held: VecDeque<Held>,
    held_bytes: usize,
    pub(super) want: Option<Want>,
    pub(super) attempts: u32,
    /// What others know, and this node does not.
    pub(super) goal: BTreeMap<NodeId, u64>,
    /// Until then others may follow without having said so.
    followed_until: Moment,
    /// What was said last: when, and whether somebody follows here.
    pub(super) said: (Moment, bool),
    /// To be asked who is there, as something may have been missed.
    pub(super) is_to_ask: bool,
    /// Whether it is looked after now and then.
    pub(super) is_troubled: bool,
    /// When what holds here was set.
    pub(super) set_ms: u64,
    lists: BTreeMap<NodeId, BTreeSet<u64>>,
}

/// How far this node is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// It hears the others from now on, or is about to, and has not been told what happened before.
    Joining { since: Moment, asked: Option<Moment> },
    /// What it does not know of, it missed; but what happened before it came, if that was not found out until then.
    Joined { blind_until: Moment },
}

#[derive(Debug, Clone, Copy)]
struct Holder {
    follows: bool,
}

/// What came before something that it followed.
pub(super) enum Held {
    Told(NodeId, Told),
    Passed(NodeId, Arc<str>, Mark, Event),
}

/// What somebody was asked for, and what came of it so far.
pub(super) struct Want {
    pub(super) whom: NodeId,
    pub(super) at: Moment,
    pub(super) parts: u64,
    pub(super) taken: Vec<Told>,
    pub(super) bytes: usize,
}

impl Held {
    pub(super) fn from(&self) -> NodeId {
        match self {
            Self::Told(from, _) | Self::Passed(from, ..) => *from,
        }
    }

    pub(super) fn mark(&self) -> &Mark {
        match self {
            Self::Told(_, told) => &told.mark,
            Self::Passed(_, _, mark, _) => mark,
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Told(_, told) => told.bytes(),
            Self::Passed(_, _, _, event) => event.json.len(),
        }
    }
}

impl Company {
    pub(super) fn new(now: Moment, waits: &Waits) -> Self {
        Self {
            phase: Phase::Joining { since: now, asked: None },
            holders: BTreeMap::new(),
            held: VecDeque::new(),
            held_bytes: 0,
            want: None,
            attempts: 0,
            goal: BTreeMap::new(),
            followed_until: now.after(waits.follow),
            said: (now, false),
            is_to_ask: false,
            is_troubled: false,
            set_ms: 0,
            lists: BTreeMap::new(),
        }
    }

    pub(super) fn is_joining(&self) -> bool {
        matches!(self.phase, Phase::Joining { .. })
    }

    /// Whether it is not known yet what happened before this node came.
    pub(super) fn is_blind(&self, now: Moment) -> bool {
        matches!(self.phase, Phase::Joined { blind_until } if now < blind_until)
    }

    /// Somebody holds the room, too. `false` where it is one too many.
    pub(super) fn meet(&mut self, node: NodeId, follows: bool) -> bool {
        let has_room = self.holders.len() < NODES_MAX || self.holders.contains_key(&node);
        if has_room {
            self.holders.insert(node, Holder { follows });
        }
        has_room
    }

    /// Somebody holds it no more.
    pub(super) fn part(&mut self, node: NodeId) {
        self.holders.remove(&node);
        self.lists.remove(&node);
    }

    pub(super) fn holders(&self) -> usize {
        self.holders.len()
    }

    pub(super) fn has_holder(&self, node: NodeId) -> bool {
        self.holders.contains_key(&node)
    }

    /// The holder behind this one, in some order.
    pub(super) fn next_holder(&self, node: NodeId) -> Option<NodeId> {
        let behind = self.holders.range(node..).map(|(other, _)| *other).find(|other| *other != node);
        behind.or_else(|| self.holders.keys().next().copied())
    }

    /// Whether it waits for something.
    pub(super) fn needs_care(&self) -> bool {
        self.is_joining() || self.want.is_some() || self.is_to_ask || !self.held.is_empty()
    }

    /// Whether somebody is there to hear what is told, or may be.
    pub(super) fn is_heard(&self, now: Moment) -> bool {
        !self.holders.is_empty() || now < self.followed_until
    }

    /// Whether somebody listens on another node, or may come back there, or may have come without its being known yet.
    pub(super) fn is_followed(&self, now: Moment) -> bool {
        self.holders.values().any(|holder| holder.follows) || now < self.followed_until
    }

    /// Who follows is not known again.
    pub(super) fn forget_who_follows(&mut self, now: Moment, waits: &Waits) {
        self.followed_until = now.after(waits.follow);
        self.is_to_ask = true;
    }

    /// Keeps something for later. `false` when there is no room for it.
    #[must_use]
    pub(super) fn hold(&mut self, held: Held) -> bool {
        self.held_bytes += held.bytes();
        self.held.push_back(held);
        self.held.len() <= HELD_MAX && self.held_bytes <= HELD_BYTES_MAX
    }

    /// Takes out the first that fits.
    pub(super) fn release(&mut self, fits: impl Fn(&Held) -> bool) -> Option<Held> {
        let place = self.held.iter().position(fits)?;
        let held = self.held.remove(place)?;
        self.held_bytes -= held.bytes();
        Some(held)
    }

    pub(super) fn release_all(&mut self) -> VecDeque<Held> {
        self.held_bytes = 0;
        std::mem::take(&mut self.held)
    }

    /// A list of a node's connections, of which this is a part. Once it is whole: all of it.
    pub(super) fn list(
        &mut self,
        node: NodeId,
        (is_first, is_last): (bool, bool),
        peers: impl Iterator<Item = u64>,
    ) -> Option<BTreeSet<u64>> {
        if is_first {
            self.lists.remove(&node);
        }
        if self.lists.len() >= NODES_MAX && !self.lists.contains_key(&node) {
            return None;
        }
        let list = self.lists.entry(node).or_default();
        list.extend(peers.take(PEERS_MAX.saturating_sub(list.len())));
        if is_last { self.lists.remove(&node) } else { None }
    }
}
