//! One history: clients, links, the server and its disk, taken forward by chance, then brought to rest and judged.

use std::time::Duration;

use bytes::Bytes;
use syncline::document::core::Cluster;
use syncline::document::core::CoreSettings;
use syncline::document::request::Member;
use syncline::document::request::Request;
use syncline::outbox::OutboxLimits;
use syncline_protocol::ErrorCode;
use syncline_protocol::Moment;
use syncline_protocol::state_vector::StateVector;
use syncline_protocol::update::UpdateLimits;

use crate::chance::Chance;
use crate::client::Client;
use crate::client::Right;
use crate::client::update_in;
use crate::counting::make_providers;
use crate::edits;
use crate::fault::Fault;
use crate::provider::Provider;
use crate::server::Go;
use crate::server::Limits;
use crate::server::Server;
use crate::server::Stop;
use crate::server::broken;

/// Everything there is.
pub(crate) struct World {
    pub(crate) chance: Chance,
    pub(crate) server: Server,
    pub(crate) clients: Vec<Client>,
    pub(crate) docs: usize,
    pub(crate) trace: bool,
    /// One call to the store in so many fails.
    pub(crate) fails_in: usize,
    pub(crate) crashed: bool,
    pub(crate) may_delete: bool,
    pub(crate) resting: bool,
}

impl World {
    pub(crate) fn new(seed: u64, fault: Fault, trace: bool) -> Self {
        let mut chance = Chance::new(seed);
        let chance = &mut chance;
        let docs = chance.between(1, 3);
        let limits = Limits {
            inbox: chance.between(2, 24),
            batch: chance.between(1, 12),
            outbox: OutboxLimits { bytes_max: chance.between(100, 4000), frames_max: chance.between(1, 24) },
            core: CoreSettings {
                doc_bytes_max: 1 << 24,
                compact_bytes: chance.between(100, 4000),
                idle: Duration::from_secs(chance.between(1, 30) as u64),
                // Documents here are small: half of the histories take them for large ones.
                heavy_bytes: if chance.one_in(2) { chance.between(0, 2000) } else { usize::MAX },
                update: UpdateLimits::default(),
                cluster: Cluster::Alone,
            },
            kind: "",
        };
        let server = Server::new(docs, limits, fault);
        let named = chance.one_in(2);
        let mut clients: Vec<Client> =
            (0..chance.between(2, 6)).map(|index| new_client(index, docs, named, chance)).collect();
        let counting = if fault.is_of_statuses() { clients.len() } else { chance.below(clients.len() + 1) };
        make_providers(&mut clients, counting, chance);
        let may_delete = chance.one_in(6);
        let mut world = Self {
            chance: chance.clone(),
            server,
            clients,
            docs,
            trace,
            fails_in: 0,
            crashed: false,
            may_delete,
            resting: false,
        };
        world.arrange_tabs();
        world
    }

    fn arrange_tabs(&mut self) {
        if !self.chance.one_in(3) {
            return;
        }
        // A tab that starts anew would take edits with it that others were about to build on.
        self.may_delete = false;
        let relays = self.chance.one_in(2);
        for client in self.clients.iter_mut().filter(|client| client.right == Right::Write && client.provider.is_none())
        {
            client.tab = Some(client.doc);
            client.relays = relays;
        }
    }

    pub(crate) fn now(&self) -> u64 {
        self.server.now.moment.0
    }

    pub(crate) fn say(&self, what: impl FnOnce() -> String) {
        if self.trace {
            println!("{:>8} {}", self.now(), what());
        }
    }

    pub(crate) fn pass(&mut self, ms: u64) {
        self.server.now.moment = Moment(self.now() + ms);
        self.server.now.wall_ms += ms;
    }

    /// The history itself.
    pub(crate) fn run(&mut self) -> Go {
        for _ in 0..self.chance.between(60, 260) {
            let ms = self.chance.below(30) as u64;
            self.pass(ms);
            match self.step() {
                Err(Stop::Crash) => self.crash()?,
                other => other?,
            }
        }
        self.server.fuse = None;
        self.rest()
    }

    fn crash(&mut self) -> Go {
        self.say(|| "the server crashes".into());
        self.crashed = true;
        self.server.crash(&mut self.chance)
    }

