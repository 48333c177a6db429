//! How many connections there are, whose, and who waits in line for one.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use syncline_protocol::ErrorCode;
use syncline_protocol::Moment;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use super::lock;

/// The pace of the line is that of so many who were let in last.
const PACE_OF: usize = 16;

/// Counts connections, of all and of each user.
#[derive(Debug)]
pub struct ConnectionCounts {
    total_max: Option<NonZeroUsize>,
    per_user_max: Option<NonZeroUsize>,
    counts: Mutex<Counts>,
    /// Wakes those in line: a connection ended, or somebody left the line.
    moved: Notify,
}

#[derive(Debug, Default)]
struct Counts {
    total: usize,
    /// Only users with a connection have an entry: the map is bounded by `total`.
    users: HashMap<Arc<str>, usize>,
    /// Those who wait, first come, first served, with the users they are.
    line: BTreeMap<u64, Option<Arc<str>>>,
    /// The next number in line.
    next: u64,
    /// When the last ones of the line were let in.
    let_in: VecDeque<Moment>,
}

/// One counted connection; it counts until it is dropped.
#[derive(Debug)]
#[must_use = "the connection is counted until this is dropped"]
pub struct ConnectionGuard {
    counts: Arc<ConnectionCounts>,
    user: Option<Arc<str>>,
}

impl ConnectionCounts {
    /// Nobody yet. `None` is no limit.
    #[must_use]
    pub fn new(total_max: Option<NonZeroUsize>, per_user_max: Option<NonZeroUsize>) -> Arc<Self> {
        Arc::new(Self { total_max, per_user_max, counts: Mutex::default(), moved: Notify::new() })
    }

    /// Counts one more connection. Without a user only the total is counted. While somebody waits in line, nobody comes in
    /// past it.
    ///
    /// # Errors
    /// [`ErrorCode::Overloaded`] when the server is full, [`ErrorCode::RateLimited`] when this user's share is.
    pub fn try_enter(self: &Arc<Self>, user: Option<&str>) -> Result<ConnectionGuard, ErrorCode> {
        let mut counts = lock(&self.counts);
        if self.is_full(&counts) || !counts.line.is_empty() {
            return Err(ErrorCode::Overloaded);
        }
        let user = user.map(|user| self.count_user(&mut counts, user)).transpose()?;
        counts.total += 1;
        Ok(ConnectionGuard { counts: Arc::clone(self), user })
    }

    fn is_full(&self, counts: &Counts) -> bool {
        self.total_max.is_some_and(|max| counts.total >= max.get())
    }

    /// Gets in line, behind at most `waiting_max - 1` others.
    ///
    /// # Errors
    /// [`ErrorCode::Overloaded`] when the line is that long already, [`ErrorCode::RateLimited`] when this user's share is
    /// used up, those of the user who wait included.
    pub fn wait(self: &Arc<Self>, user: Option<&str>, waiting_max: usize) -> Result<Place, ErrorCode> {
        let mut counts = lock(&self.counts);
        if counts.line.len() >= waiting_max {
            return Err(ErrorCode::Overloaded);
        }
        if let (Some(user), Some(max)) = (user, self.per_user_max) {
            let waiting = counts.line.values().filter(|waiting| waiting.as_deref() == Some(user)).count();
            if waiting + counts.users.get(user).copied().unwrap_or(0) >= max.get() {
                return Err(ErrorCode::RateLimited);
            }
        }
        let number = counts.next;
        counts.next += 1;
        counts.line.insert(number, user.map(Arc::from));
        Ok(Place { counts: Arc::clone(self), number })
    }

    /// How many wait in line.
    #[must_use]
    pub fn waiting(&self) -> usize {
        lock(&self.counts).line.len()
    }

