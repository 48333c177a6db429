//! Other nodes that hold the same document: what they wrote, and finding out what was missed.
//!
//! Two arrangements. In a *shared* store the log is one: whatever is heard is durable, positions tell what is missing, and
//! the store has it. *Apart*, each node keeps a log of everything, its own and what it heard, and holders ask each other.

mod compare;
mod log;

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::ops::Deref;
use std::ops::DerefMut;
use std::sync::Arc;
use std::sync::LazyLock;
use std::time::Duration;

use bytes::Bytes;
use syncline_protocol::ErrorCode;
use syncline_protocol::Moment;

use crate::bus::NodeId;
use crate::clock::Now;
use crate::document::heard::Heard;
use crate::document::peer::PeerMessage;
use crate::document::request::Refusal;
use crate::store::Epoch;
use crate::store::Seq;
use crate::table::change::ChangeSet;

use super::Core;
use super::Effect;
use super::Live;
use super::Phase;
use super::ask::DELETED;
use super::remotes::Remotes;

/// Among which other nodes documents live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cluster {
    /// There are none.
    Alone,
    /// All nodes use one store. This is that node.
    Shared(NodeId),
    /// Each node has a store of its own. This is that node.
    Apart(NodeId),
}

/// A position that was skipped is on its way, most of the time: two nodes append at once, and one hears of its own first.
const HOLE_PATIENCE: Duration = Duration::from_millis(200);
/// After a change, before holders compare: longer than what is under way takes to arrive.
const DIGEST_AFTER: Duration = Duration::from_secs(3);
/// Between two comparisons of holders that change nothing.
const DIGEST_EVERY: Duration = Duration::from_secs(60);
/// A holder that is silent for so long is none any more, whatever became of the word that it is gone.
const SILENT: Duration = Duration::from_secs(3 * 60);
/// Who is asked, or misses something, answers at once, but not more often than this.
const DIGEST_PAUSE: Duration = Duration::from_millis(200);
/// A node that died may have held a document without being heard of: that is looked for more slowly, by so much.
const LESS_LIKELY: u32 = 30;
/// Comparisons of many documents, and by many nodes, are spread over so much.
const JITTER_MS: u64 = 1000;
/// How long a document that was just loaded waits to hear what other nodes have of it, where each has its own store.
const GREET: Duration = Duration::from_millis(500);
/// After nodes wrote the same records of a table at the same time, before it is read again in the order of the log.
const RESETTLE: Duration = Duration::from_secs(2);
/// Records of this node that a table remembers by the rows that they changed. Full: the oldest are forgotten.
const EARLY_MAX: usize = 256;

/// What a document knows of its other holders.
#[derive(Debug, Default)]
pub(super) struct Peers {
    pub(super) heard: Heard,
    /// Nodes that said something of the document since they held it, and when they last did.
    pub(super) holders: BTreeMap<NodeId, Moment>,
    pub(super) remotes: Remotes,
    is_pulling: bool,
    pull_at: Option<Moment>,
    digest_at: Option<Moment>,
    /// Whether the next digest is a question.
    asks: bool,
    digested_at: Option<Moment>,
    /// Until then nobody is served: the others may have more.
    greeting: Option<Greeting>,
    early: Vec<Early>,
    resettle_at: Option<Moment>,
}

/// [`Peers`] that take no room where there are no other nodes.
#[derive(Debug, Default)]
pub(super) struct MaybePeers(Option<Box<Peers>>);

static NONE: LazyLock<Peers> = LazyLock::new(Peers::default);

impl Deref for MaybePeers {
    type Target = Peers;

    fn deref(&self) -> &Peers {
        self.0.as_deref().unwrap_or(&NONE)
    }
}

impl DerefMut for MaybePeers {
    fn deref_mut(&mut self) -> &mut Peers {
        self.0.get_or_insert_default()
    }
}

#[derive(Debug)]
struct Greeting {
    until: Moment,
    /// Nodes whose word is waited for; not known yet at first.
    others: Option<usize>,
    answered: BTreeSet<NodeId>,
    /// Of those, the ones that have more, and were asked for it.
    asked: BTreeSet<NodeId>,
}

/// What a table took in before its turn: written by this node a moment ago, or heard beyond a hole.
#[derive(Debug)]
struct Early {
    /// Where it stands in the log at most; not known before all is durable.
    at: Option<Seq>,
    /// The records that it changed; `None` for something that concerns all.
    rows: Option<BTreeSet<Arc<str>>>,
}

impl Early {
    fn of(change: &ChangeSet) -> Self {
        Self { at: None, rows: rows_of(change) }
    }

    fn meets(&self, rows: Option<&BTreeSet<Arc<str>>>) -> bool {
        match (&self.rows, rows) {
            (Some(early), Some(rows)) => !early.is_disjoint(rows),
            _ => true,
        }
    }
}

