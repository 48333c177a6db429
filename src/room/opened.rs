//! A loaded document's hold on its room.

use std::sync::Arc;

use crate::event::Happening;
use crate::store::Epoch;
use crate::store::Seq;
use crate::table::change::Author;
use crate::table::change::ChangeSet;
use crate::table::events::Presence;
use crate::table::events::Publisher;

use super::feed::Feed;
use super::feed::Stories;
use super::members::Via;

/// A loaded document's hold on its room.
pub(super) struct Opened {
    feed: Arc<Feed>,
    via: Via,
}

impl Opened {
    pub(super) fn new(feed: Arc<Feed>, via: Via, epoch: Epoch, last: Seq) -> Self {
        feed.open(epoch, last);
        Self { feed, via }
    }
}

impl Publisher for Opened {
    fn changed(&self, epoch: Epoch, seq: Seq, change: ChangeSet) {
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
