//! The server's half of WebSocket framing (RFC 6455), without a socket.
//!
//! Frames from a server are not masked, so one frame is the same bytes for every reader of a document: it is made once, with
//! its header in front, and shared. Frames from clients are decoded out of whatever pieces they arrive in; between frames a
//! [`Decoder`] holds no memory beyond itself.

use bytes::BufMut;
use bytes::Bytes;
use bytes::BytesMut;

/// What a frame carries, in the header's low four bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Opcode {
    /// More of a message that began in an earlier frame.
    Continuation = 0,
    /// Text.
    Text = 1,
    /// Bytes.
    Binary = 2,
    /// The end of the connection, with a code and a reason.
    Close = 8,
    /// "Are you there?"
    Ping = 9,
    /// "I am."
    Pong = 10,
}

impl Opcode {
    fn parse(nibble: u8) -> Option<Self> {
        Some(match nibble {
            0 => Self::Continuation,
            1 => Self::Text,
            2 => Self::Binary,
            8 => Self::Close,
            9 => Self::Ping,
            10 => Self::Pong,
            _ => return None,
        })
    }

    fn is_control(self) -> bool {
        self as u8 >= 8
    }
}

/// The longest payload of a control frame (RFC 6455, 5.5).
pub const CONTROL_BYTES_MAX: usize = 125;
/// A client's longest header: two bytes, a length of eight, a mask of four.
const HEADER_BYTES_MAX: usize = 14;
/// A frame that is still arriving is given room as it comes, so that a header alone cannot claim memory.
const FIRST_ROOM: usize = 64 * 1024;

const FINAL: u8 = 0x80;
const RESERVED: u8 = 0x70;
const MASKED: u8 = 0x80;
const LENGTH_16: u8 = 126;
const LENGTH_64: u8 = 127;

// ---- towards the client ------------------------------------------------------------------------------------------------

/// Bytes of the header in front of a payload of `length` bytes.
#[must_use]
pub const fn header_len(length: usize) -> usize {
    match length {
        0..126 => 2,
        126..=0xffff => 4,
        _ => 10,
    }
}

/// Length in bytes of the header of a frame that [`write_header`] began.
#[must_use]
pub fn header_len_of(frame: &[u8]) -> usize {
    match frame.get(1) {
        Some(127) => 10,
        Some(126) => 4,
        _ => 2,
    }
}

/// Writes the header of a whole, unmasked frame.
pub fn write_header(out: &mut BytesMut, opcode: Opcode, length: usize) {
    out.put_u8(FINAL | opcode as u8);
    // The match mirrors `header_len`, so the casts cannot cut anything off.
    match length {
        0..126 => out.put_u8(length as u8),
        126..=0xffff => {
            out.put_u8(LENGTH_16);
            out.put_u16(length as u16);
        }
        _ => {
            out.put_u8(LENGTH_64);
            out.put_u64(length as u64);
        }
    }
}

/// A whole frame around a payload.
#[must_use]
pub fn frame(opcode: Opcode, payload: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(header_len(payload.len()) + payload.len());
    write_header(&mut out, opcode, payload.len());
    out.put_slice(payload);
    out.freeze()
}

/// A close frame. Reasons are code words, far below the 123 bytes that fit; a longer one is left out.
#[must_use]
pub fn close_frame(code: u16, reason: &str) -> Bytes {
    let reason = if reason.len() + 2 <= CONTROL_BYTES_MAX { reason } else { "" };
    let mut payload = Vec::with_capacity(2 + reason.len());
    payload.extend_from_slice(&code.to_be_bytes());
    payload.extend_from_slice(reason.as_bytes());
    frame(Opcode::Close, &payload)
}

// ---- from the client ---------------------------------------------------------------------------------------------------

/// A whole message from a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// Bytes.
    Binary(Bytes),
    /// Text; no dialect has any, so it is not kept.
    Text,
    /// To be answered by a pong of the same payload.
    Ping(Bytes),
    /// An answer to a ping.
    Pong,
    /// The peer closes, with this code if it gave one. Nothing after it is read.
    Close(Option<u16>),
}

/// Why a connection cannot go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// A message is larger than this connection may send.
    #[error("the message is too large")]
    TooLarge,
    /// The peer broke a rule of the protocol.
    #[error("{0}")]
    Broken(&'static str),
}

/// Puts a client's messages together from the bytes of its connection.
#[derive(Debug)]
pub struct Decoder {
    message_bytes_max: usize,
    state: State,
    /// The frames so far of a message in several.
    fragments: Option<Box<Fragments>>,
}

#[derive(Debug)]
enum State {
    /// Some bytes of a header, perhaps none.
    Header { bytes: [u8; HEADER_BYTES_MAX], filled: u8 },
    /// A payload of which the rest is still under way.
    Payload(Box<Partial>),
    /// The peer has closed.
    Closed,
}

