//! What the programs of operators ask: is it alive, is it ready, how is it doing.
//!
//! `/healthz`, `/readyz` and `/metrics` need no token, as the programs that poll them have none; they name no user and no
//! document. Where that is still too much, `--admin-listen` moves them to an address of their own.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use axum::Json;
use axum::Router;
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use axum::routing::get;
use serde::Serialize;
use syncline_protocol::ErrorCode;
use syncline_protocol::Moment;
use tokio::time::timeout;
use utoipa::ToSchema;

use crate::http::AppState;
use crate::http::problem;
use crate::http::problem::Problem;

/// How long a probe of the store counts. Each one writes to disk; whoever polls faster gets the same answer.
const PROBE_COUNTS: Duration = Duration::from_secs(1);
/// A store that has not answered by then is as good as failing.
const PROBE_TIME_MAX: Duration = Duration::from_secs(2);

/// The routes for these programs.
pub fn routes() -> Router<AppState> {
    Router::new().route("/healthz", get(health)).route("/readyz", get(readiness)).route("/metrics", get(metrics))
}

/// One word that says how it stands.
#[derive(Serialize, ToSchema)]
pub(super) struct Standing {
    /// `ok`, `ready` or `draining`.
    pub(super) status: &'static str,
}

/// Whether the process lives.
#[utoipa::path(
    get, path = "/healthz", tag = "operators", operation_id = "health", security(()),
    responses((status = 200, description = "It lives", body = Standing))
)]
pub(super) async fn health() -> Json<Standing> {
    Json(Standing { status: "ok" })
}

/// Whether new connections should come here.
#[utoipa::path(
    get, path = "/readyz", tag = "operators", operation_id = "readiness", security(()),
    responses(
        (status = 200, description = "They should", body = Standing),
        (status = 503, description = "They should not; `data.reason` is `draining` or `store`", body = problem::Body),
    )
)]
pub(super) async fn readiness(State(state): State<AppState>) -> Result<Json<Standing>, Problem> {
    if state.draining.is_cancelled() {
        return Err(draining());
    }
    if !state.store_probe.ready(&state).await {
        let problem = Problem::new(ErrorCode::StoreUnavailable, "the store does not take writes");
        return Err(problem.with("reason", "store"));
    }
    Ok(Json(Standing { status: "ready" }))
}

/// What somebody is told who comes when everybody is sent elsewhere.
pub(super) fn draining() -> Problem {
    Problem::new(ErrorCode::Overloaded, "the server is draining").with("reason", "draining")
}

/// Metrics for Prometheus.
#[utoipa::path(
    get, path = "/metrics", tag = "operators", operation_id = "metrics", security(()),
    responses((status = 200, description = "Prometheus text format 0.0.4", body = String, content_type = "text/plain"))
)]
pub(super) async fn metrics(State(state): State<AppState>) -> impl IntoResponse {
    for (kind, count) in state.feeds.stats().by_kind {
        state.sockets.metrics.count_rooms(kind, count.rooms, count.members);
    }
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], state.prometheus.render())
}

/// Remembers the last probe of the store.
#[derive(Default)]
pub(super) struct StoreProbe(Mutex<Probed>);

/// Not ready until the first probe has come back.
#[derive(Default, Clone, Copy)]
struct Probed {
    begun: Option<Moment>,
    ready: bool,
}

impl StoreProbe {
    async fn ready(&self, state: &AppState) -> bool {
        if let Some(known) = self.known_or_claim(state.clock.now().moment) {
            return known;
        }
        let ready = timeout(PROBE_TIME_MAX, state.hub.store_ready()).await.unwrap_or(false);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).ready = ready;
        ready
    }

    /// The last answer while it counts. Otherwise the caller is to probe; until it has, others get the last answer.
    fn known_or_claim(&self, now: Moment) -> Option<bool> {
        let mut probed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if probed.begun.is_some_and(|begun| now.since(begun) < PROBE_COUNTS) {
            return Some(probed.ready);
        }
        probed.begun = Some(now);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_store_is_probed_once_a_second_however_often_one_asks() {
        let probe = StoreProbe::default();
        assert_eq!(probe.known_or_claim(Moment(0)), None);
        assert_eq!(probe.known_or_claim(Moment(10)), Some(false), "the first probe is not back yet");
        probe.0.lock().unwrap().ready = true;
        assert_eq!(probe.known_or_claim(Moment(999)), Some(true));
        assert_eq!(probe.known_or_claim(Moment(1_000)), None);
        assert_eq!(probe.known_or_claim(Moment(1_001)), Some(true));
    }
}
