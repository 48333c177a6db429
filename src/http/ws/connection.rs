//! One WebSocket connection: a reader that brings frames to the [`Session`], a writer for what the [`Outbox`] could not
//! write by itself.
//!
//! Both are halves of one task. The reader waits when a document's inbox is full; the writer goes on meanwhile, and never
//! makes a document wait. At rest a connection holds no buffer: bytes are read into one that its thread shares.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::pin::pin;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::task::Context;
use std::task::Poll;
use std::task::ready;
use std::time::Duration;

use bytes::Bytes;
use syncline_protocol::ErrorCode;
use syncline_protocol::Moment;
use syncline_protocol::channel::ChannelId;
use syncline_protocol::channel::DocumentMessage;
use syncline_protocol::error_code::CLOSE_RESTART;
use syncline_protocol::hocuspocus;
use syncline_protocol::session::Input;
use syncline_protocol::session::Output;
use syncline_protocol::session::Session;
use syncline_protocol::web_socket;
use syncline_protocol::web_socket::Decoder;
use syncline_protocol::web_socket::FrameError;
use syncline_protocol::web_socket::Message;
use syncline_protocol::web_socket::Opcode;
use syncline_protocol::y_websocket;
use tokio::io::AsyncRead;
use tokio::io::ReadBuf;
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedReadHalf;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::time::Sleep;

use crate::limit::ConnectionGuard;
use crate::limit::TokenBucket;
use crate::metrics::ConnectionGauge;
use crate::metrics::Transport;
use crate::outbox::Closing;
use crate::outbox::Next;
use crate::outbox::Outbox;

use super::Sockets;
use super::admission::Admission;
use super::admission::HeldPlace;
use super::admission::Unproved;
use super::admission::Wish;
use super::rights::Questions;
use super::seats::Seats;

/// The channel of a connection that has only one.
const ONLY: ChannelId = ChannelId(0);
/// How long a peer may take to answer our close.
const CLOSE_PATIENCE: Duration = Duration::from_secs(2);
/// Where the timer of a connection stands until it is set. It has to stand somewhere.
const ALARM_UNSET: Duration = Duration::from_secs(86_400);
/// Bytes read at once, into a buffer of the thread: as many updates as possible per call to the system.
const READ_BYTES: usize = 64 * 1024;

thread_local! {
    static READ_BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_BYTES].into());
}

/// One connection.
pub(super) struct Connection {
    pub(super) sockets: Arc<Sockets>,
    pub(super) peer: IpAddr,
    writer: Arc<OwnedWriteHalf>,
    session: Mutex<Session>,
    /// Held from a decision until everything that follows from it was done: both halves decide, and a frame must not
    /// overtake the attaching of its channel.
    pub(super) turn: tokio::sync::Mutex<()>,
    pub(super) outbox: Arc<Outbox>,
    pub(super) seats: Seats,
    pub(super) questions: Questions,
    refused: bool,
    pub(super) guard: Mutex<Option<ConnectionGuard>>,
    _held: Option<HeldPlace>,
    _open: ConnectionGauge,
}

/// What a connection begins with.
pub(super) struct Beginning {
    /// What the session said.
    opening: Vec<Output>,
    reader: OwnedReadHalf,
    /// What came on the heels of the handshake.
    early: Bytes,
}

