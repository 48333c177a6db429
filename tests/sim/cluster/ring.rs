//! A few nodes that hold one document, for stories: cores whose effects are carried out at once, in order.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use syncline::bus::NodeId;
use syncline::clock::Now;
use syncline::document::compact;
use syncline::document::core::Cluster;
use syncline::document::core::Core;
use syncline::document::core::CoreSettings;
use syncline::document::core::Effect;
use syncline::document::core::Guards;
use syncline::document::core::Input;
use syncline::document::core::ReaderId;
use syncline::document::core::Ticket;
use syncline::document::peer::PeerMessage;
use syncline::document::replica::Deleted;
use syncline::document::replica::Replica;
use syncline::document::request::Receipt;
use syncline::document::request::Request;
use syncline::name::DocName;
use syncline::store::StoreError;
use syncline_protocol::channel::Access;
use syncline_protocol::channel::DocumentMessage;
use syncline_protocol::update::UpdateLimits;

use crate::store::Disk;

const DOC: usize = 0;

/// One node, and the one client that it has.
pub(crate) struct Node {
    pub(crate) core: Core<()>,
    effects: Vec<Effect>,
    /// Whether anything that others say reaches it.
    pub(crate) hears: bool,
    /// What it did, without what was said between nodes and to the store.
    pub(crate) done: Vec<Effect>,
    /// What it said to the others.
    pub(crate) said: Vec<PeerMessage>,
}

/// The nodes, and where they keep the document.
pub(crate) struct Ring {
    pub(crate) nodes: Vec<Node>,
    /// One for all, or one for each.
    pub(crate) disks: Vec<Disk>,
    pub(crate) now: Now,
    tickets: u64,
    /// Whether the store refuses.
    pub(crate) is_failing: bool,
    is_shared: bool,
}

impl Ring {
    pub(crate) fn shared(count: usize) -> Self {
        Self::new(count, true)
    }

    pub(crate) fn apart(count: usize) -> Self {
        Self::new(count, false)
    }

    fn new(count: usize, is_shared: bool) -> Self {
        let cluster = |at| if is_shared { Cluster::Shared(name_of(at)) } else { Cluster::Apart(name_of(at)) };
        let nodes = (0..count).map(|at| Node::new(cluster(at))).collect();
        let disks = (0..if is_shared { 1 } else { count }).map(|_| Disk::new(1)).collect();
        let now = Now { wall_ms: 1_700_000_000_000, ..Now::default() };
        Self { nodes, disks, now, tickets: 0, is_failing: false, is_shared }
    }

    /// Everybody loads, and each node has one client in it that may write.
    pub(crate) fn settled(mut self) -> Self {
        self.settle();
        for at in 0..self.nodes.len() {
            self.join(at);
        }
        self.wait(5_000);
        for node in &mut self.nodes {
            node.done.clear();
            node.said.clear();
        }
        self
    }

    pub(crate) fn put(&mut self, at: usize, input: Input<()>) {
        let Node { core, effects, .. } = &mut self.nodes[at];
        core.handle(self.now, input, effects);
    }

    /// The client of a node comes.
    pub(crate) fn join(&mut self, at: usize) {
        let (reader, access, receipt) = (reader_of(at), Access::Write, Receipt::Echo);
        self.put(at, Input::Join { reader, access, receipt, member: None, port: () });
        self.put(at, Input::Message { reader, message: DocumentMessage::SyncStep1(Bytes::from_static(&[0])) });
        self.settle();
    }

    /// The client of a node edits; nothing follows before [`Self::settle`].
    pub(crate) fn send(&mut self, at: usize, update: &Bytes) {
        let message = DocumentMessage::Update(update.clone());
        self.put(at, Input::Message { reader: reader_of(at), message });
    }

    pub(crate) fn ask(&mut self, at: usize, request: Request) {
        self.tickets += 1;
        self.put(at, Input::Ask { ticket: Ticket(self.tickets), request });
    }

    /// Carries out what there is to do, and what follows from it, until nothing does.
    pub(crate) fn settle(&mut self) {
        let mut todo: VecDeque<(usize, Effect)> = VecDeque::new();
        for _ in 0..10_000 {
            for (at, node) in self.nodes.iter_mut().enumerate() {
                node.core.flush(self.now, &mut node.effects);
                todo.extend(node.effects.drain(..).map(|effect| (at, effect)));
                node.core.settled();
            }
            let Some((at, effect)) = todo.pop_front() else { return };
            self.perform(at, effect);
        }
        panic!("it does not come to rest");
    }

