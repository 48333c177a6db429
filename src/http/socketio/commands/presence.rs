//! What others see of somebody: cursor, selection, typing, status. Never stored.

use serde::Deserialize;
use serde_json::Value;
use serde_json::json;
use syncline_protocol::ErrorCode;
use tokio::time::Instant;

use super::Work;
use super::payload::read;
use super::payload::room_of;
use crate::auth::Level;
use crate::event::Happening;
use crate::http::problem::Problem;
use crate::http::socketio::pace::Class;
use crate::http::socketio::session::Session;
use crate::name::RoomName;

/// The room of those who follow everybody's status.
const EVERYBODY: &str = "presence:global";
/// Longest status.
const STATUS_BYTES_MAX: usize = 64;

/// Where something is shown: one of the names.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Place {
    room: Option<String>,
    table_id: Option<String>,
    channel_id: Option<String>,
    component_id: Option<String>,
}

#[derive(Deserialize)]
struct Typing {
    #[serde(default = "yes")]
    typing: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Pointer {
    entity_type: String,
    entity_id: String,
    component_id: String,
    #[serde(default)]
    position: Value,
}

#[derive(Deserialize)]
struct Status {
    status: String,
    data: Option<Value>,
}

fn yes() -> bool {
    true
}

impl Place {
    fn room(&self) -> Result<RoomName, Problem> {
        match self {
            Self { room: Some(room), .. } => {
                RoomName::parse(room).map_err(|error| Problem::wrong("room", error.to_string()))
            }
            Self { table_id: Some(id), .. } => room_of("table", id, "tableId"),
            Self { channel_id: Some(id), .. } => room_of("channel", id, "channelId"),
            Self { component_id: Some(id), .. } => room_of("component", id, "componentId"),
            _ => Err(Problem::wrong("room", "say where: room, tableId, channelId or componentId")),
        }
    }
}

pub(super) async fn select(session: &mut Session, asked: &Value) -> Result<Work, Problem> {
    let room = read::<Place>(asked)?.room()?;
    show(session, &room, "selection", asked.get("selection")).await
}

pub(super) async fn move_cursor(session: &mut Session, asked: &Value) -> Result<Work, Problem> {
    let room = read::<Place>(asked)?.room()?;
    show(session, &room, "cursor", asked.get("position")).await
}

/// `null` takes it away.
async fn show(session: &mut Session, room: &RoomName, key: &str, value: Option<&Value>) -> Result<Work, Problem> {
    let value = value.filter(|value| !value.is_null()).cloned();
    session.show(room, &[(key, value)]).await?;
    Ok(Work::Answered(json!({})))
}

pub(super) async fn type_somewhere(session: &mut Session, asked: &Value) -> Result<Work, Problem> {
    let room = read::<Place>(asked)?.room()?;
    set_typing(session, room, asked).await
}

pub(super) async fn type_in_component(session: &mut Session, asked: &Value) -> Result<Work, Problem> {
    let place: Place = read(asked)?;
    let id = place.component_id.ok_or_else(|| Problem::wrong("componentId", "say which component"))?;
    set_typing(session, room_of("component", &id, "componentId")?, asked).await
}

async fn set_typing(session: &mut Session, room: RoomName, asked: &Value) -> Result<Work, Problem> {
    let Typing { typing } = read(asked)?;
    if !session.rooms.has(&room) {
        return Err(Problem::new(ErrorCode::ChannelError, "subscribe to the room first"));
    }
    // To stop is free.
    if typing {
        session.count(Class::Typing)?;
    }
    if session.typing.set(&room, typing, Instant::now()) {
        session.show(&room, &[("typing", Some(typing.into()))]).await?;
    }
    Ok(Work::Answered(json!({})))
}

/// A cursor in an entity's component: those who watch either see it, once.
pub(super) async fn point(session: &mut Session, asked: &Value) -> Result<Work, Problem> {
    let Pointer { entity_type, entity_id, component_id, position } = read(asked)?;
    let entity = room_of("entity", &format!("{entity_type}:{entity_id}"), "entityId")?;
    let component = room_of("component", &component_id, "componentId")?;
    for room in [&entity, &component] {
        session.require(Level::Read, room.as_str()).await?;
    }
    let email = session.who.email.as_deref();
    let happening = Happening::new("component:cursor")
        .id("componentId", component_id.as_str())
        .id("entityType", entity_type)
        .id("entityId", entity_id)
        .id("userEmail", email)
        .both("position", position)
        .to_others(Some(session.peer.0));
    let key = format!("cursor/{}/{component_id}", session.peer.0);
    let (author, at_ms) = (session.author(), session.state().clock.now().wall_ms);
    session.state().feeds.pass(&[entity, component], &key, &author, at_ms, happening);
    Ok(Work::Answered(json!({})))
}

/// One's status: wherever others see one, and where everybody is followed.
pub(super) async fn update(session: &mut Session, asked: &Value) -> Result<Work, Problem> {
    let Status { status, data } = read(asked)?;
    if !(1..=STATUS_BYTES_MAX).contains(&status.len()) {
        return Err(Problem::wrong("status", "it has 1 to 64 bytes"));
    }
    session.count(Class::Presence)?;
    let changes = session.rooms.next_status();
    let shown = [("status", Some(status.into())), ("data", data), ("statusRev", Some(changes.into()))];
    let everybody = RoomName::parse(EVERYBODY).map_err(Problem::internal)?;
    for room in session.rooms_shown() {
        session.show(&room, &shown).await?;
    }
    if !session.rooms.has(&everybody) {
        session.show_everybody(&everybody, &shown);
    }
    Ok(Work::Answered(json!({})))
}

impl Session {
    /// Says of those who stopped typing that they did.
    pub(in crate::http::socketio) async fn stop_typing(&mut self) {
        for room in self.typing.over(Instant::now()) {
            // Where it cannot be said any more, nobody sees it either.
            let _ = self.show(&room, &[("typing", Some(false.into()))]).await;
        }
    }
}
