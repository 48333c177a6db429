//! What every document of a process is given.

use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::bus::Link;
use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::store::Store;
use crate::table::events::Publish;

use super::core::CoreSettings;
use super::core::Guards;
use super::memory::Memory;

/// What every document of a process shares.
#[derive(Clone)]
pub struct Surroundings {
    /// Where documents are kept.
    pub store: Arc<dyn Store>,
    /// The clock.
    pub clock: Clock,
    /// What the cores are told.
    pub settings: CoreSettings,
    /// The nets under the engine.
    pub guards: Guards,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Compactions at the same time, over all documents.
    pub compactions: Arc<Semaphore>,
    /// Other jobs at the same time, over all documents.
    pub jobs: Arc<Semaphore>,
    /// What documents take together, and may take.
    pub memory: Arc<Memory>,
    /// Where they tell what happened to them.
    pub publish: Arc<dyn Publish>,
    /// The other nodes, where there can be others.
    pub link: Option<Link>,
}
