//! One connection: what a client may do next, and what it is told.
//!
//! Pure. The shell that owns the socket hands in what happened and when, and does what comes out, in order:
//!
//! ```text
//!              refused: "permission denied", then silence ──▶ held ──┐
//!   verdict ──▶                                                       ├──▶ Close
//!              granted: Attach ──▶ Document … Document ──▶ Detach ───┘
//! ```
//!
//! Laws: everything attached is detached before the close; after the close nothing ever comes out; a frame that cannot be
//! understood as a whole has no effect but the close. Whether a reader's "write" brings anything new is for the document to
//! judge, so messages are passed on whatever the access. A shell whose socket vanished detaches its channels itself.

use std::time::Duration;

use bytes::Bytes;

use crate::ErrorCode;
use crate::Moment;
use crate::channel::Access;
use crate::channel::Channel;
use crate::channel::ChannelId;
use crate::channel::DocumentMessage;
pub use crate::channel::Grant;
use crate::channel::Phase;
use crate::y_websocket;
use crate::y_websocket::Message;

/// The channel of a connection that has only one.
const ONLY: ChannelId = ChannelId(0);

/// The times that a connection keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionSettings {
    /// How long a client hears nothing before it is sent a keep-alive; zero for never. Clients give up after 30 s.
    pub keep_alive: Duration,
    /// How long a channel outlives its token, for a renewal to arrive.
    pub grace: Duration,
    /// How long a refused socket is held before it is closed, because old clients redial at once; zero closes at once.
    pub hold: Duration,
}

/// What happened to a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// A binary frame came.
    Frame(Bytes),
    /// A text frame came. No dialect has one.
    Text,
    /// Time passed: see [`Session::deadline`].
    Tick {
        /// When something was last sent to the client.
        last_sent: Moment,
    },
    /// The user's rights were looked up again.
    Renewed {
        /// Where.
        channel: ChannelId,
        /// What they are now.
        grant: Grant,
    },
    /// The user's rights were taken away.
    Revoked {
        /// Where.
        channel: ChannelId,
        /// Why.
        code: ErrorCode,
    },
    /// The document ended the channel: it was deleted, it refused a write, …
    Ended {
        /// Which.
        channel: ChannelId,
        /// Why.
        code: ErrorCode,
    },
}

/// What is to be done about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Let the channel into its document; or, if it is there, tell the document of its new access.
    Attach {
        /// Which.
        channel: ChannelId,
        /// With what access.
        access: Access,
    },
    /// Give the document a message.
    Document {
        /// From which channel.
        channel: ChannelId,
        /// The message.
        message: DocumentMessage,
    },
    /// Send a frame to the client.
    Send(Bytes),
    /// Take the channel out of its document, which may have let go of it already.
    Detach {
        /// Which.
        channel: ChannelId,
    },
    /// Close the socket. The last output there is.
    Close {
        /// The WebSocket close code.
        code: u16,
        /// The code word.
        reason: &'static str,
    },
}

/// One connection.
#[derive(Debug, Clone)]
pub struct Session {
    settings: SessionSettings,
    dialect: Dialect,
}

/// What a connection is made of depends on the language spoken on it.
#[derive(Debug, Clone)]
enum Dialect {
    /// One document; when its channel ends, so does the connection.
    YWebsocket(Channel),
}

impl Session {
    /// A connection in the `y-websocket` dialect: one document, named by the address.
    pub fn y_websocket(
        now: Moment,
        settings: SessionSettings,
        verdict: Result<Grant, ErrorCode>,
        out: &mut Vec<Output>,
    ) -> Self {
        let mut channel = Channel::new(ONLY, now, verdict, settings.grace, settings.hold);
        match channel.phase() {
            Phase::Open(grant) => out.push(Output::Attach { channel: ONLY, access: grant.access }),
            Phase::Refused { code, .. } => out.push(Output::Send(y_websocket::permission_denied(code.word()))),
            Phase::Closed => {}
        }
        if let Some(code) = channel.overdue(now) {
            close(&mut channel, code, out);
        }
        Self { settings, dialect: Dialect::YWebsocket(channel) }
    }

