//! The loop around one document's [`Core`]: it brings inputs in batches and carries effects out. It decides nothing.
//!
//! It waits for the inbox, for the store and for time, never for a reader. A full inbox makes the sockets wait that feed it.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use futures_util::FutureExt;
use syncline_protocol::ErrorCode;
use syncline_protocol::channel::Access;
use syncline_protocol::channel::ChannelId;
use syncline_protocol::channel::DocumentMessage;
use syncline_protocol::channel::ServerMessage;
use syncline_protocol::y_websocket;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::Semaphore;
use tokio::sync::mpsc;
use tokio::sync::oneshot;

use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::name::DocName;
use crate::outbox::Outbox;
use crate::store::Store;
use crate::store::StoreError;

use super::compact;
use super::core::Compacted;
use super::core::Core;
use super::core::CoreSettings;
use super::core::Effect;
use super::core::Event;
use super::core::Guards;
use super::core::Input;
use super::core::Lost;
use super::core::ReaderId;
use super::core::Ticket;
use super::inflight::Work;
use super::replica::Deleted;
use super::request::Answer;
use super::request::Member;
use super::request::Refusal;
use super::request::Request;

/// Messages that wait for one document. Full: the connections that feed it are read more slowly.
pub const INBOX_MESSAGES_MAX: usize = 1024;
/// Messages handled before the effects are carried out: enough to make large batches of small updates, few enough that
/// the first of them does not wait long.
const BATCH_MAX: usize = 256;

/// What arrives in a document's inbox.
#[derive(Debug)]
pub enum Mail {
    /// A channel joins.
    Join {
        /// Its number.
        reader: ReaderId,
        /// What it may do.
        access: Access,
        /// Who it is.
        member: Option<Member>,
        /// Where it hears.
        port: Port,
    },
    /// A channel's rights changed.
    Rights {
        /// Which.
        reader: ReaderId,
        /// To what.
        access: Access,
    },
    /// A channel leaves.
    Leave {
        /// Which.
        reader: ReaderId,
    },
    /// A channel says something.
    Message {
        /// Which.
        reader: ReaderId,
        /// What.
        message: DocumentMessage,
        /// Counts its bytes against the inbox bounds until it was handled.
        room: Option<Room>,
    },
    /// A channel that lost something has read everything.
    Drained {
        /// Which.
        reader: ReaderId,
    },
    /// Somebody asks something.
    Ask {
        /// What.
        request: Request,
        /// Where the answer goes.
        reply: oneshot::Sender<Result<Answer, Refusal>>,
    },
}

/// A message's share of the bounds on what waits to be handled. Dropping it gives the share back.
#[derive(Debug)]
pub struct Room {
    /// Of the document's inbox.
    pub own: OwnedSemaphorePermit,
    /// Of all inboxes together.
    pub common: OwnedSemaphorePermit,
}

/// How a document reaches one of its channels.
#[derive(Debug, Clone)]
pub struct Port {
    /// The connection's outbox.
    pub outbox: Arc<Outbox>,
    /// The channel on that connection.
    pub channel: ChannelId,
}

/// What every document of a process shares.
#[derive(Clone)]
pub struct Surroundings {
    /// Where documents are kept.
    pub store: Arc<dyn Store>,
    /// The clock.
    pub clock: Clock,
    /// What the cores are told.
    pub settings: CoreSettings,
    /// The nets under the engine.
    pub guards: Guards,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Compactions at the same time, over all documents.
    pub compactions: Arc<Semaphore>,
}

/// Asked when a document wants to leave memory: whether nobody holds it any more. Under the hub's lock.
pub type Release = Box<dyn Fn(&mpsc::Receiver<Mail>) -> bool + Send>;

type Running<T> = Option<Pin<Box<dyn Future<Output = T> + Send>>>;

/// One document at work.
pub struct Actor {
    name: DocName,
    around: Surroundings,
    inbox: mpsc::Receiver<Mail>,
    release: Release,
    core: Core<Port>,
    effects: Vec<Effect>,
    asked: HashMap<Ticket, oneshot::Sender<Result<Answer, Refusal>>>,
    tickets: u64,
    asking_store: Running<Input<Port>>,
    appending: Running<Input<Port>>,
    compacting: Running<Result<Compacted, StoreError>>,
    /// When the first update that is in no append yet came in.
    accepted_at: Option<Instant>,
    retired: bool,
}

