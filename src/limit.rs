//! How often, and how many: token buckets, a bounded table of them, and counts of connections. Time comes in.

pub mod connections;

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::hash::Hash;
use std::hash::RandomState;
use std::net::IpAddr;
use std::net::Ipv6Addr;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use syncline_protocol::Moment;

pub use connections::ConnectionCounts;
pub use connections::ConnectionGuard;

/// One token. A rate of one per minute adds one of these per millisecond, so that integers are exact for all rates.
const TOKEN: i64 = 60_000;

/// Lets `burst` things through at once and `rate` of them in the long run.
#[derive(Debug, Clone)]
pub struct TokenBucket {
    /// Tokens per minute: what one millisecond adds.
    rate: i64,
    full: i64,
    /// Negative: a debt.
    level: i64,
    filled: Moment,
}

impl TokenBucket {
    /// A full bucket by the second. Both numbers are at least 1.
    #[must_use]
    pub fn new(rate_per_second: u32, burst: u32) -> Self {
        Self::of(i64::from(rate_per_second.max(1)) * 60, burst)
    }

    /// A full bucket by the minute, with a minute's worth at once.
    #[must_use]
    pub fn per_minute(rate: u32) -> Self {
        Self::of(i64::from(rate.max(1)), rate)
    }

    fn of(rate: i64, burst: u32) -> Self {
        let full = i64::from(burst.max(1)) * TOKEN;
        Self { rate, full, level: full, filled: Moment::default() }
    }

    /// Takes `n` tokens or none.
    ///
    /// # Errors
    /// When to try again. More than the burst never fits; then it is the time to fill up.
    pub fn take(&mut self, now: Moment, n: u32) -> Result<(), Duration> {
        self.fill(now);
        let cost = i64::from(n) * TOKEN;
        if cost <= self.level {
            self.level -= cost;
            return Ok(());
        }
        Err(self.time_for(cost.min(self.full) - self.level))
    }

    /// Takes `n` tokens, on credit when there are not enough: how long to pause before more is taken.
    pub fn debit(&mut self, now: Moment, n: u32) -> Duration {
        self.fill(now);
        self.level = self.level.saturating_sub(i64::from(n) * TOKEN);
        self.time_for(-self.level)
    }

    /// Says what [`Self::take`] would, and takes nothing.
    ///
    /// # Errors
    /// When to try again.
    pub fn check(&mut self, now: Moment, n: u32) -> Result<(), Duration> {
        let before = self.level_at(now);
        self.take(now, n).inspect(|()| self.level = before)
    }

    fn fill(&mut self, now: Moment) {
        self.level = self.level_at(now);
        // A moment that lies behind fills nothing, and must not be counted a second time.
        self.filled = self.filled.max(now);
    }

    fn level_at(&self, now: Moment) -> i64 {
        let passed = i64::try_from(now.since(self.filled).as_millis()).unwrap_or(i64::MAX);
        self.level.saturating_add(passed.saturating_mul(self.rate)).min(self.full)
    }

    fn time_for(&self, lacking: i64) -> Duration {
        let lacking = u64::try_from(lacking).unwrap_or(0);
        Duration::from_millis(lacking.div_ceil(self.rate.unsigned_abs()))
    }
}

/// One bucket per key, in bounded memory: the keys are kept as hashes in two generations. When the younger one is full,
/// the older one is forgotten. Somebody with that many addresses can make the table forget, and gains little by it.
#[derive(Debug)]
pub struct KeyedLimiter {
    fresh: TokenBucket,
    hasher: RandomState,
    generations: Mutex<Generations>,
    keys_max: usize,
}

#[derive(Debug, Default)]
struct Generations {
    young: HashMap<u64, TokenBucket>,
    old: HashMap<u64, TokenBucket>,
}

impl KeyedLimiter {
    /// A table in which each key starts with a copy of `fresh`, for about `keys_max` keys (at least 2).
    #[must_use]
    pub fn new(fresh: TokenBucket, keys_max: usize) -> Self {
        Self { fresh, hasher: RandomState::new(), generations: Mutex::default(), keys_max: keys_max.max(2) }
    }

    /// Takes one token of the key.
    ///
    /// # Errors
    /// When to try again.
    pub fn take(&self, key: &(impl Hash + ?Sized), now: Moment) -> Result<(), Duration> {
        let mut generations = lock(&self.generations);
        self.bucket(&mut generations, self.hasher.hash_one(key)).take(now, 1)
    }

    /// Says what [`Self::take`] would; takes nothing and remembers nothing.
    ///
    /// # Errors
    /// When to try again.
    pub fn check(&self, key: &(impl Hash + ?Sized), now: Moment) -> Result<(), Duration> {
        let hash = self.hasher.hash_one(key);
        let mut generations = lock(&self.generations);
        let Generations { young, old } = &mut *generations;
        young.get_mut(&hash).or_else(|| old.get_mut(&hash)).map_or(Ok(()), |bucket| bucket.check(now, 1))
    }

