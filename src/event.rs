//! What is told to a room: a fact with a name, the ids that it concerns, and its data, as JSON.
//!
//! ```text
//!  Happening (what) + Envelope (where, when, who) + EventId ──encode──▶ Event: bytes, the same for everybody who listens
//! ```

use std::any::Any;
use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::sync::OnceLock;

use bytes::Bytes;
use serde::Serialize;
use serde::Serializer;
use serde::ser::SerializeMap;
use serde_json::Map;
use serde_json::Value;

use crate::clock::rfc3339;

/// Names at the top level that are the server's: fields of the same name are left out.
const ENVELOPE: [&str; 8] = ["eventId", "room", "userId", "timestamp", "source", "revision", "correlationId", "data"];

/// What an event is told by: ordered within its room, never used again, comparable as text.
///
/// An event that follows from a document's log has the document's life, the position of the record, and a small number
/// within it. Any other event has the position that the document was at, and a number above all of those.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct EventId {
    /// The document's life; 0 where there is no document.
    pub epoch: u64,
    /// The position in its log; 0 where there is no document.
    pub revision: u64,
    /// Which of the events at that position.
    pub index: u64,
}

impl EventId {
    /// Reads what [`fmt::Display`] writes; `None` for anything else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let mut part = |digits: usize| {
            let part = parts.next().filter(|part| part.len() == digits)?;
            let is_ours = part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
            is_ours.then(|| u64::from_str_radix(part, 16).ok()).flatten()
        };
        let id = Self { epoch: part(8)?, revision: part(12)?, index: part(16)? };
        parts.next().is_none().then_some(id)
    }

    /// The id so many events later, at the same position.
    #[must_use]
    pub fn plus(self, events: usize) -> Self {
        Self { index: self.index.saturating_add(events as u64), ..self }
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}-{:012x}-{:016x}", self.epoch, self.revision, self.index)
    }
}

/// Who hears it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Audience {
    /// Everybody in the room.
    #[default]
    Room,
    /// One user alone.
    User(Arc<str>),
    /// Everybody in the room but the connection that it comes from.
    Others(u64),
    /// The same, where that is a connection of another node: its number means nobody here.
    OthersElsewhere(u64),
}

/// Somebody who listens, as far as it decides what is heard.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Listener {
    /// The `sub` of the token.
    pub user: Option<Arc<str>>,
    /// The number of the connection, where it has one: it does not hear what it tells the others.
    pub peer: Option<u64>,
}

/// What happened, before a room gives it its number.
#[derive(Debug, Clone, PartialEq)]
pub struct Happening {
    /// For example `record:updated`.
    pub name: Cow<'static, str>,
    /// Who hears it.
    pub audience: Audience,
    /// Who did it, where that is another than the envelope says.
    pub user: Option<Arc<str>>,
    /// What stands at the top level: the ids that it concerns, and what older clients read there.
    pub fields: Map<String, Value>,
    /// Everything else.
    pub data: Map<String, Value>,
}

impl Happening {
    /// Something for everybody in the room.
    #[must_use]
    pub fn new(name: impl Into<Cow<'static, str>>) -> Self {
        Self { name: name.into(), audience: Audience::Room, user: None, fields: Map::new(), data: Map::new() }
    }

    /// Adds what it concerns, at the top level.
    #[must_use]
    pub fn id(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.fields.insert(name.to_owned(), value.into());
        self
    }

    /// Adds to `data`.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.data.insert(name.to_owned(), value.into());
        self
    }

    /// Adds to `data`, and at the top level, where older clients look for it.
    #[must_use]
    pub fn both(self, name: &str, value: impl Into<Value>) -> Self {
        let value = value.into();
        self.id(name, value.clone()).with(name, value)
    }

    /// Says who did it.
    #[must_use]
    pub fn by(self, user: Option<Arc<str>>) -> Self {
        Self { user, ..self }
    }

    /// Leaves out the connection that it comes from, if that is known.
    #[must_use]
    pub fn to_others(self, peer: Option<u64>) -> Self {
        Self { audience: peer.map_or(Audience::Room, Audience::Others), ..self }
    }

    /// Makes it one user's alone.
    #[must_use]
    pub fn to(self, user: Arc<str>) -> Self {
        Self { audience: Audience::User(user), ..self }
    }
}

