//! The loop around one document's [`Core`]: it brings inputs in batches and carries effects out. It decides nothing.
//!
//! It waits for the inbox, for the store and for time, never for a reader. A full inbox makes the sockets wait that feed it.

use std::collections::HashMap;
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use bytes::Bytes;
use futures_util::FutureExt;
use syncline_protocol::ErrorCode;
use syncline_protocol::channel::ServerMessage;
use tokio::runtime::Handle;
use tokio::runtime::RuntimeFlavor;
use tokio::sync::oneshot;

use crate::clock::Now;
use crate::name::DocName;
use crate::store::Store;
use crate::store::StoreError;
use crate::table::events::Publisher;

use super::core::Compacted;
use super::core::Core;
use super::core::Effect;
use super::core::Event;
use super::core::Input;
use super::core::Lost;
use super::core::ReaderId;
use super::core::Ticket;
use super::inbox::Inbox;
use super::job::HEAVY_BYTES;
use super::mail::Mail;
use super::mail::PeerMail;
use super::memory::Share;
use super::port::Encoded;
use super::port::Port;
use super::request::Answer;
use super::request::Refusal;
use super::request::Request;
use super::surroundings::Surroundings;
use super::touched::Touched;
use super::work;

/// Mails that wait for one document. Full: the connections that feed it are read more slowly.
pub const INBOX_MAILS_MAX: usize = 1024;
/// What other nodes say and is not handled yet. Full: it is lost, and found missing.
pub const PEER_MAILS_MAX: usize = 1024;
/// Messages handled before the effects are carried out: enough to make large batches of small updates, few enough that
/// the first of them does not wait long.
const BATCH_MAX: usize = 512;

/// Asked when a document wants to leave memory: whether nobody holds it any more. Under the hub's lock.
pub type Release = Box<dyn Fn(&Inbox<Mail>) -> bool + Send>;

/// Where an actor hears from others.
pub struct Lanes {
    /// Clients, and whoever asks something.
    pub mail: Inbox<Mail>,
    /// Other nodes.
    pub peers: Inbox<PeerMail>,
    /// Set when something of other nodes was lost.
    pub missed: Arc<AtomicBool>,
}

type Running<T> = Option<Pin<Box<dyn Future<Output = T> + Send>>>;

/// One document at work.
pub struct Actor {
    name: DocName,
    around: Arc<Surroundings>,
    inbox: Inbox<Mail>,
    peers: Inbox<PeerMail>,
    missed: Arc<AtomicBool>,
    /// Taken from the inbox, and not handled yet.
    mails: VecDeque<Mail>,
    release: Release,
    core: Core<Port>,
    effects: Vec<Effect>,
    touched: Touched,
    asked: HashMap<Ticket, oneshot::Sender<Result<Answer, Refusal>>>,
    tickets: u64,
    /// An answer of the store, or a job: the core waits for one thing at a time.
    asking_store: Running<Input<Port>>,
    appending: Running<Input<Port>>,
    compacting: Running<Result<Compacted, StoreError>>,
    pulling: Running<Input<Port>>,
    /// Whether this document's topic on the bus is listened to.
    listens: bool,
    said: VecDeque<PeerMail>,
    /// When the first update that is in no append yet came in.
    accepted_at: Option<Instant>,
    share: Share,
    /// The document's room, once it is loaded.
    publisher: Option<Arc<dyn Publisher>>,
    retired: bool,
}

impl Actor {
    /// A document that will load itself.
    #[must_use]
    pub fn new(name: DocName, around: Arc<Surroundings>, lanes: Lanes, release: Release) -> Self {
        let mut effects = Vec::new();
        let core = Core::new(name.clone(), around.settings.clone(), around.guards.clone(), &mut effects);
        Self {
            share: around.memory.share(),
            name,
            around,
            inbox: lanes.mail,
            peers: lanes.peers,
            missed: lanes.missed,
            mails: VecDeque::new(),
            release,
            core,
            effects,
            touched: Touched::default(),
            asked: HashMap::new(),
            tickets: 0,
            asking_store: None,
            appending: None,
            compacting: None,
            pulling: None,
            listens: false,
            said: VecDeque::new(),
            accepted_at: None,
            publisher: None,
            retired: false,
        }
    }

