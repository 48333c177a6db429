//! Order keys: strings between which there is always room for another one.
//!
//! A key is an integer of variable length (its first letter says how long: `a0`, `b00`, … upwards, `Zz`, `Yzz`, … downwards)
//! and a fraction, all in base 62, and keys are compared byte by byte. The results are those of the npm package
//! `fractional-indexing`, so that a browser and the server sort, and insert, alike.
//! Keys of two who insert into the same gap at the same time would be equal: the jittered ones end in digits of chance.

use thiserror::Error;

const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const BASE: usize = DIGITS.len();
const ZERO: u8 = DIGITS[0];
const LAST: u8 = DIGITS[BASE - 1];

/// The lowest integer there is. Nothing stands before it, so it is no key by itself.
const LOWEST: &str = "A00000000000000000000000000";

/// Longest valid key in bytes. Inserting into one gap again and again costs a byte for about five inserts; a client that
/// reaches this is not ordering anything.
pub const KEY_BYTES_MAX: usize = 1000;

/// Digits of chance, the last of them never zero: two equal ones in one gap are one in 14 million.
const JITTER_DIGITS: u32 = 4;

/// Why there is no key.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BadKey {
    /// A neighbour is no order key, or longer than [`KEY_BYTES_MAX`].
    #[error("not an order key")]
    Invalid,
    /// The lower neighbour does not stand before the upper one.
    #[error("nothing lies between these order keys")]
    NotBetween,
    /// The key would be longer than [`KEY_BYTES_MAX`]: the rows need new keys.
    #[error("no room is left between these order keys")]
    Full,
}

/// A key behind `a` and before `b`; `None` is the beginning or the end.
///
/// # Errors
/// A neighbour that is no key, neighbours that are equal or reversed, and a gap that is worn out.
pub fn key_between(a: Option<&str>, b: Option<&str>) -> Result<String, BadKey> {
    let lower = a.map(split).transpose()?;
    let upper = b.map(split).transpose()?;
    if a.zip(b).is_some_and(|(a, b)| a >= b) {
        return Err(BadKey::NotBetween);
    }
    let key = match (lower, upper) {
        (None, None) => "a0".to_owned(),
        (None, Some((integer, fraction))) => before(integer, fraction),
        (Some((integer, fraction)), None) => {
            stepped_up(integer).unwrap_or_else(|| with_midpoint(integer, fraction, None))
        }
        (Some((low, low_fraction)), Some((high, high_fraction))) if low == high => {
            with_midpoint(low, low_fraction, Some(high_fraction))
        }
        (Some((integer, fraction)), Some(_)) => match stepped_up(integer) {
            Some(next) if b.is_some_and(|b| next.as_str() < b) => next,
            _ => with_midpoint(integer, fraction, None),
        },
    };
    if key.len() <= KEY_BYTES_MAX { Ok(key) } else { Err(BadKey::Full) }
}

/// `n` ascending keys between `a` and `b`: consecutive integers at an open end, short ones inside a gap.
///
/// # Errors
/// As [`key_between`].
pub fn keys_between(a: Option<&str>, b: Option<&str>, n: usize) -> Result<Vec<String>, BadKey> {
    let mut keys = Vec::with_capacity(n);
    spread(a, b, n, &mut key_between, &mut keys)?;
    Ok(keys)
}

/// A key between `a` and `b` that somebody else who asks at the same time does not get.
///
/// # Errors
/// As [`key_between`].
pub fn jittered_between(a: Option<&str>, b: Option<&str>, rand: &mut dyn FnMut() -> u32) -> Result<String, BadKey> {
    let mut key = key_between(a, b.map(|b| if a.is_none() { whole(b) } else { b }))?;
    // Digits behind a beginning of `b` could lead beyond it.
    while b.is_some_and(|b| b.starts_with(&key)) {
        key = key_between(Some(&key), b)?;
    }
    push_jitter(&mut key, rand());
    if key.len() <= KEY_BYTES_MAX { Ok(key) } else { Err(BadKey::Full) }
}

/// The integer of a key, where one can stand before it. Jitter makes a fraction of every key: to halve that of the first
/// one again and again, instead of going down by one, would cost a byte for every few keys.
fn whole(key: &str) -> &str {
    split(key).map_or(key, |(integer, _)| if integer == LOWEST { key } else { integer })
}

/// `n` ascending jittered keys between `a` and `b`.
///
/// # Errors
/// As [`key_between`].
pub fn jittered_keys_between(
    a: Option<&str>,
    b: Option<&str>,
    n: usize,
    rand: &mut dyn FnMut() -> u32,
) -> Result<Vec<String>, BadKey> {
    let mut keys = Vec::with_capacity(n);
    spread(a, b, n, &mut |a, b| jittered_between(a, b, rand), &mut keys)?;
    Ok(keys)
}

/// Whether this is an order key: base 62, an integer part that is whole, no zero at its end, at most [`KEY_BYTES_MAX`].
#[must_use]
pub fn is_valid(key: &str) -> bool {
    split(key).is_ok()
}

/// The gap behind the first of these keys, which come in order: rows with equal keys are stepped over, because nothing fits
/// between them, and so are keys that are none. Without keys: the whole line.
pub fn gap_after<'a>(keys: impl IntoIterator<Item = &'a str>) -> (Option<&'a str>, Option<&'a str>) {
    let mut keys = keys.into_iter();
    let Some(first) = keys.next() else { return (None, None) };
    (Some(first), keys.find(|key| *key > first && is_valid(key)))
}

