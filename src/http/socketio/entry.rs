//! From a connection that says nothing to a client that is let in: who it is, and whether there is room.

use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use engineioxide::Str;
use serde::Deserialize;
use serde_json::json;
use syncline_protocol::ErrorCode;
use syncline_protocol::socket_io;
use syncline_protocol::socket_io::Kind;
use syncline_protocol::socket_io::Packet;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio::time::sleep_until;

use super::Gateway;
use super::Socket;
use super::door::Peer;
use super::pace::too_often;
use super::session::Session;
use super::wire::Wire;
use crate::auth::Identity;
use crate::http::caller;
use crate::http::problem::Problem;
use crate::limit::ConnectionGuard;
use crate::limit::connections::Place;

/// Those who wait are told where they stand so often, where that changed.
const STATUS_EVERY: Duration = Duration::from_secs(1);
/// What the first in line may expect where nobody knows how fast it moves.
const WAIT_UNKNOWN: Duration = Duration::from_secs(1);

/// What a client brings along when it connects.
#[derive(Deserialize, Default)]
struct Brought {
    token: Option<String>,
}

/// Follows a client until it is gone.
pub(super) async fn run(gateway: &Arc<Gateway>, socket: &Arc<Socket>, mut messages: mpsc::Receiver<Str>) {
    let mut wire = Wire::new(socket.clone(), gateway.state.sockets.metrics.clone());
    let until = Instant::now() + gateway.state.sockets.limits.auth_within;
    let Some(identity) = introduced(gateway, &mut wire, &mut messages, until).await else { return };
    let user = (!gateway.state.auth.is_dev()).then(|| identity.sub.clone());
    let connections = &gateway.state.sockets.connections;
    let counted = match connections.try_enter(user.as_deref()) {
        Err(ErrorCode::Overloaded) => match connections.wait(user.as_deref(), gateway.settings.queue_waiting) {
            Err(ErrorCode::Overloaded) => Err(full(gateway)),
            Err(code) => Err(too_many(code)),
            Ok(place) => {
                wire.send(socket_io::connect(socket.id.as_str()));
                let Some(guard) = wait(gateway, &mut wire, &place, user.as_deref()).await else { return };
                return Session::new(gateway, wire, identity, guard).run(messages).await;
            }
        },
        Err(code) => Err(too_many(code)),
        Ok(guard) => Ok(guard),
    };
    match counted {
        Ok(guard) => {
            wire.send(socket_io::connect(socket.id.as_str()));
            Session::new(gateway, wire, identity, guard).run(messages).await;
        }
        Err(problem) => refuse(gateway, &mut wire, &problem).await,
    }
}

/// Waits until it has said who it is. `None`: it never did, or is gone.
async fn introduced(
    gateway: &Gateway,
    wire: &mut Wire,
    messages: &mut mpsc::Receiver<Str>,
    until: Instant,
) -> Option<Identity> {
    loop {
        let message = tokio::select! {
            biased;
            () = wire.socket().closed() => return None,
            () = gateway.state.sockets.drain.cancelled() => return None,
            () = sleep_until(until) => return None,
            message = messages.recv() => message?,
        };
        wire.socket().data.taken(&message);
        let packet = socket_io::parse(&message).ok()?;
        match (packet.kind, packet.namespace) {
            (Kind::Connect, socket_io::ROOT) => match identify(gateway, wire.socket(), packet).await {
                Ok(identity) => return Some(identity),
                Err(problem) => {
                    refuse(gateway, wire, &problem).await;
                    return None;
                }
            },
            (Kind::Connect, namespace) => wire.send(unknown_namespace(namespace)),
            // It is not in yet, and nothing that it says is looked at.
            _ => {}
        }
    }
}

pub(super) fn unknown_namespace(namespace: &str) -> String {
    socket_io::connect_error(namespace, &json!({"message": "Invalid namespace"}).to_string())
}

