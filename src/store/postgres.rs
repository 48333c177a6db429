//! The store that several nodes share: a PostgreSQL database, or another that speaks its protocol.
//!
//! | task | connections | does |
//! |---|---|---|
//! | writer | 1 | appends and probes: group commit |
//! | keeper | 1 | compactions, deletions, revivals, one after the other |
//! | readers | 4 | loads and listings |
//!
//! Callers wait for none of them: each call is one entry in a bounded line and a future. The tasks run in threads of their
//! own, so that nothing that a document does to the server's runtime delays a commit. The tables are in `schema.rs`, what
//! is locked when in `write.rs` and `keep.rs`.
//!
//! While the database is away calls fail at once; the writer tries to come back, and with it comes everything. A commit
//! whose answer was lost is told as a failure, and may have happened.

mod address;
mod keep;
mod line;
mod link;
mod outage;
mod read;
mod row;
mod schema;
mod tls;
mod write;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::mpsc;
use std::thread;
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;
use tokio::task::LocalSet;
use tokio::time::timeout;
use tokio_postgres::error::SqlState;

use crate::config::Secret;
use crate::metrics::Metrics;
use crate::name::DocName;
use crate::store::Epoch;
use crate::store::Loaded;
use crate::store::Page;
use crate::store::Pending;
use crate::store::Record;
use crate::store::Seq;
use crate::store::Snapshot;
use crate::store::Store;
use crate::store::StoreError;
use crate::store::admit_memo;
use crate::store::answer;
use crate::store::local::data_dir::Lock;
use crate::store::postgres::address::Address;
use crate::store::postgres::keep::Keeper;
use crate::store::postgres::keep::Task;
use crate::store::postgres::line::Line;
use crate::store::postgres::link::Link;
use crate::store::postgres::link::Open;
use crate::store::postgres::link::Trouble;
use crate::store::postgres::outage::Outage;
use crate::store::postgres::read::Question;
use crate::store::postgres::read::Reader;
use crate::store::postgres::write::Append;
use crate::store::postgres::write::Job;
use crate::store::postgres::write::Writer;
use crate::store::ready;

/// Loads of large documents at the same time.
const READERS: usize = 4;
/// Threads for the connections, beside the one of the tasks.
const THREADS: usize = 1;
/// Between two tries to reach a database that starts at the same time as we do.
const START_PAUSE: Duration = Duration::from_millis(300);
/// Largest append. The protocol has room for a gigabyte, and the database takes several times as much memory.
const APPEND_BYTES_MAX: usize = 256 << 20;

/// How a database is opened.
#[derive(Debug, Clone)]
pub struct PostgresOptions {
    /// A `postgres://` address.
    pub url: Secret,
    /// The directory where this node keeps notes of its own, where it does: it is held while the store is open.
    pub own_dir: Option<PathBuf>,
    /// A database that is not there within this time is told to whoever started the server.
    pub start_within: Duration,
    /// Where commits are counted.
    pub metrics: Option<Arc<Metrics>>,
}

impl PostgresOptions {
    /// The defaults: 15 s to start, nothing beside the database.
    #[must_use]
    pub fn new(url: Secret) -> Self {
        Self { url, own_dir: None, start_within: Duration::from_secs(15), metrics: None }
    }
}

/// Why a database was not opened. No password is in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The address is wrong.
    #[error("the address is wrong: {0}")]
    Address(String),
    /// Nobody answered in time.
    #[error("{address} cannot be reached: {why}")]
    Unreachable {
        /// The database, without user and password.
        address: String,
        /// What went wrong last.
        why: String,
    },
    /// It answered, and refused.
    #[error("the database refuses: {0}")]
    Refused(String),
    /// A newer version of the program made the tables.
    #[error("the tables have version {found}, this program knows {known}: use the newer version of the program")]
    Newer {
        /// The version of the tables.
        found: u64,
        /// The newest that this program knows.
        known: u64,
    },
    /// The directory for notes cannot be held.
    #[error(transparent)]
    OwnDir(#[from] crate::store::local::OpenError),
    /// The system refused a thread.
    #[error("a thread of the store cannot be started: {0}")]
    Thread(String),
}

impl From<Trouble> for OpenError {
    fn from(trouble: Trouble) -> Self {
        Self::Refused(trouble.why())
    }
}

/// Whether an address can be understood.
///
/// # Errors
/// [`OpenError::Address`] says what is wrong with it.
pub fn check_url(url: &Secret) -> Result<(), OpenError> {
    Address::parse(url.reveal()).map(drop).map_err(OpenError::Address)
}

/// The store in a database.
pub struct PostgresStore {
    lines: Arc<Lines>,
    life: Mutex<Option<JoinHandle<()>>>,
    shown: String,
    identity: u64,
    _own_dir: Option<Lock>,
}

