//! Which pages of other origins may call (`auth.allowed_origins`), and how a browser is told.

use std::time::Duration;

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
pub enum Origins {
    /// `*`.
    Any,
    /// These, letter by letter.
    Listed(Vec<HeaderValue>),
}

impl Origins {
    /// Takes the configured list. An entry that no header can carry matches nothing.
    #[must_use]
    pub fn new(configured: &[String]) -> Self {
        if configured.iter().any(|origin| origin == "*") {
            return Self::Any;
        }
        let listed = configured.iter().map(|origin| origin.trim_end_matches('/'));
        Self::Listed(listed.filter_map(|origin| HeaderValue::from_str(origin).ok()).collect())
    }

    /// Whether a page of this origin may call.
    #[must_use]
    pub fn allow(&self, origin: &HeaderValue) -> bool {
        match self {
            Self::Any => true,
            Self::Listed(listed) => listed.contains(origin),
        }
    }

    /// Answers preflights and marks answers. Without credentials: the token travels in a header, never in a cookie.
    pub fn cors(&self) -> CorsLayer {
        let origin = match self {
            Self::Any => AllowOrigin::any(),
            Self::Listed(listed) => AllowOrigin::list(listed.iter().cloned()),
        };
        CorsLayer::new()
            .allow_origin(origin)
            .allow_methods([Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE])
            .allow_headers([
                header::AUTHORIZATION,
                header::CONTENT_TYPE,
                header::IF_MATCH,
                header::IF_NONE_MATCH,
                HeaderName::from_static("last-event-id"),
            ])
            .expose_headers([header::ETAG, header::LOCATION, header::RETRY_AFTER])
            .max_age(PREFLIGHT_KEPT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_listed_origins_are_allowed_unless_all_are() {
        let listed = Origins::new(&["https://app.example/".to_owned(), "bad\norigin".to_owned()]);
        assert!(listed.allow(&HeaderValue::from_static("https://app.example")));
        assert!(!listed.allow(&HeaderValue::from_static("https://app.example.evil")));
        assert!(!Origins::new(&[]).allow(&HeaderValue::from_static("null")));
        assert!(Origins::new(&["*".to_owned()]).allow(&HeaderValue::from_static("https://any.example")));
    }
}
