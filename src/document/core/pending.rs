//! Updates that were found good and wait for each other, to go to the engine together.

use std::sync::Arc;

use bytes::Bytes;
use syncline_protocol::limits::PART_BYTES;

use crate::document::saving::Ack;

use super::Ticket;
use super::source::Source;

/// Updates merged at a time: merging is linear in what it merges, so small chunks cost nothing extra, and a reader can show
/// the first while the second is on its way.
pub(super) const TOGETHER_MAX: usize = 64;

/// An update that was found good, on its way into the engine.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) source: Source,
    pub(super) update: Bytes,
    pub(super) user: Option<Arc<str>>,
    pub(super) ack: Option<Ack>,
    /// The clocks of its clients before it.
    pub(super) before: Vec<(u64, u32)>,
}

/// Updates that go to the engine together. Full: they go now.
#[derive(Debug, Default)]
pub(super) struct Pending {
    taken: Vec<Taken>,
    pub(super) bytes: usize,
}

impl Pending {
    pub(super) fn has_room(&self, bytes: usize) -> bool {
        self.taken.is_empty() || (self.taken.len() < TOGETHER_MAX && self.bytes + bytes <= PART_BYTES)
    }

    pub(super) fn push(&mut self, taken: Taken) {
        self.bytes += taken.update.len();
        self.taken.push(taken);
    }

    pub(super) fn take(&mut self) -> Vec<Taken> {
        self.bytes = 0;
        std::mem::take(&mut self.taken)
    }

    /// Gives up on all of them. Answers the requests among them.
    pub(super) fn abandon(&mut self) -> Vec<Ticket> {
        self.take().iter().filter_map(Taken::ticket).collect()
    }
}

impl Taken {
    pub(super) fn ticket(&self) -> Option<Ticket> {
        match &self.source {
            Source::Ticket { ticket, .. } => Some(*ticket),
            Source::Reader { .. } => None,
        }
    }
}