/// Versions are counted for each record, so two changes that share none may come in either order. One that shows nowhere
/// would perhaps have shown in the other order, and so may concern any.
fn rows_of(change: &ChangeSet) -> Option<BTreeSet<Arc<str>>> {
    let concerns_rows = change.fields.is_empty() && change.meta.is_empty() && !change.rows.is_empty();
    concerns_rows.then(|| change.rows.keys().cloned().collect())
}

impl<P> Core<P> {
    pub(super) fn is_shared(&self) -> bool {
        matches!(self.settings.cluster, Cluster::Shared(_))
    }

    pub(super) fn has_peers(&self) -> bool {
        self.settings.cluster != Cluster::Alone
    }

    fn is_table(&self) -> bool {
        matches!(&self.phase, Phase::Live(Live { register: Some(_), .. }))
    }

    fn node(&self) -> Option<NodeId> {
        match self.settings.cluster {
            Cluster::Alone => None,
            Cluster::Shared(node) | Cluster::Apart(node) => Some(node),
        }
    }

    /// Whether clients wait until other nodes have said what they have. What they say is not waited for in vain: a tick
    /// comes.
    #[must_use]
    pub fn awaits_peers(&self) -> bool {
        self.peers.greeting.is_some()
    }

    /// The position up to which all of the log is here.
    pub(super) fn position(&self) -> Seq {
        if self.is_shared() { self.peers.heard.last() } else { self.saving.saved() }
    }

    /// The number that the last unsaved record will have at least.
    pub(super) fn shown(&self) -> Seq {
        Seq(self.position().0 + self.saving.unsaved().count() as u64)
    }

    /// Whether the document is exactly what the log holds up to [`Self::position`].
    pub(super) fn is_settled(&self) -> bool {
        self.saving.is_idle() && !self.peers.heard.has_hole()
    }

    pub(super) fn peers_deadline(&self) -> Option<Moment> {
        let Peers { pull_at, digest_at, resettle_at, greeting, is_pulling, .. } = &*self.peers;
        let greeting = greeting.as_ref().map(|greeting| greeting.until);
        if !matches!(self.phase, Phase::Live(_)) {
            return greeting; // The rest is done with the content, and would be due for ever without it.
        }
        let pull_at = pull_at.filter(|_| !is_pulling);
        [pull_at, *digest_at, *resettle_at, greeting].into_iter().flatten().min()
    }

    pub(super) fn peers_tick(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let due = |at: Option<Moment>| at.is_some_and(|at| at <= now.moment);
        if self.peers.greeting.as_ref().is_some_and(|greeting| greeting.until <= now.moment) {
            self.peers.greeting = None;
        }
        if !self.has_peers() || !matches!(self.phase, Phase::Live(_)) {
            return;
        }
        if due(self.peers.pull_at) && !self.peers.is_pulling {
            self.pull(effects);
        }
        if due(self.peers.digest_at) {
            self.compare(now, effects);
        }
        if due(self.peers.resettle_at) {
            self.resettle(now, effects);
        }
    }

    /// The document was read from the store; what holders know of it is asked next.
    pub(super) fn meet_peers(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let Some(node) = self.node() else { return };
        self.peers.early.clear();
        if self.is_shared() && self.is_table() && self.saving.unsaved().next().is_some() {
            self.peers.early.push(Early { at: None, rows: None }); // What was read again with what is not durable yet.
        }
        self.peers.resettle_at = None;
        if self.settings.cluster == Cluster::Apart(node) {
            let until = now.moment.after(GREET);
            let (answered, asked) = (BTreeSet::new(), BTreeSet::new());
            self.peers.greeting = Some(Greeting { until, others: None, answered, asked });
        }
        self.peers.asks = true;
        self.say_digest(now, effects);
    }

    /// So many other nodes were asked what they have.
    pub(super) fn asked_others(&mut self, count: usize) {
        if let Some(greeting) = &mut self.peers.greeting {
            greeting.others = Some(count);
        }
        self.end_greeting();
    }

    fn end_greeting(&mut self) {
        let over = |greeting: &Greeting| {
            greeting.others.is_some_and(|others| greeting.answered.len() >= others) && greeting.asked.is_empty()
        };
        self.peers.greeting.take_if(|greeting| over(greeting));
    }

    /// Something of another node was lost on the way.
    pub(super) fn missed_something(&mut self, now: Now) {
        if self.has_peers() {
            self.peers.asks = true;
            self.compare_soon(now, Duration::ZERO);
            if self.is_shared() {
                self.pull_soon(now, Duration::ZERO);
            }
        }
    }

