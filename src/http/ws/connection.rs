//! One WebSocket connection: a reader that brings frames to the [`Session`], a writer that drains the [`Outbox`].
//!
//! Both are halves of one task. The reader waits when a document's inbox is full; the writer goes on meanwhile, and never
//! makes a document wait.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use axum::extract::ws::CloseFrame;
use axum::extract::ws::Message;
use axum::extract::ws::WebSocket;
use bytes::Bytes;
use futures_util::SinkExt;
use futures_util::StreamExt;
use futures_util::stream::SplitSink;
use futures_util::stream::SplitStream;
use syncline_protocol::ErrorCode;
use syncline_protocol::Moment;
use syncline_protocol::channel::Access;
use syncline_protocol::channel::ChannelId;
use syncline_protocol::channel::DocumentMessage;
use syncline_protocol::error_code::CLOSE_RESTART;
use syncline_protocol::session::Input;
use syncline_protocol::session::Output;
use syncline_protocol::session::Session;
use syncline_protocol::y_websocket;
use tungstenite::error::ProtocolError;

use crate::document::request::Member;
use crate::hub::Membership;
use crate::limit::ConnectionGuard;
use crate::limit::TokenBucket;
use crate::metrics::Transport;
use crate::name::DocName;
use crate::outbox::Closing;
use crate::outbox::Drained;
use crate::outbox::Outbox;

use super::Admission;
use super::HeldPlace;
use super::Sockets;

/// Inputs of a session rarely have more outputs.
const OUTPUTS: usize = 4;
/// How long a peer may take to answer our close.
const CLOSE_PATIENCE: Duration = Duration::from_secs(2);

/// One connection.
pub(super) struct Connection {
    sockets: Arc<Sockets>,
    session: Mutex<Session>,
    outbox: Arc<Outbox>,
    /// What the session said when it was opened.
    opening: Vec<Output>,
    doc: Option<DocName>,
    member: Option<Member>,
    channels: Mutex<HashMap<ChannelId, Arc<Membership>>>,
    refused: bool,
    _guard: Option<ConnectionGuard>,
    _held: Option<HeldPlace>,
}

impl Connection {
    pub(super) fn open(sockets: Arc<Sockets>, admission: Admission) -> Self {
        let refused = admission.verdict.is_err();
        let held = if refused { sockets.hold_place() } else { None };
        let settings = sockets.session_settings(held.is_some());
        let mut opening = Vec::with_capacity(OUTPUTS);
        let now = sockets.clock.now().moment;
        let session = Session::y_websocket(now, settings, admission.verdict, &mut opening);
        let outbox = Arc::new(Outbox::new(sockets.limits.outbox, sockets.outboxes.clone()));
        Self {
            session: Mutex::new(session),
            outbox,
            opening,
            doc: admission.doc,
            member: admission.member,
            channels: Mutex::default(),
            refused,
            _guard: admission.guard,
            _held: held,
            sockets,
        }
    }

    /// Runs until the socket is closed, by either side.
    pub(super) async fn run(mut self, socket: WebSocket) {
        let _open = self.sockets.metrics.connected(Transport::YWebsocket);
        let (sink, stream) = socket.split();
        let opening = std::mem::take(&mut self.opening);
        self.carry_out(opening).await;
        let this = &self;
        let write = async {
            this.write(sink).await;
            // Reading goes on until the peer has answered our close: a socket that is dropped with unread bytes is reset,
            // and the peer would never see why.
            tokio::time::sleep(CLOSE_PATIENCE).await;
        };
        tokio::select! {
            () = this.read(stream) => {}
            () = write => {}
        }
    }

    // ---- from the client -----------------------------------------------------------------------------------------

    async fn read(&self, mut stream: SplitStream<WebSocket>) {
        let mut bucket = self.sockets.update_bucket();
        while let Some(message) = stream.next().await {
            let input = match message {
                Ok(Message::Binary(frame)) => Input::Frame(frame),
                Ok(Message::Text(_)) => Input::Text,
                // The library answers pings and closes as reading goes on.
                Ok(Message::Ping(_) | Message::Pong(_) | Message::Close(_)) => continue,
                Err(error) => return self.read_failed(error).await,
            };
            if self.refused {
                continue; // Nobody listens to what a refused client says.
            }
            self.take(input, &mut bucket).await;
        }
    }

    /// A peer that broke a rule is told which; then the writer ends the connection. One that is gone is gone.
    async fn read_failed(&self, error: axum::Error) {
        if let Some(code) = refusal_of(error) {
            self.close(code);
            std::future::pending::<()>().await;
        }
    }

    async fn take(&self, input: Input, bucket: &mut Option<TokenBucket>) {
        let bytes = if let Input::Frame(frame) = &input { frame.len() } else { 0 };
        self.sockets.metrics.received(bytes);
        let outputs = self.decide(input);
        let updates = outputs.iter().filter(|output| is_update(output)).count();
        self.carry_out(outputs).await;
        let Some(bucket) = bucket else { return };
        let pause = bucket.debit(self.now(), u32::try_from(updates).unwrap_or(u32::MAX));
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
    }

    fn decide(&self, input: Input) -> Vec<Output> {
        let mut outputs = Vec::with_capacity(OUTPUTS);
        self.session.lock().unwrap_or_else(PoisonError::into_inner).handle(self.now(), input, &mut outputs);
        outputs
    }