    fn step(&mut self) -> Go {
        let client = self.chance.below(self.clients.len());
        match self.chance.below(100) {
            0..=14 => self.edit(client),
            15 => self.look_at_token(),
            16..=17 => self.change_presence(client),
            18 => self.hear_tab(client),
            19 => self.force(client),
            20..=34 => self.client_reads(client),
            35..=39 => self.wake(client),
            40..=52 => self.server_reads(),
            53..=64 => self.server_writes(),
            65..=78 => self.turn(),
            79..=90 => self.progress(),
            91 | 92 => self.disconnect(client),
            93 => self.rare(client),
            94 => self.ask(),
            95 => self.set_fuse(),
            96 => {
                self.fails_in = [0, 0, 20, 2, 1][self.chance.below(5)];
                Ok(())
            }
            97 => {
                let ms = self.chance.between(100, 40_000) as u64;
                self.pass(ms);
                Ok(())
            }
            _ => self.all_busy(),
        }
    }

    /// A quiet moment: everything moves a little.
    fn all_busy(&mut self) -> Go {
        for client in 0..self.clients.len() {
            self.wake(client)?;
            self.client_reads(client)?;
        }
        self.look_at_token()?;
        for _ in 0..4 {
            self.server_reads()?;
            self.turn()?;
            self.progress()?;
            self.server_writes()?;
        }
        Ok(())
    }

    pub(crate) fn edit(&mut self, index: usize) -> Go {
        let client = &mut self.clients[index];
        let may = match client.right {
            Right::Write => true,
            Right::Read => self.chance.one_in(12),
            Right::Refused => self.chance.one_in(4),
        };
        if !may {
            return Ok(());
        }
        if !client.could_write {
            client.forbidden.push(client.id());
        }
        let link = client.connection.and_then(|id| self.server.connections.get_mut(&id));
        let out = link.map(|link| &mut link.to_server);
        let Some(update) = client.edit(&mut self.chance, out) else { return Ok(()) };
        let (tab, bytes) = (client.tab, update.len());
        self.say(|| format!("client {index} edits, {bytes} bytes"));
        for (other, client) in self.clients.iter_mut().enumerate() {
            if other != index && tab.is_some() && client.tab == tab {
                client.from_tabs.push(update.clone());
            }
        }
        Ok(())
    }

    pub(crate) fn change_presence(&mut self, index: usize) -> Go {
        let state = Bytes::from(format!("{{\"cursor\":{}}}", self.chance.below(100)));
        let state = Some(state).filter(|_| !self.chance.one_in(5));
        let now = self.now();
        let client = &mut self.clients[index];
        let link = client.connection.and_then(|id| self.server.connections.get_mut(&id));
        client.set_presence(state, now, link.map(|link| &mut link.to_server));
        Ok(())
    }

    /// Tabs talk past the server, in any order.
    pub(crate) fn hear_tab(&mut self, index: usize) -> Go {
        let client = &mut self.clients[index];
        if client.from_tabs.is_empty() {
            return Ok(());
        }
        let which = self.chance.below(client.from_tabs.len());
        let update = client.from_tabs.remove(which);
        let link = client.connection.and_then(|id| self.server.connections.get_mut(&id));
        client.hear_tab(update, link.map(|link| &mut link.to_server))
    }

    pub(crate) fn client_reads(&mut self, index: usize) -> Go {
        let count = self.chance.between(1, 4);
        self.hear(index, count).map(drop)
    }

    /// A client reads what has arrived. Answers whether there was anything.
    pub(crate) fn hear(&mut self, index: usize, count: usize) -> Go<bool> {
        let now = self.now();
        let unique = !self.crashed && self.clients.iter().all(|client| client.tab.is_none());
        if self.clients[index].provider.is_some() {
            return self.hear_addressed(index, count);
        }
        let client = &mut self.clients[index];
        let Some(id) = client.connection else { return Ok(false) };
        let Some(link) = self.server.connections.get_mut(&id) else { return broken("a connection without a link") };
        let mut busy = false;
        for _ in 0..count {
            let Some(frame) = link.to_client.pop_front() else { break };
            busy = true;
            if unique && update_in(&frame).is_some_and(|update| client.was_confirmed(&update)) && !link.lagged {
                return broken("an update was acknowledged twice");
            }
            if frame.first() == Some(&2) && client.right != Right::Refused {
                // Told that what it brought counts for nothing, the application throws its copy away.
                link.client_gone = true;
                self.closed(index, ErrorCode::Forbidden.close_code_or_internal());
                return Ok(true);
            }
            if frame.first() == Some(&1) && client.right != Right::Refused {
                client.hear_presence(frame, now, &mut link.to_server)?;
            } else {
                client.hear(frame, link.lagged, now, &mut link.to_server)?;
            }
        }
        if link.to_client.is_empty()
            && let Some(code) = link.closed
        {
            link.client_gone = true;
            self.closed(index, code);
            return Ok(true);
        }
        Ok(busy)
    }

