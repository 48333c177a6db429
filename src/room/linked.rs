//! Rooms of many nodes: what is heard of other nodes goes to its room, and rooms that wait for others are looked after.
//!
//! ```text
//!  A: a room is used here ──subscribe──▶ Here, asking ──▶ B: Here; Members ──▶ A: Want ──▶ B: Missed: the history
//!  A: something is told ───────────────▶ Told ──────────▶ B: the same, in its place, or Want and Missed first
//! ```

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::Weak;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::bus;
use crate::bus::Link;
use crate::bus::NodeId;
use crate::bus::Topic;
use crate::clock::Clock;
use crate::event::EventId;
use crate::event::Listener;
use crate::name::RoomName;

use super::courier::Courier;
use super::feed::Feed;
use super::feeds::Feeds;
use super::feeds::Listening;
use super::feeds::RoomsFull;
use super::house::FeedLimits;
use super::members::MemberView;

/// How often rooms are looked at that wait for others.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Rooms that ask who is there, between two looks: after the bus was away all of them do.
const ASK_AT_ONCE: usize = 500;

/// How long others are waited for.
#[derive(Debug, Clone, Copy)]
pub struct Waits {
    /// For what happened in a room before this node came. Whoever comes back meanwhile waits as well.
    pub join: Duration,
    /// After a join that found nobody who knows what was told before: who says so this late makes those who listen load again.
    pub blind: Duration,
    /// For what was missed, before somebody else is asked.
    pub want: Duration,
    /// For those who listen to say so; until then it is taken for granted.
    pub follow: Duration,
    /// Whoever holds a room says so this often, in case it was lost.
    pub renew: Duration,
}

impl Default for Waits {
    fn default() -> Self {
        Self {
            join: Duration::from_millis(300),
            blind: Duration::from_secs(3),
            want: Duration::from_millis(500),
            follow: Duration::from_secs(2),
            renew: Duration::from_secs(60),
        }
    }
}

/// Where the logs of documents are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Logs {
    /// In a store that all nodes share: a position in a log is that of one record.
    Shared,
    /// Each node has its own.
    Apart,
}

pub(super) type Subscribing = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The way of rooms to other nodes.
pub(super) struct Linked {
    pub(super) link: Link,
    pub(super) is_apart: bool,
    pub(super) courier: Arc<Courier>,
    pub(super) waits: Waits,
    joining: Mutex<Vec<(Weak<Feed>, Subscribing)>>,
    /// Rooms to be looked at: each once.
    troubled: Mutex<Vec<Weak<Feed>>>,
    rings: Notify,
}

impl fmt::Debug for Linked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Linked")
    }
}

impl Linked {
    pub(super) fn node(&self) -> NodeId {
        self.link.bus.node()
    }

    /// How many other nodes are alive.
    pub(super) fn others(&self) -> usize {
        self.link.others.load(Ordering::Relaxed)
    }

    /// A room is held from now on.
    pub(super) fn join(&self, feed: &Arc<Feed>) {
        let subscribing = self.link.bus.subscribe(&Topic::Room(feed.room().clone()));
        locked(&self.joining).push((Arc::downgrade(feed), subscribing));
        self.rings.notify_one();
    }

    /// Rooms that are held now.
    pub(super) fn take_joining(&self) -> Vec<(Weak<Feed>, Subscribing)> {
        std::mem::take(&mut *locked(&self.joining))
    }

    /// Rooms that are to be looked at now.
    pub(super) fn take_troubled(&self) -> Vec<Weak<Feed>> {
        std::mem::take(&mut *locked(&self.troubled))
    }

    /// A room is to be looked at.
    pub(super) fn trouble(&self, feed: &Arc<Feed>) {
        locked(&self.troubled).push(Arc::downgrade(feed));
        self.rings.notify_one();
    }
}

