//! From a draft to touches.

use std::ops::Range;
use std::sync::Arc;

use super::draft::Draft;
use super::draft::NewHome;
use super::draft::Node;
use super::draft::Spot;
use super::index::Index;
use super::index::first_ending_after;
use super::touch::Content;
use super::touch::EntryId;
use super::touch::Standing;
use super::touch::Touch;
use super::touch::Written;
use crate::update::content;
use crate::update::cursor::Cursor;
use crate::update::cursor::Id;
use crate::update::few::Few;

/// What one update touches, sorted by path.
pub(super) fn touches(index: &Index, draft: &Draft<'_>, update: &[u8]) -> Vec<Touch> {
    let survey = Survey { index, draft, update };
    // Each touched slot with its nodes; one that is only deleted has none.
    let mut spots = Few::<(Spot, Option<usize>), 4>::default();
    let placed = draft.nodes.iter().enumerate().map(|(at, node)| (node.spot, Some(at)));
    placed.filter(|(spot, _)| matches!(spot, Spot::Known(_) | Spot::New(_))).for_each(|spot| spots.push(spot));
    survey.deleted(|slot| spots.push((Spot::Known(slot), None)));
    spots.sort_unstable();
    let mut touches: Vec<_> = spots.chunk_by(|a, b| a.0 == b.0).map(|spots| survey.touch(spots)).collect();
    touches.sort_unstable_by(|a, b| (&a.path, a.map).cmp(&(&b.path, b.map)));
    touches
}

struct Survey<'a> {
    index: &'a Index,
    draft: &'a Draft<'a>,
    update: &'a [u8],
}

impl Survey<'_> {
    /// The slots whose current entry is in the delete set.
    fn deleted(&self, mut slot: impl FnMut(u32)) {
        each_deleted(self.index, self.draft, |deleted| {
            if self.index.is_shown(self.index.slot(deleted).map) {
                slot(deleted);
            }
        });
    }

    fn touch(&self, spots: &[(Spot, Option<usize>)]) -> Touch {
        let spot = spots[0].0;
        let current = match spot {
            Spot::Known(slot) => self.index.current(slot).map(EntryId::from),
            _ => None,
        };
        let (map, standing) = self.map(spot);
        let nodes = spots.iter().filter_map(|&(_, at)| at).map(|at| &self.draft.nodes[at]);
        Touch {
            path: self.path(spot),
            map,
            standing,
            writes: nodes.map(|node| self.written(node, current)).collect(),
            current,
            deletes_current: spots[0].1.is_none(),
        }
    }

    fn map(&self, spot: Spot) -> (Option<EntryId>, Standing) {
        let home = match spot {
            Spot::Known(slot) => NewHome::Known(self.index.slot(slot).map),
            Spot::New(slot) => self.draft.slots[slot as usize].0.home,
            Spot::Unknown | Spot::Pending | Spot::Nowhere => unreachable!("only placed nodes are touches"),
        };
        match home {
            NewHome::Root(_) => (None, Standing::Shown),
            NewHome::Known(map) if self.index.is_shown(map) => {
                (self.index.creator(map).map(EntryId::from), Standing::Shown)
            }
            NewHome::Known(map) => (self.index.creator(map).map(EntryId::from), Standing::Hidden),
            NewHome::By(node) => {
                let node = &self.draft.nodes[node as usize];
                let (_, above) = self.map(node.spot);
                (Some(node.last().into()), above.max(Standing::New))
            }
        }
    }

    fn path(&self, spot: Spot) -> Vec<Arc<str>> {
        let new = match spot {
            Spot::Known(slot) => return self.index.path(slot),
            Spot::New(slot) => self.draft.slots[slot as usize].0,
            Spot::Unknown | Spot::Pending | Spot::Nowhere => unreachable!("only placed nodes are touches"),
        };
        let mut path = match new.home {
            NewHome::Known(map) => self.index.path_of_map(map),
            NewHome::Root(name) => vec![self.index.text(name)],
            NewHome::By(node) => self.path(self.draft.nodes[node as usize].spot),
        };
        path.push(self.index.text(new.key));
        path
    }

    fn written(&self, node: &Node<'_>, current: Option<EntryId>) -> Written {
        let base = node.base.map(EntryId::from);
        Written {
            id: node.last().into(),
            base,
            content: content_of(node, self.update),
            is_concurrent: current.is_some() && base != current,
            is_superseded: node.is_superseded,
            is_deleted_here: node.content == content::DELETED || self.draft.is_deleted(node.last()),
        }
    }
}

/// The known slots whose undeleted entry is in the draft's delete set, each once.
pub(super) fn each_deleted(index: &Index, draft: &Draft<'_>, mut slot: impl FnMut(u32)) {
    for range in draft.deletes.iter() {
        let runs = index.runs_of(range.client);
        let first = first_ending_after(runs, range.start);
        for run in runs[first..].iter().take_while(|run| run.start < range.end) {
            let is_hit = |id: &Id| {
                id.client == range.client && (run.start.max(range.start)..run.end.min(range.end)).contains(&id.clock)
            };
            if index.undeleted(run.slot).as_ref().is_some_and(is_hit) {
                slot(run.slot);
            }
        }
    }
}

fn content_of(node: &Node<'_>, update: &[u8]) -> Content {
    match node.content {
        content::ANY => last_value(update, node.content_at..node.content_end).map_or(Content::Other, Content::Any),
        content::BINARY => {
            let mut cursor = Cursor::new(&update[..node.content_end]);
            let read = cursor.skip(node.content_at).and_then(|()| cursor.bytes());
            read.map_or(Content::Other, |bytes| Content::Bytes(node.content_end - bytes.len()..node.content_end))
        }
        content::TYPE => Content::Type(node.kind),
        content::DELETED => Content::Gone,
        _ => Content::Other,
    }
}

/// Several values under one key are writes of which only the last was ever seen.
fn last_value(update: &[u8], bytes: Range<usize>) -> Option<Range<usize>> {
    let mut cursor = Cursor::new(&update[..bytes.end]);
    cursor.skip(bytes.start).ok()?;
    for _ in 1..cursor.count(1).ok()? {
        content::value(&mut cursor, 0).ok()?;
    }
    Some(cursor.at()..bytes.end)
}
