//! How this node comes to know what happened in the room on other nodes: when it begins to hold it, and when it missed
//! something.

use std::sync::Arc;
use std::time::Duration;

use syncline_protocol::Moment;

use crate::bus::NodeId;
use crate::bus::Topic;
use crate::event::Audience;
use crate::event::Event;
use crate::event::EventId;
use crate::room::company::ATTEMPTS_MAX;
use crate::room::company::Company;
use crate::room::company::Phase;
use crate::room::company::Want;
use crate::room::linked::Linked;
use crate::room::members::Via;
use crate::room::wire::Message;
use crate::room::wire::Missed;
use crate::room::wire::Numbers;
use crate::room::wire::PART_BYTES;
use crate::room::wire::TOLD_BYTES_MAX;
use crate::room::wire::Told;

use super::Feed;
use super::State;
use super::hearing::ago;
use super::hearing::news_of;

/// The bus says when a topic is listened to. If it does not, this node goes on as if it were the only one, so many times as
/// long as it waits for others.
const UNSUBSCRIBED_WAITS: u32 = 5;

impl Feed {
    /// The room is held from now on, and others may hold it.
    pub(in crate::room) fn enlist(self: &Arc<Self>) {
        let Some(linked) = &self.house.link else { return };
        let mut state = self.lock();
        state.company = Some(Box::new(Company::new(self.house.clock.now().moment, &linked.waits)));
        self.mind_trouble(&mut state);
        linked.join(self);
    }

    /// What others say is heard from now on.
    pub(in crate::room) fn subscribed(self: &Arc<Self>) {
        let now = self.house.clock.now().moment;
        let mut state = self.lock();
        if let Some(Phase::Joining { asked: asked @ None, .. }) = phase_of(&mut state) {
            *asked = Some(now);
        }
        self.present(&mut state, true);
        if self.house.link.as_ref().is_some_and(|linked| linked.others() == 0) {
            self.go_in(&mut state, None);
        }
    }

    /// Whether this is to be looked at again, and whether it asked who is there. What was waited for too long is given up.
    pub(in crate::room) fn look(self: &Arc<Self>, may_ask: bool) -> (bool, bool) {
        let mut state = self.lock();
        let asks = self.look_in(&mut state, may_ask);
        let Some(company) = &mut state.company else { return (false, asks) };
        company.is_troubled = company.needs_care();
        (company.is_troubled, asks)
    }

    fn look_in(&self, state: &mut State, may_ask: bool) -> bool {
        let (now, Some(linked)) = (self.house.clock.now().moment, &self.house.link) else { return false };
        let Some(company) = &mut state.company else { return false };
        let (waits, others) = (linked.waits, linked.others());
        match company.phase {
            Phase::Joining { asked: Some(asked), .. } => {
                let is_late = now.since(asked) >= waits.join;
                let is_alone = company.want.is_none() && company.holders() >= others;
                if is_late || is_alone {
                    self.go_in(state, None);
                }
            }
            Phase::Joining { since, asked: None } if now.since(since) >= waits.join * UNSUBSCRIBED_WAITS => {
                self.go_in(state, None);
            }
            Phase::Joining { .. } => {}
            Phase::Joined { .. } => self.look_for_answer(state, now, linked),
        }
        let is_due = state.company.as_ref().is_some_and(|company| company.is_to_ask && !company.is_joining());
        if is_due && may_ask {
            if let Some(company) = &mut state.company {
                company.is_to_ask = false;
            }
            self.present(state, true);
        }
        is_due && may_ask
    }

    fn look_for_answer(&self, state: &mut State, now: Moment, linked: &Linked) {
        let Some(company) = &mut state.company else { return };
        let Some(want) = company.want.take_if(|want| now.since(want.at) >= linked.waits.want) else { return };
        if company.attempts >= ATTEMPTS_MAX {
            return self.give_up(state);
        }
        let whom = company.next_holder(want.whom).unwrap_or(want.whom);
        self.ask(state, whom);
    }

    /// Asks somebody for what is missing.
    pub(super) fn ask(&self, state: &mut State, whom: NodeId) {
        let at = self.house.clock.now().moment;
        let Some(company) = &mut state.company else { return };
        let have = if company.is_joining() { Vec::new() } else { state.known.all() };
        company.attempts += 1;
        company.want = Some(Want { whom, at, parts: 0, taken: Vec::new(), bytes: 0 });
        self.say(&Message::Want { whom, have });
    }

