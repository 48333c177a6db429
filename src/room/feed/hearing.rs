//! What other nodes say about the room.

use std::sync::Arc;

use syncline_protocol::Moment;

use crate::bus;
use crate::bus::NodeId;
use crate::event::Event;
use crate::room::company::Held;
use crate::room::history::Content;
use crate::room::history::News;
use crate::room::history::weight_of;
use crate::room::linked::Linked;
use crate::room::mark::Known;
use crate::room::mark::Mark;
use crate::room::members::Via;
use crate::room::settings::RoomSettings;
use crate::room::wire::Here;
use crate::room::wire::Member;
use crate::room::wire::Message;
use crate::room::wire::Numbers;
use crate::room::wire::Told;
use crate::table::events::Presence;

use super::Feed;
use super::Raw;
use super::State;

/// Where something stands that another node told.
enum Turn {
    /// It was told before.
    Past,
    /// It is next.
    Now,
    /// Something was told before it that is not known.
    Later,
}

impl Feed {
    /// Another node said something.
    pub(in crate::room) fn hear(self: &Arc<Self>, heard: bus::Heard) {
        let bus::Heard { from, missed, body } = heard;
        let mut state = self.lock();
        if from == self.house.node() || state.company.is_none() {
            return;
        }
        let Some(message) = Message::decode(body) else {
            tracing::debug!(event = "room_message_unreadable", channelId = self.room.as_str(), node = %from);
            return;
        };
        if missed {
            state.known.doubt(from);
            if let Some(company) = &mut state.company {
                company.is_to_ask = true;
            }
        }
        self.take_in(&mut state, from, message);
        self.catch_up(&mut state);
        self.mind_trouble(&mut state);
        drop(state);
        self.told.send_replace(());
        self.found.notify_waiters();
    }

    fn take_in(&self, state: &mut State, from: NodeId, message: Message) {
        match message {
            Message::Here(here) => self.meet(state, from, here),
            Message::Bye => self.part_from(state, from),
            Message::Told(told) => {
                if told.mark.stamp.origin == from {
                    self.hold(state, Held::Told(from, told));
                }
            }
            Message::Passed { key, mark, event } => {
                if mark.stamp.origin == from {
                    state.history.issue(event.id, mark.clone());
                    if self.is_heard() {
                        self.hold(state, Held::Passed(from, format!("{from} {key}").into(), mark, event));
                    }
                }
            }
            Message::Want { whom, have } => {
                let is_in = state.company.as_ref().is_some_and(|company| !company.is_joining());
                if whom == self.house.node() && is_in {
                    self.answer(state, from, &have);
                }
            }
            Message::Missed(missed) => {
                if missed.to == self.house.node() {
                    self.take_missed(state, from, missed);
                }
            }
            Message::Where(id) => {
                let is_in = state.company.as_ref().is_some_and(|company| !company.is_joining());
                if let Some(mark) = state.history.mark_before(id).filter(|_| is_in) {
                    self.say(&Message::Point { id, mark });
                }
            }
            Message::Point { id, mark } => state.history.issue(id, mark),
            Message::Set { at_ms, settings } => self.set(state, at_ms, settings),
            Message::Member { peer, at_ms, presence } => {
                let peer = number_of(from, peer);
                self.announce(state, at_ms, |members, words| {
                    members.hear(words, Via::Node(from), peer, at_ms, presence)
                });
            }
            Message::Members { is_first, is_last, members } => {
                self.list(state, from, (is_first, is_last), members);
            }
            Message::Parcel { age_ms, event } => self.take_parcel(age_ms, event),
            Message::Signed(id) => {
                if let (Some(Linked { courier, .. }), Some(user)) = (&self.house.link, self.user()) {
                    courier.signed_elsewhere(user, id);
                }
            }
        }
    }

    fn user(&self) -> Option<&str> {
        self.room.as_str().strip_prefix("user:")
    }

    fn take_parcel(&self, age_ms: u64, event: Event) {
        if let (Some(Linked { courier, .. }), Some(user)) = (&self.house.link, self.user()) {
            let now = self.house.clock.now().moment;
            courier.take_over(&user.into(), event, ago(now, age_ms), now);
        }
    }

