//! `/`: a page that edits one shared document, embedded at build time from `web/dist` (see `build.rs`).

use axum::Router;
use axum::http::HeaderMap;
use axum::http::StatusCode;
use axum::http::header;
use axum::response::IntoResponse;
use axum::response::Response;
use axum::routing::get;

use crate::http::AppState;
use crate::http::etag;

/// The page runs its own scripts and talks to its own server. `ws:` and `wss:` are named because older browsers do not
/// count them as `'self'`.
const POLICY: &str =
    "default-src 'self'; connect-src 'self' ws: wss:; img-src 'self' data:; base-uri 'none'; frame-ancestors 'none'";

struct Asset {
    content_type: &'static str,
    bytes: &'static [u8],
}

static PAGE: Asset = Asset {
    content_type: "text/html; charset=utf-8",
    bytes: include_bytes!(concat!(env!("OUT_DIR"), "/demo/index.html")),
};
static SCRIPT: Asset = Asset {
    content_type: "text/javascript; charset=utf-8",
    bytes: include_bytes!(concat!(env!("OUT_DIR"), "/demo/main.js")),
};
static STYLE: Asset = Asset {
    content_type: "text/css; charset=utf-8",
    bytes: include_bytes!(concat!(env!("OUT_DIR"), "/demo/style.css")),
};

/// The routes of the page.
pub fn routes() -> Router<AppState> {
    Router::new()
        .route("/", get(async |headers: HeaderMap| PAGE.answer(&headers)))
        .route("/main.js", get(async |headers: HeaderMap| SCRIPT.answer(&headers)))
        .route("/style.css", get(async |headers: HeaderMap| STYLE.answer(&headers)))
}

impl Asset {
    fn answer(&self, headers: &HeaderMap) -> Response {
        // The names of the files do not change with their content, so a browser has to ask each time.
        let own = format!("\"{:08x}\"", crc32fast::hash(self.bytes));
        let known = etag::any_tag(headers, |tag| tag == own);
        let kept = [(header::ETAG, own), (header::CACHE_CONTROL, "no-cache".to_owned())];
        if known {
            return (StatusCode::NOT_MODIFIED, kept).into_response();
        }
        let guards = [(header::CONTENT_SECURITY_POLICY, POLICY), (header::REFERRER_POLICY, "no-referrer")];
        (kept, guards, [(header::CONTENT_TYPE, self.content_type)], self.bytes).into_response()
    }
}
