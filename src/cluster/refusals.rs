//! When to send the others everything that this node refuses: when one of them refuses something else.
//!
//! Every heartbeat carries a hash of what its node refuses. Whoever sees another one than its own sends its list, and adds what
//! comes; so lists become equal, whatever was missed.

use std::time::Duration;

use syncline_protocol::Moment;

use crate::bus::NodeId;

/// A list may have some megabytes.
const PAUSE: Duration = Duration::from_secs(2);
/// The same list is not sent for the same difference again before this: two full lists may never become equal.
const PATIENCE: Duration = Duration::from_secs(60);

/// Whether and when it is this node's turn.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    due: Option<Turn>,
    done: Option<Turn>,
}

#[derive(Debug)]
struct Turn {
    at: Moment,
    /// Who differs.
    from: NodeId,
    /// Our hash, and theirs.
    between: (u64, u64),
}

impl Refusals {
    /// Another node's hash. Of several nodes that could help it, the one with the shortest `wait` will.
    pub(super) fn compare(&mut self, now: Moment, from: NodeId, ours: u64, theirs: u64, wait: Duration) {
        let between = (ours, theirs);
        // Who refuses nothing has nothing to send.
        if ours == theirs || ours == 0 || self.due.is_some() {
            return;
        }
        let at = match &self.done {
            Some(done) if done.between == between && now.since(done.at) < PATIENCE => return,
            Some(done) => now.after(wait).max(done.at.after(PAUSE)),
            None => now.after(wait),
        };
        self.due = Some(Turn { at, from, between });
    }

    /// A list came. Unless it was sent by the one who differs, it has helped that one already.
    pub(super) fn heard(&mut self, from: NodeId) {
        self.due.take_if(|due| due.from != from);
    }

    /// When to look again.
    pub(super) fn next(&self) -> Option<Moment> {
        self.due.as_ref().map(|due| due.at)
    }

    /// Whether to send now, which counts as done.
    pub(super) fn is_due(&mut self, now: Moment) -> bool {
        let due = self.due.take_if(|due| due.at <= now);
        let is_due = due.is_some();
        self.done = due.or(self.done.take());
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: NodeId = NodeId(1);
    const B: NodeId = NodeId(2);
    const WAIT: Duration = Duration::from_millis(100);

    #[test]
    fn only_a_difference_is_a_reason() {
        let mut refusals = Refusals::default();
        refusals.compare(Moment(0), A, 5, 5, WAIT);
        refusals.compare(Moment(0), A, 0, 5, WAIT);
        assert_eq!(refusals.next(), None);
        refusals.compare(Moment(0), A, 5, 0, WAIT);
        assert_eq!(refusals.next(), Some(Moment(100)));
        assert!(!refusals.is_due(Moment(99)) && refusals.is_due(Moment(100)) && !refusals.is_due(Moment(100)));
    }

    #[test]
    fn one_helps_and_the_others_see_it() {
        let mut refusals = Refusals::default();
        refusals.compare(Moment(0), A, 5, 0, WAIT);
        refusals.heard(B);
        assert_eq!(refusals.next(), None);
        refusals.compare(Moment(0), A, 5, 3, WAIT);
        refusals.heard(A);
        assert_eq!(refusals.next(), Some(Moment(100)), "it said what it has, and still lacks something");
    }

    #[test]
    fn a_difference_that_stays_is_no_reason_to_send_without_end() {
        let mut refusals = Refusals::default();
        refusals.compare(Moment(0), A, 5, 3, WAIT);
        assert!(refusals.is_due(Moment(100)));
        refusals.compare(Moment(5_000), A, 5, 3, WAIT);
        assert_eq!(refusals.next(), None);
        refusals.compare(Moment(500), A, 5, 4, WAIT);
        assert_eq!(refusals.next(), Some(Moment(2_100)), "another difference is one, but not at once");
        refusals.heard(B);
        refusals.compare(Moment(60_100), A, 5, 3, WAIT);
        assert_eq!(refusals.next(), Some(Moment(60_200)));
    }
}
