//! Where records and fields stand: new order keys for what comes or moves.

use std::collections::BTreeSet;
use std::collections::HashMap;
use std::ops::Bound;
use std::sync::Arc;

use syncline_protocol::ErrorCode;

use crate::table::order;
use crate::table::order::BadKey;
use crate::table::refused::Refused;

/// Order key and id.
pub(super) type Standing = (Arc<str>, Arc<str>);

/// A place to go to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spot<'a> {
    /// Behind everything.
    End,
    /// Before everything.
    Start,
    /// Directly behind the one with this id.
    Behind(&'a str),
}

impl<'a> Spot<'a> {
    /// Where `after` points: behind an id, or first.
    pub(super) fn after(after: &'a Option<String>) -> Self {
        after.as_deref().map_or(Self::Start, Self::Behind)
    }
}

/// Neighbours that go to one place together and keep their order.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Block<'a> {
    pub(super) spot: Spot<'a>,
    pub(super) ids: Vec<Arc<str>>,
}

/// Why something cannot go where it is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Misplaced {
    /// It is to stand behind something that is not there, or behind itself.
    NoAnchor,
    /// There is no order key for the place.
    NoRoom,
}

impl Misplaced {
    /// The refusal; `path` names the one that cannot be placed.
    pub(super) fn refused(self, path: String) -> Refused {
        match self {
            Self::NoAnchor => Refused::wrong(path, "there is nothing with this id to stand behind"),
            Self::NoRoom => Refused::new(ErrorCode::ChannelError, "no order key is left for this place"),
        }
    }
}

/// Joins those who name the same place, and those who go behind the one before them, into blocks: a pasted list keeps its
/// order, and its keys stay short.
pub(super) fn blocks<'a>(moves: impl IntoIterator<Item = (Arc<str>, Spot<'a>)>) -> Vec<Block<'a>> {
    let mut blocks: Vec<Block<'a>> = Vec::new();
    for (id, spot) in moves {
        match blocks.last_mut() {
            Some(block) if block.takes(&id, spot) => block.ids.push(id),
            _ => blocks.push(Block { spot, ids: vec![id] }),
        }
    }
    blocks
}

impl Block<'_> {
    fn takes(&self, id: &str, spot: Spot<'_>) -> bool {
        let is_next = self.ids.last().is_some_and(|last| spot == Spot::Behind(last));
        (spot == self.spot || is_next) && self.spot != Spot::Behind(id)
    }
}

/// What stands in a line, and what is to be moved in it.
pub(super) struct Line<'a> {
    kept: &'a BTreeSet<Standing>,
    is_hidden: &'a dyn Fn(&str) -> bool,
    key_of: &'a dyn Fn(&str) -> Option<Arc<str>>,
    /// What stands elsewhere than in `kept` by now.
    placed: BTreeSet<Standing>,
    /// The keys of those.
    keys: HashMap<Arc<str>, Arc<str>>,
}

impl<'a> Line<'a> {
    /// A line as it is. `is_hidden` tells which of it nobody sees, `key_of` finds an id in it.
    pub(super) fn new(
        kept: &'a BTreeSet<Standing>,
        is_hidden: &'a dyn Fn(&str) -> bool,
        key_of: &'a dyn Fn(&str) -> Option<Arc<str>>,
    ) -> Self {
        Self { kept, is_hidden, key_of, placed: BTreeSet::new(), keys: HashMap::new() }
    }

    /// Moves or inserts a block. One that stands there already stays, deleted ones between not counted.
    ///
    /// # Errors
    /// The place is behind something that is not there, or behind the block itself; or there are no keys for it.
    pub(super) fn place(&mut self, block: &Block<'_>, chance: &mut dyn FnMut() -> u32) -> Result<(), Misplaced> {
        let anchor = self.anchor(block)?;
        if self.stands(anchor.as_ref(), block) {
            return Ok(());
        }
        self.lift(&block.ids);
        let (lower, upper) = self.gap(block.spot, anchor.as_ref());
        match order::jittered_keys_between(lower.as_deref(), upper.as_deref(), block.ids.len(), chance) {
            Ok(keys) => self.put_down(block.ids.iter().cloned(), keys),
            Err(BadKey::Full) => self.respread(block, anchor.as_ref(), chance)?,
            Err(_) => return Err(Misplaced::NoRoom),
        }
        Ok(())
    }

    /// The new keys of everything that does not stand where it stood, in the order of ids.
    pub(super) fn into_keys(self) -> HashMap<Arc<str>, Arc<str>> {
        self.keys
    }

