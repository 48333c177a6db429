//! `POST /v1/docs/{doc}/stateless`: a word from an application server to everybody who is connected to a document.

use axum::Router;
use axum::extract::Request as HttpRequest;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;

use crate::auth::Level;
use crate::document::request::Answer;
use crate::document::request::Request;
use crate::http::AppState;
use crate::http::body;
use crate::http::caller::Caller;
use crate::http::docs::DocPath;
use crate::http::docs::ask;
use crate::http::docs::unexpected;
use crate::http::problem;
use crate::http::problem::Problem;

/// A word, not a document: every reader's outbox has to take it.
const TEXT_BYTES_MAX: usize = 64 * 1024;

/// The routes.
pub fn routes() -> Router<AppState> {
    Router::new().route("/v1/docs/{doc}/stateless", post(say_stateless))
}

/// Sends a text to every connection of the document that speaks the Hocuspocus dialect. It is not kept: who is not there, or
/// does not read, misses it.
#[utoipa::path(
    post, path = "/v1/docs/{doc}/stateless", tag = "documents", operation_id = "sayStateless",
    params(("doc" = String, Path, description = "The name, percent-encoded as one segment")),
    request_body(content = String, content_type = "text/plain", description = "UTF-8, at most 64 KiB"),
    responses(
        (status = 202, description = "On its way"),
        (status = 400, description = "`INVALID_PAYLOAD`: not UTF-8", body = problem::Body),
        (status = 413, description = "`PAYLOAD_TOO_LARGE`", body = problem::Body),
        (status = "default", description = "Refused; nothing was sent", body = problem::Body),
    )
)]
pub(super) async fn say_stateless(
    State(state): State<AppState>,
    caller: Caller,
    DocPath(doc): DocPath,
    request: HttpRequest,
) -> Result<StatusCode, Problem> {
    caller.require(Level::Write, &doc).await?;
    let body = body::read(&state, request).await?;
    if body.bytes.len() > TEXT_BYTES_MAX {
        return Err(body::over(TEXT_BYTES_MAX));
    }
    if std::str::from_utf8(&body.bytes).is_err() {
        return Err(Problem::unreadable("body", "the body is not UTF-8"));
    }
    match ask(&state, &doc, Request::Say { text: body.bytes.clone() }).await? {
        Answer::Done => Ok(StatusCode::ACCEPTED),
        other => Err(unexpected(&other)),
    }
}
