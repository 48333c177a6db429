//! At rest: no more faults, every node lives and hears the bus, everybody returns. Then the laws are judged, over all nodes.

use std::collections::BTreeMap;

use bytes::Bytes;
use syncline::document::request::Request;
use syncline::table::events::Presence;

use crate::cluster::fleet::Fleet;
use crate::rest::present;
use crate::rest::same;
use crate::server::Go;
use crate::server::broken;

/// Rounds within one moment: each moves every frame and every message one hop.
const ROUNDS_MAX: usize = 600;
/// Long enough for every patience there is: 30 s for presence, 12.5 s for nodes, 60 s between two comparisons.
const REST_MS: u64 = 80_000;
/// Three minutes more, in steps that keep clients and nodes from taking each other for gone.
const LONG_MS: u64 = 5_000;
const LONG_STEPS: usize = 36;

impl Fleet {
    pub(crate) fn rest(&mut self) -> Go {
        self.world.say(|| "rest".into());
        self.world.resting = true;
        self.world.fails_in = 0;
        self.bus.loses_in = 0;
        self.adopt()?;
        for at in 0..self.count() {
            self.go(at);
            self.world.server.fuse = None;
            if !self.is_up(at) {
                self.start(at);
            }
            if self.bus.is_cut(at) {
                self.cut_or_mend(at);
            }
        }
        if !self.bus.is_up {
            self.bus_goes_or_comes();
        }
        self.quieten()?;
        let end = self.world.now() + REST_MS;
        while self.world.now() < end {
            let at = self.world.chance.below(self.count());
            self.go(at);
            if self.is_shared {
                self.world.create_deleted();
            }
            self.quieten()?;
            self.pass(500);
        }
        // Somebody was not told that a node is gone, and finds it silent for minutes.
        for _ in 0..if self.is_somebody_untold() { LONG_STEPS } else { 0 } {
            self.pass(LONG_MS);
            self.quieten()?;
        }
        self.load_everywhere()?;
        self.judge()
    }

    fn is_somebody_untold(&mut self) -> bool {
        (0..self.count()).any(|at| {
            self.go(at);
            self.world.server.peering.as_ref().is_some_and(|peering| peering.untold)
        })
    }

    /// A document that a node does not hold is read by it once more.
    fn load_everywhere(&mut self) -> Go {
        for at in 0..self.count() {
            self.go(at);
            for doc in 0..self.world.docs {
                self.world.server.ask(doc, Request::Presence, None);
            }
        }
        for _ in 0..3 {
            self.quieten()?;
            self.pass(300);
        }
        self.quieten()
    }

    fn quieten(&mut self) -> Go {
        for _ in 0..ROUNDS_MAX {
            if !self.round()? {
                return Ok(());
            }
        }
        broken("it does not come to rest")
    }

    fn round(&mut self) -> Go<bool> {
        let mut busy = false;
        for client in 0..self.world.clients.len() {
            self.wake(client)?;
            self.go(self.seats[client]);
            while !self.world.clients[client].from_tabs.is_empty() {
                self.world.hear_tab(client)?;
                busy = true;
            }
            busy |= self.world.hear(client, usize::MAX)?;
        }
        for at in 0..self.count() {
            self.go(at);
            busy |= self.world.server_round()?;
        }
        self.collect();
        while self.bus.is_busy() {
            self.deliver();
            busy = true;
        }
        Ok(busy)
    }

    fn judge(&mut self) -> Go {
        let mut first = Vec::new();
        for at in 0..self.count() {
            self.go(at);
            self.world.server.check_promises()?;
            if self.world.server.budget.used() != 0 {
                return broken("outboxes are empty and their budget is not");
            }
            for doc in 0..self.world.docs {
                self.judge_node(doc).map_err(|stop| stop.at(at))?;
                if self.is_table {
                    self.judge_records(doc).map_err(|stop| stop.at(at))?;
                }
                let stored = self.world.stored(doc)?;
                match first.get(doc) {
                    Some(first) => same(first, &stored, &format!("doc{doc}: nodes 0 and {at}"))?,
                    None => first.push(stored),
                }
            }
        }
        for doc in 0..self.world.docs {
            self.world.judge_presence(doc)?;
        }
        for client in 0..self.world.clients.len() {
            self.go(self.seats[client]);
            self.world.judge_copy(self.world.clients[client].doc, client)?;
            self.world.judge_client(client)?;
        }
        self.world.judge_rights()
    }

    fn judge_node(&self, doc: usize) -> Go {
        self.world.judge_holder(doc)?;
        self.judge_rooms(doc)
    }

    /// Each node that holds a document knows who is there, wherever that is, and so does its room.
    fn judge_rooms(&self, doc: usize) -> Go {
        let here = self.world.clients.iter().filter(|client| present(client, doc));
        let count = here.clone().count();
        let states = here.filter_map(|client| Some((client.id(), client.presence.own_state()?.clone())));
        let expected: BTreeMap<u64, Bytes> = states.collect();
        for actor in self.world.server.actors.values().filter(|actor| actor.doc == doc) {
            actor.room.check(&actor.core, true)?;
            let mut states = BTreeMap::new();
            let mut members = 0;
            for (_, _, presence) in actor.core.everybody() {
                match presence {
                    Presence::Joined { .. } => members += 1,
                    Presence::State { client, state: Some(state) } => drop(states.insert(client, state)),
                    Presence::State { .. } | Presence::Left => {}
                }
            }
            if states != expected || members != count {
                return broken(format!(
                    "doc{doc}: {count} are present with {expected:?}, and a node knows of {members} with {states:?}"
                ));
            }
        }
        Ok(())
    }
}
