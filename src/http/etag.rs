//! Entity tags of what has a revision: the revision in quotes.

use axum::http::HeaderMap;
use axum::http::HeaderValue;
use axum::http::StatusCode;
use axum::http::header;
use axum::response::IntoResponse;
use axum::response::Response;

use crate::document::request::Revision;
use crate::store::Epoch;
use crate::store::Seq;

/// The headers of an answer that has a revision. `no-cache` means: keep it, but ask before showing it again.
pub(super) fn header(revision: Revision) -> HeaderMap {
    let mut headers = HeaderMap::from_iter([(header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache"))]);
    if let Some(tag) = tag(revision).and_then(|tag| HeaderValue::from_str(&tag).ok()) {
        headers.insert(header::ETAG, tag);
    }
    headers
}

/// Whether the caller said that it has this revision. Weak tags count: that is how a compressing proxy hands ours back.
pub(super) fn matches(headers: &HeaderMap, revision: Revision) -> bool {
    tag(revision).is_some_and(|own| any_tag(headers, |tag| tag == own))
}

/// A document that was deleted and created again counts from 1 again, so its life is part of the tag. While something is
/// unsaved there is none: the same position could be shown again with other content.
fn tag(revision: Revision) -> Option<String> {
    let Revision { epoch: Epoch(epoch), seq: Seq(seq), settled } = revision;
    settled.then(|| if epoch == 0 { format!("\"{seq}\"") } else { format!("\"{epoch}.{seq}\"") })
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
pub(super) fn not_modified(revision: Revision) -> Response {
    (StatusCode::NOT_MODIFIED, header(revision)).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEVENTH: Revision = Revision { epoch: Epoch(0), seq: Seq(7), settled: true };

    fn asks(value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(header::IF_NONE_MATCH, HeaderValue::from_static(value))])
    }

    #[test]
    fn tags_match_strong_weak_listed_or_any() {
        for (value, want) in
            [("\"7\"", true), ("W/\"7\"", true), ("\"6\", \"7\"", true), ("*", true), ("\"77\"", false), ("7", false)]
        {
            assert_eq!(matches(&asks(value), SEVENTH), want, "{value}");
        }
        assert!(!matches(&HeaderMap::new(), SEVENTH));
    }

    #[test]
    fn another_life_is_another_tag_and_what_is_unsaved_has_none() {
        let reborn = Revision { epoch: Epoch(1), ..SEVENTH };
        assert!(!matches(&asks("\"7\""), reborn));
        assert!(matches(&asks("\"1.7\""), reborn));
        let unsaved = Revision { settled: false, ..SEVENTH };
        assert!(!matches(&asks("\"7\""), unsaved));
        assert!(!header(unsaved).contains_key(header::ETAG));
    }
}
