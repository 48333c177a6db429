//! One history of several nodes. The world of a single server goes on as it is; which server that is, changes.

use bytes::Bytes;
use syncline::bus::NodeId;
use syncline::document::core::Cluster;
use syncline::document::mail::PeerMail;
use syncline::store::Epoch;
use syncline::store::Record;

use crate::calls::Work;
use crate::cluster::bus::Bus;
use crate::cluster::nodes::News;
use crate::cluster::nodes::Nodes;
use crate::fault::Fault;
use crate::peering::Peering;
use crate::server::Go;
use crate::server::Server;
use crate::server::Stop;
use crate::world::World;

/// Between the numbers that nodes give away.
const NUMBERS: u64 = 1 << 40;

/// An append of a node that died before it was answered. It may still come to pass.
#[derive(Debug)]
struct Orphan {
    doc: usize,
    epoch: Epoch,
    records: Vec<Record>,
}

/// Several nodes, one of which the world has at a time.
pub(crate) struct Fleet {
    pub(crate) world: World,
    /// Whose server the world has now.
    pub(crate) at: usize,
    others: Vec<Option<Server>>,
    pub(crate) bus: Bus,
    pub(crate) nodes: Nodes,
    /// At which node each client is, or was last.
    pub(crate) seats: Vec<usize>,
    /// When a node that is down starts again.
    pub(crate) down_until: Vec<Option<u64>>,
    /// One store for all, or one for each.
    pub(crate) is_shared: bool,
    pub(crate) is_table: bool,
    orphans: Vec<Orphan>,
    names: u64,
}

impl Fleet {
    pub(crate) fn new(seed: u64, fault: Fault, trace: bool) -> Self {
        let mut world = World::new(seed ^ 0xc1_0573, fault, trace);
        let count = [2, 2, 3, 3, 4][world.chance.below(5)];
        let is_shared = !world.chance.one_in(4) && fault != Fault::DigestWithoutDeletions;
        world.may_delete &= is_shared; // Apart, a node that is away does not hear of it.
        world.crashed = true; // What was saved comes back by several ways.
        let is_table = world.chance.one_in(3);
        world.clients.iter_mut().for_each(|client| client.in_table = is_table);
        world.server.limits.kind = if is_table { "component:" } else { "" };
        let loses_in = [0, 0, 12, 3, 1][world.chance.below(5)];
        // Room for a few of each other node: below that, asking for what was lost loses more.
        let mails_max = world.chance.between(12, 48);
        let mut others: Vec<Option<Server>> = vec![None];
        others.extend((1..count).map(|_| Some(Server::new(world.docs, world.server.limits.clone(), fault))));
        let store = if is_shared { "one store" } else { "a store each" };
        world.say(|| format!("{count} nodes, {store}{}", if is_table { ", tables" } else { "" }));
        let seats = world.clients.iter().map(|_| world.chance.below(count)).collect();
        let mut fleet = Self {
            world,
            at: 0,
            others,
            bus: Bus::new(count, loses_in),
            nodes: Nodes::new(count),
            seats,
            down_until: vec![None; count],
            is_shared,
            is_table,
            orphans: Vec::new(),
            names: 0,
        };
        for at in 0..count {
            fleet.go(at);
            fleet.world.server.next = (at as u64 + 1) * NUMBERS;
            fleet.world.server.peering = Some(Peering { mails_max, ..Peering::default() });
            fleet.start(at);
        }
        fleet
    }

    pub(crate) fn count(&self) -> usize {
        self.others.len()
    }

    pub(crate) fn is_up(&self, at: usize) -> bool {
        self.down_until[at].is_none()
    }

    /// From here on the world has this node's server. The store goes along where all have one.
    pub(crate) fn go(&mut self, at: usize) {
        self.collect();
        if let Some(mut next) = self.others[at].take() {
            next.now = self.world.server.now;
            if self.is_shared {
                std::mem::swap(&mut next.disk, &mut self.world.server.disk);
                std::mem::swap(&mut next.promised, &mut self.world.server.promised);
            }
            self.others[self.at] = Some(std::mem::replace(&mut self.world.server, next));
            self.at = at;
        }
        let others = if self.bus.reaches(at) { self.nodes.others(at) } else { 0 };
        if let Some(peering) = &mut self.world.server.peering {
            peering.others = others;
        }
    }

    /// Takes to the bus what the node has said.
    pub(crate) fn collect(&mut self) {
        let Some(peering) = &mut self.world.server.peering else { return };
        for saying in std::mem::take(&mut peering.sayings) {
            self.bus.hear(self.at, saying);
        }
    }

    /// A process starts, under a name of its own.
    pub(crate) fn start(&mut self, at: usize) {
        self.go(at);
        self.names += 1;
        // Names are drawn at random; their order says nothing about age.
        let node = NodeId(self.names.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 8);
        self.world.say(|| format!("node {at} starts as {node}"));
        let cluster = if self.is_shared { Cluster::Shared(node) } else { Cluster::Apart(node) };
        self.world.server.limits.core.cluster = cluster;
        self.down_until[at] = None;
        self.bus.start(at, node);
        self.nodes.start(at);
    }

