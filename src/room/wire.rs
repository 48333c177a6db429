//! What nodes say to each other about a room.
//!
//! ```text
//! 1 │ kind │ …
//! ```
//! Counts are varUints, byte strings have their length before them, nodes, transactions and times are eight bytes, high ones
//! first. A message of another version, or one that cannot be read, is passed over: what it brought is found missing later,
//! and asked for.

mod read;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use bytes::BufMut;
use bytes::Bytes;
use bytes::BytesMut;
use syncline_protocol::wire::write_var_bytes;
use syncline_protocol::wire::write_var_uint;

use crate::bus::NodeId;
use crate::event::Audience;
use crate::event::Event;
use crate::event::EventId;
use crate::table::events::Presence;

use super::mark::Mark;
use super::settings::RoomSettings;

/// Written and read. Nodes of different versions pass each other's messages over.
const VERSION: u8 = 1;
/// As much as a room keeps by default. A transaction that makes more than this of events is told to this node's listeners
/// alone, and those of other nodes are told that they missed something.
pub(super) const TOLD_BYTES_MAX: usize = 8 << 20;
/// About as much of a history goes in one message.
pub(super) const PART_BYTES: usize = 1 << 20;
/// Connections in one message.
pub(super) const MEMBERS_PER_MESSAGE: usize = 200;

/// How much is known of each node.
pub(super) type Numbers = Vec<(NodeId, u64)>;

/// Something that one node says to those that hold the same room.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Message {
    /// I hold the room.
    Here(Here),
    /// I hold it no more.
    Bye,
    /// This was told.
    Told(Told),
    /// This passes.
    Passed {
        /// In place of what passed under the same key.
        key: Arc<str>,
        mark: Mark,
        event: Event,
    },
    /// Send what I lack.
    Want { whom: NodeId, have: Numbers },
    /// What somebody lacked.
    Missed(Missed),
    /// Who knows this id?
    Where(EventId),
    /// I do.
    Point { id: EventId, mark: Mark },
    /// This holds in the room since then, in milliseconds since 1970.
    Set { at_ms: u64, settings: RoomSettings },
    /// A connection of mine.
    Member { peer: u64, at_ms: u64, presence: Presence },
    /// All connections of mine that are there, in one message or in several.
    Members { is_first: bool, is_last: bool, members: Vec<Member> },
    /// The room's user is to acknowledge this.
    Parcel { age_ms: u64, event: Event },
    /// The user has.
    Signed(EventId),
}

/// What a node that holds a room says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Here {
    /// Whether the others are to say the same.
    pub(super) asks: bool,
    /// Whether it knows what happened before it came.
    pub(super) is_in: bool,
    /// Whether somebody listens there, or may come back.
    pub(super) follows: bool,
    /// What the numbers of its own transactions begin behind.
    pub(super) begin: u64,
    pub(super) known: Numbers,
    /// What was set for the room, and when.
    pub(super) settings: Option<(u64, RoomSettings)>,
}

/// One transaction.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Told {
    pub(super) mark: Mark,
    /// What the numbers of its node begin behind.
    pub(super) begin: u64,
    /// So long ago.
    pub(super) age_ms: u64,
    /// In order; their ids follow each other. `None`: too much for a message.
    pub(super) events: Option<Vec<Arc<Event>>>,
}

/// A part of a history.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Missed {
    pub(super) to: NodeId,
    /// Which part, from 0.
    pub(super) part: u64,
    pub(super) is_last: bool,
    /// Of each node the last that is kept no more.
    pub(super) floor: Numbers,
    /// So long ago the newest of that was heard of, at the latest.
    pub(super) gone_ms: u64,
    /// Of each node the last that is known.
    pub(super) known: Numbers,
    /// What those know that have heard what is kept no more.
    pub(super) base: (EventId, Mark),
    /// In the order in which the sender heard of it.
    pub(super) told: Vec<Told>,
}

/// A connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) peer: u64,
    pub(super) since_ms: u64,
    pub(super) user: Option<Arc<str>>,
    pub(super) name: Option<Arc<str>>,
    pub(super) email: Option<Arc<str>>,
    /// What its clients show.
    pub(super) clients: Vec<(u64, Bytes)>,
}

impl Told {
    /// About what it takes.
    pub(super) fn bytes(&self) -> usize {
        let event = |event: &Arc<Event>| event.json.len() + 200;
        self.events.iter().flatten().map(event).sum::<usize>() + 200
    }
}

