//! What clients ask, by the names of the older specifications: each command is read, checked, and becomes a request to a
//! document or something said in rooms.

mod channel;
mod component;
mod grid;
mod presence;
mod rooms;
mod write;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use serde_json::Value;

use super::payload;
use super::reply::Reply;
use super::session::Asked;
use super::session::Done;
use super::session::Session;
use crate::http::problem::Problem;

/// What a command comes to.
enum Work {
    /// It is done.
    Answered(Value),
    /// It is under way.
    Running(BoxFuture<'static, Reply>),
}

/// Does what a client asks. What takes longer is given back.
pub(super) async fn obey(session: &mut Session, asked: Asked) -> Option<BoxFuture<'static, Done>> {
    match begin(session, &asked.event, &asked.payload).await {
        Ok(Work::Running(work)) => return Some(work.map(move |reply| Done { asked, reply }).boxed()),
        Ok(Work::Answered(answer)) => session.answer(Done { asked, reply: Ok(answer) }),
        Err(problem) => session.answer(Done { asked, reply: Err(problem) }),
    }
    None
}

async fn begin(session: &mut Session, event: &str, asked: &Value) -> Result<Work, Problem> {
    match event {
        "subscribe" => rooms::subscribe(session, asked).await,
        "unsubscribe" => rooms::unsubscribe(session, asked).await,
        "grid:join-table" => rooms::join_table(session, asked).await,
        "table:leave" => rooms::leave_table(session, asked).await,
        "component:subscribe" => rooms::join_component(session, asked).await,
        "component:unsubscribe" => rooms::leave_component(session, asked).await,
        "record:create" => grid::create(session, asked).await,
        "record:update" => grid::update(session, asked).await,
        "record:delete" => grid::delete(session, asked).await,
        "record:restore" => grid::restore(session, asked).await,
        "records:batch-update" => grid::update_many(session, asked).await,
        "grid:cell-edit" => grid::edit_cell(session, asked).await,
        "grid:column-resize" => grid::resize_column(session, asked).await,
        "grid:row-resize" => grid::resize_row(session, asked).await,
        "grid:selection-change" => presence::select(session, asked).await,
        "user:cursor-move" => presence::move_cursor(session, asked).await,
        "user:typing" => presence::type_somewhere(session, asked).await,
        "presence:update" => presence::update(session, asked).await,
        "component:update" => component::update(session, asked).await,
        "component:nested-create" => component::create_nested(session, asked).await,
        "component:nested-update" => component::update_nested(session, asked).await,
        "component:nested-delete" => component::delete_nested(session, asked).await,
        "component:typing" => presence::type_in_component(session, asked).await,
        "component:cursor" => presence::point(session, asked).await,
        "message:send" => channel::send(session, asked).await,
        "message:edit" => channel::edit(session, asked).await,
        "message:delete" => channel::delete(session, asked).await,
        "message:status" => channel::mark(session, asked).await,
        "token:renew" => rooms::renew_token(session, asked).await,
        _ => match event.split_once('_') {
            Some(("subscribe", kind)) => rooms::subscribe_kind(session, kind, asked).await,
            Some(("unsubscribe", kind)) => rooms::unsubscribe_kind(session, kind, asked).await,
            _ => Err(Problem::wrong("event", "there is no such command")),
        },
    }
}
