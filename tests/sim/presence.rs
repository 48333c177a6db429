//! Awareness as the JavaScript clients keep it (`y-protocols` 1.0.7).

use std::collections::BTreeMap;

use bytes::Bytes;
use syncline_protocol::awareness::Entry;

const RENEW_MS: u64 = 15_000;
const OUTDATED_MS: u64 = 30_000;

#[derive(Debug, Clone, Copy)]
struct Meta {
    clock: u64,
    updated: u64,
}

/// One client's view of everybody, itself included.
#[derive(Debug)]
pub(crate) struct Presence {
    own: u64,
    meta: BTreeMap<u64, Meta>,
    states: BTreeMap<u64, Bytes>,
}

impl Presence {
    /// A fresh client has an empty state at clock 0.
    pub(crate) fn new(own: u64, now: u64) -> Self {
        let mut presence = Self { own, meta: BTreeMap::new(), states: BTreeMap::new() };
        presence.set(Some(Bytes::from_static(b"{}")), now);
        presence
    }

    pub(crate) fn set(&mut self, state: Option<Bytes>, now: u64) {
        let clock = self.meta.get(&self.own).map_or(0, |meta| meta.clock + 1);
        self.meta.insert(self.own, Meta { clock, updated: now });
        match state {
            Some(state) => drop(self.states.insert(self.own, state)),
            None => drop(self.states.remove(&self.own)),
        }
    }

    pub(crate) fn own_state(&self) -> Option<&Bytes> {
        self.states.get(&self.own)
    }

    /// Clients that are present, with their states.
    pub(crate) fn states(&self) -> &BTreeMap<u64, Bytes> {
        &self.states
    }

    /// Takes what the server says; answers the ids that the provider then sends on.
    pub(crate) fn apply(&mut self, entries: &[Entry], now: u64) -> Vec<u64> {
        let mut changed = Vec::new();
        for entry in entries {
            let known = self.meta.get(&entry.client).copied();
            let clock = known.map_or(0, |meta| meta.clock);
            let removal = entry.state.is_none() && self.states.contains_key(&entry.client);
            if !(clock < entry.clock || (clock == entry.clock && removal)) {
                continue;
            }
            let mut next = entry.clock;
            match &entry.state {
                None if entry.client == self.own && self.own_state().is_some() => next += 1,
                None => drop(self.states.remove(&entry.client)),
                Some(state) => drop(self.states.insert(entry.client, state.clone())),
            }
            self.meta.insert(entry.client, Meta { clock: next, updated: now });
            if known.is_some() || entry.state.is_some() {
                changed.push(entry.client);
            }
        }
        changed
    }

    /// Renews the own state, forgets states that nobody renewed; answers the ids to send.
    pub(crate) fn tick(&mut self, now: u64) -> Vec<u64> {
        let mut changed = Vec::new();
        if self.own_state().is_some() && now - self.meta[&self.own].updated >= RENEW_MS {
            self.set(self.own_state().cloned(), now);
            changed.push(self.own);
        }
        let old = |client: &u64| *client != self.own && now - self.meta[client].updated >= OUTDATED_MS;
        let gone: Vec<u64> = self.states.keys().copied().filter(old).collect();
        self.states.retain(|client, _| !gone.contains(client));
        changed.extend(gone);
        changed
    }

    /// The connection is gone, and with it everybody else.
    pub(crate) fn disconnected(&mut self) {
        let own = self.own;
        self.states.retain(|client, _| *client == own);
    }

    pub(crate) fn entries(&self, clients: &[u64]) -> Vec<Entry> {
        let entry = |client: &u64| Entry {
            client: *client,
            clock: self.meta[client].clock,
            state: self.states.get(client).cloned(),
        };
        clients.iter().map(entry).collect()
    }
}
