//! The store, or an engine behind a thread that does group commit for it, behind one face.

use std::path::Path;
use std::sync::mpsc;
use std::thread::JoinHandle;

use anyhow::Context;
use anyhow::Result;
use anyhow::anyhow;
use bytes::Bytes;
use syncline::name::DocName;
use syncline::store::Epoch;
use syncline::store::LocalOptions;
use syncline::store::LocalStore;
use syncline::store::Record;
use syncline::store::Seq;
use syncline::store::Snapshot;
use syncline::store::Store;
use syncline::store::record;
use tokio::sync::oneshot;

use crate::engines::Engine;
use crate::engines::Entry;
use crate::engines::Folded;
use crate::engines::Kept;
use crate::engines::Kind;

/// One transaction takes at most this much, like a round of the store.
const GROUP_BYTES_MAX: usize = 16 << 20;

/// What is measured.
pub(crate) enum Subject {
    Store(LocalStore),
    Engine(Grouped),
}

/// A document as it was read back.
#[derive(Debug, Default)]
pub(crate) struct Document {
    pub(crate) snapshot: Bytes,
    pub(crate) records: Vec<Record>,
}

impl Subject {
    pub(crate) fn open(kind: Kind, dir: &Path) -> Result<Self> {
        Ok(match kind {
            Kind::Ours => Self::Store(LocalStore::open(LocalOptions::new(dir))?),
            _ => Self::Engine(Grouped::start(kind.open(dir)?)?),
        })
    }

    /// Appends a batch; `last` is the number of its last record. Durable when it returns.
    pub(crate) async fn append(&self, doc: &DocName, last: u64, batch: Vec<Record>) -> Result<()> {
        match self {
            Self::Store(store) => {
                let seq = store.append(doc, Epoch::default(), batch).await?;
                anyhow::ensure!(seq == Seq(last), "{doc}: {seq:?} was answered, {last} expected");
                Ok(())
            }
            Self::Engine(engine) => {
                let value = Bytes::from(record::encode_records(&batch)?);
                let entry = Entry { doc: doc.clone(), seq: last, value };
                engine.ask(|reply| Command::Append(entry, reply)).await
            }
        }
    }

    /// Puts a snapshot in place of the records up to `through`.
    pub(crate) async fn fold(&self, doc: &DocName, through: u64, state: Bytes) -> Result<()> {
        match self {
            Self::Store(store) => {
                let snapshot = Snapshot { state, through: Seq(through), sidecar: Bytes::new() };
                Ok(store.compact(doc, Epoch::default(), snapshot).await?)
            }
            Self::Engine(engine) => {
                let folded = Folded { doc: doc.clone(), through, state };
                engine.ask(|reply| Command::Fold(folded, reply)).await
            }
        }
    }

    pub(crate) async fn load(&self, doc: &DocName) -> Result<Document> {
        match self {
            Self::Store(store) => {
                let loaded = store.load(doc).await?;
                let snapshot = loaded.snapshot.map(|snapshot| snapshot.state).unwrap_or_default();
                Ok(Document { snapshot, records: loaded.records.into_iter().map(|(_, record)| record).collect() })
            }
            Self::Engine(engine) => {
                let doc = doc.clone();
                let kept = engine.ask(|reply| Command::Load(doc, reply)).await?;
                decode(kept)
            }
        }
    }

    /// Closes it, when everything that it works on by itself is done.
    pub(crate) async fn close(self) -> Result<()> {
        match self {
            Self::Store(store) => Ok(store.close().await?),
            Self::Engine(engine) => engine.stop(),
        }
    }
}

fn decode(kept: Kept) -> Result<Document> {
    let mut records = Vec::new();
    for value in &kept.values {
        records.extend(record::decode_records(value)?);
    }
    Ok(Document { snapshot: kept.snapshot, records })
}

type Reply<T> = oneshot::Sender<Result<T>>;

enum Command {
    Append(Entry, Reply<()>),
    Fold(Folded, Reply<()>),
    Load(DocName, Reply<Kept>),
}

/// An engine with one thread that takes whatever waits and commits it as one group.
pub(crate) struct Grouped {
    /// As many wait as there are documents with something in flight.
    line: mpsc::Sender<Command>,
    thread: JoinHandle<()>,
}

impl Grouped {
    fn start(engine: Box<dyn Engine>) -> Result<Self> {
        let (line, commands) = mpsc::channel();
        let thread = std::thread::Builder::new().name("engine".to_owned()).spawn(move || serve(engine, &commands))?;
        Ok(Self { line, thread })
    }

    async fn ask<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        self.line.send(command(reply)).map_err(|_| anyhow!("the engine has stopped"))?;
        answer.await.context("the engine has stopped")?
    }

    fn stop(self) -> Result<()> {
        drop(self.line);
        self.thread.join().map_err(|_| anyhow!("the engine's thread died"))
    }
}

/// What one transaction will make durable, and who waits for it.
#[derive(Default)]
struct Group {
    entries: Vec<Entry>,
    folded: Vec<Folded>,
    bytes: usize,
    waiting: Vec<Reply<()>>,
}

fn serve(mut engine: Box<dyn Engine>, commands: &mpsc::Receiver<Command>) {
    while let Ok(first) = commands.recv() {
        let mut group = Group::default();
        take(engine.as_mut(), &mut group, first);
        while group.bytes < GROUP_BYTES_MAX
            && let Ok(next) = commands.try_recv()
        {
            take(engine.as_mut(), &mut group, next);
        }
        let outcome = commit(engine.as_mut(), &group);
        for reply in group.waiting {
            let _ = reply.send(outcome.as_ref().copied().map_err(|error| anyhow!("{error:#}")));
        }
    }
}

fn take(engine: &mut dyn Engine, group: &mut Group, command: Command) {
    match command {
        Command::Append(entry, reply) => {
            group.bytes += entry.value.len();
            group.entries.push(entry);
            group.waiting.push(reply);
        }
        Command::Fold(folded, reply) => {
            group.bytes += folded.state.len();
            group.folded.push(folded);
            group.waiting.push(reply);
        }
        Command::Load(doc, reply) => drop(reply.send(engine.load(&doc))),
    }
}

fn commit(engine: &mut dyn Engine, group: &Group) -> Result<()> {
    if !group.entries.is_empty() {
        engine.commit(&group.entries)?;
    }
    if !group.folded.is_empty() {
        engine.fold(&group.folded)?;
    }
    Ok(())
}