impl Actor {
    /// A document that will load itself.
    #[must_use]
    pub fn new(name: DocName, around: Surroundings, inbox: mpsc::Receiver<Mail>, release: Release) -> Self {
        let mut effects = Vec::new();
        let core = Core::new(name.clone(), around.settings.clone(), around.guards.clone(), &mut effects);
        Self {
            name,
            around,
            inbox,
            release,
            core,
            effects,
            asked: HashMap::new(),
            tickets: 0,
            asking_store: None,
            appending: None,
            compacting: None,
            accepted_at: None,
            retired: false,
        }
    }

    /// Runs until nobody needs the document.
    pub async fn run(mut self) {
        let mut mails = Vec::with_capacity(BATCH_MAX);
        self.settle();
        while !self.retired {
            let Some(input) = self.next(&mut mails).await else { break };
            let batch_began = Instant::now();
            if let Some(input) = input {
                self.core.handle(self.around.clock.now(), input, &mut self.effects);
            }
            // Dropping a mail gives its room in the inbox back, so each is dropped as soon as it was handled.
            let mut batch = mails.drain(..).collect::<std::collections::VecDeque<_>>();
            while let Some(mail) = batch.pop_front() {
                self.deliver(mail);
                if self.core.awaits_store() {
                    self.finish_batch();
                    self.wait_for_store().await;
                }
            }
            let merged = self.effects.iter().filter(|effect| matches!(effect, Effect::Count(Event::Applied))).count();
            if merged > 0 {
                self.accepted_at.get_or_insert(batch_began);
                self.around.metrics.update_apply.record(batch_began.elapsed());
            }
            self.finish_batch();
            if merged > 0 {
                self.around.metrics.update_deliver.record(batch_began.elapsed());
            }
        }
    }

    /// Waits for the next thing: an answer of the store, mail, or time. Store answers come first: they free what waits.
    async fn next(&mut self, mails: &mut Vec<Mail>) -> Option<Option<Input<Port>>> {
        let deadline = self.core.deadline().map(|moment| self.around.clock.instant(moment).into());
        tokio::select! {
            biased;
            input = running(&mut self.asking_store) => Some(Some(input)),
            input = running(&mut self.appending) => Some(Some(input)),
            result = running(&mut self.compacting) => Some(Some(Input::Compacted(result))),
            count = self.inbox.recv_many(mails, BATCH_MAX), if !self.core.awaits_store() => {
                if count == 0 { None } else { Some(None) }
            }
            () = sleep_until(deadline) => Some(Some(Input::Tick)),
        }
    }

    async fn wait_for_store(&mut self) {
        while self.core.awaits_store() {
            let Some(Some(input)) = self.next(&mut Vec::new()).await else { return };
            self.core.handle(self.around.clock.now(), input, &mut self.effects);
            self.finish_batch();
        }
    }

    fn deliver(&mut self, mail: Mail) {
        let now = self.around.clock.now();
        let (input, room) = match mail {
            Mail::Join { reader, access, member, port } => (Input::Join { reader, access, member, port }, None),
            Mail::Rights { reader, access } => (Input::Rights { reader, access }, None),
            Mail::Leave { reader } => (Input::Leave { reader }, None),
            Mail::Message { reader, message, room } => (Input::Message { reader, message }, room),
            Mail::Drained { reader } => (Input::Drained { reader }, None),
            Mail::Ask { request, reply } => {
                self.tickets += 1;
                let ticket = Ticket(self.tickets);
                self.asked.insert(ticket, reply);
                (Input::Ask { ticket, request }, None)
            }
        };
        self.core.handle(now, input, &mut self.effects);
        drop(room);
    }

    fn finish_batch(&mut self) {
        self.core.flush(self.around.clock.now(), &mut self.effects);
        self.settle();
    }

