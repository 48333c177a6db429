//! WebSocket addresses: who may open one, on which document.
//!
//! A browser cannot see the HTTP status of a refused upgrade, so a socket that may not enter is accepted, told why, held for
//! a moment (older clients redial at once) and closed with its code.

mod connection;
mod upgrade;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Router;
use axum::http::HeaderMap;
use axum::http::Request;
use axum::http::Uri;
use axum::response::Response;
use axum::routing::get;
use bytes::Bytes;
use percent_encoding::percent_decode_str;
use syncline_protocol::ErrorCode;
use syncline_protocol::Moment;
use syncline_protocol::channel::Access;
use syncline_protocol::session::SessionSettings;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::auth::Auth;
use crate::auth::Identity;
use crate::auth::access::Level;
use crate::clock::Clock;
use crate::document::request::Member;
use crate::http::caller::token;
use crate::http::origins::Origins;
use crate::hub::Hub;
use crate::limit::ConnectionCounts;
use crate::limit::ConnectionGuard;
use crate::limit::KeyedLimiter;
use crate::limit::TokenBucket;
use crate::limit::address_key;
use crate::metrics::Metrics;
use crate::name::DocName;
use crate::outbox::Budget;
use crate::outbox::OutboxLimits;

use connection::Connection;

/// What a refused socket may still send; nobody listens.
const REFUSED_MESSAGE_BYTES: usize = 64 * 1024;
/// Frame header, message type and length around the largest update.
const FRAME_OVERHEAD_BYTES: usize = 64;

/// What every WebSocket shares.
pub struct Sockets {
    /// The documents.
    pub hub: Arc<Hub>,
    /// Who is who.
    pub auth: Arc<Auth>,
    /// The clock.
    pub clock: Clock,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Which pages may connect.
    pub origins: Arc<Origins>,
    /// How many connections there are, and whose.
    pub connections: Arc<ConnectionCounts>,
    /// Failed authentications by address and user; `None` without a limit.
    pub failed_connects: Option<KeyedLimiter>,
    /// Bounds.
    pub limits: SocketLimits,
    /// Bytes that wait in all outboxes.
    pub outboxes: Arc<Budget>,
    /// Refused sockets that are being held.
    pub held: AtomicUsize,
    /// Cancelled when the process drains: every connection closes 1012 within the stagger.
    pub drain: CancellationToken,
    /// Counts connections, so that draining can wait for them.
    pub tasks: TaskTracker,
}

/// Bounds and times of one socket.
#[derive(Debug, Clone, Copy)]
pub struct SocketLimits {
    /// Bytes of one message.
    pub message_bytes_max: usize,
    /// Of one outbox.
    pub outbox: OutboxLimits,
    /// A socket that accepts nothing for this long is closed.
    pub write_timeout: Duration,
    /// Updates per second and burst of one connection; beyond, the socket is read more slowly. `None`: no limit.
    pub updates: Option<(u32, u32)>,
    /// After a token ran out.
    pub grace: Duration,
    /// How long a refused socket is held before it is closed.
    pub hold_refused: Duration,
    /// How many are held at once; beyond, they are closed at once.
    pub held_max: usize,
    /// Over how long the closes of a drain are spread.
    pub drain_stagger: Duration,
}

/// A silent document is made to speak this often: clients give up after 30 s without a message.
const KEEP_ALIVE: Duration = Duration::from_secs(20);

/// The prefix of addresses that are for WebSockets.
const PREFIX: &str = "/sync/";

/// What requests that do not ask for a WebSocket get at its address. Those that do never come to the router: see
/// [`is_asked_for`].
pub fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new().route("/sync/{*doc}", get(async || upgrade::NotAnUpgrade))
}

/// Whether a request asks for a WebSocket where there are some.
pub fn is_asked_for<B>(request: &Request<B>) -> bool {
    request.uri().path().starts_with(PREFIX) && upgrade::is_complete(request)
}

/// Says yes to a request that [`is_asked_for`]: the response, and what the connection becomes when it was sent.
pub async fn promise<B>(sockets: Arc<Sockets>, peer: IpAddr, request: &Request<B>) -> (Response, Promised) {
    let (uri, headers) = (request.uri(), request.headers());
    let admission = sockets.admit(peer, uri, headers).await;
    let counted = sockets.tasks.token();
    (upgrade::accept(headers), Promised { sockets, admission, counted })
}

/// A WebSocket that its client was promised.
pub struct Promised {
    sockets: Arc<Sockets>,
    admission: Admission,
    /// So that draining waits for it.
    counted: TaskTrackerToken,
}

impl Promised {
    /// Runs until the socket is closed, by either side. `early` is what came on the heels of the request.
    pub fn begin(self, stream: TcpStream, early: Bytes) -> impl Future<Output = ()> {
        let counted = self.counted;
        let (connection, beginning) = Connection::open(self.sockets, self.admission, stream, early);
        async move {
            connection.run(beginning).await;
            drop(counted);
        }
    }
}

/// What was found out about somebody who wants in.
struct Admission {
    doc: Option<DocName>,
    verdict: Result<(Pass, Access), ErrorCode>,
    guard: Option<ConnectionGuard>,
}

/// Whoever was let in, kept because the rights may be looked up again.
struct Pass {
    identity: Identity,
    /// On the monotonic clock as it was at the handshake: looking again must not move it.
    expires_at: Option<Moment>,
}