/// Where the tasks are asked.
struct Lines {
    writes: Arc<Line<Job>>,
    tasks: Arc<Line<Task>>,
    questions: Arc<Line<Question>>,
}

impl std::fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PostgresStore").field("address", &self.shown).finish_non_exhaustive()
    }
}

impl PostgresStore {
    /// Connects, and brings the tables up to date. Blocks, for [`PostgresOptions::start_within`] and what that takes.
    ///
    /// # Errors
    /// [`OpenError`] says what is wrong.
    pub fn open(options: PostgresOptions) -> Result<Self, OpenError> {
        let address = Arc::new(Address::parse(options.url.reveal()).map_err(OpenError::Address)?);
        let own_dir = options.own_dir.as_deref().map(Lock::on).transpose()?;
        let shown = address.shown.clone();
        let lines = Arc::new(Lines::new());
        let (tell, told) = mpsc::sync_channel(1);
        let served = Arc::clone(&lines);
        let serve = move || serve(&address, &served, options, &tell);
        let thread = thread::Builder::new().name("store-postgres".to_owned()).spawn(serve);
        let thread = thread.map_err(|error| OpenError::Thread(error.to_string()))?;
        let identity = told.recv().unwrap_or_else(|_| Err(OpenError::Thread("it died".to_owned())))?;
        Ok(Self { lines, life: Mutex::new(Some(thread)), shown, identity, _own_dir: own_dir })
    }

    fn life(&self) -> MutexGuard<'_, Option<JoinHandle<()>>> {
        self.life.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self, question: Question) {
        if let Err((question, error)) = self.lines.questions.push(question, 0) {
            question.refuse(error);
        }
    }

    /// `stands`: only where the document still does.
    fn delete_if(&self, doc: &DocName, stands: Option<(Epoch, Seq)>, memo: Bytes) -> Pending<bool> {
        if let Err(error) = admit_memo(&memo) {
            return ready(Err(error));
        }
        let (reply, done) = oneshot::channel();
        let bytes = memo.len();
        self.keep(Task::Delete { doc: doc.clone(), stands, memo, reply }, bytes);
        answer(done)
    }

    fn keep(&self, task: Task, bytes: usize) {
        if let Err((task, error)) = self.lines.tasks.push(task, bytes) {
            task.refuse(error);
        }
    }

    fn write(&self, job: Job, bytes: usize) {
        if let Err((job, error)) = self.lines.writes.push(job, bytes) {
            job.refuse(error);
        }
    }
}

impl Lines {
    fn new() -> Self {
        Self {
            writes: Arc::new(Line::new("write", write::LINE)),
            tasks: Arc::new(Line::new("compaction", keep::LINE)),
            questions: Arc::new(Line::new("read", read::LINE)),
        }
    }

    fn close(&self) {
        self.writes.close();
        self.tasks.close();
        self.questions.close();
    }
}

/// However the thread ends, nobody may stand in a line for ever.
struct CloseOnDrop<'a>(&'a Lines);

impl Drop for CloseOnDrop<'_> {
    fn drop(&mut self) {
        self.0.close();
        self.0.writes.drain().into_iter().for_each(|job| job.refuse(closed()));
        self.0.tasks.drain().into_iter().for_each(|task| task.refuse(closed()));
        self.0.questions.drain().into_iter().for_each(|question| question.refuse(closed()));
    }
}

/// The thread: connects, says how that went, and runs the tasks until their lines are closed and empty.
fn serve(
    address: &Arc<Address>,
    lines: &Lines,
    options: PostgresOptions,
    tell: &mpsc::SyncSender<Result<u64, OpenError>>,
) {
    let _closing = CloseOnDrop(lines);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(THREADS).enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return drop(tell.send(Err(OpenError::Thread(error.to_string())))),
    };
    let (open, identity) = match runtime.block_on(start(address, options.start_within)) {
        Ok(started) => started,
        Err(error) => return drop(tell.send(Err(error))),
    };
    let outage = Arc::new(Outage::none());
    let tasks = LocalSet::new();
    let writer = Writer::new(lines.writes.clone(), address.clone(), outage.clone(), options.metrics, open);
    tasks.spawn_local(writer.run());
    let link = Link::new(address.clone(), keep::MANNERS);
    tasks.spawn_local(Keeper { line: lines.tasks.clone(), link, outage: outage.clone() }.run());
    for _ in 0..READERS {
        let link = Link::new(address.clone(), read::MANNERS);
        tasks.spawn_local(Reader { line: lines.questions.clone(), link, outage: outage.clone() }.run());
    }
    let _ = tell.send(Ok(identity));
    runtime.block_on(tasks);
    // Connections that say goodbye to a database that does not listen are not waited for.
    runtime.shutdown_background();
}