    /// The one to stand behind; `None` for an end of the line.
    fn anchor(&self, block: &Block<'_>) -> Result<Option<Standing>, Misplaced> {
        let Spot::Behind(id) = block.spot else { return Ok(None) };
        if block.ids.iter().any(|own| &**own == id) {
            return Err(Misplaced::NoAnchor);
        }
        let key = self.keys.get(id).cloned().or_else(|| (self.key_of)(id)).ok_or(Misplaced::NoAnchor)?;
        Ok(Some((key, id.into())))
    }

    /// Whether the block stands where it is to go.
    fn stands(&self, anchor: Option<&Standing>, block: &Block<'_>) -> bool {
        let next = self.behind(anchor).filter(|(_, id)| !(self.is_hidden)(id) || block.ids.contains(id));
        block.spot != Spot::End && next.map(|(_, id)| id).take(block.ids.len()).eq(&block.ids)
    }

    /// Takes the block out of the line.
    fn lift(&mut self, ids: &[Arc<str>]) {
        for id in ids {
            if let Some(key) = self.keys.insert(id.clone(), "".into()) {
                self.placed.remove(&(key, id.clone()));
            }
        }
    }

    /// The nearest valid keys on both sides of a place.
    fn gap(&self, spot: Spot<'_>, anchor: Option<&Standing>) -> (Option<Arc<str>>, Option<Arc<str>>) {
        let lower = match spot {
            Spot::Start => None,
            Spot::End => self.last_valid(None),
            Spot::Behind(_) => self.last_valid(anchor),
        };
        let is_above = |key: &Arc<str>| lower.as_ref().is_none_or(|lower| key > lower);
        let mut keys = self.behind(anchor).map(|(key, _)| key).filter(|key| is_above(key) && order::is_valid(key));
        let upper = if spot == Spot::End { None } else { keys.next().cloned() };
        (lower, upper)
    }

    /// The last valid key up to and with `end`. A client may have written keys that are none: nothing fits next to them.
    fn last_valid(&self, end: Option<&Standing>) -> Option<Arc<str>> {
        let until = || (Bound::Unbounded, end.map_or(Bound::Unbounded, Bound::Included));
        let is_valid = |(key, _): &&Standing| order::is_valid(key);
        let kept = self.kept.range::<Standing, _>(until()).rev().filter(|at| self.is_unmoved(at)).find(is_valid);
        let placed = self.placed.range::<Standing, _>(until()).rev().find(is_valid);
        kept.max(placed).map(|(key, _)| key.clone())
    }

    fn is_unmoved(&self, (_, id): &Standing) -> bool {
        !self.keys.contains_key(id)
    }

    /// Everything behind `start`, in order; all of it without one.
    fn behind(&self, start: Option<&Standing>) -> impl Iterator<Item = &Standing> {
        let from = || (start.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded);
        let mut kept = self.kept.range::<Standing, _>(from()).filter(|at| self.is_unmoved(at)).peekable();
        let mut placed = self.placed.range::<Standing, _>(from()).peekable();
        std::iter::from_fn(move || match (kept.peek(), placed.peek()) {
            (Some(old), Some(new)) if old < new => kept.next(),
            (_, Some(_)) => placed.next(),
            _ => kept.next(),
        })
    }

    fn put_down(&mut self, ids: impl Iterator<Item = Arc<str>>, keys: Vec<String>) {
        for (id, key) in ids.zip(keys) {
            let key: Arc<str> = key.into();
            self.keys.insert(id.clone(), key.clone());
            self.placed.insert((key, id));
        }
    }

    /// Gives everything a new key, because a gap is worn out: once in thousands of inserts into it.
    fn respread(
        &mut self,
        block: &Block<'_>,
        anchor: Option<&Standing>,
        chance: &mut dyn FnMut() -> u32,
    ) -> Result<(), Misplaced> {
        let mut ids: Vec<Arc<str>> = self.behind(None).map(|(_, id)| id.clone()).collect();
        let at = match anchor {
            Some((_, anchor)) => ids.iter().position(|id| id == anchor).map_or(ids.len(), |at| at + 1),
            None if block.spot == Spot::Start => 0,
            None => ids.len(),
        };
        ids.splice(at..at, block.ids.iter().cloned());
        let keys = order::jittered_keys_between(None, None, ids.len(), chance).map_err(|_| Misplaced::NoRoom)?;
        self.placed.clear();
        self.put_down(ids.into_iter(), keys);
        Ok(())
    }
}
