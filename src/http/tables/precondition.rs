//! Which version of a record a caller has seen: `If-Match` and `expectedVersion` are two spellings of one check.

use axum::http::HeaderMap;
use axum::http::HeaderName;
use axum::http::HeaderValue;
use axum::http::header;

use crate::http::etag;
use crate::http::problem::Problem;
use crate::table::command::OnConflict;

/// What is expected of a record, and what it means when it is not so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Expectation {
    pub(super) version: Option<u64>,
    pub(super) on_conflict: OnConflict,
}

/// Reads `If-Match` beside what the request itself says.
///
/// # Errors
/// `INVALID_PAYLOAD` for a tag that no record has, or when the two spellings differ.
pub(super) fn expected(
    headers: &HeaderMap,
    version: Option<u64>,
    on_conflict: Option<OnConflict>,
) -> Result<Expectation, Problem> {
    let Some(tag) = if_match(headers)? else {
        return Ok(Expectation { version, on_conflict: on_conflict.unwrap_or_default() });
    };
    let on_conflict = on_conflict.unwrap_or(OnConflict::Record);
    match (tag, version) {
        // Any version will do; that the record is there is looked at anyway.
        (Tag::Any, version) => Ok(Expectation { version, on_conflict }),
        (Tag::Version(tag), None) => Ok(Expectation { version: Some(tag), on_conflict }),
        (Tag::Version(tag), Some(version)) if tag == version => Ok(Expectation { version: Some(tag), on_conflict }),
        (Tag::Version(_), Some(_)) => {
            Err(Problem::wrong("expectedVersion", "expectedVersion and If-Match name different versions"))
        }
    }
}

/// For writes that are about no one record: a condition that is not looked at must not seem to hold.
///
/// # Errors
/// `INVALID_PAYLOAD` when there is an `If-Match`.
pub(super) fn none(headers: &HeaderMap) -> Result<(), Problem> {
    if headers.contains_key(header::IF_MATCH) {
        return Err(Problem::wrong("If-Match", "only one record has a version; here If-Match would not be looked at"));
    }
    Ok(())
}

/// The headers of one record.
pub(super) fn etag_of(version: u64) -> [(HeaderName, HeaderValue); 2] {
    let tag = HeaderValue::from_str(&format!("\"{version}\"")).expect("digits in quotes are a header's value");
    [(header::ETAG, tag), (header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache"))]
}

/// Whether the caller has this version.
pub(super) fn has_seen(headers: &HeaderMap, version: u64) -> bool {
    etag::any_tag(headers, |tag| parse(tag) == Some(version))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tag {
    Any,
    Version(u64),
}

fn if_match(headers: &HeaderMap) -> Result<Option<Tag>, Problem> {
    let mut values = headers.get_all(header::IF_MATCH).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let value = value.to_str().ok().map(str::trim).filter(|_| values.next().is_none());
    let tag = value.and_then(|value| match value {
        "*" => Some(Tag::Any),
        // A compressing proxy hands our tags back as weak ones.
        tag => parse(tag.strip_prefix("W/").unwrap_or(tag)).map(Tag::Version),
    });
    tag.map(Some).ok_or_else(|| Problem::unreadable("If-Match", "If-Match has one version in quotes, as in ETag, or *"))
}

fn parse(tag: &str) -> Option<u64> {
    let digits = tag.strip_prefix('"')?.strip_suffix('"')?;
    digits.parse().ok().filter(|_| digits.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asks(name: HeaderName, value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_static(value))])
    }

    fn checked(
        tag: &'static str,
        version: Option<u64>,
        on_conflict: Option<OnConflict>,
    ) -> Option<(Option<u64>, OnConflict)> {
        let headers = if tag.is_empty() { HeaderMap::new() } else { asks(header::IF_MATCH, tag) };
        expected(&headers, version, on_conflict).ok().map(|expected| (expected.version, expected.on_conflict))
    }

    #[test]
    fn a_tag_is_as_good_as_a_version_and_stricter() {
        use OnConflict::Field;
        use OnConflict::Force;
        use OnConflict::Record;
        for (tag, version, on_conflict, want) in [
            ("", None, None, Some((None, Field))),
            ("", Some(7), None, Some((Some(7), Field))),
            ("", Some(7), Some(Record), Some((Some(7), Record))),
            ("\"7\"", None, None, Some((Some(7), Record))),
            ("W/\"7\"", None, None, Some((Some(7), Record))),
            ("\"7\"", Some(7), Some(Field), Some((Some(7), Field))),
            ("\"7\"", None, Some(Force), Some((Some(7), Force))),
            ("*", None, None, Some((None, Record))),
            ("*", Some(3), None, Some((Some(3), Record))),
            ("\"7\"", Some(8), None, None),
            ("7", None, None, None),
            ("\"+7\"", None, None, None),
            ("\"7\", \"8\"", None, None, None),
            ("\"18446744073709551616\"", None, None, None),
        ] {
            assert_eq!(checked(tag, version, on_conflict), want, "{tag} {version:?} {on_conflict:?}");
        }
    }

    #[test]
    fn who_has_a_version_need_not_be_sent_it() {
        for (value, want) in [("\"7\"", true), ("W/\"7\"", true), ("\"6\",\"7\"", true), ("*", true), ("\"8\"", false)]
        {
            assert_eq!(has_seen(&asks(header::IF_NONE_MATCH, value), 7), want, "{value}");
        }
    }
}
