//! What a client said before it was let in.

use bytes::Bytes;

use crate::limits::HELD_BYTES_MAX;
use crate::limits::HELD_FRAMES_MAX;

/// What a held frame is about, as far as holding it is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sort {
    /// The client begins to synchronise.
    Beginning,
    /// A change, which a later beginning covers.
    Change,
    /// Everything else.
    Other,
}

/// Frames in the order in which they came, within [`HELD_FRAMES_MAX`] and [`HELD_BYTES_MAX`].
///
/// A client that begins to synchronise counts its unsaved changes anew from there, and will be asked for everything that the
/// document lacks. What it had said of the document before is therefore let go: it costs nothing, and acknowledging it would
/// tell the client "saved" too early.
#[derive(Debug, Clone, Default)]
pub struct Held {
    frames: Vec<(Sort, Bytes)>,
    bytes: usize,
}

impl Held {
    /// Keeps a frame; `false` when it does not fit.
    #[must_use]
    pub fn push(&mut self, sort: Sort, frame: Bytes) -> bool {
        if sort == Sort::Beginning {
            self.frames.retain(|(sort, _)| *sort == Sort::Other);
            self.bytes = self.frames.iter().map(|(_, frame)| frame.len()).sum();
        }
        let fits = self.frames.len() < HELD_FRAMES_MAX && self.bytes + frame.len() <= HELD_BYTES_MAX;
        if fits {
            self.bytes += frame.len();
            self.frames.push((sort, frame));
        }
        fits
    }

    /// Bytes in all frames together.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether the client has begun to synchronise.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.frames.iter().any(|(sort, _)| *sort == Sort::Beginning)
    }

    /// Every frame, in order.
    pub fn into_frames(self) -> impl Iterator<Item = Bytes> {
        self.frames.into_iter().map(|(_, frame)| frame)
    }
}
