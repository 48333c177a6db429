//! Every document of this process by name: exactly one actor for each that is in use.
//!
//! The map is the only place where actors are made and let go, under one lock that is never held across an await. Whoever
//! holds a sender got it under that lock; an actor leaves only when the map's own sender is the last one and its inbox is
//! empty, seen under the same lock. So no message can reach an actor that is gone, and no second actor can start while the
//! first still has something to save.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

use syncline_protocol::ErrorCode;
use syncline_protocol::channel::Access;
use syncline_protocol::channel::DocumentMessage;
use tokio::sync::Semaphore;
use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;

use crate::document::actor::Actor;
use crate::document::actor::INBOX_MAILS_MAX;
use crate::document::actor::Lanes;
use crate::document::actor::PEER_MAILS_MAX;
use crate::document::actor::Release;
use crate::document::core::ReaderId;
use crate::document::inbox;
use crate::document::inbox::inbox;
use crate::document::mail::Mail;
use crate::document::mail::PeerMail;
use crate::document::mail::Room;
use crate::document::port::Port;
use crate::document::request::Answer;
use crate::document::request::Member;
use crate::document::request::Refusal;
use crate::document::request::Request;
use crate::document::surroundings::Surroundings;
use crate::name::DocName;
use crate::outbox::Budget;
use crate::store::Page;

/// Bytes of small messages that go to a document as one: what one read of a socket brings.
const MAIL_BYTES: usize = 64 * 1024;

/// Bounds of what waits to be handled.
#[derive(Debug, Clone, Copy)]
pub struct InboxLimits {
    /// Bytes of updates that wait for one document. Full: the sockets that feed it are read more slowly.
    pub doc_bytes_max: usize,
    /// The same over all documents.
    pub total_bytes_max: usize,
}

/// What is in memory now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HubStats {
    /// Documents.
    pub documents: usize,
    /// Channels that read them.
    pub readers: usize,
    /// Bytes that wait for slow readers.
    pub outbox_bytes: usize,
}

/// The documents of this process.
pub struct Hub {
    docs: Mutex<HashMap<DocName, Entry>>,
    around: Arc<Surroundings>,
    limits: InboxLimits,
    room: Arc<Semaphore>,
    /// Readers so far: each gets a number of its own.
    readers: AtomicU64,
    /// Readers now.
    members: Arc<AtomicUsize>,
    outboxes: Arc<Budget>,
    tasks: TaskTracker,
}

/// What the map knows of one document.
#[derive(Debug, Clone)]
struct Entry {
    mail: inbox::Sender<Mail>,
    peers: inbox::Sender<PeerMail>,
    /// Whether something from other nodes did not fit.
    missed: Arc<AtomicBool>,
    room: Arc<Semaphore>,
}

/// One channel's hold on its document. Dropping it leaves.
#[derive(Debug)]
pub struct Membership {
    entry: Entry,
    reader: ReaderId,
    room: Arc<Semaphore>,
    /// Bytes of messages that go together: no more than there is room for.
    mail_bytes: usize,
    members: Arc<AtomicUsize>,
    tasks: TaskTracker,
    /// Whether the document was told that it leaves.
    has_left: bool,
}

impl Hub {
    /// A hub without documents. Actors run under `tasks`.
    #[must_use]
    pub fn new(around: Surroundings, limits: InboxLimits, outboxes: Arc<Budget>, tasks: TaskTracker) -> Arc<Self> {
        let room = Arc::new(Semaphore::new(limits.total_bytes_max.min(Semaphore::MAX_PERMITS)));
        let (docs, readers, members) = (Mutex::default(), AtomicU64::new(0), Arc::default());
        let around = Arc::new(around);
        Arc::new(Self { docs, around, limits, room, readers, members, outboxes, tasks })
    }

    /// A number that no other reader of this process has or will have.
    #[must_use]
    pub fn new_reader(&self) -> ReaderId {
        ReaderId(self.readers.fetch_add(1, Ordering::Relaxed))
    }

