//! Tables: documents with the schema `grid@1`, read, written and watched record by record.
//!
//! A Yjs frontend edits the shared types directly; an application edits records over REST. Both end as transactions of one
//! document, and each transaction is turned into one [`ChangeSet`] of what became visible, from which versions, events and
//! answers follow. Nothing here waits, and the only thing it knows outside is the engine's document.

pub mod answered;
mod before;
pub mod carry;
pub mod change;
mod column;
pub mod command;
pub mod content;
pub mod events;
pub mod exchange;
pub mod field;
pub mod ledger;
mod limits;
pub mod order;
pub mod plan;
pub mod read;
pub mod refused;
pub mod register;
mod settle;
pub mod sidecar;
pub mod state;
pub mod view;

use crate::name::DocName;

/// Kinds of documents whose content is records.
const TABLE_KINDS: [&str; 3] = ["table", "component", "channel"];

/// Whether a document of this name is a table: its versions and events follow from the name alone, so that they are the
/// same whenever its log is read.
#[must_use]
pub fn is_table(name: &DocName) -> bool {
    name.kind().is_some_and(|kind| TABLE_KINDS.contains(&kind))
}
