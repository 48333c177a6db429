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
//! That is one channel. A `y-websocket` connection is one channel, and its verdict is there before it begins. A Hocuspocus
//! connection is any number of them, each of which begins with a token: the session asks ([`Output::Authenticate`]), the shell
//! answers when it knows ([`Input::Verdict`]), and the end of one channel is not the end of the others.
//!
//! Laws: everything attached is detached before the close; after the close nothing ever comes out; a frame that cannot be
//! understood as a whole has no effect but the ending of its channel. Whether a reader's "write" brings anything new is for
//! the document to judge, so messages are passed on whatever the access. A shell whose socket vanished detaches its channels
//! itself.

use std::time::Duration;

use bytes::Bytes;

use crate::ErrorCode;
use crate::Moment;
use crate::channel::Access;
use crate::channel::ChannelId;
use crate::channel::DocumentMessage;
pub use crate::channel::Grant;
use crate::channel::Token;
use crate::hocuspocus::Address;
use crate::hocuspocus::Provider;
use hocuspocus::Hocuspocus;
use y_websocket::YWebsocket;

mod hocuspocus;
mod y_websocket;

/// The times that a `y-websocket` connection keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionSettings {
    /// How long a client hears nothing before it is sent a keep-alive; zero for never. Clients give up after 30 s.
    pub keep_alive: Duration,
    /// How long a channel outlives its token, for a renewal to arrive.
    pub grace: Duration,
    /// How long a refused socket is held before it is closed, because old clients redial at once; zero closes at once.
    pub hold: Duration,
    /// The same for one that was let in, and whose document ends it for a reason that stays.
    pub hold_ended: Duration,
}

/// The times and bounds that a Hocuspocus connection keeps. What is not here is in [`crate::limits`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HocuspocusSettings {
    /// How long a client hears nothing before it is sent a keep-alive; zero for never. Clients give up after 30 s.
    pub keep_alive: Duration,
    /// How long a channel outlives its token, for a renewal to arrive.
    pub grace: Duration,
    /// How long before its token runs out a client is asked for another; never more than a third of what is left of it. Zero
    /// for never.
    pub renew_before: Duration,
    /// How long a connection may be without an open channel, a channel without a token, and a token without a verdict.
    pub auth_within: Duration,
    /// How soon after it was let in a client must begin to synchronise; zero for any time. Real ones do so at once.
    pub sync_within: Duration,
    /// Channels of one connection.
    pub channels_max: usize,
    /// Whether who begins to synchronise without a token is taken as having an empty one. Where documents are open to
    /// everybody: providers of 2.x that have no token send none.
    pub anonymous: bool,
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
    /// The answer to [`Output::Authenticate`]; meaningless where nothing was asked, or the channel has ended meanwhile.
    Verdict {
        /// Where.
        channel: ChannelId,
        /// What the token is good for.
        verdict: Result<Grant, ErrorCode>,
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

/// Who is at the other end of a channel that is one of several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// The document's name as it was sent, and what frames to the client begin with.
    pub address: Address,
    /// Which provider.
    pub provider: Provider,
}

/// What is to be done about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Find out whether the token lets its holder into the document, and how far; answer with [`Input::Verdict`]. At most one
    /// such question is open per channel.
    Authenticate {
        /// For which channel.
        channel: ChannelId,
        /// The document's name, as it was sent: not more than 255 bytes, and not blank.
        doc: String,
        /// The proof; empty for none.
        token: Token,
        /// Whether the channel is open, and stays so meanwhile.
        renewal: bool,
    },
    /// Let the channel into its document; or, if it is there, tell the document of its new access.
    Attach {
        /// Which.
        channel: ChannelId,
        /// With what access.
        access: Access,
        /// Who that is, on connections of several channels.
        peer: Option<Peer>,
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
    dialect: Dialect,
}

/// What a connection is made of depends on the language spoken on it.
#[derive(Debug, Clone)]
enum Dialect {
    /// One document; when its channel ends, so does the connection.
    YWebsocket(YWebsocket),
    /// Many documents, which come and go.
    Hocuspocus(Box<Hocuspocus>),
}

impl Session {
    /// A connection in the `y-websocket` dialect: one document, named by the URL.
    pub fn y_websocket(
        now: Moment,
        settings: SessionSettings,
        verdict: Result<Grant, ErrorCode>,
        out: &mut Vec<Output>,
    ) -> Self {
        Self { dialect: Dialect::YWebsocket(YWebsocket::begin(now, settings, verdict, out)) }
    }

    /// A connection in the dialect of `@hocuspocus/provider`: it begins with no document.
    #[must_use]
    pub fn hocuspocus(now: Moment, settings: HocuspocusSettings) -> Self {
        Self { dialect: Dialect::Hocuspocus(Box::new(Hocuspocus::begin(now, settings))) }
    }

    /// Decides what follows from an input. `now` never runs backwards.
    pub fn handle(&mut self, now: Moment, input: Input, out: &mut Vec<Output>) {
        match &mut self.dialect {
            Dialect::YWebsocket(session) => session.handle(now, input, out),
            Dialect::Hocuspocus(session) => session.handle(now, input, out),
        }
    }

    /// Whether anybody on this connection has proved who they are.
    #[must_use]
    pub fn is_proved(&self) -> bool {
        match &self.dialect {
            Dialect::YWebsocket(_) => true,
            Dialect::Hocuspocus(session) => session.is_proved(),
        }
    }

    /// Bytes of frames that wait for a verdict.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        match &self.dialect {
            Dialect::YWebsocket(_) => 0,
            Dialect::Hocuspocus(session) => session.held_bytes(),
        }
    }

    /// When [`Input::Tick`] is due next, given when something was last sent to the client; `None` for never.
    #[must_use]
    pub fn deadline(&self, last_sent: Moment) -> Option<Moment> {
        match &self.dialect {
            Dialect::YWebsocket(session) => session.deadline(last_sent),
            Dialect::Hocuspocus(session) => session.deadline(last_sent),
        }
    }
}

/// When a keep-alive is due; `None` for never.
fn keep_alive_at(keep_alive: Duration, last_sent: Moment) -> Option<Moment> {
    (!keep_alive.is_zero()).then(|| last_sent.after(keep_alive))
}

fn close(code: ErrorCode) -> Output {
    Output::Close { code: code.close_code_or_internal(), reason: code.word() }
}
