//! What waits to be written to one socket, and the writing of it. Documents push and never wait.
//!
//! What a document pushes in one batch leaves with one call to the system, made by the document itself: no task is woken
//! for a reader that keeps up. What the socket does not take stays here, and the connection's own task writes it when it can.
//!
//! Full means: [`Outbox::push`] answers `false`, the frame is not queued, and the document catches the reader up with one
//! diff once [`Next::Caught`] told it that the socket has drained. So a slow reader costs bounded memory and loses nothing.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::io::ErrorKind;
use std::io::IoSlice;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use syncline_protocol::ErrorCode;
use syncline_protocol::Moment;
use syncline_protocol::channel::ChannelId;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::Notify;

pub use item::Frame;
use item::Item;
pub use item::Outgoing;
pub use item::Piece;

mod item;

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
/// Bytes handed to the socket in one call: large enough to fill many segments, small enough that a document is not kept.
const WRITE_BYTES: usize = 64 * 1024;
/// Room in a drained queue that is kept for what comes next.
const KEPT_ITEMS: usize = 16;
/// Pieces handed to the socket in one call; the system takes up to 1024.
const WRITE_SLICES: usize = 64;

/// The socket, as far as writing to it goes.
pub trait Wire: Send + Sync + fmt::Debug {
    /// Writes what the socket takes at once.
    ///
    /// # Errors
    /// `WouldBlock` when it takes nothing now; anything else means that the connection is gone.
    fn try_write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize>;
}

impl Wire for OwnedWriteHalf {
    fn try_write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match slices {
            // The plain call is the cheaper one, and one frame is the rule for a reader that keeps up.
            [one] => OwnedWriteHalf::try_write(self, one),
            several => self.try_write_vectored(several),
        }
    }
}

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
    /// Bytes of the front item that the socket has taken already.
    begun: usize,
    /// Bytes of `Item::Frame`s.
    bytes: usize,
    control: usize,
    /// The socket took nothing when last asked; the connection's task waits for it.
    blocked: bool,
    /// The socket; `None` when the connection is gone. Then nothing is kept any more, not even the open socket: a document
    /// that waits for the store may hold this outbox for long.
    wire: Option<Arc<dyn Wire>>,
    /// When the socket last took something.
    last_written: Moment,
    /// Written and not told yet by [`Outbox::flush`].
    unreported: Written,
    /// Channels that lost something and want to hear when the socket is empty.
    behind: Vec<ChannelId>,
    /// Channels that their documents, or a revocation, ended; the session is to be told.
    ended: Vec<(ChannelId, ErrorCode)>,
    /// Channels whose rights are to be looked up again.
    recheck: Vec<ChannelId>,
    closing: Option<Closing>,
}

/// How a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Closing {
    /// WebSocket close code.
    pub code: u16,
    /// Code word.
    pub reason: &'static str,
}

/// Frames and bytes that a socket took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Written {
    /// Frames, counted when their last byte was taken.
    pub frames: u64,
    /// Bytes, headers included.
    pub bytes: u64,
}

impl std::ops::AddAssign for Written {
    fn add_assign(&mut self, more: Self) {
        self.frames += more.frames;
        self.bytes += more.bytes;
    }
}

/// What the connection's task is to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// The socket is full: wait until it is writable, then [`Outbox::unblock`].
    Blocked,
    /// Something is queued: [`Outbox::flush`].
    Flush,
    /// These channels were ended by their documents, or by a revocation.
    Ended(Vec<(ChannelId, ErrorCode)>),
    /// The rights of these channels are to be looked up again.
    Recheck(Vec<ChannelId>),
    /// Everything was written; these channels wait for a catch-up.
    Caught(Vec<ChannelId>),
    /// Close the socket; nothing more will come.
    Close(Closing),
    /// The connection is gone.
    Dead,
    /// Nothing to do.
    Idle,
}

impl Outbox {
    /// An empty outbox in front of a socket.
    #[must_use]
    pub fn new(now: Moment, limits: OutboxLimits, budget: Arc<Budget>, wire: Arc<dyn Wire>) -> Self {
        let inner = Inner { last_written: now, wire: Some(wire), ..Inner::default() };
        Self { inner: Mutex::new(inner), wake: Notify::new(), limits, budget }
    }

    /// Queues a document frame, to be written by the next [`Self::flush`]. `false`: it does not fit, and nothing was
    /// queued; the channel hears of it when the socket has drained.
    #[must_use]
    pub fn push(&self, channel: ChannelId, frame: impl Outgoing) -> bool {
        self.lock().push(channel, frame, self)
    }

