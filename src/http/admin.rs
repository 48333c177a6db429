//! What operators do: look, send everybody elsewhere, take rights back. Each needs `admin` on `*` in the token.

use axum::Json;
use axum::Router;
use axum::extract::Request;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::routing::get;
use axum::routing::post;
use serde::Deserialize;
use serde::Serialize;
use syncline_protocol::ErrorCode;
use syncline_protocol::Moment;
use utoipa::ToSchema;

use crate::auth::Mode;
use crate::auth::Revocation;
use crate::auth::jwt;
use crate::http::AppState;
use crate::http::body;
use crate::http::caller::Caller;
use crate::http::ops::Standing;
use crate::http::problem;
use crate::http::problem::Problem;
use crate::name::NAME_BYTES_MAX;

/// The routes for operators.
pub fn routes() -> Router<AppState> {
    Router::new()
        .route("/v1/admin/stats", get(stats))
        .route("/v1/admin/drain", post(drain))
        .route("/v1/admin/revoke", post(revoke))
}

/// What this process holds.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Stats {
    version: &'static str,
    uptime_seconds: u64,
    draining: bool,
    /// This node, in a cluster: another one each time that it starts.
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<String>,
    /// Nodes that are alive as far as this one knows, itself included.
    nodes: usize,
    /// Documents in memory.
    documents: usize,
    /// Channels that read them.
    readers: usize,
    /// Bytes that wait for slow readers.
    outbox_bytes: usize,
    /// Rooms in memory: those that somebody listens to, that a loaded document tells, or that keep a history.
    rooms: usize,
    /// Connections that are present in rooms, as often as they are.
    room_members: usize,
    /// Those who listen to rooms, as often as they do.
    room_listeners: usize,
    /// About what histories take.
    room_bytes: usize,
}

/// What this process holds.
#[utoipa::path(
    get, path = "/v1/admin/stats", tag = "operators", operation_id = "stats",
    responses(
        (status = 200, description = "Counts and sizes", body = Stats),
        (status = "default", description = "Refused: this needs `admin` on `*`", body = problem::Body),
    )
)]
pub(super) async fn stats(State(state): State<AppState>, caller: Caller) -> Result<Json<Stats>, Problem> {
    caller.require_operator()?;
    let (hub, rooms) = (state.hub.stats(), state.feeds.stats());
    Ok(Json(Stats {
        version: env!("CARGO_PKG_VERSION"),
        // The clock counts from the start of the process.
        uptime_seconds: state.clock.now().moment.since(Moment::default()).as_secs(),
        draining: state.draining.is_cancelled(),
        node: state.cluster.as_ref().map(|cluster| cluster.node().to_string()),
        nodes: state.cluster.as_ref().map_or(1, |cluster| cluster.alive()),
        documents: hub.documents,
        readers: hub.readers,
        outbox_bytes: hub.outbox_bytes,
        rooms: rooms.all.rooms,
        room_members: rooms.all.members,
        room_listeners: rooms.all.listeners,
        room_bytes: rooms.bytes,
    }))
}

/// Begins an orderly end: not ready, nobody new, everybody sent elsewhere, everything flushed, exit.
#[utoipa::path(
    post, path = "/v1/admin/drain", tag = "operators", operation_id = "drain",
    responses(
        (status = 202, description = "It has begun, now or before", body = Standing),
        (status = "default", description = "Refused: this needs `admin` on `*`", body = problem::Body),
    )
)]
pub(super) async fn drain(State(state): State<AppState>, caller: Caller) -> Result<impl IntoResponse, Problem> {
    caller.require_operator()?;
    state.draining.cancel();
    Ok((StatusCode::ACCEPTED, Json(Standing { status: "draining" })))
}

/// What to take back: exactly one of `sub`, `jti` and `room`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Revoke)]
pub(super) struct RevokeBody {
    /// A user, in all rooms.
    sub: Option<String>,
    /// One token. It is refused from now on and its connections end, whatever the mode.
    jti: Option<String>,
    /// Everybody in one room.
    room: Option<String>,
    /// `recheck` looks the rights up again; `disconnect` ends the connections, and with `sub` refuses all tokens that
    /// were issued so far.
    #[serde(default)]
    mode: ModeWord,
}

#[derive(Deserialize, ToSchema, Default, Clone, Copy)]
#[serde(rename_all = "lowercase")]
enum ModeWord {
    #[default]
    Recheck,
    Disconnect,
}

