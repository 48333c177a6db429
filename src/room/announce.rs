//! How the others hear of somebody: from what a connection shows of itself to events, in the words of the room.

use std::hash::DefaultHasher;
use std::hash::Hash;
use std::hash::Hasher;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;

use crate::event::Happening;
use crate::name::RoomName;

use super::feed::Stories;

/// Rooms in which nobody is told who comes and goes.
const QUIET: [&str; 6] = ["campaign", "settlement", "structure", "base", "user", "presence"];
/// Rooms whose own id stands in their events, under the kind and `Id`.
const KINDS: [(&str, &str); 9] = [
    ("table", "tableId"),
    ("component", "componentId"),
    ("channel", "channelId"),
    ("base", "baseId"),
    ("project", "projectId"),
    ("thread", "threadId"),
    ("campaign", "campaignId"),
    ("settlement", "settlementId"),
    ("structure", "structureId"),
];

/// Every name that is used here.
pub const NAMES: [&str; 9] = [
    "component:typing",
    "component:user-joined",
    "component:user-left",
    "grid:selection-changed",
    "presence:updated",
    "user:cursor-moved",
    "user:joined",
    "user:left",
    "user:typing",
];

/// A connection, as others know it.
#[derive(Debug, Clone)]
pub(super) struct Who {
    pub(super) user: Option<Arc<str>>,
    pub(super) email: Option<Arc<str>>,
    pub(super) peer: u64,
}

/// What the others are to hear.
pub(super) struct Told {
    /// What it replaces, where it was not heard yet.
    pub(super) key: String,
    pub(super) who: Who,
    /// Whether other rooms are told the same.
    pub(super) stories: Stories,
    pub(super) happening: Happening,
}

/// The parts of a state that others hear of. What is not there is null.
#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(super) struct Shows {
    cursor: Value,
    selection: Value,
    typing: Value,
    status: Value,
    data: Value,
    /// Which of a connection's statuses it is, where it shows the same in several rooms.
    #[serde(rename = "statusRev")]
    status_rev: Value,
}

impl Shows {
    /// A status is one thing in all rooms, and on all nodes: the same number for the same status of the same client.
    fn stories(&self, user: Option<&str>, client: u64) -> Stories {
        let number = |rev: u64| {
            let mut hasher = DefaultHasher::new();
            (user, client, rev).hash(&mut hasher);
            Stories::From(hasher.finish() | 1 << 63)
        };
        self.status_rev.as_u64().map_or(Stories::None, number)
    }

    /// Reads a state; one that is none shows nothing.
    pub(super) fn read(state: Option<&[u8]>) -> Self {
        // Text that is no object may have the form of one: a list of five values would be read as well.
        let object = state.filter(|state| state.trim_ascii_start().first() == Some(&b'{'));
        object.and_then(|state| serde_json::from_slice(state).ok()).unwrap_or_default()
    }
}

/// The words of one room.
pub(super) struct Words {
    own: Option<(&'static str, String)>,
    is_quiet: bool,
    is_component: bool,
}

impl Words {
    pub(super) fn of(room: &RoomName) -> Self {
        let (kind, id) = room.as_str().split_once(':').unwrap_or(("", room.as_str()));
        let named = KINDS.iter().find(|(name, _)| *name == kind).map(|(_, key)| (*key, id.to_owned()));
        let plain = || room.as_doc().map(|doc| ("documentId", doc.as_str().to_owned()));
        Self { own: named.or_else(plain), is_quiet: QUIET.contains(&kind), is_component: kind == "component" }
    }

    pub(super) fn joined(&self, who: &Who, name: Option<&str>) -> Option<Told> {
        let came = self.came_or_went(who, "user:joined", "component:user-joined")?;
        Some(Told {
            happening: if self.is_component { came.happening } else { came.happening.both("userName", name) },
            ..came
        })
    }

    pub(super) fn left(&self, who: &Who) -> Option<Told> {
        self.came_or_went(who, "user:left", "component:user-left")
    }

    fn came_or_went(&self, who: &Who, plain: &'static str, component: &'static str) -> Option<Told> {
        if self.is_quiet {
            return None;
        }
        // One key for both: who was not heard to come is not heard of twice when it goes.
        let key = match &who.user {
            Some(user) => format!("here {user}"),
            None => format!("peer {}", who.peer),
        };
        let happening = self.about(who, if self.is_component { component } else { plain });
        // Nobody is signed in: the connection's own number tells it from others.
        let happening = if who.user.is_none() { happening.both("clientId", who.peer) } else { happening };
        let happening = if self.is_component { happening.both("userEmail", who.email.as_deref()) } else { happening };
        Some(Told { key, who: who.clone(), stories: Stories::None, happening })
    }

    /// What is different in a state.
    pub(super) fn changed(&self, who: &Who, client: u64, before: Shows, after: Shows) -> Vec<Told> {
        let mut all = Vec::new();
        let mut tell_as = |what: &str, stories: Stories, happening: Happening| {
            let happening = happening.both("clientId", client);
            all.push(Told { key: format!("{what} {client}"), who: who.clone(), stories, happening });
        };
        let stories = after.stories(who.user.as_deref(), client);
        let mut tell = |what: &str, happening: Happening| tell_as(what, Stories::None, happening);
        if before.cursor != after.cursor {
            tell("cursor", self.about(who, "user:cursor-moved").both("position", after.cursor));
        }
        if before.selection != after.selection {
            tell("selection", self.about(who, "grid:selection-changed").both("selection", after.selection));
        }
        let types = |shows: &Value| *shows == Value::Bool(true);
        if types(&before.typing) != types(&after.typing) {
            tell("typing", self.typing(who, types(&after.typing)));
        }
        if (&before.status, &before.data, &before.status_rev) != (&after.status, &after.data, &after.status_rev) {
            let updated = self.about(who, "presence:updated").both("status", after.status);
            tell_as("status", stories, updated.with("data", after.data));
        }
        all
    }

    fn typing(&self, who: &Who, typing: bool) -> Happening {
        match self.is_component {
            true => self.about(who, "component:typing").both("userEmail", who.email.as_deref()),
            false => self.about(who, "user:typing"),
        }
        .both("typing", typing)
    }

    fn about(&self, who: &Who, name: &'static str) -> Happening {
        let happening = Happening::new(name).to_others(Some(who.peer)).with("userId", who.user.as_deref());
        match &self.own {
            Some((key, id)) => happening.id(key, id.as_str()),
            None => happening,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rooms_are_named_by_their_kind() {
        for (room, own) in [
            ("table:T", Some(("tableId", "T"))),
            ("campaign:a:b", Some(("campaignId", "a:b"))),
            ("notes", Some(("documentId", "notes"))),
            ("odd:notes", Some(("documentId", "odd:notes"))),
            ("entity:x:1", None),
            ("user:alice", None),
            ("global", None),
        ] {
            let words = Words::of(&RoomName::parse(room).unwrap());
            assert_eq!(words.own.as_ref().map(|(key, id)| (*key, id.as_str())), own, "{room}");
        }
    }
}
