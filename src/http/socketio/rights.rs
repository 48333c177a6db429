//! What a client may do in its rooms, and what becomes of it when that changes.

use std::collections::BTreeMap;

use serde_json::Value;
use serde_json::json;
use syncline_protocol::ErrorCode;
use syncline_protocol::channel::Access;

use super::session::Session;
use super::subscription::OWN;
use crate::auth::Level;
use crate::http::problem::Problem;
use crate::name::RoomName;

impl Session {
    /// # Errors
    /// `FORBIDDEN` without at least this right; a transient code when the application cannot be asked.
    pub(super) async fn require(&mut self, least: Level, name: &str) -> Result<Level, Problem> {
        let level = self.state().auth.authorize(&self.who, name).await?;
        if level >= least {
            return Ok(level);
        }
        let word = if least == Level::Read { "read" } else { "write" };
        Err(Problem::new(ErrorCode::Forbidden, format!("this needs the right \"{word}\" in {name}")))
    }

    /// Looks at what was rung for. The client is told which rooms it lost, and which rights changed.
    ///
    /// # Errors
    /// The reason for which all of it is to end.
    pub(super) async fn recheck(&mut self, rung: BTreeMap<u32, Option<ErrorCode>>) -> Result<(), ErrorCode> {
        for (channel, code) in rung {
            let mut named = self.rooms.by_name.iter().filter(|(_, known)| known.channel.0 == channel);
            let Some(room) = named.next().map(|(room, _)| room.clone()) else { continue };
            match code {
                // The room outlives its document.
                Some(ErrorCode::NotFound | ErrorCode::ChannelError) if room.as_doc().is_some() => {
                    self.lose_document(&room)
                }
                Some(code) if channel == OWN.0 => return Err(code),
                Some(code) => self.expel(&room, code).await,
                None => self.look_again(&room, channel == OWN.0).await?,
            }
        }
        Ok(())
    }

    /// Looks at all of them again, as another token may open fewer.
    ///
    /// # Errors
    /// As [`Self::recheck`].
    pub(super) async fn recheck_all(&mut self) -> Result<(), ErrorCode> {
        let all = self.rooms.by_name.values().map(|known| (known.channel.0, None)).collect();
        self.recheck(all).await
    }

    fn lose_document(&mut self, room: &RoomName) {
        if let Some(known) = self.rooms.by_name.get_mut(room) {
            known.membership = None;
        }
    }

    async fn look_again(&mut self, room: &RoomName, is_own: bool) -> Result<(), ErrorCode> {
        match self.state().auth.authorize(&self.who, room.as_str()).await {
            Ok(level) if level >= Level::Read => self.set_level(room, level).await,
            Err(error) if is_own => return Err(error.code),
            Ok(_) => self.expel(room, ErrorCode::Forbidden).await,
            Err(error) => self.expel(room, error.code).await,
        }
        Ok(())
    }

    async fn set_level(&mut self, room: &RoomName, level: Level) {
        let Some(known) = self.rooms.by_name.get_mut(room).filter(|known| known.level != level) else { return };
        known.level = level;
        if let Some(membership) = &known.membership {
            // A document that is gone has no rights either.
            let _ = membership.set_access(access_of(level)).await;
        }
        self.wire.tell("permission", &json!({"room": room.as_str(), "role": word_of(level)}));
    }

    async fn expel(&mut self, room: &RoomName, code: ErrorCode) {
        self.leave(room).await;
        let problem = Problem::new(code, "the right to be in this room was taken back");
        let mut told = problem.to_json();
        told["room"] = Value::from(room.as_str());
        self.wire.tell("error:permission", &told);
        self.wire.tell("permission", &json!({"room": room.as_str(), "role": "none"}));
    }
}

pub(super) fn access_of(level: Level) -> Access {
    if level >= Level::Write { Access::Write } else { Access::Read }
}

fn word_of(level: Level) -> &'static str {
    match level {
        Level::None => "none",
        Level::Read => "read",
        Level::Write => "write",
        Level::Admin => "admin",
    }
}
