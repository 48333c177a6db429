//! What a write brings along in its head: a name under which it is done once, and one under which its events are found.

use std::sync::Arc;

use axum::http::HeaderMap;
use axum::http::HeaderName;
use axum::http::request::Parts;

use crate::http::caller::Caller;
use crate::http::problem::Problem;
use crate::table::command::Command;
use crate::table::command::Once;
use crate::table::command::TableRequest;
use crate::table::command::Write;

/// A repetition of a request under the same key is answered as the first was, and nothing is done again.
pub(in crate::http) const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// On an answer that a former request under the same key had.
pub(in crate::http) const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
/// Goes into the events that follow from the write.
pub(in crate::http) const CORRELATION_ID: HeaderName = HeaderName::from_static("x-correlation-id");

const KEY_BYTES_MAX: usize = 255;
const CORRELATION_BYTES_MAX: usize = 128;

/// FNV-1a, 64 bits, of parts: the same in every version of this program, because marks are kept. It tells a caller's
/// mistakes apart, and guards nothing.
#[derive(Debug, Clone, Copy)]
pub(in crate::http) struct Mark(u64);

impl Default for Mark {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Mark {
    pub(super) fn add(&mut self, bytes: &[u8]) {
        let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        self.0 = bytes.iter().fold(self.0, step);
    }

    /// A part that does not run into the next one.
    pub(in crate::http) fn add_word(&mut self, word: &str) {
        self.add(word.as_bytes());
        self.add(&[0]);
    }

    pub(in crate::http) fn value(self) -> u64 {
        self.0
    }
}

/// The head of a write.
#[derive(Debug)]
pub(super) struct Errand {
    key: Option<String>,
    correlation_id: Option<Arc<str>>,
    mark: Mark,
}

impl Errand {
    /// What the caller named it.
    pub(super) fn correlation_id(&self) -> Option<Arc<str>> {
        self.correlation_id.clone()
    }

    /// # Errors
    /// `INVALID_PAYLOAD` for a key or an id that is empty, too long or not printable ASCII.
    pub(super) fn of(parts: &Parts) -> Result<Self, Problem> {
        let key = printable(&parts.headers, &IDEMPOTENCY_KEY, "Idempotency-Key", KEY_BYTES_MAX)?;
        let correlation_id = printable(&parts.headers, &CORRELATION_ID, "X-Correlation-Id", CORRELATION_BYTES_MAX)?;
        let mut mark = Mark::default();
        mark.add_word(parts.method.as_str());
        mark.add_word(parts.uri.path());
        // A repetition may come with a new token, and is the same request.
        let asked = parts.uri.query().unwrap_or_default().split('&').filter(|pair| !pair.starts_with("token="));
        asked.for_each(|pair| mark.add_word(pair));
        for value in parts.headers.get_all(axum::http::header::IF_MATCH) {
            mark.add(value.as_bytes());
        }
        mark.add(&[0]);
        Ok(Self { key: key.map(str::to_owned), correlation_id: correlation_id.map(Arc::from), mark })
    }

    /// Takes the next piece of the body into account.
    pub(super) fn add(&mut self, body: &[u8]) {
        // A whole import is hashed for nobody otherwise.
        if self.key.is_some() {
            self.mark.add(body);
        }
    }

    /// The command as the document is asked. Keys of two callers are two keys.
    pub(super) fn request(self, caller: &Caller, command: Command) -> TableRequest {
        let user = caller.member().map(|member| member.user);
        let of_caller = |key: String| format!("{}\n{key}", user.as_deref().unwrap_or_default()).into();
        let once = self.key.map(|key| Once { key: of_caller(key), fingerprint: self.mark.value() });
        let correlation_id = self.correlation_id;
        TableRequest::Write(Box::new(Write { command, user, once, correlation_id, peer: None, guard: None }))
    }
}

fn printable<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
    path: &'static str,
    bytes_max: usize,
) -> Result<Option<&'a str>, Problem> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let is_sound = |text: &&str| {
        (1..=bytes_max).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ')
    };
    let text = value.to_str().ok().filter(is_sound).filter(|_| values.next().is_none());
    let wrong =
        || Problem::wrong(path, format!("this header stands once, with 1 to {bytes_max} printable ASCII characters"));
    text.map(Some).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use axum::http::Request;
    use syncline_protocol::ErrorCode;

    use super::*;

    fn parts(method: &str, uri: &str, headers: &[(&str, &str)]) -> Parts {
        let request = Request::builder().method(method).uri(uri);
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        request.body(()).unwrap().into_parts().0
    }

    fn mark(method: &str, uri: &str, headers: &[(&str, &str)], body: &str) -> u64 {
        let headers = [headers, &[("idempotency-key", "k")]].concat();
        let mut errand = Errand::of(&parts(method, uri, &headers)).unwrap();
        errand.add(body.as_bytes());
        errand.mark.value()
    }

    #[test]
    fn a_mark_is_the_known_hash() {
        let of = |text: &str| {
            let mut mark = Mark::default();
            mark.add(text.as_bytes());
            mark.value()
        };
        assert_eq!(
            (of(""), of("a"), of("foobar")),
            (0xcbf2_9ce4_8422_2325, 0xaf63_dc4c_8601_ec8c, 0x8594_4171_f739_67e8)
        );
    }

    #[test]
    fn what_was_asked_decides_and_the_token_does_not() {
        let first = mark("POST", "/a?x=1", &[], "body");
        assert_eq!(first, mark("POST", "/a?token=t&x=1", &[("authorization", "Bearer u")], "body"));
        for other in [
            mark("PUT", "/a?x=1", &[], "body"),
            mark("POST", "/b?x=1", &[], "body"),
            mark("POST", "/a?x=2", &[], "body"),
            mark("POST", "/a?x=1", &[("if-match", "\"7\"")], "body"),
            mark("POST", "/a?x=1", &[], "other"),
        ] {
            assert_ne!(first, other);
        }
    }

    #[test]
    fn keys_are_bounded_and_printable() {
        let long = "k".repeat(256);
        for headers in [
            &[("idempotency-key", "")][..],
            &[("idempotency-key", &long)],
            &[("idempotency-key", "a\tb")],
            &[("idempotency-key", "a"), ("idempotency-key", "a")],
            &[("x-correlation-id", &long[..129])],
        ] {
            assert_eq!(Errand::of(&parts("POST", "/", headers)).unwrap_err().code(), ErrorCode::InvalidPayload);
        }
        let errand = Errand::of(&parts("POST", "/", &[("idempotency-key", &long[..255])])).unwrap();
        assert_eq!(errand.key.as_deref(), Some(&long[..255]));
    }
}
