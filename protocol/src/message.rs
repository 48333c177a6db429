//! The messages that all dialects share, without the envelope each puts around them.
//!
//! ```text
//!   00 00 <state vector>   "this is what I have"        01 <entries>   presence
//!   00 01 <update>         "this is what you lack"      03             "who is here?"
//!   00 02 <update>         a change
//! ```
//!
//! Every `<…>` is a varByteArray. What is decoded are slices of the frame; what is encoded is one buffer of the exact size.

use bytes::BufMut;
use bytes::Bytes;
use bytes::BytesMut;

use crate::awareness;
use crate::channel::DocumentMessage;
use crate::channel::ServerMessage;
use crate::wire::ReadError;
use crate::wire::Reader;
use crate::wire::var_uint_len;
use crate::wire::write_var_bytes;

/// Message type of the sync protocol; a step follows.
pub const SYNC: u8 = 0;
/// Message type of presence.
pub const AWARENESS: u8 = 1;
/// Message type of authentication; what follows differs between dialects.
pub const AUTH: u8 = 2;
/// Message type of "who is here?"; nothing follows.
pub const QUERY_AWARENESS: u8 = 3;
/// Message type of an application's own text. `y-websocket` has none, and ignores it as unknown.
pub const STATELESS: u8 = 5;

const STEP_1: u8 = 0;
const STEP_2: u8 = 1;
const UPDATE: u8 = 2;

/// Why a frame could not be understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// A value in it is malformed.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A sync message that is neither step 1, step 2 nor an update: its length is unknown, and no client sends one.
    #[error("unknown sync step {0}")]
    SyncStep(u64),
    /// More messages, or more presence, than one frame may carry.
    #[error("too much in one frame")]
    TooMany,
}

/// Reads what follows [`SYNC`]. The update or state vector inside is handed on unread: its document judges it.
///
/// # Errors
/// [`DecodeError::SyncStep`] for an unknown step, [`DecodeError::Read`] when the bytes end early.
pub fn decode_sync(reader: &mut Reader) -> Result<DocumentMessage, DecodeError> {
    let step = reader.var_uint()?;
    let message = match u8::try_from(step) {
        Ok(STEP_1) => DocumentMessage::SyncStep1,
        Ok(STEP_2) => DocumentMessage::SyncStep2,
        Ok(UPDATE) => DocumentMessage::Update,
        _ => return Err(DecodeError::SyncStep(step)),
    };
    Ok(message(reader.var_bytes()?))
}

/// Reads what follows [`AWARENESS`].
///
/// # Errors
/// [`DecodeError::Read`] when the entries are malformed or out of bounds.
pub fn decode_awareness(reader: &mut Reader) -> Result<DocumentMessage, DecodeError> {
    Ok(DocumentMessage::Awareness(awareness::decode(reader.var_bytes()?)?))
}

/// Bytes that [`write_server`] will write.
#[must_use]
pub fn server_len(message: &ServerMessage) -> usize {
    match message {
        ServerMessage::SyncStep1(body) | ServerMessage::SyncStep2(body) | ServerMessage::Update(body) => {
            2 + var_bytes_len(body)
        }
        ServerMessage::Awareness(entries) => 1 + var_bytes_len(entries),
    }
}

/// Writes what a document tells a client.
pub fn write_server(out: &mut BytesMut, message: &ServerMessage) {
    match message {
        ServerMessage::SyncStep1(vector) => write(out, &[SYNC, STEP_1], vector),
        ServerMessage::SyncStep2(update) => write(out, &[SYNC, STEP_2], update),
        ServerMessage::Update(update) => write(out, &[SYNC, UPDATE], update),
        ServerMessage::Awareness(entries) => write(out, &[AWARENESS], entries),
    }
}

/// Writes what a client tells a document: the other half, for everything that plays a client.
pub fn write_client(out: &mut BytesMut, message: &DocumentMessage) {
    match message {
        DocumentMessage::SyncStep1(vector) => write(out, &[SYNC, STEP_1], vector),
        DocumentMessage::SyncStep2(update) => write(out, &[SYNC, STEP_2], update),
        DocumentMessage::Update(update) => write(out, &[SYNC, UPDATE], update),
        DocumentMessage::Awareness(entries) => write(out, &[AWARENESS], &awareness::encode(entries.iter())),
        DocumentMessage::QueryAwareness => out.put_u8(QUERY_AWARENESS),
        DocumentMessage::Stateless(text) => write(out, &[STATELESS], text),
    }
}

fn write(out: &mut BytesMut, head: &[u8], body: &[u8]) {
    out.put_slice(head);
    write_var_bytes(out, body);
}

fn var_bytes_len(bytes: &Bytes) -> usize {
    var_uint_len(bytes.len() as u64) + bytes.len()
}