/// What a revocation reached.
#[derive(Serialize, ToSchema)]
pub(super) struct Revoked {
    /// Documents on live connections of this node that were told; what a recheck finds is not waited for.
    channels: usize,
}

/// Takes rights back, on live connections too, on every node.
#[utoipa::path(
    post, path = "/v1/admin/revoke", tag = "operators", operation_id = "revoke",
    request_body = RevokeBody,
    responses(
        (status = 200, description = "It is in force, and survives a restart", body = Revoked),
        (status = 503, description = "It is in force, and could not be written down: ask again", body = problem::Body),
        (status = "default", description = "Refused: this needs `admin` on `*`, or the body is wrong", body = problem::Body),
    )
)]
pub(super) async fn revoke(
    State(state): State<AppState>,
    caller: Caller,
    request: Request,
) -> Result<Json<Revoked>, Problem> {
    caller.require_operator()?;
    let revocation = revocation(&body::read(&state, request).await?.bytes)?;
    let taken = state.auth.take_back(&revocation);
    // The others need not wait for the disk of this one.
    if let Some(cluster) = &state.cluster {
        cluster.tell(taken.notice.clone());
    }
    let channels = state.auth.keep(taken).await.map_err(|error| {
        tracing::error!(event = "revocation_unsaved", %error);
        Problem::new(ErrorCode::StoreUnavailable, "this is in force, but a restart would forget it: ask again")
    })?;
    Ok(Json(Revoked { channels }))
}

fn revocation(bytes: &[u8]) -> Result<Revocation, Problem> {
    let body: RevokeBody =
        body::json(bytes, "expected one of sub, jti and room, and mode \"recheck\" or \"disconnect\"")?;
    let mode = match body.mode {
        ModeWord::Recheck => Mode::Recheck,
        ModeWord::Disconnect => Mode::Disconnect,
    };
    match (body.sub, body.jti, body.room) {
        (Some(sub), None, None) if jwt::is_sound_sub(&sub) => Ok(Revocation::User(sub, mode)),
        (None, Some(jti), None) if (1..=jwt::CLAIM_BYTES_MAX).contains(&jti.len()) => Ok(Revocation::Token(jti)),
        (None, None, Some(room)) if is_room(&room) => Ok(Revocation::Room(room, mode)),
        (Some(_), None, None) => Err(Problem::wrong("sub", "no token can have this sub")),
        (None, Some(_), None) => Err(Problem::wrong("jti", "no token can have this jti")),
        (None, None, Some(_)) => Err(Problem::wrong("room", "no room can have this name")),
        _ => Err(Problem::wrong("body", "expected exactly one of sub, jti and room")),
    }
}

fn is_room(name: &str) -> bool {
    (1..=NAME_BYTES_MAX).contains(&name.len()) && !name.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_revocation_names_one_thing() {
        for (body, want) in [
            (r#"{"sub":"alice"}"#, Revocation::User("alice".into(), Mode::Recheck)),
            (r#"{"sub":"alice","mode":"disconnect"}"#, Revocation::User("alice".into(), Mode::Disconnect)),
            (r#"{"jti":"t","sub":null}"#, Revocation::Token("t".into())),
            (r#"{"room":"user:alice","mode":"recheck"}"#, Revocation::Room("user:alice".into(), Mode::Recheck)),
        ] {
            assert_eq!(revocation(body.as_bytes()).unwrap(), want, "{body}");
        }
    }

    #[tokio::test]
    async fn anything_else_is_refused_and_says_why() {
        let long = |word: &str, bytes: usize| format!(r#"{{"{word}":"{}"}}"#, "x".repeat(bytes));
        for (body, status) in [
            ("", 400),
            ("{", 400),
            ("\u{0}", 400),
            ("[]", 422),
            ("{}", 422),
            (r#"{"sub":"a","jti":"b"}"#, 422),
            (r#"{"sub":"a","sub":"b"}"#, 422),
            (r#"{"sub":"a","mode":"kick"}"#, 422),
            (r#"{"sub":"a","why":"x"}"#, 422),
            (r#"{"sub":7}"#, 422),
            (r#"{"sub":""}"#, 422),
            (r#"{"jti":""}"#, 422),
            (r#"{"room":""}"#, 422),
            (r#"{"room":"a\u0000"}"#, 422),
            (&long("sub", 251), 422),
            (&long("jti", 1025), 422),
            (&long("room", 256), 422),
        ] {
            let answer = revocation(body.as_bytes()).err().unwrap_or_else(|| panic!("{body}")).into_response();
            assert_eq!(answer.status().as_u16(), status, "{body}");
        }
    }
}
