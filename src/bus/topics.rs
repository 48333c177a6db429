//! What one node listens to: the numbers of what it says there, and what it heard last of each other node.

use std::collections::HashMap;
use std::sync::Arc;

use super::NodeId;
use super::Topic;
use super::envelope::Mark;

/// Nodes that are told apart on one topic; far beyond any real cluster. Full: of further ones each message is as if something
/// had been missed before it.
const NODES_MAX: usize = 256;

/// Whether a message follows on what was heard before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Follows {
    /// Nothing was missed.
    Yes,
    /// Something may have been missed.
    AfterGap,
    /// It was overtaken, on the way over a connection that is no more. Whoever heard what overtook it knows of the gap.
    Overtaken,
}

/// The topics that a node listens to, by the names that they have on the bus.
#[derive(Debug, Default)]
pub(super) struct Topics {
    by_channel: HashMap<Arc<str>, Attention>,
    /// Stints so far, over all topics.
    stints: u64,
}

/// One topic that is listened to. Bounded by [`NODES_MAX`] and gone when nobody listens any more.
#[derive(Debug)]
struct Attention {
    topic: Topic,
    /// How often it was subscribed to and not taken back.
    holders: usize,
    /// The last number that this node used.
    said: Mark,
    /// The last number of every other node. Few, so a list.
    heard: Vec<(NodeId, Mark)>,
}

impl Topics {
    /// Listens once more. `true` when nobody listened before.
    pub(super) fn subscribe(&mut self, channel: &Arc<str>, topic: &Topic) -> bool {
        if let Some(attention) = self.by_channel.get_mut(channel) {
            attention.holders += 1;
            return false;
        }
        self.stints += 1;
        let said = Mark { stint: self.stints, number: 0 };
        let attention = Attention { topic: topic.clone(), holders: 1, said, heard: Vec::new() };
        self.by_channel.insert(channel.clone(), attention);
        true
    }

    /// Listens once less. `true` when nobody listens any more.
    pub(super) fn unsubscribe(&mut self, channel: &str) -> bool {
        let Some(attention) = self.by_channel.get_mut(channel) else { return false };
        attention.holders -= 1;
        if attention.holders > 0 {
            return false;
        }
        self.by_channel.remove(channel);
        true
    }

    /// The mark of the next message that this node says. It is used up, whether the message is sent or lost.
    pub(super) fn next_mark(&mut self, channel: &str) -> Mark {
        let Some(attention) = self.by_channel.get_mut(channel) else { return Mark::default() };
        attention.said.number += 1;
        attention.said
    }

    /// Notes a message of another node. `None` where nobody listens.
    pub(super) fn hear(&mut self, channel: &str, from: NodeId, mark: Mark) -> Option<(Topic, Follows)> {
        let attention = self.by_channel.get_mut(channel)?;
        Some((attention.topic.clone(), attention.hear(from, mark)))
    }

    /// Forgets what was heard of a node that is gone.
    pub(super) fn forget(&mut self, node: NodeId) {
        for attention in self.by_channel.values_mut() {
            attention.heard.retain(|(known, _)| *known != node);
        }
    }

    /// Whether anybody listens.
    pub(super) fn has(&self, channel: &str) -> bool {
        self.by_channel.contains_key(channel)
    }

    /// The names of all topics.
    pub(super) fn channels(&self) -> impl Iterator<Item = &Arc<str>> {
        self.by_channel.keys()
    }
}