/// Says no and lets the client read that, for a moment.
async fn refuse(gateway: &Gateway, wire: &mut Wire, problem: &Problem) {
    gateway.state.sockets.metrics.refused(problem.code());
    let data = problem.to_json();
    let message = format!("{}: {}", problem.code().word(), data["message"].as_str().unwrap_or_default());
    wire.send(socket_io::connect_error(socket_io::ROOT, &json!({"message": message, "data": data}).to_string()));
    // Clients hang up when they have read it. One that stays is in nobody's way, but for a while.
    let patience = Instant::now() + gateway.state.sockets.limits.hold_refused;
    tokio::select! {
        () = wire.socket().closed() => {}
        () = gateway.state.sockets.drain.cancelled() => {}
        () = sleep_until(patience) => {}
    }
}

/// Who it is, by the token that it brings, or by that of the request that opened the connection.
async fn identify(gateway: &Gateway, socket: &Socket, packet: Packet<'_>) -> Result<Identity, Problem> {
    let (state, parts) = (&gateway.state, &socket.req_parts);
    if !state.origins.admit(&parts.headers) {
        return Err(Problem::new(ErrorCode::Forbidden, "this origin is not one of auth.allowed_origins"));
    }
    let brought: Brought = match packet.payload {
        "" => Brought::default(),
        payload => serde_json::from_str(payload)
            .map_err(|_| Problem::unreadable("auth", "expected an object with a token, which is text"))?,
    };
    let token = match brought.token.filter(|token| !token.is_empty()) {
        Some(token) => Some(token),
        None => caller::token(&parts.headers, &parts.uri)?,
    };
    // Polling behind a proxy that does not say is one address for all.
    let peer = parts.extensions.get().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |Peer(peer)| *peer);
    let identity = state.sockets.identify(peer, token.as_deref()).await;
    identity.map_err(|error| match state.sockets.failed_connects_wait(peer) {
        Some(wait) if error.code == ErrorCode::RateLimited => too_often(wait),
        _ => Problem::from(error),
    })
}

/// How long somebody waits who has too many connections is up to them.
fn too_many(code: ErrorCode) -> Problem {
    Problem::new(code, "this user has too many connections").with("retryAfterMs", 1_000)
}

/// Nobody else can even wait.
fn full(gateway: &Gateway) -> Problem {
    let connections = &gateway.state.sockets.connections;
    let waiting = connections.waiting();
    let problem =
        Problem::new(ErrorCode::Overloaded, "the server is full, and so is its waiting line; try again later");
    let wait = WAIT_UNKNOWN.saturating_mul(u32::try_from(waiting).unwrap_or(u32::MAX));
    problem.with("queuePosition", waiting + 1).with("estimatedWaitMs", millis(wait))
}

/// Waits in line, and tells the client where it stands. `None`: it is gone, or may not stay.
async fn wait(gateway: &Gateway, wire: &mut Wire, place: &Place, user: Option<&str>) -> Option<ConnectionGuard> {
    let (mut told, mut tell_at) = (0, Instant::now());
    loop {
        let mut moved = std::pin::pin!(place.moved());
        moved.as_mut().enable();
        match place.try_enter(user, gateway.state.clock.now().moment) {
            Ok(Some(guard)) => {
                wire.tell("queue:status", &json!({"position": 0, "estimatedWaitMs": 0}));
                return Some(guard);
            }
            Ok(None) => {}
            Err(code) => {
                wire.tell("error", &too_many(code).to_json());
                return None;
            }
        }
        let position = place.position();
        if position != told && Instant::now() >= tell_at && wire.is_clear() {
            wire.tell("queue:status", &status(gateway, place, position));
            (told, tell_at) = (position, Instant::now() + STATUS_EVERY);
        }
        tokio::select! {
            biased;
            () = wire.socket().closed() => return None,
            () = gateway.state.sockets.drain.cancelled() => return None,
            () = moved => {}
            () = sleep_until(tell_at.max(Instant::now() + STATUS_EVERY)) => drop(wire.flush()),
        }
    }
}

fn status(gateway: &Gateway, place: &Place, position: usize) -> serde_json::Value {
    let unknown = WAIT_UNKNOWN.saturating_mul(u32::try_from(position).unwrap_or(u32::MAX));
    let wait = place.estimated_wait(gateway.state.clock.now().moment).unwrap_or(unknown);
    json!({"position": position, "estimatedWaitMs": millis(wait)})
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
