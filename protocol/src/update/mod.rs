//! A bounded reader of Yjs update v1: nothing reaches the CRDT engine that was not read here first.
//!
//! The engine is not safe against hostile updates, or against genuine ones that come in the wrong order. So an update is
//! read once by [`validate`], which refuses what no Yjs client writes and sums up the rest; [`Summary::readiness`] is the
//! causal gate; what fails it is held, or cut by [`split_ready`]. On the way out, [`parts`] cuts large states and
//! [`merge`] joins small updates, both without an engine.
//!
//! ```text
//!   client ──▶ validate ──▶ readiness ──▶ engine          engine ──▶ parts ──▶ one client
//!                               └──▶ split_ready            batch ──▶ merge ──▶ all clients
//! ```
//!
//! Decisions that are not obvious from the format:
//! - Everything the engine and Yjs would read differently is refused: integers that are not in their shortest form (the
//!   engine wraps long ones), content numbers above 15 (the engine masks them), XML hooks (the engine does not read their
//!   name) and JSON content (the engine reads one element too many; Yjs 13 reads it but writes it only for content of
//!   documents that were made before version 13).
//! - Skip blocks are not refused, because Yjs clients that hold structs back send them, but reported by
//!   [`Summary::has_gap`].
//! - A delete set may name what is not there yet; [`Summary::readiness`] asks for it like for any other reference.
//! - Clients may come in any order, delete ranges of one client only in theirs. Touching ranges are fine, old clients write them.

mod content;
mod cursor;
mod entries;
mod few;
mod invalid;
mod json;
mod merge;
mod nesting;
mod order;
mod parts;
mod plan;
mod split;
mod summary;
mod survey;
mod walk;
mod write;

use crate::limits::STATE_VECTOR_CLIENTS_MAX;

pub use content::ContentKinds;
pub use entries::AnyValue;
pub use entries::Content;
pub use entries::DEPTH_MAX;
pub use entries::Drafted;
pub use entries::Entries;
pub use entries::EntryId;
pub use entries::Gain;
pub use entries::Place;
pub use entries::Standing;
pub use entries::Touch;
pub use entries::Written;
pub use entries::gains;
pub use entries::read_any;
pub use invalid::Invalid;
pub use merge::merge;
pub use nesting::NESTING_MAX;
pub use parts::parts;
pub use split::split_ready;
pub use summary::ClientRange;
pub use summary::Readiness;
pub use summary::Summary;

/// Different root names that a [`Summary`] remembers. Documents have a handful; a client could invent thousands.
pub const ROOTS_MAX: usize = 64;

/// What [`validate`] lets through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UpdateLimits {
    /// Bytes of one update. The default is that of `limits.message_bytes`.
    pub bytes_max: usize,
    /// Structs in one update. The engine needs some 200 bytes for each.
    pub structs_max: usize,
    /// Clients in one update, and in its delete set.
    pub clients_max: usize,
    /// Whether subdocuments may be in it. The engine has a use after free when one is deleted.
    pub allow_subdocuments: bool,
}

impl Default for UpdateLimits {
    fn default() -> Self {
        Self {
            bytes_max: 16 * 1024 * 1024,
            structs_max: 2_000_000,
            clients_max: STATE_VECTOR_CLIENTS_MAX,
            allow_subdocuments: false,
        }
    }
}

impl UpdateLimits {
    /// For bytes of our own, which were checked when they came in: without bounds.
    #[must_use]
    pub const fn none() -> Self {
        Self { bytes_max: usize::MAX, structs_max: usize::MAX, clients_max: usize::MAX, allow_subdocuments: true }
    }
}

/// Reads an update and refuses what no Yjs client writes.
///
/// # Errors
/// [`Invalid`] says what is wrong and where.
pub fn validate(update: &[u8], limits: &UpdateLimits) -> Result<Summary, Invalid> {
    let mut survey = survey::Survey::new(update);
    walk::walk(update, limits, &mut survey)?;
    survey.finish()
}