    /// Carries out the effects, and those that follow from what did not fit.
    fn settle(&mut self) {
        while !self.effects.is_empty() {
            for effect in std::mem::take(&mut self.effects) {
                self.perform(effect);
            }
        }
        self.core.settled();
    }

    fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Load => self.ask_store(|store, doc| Box::pin(store.load(doc).map(Input::Loaded))),
            Effect::Delete => self.ask_store(|store, doc| Box::pin(store.delete(doc).map(Input::Erased))),
            Effect::Revive => self.ask_store(|store, doc| Box::pin(store.revive(doc).map(Input::Revived))),
            Effect::Append { batch, epoch, records } => {
                let (metrics, started, count) = (self.around.metrics.clone(), Instant::now(), records.len());
                let accepted = self.accepted_at.take().unwrap_or(started);
                let append = self.around.store.append(&self.name, epoch, records);
                self.appending = Some(Box::pin(append.map(move |result| {
                    match &result {
                        Ok(_) => {
                            metrics.committed(count, started.elapsed());
                            metrics.update_commit.record(accepted.elapsed());
                        }
                        Err(_) => metrics.store_failures.increment(1),
                    }
                    Input::Appended { batch, result }
                })));
            }
            Effect::Compact { epoch } => {
                let work = compact(self.name.clone(), epoch, self.around.clone());
                self.compacting = Some(Box::pin(work));
            }
            Effect::Broadcast { update, except } => self.broadcast(&update, &except),
            Effect::BroadcastAwareness(entries) => self.broadcast_awareness(entries),
            Effect::Change { reader, update } if self.core.is_whole(reader) => {
                let frame = y_websocket::encode(&ServerMessage::Update(update));
                self.push(reader, frame, || Lost::Change);
            }
            Effect::Change { reader, .. } => self.lost(reader, Lost::Change),
            Effect::Echo { reader, update } => {
                let frame = y_websocket::encode(&ServerMessage::Update(update.clone()));
                self.push(reader, frame, || Lost::Echo(update));
            }
            Effect::State { reader, have, answer, parts } => {
                let frames: Arc<[Bytes]> = parts.iter().map(y_websocket::encode).collect();
                let pushed = self.core.port(reader).is_none_or(|port| port.outbox.push_parts(port.channel, frames));
                if !pushed {
                    self.lost(reader, Lost::State { have, answer });
                }
            }
            Effect::Step1 { reader, state_vector } => {
                if let Some(port) = self.core.port(reader) {
                    port.outbox.push_control(y_websocket::encode(&ServerMessage::SyncStep1(state_vector)));
                }
            }
            Effect::Awareness { reader, entries } => {
                let frame = y_websocket::encode(&ServerMessage::Awareness(entries));
                let pushed = self.core.port(reader).is_none_or(|port| port.outbox.push_awareness(port.channel, frame));
                if !pushed {
                    self.lost(reader, Lost::Awareness);
                }
            }
            Effect::Deny { reader, code } => {
                self.around.metrics.refused(code);
                if let Some(port) = self.core.port(reader) {
                    port.outbox.push_control(y_websocket::permission_denied(code.word()));
                }
            }
            Effect::Answer { ticket, result } => {
                if let Some(reply) = self.asked.remove(&ticket) {
                    let _ = reply.send(result); // The asker may have hung up.
                }
            }
            Effect::End { reader, code } => self.end(reader, code),
            Effect::Retire => self.retire(),
            Effect::Count(event) => self.count(event),
        }
    }

    fn ask_store(
        &mut self,
        question: impl FnOnce(&dyn Store, &DocName) -> Pin<Box<dyn Future<Output = Input<Port>> + Send>>,
    ) {
        self.asking_store = Some(question(self.around.store.as_ref(), &self.name));
    }

    /// One frame, made once, for everybody who is whole.
    fn broadcast(&mut self, update: &Bytes, except: &[ReaderId]) {
        let frame = y_websocket::encode(&ServerMessage::Update(update.clone()));
        let full: Vec<ReaderId> = self
            .core
            .whole_readers()
            .filter(|(reader, port)| !except.contains(reader) && !port.outbox.push(port.channel, frame.clone()))
            .map(|(reader, _)| reader)
            .collect();
        for reader in full {
            self.lost(reader, Lost::Change);
        }
    }

    fn broadcast_awareness(&mut self, entries: Bytes) {
        let frame = y_websocket::encode(&ServerMessage::Awareness(entries));
        let full: Vec<ReaderId> = self
            .core
            .readers()
            .filter(|(_, port)| !port.outbox.push_awareness(port.channel, frame.clone()))
            .map(|(reader, _)| reader)
            .collect();
        for reader in full {
            self.lost(reader, Lost::Awareness);
        }
    }

    fn push(&mut self, reader: ReaderId, frame: Bytes, lost: impl FnOnce() -> Lost) {
        let pushed = self.core.port(reader).is_none_or(|port| port.outbox.push(port.channel, frame));
        if !pushed {
            self.lost(reader, lost());
        }
    }

    fn lost(&mut self, reader: ReaderId, lost: Lost) {
        let now = self.around.clock.now();
        self.core.handle(now, Input::Overflowed { reader, lost }, &mut self.effects);
    }

    fn end(&mut self, reader: ReaderId, code: ErrorCode) {
        self.around.metrics.refused(code);
        if let Some(port) = self.core.port(reader) {
            port.outbox.end(port.channel, code);
        }
    }

    fn count(&self, event: Event) {
        let metrics = &self.around.metrics;
        match event {
            Event::Applied => {}
            Event::Refused => metrics.poison_refusals.increment(1),
            Event::OutOfOrder => metrics.updates_out_of_order.increment(1),
            Event::WaitingDropped => metrics.updates_pending_dropped.increment(1),
            Event::Poisoned => {
                metrics.document_reloads.increment(1);
                tracing::error!(event = "document_poisoned", channel_id = %self.name);
            }
            Event::Lagging => metrics.lagging.increment(1),
            Event::CaughtUp => metrics.lag_resyncs.increment(1),
            Event::AppendFailed => tracing::warn!(event = "append_failed", channel_id = %self.name),
        }
    }

    fn retire(&mut self) {
        self.retired = (self.release)(&self.inbox);
        if !self.retired {
            self.core.stay(self.around.clock.now());
        }
    }
}