    /// Somebody holds the room, too.
    fn meet(&self, state: &mut State, from: NodeId, here: Here) {
        let now = self.house.clock.now().moment;
        state.known.touch(from);
        let Some(company) = &mut state.company else { return };
        if !company.meet(from, here.follows) {
            return;
        }
        if company.is_joining() {
            if here.is_in && company.want.is_none() {
                self.ask(state, from);
            }
        } else {
            let is_blind = company.is_blind(now);
            self.compare(state, from, &here, is_blind);
        }
        if let Some((at_ms, settings)) = here.settings {
            self.set(state, at_ms, settings);
        }
        if here.asks {
            self.present(state, false);
        }
    }

    /// Finds out what is missing here.
    fn compare(&self, state: &mut State, from: NodeId, here: &Here, is_blind: bool) {
        let before = state.known.of(from);
        let is_doubted = state.known.trust(from);
        if before.is_none_or(|known| known < here.begin) {
            // It forgot the room in between. What it told before that is gone.
            match before.is_some() && is_doubted {
                true => self.restart(state, &[(from, here.begin)]),
                false => state.known.raise(from, here.begin),
            }
        }
        // One that is not in yet has told nothing to others: it will, from the first on.
        if !here.is_in || state.known.has(&here.known) {
            return;
        }
        if is_blind {
            // It may have been told since somebody listens here.
            return self.restart(state, &here.known);
        }
        let Some(company) = &mut state.company else { return };
        for (node, number) in &here.known {
            let goal = company.goal.entry(*node).or_default();
            *goal = (*goal).max(*number);
        }
        if company.want.is_none() {
            self.ask(state, from);
        }
    }

    /// Takes something in as soon as everything is known that it followed.
    pub(super) fn hold(&self, state: &mut State, held: Held) {
        let Some(company) = &mut state.company else { return };
        // It is let go of at once if it is its turn.
        if !company.hold(held) {
            self.give_up(state);
        }
    }

    /// Takes in what is held, as far as it is its turn, and asks for what is missing.
    pub(super) fn catch_up(&self, state: &mut State) {
        loop {
            let now = self.house.clock.now().moment;
            let Some(company) = &mut state.company else { return };
            if company.is_joining() {
                return;
            }
            let unknown =
                company.held.front().filter(|_| company.is_blind(now)).map(|held| unknown(&state.known, held));
            if let Some(unknown) = unknown.filter(|unknown| !unknown.is_empty()) {
                self.restart(state, &unknown);
                continue;
            }
            let known = &state.known;
            let Some(held) = company.release(|held| !matches!(turn(known, held), Turn::Later)) else { break };
            let is_past = matches!(turn(known, &held), Turn::Past);
            match held {
                Held::Told(_, told) if !is_past => self.take(state, told),
                Held::Told(..) => {}
                Held::Passed(_, key, _, event) => self.pass_on(state, &key, event),
            }
        }
        let Some(company) = &mut state.company else { return };
        if let Some(whom) = company.held.front().map(Held::from).filter(|_| company.want.is_none()) {
            self.ask(state, whom);
        }
    }

    /// Takes in what another node told.
    pub(super) fn take(&self, state: &mut State, told: Told) {
        let now = self.house.clock.now().moment;
        let Mark { stamp, .. } = told.mark;
        state.known.raise(stamp.origin, stamp.number);
        let Some((news, mark)) = news_of(told) else { return self.restart(state, &[]) };
        self.house.mind(news.first, stamp.origin);
        if self.house.link.as_ref().is_some_and(|link| !link.is_apart) {
            // What is told here next stands behind it.
            state.at = state.at.max((news.first.epoch, news.first.revision));
        }
        state.used = now;
        let keep = self.keep(state);
        self.counted(state, |state| drop(state.history.push(now, &keep, mark, news)));
    }

    fn set(&self, state: &mut State, at_ms: u64, settings: RoomSettings) {
        let Some(company) = &mut state.company else { return };
        if at_ms > company.set_ms {
            company.set_ms = at_ms;
            (state.settings, state.is_set) = (settings, true);
            state.used = self.house.clock.now().moment;
        }
    }

