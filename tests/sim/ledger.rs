//! What one client that counts was told on one connection: the simulator's own book, kept beside the server's.

use std::collections::BTreeMap;
use std::collections::VecDeque;

use syncline::document::core::Lost;
use syncline::document::core::ReaderId;

use crate::fault::Fault;
use crate::server::Actor;
use crate::server::Server;

/// How often a client has begun: at its address, and there with a step 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Stamp {
    pub(crate) attachment: u32,
    pub(crate) beginnings: u32,
}

/// The statuses of one client.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// As far as the connection has heard. What a client says before it is let in may be let go, so not all of that gets on.
    heard: Stamp,
    /// Each reader that the client ever was.
    readers: BTreeMap<ReaderId, Told>,
    /// The one that it is.
    current: Option<ReaderId>,
    /// On their way, with what the document had heard when it sent each.
    under_way: VecDeque<(Stamp, bool)>,
    /// Changes that were refused since the last step 1, whether the client was told so or its outbox was full.
    refused: i64,
}

/// What a document was told of one reader.
#[derive(Debug)]
struct Told {
    /// Steps 1 on their way. Those of a reader that has left may still be in the inbox when the client is another one.
    beginnings: VecDeque<Stamp>,
    /// As far as the document has heard.
    stamp: Stamp,
}

impl Ledger {
    /// The client has shown a token: it is new at its address, or has another token than before.
    pub(crate) fn asked(&mut self, attachment: u32) {
        if attachment != self.heard.attachment {
            self.heard = Stamp { attachment, beginnings: 0 };
        }
    }

    /// The client has sent a step 1.
    pub(crate) fn heard_step1(&mut self) {
        self.heard.beginnings += 1;
    }

    /// The step 1 that a session passes on is always the last it has heard.
    pub(crate) fn heard(&self) -> Stamp {
        self.heard
    }

    /// The client is let in, as another reader than before.
    pub(crate) fn attached(&mut self, reader: ReaderId, attachment: u32) {
        let stamp = Stamp { attachment, beginnings: 0 };
        self.readers.insert(reader, Told { beginnings: VecDeque::new(), stamp });
        self.current = Some(reader);
        self.refused = 0;
    }

    /// A step 1 is on its way to the document.
    pub(crate) fn begins(&mut self, reader: ReaderId, stamp: Stamp) {
        if let Some(told) = self.readers.get_mut(&reader) {
            told.beginnings.push_back(stamp);
        }
    }

    /// The document has heard a step 1.
    fn begun(&mut self, reader: ReaderId) {
        let Some(told) = self.readers.get_mut(&reader) else { return };
        told.stamp = told.beginnings.pop_front().unwrap_or(told.stamp);
        if self.current == Some(reader) {
            self.refused = 0;
        }
    }

    fn pushed(&mut self, reader: ReaderId, saved: bool, sent: u32, lost: u32) {
        let stamp = self.readers.get(&reader).map_or(Stamp::default(), |told| told.stamp);
        self.under_way.extend((0..sent).map(|_| (stamp, saved)));
        if !saved && self.current == Some(reader) {
            self.refused += i64::from(sent + lost);
        }
    }

    /// The next status has arrived: when it was sent. `None`: nobody sent one.
    pub(crate) fn arrived(&mut self) -> Option<(Stamp, bool)> {
        self.under_way.pop_front()
    }

    pub(crate) fn refused(&self) -> i64 {
        self.refused
    }
}

impl Server {
    pub(crate) fn status(&mut self, actor: &mut Actor, reader: ReaderId, saved: bool, count: u32) {
        let told = saved || self.fault == Fault::StatusForRefused;
        let count = count + u32::from(self.fault == Fault::StatusTwice && count > 1);
        let Some(port) = actor.core.port(reader) else { return };
        let lost = port.push_statuses(told, count);
        if let Some(ledger) = self.ledger(reader) {
            ledger.pushed(reader, saved, count - lost, lost);
        }
        if lost > 0 && saved && self.fault != Fault::StatusLost {
            self.lost(actor, reader, Lost::Status(lost));
        }
    }

    pub(crate) fn begun(&mut self, reader: ReaderId) {
        if let Some(ledger) = self.ledger(reader) {
            ledger.begun(reader);
        }
    }

    fn ledger(&mut self, reader: ReaderId) -> Option<&mut Ledger> {
        let (connection, client) = self.routes.get(&reader)?;
        self.connections.get_mut(connection)?.ledgers.get_mut(client)
    }
}