    /// Queues a presence frame, unless the socket is busy: then presence is to be sent whole once it has drained.
    #[must_use]
    pub fn push_awareness(&self, channel: ChannelId, frame: impl Outgoing) -> bool {
        let mut inner = self.lock();
        if inner.is_open() && inner.bytes > AWARENESS_BEHIND_BYTES {
            inner.mark_behind(channel);
            return false;
        }
        inner.push(channel, frame, self)
    }

    /// Queues a state that other readers share, as frames of `per_frame` parts each. `false` when an earlier one of this channel is still on its way:
    /// one client cannot make us queue states faster than it reads them.
    #[must_use]
    pub fn push_parts(&self, channel: ChannelId, parts: Arc<[Bytes]>, per_frame: usize) -> bool {
        let mut inner = self.lock();
        if !inner.is_open() || parts.is_empty() {
            return true;
        }
        let under_way = |item: &Item| matches!(item, Item::Parts { channel: of, .. } if *of == channel);
        if inner.queue.iter().any(under_way) {
            inner.mark_behind(channel);
            return false;
        }
        inner.queue.push_back(Item::Parts { channel, parts, next: 0, per_frame: per_frame.max(1) });
        true
    }

    /// Queues a small frame of the session itself (keep-alive, pong, denial). A client that provokes thousands of them
    /// without reading is closed.
    pub fn push_control(&self, frame: Bytes) {
        let mut inner = self.lock();
        if inner.control >= CONTROL_FRAMES_MAX {
            drop(inner);
            self.close(Closing { code: 4503, reason: "OVERLOADED" });
            return;
        }
        if inner.wire.is_some() {
            inner.control += 1;
            inner.queue.push_back(Item::Control(frame));
        }
    }

    /// Writes what the socket takes, up to a bound. Whoever pushed calls this when its batch is complete; what remains is
    /// the connection's to write. Answers what was written.
    pub fn flush(&self, now: Moment) -> Written {
        let mut inner = self.lock();
        if inner.blocked || inner.wire.is_none() {
            return std::mem::take(&mut inner.unreported); // The connection's task knows, and waits for the socket.
        }
        inner.write(now, &self.budget);
        let wakes =
            !inner.queue.is_empty() || inner.wire.is_none() || !inner.behind.is_empty() || inner.closing.is_some();
        let written = std::mem::take(&mut inner.unreported);
        drop(inner);
        if wakes {
            self.wake.notify_one();
        }
        written
    }

    /// Says that the socket is writable again.
    pub fn unblock(&self) {
        self.lock().blocked = false;
    }

    /// Says that the connection is gone: what waits is dropped, and what comes too.
    pub fn abandon(&self) {
        self.lock().die(&self.budget);
    }

    /// Says that a channel ended, and why. Bounded by the number of channels: of each, the first word stays.
    pub fn end(&self, channel: ChannelId, code: ErrorCode) {
        let mut inner = self.lock();
        if inner.wire.is_some() && !inner.ended.iter().any(|(ended, _)| *ended == channel) {
            inner.ended.push((channel, code));
        }
        drop(inner);
        self.wake.notify_one();
    }

    /// Says that the rights of a channel are to be looked up again. Each waits once, however often this is said.
    pub fn recheck(&self, channel: ChannelId) {
        let mut inner = self.lock();
        if inner.wire.is_some() && !inner.recheck.contains(&channel) {
            inner.recheck.push(channel);
        }
        drop(inner);
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
        !self.lock().is_open()
    }

