//! At rest: no more faults, everybody returns, nothing is under way. Then the laws are judged.

use std::collections::BTreeMap;

use bytes::Bytes;
use syncline::document::json::render_replica;
use syncline::document::replica::Deleted;
use syncline::document::replica::Replica;
use syncline::document::request::Request;
use syncline_protocol::state_vector::StateVector;

use crate::client::Client;
use crate::client::Right;
use crate::ledger::Ledger;
use crate::provider::Provider;
use crate::server::Go;
use crate::server::broken;
use crate::store::Cover;
use crate::world::World;

/// Rounds within one moment: each moves every frame one hop, and every hop is taken a handful of times.
const ROUNDS_MAX: usize = 400;
/// Long enough for every patience there is: 30 s for what waits, 30 s for presence, 15 s to renew it.
const REST_MS: u64 = 80_000;

impl World {
    pub(crate) fn rest(&mut self) -> Go {
        self.say(|| "rest".into());
        self.resting = true;
        self.server.check_promises()?;
        self.quieten()?;
        let end = self.now() + REST_MS;
        while self.now() < end {
            self.create_deleted();
            self.quieten()?;
            self.pass(500);
        }
        self.quieten()?;
        self.judge()?;
        if self.chance.one_in(4) { self.empty_house() } else { Ok(()) }
    }

    pub(crate) fn create_deleted(&mut self) {
        for doc in 0..self.docs {
            if self.server.disk.is_deleted(doc) {
                let template = Bytes::from_static(&[0, 0]);
                self.server.ask(doc, Request::Create { template: template.clone(), member: None }, Some(template));
            }
        }
    }

    fn quieten(&mut self) -> Go {
        for _ in 0..ROUNDS_MAX {
            if !self.round()? {
                return Ok(());
            }
        }
        broken("it does not come to rest")
    }

    fn judge(&mut self) -> Go {
        self.server.check_promises()?;
        if self.server.budget.used() != 0 {
            return broken("outboxes are empty and their budget is not");
        }
        for doc in 0..self.docs {
            self.judge_content(doc)?;
            self.judge_presence(doc)?;
        }
        for actor in self.server.actors.values() {
            actor.room.check(&actor.core, true)?;
        }
        for index in 0..self.clients.len() {
            self.judge_client(index)?;
        }
        self.judge_rights()
    }

    /// It is in, it has all that it was sent, and it knows that what it sent is saved.
    pub(crate) fn judge_client(&mut self, index: usize) -> Go {
        let client = &self.clients[index];
        if client.right == Right::Refused {
            return Ok(());
        }
        let is_in = client.provider.as_ref().is_none_or(Provider::is_in);
        if client.connection.is_none() || !client.greeted || !is_in {
            return broken(format!("client {index} is not synchronised"));
        }
        if let Some(provider) = &client.provider {
            provider.judge(self.refused(client))?;
        }
        if client.has_pending() {
            return broken(format!("client {index} holds something that it cannot integrate"));
        }
        // What waited too long was dropped; its content came back in a step 2 and was echoed as such.
        let dropped = self.server.waiting_dropped;
        let mut saved = |sent: &Bytes| dropped && self.server.disk.has(client.doc, &Cover::of(sent));
        if !client.unconfirmed.iter().all(&mut saved) {
            return broken(format!("client {index} was never told that its updates are saved"));
        }
        Ok(())
    }

    fn judge_content(&self, doc: usize) -> Go {
        self.judge_holder(doc)?;
        (0..self.clients.len()).try_for_each(|client| self.judge_copy(doc, client))
    }

    /// What is in the server's memory is what is stored.
    pub(crate) fn judge_holder(&self, doc: usize) -> Go {
        let stored = self.stored(doc)?;
        for actor in self.server.actors.values().filter(|actor| actor.doc == doc) {
            let Some(replica) = actor.core.replica() else { return broken(format!("doc{doc} is not alive at rest")) };
            same(replica, &stored, &format!("doc{doc}: server and store"))?;
            if actor.core.is_store_failing() || actor.core.backlog_bytes() > 0 {
                return broken(format!("doc{doc} is not saved at rest"));
            }
        }
        Ok(())
    }

