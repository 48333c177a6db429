//! A bare WebSocket: says what a test wants, and reports how it was closed.

use std::borrow::Cow;

use bytes::Bytes;
use futures_util::SinkExt;
use futures_util::StreamExt;
use syncline_protocol::channel::DocumentMessage;
use syncline_protocol::y_websocket;
use tokio::net::TcpSocket;
use tokio::net::TcpStream;
use tokio_tungstenite::MaybeTlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use crate::server::PATIENCE;

/// One socket.
pub(crate) struct Socket {
    stream: WebSocketStream<MaybeTlsStream<TcpStream>>,
}

/// Code and reason of a close; 1006 where the connection simply ended.
pub(crate) type Closed = (u16, String);

impl Socket {
    pub(crate) async fn open(url: &str) -> Self {
        let dialled = tokio::time::timeout(PATIENCE, tokio_tungstenite::connect_async(url)).await;
        Self { stream: dialled.expect("the handshake ends").unwrap().0 }
    }

    /// A socket that a page of `origin` opens in a browser.
    pub(crate) async fn open_from(origin: &str, url: &str) -> Self {
        let mut request = url.into_client_request().unwrap();
        request.headers_mut().insert("origin", origin.parse().unwrap());
        let dialled = tokio::time::timeout(PATIENCE, tokio_tungstenite::connect_async(request)).await;
        Self { stream: dialled.expect("the handshake ends").unwrap().0 }
    }

    /// A socket whose machine buffers next to nothing, for a peer that does not read.
    pub(crate) async fn open_narrow(address: &str, path: &str) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        let stream = MaybeTlsStream::Plain(socket.connect(address.parse().unwrap()).await.unwrap());
        let url = format!("ws://{address}{path}");
        Self { stream: tokio_tungstenite::client_async(url, stream).await.unwrap().0 }
    }

    pub(crate) async fn send(&mut self, message: &DocumentMessage) {
        self.send_raw(Message::Binary(y_websocket::encode_client(message))).await;
    }

    /// A peer that has closed is no mistake of the sender: what it said is read afterwards.
    pub(crate) async fn send_raw(&mut self, message: Message) {
        let _ = self.stream.send(message).await;
    }

    pub(crate) async fn update(&mut self, update: impl Into<Bytes>) {
        self.send(&DocumentMessage::Update(update.into())).await;
    }

    /// The next frame, or how it was closed.
    pub(crate) async fn next(&mut self) -> Result<Bytes, Closed> {
        loop {
            let message = tokio::time::timeout(PATIENCE, self.stream.next()).await.expect("the server says something");
            match message {
                Some(Ok(Message::Binary(frame))) => return Ok(frame),
                Some(Ok(Message::Close(Some(frame)))) => return Err((frame.code.into(), frame.reason.to_string())),
                Some(Ok(Message::Close(None))) | None => return Err((1006, String::new())),
                Some(Err(error)) => return Err((1006, error.to_string())),
                Some(Ok(_)) => {}
            }
        }
    }

    /// Reads until the socket is closed.
    pub(crate) async fn closed(&mut self) -> Closed {
        loop {
            if let Err(closed) = self.next().await {
                return closed;
            }
        }
    }

    /// Reads until an update of exactly these bytes comes: the acknowledgement.
    pub(crate) async fn acknowledged(&mut self, update: &[u8]) -> Result<(), Closed> {
        loop {
            for message in y_websocket::decode(self.next().await?).unwrap() {
                if matches!(&message, y_websocket::Message::Document(DocumentMessage::Update(heard)) if heard == update)
                {
                    return Ok(());
                }
            }
        }
    }

    /// Waits for the server's first words about the document, which show that it let us in.
    pub(crate) async fn greeted(&mut self) -> Result<(), Closed> {
        loop {
            let frame = self.next().await?;
            let messages = y_websocket::decode(frame).unwrap();
            if messages.iter().any(|message| matches!(message, y_websocket::Message::Document(_))) {
                return Ok(());
            }
        }
    }
}

/// A name as one segment of a path.
pub(crate) fn segment(name: &str) -> Cow<'_, str> {
    percent_encoding::utf8_percent_encode(name, percent_encoding::NON_ALPHANUMERIC).into()
}
