//! The other direction: whatever stands in the bytes, with bounds.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::de::IgnoredAny;
use syncline_protocol::limits::AWARENESS_STATE_BYTES_MAX;
use syncline_protocol::wire::Reader;

use crate::bus::NodeId;
use crate::event::Audience;
use crate::event::Event;
use crate::event::EventId;
use crate::room::mark::Mark;
use crate::room::mark::NODES_MAX;
use crate::room::mark::Stamp;
use crate::room::members::CLIENTS_MAX;
use crate::room::settings::RoomSettings;
use crate::table::events::Presence;

use super::Here;
use super::MEMBERS_PER_MESSAGE;
use super::Member;
use super::Message;
use super::Missed;
use super::Numbers;
use super::PART_BYTES;
use super::TOLD_BYTES_MAX;
use super::Told;
use super::VERSION;

/// A part of a history, and one transaction more; what stands beside the events takes less than they.
const MESSAGE_BYTES_MAX: usize = 2 * (TOLD_BYTES_MAX + PART_BYTES);
/// Names of events, and keys of what passes, which have a name and a number in them.
const WORD_BYTES_MAX: usize = 1024;
/// Users, names and addresses come out of tokens.
const TEXT_BYTES_MAX: usize = 8 << 10;
/// As what may be set.
const SETTING_MAX: u64 = 366 * 24 * 3600;

impl Message {
    /// Reads what came over the bus; `None` for anything that [`Self::encode`] does not write.
    pub(in crate::room) fn decode(bytes: Bytes) -> Option<Self> {
        if bytes.len() > MESSAGE_BYTES_MAX {
            return None;
        }
        let mut reader = Reader::new(bytes);
        let message = (reader.u8().ok()? == VERSION).then(|| message(&mut reader)).flatten()?;
        reader.is_empty().then_some(message)
    }
}

fn message(reader: &mut Reader) -> Option<Message> {
    Some(match reader.u8().ok()? {
        0 => Message::Here(here(reader)?),
        1 => Message::Bye,
        2 => Message::Told(told(reader)?),
        3 => {
            let (key, mark) = (text(reader, WORD_BYTES_MAX)?, mark(reader)?);
            let id = id(reader)?;
            Message::Passed { key, mark, event: event(reader, id)? }
        }
        4 => Message::Want { whom: node(reader)?, have: numbers(reader)? },
        5 => Message::Missed(missed(reader)?),
        6 => Message::Where(id(reader)?),
        7 => Message::Point { id: id(reader)?, mark: mark(reader)? },
        8 => {
            let (at_ms, settings) = settings(reader)?;
            Message::Set { at_ms, settings }
        }
        9 => Message::Member { peer: number(reader)?, at_ms: number(reader)?, presence: presence(reader)? },
        10 => {
            let (is_first, is_last) = (flag(reader)?, flag(reader)?);
            Message::Members { is_first, is_last, members: list(reader, MEMBERS_PER_MESSAGE, member)? }
        }
        11 => {
            let age_ms = number(reader)?;
            let id = id(reader)?;
            Message::Parcel { age_ms, event: event(reader, id)? }
        }
        12 => Message::Signed(id(reader)?),
        _ => return None,
    })
}

fn here(reader: &mut Reader) -> Option<Here> {
    let (asks, is_in, follows) = (flag(reader)?, flag(reader)?, flag(reader)?);
    let (begin, known) = (number(reader)?, numbers(reader)?);
    let settings = if flag(reader)? { Some(settings(reader)?) } else { None };
    Some(Here { asks, is_in, follows, begin, known, settings })
}

fn missed(reader: &mut Reader) -> Option<Missed> {
    let to = node(reader)?;
    let (part, is_last) = (reader.var_uint().ok()?, flag(reader)?);
    let (floor, gone_ms, known) = (numbers(reader)?, number(reader)?, numbers(reader)?);
    let base = (id(reader)?, mark(reader)?);
    let told = list(reader, usize::MAX, told)?;
    Some(Missed { to, part, is_last, floor, gone_ms, known, base, told })
}

fn told(reader: &mut Reader) -> Option<Told> {
    let (mark, begin, age_ms) = (mark(reader)?, number(reader)?, number(reader)?);
    if !flag(reader)? {
        return Some(Told { mark, begin, age_ms, events: None });
    }
    let first = id(reader)?;
    let mut place = 0;
    let mut next = |reader: &mut Reader| {
        let event = event(reader, first.plus(place))?;
        place += 1;
        Some(Arc::new(event))
    };
    let events = list(reader, usize::MAX, &mut next)?;
    (!events.is_empty()).then_some(Told { mark, begin, age_ms, events: Some(events) })
}