    fn count_user(&self, counts: &mut Counts, user: &str) -> Result<Arc<str>, ErrorCode> {
        let user = counts.users.get_key_value(user).map_or_else(|| Arc::from(user), |(user, _)| Arc::clone(user));
        let count = counts.users.entry(Arc::clone(&user)).or_default();
        if self.per_user_max.is_some_and(|max| *count >= max.get()) {
            return Err(ErrorCode::RateLimited);
        }
        *count += 1;
        Ok(user)
    }

    /// How many there are.
    #[must_use]
    pub fn total(&self) -> usize {
        lock(&self.counts).total
    }

    /// How many this user has.
    #[must_use]
    pub fn of_user(&self, user: &str) -> usize {
        lock(&self.counts).users.get(user).copied().unwrap_or(0)
    }
}

impl ConnectionGuard {
    /// Counts the connection for a user too, who became known after it was opened.
    ///
    /// # Errors
    /// [`ErrorCode::RateLimited`] when the user's share is used up; the guard is as before.
    pub fn identify(&mut self, user: &str) -> Result<(), ErrorCode> {
        if self.user.as_deref() == Some(user) {
            return Ok(());
        }
        let mut counts = lock(&self.counts.counts);
        let user = self.counts.count_user(&mut counts, user)?;
        if let Some(former) = self.user.replace(user) {
            leave(&mut counts, &former);
        }
        Ok(())
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        let mut counts = lock(&self.counts.counts);
        counts.total = counts.total.saturating_sub(1);
        if let Some(user) = &self.user {
            leave(&mut counts, user);
        }
        let somebody_waits = !counts.line.is_empty();
        drop(counts);
        if somebody_waits {
            self.counts.moved.notify_waiters();
        }
    }
}

/// A place in line; given up when it is dropped.
#[derive(Debug)]
#[must_use = "the place is given up when this is dropped"]
pub struct Place {
    counts: Arc<ConnectionCounts>,
    number: u64,
}

impl Place {
    /// How many stand before this one, itself included: 1 is next.
    #[must_use]
    pub fn position(&self) -> usize {
        lock(&self.counts.counts).line.range(..=self.number).count()
    }

    /// About how long it will take, by how fast the last ones were let in. A guess, and nothing where nobody was yet.
    #[must_use]
    pub fn estimated_wait(&self, now: Moment) -> Option<Duration> {
        let counts = lock(&self.counts.counts);
        let first = *counts.let_in.front()?;
        let each = now.since(first) / u32::try_from(counts.let_in.len()).unwrap_or(u32::MAX);
        let before = counts.line.range(..=self.number).count();
        Some(each.saturating_mul(u32::try_from(before).unwrap_or(u32::MAX)))
    }

    /// Waits until this may be the one to come in, or until the line moved otherwise. To be called before
    /// [`Self::try_enter`], and polled after it.
    pub fn moved(&self) -> Notified<'_> {
        self.counts.moved.notified()
    }

    /// Comes in, if it is next and there is room. `None`: not yet.
    ///
    /// # Errors
    /// [`ErrorCode::RateLimited`] when this user's share is used up.
    pub fn try_enter(&self, user: Option<&str>, now: Moment) -> Result<Option<ConnectionGuard>, ErrorCode> {
        let all = &self.counts;
        let mut counts = lock(&all.counts);
        if all.is_full(&counts) || counts.line.first_key_value().map(|(number, _)| *number) != Some(self.number) {
            return Ok(None);
        }
        let user = user.map(|user| all.count_user(&mut counts, user)).transpose()?;
        counts.total += 1;
        counts.line.remove(&self.number);
        if counts.let_in.len() == PACE_OF {
            counts.let_in.pop_front();
        }
        counts.let_in.push_back(now);
        drop(counts);
        all.moved.notify_waiters();
        Ok(Some(ConnectionGuard { counts: Arc::clone(all), user }))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let left = lock(&self.counts.counts).line.remove(&self.number);
        if left.is_some() {
            self.counts.moved.notify_waiters();
        }
    }
}

