//! The bus as nodes have it: per topic and sender in order, delayed, and losing whatever it likes. Numbers show what was lost.

use std::collections::BTreeMap;
use std::collections::VecDeque;

use bytes::Bytes;
use syncline::bus::NodeId;

use crate::chance::Chance;
use crate::peering::Saying;

/// The place of a message among those of its node on its topic: the stint of listening in which it was said, and a number
/// from 1 on. Zeroes where it is not counted.
type Mark = (u64, u64);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Topic {
    Doc(usize),
    Nodes,
}

/// From whom, to whom, where.
type Line = (usize, usize, Topic);

/// What is said on a line.
#[derive(Debug)]
struct Letter {
    from: NodeId,
    doc: usize,
    mark: Mark,
    body: Bytes,
}

/// What arrives.
#[derive(Debug)]
pub(crate) struct Arrival {
    /// At which node, by its place.
    pub(crate) to: usize,
    pub(crate) from: NodeId,
    pub(crate) doc: usize,
    pub(crate) missed: bool,
    pub(crate) body: Bytes,
    /// Whether a node that does not hold the document loads it for this.
    pub(crate) loads: bool,
}

/// One node's end.
#[derive(Debug, Default)]
struct End {
    /// `None` while the node is down.
    node: Option<NodeId>,
    is_cut: bool,
    topics: BTreeMap<usize, Attention>,
}

/// One topic that a node listens to.
#[derive(Debug, Default)]
struct Attention {
    holders: usize,
    said: Mark,
    heard: BTreeMap<NodeId, Mark>,
}

impl Attention {
    /// Whether something was missed before this; `None` for something that was overtaken.
    fn hear(&mut self, from: NodeId, mark: Mark) -> Option<bool> {
        if mark.1 == 0 {
            return Some(false);
        }
        let Some(last) = self.heard.insert(from, mark) else { return Some(mark.1 != 1) };
        if mark <= last {
            self.heard.insert(from, last);
            return None;
        }
        Some(mark != (last.0, last.1 + 1))
    }
}

/// The bus.
#[derive(Debug)]
pub(crate) struct Bus {
    pub(crate) is_up: bool,
    /// One message in so many is lost; none for 0.
    pub(crate) loses_in: usize,
    ends: Vec<End>,
    lines: BTreeMap<Line, VecDeque<Letter>>,
    stints: u64,
}

impl Bus {
    pub(crate) fn new(nodes: usize, loses_in: usize) -> Self {
        let ends = (0..nodes).map(|_| End::default()).collect();
        Self { is_up: true, loses_in, ends, lines: BTreeMap::new(), stints: 0 }
    }

    pub(crate) fn node(&self, at: usize) -> Option<NodeId> {
        self.ends[at].node
    }

    pub(crate) fn is_cut(&self, at: usize) -> bool {
        self.ends[at].is_cut
    }

    /// Whether this node is alive and hears the bus.
    pub(crate) fn reaches(&self, at: usize) -> bool {
        self.is_up && self.ends[at].node.is_some() && !self.ends[at].is_cut
    }

    /// The nodes that one hears now.
    pub(crate) fn reachable_from(&self, at: usize) -> impl Iterator<Item = NodeId> + '_ {
        let others = (0..self.ends.len()).filter(move |&other| other != at && self.reaches(at) && self.reaches(other));
        others.filter_map(|other| self.ends[other].node)
    }

    /// A process starts.
    pub(crate) fn start(&mut self, at: usize, node: NodeId) {
        self.ends[at] = End { node: Some(node), ..End::default() };
    }

    /// A process dies. What it said before may be under way.
    pub(crate) fn stop(&mut self, at: usize) {
        self.ends[at] = End::default();
        self.lines.retain(|line, _| line.1 != at);
    }

    /// A node loses its connection, and with it everything under way to it.
    pub(crate) fn cut(&mut self, at: usize) {
        self.ends[at].is_cut = true;
        self.lines.retain(|line, _| line.1 != at);
    }

    pub(crate) fn mend(&mut self, at: usize) {
        self.ends[at].is_cut = false;
    }

    /// The bus is gone, and everything under way.
    pub(crate) fn go_away(&mut self) {
        self.is_up = false;
        self.lines.clear();
    }

    /// A node that was given up is a new one if it comes back. What it said last is not under way for as long as that takes.
    pub(crate) fn forget(&mut self, at: usize, node: NodeId) {
        for topic in self.ends[at].topics.values_mut() {
            topic.heard.remove(&node);
        }
        for letters in self.lines.iter_mut().filter(|(line, _)| line.1 == at).map(|(_, letters)| letters) {
            letters.retain(|letter| letter.from != node);
        }
        self.lines.retain(|_, letters| !letters.is_empty());
    }

    pub(crate) fn hear(&mut self, at: usize, saying: Saying) {
        match saying {
            Saying::Listen(doc) => {
                self.stints += 1;
                let said = (self.stints, 0);
                let fresh = || Attention { said, ..Attention::default() };
                self.ends[at].topics.entry(doc).or_insert_with(fresh).holders += 1;
            }
            Saying::Deaf(doc) => {
                let topics = &mut self.ends[at].topics;
                if let Some(topic) = topics.get_mut(&doc) {
                    topic.holders -= 1;
                    if topic.holders == 0 {
                        topics.remove(&doc);
                    }
                }
            }
            Saying::ToHolders(doc, body) => self.publish(at, doc, Topic::Doc(doc), &body),
            Saying::ToAll(doc, body) => self.publish(at, doc, Topic::Nodes, &body),
        }
    }

    fn publish(&mut self, at: usize, doc: usize, topic: Topic, body: &Bytes) {
        let reaches = self.reaches(at);
        let end = &mut self.ends[at];
        let Some(from) = end.node else { return };
        let attention = end.topics.get_mut(&doc).filter(|_| topic != Topic::Nodes);
        let mark = attention.map_or((0, 0), |attention| {
            attention.said.1 += 1;
            attention.said
        });
        if !reaches {
            return;
        }
        for to in (0..self.ends.len()).filter(|to| *to != at) {
            let listens = topic == Topic::Nodes || self.ends[to].topics.contains_key(&doc);
            if listens && self.reaches(to) {
                let letter = Letter { from, doc, mark, body: body.clone() };
                self.lines.entry((at, to, topic)).or_default().push_back(letter);
            }
        }
    }

    /// The next message on some line, unless it is lost there.
    pub(crate) fn deliver(&mut self, chance: &mut Chance) -> Option<Arrival> {
        if self.lines.is_empty() {
            return None;
        }
        let line = *self.lines.keys().nth(chance.below(self.lines.len()))?;
        let letters = self.lines.get_mut(&line)?;
        let letter = letters.pop_front();
        if letters.is_empty() {
            self.lines.remove(&line);
        }
        let Letter { from, doc, mark, body } = letter?;
        if self.loses_in > 0 && chance.one_in(self.loses_in) {
            return None;
        }
        let to = line.1;
        let missed = match line.2 {
            Topic::Nodes => false,
            Topic::Doc(doc) => self.ends[to].topics.get_mut(&doc)?.hear(from, mark)?,
        };
        Some(Arrival { to, from, doc, missed, body, loads: line.2 == Topic::Nodes })
    }

    /// Whether something is under way.
    pub(crate) fn is_busy(&self) -> bool {
        !self.lines.is_empty()
    }
}