fn event(reader: &mut Reader, id: EventId) -> Option<Event> {
    let name = text(reader, WORD_BYTES_MAX)?;
    let audience = match reader.u8().ok()? {
        0 => Audience::Room,
        1 => Audience::User(text(reader, TEXT_BYTES_MAX)?),
        // Numbers of connections are those of their own node.
        2 => Audience::OthersElsewhere(number(reader)?),
        _ => return None,
    };
    let story = number(reader)?;
    let json = reader.var_bytes().ok()?;
    // It is sent on as it is, as a line of a stream or within a packet.
    let is_one = json.first() == Some(&b'{') && !json.contains(&b'\n') && !json.contains(&b'\r');
    let is_json = is_one && serde_json::from_slice::<IgnoredAny>(&json).is_ok();
    let is_named = !name.is_empty() && !name.chars().any(char::is_control);
    (is_json && is_named).then(|| Event::received(id, name.to_string(), audience, json, story))
}

fn mark(reader: &mut Reader) -> Option<Mark> {
    let stamp = Stamp { origin: node(reader)?, number: number(reader)? };
    let others = numbers(reader)?;
    Some(Mark { stamp, others: (!others.is_empty()).then(|| others.into()) })
}

fn numbers(reader: &mut Reader) -> Option<Numbers> {
    list(reader, NODES_MAX + 1, |reader| Some((node(reader)?, number(reader)?)))
}

fn id(reader: &mut Reader) -> Option<EventId> {
    let id = EventId { epoch: number(reader)?, revision: number(reader)?, index: number(reader)? };
    // As many digits as an id has.
    (id.epoch >> 32 == 0 && id.revision >> 48 == 0).then_some(id)
}

fn settings(reader: &mut Reader) -> Option<(u64, RoomSettings)> {
    let at_ms = number(reader)?;
    let mut bounded = || number(reader).filter(|number| *number <= SETTING_MAX);
    let (max_clients, ttl, history_events) = (bounded()?, bounded()?, bounded()?);
    let settings = RoomSettings {
        max_clients: NonZeroUsize::new(usize::try_from(max_clients).ok()?),
        ttl: Some(Duration::from_secs(ttl)).filter(|ttl| !ttl.is_zero()),
        history_events: usize::try_from(history_events).ok()?,
    };
    Some((at_ms, settings))
}

fn presence(reader: &mut Reader) -> Option<Presence> {
    Some(match reader.u8().ok()? {
        0 => Presence::Joined { user: maybe_text(reader)?, name: maybe_text(reader)?, email: maybe_text(reader)? },
        1 => {
            let client = number(reader)?;
            let (shows, state) = (flag(reader)?, state(reader)?);
            Presence::State { client, state: shows.then_some(state) }
        }
        2 => Presence::Left,
        _ => return None,
    })
}

fn member(reader: &mut Reader) -> Option<Member> {
    Some(Member {
        peer: number(reader)?,
        since_ms: number(reader)?,
        user: maybe_text(reader)?,
        name: maybe_text(reader)?,
        email: maybe_text(reader)?,
        clients: list(reader, CLIENTS_MAX, |reader| Some((number(reader)?, state(reader)?)))?,
    })
}

fn state(reader: &mut Reader) -> Option<Bytes> {
    reader.var_bytes().ok().filter(|state| state.len() <= AWARENESS_STATE_BYTES_MAX)
}

fn maybe_text(reader: &mut Reader) -> Option<Option<Arc<str>>> {
    if flag(reader)? { text(reader, TEXT_BYTES_MAX).map(Some) } else { Some(None) }
}

fn text(reader: &mut Reader, bytes_max: usize) -> Option<Arc<str>> {
    reader.var_string().ok().filter(|text| text.len() <= bytes_max).map(Into::into)
}

/// Each takes at least a byte, so that no more room is made than there are bytes.
fn list<T>(reader: &mut Reader, count_max: usize, mut one: impl FnMut(&mut Reader) -> Option<T>) -> Option<Vec<T>> {
    let count = reader.count().ok().filter(|count| *count <= count_max)?;
    let mut all = Vec::new();
    for _ in 0..count {
        all.push(one(reader)?);
    }
    Some(all)
}

fn node(reader: &mut Reader) -> Option<NodeId> {
    number(reader).map(NodeId)
}

fn number(reader: &mut Reader) -> Option<u64> {
    let bytes = reader.take(8).ok()?;
    bytes.as_ref().try_into().ok().map(u64::from_be_bytes)
}

fn flag(reader: &mut Reader) -> Option<bool> {
    match reader.u8().ok()? {
        0 => Some(false),
        1 => Some(true),
        _ => None,
    }
}
