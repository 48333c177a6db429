//! Days and moments: `YYYY-MM-DD`, and milliseconds since 1970, UTC.

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::Offset;
use serde_json::Value;

use super::read::as_number;

/// The day that a value is read as.
pub(super) fn read_date(value: &Value) -> Option<String> {
    match value {
        Value::Number(_) => Some(Offset::UTC.to_datetime(timestamp(value)?).date().to_string()),
        Value::String(text) if parse_date(text).is_some() => Some(text.clone()),
        Value::String(text) => {
            let _: Timestamp = text.parse().ok()?;
            text.get(..DATE_CHARS).filter(|day| parse_date(day).is_some()).map(str::to_owned)
        }
        _ => None,
    }
}

/// The moment that a value is read as.
pub(super) fn read_ms(value: &Value) -> Option<i64> {
    match value {
        Value::Number(_) => Some(timestamp(value)?.as_millisecond()),
        Value::String(text) => parse_ms(text),
        _ => None,
    }
}

/// RFC 3339, or a day: its midnight in UTC.
pub(in crate::table) fn parse_ms(text: &str) -> Option<i64> {
    if let Some(date) = parse_date(text) {
        return Some(Offset::UTC.to_timestamp(date.to_datetime(jiff::civil::Time::midnight())).ok()?.as_millisecond());
    }
    Some(text.parse::<Timestamp>().ok()?.as_millisecond())
}

/// RFC 3339 with as many digits of the second as it takes; `None` outside of the years that can be written so.
pub(in crate::table) fn ms_text(ms: i64) -> Option<String> {
    Some(Timestamp::from_millisecond(ms).ok()?.to_string())
}

/// A day of the calendar, written in exactly ten characters.
pub(in crate::table) fn parse_date(text: &str) -> Option<Date> {
    let is_written_so = text.len() == DATE_CHARS
        && text
            .bytes()
            .enumerate()
            .all(|(at, byte)| if at == 4 || at == 7 { byte == b'-' } else { byte.is_ascii_digit() });
    text.parse().ok().filter(|_| is_written_so)
}

const DATE_CHARS: usize = 10;

/// Rounded to the millisecond.
#[expect(
    clippy::cast_possible_truncation,
    reason = "a float that is too large becomes the largest, which is out of range"
)]
fn timestamp(value: &Value) -> Option<Timestamp> {
    Timestamp::from_millisecond(as_number(value)?.round() as i64).ok()
}
