//! Times as people and programs read them over REST: RFC 3339, UTC, milliseconds.

use jiff::Timestamp;

/// `2026-03-01T12:00:00.000Z`. A time past the year 9999 is said as the last one that can be.
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