impl Connection {
    /// A connection, and how it begins.
    pub(super) fn open(
        sockets: Arc<Sockets>,
        admission: Admission,
        stream: TcpStream,
        early: Bytes,
    ) -> (Self, Beginning) {
        let Admission { peer, wish, guard } = admission;
        let now = sockets.clock.now().moment;
        let refusal = wish.refusal();
        let (reader, writer) = stream.into_split();
        let writer = Arc::new(writer);
        let outbox = Arc::new(Outbox::new(now, sockets.limits.outbox, sockets.outboxes.clone(), writer.clone()));
        let (seats, mut opening, mut held) = (Seats::default(), Vec::new(), None);
        let (session, transport) = match wish {
            Wish::Document(verdict) => {
                held = refusal.and_then(|_| sockets.hold_place());
                let settings = sockets.session_settings(held.is_some());
                let verdict = verdict.map(|who| {
                    seats.enter(ONLY, who.clone());
                    who.grant()
                });
                (Session::y_websocket(now, settings, verdict, &mut opening), Transport::YWebsocket)
            }
            Wish::Documents(_) => {
                refusal.inspect(|&code| outbox.close(closing(code)));
                (Session::hocuspocus(now, sockets.hocuspocus_settings()), Transport::Hocuspocus)
            }
        };
        let connection = Self {
            peer,
            writer,
            session: Mutex::new(session),
            turn: tokio::sync::Mutex::default(),
            questions: Questions::new(outbox.clone()),
            outbox,
            seats,
            refused: refusal.is_some(),
            guard: Mutex::new(guard),
            _held: held,
            _open: sockets.metrics.connected(transport),
            sockets,
        };
        (connection, Beginning { opening, reader, early })
    }

    /// Runs until the socket is closed, by either side. What is rare or brief is in boxes, so that a connection at rest does
    /// not keep room for it.
    pub(super) async fn run(&self, beginning: Beginning) {
        let Beginning { opening, reader, early } = beginning;
        let write = async {
            self.write().await;
            // Reading goes on until the peer has answered our close: a socket that is dropped with unread bytes is reset,
            // and the peer would never see why.
            tokio::time::sleep(CLOSE_PATIENCE).await;
        };
        tokio::select! {
            () = self.read(opening, reader, early) => {}
            () = write => {}
        }
        self.outbox.abandon();
    }

    // ---- from the client -----------------------------------------------------------------------------------------

    /// Until the peer has closed, or is gone.
    async fn read(&self, mut opening: Vec<Output>, mut reader: OwnedReadHalf, early: Bytes) {
        Box::pin(self.act(&mut opening)).await;
        drop(opening);
        let mut decoder = Decoder::new(self.sockets.message_bytes_max(self.refused));
        let mut bucket = self.sockets.update_bucket();
        let mut unproved = Unproved::new(self.sockets.clone());
        let mut messages = Vec::new();
        let mut arrived = decoder.decode(&mut early.to_vec(), &mut messages);
        drop(early);
        loop {
            if !messages.is_empty() && Box::pin(self.hear(std::mem::take(&mut messages), &mut bucket)).await {
                return;
            }
            if let Err(error) = arrived {
                return self.refuse(code_of(error), reader).await;
            }
            if !unproved.set(self.waiting_unproved(&decoder)) {
                drop(decoder);
                // What the session holds stays counted for as long as it is there.
                return self.refuse(ErrorCode::Overloaded, reader).await;
            }
            match poll_fn(|context| poll_read(&mut reader, context, &mut decoder, &mut messages)).await {
                Ok(Some(read)) => arrived = read,
                Ok(None) | Err(_) => return,
            }
        }
    }

    /// What waits here of a client that has not proved anything yet.
    fn waiting_unproved(&self, decoder: &Decoder) -> usize {
        let session = self.lock_session();
        if session.is_proved() { 0 } else { session.held_bytes() + decoder.waiting_bytes() }
    }

    /// A peer that broke a rule is told which. What it is still sending is read and forgotten: as long as it cannot send
    /// that, it does not see our close.
    async fn refuse(&self, code: ErrorCode, mut reader: OwnedReadHalf) {
        self.outbox.close(closing(code));
        while poll_fn(|context| poll_discard(&mut reader, context)).await {}
    }

