//! What is due when, at a rate.

const NANOSECONDS: f64 = 1e9;

/// A steady rate: the n-th thing is due n / rate seconds after the first look.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    start_ns: Option<u64>,
    per_second: f64,
    done: u64,
}

impl Pace {
    /// `per_second` things, evenly spread.
    pub(crate) fn new(per_second: f64) -> Self {
        Self { start_ns: None, per_second, done: 0 }
    }

    /// How many are due now and were not taken before. They count as taken.
    pub(crate) fn take_due(&mut self, now_ns: u64) -> u64 {
        let elapsed_ns = now_ns - *self.start_ns.get_or_insert(now_ns);
        let due = (elapsed_ns as f64 * self.per_second / NANOSECONDS) as u64;
        let new = due.saturating_sub(self.done);
        self.done += new;
        new
    }

    /// When the next one is due; at once before the first look.
    pub(crate) fn next_ns(&self) -> u64 {
        let after_ns = ((self.done + 1) as f64 * NANOSECONDS / self.per_second).ceil() as u64;
        self.start_ns.map_or(0, |start_ns| start_ns + after_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_lost_by_looking_late_or_often() {
        let mut often = Pace::new(3000.0);
        assert_eq!(often.take_due(1000), 0);
        let mut late = often;
        let taken: u64 = (0..=2_100_000).step_by(777).map(|at| often.take_due(1000 + at)).sum();
        assert_eq!(taken, late.take_due(1000 + 2_100_000));
        assert_eq!(taken, 6);
    }

    #[test]
    fn what_is_next_is_due_then_and_not_before() {
        let mut pace = Pace::new(7.0);
        pace.take_due(500);
        for _ in 0..100 {
            let next_ns = pace.next_ns();
            assert_eq!(pace.take_due(next_ns - 1), 0);
            assert_eq!(pace.take_due(next_ns + 1), 1);
        }
    }
}
