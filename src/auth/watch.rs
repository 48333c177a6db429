//! Who is connected right now, as far as their rights go: a revocation rings exactly the channels that it concerns.
//!
//! ```text
//!  authenticate ─▶ authorize ─▶ enter ─▶ attach       revoke: remember it ─▶ count it ─▶ ring who is there
//!   (count seen)                  └── counted since? ring at once
//! ```
//!
//! So somebody who is let in while a revocation runs is either found by it or looked at again. Every channel is a few words
//! in a table; a revocation, which is rare, reads through them all, and no lock is held while it rings.

use std::hash::BuildHasher;
use std::hash::RandomState;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::Weak;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use syncline_protocol::ErrorCode;
use syncline_protocol::channel::ChannelId;

use crate::auth::Identity;

/// Tables side by side, so that connects on many cores rarely meet. Reading through one of them takes well below 1 ms.
const SHARDS: usize = 16;

/// Whoever holds channels and can be told about them. Neither method blocks or waits; both may come often, from any
/// thread, and for a channel that has just ended.
pub trait Alarm: Send + Sync {
    /// The channel's rights are to be looked up again.
    fn recheck(&self, channel: ChannelId);
    /// The channel is to end.
    fn end(&self, channel: ChannelId, code: ErrorCode);
}

/// Which channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Whose<'a> {
    User(&'a str),
    Token(&'a str),
    Room(&'a str),
}

/// What they are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ring {
    Recheck,
    End(ErrorCode),
}

/// The live channels of one process.
#[derive(Debug, Default)]
pub struct Watch {
    shards: [Mutex<Shard>; SHARDS],
    /// Names are kept as hashes under keys of this process: nobody can aim at a collision, and by accident one of a
    /// million channels is looked at in vain once in some million million revocations.
    hasher: RandomState,
    next_shard: AtomicUsize,
    revocations: AtomicU64,
}

#[derive(Debug, Default)]
struct Shard {
    slots: Vec<Option<Live>>,
    free: Vec<u32>,
}

struct Live {
    user: u64,
    /// 0 for a token without an id.
    token: u64,
    room: u64,
    /// `u64::MAX` for never.
    expires_at_ms: u64,
    channel: ChannelId,
    alarm: Weak<dyn Alarm>,
}

impl std::fmt::Debug for Live {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Live({:?})", self.channel)
    }
}

/// One channel in the table; dropping it takes the channel out.
#[derive(Debug)]
#[must_use = "the channel is watched until this is dropped"]
pub struct Watched {
    watch: Arc<Watch>,
    shard: u32,
    slot: u32,
}

impl Watch {
    /// Adds a channel that was let in. When anything was revoked since its identity was checked, its rights are looked up
    /// again at once. About 60 bytes each.
    pub fn enter(
        self: &Arc<Self>,
        identity: &Identity,
        room: &str,
        alarm: Weak<dyn Alarm>,
        channel: ChannelId,
    ) -> Watched {
        let shard = self.next_shard.fetch_add(1, Ordering::Relaxed) % SHARDS;
        let live = Live {
            user: self.hash(identity.sub.as_ref()),
            token: self.token_of(identity),
            room: self.hash(room),
            expires_at_ms: identity.expires_at_ms.unwrap_or(u64::MAX),
            channel,
            alarm: alarm.clone(),
        };
        let slot = lock(&self.shards[shard]).add(live);
        let shard = u32::try_from(shard).expect("there are few shards");
        let watched = Watched { watch: self.clone(), shard, slot };
        self.ring_if_late(identity, &alarm, channel);
        watched
    }

    /// How many revocations there have been.
    pub(super) fn revocations(&self) -> u64 {
        self.revocations.load(Ordering::SeqCst)
    }

    /// When the last of these channels' tokens runs out; `None` when there are none, or they never do.
    pub(super) fn last_expiry_ms(&self, whose: Whose<'_>) -> Option<u64> {
        let matches = self.matcher(whose);
        let last =
            |shard: &Mutex<Shard>| lock(shard).live().filter(|live| matches(live)).map(|live| live.expires_at_ms).max();
        self.shards.iter().filter_map(last).max().filter(|at| *at != u64::MAX)
    }

    /// Rings all of these channels. What they will find when they look must be in place before. Answers how many there are.
    pub(super) fn ring(&self, whose: Whose<'_>, ring: Ring) -> usize {
        self.revocations.fetch_add(1, Ordering::SeqCst);
        let matches = self.matcher(whose);
        let mut reached = 0;
        for shard in &self.shards {
            let found: Vec<_> = lock(shard).live().filter(|live| matches(live)).filter_map(Live::bell).collect();
            reached += found.len();
            for (alarm, channel) in found {
                match ring {
                    Ring::Recheck => alarm.recheck(channel),
                    Ring::End(code) => alarm.end(channel, code),
                }
            }
        }
        reached
    }

