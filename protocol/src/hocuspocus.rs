//! The dialect of `@hocuspocus/provider` (npm 2 to 4): many documents on one socket, each frame with its address in front.
//!
//! ```text
//!   <address> 00 …          sync, as in every dialect       <address> 05 <text>      stateless
//!   <address> 01 <entries>  presence                        <address> 07 [<reason>]  the end of this channel
//!   <address> 02 00 …       a token; the request for one    <address> 08 01 | 00     saved | refused      (from servers)
//!   <address> 02 01 <text>  permission denied (servers)     09 / 0a                  ping / pong, without an address
//!   <address> 02 02 <text>  authenticated (servers)
//! ```
//!
//! Exactly one message per frame, in both directions. What trails a message with content is refused: a second message there
//! would be lost without anybody noticing. What trails a token or a CLOSE is ignored: newer providers append fields.
//!
//! Providers before 4.0 do not say their version, and throw on types they do not know. So whatever only a newer one
//! understands is sent only to those that said so; see [`Provider`].

use bytes::BufMut;
use bytes::Bytes;
use bytes::BytesMut;

use crate::channel::Access;
use crate::channel::DocumentMessage;
use crate::channel::ServerMessage;
use crate::channel::Token;
use crate::limits::ADDRESS_BYTES_MAX;
use crate::limits::TOKEN_BYTES_MAX;
use crate::message;
use crate::message::DecodeError;
use crate::web_socket;
use crate::web_socket::Opcode;
use crate::wire::ReadError;
use crate::wire::Reader;
use crate::wire::read_var_uint;
use crate::wire::var_uint_len;
use crate::wire::write_var_bytes;
pub use address::Address;
pub use address::AddressError;

mod address;

/// "Are you there?" Understood by providers that [`Provider::understands_ping`].
pub static PING: Bytes = Bytes::from_static(&[9]);
/// "I am."
pub static PONG: Bytes = Bytes::from_static(&[10]);

const BROADCAST_STATELESS: u8 = 6;
const CLOSE: u8 = 7;
const SYNC_STATUS: u8 = 8;

const TOKEN: u8 = 0;
const PERMISSION_DENIED: u8 = 1;
const AUTHENTICATED: u8 = 2;

/// Which generation of the provider is at the other end, as far as it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Provider {
    /// The first number of its version; `None` before 4.0.0, which do not say it.
    pub major: Option<u32>,
}

impl Provider {
    /// From a version like `4.8.0`. One that begins with no number is as good as none.
    #[must_use]
    pub fn of_version(version: &str) -> Self {
        Self { major: version.split('.').next().and_then(|major| major.parse().ok()) }
    }

    /// Whether it sends back what it hears of who is present, and so speaks up when it hears that it is gone itself. From 4.0
    /// on, what the server says goes no further.
    #[must_use]
    pub fn echoes_presence(self) -> bool {
        self.major.is_none()
    }

    /// Whether it takes a CLOSE. 3.x does too, but looks like 2.x, which throws on it.
    #[must_use]
    pub fn understands_close(self) -> bool {
        self.major >= Some(3)
    }

    /// Whether it takes a ping. Older ones take it for the length of an address, and throw.
    #[must_use]
    pub fn understands_ping(self) -> bool {
        self.major >= Some(4)
    }
}

// ---- from the client ---------------------------------------------------------------------------------------------------

/// A frame from a client, before its message is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// To be answered with [`PONG`].
    Ping,
    /// An answer to [`PING`].
    Pong,
    /// For one channel.
    Addressed(Addressed),
}

/// An address and a message that is yet to be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Addressed {
    frame: Bytes,
    address_at: usize,
    message_at: usize,
}

/// What a message is about, before it is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A token.
    Auth,
    /// The client leaves the channel.
    Close,
    /// The client begins to synchronise.
    SyncStep1,
    /// A change: a step 2 or an update.
    Change,
    /// Something else for the document, or nothing that can be understood.
    Other,
    /// Of a type that clients do not send, or that we do not know.
    Unknown,
}

/// One message from a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// For the document.
    Document(DocumentMessage),
    /// Who the client is.
    Auth {
        /// Its token, empty for none.
        token: Token,
        /// What it is.
        provider: Provider,
    },
    /// The client leaves this channel; the socket stays.
    Close,
    /// A text for everybody that only servers may send.
    Broadcast,
    /// A message of a type that clients do not send, or that we do not know: to be ignored.
    Unknown(u64),
}

