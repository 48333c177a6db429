//! One client: from the TCP connection through the upgrade and the first synchronisation to messages.

use std::io;
use std::io::Read;
use std::io::Write;
use std::net::SocketAddr;
use std::time::Instant;

use anyhow::Result;
use mio::net::TcpStream;

use crate::client::frame;
use crate::client::frame::Opcode;
use crate::client::frame::Parsed;
use crate::client::handshake;
use crate::client::message;
use crate::client::message::Dialect;
use crate::client::message::Message;
use crate::client::message::Say;

/// Bytes that one read may bring: many frames when the server writes faster than we read, and within the processor's
/// second-level cache. A frame that is longer grows the buffer.
const READ_BYTES: usize = 256 * 1024;

/// What every new client says it has, and what it answers when asked for more: nothing.
const NO_STATE: &[u8] = &[0];
const NO_UPDATE: &[u8] = &[0, 0];

/// A client's place in its fleet, from 0 in the order of connecting.
pub(crate) type ClientId = usize;

/// What clients need to know of a server.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Door {
    /// Where it listens.
    pub(crate) addr: SocketAddr,
    /// What it speaks.
    pub(crate) dialect: Dialect,
    /// Whether it answers a SyncStep1. If not, none is sent (a relay would copy it to everybody), and clients are ready
    /// once they are upgraded.
    pub(crate) answers_sync: bool,
}

/// What happens to a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event<'a> {
    /// The document is there: its first SyncStep2 has arrived, and was handed out before as a message.
    Ready,
    /// A message. SyncSteps 1 are answered ("nothing") before they are handed out.
    Message(Message<'a>),
    /// The server hung up, with its close code (1006 without one) and its reason. Nothing follows.
    Closed(u16, &'a str),
}

/// What the clients of one thread share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) door: Door,
    pub(super) epoch: Instant,
    pub(super) masks: fastrand::Rng,
    /// Read into, parsed in place; a client keeps no bytes but a frame's beginning.
    pub(super) buffer: Vec<u8>,
    /// What goes before the body of a message, for as long as it is written.
    pub(super) head: Vec<u8>,
    pub(super) bytes_read: u64,
}

impl Shared {
    pub(super) fn now_ns(&self) -> u64 {
        self.epoch.elapsed().as_nanos() as u64
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Upgrading,
    Opening,
    Ready,
    Closed,
}

/// Whether a socket may hold more than was just read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Drained {
    Yes,
    No,
}

#[derive(Debug)]
pub(super) struct Client {
    pub(super) stream: TcpStream,
    pub(super) phase: Phase,
    /// What arrives is left in the kernel.
    pub(super) is_paused: bool,
    /// What frames begin with.
    address: Vec<u8>,
    token: String,
    /// The beginning of a frame whose rest has not come yet. At most one frame.
    rest: Vec<u8>,
    /// Length of that frame, once its header is there.
    rest_needs: usize,
    /// Frames that are not written yet. Scenarios bound them: they send within a window, or at a rate and give up.
    out: Vec<u8>,
    out_at: usize,
    /// Answers (SyncStatus) still to come for SyncSteps 2 that were no scenario's.
    statuses_owed: u32,
}