    fn perform(&mut self, at: usize, effect: Effect) {
        let failing = || StoreError::Unavailable("not today".into());
        let is_failing = self.is_failing;
        let disk = &mut self.disks[if self.is_shared { 0 } else { at }];
        match effect {
            Effect::Load => {
                let loaded = disk.load(DOC);
                self.put(at, Input::Loaded(loaded));
            }
            Effect::Pull { after } => {
                let pulled = if is_failing { Err(failing()) } else { disk.load_after(DOC, after) };
                self.put(at, Input::Pulled(pulled));
            }
            Effect::Append { batch, epoch, records } => {
                let result = if is_failing { Err(failing()) } else { disk.append(DOC, epoch, &records) };
                self.put(at, Input::Appended { batch, result });
            }
            Effect::Delete { mut ending } => {
                let erased = loop {
                    let memo = ending.memo();
                    if let Some(erased) = disk.end(DOC, &mut ending, memo) {
                        break erased;
                    }
                };
                self.put(at, Input::Erased(erased));
            }
            Effect::Revive => {
                let epoch = disk.revive(DOC);
                self.put(at, Input::Revived(Ok(epoch)));
            }
            Effect::Run(job) => self.put(at, Input::Done(job.run())),
            Effect::Tell(message) => self.tell(at, message),
            other => self.nodes[at].done.push(other),
        }
    }

    fn tell(&mut self, at: usize, message: PeerMessage) {
        let asks = matches!(&message, PeerMessage::Digest(digest) if digest.asks);
        for to in (0..self.nodes.len()).filter(|to| *to != at) {
            if self.nodes[to].hears && self.nodes[at].hears {
                let message = PeerMessage::decode(message.encode());
                self.put(to, Input::Peer { from: name_of(at), missed: false, message });
            }
        }
        if asks {
            let others = self.nodes.iter().filter(|node| node.hears).count() - 1;
            self.put(at, Input::Others(others));
        }
        self.nodes[at].said.push(message);
    }

    /// Time goes by, with everything in it that is due.
    pub(crate) fn wait(&mut self, ms: u64) {
        let end = self.now.moment.after(Duration::from_millis(ms));
        loop {
            self.settle();
            let due = self.nodes.iter().filter_map(|node| node.core.deadline()).min().filter(|due| *due <= end);
            let Some(due) = due else { break };
            self.now.moment = self.now.moment.max(due);
            for at in 0..self.nodes.len() {
                if self.nodes[at].core.deadline().is_some_and(|due| due <= self.now.moment) {
                    self.put(at, Input::Tick);
                }
            }
        }
        self.now.moment = end;
    }

    /// Makes a snapshot of all that is stored.
    pub(crate) fn compact(&mut self) {
        let disk = &mut self.disks[0];
        let loaded = disk.load(DOC).unwrap();
        let snapshot = compact::build(&loaded, Deleted::Collected).unwrap().unwrap();
        disk.compact(DOC, loaded.epoch, snapshot).unwrap();
    }

    pub(crate) fn replica(&self, at: usize) -> &Replica {
        self.nodes[at].core.replica().expect("it is alive")
    }

    /// All nodes, and each store read anew, have seen the same.
    pub(crate) fn are_equal(&self) -> bool {
        let stored = self.disks.iter().map(|disk| {
            let loaded = disk.load(DOC).unwrap();
            let snapshot = loaded.snapshot.iter().map(|snapshot| &snapshot.state);
            let updates = snapshot.chain(loaded.records.iter().map(|(_, record)| &record.update));
            Replica::load(Deleted::Kept, updates).unwrap()
        });
        let first = self.replica(0);
        let nodes = (1..self.nodes.len()).all(|at| self.replica(at).same_history(first));
        nodes && stored.into_iter().all(|stored| stored.same_history(first))
    }
}

impl Node {
    fn new(cluster: Cluster) -> Self {
        let settings = CoreSettings {
            doc_bytes_max: 1 << 20,
            compact_bytes: 1 << 20,
            idle: Duration::from_secs(3600),
            heavy_bytes: usize::MAX,
            update: UpdateLimits::default(),
            cluster,
        };
        let mut effects = Vec::new();
        let name = DocName::parse("story").unwrap();
        let core = Core::new(name, settings, Guards::nowhere(), &mut effects);
        Self { core, effects, hears: true, done: Vec::new(), said: Vec::new() }
    }
}

pub(crate) fn name_of(at: usize) -> NodeId {
    NodeId(at as u64 + 1)
}

pub(crate) fn reader_of(at: usize) -> ReaderId {
    ReaderId(at as u64 * 100)
}
