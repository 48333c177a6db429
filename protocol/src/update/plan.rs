//! The structs of an update as a list, and the order in which a document can take them.

use std::cmp::Reverse;
use std::ops::Range;

use crate::state_vector::StateVector;
use crate::update::Invalid;
use crate::update::UpdateLimits;
use crate::update::content;
use crate::update::cursor::Id;
use crate::update::summary::ClientRange;
use crate::update::walk;
use crate::update::walk::Block;
use crate::update::walk::HAS_PARENT_SUB;
use crate::update::walk::Parent;
use crate::update::walk::Sink;

/// One struct. Gaps are not listed: they show in the clocks.
#[derive(Debug, Clone)]
pub(super) struct Piece {
    pub(super) client: u64,
    pub(super) clock: u32,
    pub(super) end_clock: u32,
    /// All of it, in the update.
    pub(super) bytes: Range<usize>,
    /// Where its content starts.
    pub(super) content_at: usize,
    pub(super) right_origin: Option<Id>,
    pub(super) cut: Cut,
    /// Whether it would say the same without its content, were it deleted. Types would not: others lie in them.
    pub(super) is_plain: bool,
    /// What else, of other clients, must be there before it.
    references: [Option<Id>; 2],
}

/// Where a struct may be cut in two. Under a map key it may not: its second half would take the place of the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cut {
    /// Between two characters.
    Text,
    /// Between two values.
    Values,
    Nowhere,
}

/// One client's pieces.
#[derive(Debug, Clone)]
pub(super) struct Section {
    pub(super) client: u64,
    pub(super) pieces: Range<usize>,
}

/// An update taken apart.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) pieces: Vec<Piece>,
    /// Higher clients first.
    pub(super) sections: Vec<Section>,
    pub(super) deletes: Vec<ClientRange>,
}

impl Plan {
    pub(super) fn read(update: &[u8]) -> Result<Self, Invalid> {
        let mut plan = Self::default();
        walk::walk(update, &UpdateLimits::none(), &mut plan)?;
        plan.sections.sort_by_key(|section| Reverse(section.client));
        Ok(plan)
    }

    fn section_of(&self, client: u64) -> Option<usize> {
        self.sections.binary_search_by_key(&Reverse(client), |section| Reverse(section.client)).ok()
    }
}

impl<'a> Sink<'a> for Plan {
    fn section(&mut self, client: u64, _: usize, _: usize) -> Result<(), Invalid> {
        let start = self.pieces.len();
        self.sections.push(Section { client, pieces: start..start });
        Ok(())
    }

    fn block(&mut self, block: &Block<'a>) -> Result<(), Invalid> {
        if block.info == content::SKIP {
            return Ok(());
        }
        let parent = match block.parent {
            Parent::Item(id) => Some(id),
            Parent::Root { .. } | Parent::Inherited => None,
        };
        let foreign = |id: Option<Id>| id.filter(|id| id.client != block.client);
        self.pieces.push(Piece {
            client: block.client,
            clock: block.clock,
            end_clock: block.end_clock(),
            bytes: block.at..block.end,
            content_at: block.content_at,
            right_origin: block.right_origin,
            cut: match block.content() {
                content::STRING if block.info & HAS_PARENT_SUB == 0 => Cut::Text,
                content::ANY if block.info & HAS_PARENT_SUB == 0 => Cut::Values,
                _ => Cut::Nowhere,
            },
            is_plain: content::is_plain(block.content()),
            // A parent is named only where there are no origins, so two places are enough.
            references: [foreign(block.origin.or(parent)), foreign(block.right_origin)],
        });
        let section = self.sections.last_mut().expect("a section was opened before its first block");
        section.pieces.end = self.pieces.len();
        Ok(())
    }

    fn deletes_of(&mut self, _: u64, _: usize) -> Result<(), Invalid> {
        Ok(())
    }

    fn delete(&mut self, client: u64, start: u32, end: u32) {
        self.deletes.push(ClientRange { client, start, end });
    }
}