fn leave(counts: &mut Counts, user: &str) {
    match counts.users.get_mut(user) {
        Some(count) if *count > 1 => *count -= 1,
        _ => drop(counts.users.remove(user)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_counted_until_they_end() {
        let counts = ConnectionCounts::new(NonZeroUsize::new(3), NonZeroUsize::new(2));
        let one = counts.try_enter(Some("alice")).unwrap();
        let two = counts.try_enter(Some("alice")).unwrap();
        assert_eq!(counts.try_enter(Some("alice")).unwrap_err(), ErrorCode::RateLimited);
        let mut three = counts.try_enter(None).unwrap();
        assert_eq!(counts.try_enter(Some("bob")).unwrap_err(), ErrorCode::Overloaded);
        assert_eq!(three.identify("alice").unwrap_err(), ErrorCode::RateLimited);
        drop(one);
        three.identify("alice").unwrap();
        three.identify("alice").unwrap();
        assert_eq!((counts.total(), counts.of_user("alice")), (2, 2));
        three.identify("bob").unwrap();
        assert_eq!((counts.of_user("alice"), counts.of_user("bob")), (1, 1));
        drop((two, three));
        assert_eq!((counts.total(), counts.of_user("alice"), counts.of_user("bob")), (0, 0, 0));
        assert!(lock(&counts.counts).users.is_empty());
    }

    #[test]
    fn a_refused_user_leaves_no_entry() {
        let counts = ConnectionCounts::new(NonZeroUsize::new(1), None);
        let _one = counts.try_enter(None).unwrap();
        assert!(counts.try_enter(Some("alice")).is_err());
        assert!(lock(&counts.counts).users.is_empty());
    }

    #[test]
    fn who_waits_comes_in_in_order_and_nobody_past_them() {
        let counts = ConnectionCounts::new(NonZeroUsize::new(1), None);
        let inside = counts.try_enter(None).unwrap();
        let [first, second, third] = [(); 3].map(|()| counts.wait(None, 3).unwrap());
        assert_eq!(counts.wait(None, 3).unwrap_err(), ErrorCode::Overloaded, "the line has an end");
        assert_eq!([&first, &second, &third].map(Place::position), [1, 2, 3]);
        assert!(first.try_enter(None, Moment(5)).unwrap().is_none(), "there is no room");
        drop(inside);
        assert_eq!(counts.try_enter(None).unwrap_err(), ErrorCode::Overloaded, "somebody waits");
        assert!(second.try_enter(None, Moment(5)).unwrap().is_none(), "another one is next");
        drop(second);
        assert_eq!(third.position(), 2);
        let inside = first.try_enter(Some("alice"), Moment(1_000)).unwrap().unwrap();
        assert_eq!((third.position(), counts.total(), counts.of_user("alice"), counts.waiting()), (1, 1, 1, 1));
        assert_eq!(third.estimated_wait(Moment(3_000)), Some(Duration::from_secs(2)));
        drop((inside, third));
        assert!(counts.try_enter(None).is_ok());
    }

    #[tokio::test]
    async fn the_line_moves_when_a_connection_ends_or_somebody_gives_up() {
        let counts = ConnectionCounts::new(NonZeroUsize::new(1), NonZeroUsize::new(1));
        let inside = counts.try_enter(Some("alice")).unwrap();
        let (first, second) = (counts.wait(Some("carol"), 9).unwrap(), counts.wait(Some("bob"), 9).unwrap());
        for user in ["alice", "bob"] {
            assert_eq!(counts.wait(Some(user), 9).unwrap_err(), ErrorCode::RateLimited, "{user} has one already");
        }
        {
            let mut moved = std::pin::pin!(first.moved());
            moved.as_mut().enable();
            drop(inside);
            moved.await;
        }
        let moved = second.moved();
        let mut moved = std::pin::pin!(moved);
        moved.as_mut().enable();
        drop(first);
        moved.await;
        assert!(second.try_enter(Some("bob"), Moment(1)).unwrap().is_some());
    }
}
