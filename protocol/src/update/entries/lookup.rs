//! Slots by map and key. A map of the standard library would keep a second copy of both, for every cell.

use std::hash::BuildHasher;
use std::hash::RandomState;

use super::index::NONE;

/// Numbers of slots, each at or behind the place that the hash of its map and key points to. Keyed with chance, because
/// clients choose the keys.
#[derive(Debug, Clone, Default)]
pub(super) struct Lookup {
    /// As many as a power of two, a quarter of them [`NONE`].
    places: Vec<u32>,
    filled: usize,
    hasher: RandomState,
}

impl Lookup {
    /// The slot of a map and key; `key_of` says which those of a slot are.
    pub(super) fn find(&self, key: (u32, u32), key_of: impl Fn(u32) -> (u32, u32)) -> Option<u32> {
        if self.places.is_empty() {
            return None;
        }
        let mut at = self.start(key);
        while self.places[at] != NONE {
            if key_of(self.places[at]) == key {
                return Some(self.places[at]);
            }
            at = self.next(at);
        }
        None
    }

    /// Adds a slot that is not there yet.
    pub(super) fn add(&mut self, slot: u32, key_of: impl Fn(u32) -> (u32, u32)) {
        if self.filled >= self.places.len() / 4 * 3 {
            let doubled = vec![NONE; (self.places.len() * 2).max(4)];
            let old = std::mem::replace(&mut self.places, doubled);
            old.into_iter().filter(|&slot| slot != NONE).for_each(|slot| self.put(slot, key_of(slot)));
        }
        self.put(slot, key_of(slot));
        self.filled += 1;
    }

    fn put(&mut self, slot: u32, key: (u32, u32)) {
        let mut at = self.start(key);
        while self.places[at] != NONE {
            at = self.next(at);
        }
        self.places[at] = slot;
    }

    fn start(&self, key: (u32, u32)) -> usize {
        self.hasher.hash_one(key) as usize & (self.places.len() - 1)
    }

    fn next(&self, at: usize) -> usize {
        (at + 1) & (self.places.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_added_is_found_and_nothing_else() {
        let key_of = |slot: u32| (slot % 7, slot / 7);
        let mut lookup = Lookup::default();
        for slot in 0..1_000 {
            assert_eq!(lookup.find(key_of(slot), key_of), None);
            lookup.add(slot, key_of);
            assert!((0..=slot).all(|slot| lookup.find(key_of(slot), key_of) == Some(slot)));
        }
    }
}
