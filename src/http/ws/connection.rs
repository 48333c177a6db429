//! One WebSocket connection: a reader that brings frames to the [`Session`], a writer for what the [`Outbox`] could not
//! write by itself.
//!
//! Both are halves of one task. The reader waits when a document's inbox is full; the writer goes on meanwhile, and never
//! makes a document wait. At rest a connection holds no buffer: bytes are read into one that its thread shares.

use std::cell::RefCell;
use std::collections::HashMap;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::pin::pin;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::Weak;
use std::task::Context;
use std::task::Poll;
use std::task::ready;
use std::time::Duration;

use bytes::Bytes;
use syncline_protocol::ErrorCode;
use syncline_protocol::Moment;
use syncline_protocol::channel::Access;
use syncline_protocol::channel::ChannelId;
use syncline_protocol::channel::DocumentMessage;
use syncline_protocol::error_code::CLOSE_RESTART;
use syncline_protocol::session::Grant;
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

use crate::auth::watch::Alarm;
use crate::auth::watch::Watched;
use crate::document::request::Refusal;
use crate::hub::Membership;
use crate::limit::ConnectionGuard;
use crate::limit::TokenBucket;
use crate::metrics::ConnectionGauge;
use crate::metrics::Transport;
use crate::name::DocName;
use crate::outbox::Closing;
use crate::outbox::Next;
use crate::outbox::Outbox;

use super::Admission;
use super::HeldPlace;
use super::Pass;
use super::Sockets;
use super::member_of;

/// How long a peer may take to answer our close.
const CLOSE_PATIENCE: Duration = Duration::from_secs(2);
/// Where the timer of a connection stands until it is set. It has to stand somewhere.
const ALARM_UNSET: Duration = Duration::from_secs(86_400);
/// The channel of a connection that has only one.
const ONLY: ChannelId = ChannelId(0);
/// Bytes read at once, into a buffer of the thread: as many updates as possible per call to the system.
const READ_BYTES: usize = 64 * 1024;

thread_local! {
    static READ_BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_BYTES].into());
}

/// One connection.
pub(super) struct Connection {
    sockets: Arc<Sockets>,
    writer: Arc<OwnedWriteHalf>,
    session: Mutex<Session>,
    outbox: Arc<Outbox>,
    doc: Option<DocName>,
    pass: Option<Pass>,
    channels: Mutex<HashMap<ChannelId, Arc<Membership>>>,
    refused: bool,
    _watched: Option<Watched>,
    _guard: Option<ConnectionGuard>,
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
        let refused = admission.verdict.is_err();
        let held = if refused { sockets.hold_place() } else { None };
        let settings = sockets.session_settings(held.is_some());
        let mut opening = Vec::new();
        let now = sockets.clock.now().moment;
        let (pass, verdict) = match admission.verdict {
            Ok((pass, access)) => {
                let grant = Grant { access, expires_at: pass.expires_at };
                (Some(pass), Ok(grant))
            }
            Err(code) => (None, Err(code)),
        };
        let session = Session::y_websocket(now, settings, verdict, &mut opening);
        let (reader, writer) = stream.into_split();
        let writer = Arc::new(writer);
        let outbox = Arc::new(Outbox::new(now, sockets.limits.outbox, sockets.outboxes.clone(), writer.clone()));
        let watched = pass.as_ref().zip(admission.doc.as_ref()).map(|(pass, doc)| {
            let alarm: Weak<dyn Alarm> = Arc::<Outbox>::downgrade(&outbox);
            sockets.auth.watch().enter(&pass.identity, doc.as_str(), alarm, ONLY)
        });
        let connection = Self {
            writer,
            session: Mutex::new(session),
            outbox,
            doc: admission.doc,
            pass,
            channels: Mutex::default(),
            refused,
            _watched: watched,
            _guard: admission.guard,
            _held: held,
            _open: sockets.metrics.connected(Transport::YWebsocket),
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
        Box::pin(self.carry_out(&mut opening)).await;
        drop(opening);
        let mut decoder = Decoder::new(self.sockets.message_bytes_max(self.refused));
        let mut bucket = self.sockets.update_bucket();
        let mut messages = Vec::new();
        let mut arrived = decoder.decode(&mut early.to_vec(), &mut messages);
        drop(early);
        loop {
            if !messages.is_empty() && Box::pin(self.hear(std::mem::take(&mut messages), &mut bucket)).await {
                return;
            }
            if let Err(error) = arrived {
                return self.refuse(error).await;
            }
            match poll_fn(|context| poll_read(&mut reader, context, &mut decoder, &mut messages)).await {
                Ok(Some(read)) => arrived = read,
                Ok(None) | Err(_) => return,
            }
        }
    }

    /// A peer that broke a rule is told which; then the writer ends the connection.
    async fn refuse(&self, error: FrameError) {
        self.close(match error {
            FrameError::TooLarge => ErrorCode::PayloadTooLarge,
            FrameError::Broken(_) => ErrorCode::InvalidPayload,
        });
        std::future::pending::<()>().await;
    }

