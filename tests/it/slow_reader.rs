//! A reader that stops reading while 100 MB of updates go by: what it costs, what it misses, what the others notice.

use std::time::Duration;

use bytes::Bytes;
use syncline_protocol::channel::DocumentMessage;
use syncline_protocol::y_websocket;
use yrs::Doc;
use yrs::Map;
use yrs::MapRef;
use yrs::Out;
use yrs::ReadTxn;
use yrs::StateVector;
use yrs::Transact;
use yrs::Update;
use yrs::updates::decoder::Decode;
use yrs::updates::encoder::Encode;

use crate::server::Server;
use crate::server::Setup;
use crate::support::socket::Closed;
use crate::support::socket::Socket;

/// What goes by while somebody does not read.
const TRAFFIC_BYTES: usize = 100 << 20;
/// One update: the size of a pasted picture, or of a page of a table.
const UPDATE_BYTES: usize = 64 << 10;
/// Updates that are written before everybody who reads is waited for. Far less than an outbox holds: who reads never lags.
const BURST: usize = 16;
/// What a reader that does not read may cost: its outbox, what is on its way to the socket, and what an allocator does not
/// give back.
const COST_MAX: u64 = 16 << 20;
/// The same beside a document that grows to the whole traffic. What such a document itself takes differs by some 30 MB from
/// one run to the next; a reader whose updates were kept would cost all the traffic.
const COST_BESIDE_GROWTH_MAX: u64 = TRAFFIC_BYTES as u64 / 2;
/// `limits.outbox_bytes`.
const OUTBOX_BYTES: u64 = 4 << 20;
/// What such a reader finds when it reads again, of what went by: its outbox, and what the system holds for a socket.
const UNREAD_BYTES_MAX: usize = 16 << 20;

/// What the writer does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Traffic {
    /// Sends all it has with every small change, as careless programs do. The document stays small.
    Repeats,
    /// Replaces one large value again and again. A document in memory keeps what was replaced.
    Replaces,
}

/// Somebody's copy of the document.
struct Replica {
    doc: Doc,
    map: MapRef,
}

impl Replica {
    fn new(client: u64) -> Self {
        let doc = Doc::with_client_id(client);
        let map = doc.get_or_insert_map("map");
        Self { doc, map }
    }

    /// The next update that the writer sends.
    fn write(&self, traffic: Traffic, count: usize) -> Bytes {
        let mut txn = self.doc.transact_mut();
        let large = |number: usize| format!("{number:07} ").repeat(UPDATE_BYTES / 8);
        match traffic {
            Traffic::Repeats if count == 0 => {
                self.map.insert(&mut txn, "large", large(count));
            }
            Traffic::Repeats => {
                self.map.insert(&mut txn, "count", count.to_string());
            }
            Traffic::Replaces => {
                self.map.insert(&mut txn, "large", large(count));
            }
        }
        let change = txn.encode_update_v1();
        drop(txn);
        match traffic {
            Traffic::Repeats => self.doc.transact().encode_diff_v1(&StateVector::default()).into(),
            Traffic::Replaces => change.into(),
        }
    }

    fn apply(&self, update: &[u8]) {
        self.doc.transact_mut().apply_update(Update::decode_v1(update).unwrap()).unwrap();
    }

    fn state_vector(&self) -> StateVector {
        self.doc.transact().state_vector()
    }

    fn content(&self) -> Vec<(String, String)> {
        let txn = self.doc.transact();
        let text = |value: Out| value.to_string(&txn);
        let mut content: Vec<_> = self.map.iter(&txn).map(|(key, value)| (key.to_owned(), text(value))).collect();
        content.sort();
        content
    }

    /// Everything the other has, and nothing else.
    fn equals(&self, other: &Self) -> bool {
        self.state_vector() == other.state_vector() && self.content() == other.content()
    }
}

/// Somebody who reads, on a socket of their own.
struct Reader {
    socket: Socket,
    replica: Replica,
    /// Frames with changes since the first state.
    frames: usize,
    /// Their bytes.
    bytes: usize,
}

