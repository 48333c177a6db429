//! Who is present: what a channel says of itself, on its way to the other channels and to the document's room.

use std::collections::BTreeMap;
use std::time::Duration;

use syncline_protocol::awareness::Entry;

use crate::clock::Now;
use crate::document::awareness::Changes;
use crate::document::awareness::Speaker;
use crate::document::request::Member;
use crate::table::events::Presence;

use super::Core;
use super::Effect;
use super::Reader;
use super::ReaderId;

/// Between two broadcasts of presence: shorter than a frame of a screen.
const AWARENESS_TICK: Duration = Duration::from_millis(10);

impl<P> Core<P> {
    pub(super) fn show(&mut self, now: Now, id: ReaderId, entries: &[Entry], effects: &mut Vec<Effect>) {
        let changes = self.apply_awareness(now, id, entries);
        self.batch.awareness.extend(changes.changed);
        if !changes.stale.is_empty() {
            effects.push(Effect::Awareness { reader: id, entries: self.awareness.encode_gone(&changes.stale) });
        }
    }

    pub(super) fn apply_awareness(&mut self, now: Now, id: ReaderId, entries: &[Entry]) -> Changes {
        let (readers, remotes) = (&self.readers, &self.peers.remotes);
        let member = |id: ReaderId| match readers.get(&id) {
            Some(reader) => Some(reader.member.as_ref()),
            None => remotes.member(id),
        };
        let user = |id: ReaderId| member(id).map(|member| member.map(|member| &member.user));
        // The same user's other connection is one that died unnoticed.
        let may_take = |owner: ReaderId| user(owner).is_none_or(|owner| Some(owner) == user(id));
        let echoes = readers.get(&id).is_none_or(|reader| reader.questions.echoes_presence());
        self.awareness.apply(now.moment, Speaker { id, echoes }, entries, may_take)
    }

    /// Presence, at once after a quiet moment and else once a tick: cursors of a hundred people cost every reader a hundred
    /// frames a second instead of a thousand, and the last state always leaves.
    pub(super) fn send_awareness(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let is_due = !self.batch.awareness.is_empty() && self.awareness_due.is_none_or(|due| now.moment >= due);
        if !is_due {
            if self.has_peers() && self.has_news_of_readers() {
                self.tell_readers(BTreeMap::new(), effects);
            }
            return;
        }
        let changed: Vec<u64> = std::mem::take(&mut self.batch.awareness).into_iter().collect();
        self.awareness_due = Some(now.moment.after(AWARENESS_TICK));
        effects.push(Effect::BroadcastAwareness(self.awareness.encode(&changed)));
        let mut ours: BTreeMap<ReaderId, Vec<u64>> = BTreeMap::new();
        for client in changed {
            if let Some(reader) = self.report(client, effects) {
                ours.entry(reader).or_default().push(client);
            }
        }
        if self.has_peers() {
            self.tell_readers(ours, effects);
        }
    }

    /// Tells the room who shows a client now. Who left took all its clients along.
    /// Answers whose doing it is, of this node's readers.
    fn report(&mut self, client: u64, effects: &mut Vec<Effect>) -> Option<ReaderId> {
        let turn = self.awareness.turn(client);
        let hidden = turn.hidden_by.map(|reader| (reader, None));
        let shown = turn.shown_by.map(|(reader, state)| (reader, Some(state)));
        let mut ours = None;
        for (reader, state) in hidden.into_iter().chain(shown) {
            let is_ours = self.readers.contains_key(&reader);
            if is_ours || self.peers.remotes.knows(reader) {
                effects.push(Effect::Presence { reader, presence: Presence::State { client, state } });
            }
            ours = Some(reader).filter(|_| is_ours);
        }
        ours
    }

    /// Everybody who is here and what each shows, for a room that hears of it only now; with the time at which each came in
    /// (milliseconds since 1970, UTC).
    pub fn everybody(&self) -> impl Iterator<Item = (ReaderId, u64, Presence)> + '_ {
        let ours = self.readers.iter().map(|(&id, reader)| (id, reader.since_ms, joined(reader.member.as_ref())));
        ours.chain(self.remote_readers()).flat_map(|(id, since_ms, presence)| {
            let states = self.awareness.states_of(id);
            let states = states.map(|(client, state)| Presence::State { client, state: Some(state) });
            std::iter::once(presence).chain(states).map(move |presence| (id, since_ms, presence))
        })
    }
}

impl<P> Reader<P> {
    pub(super) fn joined(&self, id: ReaderId) -> Effect {
        Effect::Presence { reader: id, presence: joined(self.member.as_ref()) }
    }
}

pub(super) fn joined(member: Option<&Member>) -> Presence {
    Presence::Joined {
        user: member.map(|member| member.user.clone()),
        name: member.and_then(|member| member.name.clone()),
        email: member.and_then(|member| member.email.clone()),
    }
}
