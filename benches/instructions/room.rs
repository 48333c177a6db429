//! A document with its actor, its inbox and its readers' outboxes, on a runtime of one thread: all of a keystroke's way
//! between two sockets, but for the sockets and the disk.

use std::future::Future;
use std::io;
use std::io::IoSlice;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use syncline::clock::Clock;
use syncline::document::core::Guards;
use syncline::document::memory::Memory;
use syncline::document::port::Language;
use syncline::document::port::Line;
use syncline::document::port::Port;
use syncline::document::surroundings::Surroundings;
use syncline::hub::Hub;
use syncline::hub::InboxLimits;
use syncline::hub::Membership;
use syncline::metrics::Metrics;
use syncline::name::DocName;
use syncline::outbox::Budget;
use syncline::outbox::Next;
use syncline::outbox::Outbox;
use syncline::outbox::OutboxLimits;
use syncline::outbox::Wire;
use syncline::store::Epoch;
use syncline::store::MemoryStore;
use syncline::store::Record;
use syncline::store::Store;
use syncline_protocol::Moment;
use syncline_protocol::channel::Access;
use syncline_protocol::channel::ChannelId;
use syncline_protocol::channel::DocumentMessage;
use syncline_protocol::channel::ServerMessage;
use syncline_protocol::state_vector::StateVector;
use syncline_protocol::y_websocket;
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;
use tokio::task::coop::unconstrained;
use tokio::task::yield_now;
use tokio_util::task::TaskTracker;

use crate::document::settings;
use crate::material::paper;
use crate::material::typing;
use crate::paths::Operation;

/// A letter alone, until every reader's socket has its frame and the writer's its acknowledgement.
pub(crate) fn keystrokes(readers: usize, rounds: usize) -> Operation {
    let letters = typing(1, rounds);
    let room = Room::open(Bytes::new(), readers);
    Box::new(move |round| room.edit(&letters[round..=round]))
}

/// 64 letters that came together, for a hundred readers.
pub(crate) fn batches(rounds: usize) -> Operation {
    let letters = typing(1, 64 * rounds);
    let room = Room::open(Bytes::new(), 100);
    Box::new(move |round| room.edit(&letters[64 * round..64 * (round + 1)]))
}

/// Somebody opens a large document that somebody else just opened, until its socket has all of it.
pub(crate) fn joins() -> Operation {
    let paper = paper();
    let bytes = paper.len();
    let room = Room::open(paper, 2);
    Box::new(move |_| {
        room.run(async {
            room.readers[0].say(vec![step1()]).await;
            room.readers[0].taken(bytes).await;
        });
    })
}

fn step1() -> DocumentMessage {
    DocumentMessage::SyncStep1(StateVector::default().encode())
}

struct Room {
    runtime: Runtime,
    readers: Vec<Reader>,
}

struct Reader {
    membership: Membership,
    outbox: Arc<Outbox>,
    wire: Arc<Sink>,
}

/// A socket that takes everything.
#[derive(Debug, Default)]
struct Sink {
    calls: AtomicUsize,
    bytes: AtomicUsize,
}

impl Wire for Sink {
    fn try_write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let bytes = slices.iter().map(|slice| slice.len()).sum();
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        Ok(bytes)
    }
}

impl Room {
    /// A document with this content, if any, and readers that have it.
    fn open(content: Bytes, readers: usize) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        let store = MemoryStore::new();
        let name = DocName::parse("paper").expect("a plain name");
        let readers = runtime.block_on(async {
            let state_bytes = content.len().max(1);
            if !content.is_empty() {
                let record = Record { update: content, user: None, at_ms: 1_700_000_000_000, sidecar: Bytes::new() };
                store.append(&name, Epoch::default(), vec![record]).await.expect("there is room");
            }
            let budget = Budget::new(1 << 30);
            let hub = hub(store, budget.clone());
            let mut joined = Vec::new();
            for _ in 0..readers {
                joined.push(Reader::join(&hub, &name, budget.clone(), state_bytes).await);
            }
            joined
        });
        Self { runtime, readers }
    }

    /// The first reader writes, and everybody is handed it: the others with one call, the writer with one call too.
    fn edit(&self, letters: &[Bytes]) {
        let acknowledgement = |letter: &Bytes| y_websocket::frame(&ServerMessage::Update(letter.clone())).len();
        let bytes = letters.iter().map(acknowledgement).sum();
        self.run(async {
            let (writer, others) = self.readers.split_first().expect("there is one at least");
            writer.say(letters.iter().cloned().map(DocumentMessage::Update).collect()).await;
            assert_eq!(writer.taken(bytes).await, 1);
            for reader in others {
                assert_eq!(reader.taken(1).await, 1);
            }
        });
    }

    /// Runs to the end, without the pauses that tokio makes where other tasks might want a turn: how many messages form
    /// a batch is for the operation to say.
    fn run(&self, operation: impl Future<Output = ()>) {
        self.runtime.block_on(unconstrained(operation));
    }
}

fn hub(store: MemoryStore, outboxes: Arc<Budget>) -> Arc<Hub> {
    let metrics = Metrics::install().0;
    let around = Surroundings {
        store: Arc::new(store),
        clock: Clock::start(),
        settings: settings(),
        guards: Guards::nowhere(),
        compactions: Arc::new(Semaphore::new(1)),
        jobs: Arc::new(Semaphore::new(1)),
        memory: Memory::new(1 << 30, metrics.documents_bytes.clone(), metrics.documents_unloaded.clone()),
        metrics,
        publish: Arc::new(syncline::table::events::Unheard),
        link: None,
    };
    let limits = InboxLimits { doc_bytes_max: 32 << 20, total_bytes_max: 256 << 20 };
    Hub::new(around, limits, outboxes, TaskTracker::new())
}

impl Reader {
    async fn join(hub: &Arc<Hub>, name: &DocName, budget: Arc<Budget>, state_bytes: usize) -> Self {
        let limits = OutboxLimits { bytes_max: 4 << 20, frames_max: 1024 };
        let wire = Arc::new(Sink::default());
        let outbox = Arc::new(Outbox::new(Moment(1_000), limits, budget, wire.clone()));
        let line = Line { outbox: outbox.clone(), channel: ChannelId(0), language: Language::YWebsocket };
        let joined = hub.join(name, Access::Write, None, Port::Line(line)).await;
        let reader = Self { membership: joined.expect("the document opens"), outbox, wire };
        reader.taken(1).await; // Its step 1.
        reader.say(vec![step1()]).await;
        reader.taken(state_bytes).await;
        reader
    }

    async fn say(&self, messages: Vec<DocumentMessage>) {
        self.membership.say(messages).await.expect("the document is there");
    }

    /// Waits until the socket has taken at least so many bytes since the last time; in how many calls. What the document
    /// has left behind is written as a connection does it.
    async fn taken(&self, bytes: usize) -> usize {
        while self.wire.bytes.load(Ordering::Relaxed) < bytes {
            match self.outbox.next() {
                Next::Flush => {
                    self.outbox.flush(Moment(1_000));
                }
                Next::Idle => yield_now().await,
                other => unreachable!("nobody lags and nobody is closed: {other:?}"),
            }
        }
        self.wire.bytes.store(0, Ordering::Relaxed);
        self.wire.calls.swap(0, Ordering::Relaxed)
    }
}
