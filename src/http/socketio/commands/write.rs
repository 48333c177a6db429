//! A write into a document: asked now, answered when it is durable.

use std::sync::Arc;

use futures_util::FutureExt;
use serde_json::Value;

use super::Work;
use crate::auth::Level;
use crate::document::request::Answer;
use crate::document::request::Request;
use crate::http::docs;
use crate::http::problem::Problem;
use crate::http::socketio::reply::Reply;
use crate::http::socketio::session::Session;
use crate::name::DocName;
use crate::table::command::Command;
use crate::table::command::Done;
use crate::table::command::Guard;
use crate::table::command::Once;
use crate::table::command::TableAnswer;
use crate::table::command::TableRequest;
use crate::table::command::Write;

/// Longest correlation id.
const CORRELATION_BYTES_MAX: usize = 128;

/// What is to be written.
pub(super) struct Errand {
    doc: DocName,
    least: Level,
    command: Command,
    once: Option<Once>,
    guard: Option<Guard>,
    correlation_id: Option<Arc<str>>,
}

impl Errand {
    /// A command for whoever may write there. `asked` is the payload that it was read from.
    ///
    /// # Errors
    /// `INVALID_PAYLOAD` for a correlation id that is none.
    pub(super) fn new(doc: DocName, command: Command, asked: &Value) -> Result<Self, Problem> {
        let correlation_id = match asked.get("correlationId") {
            None | Some(Value::Null) => None,
            Some(Value::String(id)) if (1..=CORRELATION_BYTES_MAX).contains(&id.len()) => Some(id.as_str().into()),
            Some(_) => return Err(Problem::wrong("correlationId", "it is text of 1 to 128 bytes")),
        };
        Ok(Self { doc, least: Level::Write, command, once: None, guard: None, correlation_id })
    }

    /// Those who may read may do this too.
    pub(super) fn for_readers(self) -> Self {
        Self { least: Level::Read, ..self }
    }

    /// However often it is asked, it is done once.
    pub(super) fn once(self, once: Option<Once>) -> Self {
        Self { once, ..self }
    }

    /// Only where the record says this.
    pub(super) fn guarded(self, guard: Option<Guard>) -> Self {
        Self { guard, ..self }
    }

    /// Asks the document. `read` says the answer in the words of the command.
    pub(super) async fn run(
        self,
        session: &mut Session,
        read: impl FnOnce(TableAnswer) -> Reply + Send + 'static,
    ) -> Result<Work, Problem> {
        let Self { doc, least, command, once, guard, correlation_id } = self;
        session.require(least, doc.as_str()).await?;
        let user = session.author().user;
        let write = Write { command, user, once, guard, correlation_id, peer: Some(session.peer.0) };
        let (state, request) = (session.state().clone(), Request::Table(TableRequest::Write(Box::new(write))));
        let work = async move {
            match state.hub.ask(&doc, request).await.map_err(|refusal| docs::refused(&state, refusal))? {
                Answer::Table(answer) | Answer::Repeated(answer) => read(answer),
                other => Err(docs::unexpected(&other)),
            }
        };
        Ok(Work::Running(work.boxed()))
    }
}

/// The one record that a command was about.
pub(super) fn one(answer: TableAnswer) -> Result<Done, Problem> {
    match answer {
        TableAnswer::Records(mut records) if records.len() == 1 => Ok(records.remove(0)),
        _ => Err(Problem::internal("a table answered to another question")),
    }
}
