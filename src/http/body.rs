//! Reading a request's body without letting it cost more than it may: in bytes, in time, and together with all others.

use std::sync::Arc;
use std::time::Duration;

use axum::body::BodyDataStream;
use axum::body::Bytes;
use axum::extract::DefaultBodyLimit;
use axum::extract::FromRequest;
use axum::extract::Request;
use axum::http::header;
use futures_util::StreamExt;
use serde::de::DeserializeOwned;
use syncline_protocol::ErrorCode;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio::time::timeout;
use tokio::time::timeout_at;

use crate::http::AppState;
use crate::http::Settings;
use crate::http::problem::Problem;

/// The largest body when `limits.message_bytes` is switched off.
const BODY_BYTES_MAX: usize = 256 * 1024 * 1024;
/// A whole body has this long: 16 MiB at 140 kB/s. A sender that trickles is cut here, whatever it sends.
const BODY_TIME_MAX: Duration = Duration::from_secs(120);
/// Bodies held at once, by all requests together: 32 of the largest by default.
const BUDGET_KIB: usize = 512 * 1024;
/// Full: a request waits this long for others to end, then it is told to come back.
const BUDGET_WAIT_MAX: Duration = Duration::from_secs(5);

/// Of a body that is refused, so much is still read, and so long.
const DISCARDED_BYTES_MAX: usize = 8 * 1024 * 1024;
const DISCARD_TIME_MAX: Duration = Duration::from_secs(5);

/// The memory that all bodies share, counted in KiB.
pub struct BodyBudget(Arc<Semaphore>);

impl Default for BodyBudget {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(BUDGET_KIB)))
    }
}

/// A body, and its share of the budget for as long as it is kept.
pub struct Body {
    /// What came.
    pub bytes: Bytes,
    /// Released when the request is answered.
    _share: OwnedSemaphorePermit,
}

/// How large a body may be.
#[must_use]
pub fn bytes_max(settings: &Settings) -> usize {
    if settings.message_bytes == 0 { BODY_BYTES_MAX } else { settings.message_bytes.min(BODY_BYTES_MAX) }
}

/// Reads a body that the caller has the right to send. Rights come first: who may not write cannot fill the budget.
///
/// # Errors
/// `PAYLOAD_TOO_LARGE` over the limit, `INVALID_PAYLOAD` when it ends early or takes too long, `OVERLOADED` when too
/// many bodies are under way.
pub async fn read(state: &AppState, request: Request) -> Result<Body, Problem> {
    let Admitted { mut request, limit, share } = admit(state, request).await?;
    // Replaces the default of 2 MB.
    DefaultBodyLimit::max(limit).apply(&mut request);
    let bytes = timeout(BODY_TIME_MAX, Bytes::from_request(request, state)).await.map_err(|_| Problem::too_slow())?;
    let bytes = bytes.map_err(|rejection| match Problem::from(rejection) {
        problem if problem.code() == ErrorCode::PayloadTooLarge => over(limit),
        problem => problem,
    })?;
    Ok(Body { bytes, _share: share })
}

/// A request whose body may be read now.
struct Admitted {
    request: Request,
    limit: usize,
    share: OwnedSemaphorePermit,
}

/// Refuses a body that says of itself that it is too large, and takes its share of the budget.
async fn admit(state: &AppState, request: Request) -> Result<Admitted, Problem> {
    let limit = bytes_max(&state.settings);
    let declared = declared_bytes(&request);
    if declared.is_some_and(|bytes| bytes > limit as u64) {
        discard(request).await;
        return Err(over(limit));
    }
    let expected = declared.and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or(limit);
    let share = state.body_budget.take(expected).await?;
    Ok(Admitted { request, limit, share })
}

/// A small body as the value that it should be.
///
/// # Errors
/// `INVALID_PAYLOAD`: 400 when it is no JSON, 422 with what was `expected` when it is another value.
pub(super) fn json<T: DeserializeOwned>(bytes: &[u8], expected: &'static str) -> Result<T, Problem> {
    serde_json::from_slice(bytes).map_err(|error| match error.is_data() {
        true => Problem::wrong("body", expected),
        false => Problem::unreadable("body", "the body is not JSON"),
    })
}

/// A body that is read piece by piece, within the same bounds as one that is read whole.
pub(super) struct Pieces {
    chunks: BodyDataStream,
    limit: usize,
    left: usize,
    until: Instant,
    /// The client waits to be told before it sends.
    is_asked_for: bool,
    _share: OwnedSemaphorePermit,
}

/// Begins to read a body. Its share of the budget is for what is made of it, which is kept until the answer.
///
/// # Errors
/// As [`read`].
pub(super) async fn pieces(state: &AppState, request: Request) -> Result<Pieces, Problem> {
    let Admitted { request, limit, share } = admit(state, request).await?;
    let is_asked_for = request.headers().contains_key(header::EXPECT);
    let chunks = request.into_body().into_data_stream();
    Ok(Pieces { chunks, limit, left: limit, until: Instant::now() + BODY_TIME_MAX, is_asked_for, _share: share })
}

impl Pieces {
    /// The next piece; `None` at the end.
    ///
    /// # Errors
    /// As [`read`].
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Problem> {
        let chunk = timeout_at(self.until, self.chunks.next()).await.map_err(|_| Problem::too_slow())?;
        let Some(chunk) = chunk else { return Ok(None) };
        let chunk = chunk.map_err(|_| Problem::unreadable("body", "the body ended early"))?;
        self.left = self.left.checked_sub(chunk.len()).ok_or_else(|| over(self.limit))?;
        Ok(Some(chunk))
    }

    /// Ends without having read everything; see [`discard`].
    pub(super) async fn refuse(self) {
        if !self.is_asked_for || self.left < self.limit {
            drain(self.chunks).await;
        }
    }
}

/// Reads on for a moment without keeping anything: a client that still writes when the connection closes sees a broken
/// pipe and not the answer. One that asked first (`Expect`) has not begun.
async fn discard(request: Request) {
    if !request.headers().contains_key(header::EXPECT) {
        drain(request.into_body().into_data_stream()).await;
    }
}

async fn drain(mut chunks: BodyDataStream) {
    let mut left = DISCARDED_BYTES_MAX;
    let reading = async {
        while let Some(Ok(chunk)) = chunks.next().await
            && left > 0
        {
            left = left.saturating_sub(chunk.len());
        }
    };
    let _ = timeout(DISCARD_TIME_MAX, reading).await; // Whoever is still sending then has had the chance.
}

fn declared_bytes(request: &Request) -> Option<u64> {
    request.headers().get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

pub(super) fn over(limit: usize) -> Problem {
    Problem::too_large(limit, format!("the body is over {limit} bytes"))
}

impl BodyBudget {
    pub(super) async fn take(&self, bytes: usize) -> Result<OwnedSemaphorePermit, Problem> {
        let kib = u32::try_from(bytes.div_ceil(1024).clamp(1, BUDGET_KIB)).unwrap_or(u32::MAX);
        let share = timeout(BUDGET_WAIT_MAX, self.0.clone().acquire_many_owned(kib)).await;
        let full = || Problem::new(ErrorCode::Overloaded, "too many bodies are under way; try again");
        share.map_err(|_| full())?.map_err(Problem::internal)
    }
}