impl Reader {
    async fn join(socket: Socket, client: u64) -> Self {
        let mut reader = Self { socket, replica: Replica::new(client), frames: 0, bytes: 0 };
        reader.greet().await;
        reader
    }

    /// Asks for what it lacks, and reads until it has that.
    async fn greet(&mut self) {
        self.socket.send(&DocumentMessage::SyncStep1(self.replica.state_vector().encode_v1().into())).await;
        while !self.read().await.unwrap() {}
        (self.frames, self.bytes) = (0, 0);
    }

    /// Takes one frame; whether it was the answer to our first question.
    async fn read(&mut self) -> Result<bool, Closed> {
        let mut answered = false;
        for message in y_websocket::decode(self.socket.next().await?).unwrap() {
            match message {
                y_websocket::Message::Document(DocumentMessage::Update(update)) => {
                    self.frames += 1;
                    self.bytes += update.len();
                    self.replica.apply(&update);
                }
                y_websocket::Message::Document(DocumentMessage::SyncStep2(update)) => {
                    self.replica.apply(&update);
                    answered = true;
                }
                _ => {}
            }
        }
        Ok(answered)
    }

    /// Reads until it has what `other` has.
    async fn catch_up(&mut self, other: &Replica) {
        while self.replica.state_vector() != other.state_vector() {
            self.read().await.unwrap();
        }
    }
}

/// A document with a writer and two that read what is written.
struct Table {
    server: Server,
    writer: Socket,
    written: Replica,
    count: usize,
    readers: Vec<Reader>,
}

impl Table {
    async fn set(setup: Setup) -> Self {
        let server = setup.start().await;
        let mut writer = server.ws("doc", None).await;
        writer.greeted().await.unwrap();
        let mut readers = Vec::new();
        for client in [101, 102] {
            readers.push(Reader::join(server.ws("doc", None).await, client).await);
        }
        Self { server, writer, written: Replica::new(1), count: 0, readers }
    }

    /// A reader whose machine buffers next to nothing; it reads when it is told to.
    async fn join_narrow(&self) -> Reader {
        Reader::join(Socket::open_narrow(&self.server.address().borrow(), "/sync/doc").await, 103).await
    }

    /// Writes so many bytes of updates, each of them acknowledged and read by those who read.
    async fn write(&mut self, traffic: Traffic, bytes: usize) {
        let mut sent = 0;
        while sent < bytes {
            let mut last = Bytes::new();
            for _ in 0..BURST {
                last = self.written.write(traffic, self.count);
                self.count += 1;
                sent += last.len();
                self.writer.update(last.clone()).await;
            }
            self.writer.acknowledged(&last).await.unwrap();
            for reader in &mut self.readers {
                reader.catch_up(&self.written).await;
            }
        }
    }

    /// Everybody has what was written, and so has the server.
    async fn assert_all_equal(&self) {
        let state = reqwest::get(self.server.url("/v1/docs/doc/state")).await.unwrap().bytes().await.unwrap();
        let kept = Replica::new(2);
        kept.apply(&state);
        for replica in self.readers.iter().map(|reader| &reader.replica).chain([&kept]) {
            assert!(replica.equals(&self.written));
        }
    }

    /// The value of a metric.
    async fn metric(&self, name: &str) -> u64 {
        let text = reqwest::get(self.server.url("/metrics")).await.unwrap().text().await.unwrap();
        let value = text.lines().find_map(|line| line.strip_prefix(name)).expect("it is there from the start");
        value.trim().parse().unwrap()
    }

    /// How often a reader began to lag, and how often one was caught up.
    async fn lags(&self) -> (u64, u64) {
        (self.metric("syncline_lagging_total ").await, self.metric("syncline_lag_resyncs_total ").await)
    }
}

/// A server that makes no snapshots meanwhile: they take memory of their own, at times of their own.
fn setup() -> Setup {
    Setup::dev().set("STORE__COMPACT_BYTES", 1 << 30)
}