#[derive(Debug)]
struct Partial {
    header: Header,
    payload: BytesMut,
}

#[derive(Debug)]
struct Fragments {
    opcode: Opcode,
    bytes: BytesMut,
}

#[derive(Debug, Clone, Copy)]
struct Header {
    opcode: Opcode,
    is_final: bool,
    mask: [u8; 4],
    length: usize,
}

const START: State = State::Header { bytes: [0; HEADER_BYTES_MAX], filled: 0 };

impl Decoder {
    /// A decoder at the start of a connection. Messages of more than `message_bytes_max` bytes are refused.
    #[must_use]
    pub fn new(message_bytes_max: usize) -> Self {
        Self { message_bytes_max, state: START, fragments: None }
    }

    /// Bytes of a message that has not ended yet.
    #[must_use]
    pub fn waiting_bytes(&self) -> usize {
        let partial = match &self.state {
            State::Payload(partial) => partial.payload.capacity(),
            State::Header { .. } | State::Closed => 0,
        };
        partial + self.fragments.as_ref().map_or(0, |fragments| fragments.bytes.capacity())
    }

    /// Takes the next bytes of the connection, in pieces of any size, and adds the messages that end in them. The bytes
    /// are unmasked in place.
    ///
    /// # Errors
    /// [`FrameError`]: the connection is to be closed; the decoder must not be used again. Messages before the error
    /// are in `out`.
    pub fn decode(&mut self, mut input: &mut [u8], out: &mut Vec<Message>) -> Result<(), FrameError> {
        while !input.is_empty() {
            match &mut self.state {
                State::Closed => return Ok(()),
                State::Header { bytes, filled } => {
                    let Some((header, used)) = take_header(bytes, filled, input)? else { return Ok(()) };
                    self.state = START;
                    self.judge(&header)?;
                    input = &mut input[used..];
                    if header.length <= input.len() {
                        let (payload, rest) = input.split_at_mut(header.length);
                        unmask(payload, header.mask, 0);
                        self.finish(&header, Payload::Borrowed(payload), out)?;
                        input = rest;
                    } else {
                        let payload = BytesMut::with_capacity(header.length.min(FIRST_ROOM));
                        self.state = State::Payload(Box::new(Partial { header, payload }));
                    }
                }
                State::Payload(partial) => {
                    let have = partial.payload.len();
                    let taken = input.len().min(partial.header.length - have);
                    let (piece, rest) = input.split_at_mut(taken);
                    unmask(piece, partial.header.mask, have);
                    partial.payload.extend_from_slice(piece);
                    input = rest;
                    if partial.payload.len() == partial.header.length
                        && let State::Payload(done) = std::mem::replace(&mut self.state, START)
                    {
                        self.finish(&done.header, Payload::Owned(done.payload), out)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Whether the decoder is between messages and holds nothing.
    #[must_use]
    pub fn is_at_rest(&self) -> bool {
        matches!(self.state, State::Header { filled: 0, .. } | State::Closed) && self.fragments.is_none()
    }

    /// Refuses by the header what must not be read at all.
    fn judge(&self, header: &Header) -> Result<(), FrameError> {
        if header.opcode.is_control() {
            return match header {
                Header { is_final: false, .. } => Err(FrameError::Broken("a control frame in pieces")),
                Header { length, .. } if *length > CONTROL_BYTES_MAX => Err(FrameError::Broken("a long control frame")),
                _ => Ok(()),
            };
        }
        match (header.opcode, &self.fragments) {
            (Opcode::Continuation, None) => Err(FrameError::Broken("a continuation of nothing")),
            (Opcode::Text | Opcode::Binary, Some(_)) => Err(FrameError::Broken("a message inside another")),
            (_, fragments) => {
                let so_far = fragments.as_ref().map_or(0, |fragments| fragments.bytes.len());
                let fits = header.length <= self.message_bytes_max.saturating_sub(so_far);
                if fits { Ok(()) } else { Err(FrameError::TooLarge) }
            }
        }
    }

    fn finish(&mut self, header: &Header, payload: Payload<'_>, out: &mut Vec<Message>) -> Result<(), FrameError> {
        match header.opcode {
            Opcode::Ping => out.push(Message::Ping(payload.into_bytes())),
            Opcode::Pong => out.push(Message::Pong),
            Opcode::Close => {
                out.push(Message::Close(close_code(payload.as_slice())?));
                self.state = State::Closed;
                self.fragments = None;
            }
            Opcode::Text | Opcode::Binary if header.is_final => out.push(message(header.opcode, payload.into_bytes())),
            Opcode::Text | Opcode::Binary => {
                let bytes = BytesMut::from(payload.as_slice());
                self.fragments = Some(Box::new(Fragments { opcode: header.opcode, bytes }));
            }
            Opcode::Continuation => {
                let Some(fragments) = &mut self.fragments else {
                    return Err(FrameError::Broken("a continuation of nothing"));
                };
                fragments.bytes.extend_from_slice(payload.as_slice());
                if header.is_final
                    && let Some(done) = self.fragments.take()
                {
                    out.push(message(done.opcode, done.bytes.freeze()));
                }
            }
        }
        Ok(())
    }
}

/// Payload in the reader's buffer, or in one of its own.
enum Payload<'a> {
    Borrowed(&'a [u8]),
    Owned(BytesMut),
}

impl Payload<'_> {
    fn as_slice(&self) -> &[u8] {
        match self {
            Self::Borrowed(bytes) => bytes,
            Self::Owned(bytes) => bytes,
        }
    }

    /// A message of its own size: slices of a shared buffer would keep all of it for as long as the smallest lives.
    fn into_bytes(self) -> Bytes {
        match self {
            Self::Borrowed(bytes) => Bytes::copy_from_slice(bytes),
            Self::Owned(bytes) => bytes.freeze(),
        }
    }
}

fn message(opcode: Opcode, payload: Bytes) -> Message {
    if opcode == Opcode::Text { Message::Text } else { Message::Binary(payload) }
}

/// Completes the header begun in `bytes` from `input`. Answers it and how much of `input` it took; `None` when it needs more,
/// and then all of `input` was taken.
fn take_header(
    bytes: &mut [u8; HEADER_BYTES_MAX],
    filled: &mut u8,
    input: &[u8],
) -> Result<Option<(Header, usize)>, FrameError> {
    let before = usize::from(*filled);
    if before == 0
        && let Some((header, used)) = parse_header(input)?
    {
        return Ok(Some((header, used)));
    }
    let taken = input.len().min(HEADER_BYTES_MAX - before);
    bytes[before..before + taken].copy_from_slice(&input[..taken]);
    // At most 14.
    *filled = (before + taken) as u8;
    let parsed = parse_header(&bytes[..before + taken])?;
    Ok(parsed.map(|(header, used)| (header, used - before)))
}

/// Reads a header; `None` when there is not enough of it.
fn parse_header(bytes: &[u8]) -> Result<Option<(Header, usize)>, FrameError> {
    let &[first, second, ref rest @ ..] = bytes else { return Ok(None) };
    if first & RESERVED != 0 {
        return Err(FrameError::Broken("reserved bits are set"));
    }
    let opcode = Opcode::parse(first & 0x0f).ok_or(FrameError::Broken("an unknown opcode"))?;
    if second & MASKED == 0 {
        return Err(FrameError::Broken("a frame without a mask"));
    }
    let (length, mask_at) = match second & !MASKED {
        LENGTH_16 => match rest {
            [a, b, ..] => (u64::from(u16::from_be_bytes([*a, *b])), 2),
            _ => return Ok(None),
        },
        LENGTH_64 => match rest.first_chunk::<8>() {
            Some(eight) => (u64::from_be_bytes(*eight), 8),
            None => return Ok(None),
        },
        short => (u64::from(short), 0),
    };
    let Some(mask) = rest.get(mask_at..).and_then(|rest| rest.first_chunk::<4>()) else { return Ok(None) };
    let length = usize::try_from(length).map_err(|_| FrameError::TooLarge)?;
    Ok(Some((Header { opcode, is_final: first & FINAL != 0, mask: *mask, length }, 2 + mask_at + 4)))
}

/// Takes the mask off bytes that begin `offset` bytes into the payload. Eight at a time: this touches every byte received.
fn unmask(bytes: &mut [u8], mask: [u8; 4], offset: usize) {
    let turned: [u8; 4] = std::array::from_fn(|at| mask[(offset + at) % 4]);
    let wide = u64::from_ne_bytes(std::array::from_fn(|at| turned[at % 4]));
    let (chunks, rest) = bytes.as_chunks_mut::<8>();
    for chunk in chunks {
        *chunk = (u64::from_ne_bytes(*chunk) ^ wide).to_ne_bytes();
    }
    for (at, byte) in rest.iter_mut().enumerate() {
        *byte ^= turned[at % 4];
    }
}

fn close_code(payload: &[u8]) -> Result<Option<u16>, FrameError> {
    match payload {
        [] => Ok(None),
        [_] => Err(FrameError::Broken("half a close code")),
        [a, b, ..] => Ok(Some(u16::from_be_bytes([*a, *b]))),
    }
}

/// The code with which a peer's close is answered: its own where it may be sent over the wire (RFC 6455, 7.4).
#[must_use]
pub fn answer_to_close(code: Option<u16>) -> u16 {
    match code {
        None => 1000,
        Some(code @ (1000..=1003 | 1007..=1014 | 3000..=4999)) => code,
        Some(_) => 1002,
    }
}

#[cfg(test)]
mod tests;