    /// Decides what follows from an input. `now` never runs backwards.
    pub fn handle(&mut self, now: Moment, input: Input, out: &mut Vec<Output>) {
        let Dialect::YWebsocket(channel) = &mut self.dialect;
        match channel.phase() {
            Phase::Refused { .. } => wait(channel, now, out),
            Phase::Open(_) => open(channel, &self.settings, now, input, out),
            Phase::Closed => {}
        }
    }

    /// When [`Input::Tick`] is due next, given when something was last sent to the client; `None` for never.
    #[must_use]
    pub fn deadline(&self, last_sent: Moment) -> Option<Moment> {
        let Dialect::YWebsocket(channel) = &self.dialect;
        let keep_alive = match channel.phase() {
            Phase::Open(_) => self.settings.keep_alive_at(last_sent),
            Phase::Refused { .. } | Phase::Closed => None,
        };
        keep_alive.into_iter().chain(channel.ends_at()).min()
    }
}

impl SessionSettings {
    fn keep_alive_at(&self, last_sent: Moment) -> Option<Moment> {
        (!self.keep_alive.is_zero()).then(|| last_sent.after(self.keep_alive))
    }
}

/// A refused client is not listened to, whatever it says: it is closed when it has waited long enough.
fn wait(channel: &mut Channel, now: Moment, out: &mut Vec<Output>) {
    if let Some(code) = channel.overdue(now) {
        close(channel, code, out);
    }
}

fn open(channel: &mut Channel, settings: &SessionSettings, now: Moment, input: Input, out: &mut Vec<Output>) {
    match (input, channel.overdue(now)) {
        // News of the rights come before the clock: a renewal may be what saves the channel, and a reason to stay away
        // must not be reported as one to come back.
        (Input::Renewed { channel: id, grant }, _) if id == channel.id() => renew(channel, now, grant, out),
        (Input::Revoked { channel: id, code } | Input::Ended { channel: id, code }, _) if id == channel.id() => {
            close(channel, code, out);
        }
        (Input::Renewed { .. } | Input::Revoked { .. } | Input::Ended { .. }, _) => {}
        (_, Some(code)) => close(channel, code, out),
        (Input::Frame(frame), None) => hear(channel, frame, out),
        (Input::Text, None) => close(channel, ErrorCode::InvalidPayload, out),
        (Input::Tick { last_sent }, None) => keep_alive(settings, now, last_sent, out),
    }
}

fn renew(channel: &mut Channel, now: Moment, grant: Grant, out: &mut Vec<Output>) {
    match channel.renew(now, grant) {
        Ok(None) => {}
        Ok(Some(access)) => out.push(Output::Attach { channel: channel.id(), access }),
        Err(code) => close(channel, code, out),
    }
}

fn keep_alive(settings: &SessionSettings, now: Moment, last_sent: Moment, out: &mut Vec<Output>) {
    if settings.keep_alive_at(last_sent).is_some_and(|due| due <= now) {
        out.push(Output::Send(y_websocket::KEEP_ALIVE.clone()));
    }
}

fn hear(channel: &mut Channel, frame: Bytes, out: &mut Vec<Output>) {
    let Ok(messages) = y_websocket::decode(frame) else {
        return close(channel, ErrorCode::InvalidPayload, out);
    };
    for message in messages {
        match message {
            Message::Document(message) => out.push(Output::Document { channel: channel.id(), message }),
            Message::Denied(_) | Message::Unknown(_) => {}
        }
    }
}

fn close(channel: &mut Channel, code: ErrorCode, out: &mut Vec<Output>) {
    if let Phase::Open(_) = channel.close() {
        out.push(Output::Detach { channel: channel.id() });
    }
    out.push(Output::Close { code: code.close_code_or_internal(), reason: code.word() });
}

#[cfg(test)]
mod tests;
