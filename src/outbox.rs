//! What waits to be written to one socket. Documents push and never wait; the connection's writer drains.
//!
//! Full means: [`Outbox::push`] answers `false`, the frame is not queued, and the document catches the reader up with one
//! diff once [`Drained::Caught`] told it that the socket is empty. So a slow reader costs bounded memory and loses nothing.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use syncline_protocol::ErrorCode;
use syncline_protocol::channel::ChannelId;
use tokio::sync::Notify;

/// Bounds of one outbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutboxLimits {
    /// Bytes of document frames. 4 MiB is 4 s of a 10 Mbit/s line. Full: the reader lags and is caught up by a diff.
    pub bytes_max: usize,
    /// Document frames: each costs bookkeeping beside its bytes. Full: as above.
    pub frames_max: usize,
}

/// Bytes that wait in all outboxes together. Full: every reader that is not empty starts to lag.
#[derive(Debug)]
pub struct Budget {
    used: AtomicUsize,
    bytes_max: usize,
}

impl Budget {
    /// A budget of `bytes_max` bytes.
    #[must_use]
    pub fn new(bytes_max: usize) -> Arc<Self> {
        Arc::new(Self { used: AtomicUsize::new(0), bytes_max })
    }

    /// Bytes that wait now. Frames shared by many readers count once per reader.
    #[must_use]
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    fn has_room(&self, bytes: usize) -> bool {
        self.used().saturating_add(bytes) <= self.bytes_max
    }
}

/// Bytes of one awareness backlog beyond which presence is sent whole once the socket drained, instead of change by change.
const AWARENESS_BEHIND_BYTES: usize = 64 * 1024;
/// Answers to one client's own messages that may wait. A client that asks on and never reads is closed.
const CONTROL_FRAMES_MAX: usize = 4096;
/// Bytes handed to the socket in one go: large enough to fill a segment, small enough not to hold much.
const WRITE_BYTES: usize = 64 * 1024;

/// Frames on their way to one socket.
#[derive(Debug)]
pub struct Outbox {
    inner: Mutex<Inner>,
    wake: Notify,
    limits: OutboxLimits,
    budget: Arc<Budget>,
}

#[derive(Debug, Default)]
struct Inner {
    queue: VecDeque<Item>,
    /// Bytes of `Item::Frame`s, queued or in the writer's hands.
    bytes: usize,
    /// Of `bytes`, those in the writer's hands.
    writing: usize,
    control: usize,
    /// Channels that lost something and want to hear when the socket is empty.
    behind: Vec<ChannelId>,
    /// Channels that their documents ended; the session is to be told.
    ended: Vec<(ChannelId, ErrorCode)>,
    closing: Option<Closing>,
}

#[derive(Debug)]
enum Item {
    Frame(Bytes),
    Control(Bytes),
    /// Shared with other readers, so it does not count against this one.
    Parts {
        channel: ChannelId,
        parts: Arc<[Bytes]>,
        next: usize,
    },
}

/// How a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Closing {
    /// WebSocket close code.
    pub code: u16,
    /// Code word.
    pub reason: &'static str,
}

/// What the writer is to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Drained {
    /// Write these frames, flush, call again.
    Write(Vec<Bytes>),
    /// These channels were ended by their documents.
    Ended(Vec<(ChannelId, ErrorCode)>),
    /// Everything was written; these channels wait for a catch-up.
    Caught(Vec<ChannelId>),
    /// Close the socket; nothing more will come.
    Close(Closing),
    /// Nothing to do.
    Idle,
}

impl Outbox {
    /// An empty outbox.
    #[must_use]
    pub fn new(limits: OutboxLimits, budget: Arc<Budget>) -> Self {
        Self { inner: Mutex::default(), wake: Notify::new(), limits, budget }
    }

    /// Queues a document frame. `false`: it does not fit, and nothing was queued; the channel hears of it when the
    /// socket has drained.
    #[must_use]
    pub fn push(&self, channel: ChannelId, frame: Bytes) -> bool {
        let mut inner = self.lock();
        if inner.closing.is_some() {
            return true; // Nobody will read it, and nobody needs to be caught up.
        }
        let fits = inner.bytes + frame.len() <= self.limits.bytes_max.max(frame.len())
            && inner.queue.len() < self.limits.frames_max
            && (self.budget.has_room(frame.len()) || inner.bytes == 0);
        if !fits {
            inner.mark_behind(channel);
            return false;
        }
        inner.bytes += frame.len();
        self.budget.used.fetch_add(frame.len(), Ordering::Relaxed);
        inner.queue.push_back(Item::Frame(frame));
        drop(inner);
        self.wake.notify_one();
        true
    }

