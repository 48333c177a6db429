//! How a document reaches one of its channels: a message is encoded once, and each language puts its own head before it.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use bytes::BytesMut;
use syncline_protocol::ErrorCode;
use syncline_protocol::channel::ChannelId;
use syncline_protocol::channel::ServerMessage;
use syncline_protocol::hocuspocus;
use syncline_protocol::hocuspocus::Address;
use syncline_protocol::hocuspocus::Provider;
use syncline_protocol::web_socket;
use syncline_protocol::web_socket::Opcode;
use syncline_protocol::wire::var_uint_len;
use syncline_protocol::wire::write_var_bytes;
use syncline_protocol::y_websocket;

use crate::outbox::Frame;
use crate::outbox::Outbox;

use super::request::Receipt;
use super::states::Parts;

/// What is spoken on a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Language {
    /// One document on a socket.
    YWebsocket,
    /// Many documents on a socket: each frame begins with an address.
    Hocuspocus {
        /// The address of the channel.
        address: Address,
        /// Whose it is.
        provider: Provider,
    },
}

/// How a document reaches one of its readers.
#[derive(Debug, Clone)]
pub enum Port {
    /// A channel of a connection that speaks Yjs.
    Line(Line),
    /// Somebody who is present and hears nothing here, but that it ended: what others do comes to it from the room.
    Silent(Arc<dyn Ends>),
}

/// A channel of a connection that speaks Yjs.
#[derive(Debug, Clone)]
pub struct Line {
    /// The connection's outbox.
    pub outbox: Arc<Outbox>,
    /// The channel on that connection.
    pub channel: ChannelId,
    /// What is spoken there.
    pub language: Language,
}

/// Hears that a document ended a silent reader. Called on the document's own task: it must not wait.
pub trait Ends: Send + Sync + fmt::Debug {
    /// The document was deleted (`NOT_FOUND`), cannot be used, or the reader said what nobody may say. It is out.
    fn ended(&self, code: ErrorCode);
}

/// A message, encoded once for everybody who hears it.
#[derive(Debug)]
pub struct Encoded {
    /// The whole frame in the `y-websocket` dialect. Others have the same message in it, behind a head of their own.
    frame: Bytes,
    message: Bytes,
    /// The head that was made last, and for which address: most channels of a document have the same.
    head: Option<(Address, Bytes)>,
}

impl Encoded {
    /// Encodes a message that every language has.
    #[must_use]
    pub fn new(message: &ServerMessage) -> Self {
        let frame = y_websocket::frame(message);
        let message = frame.slice(web_socket::header_len_of(&frame)..);
        Self { frame, message, head: None }
    }

    fn addressed(&mut self, address: &Address) -> Frame {
        Frame { head: self.head_for(address), body: self.message.clone() }
    }

    fn head_for(&mut self, address: &Address) -> Bytes {
        match &self.head {
            Some((made_for, head)) if made_for == address => head.clone(),
            _ => {
                let head = head(address, self.message.len());
                self.head = Some((address.clone(), head.clone()));
                head
            }
        }
    }
}

impl Port {
    /// A reader that hears nothing but its end.
    #[must_use]
    pub fn silent(ends: Arc<dyn Ends>) -> Self {
        Self::Silent(ends)
    }

    /// How the reader hears that something is durable. A silent one is never asked for anything.
    #[must_use]
    pub fn receipt(&self) -> Receipt {
        match self {
            Self::Line(Line { language: Language::YWebsocket, .. }) => Receipt::Echo,
            Self::Line(Line { language: Language::Hocuspocus { provider, .. }, .. }) if !provider.echoes_presence() => {
                Receipt::QuietStatus
            }
            Self::Line(Line { language: Language::Hocuspocus { .. }, .. }) | Self::Silent(_) => Receipt::Status,
        }
    }

    /// Queues a change. `false`: it does not fit.
    #[must_use]
    pub fn push(&self, message: &mut Encoded) -> bool {
        let Self::Line(Line { outbox, channel, language }) = self else { return true };
        match language {
            Language::YWebsocket => outbox.push(*channel, message.frame.clone()),
            Language::Hocuspocus { address, .. } => outbox.push(*channel, message.addressed(address)),
        }
    }

