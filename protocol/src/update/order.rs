//! Whether the structs of several clients in one update can be integrated in some order.
//!
//! Each client's structs come one after the other; a reference to another client's struct has to wait for it. Clients are
//! run like threads: one runs until it has to wait, then the one it waits for runs until it has gone far enough. When that
//! one is already waiting farther down, nobody can go on.

use crate::update::Invalid;
use crate::update::cursor::Id;

/// One client's structs, in the order in which the clients came.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Section {
    pub(super) client: u64,
}

/// The struct of section `section` at clock `at` refers to `to`, another client's.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Edge {
    pub(super) section: usize,
    pub(super) at: u32,
    pub(super) to: Id,
}

/// `edges` are sorted by section and clock, and lead to structs of these sections only.
pub(super) fn check(sections: &[Section], edges: &[Edge]) -> Result<(), Invalid> {
    Threads::new(sections, edges).run()
}

struct Threads<'a> {
    sections: &'a [Section],
    edges: &'a [Edge],
    /// Positions in `sections`, by client.
    by_client: Vec<(u64, usize)>,
    /// For each section the first edge that it still has to pass, and the end of its edges.
    next: Vec<(usize, usize)>,
    waiting: Vec<bool>,
}

impl<'a> Threads<'a> {
    fn new(sections: &'a [Section], edges: &'a [Edge]) -> Self {
        let mut by_client: Vec<_> = sections.iter().enumerate().map(|(index, s)| (s.client, index)).collect();
        by_client.sort_unstable();
        let mut next = vec![(0, 0); sections.len()];
        let mut start = 0;
        for group in edges.chunk_by(|a, b| a.section == b.section) {
            next[group[0].section] = (start, start + group.len());
            start += group.len();
        }
        Self { sections, edges, by_client, next, waiting: vec![false; sections.len()] }
    }

    fn run(&mut self) -> Result<(), Invalid> {
        let mut stack = Vec::new();
        for section in 0..self.sections.len() {
            self.enter(&mut stack, section, u32::MAX);
            while let Some(&(section, target)) = stack.last() {
                match self.advance(section, target) {
                    None => {
                        self.waiting[section] = false;
                        stack.pop();
                    }
                    Some(to) => {
                        let other = self.section_of(to.client);
                        if self.waiting[other] {
                            return Err(Invalid::Cycle { client: to.client });
                        }
                        self.enter(&mut stack, other, to.clock);
                    }
                }
            }
        }
        Ok(())
    }

    fn enter(&mut self, stack: &mut Vec<(usize, u32)>, section: usize, target: u32) {
        self.waiting[section] = true;
        stack.push((section, target));
    }

    /// Runs a section until it has integrated the struct at clock `target`; returns what it has to wait for.
    fn advance(&mut self, section: usize, target: u32) -> Option<Id> {
        loop {
            let (next, end) = self.next[section];
            let edge = self.edges[next..end].first().filter(|edge| edge.at <= target)?;
            if !self.passed(edge.to) {
                return Some(edge.to);
            }
            self.next[section].0 += 1;
        }
    }

    fn passed(&self, id: Id) -> bool {
        let (next, end) = self.next[self.section_of(id.client)];
        self.edges[next..end].first().is_none_or(|edge| edge.at > id.clock)
    }

    fn section_of(&self, client: u64) -> usize {
        let found = self.by_client.binary_search_by_key(&client, |&(client, _)| client);
        self.by_client[found.expect("edges lead to sections of the same update")].1
    }
}