    fn ring_if_late(&self, identity: &Identity, alarm: &Weak<dyn Alarm>, channel: ChannelId) {
        if self.revocations() != identity.as_of
            && let Some(alarm) = alarm.upgrade()
        {
            alarm.recheck(channel);
        }
    }

    fn matcher(&self, whose: Whose<'_>) -> impl Fn(&Live) -> bool {
        let (Whose::User(name) | Whose::Token(name) | Whose::Room(name)) = whose;
        let hash = self.hash(name);
        move |live| match whose {
            Whose::User(_) => live.user == hash,
            Whose::Token(_) => live.token == hash,
            Whose::Room(_) => live.room == hash,
        }
    }

    fn token_of(&self, identity: &Identity) -> u64 {
        identity.jti.as_deref().map_or(0, |jti| self.hash(jti))
    }

    fn hash(&self, name: &str) -> u64 {
        self.hasher.hash_one(name).max(1)
    }
}

impl Watched {
    /// Says that the channel has another token now.
    pub fn renew(&self, identity: &Identity) {
        let watch = &self.watch;
        let renewed = lock(&watch.shards[self.shard as usize]).slots[self.slot as usize].as_mut().map(|live| {
            live.user = watch.hash(identity.sub.as_ref());
            live.token = watch.token_of(identity);
            live.expires_at_ms = identity.expires_at_ms.unwrap_or(u64::MAX);
            (live.alarm.clone(), live.channel)
        });
        if let Some((alarm, channel)) = renewed {
            watch.ring_if_late(identity, &alarm, channel);
        }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        let gone = lock(&self.watch.shards[self.shard as usize]).remove(self.slot);
        // Only now, as it may be the last that holds the alarm's memory.
        drop(gone);
    }
}

impl Shard {
    fn add(&mut self, live: Live) -> u32 {
        if let Some(slot) = self.free.pop() {
            self.slots[slot as usize] = Some(live);
            return slot;
        }
        self.slots.push(Some(live));
        u32::try_from(self.slots.len() - 1).expect("memory ends before four billion channels")
    }

    fn remove(&mut self, slot: u32) -> Option<Live> {
        self.free.push(slot);
        self.slots[slot as usize].take()
    }

    fn live(&self) -> impl Iterator<Item = &Live> {
        self.slots.iter().flatten()
    }
}

impl Live {
    fn bell(&self) -> Option<(Arc<dyn Alarm>, ChannelId)> {
        Some((self.alarm.upgrade()?, self.channel))
    }
}

fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    // Each change is one line, so the table is whole even after a panic.
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes down what it hears.
    #[derive(Default)]
    struct Bell(Mutex<Vec<(u32, Option<ErrorCode>)>>);

    impl Bell {
        fn heard(&self) -> Vec<(u32, Option<ErrorCode>)> {
            let mut heard = std::mem::take(&mut *self.0.lock().unwrap());
            heard.sort_by_key(|(channel, _)| *channel);
            heard
        }
    }

    impl Alarm for Bell {
        fn recheck(&self, channel: ChannelId) {
            self.0.lock().unwrap().push((channel.0, None));
        }

        fn end(&self, channel: ChannelId, code: ErrorCode) {
            self.0.lock().unwrap().push((channel.0, Some(code)));
        }
    }

    fn identity(sub: &str, jti: Option<&str>, as_of: u64) -> Identity {
        Identity {
            sub: sub.into(),
            name: None,
            email: None,
            jti: jti.map(Into::into),
            issued_at_ms: None,
            expires_at_ms: Some(1_000),
            access: None,
            as_of,
        }
    }

    struct Stage {
        watch: Arc<Watch>,
        bell: Arc<Bell>,
    }

    impl Stage {
        fn new() -> Self {
            Self { watch: Arc::default(), bell: Arc::default() }
        }

        fn enter(&self, who: &Identity, room: &str, channel: u32) -> Watched {
            let alarm: Weak<dyn Alarm> = Arc::<Bell>::downgrade(&self.bell);
            self.watch.enter(who, room, alarm, ChannelId(channel))
        }
    }

    #[test]
    fn exactly_those_who_are_concerned_are_rung() {
        let stage = Stage::new();
        let (alice, bob) = (identity("alice", Some("a1"), 0), identity("bob", None, 0));
        let _here = [
            stage.enter(&alice, "one", 1),
            stage.enter(&alice, "two", 2),
            stage.enter(&bob, "one", 3),
            stage.enter(&identity("alice", Some("a2"), 0), "one", 4),
            stage.enter(&identity("a1", Some("alice"), 0), "bob", 5),
        ];
        let end = Ring::End(ErrorCode::Forbidden);
        for (whose, channels) in [
            (Whose::User("alice"), vec![1, 2, 4]),
            (Whose::Token("a1"), vec![1, 2]),
            (Whose::Room("one"), vec![1, 3, 4]),
            (Whose::User("nobody"), vec![]),
            (Whose::Token(""), vec![]),
        ] {
            assert_eq!(stage.watch.ring(whose, end), channels.len(), "{whose:?}");
            let want: Vec<_> = channels.into_iter().map(|channel| (channel, Some(ErrorCode::Forbidden))).collect();
            assert_eq!(stage.bell.heard(), want, "{whose:?}");
        }
    }

    #[test]
    fn who_has_left_or_has_another_token_is_not_rung() {
        let stage = Stage::new();
        let (first, second) = (
            stage.enter(&identity("alice", Some("a"), 0), "r", 1),
            stage.enter(&identity("alice", Some("a"), 0), "r", 2),
        );
        drop(first);
        second.renew(&identity("alice", Some("b"), 0));
        assert_eq!(stage.watch.ring(Whose::Token("a"), Ring::Recheck), 0);
        assert_eq!(stage.watch.ring(Whose::Token("b"), Ring::Recheck), 1);
        assert_eq!(stage.bell.heard(), [(2, None)]);
        drop(second);
        assert_eq!(stage.watch.ring(Whose::User("alice"), Ring::Recheck), 0);
    }

    #[test]
    fn who_comes_in_while_something_is_revoked_is_looked_at_again() {
        let stage = Stage::new();
        let alice = identity("alice", None, stage.watch.revocations());
        stage.watch.ring(Whose::User("alice"), Ring::Recheck);
        let late = stage.enter(&alice, "r", 7);
        assert_eq!(stage.bell.heard(), [(7, None)]);
        late.renew(&identity("alice", None, stage.watch.revocations()));
        assert_eq!(stage.bell.heard(), []);
        late.renew(&alice);
        assert_eq!(stage.bell.heard(), [(7, None)], "a renewal may be late too");
    }

    #[test]
    fn a_connection_that_is_gone_is_no_trouble() {
        let stage = Stage::new();
        let alice = identity("alice", None, 0);
        let watched = {
            let gone = Arc::new(Bell::default());
            let alarm: Weak<dyn Alarm> = Arc::<Bell>::downgrade(&gone);
            stage.watch.enter(&alice, "r", alarm, ChannelId(0))
        };
        assert_eq!(stage.watch.ring(Whose::User("alice"), Ring::Recheck), 0);
        watched.renew(&alice);
    }

    /// An alarm may do what it likes with the table: no lock is held while it rings.
    #[test]
    fn an_alarm_may_leave_and_enter() {
        struct Leaves(Mutex<Option<Watched>>);
        impl Alarm for Leaves {
            fn recheck(&self, _: ChannelId) {
                drop(self.0.lock().unwrap().take());
            }
            fn end(&self, _: ChannelId, _: ErrorCode) {}
        }
        let watch = Arc::<Watch>::default();
        let alarm = Arc::new(Leaves(Mutex::default()));
        let bell: Weak<dyn Alarm> = Arc::<Leaves>::downgrade(&alarm);
        *alarm.0.lock().unwrap() = Some(watch.enter(&identity("alice", None, 0), "r", bell, ChannelId(0)));
        assert_eq!(watch.ring(Whose::Room("r"), Ring::Recheck), 1);
        assert_eq!(watch.ring(Whose::Room("r"), Ring::Recheck), 0);
    }

    #[test]
    fn places_are_used_again_and_small() {
        let stage = Stage::new();
        let alice = identity("alice", None, 0);
        for round in 0..3 {
            let here: Vec<_> = (0..100).map(|channel| stage.enter(&alice, "r", channel)).collect();
            assert_eq!(stage.watch.ring(Whose::Room("r"), Ring::Recheck), 100, "{round}");
            drop(here);
        }
        let slots: usize = stage.watch.shards.iter().map(|shard| lock(shard).slots.len()).sum();
        assert!(slots <= 112, "{slots}");
        assert!(size_of::<Option<Live>>() <= 64 && size_of::<Watched>() <= 16);
    }

    #[test]
    fn the_last_expiry_is_known_while_somebody_is_there() {
        let stage = Stage::new();
        let later = Identity { expires_at_ms: Some(9_000), ..identity("alice", Some("t"), 0) };
        let _here = [stage.enter(&identity("alice", Some("t"), 0), "r", 0), stage.enter(&later, "r", 1)];
        assert_eq!(stage.watch.last_expiry_ms(Whose::Token("t")), Some(9_000));
        assert_eq!(stage.watch.last_expiry_ms(Whose::Token("u")), None);
        let never = Identity { expires_at_ms: None, ..identity("bob", None, 0) };
        let _bob = stage.enter(&never, "r", 2);
        assert_eq!(stage.watch.last_expiry_ms(Whose::User("bob")), None);
    }
}