    /// Takes what one read brought. Answers whether the peer has closed.
    async fn hear(&self, messages: Vec<Message>, bucket: &mut Option<TokenBucket>) -> bool {
        let turn = self.turn.lock().await;
        let mut outputs = Vec::with_capacity(messages.len());
        let (mut count, mut bytes, mut closed) = (0, 0, false);
        for message in messages {
            let input = match message {
                Message::Binary(frame) => {
                    bytes += frame.len();
                    Input::Frame(frame)
                }
                Message::Text => Input::Text,
                Message::Ping(payload) => {
                    self.outbox.push_control(web_socket::frame(Opcode::Pong, &payload));
                    continue;
                }
                Message::Pong => continue,
                Message::Close(code) => {
                    closed = true;
                    self.answer_close(code);
                    continue;
                }
            };
            count += 1;
            if !self.refused {
                self.decide(input, &mut outputs); // Nobody listens to what a refused client says.
            }
        }
        self.sockets.metrics.received(count, bytes);
        let updates = outputs.iter().filter(|output| is_update(output)).count();
        self.finish(&mut outputs).await;
        drop(turn);
        if !closed && let Some(bucket) = bucket {
            let pause = bucket.debit(self.now(), u32::try_from(updates).unwrap_or(u32::MAX));
            if !pause.is_zero() {
                tokio::time::sleep(pause).await;
            }
        }
        closed
    }

    /// The peer closes first: its code goes back. One that answers our own close needs no more.
    fn answer_close(&self, code: Option<u16>) {
        if !self.outbox.is_closing() {
            self.outbox.push_control(web_socket::close_frame(web_socket::answer_to_close(code), ""));
        }
    }

    // ---- to the client -------------------------------------------------------------------------------------------

    /// Until the connection is to be closed, and the peer was told; or is dead. What is rare has its memory only while it
    /// lasts.
    async fn write(&self) {
        let (mut restart_at, mut hurried) = (None, false);
        let mut draining = pin!(self.sockets.drain.cancelled());
        let mut alarm = pin!(tokio::time::sleep(ALARM_UNSET));
        loop {
            if self.questions.has_answers() {
                Box::pin(self.act(&mut Vec::new())).await;
            }
            match self.outbox.next() {
                Next::Flush => self.flush(),
                Next::Blocked => {
                    if !self.until_writable(self.sockets.limits.write_timeout).await {
                        return self.outbox.abandon();
                    }
                }
                Next::Ended(channels) => Box::pin(self.tell_ended(channels)).await,
                Next::Recheck(channels) => Box::pin(self.recheck(channels)).await,
                Next::Caught(channels) => Box::pin(self.tell_drained(channels)).await,
                Next::Close(closing) => return Box::pin(self.say_goodbye(closing)).await,
                Next::Dead => return,
                Next::Idle => {
                    let due = self.due().into_iter().chain(restart_at).min();
                    tokio::select! {
                        () = self.outbox.wait() => {}
                        () = self.ring(alarm.as_mut(), due) => {
                            if restart_at.is_some_and(|at| at <= self.now()) {
                                self.outbox.close(Closing { code: CLOSE_RESTART, reason: "RESTART" });
                            } else {
                                Box::pin(self.tick()).await;
                            }
                        }
                        () = &mut draining, if !hurried => {
                            hurried = restart_at.is_some();
                            restart_at = Some(if hurried { self.now() } else { self.restart_moment() });
                            draining.set(self.sockets.hurry.cancelled());
                        }
                    }
                }
            }
        }
    }

    /// When the session wants to look at the clock.
    fn due(&self) -> Option<Moment> {
        self.lock_session().deadline(self.outbox.last_written())
    }

    /// Waits until a moment is due; now and then not as long. Every frame that is sent moves the moment away: the one timer
    /// of a connection is not touched for that, but set anew when it rings too early.
    async fn ring(&self, mut alarm: Pin<&mut Sleep>, due: Option<Moment>) {
        let Some(due) = due else { return std::future::pending().await };
        let due = self.sockets.clock.instant(due).into();
        if alarm.is_elapsed() || due < alarm.deadline() {
            alarm.as_mut().reset(due);
        }
        alarm.await;
    }

    /// Time has come for something, unless documents have written meanwhile and it is not due any more.
    async fn tick(&self) {
        let _turn = self.turn.lock().await;
        let mut outputs = Vec::new();
        self.decide(Input::Tick { last_sent: self.outbox.last_written() }, &mut outputs);
        let keep_alives = outputs.iter().filter(|output| is_keep_alive(output)).count();
        self.sockets.metrics.keep_alives.increment(keep_alives as u64);
        self.finish(&mut outputs).await;
    }

