//! How often one user may do what costs others: messages, typing, presence.

use std::time::Duration;

use syncline_protocol::ErrorCode;
use syncline_protocol::Moment;

use crate::http::problem::Problem;
use crate::limit::KeyedLimiter;
use crate::limit::TokenBucket;

/// Users remembered for each class.
const USERS_MAX: usize = 100_000;

/// A class of commands with a limit of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// Messages that are sent or edited.
    Messages,
    /// Signs of typing.
    Typing,
    /// Changes of one's status.
    Presence,
}

/// The limits of users, over all their connections.
#[derive(Debug)]
pub struct Rates {
    classes: [Option<KeyedLimiter>; 3],
}

impl Rates {
    /// So many a minute, of messages, typing and presence; `None` without a limit.
    #[must_use]
    pub fn per_minute(messages: Option<u32>, typing: Option<u32>, presence: Option<u32>) -> Self {
        let limiter = |rate: Option<u32>| rate.map(|rate| KeyedLimiter::new(TokenBucket::per_minute(rate), USERS_MAX));
        Self { classes: [messages, typing, presence].map(limiter) }
    }

    /// Counts one command. Without a user, nothing is counted.
    ///
    /// # Errors
    /// `RATE_LIMITED`, with `retryAfterMs`.
    pub(super) fn take(&self, class: Class, user: Option<&str>, now: Moment) -> Result<(), Problem> {
        let (Some(limiter), Some(user)) = (&self.classes[class as usize], user) else { return Ok(()) };
        limiter.take(user, now).map_err(too_often)
    }
}

/// The refusal of what comes too often.
pub(super) fn too_often(wait: Duration) -> Problem {
    let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).max(1);
    Problem::new(ErrorCode::RateLimited, "this comes too often; try again later").with("retryAfterMs", wait_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_class_and_each_user_has_a_limit_of_its_own() {
        let rates = Rates::per_minute(Some(2), Some(1), None);
        let take = |class, user, at| rates.take(class, Some(user), Moment(at)).map_err(|problem| problem.code());
        assert_eq!(take(Class::Messages, "a", 0), Ok(()));
        assert_eq!(take(Class::Messages, "a", 0), Ok(()));
        assert_eq!(take(Class::Messages, "a", 0), Err(ErrorCode::RateLimited));
        assert_eq!(take(Class::Messages, "b", 0), Ok(()));
        assert_eq!(take(Class::Typing, "a", 0), Ok(()));
        assert_eq!(take(Class::Typing, "a", 59_999), Err(ErrorCode::RateLimited));
        assert_eq!(take(Class::Typing, "a", 60_000), Ok(()));
        for _ in 0..1000 {
            assert_eq!(take(Class::Presence, "a", 0), Ok(()));
            assert_eq!(rates.take(Class::Messages, None, Moment(0)).map_err(|problem| problem.code()), Ok(()));
        }
    }
}