impl Message {
    /// The bytes that go over the bus.
    pub(super) fn encode(&self) -> Bytes {
        let mut out = BytesMut::from(&[VERSION][..]);
        match self {
            Self::Here(here) => put_here(&mut out, here),
            Self::Bye => out.put_u8(1),
            Self::Told(told) => {
                out.put_u8(2);
                put_told(&mut out, told);
            }
            Self::Passed { key, mark, event } => {
                out.put_u8(3);
                write_var_bytes(&mut out, key.as_bytes());
                put_mark(&mut out, mark);
                put_id(&mut out, event.id);
                put_event(&mut out, event);
            }
            Self::Want { whom, have } => {
                out.put_u8(4);
                out.put_u64(whom.0);
                put_numbers(&mut out, have);
            }
            Self::Missed(missed) => put_missed(&mut out, missed),
            Self::Where(id) => {
                out.put_u8(6);
                put_id(&mut out, *id);
            }
            Self::Point { id, mark } => {
                out.put_u8(7);
                put_id(&mut out, *id);
                put_mark(&mut out, mark);
            }
            Self::Set { at_ms, settings } => {
                out.put_u8(8);
                put_settings(&mut out, *at_ms, *settings);
            }
            Self::Member { peer, at_ms, presence } => {
                out.put_u8(9);
                out.put_u64(*peer);
                out.put_u64(*at_ms);
                put_presence(&mut out, presence);
            }
            Self::Members { is_first, is_last, members } => {
                out.put_slice(&[10, u8::from(*is_first), u8::from(*is_last)]);
                write_var_uint(&mut out, members.len() as u64);
                members.iter().for_each(|member| put_member(&mut out, member));
            }
            Self::Parcel { age_ms, event } => {
                out.put_u8(11);
                out.put_u64(*age_ms);
                put_id(&mut out, event.id);
                put_event(&mut out, event);
            }
            Self::Signed(id) => {
                out.put_u8(12);
                put_id(&mut out, *id);
            }
        }
        out.freeze()
    }
}

fn put_here(out: &mut BytesMut, here: &Here) {
    out.put_slice(&[0, u8::from(here.asks), u8::from(here.is_in), u8::from(here.follows)]);
    out.put_u64(here.begin);
    put_numbers(out, &here.known);
    out.put_u8(u8::from(here.settings.is_some()));
    if let Some((at_ms, settings)) = here.settings {
        put_settings(out, at_ms, settings);
    }
}

fn put_missed(out: &mut BytesMut, missed: &Missed) {
    out.put_u8(5);
    out.put_u64(missed.to.0);
    write_var_uint(out, missed.part);
    out.put_u8(u8::from(missed.is_last));
    put_numbers(out, &missed.floor);
    out.put_u64(missed.gone_ms);
    put_numbers(out, &missed.known);
    put_id(out, missed.base.0);
    put_mark(out, &missed.base.1);
    write_var_uint(out, missed.told.len() as u64);
    missed.told.iter().for_each(|told| put_told(out, told));
}

fn put_told(out: &mut BytesMut, told: &Told) {
    put_mark(out, &told.mark);
    out.put_u64(told.begin);
    out.put_u64(told.age_ms);
    let Some(events) = &told.events else { return out.put_u8(0) };
    out.put_u8(1);
    put_id(out, events.first().map_or_else(EventId::default, |event| event.id));
    write_var_uint(out, events.len() as u64);
    events.iter().for_each(|event| put_event(out, event));
}

/// All but its id.
fn put_event(out: &mut BytesMut, event: &Event) {
    write_var_bytes(out, event.name.as_bytes());
    match &event.audience {
        Audience::Room => out.put_u8(0),
        Audience::User(user) => {
            out.put_u8(1);
            write_var_bytes(out, user.as_bytes());
        }
        Audience::Others(peer) | Audience::OthersElsewhere(peer) => {
            out.put_u8(2);
            out.put_u64(*peer);
        }
    }
    out.put_u64(event.story);
    write_var_bytes(out, &event.json);
}

fn put_mark(out: &mut BytesMut, mark: &Mark) {
    out.put_u64(mark.stamp.origin.0);
    out.put_u64(mark.stamp.number);
    put_numbers(out, mark.others.as_deref().unwrap_or_default());
}

fn put_numbers(out: &mut BytesMut, numbers: &[(NodeId, u64)]) {
    write_var_uint(out, numbers.len() as u64);
    for (node, number) in numbers {
        out.put_u64(node.0);
        out.put_u64(*number);
    }
}

fn put_id(out: &mut BytesMut, id: EventId) {
    [id.epoch, id.revision, id.index].into_iter().for_each(|part| out.put_u64(part));
}

fn put_settings(out: &mut BytesMut, at_ms: u64, settings: RoomSettings) {
    out.put_u64(at_ms);
    out.put_u64(settings.max_clients.map_or(0, |max| max.get() as u64));
    out.put_u64(settings.ttl.map_or(0, |ttl| ttl.as_secs()));
    out.put_u64(settings.history_events as u64);
}

fn put_presence(out: &mut BytesMut, presence: &Presence) {
    match presence {
        Presence::Joined { user, name, email } => {
            out.put_u8(0);
            [user, name, email].into_iter().for_each(|text| put_text(out, text.as_deref()));
        }
        Presence::State { client, state } => {
            out.put_u8(1);
            out.put_u64(*client);
            out.put_u8(u8::from(state.is_some()));
            write_var_bytes(out, state.as_deref().unwrap_or_default());
        }
        Presence::Left => out.put_u8(2),
    }
}

fn put_member(out: &mut BytesMut, member: &Member) {
    out.put_u64(member.peer);
    out.put_u64(member.since_ms);
    [&member.user, &member.name, &member.email].into_iter().for_each(|text| put_text(out, text.as_deref()));
    write_var_uint(out, member.clients.len() as u64);
    for (client, state) in &member.clients {
        out.put_u64(*client);
        write_var_bytes(out, state);
    }
}

fn put_text(out: &mut BytesMut, text: Option<&str>) {
    out.put_u8(u8::from(text.is_some()));
    if let Some(text) = text {
        write_var_bytes(out, text.as_bytes());
    }
}
