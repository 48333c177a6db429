//! `POST /v1/rooms/{room}/events`: what an application tells, in one room or in several, each time or the last time.

use axum::Json;
use axum::extract::Request as HttpRequest;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use serde::Serialize;
use serde_json::Map;
use serde_json::Value;
use syncline_protocol::ErrorCode;
use utoipa::ToSchema;

use crate::auth::Level;
use crate::event::Envelope;
use crate::event::Event;
use crate::event::EventId;
use crate::event::Happening;
use crate::http::AppState;
use crate::http::body;
use crate::http::caller::Caller;
use crate::http::problem;
use crate::http::problem::Problem;
use crate::http::rooms::RoomPath;
use crate::http::rooms::find_document;
use crate::name::RoomName;
use crate::room::Word;
use crate::table::change::Author;
use crate::table::change::Source;

/// A fact, not a document: everybody in the room is sent it, and the history keeps it.
const EVENT_BYTES_MAX: usize = 256 * 1024;
/// Longest name of an event, longest correlation id, longest name of a stream and longest path.
const WORD_BYTES_MAX: usize = 128;
/// Further rooms of one event.
const ROOMS_MAX: usize = 20;
/// Lists of one event that go on.
const PATHS_MAX: usize = 10;

/// Something that an application tells a room.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(in crate::http) struct NewEvent {
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
    /// Further rooms that are told the same, at most 20. The caller needs `write` in each. A Socket.IO connection that is in
    /// several of them hears it once.
    #[serde(default)]
    also_to: Vec<String>,
    /// Names a stream of which the last word counts: 1 to 128 bytes without control characters. Its first event is told at
    /// once, and then one every 250 ms, the last that came.
    coalesce_key: Option<String>,
    /// Lists in `data`, each as names joined by dots, at most 10: where an event takes the place of one of the same stream
    /// that was held back, these go on where those of that one end. Of each the last 1000 items are kept, and about 256 KiB.
    #[serde(default)]
    #[schema(example = json!(["logs"]))]
    append: Vec<String>,
    /// One of the user's Socket.IO connections is to acknowledge it; only in `user:ID`, and not with `alsoTo` or
    /// `coalesceKey`. Sent again until one does, and kept while there is none: at most 100 for one user, as long as
    /// histories are. Those who do not speak Socket.IO do not hear it.
    #[serde(default)]
    require_ack: bool,
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
pub(in crate::http) struct Published {
    /// Ordered within the room as text; otherwise it has no meaning. Null while a stream holds the event back: it gets its
    /// number when it is told.
    event_id: Option<String>,
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
pub(in crate::http) async fn publish_event(
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
    let new = checked(&body.bytes)?;
    if new.require_ack {
        let event_id = Some(hand_in(&state, &caller, &room, new)?.to_string());
        return Ok((StatusCode::ACCEPTED, Json(Published { event_id })));
    }
    let rooms = rooms(room, &new.also_to)?;
    for room in &rooms[1..] {
        caller.require_room(Level::Write, room).await?;
    }
    for room in &rooms {
        find_document(&state, room).await?;
    }
    let event_id = tell(&state, &caller, rooms, new).map(|id| id.to_string());
    Ok((StatusCode::ACCEPTED, Json(Published { event_id })))
}

/// Gives a user something to acknowledge.
fn hand_in(state: &AppState, caller: &Caller, room: &RoomName, new: NewEvent) -> Result<EventId, Problem> {
    let wrong = |why: &'static str| Problem::wrong("requireAck", why);
    let user = room.as_str().strip_prefix("user:").ok_or_else(|| wrong("only a user's own room acknowledges"))?;
    if !new.also_to.is_empty() || new.coalesce_key.is_some() {
        return Err(wrong("what is acknowledged is told in one room, and each time"));
    }
    let now = state.clock.now();
    let id = state.feeds.issue(room);
    let by = caller.member();
    let envelope = Envelope {
        room: room.as_str(),
        user: by.as_ref().map(|member| &*member.user),
        at_ms: now.wall_ms,
        source: Source::from(new.source).word(),
        revision: None,
        correlation_id: new.correlation_id.as_deref(),
    };
    let event = Event::encode(id, envelope, happening(new.event, new.data));
    let taken = state.courier.hand_in(&user.into(), event, now.moment);
    taken.map_err(|full| Problem::new(ErrorCode::Overloaded, full.to_string()))?;
    Ok(id)
}

fn tell(state: &AppState, caller: &Caller, rooms: Vec<RoomName>, new: NewEvent) -> Option<EventId> {
    let NewEvent { event, data, source, correlation_id, coalesce_key, append, .. } = new;
    let user = caller.member().map(|member| member.user);
    let author = Author { user, source: source.into(), correlation_id: correlation_id.map(Into::into), peer: None };
    let happening = happening(event, data);
    let ids = match coalesce_key {
        None => state.feeds.publish_all(&rooms, &author, vec![happening]),
        Some(stream) => {
            let append = append.iter().map(|path| path.split('.').map(str::to_owned).collect()).collect();
            state.feeds.stream(&stream, Word { rooms, author, happening, append })?
        }
    };
    ids.first().copied()
}

fn checked(bytes: &[u8]) -> Result<NewEvent, Problem> {
    let new: NewEvent = body::json(
        bytes,
        "expected event (a name), data (an object), source, correlationId, alsoTo, coalesceKey, append and requireAck, no more",
    )?;
    if !is_word(&new.event) || ["ready", "end"].contains(&new.event.as_str()) {
        return Err(Problem::wrong(
            "event",
            "a name has 1 to 128 bytes without control characters, and is not ready or end",
        ));
    }
    for (path, word) in [("correlationId", &new.correlation_id), ("coalesceKey", &new.coalesce_key)] {
        if word.as_deref().is_some_and(|word| !is_word(word)) {
            return Err(Problem::wrong(path, "it has 1 to 128 bytes without control characters"));
        }
    }
    check_append(&new)?;
    Ok(new)
}

fn check_append(new: &NewEvent) -> Result<(), Problem> {
    let is_path = |path: &String| is_word(path) && path.split('.').all(|name| !name.is_empty());
    if new.append.len() > PATHS_MAX {
        return Err(Problem::too_large(PATHS_MAX, "too many lists go on"));
    }
    if !new.append.iter().all(is_path) {
        return Err(Problem::wrong("append", "a path is names joined by dots, of 1 to 128 bytes"));
    }
    if !new.append.is_empty() && new.coalesce_key.is_none() {
        return Err(Problem::wrong("append", "lists go on within a stream: this needs coalesceKey"));
    }
    Ok(())
}

/// All rooms of an event, each once; the first is the one of the path.
fn rooms(first: RoomName, others: &[String]) -> Result<Vec<RoomName>, Problem> {
    if others.len() > ROOMS_MAX {
        return Err(Problem::too_large(ROOMS_MAX, "too many further rooms"));
    }
    let mut rooms = vec![first];
    for other in others {
        let room = RoomName::parse(other).map_err(|error| Problem::wrong("alsoTo", error.to_string()))?;
        if !rooms.contains(&room) {
            rooms.push(room);
        }
    }
    Ok(rooms)
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
