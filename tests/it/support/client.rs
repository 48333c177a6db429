//! A client that behaves like the npm `y-websocket`: syncs on every connect, keeps offline edits, dials again when there is
//! somebody to dial. Beyond that it knows which of its own updates came back, which is the acknowledgement.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;

use bytes::Bytes;
use futures_util::SinkExt;
use futures_util::StreamExt;
use rand::rngs::StdRng;
use syncline_protocol::channel::DocumentMessage;
use syncline_protocol::update::ClientRange;
use syncline_protocol::y_websocket;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_tungstenite::MaybeTlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use crate::server::PATIENCE;
use crate::server::Server;

use super::pad::Pad;
use super::pad::summary;
use super::socket::Closed;

type Stream = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// One client on one document. Dropping it hangs up.
pub(crate) struct Client {
    shared: Arc<Shared>,
    online: watch::Sender<bool>,
    task: JoinHandle<()>,
}

struct Shared {
    state: Mutex<State>,
    /// Counts changes of the state, so that everybody can wait for one.
    changes: watch::Sender<u64>,
}

/// What a client is and has.
pub(crate) struct State {
    pub(crate) pad: Pad,
    pub(crate) connected: bool,
    /// The server's answer to our question has come.
    pub(crate) synced: bool,
    /// The server has asked for what it lacks.
    asked: bool,
    /// Connections so far.
    pub(crate) connections: usize,
    /// Acknowledgements so far.
    pub(crate) acknowledged: usize,
    /// How connections ended, in order.
    pub(crate) closes: Vec<Closed>,
    heard: Heard,
    outgoing: VecDeque<Bytes>,
    unacknowledged: VecDeque<Bytes>,
}

impl State {
    /// Updates that the server has not acknowledged.
    pub(crate) fn waiting(&self) -> usize {
        self.unacknowledged.len()
    }

    pub(crate) fn is_settled(&self) -> bool {
        self.synced && self.asked && self.unacknowledged.is_empty() && self.outgoing.is_empty()
    }
}

impl Client {
    /// Dials `doc` (percent-encoded) with `query` (`""` or `?token=…`).
    pub(crate) fn new(server: &Server, doc: &str, query: &str, id: u64) -> Self {
        let state = State {
            pad: Pad::new(id),
            connected: false,
            synced: false,
            asked: false,
            connections: 0,
            acknowledged: 0,
            closes: Vec::new(),
            heard: Heard::default(),
            outgoing: VecDeque::new(),
            unacknowledged: VecDeque::new(),
        };
        let shared = Arc::new(Shared { state: Mutex::new(state), changes: watch::channel(0).0 });
        let (online, is_online) = watch::channel(true);
        let path = format!("/sync/{doc}{query}");
        let task = tokio::spawn(run(shared.clone(), server.address(), is_online, path));
        Self { shared, online, task }
    }

    /// As [`Self::new`], once it has everything that the server has.
    pub(crate) async fn synced(server: &Server, doc: &str, id: u64) -> Self {
        let client = Self::new(server, doc, "", id);
        client.until("synced", |state| state.synced).await;
        client
    }

    pub(crate) fn go_offline(&self) {
        self.online.send_replace(false);
    }

    pub(crate) fn go_online(&self) {
        self.online.send_replace(true);
    }

    /// Changes the pad and sends what changed, if there is somebody to send it to.
    pub(crate) fn change(&self, change: impl FnOnce(&mut Pad) -> Bytes) -> Bytes {
        let mut state = self.shared.lock();
        let update = change(&mut state.pad);
        if state.connected {
            state.send(update.clone());
        }
        drop(state);
        self.shared.changed();
        update
    }

    pub(crate) fn edit(&self, rng: &mut StdRng) {
        self.change(|pad| pad.edit(rng));
    }

    pub(crate) fn look<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.shared.lock())
    }

    /// Waits for a condition.
    pub(crate) async fn until(&self, what: &str, mut condition: impl FnMut(&State) -> bool) {
        let mut changes = self.shared.changes.subscribe();
        let met = async {
            while !condition(&self.shared.lock()) {
                changes.changed().await.expect("the sender is ours");
            }
        };
        if tokio::time::timeout(PATIENCE, met).await.is_err() {
            let state = self.shared.lock();
            panic!("waited in vain for {what}: connected {}, {} unacknowledged", state.connected, state.waiting());
        }
    }

    /// Waits until the server has everything of ours, and said so.
    pub(crate) async fn settled(&self) {
        self.until("acknowledgements", State::is_settled).await;
    }
}

