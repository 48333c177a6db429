//! Rooms of several nodes: what is told on one is heard on all, once, or it is said that something was missed.

mod bus;
mod company;
mod laws;
mod random;

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;

use crate::bus::Link;
use crate::bus::NodeId;
use crate::clock::Clock;
use crate::event::Event;
use crate::event::EventId;
use crate::event::Happening;
use crate::event::Listener;
use crate::room::Courier;
use crate::room::CourierLimits;
use crate::room::FeedLimits;
use crate::room::Feeds;
use crate::room::Heard;
use crate::room::Listening;
use crate::room::Logs;
use crate::room::Waits;
use crate::room::linked::look_after;
use crate::table::change::Author;

use bus::Network;
use bus::TestBus;

/// Nobody is waited for longer than until everything that was said has been heard.
const NO_WAITS: Waits = Waits {
    join: Duration::ZERO,
    blind: Duration::ZERO,
    want: Duration::ZERO,
    follow: Duration::ZERO,
    renew: Duration::from_secs(3600),
};

/// Some nodes, and what is on its way between them.
struct Nodes {
    network: Arc<Network>,
    feeds: Vec<Arc<Feeds>>,
    couriers: Vec<Arc<Courier>>,
}

impl Nodes {
    fn new(count: u64) -> Self {
        Self::with(count, Logs::Shared, FeedLimits::default())
    }

    fn with(count: u64, logs: Logs, limits: FeedLimits) -> Self {
        Self::waiting(count, logs, &limits, NO_WAITS)
    }

    fn waiting(count: u64, logs: Logs, limits: &FeedLimits, waits: Waits) -> Self {
        let network = Arc::<Network>::default();
        let (feeds, couriers) = (1..=count)
            .map(|node| {
                let bus = Arc::new(TestBus { node: NodeId(node), network: network.clone() });
                let others = Arc::new((usize::try_from(count).unwrap() - 1).into());
                let courier = Arc::new(Courier::new(CourierLimits { parcels_max: 10, bytes_max: 1 << 20, keep: None }));
                let link = Link { bus, others };
                let feeds = Feeds::linked(limits.clone(), Clock::start(), link, logs, courier.clone(), waits);
                (feeds, courier)
            })
            .unzip();
        Self { network, feeds, couriers }
    }

    /// Delivers one message, of those that are on their way the one that chance picks; those of one node to another keep
    /// their order.
    fn deliver_one(&self, chance: usize) -> bool {
        let Some((to, topic, heard)) = self.network.take(chance) else { return false };
        if let crate::bus::Topic::Room(room) = topic {
            self.feeds[usize::try_from(to.0).unwrap() - 1].heard(&room, heard);
        }
        true
    }

    /// What a node's own task would do now.
    fn attend(&self, node: usize) {
        let linked = self.feeds[node].house().link.as_ref().unwrap();
        for (feed, subscribed) in linked.take_joining() {
            subscribed.now_or_never().expect("it is listened to at once");
            feed.upgrade().iter().for_each(|feed| feed.subscribed());
        }
    }

    /// As if everything had taken too long.
    fn time_passes(&self, node: usize) {
        let linked = self.feeds[node].house().link.as_ref().unwrap();
        for feed in look_after(linked.take_troubled()) {
            feed.upgrade().iter().for_each(|feed| linked.trouble(feed));
        }
    }

    /// Everything that was said is heard, and whatever is waited for has come or is given up.
    fn settle(&self) {
        for _ in 0..20 {
            (0..self.feeds.len()).for_each(|node| self.attend(node));
            while self.deliver_one(0) {
                (0..self.feeds.len()).for_each(|node| self.attend(node));
            }
            (0..self.feeds.len()).for_each(|node| self.time_passes(node));
        }
        assert!(!self.deliver_one(0), "they come to an end");
    }

    /// What is told in the millisecond in which somebody begins to listen is news.
    fn let_a_moment_pass(&self) {
        let clock = self.feeds[0].house().clock;
        let told = clock.now().moment;
        while clock.now().moment <= told.after(Duration::from_millis(1)) {}
    }

    fn tell(&self, node: usize, name: &str, event: impl Into<String>) -> EventId {
        self.feeds[node].publish(&super::room(name), &Author::default(), vec![Happening::new(event.into())])
    }

    fn listen(&self, node: usize, name: &str, since: Option<EventId>) -> Listening {
        super::listen(&self.feeds[node], name, since)
    }

    fn cut(&self, node: usize) {
        self.network.cut(id_of(node), true);
    }

    fn heal(&self, node: usize) {
        self.network.cut(id_of(node), false);
        self.feeds[node].resumed();
    }
}

fn id_of(node: usize) -> NodeId {
    NodeId(node as u64 + 1)
}

fn listener(user: &str, peer: u64) -> Listener {
    Listener { user: Some(user.into()), peer: Some(peer) }
}

/// Everything that is there; `None` where something was missed.
fn heard(listening: &mut Listening) -> Vec<Option<Arc<Event>>> {
    let next = || {
        Some(match listening.cursor.try_next()? {
            Heard::Event(event) => Some(event),
            Heard::Lagged(_) => None,
        })
    };
    std::iter::from_fn(next).collect()
}

fn ids(listening: &mut Listening) -> Vec<EventId> {
    heard(listening).into_iter().map(|event| event.expect("nothing is missed").id).collect()
}
