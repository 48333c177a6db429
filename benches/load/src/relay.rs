//! `syncline-load relay`: the least a server can do. Frames go from one member of a room to all others, unread and unkept.
//!
//! It is the yardstick, so it has to be a good one: one thread and no locks, a frame is built once and shared by all who
//! get it, a writer takes everything that waits for its socket and flushes once, and a connection at rest holds little.

use std::cell::Cell;
use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;

use anyhow::Context;
use anyhow::Result;
use futures_util::SinkExt;
use futures_util::StreamExt;
use futures_util::stream::SplitSink;
use futures_util::stream::SplitStream;
use tokio::net::TcpListener;
use tokio::net::TcpSocket;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio::task::LocalSet;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::accept_hdr_async_with_config;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::Callback;
use tokio_tungstenite::tungstenite::handshake::server::ErrorResponse;
use tokio_tungstenite::tungstenite::handshake::server::Request;
use tokio_tungstenite::tungstenite::handshake::server::Response;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

/// Frames that wait for one socket. Full: whoever writes into the room waits, for a relay cannot make good what it drops.
const QUEUE_FRAMES_MAX: usize = 1024;

/// As many connections as the kernel keeps for us by default; more are refused there.
const BACKLOG: u32 = 4096;

/// What a socket reads at once. The library's 128 KiB would be held by every connection at rest.
const READ_BYTES: usize = 4 << 10;

/// What is collected before a socket is written to without being asked for it.
const WRITE_BYTES: usize = 64 << 10;

/// What `relay` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where it listens; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
}

/// Prints `ready HOST:PORT` and relays until it is killed.
///
/// # Errors
/// When it cannot listen.
pub(crate) fn main(args: &Args) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    LocalSet::new().block_on(&runtime, serve(args.listen))
}

async fn serve(listen: SocketAddr) -> Result<()> {
    let socket = if listen.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(listen).with_context(|| format!("{listen} cannot be listened on"))?;
    let listener = socket.listen(BACKLOG)?;
    println!("ready {}", listener.local_addr()?);
    accept(&listener, &Rc::new(Rooms::default())).await
}

async fn accept(listener: &TcpListener, rooms: &Rc<Rooms>) -> Result<()> {
    loop {
        let (stream, _) = listener.accept().await.context("no more connections can be accepted")?;
        tokio::task::spawn_local(converse(stream, Rc::clone(rooms)));
    }
}

/// One connection, from its handshake to its end. Whatever goes wrong with it is its own affair.
async fn converse(stream: TcpStream, rooms: Rc<Rooms>) {
    let _ = stream.set_nodelay(true);
    let mut path = String::new();
    let config = WebSocketConfig::default().read_buffer_size(READ_BYTES).write_buffer_size(WRITE_BYTES);
    let Ok(socket) = accept_hdr_async_with_config(stream, Path(&mut path), Some(config)).await else { return };
    let (sink, frames) = socket.split();
    let (queue, waiting) = mpsc::channel(QUEUE_FRAMES_MAX);
    let member = rooms.enter(path, queue);
    tokio::task::spawn_local(write(sink, waiting));
    read(frames, &member).await;
}

/// Passes on what arrives, until nothing does.
async fn read(mut frames: SplitStream<WebSocketStream<TcpStream>>, member: &Member) {
    let mut behind = Vec::new();
    while let Some(Ok(frame)) = frames.next().await {
        if !frame.is_binary() {
            continue;
        }
        member.pass_on(&frame, &mut behind);
        for queue in behind.drain(..) {
            // Gone in the meantime: nobody is left to miss it.
            let _ = queue.send(frame.clone()).await;
        }
    }
}

/// Sends what waits, all of it with one flush, until the member has left.
async fn write(mut sink: SplitSink<WebSocketStream<TcpStream>, Message>, mut waiting: mpsc::Receiver<Message>) {
    while let Some(first) = waiting.recv().await {
        let mut next = Some(first);
        while let Some(frame) = next {
            if sink.feed(frame).await.is_err() {
                return;
            }
            next = waiting.try_recv().ok();
        }
        if sink.flush().await.is_err() {
            return;
        }
    }
}

/// Who is where.
#[derive(Debug, Default)]
struct Rooms {
    rooms: RefCell<HashMap<String, Rc<Room>>>,
    last_id: Cell<u64>,
}

impl Rooms {
    fn enter(self: Rc<Self>, path: String, queue: mpsc::Sender<Message>) -> Member {
        let id = self.last_id.get() + 1;
        self.last_id.set(id);
        let room = Rc::clone(self.rooms.borrow_mut().entry(path.clone()).or_default());
        room.members.borrow_mut().push((id, queue));
        Member { id, path, room, rooms: self }
    }
}

/// The members of one room, each with what waits for it.
#[derive(Debug, Default)]
struct Room {
    members: RefCell<Vec<(u64, mpsc::Sender<Message>)>>,
}