/// What all events of one transaction or request have in common.
#[derive(Debug, Clone, Copy)]
pub struct Envelope<'a> {
    /// The room.
    pub room: &'a str,
    /// Who did it; `None` where nobody was signed in.
    pub user: Option<&'a str>,
    /// When: milliseconds since 1970, UTC.
    pub at_ms: u64,
    /// On which way it came: `user_action`, `api`, `system`, `import`, `offline`.
    pub source: &'static str,
    /// The document's position, where a document changed.
    pub revision: Option<u64>,
    /// What the caller named it.
    pub correlation_id: Option<&'a str>,
}

/// A happening with its number, ready to be sent.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Its number.
    pub id: EventId,
    /// Its name.
    pub name: Cow<'static, str>,
    /// Who hears it.
    pub audience: Audience,
    /// All of it as one JSON object, on one line.
    pub json: Bytes,
    /// The same in every room in which the same fact is told, and in no other event of any node; 0 for what is told in
    /// one room alone. A connection in several of those rooms passes on the first that it hears.
    pub story: u64,
    shown: Shown,
}

impl Event {
    /// Encodes a happening, once for everybody.
    #[must_use]
    pub fn encode(id: EventId, envelope: Envelope<'_>, happening: Happening) -> Self {
        let body = Body { id, envelope, happening: &happening };
        let json = serde_json::to_vec(&body).expect("strings and JSON values are JSON").into();
        let Happening { name, audience, .. } = happening;
        Self { id, name, audience, json, story: 0, shown: Shown::default() }
    }

    /// An event that another node encoded: one JSON object on one line, with this id in it.
    #[must_use]
    pub fn received(id: EventId, name: String, audience: Audience, json: Bytes, story: u64) -> Self {
        Self { id, name: name.into(), audience, json, story, shown: Shown::default() }
    }

    /// Says who hears it.
    #[must_use]
    pub fn for_audience(self, audience: Audience) -> Self {
        Self { audience, ..self }
    }

    /// Says which story it tells.
    #[must_use]
    pub fn of_story(self, story: u64) -> Self {
        Self { story, ..self }
    }

    /// What a dialect makes of it, made once for everybody who speaks that dialect. One type is kept: a second one is made
    /// anew each time.
    pub fn shown<T: Clone + Send + Sync + 'static>(&self, make: impl FnOnce(&Self) -> T) -> T {
        let mut make = Some(make);
        let kept = self.shown.0.get_or_init(|| {
            let make = make.take().expect("nothing is kept, so nothing was made");
            Box::new(make(self))
        });
        match (kept.downcast_ref::<T>(), make) {
            (Some(kept), _) => kept.clone(),
            (None, make) => make.expect("what was made just now is of this type")(self),
        }
    }

    /// Whether somebody hears it.
    #[must_use]
    pub fn is_for(&self, listener: &Listener) -> bool {
        match &self.audience {
            Audience::Room | Audience::OthersElsewhere(_) => true,
            Audience::User(only) => listener.user.as_ref() == Some(only),
            Audience::Others(from) => listener.peer != Some(*from),
        }
    }
}

/// What a dialect has made of an event. No part of what the event is.
#[derive(Default)]
struct Shown(OnceLock<Box<dyn Any + Send + Sync>>);

impl Clone for Shown {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl PartialEq for Shown {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.get().is_some() { "made" } else { "not made" })
    }
}

/// The format in which applications see an event.
struct Body<'a> {
    id: EventId,
    envelope: Envelope<'a>,
    happening: &'a Happening,
}