    fn bucket<'a>(&self, generations: &'a mut Generations, hash: u64) -> &'a mut TokenBucket {
        if generations.young.len() >= self.keys_max / 2 && !generations.young.contains_key(&hash) {
            generations.old = std::mem::take(&mut generations.young);
        }
        let Generations { young, old } = generations;
        young.entry(hash).or_insert_with(|| old.remove(&hash).unwrap_or_else(|| self.fresh.clone()))
    }

    /// How many keys are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        let generations = lock(&self.generations);
        generations.young.len() + generations.old.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What an address counts as: one household or machine often has 2^64 addresses of IPv6, and a dual-stack socket shows
/// those of IPv4 in another form.
#[must_use]
pub fn address_key(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
    }
}

/// Counters stay usable when a holder of the lock panicked: every step leaves them whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn a_burst_then_the_rate() {
        let mut bucket = TokenBucket::new(10, 3);
        assert_eq!(bucket.take(Moment(0), 3), Ok(()));
        assert_eq!(bucket.take(Moment(0), 1), Err(ms(100)));
        assert_eq!(bucket.take(Moment(99), 1), Err(ms(1)));
        assert_eq!(bucket.take(Moment(100), 1), Ok(()));
        assert_eq!(bucket.take(Moment(100_000), 3), Ok(()));
        assert_eq!(bucket.take(Moment(100_000), 1), Err(ms(100)));
    }

    #[test]
    fn ten_per_minute_are_one_every_six_seconds() {
        let mut bucket = TokenBucket::per_minute(10);
        assert_eq!(bucket.take(Moment(5), 10), Ok(()));
        assert_eq!(bucket.take(Moment(5), 1), Err(ms(6000)));
        assert_eq!(bucket.take(Moment(6005), 1), Ok(()));
    }

    #[test]
    fn a_debt_is_paid_by_waiting() {
        let mut bucket = TokenBucket::new(1000, 10);
        assert_eq!(bucket.debit(Moment(0), 10), ms(0));
        assert_eq!(bucket.debit(Moment(0), 500), ms(500));
        assert_eq!(bucket.debit(Moment(200), 0), ms(300));
        assert_eq!(bucket.debit(Moment(500), 0), ms(0));
    }

    #[test]
    fn looking_takes_nothing() {
        let mut bucket = TokenBucket::new(1, 1);
        assert_eq!(bucket.check(Moment(0), 1), Ok(()));
        assert_eq!(bucket.take(Moment(0), 1), Ok(()));
        assert_eq!(bucket.check(Moment(400), 1), Err(ms(600)));
        assert_eq!(bucket.take(Moment(1000), 1), Ok(()));
    }

    #[test]
    fn a_clock_at_its_ends_does_no_harm() {
        let mut bucket = TokenBucket::new(u32::MAX, u32::MAX);
        assert_eq!(bucket.take(Moment(u64::MAX), u32::MAX), Ok(()));
        assert!(bucket.take(Moment(0), 1).is_err(), "time does not run backwards");
        for _ in 0..10 {
            let _ = bucket.debit(Moment(u64::MAX), u32::MAX);
        }
    }

    proptest! {
        #[test]
        fn no_more_than_burst_and_rate_ever_pass(
            rate in 1u32..100, burst in 1u32..50, steps in prop::collection::vec((0u64..200, 1u32..5), 1..200),
        ) {
            let mut bucket = TokenBucket::new(rate, burst);
            let (mut now, mut passed) = (0u64, 0u64);
            for (wait, n) in steps {
                now += wait;
                if bucket.take(Moment(now), n).is_ok() {
                    passed += u64::from(n);
                }
                prop_assert!(passed * 1000 <= u64::from(burst) * 1000 + u64::from(rate) * now);
            }
        }
    }

    #[test]
    fn keys_are_limited_each_for_itself() {
        let limiter = KeyedLimiter::new(TokenBucket::per_minute(2), 100);
        for _ in 0..2 {
            assert_eq!(limiter.take("a", Moment(0)), Ok(()));
        }
        assert_eq!(limiter.check("a", Moment(0)), Err(ms(30_000)));
        assert_eq!(limiter.take("b", Moment(0)), Ok(()));
        assert_eq!(limiter.check("never seen", Moment(0)), Ok(()));
        assert_eq!(limiter.len(), 2);
    }

    #[test]
    fn a_flood_of_keys_stays_bounded_and_keeps_who_is_active() {
        let limiter = KeyedLimiter::new(TokenBucket::per_minute(1), 100);
        assert_eq!(limiter.take("noisy", Moment(0)), Ok(()));
        for n in 0..10_000 {
            let _ = limiter.take(&n, Moment(0));
            if n % 20 == 0 {
                assert!(limiter.take("noisy", Moment(0)).is_err(), "forgotten after {n}");
            }
            assert!(limiter.len() <= 100);
        }
    }

    #[test]
    fn addresses_of_one_network_count_as_one() {
        for (address, key) in [
            ("10.0.0.1", "10.0.0.1"),
            ("::ffff:10.0.0.1", "10.0.0.1"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
            ("2001:db8:1:2:ffff::", "2001:db8:1:2::"),
        ] {
            assert_eq!(address_key(address.parse().unwrap()).to_string(), key);
        }
    }
}