    /// The bus was away. All documents hear that in the same moment.
    pub(super) fn bus_resumed(&mut self, now: Now) {
        let jitter = self.jitter(now);
        self.peers.asks = true;
        self.peers.remotes.introduce();
        self.peers.digest_at = Some(now.moment.after(jitter));
        if self.is_shared() {
            self.pull_soon(now, jitter);
        }
    }

    /// What a holder says.
    pub(super) fn peer(&mut self, now: Now, from: NodeId, message: PeerMessage, effects: &mut Vec<Effect>) {
        if !matches!(self.phase, Phase::Live(_)) {
            return;
        }
        if message != PeerMessage::Bye && self.peers.holders.insert(from, now.moment).is_none() {
            self.peers.remotes.introduce();
            self.compare_soon(now, DIGEST_EVERY); // Whoever has others to compare with goes on comparing.
        }
        match message {
            PeerMessage::Records { epoch, first, records } => {
                if self.is_same_life(now, epoch, effects) {
                    self.records(now, first, records, effects);
                }
            }
            PeerMessage::Digest(digest) => {
                if self.is_same_life(now, digest.epoch, effects) {
                    self.digest(now, from, &digest, effects);
                }
            }
            PeerMessage::Ask { epoch, whom, have } => {
                if Some(whom) == self.node() && epoch == self.epoch {
                    self.answer_peer(now, &have, effects);
                }
            }
            PeerMessage::State { epoch, update } => {
                if epoch == self.epoch {
                    self.state_of_peer(now, from, update, effects);
                }
            }
            PeerMessage::Here { all, readers } => self.remotes_here(now, from, all, readers, effects),
            PeerMessage::Gone(peers) => self.remotes_gone(from, &peers, effects),
            PeerMessage::Stateless(payload) => effects.push(Effect::Stateless { from: None, payload }),
            PeerMessage::Deleted(epoch) => self.deleted_elsewhere(now, epoch, effects),
            PeerMessage::Bye => self.lose_node(from, effects),
        }
    }

    /// A node died. What it made durable and could not tell any more is in the store.
    pub(super) fn node_lost(&mut self, now: Now, node: NodeId, effects: &mut Vec<Effect>) {
        if self.is_shared() {
            let held = self.peers.holders.contains_key(&node);
            let wait = self.jitter(now);
            self.pull_soon(now, if held { wait } else { wait * LESS_LIKELY });
        }
        self.lose_node(node, effects);
    }

    /// A node is gone, or holds the document no more.
    pub(super) fn lose_node(&mut self, node: NodeId, effects: &mut Vec<Effect>) {
        self.peers.holders.remove(&node);
        if let Some(greeting) = &mut self.peers.greeting {
            greeting.asked.remove(&node);
            greeting.answered.insert(node);
        }
        self.end_greeting();
        self.lose_remotes_of(node, effects);
    }

    /// Holders compare in every minute, so who says nothing for long is gone.
    pub(super) fn lose_silent(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let is_silent = |at: Moment| at.after(SILENT) <= now.moment;
        let silent = self.peers.holders.iter().filter(|(_, at)| is_silent(**at)).map(|(&node, _)| node);
        for node in silent.collect::<Vec<_>>() {
            self.lose_node(node, effects);
        }
    }

    /// Whether a message is of this life. One of a later life means that this one is over.
    fn is_same_life(&mut self, now: Now, epoch: Epoch, effects: &mut Vec<Effect>) -> bool {
        if epoch > self.epoch && self.is_shared() {
            self.close(now, &Refusal::new(ErrorCode::NotFound, DELETED), effects);
        }
        epoch == self.epoch
    }

    /// Whether a document that was deleted may have been made anew by another node.
    pub(super) fn may_live_again(&self, code: ErrorCode) -> bool {
        self.is_shared() && code == ErrorCode::NotFound
    }

    fn deleted_elsewhere(&mut self, now: Now, epoch: Epoch, effects: &mut Vec<Effect>) {
        if epoch < self.epoch {
            return;
        }
        if self.is_shared() {
            self.close(now, &Refusal::new(ErrorCode::NotFound, DELETED), effects);
        } else {
            self.delete(now, None, effects);
        }
    }

    /// What a client of ours says to all others.
    pub(super) fn tell_stateless(&self, payload: &Bytes, effects: &mut Vec<Effect>) {
        if self.has_peers() {
            effects.push(Effect::Tell(PeerMessage::Stateless(payload.clone())));
        }
    }

    fn jitter(&self, now: Now) -> Duration {
        let node = self.node().map_or(0, |node| node.0);
        let name = self.name.as_str().bytes().fold(node ^ now.wall_ms, |hash, byte| mix(hash ^ u64::from(byte)));
        Duration::from_millis(name % JITTER_MS)
    }
}

fn mix(hash: u64) -> u64 {
    hash.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(31)
}
