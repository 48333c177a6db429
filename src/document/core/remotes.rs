//! Clients of other nodes: who is there and what each shows, and telling the others of ours.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use bytes::Bytes;
use syncline_protocol::awareness;

use crate::bus::NodeId;
use crate::clock::Now;
use crate::document::peer::PeerMember;
use crate::document::peer::PeerMessage;
use crate::document::peer::PeerReader;
use crate::document::request::Member;
use crate::document::request::Present;
use crate::table::events::Presence;

use super::Core;
use super::Effect;
use super::ReaderId;
use super::peers::Peers;
use super::presence::joined;

/// Clients of other nodes that are known. Full: newcomers there are not seen here.
const REMOTES_MAX: usize = 20_000;
/// Where their numbers begin: far above those of clients of this node, far below those that count down from the end.
const FIRST: u64 = 1 << 62;

/// Clients of other nodes, and which of ours the others do not know yet.
#[derive(Debug, Default)]
pub(super) struct Remotes {
    known: BTreeMap<ReaderId, Remote>,
    numbers: BTreeMap<(NodeId, u64), ReaderId>,
    count: u64,
    joined: BTreeSet<ReaderId>,
    left: Vec<u64>,
    /// Whether the others are to be told of all of ours.
    introduce: bool,
}

#[derive(Debug)]
struct Remote {
    at: (NodeId, u64),
    since_ms: u64,
    member: Option<Member>,
}

impl Remotes {
    /// Somebody may not know our clients.
    pub(super) fn introduce(&mut self) {
        self.introduce = true;
    }

    pub(super) fn joins(&mut self, reader: ReaderId) {
        self.joined.insert(reader);
    }

    pub(super) fn leaves(&mut self, reader: ReaderId) {
        if !self.joined.remove(&reader) {
            self.left.push(reader.0);
        }
    }

    pub(super) fn knows(&self, reader: ReaderId) -> bool {
        self.known.contains_key(&reader)
    }

    pub(super) fn member(&self, reader: ReaderId) -> Option<Option<&Member>> {
        self.known.get(&reader).map(|remote| remote.member.as_ref())
    }

    /// Its number here, if there is room for one more.
    fn number(&mut self, at: (NodeId, u64)) -> Option<ReaderId> {
        if let Some(&known) = self.numbers.get(&at) {
            return Some(known);
        }
        if self.numbers.len() >= REMOTES_MAX {
            return None;
        }
        let reader = ReaderId(FIRST + self.count);
        self.count += 1;
        self.numbers.insert(at, reader);
        self.known.insert(reader, Remote { at, since_ms: 0, member: None });
        Some(reader)
    }

    /// Whether the clients of a node that are known here have this hash. Not asked where there was no room for all.
    pub(super) fn are_all(&self, node: NodeId, hash: u64) -> bool {
        self.numbers.len() >= REMOTES_MAX || hash_of(self.of_node(node).map(|(peer, _)| peer)) == hash
    }

    fn forget(&mut self, reader: ReaderId) {
        if let Some(remote) = self.known.remove(&reader) {
            self.numbers.remove(&remote.at);
        }
    }

    fn of_node(&self, node: NodeId) -> impl Iterator<Item = (u64, ReaderId)> + '_ {
        self.numbers.range((node, 0)..=(node, u64::MAX)).map(|(&(_, peer), &reader)| (peer, reader))
    }
}

/// A hash of some clients' numbers, in ascending order.
pub(super) fn hash_of(peers: impl Iterator<Item = u64>) -> u64 {
    peers.fold(0xcbf2_9ce4_8422_2325, |hash: u64, peer| {
        (hash ^ peer).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29)
    })
}

impl<P> Core<P> {
    pub(super) fn remotes_here(
        &mut self,
        now: Now,
        from: NodeId,
        all: bool,
        readers: Vec<PeerReader>,
        effects: &mut Vec<Effect>,
    ) {
        if all {
            let named: BTreeSet<u64> = readers.iter().map(|reader| reader.peer).collect();
            let gone = self.peers.remotes.of_node(from).map(|(peer, _)| peer).filter(|peer| !named.contains(peer));
            let gone: Vec<u64> = gone.collect();
            self.remotes_gone(from, &gone, effects);
        }
        for PeerReader { peer, who, entries } in readers {
            // Who came while nobody heard it here is introduced again: that something was missed is noticed.
            if who.is_none() && !self.peers.remotes.numbers.contains_key(&(from, peer)) {
                continue;
            }
            let Some(reader) = self.peers.remotes.number((from, peer)) else { continue };
            if let Some(who) = who {
                self.introduced(reader, who, effects);
            }
            self.shows(now, reader, entries);
        }
    }

