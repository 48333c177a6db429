//! Time, read at the edge and handed in everywhere else.

use std::time::Instant;
use std::time::SystemTime;
use std::time::UNIX_EPOCH;

use jiff::Timestamp;
use syncline_protocol::Moment;

/// One reading of both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Now {
    /// Monotonic: for timeouts and order within this process.
    pub moment: Moment,
    /// Wall clock in milliseconds since 1970, UTC: for what people read.
    pub wall_ms: u64,
}

/// The process's clock. Cheap to clone; every clone counts from the same start.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    /// A clock whose [`Moment`] zero is now.
    #[must_use]
    pub fn start() -> Self {
        Self { start: Instant::now() }
    }

    /// Reads both clocks.
    #[must_use]
    pub fn now(&self) -> Now {
        let moment = Moment(u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX));
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now { moment, wall_ms: u64::try_from(wall.as_millis()).unwrap_or(u64::MAX) }
    }

    /// The instant of a moment, for timers of the runtime.
    #[must_use]
    pub fn instant(&self, moment: Moment) -> Instant {
        self.start + std::time::Duration::from_millis(moment.0)
    }
}

/// A time as people and programs read it: RFC 3339, UTC, milliseconds, like `2026-03-01T12:00:00.000Z`. One past the year
/// 9999 is said as the last one that can be.
#[must_use]
pub fn rfc3339(wall_ms: u64) -> String {
    let time = i64::try_from(wall_ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
    format!("{:.3}", time.unwrap_or(Timestamp::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_milliseconds_and_zulu() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(rfc3339(1_700_000_000_120), "2023-11-14T22:13:20.120Z");
        assert!(rfc3339(u64::MAX).starts_with("9999-12-30T"));
    }
}
