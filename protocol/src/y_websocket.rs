//! The `y-websocket` dialect (npm 1.5 to 3.1): one document per socket, named by the address.
//!
//! Towards clients exactly one message per frame: they read the first and drop the rest. From clients several are taken,
//! because newer ones may send them. A frame is understood as a whole before anything in it has an effect.

use bytes::BufMut;
use bytes::Bytes;
use bytes::BytesMut;

use crate::channel::DocumentMessage;
use crate::channel::ServerMessage;
use crate::limits::AWARENESS_ENTRIES_MAX;
use crate::limits::MESSAGES_PER_FRAME_MAX;
use crate::message;
use crate::message::DecodeError;
use crate::web_socket;
use crate::web_socket::Opcode;
use crate::wire::Reader;
use crate::wire::var_uint_len;
use crate::wire::write_var_bytes;

/// Presence of nobody: the smallest message there is. Clients reconnect after 30 s without a message, and WebSocket
/// pings do not count.
pub static KEEP_ALIVE: Bytes = Bytes::from_static(&[message::AWARENESS, 1, 0]);

const PERMISSION_DENIED: u8 = 0;

/// One message of a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// For the document.
    Document(DocumentMessage),
    /// "Permission denied", with its reason. Only servers say this; from a client it means nothing.
    Denied(String),
    /// A message of a type that we do not know, to be ignored. Its length is unknown too, so it takes the rest of the
    /// frame with it.
    Unknown(u64),
}

/// Reads a frame, all of it or nothing. Update bytes are slices of the frame.
///
/// # Errors
/// [`DecodeError`] when the frame is empty, a message is malformed, or there are more messages than
/// [`MESSAGES_PER_FRAME_MAX`] or more presence entries than [`AWARENESS_ENTRIES_MAX`] in it.
pub fn decode(frame: Bytes) -> Result<Vec<Message>, DecodeError> {
    let mut reader = Reader::new(frame);
    let mut messages = Vec::with_capacity(1);
    let mut entries = 0;
    loop {
        let message = decode_message(&mut reader)?;
        if let Message::Document(DocumentMessage::Awareness(more)) = &message {
            entries += more.len();
        }
        messages.push(message);
        if messages.len() > MESSAGES_PER_FRAME_MAX || entries > AWARENESS_ENTRIES_MAX {
            return Err(DecodeError::TooMany);
        }
        if reader.is_empty() {
            return Ok(messages);
        }
    }
}

fn decode_message(reader: &mut Reader) -> Result<Message, DecodeError> {
    let kind = reader.var_uint()?;
    match u8::try_from(kind) {
        Ok(message::SYNC) => message::decode_sync(reader).map(Message::Document),
        Ok(message::AWARENESS) => message::decode_awareness(reader).map(Message::Document),
        Ok(message::AUTH) => decode_auth(reader),
        Ok(message::QUERY_AWARENESS) => Ok(Message::Document(DocumentMessage::QueryAwareness)),
        _ => unknown(reader, kind),
    }
}

fn decode_auth(reader: &mut Reader) -> Result<Message, DecodeError> {
    if reader.var_uint()? == u64::from(PERMISSION_DENIED) {
        Ok(Message::Denied(reader.var_string()?))
    } else {
        unknown(reader, u64::from(message::AUTH))
    }
}

fn unknown(reader: &mut Reader, kind: u64) -> Result<Message, DecodeError> {
    reader.take(reader.remaining())?;
    Ok(Message::Unknown(kind))
}

/// Encodes one message, without the frame around it.
#[must_use]
pub fn encode(message: &ServerMessage) -> Bytes {
    let mut out = BytesMut::with_capacity(message::server_len(message));
    message::write_server(&mut out, message);
    out.freeze()
}

/// Encodes one message as a whole WebSocket frame: the same bytes for every reader of this dialect.
#[must_use]
pub fn frame(message: &ServerMessage) -> Bytes {
    let length = message::server_len(message);
    let mut out = BytesMut::with_capacity(web_socket::header_len(length) + length);
    web_socket::write_header(&mut out, Opcode::Binary, length);
    message::write_server(&mut out, message);
    out.freeze()
}

/// Encodes one message as a client would: for tests, load tools and everything else that plays a client.
#[must_use]
pub fn encode_client(message: &DocumentMessage) -> Bytes {
    let mut out = BytesMut::new();
    message::write_client(&mut out, message);
    out.freeze()
}

/// "Permission denied": clients show the reason in their console and keep the socket.
#[must_use]
pub fn permission_denied(reason: &str) -> Bytes {
    let mut out = BytesMut::with_capacity(2 + var_uint_len(reason.len() as u64) + reason.len());
    out.put_slice(&[message::AUTH, PERMISSION_DENIED]);
    write_var_bytes(&mut out, reason.as_bytes());
    out.freeze()
}

#[cfg(test)]
mod tests;