/// Patience for a reader that stops, however long the traffic takes on this machine.
fn patient() -> Setup {
    setup().set("LIMITS__WRITE_TIMEOUT_SECONDS", 3600)
}

#[tokio::test]
async fn a_reader_that_stops_costs_little_and_is_caught_up_by_one_diff() {
    let mut table = Table::set(patient()).await;
    table.write(Traffic::Repeats, TRAFFIC_BYTES).await;
    let usual = table.server.peak_memory();

    let mut slow = table.join_narrow().await;
    table.write(Traffic::Repeats, TRAFFIC_BYTES).await;
    assert_eq!(table.lags().await, (1, 0), "one reader lags, the others never did");
    let waiting = table.server.json("/v1/admin/stats").await["outboxBytes"].as_u64().unwrap();
    assert!((1..=OUTBOX_BYTES).contains(&waiting), "{waiting}");

    slow.catch_up(&table.written).await;
    assert_eq!(table.lags().await, (1, 1), "one diff brought everything");
    assert!(slow.bytes < UNREAD_BYTES_MAX, "{} bytes in {} frames", slow.bytes, slow.frames);
    table.readers.push(slow);
    assert_cost(usual, &table, COST_MAX);

    table.write(Traffic::Repeats, UPDATE_BYTES).await;
    assert_eq!(table.lags().await, (1, 1), "from then on it hears every change as before");
    table.assert_all_equal().await;
}

/// The document grows as it goes by: compared with what it takes without that reader.
#[tokio::test]
async fn a_reader_that_stops_while_a_value_is_replaced_costs_little_beside_the_document() {
    let mut alone = Table::set(patient().set("LIMITS__DOC_BYTES", 0)).await;
    alone.write(Traffic::Replaces, TRAFFIC_BYTES).await;
    let usual = alone.server.peak_memory();
    drop(alone);

    let mut table = Table::set(patient().set("LIMITS__DOC_BYTES", 0)).await;
    let mut slow = table.join_narrow().await;
    table.write(Traffic::Replaces, TRAFFIC_BYTES).await;
    assert_eq!(table.lags().await, (1, 0), "one reader lags, the others never did");
    assert_cost(usual, &table, COST_BESIDE_GROWTH_MAX);

    slow.catch_up(&table.written).await;
    assert_eq!(table.lags().await, (1, 1), "one diff brought everything");
    assert!(slow.bytes < UNREAD_BYTES_MAX, "{} bytes in {} frames", slow.bytes, slow.frames);
    table.readers.push(slow);
    table.assert_all_equal().await;
}

#[tokio::test]
async fn a_socket_that_takes_nothing_for_too_long_is_dropped_and_may_come_back() {
    const CONNECTIONS: &str = "syncline_connections{transport=\"y_websocket\"} ";
    let mut table = Table::set(setup().set("LIMITS__WRITE_TIMEOUT_SECONDS", 1)).await;
    let mut slow = table.join_narrow().await;
    assert_eq!(table.metric(CONNECTIONS).await, 4);
    table.write(Traffic::Repeats, UNREAD_BYTES_MAX).await;
    while table.metric(CONNECTIONS).await > 3 {
        tokio::time::sleep(Duration::from_millis(20)).await; // poll
    }
    // What the system still held for it comes, then the line is dead: for a client, a reason to dial again.
    let (code, _) = loop {
        if let Err(closed) = slow.read().await {
            break closed;
        }
    };
    assert_eq!(code, 1006);
    assert!(!slow.replica.equals(&table.written), "it did miss something");
    slow.socket = table.server.ws("doc", None).await;
    slow.greet().await;
    table.readers.push(slow);
    table.write(Traffic::Repeats, UPDATE_BYTES).await;
    table.assert_all_equal().await;
}

fn assert_cost(usual: u64, table: &Table, cost_max: u64) {
    let cost = table.server.peak_memory().saturating_sub(usual);
    assert!(cost <= cost_max, "{cost} bytes more than {usual}");
}
