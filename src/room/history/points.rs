//! Ids of what was told and not kept: whoever knows one, knows what its node had told and heard by then.

use std::collections::VecDeque;

use crate::bus::NodeId;
use crate::event::EventId;
use crate::room::house;
use crate::room::mark::Mark;

/// Far more than the transactions that a history keeps, each of which begins a span at most. Full: the oldest goes, and
/// whoever comes back behind it is not recovered.
const SPANS_MAX: usize = 4096;
/// Nodes take turns: the span that goes on is one of the last few.
const RECENT: usize = 8;

/// Ids of one node, between which it told and heard nothing that is kept.
struct Span {
    from: EventId,
    to: EventId,
    mark: Mark,
}

/// Such ids, in spans.
#[derive(Default)]
pub(super) struct Points(VecDeque<Span>);

impl Points {
    pub(super) fn add(&mut self, id: EventId, mark: Mark) {
        if let Some(span) = self.0.iter_mut().rev().take(RECENT).find(|span| span.mark == mark) {
            (span.from, span.to) = (span.from.min(id), span.to.max(id));
            return;
        }
        if self.0.len() >= SPANS_MAX {
            self.0.pop_front();
        }
        self.0.push_back(Span { from: id, to: id, mark });
    }

    pub(super) fn find(&self, id: EventId) -> Option<&Mark> {
        let is_of = |span: &&Span| span.from <= id && id <= span.to && house::tag_of(id) == house::tag_of(span.to);
        self.0.iter().rev().find(is_of).map(|span| &span.mark)
    }

    /// The newest of a node.
    pub(super) fn last(&self, node: NodeId) -> EventId {
        self.0.iter().rev().find(|span| span.mark.stamp.origin == node).map_or_else(EventId::default, |span| span.to)
    }

    /// A node knew more than it said.
    pub(super) fn remark(&mut self, node: NodeId, mark: &Mark) {
        let own = self.0.iter_mut().filter(|span| span.mark.stamp.origin == node);
        own.for_each(|span| span.mark.others.clone_from(&mark.others));
    }

    /// Forgets the oldest that nobody can come back to.
    pub(super) fn trim(&mut self, is_of_use: impl Fn(&Mark) -> bool) {
        while self.0.front().is_some_and(|span| !is_of_use(&span.mark)) {
            self.0.pop_front();
        }
    }
}
