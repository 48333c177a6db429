//! One line for each request, at DEBUG: they are many. Refusals are counted.

use axum::extract::Request;
use axum::extract::State;
use axum::middleware::Next;
use axum::response::Response;

use crate::http::AppState;
use crate::http::problem::Told;

/// Logs method, path, status and how long the answer's head took. The query stays out: a token may be in it.
pub async fn log(State(state): State<AppState>, request: Request, next: Next) -> Response {
    let begun = state.clock.now().moment;
    let method = request.method().clone();
    // Still percent-encoded, so that a name cannot break the line.
    let path = request.uri().path().to_owned();
    let response = next.run(request).await;
    let elapsed_ms = state.clock.now().moment.since(begun).as_millis() as u64;
    if let Some(Told(code)) = response.extensions().get() {
        state.sockets.metrics.refused(*code);
    }
    tracing::debug!(%method, path, status = response.status().as_u16(), elapsed_ms, "http request");
    response
}
