//! A loaded document's hold on its room.

use std::sync::Arc;
use std::sync::Weak;

use crate::event::Happening;
use crate::name::DocName;
use crate::store::Epoch;
use crate::store::Seq;
use crate::table::change::Author;
use crate::table::change::ChangeSet;
use crate::table::events::Presence;
use crate::table::events::Publisher;

use super::feed::Feed;
use super::feed::Stories;
use super::feeds::Feeds;
use super::members::Via;

/// A loaded document's hold on its room.
pub(super) struct Opened {
    doc: DocName,
    feed: Arc<Feed>,
    via: Via,
    /// The others, for what is told in more than one.
    rooms: Weak<Feeds>,
}

impl Opened {
    pub(super) fn new(
        doc: DocName,
        feed: Arc<Feed>,
        via: Via,
        rooms: Weak<Feeds>,
        (epoch, last): (Epoch, Seq),
    ) -> Self {
        feed.open(epoch, last);
        Self { doc, feed, via, rooms }
    }
}

impl Publisher for Opened {
    fn changed(&self, epoch: Epoch, seq: Seq, change: ChangeSet) {
        if let Some(rooms) = self.rooms.upgrade() {
            rooms.tell_elsewhere(&self.doc, (epoch, seq), &change);
        }
        self.feed.changed(epoch, seq, change);
    }

    fn tell(&self, author: &Author, at_ms: u64, happenings: Vec<Happening>) {
        self.feed.tell(author, at_ms, happenings, Stories::None);
    }

    fn is_heard(&self) -> bool {
        self.feed.is_followed()
    }

    fn presence(&self, peer: u64, at_ms: u64, presence: Presence) {
        self.feed.presence(self.via, peer, at_ms, presence);
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        self.feed.close(self.via);
    }
}