    /// Queues a presence frame, unless the socket is busy: then presence is to be sent whole once it has drained.
    #[must_use]
    pub fn push_awareness(&self, channel: ChannelId, frame: Bytes) -> bool {
        {
            let mut inner = self.lock();
            if inner.closing.is_none() && inner.bytes > AWARENESS_BEHIND_BYTES {
                inner.mark_behind(channel);
                return false;
            }
        }
        self.push(channel, frame)
    }

    /// Queues a state that other readers share. `false` when an earlier one of this channel is still on its way: one
    /// client cannot make us queue states faster than it reads them.
    #[must_use]
    pub fn push_parts(&self, channel: ChannelId, parts: Arc<[Bytes]>) -> bool {
        let mut inner = self.lock();
        if inner.closing.is_some() {
            return true;
        }
        let under_way = |item: &Item| matches!(item, Item::Parts { channel: of, .. } if *of == channel);
        if inner.queue.iter().any(under_way) {
            inner.mark_behind(channel);
            return false;
        }
        inner.queue.push_back(Item::Parts { channel, parts, next: 0 });
        drop(inner);
        self.wake.notify_one();
        true
    }

    /// Queues a small frame of the session itself (keep-alive, denial). A client that provokes thousands of them
    /// without reading is closed.
    pub fn push_control(&self, frame: Bytes) {
        let mut inner = self.lock();
        if inner.control >= CONTROL_FRAMES_MAX {
            drop(inner);
            self.close(Closing { code: 4503, reason: "OVERLOADED" });
            return;
        }
        inner.control += 1;
        inner.queue.push_back(Item::Control(frame));
        drop(inner);
        self.wake.notify_one();
    }

    /// Says that a channel ended, and why. Bounded by the number of channels: each ends once.
    pub fn end(&self, channel: ChannelId, code: ErrorCode) {
        self.lock().ended.push((channel, code));
        self.wake.notify_one();
    }

    /// Ends the connection once what is queued was written. The first reason stays.
    pub fn close(&self, closing: Closing) {
        self.lock().closing.get_or_insert(closing);
        self.wake.notify_one();
    }

    /// Whether the connection is ending or gone.
    #[must_use]
    pub fn is_closing(&self) -> bool {
        self.lock().closing.is_some()
    }

