//! Rooms in numbers, for those who run the server.

use std::collections::BTreeMap;

use crate::metrics::ROOM_KINDS;
use crate::name::RoomName;

/// Rooms of any other kind.
const OTHER: &str = "other";

/// Some rooms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RoomCount {
    /// How many.
    pub rooms: usize,
    /// Connections that are present there, as often as they are.
    pub members: usize,
    /// Those who listen there, as often as they do.
    pub listeners: usize,
}

/// All rooms of the process.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RoomStats {
    /// All of them.
    pub all: RoomCount,
    /// About what they keep takes, in bytes.
    pub bytes: usize,
    /// By kind: each that is counted apart, and `other`; kinds without rooms too.
    pub by_kind: BTreeMap<&'static str, RoomCount>,
}

impl RoomStats {
    pub(super) fn new(bytes: usize) -> Self {
        let by_kind = ROOM_KINDS.into_iter().map(|kind| (kind, RoomCount::default())).collect();
        Self { all: RoomCount::default(), bytes, by_kind }
    }

    pub(super) fn add(&mut self, room: &RoomName, members: usize, listeners: usize) {
        let of_kind = self.by_kind.entry(kind(room)).or_default();
        for count in [&mut self.all, of_kind] {
            count.rooms += 1;
            count.members += members;
            count.listeners += listeners;
        }
    }
}

fn kind(room: &RoomName) -> &'static str {
    let kind = room.as_str().split_once(':').map_or(room.as_str(), |(kind, _)| kind);
    ROOM_KINDS.into_iter().find(|known| *known == kind).unwrap_or(OTHER)
}
