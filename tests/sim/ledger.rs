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
    /// On their way to the document.
    beginnings: VecDeque<Stamp>,
    /// As far as the document has heard of each reader that the client ever was.
    stamps: BTreeMap<ReaderId, Stamp>,
    /// Where it is now.
    attachment: u32,
    /// On their way, with what the document had heard when it sent each.
    under_way: VecDeque<(Stamp, bool)>,
    /// Changes that were refused since the last step 1, whether the client was told so or its outbox was full.
    refused: i64,
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

    /// The session passes a step 1 on, which is always the last it has heard.
    pub(crate) fn passed_on(&mut self) {
        self.beginnings.push_back(self.heard);
    }

    /// The client is let in, as another reader than before.
    pub(crate) fn attached(&mut self, reader: ReaderId, attachment: u32) {
        self.stamps.insert(reader, Stamp { attachment, beginnings: 0 });
        self.attachment = attachment;
        self.refused = 0;
    }

    /// The document has heard a step 1. That of a former reader may have waited in its inbox until now.
    fn begun(&mut self, reader: ReaderId) {
        let Some(stamp) = self.stamps.get_mut(&reader) else { return };
        let next = self.beginnings.iter().position(|next| next.attachment == stamp.attachment);
        *stamp = next.and_then(|next| self.beginnings.remove(next)).unwrap_or(*stamp);
        if stamp.attachment == self.attachment {
            self.refused = 0;
        }
    }

    fn pushed(&mut self, reader: ReaderId, saved: bool, sent: u32, lost: u32) {
        let stamp = self.stamps.get(&reader).copied().unwrap_or_default();
        self.under_way.extend((0..sent).map(|_| (stamp, saved)));
        if !saved && stamp.attachment == self.attachment {
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