    /// Runs until nobody needs the document.
    pub async fn run(mut self: Box<Self>) {
        self.settle();
        while !self.retired {
            let Some(input) = self.next().await else { break };
            let batch_began = Instant::now();
            let now = self.around.clock.now();
            match &input {
                Some(Input::Loaded(Ok(loaded))) => self.open_room(loaded),
                Some(Input::Erased(Ok(true))) => self.tell_deletion(now),
                _ => {}
            }
            self.listen();
            if let Some(input) = input {
                self.handle(now, input);
            }
            self.take_batch(now);
            let merged = self.effects.contains(&Effect::Count(Event::Applied));
            if merged {
                self.accepted_at.get_or_insert(batch_began);
                self.around.metrics.update_apply.record(batch_began.elapsed());
            }
            self.core.flush(now, &mut self.effects);
            self.settle();
            if merged {
                self.around.metrics.update_deliver.record(batch_began.elapsed());
            }
            self.share.report(self.core.memory_bytes(), self.core.is_idle());
        }
        self.let_go();
    }

    /// Waits for the next thing: an answer of the store, mail, or time. Store answers come first: they free what waits.
    async fn next(&mut self) -> Option<Option<Input<Port>>> {
        let deadline = self.core.deadline().map(|moment| self.around.clock.instant(moment).into());
        let takes_mail = self.takes_mail();
        let takes_peers = !self.core.awaits_store() && !self.core.awaits_engine();
        tokio::select! {
            biased;
            input = running(&mut self.asking_store) => Some(Some(input)),
            input = running(&mut self.appending) => Some(Some(input)),
            result = running(&mut self.compacting) => Some(Some(Input::Compacted(result))),
            input = running(&mut self.pulling), if takes_peers => Some(Some(input)),
            () = std::future::ready(()), if takes_mail && !self.mails.is_empty() => Some(None),
            count = self.inbox.receive(&mut self.mails, BATCH_MAX), if takes_mail => {
                if count == 0 { None } else { Some(None) }
            }
            count = self.peers.receive(&mut self.said, BATCH_MAX), if takes_peers => {
                if count == 0 { None } else { Some(None) }
            }
            () = self.share.asked_to_leave() => Some(Some(Input::Unload)),
            () = sleep_until(deadline) => Some(Some(Input::Tick)),
        }
    }

    /// Hands the core what one batch may hold of the mail, unless it has to wait for the store in between.
    fn take_batch(&mut self, now: Now) {
        self.take_from_peers(now);
        let mut left = BATCH_MAX;
        while left > 0 && self.takes_mail() {
            left -= 1;
            // Dropping a mail gives its room in the inbox back, so that is done as soon as it was handled.
            let Some(input) = self.next_input() else { return };
            self.handle(now, input);
        }
    }

    /// Thousands of records in one request keep the engine busy for a while: the other documents of this thread go to
    /// another one meanwhile, where there is one.
    fn handle(&mut self, now: Now, input: Input<Port>) {
        let weighty = matches!(&input, Input::Ask { request: Request::Table(asked), .. } if asked.is_weighty());
        if weighty && Handle::current().runtime_flavor() == RuntimeFlavor::MultiThread {
            tokio::task::block_in_place(|| self.core.handle(now, input, &mut self.effects));
        } else {
            self.core.handle(now, input, &mut self.effects);
        }
    }

    fn takes_mail(&self) -> bool {
        !self.core.awaits_store() && !self.core.awaits_peers() && !self.must_wait()
    }