/// The writer's connection, over which the tables are brought up to date first, and which store that is.
async fn start(address: &Address, within: Duration) -> Result<(Open, u64), OpenError> {
    let mut last = Trouble::Lost("it does not answer".to_owned());
    let starting = async {
        loop {
            match Open::to(address, write::MANNERS).await {
                Ok(open) => return Ok(open),
                Err(trouble) if will_not_pass(&trouble) => return Err(OpenError::from(trouble)),
                Err(trouble) => last = trouble,
            }
            tokio::time::sleep(START_PAUSE).await;
        }
    };
    match timeout(within, starting).await {
        Ok(open) => {
            let open = open?;
            let identity = schema::migrate(&open).await?;
            Ok((open, identity))
        }
        Err(_) => Err(OpenError::Unreachable { address: address.shown.clone(), why: last.why() }),
    }
}

/// A database that starts, or has no room for us just now, is asked again; a wrong password stays wrong.
fn will_not_pass(trouble: &Trouble) -> bool {
    let wrong = [
        SqlState::INVALID_PASSWORD,
        SqlState::INVALID_AUTHORIZATION_SPECIFICATION,
        SqlState::INVALID_CATALOG_NAME,
        SqlState::INSUFFICIENT_PRIVILEGE,
    ];
    wrong.iter().any(|code| trouble.has_code(code))
}

fn closed() -> StoreError {
    StoreError::Unavailable("the store is closed".to_owned())
}

impl Store for PostgresStore {
    fn append(&self, doc: &DocName, epoch: Epoch, records: Vec<Record>) -> Pending<Seq> {
        let bytes = records.iter().map(row::bytes_of).sum();
        if bytes > APPEND_BYTES_MAX {
            let why = format!("an append is larger than {APPEND_BYTES_MAX} bytes");
            return ready(Err(StoreError::Unavailable(why)));
        }
        let (reply, done) = oneshot::channel();
        self.write(Job::Append(Append { doc: doc.clone(), epoch, records, reply }), bytes);
        answer(done)
    }

    fn load(&self, doc: &DocName) -> Pending<Loaded> {
        self.load_after(doc, Seq(0))
    }

    fn load_after(&self, doc: &DocName, after: Seq) -> Pending<Loaded> {
        let (reply, done) = oneshot::channel();
        self.read(Question::Load { doc: doc.clone(), after, reply });
        answer(done)
    }

    fn compact(&self, doc: &DocName, epoch: Epoch, snapshot: Snapshot) -> Pending<()> {
        let (reply, done) = oneshot::channel();
        let bytes = snapshot.state.len() + snapshot.sidecar.len();
        self.keep(Task::Compact { doc: doc.clone(), epoch, snapshot, reply }, bytes);
        answer(done)
    }

    fn delete(&self, doc: &DocName, memo: Bytes) -> Pending<bool> {
        self.delete_if(doc, None, memo)
    }

    fn delete_as_of(&self, doc: &DocName, epoch: Epoch, through: Seq, memo: Bytes) -> Pending<bool> {
        self.delete_if(doc, Some((epoch, through)), memo)
    }

    fn revive(&self, doc: &DocName) -> Pending<Epoch> {
        let (reply, done) = oneshot::channel();
        self.keep(Task::Revive { doc: doc.clone(), reply }, 0);
        answer(done)
    }

    fn list(&self, prefix: &str, after: Option<&DocName>, limit: usize) -> Pending<Page> {
        let (reply, done) = oneshot::channel();
        self.read(Question::List { prefix: prefix.to_owned(), after: after.cloned(), limit, reply });
        answer(done)
    }

    fn probe(&self) -> Pending<()> {
        let (reply, done) = oneshot::channel();
        self.write(Job::Probe { reply }, 0);
        answer(done)
    }

    fn identity(&self) -> u64 {
        self.identity
    }

    fn close(&self) -> Pending<()> {
        let Some(thread) = self.life().take() else { return ready(Err(closed())) };
        // What is called from here on is refused; what was called before is finished by the tasks.
        self.lines.close();
        let (reply, done) = oneshot::channel();
        let died = |_| StoreError::Unavailable("a thread of the store died".to_owned());
        let closing = move || drop(reply.send(thread.join().map_err(died)));
        match thread::Builder::new().name("store-close".to_owned()).spawn(closing) {
            Ok(_) => answer(done),
            Err(error) => ready(Err(no_thread(&error))),
        }
    }
}

fn no_thread(error: &io::Error) -> StoreError {
    StoreError::Unavailable(format!("no thread to close the store: {error}"))
}

impl Drop for PostgresStore {
    /// A store that was not closed finishes what it was asked.
    fn drop(&mut self) {
        if let Some(thread) = self.life().take() {
            self.lines.close();
            // A thread that died has answered by dropping its replies.
            let _ = thread.join();
        }
    }
}