    fn part_from(&self, state: &mut State, from: NodeId) {
        if let Some(company) = &mut state.company {
            company.part(from);
        }
        let at_ms = self.house.clock.now().wall_ms;
        self.announce(state, at_ms, |members, words| members.forget(words, Via::Node(from)));
    }

    /// Connections of another node. When the list is whole, those who are not in it have left.
    fn list(&self, state: &mut State, from: NodeId, part: (bool, bool), list: Vec<Member>) {
        let Some(company) = &mut state.company else { return };
        let whole = company.list(from, part, list.iter().map(|member| number_of(from, member.peer)));
        let at_ms = self.house.clock.now().wall_ms;
        self.announce(state, at_ms, |members, words| {
            let via = Via::Node(from);
            let mut all = Vec::new();
            for Member { peer, since_ms, user, name, email, clients } in list {
                let peer = number_of(from, peer);
                let mut hear = |presence| members.hear(words, via, peer, since_ms, presence);
                all.extend(hear(Presence::Joined { user, name, email }));
                for (client, state) in clients {
                    all.extend(hear(Presence::State { client, state: Some(state) }));
                }
            }
            all.extend(whole.map(|whole| members.keep(words, via, &whole)).unwrap_or_default());
            all
        });
    }
}

/// Whether it is something's turn.
fn turn(known: &Known, held: &Held) -> Turn {
    let mark = held.mark();
    let others = mark.others.as_deref().unwrap_or_default();
    let stamp = mark.stamp;
    let before = known.of(stamp.origin);
    match held {
        Held::Told(..) if before.is_some_and(|known| stamp.number <= known) => Turn::Past,
        _ if !known.has(others) => Turn::Later,
        Held::Told(_, told) => {
            let is_first = stamp.number == told.begin + 1 && before.is_none_or(|known| known <= told.begin);
            let is_next = before.is_some_and(|known| stamp.number == known + 1);
            // What its node told before it forgot the room may have been missed.
            let is_trusted = before.is_none() || !known.is_doubted(stamp.origin);
            if is_next || (is_first && is_trusted) { Turn::Now } else { Turn::Later }
        }
        Held::Passed(..) => {
            if before.is_some_and(|known| stamp.number <= known) {
                Turn::Now
            } else {
                Turn::Later
            }
        }
    }
}

/// What came before something, of nodes that were never heard of.
fn unknown(known: &Known, held: &Held) -> Numbers {
    let mark = held.mark();
    let own = match held {
        // The first that its node tells: nothing came before it.
        Held::Told(_, told) if mark.stamp.number == told.begin + 1 => None,
        Held::Told(..) => Some((mark.stamp.origin, mark.stamp.number.saturating_sub(1))),
        Held::Passed(..) => Some((mark.stamp.origin, mark.stamp.number)),
    };
    let others = mark.others.as_deref().unwrap_or_default();
    others.iter().copied().chain(own).filter(|(node, _)| known.of(*node).is_none()).collect()
}

/// `None` where its node could not say what it was.
pub(super) fn news_of(told: Told) -> Option<(News<Raw>, Mark)> {
    let events = told.events?;
    let (first, count) = (events.first()?.id, events.len());
    let bytes = weight_of(events.iter().map(|event| &**event));
    Some((News { first, count, bytes, content: Content::Encoded(events) }, told.mark))
}

/// When something happened that is so old.
pub(super) fn ago(now: Moment, age_ms: u64) -> Moment {
    Moment(now.0.saturating_sub(age_ms))
}

/// The number of a connection of another node, the same in all rooms: far above those of this node's, and one that
/// JavaScript can hold.
fn number_of(node: NodeId, peer: u64) -> u64 {
    const REMOTE: u64 = 1 << 52;
    let mixed = (node.0 ^ peer.wrapping_mul(0x9E37_79B9_7F4A_7C15)).wrapping_mul(0xD6E8_FEB8_6659_FD93);
    REMOTE | ((mixed ^ mixed >> 32) & (REMOTE - 1))
}
