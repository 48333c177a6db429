//! What a document hears, and how it answers: the two ends of its inbox.

use bytes::Bytes;
use syncline_protocol::channel::Access;
use syncline_protocol::channel::DocumentMessage;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::oneshot;

use crate::bus::NodeId;

use super::port::Port;
use super::request::Answer;
use super::request::Member;
use super::request::ReaderId;
use super::request::Refusal;
use super::request::Request;

/// What arrives in a document's inbox.
#[derive(Debug)]
pub enum Mail {
    /// A channel joins.
    Join {
        /// Its number.
        reader: ReaderId,
        /// What it may do.
        access: Access,
        /// Who it is.
        member: Option<Member>,
        /// Where it hears.
        port: Port,
    },
    /// A channel's rights changed.
    Rights {
        /// Which.
        reader: ReaderId,
        /// To what.
        access: Access,
    },
    /// A channel leaves.
    Leave {
        /// Which.
        reader: ReaderId,
    },
    /// A channel says something.
    Messages {
        /// Which.
        reader: ReaderId,
        /// What, in order.
        messages: std::vec::IntoIter<DocumentMessage>,
        /// Counts their bytes against the inbox bounds until all were handled.
        room: Option<Room>,
    },
    /// A channel that lost something has read everything.
    Drained {
        /// Which.
        reader: ReaderId,
    },
    /// Somebody asks something.
    Ask {
        /// What.
        request: Request,
        /// Where the answer goes.
        reply: oneshot::Sender<Result<Answer, Refusal>>,
    },
}

/// What arrives from other nodes. In a lane of its own: clients that fill the other one do not keep it out.
#[derive(Debug)]
pub enum PeerMail {
    /// A holder of the document says something.
    Said {
        /// Which node.
        from: NodeId,
        /// Whether something that it said before was missed.
        missed: bool,
        /// A [`super::peer::PeerMessage`], not read yet.
        body: Bytes,
    },
    /// A node is gone, and its clients with it.
    Lost(NodeId),
    /// The bus is back: anything may have been missed.
    Resumed,
}

/// The share that messages have of the bounds on what waits to be handled. Dropping it gives the share back.
#[derive(Debug)]
pub struct Room {
    /// Of the document's inbox.
    pub own: OwnedSemaphorePermit,
    /// Of all inboxes together.
    pub common: OwnedSemaphorePermit,
}
