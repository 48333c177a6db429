//! What waits in an outbox, piece by piece.

use std::sync::Arc;

use bytes::Bytes;
use syncline_protocol::channel::ChannelId;

/// One thing that waits.
#[derive(Debug)]
pub(super) enum Item {
    /// What comes before a frame that is shared: never the last in the queue.
    Head(Bytes),
    Frame(Bytes),
    Control(Bytes),
    /// Shared with other readers, so it does not count against this one.
    Parts {
        channel: ChannelId,
        parts: Arc<[Bytes]>,
        next: usize,
        /// Parts that make a frame.
        per_frame: usize,
    },
}

/// One frame for one socket, in two pieces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// What comes first, and is this socket's own.
    pub head: Bytes,
    /// The rest, which other sockets may share.
    pub body: Bytes,
}

/// What can be queued as one frame.
pub trait Outgoing {
    /// Its bytes.
    fn bytes(&self) -> usize;
    /// Gives its pieces to `queue`, in order.
    fn queue(self, queue: &mut impl FnMut(Piece));
}

/// One piece of a frame.
#[derive(Debug)]
pub enum Piece {
    /// Something follows.
    Head(Bytes),
    /// The frame ends with it.
    Last(Bytes),
}

impl Outgoing for Bytes {
    fn bytes(&self) -> usize {
        self.len()
    }

    fn queue(self, queue: &mut impl FnMut(Piece)) {
        queue(Piece::Last(self));
    }
}

impl Outgoing for Frame {
    fn bytes(&self) -> usize {
        self.head.len() + self.body.len()
    }

    fn queue(self, queue: &mut impl FnMut(Piece)) {
        queue(Piece::Head(self.head));
        queue(Piece::Last(self.body));
    }
}

impl From<Piece> for Item {
    fn from(piece: Piece) -> Self {
        match piece {
            Piece::Head(bytes) => Self::Head(bytes),
            Piece::Last(bytes) => Self::Frame(bytes),
        }
    }
}

impl Item {
    /// What of it is still to be written, piece by piece.
    pub(super) fn pieces(&self) -> &[Bytes] {
        match self {
            Self::Head(piece) | Self::Frame(piece) | Self::Control(piece) => std::slice::from_ref(piece),
            Self::Parts { parts, next, .. } => &parts[*next..],
        }
    }

    pub(super) fn front_len(&self) -> usize {
        self.pieces().first().map_or(0, Bytes::len)
    }

    /// Whether the piece in front is the last one of a frame.
    pub(super) fn front_ends_frame(&self) -> bool {
        match self {
            Self::Head(_) => false,
            Self::Frame(_) | Self::Control(_) => true,
            Self::Parts { next, per_frame, .. } => (next + 1) % per_frame == 0,
        }
    }
}