impl Attention {
    fn hear(&mut self, from: NodeId, mark: Mark) -> Follows {
        if mark.number == 0 {
            return Follows::Yes;
        }
        let known = self.heard.iter_mut().find(|(node, _)| *node == from);
        let Some((_, last)) = known else {
            if self.heard.len() == NODES_MAX {
                return Follows::AfterGap;
            }
            self.heard.push((from, mark));
            // Of a node that spoke here before, one cannot know which of its messages came too early to be heard.
            return if mark.number == 1 { Follows::Yes } else { Follows::AfterGap };
        };
        if mark <= *last {
            return Follows::Overtaken;
        }
        let is_next = mark.stint == last.stint && mark.number == last.number + 1;
        *last = mark;
        // With a new stint, nobody knows how the former one ended.
        if is_next { Follows::Yes } else { Follows::AfterGap }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OTHER: NodeId = NodeId(2);

    fn channel() -> Arc<str> {
        "x:d:doc".into()
    }

    fn listening() -> Topics {
        let mut topics = Topics::default();
        assert!(topics.subscribe(&channel(), &Topic::Nodes));
        topics
    }

    fn hear(topics: &mut Topics, stint: u64, number: u64) -> Option<Follows> {
        let heard = topics.hear(&channel(), OTHER, Mark { stint, number });
        heard.map(|(topic, follows)| {
            assert_eq!(topic, Topic::Nodes);
            follows
        })
    }

    #[test]
    fn gaps_are_seen_and_nothing_else_is_one() {
        use Follows::*;
        let mut topics = listening();
        for (stint, number, follows, why) in [
            (1, 1, Yes, "the first of all"),
            (1, 2, Yes, "the next"),
            (1, 4, AfterGap, "one is missing"),
            (1, 5, Yes, "told once"),
            (1, 3, Overtaken, "the missing one, late"),
            (1, 5, Overtaken, "twice"),
            (3, 1, AfterGap, "it began again, and the end of what it said before may be missing"),
            (3, 2, Yes, "on from there"),
            (1, 6, Overtaken, "of before it began again"),
            (4, 7, AfterGap, "began again, and its beginning is missing too"),
            (0, 0, Yes, "not counted"),
            (4, 8, Yes, "what is not counted changes nothing"),
        ] {
            assert_eq!(hear(&mut topics, stint, number), Some(follows), "{why}");
        }
    }

    #[test]
    fn who_was_there_before_may_have_said_something() {
        assert_eq!(hear(&mut listening(), 1, 57), Some(Follows::AfterGap));
    }

    #[test]
    fn nobody_hears_where_nobody_listens_and_beginning_again_forgets() {
        let mut topics = listening();
        assert!(!topics.subscribe(&channel(), &Topic::Nodes), "a second one listens too");
        assert_eq!(hear(&mut topics, 1, 1), Some(Follows::Yes));
        assert!(!topics.unsubscribe(&channel()) && topics.unsubscribe(&channel()));
        assert!(!topics.unsubscribe(&channel()), "once too often is no trouble");
        assert_eq!(hear(&mut topics, 1, 2), None);
        assert!(topics.subscribe(&channel(), &Topic::Nodes));
        assert_eq!(hear(&mut topics, 1, 3), Some(Follows::AfterGap));
    }

    #[test]
    fn numbers_grow_and_stints_are_told_apart() {
        let mut topics = listening();
        let next = |topics: &mut Topics| topics.next_mark(&channel());
        assert_eq!(next(&mut topics), Mark { stint: 1, number: 1 });
        assert_eq!(next(&mut topics), Mark { stint: 1, number: 2 });
        topics.unsubscribe(&channel());
        assert_eq!(next(&mut topics), Mark::default(), "not counted where one does not listen");
        topics.subscribe(&channel(), &Topic::Nodes);
        assert_eq!(next(&mut topics), Mark { stint: 2, number: 1 });
    }

    #[test]
    fn a_lost_node_is_forgotten_and_made_up_ones_take_no_room() {
        let mut topics = listening();
        assert_eq!(hear(&mut topics, 1, 1), Some(Follows::Yes));
        topics.forget(OTHER);
        assert_eq!(hear(&mut topics, 1, 2), Some(Follows::AfterGap));
        for node in 10..10 + 2 * NODES_MAX as u64 {
            topics.hear(&channel(), NodeId(node), Mark { stint: 1, number: 1 });
        }
        assert_eq!(topics.by_channel[&channel()].heard.len(), NODES_MAX);
        assert_eq!(hear(&mut topics, 1, 3), Some(Follows::Yes), "who is known stays known");
        let late = topics.hear(&channel(), NodeId(5), Mark { stint: 1, number: 1 });
        assert_eq!(late.map(|(_, follows)| follows), Some(Follows::AfterGap));
    }
}
