//! The composition root: makes the parts, joins them, starts and stops them in order.
//!
//! Start: quarantine and notes, store, trial of what the former process left, documents, edge, listeners, the one line on
//! standard output. Stop: not ready and nobody new, a pause in which load balancers see that, closes spread over the stagger,
//! listeners, everything flushed, the other nodes told, store closed.

mod cluster;
pub mod judge;
mod settings;

use std::io;
use std::io::Write;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

use metrics_exporter_prometheus::PrometheusHandle;
use tokio::signal::unix::Signal;
use tokio::signal::unix::SignalKind;
use tokio::signal::unix::signal;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::auth::Auth;
use crate::auth::KeyError;
use crate::auth::RevokedList;
use crate::bus::redis::AddressError;
use crate::clock::Clock;
use crate::config::Config;
use crate::config::DrainConfig;
use crate::config::StoreUrl;
use crate::document::core::Guards;
use crate::document::inflight::InFlight;
use crate::document::memory::Memory;
use crate::document::quarantine::Quarantine;
use crate::document::surroundings::Surroundings;
use crate::http;
use crate::http::AppState;
use crate::http::origins::Origins;
use crate::http::serve;
use crate::http::serve::Door;
use crate::http::socketio::Gateway;
use crate::http::ws::Sockets;
use crate::hub::Hub;
use crate::limit::ConnectionCounts;
use crate::metrics::Metrics;
use crate::outbox::Budget;
use crate::room::Courier;
use crate::room::FeedLimits;
use crate::room::Feeds;
use crate::store::PostgresOptions;
use crate::store::PostgresStore;
use crate::store::Store;
use crate::store::StoreError;
use crate::store::local::LocalOptions;
use crate::store::local::LocalStore;
use crate::store::local::OpenError;
use crate::store::memory::MemoryStore;
use crate::store::postgres;
use cluster::Member;
use cluster::Way;
use settings::core_settings;
use settings::courier_limits;
use settings::failed_connects;
use settings::feed_limits;
use settings::http_settings;
use settings::inbox_limits;
use settings::socket_limits;
use settings::socketio_rates;
use settings::socketio_settings;
use settings::unlimited;

/// Snapshots built at the same time: each costs a core and a few copies of its document.
const COMPACTIONS_MAX: usize = 1;
/// Longer than this no flush takes on a working disk.
const FLUSH_PATIENCE: Duration = Duration::from_secs(30);
/// Beyond the stagger, how long connections and requests may take to end.
const END_PATIENCE: Duration = Duration::from_secs(10);
/// Histograms collect samples until they are folded.
const METRICS_UPKEEP: Duration = Duration::from_secs(5);
/// How often the engine is looked after.
const WATCH: Duration = Duration::from_secs(5);

