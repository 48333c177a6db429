//! Somebody who listens to a room.

use std::sync::Arc;

use tokio::sync::watch;

use crate::event::Event;
use crate::event::EventId;
use crate::event::Listener;

use super::feed::Ahead;
use super::feed::Feed;
use super::feed::Raw;
use super::history::Batch;
use super::history::Behind;
use super::history::Found;
use super::history::Place;
use super::passing::Passed;

/// What somebody who listens hears.
#[derive(Debug, Clone, PartialEq)]
pub enum Heard {
    /// An event.
    Event(Arc<Event>),
    /// Some were missed, because it was too slow. It goes on behind this id.
    Lagged(EventId),
}

/// Somebody who listens: a place in the history, and a bell. While it reads, it keeps what it reads in memory: one
/// transaction.
pub struct Cursor {
    feed: Arc<Feed>,
    told: watch::Receiver<()>,
    listener: Listener,
    /// The batch to read next.
    next: u64,
    /// What is known of what comes.
    behind: Option<Behind>,
    /// The place in what passes.
    passing: u64,
    /// The batch that is being read, and how far.
    reading: Option<(Arc<Batch<Raw>>, usize)>,
}

impl Cursor {
    pub(super) fn new(
        feed: Arc<Feed>,
        told: watch::Receiver<()>,
        listener: Listener,
        Place { next, behind }: Place,
        passing: u64,
    ) -> Self {
        Self { feed, told, listener, next, behind, passing, reading: None }
    }

    /// What comes next; waits for it. May be dropped while it waits, and nothing is lost.
    pub async fn next(&mut self) -> Heard {
        loop {
            // Seen before it is looked for, so that what comes in between wakes.
            self.told.borrow_and_update();
            if let Some(heard) = self.try_next() {
                return heard;
            }
            // The sender lives as long as the feed, which is held here.
            let _ = self.told.changed().await;
        }
    }

    /// What comes next, if it is there.
    pub fn try_next(&mut self) -> Option<Heard> {
        loop {
            if let Some(event) = self.read() {
                return Some(Heard::Event(event));
            }
            match self.feed.ahead(self.next, self.passing)? {
                Ahead::Found(Found::Batch(batch)) => {
                    self.next += 1;
                    let known = self.behind.as_ref().map_or(Some(0), |behind| behind.known_of(&batch));
                    self.reading = known.map(|known| (batch, known));
                }
                Ahead::Found(Found::Gone(next, last)) => {
                    (self.next, self.behind) = (next, None);
                    return Some(Heard::Lagged(last));
                }
                Ahead::Found(Found::End) => return None,
                Ahead::Passed(Passed::Event(next, batch, _)) => {
                    self.passing = next;
                    self.reading = Some((batch, 0));
                }
                Ahead::Passed(Passed::Gone(next, id, _)) => {
                    self.passing = next;
                    return Some(Heard::Lagged(id));
                }
            }
        }
    }

    /// The next event of the batch that is being read, for this listener.
    fn read(&mut self) -> Option<Arc<Event>> {
        let (batch, index) = self.reading.as_mut()?;
        let events = self.feed.events_of(batch).get(*index..).unwrap_or_default();
        match events.iter().position(|event| event.is_for(&self.listener)) {
            Some(place) => {
                *index += place + 1;
                Some(events[place].clone())
            }
            None => {
                self.reading = None;
                None
            }
        }
    }
}

impl Drop for Cursor {
    fn drop(&mut self) {
        self.feed.stop_listening();
    }
}
