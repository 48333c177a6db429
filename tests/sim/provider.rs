//! What a client of `@hocuspocus/provider` does beside what every client does: it shows a token, counts what is unsaved as
//! 2.15 counts it (without stopping at zero, as later ones do), and keeps for its socket what was said without one.

use std::collections::VecDeque;

use bytes::Bytes;
use syncline_protocol::channel::DocumentMessage;
use syncline_protocol::hocuspocus;
use syncline_protocol::hocuspocus::Address;
use syncline_protocol::update::UpdateLimits;
use syncline_protocol::update::validate;
use syncline_protocol::wire::Reader;

use crate::connection::token_of;
use crate::ledger::Stamp;
use crate::server::Go;
use crate::server::broken;
use crate::store::Cover;

/// Frames that are not about one channel.
const PING: u8 = 9;

/// Where a provider stands with its server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Not let in yet; what it says counts all the same.
    Asking,
    /// Let in; whether it may write.
    In { writes: bool },
    /// It was denied, and goes on listening and talking all the same.
    Denied,
    /// It has left, or there is no socket: it hears nothing.
    Left,
}

/// One provider.
#[derive(Debug)]
pub(crate) struct Provider {
    pub(crate) index: usize,
    pub(crate) address: Address,
    /// Versions before 4.0 do not say it.
    pub(crate) version: Option<&'static str>,
    /// The other client on whose socket it is.
    pub(crate) rides: Option<usize>,
    pub(crate) standing: Standing,
    /// Frames that wait for the socket, as the socket keeps them.
    queue: Vec<Bytes>,
    /// Whether the socket was proved by a first frame from the server.
    connected: bool,
    /// `unsyncedChanges`.
    count: i64,
    /// Statuses from before the last step 1 that came after it, and were counted down like the others: nothing on the wire
    /// tells them apart, and no server can.
    stale: i64,
    /// Deletions without anything else, counted between a first step 1 and the answer to the server's question: of these the
    /// server cannot know whether they are counted, and takes them for not.
    unsure: i64,
    stamp: Stamp,
    /// Whether this is not its first attachment on this socket: then some of what comes was sent to the one before.
    again: bool,
    /// Questions of the server that were answered in this attachment.
    answered: u32,
    /// Everything that was written in this copy.
    written: Cover,
    /// What was written in it without the right to.
    pub(crate) strays: Vec<Bytes>,
    /// How often the document had been deleted when it last began.
    pub(crate) deletions: u64,
    /// The application has seen that it may write now, and is to synchronise what it could not.
    pub(crate) force_due: bool,
}

impl Provider {
    pub(crate) fn new(
        index: usize,
        doc: usize,
        session: bool,
        rides: Option<usize>,
        version: Option<&'static str>,
    ) -> Self {
        let session = if session { format!("\0s{index}") } else { String::new() };
        Self {
            index,
            address: Address::parse(format!("doc{doc}{session}").as_bytes()).expect("a plain name"),
            version,
            rides,
            standing: Standing::Left,
            queue: Vec::new(),
            connected: false,
            count: 0,
            stale: 0,
            unsure: 0,
            stamp: Stamp::default(),
            again: false,
            answered: 0,
            written: Cover::default(),
            strays: Vec::new(),
            deletions: 0,
            force_due: false,
        }
    }

    pub(crate) fn encode(&self, message: &DocumentMessage) -> Bytes {
        hocuspocus::encode_client(&self.address, message)
    }

    /// A new copy of the document.
    pub(crate) fn start_anew(&mut self) {
        self.queue.clear();
        self.written = Cover::default();
        self.strays.clear();
        self.force_due = false;
        self.count = 0;
        self.stale = 0;
        self.unsure = 0;
    }

    /// The socket is up, or this provider is new on it: the token. What follows does not wait for the answer.
    pub(crate) fn opened(&mut self, again: bool, deletions: u64, out: &mut VecDeque<Bytes>) {
        self.again = again;
        self.standing = Standing::Asking;
        self.deletions = deletions;
        self.answered = 0;
        self.stamp = Stamp { attachment: self.stamp.attachment + 1, beginnings: 0 };
        self.show_token(out);
    }

    /// Shows its token, or another one: whose it is stays the same.
    pub(crate) fn show_token(&self, out: &mut VecDeque<Bytes>) {
        let token = token_of(self.index, self.stamp.attachment);
        out.push_back(hocuspocus::encode_token(&self.address, &token, self.version));
    }

