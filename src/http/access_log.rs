//! One line for each request, at DEBUG: they are many. Refusals are counted.

use axum::extract::Request;
use axum::extract::State;
use axum::http;
use axum::http::Method;
use axum::middleware::Next;
use axum::response::Response;
use syncline_protocol::Moment;

use crate::clock::Clock;
use crate::http::AppState;
use crate::http::problem::Told;

/// Logs method, path, status and how long the answer's head took.
pub async fn log(State(state): State<AppState>, request: Request, next: Next) -> Response {
    let line = Line::begin(state.clock, &request);
    let response = next.run(request).await;
    if let Some(Told(code)) = response.extensions().get() {
        state.sockets.metrics.refused(*code);
    }
    line.end(&response);
    response
}

/// A line that is complete once there is an answer. Nothing while nobody reads it.
pub(super) struct Line(Option<Begun>);

struct Begun {
    clock: Clock,
    at: Moment,
    method: Method,
    path: String,
}

impl Line {
    /// The query stays out: a token may be in it.
    pub(super) fn begin<B>(clock: Clock, request: &http::Request<B>) -> Self {
        let is_read = tracing::enabled!(tracing::Level::DEBUG);
        Self(is_read.then(|| Begun {
            clock,
            at: clock.now().moment,
            method: request.method().clone(),
            // Still percent-encoded, so that a name cannot break the line.
            path: request.uri().path().to_owned(),
        }))
    }

    pub(super) fn end(self, response: &Response) {
        let Some(Begun { clock, at, method, path }) = self.0 else { return };
        let elapsed_ms = clock.now().moment.since(at).as_millis() as u64;
        tracing::debug!(%method, path, status = response.status().as_u16(), elapsed_ms, "http request");
    }
}
