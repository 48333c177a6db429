//! What waits for one document: many senders, one receiver, a bound on the number of messages.
//!
//! The runtime's own channel keeps room for 32 messages from the start, which is most of what a document at rest would
//! weigh. This one holds no memory for messages while there are none. Full: [`Sender::send`] waits, in the order in which
//! senders came.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::task::Context;
use std::task::Poll;
use std::task::Waker;

use tokio::sync::Semaphore;
use tokio::sync::TryAcquireError;

/// A way into the inbox.
#[derive(Debug)]
pub struct Sender<T>(Arc<Shared<T>>);

/// The end that takes messages out. Dropping it refuses those that are still to come.
#[derive(Debug)]
pub struct Inbox<T>(Arc<Shared<T>>);

/// The receiver is gone; here is the message back.
#[derive(Debug, PartialEq, Eq)]
pub struct Closed<T>(pub T);

/// Why a message was not taken at once.
#[derive(Debug, PartialEq, Eq)]
pub enum Refused<T> {
    /// There is no room.
    Full(T),
    /// The receiver is gone.
    Closed(T),
}

#[derive(Debug)]
struct Shared<T> {
    /// Closed when the receiver is gone.
    room: Semaphore,
    senders: AtomicUsize,
    waiting: Mutex<Waiting<T>>,
}

#[derive(Debug)]
struct Waiting<T> {
    messages: VecDeque<T>,
    receiver: Option<Waker>,
}

/// An inbox for at most `messages_max` messages, and its first sender.
#[must_use]
pub fn inbox<T>(messages_max: usize) -> (Sender<T>, Inbox<T>) {
    let shared = Arc::new(Shared {
        room: Semaphore::new(messages_max),
        senders: AtomicUsize::new(1),
        waiting: Mutex::new(Waiting { messages: VecDeque::new(), receiver: None }),
    });
    (Sender(shared.clone()), Inbox(shared))
}

impl<T> Sender<T> {
    /// Leaves a message; waits while there is no room.
    ///
    /// # Errors
    /// [`Closed`] when the receiver is gone.
    pub async fn send(&self, message: T) -> Result<(), Closed<T>> {
        match self.0.room.acquire().await {
            Ok(place) => {
                place.forget();
                self.0.put(message);
                Ok(())
            }
            Err(_) => Err(Closed(message)),
        }
    }

    /// Leaves a message if there is room now.
    ///
    /// # Errors
    /// [`Refused`] gives it back and says why.
    pub fn try_send(&self, message: T) -> Result<(), Refused<T>> {
        match self.0.room.try_acquire() {
            Ok(place) => {
                place.forget();
                self.0.put(message);
                Ok(())
            }
            Err(TryAcquireError::NoPermits) => Err(Refused::Full(message)),
            Err(TryAcquireError::Closed) => Err(Refused::Closed(message)),
        }
    }

    /// Whether the receiver is gone.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.0.room.is_closed()
    }

    /// How many senders there are, this one among them.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.senders.load(Ordering::Acquire)
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        self.0.senders.fetch_add(1, Ordering::Relaxed);
        Self(self.0.clone())
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        if self.0.senders.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.wake(self.0.lock());
        }
    }
}

impl<T> Inbox<T> {
    /// Waits for messages and moves at most `max` of them to the end of `into`. Answers how many; none only when every
    /// sender is gone. Nothing is lost when the future is dropped. While it waits there is no memory for messages, neither
    /// here nor in an empty `into`.
    pub async fn receive(&mut self, into: &mut VecDeque<T>, max: usize) -> usize {
        poll_fn(|context| self.poll_receive(context, into, max)).await
    }

    fn poll_receive(&mut self, context: &mut Context<'_>, into: &mut VecDeque<T>, max: usize) -> Poll<usize> {
        let mut waiting = self.0.lock();
        let count = waiting.messages.len().min(max);
        if count > 0 {
            if into.is_empty() && count == waiting.messages.len() {
                *into = std::mem::take(&mut waiting.messages);
            } else {
                into.extend(waiting.messages.drain(..count));
            }
            drop(waiting);
            self.0.room.add_permits(count);
            return Poll::Ready(count);
        }
        if self.0.senders.load(Ordering::Acquire) == 0 {
            return Poll::Ready(0);
        }
        waiting.messages = VecDeque::new();
        if into.is_empty() {
            *into = VecDeque::new();
        }
        match &mut waiting.receiver {
            Some(waker) => waker.clone_from(context.waker()),
            none => *none = Some(context.waker().clone()),
        }
        Poll::Pending
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.lock().messages.is_empty()
    }
}

impl<T> Drop for Inbox<T> {
    fn drop(&mut self) {
        self.0.room.close();
        let messages = std::mem::take(&mut self.0.lock().messages);
        drop(messages); // Outside the lock: a message may hold a sender of this very inbox.
    }
}

