//! The one shape in which the REST side says no.
//!
//! Everything that ends a request without its answer becomes a [`Problem`]: a refusal of the domain, a token that does
//! not hold, a body that cannot be read, an unknown address, a panic.

use std::any::Any;
use std::borrow::Cow;
use std::fmt::Display;

use axum::extract::rejection::BytesRejection;
use axum::extract::rejection::FailedToBufferBody;
use axum::extract::rejection::PathRejection;
use axum::extract::rejection::QueryRejection;
use axum::http::HeaderValue;
use axum::http::Method;
use axum::http::StatusCode;
use axum::http::header;
use axum::response::IntoResponse;
use axum::response::Json;
use axum::response::Response;
use serde::Serialize;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;
use syncline_protocol::ErrorCode;
use utoipa::ToSchema;

use crate::document::request::Refusal;
use crate::room::RoomFull;
use crate::room::RoomsFull;

/// A refusal on its way out: `{"status":"error","code","message","data"}`.
#[derive(Debug)]
pub struct Problem {
    status: StatusCode,
    code: ErrorCode,
    message: Cow<'static, str>,
    data: Map<String, Value>,
}

/// The body of every answer that is not a success.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Problem)]
pub(super) struct Body<'a> {
    /// Always `error`.
    #[schema(example = "error")]
    status: &'static str,
    /// The code word; programs decide by it.
    #[schema(example = "NOT_FOUND")]
    code: &'static str,
    /// One sentence for people.
    message: &'a str,
    /// What the code promises: `path`, `limit`, `retryAfterMs`, `traceId`, or nothing.
    #[schema(value_type = Object)]
    data: &'a Map<String, Value>,
}

impl Problem {
    /// A refusal with the status that its code has.
    #[must_use]
    pub fn new(code: ErrorCode, message: impl Into<Cow<'static, str>>) -> Self {
        let status = StatusCode::from_u16(code.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Self { status, code, message: message.into(), data: Map::new() }
    }

    /// Something that cannot be parsed: 400. `path` names the parameter, or is `body`.
    #[must_use]
    pub fn unreadable(path: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorCode::InvalidPayload, message).with("path", path)
    }

    /// Something that was parsed and is wrong: 422.
    #[must_use]
    pub fn wrong(path: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self { status: StatusCode::UNPROCESSABLE_ENTITY, ..Self::unreadable(path, message) }
    }

    /// Over a size limit.
    #[must_use]
    pub fn too_large(limit: usize, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorCode::PayloadTooLarge, message).with("limit", limit)
    }

    /// The body did not arrive in time. There is no code word for it alone: it could not be parsed.
    #[must_use]
    pub fn too_slow() -> Self {
        let problem = Self::unreadable("body", "the body did not arrive in time");
        Self { status: StatusCode::REQUEST_TIMEOUT, ..problem }
    }

    /// Our fault. The detail is logged here, under an id that the answer carries; the client gets the id alone.
    #[must_use]
    pub fn internal(detail: impl Display) -> Self {
        let trace_id = format!("{:032x}", rand::random::<u128>());
        tracing::error!(trace_id, detail = %detail, "a request failed");
        Self::new(ErrorCode::Internal, "the server failed; its log has the details under the trace id")
            .with("traceId", trace_id)
    }

    /// Adds a fact to `data`.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.data.insert(key.to_owned(), value.into());
        self
    }

    /// Which kind of no.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        self.code
    }

    /// What its code promises besides.
    pub(super) fn data(&self) -> &Map<String, Value> {
        &self.data
    }

    /// The one shape, as JSON.
    pub(super) fn to_json(&self) -> Value {
        json!({"status": "error", "code": self.code.word(), "message": self.message, "data": self.data})
    }

    /// How many whole seconds the client should wait, where waiting helps.
    fn retry_after_seconds(&self) -> Option<u64> {
        let told = self.data.get("retryAfterMs").and_then(Value::as_u64);
        let transient = self.status == StatusCode::SERVICE_UNAVAILABLE;
        told.map(|ms| ms.div_ceil(1000).max(1)).or_else(|| transient.then_some(1))
    }
}

/// Rides on a refusing response, so that it is counted where the metrics are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Told(pub(super) ErrorCode);

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let code = self.code.word();
        let body = Body { status: "error", code, message: &self.message, data: &self.data };
        let mut response = (self.status, Json(body)).into_response();
        response.extensions_mut().insert(Told(self.code));
        let headers = response.headers_mut();
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(seconds) = self.retry_after_seconds() {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let mut problem = match refusal.code {
            ErrorCode::Internal => Self::internal(refusal.message),
            // The edge has parsed it before the domain saw it.
            ErrorCode::InvalidPayload => Self::wrong("body", refusal.message),
            code => Self::new(code, refusal.message),
        };
        problem.data.extend(refusal.data.map(|data| *data).unwrap_or_default());
        problem
    }
}

