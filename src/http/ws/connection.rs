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
use syncline_protocol::hocuspocus;
use syncline_protocol::session::Grant;
use syncline_protocol::session::Input;
use syncline_protocol::session::Output;
use syncline_protocol::session::Peer;
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
use crate::document::port::Language;
use crate::document::port::Port;
use crate::document::request::Refusal;
use crate::limit::ConnectionGuard;
use crate::limit::TokenBucket;
use crate::metrics::ConnectionGauge;
use crate::metrics::Transport;
use crate::outbox::Closing;
use crate::outbox::Next;
use crate::outbox::Outbox;

use super::Sockets;
use super::admission::Admission;
use super::admission::Entrant;
use super::admission::HeldPlace;
use super::admission::Unproved;
use super::admission::Wish;
use super::rights::Answer;
use super::rights::Questions;
use super::seats::Seat;
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
    sockets: Arc<Sockets>,
    peer: IpAddr,
    writer: Arc<OwnedWriteHalf>,
    session: Mutex<Session>,
    /// Held from a decision until everything that follows from it was done: both halves decide, and a frame must not
    /// overtake the attaching of its channel.
    turn: tokio::sync::Mutex<()>,
    outbox: Arc<Outbox>,
    seats: Seats,
    questions: Questions,
    refused: bool,
    guard: Mutex<Option<ConnectionGuard>>,
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
                return self.refuse(error).await;
            }
            if !unproved.set(self.waiting_unproved(&decoder)) {
                self.outbox.close(closing(ErrorCode::Overloaded));
                return std::future::pending().await;
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

    /// A peer that broke a rule is told which; then the writer ends the connection.
    async fn refuse(&self, error: FrameError) {
        self.outbox.close(closing(match error {
            FrameError::TooLarge => ErrorCode::PayloadTooLarge,
            FrameError::Broken(_) => ErrorCode::InvalidPayload,
        }));
        std::future::pending::<()>().await;
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

    fn decide(&self, input: Input, outputs: &mut Vec<Output>) {
        self.lock_session().handle(self.now(), input, outputs);
    }

    /// Does what the session said, in its turn.
    async fn act(&self, outputs: &mut Vec<Output>) {
        let _turn = self.turn.lock().await;
        self.finish(outputs).await;
    }

    /// Does what the session said and all that follows from it, in the turn that the caller has.
    async fn finish(&self, outputs: &mut Vec<Output>) {
        loop {
            self.carry_out(outputs).await;
            for answer in self.questions.take() {
                self.learn(answer, outputs);
            }
            if outputs.is_empty() {
                return self.flush();
            }
        }
    }

    /// Does what the session said once, and leaves what follows from that. Messages to one document that follow each other
    /// go there together.
    async fn carry_out(&self, outputs: &mut Vec<Output>) {
        let mut failed = Vec::new();
        let mut said = outputs.drain(..).peekable();
        while let Some(output) = said.next() {
            match output {
                Output::Authenticate { channel, doc, token, .. } => {
                    Box::pin(self.questions.ask(&self.sockets, self.peer, channel, &doc, token)).await;
                }
                Output::Attach { channel, access, peer } => {
                    let attached = Box::pin(self.attach(channel, access, peer)).await;
                    failed.extend(attached.err().map(|refusal| (channel, refusal.code)));
                }
                Output::Document { channel, message } => {
                    let mut messages = vec![message];
                    while let Some(Output::Document { message, .. }) =
                        said.next_if(|next| matches!(next, Output::Document { channel: of, .. } if *of == channel))
                    {
                        messages.push(message);
                    }
                    let heard = self.say(channel, messages).await;
                    failed.extend(heard.err().map(|refusal| (channel, refusal.code)));
                }
                Output::Send(payload) => self.outbox.push_control(web_socket::frame(Opcode::Binary, &payload)),
                Output::Detach { channel } => self.seats.leave(channel),
                Output::Close { code, reason } => self.outbox.close(Closing { code, reason }),
            }
        }
        drop(said);
        for (channel, code) in failed {
            self.decide(Input::Ended { channel, code }, outputs);
        }
    }

    /// Joins the document, or changes the rights of a channel that has joined.
    async fn attach(&self, channel: ChannelId, access: Access, peer: Option<Peer>) -> Result<(), Refusal> {
        if let Some(seat) = self.seats.get(channel) {
            return seat.membership.set_access(access).await;
        }
        let entrant = self.seats.entrant(channel).expect("a session attaches only who was let in");
        let language = match peer {
            None => Language::YWebsocket,
            Some(Peer { address, .. }) => Language::Hocuspocus { address },
        };
        let port = Port { outbox: self.outbox.clone(), channel, language };
        let membership = self.sockets.hub.join(&entrant.doc, access, Some(entrant.member()), port).await?;
        let watched = (!self.sockets.auth.is_dev()).then(|| {
            let alarm: Weak<Outbox> = Arc::downgrade(&self.outbox);
            self.sockets.auth.watch().enter(&entrant.identity, entrant.doc.as_str(), alarm, channel)
        });
        self.seats.take(channel, Seat::new(membership, entrant, watched));
        Ok(())
    }

    async fn say(&self, channel: ChannelId, messages: Vec<DocumentMessage>) -> Result<(), Refusal> {
        match self.seats.get(channel) {
            Some(seat) => seat.membership.say(messages).await,
            None => Ok(()),
        }
    }

    // ---- rights --------------------------------------------------------------------------------------------------

    /// Tells the session what was found out.
    fn learn(&self, answer: Answer, outputs: &mut Vec<Output>) {
        match answer {
            Answer::Verdict(channel, verdict) => match verdict.and_then(|who| self.count(&who).map(|()| who)) {
                Ok(who) => self.let_in(channel, who, outputs),
                Err(code) => {
                    self.sockets.metrics.refused(code);
                    self.decide(Input::Verdict { channel, verdict: Err(code) }, outputs);
                }
            },
            Answer::Rechecked(channel, who, access) => {
                // A token that came meanwhile was checked later than this.
                if self.seats.get(channel).is_some_and(|seat| Arc::ptr_eq(&seat.holder(), &who)) {
                    self.decide(
                        match access {
                            Ok(access) => Input::Renewed { channel, grant: Grant { access, ..who.grant() } },
                            Err(code) => Input::Revoked { channel, code },
                        },
                        outputs,
                    );
                }
            }
        }
    }

    fn let_in(&self, channel: ChannelId, who: Arc<Entrant>, outputs: &mut Vec<Output>) {
        let grant = who.grant();
        self.seats.enter(channel, who);
        let before = outputs.len();
        self.decide(Input::Verdict { channel, verdict: Ok(grant) }, outputs);
        let attaches = |output: &Output| matches!(output, Output::Attach { channel: of, .. } if *of == channel);
        if !outputs[before..].iter().any(attaches) && self.seats.get(channel).is_none() {
            self.seats.leave(channel); // The client has thought better of it.
        }
    }

    /// Counts the connection for its user.
    fn count(&self, who: &Entrant) -> Result<(), ErrorCode> {
        let mut guard = self.guard.lock().unwrap_or_else(PoisonError::into_inner);
        match guard.as_mut().filter(|_| !self.sockets.auth.is_dev()) {
            Some(guard) => guard.identify(&who.identity.sub),
            None => Ok(()),
        }
    }

    /// Looks rights up again.
    async fn recheck(&self, channels: Vec<ChannelId>) {
        for channel in channels {
            if let Some(seat) = self.seats.get(channel) {
                self.questions.ask_again(&self.sockets, channel, seat.holder()).await;
            }
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
                        () = &mut draining, if restart_at.is_none() => restart_at = Some(self.restart_moment()),
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

    async fn tell_ended(&self, channels: Vec<(ChannelId, ErrorCode)>) {
        let _turn = self.turn.lock().await;
        let mut outputs = Vec::new();
        for (channel, code) in channels {
            self.decide(Input::Ended { channel, code }, &mut outputs);
        }
        self.finish(&mut outputs).await;
    }

    async fn tell_drained(&self, channels: Vec<ChannelId>) {
        for channel in channels {
            let Some(seat) = self.seats.get(channel) else { continue };
            if let Err(refusal) = seat.membership.drained().await {
                self.outbox.end(channel, refusal.code);
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

    fn now(&self) -> Moment {
        self.sockets.clock.now().moment
    }

    fn lock_session(&self) -> MutexGuard<'_, Session> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
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

fn is_keep_alive(output: &Output) -> bool {
    let is_empty_presence = |payload: &Bytes| payload.ends_with(&y_websocket::KEEP_ALIVE);
    matches!(output, Output::Send(payload) if is_empty_presence(payload) || *payload == hocuspocus::PING)
}

fn closing(code: ErrorCode) -> Closing {
    Closing { code: code.close_code_or_internal(), reason: code.word() }
}