/// A place in a room; dropping it leaves, and ends its writer.
#[derive(Debug)]
struct Member {
    id: u64,
    path: String,
    room: Rc<Room>,
    rooms: Rc<Rooms>,
}

impl Member {
    /// Gives a frame to all others; whose queue is full is put into `behind`.
    fn pass_on(&self, frame: &Message, behind: &mut Vec<mpsc::Sender<Message>>) {
        for (_, queue) in self.room.members.borrow().iter().filter(|(id, _)| *id != self.id) {
            if let Err(TrySendError::Full(_)) = queue.try_send(frame.clone()) {
                behind.push(queue.clone());
            }
        }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let mut members = self.room.members.borrow_mut();
        members.retain(|(id, _)| *id != self.id);
        if members.is_empty() {
            self.rooms.rooms.borrow_mut().remove(&self.path);
        }
    }
}

/// Keeps the path of a handshake.
struct Path<'a>(&'a mut String);

impl Callback for Path<'_> {
    fn on_request(self, request: &Request, response: Response) -> Result<Response, ErrorResponse> {
        request.uri().path().clone_into(self.0);
        Ok(response)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tokio_tungstenite::MaybeTlsStream;
    use tokio_tungstenite::connect_async;

    use super::*;

    type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

    /// Runs `story` beside a relay, with its address and its rooms.
    fn beside_a_relay<F: Future<Output = ()>>(story: impl FnOnce(SocketAddr, Rc<Rooms>) -> F) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
        LocalSet::new().block_on(&runtime, async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let (addr, rooms) = (listener.local_addr().unwrap(), Rc::new(Rooms::default()));
            let served = Rc::clone(&rooms);
            tokio::task::spawn_local(async move { accept(&listener, &served).await });
            story(addr, rooms).await;
        });
    }

    async fn join(addr: SocketAddr, room: &str) -> Socket {
        connect_async(format!("ws://{addr}/{room}")).await.unwrap().0
    }

    fn members(rooms: &Rooms, room: &str) -> usize {
        rooms.rooms.borrow().get(&format!("/{room}")).map_or(0, |room| room.members.borrow().len())
    }

    /// The relay enters a member after it has answered the handshake.
    async fn until_there_are(count: usize, rooms: &Rooms, room: &str) {
        while members(rooms, room) != count {
            tokio::task::yield_now().await;
        }
    }

    fn frame(number: u32, bytes: usize) -> Message {
        let mut payload = number.to_be_bytes().to_vec();
        payload.resize(bytes, 7);
        Message::Binary(Bytes::from(payload))
    }

    #[test]
    fn frames_reach_everybody_else_in_the_room() {
        beside_a_relay(|addr, rooms| async move {
            let (mut alice, mut bob) = (join(addr, "a").await, join(addr, "a").await);
            let mut carol = join(addr, "c").await;
            until_there_are(2, &rooms, "a").await;
            for number in 0..3 {
                alice.send(frame(number, 100)).await.unwrap();
            }
            for number in 0..3 {
                assert_eq!(bob.next().await.unwrap().unwrap(), frame(number, 100));
            }
            carol.send(frame(8, 10)).await.unwrap();
            bob.send(frame(9, 10)).await.unwrap();
            // Neither her own frames nor those of another room came before.
            assert_eq!(alice.next().await.unwrap().unwrap(), frame(9, 10));
        });
    }

    #[test]
    fn a_full_queue_holds_the_writer_back_and_loses_nothing() {
        const FRAMES: u32 = 4 * QUEUE_FRAMES_MAX as u32;
        const BYTES: usize = 8 << 10;
        beside_a_relay(|addr, rooms| async move {
            let (mut alice, mut bob) = (join(addr, "a").await, join(addr, "a").await);
            until_there_are(2, &rooms, "a").await;
            let sent = Cell::new(0);
            let write = async {
                for number in 0..FRAMES {
                    alice.send(frame(number, BYTES)).await.unwrap();
                    sent.set(number);
                }
            };
            let read = async {
                while sent.get() < QUEUE_FRAMES_MAX as u32 / 2 {
                    tokio::task::yield_now().await;
                }
                for number in 0..FRAMES {
                    assert_eq!(bob.next().await.unwrap().unwrap(), frame(number, BYTES));
                }
            };
            futures_util::future::join(write, read).await;
        });
    }

    #[test]
    fn who_leaves_is_forgotten_and_the_room_with_the_last() {
        beside_a_relay(|addr, rooms| async move {
            let (mut alice, bob) = (join(addr, "a").await, join(addr, "a").await);
            until_there_are(2, &rooms, "a").await;
            drop(bob);
            until_there_are(1, &rooms, "a").await;
            alice.close(None).await.unwrap();
            until_there_are(0, &rooms, "a").await;
            assert!(rooms.rooms.borrow().is_empty());
        });
    }
}