    /// Takes what one read brought. Answers whether the peer has closed.
    async fn hear(&self, messages: Vec<Message>, bucket: &mut Option<TokenBucket>) -> bool {
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
        self.carry_out(&mut outputs).await;
        self.flush();
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

    fn decide(&self, input: Input, outputs: &mut Vec<Output>) {
        self.session.lock().unwrap_or_else(PoisonError::into_inner).handle(self.now(), input, outputs);
    }

    /// Does what the session said. Messages to one document that follow each other go there together.
    async fn carry_out(&self, outputs: &mut Vec<Output>) {
        let mut outputs = outputs.drain(..).peekable();
        while let Some(output) = outputs.next() {
            match output {
                Output::Attach { channel, access } => Box::pin(self.attach(channel, access)).await,
                Output::Document { channel, message } => {
                    let mut messages = vec![message];
                    while let Some(Output::Document { message, .. }) =
                        outputs.next_if(|next| matches!(next, Output::Document { channel: of, .. } if *of == channel))
                    {
                        messages.push(message);
                    }
                    self.say(channel, messages).await;
                }
                Output::Send(payload) => {
                    if payload == y_websocket::KEEP_ALIVE {
                        self.sockets.metrics.keep_alives.increment(1);
                    }
                    self.outbox.push_control(web_socket::frame(Opcode::Binary, &payload));
                }
                Output::Detach { channel } => drop(self.lock_channels().remove(&channel)),
                Output::Close { code, reason } => self.outbox.close(Closing { code, reason }),
            }
        }
    }

    /// Joins the document, or changes the rights of a channel that has joined.
    async fn attach(&self, channel: ChannelId, access: Access) {
        let joined = self.lock_channels().get(&channel).cloned();
        let result = match joined {
            Some(membership) => membership.set_access(access).await,
            None => self.join(channel, access).await,
        };
        if let Err(refusal) = result {
            self.close(refusal.code);
        }
    }

    async fn join(&self, channel: ChannelId, access: Access) -> Result<(), Refusal> {
        let doc = self.doc.as_ref().expect("a session attaches only after it was admitted to a document");
        let member = self.pass.as_ref().map(|pass| member_of(&pass.identity));
        let membership = self.sockets.hub.join(doc, access, member, self.outbox.clone(), channel).await?;
        self.lock_channels().insert(channel, Arc::new(membership));
        Ok(())
    }

    async fn say(&self, channel: ChannelId, messages: Vec<DocumentMessage>) {
        let membership = self.lock_channels().get(&channel).cloned();
        let Some(membership) = membership else { return };
        if let Err(refusal) = membership.say(messages).await {
            self.close(refusal.code);
        }
    }

    // ---- to the client -------------------------------------------------------------------------------------------

    /// Until the connection is to be closed, and the peer was told; or is dead. What is rare has its memory only while it
    /// lasts.
    async fn write(&self) {
        let mut restart_at = None;
        let mut draining = pin!(self.sockets.drain.cancelled());
        let mut alarm = pin!(tokio::time::sleep(ALARM_UNSET));
        loop {
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
                        () = &mut draining, if restart_at.is_none() => restart_at = Some(self.restart_moment()),
                    }
                }
            }
        }
    }

    /// When the session wants to look at the clock.
    fn due(&self) -> Option<Moment> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner).deadline(self.outbox.last_written())
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
        let mut outputs = Vec::new();
        self.decide(Input::Tick { last_sent: self.outbox.last_written() }, &mut outputs);
        self.carry_out(&mut outputs).await;
        self.flush();
    }

    fn flush(&self) {
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

    async fn tell_ended(&self, channels: Vec<(ChannelId, ErrorCode)>) {
        let mut outputs = Vec::new();
        for (channel, code) in channels {
            self.decide(Input::Ended { channel, code }, &mut outputs);
        }
        self.carry_out(&mut outputs).await;
    }

    /// Looks rights up again. Without an answer the channel ends with a code that lets its client come back.
    async fn recheck(&self, channels: Vec<ChannelId>) {
        let (Some(pass), Some(doc)) = (&self.pass, &self.doc) else { return };
        let mut outputs = Vec::new();
        for channel in channels {
            let input = match self.sockets.access(&pass.identity, doc).await {
                Ok(access) => Input::Renewed { channel, grant: Grant { access, expires_at: pass.expires_at } },
                Err(code) => Input::Revoked { channel, code },
            };
            self.decide(input, &mut outputs);
        }
        self.carry_out(&mut outputs).await;
    }

    async fn tell_drained(&self, channels: Vec<ChannelId>) {
        for channel in channels {
            let membership = self.lock_channels().get(&channel).cloned();
            let Some(membership) = membership else { continue };
            if let Err(refusal) = membership.drained().await {
                self.close(refusal.code);
            }
        }
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

    fn close(&self, code: ErrorCode) {
        self.outbox.close(Closing { code: code.close_code_or_internal(), reason: code.word() });
    }

    fn now(&self) -> Moment {
        self.sockets.clock.now().moment
    }

    fn lock_channels(&self) -> std::sync::MutexGuard<'_, HashMap<ChannelId, Arc<Membership>>> {
        self.channels.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Alarm for Outbox {
    fn recheck(&self, channel: ChannelId) {
        Self::recheck(self, channel);
    }

    fn end(&self, channel: ChannelId, code: ErrorCode) {
        Self::end(self, channel, code);
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

fn is_update(output: &Output) -> bool {
    matches!(output, Output::Document { message: DocumentMessage::Update(_) | DocumentMessage::SyncStep2(_), .. })
}
