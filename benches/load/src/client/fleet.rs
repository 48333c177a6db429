//! All clients of one run and the loop that serves them.

use std::io;
use std::time::Duration;
use std::time::Instant;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use mio::Events;
use mio::Interest;
use mio::Poll;
use mio::Token;

use crate::client::connection::Client;
use crate::client::connection::ClientId;
use crate::client::connection::Door;
use crate::client::connection::Drained;
use crate::client::connection::Event;
use crate::client::connection::Phase;
use crate::client::connection::Shared;
use crate::client::message::Say;

/// Sockets served per wake-up. More wait in the kernel for the next turn.
const EVENTS_PER_TURN: usize = 1024;

/// Connections that are opened at the same time: fewer than any server's listen backlog (511 in Node), whose overflow costs
/// a whole second per connection.
pub(crate) const OPENING_MAX: usize = 128;

/// Only ends what hangs.
const OPEN_PATIENCE: Duration = Duration::from_secs(60);

/// Clients of one server, on one thread.
#[derive(Debug)]
pub(crate) struct Fleet {
    poll: Poll,
    events: Events,
    clients: Vec<Client>,
    shared: Shared,
    /// Clients with something to write that the socket was not offered yet.
    dirty: Vec<ClientId>,
    /// Clients whose sockets were not read to the end.
    unread: Vec<ClientId>,
    ready: usize,
}

impl Fleet {
    /// A fleet without clients.
    ///
    /// # Errors
    /// When there is no epoll to be had.
    pub(crate) fn new(door: Door, seed: u64) -> Result<Self> {
        let shared = Shared {
            door,
            epoch: Instant::now(),
            masks: fastrand::Rng::with_seed(seed),
            buffer: Vec::new(),
            head: Vec::new(),
            bytes_read: 0,
        };
        Ok(Self {
            poll: Poll::new()?,
            events: Events::with_capacity(EVENTS_PER_TURN),
            clients: Vec::new(),
            shared,
            dirty: Vec::new(),
            unread: Vec::new(),
            ready: 0,
        })
    }

    /// Nanoseconds on the clock that events are stamped with.
    pub(crate) fn now_ns(&self) -> u64 {
        self.shared.now_ns()
    }

    /// Clients that became ready so far.
    #[cfg(test)]
    pub(crate) fn ready(&self) -> usize {
        self.ready
    }

    /// Clients that were connected so far, and the id of the next one.
    pub(crate) fn clients(&self) -> usize {
        self.clients.len()
    }

    /// Bytes read so far.
    pub(crate) fn bytes_read(&self) -> u64 {
        self.shared.bytes_read
    }

    /// Begins to connect one more client to `document` at `path` (`token` goes into the Hocuspocus `Auth`; for the other
    /// dialect it is part of the path). Its [`Event::Ready`] comes out of [`Self::turn`].
    ///
    /// # Errors
    /// When there are no more sockets.
    pub(crate) fn connect(&mut self, path: &str, document: &str, token: &str) -> Result<ClientId> {
        let mut client = Client::connect(&self.shared.door, path, document, token).context("connecting")?;
        let id = self.clients.len();
        self.poll.registry().register(&mut client.stream, Token(id), Interest::READABLE | Interest::WRITABLE)?;
        self.clients.push(client);
        Ok(id)
    }

