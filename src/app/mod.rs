//! The composition root: makes the parts, joins them, starts and stops them in order.
//!
//! Start: quarantine and notes, store, trial of what the former process left, documents, edge, listeners, the one line on
//! standard output. Stop: not ready, no new connections, closes spread over the stagger, everything flushed, store closed.

pub mod judge;

use std::io;
use std::io::Write;
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

use metrics_exporter_prometheus::PrometheusHandle;
use syncline_protocol::update::UpdateLimits;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::auth::Auth;
use crate::auth::KeyError;
use crate::auth::RevokedList;
use crate::clock::Clock;
use crate::config::Config;
use crate::config::Limit;
use crate::config::StoreUrl;
use crate::document::core::Cluster;
use crate::document::core::CoreSettings;
use crate::document::core::Guards;
use crate::document::inflight::InFlight;
use crate::document::job::HEAVY_BYTES;
use crate::document::memory::Memory;
use crate::document::quarantine::Quarantine;
use crate::document::surroundings::Surroundings;
use crate::http;
use crate::http::AppState;
use crate::http::origins::Origins;
use crate::http::serve;
use crate::http::serve::Door;
use crate::http::socketio;
use crate::http::socketio::Gateway;
use crate::http::socketio::Rates;
use crate::http::ws::SocketLimits;
use crate::http::ws::Sockets;
use crate::hub::Hub;
use crate::hub::InboxLimits;
use crate::limit::ConnectionCounts;
use crate::limit::KeyedLimiter;
use crate::limit::TokenBucket;
use crate::metrics::Metrics;
use crate::outbox::Budget;
use crate::outbox::OutboxLimits;
use crate::room::Courier;
use crate::room::CourierLimits;
use crate::room::FeedLimits;
use crate::room::Feeds;
use crate::store::Store;
use crate::store::StoreError;
use crate::store::local::LocalOptions;
use crate::store::local::LocalStore;
use crate::store::local::OpenError;
use crate::store::memory::MemoryStore;

/// Updates of one document that wait to be handled. Never less than one message.
const INBOX_DOC_BYTES: usize = 32 << 20;
/// Log bytes worth a snapshot where nothing is configured.
const COMPACT_BYTES: usize = 1 << 20;
/// Snapshots built at the same time: each costs a core and a few copies of its document.
const COMPACTIONS_MAX: usize = 1;
/// Bytes that clients may have sent, all together, before any of them has proved who they are.
const UNPROVED_BYTES_MAX: usize = 128 << 20;
/// Addresses and users remembered for failed connects.
const FAILED_CONNECT_KEYS_MAX: usize = 100_000;
/// Events of one user that wait to be acknowledged, and bytes of those of all users.
const PARCELS_MAX: usize = 100;
const PARCEL_BYTES_MAX: usize = 64 << 20;
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
    /// A configuration that this build does not carry out.
    #[error("{0}")]
    Unsupported(String),
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
    let mut out = io::stdout().lock();
    writeln!(out, "syncline listening on http://{}", server.address)?;
    out.flush()?;
    drop(out);
    tokio::select! {
        signal = stop_signal() => tracing::info!(event = "drain", signal = signal?),
        () = server.draining.cancelled() => tracing::info!(event = "drain", signal = "admin"),
    }
    server.stop().await
}

/// A running server. Tests start many in one process.
pub struct Server {
    /// Where clients connect.
    pub address: SocketAddr,
    /// Where operators connect, if not there.
    pub admin_address: Option<SocketAddr>,
    draining: CancellationToken,
    stop_listening: CancellationToken,
    stagger: Duration,
    hub: Arc<Hub>,
    store: Arc<dyn Store>,
    tasks: TaskTracker,
    connections: TaskTracker,
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
        let (draining, stop_listening) = (CancellationToken::new(), CancellationToken::new());
        let (tasks, connections) = (TaskTracker::new(), TaskTracker::new());
        let auth = Auth::new(&config.auth, config.dev, clock)?.with_metrics(&metrics);
        let auth = Arc::new(auth.with_revoked(revoked));
        // A failure was logged, and is no reason not to start: clients are told to come back, and the keys are asked for again.
        let _ = auth.refresh().await;
        let outboxes = Budget::new(unlimited(config.limits.outbox_total_bytes));
        let feeds = Feeds::new(feed_limits(&config), clock);
        let courier = Arc::new(Courier::new(courier_limits(&config)));
        let around = Surroundings {
            store: store.clone(),
            clock,
            settings: core_settings(&config),
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
            link: None,
        };
        let hub = Hub::new(around, inbox_limits(&config), outboxes.clone(), tasks.clone());
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
            drain: draining.clone(),
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
            origins,
            sockets: sockets.clone(),
            settings: http_settings(&config),
        });
        let edge = Edge { tasks: &tasks, stop: &stop_listening };
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
            stop_listening,
            stagger: config.drain.stagger,
            hub,
            store,
            tasks,
            connections,
        })
    }

    /// Drains and stops: clients are sent away over the stagger, everything accepted is saved, files are closed.
    ///
    /// # Errors
    /// [`ServeError::Unsaved`] when the store did not take everything.
    pub async fn stop(self) -> Result<(), ServeError> {
        self.draining.cancel();
        self.stop_listening.cancel();
        self.connections.close();
        let _ = tokio::time::timeout(self.stagger + END_PATIENCE, self.connections.wait()).await;
        let unsaved = self.hub.flush(FLUSH_PATIENCE).await;
        self.store.close().await?;
        self.tasks.close();
        tracing::info!(event = "stopped", unsaved);
        if unsaved == 0 { Ok(()) } else { Err(ServeError::Unsaved(unsaved)) }
    }
}