    async fn carry_out(&self, outputs: Vec<Output>) {
        for output in outputs {
            match output {
                Output::Attach { channel, access } => self.attach(channel, access).await,
                Output::Document { channel, message } => self.say(channel, message).await,
                Output::Send(frame) => {
                    if frame == y_websocket::KEEP_ALIVE {
                        self.sockets.metrics.keep_alives.increment(1);
                    }
                    self.outbox.push_control(frame);
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

    async fn join(&self, channel: ChannelId, access: Access) -> Result<(), crate::document::request::Refusal> {
        let doc = self.doc.as_ref().expect("a session attaches only after it was admitted to a document");
        let (member, outbox) = (self.member.clone(), self.outbox.clone());
        let membership = self.sockets.hub.join(doc, access, member, outbox, channel).await?;
        self.lock_channels().insert(channel, Arc::new(membership));
        Ok(())
    }

    async fn say(&self, channel: ChannelId, message: DocumentMessage) {
        let membership = self.lock_channels().get(&channel).cloned();
        let Some(membership) = membership else { return };
        if let Err(refusal) = membership.say(message).await {
            self.close(refusal.code);
        }
    }

    // ---- to the client -------------------------------------------------------------------------------------------

    async fn write(&self, mut sink: SplitSink<WebSocket, Message>) {
        let mut last_sent = self.now();
        let mut restart_at = None;
        loop {
            match self.outbox.drain() {
                Drained::Write(frames) => {
                    if !self.send(&mut sink, frames).await {
                        return;
                    }
                    last_sent = self.now();
                }
                Drained::Ended(channels) => {
                    for (channel, code) in channels {
                        let outputs = self.decide(Input::Ended { channel, code });
                        self.carry_out(outputs).await;
                    }
                }
                Drained::Caught(channels) => self.tell_drained(channels).await,
                Drained::Close(closing) => return close(&mut sink, closing).await,
                Drained::Idle => {
                    let tick = self.session.lock().unwrap_or_else(PoisonError::into_inner).deadline(last_sent);
                    tokio::select! {
                        () = self.outbox.wait() => {}
                        () = self.until(tick) => {
                            let outputs = self.decide(Input::Tick { last_sent });
                            self.carry_out(outputs).await;
                        }
                        () = self.sockets.drain.cancelled(), if restart_at.is_none() => {
                            restart_at = Some(self.restart_moment());
                        }
                        () = self.until(restart_at) => {
                            self.outbox.close(Closing { code: CLOSE_RESTART, reason: "RESTART" });
                        }
                    }
                }
            }
        }
    }

    /// Writes frames and flushes once. `false` when the socket is dead, or accepted nothing for too long.
    async fn send(&self, sink: &mut SplitSink<WebSocket, Message>, frames: Vec<Bytes>) -> bool {
        let count = frames.len();
        let bytes: usize = frames.iter().map(Bytes::len).sum();
        for frame in frames {
            let fed = tokio::time::timeout(self.sockets.limits.write_timeout, sink.feed(Message::Binary(frame))).await;
            if !matches!(fed, Ok(Ok(()))) {
                return false;
            }
        }
        let flushed = tokio::time::timeout(self.sockets.limits.write_timeout, sink.flush()).await;
        self.sockets.metrics.sent(count, bytes);
        matches!(flushed, Ok(Ok(())))
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

    /// All clients of a node that stops come back a moment later; spread over time, they do not come in one second.
    fn restart_moment(&self) -> Moment {
        self.now().after(self.sockets.limits.drain_stagger.mul_f64(rand::random_range(0.0..1.0)))
    }

    fn close(&self, code: ErrorCode) {
        self.outbox.close(Closing { code: code.close_code_or_internal(), reason: code.word() });
    }

    async fn until(&self, moment: Option<Moment>) {
        match moment {
            Some(moment) => tokio::time::sleep_until(self.sockets.clock.instant(moment).into()).await,
            None => std::future::pending().await,
        }
    }

    fn now(&self) -> Moment {
        self.sockets.clock.now().moment
    }

    fn lock_channels(&self) -> std::sync::MutexGuard<'_, HashMap<ChannelId, Arc<Membership>>> {
        self.channels.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn close(sink: &mut SplitSink<WebSocket, Message>, closing: Closing) {
    let frame = CloseFrame { code: closing.code, reason: closing.reason.into() };
    // A peer that is gone, or does not answer, has its way too.
    let _ = tokio::time::timeout(CLOSE_PATIENCE, sink.send(Message::Close(Some(frame)))).await;
}

fn is_update(output: &Output) -> bool {
    matches!(output, Output::Document { message: DocumentMessage::Update(_) | DocumentMessage::SyncStep2(_), .. })
}

/// What to tell a peer about an error of its own making; `None` for a connection that is simply gone.
fn refusal_of(error: axum::Error) -> Option<ErrorCode> {
    let error = error.into_inner().downcast::<tungstenite::Error>().ok()?;
    match *error {
        tungstenite::Error::Capacity(_) => Some(ErrorCode::PayloadTooLarge),
        tungstenite::Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => None,
        tungstenite::Error::Protocol(_) | tungstenite::Error::Utf8(_) => Some(ErrorCode::InvalidPayload),
        _ => None,
    }
}
