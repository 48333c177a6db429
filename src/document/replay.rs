//! A table read from its log: record by record, because versions, authors and answers follow from each of them.

use syncline_protocol::state_vector::StateVector;
use syncline_protocol::update::UpdateLimits;
use syncline_protocol::update::validate;

use crate::store::Loaded;
use crate::store::Record;
use crate::table::change::Author;
use crate::table::change::ChangeSet;
use crate::table::change::Source;
use crate::table::register::Register;
use crate::table::sidecar;
use crate::table::sidecar::Beside;

use super::replica::Deleted;
use super::replica::Poisoned;
use super::replica::Replica;
use super::replica::Watched;

/// The content and the register of what is stored, and of what is not stored yet. Says nothing to anybody.
///
/// # Errors
/// [`Poisoned`] when a record cannot be merged.
pub fn replay(loaded: &Loaded, unsaved: &[Record]) -> Result<(Replica, Register), Poisoned> {
    let snapshot = loaded.snapshot.as_ref();
    let mut replica = Replica::load(Deleted::Kept, snapshot.map(|snapshot| &snapshot.state).into_iter())?;
    replica.declare_roots();
    let kept = snapshot.map(|snapshot| sidecar::decode(&snapshot.sidecar));
    let mut register = renewed(&replica)?;
    match kept {
        Some(Ok(Beside::Whole(marks))) => register.adopt(*marks),
        Some(Err(error)) => tracing::error!(event = "sidecar_unreadable", %error),
        Some(Ok(Beside::Nothing | Beside::Once(..))) | None => {}
    }
    for record in loaded.records.iter().map(|(_, record)| record).chain(unsaved) {
        take(&mut replica, &mut register, record)?;
    }
    Ok((replica, register))
}

/// One record more, in the order of the log. What became visible by it; `None` if nothing was new.
///
/// # Errors
/// [`Poisoned`] when it cannot be merged.
pub(super) fn take(
    replica: &mut Replica,
    register: &mut Register,
    record: &Record,
) -> Result<Option<Box<ChangeSet>>, Poisoned> {
    let beside = sidecar::decode(&record.sidecar).unwrap_or_else(|error| {
        tracing::error!(event = "sidecar_unreadable", %error);
        Beside::Nothing
    });
    let summary = validate(&record.update, &UpdateLimits::none()).map_err(|_| Poisoned)?;
    if let Beside::Whole(marks) = beside {
        replica.expect(&summary);
        let is_new = replica.apply(&record.update)?;
        *register = renewed(replica)?;
        register.adopt(*marks);
        return Ok(is_new.then(Box::default));
    }
    // The server itself: what its author wrote was judged when it came.
    let author = Author { user: record.user.clone(), source: Source::System, correlation_id: None, peer: None };
    let watched = replica.apply_to_table(&record.update, &summary, register, &author, record.at_ms)?;
    if let Beside::Once(once, report) = beside {
        register.answered.keep(once, report, record.at_ms);
    }
    Ok(match watched {
        Watched::Changed(change) => Some(change),
        Watched::Nothing | Watched::Refused(_) => None,
    })
}

/// A register of what can be seen in the content alone.
fn renewed(replica: &Replica) -> Result<Register, Poisoned> {
    let state = replica.diff(&StateVector::default())?;
    Register::of_state(&replica.transact(), &state).map_err(|_| Poisoned)
}

#[cfg(test)]
mod tests;
