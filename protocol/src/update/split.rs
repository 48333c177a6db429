//! Cuts an update into what a document can take now and what has to wait.

use bytes::Bytes;

use crate::state_vector::StateVector;
use crate::update::Invalid;
use crate::update::Readiness;
use crate::update::UpdateLimits;
use crate::update::plan::Plan;
use crate::update::plan::Schedule;
use crate::update::summary::ClientRange;
use crate::update::validate;
use crate::update::write;
use crate::update::write::Chunk;

/// Cuts an update into what can be applied on `known` now and what has to wait; either may be `None`.
///
/// Genuine clients that hold structs back send updates with gaps; those and updates that are not ready go through here.
/// The first part is always ready and never has a gap. Structs that are below `known` are in neither part. Deletions wait
/// as long as a struct does: what is deleted may be a value that the struct replaces, and whoever saw (or kept) the one
/// without the other would have lost the value.
///
/// # Errors
/// Those of [`validate`].
pub fn split_ready(
    update: &Bytes,
    known: &StateVector,
    limits: &UpdateLimits,
) -> Result<(Option<Bytes>, Option<Bytes>), Invalid> {
    let summary = validate(update, limits)?;
    if summary.is_empty() {
        return Ok((None, None));
    }
    if !summary.has_gap() && summary.readiness(known) == Readiness::Ready {
        return Ok((Some(update.clone()), None));
    }
    let plan = Plan::read(update)?;
    let schedule = Schedule::new(&plan, known);
    let ready: Vec<_> = schedule.order.iter().map(|&index| Chunk::whole(&plan.pieces[index])).collect();
    let waiting: Vec<_> =
        (0..plan.sections.len()).flat_map(|section| schedule.waiting(section)).map(Chunk::whole).collect();
    let (deletes, late) =
        if waiting.is_empty() { split_deletes(&plan.deletes, &schedule) } else { (Vec::new(), plan.deletes.clone()) };
    Ok((part(update, ready, &deletes), part(update, waiting, &late)))
}

fn part(update: &[u8], chunks: Vec<Chunk>, deletes: &[ClientRange]) -> Option<Bytes> {
    let something = !chunks.is_empty() || !deletes.is_empty();
    something.then(|| write::write(update, chunks, deletes))
}

/// Deletions of what is there once the ready part was applied, and the others.
pub(super) fn split_deletes(deletes: &[ClientRange], schedule: &Schedule<'_>) -> (Vec<ClientRange>, Vec<ClientRange>) {
    let mut ready = Vec::new();
    let mut late = Vec::new();
    for &range in deletes {
        let border = schedule.reach(range.client).clamp(range.start, range.end);
        if range.start < border {
            ready.push(ClientRange { end: border, ..range });
        }
        if border < range.end {
            late.push(ClientRange { start: border, ..range });
        }
    }
    (ready, late)
}
