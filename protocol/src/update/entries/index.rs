//! What is kept: runs of items, the slots they belong to, and the maps these lie in.

use std::collections::HashMap;
use std::sync::Arc;

use super::DEPTH_MAX;
use super::lookup::Lookup;
use crate::update::cursor::Id;

/// No slot, no client, no node.
pub(super) const NONE: u32 = u32::MAX;

/// Items of one client that follow each other and belong to one slot.
#[derive(Debug, Clone, Copy)]
pub(super) struct Run {
    pub(super) start: u32,
    pub(super) end: u32,
    pub(super) slot: u32,
}

/// One key of one map. Clients, keys and maps are numbers here, because there is one of these for every cell.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slot {
    pub(super) map: u32,
    key: u32,
    /// The entry that was not deleted when last heard of; client [`NONE`] when there is none. Of a hidden map it stays.
    client: u32,
    clock: u32,
}

impl Slot {
    fn address(self) -> (u32, u32) {
        (self.map, self.key)
    }
}

/// A map that has a path: a root, or one that an entry created. A shared type of another kind counts as one too, its
/// tag does not say whether keys are written into it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Map {
    pub(super) home: Home,
    /// Maps above it.
    pub(super) depth: u32,
}

/// Where a map is found.
#[derive(Debug, Clone, Copy)]
pub(super) enum Home {
    /// The key that is its name.
    Root(u32),
    /// The entry that created it: its slot, client and clock.
    Entry { slot: u32, client: u32, clock: u32 },
}

#[derive(Debug, Clone, Default)]
pub(super) struct Index {
    client_of: HashMap<u64, u32>,
    clients: Vec<u64>,
    /// The client that was last taken note of: it comes several times in a row.
    recent: u32,
    /// By client: sorted, not overlapping, none touching another of the same slot.
    runs: Vec<Vec<Run>>,
    /// By client: the first clock that was not there yet, of whatever kind.
    reached: Vec<u32>,
    key_of: HashMap<Arc<str>, u32>,
    keys: Vec<Arc<str>>,
    slot_of: Lookup,
    slots: Vec<Slot>,
    /// By the client and clock of the entry that created it; a root by [`NONE`] and its name.
    map_of: HashMap<(u32, u32), u32>,
    maps: Vec<Map>,
}

/// Looking up.
impl Index {
    pub(super) fn runs_of(&self, client: u64) -> &[Run] {
        self.client_of.get(&client).map_or(&[], |&client| self.runs[client as usize].as_slice())
    }

    /// The first clock of a client that was not there yet, and its runs.
    pub(super) fn known_of(&self, client: u64) -> (u32, &[Run]) {
        let known = |&client: &u32| (self.reached[client as usize], self.runs[client as usize].as_slice());
        self.client_of.get(&client).map_or((0, &[]), known)
    }

    pub(super) fn slot_at(&self, id: Id) -> Option<u32> {
        run_at(self.runs_of(id.client), id.clock).map(|run| run.slot)
    }

    pub(super) fn slot(&self, slot: u32) -> Slot {
        self.slots[slot as usize]
    }

    pub(super) fn map(&self, map: u32) -> Map {
        self.maps[map as usize]
    }

    pub(super) fn root(&self, name: &str) -> Option<u32> {
        self.map_of.get(&(NONE, *self.key_of.get(name)?)).copied()
    }

    /// The map that an entry created.
    pub(super) fn map_by(&self, id: Id) -> Option<u32> {
        self.map_of.get(&(*self.client_of.get(&id.client)?, id.clock)).copied()
    }

    pub(super) fn slot_in(&self, map: u32, key: &str) -> Option<u32> {
        self.slot_of.find((map, *self.key_of.get(key)?), |slot| self.slot(slot).address())
    }

    /// One copy of every text.
    pub(super) fn text(&self, text: &str) -> Arc<str> {
        self.key_of.get_key_value(text).map_or_else(|| Arc::from(text), |(known, _)| known.clone())
    }

    /// The entry that was not deleted, whether its map is shown or not.
    pub(super) fn undeleted(&self, slot: u32) -> Option<Id> {
        let slot = self.slot(slot);
        (slot.client != NONE).then(|| Id { client: self.clients[slot.client as usize], clock: slot.clock })
    }

    pub(super) fn current(&self, slot: u32) -> Option<Id> {
        self.undeleted(slot).filter(|_| self.is_shown(self.slot(slot).map))
    }

    /// Whether a map can be seen: a root, or created by a current entry of a map that is.
    pub(super) fn is_shown(&self, mut map: u32) -> bool {
        while let Home::Entry { slot, client, clock } = self.map(map).home {
            let slot = self.slot(slot);
            if (slot.client, slot.clock) != (client, clock) {
                return false;
            }
            map = slot.map;
        }
        true
    }

    pub(super) fn creator(&self, map: u32) -> Option<Id> {
        match self.map(map).home {
            Home::Root(_) => None,
            Home::Entry { client, clock, .. } => Some(Id { client: self.clients[client as usize], clock }),
        }
    }

    pub(super) fn path(&self, slot: u32) -> Vec<Arc<str>> {
        let slot = self.slot(slot);
        let mut path = self.path_of_map(slot.map);
        path.push(self.keys[slot.key as usize].clone());
        path
    }

    /// Has room for one key more.
    pub(super) fn path_of_map(&self, mut map: u32) -> Vec<Arc<str>> {
        let mut path = Vec::with_capacity(self.map(map).depth as usize + 2);
        loop {
            match self.map(map).home {
                Home::Entry { slot, .. } => {
                    let slot = self.slot(slot);
                    path.push(self.keys[slot.key as usize].clone());
                    map = slot.map;
                }
                Home::Root(name) => {
                    path.push(self.keys[name as usize].clone());
                    break;
                }
            }
        }
        path.reverse();
        path
    }