impl<T> Shared<T> {
    fn put(&self, message: T) {
        let mut waiting = self.lock();
        // Checked under the lock that the receiver takes as it goes: what comes later would never be dropped.
        if self.room.is_closed() {
            return drop(waiting);
        }
        waiting.messages.push_back(message);
        self.wake(waiting);
    }

    fn wake(&self, mut waiting: MutexGuard<'_, Waiting<T>>) {
        let receiver = waiting.receiver.take();
        drop(waiting);
        if let Some(receiver) = receiver {
            receiver.wake();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting<T>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::task::Poll;

    use futures_util::FutureExt;
    use futures_util::poll;

    use super::*;

    async fn take(inbox: &mut Inbox<u32>, max: usize) -> Vec<u32> {
        let mut taken = VecDeque::new();
        assert_eq!(inbox.receive(&mut taken, max).await, taken.len());
        taken.into()
    }

    #[tokio::test]
    async fn messages_come_out_in_order_and_in_batches() {
        let (sender, mut inbox) = inbox(10);
        for message in 0..5 {
            sender.send(message).await.unwrap();
        }
        assert_eq!(take(&mut inbox, 3).await, [0, 1, 2]);
        assert_eq!(take(&mut inbox, 3).await, [3, 4]);
        assert!(inbox.is_empty());
        let mut kept = VecDeque::from([7]);
        sender.send(8).await.unwrap();
        assert_eq!(inbox.receive(&mut kept, 3).await, 1);
        assert_eq!(kept, [7, 8]);
    }

    #[tokio::test]
    async fn a_full_inbox_makes_senders_wait_in_their_order() {
        let (sender, mut inbox) = inbox(1);
        sender.send(0).await.unwrap();
        let (mut first, mut second) = (Box::pin(sender.send(1)), Box::pin(sender.send(2)));
        assert_eq!(poll!(&mut first), Poll::Pending);
        assert_eq!(poll!(&mut second), Poll::Pending);
        assert_eq!(sender.try_send(3), Err(Refused::Full(3)));
        assert_eq!(take(&mut inbox, 9).await, [0]);
        assert_eq!(poll!(&mut second), Poll::Pending);
        assert_eq!(poll!(&mut first), Poll::Ready(Ok(())));
        assert_eq!(take(&mut inbox, 9).await, [1]);
        assert_eq!(poll!(&mut second), Poll::Ready(Ok(())));
    }

    #[tokio::test]
    async fn a_message_wakes_the_receiver() {
        let (sender, mut inbox) = inbox(4);
        let receiving = tokio::spawn(async move { take(&mut inbox, 4).await });
        tokio::task::yield_now().await;
        sender.send(5).await.unwrap();
        assert_eq!(receiving.await.unwrap(), [5]);
    }

    #[tokio::test]
    async fn a_receive_that_is_given_up_loses_nothing() {
        let (sender, mut inbox) = inbox(4);
        let mut taken = VecDeque::new();
        assert_eq!(inbox.receive(&mut taken, 4).now_or_never(), None);
        sender.send(1).await.unwrap();
        assert_eq!(take(&mut inbox, 4).await, [1]);
    }

    #[tokio::test]
    async fn the_last_sender_to_leave_ends_the_receiving() {
        let (sender, mut inbox) = inbox::<u32>(4);
        let other = sender.clone();
        assert_eq!(sender.count(), 2);
        drop(sender);
        let receiving = tokio::spawn(async move { take(&mut inbox, 4).await });
        tokio::task::yield_now().await;
        drop(other);
        assert_eq!(receiving.await.unwrap(), [0; 0]);
    }

    #[tokio::test]
    async fn a_receiver_that_leaves_refuses_what_comes_and_drops_what_was_there() {
        let (sender, inbox) = inbox(2);
        let message = Arc::new(());
        sender.send(message.clone()).await.unwrap();
        sender.send(message.clone()).await.unwrap();
        let mut waits = Box::pin(sender.send(message.clone()));
        assert_eq!(poll!(&mut waits), Poll::Pending);
        drop(inbox);
        assert!(sender.is_closed());
        assert!(waits.await.is_err());
        assert!(matches!(sender.try_send(message.clone()), Err(Refused::Closed(_))));
        assert_eq!(Arc::strong_count(&message), 1);
    }

    #[tokio::test]
    async fn an_inbox_at_rest_holds_no_memory_for_messages() {
        let (sender, mut inbox) = inbox(100);
        for message in 0..100 {
            sender.send(message).await.unwrap();
        }
        assert_eq!(take(&mut inbox, 60).await.len() + take(&mut inbox, 60).await.len(), 100);
        let mut handled = VecDeque::with_capacity(60);
        assert_eq!(inbox.receive(&mut handled, 1).now_or_never(), None);
        assert_eq!((inbox.0.lock().messages.capacity(), handled.capacity()), (0, 0));
    }
}
