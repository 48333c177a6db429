//! How the nodes of a cluster reach each other: topics that each node listens to while it needs them.
//!
//! The bus is liveness and nothing else: it may lose, at any time, anything that was said, and it may be away for hours.
//! What must not be lost is in the store before it is said here, and whoever missed something finds out: messages are
//! numbered by topic and node ([`envelope`]), and holders of a document compare what they have. Two messages of one node on
//! one topic never change places.

pub mod envelope;
pub mod news;
mod topics;
mod channels;
pub mod local;
pub mod redis;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use bytes::Bytes;

use crate::name::DocName;
use crate::name::RoomName;

/// One run of one node: drawn at random when it starts, so a node that restarts is another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub u64);

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// What is talked about.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Topic {
    /// One document: among the nodes that hold it.
    Doc(DocName),
    /// One room: among the nodes where somebody is in it, or which keep its history.
    Room(RoomName),
    /// The cluster: among all nodes.
    Nodes,
}

/// Something another node said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard {
    /// Who said it. Never this node.
    pub from: NodeId,
    /// Whether the number before it, of this node on this topic, was not heard: something was missed.
    pub missed: bool,
    /// What was said. Whatever can reach the bus can say anything: to be read with care.
    pub body: Bytes,
}

/// Hears what other nodes say. Called on the bus's own task, so it must not wait.
pub trait Ears: Send + Sync + 'static {
    /// Something was said on a topic that is listened to.
    fn heard(&self, topic: &Topic, heard: Heard);
    /// The bus was away and is back, and everything is listened to again that was: anything may have been missed.
    fn resumed(&self);
}

/// The way to the other nodes.
pub trait Bus: Send + Sync + 'static {
    /// This node.
    fn node(&self) -> NodeId;

    /// Says something to every node that listens to the topic, but not to this one. Never waits. While the bus is away, or
    /// where more waits than it may hold, it is lost; those who hear the next message see that.
    fn publish(&self, topic: &Topic, body: Bytes);

    /// Listens to a topic from now on, as often as it is called and not taken back. The future resolves when nothing more
    /// will be missed; at once while the bus is away, as [`Ears::resumed`] follows then.
    fn subscribe(&self, topic: &Topic) -> Pin<Box<dyn Future<Output = ()> + Send>>;

    /// Takes one [`Self::subscribe`] back.
    fn unsubscribe(&self, topic: &Topic);

    /// Forgets what was heard of a node that is gone.
    fn forget(&self, node: NodeId);

    /// Whether it can be reached now.
    fn is_up(&self) -> bool;
}

/// What a document needs of the cluster.
#[derive(Clone)]
pub struct Link {
    /// The way to the other nodes.
    pub bus: Arc<dyn Bus>,
    /// How many other nodes are alive, as far as is known.
    pub others: Arc<AtomicUsize>,
}

impl Link {
    /// A way to others of whom none is known yet.
    #[must_use]
    pub fn new(bus: Arc<dyn Bus>) -> Self {
        Self { bus, others: Arc::new(AtomicUsize::new(0)) }
    }
}