impl Feeds {
    /// Rooms that other nodes have, too.
    #[must_use]
    pub fn linked(
        limits: FeedLimits,
        clock: Clock,
        link: Link,
        logs: Logs,
        courier: Arc<Courier>,
        waits: Waits,
    ) -> Arc<Self> {
        courier.link(link.clone());
        let linked = Linked {
            link,
            is_apart: logs == Logs::Apart,
            courier,
            waits,
            joining: Mutex::default(),
            troubled: Mutex::default(),
            rings: Notify::new(),
        };
        Self::with(limits, clock, Some(linked))
    }

    /// Another node said something about a room. Never waits. Nothing that is said does harm, or makes a room.
    pub fn heard(&self, room: &RoomName, heard: bus::Heard) {
        if let Some(feed) = self.known(room) {
            feed.hear(heard);
        }
    }

    /// A node is gone, and those who were there with it.
    pub fn lost(&self, node: NodeId) {
        self.all().iter().for_each(|feed| feed.lose(node));
    }

    /// The bus was away: all rooms find out what they missed.
    pub fn resumed(&self) {
        self.all().iter().for_each(Feed::resume);
    }

    /// Looks after rooms that wait for others. Does not end.
    pub async fn keep_linked(&self) {
        let Some(linked) = &self.house().link else { return std::future::pending().await };
        let mut subscribing = FuturesUnordered::new();
        let mut troubled: Vec<Weak<Feed>> = Vec::new();
        let mut look_at = Instant::now();
        loop {
            for (feed, subscribed) in linked.take_joining() {
                subscribing.push(async move {
                    subscribed.await;
                    feed
                });
            }
            troubled.append(&mut linked.take_troubled());
            tokio::select! {
                () = linked.rings.notified() => {}
                Some(feed) = subscribing.next(), if !subscribing.is_empty() => {
                    feed.upgrade().iter().for_each(|feed| feed.subscribed());
                }
                () = tokio::time::sleep_until(look_at), if !troubled.is_empty() => {
                    troubled = look_after(troubled);
                    look_at = Instant::now() + LOOK_EVERY;
                }
            }
        }
    }

    /// As [`Self::listen`], once it is known what happened in the room before, or that nobody can say: a room that other
    /// nodes hold and this one does not is waited for at most twice [`Waits::join`].
    ///
    /// # Errors
    /// [`RoomsFull`].
    pub async fn follow(
        &self,
        room: &RoomName,
        listener: Listener,
        since: Option<&str>,
    ) -> Result<Listening, RoomsFull> {
        let feed = self.feed(room)?;
        if let (Some(since), Some(linked)) = (since.and_then(EventId::parse), &self.house().link) {
            // If it is not known by then, who listens is told.
            let _ = tokio::time::timeout(linked.waits.join, feed.joined()).await;
            if feed.seeks(since) {
                let _ = tokio::time::timeout(linked.waits.join, feed.found(since)).await;
            }
        }
        Ok(feed.begin(listener, since))
    }

    /// Who is in a room, on all nodes: waits for those who hold it, where this node does not yet.
    pub async fn members_everywhere(&self, room: &RoomName) -> Vec<MemberView> {
        let Some(linked) = &self.house().link else { return self.members(room) };
        let Ok(feed) = self.feed(room) else { return Vec::new() };
        let _ = tokio::time::timeout(linked.waits.join, feed.joined()).await;
        feed.members()
    }
}

/// Those that are to be looked at again.
pub(super) fn look_after(troubled: Vec<Weak<Feed>>) -> Vec<Weak<Feed>> {
    let mut asks = 0;
    let look = |feed: &Weak<Feed>| {
        let Some(feed) = feed.upgrade() else { return false };
        let (is_troubled, has_asked) = feed.look(asks < ASK_AT_ONCE);
        asks += usize::from(has_asked);
        is_troubled
    };
    let mut left = troubled;
    left.retain(look);
    left
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // What it guards is a list, which is whole at any time.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
