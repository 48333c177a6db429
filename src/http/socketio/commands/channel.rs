//! Messages of channels: records of the channel's document.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;
use serde_json::json;

use super::Work;
use super::grid::version;
use super::payload::doc_of;
use super::payload::read;
use super::write::Errand;
use super::write::one;
use crate::auth::Level;
use crate::clock::rfc3339;
use crate::http::problem::Problem;
use crate::http::socketio::pace::Class;
use crate::http::socketio::session::Session;
use crate::http::tables::Mark;
use crate::name::DocName;
use crate::table::command::Command;
use crate::table::command::Guard;
use crate::table::command::NewRecord;
use crate::table::command::OnConflict;
use crate::table::command::Once;
use crate::table::command::RecordPatch;

/// Longest name that a client gives a message to send it once.
const CLIENT_ID_BYTES_MAX: usize = 128;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Send {
    channel_id: String,
    text: String,
    thread_id: Option<String>,
    client_id: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Edit {
    channel_id: String,
    message_id: String,
    text: String,
    expected_version: Option<u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Delete {
    channel_id: String,
    message_id: String,
    expected_version: Option<u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    channel_id: String,
    message_id: String,
    status: StatusWord,
}

/// How far a message came to somebody.
#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "lowercase")]
enum StatusWord {
    Delivered,
    Read,
}

pub(super) async fn send(session: &mut Session, asked: &Value) -> Result<Work, Problem> {
    let Send { channel_id, text, thread_id, client_id } = read(asked)?;
    if text.is_empty() {
        return Err(Problem::wrong("text", "a message says something"));
    }
    session.count(Class::Messages)?;
    let doc = channel(&channel_id)?;
    let once = client_id.as_deref().map(|id| once(session, &doc, id, &text, thread_id.as_deref())).transpose()?;
    let named = [("threadId", thread_id), ("clientId", client_id)];
    let named = named.into_iter().filter_map(|(name, value)| Some((name.to_owned(), Value::from(value?))));
    let said = [("text".to_owned(), text.into()), ("authorId".to_owned(), Value::from(&*session.who.sub))];
    let cells: BTreeMap<String, Value> = said.into_iter().chain(named).collect();
    let records = vec![NewRecord { id: None, cells, after: None }];
    let errand = Errand::new(doc, Command::CreateRecords { records, import: false }, asked)?.once(once);
    errand
        .run(session, |answer| {
            let record = one(answer)?.record;
            Ok(json!({"messageId": &*record.id, "version": record.version}))
        })
        .await
}

/// The same message again is the same message; another one under the same name is a mistake.
fn once(session: &Session, doc: &DocName, id: &str, text: &str, thread: Option<&str>) -> Result<Once, Problem> {
    if !(1..=CLIENT_ID_BYTES_MAX).contains(&id.len()) {
        return Err(Problem::wrong("clientId", "it has 1 to 128 bytes"));
    }
    let mut mark = Mark::default();
    for part in [doc.as_str(), text, thread.unwrap_or_default()] {
        mark.add_word(part);
    }
    Ok(Once { key: format!("{}\nmessage:{id}", session.who.sub).into(), fingerprint: mark.value() })
}

pub(super) async fn edit(session: &mut Session, asked: &Value) -> Result<Work, Problem> {
    let Edit { channel_id, message_id, text, expected_version } = read(asked)?;
    if text.is_empty() {
        return Err(Problem::wrong("text", "a message says something; delete it"));
    }
    session.count(Class::Messages)?;
    let doc = channel(&channel_id)?;
    let edited_at = rfc3339(session.state().clock.now().wall_ms);
    let cells = BTreeMap::from([("text".to_owned(), text.into()), ("editedAt".to_owned(), edited_at.into())]);
    let patch = RecordPatch { id: message_id, cells, expected_version, ..RecordPatch::default() };
    // What happened to it beside its text, that somebody read it for example, is no conflict.
    let command = Command::PatchRecords { records: vec![patch], on_conflict: OnConflict::Field, is_batch: false };
    let guard = authors_only(session, &doc).await?;
    Errand::new(doc, command, asked)?.guarded(guard).run(session, version).await
}

pub(super) async fn delete(session: &mut Session, asked: &Value) -> Result<Work, Problem> {
    let Delete { channel_id, message_id, expected_version } = read(asked)?;
    let doc = channel(&channel_id)?;
    let guard = authors_only(session, &doc).await?;
    let command = Command::DeleteRecord { id: message_id, expected_version };
    Errand::new(doc, command, asked)?.guarded(guard).run(session, version).await
}

/// Those who may read may say that they did.
pub(super) async fn mark(session: &mut Session, asked: &Value) -> Result<Work, Problem> {
    let Status { channel_id, message_id, status } = read(asked)?;
    let word = match status {
        StatusWord::Delivered => "delivered",
        StatusWord::Read => "read",
    };
    let user = session.who.sub.to_string();
    let command = Command::Flag { row: message_id, field: word.to_owned(), flag: user };
    let errand = Errand::new(channel(&channel_id)?, command, asked)?.for_readers();
    errand.run(session, |_| Ok(json!({}))).await
}

/// A message is changed by its author, and by who administers the channel.
async fn authors_only(session: &mut Session, doc: &DocName) -> Result<Option<Guard>, Problem> {
    let level = session.require(Level::Write, doc.as_str()).await?;
    let message = "only its author may change a message".into();
    let guard = Guard { field: "authorId".to_owned(), is: Value::from(&*session.who.sub), message };
    Ok((level < Level::Admin).then_some(guard))
}

fn channel(id: &str) -> Result<DocName, Problem> {
    doc_of("channel", id, "channelId")
}