    pub(crate) fn closed(&mut self, index: usize, code: u16) {
        self.say(|| format!("client {index} is closed with {code}"));
        for client in self.sharing(index) {
            self.lost(client, code);
        }
    }

    /// Everybody on the socket of this client.
    pub(crate) fn sharing(&self, index: usize) -> Vec<usize> {
        let socket = self.clients[index].connection;
        (0..self.clients.len()).filter(|&other| self.clients[other].connection == socket).collect()
    }

    fn lost(&mut self, index: usize, code: u16) {
        let now = self.now();
        let client = &mut self.clients[index];
        client.lost(now, &mut self.chance);
        if (4400..4500).contains(&code) {
            client.start_anew(now, &mut self.chance);
            client.dial_at = now + 2_000 + self.chance.below(3_000) as u64;
        }
    }

    /// Dials if it is time; otherwise renews and watches.
    pub(crate) fn wake(&mut self, index: usize) -> Go {
        let now = self.now();
        let client = &mut self.clients[index];
        let Some(id) = client.connection else {
            if client.dial_at <= now {
                self.dial(index);
            }
            return Ok(());
        };
        let Some(link) = self.server.connections.get_mut(&id) else { return broken("a connection without a link") };
        if !client.tick(now, &mut link.to_server) {
            self.hang_up(index);
        } else if let Some(provider) = &client.provider {
            if provider.is_out() && client.dial_at <= now {
                client.opened(id, now, self.server.disk.deletions(client.doc), &mut link.to_server);
                self.say(|| format!("client {index} comes back on socket {id}"));
            } else if provider.force_due {
                client.force(&mut link.to_server);
            }
        }
        Ok(())
    }

    fn dial(&mut self, index: usize) {
        let now = self.now();
        let Some(id) = self.socket_for(index) else { return };
        let client = &mut self.clients[index];
        let link = self.server.connections.get_mut(&id).expect("just made");
        client.opened(id, now, self.server.disk.deletions(client.doc), &mut link.to_server);
        self.say(|| format!("client {index} connects ({id})"));
    }

    /// A socket of its own, or that of another; `None` while that one has none.
    fn socket_for(&mut self, index: usize) -> Option<u64> {
        let client = &self.clients[index];
        let Some(provider) = &client.provider else {
            return Some(self.server.connect(self.entrant(index, 0), self.verdict(index)));
        };
        match provider.rides {
            None => Some(self.server.connect_many()),
            Some(other) => self.clients[other].connection,
        }
    }

    pub(crate) fn disconnect(&mut self, index: usize) -> Go {
        let client = &mut self.clients[index];
        let Some(id) = client.connection else { return Ok(()) };
        let link = self.server.connections.get_mut(&id).expect("connected");
        let leaves = client.provider.as_ref().is_some_and(Provider::may_leave);
        if leaves && self.chance.one_in(2) {
            client.leave(self.server.now.moment.0, &mut link.to_server, &mut self.chance);
            self.say(|| format!("client {index} leaves its channel"));
            return Ok(());
        }
        if self.chance.one_in(2) {
            client.say_goodbye(&mut link.to_server);
        } else {
            let arrives = self.chance.below(link.to_server.len() + 1);
            link.to_server.truncate(arrives);
        }
        self.hang_up(index);
        Ok(())
    }

    pub(crate) fn hang_up(&mut self, index: usize) {
        self.say(|| format!("client {index} hangs up"));
        if let Some(link) = self.clients[index].connection.and_then(|id| self.server.connections.get_mut(&id)) {
            link.client_gone = true;
            link.to_client.clear();
        }
        for client in self.sharing(index) {
            self.lost(client, 1000);
        }
        self.server.connections.retain(|_, connection| !connection.is_over());
    }