impl Client {
    /// Begins to connect to `document` at `path`. The request is written as soon as the socket can be.
    pub(super) fn connect(door: &Door, path: &str, document: &str, token: &str) -> Result<Self> {
        let stream = TcpStream::connect(door.addr)?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            phase: Phase::Upgrading,
            is_paused: false,
            address: message::address(door.dialect, document),
            token: token.to_owned(),
            rest: Vec::new(),
            rest_needs: 0,
            out: handshake::request(door.addr, path),
            out_at: 0,
            statuses_owed: 0,
        })
    }

    /// Puts one message behind what is still to be written; whether there was nothing before.
    pub(super) fn queue(&mut self, shared: &mut Shared, say: Say<'_>) -> bool {
        let was_empty = self.out.is_empty();
        shared.head.clear();
        let body = say.write_head(&mut shared.head);
        frame::write(&mut self.out, Opcode::Binary, shared.masks.u32(..), &[&self.address, &shared.head, body]);
        was_empty
    }

    /// Bytes that wait for the socket.
    pub(super) fn unwritten(&self) -> usize {
        self.out.len() - self.out_at
    }

    /// Writes what the socket takes.
    ///
    /// # Errors
    /// When the connection is broken.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        while self.out_at < self.out.len() {
            match self.stream.write(&self.out[self.out_at..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => self.out_at += written,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if waits(&error) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        self.out.clear();
        self.out_at = 0;
        Ok(())
    }

    /// Reads once and hands out what came.
    ///
    /// # Errors
    /// When the server speaks what no server should, and those of `handler`.
    pub(super) fn read(
        &mut self,
        shared: &mut Shared,
        handler: &mut impl FnMut(u64, Event<'_>) -> Result<()>,
    ) -> Result<Drained> {
        let mut buffer = std::mem::take(&mut shared.buffer);
        let outcome = self.read_into(&mut buffer, shared, handler);
        shared.buffer = buffer;
        outcome
    }

    fn read_into(
        &mut self,
        buffer: &mut Vec<u8>,
        shared: &mut Shared,
        handler: &mut impl FnMut(u64, Event<'_>) -> Result<()>,
    ) -> Result<Drained> {
        let kept = self.rest.len();
        let size = READ_BYTES.max(self.rest_needs).max(2 * kept);
        if buffer.len() < size {
            buffer.resize(size, 0);
        }
        buffer[..kept].copy_from_slice(&self.rest);
        let read = match self.stream.read(&mut buffer[kept..]) {
            Ok(0) => 0,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(Drained::No),
            Err(error) if waits(&error) => return Ok(Drained::Yes),
            Err(_) => 0,
        };
        let now_ns = shared.now_ns();
        if read == 0 {
            self.phase = Phase::Closed;
            handler(now_ns, Event::Closed(1006, "the connection is gone"))?;
            return Ok(Drained::Yes);
        }
        shared.bytes_read += read as u64;
        let (end, is_full) = (kept + read, kept + read == buffer.len());
        let used = self.consume(&buffer[..end], now_ns, shared, handler)?;
        self.rest.clear();
        self.rest.extend_from_slice(&buffer[used..end]);
        Ok(if is_full && self.phase != Phase::Closed { Drained::No } else { Drained::Yes })
    }

    /// Takes whole frames off the front; how many bytes they were.
    fn consume(
        &mut self,
        bytes: &[u8],
        now_ns: u64,
        shared: &mut Shared,
        handler: &mut impl FnMut(u64, Event<'_>) -> Result<()>,
    ) -> Result<usize> {
        let mut at = 0;
        self.rest_needs = 0;
        if self.phase == Phase::Upgrading {
            let Some(length) = handshake::answer(bytes)? else { return Ok(0) };
            at = length;
            self.say_hello(shared);
            if self.phase == Phase::Ready {
                handler(now_ns, Event::Ready)?;
            }
        }
        while self.phase != Phase::Closed {
            match frame::parse(&bytes[at..])? {
                Parsed::Frame(opcode, payload) => {
                    self.handle(opcode, &bytes[at + payload.start..at + payload.end], now_ns, shared, handler)?;
                    at += payload.end;
                }
                Parsed::Partial(needs) => {
                    self.rest_needs = needs.unwrap_or(0);
                    break;
                }
            }
        }
        Ok(at)
    }

    fn say_hello(&mut self, shared: &mut Shared) {
        if shared.door.dialect == Dialect::Hocuspocus {
            let auth = message::auth(&self.address, &self.token);
            frame::write(&mut self.out, Opcode::Binary, shared.masks.u32(..), &[&auth]);
        }
        if shared.door.answers_sync {
            self.queue(shared, Say::SyncStep1(NO_STATE));
        }
        self.phase = if shared.door.answers_sync { Phase::Opening } else { Phase::Ready };
    }

    #[inline]
    fn handle(
        &mut self,
        opcode: Opcode,
        payload: &[u8],
        now_ns: u64,
        shared: &mut Shared,
        handler: &mut impl FnMut(u64, Event<'_>) -> Result<()>,
    ) -> Result<()> {
        match opcode {
            Opcode::Binary => {}
            Opcode::Ping => {
                frame::write(&mut self.out, Opcode::Pong, shared.masks.u32(..), &[payload]);
                return Ok(());
            }
            Opcode::Close => {
                self.phase = Phase::Closed;
                let code = payload.first_chunk().map_or(1005, |code| u16::from_be_bytes(*code));
                let reason = payload.get(2..).and_then(|reason| std::str::from_utf8(reason).ok());
                return handler(now_ns, Event::Closed(code, reason.unwrap_or_default()));
            }
            Opcode::Text | Opcode::Pong => return Ok(()),
        }
        let message = message::read(payload, &self.address)?;
        match message {
            Message::SyncStep1(_) if shared.door.answers_sync => {
                self.queue(shared, Say::SyncStep2(NO_UPDATE));
                self.statuses_owed += u32::from(shared.door.dialect == Dialect::Hocuspocus);
            }
            Message::SyncStatus(_) if self.statuses_owed > 0 => {
                self.statuses_owed -= 1;
                return Ok(());
            }
            _ => {}
        }
        handler(now_ns, Event::Message(message))?;
        if self.phase == Phase::Opening && matches!(message, Message::SyncStep2(_)) {
            self.phase = Phase::Ready;
            handler(now_ns, Event::Ready)?;
        }
        Ok(())
    }
}

fn waits(error: &io::Error) -> bool {
    // A socket that is still connecting says so when it is written to.
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::NotConnected)
}
