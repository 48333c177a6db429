//! How long things took: counts in buckets that widen with what they hold.

/// Buckets per power of two: values are told apart to 1.6 %.
const STEPS: usize = 64;
const STEP_BITS: u32 = STEPS.ilog2();

/// Counts of nanoseconds. About 30 KiB, whatever is counted.
#[derive(Debug, Clone)]
pub(crate) struct Histogram {
    buckets: Vec<u64>,
    count: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: vec![0; bucket_of(u64::MAX) + 1], count: 0 }
    }
}

impl Histogram {
    /// Counts one.
    #[inline]
    pub(crate) fn record(&mut self, nanoseconds: u64) {
        self.buckets[bucket_of(nanoseconds)] += 1;
        self.count += 1;
    }

    /// How many were counted.
    #[cfg(test)]
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        self.buckets.fill(0);
        self.count = 0;
    }

    /// Microseconds that the given part (0 to 1) of all counted did not exceed; `None` when nothing was counted.
    pub(crate) fn quantile_us(&self, part: f64) -> Option<f64> {
        let rank = ((self.count as f64 * part).ceil() as u64).max(1);
        let mut seen = 0;
        let bucket = self.buckets.iter().position(|count| {
            seen += count;
            seen >= rank
        })?;
        Some(middle_of(bucket) / 1000.0)
    }
}

#[inline]
fn bucket_of(value: u64) -> usize {
    if value < STEPS as u64 {
        return value as usize;
    }
    let shift = value.ilog2() - STEP_BITS;
    ((shift as usize + 1) << STEP_BITS) + ((value >> shift) as usize - STEPS)
}

fn middle_of(bucket: usize) -> f64 {
    if bucket < STEPS {
        return bucket as f64;
    }
    let shift = (bucket >> STEP_BITS) - 1;
    let low = ((bucket & (STEPS - 1)) + STEPS) as f64;
    (low + 0.5) * (shift as f64).exp2()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_follow_each_other_and_hold_what_they_say() {
        let mut last = 0;
        for power in 0..64 {
            for value in
                [1_u64 << power, (1 << power) + (1 << power) / 3, (1_u64 << power).wrapping_mul(2).wrapping_sub(1)]
            {
                let bucket = bucket_of(value);
                assert!(bucket >= last, "{value}");
                last = bucket;
                let error = (middle_of(bucket) - value as f64).abs() / value as f64;
                assert!(error <= 0.01, "{value}: off by {error}");
            }
        }
    }

    #[test]
    fn quantiles_are_those_of_the_sorted_list() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.quantile_us(0.5), None);
        (1..=1000).for_each(|thousand| histogram.record(thousand * 1000));
        for (part, expected) in [(0.0, 1.0), (0.5, 500.0), (0.99, 990.0), (1.0, 1000.0)] {
            let found = histogram.quantile_us(part).unwrap();
            assert!((found - expected).abs() <= expected / 64.0, "{part}: {found}");
        }
        assert_eq!(histogram.count(), 1000);
    }
}