impl From<RoomFull> for Problem {
    fn from(full: RoomFull) -> Self {
        Self::new(ErrorCode::RoomFull, full.to_string())
    }
}

impl From<RoomsFull> for Problem {
    fn from(full: RoomsFull) -> Self {
        Self::new(ErrorCode::Overloaded, full.to_string())
    }
}

impl From<PathRejection> for Problem {
    fn from(rejection: PathRejection) -> Self {
        match rejection {
            PathRejection::FailedToDeserializePathParams(why) => Self::unreadable("path", why.body_text()),
            other => Self::internal(other),
        }
    }
}

impl From<QueryRejection> for Problem {
    fn from(_: QueryRejection) -> Self {
        // The rejection's own text may quote the query, and a token may be in it.
        Self::unreadable("query", "the query string cannot be read; does a parameter stand in it twice?")
    }
}

impl From<BytesRejection> for Problem {
    fn from(rejection: BytesRejection) -> Self {
        match rejection {
            BytesRejection::FailedToBufferBody(FailedToBufferBody::LengthLimitError(_)) => {
                Self::new(ErrorCode::PayloadTooLarge, "the body is too large")
            }
            _ => Self::unreadable("body", "the body ended early"),
        }
    }
}

/// Answers for an address that does not exist.
pub(super) async fn unknown_address() -> Problem {
    Problem::new(ErrorCode::NotFound, "there is nothing at this address; /openapi.json lists what there is")
}

/// Answers for a method that an address does not take. The `Allow` header, which the router adds, has those it takes.
pub(super) async fn unknown_method(method: Method) -> Problem {
    let problem = Problem::new(ErrorCode::NotFound, format!("this address does not take {method}"));
    Problem { status: StatusCode::METHOD_NOT_ALLOWED, ..problem }
}

/// Answers for a handler that panicked. Every other request goes on.
pub(super) fn panicked(cause: Box<dyn Any + Send>) -> Response {
    let text = cause.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| cause.downcast_ref::<&'static str>().copied());
    Problem::internal(format_args!("a handler panicked: {}", text.unwrap_or("without a message"))).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn parts(problem: Problem) -> (StatusCode, Option<String>, Value) {
        let response = problem.into_response();
        let status = response.status();
        let retry = response.headers().get(header::RETRY_AFTER).map(|v| v.to_str().unwrap().to_owned());
        let body = axum::body::to_bytes(response.into_body(), 10_000).await.unwrap();
        (status, retry, serde_json::from_slice(&body).unwrap())
    }

    #[tokio::test]
    async fn every_code_has_the_one_shape_and_its_status() {
        for &code in ErrorCode::ALL {
            let (status, _, body) = parts(Problem::new(code, "why")).await;
            assert_eq!(status.as_u16(), code.http_status());
            let want = serde_json::json!({"status": "error", "code": code.word(), "message": "why", "data": {}});
            assert_eq!(body, want);
        }
    }

    #[tokio::test]
    async fn what_was_parsed_and_is_wrong_is_422_and_says_where() {
        let (status, _, body) = parts(Problem::wrong("limit", "too small")).await;
        assert_eq!(
            (status.as_u16(), &body["code"], &body["data"]["path"]),
            (422, &"INVALID_PAYLOAD".into(), &"limit".into())
        );
    }

    #[tokio::test]
    async fn an_inner_failure_is_told_by_an_id_and_not_by_its_text() {
        let (status, _, body) = parts(Refusal::new(ErrorCode::Internal, "secret detail").into()).await;
        assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
        assert!(!body.to_string().contains("secret detail"));
        assert_eq!(body["data"]["traceId"].as_str().map(str::len), Some(32));
    }

    #[tokio::test]
    async fn who_may_come_back_is_told_when() {
        let limited = Problem::new(ErrorCode::RateLimited, "slow down").with("retryAfterMs", 1_500);
        assert_eq!(parts(limited).await.1.as_deref(), Some("2"));
        assert_eq!(parts(Problem::new(ErrorCode::StoreUnavailable, "later")).await.1.as_deref(), Some("1"));
        assert_eq!(parts(Problem::new(ErrorCode::Forbidden, "no")).await.1, None);
    }
}
