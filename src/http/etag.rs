//! Entity tags of what has a revision: the revision in quotes.

use axum::http::HeaderMap;
use axum::http::HeaderName;
use axum::http::StatusCode;
use axum::http::header;
use axum::response::IntoResponse;
use axum::response::Response;

use crate::store::Seq;

/// The headers of an answer that has a revision. `no-cache` means: keep it, but ask before showing it again.
pub(super) fn header(revision: Seq) -> [(HeaderName, String); 2] {
    [(header::ETAG, format!("\"{}\"", revision.0)), (header::CACHE_CONTROL, "private, no-cache".to_owned())]
}

/// Whether the caller said that it has this revision. Weak tags count: that is how a compressing proxy hands ours back.
pub(super) fn matches(headers: &HeaderMap, revision: Seq) -> bool {
    let own = format!("\"{}\"", revision.0);
    any_tag(headers, |tag| tag == own)
}

/// Whether any tag in `If-None-Match` is `*` or the one looked for.
pub(super) fn any_tag(headers: &HeaderMap, wanted: impl Fn(&str) -> bool) -> bool {
    let values = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim).any(|tag| {
        let tag = tag.strip_prefix("W/").unwrap_or(tag);
        tag == "*" || wanted(tag)
    })
}

/// The answer to a caller that has it.
pub(super) fn not_modified(revision: Seq) -> Response {
    (StatusCode::NOT_MODIFIED, header(revision)).into_response()
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn tags_match_strong_weak_listed_or_any() {
        for (value, want) in
            [("\"7\"", true), ("W/\"7\"", true), ("\"6\", \"7\"", true), ("*", true), ("\"77\"", false), ("7", false)]
        {
            let headers = HeaderMap::from_iter([(header::IF_NONE_MATCH, HeaderValue::from_static(value))]);
            assert_eq!(matches(&headers, Seq(7)), want, "{value}");
        }
        assert!(!matches(&HeaderMap::new(), Seq(7)));
    }
}