    /// Joins a channel to a document, loading it if need be.
    ///
    /// # Errors
    /// `OVERLOADED` when the document is not in memory and there is no room for it; `INTERNAL` when its actor died in this
    /// very moment.
    pub async fn join(
        self: &Arc<Self>,
        doc: &DocName,
        access: Access,
        member: Option<Member>,
        port: Port,
    ) -> Result<Membership, Refusal> {
        self.join_as(self.new_reader(), doc, access, member, port).await
    }

    /// As [`Self::join`], for a connection that is one reader in several documents. In each of them once at a time: before
    /// it joins one again, it has to [`Membership::leave`] that.
    ///
    /// # Errors
    /// As [`Self::join`].
    pub async fn join_as(
        self: &Arc<Self>,
        reader: ReaderId,
        doc: &DocName,
        access: Access,
        member: Option<Member>,
        port: Port,
    ) -> Result<Membership, Refusal> {
        let entry = self.entry(doc)?;
        self.members.fetch_add(1, Ordering::Relaxed);
        let membership = Membership {
            entry: entry.clone(),
            reader,
            room: self.room.clone(),
            mail_bytes: MAIL_BYTES.min(self.limits.doc_bytes_max).min(self.limits.total_bytes_max),
            members: self.members.clone(),
            tasks: self.tasks.clone(),
            has_left: false,
        };
        entry.mail.send(Mail::Join { reader, access, member, port }).await.map_err(|_| died())?;
        Ok(membership)
    }

    /// Asks one thing of a document, loading it if need be. Does not create it.
    ///
    /// # Errors
    /// What the document refuses; `OVERLOADED` when it is not in memory and there is no room for it; `INTERNAL` when its
    /// actor died meanwhile.
    pub async fn ask(self: &Arc<Self>, doc: &DocName, request: Request) -> Result<Answer, Refusal> {
        let entry = self.entry(doc)?;
        let (reply, answer) = oneshot::channel();
        entry.mail.send(Mail::Ask { request, reply }).await.map_err(|_| died())?;
        answer.await.map_err(|_| died())?
    }

    /// Gives a document in memory what another node says of it; nothing if it is not in memory. Never waits: where too much
    /// waits already it is lost, and the document told that it missed something.
    pub fn deliver(&self, doc: &DocName, mail: PeerMail) {
        let entry = self.lock().get(doc).cloned();
        if let Some(entry) = entry {
            entry.hand_over(mail);
        }
    }

    /// As [`Self::deliver`], loading the document if need be: where each node has a store of its own, this one may have
    /// what the other one lacks.
    pub fn deliver_or_load(self: &Arc<Self>, doc: &DocName, mail: PeerMail) {
        // Without room for it, it is as if this node were away.
        if let Ok(entry) = self.entry(doc) {
            entry.hand_over(mail);
        }
    }

    /// The same for every document in memory.
    pub fn deliver_to_all(&self, mail: impl Fn() -> PeerMail) {
        let entries: Vec<Entry> = self.lock().values().cloned().collect();
        entries.iter().for_each(|entry| entry.hand_over(mail()));
    }

    /// One page of the documents that are stored.
    ///
    /// # Errors
    /// When the store cannot answer.
    pub async fn list(&self, prefix: &str, after: Option<&DocName>, limit: usize) -> Result<Page, Refusal> {
        self.around.store.list(prefix, after, limit).await.map_err(Refusal::from)
    }

    /// Whether the store takes writes.
    pub async fn store_ready(&self) -> bool {
        let probed = self.around.store.probe().await;
        if let Err(error) = &probed {
            tracing::warn!(event = "store_not_ready", %error);
        }
        probed.is_ok()
    }

    /// What is in memory now.
    #[must_use]
    pub fn stats(&self) -> HubStats {
        HubStats {
            documents: self.lock().len(),
            readers: self.members.load(Ordering::Relaxed),
            outbox_bytes: self.outboxes.used(),
        }
    }