    pub(super) fn slots(&self) -> impl Iterator<Item = u32> {
        0..self.slots.len() as u32
    }
}

/// Taking note.
impl Index {
    fn client(&mut self, client: u64) -> u32 {
        if self.clients.get(self.recent as usize) == Some(&client) {
            return self.recent;
        }
        let next = self.clients.len() as u32;
        let known = *self.client_of.entry(client).or_insert(next);
        self.recent = known;
        if known == next {
            self.clients.push(client);
            self.runs.push(Vec::new());
            self.reached.push(0);
        }
        known
    }

    fn key(&mut self, text: &str) -> u32 {
        if let Some(&known) = self.key_of.get(text) {
            return known;
        }
        let (text, next) = (Arc::<str>::from(text), self.keys.len() as u32);
        self.keys.push(text.clone());
        self.key_of.insert(text, next);
        next
    }

    pub(super) fn add_root(&mut self, name: &str) -> u32 {
        let name = self.key(name);
        self.add_map(NONE, name, Map { home: Home::Root(name), depth: 0 })
    }

    /// The map that an entry of `slot` creates; `None` where maps would be too deep.
    pub(super) fn add_map_by(&mut self, id: Id, slot: u32) -> Option<u32> {
        let depth = self.map(self.slot(slot).map).depth + 1;
        let client = self.client(id.client);
        let home = Home::Entry { slot, client, clock: id.clock };
        (depth < DEPTH_MAX as u32).then(|| self.add_map(client, id.clock, Map { home, depth }))
    }

    fn add_map(&mut self, client: u32, clock: u32, map: Map) -> u32 {
        let next = self.maps.len() as u32;
        let known = *self.map_of.entry((client, clock)).or_insert(next);
        if known == next {
            self.maps.push(map);
        }
        known
    }

    pub(super) fn add_slot(&mut self, map: u32, key: &str) -> u32 {
        let key = self.key(key);
        if let Some(known) = self.slot_of.find((map, key), |slot| self.slot(slot).address()) {
            return known;
        }
        let slot = self.slots.len() as u32;
        self.slots.push(Slot { map, key, client: NONE, clock: 0 });
        self.slot_of.add(slot, |slot| self.slots[slot as usize].address());
        slot
    }

    pub(super) fn reach(&mut self, client: u64, clock: u32) {
        let client = self.client(client) as usize;
        self.reached[client] = self.reached[client].max(clock);
    }

    pub(super) fn set_undeleted(&mut self, slot: u32, id: Option<Id>) {
        let (client, clock) = id.map_or((NONE, 0), |id| (self.client(id.client), id.clock));
        let slot = &mut self.slots[slot as usize];
        (slot.client, slot.clock) = (client, clock);
    }

    /// Notes items of a slot, in the order of their clocks.
    pub(super) fn add_run(&mut self, client: u64, start: u32, end: u32, slot: u32) {
        let client = self.client(client) as usize;
        let runs = &mut self.runs[client];
        match runs.last_mut() {
            // A client that comes twice, which is refused before.
            Some(last) if last.end > start => {}
            Some(last) if last.end == start && last.slot == slot => last.end = end,
            _ => runs.push(Run { start, end, slot }),
        }
    }

    pub(super) fn shrink(&mut self) {
        self.runs.iter_mut().for_each(Vec::shrink_to_fit);
        self.reached.shrink_to_fit();
        self.clients.shrink_to_fit();
        self.keys.shrink_to_fit();
        self.slots.shrink_to_fit();
        self.maps.shrink_to_fit();
    }
}

/// The run that holds a clock.
pub(super) fn run_at(runs: &[Run], clock: u32) -> Option<&Run> {
    if runs.last()?.end <= clock {
        return None;
    }
    runs.get(first_ending_after(runs, clock)).filter(|run| run.start <= clock)
}

/// The place of the first run that ends after a clock. It is looked for from where it would be if all runs were equally
/// long, because a search from the middle of a hundred thousand waits for memory at each step.
pub(super) fn first_ending_after(runs: &[Run], clock: u32) -> usize {
    let Some(last) = runs.last().filter(|last| last.end > clock) else { return runs.len() };
    let guess = (u64::from(clock) * runs.len() as u64 / u64::from(last.end)) as usize;
    let (mut low, mut high, mut step) = (guess, guess, 1);
    while high < runs.len() && runs[high].end <= clock {
        (low, high, step) = (high + 1, high + step, step * 2);
    }
    while low > 0 && runs[low - 1].end > clock {
        (low, high, step) = (low.saturating_sub(step), low - 1, step * 2);
    }
    low + runs[low..high.min(runs.len())].partition_point(|run| run.end <= clock)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_run_is_found_wherever_it_stands(lengths in prop::collection::vec((0..50_u32, 1..9_u32), 0..60), clock in 0..2_000_u32) {
            let mut end = 0;
            let run = |(gap, length)| {
                let start = end + gap;
                end = start + length;
                Run { start, end, slot: 0 }
            };
            let runs: Vec<Run> = lengths.into_iter().map(run).collect();
            prop_assert_eq!(first_ending_after(&runs, clock), runs.partition_point(|run| run.end <= clock));
            let holds = runs.iter().position(|run| (run.start..run.end).contains(&clock));
            prop_assert_eq!(run_at(&runs, clock).map(|run| run.start), holds.map(|at| runs[at].start));
        }
    }
}
