//! Who of the nodes is alive, as each of them believes by the heartbeats of the others.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use syncline::bus::NodeId;

use crate::cluster::bus::Bus;

/// Between two heartbeats.
const BEAT_MS: u64 = 5_000;
/// Two may be lost, three may not.
const PATIENCE_MS: u64 = 12_500;

/// What one node believes of the others.
#[derive(Debug, Default)]
struct Belief {
    heard: BTreeMap<NodeId, u64>,
    given_up: BTreeSet<NodeId>,
}

/// What a node is to be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum News {
    Lost(NodeId),
    /// One that was given up is back.
    Returned,
}

/// What all of them believe.
#[derive(Debug)]
pub(crate) struct Nodes {
    beliefs: Vec<Belief>,
    next_ms: u64,
}

impl Nodes {
    pub(crate) fn new(nodes: usize) -> Self {
        Self { beliefs: (0..nodes).map(|_| Belief::default()).collect(), next_ms: 0 }
    }

    /// A process starts, and knows nobody.
    pub(crate) fn start(&mut self, at: usize) {
        self.beliefs[at] = Belief::default();
        self.next_ms = 0; // It says at once that it is there, and the others answer.
    }

    /// Somebody can be heard again.
    pub(crate) fn hasten(&mut self) {
        self.next_ms = 0;
    }

    /// How many others a node believes alive.
    pub(crate) fn others(&self, at: usize) -> usize {
        self.beliefs[at].heard.len()
    }

    /// Time has passed: who is told what.
    pub(crate) fn tick(&mut self, now: u64, bus: &Bus) -> Vec<(usize, News)> {
        let mut news = Vec::new();
        let beats = now >= self.next_ms;
        if beats {
            self.next_ms = now + BEAT_MS;
        }
        for (at, belief) in self.beliefs.iter_mut().enumerate().filter(|(at, _)| bus.node(*at).is_some()) {
            let others: Vec<NodeId> = bus.reachable_from(at).collect();
            for node in others.into_iter().filter(|_| beats) {
                belief.heard.insert(node, now);
                if belief.given_up.remove(&node) {
                    news.push((at, News::Returned));
                }
            }
            let silent: Vec<NodeId> =
                belief.heard.iter().filter(|(_, heard)| now >= **heard + PATIENCE_MS).map(|(&node, _)| node).collect();
            for node in silent {
                belief.heard.remove(&node);
                belief.given_up.insert(node);
                news.push((at, News::Lost(node)));
            }
        }
        news
    }
}