/// Loads what is stored, builds the snapshot away from the async threads, stores it.
async fn compact(doc: DocName, epoch: crate::store::Epoch, around: Surroundings) -> Result<Compacted, StoreError> {
    let Surroundings { store, guards, metrics, compactions, .. } = around;
    let room = compactions.acquire_owned().await;
    let loaded = store.load(&doc).await?;
    let started = Instant::now();
    let building = doc.clone();
    let built = tokio::task::spawn_blocking(move || {
        let _room = room;
        let deleted =
            if guards.quarantine.keeps_deleted(building.as_str()) { Deleted::Kept } else { Deleted::Collected };
        let _flight = guards.inflight.begin(Work::Compact, building.as_str(), None, &[]);
        compact::build(&loaded, deleted)
    });
    let built = built.await.map_err(|_| StoreError::Conflict("the snapshot could not be built".into()))?;
    let Some(snapshot) = built.map_err(|_| StoreError::Conflict("the snapshot is not the document".into()))? else {
        return Err(StoreError::Conflict("nothing is stored".into()));
    };
    let done = Compacted { through: snapshot.through, state_bytes: snapshot.state.len() };
    let result = store.compact(&doc, epoch, snapshot).await;
    match &result {
        Ok(()) => metrics.compactions.increment(1),
        Err(error) => tracing::warn!(event = "compaction_failed", channel_id = %doc, %error),
    }
    tracing::debug!(event = "compacted", channel_id = %doc, bytes = done.state_bytes, took = ?started.elapsed());
    result.map(|()| done)
}

/// The result of something under way; for ever if nothing is.
async fn running<T>(work: &mut Running<T>) -> T {
    match work {
        Some(future) => {
            let result = future.await;
            *work = None;
            result
        }
        None => std::future::pending().await,
    }
}

async fn sleep_until(deadline: Option<tokio::time::Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
