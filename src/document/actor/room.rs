//! What a document tells its room.

use crate::clock::Now;
use crate::store::Loaded;
use crate::table::change::Author;
use crate::table::events::Presence;
use crate::table::events::document_deleted;

use super::Actor;
use super::ReaderId;

impl Actor {
    /// Events of a document are numbered by its log, also those that are in no record. Who came while there was no room is
    /// reported now; the room takes somebody who comes in twice for one.
    pub(super) fn open_room(&mut self, loaded: &Loaded) {
        let publisher = self.around.publish.open(&self.name, loaded.epoch, loaded.last);
        for (reader, at_ms, presence) in self.core.everybody() {
            publisher.presence(reader.0, at_ms, presence);
        }
        self.publisher = Some(publisher);
    }

    /// Finds out whether somebody listens.
    pub(super) fn listen(&mut self) {
        if !self.core.is_heard() && self.publisher.as_ref().is_some_and(|publisher| publisher.is_heard()) {
            self.core.hear();
        }
    }

    pub(super) fn tell_deletion(&self, now: Now) {
        if let Some(publisher) = &self.publisher {
            publisher.tell(&Author::default(), now.wall_ms, document_deleted(&self.name));
        }
    }

    pub(super) fn tell_presence(&self, reader: ReaderId, presence: Presence) {
        if let Some(publisher) = &self.publisher {
            publisher.presence(reader.0, self.around.clock.now().wall_ms, presence);
        }
    }
}

impl Drop for Actor {
    /// A document that panicked leaves its readers without one: nobody would ever say that they went.
    fn drop(&mut self) {
        for (reader, _, presence) in self.core.everybody() {
            if matches!(presence, Presence::Joined { .. }) {
                self.tell_presence(reader, Presence::Left);
            }
        }
        self.leave_peers();
    }
}
