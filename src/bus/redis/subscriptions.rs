//! From what is wanted to what Redis was told: which channels are to be subscribed to and which not any more, in batches, and
//! who waits for that.

use std::collections::HashMap;
use std::collections::HashSet;
use std::sync::Arc;

use tokio::sync::oneshot;

/// Channels in one command. A hundred thousand take a hundred commands, some tens of kilobytes each.
const BATCH_MAX: usize = 1000;

/// What Redis was told and is to be told. All three are bounded by the topics that this node listens to, or has just ceased to.
#[derive(Debug, Default)]
pub(super) struct Subscriptions {
    /// Confirmed, on the connection of now.
    confirmed: HashSet<Arc<str>>,
    /// To be looked at.
    changed: HashSet<Arc<str>>,
    /// Who waits for a confirmation.
    waiting: HashMap<Arc<str>, Vec<oneshot::Sender<()>>>,
}

/// Two commands.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Batch {
    pub(super) subscribe: Vec<Arc<str>>,
    pub(super) unsubscribe: Vec<Arc<str>>,
}

impl Subscriptions {
    /// Looks at a channel again.
    pub(super) fn change(&mut self, channel: &Arc<str>) {
        self.changed.insert(channel.clone());
    }

    /// Resolves, or breaks, when the channel is confirmed or the connection ends. `None` when it is confirmed now.
    pub(super) fn wait(&mut self, channel: &Arc<str>) -> Option<oneshot::Receiver<()>> {
        if self.confirmed.contains(channel) {
            return None;
        }
        let (sender, receiver) = oneshot::channel();
        let waiting = self.waiting.entry(channel.clone()).or_default();
        waiting.retain(|sender| !sender.is_closed());
        waiting.push(sender);
        Some(receiver)
    }

    /// What to tell Redis next; empty when it knows everything. What is unsubscribed from counts as gone from here on.
    pub(super) fn next_batch(&mut self, is_wanted: impl Fn(&str) -> bool) -> Batch {
        let mut batch = Batch::default();
        while batch.subscribe.len() + batch.unsubscribe.len() < BATCH_MAX {
            let Some(channel) = self.changed.iter().next().cloned() else { break };
            self.changed.remove(&channel);
            match (is_wanted(&channel), self.confirmed.contains(&channel)) {
                (true, false) => batch.subscribe.push(channel),
                (false, true) => {
                    self.confirmed.remove(&channel);
                    batch.unsubscribe.push(channel);
                }
                (true, true) => self.wake(&channel),
                (false, false) => drop(self.waiting.remove(&channel)),
            }
        }
        batch
    }

    /// Whether Redis was told everything, as far as is known.
    pub(super) fn is_settled(&self) -> bool {
        self.changed.is_empty()
    }

    /// Redis has confirmed these.
    pub(super) fn confirm(&mut self, subscribed: Vec<Arc<str>>) {
        for channel in subscribed {
            self.wake(&channel);
            self.confirmed.insert(channel);
        }
    }

    /// A connection ended: nothing is subscribed to, nobody waits, and these are wanted on the next one.
    pub(super) fn start_over<'a>(&mut self, wanted: impl Iterator<Item = &'a Arc<str>>) {
        self.confirmed.clear();
        self.waiting.clear();
        self.changed = wanted.cloned().collect();
    }

    fn wake(&mut self, channel: &str) {
        for waiting in self.waiting.remove(channel).into_iter().flatten() {
            // Whoever stopped waiting need not know.
            let _ = waiting.send(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str) -> Arc<str> {
        name.into()
    }

    fn subscribe(names: &[&str]) -> Batch {
        Batch { subscribe: names.iter().map(|name| named(name)).collect(), unsubscribe: vec![] }
    }

    #[test]
    fn a_confirmation_wakes_who_waits() {
        let mut subscriptions = Subscriptions::default();
        let a = named("a");
        subscriptions.change(&a);
        let mut waiting = subscriptions.wait(&a).unwrap();
        let batch = subscriptions.next_batch(|_| true);
        assert_eq!(batch, subscribe(&["a"]));
        let mut second = subscriptions.wait(&a).expect("it is on its way, not confirmed");
        assert!(waiting.try_recv().is_err());
        subscriptions.confirm(batch.subscribe);
        assert!(waiting.try_recv().is_ok() && second.try_recv().is_ok());
        assert!(subscriptions.wait(&a).is_none());
        assert_eq!(subscriptions.next_batch(|_| true), Batch::default());
    }

    #[test]
    fn changes_of_mind_come_out_right() {
        let mut subscriptions = Subscriptions::default();
        let a = named("a");
        // Never mind.
        subscriptions.change(&a);
        subscriptions.change(&a);
        assert_eq!(subscriptions.next_batch(|_| false), Batch::default());
        // Taken back while it is on its way, and wanted again while that is on its way.
        subscriptions.change(&a);
        let batch = subscriptions.next_batch(|_| true);
        subscriptions.change(&a);
        subscriptions.confirm(batch.subscribe);
        let batch = subscriptions.next_batch(|_| false);
        assert_eq!(batch, Batch { subscribe: vec![], unsubscribe: vec![a.clone()] });
        subscriptions.change(&a);
        assert!(subscriptions.wait(&a).is_some(), "the unsubscribing is on its way");
        assert_eq!(subscriptions.next_batch(|_| true), subscribe(&["a"]));
    }

    #[test]
    fn a_connection_that_ends_lets_nobody_wait_and_everything_is_asked_for_again() {
        let mut subscriptions = Subscriptions::default();
        let wanted: Vec<_> = (0..2500).map(|n| named(&n.to_string())).collect();
        wanted.iter().for_each(|channel| subscriptions.change(channel));
        let mut waiting = subscriptions.wait(&wanted[0]).unwrap();
        let batch = subscriptions.next_batch(|_| true);
        subscriptions.confirm(batch.subscribe);
        subscriptions.start_over(wanted.iter());
        assert!(waiting.try_recv().is_ok() || waiting.is_terminated());
        let mut asked = HashSet::new();
        while !subscriptions.is_settled() {
            let batch = subscriptions.next_batch(|_| true);
            assert!(batch.subscribe.len() <= BATCH_MAX);
            asked.extend(batch.subscribe);
        }
        assert_eq!(asked.len(), wanted.len());
    }
}
