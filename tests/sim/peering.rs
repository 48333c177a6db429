//! A server's end of the bus: what `document::actor::peers` does, step by step.

use std::collections::VecDeque;

use bytes::Bytes;
use syncline::document::core::Cluster;
use syncline::document::core::Input;
use syncline::document::mail::PeerMail;
use syncline::document::peer::PeerMessage;
use syncline::document::port::Port;
use syncline::store::Epoch;
use syncline::store::Record;
use syncline::store::Seq;

use crate::calls::Work;
use crate::chance::Chance;
use crate::fault::Fault;
use crate::server::Actor;
use crate::server::Server;

/// What a server knows of the cluster, and what it has to say there.
#[derive(Debug, Default)]
pub(crate) struct Peering {
    /// Other nodes that are alive and can be reached, as far as it knows.
    pub(crate) others: usize,
    /// In order; whoever moves the server on takes it to the bus.
    pub(crate) sayings: Vec<Saying>,
    /// Mails of other nodes that wait for one document.
    pub(crate) mails_max: usize,
    /// Whether a document was not told that a node is gone, for want of room.
    pub(crate) untold: bool,
}

/// What a server says to the bus.
#[derive(Debug)]
pub(crate) enum Saying {
    /// It listens to a document's topic from now on.
    Listen(usize),
    /// It does not any more.
    Deaf(usize),
    /// To those who listen to the document's topic.
    ToHolders(usize, Bytes),
    /// To every node, of a document that it may have to load.
    ToAll(usize, Bytes),
}

/// What a document hears of other nodes.
#[derive(Debug, Default)]
pub(crate) struct Lane {
    pub(crate) mails: VecDeque<PeerMail>,
    missed: bool,
    pulled: Option<Input<Port>>,
    listens: bool,
}

impl Actor {
    pub(crate) fn take_answer(&mut self, answer: Input<Port>) {
        match answer {
            Input::Pulled(_) => self.lane.pulled = Some(answer),
            _ => self.answers.push_back(answer),
        }
    }

    fn takes_peers(&self) -> bool {
        !self.core.awaits_store() && !self.core.awaits_engine()
    }
}

impl Server {
    pub(crate) fn load(&mut self, id: u64, actor: &mut Actor) {
        let listens = self.peering.is_none() || std::mem::replace(&mut actor.lane.listens, true);
        self.call(id, actor.doc, if listens { Work::Load } else { Work::Listen });
    }

    pub(crate) fn listen(&mut self, doc: usize) {
        self.say(Saying::Listen(doc));
    }

    pub(crate) fn pull(&mut self, id: u64, actor: &Actor, after: Seq) {
        if self.fault != Fault::NeverPull {
            self.call(id, actor.doc, Work::Pull { after });
        }
    }

    pub(crate) fn tell_peers(&mut self, actor: &mut Actor, message: PeerMessage) {
        let asks = matches!(&message, PeerMessage::Digest(digest) if digest.asks);
        let for_all = asks || matches!(message, PeerMessage::Deleted(_));
        let is_apart = matches!(self.limits.core.cluster, Cluster::Apart(_));
        let (doc, body) = (actor.doc, message.encode());
        self.say(if for_all && is_apart { Saying::ToAll(doc, body) } else { Saying::ToHolders(doc, body) });
        if let Some(peering) = self.peering.as_ref().filter(|_| asks) {
            actor.core.handle(self.now, Input::Others(peering.others), &mut actor.effects);
        }
    }

    /// The mistake of saying what is not durable yet.
    pub(crate) fn publish_early(&mut self, doc: usize, epoch: Epoch, records: &[Record]) {
        if self.fault == Fault::PublishBeforeDurable {
            let (first, records) = (Seq(self.disk.last(doc).0 + 1), records.to_vec());
            self.say(Saying::ToHolders(doc, PeerMessage::Records { epoch, first, records }.encode()));
        }
    }

    pub(crate) fn leave_peers(&mut self, actor: &mut Actor) {
        if std::mem::take(&mut actor.lane.listens) {
            self.say(Saying::ToHolders(actor.doc, PeerMessage::Bye.encode()));
            self.say(Saying::Deaf(actor.doc));
        }
    }

    fn say(&mut self, saying: Saying) {
        if let Some(peering) = &mut self.peering {
            peering.sayings.push(saying);
        }
    }

    /// Something of another node comes in. What there is no room for is lost, and noted as missed.
    pub(crate) fn hand_over(&mut self, doc: usize, mail: PeerMail) {
        let Some(actor) = self.directory[doc].and_then(|id| self.actors.get_mut(&id)) else { return };
        let Some(peering) = &mut self.peering else { return };
        if actor.lane.mails.len() < peering.mails_max {
            actor.lane.mails.push_back(mail);
        } else {
            actor.lane.missed = true;
            peering.untold |= matches!(mail, PeerMail::Lost(_));
        }
    }

    pub(crate) fn hand_to_all(&mut self, mail: impl Fn() -> PeerMail) {
        (0..self.directory.len()).for_each(|doc| self.hand_over(doc, mail()));
    }

    /// Hands a document what other nodes said. Answers whether there was anything.
    pub(crate) fn hear_peers(&mut self, actor: &mut Actor, chance: &mut Chance) -> bool {
        let mut heard = false;
        if actor.takes_peers()
            && let Some(pulled) = actor.lane.pulled.take()
        {
            actor.core.handle(self.now, pulled, &mut actor.effects);
            heard = true;
        }
        if actor.takes_peers() && std::mem::take(&mut actor.lane.missed) {
            actor.core.handle(self.now, Input::Missed, &mut actor.effects);
            heard = true;
        }
        let waiting = actor.lane.mails.len();
        let count = if waiting == 0 { 0 } else { chance.between(1, waiting) };
        for _ in 0..count {
            if !actor.takes_peers() {
                break;
            }
            let Some(mail) = actor.lane.mails.pop_front() else { break };
            let input = self.input_of(actor, mail);
            actor.core.handle(self.now, input, &mut actor.effects);
            heard = true;
        }
        heard
    }

    fn input_of(&self, actor: &Actor, mail: PeerMail) -> Input<Port> {
        match mail {
            PeerMail::Said { from, missed, body } => {
                let mut message = PeerMessage::decode(body);
                if let (Fault::DigestWithoutDeletions, Some(PeerMessage::Digest(digest)), Some(replica)) =
                    (self.fault, &mut message, actor.core.replica())
                {
                    digest.deleted = replica.deletions_hash();
                }
                Input::Peer { from, missed: missed && self.fault != Fault::NeverPull, message }
            }
            PeerMail::Lost(node) => Input::NodeLost(node),
            PeerMail::Resumed => Input::Resumed,
        }
    }
}
