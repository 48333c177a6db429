//! Among other nodes: the way to them, and this one's place.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::auth::Auth;
use crate::bus::Bus;
use crate::bus::Link;
use crate::bus::NodeId;
use crate::bus::news::Keeps;
use crate::bus::redis::Address;
use crate::bus::redis::AddressError;
use crate::bus::redis::RedisBus;
use crate::clock::Clock;
use crate::cluster::Cluster;
use crate::cluster::Parts;
use crate::config::Config;
use crate::config::StoreUrl;
use crate::document::core;
use crate::hub::Hub;
use crate::metrics::Metrics;
use crate::room::Courier;
use crate::room::FeedLimits;
use crate::room::Feeds;
use crate::room::Logs;
use crate::room::Waits;
use crate::store::Store;

/// The last words wait so long for a bus that is slow.
const GOODBYE_PATIENCE: Duration = Duration::from_secs(2);

/// The way to the other nodes, not taken yet.
pub(super) struct Way {
    bus: Arc<RedisBus>,
    link: Link,
    keeps: Keeps,
}

/// A node among others.
pub(super) struct Member {
    bus: Arc<RedisBus>,
    cluster: Arc<Cluster>,
    stop: CancellationToken,
}

/// The way to the other nodes, if there can be any. Not being able to reach them now is no reason not to start.
pub(super) fn open(config: &Config, store: &dyn Store, metrics: &Arc<Metrics>) -> Result<Option<Way>, AddressError> {
    let Some(url) = &config.bus.url else { return Ok(None) };
    let node = NodeId(rand::random());
    let bus = RedisBus::new(node, Address::parse(url)?, &config.bus.prefix, metrics.clone());
    let keeps = match config.store.url {
        StoreUrl::Postgres(_) => Keeps::Shared { store: store.identity() },
        StoreUrl::Sled | StoreUrl::Memory => Keeps::Apart,
    };
    tracing::info!(event = "cluster", %node, ?keeps);
    Ok(Some(Way { link: Link::new(bus.clone()), bus, keeps }))
}

/// Where nodes keep documents, as their cores are told.
pub(super) fn arrangement(way: Option<&Way>) -> core::Cluster {
    let Some(way) = way else { return core::Cluster::Alone };
    match way.keeps {
        Keeps::Shared { .. } => core::Cluster::Shared(way.bus.node()),
        Keeps::Apart => core::Cluster::Apart(way.bus.node()),
    }
}

/// The rooms of this process, and of all others if there can be any.
pub(super) fn rooms(way: Option<&Way>, limits: FeedLimits, clock: Clock, courier: &Arc<Courier>) -> Arc<Feeds> {
    let Some(way) = way else { return Feeds::new(limits, clock) };
    let logs = match way.keeps {
        Keeps::Shared { .. } => Logs::Shared,
        Keeps::Apart => Logs::Apart,
    };
    Feeds::linked(limits, clock, way.link(), logs, courier.clone(), Waits::default())
}

impl Way {
    pub(super) fn link(&self) -> Link {
        self.link.clone()
    }

    /// Takes this node's place: from now on it hears and is heard.
    pub(super) fn join(
        self,
        config: &Config,
        (hub, feeds): (&Arc<Hub>, &Arc<Feeds>),
        auth: &Arc<Auth>,
        clock: Clock,
        metrics: &Arc<Metrics>,
        tasks: &TaskTracker,
    ) -> Member {
        let Self { bus, link, keeps } = self;
        let cluster = Cluster::new(Parts {
            link,
            hub: hub.clone(),
            feeds: feeds.clone(),
            auth: auth.clone(),
            clock,
            metrics: metrics.clone(),
            keeps,
            heartbeat: config.bus.heartbeat,
        });
        let stop = CancellationToken::new();
        let (speaking, living, stopped) = (bus.clone(), cluster.clone(), stop.clone());
        tasks.spawn(async move {
            tokio::select! {
                never = speaking.run(living.clone()) => match never {},
                never = living.run() => match never {},
                never = living.keep_told() => match never {},
                () = stopped.cancelled() => {}
            }
        });
        Member { bus, cluster, stop }
    }
}

impl Member {
    pub(super) fn cluster(&self) -> Arc<Cluster> {
        self.cluster.clone()
    }

    /// Tells the others that clients may come to them.
    pub(super) fn drain(&self) {
        self.cluster.drain();
    }

    /// Tells the others that this node is gone.
    pub(super) async fn leave(&self) {
        self.cluster.say_goodbye();
        let _ = tokio::time::timeout(GOODBYE_PATIENCE, self.bus.flush()).await;
        self.stop.cancel();
    }
}
