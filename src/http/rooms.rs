//! `/v1/rooms/{room}/events`: what happens in a room, told by applications and heard by them.

mod stream;

use std::convert::Infallible;

use axum::Json;
use axum::Router;
use axum::extract::FromRequestParts;
use axum::extract::Path;
use axum::extract::Query;
use axum::extract::Request as HttpRequest;
use axum::extract::State;
use axum::extract::rejection::QueryRejection;
use axum::http::HeaderMap;
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::Sse;
use axum::response::sse;
use axum::routing::get;
use futures_util::Stream;
use serde::Deserialize;
use serde::Serialize;
use serde_json::Map;
use serde_json::Value;
use syncline_protocol::ErrorCode;
use utoipa::ToSchema;

use crate::auth::Level;
use crate::document::request::Request;
use crate::event::Happening;
use crate::http::AppState;
use crate::http::body;
use crate::http::caller::Caller;
use crate::http::docs::ask;
use crate::http::problem;
use crate::http::problem::Problem;
use crate::name::RoomName;
use crate::table::change::Author;
use crate::table::change::Source;

pub(super) use stream::Filter;
use stream::Live;

/// A fact, not a document: everybody in the room is sent it, and the history keeps it.
const EVENT_BYTES_MAX: usize = 256 * 1024;
/// Longest name of an event, and longest correlation id.
const WORD_BYTES_MAX: usize = 128;

/// The routes.
pub fn routes() -> Router<AppState> {
    Router::new().route("/v1/rooms/{room}/events", get(read_events).post(publish_event))
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

/// Something that an application tells a room.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct NewEvent {
    /// Its name: 1 to 128 bytes without control characters, and neither `ready` nor `end`.
    #[schema(example = "task_progress")]
    event: String,
    /// What it says. Members whose names end in `Id`, and `type`, stand at the top level of the event too.
    #[serde(default)]
    #[schema(value_type = Object)]
    data: Map<String, Value>,
    #[serde(default)]
    source: SourceWord,
    /// Comes back in the event: 1 to 128 bytes without control characters.
    correlation_id: Option<String>,
}

/// On which way it came.
#[derive(Deserialize, ToSchema, Default, Clone, Copy)]
#[serde(rename_all = "snake_case")]
enum SourceWord {
    UserAction,
    #[default]
    Api,
    System,
    Import,
    Offline,
}

impl From<SourceWord> for Source {
    fn from(word: SourceWord) -> Self {
        match word {
            SourceWord::UserAction => Self::UserAction,
            SourceWord::Api => Self::Api,
            SourceWord::System => Self::System,
            SourceWord::Import => Self::Import,
            SourceWord::Offline => Self::Offline,
        }
    }
}

/// Under which number it was told.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Published {
    /// Ordered within the room as text; otherwise it has no meaning.
    event_id: String,
}

/// Tells everybody who listens to a room. It is kept in the room's history, in memory: a restart forgets it.
#[utoipa::path(
    post, path = "/v1/rooms/{room}/events", tag = "rooms", operation_id = "publishEvent",
    params(("room" = String, Path, description = "The name, percent-encoded as one segment")),
    request_body(content = NewEvent, description = "At most 256 KiB"),
    responses(
        (status = 202, description = "On its way", body = Published),
        (status = 413, description = "`PAYLOAD_TOO_LARGE`", body = problem::Body),
        (status = "default", description = "Refused; nobody was told", body = problem::Body),
    )
)]
pub(super) async fn publish_event(
    State(state): State<AppState>,
    caller: Caller,
    RoomPath(room): RoomPath,
    request: HttpRequest,
) -> Result<(StatusCode, Json<Published>), Problem> {
    caller.require_room(Level::Write, &room).await?;
    let body = body::read(&state, request).await?;
    if body.bytes.len() > EVENT_BYTES_MAX {
        return Err(body::over(EVENT_BYTES_MAX));
    }
    let NewEvent { event, data, source, correlation_id } = checked(&body.bytes)?;
    let user = caller.member().map(|member| member.user);
    let author = Author { user, source: source.into(), correlation_id: correlation_id.map(Into::into), peer: None };
    find_document(&state, &room).await?;
    let event_id = state.feeds.publish(&room, &author, vec![happening(event, data)]).to_string();
    Ok((StatusCode::ACCEPTED, Json(Published { event_id })))
}

fn checked(bytes: &[u8]) -> Result<NewEvent, Problem> {
    let new: NewEvent = serde_json::from_slice(bytes).map_err(|error| match error.is_data() {
        true => Problem::wrong("body", "expected event (a name), data (an object), source and correlationId, no more"),
        false => Problem::unreadable("body", "the body is not JSON"),
    })?;
    if !is_word(&new.event) || ["ready", "end"].contains(&new.event.as_str()) {
        return Err(Problem::wrong(
            "event",
            "a name has 1 to 128 bytes without control characters, and is not ready or end",
        ));
    }
    if new.correlation_id.as_deref().is_some_and(|id| !is_word(id)) {
        return Err(Problem::wrong("correlationId", "it has 1 to 128 bytes without control characters"));
    }
    Ok(new)
}

fn is_word(text: &str) -> bool {
    (1..=WORD_BYTES_MAX).contains(&text.len()) && !text.chars().any(char::is_control)
}

fn happening(event: String, data: Map<String, Value>) -> Happening {
    let stands_on_top = |name: &str, value: &Value| match value {
        Value::String(_) | Value::Number(_) => name == "type" || name.ends_with("Id"),
        _ => false,
    };
    let fields = data.iter().filter(|(name, value)| stands_on_top(name, value));
    let fields = fields.map(|(name, value)| (name.clone(), value.clone())).collect();
    Happening { fields, data, ..Happening::new(event) }
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
    let live = Live::begin(&state, caller.identity(), room, filter, since.as_deref())?;
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
