//! From a listener to its connections: one task for each, for as long as it lives.
//!
//! A connection begins as HTTP. When a request for a WebSocket was answered with yes, the same task goes on as that
//! WebSocket, and what HTTP had in memory is gone: most connections rest as WebSockets for hours.

use std::convert::Infallible;
use std::future::Future;
use std::future::poll_fn;
use std::io;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::pin::Pin;
use std::pin::pin;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use axum::response::IntoResponse;
use axum::response::Response;
use bytes::Bytes;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper_util::rt::TokioIo;
use hyper_util::rt::TokioTimer;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::net::TcpSocket;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::http::AppState;
use crate::http::access_log;
use crate::http::ops;
use crate::http::socketio;
use crate::http::socketio::Engine;
use crate::http::ws;

/// Connections that the system keeps until they are accepted; it may allow fewer. Full: a client's first packet is
/// dropped and it tries again a second later, which a burst of clients that return after a restart would feel.
const BACKLOG: u32 = 4096;
/// How long a request's head may take to arrive, and a connection may rest between two requests: longer than the minute for
/// which proxies commonly keep one, so that it is they who close it.
const HEAD_TIMEOUT: Duration = Duration::from_secs(90);
/// After the system refused to hand out a connection, most likely because too many files are open.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// What waits behind a listener.
pub struct Door {
    router: Router,
    /// `None` where no WebSockets are served.
    sockets: Option<Sockets>,
    protocol: http1::Builder,
}

impl Door {
    /// A door to these routes and, if given, WebSockets.
    #[must_use]
    pub fn new(router: Router, sockets: Option<Sockets>) -> Arc<Self> {
        let mut protocol = http1::Builder::new();
        protocol.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
        Arc::new(Self { router, sockets, protocol })
    }
}

/// Listens on an address.
///
/// # Errors
/// When the address is taken, or not one of this machine's.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A server that was stopped a moment ago may start again.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Accepts connections until `stop`. Those that are open then may finish the request they are in; WebSockets have their own
/// way to end.
pub async fn serve(listener: TcpListener, door: Arc<Door>, tasks: TaskTracker, stop: CancellationToken) {
    let mut stopped = pin!(stop.cancelled());
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut stopped => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => drop(tasks.spawn(connection(stream, peer, door.clone(), stop.clone()))),
            Err(error) => pause_after(&error).await,
        }
    }
}

/// A connection that was gone before it was accepted is no reason to wait.
async fn pause_after(error: &io::Error) {
    if !matches!(error.kind(), ErrorKind::ConnectionRefused | ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset)
    {
        tracing::error!(event = "accept_failed", %error);
        tokio::time::sleep(ACCEPT_PAUSE).await;
    }
}

async fn connection(stream: TcpStream, peer: SocketAddr, door: Arc<Door>, stop: CancellationToken) {
    // Without it a keystroke waits for the acknowledgement of the one before.
    let _ = stream.set_nodelay(true);
    // In a box of its own: it is larger than a WebSocket, and lives for milliseconds.
    if let Some(Upgraded { promised, stream, early }) = Box::pin(talk_http(stream, peer, door, stop)).await {
        match promised {
            Promised::Documents(promised) => promised.begin(stream, early).await,
            Promised::Rooms(promised) => promised.begin(stream, early),
        }
    }
}

/// Who takes a connection that becomes a WebSocket.
pub struct Sockets {
    /// Those of documents.
    pub documents: Arc<ws::Sockets>,
    /// Those of rooms.
    pub rooms: Engine,
    /// What handlers share.
    pub state: AppState,
}

/// What a connection becomes.
enum Promised {
    Documents(ws::Promised),
    Rooms(Box<socketio::Promised>),
}

/// A connection that is a WebSocket from now on.
struct Upgraded {
    promised: Promised,
    stream: TcpStream,
    /// What came on the heels of the request.
    early: Bytes,
}

/// Answers requests until the connection ends, or becomes a WebSocket.
async fn talk_http(stream: TcpStream, peer: SocketAddr, door: Arc<Door>, stop: CancellationToken) -> Option<Upgraded> {
    let promise = Promise::default();
    let answering = Answering { door: door.clone(), peer, promise: promise.clone() };
    let mut http = door.protocol.serve_connection(TokioIo::new(stream), answering);
    let (mut stopped, mut told) = (pin!(stop.cancelled()), false);
    let ended = poll_fn(|context| {
        if !told && stopped.as_mut().poll(context).is_ready() {
            told = true;
            Pin::new(&mut http).graceful_shutdown();
        }
        http.poll_without_shutdown(context)
    });
    if let Err(error) = ended.await {
        tracing::debug!(event = "http_failed", %error);
        return None;
    }
    let parts = http.into_parts();
    let (mut stream, early) = (parts.io.into_inner(), parts.read_buf);
    let promised = lock(&promise).take();
    match promised {
        Some(promised) => Some(Upgraded { promised, stream, early }),
        None => {
            let _ = stream.shutdown().await; // The peer may have gone first.
            None
        }
    }
}

/// Answers the requests of one connection.
struct Answering {
    door: Arc<Door>,
    peer: SocketAddr,
    /// Set by the request that turned the connection into a WebSocket, which is its last.
    promise: Promise,
}

