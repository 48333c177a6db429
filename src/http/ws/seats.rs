//! The channels of one connection: who was let in where, and what holds their place in the document.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use syncline_protocol::channel::ChannelId;

use crate::auth::watch::Watched;
use crate::hub::Membership;
use crate::room;

use super::admission::Entrant;

/// A channel that has joined its document. Dropping it leaves.
pub(super) struct Seat {
    pub(super) membership: Membership,
    /// Counts against what the room takes.
    _room: room::Seat,
    holder: Mutex<Arc<Entrant>>,
    /// `None` where there are no users.
    watched: Option<Watched>,
}

impl Seat {
    pub(super) fn new(
        membership: Membership,
        room: room::Seat,
        holder: Arc<Entrant>,
        watched: Option<Watched>,
    ) -> Self {
        Self { membership, _room: room, holder: Mutex::new(holder), watched }
    }

    /// Whose rights are to be looked up again, and when their token runs out.
    pub(super) fn holder(&self) -> Arc<Entrant> {
        lock(&self.holder).clone()
    }

    /// Takes the holder's newer token for the older one.
    fn renew(&self, holder: Arc<Entrant>) {
        if let Some(watched) = &self.watched {
            watched.renew(&holder.identity);
        }
        *lock(&self.holder) = holder;
    }
}

/// What is known of one channel.
enum Place {
    /// Let in, and about to join.
    Entered(Arc<Entrant>),
    Taken(Arc<Seat>),
}

/// The channels of one connection by their numbers.
#[derive(Default)]
pub(super) struct Seats(Mutex<HashMap<ChannelId, Place>>);

impl Seats {
    /// Notes that a token was good: of a channel that is about to join, or of one that renews it.
    pub(super) fn enter(&self, channel: ChannelId, entrant: Arc<Entrant>) {
        let mut places = lock(&self.0);
        if let Some(Place::Taken(seat)) = places.get(&channel) {
            let seat = seat.clone();
            drop(places);
            return seat.renew(entrant);
        }
        places.insert(channel, Place::Entered(entrant));
    }

    /// Whoever is about to join on this channel.
    pub(super) fn entrant(&self, channel: ChannelId) -> Option<Arc<Entrant>> {
        let mut places = lock(&self.0);
        match places.remove(&channel)? {
            Place::Entered(entrant) => Some(entrant),
            taken @ Place::Taken(_) => {
                places.insert(channel, taken);
                None
            }
        }
    }

    pub(super) fn take(&self, channel: ChannelId, seat: Seat) {
        lock(&self.0).insert(channel, Place::Taken(Arc::new(seat)));
    }

    pub(super) fn get(&self, channel: ChannelId) -> Option<Arc<Seat>> {
        match lock(&self.0).get(&channel)? {
            Place::Taken(seat) => Some(seat.clone()),
            Place::Entered(_) => None,
        }
    }

    /// The channel is over.
    pub(super) fn leave(&self, channel: ChannelId) {
        let place = lock(&self.0).remove(&channel);
        drop(place); // Leaving a document is not done under the lock.
    }
}

/// Nothing panics under these locks that could leave them half changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