impl Serialize for Body<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { id, envelope, happening } = self;
        let mut body = serializer.serialize_map(None)?;
        if !happening.fields.contains_key("type") {
            body.serialize_entry("type", &happening.name)?;
        }
        body.serialize_entry("eventId", &id.to_string())?;
        body.serialize_entry("room", envelope.room)?;
        body.serialize_entry("userId", &happening.user.as_deref().or(envelope.user))?;
        body.serialize_entry("timestamp", &rfc3339(envelope.at_ms))?;
        body.serialize_entry("source", envelope.source)?;
        if let Some(revision) = envelope.revision {
            body.serialize_entry("revision", &revision)?;
        }
        if let Some(correlation_id) = envelope.correlation_id {
            body.serialize_entry("correlationId", correlation_id)?;
        }
        for (name, value) in happening.fields.iter().filter(|(name, _)| !ENVELOPE.contains(&name.as_str())) {
            body.serialize_entry(name, value)?;
        }
        body.serialize_entry("data", &happening.data)?;
        body.end()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn ids_compare_as_text_and_come_back() {
        let ids = [
            EventId::default(),
            EventId { epoch: 0, revision: 9, index: 1 },
            EventId { epoch: 0, revision: 16, index: 0 },
            EventId { epoch: 0, revision: 16, index: 1 << 60 },
            EventId { epoch: 1, revision: 0, index: 0 },
        ];
        for pair in ids.windows(2) {
            assert!(pair[0].to_string() < pair[1].to_string());
        }
        for id in ids {
            assert_eq!(EventId::parse(&id.to_string()), Some(id));
        }
    }

    #[test]
    fn what_is_no_id_of_ours_is_none() {
        let good = EventId { epoch: 1, revision: 2, index: 171 }.to_string();
        let upper = good.to_uppercase();
        let longer = format!("{good}0");
        let more = format!("{good}-");
        for text in
            ["", "1", "0-0-0", "é", &upper, &longer, &more, &good[1..], "+0000001-000000000002-00000000000000ab"]
        {
            assert_eq!(EventId::parse(text), None, "{text}");
        }
    }

    fn envelope() -> Envelope<'static> {
        Envelope {
            room: "r",
            user: Some("alice"),
            at_ms: 1,
            source: "api",
            revision: Some(7),
            correlation_id: Some("c"),
        }
    }

    #[test]
    fn the_envelope_stands_at_the_top_and_cannot_be_forged() {
        let forged =
            Happening::new("x").id("room", "other").id("eventId", 1).both("recordId", "r1").with("a", json!([1]));
        let event = Event::encode(EventId::default(), envelope(), forged);
        let body: Value = serde_json::from_slice(&event.json).unwrap();
        let id = EventId::default().to_string();
        let want = json!({
            "type": "x", "eventId": id, "room": "r", "userId": "alice", "timestamp": "1970-01-01T00:00:00.001Z",
            "source": "api", "revision": 7, "correlationId": "c", "recordId": "r1", "data": {"recordId": "r1", "a": [1]},
        });
        assert_eq!(body, want);
        assert!(!event.json.contains(&b'\n'));
        // Text, because a parsed object hides what stands in it twice.
        assert_eq!(String::from_utf8_lossy(&event.json).matches("\"room\"").count(), 1);
    }

    #[test]
    fn a_happening_may_bring_its_own_type_and_user() {
        let happening = Happening::new("x").id("type", "y").by(Some("bob".into()));
        let envelope = Envelope { revision: None, correlation_id: None, user: None, ..envelope() };
        let event = Event::encode(EventId::default(), envelope, happening);
        let body: Value = serde_json::from_slice(&event.json).unwrap();
        assert_eq!((&body["type"], &body["userId"]), (&json!("y"), &json!("bob")));
        assert!(body.get("revision").is_none() && body.get("correlationId").is_none());
    }

    #[test]
    fn a_dialect_makes_its_form_of_an_event_once() {
        let event = Event::encode(EventId::default(), envelope(), Happening::new("x"));
        let mut made = 0;
        for _ in 0..3 {
            let text: Arc<str> = event.shown(|event| {
                made += 1;
                event.name.as_ref().into()
            });
            assert_eq!(&*text, "x");
        }
        assert_eq!(made, 1);
        assert_eq!(event.shown(|event| event.json.len()), event.json.len(), "another type is made as well");
        let copy = event.clone().of_story(7);
        assert_eq!((copy.story, copy.shown(|event| event.story)), (7, 7), "what was made of another is not taken over");
    }

    #[test]
    fn what_is_for_one_is_for_no_other() {
        let event = Event::encode(EventId::default(), envelope(), Happening::new("x").to("alice".into()));
        let user = |user: &str| Listener { user: Some(user.into()), peer: None };
        let nobody = Listener::default();
        assert!(event.is_for(&user("alice")) && !event.is_for(&user("bob")) && !event.is_for(&nobody));
        assert!(Event { audience: Audience::Room, ..event }.is_for(&nobody));
    }

    #[test]
    fn the_others_are_all_connections_but_one() {
        let event = Event::encode(EventId::default(), envelope(), Happening::new("x").to_others(Some(7)));
        let peer = |peer| Listener { user: Some("alice".into()), peer };
        assert!(!event.is_for(&peer(Some(7))) && event.is_for(&peer(Some(8))) && event.is_for(&peer(None)));
        assert_eq!(Happening::new("x").to_others(None).audience, Audience::Room);
    }
}
