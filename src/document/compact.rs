//! Making a snapshot: the stored document, built anew, without what was deleted.
//!
//! Live documents keep deleted content, because odd but valid updates can refer to it and the engine would read freed
//! memory. Here it is collected in a document of its own, and nothing replaces anything before the result was read back and
//! found to be the same: state vector, delete set and content.

use bytes::Bytes;
use syncline_protocol::state_vector::StateVector;
use syncline_protocol::update::UpdateLimits;
use syncline_protocol::update::validate;

use crate::name::DocName;
use crate::store::Loaded;
use crate::store::Snapshot;
use crate::table::is_table;
use crate::table::sidecar;

use super::json::render_replica;
use super::replay::replay;
use super::replica::Deleted;
use super::replica::Poisoned;
use super::replica::Replica;

/// As [`build`], with what is kept beside the document of this name.
///
/// # Errors
/// As [`build`].
pub fn build_for(doc: &DocName, loaded: &Loaded, deleted: Deleted) -> Result<Option<Snapshot>, Poisoned> {
    let Some(snapshot) = build(loaded, deleted)? else { return Ok(None) };
    Ok(Some(Snapshot { sidecar: sidecar(doc, loaded)?, ..snapshot }))
}

/// Builds the snapshot of everything in `loaded`. Blocking and processor-bound. `None` when nothing is stored.
///
/// # Errors
/// [`Poisoned`] when the stored updates cannot be merged, or the result is not what went in.
pub fn build(loaded: &Loaded, deleted: Deleted) -> Result<Option<Snapshot>, Poisoned> {
    if loaded.snapshot.is_none() && loaded.records.is_empty() {
        return Ok(None);
    }
    let kept = Replica::load(Deleted::Kept, updates(loaded))?;
    let state = match deleted {
        Deleted::Kept => checked(kept.diff(&StateVector::default())?, &kept),
        Deleted::Collected => collected(loaded, &kept).or_else(|_| checked(kept.diff(&StateVector::default())?, &kept)),
    };
    Ok(Some(Snapshot { state: state?, through: loaded.last, sidecar: Bytes::new() }))
}

/// What is kept beside a table, folded.
fn sidecar(doc: &DocName, loaded: &Loaded) -> Result<Bytes, Poisoned> {
    if !is_table(doc) {
        return Ok(Bytes::new());
    }
    replay(loaded, &[]).map(|(_, register)| sidecar::encode(&register))
}

fn collected(loaded: &Loaded, kept: &Replica) -> Result<Bytes, Poisoned> {
    let collected = Replica::load(Deleted::Collected, updates(loaded))?;
    checked(collected.diff(&StateVector::default())?, kept)
}

/// Reads a state back as a later start would, and compares.
fn checked(state: Bytes, original: &Replica) -> Result<Bytes, Poisoned> {
    let limits = UpdateLimits { bytes_max: usize::MAX, structs_max: usize::MAX, ..UpdateLimits::default() };
    validate(&state, &limits).map_err(|_| Poisoned)?;
    let back = Replica::load(Deleted::Kept, std::iter::once(&state))?;
    let same_content = || match (render_replica(&back), render_replica(original)) {
        (Ok(back), Ok(original)) => back == original,
        // Too large to compare as JSON: then only the lossless encoding is good enough.
        _ => false,
    };
    let unchanged = back.same_history(original) && !back.has_pending();
    if unchanged && same_content() { Ok(state) } else { Err(Poisoned) }
}

fn updates(loaded: &Loaded) -> impl Iterator<Item = &Bytes> {
    let snapshot = loaded.snapshot.iter().map(|snapshot| &snapshot.state);
    snapshot.chain(loaded.records.iter().map(|(_, record)| &record.update))
}
