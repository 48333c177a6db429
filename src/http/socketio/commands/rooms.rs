//! Who hears what: rooms are entered and left.

use serde::Deserialize;
use serde_json::Value;
use serde_json::json;
use syncline_protocol::ErrorCode;

use super::Work;
use super::payload::read;
use super::payload::room_of;
use crate::document::request::Answer;
use crate::document::request::Request;
use crate::http::docs;
use crate::http::problem::Problem;
use crate::http::rooms::Filter;
use crate::http::socketio::session::Session;
use crate::http::socketio::subscription::Entered;
use crate::http::socketio::subscription::Wish;
use crate::name::RoomName;
use crate::table::command::TableAnswer;
use crate::table::command::TableRequest;

#[derive(Deserialize)]
struct Subscribe {
    room: String,
    events: Option<Vec<String>>,
    since: Option<String>,
}

#[derive(Deserialize)]
struct Unsubscribe {
    room: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TableId {
    table_id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ComponentId {
    component_id: String,
}

#[derive(Deserialize)]
struct Token {
    token: String,
}

/// Hears everything from now on.
fn everything() -> Wish {
    Wish { filter: Filter::everything(), since: None }
}

pub(super) async fn subscribe(session: &mut Session, asked: &Value) -> Result<Work, Problem> {
    let Subscribe { room, events, since } = read(asked)?;
    let room = RoomName::parse(&room).map_err(|error| Problem::wrong("room", error.to_string()))?;
    let filter = match events {
        Some(events) => Filter::of(events)?,
        None => Filter::everything(),
    };
    let Entered { recovered, event_id } = session.enter(room, Wish { filter, since }).await?;
    Ok(Work::Answered(json!({"recovered": recovered, "eventId": event_id.to_string()})))
}

pub(super) async fn unsubscribe(session: &mut Session, asked: &Value) -> Result<Work, Problem> {
    let Unsubscribe { room } = read(asked)?;
    let room = RoomName::parse(&room).map_err(|error| Problem::wrong("room", error.to_string()))?;
    if room.as_str() == format!("user:{}", session.who.sub) {
        return Err(Problem::new(ErrorCode::ChannelError, "nobody leaves the own room"));
    }
    leave(session, &room).await
}

async fn leave(session: &mut Session, room: &RoomName) -> Result<Work, Problem> {
    // Leaving where one is not is no mistake: it may be said twice.
    session.leave(room).await;
    Ok(Work::Answered(json!({})))
}

pub(super) async fn join_table(session: &mut Session, asked: &Value) -> Result<Work, Problem> {
    let room = room_of("table", &read::<TableId>(asked)?.table_id, "tableId")?;
    let Entered { event_id, .. } = session.enter(room.clone(), everything()).await?;
    let revision = match ask(session, &room, TableRequest::Describe).await? {
        Some(TableAnswer::Table(view)) => view.revision,
        _ => 0,
    };
    let members = session.state().feeds.members(&room);
    Ok(Work::Answered(json!({"revision": revision, "members": members, "eventId": event_id.to_string()})))
}

pub(super) async fn leave_table(session: &mut Session, asked: &Value) -> Result<Work, Problem> {
    let room = room_of("table", &read::<TableId>(asked)?.table_id, "tableId")?;
    leave(session, &room).await
}

pub(super) async fn join_component(session: &mut Session, asked: &Value) -> Result<Work, Problem> {
    let room = room_of("component", &read::<ComponentId>(asked)?.component_id, "componentId")?;
    let Entered { event_id, .. } = session.enter(room.clone(), everything()).await?;
    let question = TableRequest::Record { id: super::component::SELF.to_owned() };
    let version = match ask(session, &room, question).await? {
        Some(TableAnswer::Records(records)) => records.first().map_or(0, |done| done.record.version),
        _ => 0,
    };
    let members = session.state().feeds.members(&room);
    Ok(Work::Answered(json!({"version": version, "members": members, "eventId": event_id.to_string()})))
}

pub(super) async fn leave_component(session: &mut Session, asked: &Value) -> Result<Work, Problem> {
    let room = room_of("component", &read::<ComponentId>(asked)?.component_id, "componentId")?;
    leave(session, &room).await
}

/// `subscribe_campaign {campaignId}`, and so for every kind.
pub(super) async fn subscribe_kind(session: &mut Session, kind: &str, asked: &Value) -> Result<Work, Problem> {
    let room = named(kind, asked)?;
    let Entered { event_id, .. } = session.enter(room, everything()).await?;
    Ok(Work::Answered(json!({"eventId": event_id.to_string()})))
}

pub(super) async fn unsubscribe_kind(session: &mut Session, kind: &str, asked: &Value) -> Result<Work, Problem> {
    let room = named(kind, asked)?;
    leave(session, &room).await
}

fn named(kind: &str, asked: &Value) -> Result<RoomName, Problem> {
    let field = format!("{kind}Id");
    let wrong = || Problem::wrong("payload", "expected the id, as text").with("path", field.clone());
    let id = asked.get(&field).and_then(Value::as_str).ok_or_else(wrong)?;
    room_of(kind, id, "payload").map_err(|problem| problem.with("path", field.clone()))
}

pub(super) async fn renew_token(session: &mut Session, asked: &Value) -> Result<Work, Problem> {
    let Token { token } = read(asked)?;
    session.renew_token(&token).await.map(Work::Answered)
}

/// What a document says; `None` where there is none.
async fn ask(session: &mut Session, room: &RoomName, request: TableRequest) -> Result<Option<TableAnswer>, Problem> {
    let Some(doc) = room.as_doc() else { return Ok(None) };
    match docs::ask(session.state(), &doc, Request::Table(request)).await {
        Ok(Answer::Table(answer)) => Ok(Some(answer)),
        Ok(other) => Err(docs::unexpected(&other)),
        Err(problem) if problem.code() == ErrorCode::NotFound => Ok(None),
        Err(problem) => Err(problem),
    }
}
