//! The channels of one connection: found by their address, by their number, and by when time demands something of them.
//!
//! What is counted is counted in one place ([`Table::change`], [`Table::remove`]), so that no frame costs a walk over all
//! channels.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use crate::Moment;
use crate::channel::Channel;
use crate::channel::ChannelId;
use crate::channel::Phase;
use crate::hocuspocus::Address;
use crate::hocuspocus::Provider;

/// One channel with what this dialect knows of it.
#[derive(Debug, Clone)]
pub(super) struct Line {
    pub(super) channel: Channel,
    pub(super) address: Address,
    pub(super) provider: Provider,
}

/// What is at an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// A channel.
    Live(ChannelId),
    /// The memory of one that was refused or ended. Providers go on sending after that; only a token, or their leaving, means
    /// something then.
    Ended,
}

/// What remains of a channel at its address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Remains {
    /// The memory that it ended.
    Memory,
    /// Nothing.
    Nothing,
}

#[derive(Debug, Clone)]
pub(super) struct Table {
    places: BTreeMap<Address, Place>,
    lines: BTreeMap<ChannelId, Box<Line>>,
    due: BTreeSet<(Moment, ChannelId)>,
    next: u32,
    tally: Tally,
    ended: usize,
    ended_max: usize,
}

/// What is counted: of one channel, and of all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Tally {
    open: usize,
    waiting: usize,
    held_bytes: usize,
}

impl Table {
    /// Remembers at most `ended_max` addresses of channels that ended. Full: all are forgotten. What is still sent to them
    /// opens channels that wait for a token, and those are bounded themselves.
    pub(super) fn new(ended_max: usize) -> Self {
        Self {
            places: BTreeMap::new(),
            lines: BTreeMap::new(),
            due: BTreeSet::new(),
            next: 0,
            tally: Tally::default(),
            ended: 0,
            ended_max,
        }
    }

    /// Channels that are not over.
    pub(super) fn len(&self) -> usize {
        self.lines.len()
    }

    /// Channels that their documents know.
    pub(super) fn open(&self) -> usize {
        self.tally.open
    }

    /// Channels without a token.
    pub(super) fn waiting(&self) -> usize {
        self.tally.waiting
    }

    /// Bytes of the frames that are held on all channels.
    pub(super) fn held_bytes(&self) -> usize {
        self.tally.held_bytes
    }

    pub(super) fn place(&self, address: &[u8]) -> Option<Place> {
        self.places.get(address).copied()
    }

    pub(super) fn line(&self, id: ChannelId) -> Option<&Line> {
        self.lines.get(&id).map(|line| &**line)
    }

    /// Numbers of the open channels, in order.
    pub(super) fn open_ids(&self) -> impl Iterator<Item = ChannelId> {
        self.lines.iter().filter(|(_, line)| line.channel.access().is_some()).map(|(&id, _)| id)
    }

    /// When time demands something of a channel next.
    pub(super) fn due_at(&self) -> Option<Moment> {
        self.due.first().map(|(at, _)| *at)
    }

    /// A channel of which time demands something now.
    pub(super) fn due(&self, now: Moment) -> Option<ChannelId> {
        self.due.first().filter(|(at, _)| *at <= now).map(|(_, id)| *id)
    }

    /// A number that no channel had before; `None` when there is none left.
    pub(super) fn number(&mut self) -> Option<ChannelId> {
        let id = ChannelId(self.next);
        self.next = self.next.checked_add(1)?;
        Some(id)
    }

    /// Takes in a channel at an address where none is.
    pub(super) fn insert(&mut self, address: Address, channel: Channel) {
        let id = channel.id();
        if self.places.insert(address.clone(), Place::Live(id)) == Some(Place::Ended) {
            self.ended -= 1;
        }
        let line = Line { channel, address, provider: Provider::default() };
        self.note(&line);
        self.lines.insert(id, Box::new(line));
    }

    /// Changes a channel, if it is there.
    pub(super) fn change<R>(&mut self, id: ChannelId, change: impl FnOnce(&mut Line) -> R) -> Option<R> {
        let mut line = self.lines.remove(&id)?;
        self.strike(&line);
        let result = change(&mut line);
        self.note(&line);
        self.lines.insert(id, line);
        Some(result)
    }

    /// Takes a channel out.
    pub(super) fn remove(&mut self, id: ChannelId, remains: Remains) -> Option<Box<Line>> {
        let line = self.lines.remove(&id)?;
        self.strike(&line);
        self.places.remove(&line.address);
        if remains == Remains::Memory {
            self.remember(line.address.clone());
        }
        Some(line)
    }

    /// Remembers that whoever is at this address was told to stay away.
    pub(super) fn remember(&mut self, address: Address) {
        if self.ended >= self.ended_max {
            self.places.retain(|_, place| *place != Place::Ended);
            self.ended = 0;
        }
        if self.places.insert(address, Place::Ended).is_none() {
            self.ended += 1;
        }
    }

    /// Forgets that a channel ended at this address.
    pub(super) fn forget(&mut self, address: &[u8]) {
        if self.place(address) == Some(Place::Ended) {
            self.places.remove(address);
            self.ended -= 1;
        }
    }

    fn note(&mut self, line: &Line) {
        let tally = Tally::of(line);
        self.tally.open += tally.open;
        self.tally.waiting += tally.waiting;
        self.tally.held_bytes += tally.held_bytes;
        self.due.extend(line.channel.due_at().map(|at| (at, line.channel.id())));
    }

    fn strike(&mut self, line: &Line) {
        let tally = Tally::of(line);
        self.tally.open -= tally.open;
        self.tally.waiting -= tally.waiting;
        self.tally.held_bytes -= tally.held_bytes;
        if let Some(at) = line.channel.due_at() {
            self.due.remove(&(at, line.channel.id()));
        }
    }
}

impl Tally {
    fn of(line: &Line) -> Self {
        match line.channel.phase() {
            Phase::Waiting { held, .. } => Self { waiting: 1, held_bytes: held.bytes(), open: 0 },
            Phase::Asking { held, .. } => Self { held_bytes: held.bytes(), ..Self::default() },
            Phase::Open(_) => Self { open: 1, ..Self::default() },
            Phase::Refused { .. } | Phase::Closed => Self::default(),
        }
    }
}