/// A key's integer and fraction.
fn split(key: &str) -> Result<(&str, &str), BadKey> {
    let is_sound = key.len() <= KEY_BYTES_MAX && key != LOWEST && key.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let length = key.bytes().next().and_then(integer_bytes).filter(|_| is_sound).ok_or(BadKey::Invalid)?;
    let (integer, fraction) = key.split_at_checked(length).ok_or(BadKey::Invalid)?;
    if fraction.ends_with(char::from(ZERO)) { Err(BadKey::Invalid) } else { Ok((integer, fraction)) }
}

/// How long an integer is that begins with this letter, the letter included.
fn integer_bytes(head: u8) -> Option<usize> {
    match head {
        b'a'..=b'z' => Some(usize::from(head - b'a') + 2),
        b'A'..=b'Z' => Some(usize::from(b'Z' - head) + 2),
        _ => None,
    }
}

/// The key before this one, at the open end.
fn before(integer: &str, fraction: &str) -> String {
    if integer == LOWEST {
        return with_midpoint(integer, "", Some(fraction));
    }
    if !fraction.is_empty() {
        return integer.to_owned();
    }
    match stepped_down(integer) {
        Some(lower) if lower != LOWEST => lower,
        // The package answers with the lowest integer itself, and then takes it no more.
        _ => with_midpoint(LOWEST, "", None),
    }
}

fn stepped_up(integer: &str) -> Option<String> {
    let next_head = |head| match head {
        b'Z' => Some(b'a'),
        b'z' => None,
        head => Some(head + 1),
    };
    stepped(integer, LAST, ZERO, |digit| DIGITS[value(digit) + 1], next_head)
}

fn stepped_down(integer: &str) -> Option<String> {
    let next_head = |head| match head {
        b'a' => Some(b'Z'),
        b'A' => None,
        head => Some(head - 1),
    };
    stepped(integer, ZERO, LAST, |digit| DIGITS[value(digit) - 1], next_head)
}

/// The next integer in one direction: `end` digits roll over to `start`, and when all did, the next head comes with as many
/// digits as it says.
fn stepped(
    integer: &str,
    end: u8,
    start: u8,
    next_digit: impl Fn(u8) -> u8,
    next_head: impl Fn(u8) -> Option<u8>,
) -> Option<String> {
    let mut bytes = integer.as_bytes().to_vec();
    let place = bytes.iter().skip(1).rposition(|digit| *digit != end).map(|place| place + 1);
    if let Some(place) = place {
        bytes[place] = next_digit(bytes[place]);
        bytes[place + 1..].fill(start);
    } else {
        let head = next_head(bytes[0])?;
        bytes = vec![start; integer_bytes(head)?];
        bytes[0] = head;
    }
    Some(text(bytes))
}

fn with_midpoint(integer: &str, low: &str, high: Option<&str>) -> String {
    let mut key = integer.as_bytes().to_vec();
    push_midpoint(&mut key, low.as_bytes(), high.map(str::as_bytes));
    text(key)
}

/// The shortest fraction about halfway between two. `low` may be empty, `high` is greater or open.
fn push_midpoint(key: &mut Vec<u8>, mut low: &[u8], mut high: Option<&[u8]>) {
    if let Some(high) = &mut high {
        let shared = high.iter().enumerate().take_while(|(at, digit)| low.get(*at).unwrap_or(&ZERO) == *digit).count();
        key.extend_from_slice(&high[..shared]);
        *high = &high[shared..];
        low = low.get(shared..).unwrap_or_default();
    }
    loop {
        let from = low.first().map_or(0, |digit| value(*digit));
        let to = high.and_then(<[u8]>::first).map_or(BASE, |digit| value(*digit));
        if to > from + 1 {
            key.push(DIGITS[(from + to).div_ceil(2)]);
            return;
        }
        if let Some([first, _, ..]) = high {
            key.push(*first);
            return;
        }
        key.push(DIGITS[from]);
        low = low.get(1..).unwrap_or_default();
        high = None;
    }
}

fn push_jitter(key: &mut String, mut chance: u32) {
    let base = u32::try_from(BASE).expect("62 fits");
    for left in (0..JITTER_DIGITS).rev() {
        // The last digit is one of 61: a zero there would be cut off.
        let (choices, first) = if left == 0 { (base - 1, 1) } else { (base, 0) };
        key.push(char::from(DIGITS[(chance % choices + first) as usize]));
        chance /= choices;
    }
}

type Between<'a> = dyn FnMut(Option<&str>, Option<&str>) -> Result<String, BadKey> + 'a;

/// Recurses as deep as `n` has bits.
fn spread(
    a: Option<&str>,
    b: Option<&str>,
    n: usize,
    between: &mut Between<'_>,
    keys: &mut Vec<String>,
) -> Result<(), BadKey> {
    if n == 0 {
        return Ok(());
    }
    if n > 1 && a.is_some() && b.is_some() {
        let middle = between(a, b)?;
        spread(a, Some(&middle), n / 2, between, keys)?;
        keys.push(middle.clone());
        return spread(Some(&middle), b, n - n / 2 - 1, between, keys);
    }
    let start = keys.len();
    keys.push(between(a, b)?);
    for _ in 1..n {
        let last = keys.last().map(String::as_str);
        let next = if b.is_none() { between(last, None) } else { between(None, last) }?;
        keys.push(next);
    }
    if b.is_some() {
        keys[start..].reverse();
    }
    Ok(())
}

/// What a digit counts. Only called for digits of keys that were checked.
fn value(digit: u8) -> usize {
    match digit {
        b'0'..=b'9' => usize::from(digit - b'0'),
        b'A'..=b'Z' => usize::from(digit - b'A') + 10,
        _ => usize::from(digit - b'a') + 36,
    }
}

fn text(key: Vec<u8>) -> String {
    String::from_utf8(key).expect("digits are ASCII")
}

#[cfg(test)]
mod tests;
