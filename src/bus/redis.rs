//! The bus over Redis: its publish and subscribe, and nothing else of it. It may be restarted empty at any time.
//!
//! ```text
//!  publish ─▶ outgoing (bounded) ─▶ session: PUBLISH …  ─┐
//!  subscribe ─▶ subscriptions ────▶ session: SUBSCRIBE … │─ Redis ─ other nodes
//!  ears ◀──────────────────────────  messages ◀──────────┘
//! ```
//! A session is two connections, one to speak and one to listen; when either fails, both are given up and another session
//! begins. While there is none, what is published is lost, and counted.

mod address;
mod outgoing;
mod session;
mod subscriptions;

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;
use tokio::time::Instant;
use tracing::debug;
use tracing::info;
use tracing::warn;

use crate::metrics::Metrics;

use super::Bus;
use super::Ears;
use super::Heard;
use super::NodeId;
use super::Topic;
use super::channels::Channels;
use super::envelope::BODY_BYTES_MAX;
use super::envelope::Envelope;
use super::topics::Follows;
use super::topics::Topics;
use outgoing::Message;
use outgoing::Outgoing;
use subscriptions::Subscriptions;

pub use address::Address;
pub use address::AddressError;

/// Between two attempts to reach Redis: doubled each time up to the second one, then a random part of that.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// A session that lasts so long was no accident: the next one may begin soon. What breaks each session at once, a message that
/// Redis refuses for example, must not do so many times a second.
const STEADY: Duration = Duration::from_secs(5);

/// One node's way to the others over Redis.
pub struct RedisBus {
    node: NodeId,
    address: Address,
    channels: Channels,
    state: Mutex<State>,
    /// Something is to be published.
    to_say: Notify,
    /// Something is to be subscribed to, or not any more.
    to_change: Notify,
    /// Everything was published.
    said: Notify,
    metrics: Arc<Metrics>,
}

#[derive(Default)]
struct State {
    topics: Topics,
    subscriptions: Subscriptions,
    outgoing: Outgoing,
    /// Messages that were handed to Redis and not yet answered.
    on_their_way: usize,
    /// Whether there is a session on which everything is subscribed to.
    is_up: bool,
}

impl RedisBus {
    /// A bus that reaches nobody until it [runs](Self::run). Names in Redis begin with `prefix`.
    #[must_use]
    pub fn new(node: NodeId, address: Address, prefix: &str, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self {
            node,
            address,
            channels: Channels::new(prefix),
            state: Mutex::default(),
            to_say: Notify::new(),
            to_change: Notify::new(),
            said: Notify::new(),
            metrics,
        })
    }

    /// Keeps a session with Redis, for ever: the composition root runs this beside the server.
    pub async fn run(self: Arc<Self>, ears: Arc<dyn Ears>) -> Infallible {
        let mut pause = PAUSE_MIN;
        let mut told = false;
        loop {
            let begun = Instant::now();
            let error = session::hold(&self, &ears).await;
            let was_up = self.end_session();
            told &= !was_up;
            if was_up && begun.elapsed() > STEADY {
                pause = PAUSE_MIN;
            }
            if told {
                debug!(event = "bus_away", %error);
            } else {
                warn!(event = "bus_down", redis = %self.address, %error);
                told = true;
            }
            // All nodes lose Redis in the same moment, and should not return to it in one.
            tokio::time::sleep(pause.mul_f64(rand::random_range(0.5..1.0))).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// Waits until everything that was published is with Redis; not when it is away.
    pub async fn flush(&self) {
        loop {
            let said = self.said.notified();
            {
                let state = self.lock();
                if !state.is_up || (state.outgoing.is_empty() && state.on_their_way == 0) {
                    return;
                }
            }
            said.await;
        }
    }

    /// A session begins, on which nothing is subscribed to yet.
    fn begin_session(&self) {
        let State { topics, subscriptions, .. } = &mut *self.lock();
        subscriptions.start_over(topics.channels());
    }

    /// The session is whole if Redis knows everything that it is to know.
    fn is_whole(&self) -> bool {
        let mut state = self.lock();
        state.is_up = state.is_up || state.subscriptions.is_settled();
        state.is_up
    }

    fn begin_to_speak(&self, ears: &dyn Ears) {
        self.metrics.bus_up.set(1.0);
        self.metrics.bus_connects.increment(1);
        info!(event = "bus_up", redis = %self.address);
        ears.resumed();
    }

    /// What waits is lost, and nobody waits any more. Answers whether the session was whole.
    fn end_session(&self) -> bool {
        let mut state = self.lock();
        let State { topics, subscriptions, outgoing, on_their_way, is_up } = &mut *state;
        let was_up = std::mem::take(is_up);
        subscriptions.start_over(topics.channels());
        let lost = outgoing.clear() + std::mem::take(on_their_way);
        drop(state);
        self.metrics.bus_up.set(0.0);
        self.metrics.bus_dropped.increment(lost as u64);
        self.said.notify_waiters();
        was_up
    }

    /// Something arrived on a channel.
    fn hear(&self, channel: &str, payload: Vec<u8>, ears: &dyn Ears) {
        let Some(Envelope { from, mark, body }) = Envelope::decode(payload.into()) else {
            self.metrics.bus_unreadable.increment(1);
            return debug!(event = "bus_unreadable");
        };
        if from == self.node {
            return;
        }
        self.metrics.bus_received.increment(1);
        let heard = self.lock().topics.hear(channel, from, mark);
        let Some((topic, follows)) = heard else { return };
        let missed = match follows {
            Follows::Yes => false,
            Follows::AfterGap => {
                self.metrics.bus_gaps.increment(1);
                true
            }
            Follows::Overtaken => return,
        };
        ears.heard(&topic, Heard { from, missed, body });
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Each change leaves the tables whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Bus for RedisBus {
    fn node(&self) -> NodeId {
        self.node
    }

    fn publish(&self, topic: &Topic, body: Bytes) {
        let channel = self.channels.of(topic);
        let mut state = self.lock();
        let mark = state.topics.next_mark(&channel);
        let head = Envelope::head(self.node, mark);
        let fits = state.is_up && body.len() <= BODY_BYTES_MAX;
        if fits && state.outgoing.push(Message { channel, head, body }) {
            drop(state);
            self.to_say.notify_one();
        } else {
            self.metrics.bus_dropped.increment(1);
        }
    }

    fn subscribe(&self, topic: &Topic) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let channel = self.channels.of(topic);
        let mut state = self.lock();
        if state.topics.subscribe(&channel, topic) {
            state.subscriptions.change(&channel);
            self.to_change.notify_one();
        }
        let waiting = if state.is_up { state.subscriptions.wait(&channel) } else { None };
        Box::pin(async move {
            if let Some(waiting) = waiting {
                // It breaks with the session: then the next one begins with `resumed`.
                let _ = waiting.await;
            }
        })
    }

    fn unsubscribe(&self, topic: &Topic) {
        let channel = self.channels.of(topic);
        let mut state = self.lock();
        if state.topics.unsubscribe(&channel) {
            state.subscriptions.change(&channel);
            self.to_change.notify_one();
        }
    }

    fn forget(&self, node: NodeId) {
        self.lock().topics.forget(node);
    }

    fn is_up(&self) -> bool {
        self.lock().is_up
    }
}