type Promise = Arc<Mutex<Option<Promised>>>;

fn lock(promise: &Promise) -> MutexGuard<'_, Option<Promised>> {
    promise.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Service<Request<Incoming>> for Answering {
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        match &self.door.sockets {
            // Clients dial again by themselves, and find another node or the next process.
            Some(sockets) if sockets.state.draining.is_cancelled() && is_newcomer(&request) => {
                Box::pin(std::future::ready(Ok(ops::draining().into_response())))
            }
            Some(sockets) if ws::is_asked_for(&request) => {
                let (sockets, promise) = (sockets.documents.clone(), self.promise.clone());
                Box::pin(promise_socket(sockets, self.peer, request, promise))
            }
            Some(sockets) if socketio::is_asked_for(&request) => {
                let (response, promised) = socketio::promise(&sockets.rooms, &sockets.state, self.peer.ip(), request);
                *lock(&self.promise) = promised.map(|promised| Promised::Rooms(Box::new(promised)));
                Box::pin(std::future::ready(Ok(response)))
            }
            _ => {
                let mut router = self.door.router.clone();
                let mut request = request.map(Body::new);
                request.extensions_mut().insert(socketio::Peer(self.peer.ip()));
                Box::pin(tower::Service::call(&mut router, request))
            }
        }
    }
}

/// Whether a request begins something that lasts. Whoever polls may finish what was begun.
fn is_newcomer(request: &Request<Incoming>) -> bool {
    ws::is_asked_for(request) || socketio::is_asked_for(request) || socketio::is_first_poll(request)
}

async fn promise_socket(
    sockets: Arc<ws::Sockets>,
    peer: SocketAddr,
    request: Request<Incoming>,
    promise: Promise,
) -> Result<Response, Infallible> {
    let line = access_log::Line::begin(sockets.clock, &request);
    let (response, promised) = ws::promise(sockets, peer.ip(), &request).await;
    *lock(&promise) = Some(Promised::Documents(promised));
    line.end(&response);
    Ok(response)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use axum::routing::get;
    use tokio::io::AsyncReadExt;
    use tokio::sync::Notify;

    use super::*;

    struct Served {
        address: SocketAddr,
        tasks: TaskTracker,
        stop: CancellationToken,
        serving: tokio::task::JoinHandle<()>,
    }

    fn served(router: Router) -> Served {
        let listener = listen((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let (address, tasks, stop) = (listener.local_addr().unwrap(), TaskTracker::new(), CancellationToken::new());
        let serving = tokio::spawn(serve(listener, Door::new(router, None), tasks.clone(), stop.clone()));
        Served { address, tasks, stop, serving }
    }

    /// Sends a request and reads until its one-word body has come.
    async fn ask(stream: &mut TcpStream, path: &str, word: &str) {
        stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes()).await.unwrap();
        answered(stream, word).await;
    }

    async fn answered(stream: &mut TcpStream, word: &str) {
        let mut answer = Vec::new();
        while !answer.ends_with(word.as_bytes()) {
            assert_ne!(stream.read_buf(&mut answer).await.unwrap(), 0, "{}", String::from_utf8_lossy(&answer));
        }
    }

    async fn hung_up(stream: &mut TcpStream) -> bool {
        stream.read(&mut [0; 64]).await.is_ok_and(|count| count == 0)
    }

    #[tokio::test]
    async fn a_server_that_stops_finishes_requests_and_hangs_up_on_who_rests() {
        let (begun, finish) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let slow = {
            let (begun, finish) = (begun.clone(), finish.clone());
            async move || {
                begun.notify_one();
                finish.notified().await;
                "slow"
            }
        };
        let server = served(Router::new().route("/quick", get(async || "quick")).route("/slow", get(slow)));
        let mut resting = TcpStream::connect(server.address).await.unwrap();
        ask(&mut resting, "/quick", "quick").await;
        ask(&mut resting, "/quick", "quick").await;
        let mut busy = TcpStream::connect(server.address).await.unwrap();
        busy.write_all(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        begun.notified().await;
        server.stop.cancel();
        server.serving.await.unwrap();
        assert!(hung_up(&mut resting).await);
        assert!(TcpStream::connect(server.address).await.is_err(), "nobody listens any more");
        finish.notify_one();
        answered(&mut busy, "slow").await;
        assert!(hung_up(&mut busy).await);
        server.tasks.close();
        server.tasks.wait().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_never_comes_is_not_waited_for() {
        let server = served(Router::new());
        let mut silent = TcpStream::connect(server.address).await.unwrap();
        silent.write_all(b"GET / HTTP/1.1\r\nhost").await.unwrap();
        let mut said = Vec::new();
        // Time passes by itself while nothing else happens.
        let _ = silent.read_to_end(&mut said).await;
        assert!(!said.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&said));
        server.tasks.close();
        server.tasks.wait().await;
    }

    #[test]
    fn a_connection_at_rest_is_small() {
        fn future_size<A, B, C, D, F: Future>(_: impl Fn(A, B, C, D) -> F) -> usize {
            size_of::<F>()
        }
        let resting = future_size(connection);
        assert!(resting <= 1792, "{resting}");
    }
}