/// Reads the front of a frame. Nothing is copied.
///
/// # Errors
/// [`ReadError`] when there is no address, or one longer than [`ADDRESS_BYTES_MAX`].
pub fn split(frame: Bytes) -> Result<Frame, ReadError> {
    match *frame {
        [9] => return Ok(Frame::Ping),
        [10] => return Ok(Frame::Pong),
        _ => {}
    }
    let (length, address_at) = read_var_uint(&frame)?;
    let length = usize::try_from(length).ok().filter(|&length| length <= ADDRESS_BYTES_MAX).ok_or(ReadError::Range)?;
    let message_at = address_at + length;
    if message_at > frame.len() {
        return Err(ReadError::End);
    }
    Ok(Frame::Addressed(Addressed { frame, address_at, message_at }))
}

impl Addressed {
    /// The address as it was sent.
    #[must_use]
    pub fn address(&self) -> &[u8] {
        &self.frame[self.address_at..self.message_at]
    }

    /// The whole frame.
    #[must_use]
    pub fn into_frame(self) -> Bytes {
        self.frame
    }

    /// What the message is about.
    #[must_use]
    pub fn kind(&self) -> Kind {
        let message = &self.frame[self.message_at..];
        let Ok((kind, length)) = read_var_uint(message) else { return Kind::Other };
        match u8::try_from(kind) {
            Ok(message::AUTH) => match message.get(length) {
                Some(&TOKEN) => Kind::Auth,
                Some(_) => Kind::Unknown,
                None => Kind::Other,
            },
            Ok(CLOSE) => Kind::Close,
            Ok(message::SYNC) => match message.get(length) {
                Some(0) => Kind::SyncStep1,
                Some(1 | 2) => Kind::Change,
                _ => Kind::Other,
            },
            Ok(message::AWARENESS | message::QUERY_AWARENESS | message::STATELESS | BROADCAST_STATELESS) => Kind::Other,
            _ => Kind::Unknown,
        }
    }

    /// Reads the message, all of it or nothing. Update bytes are slices of the frame.
    ///
    /// # Errors
    /// [`DecodeError`] when it is malformed or a token is longer than [`TOKEN_BYTES_MAX`].
    pub fn message(&self) -> Result<Message, DecodeError> {
        let mut reader = Reader::new(self.frame.slice(self.message_at..));
        let kind = reader.var_uint()?;
        let message = match u8::try_from(kind) {
            Ok(message::SYNC) => message::decode_sync(&mut reader)?,
            Ok(message::AWARENESS) => message::decode_awareness(&mut reader)?,
            Ok(message::STATELESS) => DocumentMessage::Stateless(decode_text(&mut reader)?),
            Ok(message::QUERY_AWARENESS) => return Ok(Message::Document(DocumentMessage::QueryAwareness)),
            Ok(message::AUTH) => return decode_auth(&mut reader),
            Ok(CLOSE) => return Ok(Message::Close),
            Ok(BROADCAST_STATELESS) => return Ok(Message::Broadcast),
            _ => return Ok(Message::Unknown(kind)),
        };
        if reader.is_empty() { Ok(Message::Document(message)) } else { Err(DecodeError::TooMany) }
    }
}

fn decode_text(reader: &mut Reader) -> Result<Bytes, ReadError> {
    let text = reader.var_bytes()?;
    std::str::from_utf8(&text).map_err(|_| ReadError::Utf8)?;
    Ok(text)
}

fn decode_auth(reader: &mut Reader) -> Result<Message, DecodeError> {
    if reader.var_uint()? != u64::from(TOKEN) {
        return Ok(Message::Unknown(u64::from(message::AUTH)));
    }
    let token = reader.var_string()?;
    if token.len() > TOKEN_BYTES_MAX {
        return Err(DecodeError::TooMany);
    }
    let provider = if reader.is_empty() { Provider::default() } else { Provider::of_version(&reader.var_string()?) };
    Ok(Message::Auth { token: Token::new(token), provider })
}

// ---- from the document to the client -----------------------------------------------------------------------------------

/// Encodes one message, without the WebSocket frame around it.
#[must_use]
pub fn encode(address: &Address, message: &ServerMessage) -> Bytes {
    let mut out = BytesMut::with_capacity(address_len(address) + message::server_len(message));
    write_address(&mut out, address);
    message::write_server(&mut out, message);
    out.freeze()
}

