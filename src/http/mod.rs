//! The edge: what Syncline answers over HTTP.
//!
//! ```text
//!  /sync/{doc} ── ws ──────────────────────────────┐
//!  /socket.io/ ── socketio ────────────────────────┤
//!  /v1/docs…   ── docs ── caller (who, what right) ─┼─▶ hub
//!  /v1/tables… ── tables ── the same ───────────────┤
//!  /v1/rooms…  ── rooms ────── caller ──▶ room      │
//!  /readyz …   ── ops, admin ──────────────────────┘
//!  /           ── demo      every no ── problem
//! ```
//!
//! Handlers decide who may ask, bound what comes in, and say the answer in HTTP's words. What a document is and does they
//! leave to [`crate::hub`].

use axum::Router;
use axum::http::HeaderValue;
use axum::http::header;
use tower_http::CompressionLevel;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;
use tower_http::set_header::SetResponseHeaderLayer;

pub mod access_log;
pub mod admin;
pub mod body;
pub mod caller;
pub mod demo;
pub mod docs;
mod etag;
pub mod listing;
pub mod openapi;
pub mod ops;
pub mod origins;
pub mod problem;
pub mod rooms;
pub mod serve;
pub mod socketio;
pub mod state;
pub mod stateless;
mod sv;
pub mod tables;
pub mod ws;

use socketio::Engine;

pub use state::AppState;
pub use state::Parts;
pub use state::Settings;

/// Everything on one listener.
pub fn router(state: AppState, engine: &Engine) -> Router {
    finish(public_routes(&state, engine).merge(admin_routes()), state)
}

/// What users reach, when operators have a listener of their own.
pub fn public_router(state: AppState, engine: &Engine) -> Router {
    finish(public_routes(&state, engine), state)
}

/// What operators reach, on a listener of its own: `/healthz`, `/readyz`, `/metrics`, `/v1/admin`.
pub fn admin_router(state: AppState) -> Router {
    finish(admin_routes(), state)
}

fn public_routes(state: &AppState, engine: &Engine) -> Router<AppState> {
    rest_routes(state).merge(demo::routes()).merge(ws::routes()).merge(socketio::routes(engine, state))
}

/// What programs and pages call, also from other origins, compressed for those who ask.
fn rest_routes(state: &AppState) -> Router<AppState> {
    docs::routes()
        .merge(stateless::routes())
        .merge(tables::routes())
        .merge(rooms::routes())
        .merge(openapi::routes())
        // Before the layers: a preflight comes as a method that no route takes, and has to pass through them.
        .method_not_allowed_fallback(problem::unknown_method)
        .layer(CompressionLayer::new().quality(CompressionLevel::Fastest))
        .layer(state.origins.cors())
}

fn admin_routes() -> Router<AppState> {
    ops::routes().merge(admin::routes())
}

/// Adds what holds for every route. Outermost last: the log line has the status of a caught panic too.
fn finish(routes: Router<AppState>, state: AppState) -> Router {
    let nosniff = SetResponseHeaderLayer::overriding(
        header::X_CONTENT_TYPE_OPTIONS,
        // Documents are bytes from users, served from the origin of the demo page.
        HeaderValue::from_static("nosniff"),
    );
    routes
        .fallback(problem::unknown_address)
        .method_not_allowed_fallback(problem::unknown_method)
        .layer(CatchPanicLayer::custom(problem::panicked))
        .layer(nosniff)
        .layer(axum::middleware::from_fn_with_state(state.clone(), access_log::log))
        .with_state(state)
}

#[cfg(test)]
mod tests;
