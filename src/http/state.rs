//! What every handler shares.

use std::ops::Deref;
use std::sync::Arc;

use metrics_exporter_prometheus::PrometheusHandle;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::auth::Auth;
use crate::clock::Clock;
use crate::cluster::Cluster;
use crate::http::body::BodyBudget;
use crate::http::listing::Parked;
use crate::http::ops::StoreProbe;
use crate::http::origins::Origins;
use crate::http::ws::Sockets;
use crate::hub::Hub;
use crate::room::Courier;
use crate::room::Feeds;

/// Rendering a document as JSON costs a decoded copy of it and a core for as long as it takes: 2 at a time leave the
/// other cores to people who type. Full: the request waits, holding nothing.
const RENDERINGS_MAX: usize = 2;

/// A large body is held as records besides, at several times its size, until its document has taken them. Full: the request
/// waits, see `tables::given`.
const LARGE_BODIES_MAX: usize = 4;

/// What handlers share. Cheap to clone.
#[derive(Clone)]
pub struct AppState(Arc<Shared>);

/// What the process hands to its edge.
pub struct Parts {
    /// The documents.
    pub hub: Arc<Hub>,
    /// The rooms.
    pub feeds: Arc<Feeds>,
    /// What users are to acknowledge.
    pub courier: Arc<Courier>,
    /// Who is who.
    pub auth: Arc<Auth>,
    /// The process's clock.
    pub clock: Clock,
    /// Which pages may call.
    pub origins: Arc<Origins>,
    /// What WebSockets share.
    pub sockets: Arc<Sockets>,
    /// Renders `/metrics`.
    pub prometheus: PrometheusHandle,
    /// Cancelled when the server begins to drain, by a signal or by `POST /v1/admin/drain`. From then on it is not ready, and
    /// takes no new connections; those that are open go when [`Sockets::drain`] says so.
    pub draining: CancellationToken,
    /// The other nodes, where there can be others.
    pub cluster: Option<Arc<Cluster>>,
    /// The settings that concern the edge.
    pub settings: Settings,
}

/// The settings that concern the edge.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `limits.message_bytes`: the largest body; 0 leaves only the bound that keeps the process alive.
    pub message_bytes: usize,
    /// `limits.doc_bytes`, named in refusals of the document.
    pub doc_bytes: usize,
}

/// [`Parts`] and what handlers keep among themselves.
pub struct Shared {
    parts: Parts,
    pub(super) body_budget: BodyBudget,
    pub(super) renderings: Arc<Semaphore>,
    pub(super) large_bodies: Arc<Semaphore>,
    pub(super) parked: Parked,
    pub(super) store_probe: StoreProbe,
}

impl AppState {
    /// Puts the edge together.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        Self(Arc::new(Shared {
            parts,
            body_budget: BodyBudget::default(),
            renderings: Arc::new(Semaphore::new(RENDERINGS_MAX)),
            large_bodies: Arc::new(Semaphore::new(LARGE_BODIES_MAX)),
            parked: Parked::default(),
            store_probe: StoreProbe::default(),
        }))
    }
}

impl Deref for AppState {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

impl Deref for Shared {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.parts
    }
}