    /// Document bytes that wait or are being written.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.lock().bytes
    }

    /// Takes the next thing to do. What was handed out before counts as written.
    pub fn drain(&self) -> Drained {
        let mut inner = self.lock();
        let written = std::mem::take(&mut inner.writing);
        inner.bytes -= written;
        self.budget.used.fetch_sub(written, Ordering::Relaxed);
        if !inner.ended.is_empty() {
            return Drained::Ended(std::mem::take(&mut inner.ended));
        }
        let frames = inner.take_frames();
        if !frames.is_empty() {
            return Drained::Write(frames);
        }
        if let Some(closing) = inner.closing {
            return Drained::Close(closing);
        }
        if inner.behind.is_empty() { Drained::Idle } else { Drained::Caught(std::mem::take(&mut inner.behind)) }
    }

    /// Waits until [`Self::drain`] may have something to do.
    pub async fn wait(&self) {
        self.wake.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic elsewhere must not take the other readers of this lock with it; the state is valid after each line.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        let bytes = self.lock().bytes;
        self.budget.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Inner {
    fn mark_behind(&mut self, channel: ChannelId) {
        if !self.behind.contains(&channel) {
            self.behind.push(channel);
        }
    }

    fn take_frames(&mut self) -> Vec<Bytes> {
        let mut frames = Vec::new();
        let mut bytes = 0;
        while bytes < WRITE_BYTES {
            let Some(item) = self.queue.pop_front() else { break };
            let frame = match item {
                Item::Frame(frame) => {
                    self.writing += frame.len();
                    frame
                }
                Item::Control(frame) => {
                    self.control -= 1;
                    frame
                }
                Item::Parts { channel, parts, next } => {
                    let Some(part) = parts.get(next).cloned() else { continue };
                    if next + 1 < parts.len() {
                        self.queue.push_front(Item::Parts { channel, parts, next: next + 1 });
                    }
                    part
                }
            };
            bytes += frame.len();
            frames.push(frame);
        }
        frames
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHANNEL: ChannelId = ChannelId(0);

    fn outbox(bytes_max: usize, frames_max: usize, total: usize) -> Outbox {
        Outbox::new(OutboxLimits { bytes_max, frames_max }, Budget::new(total))
    }

    fn frame(length: usize) -> Bytes {
        Bytes::from(vec![7; length])
    }

    #[test]
    fn a_full_outbox_refuses_and_tells_when_it_has_drained() {
        let outbox = outbox(100, 10, 1000);
        assert!(outbox.push(CHANNEL, frame(60)));
        assert!(!outbox.push(CHANNEL, frame(60)));
        assert_eq!(outbox.drain(), Drained::Write(vec![frame(60)]));
        assert_eq!(outbox.bytes(), 60, "bytes in the writer's hands still count");
        assert_eq!(outbox.drain(), Drained::Caught(vec![CHANNEL]));
        assert_eq!(outbox.drain(), Drained::Idle);
        assert_eq!(outbox.bytes(), 0);
    }

    #[test]
    fn a_frame_larger_than_the_bound_passes_when_nothing_else_waits() {
        let outbox = outbox(100, 10, 50);
        assert!(outbox.push(CHANNEL, frame(200)));
        assert!(!outbox.push(CHANNEL, frame(1)));
    }

    #[test]
    fn frames_are_counted_too() {
        let outbox = outbox(1000, 2, 1000);
        assert!(outbox.push(CHANNEL, frame(1)));
        assert!(outbox.push(CHANNEL, frame(1)));
        assert!(!outbox.push(CHANNEL, frame(1)));
    }

    #[test]
    fn the_common_budget_makes_readers_lag_and_is_given_back() {
        let budget = Budget::new(100);
        let limits = OutboxLimits { bytes_max: 100, frames_max: 10 };
        let (slow, quick) = (Outbox::new(limits, budget.clone()), Outbox::new(limits, budget.clone()));
        assert!(slow.push(CHANNEL, frame(90)));
        assert!(quick.push(CHANNEL, frame(90)), "an empty outbox always takes one frame");
        assert!(!quick.push(CHANNEL, frame(5)));
        drop(slow);
        drop(quick);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn states_are_written_part_by_part_and_one_at_a_time() {
        let outbox = outbox(10, 10, 10);
        let parts: Arc<[Bytes]> = vec![frame(WRITE_BYTES), frame(WRITE_BYTES)].into();
        assert!(outbox.push_parts(CHANNEL, parts.clone()));
        assert!(!outbox.push_parts(CHANNEL, parts.clone()));
        assert!(outbox.push_parts(ChannelId(1), parts));
        for _ in 0..4 {
            assert_eq!(outbox.drain(), Drained::Write(vec![frame(WRITE_BYTES)]));
        }
        assert_eq!(outbox.drain(), Drained::Caught(vec![CHANNEL]));
    }

    #[test]
    fn what_was_queued_before_the_close_is_written_first() {
        let outbox = outbox(100, 10, 100);
        assert!(outbox.push(CHANNEL, frame(1)));
        let closing = Closing { code: 1012, reason: "RESTART" };
        outbox.close(closing);
        outbox.close(Closing { code: 4404, reason: "NOT_FOUND" });
        assert!(outbox.push(CHANNEL, frame(1)), "after the close nothing is queued and nobody lags");
        assert_eq!(outbox.drain(), Drained::Write(vec![frame(1)]));
        assert_eq!(outbox.drain(), Drained::Close(closing));
    }

    #[test]
    fn a_client_that_only_asks_is_closed() {
        let outbox = outbox(100, 10, 100);
        for _ in 0..=CONTROL_FRAMES_MAX {
            outbox.push_control(frame(1));
        }
        assert!(outbox.is_closing());
    }
}
