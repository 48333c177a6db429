//! What passes: cursors, typing, and who comes and goes.

use crate::event::Event;
use crate::event::EventId;
use crate::event::Happening;
use crate::room::announce::Told;
use crate::room::announce::Words;
use crate::room::history::Content;
use crate::room::history::weight_of;
use crate::room::members::Members;
use crate::room::members::Via;
use crate::room::wire::Message;
use crate::table::change::Author;
use crate::table::change::Source;
use crate::table::events::Presence;

use super::Feed;
use super::Raw;
use super::State;
use super::Stories;
use super::weight;

impl Feed {
    /// Tells those who listen now, in place of what they were told under the same key and have not heard yet. Not kept.
    pub(in crate::room) fn pass(&self, key: &str, author: Author, at_ms: u64, happening: Happening, stories: Stories) {
        let mut state = self.lock();
        let now = self.house.clock.now().moment;
        let is_elsewhere = state.company.as_ref().is_some_and(|company| company.is_followed(now));
        if !is_elsewhere && !self.is_heard() {
            return;
        }
        let bytes = weight(&happening);
        let raw = Raw::Told { author, at_ms, happenings: vec![happening], stories };
        let id = self.next_id(&state, 1);
        if is_elsewhere {
            self.pass_everywhere(&mut state, key, id, raw);
        } else {
            self.pass_in(&mut state, key, id, (bytes, Content::Raw(raw)));
        }
        drop(state);
        self.told.send_replace(());
    }

    fn pass_everywhere(&self, state: &mut State, key: &str, id: EventId, raw: Raw) {
        let Some(event) = self.encode(id, raw).pop() else { return };
        let mark = state.known.mark();
        self.say(&Message::Passed { key: key.into(), mark, event: event.clone() });
        let bytes = weight_of([&event].into_iter());
        self.pass_in(state, key, id, (bytes, Content::Encoded(vec![event.into()])));
    }

    fn pass_in(&self, state: &mut State, key: &str, id: EventId, content: (usize, Content<Raw>)) {
        let (now, mark, place) = (self.house.clock.now().moment, state.known.mark(), state.history.end());
        state.history.issue(id, mark);
        self.counted(state, |state| {
            if self.is_heard() {
                state.passing.push(now, place, key, id, content);
            }
        });
        state.used = now;
    }

    /// Something of another node passes.
    pub(super) fn pass_on(&self, state: &mut State, key: &str, event: Event) {
        let (now, place, id) = (self.house.clock.now().moment, state.history.end(), event.id);
        let bytes = weight_of([&event].into_iter());
        self.counted(state, |state| {
            state.passing.push(now, place, key, id, (bytes, Content::Encoded(vec![event.into()])));
        });
        state.used = now;
    }

    /// Somebody comes, goes or shows something else.
    pub(in crate::room) fn presence(&self, via: Via, peer: u64, at_ms: u64, presence: Presence) {
        let mut state = self.lock();
        if via == Via::Itself {
            self.say_presence(&state, peer, at_ms, &presence);
        }
        let is_news =
            self.announce(&mut state, at_ms, |members, words| members.hear(words, via, peer, at_ms, presence));
        drop(state);
        if is_news {
            self.told.send_replace(());
        }
    }

    /// Those of whom this one told are not there any more.
    pub(super) fn forget(&self, via: Via) {
        let now = self.house.clock.now();
        if self.announce(&mut self.lock(), now.wall_ms, |members, words| members.forget(words, via)) {
            self.told.send_replace(());
        }
    }

    /// Changes who is here, and tells those who listen. Whether there was something to tell.
    pub(super) fn announce(
        &self,
        state: &mut State,
        at_ms: u64,
        change: impl FnOnce(&mut Members, Option<&Words>) -> Vec<Told>,
    ) -> bool {
        let words = self.is_heard().then(|| Words::of(&self.room));
        let all = change(&mut state.members, words.as_ref());
        state.used = self.house.clock.now().moment;
        let is_news = !all.is_empty();
        for Told { key, who, stories, happening } in all {
            let author =
                Author { user: who.user, source: Source::UserAction, correlation_id: None, peer: Some(who.peer) };
            let (id, bytes) = (self.next_id(state, 1), weight(&happening));
            let raw = Raw::Told { author, at_ms, happenings: vec![happening], stories };
            self.pass_in(state, &key, id, (bytes, Content::Raw(raw)));
        }
        is_news
    }
}
