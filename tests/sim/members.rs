//! What a document's room makes of what the document tells it of its readers.

use std::collections::BTreeMap;

use bytes::Bytes;
use syncline::document::core::Core;
use syncline::document::core::ReaderId;
use syncline::document::port::Port;
use syncline::table::events::Presence;

use crate::server::Go;
use crate::server::broken;

type Members = BTreeMap<ReaderId, BTreeMap<u64, Bytes>>;

/// Where the numbers of clients of other nodes begin.
const ELSEWHERE: u64 = 1 << 62;

/// Those who are in, each with what it shows.
#[derive(Debug, Default)]
pub(crate) struct Room(Members);

impl Room {
    pub(crate) fn hear(&mut self, reader: ReaderId, presence: Presence) -> Go {
        match presence {
            Presence::Joined { .. } => {
                if self.0.insert(reader, BTreeMap::new()).is_some() {
                    return broken(format!("{reader:?} came into the room twice"));
                }
            }
            Presence::State { client, state } => {
                let Some(clients) = self.0.get_mut(&reader) else {
                    return broken(format!("{reader:?} shows itself in the room and is not in it"));
                };
                match state {
                    Some(state) => drop(clients.insert(client, state)),
                    None => drop(clients.remove(&client)),
                }
            }
            Presence::Left => {
                if self.0.remove(&reader).is_none() {
                    return broken(format!("{reader:?} left the room and was not in it"));
                }
            }
        }
        Ok(())
    }

    /// Who is in is always known; what somebody shows, at rest.
    pub(crate) fn check(&self, core: &Core<Port>, at_rest: bool) -> Go {
        let readers = core.readers().map(|(reader, _)| reader);
        let of_this_node = self.0.keys().copied().filter(|reader| reader.0 < ELSEWHERE);
        if !readers.eq(of_this_node) {
            return broken("the room knows of other readers than the document has");
        }
        if at_rest && self.0 != everybody(core) {
            return broken(format!("the room knows of {:?}, the document of {:?}", self.0, everybody(core)));
        }
        Ok(())
    }
}

/// As a room hears it that opens now.
fn everybody(core: &Core<Port>) -> Members {
    let mut room = Room::default();
    for (reader, _, presence) in core.everybody() {
        let _ = room.hear(reader, presence);
    }
    room.0
}
