//! `/v1/rooms/{room}`: what happens in a room, told by applications and heard by them; who is there; what holds there.

mod publish;
mod settings;
mod stream;

use std::convert::Infallible;

use axum::Json;
use axum::Router;
use axum::extract::FromRequestParts;
use axum::extract::Path;
use axum::extract::Query;
use axum::extract::State;
use axum::extract::rejection::QueryRejection;
use axum::http::HeaderMap;
use axum::http::request::Parts;
use axum::response::Sse;
use axum::response::sse;
use axum::routing::get;
use axum::routing::put;
use futures_util::Stream;
use serde::Deserialize;
use serde::Serialize;
use syncline_protocol::ErrorCode;

use crate::auth::Level;
use crate::document::request::Request;
use crate::http::AppState;
use crate::http::caller::Caller;
use crate::http::docs;
use crate::http::docs::ask;
use crate::http::problem;
use crate::http::problem::Problem;
use crate::name::RoomName;
use crate::room::MemberView;

pub(super) use publish::__path_publish_event;
pub(super) use publish::publish_event;
pub(super) use settings::__path_configure_room;
pub(super) use settings::configure_room;
pub(super) use stream::Filter;
use stream::Live;

/// The routes.
pub fn routes() -> Router<AppState> {
    Router::new()
        .route("/v1/rooms/{room}", put(configure_room))
        .route("/v1/rooms/{room}/events", get(read_events).post(publish_event))
        .route("/v1/rooms/{room}/presence", get(read_members))
}

/// The `{room}` of a path, decoded and checked.
pub(super) struct RoomPath(RoomName);

impl FromRequestParts<AppState> for RoomPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Problem> {
        let Path(raw) = Path::<String>::from_request_parts(parts, state).await?;
        RoomName::parse(&raw).map(Self).map_err(|error| Problem::wrong("room", error.to_string()))
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct EventsQuery {
    events: Option<String>,
    last_event_id: Option<String>,
}

/// Who is in a room.
#[derive(Serialize)]
pub(super) struct Members {
    members: Vec<MemberView>,
}

/// Who is in a room, whether it has a document or not: a line for each user, and one for each connection on which nobody is
/// signed in. Who came first stands first.
#[utoipa::path(
    get, path = "/v1/rooms/{room}/presence", tag = "rooms", operation_id = "readMembers",
    params(("room" = String, Path, description = "The name, percent-encoded as one segment")),
    responses(
        (status = 200, description = "Who is there", body = docs::Members),
        (status = "default", description = "Refused", body = problem::Body),
    )
)]
pub(super) async fn read_members(
    State(state): State<AppState>,
    caller: Caller,
    RoomPath(room): RoomPath,
) -> Result<Json<Members>, Problem> {
    caller.require_room(Level::Read, &room).await?;
    Ok(Json(Members { members: state.feeds.members_everywhere(&room).await }))
}

/// What happens in a room, from now on or from the last event that the caller knows, as server-sent events.
///
/// The first event is `ready`. With `recovered: false` something was missed, and whoever keeps a copy loads it again; this
/// also comes later, to a reader that falls behind what is kept. The last event is `end`, with the error that ended it.
#[utoipa::path(
    get, path = "/v1/rooms/{room}/events", tag = "rooms", operation_id = "readEvents",
    params(
        ("room" = String, Path, description = "The name, percent-encoded as one segment"),
        ("events" = Option<String>, Query, description = "Only these: names, or beginnings of names with a `*`, separated by commas"),
        ("lastEventId" = Option<String>, Query, description = "The last event that the caller knows; the header goes before"),
        ("Last-Event-ID" = Option<String>, Header, description = "The same, as a browser sends it"),
    ),
    responses(
        (status = 200, description = "Events as they happen", body = String, content_type = "text/event-stream"),
        (status = "default", description = "Refused", body = problem::Body),
    )
)]
pub(super) async fn read_events(
    State(state): State<AppState>,
    caller: Caller,
    RoomPath(room): RoomPath,
    query: Result<Query<EventsQuery>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<sse::Event, Infallible>>>, Problem> {
    caller.require_room(Level::Read, &room).await?;
    let Query(EventsQuery { events, last_event_id }) = query?;
    let filter = Filter::parse(events.as_deref())?;
    // A header that is no text is no id of ours either.
    let header = headers.get("last-event-id").map(|value| value.to_str().unwrap_or("?").to_owned());
    let since = header.or(last_event_id).filter(|id| !id.is_empty());
    find_document(&state, &room).await?;
    let live = Live::begin(&state, caller.identity(), room, filter, since.as_deref()).await?;
    Ok(Sse::new(live.into_stream()))
}

/// Where a document has the room's name, ids are to come out behind that of its last record: so it is loaded first.
pub(super) async fn find_document(state: &AppState, room: &RoomName) -> Result<(), Problem> {
    let Some(doc) = room.as_doc().filter(|_| !state.feeds.has_document(room)) else { return Ok(()) };
    match ask(state, &doc, Request::Presence).await {
        // A room outlives its document.
        Err(problem) if problem.code() != ErrorCode::NotFound => Err(problem),
        _ => Ok(()),
    }
}
