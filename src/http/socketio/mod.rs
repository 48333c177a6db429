//! `/socket.io/`: rooms, events and commands for unmodified Socket.IO clients (protocol 5), by WebSocket and by polling.
//!
//! ```text
//!  engineioxide ── messages ──▶ Session (one task a client) ── commands ──▶ hub (documents), rooms
//!      ▲                          │ rooms: a cursor each                       │
//!      └──────── Wire ◀───────────┴──────────────◀── events ───────────────────┘
//! ```
//!
//! The transport is a library's; what is said over it is `syncline_protocol::socket_io`. A client that reads slowly has no
//! queue here: its cursors stay where they are, and go on when there is room again.

mod bell;
mod commands;
mod delivery;
mod door;
mod entry;
mod pace;
mod payload;
mod reply;
mod rights;
mod session;
mod stories;
mod subscription;
mod typing;
mod wire;

use std::fmt;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use engineioxide::DisconnectReason;
use engineioxide::Str;
use engineioxide::config::EngineIoConfig;
use engineioxide::handler::EngineIoHandler;
use engineioxide::service::EngineIoService;
use engineioxide::service::NotFoundService;
use syncline_protocol::ErrorCode;
use syncline_protocol::socket_io;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use crate::http::AppState;
use crate::http::problem::Problem;

pub use door::Peer;
pub use door::Promised;
pub use door::is_asked_for;
pub use door::is_first_poll;
pub use door::promise;
pub use door::routes;
pub use pace::Rates;

/// Messages of one client that wait to be handled, and their bytes. Full: the next one is refused, `RATE_LIMITED`. What
/// presence says comes in bursts, and is not refused before that.
const INBOUND_MAX: usize = 4096;
const INBOUND_BYTES_MAX: usize = 1 << 20;
/// Packets on their way to one client. Full: nothing more is taken from its rooms until there is room.
const OUTBOUND_MAX: usize = 64;
/// Clients beyond those who are let in or wait in line: they have not said yet who they are.
const STRANGERS_MAX: usize = 2_000;
/// One message. Larger ones end the connection, by the library.
const MESSAGE_BYTES_MAX: usize = 1 << 20;
/// As the clients' own server has them.
const PING_INTERVAL: Duration = Duration::from_secs(25);
const PING_TIMEOUT: Duration = Duration::from_secs(20);
const WS_READ_BUFFER: usize = 4 << 10;
/// A client whose messages come faster than they are handled is told to come again so much later.
const FULL_RETRY: Duration = Duration::from_secs(1);

type Socket = engineioxide::Socket<Line>;
type Service = EngineIoService<Gateway, NotFoundService>;

/// What all clients of Socket.IO share.
pub struct Gateway {
    state: AppState,
    settings: Settings,
    rates: Rates,
    /// Clients, whoever they are.
    open: AtomicUsize,
}

/// The settings that concern Socket.IO.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// `limits.connections`; `None` without a limit.
    pub connections: Option<usize>,
    /// `limits.queue_waiting`.
    pub queue_waiting: usize,
    /// Bytes of one message.
    pub message_bytes: usize,
}

/// Where the messages of one client go.
#[derive(Debug, Default)]
pub struct Line {
    messages: OnceLock<mpsc::Sender<Str>>,
    /// Bytes of those that wait.
    bytes: AtomicUsize,
}

impl Line {
    /// Takes a message if there is room for it; gives it back otherwise.
    fn take(&self, message: Str) -> Result<(), Str> {
        // Before it connected and after it is gone, nobody listens.
        let Some(messages) = self.messages.get() else { return Ok(()) };
        let length = message.len();
        // One message always fits, however long.
        let waiting = self.bytes.fetch_add(length, Ordering::Relaxed);
        let sent = match waiting > 0 && waiting + length > INBOUND_BYTES_MAX {
            true => Err(TrySendError::Full(message)),
            false => messages.try_send(message),
        };
        sent.or_else(|refused| {
            self.bytes.fetch_sub(length, Ordering::Relaxed);
            match refused {
                TrySendError::Full(message) => Err(message),
                TrySendError::Closed(_) => Ok(()),
            }
        })
    }

    /// A message was taken from those that wait.
    fn taken(&self, message: &Str) {
        self.bytes.fetch_sub(message.len(), Ordering::Relaxed);
    }
}

/// The address, ready to be served. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Engine(Service);

impl fmt::Debug for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Gateway")
    }
}

impl Gateway {
    /// Puts the address together.
    #[must_use]
    pub fn engine(state: AppState, settings: Settings, rates: Rates) -> Engine {
        let gateway = Arc::new(Self { state, settings, rates, open: AtomicUsize::new(0) });
        let message_bytes = settings.message_bytes.clamp(1024, MESSAGE_BYTES_MAX);
        let config = EngineIoConfig::builder()
            .req_path("/socket.io")
            .ping_interval(PING_INTERVAL)
            .ping_timeout(PING_TIMEOUT)
            .max_buffer_size(OUTBOUND_MAX)
            .max_payload(message_bytes as u64)
            .ws_read_buffer_size(WS_READ_BUFFER)
            .ws_max_message_size(message_bytes)
            .ws_max_frame_size(message_bytes)
            .build();
        Engine(EngineIoService::with_config(gateway, config))
    }

    fn has_room(&self) -> bool {
        let Settings { connections, queue_waiting, .. } = self.settings;
        connections.is_none_or(|max| self.open.load(Ordering::Relaxed) < max + queue_waiting + STRANGERS_MAX)
    }
}

impl EngineIoHandler for Gateway {
    type Data = Line;

    fn on_connect(self: Arc<Self>, socket: Arc<Socket>) {
        if !self.has_room() {
            self.state.sockets.metrics.refused(ErrorCode::Overloaded);
            return socket.close(DisconnectReason::ClosingServer);
        }
        self.open.fetch_add(1, Ordering::Relaxed);
        let (sender, messages) = mpsc::channel(INBOUND_MAX);
        if socket.data.messages.set(sender).is_err() {
            return; // A socket connects once.
        }
        let tasks = self.state.sockets.tasks.clone();
        tasks.spawn(async move {
            entry::run(&self, &socket, messages).await;
            socket.close(DisconnectReason::ClosingServer);
            self.open.fetch_sub(1, Ordering::Relaxed);
        });
    }

    /// The client's task sees for itself that its socket is closed.
    fn on_disconnect(&self, _: Arc<Socket>, _: DisconnectReason) {}

    fn on_message(self: &Arc<Self>, message: Str, socket: Arc<Socket>) {
        if let Err(message) = socket.data.take(message) {
            self.state.sockets.metrics.refused(ErrorCode::RateLimited);
            let Ok(packet) = socket_io::parse(&message) else { return };
            let Some(id) = packet.id.filter(|_| packet.kind == socket_io::Kind::Event) else { return };
            let retry_ms = u64::try_from(FULL_RETRY.as_millis()).unwrap_or(u64::MAX);
            let problem = Problem::new(ErrorCode::RateLimited, "commands come faster than they can be carried out");
            let refused = reply::refusal(&problem.with("retryAfterMs", retry_ms));
            // A client that does not read its answers either goes without one.
            let _ = socket.emit(socket_io::ack(id, &refused.to_string()));
        }
    }

    /// No command takes binary attachments: the command that announced them is refused, and they are passed over.
    fn on_binary(self: &Arc<Self>, _: Bytes, _: Arc<Socket>) {}
}
