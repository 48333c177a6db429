//! One node among others: who else is alive, and where what they say goes.
//!
//! ```text
//!  bus ─▶ documents' topics ─▶ hub
//!      ─▶ rooms' topics ─▶ feeds
//!      ─▶ the cluster's topic ─▶ nodes (who is alive), auth (what was taken back), hub (documents that are kept apart)
//! ```
//! [`nodes`] decides, this carries out. Nothing here waits but the two loops that the composition root runs.

pub mod nodes;
mod refusals;

use std::collections::HashSet;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::RwLock;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

use syncline_protocol::Moment;
use tokio::sync::Notify;
use tracing::info;
use tracing::warn;

use crate::auth::Auth;
use crate::auth::told::Notice;
use crate::bus::Ears;
use crate::bus::Heard;
use crate::bus::Link;
use crate::bus::NodeId;
use crate::bus::Topic;
use crate::bus::news::Alive;
use crate::bus::news::Keeps;
use crate::bus::news::News;
use crate::bus::news::REFUSED_MAX;
use crate::clock::Clock;
use crate::document::mail::PeerMail;
use crate::hub::Hub;
use crate::metrics::Metrics;
use crate::room::Feeds;

use nodes::Arrival;
use nodes::Nodes;
use refusals::Refusals;

/// Of several nodes that could send a list to one that lacks it, each waits a random part of this.
const LIST_WAIT: Duration = Duration::from_millis(250);
/// Clocks further apart than this make tokens run out, and revocations take hold, at noticeably different times.
const CLOCKS_APART_MS: u64 = 10_000;
/// Nodes of other clusters that are remembered. Full: those that are alive remain.
const STRANGERS_MAX: usize = 1024;
/// After the list of what is refused could not be written.
const KEEP_AGAIN: Duration = Duration::from_secs(5);

/// What a cluster is made of.
pub struct Parts {
    /// The way to the others.
    pub link: Link,
    /// The documents.
    pub hub: Arc<Hub>,
    /// The rooms.
    pub feeds: Arc<Feeds>,
    /// Who may do what.
    pub auth: Arc<Auth>,
    /// The clock.
    pub clock: Clock,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Where this node keeps documents.
    pub keeps: Keeps,
    /// How often it says that it lives.
    pub heartbeat: Duration,
}

/// This node's place among the others.
pub struct Cluster {
    parts: Parts,
    state: Mutex<State>,
    /// Nodes of another cluster on the same prefix. What they say of documents is not of ours; their positions are of another
    /// log. Who fell silent stays one: its heartbeats may be late, and each start draws another number.
    strangers: RwLock<HashSet<NodeId>>,
    /// Something is due sooner than it was.
    sooner: Notify,
    /// Something that was taken back elsewhere is to be written down.
    to_keep: Notify,
    draining: AtomicBool,
    /// Whether the last word was said.
    gone: AtomicBool,
}

struct State {
    nodes: Nodes,
    refusals: Refusals,
    /// Whether the next heartbeat asks for those of the others.
    asks: bool,
}

impl Cluster {
    /// A node that has not said anything yet.
    #[must_use]
    pub fn new(parts: Parts) -> Arc<Self> {
        let nodes = Nodes::new(parts.heartbeat, parts.clock.now().moment);
        let state = State { nodes, refusals: Refusals::default(), asks: true };
        parts.metrics.nodes_alive.set(1.0);
        Arc::new(Self {
            parts,
            state: Mutex::new(state),
            strangers: RwLock::default(),
            sooner: Notify::new(),
            to_keep: Notify::new(),
            draining: AtomicBool::new(false),
            gone: AtomicBool::new(false),
        })
    }

    /// This node.
    #[must_use]
    pub fn node(&self) -> NodeId {
        self.parts.link.bus.node()
    }

    /// How many nodes are alive as far as this one knows, itself included.
    #[must_use]
    pub fn alive(&self) -> usize {
        self.lock().nodes.others() + 1
    }

    /// Says that it lives, and notices who does not, for ever: the composition root runs this beside the server.
    pub async fn run(&self) -> Infallible {
        self.parts.link.bus.subscribe(&Topic::Nodes).await;
        loop {
            let sooner = self.sooner.notified();
            let next = self.beat();
            tokio::select! {
                () = tokio::time::sleep_until(self.parts.clock.instant(next).into()) => {}
                () = sooner => {}
            }
        }
    }

    /// Writes down what was taken back elsewhere, for ever.
    pub async fn keep_told(&self) -> Infallible {
        loop {
            self.to_keep.notified().await;
            while let Err(error) = self.parts.auth.keep_told().await {
                tracing::error!(event = "revocation_unsaved", %error);
                tokio::time::sleep(KEEP_AGAIN).await;
            }
        }
    }

    /// Tells the others what was taken back here.
    pub fn tell(&self, notice: Notice) {
        self.say(&News::Revoked(notice));
    }