    /// An answer, or a part of it.
    pub(super) fn take_missed(&self, state: &mut State, from: NodeId, mut missed: Missed) {
        let bytes_max = 2 * self.house.limits.bytes_max.max(TOLD_BYTES_MAX) + PART_BYTES;
        let now = self.house.clock.now().moment;
        let Some(company) = &mut state.company else { return };
        let Some(want) = company.want.as_mut().filter(|want| want.whom == from) else { return };
        want.bytes += missed.told.iter().map(Told::bytes).sum::<usize>();
        if want.parts != missed.part || want.bytes > bytes_max {
            // Something of it was lost: it is asked for again, when the time is over.
            want.parts = u64::MAX;
            return;
        }
        (want.parts, want.at) = (want.parts + 1, now);
        want.taken.append(&mut missed.told);
        if !missed.is_last {
            return;
        }
        let taken = company.want.take().map(|want| want.taken).unwrap_or_default();
        if company.is_joining() {
            missed.told = taken;
            return self.go_in(state, Some(missed));
        }
        self.fill_in(state, missed, taken);
    }

    fn fill_in(&self, state: &mut State, missed: Missed, taken: Vec<Told>) {
        if !state.known.has(&missed.floor) {
            self.restart(state, &missed.floor);
        }
        for told in taken {
            let stamp = told.mark.stamp;
            if !state.known.has_of(stamp.origin, stamp.number) {
                self.take(state, told);
            }
        }
        missed.known.iter().for_each(|(node, number)| state.known.raise(*node, *number));
        let Some(company) = &mut state.company else { return };
        let known = &state.known;
        company.goal.retain(|node, number| !known.has_of(*node, *number));
        if company.goal.is_empty() && company.held.is_empty() {
            company.attempts = 0;
        }
        if let Some(whom) = company.next_holder(missed.to).filter(|_| !company.goal.is_empty()) {
            match company.attempts >= ATTEMPTS_MAX {
                true => self.give_up(state),
                false => self.ask(state, whom),
            }
        }
    }

    /// From now on this node answers others, and its listeners hear what they tell. `None`: nobody could say what was told
    /// before.
    fn go_in(&self, state: &mut State, before: Option<Missed>) {
        let (now, Some(linked)) = (self.house.clock.now().moment, &self.house.link) else { return };
        let blind_for = if before.is_some() { Duration::ZERO } else { linked.waits.blind };
        let Some(company) = &mut state.company else { return };
        let Phase::Joining { since, .. } = company.phase else { return };
        company.phase = Phase::Joined { blind_until: now.after(blind_for) };
        (company.want, company.attempts) = (None, 0);
        company.goal.clear();
        let (news, known) = before.map(|before| self.put_before(state, since, before)).unwrap_or_default();
        // What was told here meanwhile was told by somebody who knew what was told before, and not what is news.
        let (begin, mark) = (state.known.begin(), state.known.mark());
        state.history.remark(self.house.node(), begin, &mark);
        self.share_all(state);
        news.into_iter().for_each(|told| self.take(state, told));
        known.into_iter().for_each(|(node, number)| state.known.raise(node, number));
        self.catch_up(state);
        self.found.notify_waiters();
    }

    /// Answers what is news to those who listen here since then, and what is known with it.
    fn put_before(&self, state: &mut State, since: Moment, mut before: Missed) -> (Vec<Told>, Numbers) {
        let (me, now) = (self.house.node(), self.house.clock.now().moment);
        let is_old = |told: &Told| ago(now, told.age_ms) < since;
        // What this node told since it holds the room is here already.
        let begin = state.known.begin();
        before.told.retain(|told| told.mark.stamp.origin != me || told.mark.stamp.number <= begin);
        let news = before.told.split_off(before.told.iter().rposition(is_old).map_or(0, |last| last + 1));
        let known = std::mem::take(&mut before.known);
        if !before.floor.is_empty() && ago(now, before.gone_ms) >= since {
            // Something of what is news is gone already.
            self.restart(state, &known);
            return (Vec::new(), known);
        }
        for (node, number) in &known {
            let first = news.iter().map(|told| told.mark.stamp).find(|stamp| stamp.origin == *node);
            state.known.raise(*node, first.map_or(*number, |stamp| stamp.number.saturating_sub(1)));
        }
        let older = before.told.into_iter().filter_map(|told| {
            let at = ago(now, told.age_ms);
            let (mut news, mark) = news_of(told)?;
            self.house.mind(news.first, mark.stamp.origin);
            if mark.stamp.origin == me {
                news.content = news.content.map(own_again);
            }
            Some((at, mark, news))
        });
        let older: Vec<_> = older.collect();
        if self.house.link.as_ref().is_some_and(|link| !link.is_apart) {
            let ids = older.iter().map(|(_, _, news)| (news.first.epoch, news.first.revision));
            state.at = ids.chain([state.at]).max().unwrap_or_default();
        }
        let keep = self.keep(state);
        self.counted(state, |state| {
            state.history.put_before(&keep, older, before.base, (&before.floor, ago(now, before.gone_ms)));
        });
        (news, known)
    }

