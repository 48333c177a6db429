//! Free content that changes all the time: somebody types, and not every key is an event.

use std::sync::Arc;
use std::sync::MutexGuard;

use crate::event::EventId;
use crate::table::change::ChangeSet;

use super::Feed;
use super::State;
use super::Stories;

impl Feed {
    /// Whether free content was told to have changed a moment ago.
    pub(super) fn is_early(&self, state: &mut State) -> bool {
        let now = self.house.clock.now().moment;
        let pause = self.house.limits.roots_pause;
        let is_early = state.roots.is_some() || state.roots_told.is_some_and(|told| now.since(told) < pause);
        if !is_early {
            state.roots_told = Some(now);
        }
        is_early
    }

    /// Keeps for later that free content changed. However much is typed, this is one change.
    pub(super) fn hold_roots(self: &Arc<Self>, mut state: MutexGuard<'_, State>, id: EventId, mut change: ChangeSet) {
        let held = state.roots.take();
        let is_first = held.is_none();
        if let Some((_, held)) = held {
            change.roots.extend(held.roots);
        }
        state.roots = Some((id, change));
        drop(state);
        if is_first {
            self.house.is_due(self);
        }
    }

    /// Tells what was held back, before anything that came after it and is kept. What passed meanwhile had an id: whoever
    /// knows that one is not to miss this.
    pub(super) fn tell_roots(&self, state: &mut State) {
        if let Some((id, change)) = state.roots.take() {
            state.roots_told = Some(self.house.clock.now().moment);
            let (record, issued) = ((id.epoch, id.revision), state.history.issued(self.house.node()));
            let id = if id < issued { self.next_id(state, 1) } else { id };
            self.push_change(state, record, id, change, Stories::None);
        }
    }

    /// As [`Self::tell_roots`], because it is time.
    pub(in crate::room) fn flush(&self) {
        self.tell_roots(&mut self.lock());
        self.told.send_replace(());
    }
}