    /// Waits until everything that was accepted is durable, at most `patience`. Answers how many documents are not.
    pub async fn flush(self: &Arc<Self>, patience: Duration) -> usize {
        let docs: Vec<DocName> = self.lock().keys().cloned().collect();
        let flushes = docs.iter().map(|doc| async {
            let flushed = tokio::time::timeout(patience, self.ask(doc, Request::Flush)).await;
            matches!(flushed, Ok(Ok(_)))
        });
        futures_util::future::join_all(flushes).await.into_iter().filter(|flushed| !flushed).count()
    }

    /// The document's entry, with a new actor behind it if there is none and memory for one.
    fn entry(self: &Arc<Self>, doc: &DocName) -> Result<Entry, Refusal> {
        let mut docs = self.lock();
        // A closed inbox belongs to an actor that panicked: what it had not saved was never acknowledged.
        if let Some(entry) = docs.get(doc).filter(|entry| !entry.mail.is_closed()) {
            return Ok(entry.clone());
        }
        if !self.around.memory.has_room() {
            return Err(Refusal::new(ErrorCode::Overloaded, "the documents in use fill the memory they may take"));
        }
        let (mail, inbox) = inbox(INBOX_MAILS_MAX);
        let (peers, from_peers) = inbox::inbox(PEER_MAILS_MAX);
        let missed = Arc::new(AtomicBool::new(false));
        let room = Arc::new(Semaphore::new(self.limits.doc_bytes_max.min(Semaphore::MAX_PERMITS)));
        let entry = Entry { mail, peers, missed: missed.clone(), room };
        docs.insert(doc.clone(), entry.clone());
        self.around.metrics.documents_loaded.set(docs.len() as f64);
        let lanes = Lanes { mail: inbox, peers: from_peers, missed };
        let actor = Actor::new(doc.clone(), self.around.clone(), lanes, self.release_of(doc.clone()));
        self.tasks.spawn(Box::new(actor).run());
        Ok(entry)
    }

