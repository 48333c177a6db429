//! A bus within a test: keeps the order between two nodes and no other, and loses what a node says or is told that is cut
//! off.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::Mutex;

use bytes::Bytes;

use crate::bus::Bus;
use crate::bus::Heard;
use crate::bus::NodeId;
use crate::bus::Topic;

/// What one node says to another, in order.
type Way = VecDeque<(Topic, u64, Bytes)>;

#[derive(Default)]
pub(super) struct Network(Mutex<State>);

#[derive(Default)]
struct State {
    topics: BTreeMap<(NodeId, Topic), usize>,
    /// By the way from one node to another.
    under_way: BTreeMap<(NodeId, NodeId), Way>,
    said: BTreeMap<(NodeId, Topic), u64>,
    heard: BTreeMap<(NodeId, NodeId, Topic), u64>,
    nodes: BTreeSet<NodeId>,
    cut: BTreeSet<NodeId>,
    published: usize,
}

impl Network {
    /// Takes what comes next on one of the ways.
    pub(super) fn take(&self, chance: usize) -> Option<(NodeId, Topic, Heard)> {
        let mut state = self.0.lock().unwrap();
        let ways: Vec<_> = state.under_way.iter().filter(|(_, way)| !way.is_empty()).map(|(way, _)| *way).collect();
        let (from, to) = *ways.get(chance % ways.len().max(1))?;
        let (topic, number, body) = state.under_way.get_mut(&(from, to))?.pop_front()?;
        let before = state.heard.insert((to, from, topic.clone()), number);
        let missed = before.is_some_and(|before| before + 1 != number);
        Some((to, topic, Heard { from, missed, body }))
    }

    /// Loses the next message on a way, as if it had never been said.
    pub(super) fn lose_next(&self, from: NodeId, to: NodeId) -> bool {
        self.0.lock().unwrap().under_way.get_mut(&(from, to)).and_then(VecDeque::pop_front).is_some()
    }

    pub(super) fn cut(&self, node: NodeId, is_cut: bool) {
        let mut state = self.0.lock().unwrap();
        if is_cut {
            state.cut.insert(node);
            state.under_way.retain(|(from, to), _| *from != node && *to != node);
        } else {
            state.cut.remove(&node);
        }
    }

    /// Messages so far, whoever hears them.
    pub(super) fn published(&self) -> usize {
        self.0.lock().unwrap().published
    }

    pub(super) fn topics_of(&self, node: NodeId) -> usize {
        self.0.lock().unwrap().topics.keys().filter(|(of, _)| *of == node).count()
    }
}

pub(super) struct TestBus {
    pub(super) node: NodeId,
    pub(super) network: Arc<Network>,
}

impl Bus for TestBus {
    fn node(&self) -> NodeId {
        self.node
    }

    fn publish(&self, topic: &Topic, body: Bytes) {
        let mut state = self.network.0.lock().unwrap();
        state.published += 1;
        let number = state.said.entry((self.node, topic.clone())).or_default();
        *number += 1;
        let number = *number;
        let hears = |(node, of): &&(NodeId, Topic)| *node != self.node && of == topic;
        let to: Vec<NodeId> = state.topics.keys().filter(hears).map(|(node, _)| *node).collect();
        for to in to {
            if !state.cut.contains(&self.node) && !state.cut.contains(&to) {
                state.under_way.entry((self.node, to)).or_default().push_back((topic.clone(), number, body.clone()));
            }
        }
    }

    fn subscribe(&self, topic: &Topic) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let mut state = self.network.0.lock().unwrap();
        state.nodes.insert(self.node);
        *state.topics.entry((self.node, topic.clone())).or_default() += 1;
        state.heard.retain(|(to, _, of), _| *to != self.node || of != topic);
        Box::pin(std::future::ready(()))
    }

    fn unsubscribe(&self, topic: &Topic) {
        let mut state = self.network.0.lock().unwrap();
        let key = (self.node, topic.clone());
        let count = state.topics.get_mut(&key).expect("it was subscribed");
        *count -= 1;
        if *count == 0 {
            state.topics.remove(&key);
        }
    }

    fn forget(&self, node: NodeId) {
        let own = self.node;
        self.network.0.lock().unwrap().heard.retain(|(to, from, _), _| *to != own || *from != node);
    }

    fn is_up(&self) -> bool {
        !self.network.0.lock().unwrap().cut.contains(&self.node)
    }
}
