//! A bus within one process, for several nodes in one test: it says everything at once, and can be cut.

use std::collections::BTreeMap;
use std::future::Future;
use std::future::ready;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use bytes::Bytes;

use super::Bus;
use super::Ears;
use super::Heard;
use super::NodeId;
use super::Topic;
use super::channels::Channels;
use super::envelope::Envelope;
use super::topics::Follows;
use super::topics::Topics;

/// What the nodes of one test share.
#[derive(Default)]
pub struct LocalNet(Mutex<BTreeMap<NodeId, Member>>);

#[derive(Default)]
struct Member {
    topics: Topics,
    ears: Option<Arc<dyn Ears>>,
    is_cut: bool,
}

/// One node's way to the others.
pub struct LocalBus {
    node: NodeId,
    net: Arc<LocalNet>,
    channels: Channels,
}

/// What one node is about to hear.
type Delivery = (Arc<dyn Ears>, Topic, Heard);

impl LocalNet {
    /// Nobody yet.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Another node. It hears nothing until [`Self::listen`].
    #[must_use]
    pub fn join(self: &Arc<Self>, node: NodeId) -> Arc<LocalBus> {
        self.lock().insert(node, Member::default());
        Arc::new(LocalBus { node, net: self.clone(), channels: Channels::new("local") })
    }

    /// From now on these hear what is said to the node.
    pub fn listen(&self, node: NodeId, ears: Arc<dyn Ears>) {
        if let Some(member) = self.lock().get_mut(&node) {
            member.ears = Some(ears);
        }
    }

    /// Takes a node out, without a word.
    pub fn kill(&self, node: NodeId) {
        self.lock().remove(&node);
    }

    /// From now on everything is lost that the node says, or that is said to it.
    pub fn cut(&self, node: NodeId) {
        if let Some(member) = self.lock().get_mut(&node) {
            member.is_cut = true;
        }
    }

    /// It hears and is heard again, and is told so.
    pub fn heal(&self, node: NodeId) {
        let ears = self.lock().get_mut(&node).and_then(|member| {
            member.is_cut = false;
            member.ears.clone()
        });
        if let Some(ears) = ears {
            ears.resumed();
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<NodeId, Member>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LocalBus {
    fn deliveries(&self, topic: &Topic, body: &Bytes) -> Vec<Delivery> {
        let channel = self.channels.of(topic);
        let mut members = self.net.lock();
        let Some(own) = members.get_mut(&self.node) else { return Vec::new() };
        let mark = own.topics.next_mark(&channel);
        if own.is_cut {
            return Vec::new();
        }
        let packed = [&Envelope::head(self.node, mark)[..], body].concat().into();
        let Some(Envelope { from, mark, body }) = Envelope::decode(packed) else { return Vec::new() };
        let others = members.iter_mut().filter(|(node, member)| **node != self.node && !member.is_cut);
        let heard = others.filter_map(|(_, member)| {
            let (topic, follows) = member.topics.hear(&channel, from, mark)?;
            Some((
                member.ears.clone()?,
                topic,
                Heard { from, missed: follows == Follows::AfterGap, body: body.clone() },
            ))
        });
        heard.collect()
    }
}

impl Bus for LocalBus {
    fn node(&self) -> NodeId {
        self.node
    }

    fn publish(&self, topic: &Topic, body: Bytes) {
        for (ears, topic, heard) in self.deliveries(topic, &body) {
            ears.heard(&topic, heard);
        }
    }

    fn subscribe(&self, topic: &Topic) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        if let Some(member) = self.net.lock().get_mut(&self.node) {
            member.topics.subscribe(&self.channels.of(topic), topic);
        }
        Box::pin(ready(()))
    }

    fn unsubscribe(&self, topic: &Topic) {
        if let Some(member) = self.net.lock().get_mut(&self.node) {
            member.topics.unsubscribe(&self.channels.of(topic));
        }
    }

    fn forget(&self, node: NodeId) {
        if let Some(member) = self.net.lock().get_mut(&self.node) {
            member.topics.forget(node);
        }
    }

    fn is_up(&self) -> bool {
        self.net.lock().get(&self.node).is_some_and(|member| !member.is_cut)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes down what it hears.
    #[derive(Default)]
    struct Ear(Mutex<Vec<Option<Heard>>>);

    impl Ear {
        fn take(&self) -> Vec<Option<Heard>> {
            std::mem::take(&mut self.0.lock().unwrap())
        }
    }

    impl Ears for Ear {
        fn heard(&self, topic: &Topic, heard: Heard) {
            assert_eq!(topic, &Topic::Nodes);
            self.0.lock().unwrap().push(Some(heard));
        }

        fn resumed(&self) {
            self.0.lock().unwrap().push(None);
        }
    }

    fn heard(missed: bool, body: &'static str) -> Option<Heard> {
        Some(Heard { from: NodeId(1), missed, body: Bytes::from_static(body.as_bytes()) })
    }

    #[tokio::test]
    async fn nodes_hear_each_other_unless_they_are_cut() {
        let net = LocalNet::new();
        let (a, b, ear, own) =
            (net.join(NodeId(1)), net.join(NodeId(2)), Arc::new(Ear::default()), Arc::new(Ear::default()));
        net.listen(NodeId(2), ear.clone());
        net.listen(NodeId(1), own.clone());
        let say = |body: &'static str| a.publish(&Topic::Nodes, Bytes::from_static(body.as_bytes()));
        say("nobody listens");
        a.subscribe(&Topic::Nodes).await;
        b.subscribe(&Topic::Nodes).await;
        say("one");
        net.cut(NodeId(2));
        say("lost");
        assert!(a.is_up() && !b.is_up());
        net.heal(NodeId(2));
        say("two");
        net.cut(NodeId(1));
        say("lost too");
        net.heal(NodeId(1));
        say("three");
        b.forget(NodeId(1));
        say("four");
        b.unsubscribe(&Topic::Nodes);
        say("nobody listens again");
        let (yes, no) = (true, false);
        assert_eq!(ear.take(), [heard(no, "one"), None, heard(yes, "two"), heard(yes, "three"), heard(yes, "four")]);
        assert_eq!(own.take(), [None], "nobody hears itself");
        net.kill(NodeId(2));
        assert!(!b.is_up());
        b.publish(&Topic::Nodes, Bytes::new());
        assert_eq!(own.take(), []);
    }
}
