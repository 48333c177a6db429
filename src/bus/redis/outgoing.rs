//! What waits to be published.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

/// Some seconds of everything that a busy node says. Full: what comes is lost, counted, and its number used up, so that
/// whoever hears the next message on that topic knows.
const MESSAGES_MAX: usize = 65_536;
const BYTES_MAX: usize = 64 << 20;
/// What goes to Redis in one go, before its answers are waited for.
const BATCH_MESSAGES: usize = 512;
const BATCH_BYTES: usize = 1 << 20;

/// One message, its head apart from its body so that the body is copied once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) channel: Arc<str>,
    pub(super) head: Bytes,
    pub(super) body: Bytes,
}

impl Message {
    fn bytes(&self) -> usize {
        self.channel.len() + self.head.len() + self.body.len()
    }
}

/// A queue with bounds, in order.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    messages: VecDeque<Message>,
    bytes: usize,
}

impl Outgoing {
    /// Adds a message; `false` when there is no room for it.
    #[must_use]
    pub(super) fn push(&mut self, message: Message) -> bool {
        let bytes = message.bytes();
        if self.messages.len() >= MESSAGES_MAX || self.bytes + bytes > BYTES_MAX {
            return false;
        }
        self.bytes += bytes;
        self.messages.push_back(message);
        true
    }

    /// The next ones, at least one if there are any.
    pub(super) fn next_batch(&mut self) -> Vec<Message> {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while let Some(message) = self.messages.front()
            && batch.len() < BATCH_MESSAGES
            && (batch.is_empty() || bytes + message.bytes() <= BATCH_BYTES)
        {
            bytes += message.bytes();
            batch.extend(self.messages.pop_front());
        }
        self.bytes -= bytes;
        batch
    }

    pub(super) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// Drops everything, and answers how many that were.
    pub(super) fn clear(&mut self) -> usize {
        self.bytes = 0;
        std::mem::take(&mut self.messages).len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(n: usize, bytes: usize) -> Message {
        Message { channel: format!("{n:08}").into(), head: Bytes::new(), body: vec![0; bytes].into() }
    }

    #[test]
    fn the_queue_is_bounded_in_messages() {
        let mut queue = Outgoing::default();
        assert!((0..MESSAGES_MAX).all(|n| queue.push(message(n, 1))));
        assert!(!queue.push(message(0, 0)));
        assert_eq!(queue.next_batch().len(), BATCH_MESSAGES);
        assert!(queue.push(message(0, 1)), "there is room again");
        assert_eq!(queue.clear(), MESSAGES_MAX - BATCH_MESSAGES + 1);
        assert!(queue.is_empty() && queue.bytes == 0);
    }

    #[test]
    fn the_queue_is_bounded_in_bytes_and_takes_small_ones_still() {
        let mut queue = Outgoing::default();
        let large = BYTES_MAX / 4 - 8;
        assert!((0..4).all(|n| queue.push(message(n, large))));
        assert!(!queue.push(message(5, 0)));
        let batch = queue.next_batch();
        assert_eq!(batch, [message(0, large)], "a large one goes alone");
        assert!(queue.push(message(5, 0)));
    }

    #[test]
    fn order_is_kept() {
        let mut queue = Outgoing::default();
        assert!((0..2000).all(|n| queue.push(message(n, n))));
        let mut next = 0;
        while !queue.is_empty() {
            for sent in queue.next_batch() {
                assert_eq!(sent, message(next, next));
                next += 1;
            }
        }
        assert_eq!((next, queue.bytes), (2000, 0));
        assert_eq!(queue.next_batch(), []);
    }
}