/// Why the server ended, if not by being told to.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The data directory cannot be used.
    #[error("the data directory cannot be opened")]
    Open(#[from] OpenError),
    /// The keys cannot be used.
    #[error("auth")]
    Key(#[from] KeyError),
    /// An address cannot be listened on.
    #[error("cannot listen on {address}: {error}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why not.
        error: io::Error,
    },
    /// The other nodes cannot be reached like that.
    #[error(transparent)]
    Bus(#[from] AddressError),
    /// The database cannot be used.
    #[error("the store cannot be opened")]
    Database(#[from] postgres::OpenError),
    /// The store failed while it was read or closed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Files or sockets failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// Some documents could not be flushed.
    #[error("{0} documents could not be saved before the end")]
    Unsaved(usize),
}

/// Runs the server until it is told to stop.
///
/// # Errors
/// [`ServeError`] says what could not be opened, or not be saved at the end.
pub async fn serve(config: Config) -> Result<(), ServeError> {
    let server = Server::start(config).await?;
    let mut signals = Signals::new()?;
    let mut out = io::stdout().lock();
    writeln!(out, "syncline listening on http://{}", server.address)?;
    out.flush()?;
    drop(out);
    tokio::select! {
        signal = signals.next() => tracing::info!(event = "drain", signal),
        () = server.draining.cancelled() => tracing::info!(event = "drain", signal = "admin"),
    }
    let hurry = server.hurry.clone();
    let mut stopping = pin!(server.stop());
    tokio::select! {
        stopped = &mut stopping => return stopped,
        signal = signals.next() => tracing::info!(event = "drain_hurried", signal),
    }
    hurry.cancel();
    stopping.await
}

/// A running server. Tests start many in one process.
pub struct Server {
    /// Where clients connect.
    pub address: SocketAddr,
    /// Where operators connect, if not there.
    pub admin_address: Option<SocketAddr>,
    draining: CancellationToken,
    leave: CancellationToken,
    hurry: CancellationToken,
    stop_listening: CancellationToken,
    drain: DrainConfig,
    hub: Arc<Hub>,
    member: Option<Member>,
    store: Arc<dyn Store>,
    tasks: TaskTracker,
    connections: TaskTracker,
    served: TaskTracker,
}

impl Server {
    /// Starts everything; returns once clients can connect.
    ///
    /// # Errors
    /// [`ServeError`] says what could not be opened.
    pub async fn start(config: Config) -> Result<Self, ServeError> {
        let clock = Clock::start();
        let (metrics, prometheus) = Metrics::install();
        let (store, guards) = open_store(&config, &metrics).await?;
        // Behind the lock of the directory, which came with the store.
        let revoked = open_revoked(&config).await?;
        Self::start_with(config, clock, metrics, prometheus, store, guards, revoked).await
    }

    /// As [`Self::start`], with a store of the caller's.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub async fn start_on(config: Config, store: Arc<dyn Store>) -> Result<Self, ServeError> {
        let (metrics, prometheus) = Metrics::install();
        let revoked = RevokedList::nowhere();
        Self::start_with(config, Clock::start(), metrics, prometheus, store, Guards::nowhere(), revoked).await
    }

    async fn start_with(
        config: Config,
        clock: Clock,
        metrics: Arc<Metrics>,
        prometheus: PrometheusHandle,
        store: Arc<dyn Store>,
        guards: Guards,
        revoked: RevokedList,
    ) -> Result<Self, ServeError> {
        let (draining, leave, hurry) = (CancellationToken::new(), CancellationToken::new(), CancellationToken::new());
        let stop_listening = CancellationToken::new();
        let (tasks, connections, served) = (TaskTracker::new(), TaskTracker::new(), TaskTracker::new());
        let way = cluster::open(&config, store.as_ref(), &metrics)?;
        let auth = Auth::new(&config.auth, config.dev, clock)?.with_metrics(&metrics);
        let auth = Arc::new(auth.with_revoked(revoked));
        // A failure was logged, and is no reason not to start: clients are told to come back, and the keys are asked for again.
        let _ = auth.refresh().await;
        let outboxes = Budget::new(unlimited(config.limits.outbox_total_bytes));
        let courier = Arc::new(Courier::new(courier_limits(&config)));
        let feeds = cluster::rooms(way.as_ref(), feed_limits(&config), clock, &courier);
        let around = Surroundings {
            store: store.clone(),
            clock,
            settings: core_settings(&config, cluster::arrangement(way.as_ref())),
            guards: guards.clone(),
            metrics: metrics.clone(),
            compactions: Arc::new(Semaphore::new(COMPACTIONS_MAX)),
            jobs: Arc::new(Semaphore::new(std::thread::available_parallelism().map_or(1, NonZeroUsize::get))),
            memory: Memory::new(
                unlimited(config.docs.memory_bytes),
                metrics.documents_bytes.clone(),
                metrics.documents_unloaded.clone(),
            ),
            publish: feeds.clone(),
            link: way.as_ref().map(Way::link),
        };
        let hub = Hub::new(around, inbox_limits(&config), outboxes.clone(), tasks.clone());
        let member = way.map(|way| way.join(&config, (&hub, &feeds), &auth, clock, &metrics, &tasks));
        let origins = Arc::new(Origins::new(&config.auth.allowed_origins, config.dev));
        let sockets = Arc::new(Sockets {
            hub: hub.clone(),
            feeds: feeds.clone(),
            origins: origins.clone(),
            auth: auth.clone(),
            clock,
            metrics: metrics.clone(),
            connections: ConnectionCounts::new(config.limits.connections, config.limits.connections_per_user),
            failed_connects: failed_connects(&config),
            limits: socket_limits(&config),
            outboxes,
            held: AtomicUsize::new(0),
            unproved_bytes: AtomicUsize::new(0),
            drain: leave.clone(),
            hurry: hurry.clone(),
            tasks: connections.clone(),
        });
        let state = AppState::new(http::Parts {
            hub: hub.clone(),
            feeds: feeds.clone(),
            courier: courier.clone(),
            auth: auth.clone(),
            clock,
            prometheus: prometheus.clone(),
            draining: draining.clone(),
            cluster: member.as_ref().map(Member::cluster),
            origins,
            sockets: sockets.clone(),
            settings: http_settings(&config),
        });
        let edge = Edge { tasks: &served, stop: &stop_listening };
        let engine = Gateway::engine(state.clone(), socketio_settings(&config), socketio_rates(&config));
        let upgrades = || {
            let (documents, rooms, state) = (sockets.clone(), engine.clone(), state.clone());
            Some(serve::Sockets { documents, rooms, state })
        };
        let (address, admin_address) = match config.admin_listen {
            None => {
                let door = Door::new(http::router(state.clone(), &engine), upgrades());
                (edge.listen(config.listen, door)?, None)
            }
            Some(admin) => {
                let admin = edge.listen(admin, Door::new(http::admin_router(state.clone()), None))?;
                let door = Door::new(http::public_router(state.clone(), &engine), upgrades());
                (edge.listen(config.listen, door)?, Some(admin))
            }
        };
        metrics.documents_quarantined.set(guards.quarantine.len() as f64);
        spawn_upkeep(&tasks, &stop_listening, sockets, (feeds, courier), prometheus);
        watch_engine(&guards);
        Ok(Self {
            address,
            admin_address,
            draining,
            leave,
            hurry,
            stop_listening,
            drain: config.drain,
            hub,
            member,
            store,
            tasks,
            connections,
            served,
        })
    }

    /// Drains and stops: clients are sent away over the stagger, everything accepted is saved, files are closed. Until
    /// everybody is gone, `/readyz` says that it drains.
    ///
    /// # Errors
    /// [`ServeError::Unsaved`] when the store did not take everything.
    pub async fn stop(self) -> Result<(), ServeError> {
        self.draining.cancel();
        if let Some(member) = &self.member {
            member.drain();
        }
        tokio::select! {
            () = tokio::time::sleep(self.drain.delay) => {}
            () = self.hurry.cancelled() => {}
        }
        self.leave.cancel();
        self.connections.close();
        let _ = tokio::time::timeout(self.drain.stagger + END_PATIENCE, self.connections.wait()).await;
        self.stop_listening.cancel();
        self.served.close();
        let _ = tokio::time::timeout(END_PATIENCE, self.served.wait()).await;
        let unsaved = self.hub.flush(FLUSH_PATIENCE).await;
        if let Some(member) = &self.member {
            member.leave().await;
        }
        self.store.close().await?;
        self.tasks.close();
        tracing::info!(event = "stopped", unsaved);
        if unsaved == 0 { Ok(()) } else { Err(ServeError::Unsaved(unsaved)) }
    }
}

/// Opens the store and the nets under the engine, and judges what the former process left.
async fn open_store(config: &Config, metrics: &Arc<Metrics>) -> Result<(Arc<dyn Store>, Guards), ServeError> {
    let metrics = Some(Arc::clone(metrics));
    let store: Arc<dyn Store> = match &config.store.url {
        StoreUrl::Memory => return Ok((Arc::new(MemoryStore::new()), Guards::nowhere())),
        StoreUrl::Sled => {
            let options = LocalOptions { metrics, ..LocalOptions::new(&config.data_dir) };
            let opening = tokio::task::spawn_blocking(move || LocalStore::open(options));
            Arc::new(opening.await.map_err(io::Error::other)??)
        }
        StoreUrl::Postgres(url) => {
            let own_dir = Some(config.data_dir.clone());
            let options = PostgresOptions { metrics, own_dir, ..PostgresOptions::new(url.clone()) };
            let opening = tokio::task::spawn_blocking(move || PostgresStore::open(options));
            Arc::new(opening.await.map_err(io::Error::other)??)
        }
    };
    let quarantine = Quarantine::open(&config.data_dir.join("quarantine.jsonl"))?;
    let (inflight, suspects) = InFlight::open(&config.data_dir.join("inflight"))?;
    judge::judge(suspects, store.as_ref(), &inflight, &quarantine).await?;
    Ok((store, Guards { inflight: Arc::new(inflight), quarantine: Arc::new(quarantine) }))
}

/// Reads what was revoked. Where nothing survives the process, nobody needs to be kept out for longer.
async fn open_revoked(config: &Config) -> Result<RevokedList, ServeError> {
    if config.store.url == StoreUrl::Memory {
        return Ok(RevokedList::nowhere());
    }
    let path = config.data_dir.join("revoked.jsonl");
    Ok(tokio::task::spawn_blocking(move || RevokedList::open(&path)).await.map_err(io::Error::other)??)
}

struct Edge<'a> {
    tasks: &'a TaskTracker,
    stop: &'a CancellationToken,
}