    /// Document bytes that wait.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.lock().bytes
    }

    /// When the socket last took something.
    #[must_use]
    pub fn last_written(&self) -> Moment {
        self.lock().last_written
    }

    /// What the connection's task is to do now.
    pub fn next(&self) -> Next {
        let mut inner = self.lock();
        if inner.wire.is_none() {
            return Next::Dead;
        }
        if !inner.ended.is_empty() {
            return Next::Ended(std::mem::take(&mut inner.ended));
        }
        if !inner.recheck.is_empty() {
            return Next::Recheck(std::mem::take(&mut inner.recheck));
        }
        if !inner.queue.is_empty() {
            return if inner.blocked { Next::Blocked } else { Next::Flush };
        }
        if let Some(closing) = inner.closing {
            return Next::Close(closing);
        }
        if inner.behind.is_empty() { Next::Idle } else { Next::Caught(std::mem::take(&mut inner.behind)) }
    }

    /// Wakes the connection's task: there is something for it elsewhere.
    pub fn nudge(&self) {
        self.wake.notify_one();
    }

    /// Waits until [`Self::next`] may have something to do.
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
    fn is_open(&self) -> bool {
        self.closing.is_none() && self.wire.is_some()
    }

    fn push(&mut self, channel: ChannelId, frame: impl Outgoing, outbox: &Outbox) -> bool {
        if !self.is_open() {
            return true; // Nobody will read it, and nobody needs to be caught up.
        }
        let Outbox { limits, budget, .. } = outbox;
        let bytes = frame.bytes();
        let fits = |inner: &Self| {
            inner.bytes + bytes <= limits.bytes_max.max(bytes)
                && inner.queue.len() < limits.frames_max
                && (budget.has_room(bytes) || inner.bytes == 0)
        };
        if !fits(self) {
            // What fills it may only be the rest of this batch: a socket that takes it is not slow.
            if !self.blocked {
                self.write(self.last_written, budget);
                outbox.wake.notify_one(); // It may be full now, or gone.
            }
            if !fits(self) {
                self.mark_behind(channel);
                return false;
            }
        }
        self.bytes += bytes;
        budget.used.fetch_add(bytes, Ordering::Relaxed);
        frame.queue(&mut |piece| self.queue.push_back(piece.into()));
        true
    }

    /// Writes what the socket takes, up to a bound.
    fn write(&mut self, now: Moment, budget: &Budget) {
        let mut bytes = 0;
        while !self.queue.is_empty() && !self.blocked && bytes < WRITE_BYTES {
            let Some((offered, result)) = self.offer() else { break };
            match result {
                Ok(taken) => {
                    bytes += taken;
                    let written = self.advance(taken, budget);
                    self.unreported += written;
                    self.last_written = now;
                    // A socket that took less than it was offered is full: asking again would only say so.
                    self.blocked = taken < offered;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.blocked = true,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => self.die(budget),
            }
        }
    }

    fn mark_behind(&mut self, channel: ChannelId) {
        if !self.behind.contains(&channel) {
            self.behind.push(channel);
        }
    }

    /// Offers the socket what is in front. Answers how many bytes it was offered, and took; `None` without a socket.
    fn offer(&self) -> Option<(usize, io::Result<usize>)> {
        let wire = self.wire.as_ref()?;
        let mut slices: [IoSlice<'_>; WRITE_SLICES] = std::array::from_fn(|_| IoSlice::new(&[]));
        let (mut count, mut bytes, mut begun) = (0, 0, self.begun);
        for piece in self.queue.iter().flat_map(Item::pieces) {
            if count == WRITE_SLICES || bytes >= WRITE_BYTES {
                break;
            }
            let piece = &piece[std::mem::take(&mut begun)..];
            slices[count] = IoSlice::new(piece);
            bytes += piece.len();
            count += 1;
        }
        Some((bytes, wire.try_write(&slices[..count])))
    }

    /// Lets go of what the socket took.
    fn advance(&mut self, taken: usize, budget: &Budget) -> Written {
        let mut written = Written { frames: 0, bytes: taken as u64 };
        let mut left = self.begun + taken;
        let mut freed = 0;
        while let Some(front) = self.queue.front_mut() {
            let length = front.front_len();
            if left < length {
                break;
            }
            left -= length;
            written.frames += u64::from(front.front_ends_frame());
            match front {
                Item::Head(part) | Item::Frame(part) => freed += part.len(),
                Item::Control(_) => self.control -= 1,
                Item::Parts { parts, next, .. } if *next + 1 < parts.len() => {
                    *next += 1;
                    continue;
                }
                Item::Parts { .. } => {}
            }
            self.queue.pop_front();
        }
        self.begun = left;
        self.free(freed, budget);
        if self.queue.is_empty() && self.queue.capacity() > KEPT_ITEMS {
            self.queue = VecDeque::new(); // A burst must not cost memory for as long as the connection lives.
        }
        written
    }

    fn free(&mut self, bytes: usize, budget: &Budget) {
        self.bytes -= bytes;
        budget.used.fetch_sub(bytes, Ordering::Relaxed);
    }

    fn die(&mut self, budget: &Budget) {
        self.wire = None;
        self.queue = VecDeque::new();
        (self.begun, self.control) = (0, 0);
        self.free(self.bytes, budget);
    }
}

#[cfg(test)]
mod tests;
