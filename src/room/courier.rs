//! What one user is to acknowledge: kept until one of the user's connections says that it has it, also while there is none.
//! Nodes that hold the user's room have it, too, and each says to the others what it was given and what was acknowledged.

use std::collections::HashMap;
use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::OnceLock;
use std::sync::PoisonError;
use std::time::Duration;

use syncline_protocol::Moment;
use tokio::sync::watch;

use crate::bus::Link;
use crate::bus::Topic;
use crate::event::Event;
use crate::event::EventId;
use crate::name::RoomName;

use super::wire::Message;

/// Ids of one user's last parcels that were acknowledged: another node may not have heard of it, and hand one in again.
const SIGNED_MAX: usize = 100;

/// What is kept for users.
#[derive(Debug, Clone, Copy)]
pub struct CourierLimits {
    /// Parcels of one user. Full: the next one is refused.
    pub parcels_max: usize,
    /// Bytes of all parcels. Full: the next one is refused.
    pub bytes_max: usize,
    /// A parcel is kept so long; `None` for as long as the process runs.
    pub keep: Option<Duration>,
}

/// There is no room for another parcel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too much waits for this user to be acknowledged, or for all users together")]
pub struct CourierFull;

/// An event that its user has not acknowledged yet.
#[derive(Debug, Clone)]
pub struct Parcel {
    /// Counts the parcels of all users: later ones have higher numbers.
    pub number: u64,
    /// What it is.
    pub event: Arc<Event>,
    at: Moment,
}

/// The parcels of one process. A restart forgets them.
#[derive(Debug)]
pub struct Courier {
    limits: CourierLimits,
    state: Mutex<State>,
    others: Others,
}

/// The way to other nodes, where there may be any.
#[derive(Default)]
struct Others(OnceLock<Link>);

impl fmt::Debug for Others {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.get().is_some() { "some" } else { "none" })
    }
}

impl Others {
    fn say(&self, user: &str, message: &Message) {
        // Who has no room has no connection either.
        if let (Some(link), Ok(room)) = (self.0.get(), RoomName::parse(&format!("user:{user}"))) {
            link.bus.publish(&Topic::Room(room), message.encode());
        }
    }
}

#[derive(Debug, Default)]
struct State {
    users: HashMap<Arc<str>, Pouch>,
    bytes: usize,
    numbers: u64,
}

#[derive(Debug)]
struct Pouch {
    parcels: VecDeque<Parcel>,
    /// The number of the last parcel: wakes the user's connections.
    told: watch::Sender<u64>,
    /// Those that the user has, and that may come from another node still.
    signed: VecDeque<EventId>,
}

impl Courier {
    /// Nothing to deliver.
    #[must_use]
    pub fn new(limits: CourierLimits) -> Self {
        Self { limits, state: Mutex::default(), others: Others::default() }
    }

    /// There are other nodes.
    pub(super) fn link(&self, link: Link) {
        // Once: a process has one bus.
        let _ = self.others.0.set(link);
    }

    /// Takes an event for a user.
    ///
    /// # Errors
    /// [`CourierFull`].
    pub fn hand_in(&self, user: &Arc<str>, event: Event, now: Moment) -> Result<(), CourierFull> {
        let parcel = Message::Parcel { age_ms: 0, event: event.clone() };
        self.keep(user, event, now, now)?;
        self.others.say(user, &parcel);
        Ok(())
    }

    /// Takes over what another node was given at that time. Full: that one goes on to keep it.
    pub(super) fn take_over(&self, user: &Arc<str>, event: Event, at: Moment, now: Moment) {
        let is_known = |pouch: &Pouch| {
            pouch.signed.contains(&event.id) || pouch.parcels.iter().any(|parcel| parcel.event.id == event.id)
        };
        let is_new = !self.lock().users.get(user).is_some_and(is_known);
        if is_new && self.keep(user, event, at, now).is_err() {
            tracing::debug!(event = "parcel_not_taken_over", userId = &**user);
        }
    }