impl Sockets {
    async fn admit(&self, peer: IpAddr, uri: &Uri, headers: &HeaderMap) -> Admission {
        let Some(doc) = document_of(uri) else { return Admission::refused(ErrorCode::InvalidPayload) };
        let entered = if self.origins.admit(headers) {
            match token(headers, uri) {
                Ok(token) => self.enter(peer, &doc, token.as_deref()).await,
                Err(_) => Err(ErrorCode::InvalidPayload),
            }
        } else {
            // A page elsewhere, in the browser of somebody who is let in.
            tracing::debug!(event = "connection_refused", code = ErrorCode::Forbidden.word(), reason = "origin");
            Err(ErrorCode::Forbidden)
        };
        match entered {
            Ok(admission) => Admission { doc: Some(doc), ..admission },
            Err(code) => {
                self.metrics.refused(code);
                Admission::refused(code)
            }
        }
    }

    async fn enter(&self, peer: IpAddr, doc: &DocName, token: Option<&str>) -> Result<Admission, ErrorCode> {
        let now = self.clock.now();
        let limiter = self.failed_connects.as_ref().filter(|_| !self.auth.is_dev());
        if limiter.is_some_and(|limiter| limiter.check(&address_key(peer), now.moment).is_err()) {
            return Err(ErrorCode::RateLimited);
        }
        let identity = self.auth.authenticate(token).await.map_err(|error| {
            if let Some(limiter) = limiter {
                let _ = limiter.take(&address_key(peer), now.moment); // This failure counts; whether it was one too many shows next time.
            }
            tracing::debug!(event = "connection_refused", code = error.code.word(), reason = %error.message);
            error.code
        })?;
        let access = self.access(&identity, doc).await?;
        let user = (!self.auth.is_dev()).then_some(identity.sub.as_ref());
        let guard = self.connections.try_enter(user)?;
        let expires_at = identity.expires_at_ms.map(|at| self.moment_of(at));
        Ok(Admission { doc: None, verdict: Ok((Pass { identity, expires_at }, access)), guard: Some(guard) })
    }

    /// What somebody may do with a document right now.
    async fn access(&self, identity: &Identity, doc: &DocName) -> Result<Access, ErrorCode> {
        let level = self.auth.authorize(identity, doc.as_str()).await.map_err(|error| {
            tracing::debug!(event = "connection_refused", code = error.code.word(), reason = %error.message);
            error.code
        })?;
        match level {
            Level::None => Err(ErrorCode::Forbidden),
            Level::Read => Ok(Access::Read),
            Level::Write | Level::Admin => Ok(Access::Write),
        }
    }

    /// A wall-clock time on the monotonic clock: later changes of the wall clock neither prolong nor cut a session.
    fn moment_of(&self, wall_ms: u64) -> Moment {
        let now = self.clock.now();
        now.moment.after(Duration::from_millis(wall_ms.saturating_sub(now.wall_ms)))
    }

    fn session_settings(&self, hold: bool) -> SessionSettings {
        let hold = if hold { self.limits.hold_refused } else { Duration::ZERO };
        SessionSettings { keep_alive: KEEP_ALIVE, grace: self.limits.grace, hold }
    }

    /// Bytes of one message. Nobody listens to what a refused client says.
    fn message_bytes_max(&self, refused: bool) -> usize {
        if refused { REFUSED_MESSAGE_BYTES } else { self.limits.message_bytes_max + FRAME_OVERHEAD_BYTES }
    }

    fn update_bucket(&self) -> Option<TokenBucket> {
        self.limits.updates.map(|(rate, burst)| TokenBucket::new(rate, burst))
    }

    /// Takes one of the places in which refused sockets are held.
    fn hold_place(self: &Arc<Self>) -> Option<HeldPlace> {
        let place = HeldPlace(self.clone());
        let held = self.held.fetch_add(1, Ordering::Relaxed);
        (held < self.limits.held_max).then_some(place) // Otherwise the place is given back as it is dropped.
    }
}

/// One of the places in which refused sockets are held.
struct HeldPlace(Arc<Sockets>);

impl Drop for HeldPlace {
    fn drop(&mut self) {
        self.0.held.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Admission {
    fn refused(code: ErrorCode) -> Self {
        Self { doc: None, verdict: Err(code), guard: None }
    }
}

fn member_of(identity: &Identity) -> Member {
    Member { user: identity.sub.clone(), name: identity.name.clone() }
}

/// The document that an address names: everything after `/sync/`, percent-decoded once.
fn document_of(uri: &Uri) -> Option<DocName> {
    let raw = uri.path().strip_prefix(PREFIX)?;
    let name = percent_decode_str(raw).decode_utf8().ok()?;
    DocName::parse(&name).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn future_size<A, B, C, F: Future>(_: impl Fn(A, B, C) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn a_connection_at_rest_is_small() {
        let running = future_size(Promised::begin);
        assert!(running <= 1536, "{running}");
    }

    #[test]
    fn a_document_is_named_by_its_address() {
        let named = |path: &str| document_of(&path.parse().unwrap()).map(|name| name.to_string());
        assert_eq!(named("/sync/a%20b/%C3%BC"), Some("a b/ü".into()));
        assert_eq!(named("/sync/table:T?token=x"), Some("table:T".into()));
        assert_eq!(named("/sync/a%252Fb"), Some("a%2Fb".into()), "decoded once");
        assert_eq!(named("/sync/a%2Fb"), Some("a/b".into()));
        assert_eq!(named("/sync/%ff"), None);
        assert_eq!(named("/sync/"), None);
        assert_eq!(named("/sync/user:bob"), None);
    }
}
