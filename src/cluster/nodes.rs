//! Who is alive: heartbeats in, and out of it what to say and whom to give up.

use std::collections::HashMap;
use std::collections::VecDeque;
use std::time::Duration;

use syncline_protocol::Moment;

use crate::bus::NodeId;
use crate::bus::news::Keeps;

/// Nodes that are known at once: far beyond any real cluster. Full: further ones are passed over, and logged.
const NODES_MAX: usize = 128;
/// Nodes that are remembered after they were given up, to know them when they return. Full: the oldest is forgotten, and
/// would be taken for a new one.
const LOST_MAX: usize = 256;
/// Between two heartbeats of this node, however many ask.
const PAUSE: Duration = Duration::from_millis(100);

/// What is known of the other nodes.
#[derive(Debug)]
pub struct Nodes {
    heartbeat: Duration,
    others: HashMap<NodeId, Other>,
    lost: VecDeque<NodeId>,
    said: Option<Moment>,
    next: Moment,
}

#[derive(Debug)]
struct Other {
    heard: Moment,
    keeps: Keeps,
    draining: bool,
}

/// Who is heard from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// Somebody who is known. Whether it drains now and did not before.
    Known {
        /// Since this message.
        drains: bool,
    },
    /// Somebody new.
    New,
    /// Somebody who was given up before: its users are gone from here, and it may not know that.
    Returned,
    /// There is no room for it.
    Refused,
}

/// What is to be done now.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Due {
    /// Say that this node lives.
    pub say: bool,
    /// These have not been heard of for too long, and were given up.
    pub lost: Vec<NodeId>,
}

impl Nodes {
    /// Nobody is known yet, and the first heartbeat is due.
    #[must_use]
    pub fn new(heartbeat: Duration, now: Moment) -> Self {
        Self { heartbeat, others: HashMap::new(), lost: VecDeque::new(), said: None, next: now }
    }

    /// A heartbeat of another node. Who is new, returns or asks is answered soon.
    pub fn hear(&mut self, now: Moment, node: NodeId, keeps: Keeps, draining: bool, asks: bool) -> Arrival {
        let arrival = self.arrive(now, node, keeps, draining);
        if asks || matches!(arrival, Arrival::New | Arrival::Returned) {
            self.hasten(now);
        }
        arrival
    }

    fn arrive(&mut self, now: Moment, node: NodeId, keeps: Keeps, draining: bool) -> Arrival {
        if let Some(other) = self.others.get_mut(&node) {
            let drains = draining && !other.draining;
            *other = Other { heard: now, keeps, draining };
            return Arrival::Known { drains };
        }
        if self.others.len() == NODES_MAX {
            return Arrival::Refused;
        }
        self.others.insert(node, Other { heard: now, keeps, draining });
        match self.lost.iter().position(|lost| *lost == node) {
            Some(at) => {
                self.lost.remove(at);
                Arrival::Returned
            }
            None => Arrival::New,
        }
    }

    /// A node says that it ends. `true` when it was known.
    pub fn leave(&mut self, node: NodeId) -> bool {
        self.others.remove(&node).is_some()
    }

    /// Says so before its time, but not at once again and again.
    pub fn hasten(&mut self, now: Moment) {
        let soonest = self.said.map_or(now, |said| said.after(PAUSE));
        self.next = self.next.min(soonest.max(now));
    }

    /// What is to be done now, and counts as done.
    pub fn due(&mut self, now: Moment) -> Due {
        let patience = self.patience();
        let is_lost = |other: &Other| now.since(other.heard) >= patience;
        let mut lost: Vec<_> = self.others.iter().filter(|(_, other)| is_lost(other)).map(|(node, _)| *node).collect();
        lost.sort_unstable();
        for node in &lost {
            self.others.remove(node);
            self.lost.push_back(*node);
        }
        while self.lost.len() > LOST_MAX {
            self.lost.pop_front();
        }
        let say = now >= self.next;
        if say {
            self.said = Some(now);
            self.next = now.after(self.heartbeat);
        }
        Due { say, lost }
    }

    /// When something is due next, if nothing is heard.
    #[must_use]
    pub fn next(&self) -> Moment {
        let patience = self.patience();
        let first_lost = self.others.values().map(|other| other.heard.after(patience)).min();
        first_lost.map_or(self.next, |lost| lost.min(self.next))
    }

    /// How many others are alive.
    #[must_use]
    pub fn others(&self) -> usize {
        self.others.len()
    }