    /// What is missing cannot be had any more.
    pub(super) fn give_up(&self, state: &mut State) {
        let Some(company) = &mut state.company else { return };
        let mut known: Vec<_> = std::mem::take(&mut company.goal).into_iter().collect();
        let held = company.release_all();
        (company.want, company.attempts) = (None, 0);
        for held in &held {
            let mark = held.mark();
            known.extend(mark.others.as_deref().unwrap_or_default());
            known.push((mark.stamp.origin, mark.stamp.number.saturating_sub(1)));
        }
        self.restart(state, &known);
        let Some(company) = &mut state.company else { return };
        for held in held {
            // There is room: it was just emptied.
            let _ = company.hold(held);
        }
        self.catch_up(state);
    }

    /// The history begins anew, behind as much as this: those who listen are told that they missed something.
    pub(super) fn restart(&self, state: &mut State, known: &[(NodeId, u64)]) {
        tracing::info!(event = "room_history_restarted", channelId = self.room.as_str());
        known.iter().for_each(|(node, number)| state.known.raise(*node, *number));
        let (id, mark, known) = (self.next_id(state, 1), state.known.mark(), state.known.all());
        let now = self.house.clock.now().moment;
        self.counted(state, |state| state.history.restart(now, id, mark, known));
    }

    /// A node is gone.
    pub(in crate::room) fn lose(self: &Arc<Self>, node: NodeId) {
        let mut state = self.lock();
        let Some(company) = &mut state.company else { return };
        company.part(node);
        let at_ms = self.house.clock.now().wall_ms;
        self.announce(&mut state, at_ms, |members, words| members.forget(words, Via::Node(node)));
        drop(state);
        self.told.send_replace(());
    }

    /// The bus was away and is back.
    pub(in crate::room) fn resume(self: &Arc<Self>) {
        let (now, Some(linked)) = (self.house.clock.now().moment, &self.house.link) else { return };
        let mut state = self.lock();
        state.known.doubt_all();
        if let Some(company) = &mut state.company {
            company.forget_who_follows(now, &linked.waits);
        }
        self.mind_trouble(&mut state);
    }

    /// Has it looked after, if that is not so already.
    pub(super) fn mind_trouble(self: &Arc<Self>, state: &mut State) {
        let (Some(linked), Some(company)) = (&self.house.link, &mut state.company) else { return };
        if company.needs_care() && !company.is_troubled {
            company.is_troubled = true;
            linked.trouble(self);
        }
    }

    /// Lets go of nodes that are gone, and says now and then that this one is here.
    pub(super) fn keep_company(&self, state: &mut State, now: Moment) {
        let Some(linked) = &self.house.link else { return };
        let Some(company) = &state.company else { return };
        if company.is_joining() {
            return;
        }
        let follows = self.is_heard() || !state.history.is_empty();
        let (said, said_follows) = company.said;
        let is_over = now.since(said) >= linked.waits.renew && linked.others() > 0;
        if is_over {
            let is_gone = |node: &NodeId| !company.has_holder(*node);
            let gone: Vec<NodeId> = state.known.nodes().filter(is_gone).collect();
            for node in gone {
                if state.history.forget(node) {
                    state.known.forget(node);
                }
            }
        }
        if is_over || (follows != said_follows && company.is_heard(now)) {
            self.present(state, false);
        }
    }

    /// Waits until it is known what happened before, or that nobody can say.
    pub(in crate::room) async fn joined(&self) {
        self.until(|state| state.company.as_ref().is_none_or(|company| !company.is_joining())).await;
    }

    /// Asks the others for an id that nobody knows here. Whether they were asked.
    pub(in crate::room) fn seeks(&self, id: EventId) -> bool {
        let state = self.lock();
        let is_wanted = state.company.as_ref().is_some_and(|company| company.holders() > 0);
        let is_unknown = is_wanted && state.history.mark_of(id).is_none();
        if is_unknown {
            self.say(&Message::Where(id));
        }
        is_unknown
    }

    /// Waits until an id is known.
    pub(in crate::room) async fn found(&self, id: EventId) {
        self.until(|state| state.history.mark_of(id).is_some()).await;
    }

    async fn until(&self, is_so: impl Fn(&State) -> bool) {
        loop {
            let notified = self.found.notified();
            tokio::pin!(notified);
            // Before it is looked at, so that what comes in between wakes.
            notified.as_mut().enable();
            if is_so(&self.lock()) {
                return;
            }
            notified.await;
        }
    }

    /// The room is held no more.
    pub(super) fn part(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner);
        let (Some(linked), true) = (&self.house.link, state.company.is_some()) else { return };
        let topic = Topic::Room(self.room.clone());
        linked.link.bus.publish(&topic, Message::Bye.encode());
        linked.link.bus.unsubscribe(&topic);
    }
}

fn phase_of(state: &mut State) -> Option<&mut Phase> {
    state.company.as_mut().map(|company| &mut company.phase)
}

/// What comes back was this node's own: its connections have the numbers that they had.
fn own_again(event: Arc<Event>) -> Arc<Event> {
    match event.audience {
        Audience::OthersElsewhere(peer) => Arc::new(Event::clone(&event).for_audience(Audience::Others(peer))),
        _ => event,
    }
}
