//! `PUT /v1/rooms/{room}`: what holds in one room.

use axum::Json;
use axum::extract::Request as HttpRequest;
use axum::extract::State;
use serde::Deserialize;
use serde::Serialize;
use utoipa::ToSchema;

use crate::auth::Level;
use crate::http::AppState;
use crate::http::body;
use crate::http::caller::Caller;
use crate::http::problem;
use crate::http::problem::Problem;
use crate::http::rooms::RoomPath;
use crate::room::RoomSettings;
use crate::room::SettingsPatch;

/// More connections than a node has.
const CLIENTS_MAX: usize = 1_000_000;
/// A year.
const TTL_SECONDS_MAX: u64 = 366 * 24 * 3600;
/// Many times the default; a room keeps 8 MiB at most anyway.
const HISTORY_EVENTS_MAX: usize = 100_000;

/// What is to hold in a room; what is left out stays as it is.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(in crate::http) struct NewSettings {
    /// Connections at once, at most 1 000 000; 0: any number. Who is there already may stay.
    max_clients: Option<usize>,
    /// What is kept of the room, these settings too, is dropped so long after the last event and after the last who was
    /// there has left, at most 366 days; 0: as long as there is something to keep.
    ttl_seconds: Option<u64>,
    /// Events that are kept for those who come back, at most 100 000; 0: none.
    history_events: Option<usize>,
}

/// What holds in a room.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::http) struct Settings {
    /// 0: any number.
    max_clients: usize,
    /// 0: as long as there is something to keep.
    ttl_seconds: u64,
    history_events: usize,
}

/// Changes what holds in a room, in place of what the configuration says of it.
///
/// This is kept in memory, on all nodes that have the room: when the last of them restarts, it is forgotten. What is to last
/// stands in the configuration, as `rooms."PATTERN"`. Each node counts its own connections.
#[utoipa::path(
    put, path = "/v1/rooms/{room}", tag = "rooms", operation_id = "configureRoom",
    params(("room" = String, Path, description = "The name, percent-encoded as one segment")),
    request_body(content = NewSettings),
    responses(
        (status = 200, description = "What holds now", body = Settings),
        (status = 403, description = "`FORBIDDEN`: this needs the right `admin` in the room", body = problem::Body),
        (status = "default", description = "Refused; nothing has changed", body = problem::Body),
    )
)]
pub(in crate::http) async fn configure_room(
    State(state): State<AppState>,
    caller: Caller,
    RoomPath(room): RoomPath,
    request: HttpRequest,
) -> Result<Json<Settings>, Problem> {
    caller.require_room(Level::Admin, &room).await?;
    let body = body::read(&state, request).await?;
    let patch = checked(&body.bytes)?;
    let settings = state.feeds.configure(&room, patch)?;
    Ok(Json(settings.into()))
}

fn checked(bytes: &[u8]) -> Result<SettingsPatch, Problem> {
    let NewSettings { max_clients, ttl_seconds, history_events } =
        body::json(bytes, "expected maxClients, ttlSeconds and historyEvents: whole numbers, no more")?;
    if max_clients.is_some_and(|clients| clients > CLIENTS_MAX) {
        return Err(Problem::wrong("maxClients", "at most 1000000"));
    }
    if ttl_seconds.is_some_and(|seconds| seconds > TTL_SECONDS_MAX) {
        return Err(Problem::wrong("ttlSeconds", "at most 366 days"));
    }
    if history_events.is_some_and(|events| events > HISTORY_EVENTS_MAX) {
        return Err(Problem::wrong("historyEvents", "at most 100000"));
    }
    Ok(SettingsPatch { max_clients, ttl_seconds, history_events })
}

impl From<RoomSettings> for Settings {
    fn from(settings: RoomSettings) -> Self {
        Self {
            max_clients: settings.max_clients.map_or(0, usize::from),
            ttl_seconds: settings.ttl.map_or(0, |ttl| ttl.as_secs()),
            history_events: settings.history_events,
        }
    }
}