    /// What a client has is what is stored.
    pub(crate) fn judge_copy(&self, doc: usize, index: usize) -> Go {
        let client = &self.clients[index];
        if !present(client, doc) {
            return Ok(());
        }
        let (stored, replica) = (self.stored(doc)?, load(&[client.state()])?);
        // What it wrote and was refused, a reader has beyond everybody else, and nothing less.
        let beyond = client.right == Right::Read && self.refused(client) > 0;
        let expected = if beyond { &load(&[client.state(), whole(&stored)])? } else { &stored };
        same(&replica, expected, &format!("doc{doc}: client {index} and store"))
    }

    /// Changes in a client's count that it was told are refused.
    pub(crate) fn refused(&self, client: &Client) -> i64 {
        let provider = client.provider.as_ref();
        let link = client.connection.and_then(|id| self.server.connections.get(&id));
        let ledger = provider.and_then(|provider| link?.ledgers.get(&provider.index));
        ledger.map_or(0, Ledger::refused)
    }

    pub(crate) fn stored(&self, doc: usize) -> Go<Replica> {
        let Ok(loaded) = self.server.disk.load(doc) else { return broken("deleted at rest") };
        let snapshot = loaded.snapshot.iter().map(|snapshot| snapshot.state.clone());
        let updates: Vec<Bytes> =
            snapshot.chain(loaded.records.iter().map(|(_, record)| record.update.clone())).collect();
        load(&updates)
    }

    /// Everybody sees everybody who is there, and nobody else.
    pub(crate) fn judge_presence(&self, doc: usize) -> Go {
        let here = self.clients.iter().filter(|client| present(client, doc));
        let states = here.clone().filter_map(|client| Some((client.id(), client.presence.own_state()?.clone())));
        let expected: BTreeMap<u64, Bytes> = states.collect();
        for client in here {
            if client.presence.states() != &expected {
                let seen = client.presence.states();
                return broken(format!("doc{doc}: present are {expected:?}, and {} sees {seen:?}", client.id()));
            }
        }
        Ok(())
    }

    /// What was written without the right to is nowhere but with its writer.
    pub(crate) fn judge_rights(&self) -> Go {
        for client in &self.clients {
            let strays = client.provider.iter().flat_map(|provider| &provider.strays);
            if strays.into_iter().any(|stray| self.server.disk.cover(client.doc).touches(stray)) {
                return broken("what a provider wrote that may only read was stored");
            }
            for &id in &client.forbidden {
                if self.server.disk.cover(client.doc).mentions(id) {
                    return broken("what a read-only client wrote was stored");
                }
            }
        }
        Ok(())
    }

    /// Everybody goes; the documents leave memory, and nothing is lost by it.
    fn empty_house(&mut self) -> Go {
        let before: Vec<Replica> = (0..self.docs).map(|doc| self.stored(doc)).collect::<Go<_>>()?;
        let ids: Vec<u64> = self.server.connections.keys().copied().collect();
        for client in &mut self.clients {
            client.connection = None;
            client.dial_at = u64::MAX;
        }
        for id in ids {
            let connection = self.server.connections.get_mut(&id).expect("just listed");
            connection.client_gone = true;
        }
        for _ in 0..200 {
            self.pass(1_000);
            self.quieten()?;
        }
        if !self.server.actors.is_empty() || !self.server.connections.is_empty() {
            return broken("documents stay in memory that nobody reads");
        }
        for (doc, before) in before.iter().enumerate() {
            same(&self.stored(doc)?, before, &format!("doc{doc}: before and after it left memory"))?;
        }
        self.server.check_promises()
    }
}

pub(crate) fn present(client: &Client, doc: usize) -> bool {
    client.doc == doc && client.right != Right::Refused
}

fn whole(replica: &Replica) -> Bytes {
    replica.diff(&StateVector::default()).expect("it was loaded")
}

fn load(updates: &[Bytes]) -> Go<Replica> {
    match Replica::load(Deleted::Kept, updates.iter()) {
        Ok(replica) if !replica.has_pending() => Ok(replica),
        _ => broken("a state cannot be loaded"),
    }
}

/// State vector, delete set and content; never encodings.
pub(crate) fn same(one: &Replica, other: &Replica, what: &str) -> Go {
    if !one.same_history(other) {
        return broken(format!("{what} have not seen the same: {:?} and {:?}", one.clocks(), other.clocks()));
    }
    match (render_replica(one), render_replica(other)) {
        (Ok(one), Ok(other)) if one == other => Ok(()),
        (one, other) => broken(format!("{what} differ: {one:?} and {other:?}")),
    }
}
