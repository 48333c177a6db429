//! A loaded document's hold on its room.

use std::sync::Arc;
use std::sync::Weak;

use crate::event::Happening;
use crate::name::DocName;
use crate::store::Epoch;
use crate::store::Seq;
use crate::table::change::Author;
use crate::table::change::ChangeSet;
use crate::table::events;
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
    feeds: Weak<Feeds>,
    via: Via,
}

impl Opened {
    /// The document is at `last`.
    pub(super) fn new(
        doc: DocName,
        feed: Arc<Feed>,
        feeds: Weak<Feeds>,
        via: Via,
        (epoch, last): (Epoch, Seq),
    ) -> Self {
        feed.open(epoch, last);
        Self { doc, feed, feeds, via }
    }
}

impl Publisher for Opened {
    fn changed(&self, epoch: Epoch, seq: Seq, change: ChangeSet) {
        let elsewhere = events::elsewhere(&self.doc, &change);
        if elsewhere.is_empty() {
            self.feed.changed(epoch, seq, change, Stories::None);
            return;
        }
        let Some(feeds) = self.feeds.upgrade() else { return };
        let (stories, author, at_ms) = (feeds.transaction(), change.author.clone(), change.at_ms);
        // Told here first, and elsewhere only what was not told before.
        if self.feed.changed(epoch, seq, change, stories) {
            feeds.tell_elsewhere(elsewhere, &author, at_ms, stories);
        }
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