    pub(super) fn flush(&self) {
        let written = self.outbox.flush(self.now());
        self.sockets.metrics.sent(written.frames, written.bytes);
    }

    /// `false` when the socket is dead, or takes nothing for so long. Meanwhile it is heard when channels end: a client
    /// that does not read may write, and must not go on when it was revoked.
    async fn until_writable(&self, patience: Duration) -> bool {
        let deadline = tokio::time::Instant::now() + patience;
        let writable = Box::pin(async {
            loop {
                tokio::select! {
                    writable = tokio::time::timeout_at(deadline, self.writer.writable()) => return writable,
                    () = self.outbox.wait() => {}
                }
                if self.questions.has_answers() {
                    self.act(&mut Vec::new()).await;
                }
                match self.outbox.next() {
                    Next::Ended(channels) => self.tell_ended(channels).await,
                    Next::Recheck(channels) => self.recheck(channels).await,
                    _ => {}
                }
            }
        });
        let writable = writable.await;
        self.outbox.unblock();
        matches!(writable, Ok(Ok(())))
    }

    /// Everything was written; the last word is the close. A peer that is gone, or does not read, has its way too.
    async fn say_goodbye(&self, closing: Closing) {
        self.outbox.push_control(web_socket::close_frame(closing.code, closing.reason));
        loop {
            match self.outbox.next() {
                Next::Flush => self.flush(),
                Next::Blocked if self.until_writable(CLOSE_PATIENCE).await => {}
                Next::Ended(_) | Next::Recheck(_) => {} // They end anyway.
                _ => return,
            }
        }
    }

    /// All clients of a node that stops come back a moment later; spread over time, they do not come in one second.
    fn restart_moment(&self) -> Moment {
        self.now().after(self.sockets.limits.drain_stagger.mul_f64(rand::random_range(0.0..1.0)))
    }

    pub(super) fn now(&self) -> Moment {
        self.sockets.clock.now().moment
    }

    pub(super) fn lock_session(&self) -> MutexGuard<'_, Session> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads once, if there is anything. `None` at the end of the stream.
fn poll_read(
    reader: &mut OwnedReadHalf,
    context: &mut Context<'_>,
    decoder: &mut Decoder,
    messages: &mut Vec<Message>,
) -> Poll<io::Result<Option<Result<(), FrameError>>>> {
    READ_BUFFER.with_borrow_mut(|buffer| {
        let mut read = ReadBuf::new(buffer);
        // In contrast to `try_read`, this knows that a socket which filled less than the buffer is empty, and does not ask
        // again.
        ready!(Pin::new(reader).poll_read(context, &mut read))?;
        let arrived = read.filled_mut();
        Poll::Ready(Ok((!arrived.is_empty()).then(|| decoder.decode(arrived, messages))))
    })
}

/// Reads once and forgets it. `false` at the end of the stream.
fn poll_discard(reader: &mut OwnedReadHalf, context: &mut Context<'_>) -> Poll<bool> {
    READ_BUFFER.with_borrow_mut(|buffer| {
        let mut read = ReadBuf::new(buffer);
        let arrived = ready!(Pin::new(reader).poll_read(context, &mut read));
        Poll::Ready(arrived.is_ok() && !read.filled().is_empty())
    })
}

fn code_of(error: FrameError) -> ErrorCode {
    match error {
        FrameError::TooLarge => ErrorCode::PayloadTooLarge,
        FrameError::Broken(_) => ErrorCode::InvalidPayload,
    }
}

fn is_update(output: &Output) -> bool {
    matches!(output, Output::Document { message: DocumentMessage::Update(_) | DocumentMessage::SyncStep2(_), .. })
}

fn is_keep_alive(output: &Output) -> bool {
    let is_empty_presence = |payload: &Bytes| payload.ends_with(&y_websocket::KEEP_ALIVE);
    matches!(output, Output::Send(payload) if is_empty_presence(payload) || *payload == hocuspocus::PING)
}

fn closing(code: ErrorCode) -> Closing {
    Closing { code: code.close_code_or_internal(), reason: code.word() }
}
