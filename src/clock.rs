//! Time, read at the edge and handed in everywhere else.

use std::time::Instant;
use std::time::SystemTime;
use std::time::UNIX_EPOCH;

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
