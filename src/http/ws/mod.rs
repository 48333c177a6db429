//! WebSocket addresses: who may open one, on which document.
//!
//! A browser cannot see the HTTP status of a refused upgrade, so a socket that may not enter is accepted, told why, held for
//! a moment (older clients redial at once) and closed with its code.

mod admission;
mod channels;
mod connection;
mod rights;
mod seats;
mod upgrade;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use axum::Router;
use axum::http::Request;
use axum::response::Response;
use axum::routing::get;
use bytes::Bytes;
use syncline_protocol::session::HocuspocusSettings;
use syncline_protocol::session::SessionSettings;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::auth::Auth;
use crate::clock::Clock;
use crate::http::origins::Origins;
use crate::hub::Hub;
use crate::limit::ConnectionCounts;
use crate::limit::KeyedLimiter;
use crate::limit::TokenBucket;
use crate::metrics::Metrics;
use crate::outbox::Budget;
use crate::outbox::OutboxLimits;
use crate::room::Feeds;

use admission::Admission;
use connection::Connection;

pub(super) use upgrade::accept;
pub(super) use upgrade::is_complete;

/// What a refused socket may still send; nobody listens.
const REFUSED_MESSAGE_BYTES: usize = 64 * 1024;
/// Frame header, message type and length around the largest update.
const FRAME_OVERHEAD_BYTES: usize = 64;

/// What every WebSocket shares.
pub struct Sockets {
    /// The documents.
    pub hub: Arc<Hub>,
    /// The rooms: each document is one, and may be full.
    pub feeds: Arc<Feeds>,
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
    /// Bytes that wait on connections on which nobody has proved anything yet.
    pub unproved_bytes: AtomicUsize,
    /// Cancelled when connections are to go: every one of them closes 1012 within the stagger.
    pub drain: CancellationToken,
    /// Cancelled when they are to go at once.
    pub hurry: CancellationToken,
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
    /// How long a connection of many documents may be without any, a document without a token, and a token without a verdict.
    pub auth_within: Duration,
    /// How long a socket is held before it is closed for good: one that was refused, or whose document ended it.
    pub hold_refused: Duration,
    /// How many are held at once; beyond, they are closed at once.
    pub held_max: usize,
    /// Bytes that may wait, over all connections, on those on which nobody has proved anything yet.
    pub unproved_bytes_max: usize,
    /// Over how long the closes of a drain are spread.
    pub drain_stagger: Duration,
}

/// A silent document is made to speak this often: clients give up after 30 s without a message.
const KEEP_ALIVE: Duration = Duration::from_secs(20);

/// One document, which the rest of the address names.
const DOCUMENT_PREFIX: &str = "/sync/";
/// Any documents, which the frames name.
const DOCUMENTS: &str = "/collab";

/// How long before its token runs out a client is asked for another.
const RENEW_BEFORE: Duration = Duration::from_secs(30);
/// How soon a client that was let in must begin to synchronise.
const SYNC_WITHIN: Duration = Duration::from_secs(10);
/// Documents of one connection.
const CHANNELS_MAX: usize = 1000;

/// What requests that do not ask for a WebSocket get at its address. Those that do never come to the router: see
/// [`is_asked_for`].
pub fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    let not_an_upgrade = || get(async || upgrade::NotAnUpgrade);
    Router::new().route("/sync/{*doc}", not_an_upgrade()).route(DOCUMENTS, not_an_upgrade())
}

/// Whether a request asks for a WebSocket where there are some.
pub fn is_asked_for<B>(request: &Request<B>) -> bool {
    let path = request.uri().path();
    let is_known = path.starts_with(DOCUMENT_PREFIX) || path.trim_end_matches('/') == DOCUMENTS;
    is_known && upgrade::is_complete(request)
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

impl Sockets {
    fn session_settings(&self, hold: bool) -> SessionSettings {
        let hold = if hold { self.limits.hold_refused } else { Duration::ZERO };
        SessionSettings { keep_alive: KEEP_ALIVE, grace: self.limits.grace, hold, hold_ended: self.limits.hold_refused }
    }

    fn hocuspocus_settings(&self) -> HocuspocusSettings {
        HocuspocusSettings {
            keep_alive: KEEP_ALIVE,
            grace: self.limits.grace,
            renew_before: RENEW_BEFORE,
            auth_within: self.limits.auth_within,
            sync_within: SYNC_WITHIN,
            channels_max: CHANNELS_MAX,
            anonymous: self.auth.is_dev(),
        }
    }

    /// Bytes of one message. Nobody listens to what a refused client says.
    fn message_bytes_max(&self, refused: bool) -> usize {
        if refused { REFUSED_MESSAGE_BYTES } else { self.limits.message_bytes_max + FRAME_OVERHEAD_BYTES }
    }

    fn update_bucket(&self) -> Option<TokenBucket> {
        self.limits.updates.map(|(rate, burst)| TokenBucket::new(rate, burst))
    }
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
}
