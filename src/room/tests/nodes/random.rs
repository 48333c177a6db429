//! Three nodes, and whatever chance does to them: nobody misses anything without being told so, and what is heard twice was
//! told elsewhere at the same time as the last that was known.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use crate::event::EventId;
use crate::event::Happening;
use crate::room::FeedLimits;
use crate::room::Listening;
use crate::room::Logs;
use crate::room::tests::room;
use crate::table::change::Author;

use super::Nodes;
use super::heard;
use super::id_of;

const SEEDS: u64 = 300;
const STEPS: usize = 400;
const NODES: usize = 3;
const CLIENTS: usize = 4;

struct Chance(u64);

impl Chance {
    fn below(&mut self, below: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % below
    }
}

/// Somebody who listens, moves, and remembers.
struct Client {
    listening: Option<Listening>,
    last: Option<EventId>,
    /// Told before this, as it began to listen, or loaded everything again.
    since: usize,
    heard: BTreeSet<EventId>,
    /// Heard since it came back.
    now: BTreeSet<EventId>,
    /// What it came back behind.
    behind: Option<EventId>,
}

/// Everything that was told, in order; and where.
#[derive(Default)]
struct Told {
    all: Vec<EventId>,
    at: BTreeMap<EventId, usize>,
}

impl Client {
    fn read(&mut self, told: &Told, seed: u64) {
        let Some(listening) = &mut self.listening else { return };
        for event in heard(listening) {
            let Some(event) = event else {
                (self.since, self.heard, self.behind) = (told.all.len(), BTreeSet::new(), None);
                continue;
            };
            self.last = Some(event.id);
            let Some(node) = told.at.get(&event.id) else { continue };
            assert!(self.now.insert(event.id), "seed {seed}: heard twice without a break");
            if !self.heard.insert(event.id) {
                let behind = self.behind.unwrap_or_else(|| panic!("seed {seed}: heard twice for no reason"));
                // What a node told before, whoever heard something of it knows.
                let is_known = told.at.get(&behind) == Some(node) && event.id < behind;
                assert!(!is_known, "seed {seed}: a node's own events have an order");
            }
        }
    }

    fn come(&mut self, nodes: &Nodes, node: usize, told: &Told) {
        let listening = nodes.listen(node, "r", self.last);
        if self.last.is_none() || !listening.recovered {
            (self.since, self.heard, self.last) = (told.all.len(), BTreeSet::new(), None);
        }
        (self.now, self.behind) = (BTreeSet::new(), self.last);
        self.listening = Some(listening);
    }
}

fn step(nodes: &Nodes, clients: &mut [Client], told: &mut Told, chance: &mut Chance, seed: u64) {
    let node = chance.below(NODES);
    match chance.below(40) {
        0..10 => {
            let id = nodes.tell(node, "r", "x");
            told.all.push(id);
            assert!(told.at.insert(id, node).is_none(), "seed {seed}: an id was given twice");
        }
        10..13 => {
            let key = chance.below(3).to_string();
            nodes.feeds[node].pass(&[room("r")], &key, &Author::default(), 0, Happening::new("passing"));
        }
        13..24 => drop((0..chance.below(6)).map(|_| nodes.deliver_one(chance.below(100))).collect::<Vec<_>>()),
        24..28 => nodes.attend(node),
        28 => nodes.time_passes(node),
        29 => drop(nodes.network.lose_next(id_of(node), id_of((node + 1) % NODES))),
        30 => nodes.cut(node),
        31..33 => nodes.heal(node),
        33..37 => clients[chance.below(CLIENTS)].read(told, seed),
        37 => clients[chance.below(CLIENTS)].listening = None,
        _ => {
            let client = &mut clients[chance.below(CLIENTS)];
            client.come(nodes, node, told);
        }
    }
}

#[test]
fn nobody_misses_anything_without_being_told() {
    for seed in 0..SEEDS {
        // Every third one forgets nearly everything.
        let bytes_max = if seed % 3 == 0 { 6_000 } else { 1 << 20 };
        let nodes = Nodes::with(3, Logs::Shared, FeedLimits { bytes_max, ..FeedLimits::default() });
        let (mut told, mut chance) = (Told::default(), Chance(seed));
        let new = || Client {
            listening: None,
            last: None,
            since: 0,
            heard: BTreeSet::new(),
            now: BTreeSet::new(),
            behind: None,
        };
        let mut clients: Vec<Client> = (0..CLIENTS).map(|_| new()).collect();
        for _ in 0..STEPS {
            step(&nodes, &mut clients, &mut told, &mut chance, seed);
        }
        (0..NODES).for_each(|node| nodes.heal(node));
        nodes.settle();
        for (number, client) in clients.iter_mut().enumerate() {
            if client.listening.is_none() {
                client.come(&nodes, number % NODES, &told);
            }
            client.read(&told, seed);
            let missed: Vec<_> = told.all[client.since..].iter().filter(|id| !client.heard.contains(id)).collect();
            assert!(missed.is_empty(), "seed {seed}: client {number} missed {missed:?} without being told");
        }
    }
}
