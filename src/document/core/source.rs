//! Where an update comes from, and who waits for it.

use bytes::Bytes;
use syncline_protocol::state_vector::StateVector;
use syncline_protocol::update::Summary;

use crate::document::request::Member;
use crate::document::saving::Ack;
use crate::document::saving::Owed;
use crate::document::saving::Purpose;
use crate::table::change::Source as Way;

use super::ReaderId;
use super::Ticket;

/// Where an update comes from, and who waits for it.
#[derive(Debug, Clone)]
pub(super) enum Source {
    Reader { reader: ReaderId, sent: Bytes, kind: Kind, owed: Owed },
    Ticket { ticket: Ticket, member: Option<Member>, purpose: Purpose },
}

/// What a channel sends updates as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// An edit, made now.
    Edit,
    /// What it has and we lack, in answer to our step 1.
    Step2,
}

impl Source {
    pub(super) fn ack(&self) -> Ack {
        match self {
            Self::Reader { reader, owed: Owed::Status(count), .. } => Ack::Status { reader: *reader, count: *count },
            Self::Reader { reader, sent, owed: Owed::Echo, .. } => Ack::Echo { reader: *reader, update: sent.clone() },
            Self::Ticket { ticket, purpose, .. } => Ack::Ticket { ticket: *ticket, purpose: *purpose },
        }
    }

    /// Whether it is the template of a document that is being created.
    pub(super) fn begins(&self) -> bool {
        matches!(self, Self::Ticket { purpose: Purpose::Create, .. })
    }

    pub(super) fn reader(&self) -> Option<ReaderId> {
        match self {
            Self::Reader { reader, .. } => Some(*reader),
            Self::Ticket { .. } => None,
        }
    }
}

/// For each client of an update, its clock.
pub(super) fn clocks_of(summary: &Summary, clocks: &StateVector) -> Vec<(u64, u32)> {
    summary.ranges().iter().map(|range| (range.client, clocks.clock(range.client))).collect()
}

/// How a change of it came.
pub(super) fn way_of(source: &Source) -> Way {
    match source {
        Source::Reader { kind: Kind::Step2, .. } => Way::Offline,
        Source::Reader { kind: Kind::Edit, .. } => Way::UserAction,
        Source::Ticket { .. } => Way::Api,
    }
}