/// Opens the store and the nets under the engine, and judges what the former process left.
async fn open_store(config: &Config, metrics: &Arc<Metrics>) -> Result<(Arc<dyn Store>, Guards), ServeError> {
    match &config.store.url {
        StoreUrl::Memory => Ok((Arc::new(MemoryStore::new()), Guards::nowhere())),
        StoreUrl::Sled => {
            let options = LocalOptions { metrics: Some(Arc::clone(metrics)), ..LocalOptions::new(&config.data_dir) };
            let opening = tokio::task::spawn_blocking(move || LocalStore::open(options));
            let store: Arc<dyn Store> = Arc::new(opening.await.map_err(io::Error::other)??);
            let quarantine = Quarantine::open(&config.data_dir.join("quarantine.jsonl"))?;
            let (inflight, suspects) = InFlight::open(&config.data_dir.join("inflight"))?;
            judge::judge(suspects, store.as_ref(), &inflight, &quarantine).await?;
            Ok((store, Guards { inflight: Arc::new(inflight), quarantine: Arc::new(quarantine) }))
        }
        #[allow(unreachable_patterns, reason = "the configuration names engines before this build has them")]
        other => Err(ServeError::Unsupported(format!("this build has no store for {other:?}"))),
    }
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

async fn stop_signal() -> io::Result<&'static str> {
    use tokio::signal::unix::SignalKind;
    use tokio::signal::unix::signal;
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        _ = terminate.recv() => Ok("SIGTERM"),
        _ = interrupt.recv() => Ok("SIGINT"),
    }
}

// ---- the configuration, in the words of each part ----------------------------------------------------------------

fn core_settings(config: &Config) -> CoreSettings {
    let message_bytes = unlimited(config.limits.message_bytes);
    let compact = config.store.compact_bytes.map(NonZeroU64::get).map_or(COMPACT_BYTES, saturated);
    CoreSettings {
        doc_bytes_max: unlimited(config.limits.doc_bytes),
        compact_bytes: compact,
        // Without a limit on idleness, documents stay for a century.
        idle: config.docs.idle.unwrap_or(Duration::from_secs(3_000_000_000)),
        heavy_bytes: HEAVY_BYTES,
        update: UpdateLimits { bytes_max: message_bytes, ..UpdateLimits::default() },
        cluster: Cluster::Alone,
    }
}

fn inbox_limits(config: &Config) -> InboxLimits {
    let message_bytes = unlimited(config.limits.message_bytes);
    InboxLimits {
        doc_bytes_max: INBOX_DOC_BYTES.max(message_bytes),
        total_bytes_max: unlimited(config.limits.inbox_total_bytes).max(message_bytes),
    }
}

fn socket_limits(config: &Config) -> SocketLimits {
    let limits = &config.limits;
    let rate = |limit: Limit| limit.map(|limit| u32::try_from(limit.get()).unwrap_or(u32::MAX));
    let updates = rate(limits.updates_per_second)
        .map(|per_second| (per_second, rate(limits.updates_burst).unwrap_or(per_second).max(per_second)));
    SocketLimits {
        message_bytes_max: unlimited(limits.message_bytes),
        outbox: OutboxLimits { bytes_max: limits.outbox_bytes.get(), frames_max: limits.outbox_frames.get() },
        write_timeout: limits.write_timeout.unwrap_or(Duration::from_secs(86_400)),
        updates,
        grace: config.auth.grace,
        auth_within: config.auth.within,
        hold_refused: config.auth.hold_refused,
        unproved_bytes_max: UNPROVED_BYTES_MAX,
        held_max: limits.held_refusals,
        drain_stagger: config.drain.stagger,
    }
}

fn failed_connects(config: &Config) -> Option<KeyedLimiter> {
    let per_minute = u32::try_from(config.limits.failed_connects_per_minute?.get()).unwrap_or(u32::MAX);
    Some(KeyedLimiter::new(TokenBucket::per_minute(per_minute), FAILED_CONNECT_KEYS_MAX))
}

fn feed_limits(config: &Config) -> FeedLimits {
    let (events_max, keep) = (config.history.events, config.history.keep);
    FeedLimits { events_max, keep, rules: config.rooms.clone(), ..FeedLimits::default() }
}

fn socketio_settings(config: &Config) -> socketio::Settings {
    socketio::Settings {
        connections: config.limits.connections.map(NonZeroUsize::get),
        queue_waiting: config.limits.queue_waiting,
        message_bytes: unlimited(config.limits.message_bytes),
    }
}

fn socketio_rates(config: &Config) -> Rates {
    let rate = |limit: Limit| limit.map(|limit| u32::try_from(limit.get()).unwrap_or(u32::MAX));
    let limits = &config.limits;
    Rates::per_minute(
        rate(limits.messages_per_minute),
        rate(limits.typing_per_minute),
        rate(limits.presence_per_minute),
    )
}

fn courier_limits(config: &Config) -> CourierLimits {
    CourierLimits { parcels_max: PARCELS_MAX, bytes_max: PARCEL_BYTES_MAX, keep: config.history.keep }
}

fn http_settings(config: &Config) -> http::Settings {
    http::Settings {
        message_bytes: config.limits.message_bytes.map_or(0, NonZeroUsize::get),
        doc_bytes: config.limits.doc_bytes.map_or(0, NonZeroUsize::get),
    }
}

/// A limit that is switched off still has to fit the arithmetic around it.
fn unlimited(limit: Limit) -> usize {
    limit.map_or(usize::MAX / 4, NonZeroUsize::get)
}

fn saturated(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}