    pub(crate) fn ask(&mut self) -> Go {
        if self.server.fault.is_of_statuses() {
            return Ok(()); // Its answer would be what gives the mistake away.
        }
        let doc = self.chance.below(self.docs);
        let writer = edits::new_doc(&mut self.chance);
        let update = edits::edit(&writer, &mut self.chance).unwrap_or_else(|| Bytes::from_static(&[0, 0]));
        let template = if self.chance.one_in(2) { update.clone() } else { Bytes::from_static(&[0, 0]) };
        let kind = self.chance.below(if self.may_delete { 8 } else { 6 });
        let (request, update) = match kind {
            0 | 1 => (Request::Update { update: update.clone(), member: None }, Some(update)),
            2 => (Request::State { have: StateVector::default() }, None),
            3 => (Request::Presence, None),
            4 => (Request::Flush, None),
            5 | 6 => (Request::Create { template: template.clone(), member: None }, Some(template.clone())),
            _ => (Request::Delete, None),
        };
        let is_replaced = matches!(request, Request::Delete) && self.chance.one_in(2);
        self.say(|| format!("doc{doc} is asked {kind}"));
        self.server.ask(doc, request, update);
        if is_replaced {
            // Who is away now comes back to another document of that name.
            self.server.ask(doc, Request::Create { template: template.clone(), member: None }, Some(template));
        }
        Ok(())
    }

    fn set_fuse(&mut self) -> Go {
        if self.chance.one_in(2) {
            return Err(Stop::Crash);
        }
        self.server.fuse = Some(self.chance.below(20));
        Ok(())
    }

    fn some_connection(&mut self) -> Option<u64> {
        let which = self.chance.below(self.server.connections.len());
        self.server.connections.keys().nth(which).copied()
    }

    pub(crate) fn server_reads(&mut self) -> Go {
        if let Some(id) = self.some_connection() {
            for _ in 0..self.chance.between(1, 4) {
                self.server.read(id)?;
            }
            self.server.connections.retain(|_, connection| !connection.is_over());
        }
        Ok(())
    }

    pub(crate) fn server_writes(&mut self) -> Go {
        if let Some(id) = self.some_connection() {
            for _ in 0..self.chance.between(1, 3) {
                self.server.write(id)?;
            }
        }
        Ok(())
    }

    pub(crate) fn turn(&mut self) -> Go {
        let which = self.chance.below(self.server.actors.len());
        if let Some(id) = self.server.actors.keys().nth(which).copied() {
            self.server.turn(id, &mut self.chance)?;
        }
        Ok(())
    }

    pub(crate) fn progress(&mut self) -> Go {
        if !self.server.calls.is_empty() {
            let which = self.chance.below(self.server.calls.len());
            let fails = self.fails_in > 0 && self.chance.one_in(self.fails_in);
            self.server.progress(which, fails, &mut self.chance)?;
        }
        Ok(())
    }

    /// One round in which everybody does what there is to do. Answers whether anything happened.
    pub(crate) fn round(&mut self) -> Go<bool> {
        let mut busy = false;
        for index in 0..self.clients.len() {
            while !self.clients[index].from_tabs.is_empty() {
                self.hear_tab(index)?;
                busy = true;
            }
            self.wake(index)?;
            busy |= self.hear(index, usize::MAX)?;
        }
        Ok(self.server_round()? || busy)
    }

    /// The server's part of it.
    pub(crate) fn server_round(&mut self) -> Go<bool> {
        let mut busy = false;
        while !self.server.questions.is_empty() {
            self.look_at_token()?;
            busy = true;
        }
        for id in self.server.connections.keys().copied().collect::<Vec<_>>() {
            busy |= self.server.read(id)?;
            busy |= self.server.write(id)?;
        }
        self.server.connections.retain(|_, connection| !connection.is_over());
        for id in self.server.actors.keys().copied().collect::<Vec<_>>() {
            busy |= self.server.turn(id, &mut self.chance)?;
        }
        while !self.server.calls.is_empty() {
            self.server.progress(0, false, &mut self.chance)?;
            busy = true;
        }
        Ok(busy)
    }
}

fn new_client(index: usize, docs: usize, named: bool, chance: &mut Chance) -> Client {
    let right = match chance.below(12) {
        0 | 1 => Right::Read,
        2 => Right::Refused,
        _ => Right::Write,
    };
    let member = named.then(|| Member { user: format!("user{index}").into(), name: None, email: None });
    Client::new(chance.below(docs), right, member, chance)
}
