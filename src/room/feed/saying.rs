//! What this node says to the others that hold the room.

use std::sync::Arc;

use syncline_protocol::Moment;

use crate::bus::NodeId;
use crate::bus::Topic;
use crate::event::EventId;
use crate::room::history::Batch;
use crate::room::linked::Linked;
use crate::room::mark::Mark;
use crate::room::wire::Here;
use crate::room::wire::MEMBERS_PER_MESSAGE;
use crate::room::wire::Message;
use crate::room::wire::Missed;
use crate::room::wire::Numbers;
use crate::room::wire::PART_BYTES;
use crate::room::wire::TOLD_BYTES_MAX;
use crate::room::wire::Told;
use crate::table::events::Presence;

use super::Feed;
use super::Raw;
use super::State;

impl Feed {
    pub(super) fn say(&self, message: &Message) {
        if let Some(Linked { link, .. }) = &self.house.link {
            link.bus.publish(&Topic::Room(self.room.clone()), message.encode());
        }
    }

    /// Says what was told here. Not while it is not known yet what was told before: it goes out behind that.
    pub(super) fn share(&self, state: &mut State, now: Moment, batch: &Arc<Batch<Raw>>, mark: Mark) {
        let Some(company) = &state.company else { return };
        if company.is_joining() || !company.is_heard(now) {
            return;
        }
        let told = self.told_of(state, now, batch, mark);
        self.say(&Message::Told(told));
    }

    /// What was told while it was not known what was told before.
    pub(super) fn share_all(&self, state: &mut State) {
        let (now, me, begin) = (self.house.clock.now().moment, self.house.node(), state.known.begin());
        let is_own = |batch: &Batch<Raw>| batch.stamp().origin == me && batch.stamp().number > begin;
        let own: Vec<_> =
            state.history.kept().filter(|(batch, _)| is_own(batch)).map(|(b, m)| (b.clone(), m.clone())).collect();
        for (batch, mark) in own {
            self.share(state, now, &batch, mark);
        }
    }

    /// A transaction, encoded if nobody has read it yet.
    fn told_of(&self, state: &mut State, now: Moment, batch: &Arc<Batch<Raw>>, mark: Mark) -> Told {
        let (events, bytes) = batch.events(|raw| self.encode(batch.first(), raw));
        let events = events.to_vec();
        if let Some(bytes) = bytes {
            let keep = self.keep(state);
            self.counted(state, |state| state.history.reweigh(now, &keep, batch.number(), bytes));
        }
        let is_small = events.iter().map(|event| event.json.len()).sum::<usize>() <= TOLD_BYTES_MAX;
        let age_ms = age_ms(now, batch.at());
        Told { mark, begin: state.known.begin(), age_ms, events: (is_small && !events.is_empty()).then_some(events) }
    }

    /// Says that this node holds the room, and what it has there.
    pub(super) fn present(&self, state: &mut State, asks: bool) {
        let now = self.house.clock.now().moment;
        let follows = self.is_heard() || !state.history.is_empty();
        let (begin, known, settings) = (state.known.begin(), state.known.all(), state.settings);
        let is_set = state.is_set;
        let Some(company) = &mut state.company else { return };
        company.said = (now, follows);
        let is_in = !company.is_joining();
        let settings = is_set.then_some((company.set_ms, settings));
        self.say_members(state);
        self.say(&Message::Here(Here { asks, is_in, follows, begin, known, settings }));
        self.share_parcels();
    }

    /// Those who are here by themselves. Those who are in the document are told of by the documents.
    fn say_members(&self, state: &State) {
        if self.room.as_doc().is_some() {
            return;
        }
        let own = state.members.own();
        let parts = own.chunks(MEMBERS_PER_MESSAGE).map(<[_]>::to_vec);
        let parts: Vec<_> = if own.is_empty() { vec![Vec::new()] } else { parts.collect() };
        let last = parts.len() - 1;
        for (part, members) in parts.into_iter().enumerate() {
            self.say(&Message::Members { is_first: part == 0, is_last: part == last, members });
        }
    }

    pub(super) fn say_presence(&self, state: &State, peer: u64, at_ms: u64, presence: &Presence) {
        let now = self.house.clock.now().moment;
        if state.company.as_ref().is_some_and(|company| company.is_heard(now)) && self.room.as_doc().is_none() {
            self.say(&Message::Member { peer, at_ms, presence: presence.clone() });
        }
    }

    pub(super) fn say_settings(&self, state: &mut State) {
        let at_ms = self.house.clock.now().wall_ms;
        let settings = state.settings;
        if let Some(company) = &mut state.company {
            company.set_ms = at_ms;
            self.say(&Message::Set { at_ms, settings });
        }
    }

    /// What waits for the room's user.
    fn share_parcels(&self) {
        if let (Some(Linked { courier, .. }), Some(user)) = (&self.house.link, self.room.as_str().strip_prefix("user:"))
        {
            courier.share(user, self.house.clock.now().moment);
        }
    }

    /// Says everything that somebody lacks who has this.
    pub(super) fn answer(&self, state: &mut State, to: NodeId, have: &Numbers) {
        let now = self.house.clock.now().moment;
        let has = |node| have.iter().find(|(other, _)| *other == node).map_or(0, |(_, number)| *number);
        let is_lacked = |batch: &Batch<Raw>| batch.stamp().number > has(batch.stamp().origin);
        let kept = state.history.kept().filter(|(batch, _)| is_lacked(batch));
        let lacked: Vec<_> = kept.map(|(batch, mark)| (batch.clone(), mark.clone())).collect();
        let mut missed = Missed {
            to,
            part: 0,
            is_last: false,
            floor: Vec::new(),
            gone_ms: 0,
            known: state.known.all(),
            base: (EventId::default(), state.known.mark()),
            told: Vec::new(),
        };
        let mut bytes = 0;
        for (batch, mark) in lacked {
            let told = self.told_of(state, now, &batch, mark);
            bytes += told.bytes();
            missed.told.push(told);
            if bytes >= PART_BYTES {
                bytes = 0;
                self.say_part(state, &mut missed);
            }
        }
        missed.is_last = true;
        self.say_part(state, &mut missed);
    }

    fn say_part(&self, state: &State, missed: &mut Missed) {
        // To encode something may have been too much for the history, and the oldest went.
        (missed.floor, missed.base) = (state.history.floor(), state.history.base().clone());
        missed.gone_ms = age_ms(self.house.clock.now().moment, state.history.gone_at());
        let message = Message::Missed(missed.clone());
        self.say(&message);
        missed.told.clear();
        missed.part += 1;
    }
}

fn age_ms(now: Moment, at: Moment) -> u64 {
    u64::try_from(now.since(at).as_millis()).unwrap_or(u64::MAX)
}