    /// Says to the other nodes what waits for a user.
    pub(super) fn share(&self, user: &str, now: Moment) {
        for Parcel { event, at, .. } in self.waiting(user, 0, now) {
            let age_ms = u64::try_from(now.since(at).as_millis()).unwrap_or(u64::MAX);
            self.others.say(user, &Message::Parcel { age_ms, event: (*event).clone() });
        }
    }

    /// Whether something waits for a user.
    pub(super) fn has(&self, user: &str) -> bool {
        self.lock().users.get(user).is_some_and(|pouch| !pouch.parcels.is_empty())
    }

    fn keep(&self, user: &Arc<str>, event: Event, at: Moment, now: Moment) -> Result<(), CourierFull> {
        let mut state = self.lock();
        state.expire(user, &self.limits, now);
        let bytes = event.json.len();
        let waiting = state.users.get(user).map_or(0, |pouch| pouch.parcels.len());
        if waiting >= self.limits.parcels_max || state.bytes + bytes > self.limits.bytes_max {
            return Err(CourierFull);
        }
        state.numbers += 1;
        state.bytes += bytes;
        let number = state.numbers;
        let pouch = state.users.entry(user.clone()).or_insert_with(Pouch::new);
        pouch.parcels.push_back(Parcel { number, event: Arc::new(event), at });
        pouch.told.send_replace(number);
        Ok(())
    }

    /// Wakes whenever there is a new parcel for a user, and has its number.
    #[must_use]
    pub fn listen(&self, user: &Arc<str>) -> watch::Receiver<u64> {
        self.lock().users.entry(user.clone()).or_insert_with(Pouch::new).told.subscribe()
    }

    /// The parcels of a user behind a number, oldest first.
    #[must_use]
    pub fn waiting(&self, user: &str, after: u64, now: Moment) -> Vec<Parcel> {
        let mut state = self.lock();
        state.expire(user, &self.limits, now);
        let parcels = state.users.get(user).into_iter().flat_map(|pouch| &pouch.parcels);
        parcels.filter(|parcel| parcel.number > after).cloned().collect()
    }

    /// Whether a parcel is still to be delivered.
    #[must_use]
    pub fn is_waiting(&self, user: &str, number: u64) -> bool {
        let state = self.lock();
        state.users.get(user).is_some_and(|pouch| pouch.parcels.iter().any(|parcel| parcel.number == number))
    }

    /// A user has a parcel. Saying so twice is no mistake.
    pub fn signed(&self, user: &str, number: u64) {
        if let Some(id) = self.lock().take_out(user, |parcel| parcel.number == number) {
            self.others.say(user, &Message::Signed(id));
        }
    }

    /// A user has what has this id: another node says so.
    pub(super) fn signed_elsewhere(&self, user: &str, id: EventId) {
        self.lock().take_out(user, |parcel| parcel.event.id == id);
    }

    /// Forgets what is too old, and users for whom nothing waits and who are not there. To be called now and then.
    pub fn sweep(&self, now: Moment) {
        let mut state = self.lock();
        let users: Vec<Arc<str>> = state.users.keys().cloned().collect();
        for user in users {
            state.expire(&user, &self.limits, now);
        }
        state.users.retain(|_, pouch| !pouch.parcels.is_empty() || pouch.told.receiver_count() > 0);
    }