/// Waits until all clients have the same, and every edit of theirs was acknowledged.
pub(crate) async fn converged(clients: &[&Client]) {
    for client in clients {
        client.settled().await;
    }
    let mut changes: Vec<_> = clients.iter().map(|client| client.shared.changes.subscribe()).collect();
    let equal = |client: &&Client| clients[0].look(|first| client.look(|state| first.pad.equals(&state.pad)));
    let met = async {
        while !clients[1..].iter().all(equal) {
            futures_util::future::select_all(changes.iter_mut().map(|changes| Box::pin(changes.changed())))
                .await
                .0
                .unwrap();
        }
    };
    if tokio::time::timeout(PATIENCE, met).await.is_err() {
        let texts: Vec<String> = clients.iter().map(|client| client.look(|state| state.pad.text())).collect();
        panic!("no convergence: {texts:#?}");
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn changed(&self) {
        self.changes.send_modify(|count| *count += 1);
    }
}

async fn run(
    shared: Arc<Shared>,
    mut address: watch::Receiver<String>,
    mut online: watch::Receiver<bool>,
    path: String,
) {
    loop {
        let waited = online.wait_for(|online| *online).await.map(drop);
        if waited.is_err() {
            return;
        }
        let url = format!("ws://{}{path}", *address.borrow_and_update());
        if let Ok((stream, _)) = tokio_tungstenite::connect_async(url).await {
            let closed = talk(&shared, stream, &mut online).await;
            let mut state = shared.lock();
            (state.connected, state.synced) = (false, false);
            state.closes.extend(closed);
            drop(state);
            shared.changed();
        }
        // Somebody who was sent away, or found nobody, comes back when the server has a new address.
        tokio::select! {
            changed = address.changed() => if changed.is_err() { return },
            changed = online.changed() => if changed.is_err() { return },
        }
    }
}

/// One connection, until it ends. How it was closed; `None` when we went offline.
async fn talk(shared: &Shared, mut stream: Stream, online: &mut watch::Receiver<bool>) -> Option<Closed> {
    shared.lock().greet();
    shared.changed();
    let mut changes = shared.changes.subscribe();
    loop {
        let outgoing = shared.lock().outgoing.pop_front();
        if let Some(frame) = outgoing {
            // A write that fails is told by the next read, with the reason.
            let _ = stream.send(Message::Binary(frame)).await;
            shared.changed();
            continue;
        }
        tokio::select! {
            message = stream.next() => match message {
                Some(Ok(Message::Binary(frame))) => {
                    shared.lock().hear(frame);
                    shared.changed();
                    // The changes that we made ourselves need no second look.
                    changes.borrow_and_update();
                }
                Some(Ok(Message::Close(Some(frame)))) => return Some((frame.code.into(), frame.reason.to_string())),
                Some(Ok(_)) => {}
                Some(Err(error)) => return Some((1006, error.to_string())),
                None => return Some((1006, String::new())),
            },
            _ = changes.changed() => {}
            _ = async { online.wait_for(|online| !*online).await.map(drop) } => {
                let _ = stream.close(None).await;
                return None;
            }
        }
    }
}

impl State {
    fn greet(&mut self) {
        self.outgoing.clear();
        self.heard = Heard::default();
        self.unacknowledged.clear(); // The first exchange brings it again, as one update.
        (self.connected, self.synced, self.asked) = (true, false, false);
        self.connections += 1;
        let have = DocumentMessage::SyncStep1(self.pad.state_vector());
        self.outgoing.push_back(y_websocket::encode_client(&have));
    }

    fn send(&mut self, update: Bytes) {
        self.unacknowledged.push_back(update.clone());
        self.outgoing.push_back(y_websocket::encode_client(&DocumentMessage::Update(update)));
    }

    fn hear(&mut self, frame: Bytes) {
        for message in y_websocket::decode(frame).expect("the server speaks the dialect") {
            match message {
                y_websocket::Message::Document(DocumentMessage::SyncStep1(theirs)) => {
                    self.asked = true;
                    let diff = self.pad.diff(&theirs);
                    if diff.as_ref() != [0, 0] {
                        self.unacknowledged.push_back(diff.clone());
                    }
                    self.outgoing.push_back(y_websocket::encode_client(&DocumentMessage::SyncStep2(diff)));
                }
                y_websocket::Message::Document(DocumentMessage::SyncStep2(update)) => {
                    self.pad.apply(&update);
                    self.synced = true;
                }
                y_websocket::Message::Document(DocumentMessage::Update(update)) => self.hear_update(&update),
                _ => {}
            }
        }
    }

    fn hear_update(&mut self, update: &Bytes) {
        if let Some(at) = self.unacknowledged.iter().position(|sent| sent == update) {
            self.unacknowledged.remove(at);
            self.acknowledged += 1;
            return self.pad.acknowledge(update);
        }
        self.pad.apply(update);
        // A client that read too slowly is caught up with a state in parts instead of its echoes. That shows that the
        // server has what it sent, but the promise is not counted on.
        if !self.unacknowledged.is_empty() {
            self.heard.add(update);
            self.unacknowledged.retain(|sent| !self.heard.covers(sent));
        }
    }
}

/// Structs and deletions that came back on this connection, other than as an echo.
#[derive(Default)]
struct Heard {
    structs: Vec<ClientRange>,
    deletes: Vec<ClientRange>,
}

impl Heard {
    fn add(&mut self, update: &[u8]) {
        let (structs, deletes) = summary(update);
        self.structs.extend(structs);
        self.deletes.extend(deletes);
    }

    fn covers(&self, update: &[u8]) -> bool {
        let (structs, deletes) = summary(update);
        structs.iter().all(|range| covered(range, &self.structs)) && deletes.iter().all(|r| covered(r, &self.deletes))
    }
}

/// Whether the ranges together hold all of this one.
fn covered(range: &ClientRange, by: &[ClientRange]) -> bool {
    let mut reached = range.start;
    while reached < range.end {
        let next = by.iter().find(|r| r.client == range.client && r.start <= reached && reached < r.end);
        let Some(next) = next else { return false };
        reached = next.end;
    }
    true
}