    /// Whether the next message, and everything behind it, waits until the engine has read the document.
    fn must_wait(&self) -> bool {
        match self.mails.front() {
            Some(Mail::Messages { messages, .. }) => {
                messages.as_slice().first().is_some_and(|message| self.core.must_wait(Some(message)))
            }
            Some(Mail::Ask { .. }) => self.core.must_wait(None),
            Some(Mail::Join { .. } | Mail::Rights { .. } | Mail::Leave { .. } | Mail::Drained { .. }) | None => false,
        }
    }

    fn next_input(&mut self) -> Option<Input<Port>> {
        loop {
            if let Mail::Messages { reader, messages, .. } = self.mails.front_mut()?
                && let Some(message) = messages.next()
            {
                return Some(Input::Message { reader: *reader, message });
            }
            match self.mails.pop_front()? {
                Mail::Messages { .. } => {} // All of it was handled.
                Mail::Join { reader, access, member, port } => {
                    return Some(Input::Join { reader, access, receipt: port.receipt(), member, port });
                }
                Mail::Rights { reader, access } => return Some(Input::Rights { reader, access }),
                Mail::Leave { reader } => return Some(Input::Leave { reader }),
                Mail::Drained { reader } => return Some(Input::Drained { reader }),
                Mail::Ask { request, reply } => {
                    self.tickets += 1;
                    let ticket = Ticket(self.tickets);
                    self.asked.insert(ticket, reply);
                    return Some(Input::Ask { ticket, request });
                }
            }
        }
    }

    /// Carries out the effects, and those that follow from what did not fit; then writes.
    fn settle(&mut self) {
        while !self.effects.is_empty() {
            for effect in std::mem::take(&mut self.effects) {
                self.perform(effect);
            }
        }
        self.core.settled();
        self.write_touched();
    }

    fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Run(job) => self.asking_store = Some(Box::pin(work::run(job, self.around.jobs.clone()))),
            Effect::Load => self.asking_store = Some(self.load()),
            Effect::Pull { after } => self.pull(after),
            Effect::Tell(message) => self.tell_peers(&message),
            Effect::Delete { ending } => {
                let deletion = delete::delete(self.around.store.clone(), self.name.clone(), ending);
                self.asking_store = Some(Box::pin(deletion.map(Input::Erased)));
            }
            Effect::Revive => self.ask_store(|store, doc| Box::pin(store.revive(doc).map(Input::Revived))),
            Effect::Append { batch, epoch, records } => {
                let metrics = self.around.metrics.clone();
                let accepted = self.accepted_at.take().unwrap_or_else(Instant::now);
                let append = self.around.store.append(&self.name, epoch, records);
                self.appending = Some(Box::pin(append.map(move |result| {
                    match &result {
                        Ok(_) => metrics.update_commit.record(accepted.elapsed()),
                        Err(_) => metrics.store_failures.increment(1),
                    }
                    Input::Appended { batch, result }
                })));
            }
            Effect::Compact { epoch } => {
                let snapshot = work::compact(self.name.clone(), epoch, self.around.clone());
                self.compacting = Some(Box::pin(snapshot));
            }
            Effect::Broadcast { update, except } => self.broadcast(&update, &except),
            Effect::BroadcastAwareness(entries) => self.broadcast_awareness(entries),
            Effect::Change { reader, update } if self.core.is_whole(reader) => {
                self.push(reader, &ServerMessage::Update(update), || Lost::Change);
            }
            Effect::Change { reader, .. } => self.lost(reader, Lost::Change),
            Effect::Echo { reader, update } => {
                self.push(reader, &ServerMessage::Update(update.clone()), || Lost::Echo(update));
            }
            Effect::Status { reader, saved, count } => {
                self.touched.add(reader);
                let lost = self.core.port(reader).map_or(0, |port| port.push_statuses(saved, count));
                // What counts for nothing has nothing to be sure of; a client that does not read hears it once at most.
                if lost > 0 && saved {
                    self.lost(reader, Lost::Status(lost));
                }
            }
            Effect::Stateless { from, payload } => self.spread(from, &payload),
            Effect::State { reader, have, answer, parts } => {
                self.touched.add(reader);
                if !self.core.port(reader).is_none_or(|port| port.push_state(&parts)) {
                    self.lost(reader, Lost::State { have, answer });
                }
            }
            Effect::Step1 { reader, state_vector } => {
                self.touched.add(reader);
                if let Some(port) = self.core.port(reader) {
                    port.push_step1(state_vector);
                }
            }
            Effect::Awareness { reader, entries } => {
                self.touched.add(reader);
                let mut message = Encoded::new(&ServerMessage::Awareness(entries));
                if !self.core.port(reader).is_none_or(|port| port.push_awareness(&mut message)) {
                    self.lost(reader, Lost::Awareness);
                }
            }
            Effect::Deny { reader, code } => {
                self.touched.add(reader);
                self.around.metrics.refused(code);
                if let Some(port) = self.core.port(reader) {
                    port.push_denial(code);
                }
            }
            Effect::Publish { epoch, seq, change } => {
                if let Some(publisher) = &self.publisher {
                    publisher.changed(epoch, seq, *change);
                }
            }
            Effect::Presence { reader, presence } => self.tell_presence(reader, presence),
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
        self.touched = Touched::All;
        let mut message = Encoded::new(&ServerMessage::Update(update.clone()));
        let full: Vec<ReaderId> = self
            .core
            .whole_readers()
            .filter(|(reader, port)| !except.contains(reader) && !port.push(&mut message))
            .map(|(reader, _)| reader)
            .collect();
        for reader in full {
            self.lost(reader, Lost::Change);
        }
    }

    fn broadcast_awareness(&mut self, entries: Bytes) {
        self.touched = Touched::All;
        let mut message = Encoded::new(&ServerMessage::Awareness(entries));
        let full: Vec<ReaderId> = self
            .core
            .readers()
            .filter(|(_, port)| !port.push_awareness(&mut message))
            .map(|(reader, _)| reader)
            .collect();
        for reader in full {
            self.lost(reader, Lost::Awareness);
        }
    }

    /// What one client says to the others. Not kept for anybody: who does not read, misses it.
    fn spread(&mut self, from: Option<ReaderId>, payload: &Bytes) {
        self.touched = Touched::All;
        let others = self.core.readers().filter(|(reader, _)| Some(*reader) != from);
        let missed = others.filter(|(_, port)| !port.push_stateless(payload)).count();
        self.around.metrics.stateless_missed.increment(missed as u64);
    }

    fn push(&mut self, reader: ReaderId, message: &ServerMessage, lost: impl FnOnce() -> Lost) {
        self.touched.add(reader);
        let pushed = self.core.port(reader).is_none_or(|port| port.push(&mut Encoded::new(message)));
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
            port.end(code);
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
            Event::MemoUnreadable => tracing::error!(event = "document_memo_unreadable", channel_id = %self.name),
            Event::StatelessRefused => metrics.refused(ErrorCode::Forbidden),
            Event::AppendFailed => tracing::warn!(event = "append_failed", channel_id = %self.name),
        }
    }

    /// Taking a large document apart takes as long as reading it.
    fn let_go(self: Box<Self>) {
        if self.core.memory_bytes() > HEAVY_BYTES {
            drop(tokio::task::spawn_blocking(move || drop(self)));
        }
    }

    fn retire(&mut self) {
        self.retired = self.mails.is_empty() && (self.release)(&self.inbox);
        if self.retired {
            self.leave_peers(); // At once: whoever comes next says that this node holds it, and must not be taken back.
        } else {
            self.core.stay(self.around.clock.now());
        }
    }
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

mod delete;
mod peers;
mod room;
mod writing;
#[cfg(test)]
mod tests;