    /// Queues presence. `false`: it does not fit.
    #[must_use]
    pub fn push_awareness(&self, message: &mut Encoded) -> bool {
        let Self::Line(Line { outbox, channel, language }) = self else { return true };
        match language {
            Language::YWebsocket => outbox.push_awareness(*channel, message.frame.clone()),
            Language::Hocuspocus { address, .. } => outbox.push_awareness(*channel, message.addressed(address)),
        }
    }

    /// Queues a state. `false`: another one is still on its way.
    #[must_use]
    pub fn push_state(&self, parts: &Parts) -> bool {
        let Self::Line(Line { outbox, channel, language }) = self else { return true };
        match language {
            Language::YWebsocket => {
                let frames: Arc<[Bytes]> = parts.iter().map(|part| part.frame.clone()).collect();
                outbox.push_parts(*channel, frames, 1)
            }
            Language::Hocuspocus { address, .. } => {
                let pieces: Arc<[Bytes]> = parts.iter().flat_map(|part| addressed(address, &part.frame)).collect();
                outbox.push_parts(*channel, pieces, 2)
            }
        }
    }

    /// Queues our step 1.
    pub fn push_step1(&self, state_vector: Bytes) {
        let Self::Line(Line { outbox, language, .. }) = self else { return };
        let message = ServerMessage::SyncStep1(state_vector);
        outbox.push_control(match language {
            Language::YWebsocket => y_websocket::frame(&message),
            Language::Hocuspocus { address, .. } => hocuspocus::frame(address, &message),
        });
    }

    /// Queues `count` statuses, for a channel whose client counts. Answers how many did not fit.
    #[must_use]
    pub fn push_statuses(&self, saved: bool, count: u32) -> u32 {
        let Some((Line { outbox, channel, .. }, address)) = self.addressed_line() else { return 0 };
        let frame = hocuspocus::sync_status_frame(address, saved);
        let pushed = (0..count).take_while(|_| outbox.push(*channel, frame.clone())).count();
        count - u32::try_from(pushed).unwrap_or(count)
    }

    /// Queues what another client says to everybody, where the language has that. `false`: it does not fit, and is lost.
    #[must_use]
    pub fn push_stateless(&self, payload: &Bytes) -> bool {
        let Some((Line { outbox, channel, .. }, address)) = self.addressed_line() else { return true };
        outbox.push(*channel, hocuspocus::stateless_frame(address, payload))
    }

    /// Says that something the client said counts for nothing; the channel goes on.
    pub fn push_denial(&self, code: ErrorCode) {
        if let Self::Line(Line { outbox, language: Language::YWebsocket, .. }) = self {
            let denied = y_websocket::permission_denied(code.word());
            outbox.push_control(web_socket::frame(Opcode::Binary, &denied));
        }
    }

    /// Says that the reader is out.
    pub fn end(&self, code: ErrorCode) {
        match self {
            Self::Line(Line { outbox, channel, .. }) => outbox.end(*channel, code),
            Self::Silent(ends) => ends.ended(code),
        }
    }

    /// The outbox of a reader that has one.
    #[must_use]
    pub fn outbox(&self) -> Option<&Arc<Outbox>> {
        match self {
            Self::Line(line) => Some(&line.outbox),
            Self::Silent(_) => None,
        }
    }

    fn addressed_line(&self) -> Option<(&Line, &Address)> {
        match self {
            Self::Line(line @ Line { language: Language::Hocuspocus { address, .. }, .. }) => Some((line, address)),
            Self::Line(_) | Self::Silent(_) => None,
        }
    }
}

/// The two pieces of a frame with an address: its own, and what it shares with the frame of the `y-websocket` dialect.
fn addressed(address: &Address, frame: &Bytes) -> [Bytes; 2] {
    let message = frame.slice(web_socket::header_len_of(frame)..);
    [head(address, message.len()), message]
}

/// The header of a frame, and its address.
fn head(address: &Address, message: usize) -> Bytes {
    let address = address.as_str().as_bytes();
    let length = var_uint_len(address.len() as u64) + address.len() + message;
    let mut out = BytesMut::with_capacity(web_socket::header_len(length) + length - message);
    web_socket::write_header(&mut out, Opcode::Binary, length);
    write_var_bytes(&mut out, address);
    out.freeze()
}