    /// Lets an actor go if nobody holds its document and nothing waits in its inbox.
    fn release_of(self: &Arc<Self>, doc: DocName) -> Release {
        let hub = Arc::downgrade(self);
        Box::new(move |inbox| {
            let Some(hub) = hub.upgrade() else { return true };
            let mut docs = hub.lock();
            let unused = docs.get(&doc).is_none_or(|entry| entry.mail.count() == 1) && inbox.is_empty();
            if unused {
                docs.remove(&doc);
                hub.around.metrics.documents_loaded.set(docs.len() as f64);
            }
            unused
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<DocName, Entry>> {
        self.docs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    fn hand_over(&self, mail: PeerMail) {
        if let Err(inbox::Refused::Full(_)) = self.peers.try_send(mail) {
            self.missed.store(true, Ordering::Relaxed);
        }
    }
}

impl Membership {
    /// Says something to the document, in order. Waits while its inbox is full.
    ///
    /// # Errors
    /// `INTERNAL` when its actor died.
    pub async fn say(&self, messages: Vec<DocumentMessage>) -> Result<(), Refusal> {
        match self.say_now(messages) {
            None => Ok(()),
            // In a box: every connection would keep room for the waiting, and few ever wait.
            Some(messages) => Box::pin(self.say_in_turn(messages)).await,
        }
    }

    /// Gives back what does not fit, all or nothing.
    fn say_now(&self, messages: Vec<DocumentMessage>) -> Option<Vec<DocumentMessage>> {
        if self.together(&messages).is_some() {
            return Some(messages);
        }
        let Some(room) = self.find_room(bytes_of(&messages)) else { return Some(messages) };
        let mail = Mail::Messages { reader: self.reader, messages: messages.into_iter(), room };
        match self.entry.mail.try_send(mail) {
            Ok(()) => None,
            Err(inbox::Refused::Full(mail) | inbox::Refused::Closed(mail)) => match mail {
                Mail::Messages { messages, .. } => Some(messages.collect()),
                _ => None, // It is the one that was sent.
            },
        }
    }

    async fn say_in_turn(&self, mut messages: Vec<DocumentMessage>) -> Result<(), Refusal> {
        while let Some(count) = self.together(&messages) {
            let later = messages.split_off(count);
            self.send(std::mem::replace(&mut messages, later)).await?;
        }
        self.send(messages).await
    }

    async fn send(&self, messages: Vec<DocumentMessage>) -> Result<(), Refusal> {
        let room = self.make_room(bytes_of(&messages)).await;
        let mail = Mail::Messages { reader: self.reader, messages: messages.into_iter(), room };
        self.entry.mail.send(mail).await.map_err(|_| died())
    }

    /// How many messages go in one mail; `None` when all do.
    fn together(&self, messages: &[DocumentMessage]) -> Option<usize> {
        let mut bytes = 0;
        messages
            .iter()
            .enumerate()
            .skip_while(|(at, message)| {
                bytes += room_of(message);
                *at == 0 || bytes <= self.mail_bytes
            })
            .map(|(at, _)| at)
            .next()
    }

    /// Changes what the channel may do.
    ///
    /// # Errors
    /// `INTERNAL` when the document's actor died.
    pub async fn set_access(&self, access: Access) -> Result<(), Refusal> {
        self.entry.mail.send(Mail::Rights { reader: self.reader, access }).await.map_err(|_| died())
    }

    /// Says that everything queued for this channel was written.
    ///
    /// # Errors
    /// `INTERNAL` when the document's actor died.
    pub async fn drained(&self) -> Result<(), Refusal> {
        self.entry.mail.send(Mail::Drained { reader: self.reader }).await.map_err(|_| died())
    }

    /// Leaves, in order: whoever joins the document after that comes in after this one went. Waits while the inbox is full.
    pub async fn leave(mut self) {
        // An actor that is gone needs no leave.
        let _ = self.entry.mail.send(Mail::Leave { reader: self.reader }).await;
        self.has_left = true;
    }

    /// First the document's bound, then the common one: a document whose inbox is full holds nothing of the common room
    /// beyond its own share.
    async fn make_room(&self, bytes: u32) -> Option<Room> {
        if bytes == 0 {
            return None;
        }
        let own = self.entry.room.clone().acquire_many_owned(bytes).await.ok()?;
        let common = self.room.clone().acquire_many_owned(bytes).await.ok()?;
        Some(Room { own, common })
    }

    /// The same if there is room now; otherwise `None`.
    fn find_room(&self, bytes: u32) -> Option<Option<Room>> {
        if bytes == 0 {
            return Some(None);
        }
        let own = self.entry.room.clone().try_acquire_many_owned(bytes).ok()?;
        let common = self.room.clone().try_acquire_many_owned(bytes).ok()?;
        Some(Some(Room { own, common }))
    }
}

/// Bytes of messages that count against the inbox bounds.
fn bytes_of(messages: &[DocumentMessage]) -> u32 {
    u32::try_from(messages.iter().map(room_of).sum::<usize>()).unwrap_or(u32::MAX)
}

/// Bytes of a message that count against the inbox bounds.
fn room_of(message: &DocumentMessage) -> usize {
    match message {
        DocumentMessage::Update(update) | DocumentMessage::SyncStep2(update) => update.len(),
        DocumentMessage::SyncStep1(state_vector) => state_vector.len(),
        DocumentMessage::Stateless(text) => text.len(),
        DocumentMessage::Awareness(_) | DocumentMessage::QueryAwareness => 0,
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.members.fetch_sub(1, Ordering::Relaxed);
        if self.has_left {
            return;
        }
        let leave = Mail::Leave { reader: self.reader };
        if let Err(inbox::Refused::Full(leave)) = self.entry.mail.try_send(leave) {
            let mail = self.entry.mail.clone();
            // The inbox is full: the leave waits its turn. An actor that is gone needs no leave.
            self.tasks.spawn(async move {
                let _ = mail.send(leave).await;
            });
        }
    }
}

fn died() -> Refusal {
    Refusal::new(ErrorCode::Internal, "the document had to be restarted")
}

#[cfg(test)]
mod tests;