impl Edge<'_> {
    fn listen(&self, address: SocketAddr, door: Arc<Door>) -> Result<SocketAddr, ServeError> {
        let failed = |error| ServeError::Listen { address, error };
        let listener = serve::listen(address).map_err(failed)?;
        let bound = listener.local_addr().map_err(failed)?;
        self.tasks.spawn(serve::serve(listener, door, self.tasks.clone(), self.stop.clone()));
        Ok(bound)
    }
}

fn spawn_upkeep(
    tasks: &TaskTracker,
    stop: &CancellationToken,
    sockets: Arc<Sockets>,
    (feeds, courier): (Arc<Feeds>, Arc<Courier>),
    prometheus: PrometheusHandle,
) {
    let stopped = stop.clone();
    tasks.spawn(async move {
        let upkeep = async {
            loop {
                tokio::time::sleep(METRICS_UPKEEP).await;
                sockets.metrics.outbox_bytes.set(sockets.outboxes.used() as f64);
                sockets.metrics.held_refusals.set(sockets.held.load(Ordering::Relaxed) as f64);
                prometheus.run_upkeep();
                feeds.sweep();
                courier.sweep(sockets.clock.now().moment);
            }
        };
        let telling = async {
            loop {
                tokio::time::sleep(FeedLimits::default().roots_pause).await;
                feeds.flush();
            }
        };
        tokio::select! {
            () = upkeep => {}
            () = telling => {}
            () = feeds.keep_streaming() => {}
            () = feeds.keep_linked() => {}
            () = sockets.auth.keep_fresh() => {}
            () = stopped.cancelled() => {}
        }
    });
}

/// The engine can fall into an endless loop, which blocks a thread of the runtime for ever. Then the process ends, and the
/// next one finds the note of what it was doing. A thread of its own, because the runtime's may be the ones that hang.
fn watch_engine(guards: &Guards) {
    let inflight = Arc::downgrade(&guards.inflight);
    std::thread::spawn(move || {
        while let Some(inflight) = inflight.upgrade() {
            if let Some(work) = inflight.stuck() {
                tracing::error!(event = "engine_stuck", ?work);
                std::process::abort();
            }
            drop(inflight);
            std::thread::sleep(WATCH);
        }
    });
}

/// What tells the process to end. One for its whole life, so that no second signal is missed.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