    /// Tells the others that this node sends its clients away.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
        self.say_alive();
    }

    /// Tells the others that this node ends, and everything that was here with it. Its last word.
    pub fn say_goodbye(&self) {
        self.gone.store(true, Ordering::SeqCst);
        self.say(&News::Goodbye);
    }

    /// Does what is due, and answers when to look again.
    fn beat(&self) -> Moment {
        let now = self.parts.clock.now();
        let (due, lists, next) = {
            let mut state = self.lock();
            let due = state.nodes.due(now.moment);
            let lists = state.refusals.is_due(now.moment);
            let next = state.nodes.next();
            (due, lists, state.refusals.next().map_or(next, |list| list.min(next)))
        };
        for node in due.lost {
            warn!(event = "node_lost", %node);
            self.give_up(node);
        }
        if due.say && self.parts.link.bus.is_up() {
            self.say_alive();
        }
        if lists {
            let refused = self.parts.auth.refused(now.wall_ms);
            refused.chunks(REFUSED_MAX).for_each(|part| self.say(&News::Refused(part.to_vec())));
        }
        next
    }

    fn say_alive(&self) {
        if self.gone.load(Ordering::SeqCst) {
            return;
        }
        let at_ms = self.parts.clock.now().wall_ms;
        let asks = std::mem::take(&mut self.lock().asks);
        self.say(&News::Alive(Alive {
            asks,
            draining: self.draining.load(Ordering::Relaxed),
            keeps: self.parts.keeps,
            at_ms,
            refuses: self.parts.auth.refusal_fingerprint(at_ms),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }));
    }

    fn say(&self, news: &News) {
        self.parts.link.bus.publish(&Topic::Nodes, news.encode());
    }

    /// What was there is there no more.
    fn give_up(&self, node: NodeId) {
        self.count();
        self.parts.link.bus.forget(node);
        self.parts.hub.deliver_to_all(|| PeerMail::Lost(node));
        self.parts.feeds.lost(node);
    }

    fn hear_news(&self, from: NodeId, news: News) {
        match news {
            News::Doc { name, message } => {
                let mail = PeerMail::Said { from, missed: false, body: message };
                self.parts.hub.deliver_or_load(&name, mail);
            }
            News::Alive(alive) => self.hear_alive(from, &alive),
            News::Goodbye => {
                if self.lock().nodes.leave(from) {
                    info!(event = "node_left", node = %from);
                    self.give_up(from);
                }
            }
            News::Revoked(notice) => self.take_back([notice]),
            News::Refused(entries) => {
                self.lock().refusals.heard(from);
                self.take_back(entries.into_iter().map(Notice::Refused));
            }
        }
    }

    fn take_back(&self, notices: impl IntoIterator<Item = Notice>) {
        // All of them, and then write them down once.
        let news = notices.into_iter().filter(|notice| self.parts.auth.hear(notice)).count();
        if news > 0 {
            self.to_keep.notify_one();
        }
    }

    fn hear_alive(&self, from: NodeId, alive: &Alive) {
        let now = self.parts.clock.now().moment;
        let ours = self.parts.auth.refusal_fingerprint(alive.at_ms);
        let wait = LIST_WAIT.mul_f64(rand::random_range(0.0..1.0));
        let arrival = {
            let mut state = self.lock();
            state.refusals.compare(now, from, ours, alive.refuses, wait);
            state.nodes.hear(now, from, alive.keeps, alive.draining, alive.asks)
        };
        self.sooner.notify_one();
        match arrival {
            Arrival::Known { drains: false } => {}
            Arrival::Known { drains: true } => info!(event = "node_draining", node = %from),
            Arrival::New => self.welcome(from, alive),
            Arrival::Returned => {
                self.welcome(from, alive);
                // It was given up here, and may not know: its users are to be told of again, and so are those here.
                self.parts.hub.deliver_to_all(|| PeerMail::Resumed);
                self.parts.feeds.resumed();
            }
            Arrival::Refused => warn!(event = "node_refused", node = %from),
        }
    }

    fn welcome(&self, node: NodeId, alive: &Alive) {
        self.count();
        info!(event = "node_joined", %node, version = alive.version, keeps = ?alive.keeps);
        let ours = self.parts.keeps;
        // One keeps what the other does not see.
        if ours != alive.keeps {
            warn!(event = "nodes_differ", %node, what = "store", ?ours, theirs = ?alive.keeps);
        }
        let apart_ms = self.parts.clock.now().wall_ms.abs_diff(alive.at_ms);
        if apart_ms > CLOCKS_APART_MS {
            warn!(event = "nodes_differ", %node, what = "clock", apart_ms);
        }
    }

    fn count(&self) {
        let (others, alive) = {
            let nodes = &self.lock().nodes;
            (nodes.others(), nodes.strangers(self.parts.keeps).collect::<Vec<_>>())
        };
        // Strangers answer nothing.
        self.parts.link.others.store(others - alive.len(), Ordering::Relaxed);
        self.parts.metrics.nodes_alive.set((others + 1) as f64);
        let mut strangers = self.strangers.write().unwrap_or_else(PoisonError::into_inner);
        if strangers.len() >= STRANGERS_MAX {
            strangers.clear();
        }
        strangers.extend(alive);
    }

    fn is_stranger(&self, node: NodeId) -> bool {
        self.strangers.read().unwrap_or_else(PoisonError::into_inner).contains(&node)
    }

    fn hasten(&self) {
        self.lock().nodes.hasten(self.parts.clock.now().moment);
        self.sooner.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Each change leaves the state whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ears for Cluster {
    fn heard(&self, topic: &Topic, heard: Heard) {
        let Heard { from, missed, body } = heard;
        if !matches!(topic, Topic::Nodes) && self.is_stranger(from) {
            return;
        }
        match topic {
            Topic::Doc(doc) => self.parts.hub.deliver(doc, PeerMail::Said { from, missed, body }),
            Topic::Room(room) => self.parts.feeds.heard(room, Heard { from, missed, body }),
            Topic::Nodes => match News::decode(body) {
                Some(news) => self.hear_news(from, news),
                None => self.parts.metrics.bus_unreadable.increment(1),
            },
        }
    }

    fn resumed(&self) {
        self.lock().asks = true;
        self.hasten();
        self.parts.hub.deliver_to_all(|| PeerMail::Resumed);
        self.parts.feeds.resumed();
    }
}
