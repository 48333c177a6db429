//! Who is present: what a channel says of itself, on its way to the other channels and to the document's room.

use std::time::Duration;

use syncline_protocol::awareness::Entry;

use crate::clock::Now;
use crate::table::events::Presence;

use super::Core;
use super::Effect;
use super::Reader;
use super::ReaderId;

/// Between two broadcasts of presence: shorter than a frame of a screen.
const AWARENESS_TICK: Duration = Duration::from_millis(10);

impl<P> Core<P> {
    pub(super) fn show(&mut self, now: Now, id: ReaderId, entries: &[Entry], effects: &mut Vec<Effect>) {
        let readers = &self.readers;
        let user = |id: ReaderId| readers.get(&id).map(|reader| reader.member.as_ref().map(|member| &member.user));
        // The same user's other connection is one that died unnoticed.
        let may_take = |owner: ReaderId| user(owner).is_none_or(|owner| Some(owner) == user(id));
        let changes = self.awareness.apply(now.moment, id, entries, may_take);
        self.batch.awareness.extend(changes.changed);
        if !changes.stale.is_empty() {
            effects.push(Effect::Awareness { reader: id, entries: self.awareness.encode(&changes.stale) });
        }
    }

    /// Presence, at once after a quiet moment and else once a tick: cursors of a hundred people cost every reader a hundred
    /// frames a second instead of a thousand, and the last state always leaves.
    pub(super) fn send_awareness(&mut self, now: Now, effects: &mut Vec<Effect>) {
        if self.batch.awareness.is_empty() || self.awareness_due.is_some_and(|due| now.moment < due) {
            return;
        }
        let changed: Vec<u64> = std::mem::take(&mut self.batch.awareness).into_iter().collect();
        self.awareness_due = Some(now.moment.after(AWARENESS_TICK));
        effects.push(Effect::BroadcastAwareness(self.awareness.encode(&changed)));
        for client in changed {
            self.report(client, effects);
        }
    }

    /// Tells the room who shows a client now. Who left took all its clients along.
    fn report(&mut self, client: u64, effects: &mut Vec<Effect>) {
        let turn = self.awareness.turn(client);
        let hidden = turn.hidden_by.map(|reader| (reader, None));
        let shown = turn.shown_by.map(|(reader, state)| (reader, Some(state)));
        for (reader, state) in hidden.into_iter().chain(shown) {
            if self.readers.contains_key(&reader) {
                effects.push(Effect::Presence { reader, presence: Presence::State { client, state } });
            }
        }
    }

    /// Everybody who is here and what each shows, for a room that hears of it only now; with the time at which each came in
    /// (milliseconds since 1970, UTC).
    pub fn everybody(&self) -> impl Iterator<Item = (ReaderId, u64, Presence)> + '_ {
        self.readers.iter().flat_map(|(&id, reader)| {
            let states = self.awareness.states_of(id);
            let states = states.map(|(client, state)| Presence::State { client, state: Some(state) });
            std::iter::once(reader.presence()).chain(states).map(move |presence| (id, reader.since_ms, presence))
        })
    }
}

impl<P> Reader<P> {
    pub(super) fn joined(&self, id: ReaderId) -> Effect {
        Effect::Presence { reader: id, presence: self.presence() }
    }

    fn presence(&self) -> Presence {
        let member = self.member.as_ref();
        Presence::Joined {
            user: member.map(|member| member.user.clone()),
            name: member.and_then(|member| member.name.clone()),
            email: member.and_then(|member| member.email.clone()),
        }
    }
}