    /// Connects one client for each `(path, document)`, at most [`OPENING_MAX`] at a time, and waits until all are ready.
    ///
    /// # Errors
    /// When one is refused, or it takes more than a minute; and those of `handler`.
    pub(crate) fn open_all(
        &mut self,
        clients: impl IntoIterator<Item = (String, String)>,
        mut handler: impl FnMut(u64, ClientId, Event<'_>) -> Result<()>,
    ) -> Result<()> {
        let started = Instant::now();
        let mut clients = clients.into_iter().peekable();
        while clients.peek().is_some() || self.ready < self.clients.len() {
            while self.clients.len() - self.ready < OPENING_MAX {
                let Some((path, document)) = clients.next() else { break };
                self.connect(&path, &document, "")?;
            }
            self.turn(Duration::from_millis(100), &mut handler)?;
            if started.elapsed() > OPEN_PATIENCE {
                bail!("{} of {} clients are ready after a minute", self.ready, self.clients.len());
            }
        }
        Ok(())
    }

    /// Puts a message behind what a client still has to write. It leaves with the next turn, together with what else
    /// was sent until then.
    pub(crate) fn send(&mut self, id: ClientId, say: Say<'_>) {
        if self.clients[id].queue(&mut self.shared, say) {
            self.dirty.push(id);
        }
    }

    /// Bytes that a client could not write yet.
    #[cfg(test)]
    pub(crate) fn unwritten(&self, id: ClientId) -> usize {
        self.clients[id].unwritten()
    }

    /// Hangs up without a word, as a browser does that is closed.
    ///
    /// # Errors
    /// When the poll forgot the socket.
    pub(crate) fn hang_up(&mut self, id: ClientId) -> Result<()> {
        let client = &mut self.clients[id];
        client.phase = Phase::Closed;
        self.poll.registry().deregister(&mut client.stream)?;
        client.stream.shutdown(std::net::Shutdown::Both)?;
        Ok(())
    }

    /// Stops reading: what the server sends fills the kernel's buffers, and then waits in the server.
    pub(crate) fn pause(&mut self, id: ClientId) {
        self.clients[id].is_paused = true;
    }

    /// Reads again.
    pub(crate) fn resume(&mut self, id: ClientId) {
        self.clients[id].is_paused = false;
        // The kernel tells of new bytes only, and these are old.
        self.unread.push(id);
    }

    /// Writes what was sent, waits for the next readiness but at most `timeout` (in whole milliseconds), and hands out
    /// what has come: the time of its arrival, whose it is, and what.
    ///
    /// # Errors
    /// When a server speaks nonsense, and those of `handler`.
    pub(crate) fn turn(
        &mut self,
        timeout: Duration,
        mut handler: impl FnMut(u64, ClientId, Event<'_>) -> Result<()>,
    ) -> Result<()> {
        self.flush();
        let timeout = if self.unread.is_empty() { timeout } else { Duration::ZERO };
        match self.poll.poll(&mut self.events, Some(timeout)) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error.into()),
            _ => {}
        }
        let mut readable = std::mem::take(&mut self.unread);
        for event in &self.events {
            let Token(id) = event.token();
            if event.is_writable() && self.clients[id].unwritten() > 0 {
                self.dirty.push(id);
            }
            if event.is_readable() || event.is_error() || event.is_read_closed() {
                readable.push(id);
            }
        }
        for id in readable.drain(..) {
            self.read(id, &mut handler)?;
        }
        // The allocation is kept, unless clients were left with more to read.
        if self.unread.is_empty() {
            self.unread = readable;
        }
        self.flush();
        Ok(())
    }

    fn read(&mut self, id: ClientId, handler: &mut impl FnMut(u64, ClientId, Event<'_>) -> Result<()>) -> Result<()> {
        let client = &mut self.clients[id];
        if client.phase == Phase::Closed || client.is_paused {
            return Ok(());
        }
        let ready = &mut self.ready;
        let mut named = |now_ns, event: Event<'_>| {
            *ready += usize::from(event == Event::Ready);
            handler(now_ns, id, event)
        };
        let drained = client.read(&mut self.shared, &mut named).with_context(|| format!("client {id}"))?;
        if drained == Drained::No {
            self.unread.push(id);
        }
        // Answers that the client gave on its own.
        if client.unwritten() > 0 {
            self.dirty.push(id);
        }
        Ok(())
    }

    /// Offers every socket what waits for it. A broken connection is noticed when it is read.
    fn flush(&mut self) {
        for id in self.dirty.drain(..) {
            let _ = self.clients[id].flush();
        }
    }
}