    /// The node that the world has dies.
    pub(crate) fn crash(&mut self) -> Go {
        let at = self.at;
        self.world.say(|| format!("node {at} crashes"));
        if self.world.chance.one_in(2)
            && let Some(peering) = self.world.server.peering.as_mut()
        {
            peering.sayings.clear();
        }
        self.collect();
        self.bus.stop(at);
        if self.is_shared {
            self.orphan();
        }
        let World { server, chance, .. } = &mut self.world;
        server.crash(chance)?;
        server.questions.clear();
        let down = self.world.chance.between(100, 30_000) as u64;
        self.down_until[at] = Some(self.world.now() + down);
        Ok(())
    }

    /// What a dead node had under way to the store is done, is not, or is done when everybody thinks it is not.
    fn orphan(&mut self) {
        let World { server, chance, .. } = &mut self.world;
        let appends =
            server.calls.extract_if(.., |call| call.answer.is_none() && matches!(call.work, Work::Append { .. }));
        for call in appends {
            let Work::Append { epoch, records, .. } = call.work else { continue };
            match chance.below(3) {
                0 => {}
                1 => drop(server.disk.append(call.doc, epoch, &records)),
                _ => self.orphans.push(Orphan { doc: call.doc, epoch, records }),
            }
        }
    }

    /// The append of a dead node comes to pass.
    pub(crate) fn adopt(&mut self) -> Go {
        for Orphan { doc, epoch, records } in std::mem::take(&mut self.orphans) {
            self.world.say(|| format!("doc{doc}: what a dead node had under way is stored after all"));
            let _ = self.world.server.disk.append(doc, epoch, &records);
        }
        self.world.server.check_promises()
    }

    /// Time goes by: processes start again, and who is silent is given up.
    pub(crate) fn pass(&mut self, ms: u64) {
        self.world.pass(ms);
        let now = self.world.now();
        for at in 0..self.count() {
            if self.down_until[at].is_some_and(|until| until <= now) {
                self.start(at);
            }
        }
        for (at, news) in self.nodes.tick(now, &self.bus) {
            self.go(at);
            match news {
                News::Lost(node) => {
                    self.world.say(|| format!("node {at} gives {node} up"));
                    self.bus.forget(at, node);
                    if self.world.server.fault != Fault::LostStay {
                        self.world.server.hand_to_all(|| PeerMail::Lost(node));
                    }
                }
                News::Returned => self.world.server.hand_to_all(|| PeerMail::Resumed),
            }
        }
    }

    /// The bus brings something to somebody, or loses it.
    pub(crate) fn deliver(&mut self) {
        self.collect();
        let Some(arrival) = self.bus.deliver(&mut self.world.chance) else { return };
        self.go(arrival.to);
        let (from, missed, body) = (arrival.from, arrival.missed, arrival.body);
        if arrival.loads {
            self.world.server.actor_of(arrival.doc);
        }
        self.world.say(|| {
            format!(
                "node {} hears {} of doc{}{}",
                arrival.to,
                name_of(&body),
                arrival.doc,
                if missed { " after a gap" } else { "" }
            )
        });
        self.world.server.hand_over(arrival.doc, PeerMail::Said { from, missed, body });
    }

    /// A node loses its way to the bus, or finds it again.
    pub(crate) fn cut_or_mend(&mut self, at: usize) {
        if !self.bus.is_cut(at) {
            self.world.say(|| format!("node {at} is cut off"));
            return self.bus.cut(at);
        }
        self.world.say(|| format!("node {at} is back on the bus"));
        self.bus.mend(at);
        if self.bus.is_up {
            self.resume(at);
        }
    }

    pub(crate) fn bus_goes_or_comes(&mut self) {
        self.collect();
        if self.bus.is_up {
            self.world.say(|| "the bus goes away".into());
            return self.bus.go_away();
        }
        self.world.say(|| "the bus is back".into());
        self.bus.is_up = true;
        for at in 0..self.count() {
            self.resume(at);
        }
    }

    fn resume(&mut self, at: usize) {
        if self.bus.reaches(at) {
            self.nodes.hasten();
            self.go(at);
            self.world.server.hand_to_all(|| PeerMail::Resumed);
        }
    }

    /// The client's connection is where it sits. One without a connection looks for another node, if it has not come along
    /// with somebody.
    pub(crate) fn wake(&mut self, client: usize) -> Go {
        if self.world.clients[client].connection.is_none() && self.world.clients[client].dial_at <= self.world.now() {
            let owner = self.world.clients[client].provider.as_ref().and_then(|provider| provider.rides);
            let up: Vec<usize> = (0..self.count()).filter(|&at| self.is_up(at)).collect();
            self.seats[client] = match owner {
                Some(owner) => self.seats[owner],
                None if up.is_empty() => return Ok(()),
                None => up[self.world.chance.below(up.len())],
            };
            self.go(self.seats[client]);
        }
        self.go(self.seats[client]);
        self.world.wake(client)
    }
}

fn name_of(body: &Bytes) -> String {
    use syncline::document::peer::PeerMessage;
    match PeerMessage::decode(body.clone()) {
        Some(PeerMessage::Records { first, records, .. }) => format!("{} records from {} on", records.len(), first.0),
        Some(PeerMessage::State { update, .. }) => format!("a state of {} bytes", update.len()),
        other => format!("{other:?}"),
    }
}

/// Carries a crash out where it happened.
pub(crate) fn survive(fleet: &mut Fleet, step: Go) -> Go {
    match step {
        Err(Stop::Crash) => fleet.crash(),
        other => other,
    }
}
