//! The way in: polling comes as requests, a WebSocket as a connection that its HTTP server lets go of.

use std::net::IpAddr;

use axum::Router;
use axum::http::Request;
use axum::http::request::Parts;
use axum::response::IntoResponse;
use axum::response::Response;
use bytes::Bytes;
use syncline_protocol::ErrorCode;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use super::Engine;
use crate::http::AppState;
use crate::http::problem::Problem;
use crate::http::ws;

/// Where the peer of a request is kept, for whoever must know.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub IpAddr);

const PATH: &str = "/socket.io";

/// The address as requests reach it.
pub fn routes(engine: &Engine, state: &AppState) -> Router<AppState> {
    let service = engine.0.clone();
    Router::new()
        .route_service(PATH, service.clone())
        .route_service("/socket.io/", service)
        .layer(state.origins.cors_with_credentials())
}

/// Whether a request asks for a WebSocket of Socket.IO.
pub fn is_asked_for<B>(request: &Request<B>) -> bool {
    request.uri().path().trim_end_matches('/') == PATH && ws::is_complete(request)
}

/// Whether a request begins to poll.
pub fn is_first_poll<B>(request: &Request<B>) -> bool {
    let mut asked = request.uri().query().unwrap_or_default().split('&');
    request.uri().path().trim_end_matches('/') == PATH && !asked.any(|pair| pair.starts_with("sid="))
}

/// Says yes to a request that [`is_asked_for`], and what the connection becomes when that was sent. A page that may not
/// come in is told so in HTTP: the client cannot tell it apart from a server that is away, and tries again later.
pub fn promise<B>(
    engine: &Engine,
    state: &AppState,
    peer: IpAddr,
    request: Request<B>,
) -> (Response, Option<Promised>) {
    let (mut parts, _) = request.into_parts();
    if !state.origins.admit(&parts.headers) {
        let problem = Problem::new(ErrorCode::Forbidden, "this origin is not one of auth.allowed_origins");
        return (problem.into_response(), None);
    }
    parts.extensions.clear();
    parts.extensions.insert(Peer(peer));
    let response = ws::accept(&parts.headers);
    (response, Some(Promised { engine: engine.clone(), parts }))
}

/// A WebSocket that its client was promised.
pub struct Promised {
    engine: Engine,
    parts: Parts,
}

impl Promised {
    /// Hands the connection over. `early` is what came on the heels of the request.
    pub fn begin(self, stream: TcpStream, early: Bytes) {
        let (reading, writing) = stream.into_split();
        let connection = tokio::io::join(std::io::Cursor::new(early).chain(reading), writing);
        let request = Request::from_parts(self.parts, ());
        let taken = hyper::service::Service::call(&self.engine.0, (connection, request));
        // What is wrong with the request is known at once; the connection is closed with what was to take it.
        if let Err(error) = taken.into_inner() {
            tracing::debug!(event = "engine_refused", %error);
        }
    }
}