    /// Users that are remembered, and the bytes that wait.
    #[must_use]
    pub fn stats(&self) -> (usize, usize) {
        let state = self.lock();
        (state.users.len(), state.bytes)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change is whole when its call ends, and none panics in between.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Which it was, if it was there.
    fn take_out(&mut self, user: &str, is_it: impl Fn(&Parcel) -> bool) -> Option<EventId> {
        let pouch = self.users.get_mut(user)?;
        let place = pouch.parcels.iter().position(is_it)?;
        let event = pouch.parcels.remove(place)?.event;
        if pouch.signed.len() >= SIGNED_MAX {
            pouch.signed.pop_front();
        }
        pouch.signed.push_back(event.id);
        self.bytes -= event.json.len();
        Some(event.id)
    }

    fn expire(&mut self, user: &str, limits: &CourierLimits, now: Moment) {
        let (Some(keep), Some(pouch)) = (limits.keep, self.users.get_mut(user)) else { return };
        while pouch.parcels.front().is_some_and(|oldest| now.since(oldest.at) > keep) {
            let bytes = pouch.parcels.pop_front().map_or(0, |parcel| parcel.event.json.len());
            self.bytes -= bytes;
        }
    }
}

impl Pouch {
    fn new() -> Self {
        Self { parcels: VecDeque::new(), told: watch::channel(0).0, signed: VecDeque::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Envelope;
    use crate::event::EventId;
    use crate::event::Happening;

    fn event(name: &'static str) -> Event {
        let envelope =
            Envelope { room: "user:alice", user: None, at_ms: 0, source: "api", revision: None, correlation_id: None };
        Event::encode(EventId::default(), envelope, Happening::new(name))
    }

    fn courier() -> Courier {
        Courier::new(CourierLimits { parcels_max: 2, bytes_max: 10_000, keep: Some(Duration::from_secs(60)) })
    }

    fn names(courier: &Courier, after: u64, at: u64) -> Vec<String> {
        courier.waiting("alice", after, Moment(at)).iter().map(|parcel| parcel.event.name.to_string()).collect()
    }

    #[test]
    fn a_parcel_waits_until_it_is_signed_for_or_too_old() {
        let (courier, alice) = (courier(), Arc::from("alice"));
        courier.hand_in(&alice, event("a"), Moment(0)).unwrap();
        courier.hand_in(&alice, event("b"), Moment(30_000)).unwrap();
        assert_eq!(courier.hand_in(&alice, event("c"), Moment(30_000)), Err(CourierFull));
        assert_eq!(courier.hand_in(&Arc::from("bob"), event("d"), Moment(30_000)), Ok(()));
        assert_eq!(
            (names(&courier, 0, 30_000), names(&courier, 1, 30_000)),
            (vec!["a".into(), "b".into()], vec!["b".into()])
        );
        courier.signed("alice", 2);
        courier.signed("alice", 2);
        courier.signed("nobody", 1);
        assert!(courier.is_waiting("alice", 1) && !courier.is_waiting("alice", 2));
        assert_eq!(names(&courier, 0, 60_001), Vec::<String>::new(), "a minute has passed");
        courier.sweep(Moment(90_001));
        assert_eq!(courier.stats(), (0, 0));
    }

    #[test]
    fn all_users_share_the_bytes() {
        let limits = CourierLimits { parcels_max: 1_000, bytes_max: event("a").json.len() * 2, keep: None };
        let courier = Courier::new(limits);
        for user in ["a", "b"] {
            courier.hand_in(&user.into(), event("a"), Moment(0)).unwrap();
        }
        assert_eq!(courier.hand_in(&"c".into(), event("a"), Moment(0)), Err(CourierFull));
        courier.signed("a", 1);
        assert_eq!(courier.hand_in(&"c".into(), event("a"), Moment(0)), Ok(()));
    }

    #[tokio::test]
    async fn connections_are_woken_and_remembered() {
        let (courier, alice) = (courier(), Arc::from("alice"));
        let mut told = courier.listen(&alice);
        courier.sweep(Moment(0));
        courier.hand_in(&alice, event("a"), Moment(0)).unwrap();
        told.changed().await.unwrap();
        assert_eq!(*told.borrow_and_update(), 1);
        drop(told);
        courier.signed("alice", 1);
        courier.sweep(Moment(0));
        assert_eq!(courier.stats(), (0, 0));
    }
}