/// Encodes one message as a whole WebSocket frame: the same bytes for every reader of this address.
#[must_use]
pub fn frame(address: &Address, message: &ServerMessage) -> Bytes {
    framed(address, message::server_len(message), |out| message::write_server(out, message))
}

/// An application's text (UTF-8), as a whole WebSocket frame.
#[must_use]
pub fn stateless_frame(address: &Address, text: &[u8]) -> Bytes {
    framed(address, 1 + var_uint_len(text.len() as u64) + text.len(), |out| {
        out.put_u8(message::STATELESS);
        write_var_bytes(out, text);
    })
}

/// The answer to a change, as a whole WebSocket frame: that it is saved, or that it is not and will not be. A provider counts
/// these: exactly one for every update and every step 2.
#[must_use]
pub fn sync_status_frame(address: &Address, saved: bool) -> Bytes {
    framed(address, 2, |out| out.put_slice(&[SYNC_STATUS, u8::from(saved)]))
}

fn framed(address: &Address, message_len: usize, write: impl FnOnce(&mut BytesMut)) -> Bytes {
    let length = address_len(address) + message_len;
    let mut out = BytesMut::with_capacity(web_socket::header_len(length) + length);
    web_socket::write_header(&mut out, Opcode::Binary, length);
    write_address(&mut out, address);
    write(&mut out);
    out.freeze()
}

// ---- from the session to the client ------------------------------------------------------------------------------------

/// "You are in", with how much of it.
#[must_use]
pub fn authenticated(address: &Address, access: Access) -> Bytes {
    let scope = match access {
        Access::Read => "readonly",
        Access::Write => "read-write",
    };
    with_text(address.as_str().as_bytes(), &[message::AUTH, AUTHENTICATED], scope)
}

/// "You are not", and why. The address as it was sent: it may be one that no document has.
#[must_use]
pub fn permission_denied(address: &[u8], reason: &str) -> Bytes {
    with_text(address, &[message::AUTH, PERMISSION_DENIED], reason)
}

/// The end of this channel for good: the provider does not attach again by itself. For those that
/// [`Provider::understands_close`].
#[must_use]
pub fn close(address: &Address, reason: &str) -> Bytes {
    with_text(address.as_str().as_bytes(), &[CLOSE], reason)
}

/// "Send a token." Providers of 3.0 and later do, at once; older ones ignore it.
#[must_use]
pub fn token_request(address: &Address) -> Bytes {
    bare(address, &[message::AUTH, TOKEN])
}

/// Presence of nobody, for providers that have no ping. One is enough for a socket: the watchdog is the socket's.
#[must_use]
pub fn keep_alive(address: &Address) -> Bytes {
    bare(address, &[message::AWARENESS, 1, 0])
}

fn with_text(address: &[u8], head: &[u8], text: &str) -> Bytes {
    let mut out = BytesMut::with_capacity(8 + address.len() + head.len() + text.len());
    write_var_bytes(&mut out, address);
    out.put_slice(head);
    write_var_bytes(&mut out, text.as_bytes());
    out.freeze()
}

fn bare(address: &Address, message: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(address_len(address) + message.len());
    write_address(&mut out, address);
    out.put_slice(message);
    out.freeze()
}

fn address_len(address: &Address) -> usize {
    let length = address.as_str().len();
    var_uint_len(length as u64) + length
}

fn write_address(out: &mut BytesMut, address: &Address) {
    write_var_bytes(out, address.as_str().as_bytes());
}

// ---- the other half ----------------------------------------------------------------------------------------------------

/// Encodes one message as a client would: for tests, load tools and everything else that plays a client.
#[must_use]
pub fn encode_client(address: &Address, message: &DocumentMessage) -> Bytes {
    let mut out = BytesMut::new();
    write_address(&mut out, address);
    message::write_client(&mut out, message);
    out.freeze()
}

/// A client's token. Without a version, as providers before 4.0 send it.
#[must_use]
pub fn encode_token(address: &Address, token: &str, version: Option<&str>) -> Bytes {
    let mut out = BytesMut::new();
    write_address(&mut out, address);
    out.put_slice(&[message::AUTH, TOKEN]);
    write_var_bytes(&mut out, token.as_bytes());
    if let Some(version) = version {
        write_var_bytes(&mut out, version.as_bytes());
    }
    out.freeze()
}

/// A client leaves a channel.
#[must_use]
pub fn encode_close(address: &Address) -> Bytes {
    bare(address, &[CLOSE])
}

#[cfg(test)]
mod tests;