    /// Sends a step 1, which is where counting begins anew.
    pub(crate) fn begin(&mut self, step1: DocumentMessage, out: &mut VecDeque<Bytes>) {
        self.count = 1;
        self.stale = 0;
        self.unsure = 0;
        self.stamp.beginnings += 1;
        out.push_back(self.encode(&step1));
    }

    pub(crate) fn is_in(&self) -> bool {
        matches!(self.standing, Standing::In { .. })
    }

    pub(crate) fn may_leave(&self) -> bool {
        self.version.is_some() && !self.is_out()
    }

    pub(crate) fn is_out(&self) -> bool {
        matches!(self.standing, Standing::Denied | Standing::Left)
    }

    /// Leaves the channel, not the socket. Older versions do not say so.
    pub(crate) fn leave(&mut self, out: &mut VecDeque<Bytes>) {
        self.standing = Standing::Left;
        if self.version.is_some() {
            out.push_back(hocuspocus::encode_close(&self.address));
        }
    }

    pub(crate) fn lost(&mut self) {
        self.connected = false;
        self.standing = Standing::Left;
    }

    /// A change of its own: counted, then sent or kept.
    pub(crate) fn update(&mut self, update: Bytes, may: bool, out: Option<&mut VecDeque<Bytes>>) {
        self.count += 1;
        self.written.add(&update);
        let begins = out.is_some() && self.stamp.beginnings > 0 && self.answered < self.stamp.beginnings;
        let summary = validate(&update, &UpdateLimits::default()).expect("a client writes what is valid");
        self.unsure += i64::from(begins && summary.ranges().is_empty());
        if !may {
            self.strays.push(update.clone());
        }
        self.say(&DocumentMessage::Update(update), out);
    }

    pub(crate) fn say(&mut self, message: &DocumentMessage, out: Option<&mut VecDeque<Bytes>>) {
        let frame = self.encode(message);
        match out {
            Some(out) => out.push_back(frame),
            None => self.queue.push(frame),
        }
    }

    /// A frame has arrived on the socket, for whomever: what waited follows.
    pub(crate) fn socket_lives(&mut self, out: &mut VecDeque<Bytes>) {
        if !std::mem::replace(&mut self.connected, true) {
            out.extend(self.queue.drain(..));
        }
    }

    /// It answers a question of the server.
    pub(crate) fn answers(&mut self, step2: Bytes, out: &mut VecDeque<Bytes>) {
        self.answered += 1;
        out.push_back(self.encode(&DocumentMessage::SyncStep2(step2)));
    }

    /// Whether a frame is for this provider: it bears the address, or none.
    pub(crate) fn is_for(&self, frame: &Bytes) -> bool {
        let address = self.address.as_str().as_bytes();
        frame.first() == Some(&PING) && frame.len() == 1
            || Reader::new(frame.clone()).var_bytes().is_ok_and(|front| front.as_ref() == address)
    }

    /// What follows the address; `None` for a ping.
    pub(crate) fn message_in(&self, frame: &Bytes) -> Go<Option<Bytes>> {
        if frame.len() == 1 {
            return if self.version.is_some() { Ok(None) } else { broken("a ping to one that does not know it") };
        }
        Ok(Some(frame.slice(1 + self.address.as_str().len()..)))
    }

    /// A status. Answers what is called saved by it.
    pub(crate) fn status(&mut self, saved: bool, sent: Option<(Stamp, bool)>) -> Go<Option<&Cover>> {
        let Some((stamp, right)) = sent else { return broken("a status that nobody sent") };
        if !saved {
            return if right { broken("a saved change is called refused") } else { Ok(None) };
        }
        self.count -= 1;
        self.stale += i64::from(stamp < self.stamp);
        if self.unsaved() < 0 {
            return broken(format!("client {}: the count of unsaved changes is below zero", self.index));
        }
        Ok((self.unsaved() == 0).then_some(&self.written))
    }

    pub(crate) fn may_hear_of_former(&self) -> bool {
        self.again
    }

    /// The count, without the mistake that no server can keep it from.
    pub(crate) fn unsaved(&self) -> i64 {
        self.count + self.stale
    }

    /// At rest: what is left in the count was refused.
    pub(crate) fn judge(&self, refused: i64) -> Go {
        let left = self.unsaved() - refused;
        if left < 0 || left > self.unsure {
            let Self { index, count, stale, unsure, .. } = self;
            return broken(format!(
                "client {index} counts {count} unsaved changes at rest, of which {refused} were refused ({stale} statuses \
                 came late, {unsure} deletions cannot be told)"
            ));
        }
        Ok(())
    }
}
