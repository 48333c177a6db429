//! Which pages of other origins may call (`auth.allowed_origins`), and how a browser is told.

use std::time::Duration;

use axum::http::HeaderMap;
use axum::http::HeaderName;
use axum::http::HeaderValue;
use axum::http::Method;
use axum::http::header;
use tower_http::cors::AllowOrigin;
use tower_http::cors::CorsLayer;

/// How long a browser may keep the answer to its preflight. Chromium keeps none longer than two hours.
const PREFLIGHT_KEPT: Duration = Duration::from_secs(600);

/// The allowed origins. By default none: pages of the same origin do not ask.
#[derive(Debug, Clone)]
pub struct Origins {
    allowed: Allowed,
    /// Under `--dev`, pages from this machine may call too: that is where a frontend's own dev server runs.
    loopback: bool,
}

#[derive(Debug, Clone)]
enum Allowed {
    /// `*`.
    Any,
    /// These, letter by letter.
    Listed(Vec<HeaderValue>),
}

impl Origins {
    /// Takes the configured list. An entry that no header can carry matches nothing.
    #[must_use]
    pub fn new(configured: &[String], dev: bool) -> Self {
        if configured.iter().any(|origin| origin == "*") {
            return Self { allowed: Allowed::Any, loopback: dev };
        }
        let listed = configured.iter().map(|origin| origin.trim_end_matches('/'));
        let listed = listed.filter_map(|origin| HeaderValue::from_str(origin).ok()).collect();
        Self { allowed: Allowed::Listed(listed), loopback: dev }
    }

    /// Whether a request may come in: from no page at all, from a page of this server, or from an allowed one.
    #[must_use]
    pub fn admit(&self, headers: &HeaderMap) -> bool {
        let Some(origin) = headers.get(header::ORIGIN) else { return true };
        let own = headers.get(header::HOST).and_then(|host| host.to_str().ok());
        let host = origin.to_str().ok().and_then(|origin| origin.split_once("://")).map(|(_, host)| host);
        (own.is_some() && own == host) || self.allow(origin) || (self.loopback && host.is_some_and(is_loopback))
    }

    fn allow(&self, origin: &HeaderValue) -> bool {
        match &self.allowed {
            Allowed::Any => true,
            Allowed::Listed(listed) => listed.contains(origin),
        }
    }

    /// As [`Self::cors`], for an address whose clients may be told to send credentials: it takes none, but browsers refuse
    /// their pages the answer otherwise. Where every origin is allowed, no credentials are.
    pub fn cors_with_credentials(&self) -> CorsLayer {
        match &self.allowed {
            Allowed::Any => self.cors(),
            Allowed::Listed(_) => self.cors().allow_credentials(true),
        }
    }

    /// Answers preflights and marks answers. Without credentials: the token travels in a header, never in a cookie.
    pub fn cors(&self) -> CorsLayer {
        let origin = match &self.allowed {
            Allowed::Any => AllowOrigin::any(),
            Allowed::Listed(listed) => AllowOrigin::list(listed.iter().cloned()),
        };
        CorsLayer::new()
            .allow_origin(origin)
            .allow_methods([Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE])
            .allow_headers([
                header::AUTHORIZATION,
                header::CONTENT_TYPE,
                header::IF_MATCH,
                header::IF_NONE_MATCH,
                HeaderName::from_static("idempotency-key"),
                HeaderName::from_static("last-event-id"),
                HeaderName::from_static("x-correlation-id"),
            ])
            .expose_headers([
                header::ETAG,
                header::LOCATION,
                header::RETRY_AFTER,
                HeaderName::from_static("idempotency-replayed"),
            ])
            .max_age(PREFLIGHT_KEPT)
    }
}

/// Whether a `host[:port]` is this machine.
fn is_loopback(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.chars().all(|c| c.is_ascii_digit()) => name,
        _ => host,
    };
    matches!(name, "localhost" | "127.0.0.1" | "[::1]")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(origin: &'static str) -> HeaderMap {
        let origin = (header::ORIGIN, HeaderValue::from_static(origin));
        HeaderMap::from_iter([origin, (header::HOST, HeaderValue::from_static("sync.example"))])
    }

    #[test]
    fn only_listed_origins_are_allowed_unless_all_are() {
        let listed = Origins::new(&["https://app.example/".to_owned(), "bad\norigin".to_owned()], false);
        assert!(listed.admit(&from("https://app.example")));
        assert!(!listed.admit(&from("https://app.example.evil")));
        assert!(!Origins::new(&[], false).admit(&from("null")));
        assert!(Origins::new(&["*".to_owned()], false).admit(&from("https://any.example")));
    }

    #[test]
    fn programs_and_pages_of_the_server_need_no_permission() {
        let none = Origins::new(&[], false);
        assert!(none.admit(&HeaderMap::new()));
        assert!(none.admit(&from("https://sync.example")));
        assert!(!none.admit(&from("https://sync.example:444")));
    }

    #[test]
    fn pages_from_this_machine_may_call_a_server_for_development() {
        let dev = Origins::new(&[], true);
        for origin in ["http://localhost:5173", "http://127.0.0.1", "http://[::1]:3000"] {
            assert!(dev.admit(&from(origin)), "{origin}");
            assert!(!Origins::new(&[], false).admit(&from(origin)), "{origin}");
        }
        for origin in ["http://localhost.evil:5173", "http://evil:127", "https://evil.example"] {
            assert!(!dev.admit(&from(origin)), "{origin}");
        }
    }
}
