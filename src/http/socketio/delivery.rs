//! Events that a client is to acknowledge: sent again until it does, and kept for another of the user's connections.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use syncline_protocol::socket_io;
use tokio::sync::watch;
use tokio::time::Instant;

use super::wire::Wire;
use crate::clock::Clock;
use crate::room::Courier;
use crate::room::Parcel;

/// A client that has not acknowledged is sent the same again.
const TIMEOUT: Duration = Duration::from_secs(10);
/// So often; then it waits for the user's next connection.
const ATTEMPTS_MAX: u32 = 4;
/// Parcels on their way to one client. Full: the next ones wait for these.
const UNDER_WAY_MAX: usize = 32;

/// What one client is to acknowledge.
pub(super) struct Deliveries {
    courier: Arc<Courier>,
    user: Arc<str>,
    told: watch::Receiver<u64>,
    /// The last one that was sent.
    last: u64,
    /// By the number of the acknowledgement that is awaited.
    under_way: BTreeMap<u64, Delivery>,
    asked: u64,
    /// Whether there may be more than was sent.
    more: bool,
}

struct Delivery {
    parcel: Parcel,
    again_at: Instant,
    attempts: u32,
}

impl Deliveries {
    pub(super) fn new(courier: &Arc<Courier>, user: Arc<str>) -> Self {
        let told = courier.listen(&user);
        Self { courier: courier.clone(), user, told, last: 0, under_way: BTreeMap::new(), asked: 0, more: true }
    }

    /// Waits until there is something to send.
    pub(super) async fn wait(&mut self) {
        if self.more && self.under_way.len() < UNDER_WAY_MAX {
            return;
        }
        let again = self.under_way.values().map(|delivery| delivery.again_at).min();
        let overdue = async {
            match again {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            told = self.told.changed() => match told {
                Ok(()) => self.more = true,
                // The courier is gone, and the server with it.
                Err(_) => std::future::pending().await,
            },
            () = overdue => {}
        }
    }

    /// Sends what is new, and again what nobody has acknowledged for too long.
    pub(super) fn send(&mut self, wire: &mut Wire, clock: Clock) {
        let now = Instant::now();
        let overdue: Vec<u64> =
            self.under_way.iter().filter(|(_, delivery)| delivery.again_at <= now).map(|(id, _)| *id).collect();
        for id in overdue {
            self.send_again(id, now, wire);
        }
        if !self.more {
            return;
        }
        let waiting = self.courier.waiting(&self.user, self.last, clock.now().moment);
        let room = UNDER_WAY_MAX - self.under_way.len();
        self.more = waiting.len() > room;
        for parcel in waiting.into_iter().take(room) {
            self.last = parcel.number;
            self.asked += 1;
            wire.send(packet(self.asked, &parcel));
            self.under_way.insert(self.asked, Delivery { parcel, again_at: now + TIMEOUT, attempts: 1 });
        }
    }

    fn send_again(&mut self, id: u64, now: Instant, wire: &mut Wire) {
        let Some(delivery) = self.under_way.get_mut(&id) else { return };
        let is_wanted = self.courier.is_waiting(&self.user, delivery.parcel.number);
        if !is_wanted || delivery.attempts >= ATTEMPTS_MAX {
            self.under_way.remove(&id);
            return;
        }
        delivery.attempts += 1;
        delivery.again_at = now + TIMEOUT;
        wire.send(packet(id, &delivery.parcel));
    }

    /// The client has it.
    pub(super) fn acknowledged(&mut self, id: u64) {
        if let Some(delivery) = self.under_way.remove(&id) {
            self.courier.signed(&self.user, delivery.parcel.number);
        }
    }
}

/// The same event, under the number of the acknowledgement that is awaited.
fn packet(id: u64, parcel: &Parcel) -> String {
    let payload = std::str::from_utf8(&parcel.event.json).unwrap_or("null");
    socket_io::event(Some(id), &parcel.event.name, payload)
}