    /// Those that share a store which is not that of a node that keeps documents so: another cluster's.
    pub fn strangers(&self, ours: Keeps) -> impl Iterator<Item = NodeId> {
        let is_strange = move |theirs: Keeps| match (ours, theirs) {
            (Keeps::Shared { store: ours }, Keeps::Shared { store: theirs }) => ours != theirs,
            _ => false,
        };
        self.others.iter().filter(move |(_, other)| is_strange(other.keeps)).map(|(node, _)| *node)
    }

    /// Two heartbeats may be lost or late, three may not.
    fn patience(&self) -> Duration {
        self.heartbeat.mul_f64(2.5)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEAT: Duration = Duration::from_secs(4);
    const A: NodeId = NodeId(1);
    const B: NodeId = NodeId(2);

    fn nodes() -> Nodes {
        let mut nodes = Nodes::new(BEAT, Moment(0));
        assert_eq!(nodes.due(Moment(0)), Due { say: true, lost: vec![] });
        nodes
    }

    fn beat(nodes: &mut Nodes, at: u64, node: NodeId) -> Arrival {
        nodes.hear(Moment(at), node, Keeps::Apart, false, false)
    }

    #[test]
    fn a_node_alone_beats_and_waits() {
        let mut nodes = nodes();
        assert_eq!(nodes.next(), Moment(4_000));
        assert_eq!(nodes.due(Moment(3_999)), Due::default());
        assert!(nodes.due(Moment(4_000)).say);
        assert_eq!(nodes.next(), Moment(8_000));
    }

    #[test]
    fn who_is_silent_for_too_long_is_given_up_and_known_when_it_returns() {
        let mut nodes = nodes();
        assert_eq!(beat(&mut nodes, 1_000, A), Arrival::New);
        assert_eq!(beat(&mut nodes, 1_000, B), Arrival::New);
        assert_eq!(beat(&mut nodes, 5_000, B), Arrival::Known { drains: false });
        assert_eq!(nodes.others(), 2);
        assert!(nodes.due(Moment(10_999)).lost.is_empty());
        assert_eq!(nodes.next(), Moment(11_000));
        assert_eq!(nodes.due(Moment(11_000)).lost, [A]);
        assert_eq!(nodes.others(), 1);
        assert_eq!(beat(&mut nodes, 11_500, A), Arrival::Returned);
        assert_eq!(nodes.due(Moment(15_000)).lost, [B]);
        assert!(nodes.leave(A) && !nodes.leave(A));
        assert_eq!(beat(&mut nodes, 16_000, A), Arrival::New, "it went in order, so nothing of it was left");
    }

    #[test]
    fn newcomers_and_those_who_ask_are_answered_at_once_but_not_each() {
        let mut nodes = nodes();
        beat(&mut nodes, 1_000, A);
        assert!(nodes.due(Moment(1_000)).say);
        beat(&mut nodes, 1_010, B);
        assert_eq!(nodes.next(), Moment(1_100));
        assert!(!nodes.due(Moment(1_099)).say);
        assert!(nodes.due(Moment(1_100)).say, "one answer for all of them");
        beat(&mut nodes, 2_000, A);
        assert!(!nodes.due(Moment(2_000)).say, "an ordinary heartbeat needs no answer");
        nodes.hear(Moment(2_500), A, Keeps::Apart, false, true);
        assert!(nodes.due(Moment(2_500)).say);
    }

    #[test]
    fn draining_is_noticed_once() {
        let mut nodes = nodes();
        beat(&mut nodes, 0, A);
        let drain = |nodes: &mut Nodes| nodes.hear(Moment(1), A, Keeps::Apart, true, false);
        assert_eq!(drain(&mut nodes), Arrival::Known { drains: true });
        assert_eq!(drain(&mut nodes), Arrival::Known { drains: false });
    }

    #[test]
    fn made_up_nodes_take_no_room_for_ever() {
        let mut nodes = nodes();
        for round in 0..10 {
            for node in 0..1_000 {
                let arrival = beat(&mut nodes, round * 100_000, NodeId(round * 1_000 + node));
                assert_eq!(arrival == Arrival::Refused, node >= NODES_MAX as u64);
            }
            assert_eq!(nodes.due(Moment(round * 100_000 + 10_000)).lost.len(), NODES_MAX);
        }
        assert_eq!((nodes.others(), nodes.lost.len()), (0, LOST_MAX));
    }
}
