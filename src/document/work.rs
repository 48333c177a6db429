//! What a document has done away from the async threads.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::Semaphore;

use crate::name::DocName;
use crate::store::Epoch;
use crate::store::StoreError;

use super::compact;
use super::core::Compacted;
use super::core::Input;
use super::inflight::Work;
use super::job::Job;
use super::job::Outcome;
use super::port::Port;
use super::replica::Deleted;
use super::surroundings::Surroundings;

/// Does a job away from the async threads.
pub(super) async fn run(job: Job, room: Arc<Semaphore>) -> Input<Port> {
    let room = room.acquire_owned().await;
    let outcome = tokio::task::spawn_blocking(move || {
        let _room = room;
        job.run()
    });
    Input::Done(outcome.await.unwrap_or(Outcome::Lost))
}

/// Loads what is stored, builds the snapshot away from the async threads, stores it.
pub(super) async fn compact(doc: DocName, epoch: Epoch, around: Arc<Surroundings>) -> Result<Compacted, StoreError> {
    let Surroundings { store, guards, metrics, compactions, .. } = &*around;
    let room = compactions.clone().acquire_owned().await;
    let loaded = store.load(&doc).await?;
    let started = Instant::now();
    let (building, guards) = (doc.clone(), guards.clone());
    let built = tokio::task::spawn_blocking(move || {
        let _room = room;
        let deleted =
            if guards.quarantine.keeps_deleted(building.as_str()) { Deleted::Kept } else { Deleted::Collected };
        let _flight = guards.inflight.begin(Work::Compact, building.as_str(), None, &[]);
        compact::build_for(&building, &loaded, deleted)
    });
    let built = built.await.map_err(|_| StoreError::Conflict("the snapshot could not be built".into()))?;
    let Some(snapshot) = built.map_err(|_| StoreError::Conflict("the snapshot is not the document".into()))? else {
        return Err(StoreError::Conflict("nothing is stored".into()));
    };
    let done = Compacted { through: snapshot.through, state_bytes: snapshot.state.len() };
    let result = store.compact(&doc, epoch, snapshot).await;
    match &result {
        Ok(()) => metrics.compactions.increment(1),
        Err(error) => tracing::warn!(event = "compaction_failed", channel_id = %doc, %error),
    }
    tracing::debug!(event = "compacted", channel_id = %doc, bytes = done.state_bytes, took = ?started.elapsed());
    result.map(|()| done)
}
