//! What befalls clients that count, each on its channel of a socket that it may share with another.

use bytes::Bytes;

use crate::chance::Chance;
use crate::client::Client;
use crate::client::Heard;
use crate::provider::Provider;
use crate::server::Go;
use crate::server::broken;
use crate::world::World;

impl World {
    /// A provider reads what is for it. The socket may bring something to others in between.
    pub(crate) fn hear_addressed(&mut self, index: usize, count: usize) -> Go<bool> {
        let mut busy = false;
        for _ in 0..count {
            let (Some(id), Some(provider)) = (self.clients[index].connection, &self.clients[index].provider) else {
                return Ok(busy);
            };
            let Some(link) = self.server.connections.get_mut(&id) else { return broken("a connection without a link") };
            let Some(at) = link.to_client.iter().position(|frame| provider.is_for(frame)) else {
                if let Some(code) = link.closed.filter(|_| link.to_client.is_empty()) {
                    link.client_gone = true;
                    self.closed(index, code);
                    return Ok(true);
                }
                return Ok(busy);
            };
            let frame = link.to_client.remove(at).expect("just found");
            busy = true;
            self.hear_one(index, id, &frame)?;
        }
        Ok(busy)
    }

    fn hear_one(&mut self, index: usize, id: u64, frame: &Bytes) -> Go {
        let now = self.now();
        let Some(link) = self.server.connections.get_mut(&id) else { return broken("a connection without a link") };
        for client in self.clients.iter_mut().filter(|client| client.connection == Some(id)) {
            client.socket_lives(now, &mut link.to_server);
        }
        let client = &mut self.clients[index];
        match client.hear_addressed(frame, link.ledgers.get_mut(&index), now, &mut link.to_server)? {
            Heard::Nothing => Ok(()),
            Heard::Saved(written) => {
                let (doc, provider) = (client.doc, client.provider.as_ref());
                // Of a document that was deleted meanwhile there is nothing, and it will be told so.
                if provider.is_none_or(|provider| provider.deletions != self.server.disk.deletions(doc)) {
                    return Ok(());
                }
                self.server.promise_all(doc, &written, "a count of zero")
            }
            Heard::Denied(word) => {
                self.denied(index, &word);
                Ok(())
            }
        }
    }

    /// A provider was denied its channel: the application tries again in a while, with a new copy if this one is of no use.
    fn denied(&mut self, index: usize, word: &str) {
        let now = self.now();
        self.say(|| format!("client {index} is denied: {word}"));
        let client = &mut self.clients[index];
        client.denied(now, &mut self.chance);
        let passes = ["AUTH_EXPIRED", "STORE_UNAVAILABLE", "CHANNEL_ERROR", "OVERLOADED"];
        if !passes.contains(&word) {
            if let (Some(provider), Some(link)) =
                (&mut client.provider, client.connection.and_then(|id| self.server.connections.get_mut(&id)))
            {
                provider.leave(&mut link.to_server);
            }
            client.start_anew(now, &mut self.chance);
        }
        let alone = self.sharing(index).len() == 1;
        if alone && self.chance.one_in(3) {
            self.clients[index].dial_at = now + 35_000; // Or it waits for another socket; silence brings one.
        }
    }

    pub(crate) fn force(&mut self, index: usize) -> Go {
        let client = &mut self.clients[index];
        if let Some(link) = client.connection.and_then(|id| self.server.connections.get_mut(&id)) {
            client.force(&mut link.to_server);
            self.say(|| format!("client {index} forces a synchronisation"));
        }
        Ok(())
    }
}

/// Makes the last `counting` clients Hocuspocus providers. Some share the socket of the one before.
pub(crate) fn make_providers(clients: &mut [Client], counting: usize, chance: &mut Chance) {
    let first = clients.len() - counting;
    let (mut owner, mut version) = (None, None);
    for (index, client) in clients.iter_mut().enumerate().skip(first) {
        let rides = owner.filter(|_| chance.one_in(2));
        // At most two on a socket, and no address twice.
        owner = if rides.is_some() { None } else { Some(index) };
        let session = rides.is_some() || chance.one_in(3);
        // Who shares a socket is of one version.
        version = if rides.is_some() { version } else { [None, None, Some("4.8.0")][chance.below(3)] };
        client.provider = Some(Provider::new(index, client.doc, session, rides, version));
    }
}