    fn introduced(&mut self, reader: ReaderId, who: PeerMember, effects: &mut Vec<Effect>) {
        let Some(remote) = self.peers.remotes.known.get_mut(&reader) else { return };
        let is_new = remote.since_ms == 0;
        (remote.since_ms, remote.member) = (who.since_ms.max(1), who.member);
        if is_new {
            effects.push(Effect::Presence { reader, presence: joined(remote.member.as_ref()) });
        }
    }

    /// Entries come one by one, as from the client itself: a frame of several would be hearsay.
    fn shows(&mut self, now: Now, reader: ReaderId, entries: Bytes) {
        if entries.is_empty() {
            return;
        }
        let Ok(entries) = awareness::decode(entries) else { return };
        for entry in entries {
            let changes = self.apply_awareness(now, reader, &[entry]);
            self.batch.awareness.extend(changes.changed);
        }
    }

    pub(super) fn remotes_gone(&mut self, from: NodeId, peers: &[u64], effects: &mut Vec<Effect>) {
        for &peer in peers {
            let Some(&reader) = self.peers.remotes.numbers.get(&(from, peer)) else { continue };
            self.lose_remote(reader, effects);
        }
    }

    pub(super) fn lose_remotes_of(&mut self, node: NodeId, effects: &mut Vec<Effect>) {
        let gone: Vec<ReaderId> = self.peers.remotes.of_node(node).map(|(_, reader)| reader).collect();
        for reader in gone {
            self.lose_remote(reader, effects);
        }
    }

    fn lose_remote(&mut self, reader: ReaderId, effects: &mut Vec<Effect>) {
        self.peers.remotes.forget(reader);
        self.batch.awareness.extend(self.awareness.leave(reader));
        effects.push(Effect::Presence { reader, presence: Presence::Left });
    }

    /// Tells the other holders, if there are any, who came and went here. What clients show goes with `changed`: which of
    /// ours, and for which of its Yjs clients.
    pub(super) fn tell_readers(&mut self, changed: BTreeMap<ReaderId, Vec<u64>>, effects: &mut Vec<Effect>) {
        let Peers { remotes, holders, .. } = &mut *self.peers;
        let (mut joined, left) = (std::mem::take(&mut remotes.joined), std::mem::take(&mut remotes.left));
        if holders.is_empty() {
            return; // Whoever comes to hold it asks.
        }
        let all = std::mem::take(&mut remotes.introduce);
        if all {
            joined = self.readers.keys().copied().collect();
        } else if !left.is_empty() {
            effects.push(Effect::Tell(PeerMessage::Gone(left)));
        }
        let named: BTreeSet<ReaderId> = joined.iter().chain(changed.keys()).copied().collect();
        let readers: Vec<PeerReader> =
            named.into_iter().filter_map(|id| self.introduction(id, joined.contains(&id), changed.get(&id))).collect();
        if all || !readers.is_empty() {
            effects.push(Effect::Tell(PeerMessage::Here { all, readers }));
        }
    }

    fn introduction(&self, id: ReaderId, anew: bool, changed: Option<&Vec<u64>>) -> Option<PeerReader> {
        let reader = self.readers.get(&id)?;
        let who = anew.then(|| PeerMember { since_ms: reader.since_ms, member: reader.member.clone() });
        let mut clients = changed.cloned().unwrap_or_default();
        if anew {
            clients.extend(self.awareness.states_of(id).map(|(client, _)| client));
            clients.sort_unstable();
            clients.dedup();
        }
        let entries = if clients.is_empty() { Bytes::new() } else { self.awareness.encode(&clients) };
        Some(PeerReader { peer: id.0, who, entries })
    }

    /// Whether the other holders have to hear something of our clients.
    pub(super) fn has_news_of_readers(&self) -> bool {
        let remotes = &self.peers.remotes;
        remotes.introduce || !remotes.joined.is_empty() || !remotes.left.is_empty()
    }

    pub(super) fn remote_presence(&self) -> impl Iterator<Item = Present> + '_ {
        self.peers.remotes.known.iter().map(|(&id, remote)| Present {
            member: remote.member.clone(),
            clients: self.awareness.states_of(id).collect(),
            since_ms: remote.since_ms,
        })
    }

    pub(super) fn remote_readers(&self) -> impl Iterator<Item = (ReaderId, u64, Presence)> + '_ {
        self.peers.remotes.known.iter().map(|(&id, remote)| (id, remote.since_ms, joined(remote.member.as_ref())))
    }
}
