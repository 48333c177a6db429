//! Places in a room, where their number is limited.

use std::collections::HashMap;
use std::sync::Arc;

use crate::config::Limit;

use super::feed::Feed;

/// No place is left in a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the room has as many connections as it may have")]
pub struct RoomFull {
    /// How many that is.
    pub max_clients: usize,
}

/// A place in a room; it is free again when this is dropped.
pub struct Seat {
    feed: Arc<Feed>,
    peer: u64,
}

impl Seat {
    pub(super) fn new(feed: Arc<Feed>, peer: u64) -> Self {
        Self { feed, peer }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.feed.leave(self.peer);
    }
}

/// Who has a place: how often each connection has entered.
#[derive(Default)]
pub(super) struct Seats(HashMap<u64, usize>);

impl Seats {
    /// A connection comes in. One that has a place takes no second one.
    pub(super) fn take(&mut self, max_clients: Limit, peer: u64) -> Result<(), RoomFull> {
        let max_clients = max_clients.map_or(usize::MAX, usize::from);
        if !self.0.contains_key(&peer) && self.0.len() >= max_clients {
            return Err(RoomFull { max_clients });
        }
        *self.0.entry(peer).or_default() += 1;
        Ok(())
    }

    pub(super) fn give_back(&mut self, peer: u64) {
        if let Some(times) = self.0.get_mut(&peer) {
            *times -= 1;
            if *times == 0 {
                self.0.remove(&peer);
            }
        }
    }
}