/// Which pieces a document that knows `known` can take, and in which order. What is known already is left out.
#[derive(Debug)]
pub(super) struct Schedule<'a> {
    plan: &'a Plan,
    known: &'a StateVector,
    /// Indices of pieces, each after everything that it builds on.
    pub(super) order: Vec<usize>,
    states: Vec<SectionState>,
}

#[derive(Debug, Clone, Copy)]
struct SectionState {
    /// The first piece that is neither known nor in `order`.
    next: usize,
    /// The client's clock after all pieces before `next`.
    reach: u32,
    run: Run,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Run {
    Idle,
    /// On the stack: waits for a section above it, or runs.
    Waiting,
    /// Something it needs will not come.
    Stuck,
}

enum Step {
    Done,
    WaitFor(usize, u32),
    Stuck,
}

impl<'a> Schedule<'a> {
    pub(super) fn new(plan: &'a Plan, known: &'a StateVector) -> Self {
        let state = |section: &Section| {
            let reach = known.clock(section.client);
            let pieces = &plan.pieces[section.pieces.clone()];
            let next = section.pieces.start + pieces.partition_point(|piece| piece.end_clock <= reach);
            SectionState { next, reach, run: Run::Idle }
        };
        let states = plan.sections.iter().map(state).collect();
        let mut schedule = Self { plan, known, order: Vec::with_capacity(plan.pieces.len()), states };
        schedule.run();
        schedule
    }

    /// The clock up to which `client` is whole when all of `order` was applied.
    pub(super) fn reach(&self, client: u64) -> u32 {
        self.plan.section_of(client).map_or_else(|| self.known.clock(client), |section| self.states[section].reach)
    }

    /// The pieces of a section that have to wait.
    pub(super) fn waiting(&self, section: usize) -> &'a [Piece] {
        &self.plan.pieces[self.states[section].next..self.plan.sections[section].pieces.end]
    }

    /// As in [`super::order`]: sections take turns like threads.
    fn run(&mut self) {
        let mut stack = Vec::new();
        for section in 0..self.states.len() {
            if self.states[section].run == Run::Idle {
                self.enter(&mut stack, section, u32::MAX);
            }
            while let Some(&(section, target)) = stack.last() {
                match self.advance(section, target) {
                    Step::WaitFor(other, clock) => self.enter(&mut stack, other, clock),
                    Step::Done => {
                        self.states[section].run = Run::Idle;
                        stack.pop();
                    }
                    Step::Stuck => {
                        self.states[section].run = Run::Stuck;
                        stack.pop();
                    }
                }
            }
        }
    }

    fn enter(&mut self, stack: &mut Vec<(usize, u32)>, section: usize, target: u32) {
        self.states[section].run = Run::Waiting;
        stack.push((section, target));
    }

    fn advance(&mut self, section: usize, target: u32) -> Step {
        let end = self.plan.sections[section].pieces.end;
        loop {
            let state = self.states[section];
            if state.next == end || state.reach > target {
                return Step::Done;
            }
            let piece = &self.plan.pieces[state.next];
            if piece.clock > state.reach {
                return Step::Stuck;
            }
            if let Some(step) = piece.references.iter().flatten().find_map(|&id| self.obstacle(id)) {
                return step;
            }
            self.order.push(state.next);
            self.states[section].next += 1;
            self.states[section].reach = piece.end_clock;
        }
    }

    /// What keeps a reference from being satisfied.
    fn obstacle(&self, id: Id) -> Option<Step> {
        let Some(section) = self.plan.section_of(id.client) else {
            return (self.known.clock(id.client) <= id.clock).then_some(Step::Stuck);
        };
        let state = self.states[section];
        if state.reach > id.clock {
            None
        } else if state.run == Run::Idle && state.next < self.plan.sections[section].pieces.end {
            Some(Step::WaitFor(section, id.clock))
        } else {
            Some(Step::Stuck)
        }
    }
}
