//! Who is in one room, and what each shows of itself: one list, and what others are told when it changes.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;
use serde_json::Value;

use crate::bus::NodeId;
use crate::clock::rfc3339;
use crate::table::events::Presence;

use super::announce::Shows;
use super::announce::Told;
use super::announce::Who;
use super::announce::Words;
use super::wire::Member;

/// As many connections as presence is meant for. Full: who comes then is not listed, and what it shows is not told.
pub(super) const PEERS_MAX: usize = 20_000;
/// Yjs clients of one connection; an honest one has one, or a handful after reconnecting. Full: further ones are not shown.
pub(super) const CLIENTS_MAX: usize = 64;

/// One line of a presence list.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MemberView {
    /// Who; `None` for a connection on which nobody is signed in.
    pub user_id: Option<String>,
    /// The name that others see.
    pub name: Option<String>,
    /// The Yjs clients of that user's connections.
    pub client_ids: Vec<u64>,
    /// What the first of them that shows anything shows.
    pub state: Value,
    /// Since when: RFC 3339.
    pub since: String,
}

/// Who tells of somebody's presence: the connection itself, one loading of a document, or another node. What one of them said, the other
/// does not take back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Via {
    Itself,
    Document(u64),
    /// Another node, where there is no document.
    Node(NodeId),
}

struct Peer {
    who: Who,
    name: Option<Arc<str>>,
    since_ms: u64,
    via: Via,
    clients: BTreeMap<u64, Bytes>,
}

/// Who is in one room.
#[derive(Default)]
pub(super) struct Members {
    peers: HashMap<u64, Peer>,
    /// Connections of each signed-in user.
    users: HashMap<Arc<str>, usize>,
}

impl Members {
    pub(super) fn len(&self) -> usize {
        self.peers.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.peers.is_empty()
    }

    /// Takes in what a connection says of itself. What others are to hear of it is looked for only with `words`: where
    /// somebody listens.
    pub(super) fn hear(
        &mut self,
        words: Option<&Words>,
        via: Via,
        peer: u64,
        at_ms: u64,
        presence: Presence,
    ) -> Vec<Told> {
        match presence {
            Presence::Joined { user, name, email } => {
                let who = Who { user, email, peer };
                self.join(words, Peer { who, name, since_ms: at_ms, via, clients: BTreeMap::new() })
            }
            Presence::State { client, state } => self.show(words, peer, client, state),
            Presence::Left => match self.peers.get(&peer) {
                Some(known) if known.via == via => self.leave(words, peer),
                _ => Vec::new(),
            },
        }
    }

    /// A document that is gone tells nothing more of those who were in it.
    pub(super) fn forget(&mut self, words: Option<&Words>, via: Via) -> Vec<Told> {
        let mut gone: Vec<u64> = self.peers.iter().filter(|(_, peer)| peer.via == via).map(|(id, _)| *id).collect();
        gone.sort_unstable();
        gone.into_iter().flat_map(|peer| self.leave(words, peer)).collect()
    }

    /// Of those of whom this one told, the others have left.
    pub(super) fn keep(&mut self, words: Option<&Words>, via: Via, present: &BTreeSet<u64>) -> Vec<Told> {
        let told = self.peers.iter().filter(|(id, peer)| peer.via == via && !present.contains(id));
        let mut gone: Vec<u64> = told.map(|(id, _)| *id).collect();
        gone.sort_unstable();
        gone.into_iter().flat_map(|peer| self.leave(words, peer)).collect()
    }

    /// Those who tell of themselves, for other nodes.
    pub(super) fn own(&self) -> Vec<Member> {
        let own = self.peers.iter().filter(|(_, peer)| peer.via == Via::Itself);
        let member = |(id, peer): (&u64, &Peer)| Member {
            peer: *id,
            since_ms: peer.since_ms,
            user: peer.who.user.clone(),
            name: peer.name.clone(),
            email: peer.who.email.clone(),
            clients: peer.clients.iter().map(|(client, state)| (*client, state.clone())).collect(),
        };
        own.map(member).collect()
    }

    fn join(&mut self, words: Option<&Words>, peer: Peer) -> Vec<Told> {
        if let Some(known) = self.peers.get_mut(&peer.who.peer) {
            known.via = peer.via;
            return Vec::new();
        }
        if self.peers.len() >= PEERS_MAX {
            return Vec::new();
        }
        let is_first = peer.who.user.as_ref().is_none_or(|user| {
            let connections = self.users.entry(user.clone()).or_default();
            *connections += 1;
            *connections == 1
        });
        let told = words.filter(|_| is_first).and_then(|words| words.joined(&peer.who, peer.name.as_deref()));
        self.peers.insert(peer.who.peer, peer);
        told.into_iter().collect()
    }

    fn show(&mut self, words: Option<&Words>, peer: u64, client: u64, state: Option<Bytes>) -> Vec<Told> {
        let Some(Peer { who, clients, .. }) = self.peers.get_mut(&peer) else { return Vec::new() };
        if !clients.contains_key(&client) && clients.len() >= CLIENTS_MAX {
            return Vec::new();
        }
        let after = words.map(|words| (words, Shows::read(state.as_deref())));
        let before = match state {
            Some(state) => clients.insert(client, state),
            None => clients.remove(&client),
        };
        let changed =
            |(words, after): (&Words, Shows)| words.changed(who, client, Shows::read(before.as_deref()), after);
        after.map(changed).unwrap_or_default()
    }

    fn leave(&mut self, words: Option<&Words>, peer: u64) -> Vec<Told> {
        let Some(Peer { who, clients, .. }) = self.peers.remove(&peer) else { return Vec::new() };
        let stays = who.user.as_ref().is_some_and(|user| self.count_out(user));
        let Some(words) = words else { return Vec::new() };
        if let Some(left) = words.left(&who).filter(|_| !stays) {
            return vec![left];
        }
        // Nothing else says that its cursors are gone.
        let hidden =
            |(client, state): (u64, Bytes)| words.changed(&who, client, Shows::read(Some(&state)), Shows::default());
        clients.into_iter().flat_map(hidden).collect()
    }

    /// One connection of this user less. Whether there are others.
    fn count_out(&mut self, user: &Arc<str>) -> bool {
        let Some(connections) = self.users.get_mut(user) else { return false };
        *connections -= 1;
        let stays = *connections > 0;
        if !stays {
            self.users.remove(user);
        }
        stays
    }

    /// A line for each user, and for each connection on which nobody is signed in; who came first stands first.
    pub(super) fn list(&self) -> Vec<MemberView> {
        let mut peers: Vec<&Peer> = self.peers.values().collect();
        peers.sort_by_key(|peer| (peer.since_ms, peer.who.peer));
        let mut lines: Vec<Vec<&Peer>> = Vec::new();
        let mut places: HashMap<&str, usize> = HashMap::new();
        for peer in peers {
            let next = lines.len();
            let place = peer.who.user.as_deref().map_or(next, |user| *places.entry(user).or_insert(next));
            if place == next {
                lines.push(Vec::new());
            }
            lines[place].push(peer);
        }
        lines.iter().map(|line| view(line)).collect()
    }
}

/// The line of one user's connections, of which there is at least one.
fn view(peers: &[&Peer]) -> MemberView {
    let first = peers[0];
    let clients = || peers.iter().flat_map(|peer| &peer.clients);
    let parsed = |(_, state): (&u64, &Bytes)| serde_json::from_slice(state).ok();
    MemberView {
        user_id: first.who.user.as_deref().map(str::to_owned),
        name: peers.iter().find_map(|peer| peer.name.as_deref()).map(str::to_owned),
        client_ids: clients().map(|(client, _)| *client).collect(),
        // States were checked when they came in; one that is no JSON after all is shown as none.
        state: clients().find_map(parsed).unwrap_or_default(),
        since: rfc3339(first.since_ms),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::name::RoomName;

    use super::*;

    fn words(room: &str) -> Words {
        Words::of(&RoomName::parse(room).unwrap())
    }

    fn joined(user: &str) -> Presence {
        let user: Option<Arc<str>> = (!user.is_empty()).then(|| user.into());
        let email = user.as_ref().map(|user| format!("{user}@example.org").into());
        Presence::Joined { name: user.as_ref().map(|user| user.to_uppercase().into()), user, email }
    }

    fn state(client: u64, state: Value) -> Presence {
        let state = Some(state).filter(|state| !state.is_null()).map(|state| state.to_string().into());
        Presence::State { client, state }
    }

    /// What the others hear, as `name {data}`.
    fn told(members: &mut Members, room: &str, peer: u64, presence: Presence) -> Vec<String> {
        let words = words(room);
        let told = members.hear(Some(&words), Via::Itself, peer, 1_000 + peer, presence);
        told.into_iter().map(|told| format!("{} {}", told.happening.name, Value::from(told.happening.data))).collect()
    }

    const NOTHING: [&str; 0] = [];

    #[test]
    fn somebody_with_two_connections_comes_once_and_goes_once() {
        let mut members = Members::default();
        assert_eq!(
            told(&mut members, "table:T", 1, joined("alice")),
            [r#"user:joined {"userId":"alice","userName":"ALICE"}"#]
        );
        assert_eq!(told(&mut members, "table:T", 2, joined("alice")), NOTHING);
        assert_eq!(told(&mut members, "table:T", 1, joined("alice")), NOTHING, "it came in again");
        assert_eq!(told(&mut members, "table:T", 1, Presence::Left), NOTHING);
        assert_eq!(told(&mut members, "table:T", 1, Presence::Left), NOTHING, "it was gone");
        assert_eq!(told(&mut members, "table:T", 2, Presence::Left), [r#"user:left {"userId":"alice"}"#]);
        assert!(members.is_empty() && members.users.is_empty());
    }

    #[test]
    fn without_a_user_every_connection_counts() {
        let mut members = Members::default();
        for peer in [1, 2] {
            let want = format!(r#"user:joined {{"clientId":{peer},"userId":null,"userName":null}}"#);
            assert_eq!(told(&mut members, "lobby", peer, joined("")), [want]);
        }
        assert_eq!(members.list().len(), 2);
        assert_eq!(told(&mut members, "lobby", 1, Presence::Left), [r#"user:left {"clientId":1,"userId":null}"#]);
    }

    #[test]
    fn components_have_words_of_their_own_and_some_rooms_have_none() {
        let mut members = Members::default();
        assert_eq!(
            told(&mut members, "component:C", 1, joined("alice")),
            [r#"component:user-joined {"userEmail":"alice@example.org","userId":"alice"}"#]
        );
        assert_eq!(
            told(&mut members, "component:C", 1, state(7, json!({"typing": true}))),
            [r#"component:typing {"clientId":7,"typing":true,"userEmail":"alice@example.org","userId":"alice"}"#]
        );
        assert_eq!(
            told(&mut members, "component:C", 1, Presence::Left),
            [r#"component:user-left {"userEmail":"alice@example.org","userId":"alice"}"#]
        );
        for room in ["campaign:1", "settlement:1", "structure:1", "base:1", "user:alice"] {
            let mut members = Members::default();
            assert_eq!(told(&mut members, room, 1, joined("alice")), NOTHING);
            let hears = told(&mut members, room, 1, state(7, json!({"cursor": 1})));
            assert_eq!(hears, [r#"user:cursor-moved {"clientId":7,"position":1,"userId":"alice"}"#]);
            let hears = told(&mut members, room, 1, Presence::Left);
            assert_eq!(hears, [r#"user:cursor-moved {"clientId":7,"position":null,"userId":"alice"}"#]);
        }
    }

    #[test]
    fn the_others_hear_what_changed_in_a_state() {
        let mut members = Members::default();
        told(&mut members, "table:T", 1, joined("alice"));
        let mut shows = |shown: Value| told(&mut members, "table:T", 1, state(7, shown));
        assert_eq!(shows(json!({"user": {"name": "A"}})), NOTHING);
        assert_eq!(
            shows(json!({"cursor": {"x": 1}, "typing": true, "selection": [1]})),
            [
                r#"user:cursor-moved {"clientId":7,"position":{"x":1},"userId":"alice"}"#,
                r#"grid:selection-changed {"clientId":7,"selection":[1],"userId":"alice"}"#,
                r#"user:typing {"clientId":7,"typing":true,"userId":"alice"}"#,
            ]
        );
        assert_eq!(shows(json!({"selection": [1], "typing": true, "cursor": {"x": 1}, "other": 1})), NOTHING);
        assert_eq!(
            shows(json!({"selection": [1], "typing": false, "status": "away", "data": {"a": 1}})),
            [
                r#"user:cursor-moved {"clientId":7,"position":null,"userId":"alice"}"#,
                r#"user:typing {"clientId":7,"typing":false,"userId":"alice"}"#,
                r#"presence:updated {"clientId":7,"data":{"a":1},"status":"away","userId":"alice"}"#,
            ]
        );
        assert_eq!(
            shows(json!({"selection": [1], "status": "away", "data": {"a": 1}})),
            NOTHING,
            "not typing is not typing"
        );
        assert_eq!(
            shows(Value::Null),
            [
                r#"grid:selection-changed {"clientId":7,"selection":null,"userId":"alice"}"#,
                r#"presence:updated {"clientId":7,"data":null,"status":null,"userId":"alice"}"#,
            ]
        );
    }

    #[test]
    fn a_connection_that_closes_beside_another_takes_its_cursor_with_it() {
        let mut members = Members::default();
        told(&mut members, "table:T", 1, joined("alice"));
        told(&mut members, "table:T", 2, joined("alice"));
        told(&mut members, "table:T", 2, state(8, json!({"cursor": 1, "status": "here"})));
        let hears = told(&mut members, "table:T", 2, Presence::Left);
        assert!(hears[0].starts_with("user:cursor-moved {\"clientId\":8,\"position\":null"), "{hears:?}");
        told(&mut members, "table:T", 1, state(7, json!({"cursor": 1})));
        assert_eq!(told(&mut members, "table:T", 1, Presence::Left), [r#"user:left {"userId":"alice"}"#]);
    }

    #[test]
    fn what_nobody_hears_is_kept_all_the_same() {
        let mut members = Members::default();
        let unheard = |members: &mut Members, presence| members.hear(None, Via::Itself, 1, 5, presence).len();
        assert_eq!(unheard(&mut members, joined("alice")), 0);
        assert_eq!(unheard(&mut members, state(7, json!({"cursor": 1}))), 0);
        assert_eq!(told(&mut members, "t", 1, state(7, json!({"cursor": 1}))), NOTHING, "it was known");
        assert_eq!(told(&mut members, "t", 1, state(7, json!({"cursor": 2}))).len(), 1);
    }

    #[test]
    fn the_list_has_a_line_for_each_user() {
        let mut members = Members::default();
        for (peer, user) in [(3, "bob"), (1, "alice"), (2, "alice"), (4, "")] {
            told(&mut members, "t", peer, joined(user));
        }
        told(&mut members, "t", 2, state(9, json!({"cursor": 1})));
        told(&mut members, "t", 1, state(7, json!({"a": 1})));
        let list = serde_json::to_value(members.list()).unwrap();
        let line = |user: Value, name: Value, clients: Value, state: Value, since: &str| json!({"userId": user, "name": name, "clientIds": clients, "state": state, "since": since});
        let want = json!([
            line("alice".into(), "ALICE".into(), json!([7, 9]), json!({"a": 1}), "1970-01-01T00:00:01.001Z"),
            line("bob".into(), "BOB".into(), json!([]), Value::Null, "1970-01-01T00:00:01.003Z"),
            line(Value::Null, Value::Null, json!([]), Value::Null, "1970-01-01T00:00:01.004Z"),
        ]);
        assert_eq!(list, want);
    }

    #[test]
    fn states_that_are_no_states_and_those_of_strangers_say_nothing() {
        let mut members = Members::default();
        assert_eq!(told(&mut members, "t", 1, state(7, json!({"cursor": 1}))), NOTHING, "who is that?");
        told(&mut members, "t", 1, joined("alice"));
        let deep = "[".repeat(8_000);
        for text in ["", "nul", "7", "[]", "{\"cursor\":", "\u{0}", "{\"cursor\":1,\"cursor\":2}", &deep] {
            let shown = Presence::State { client: 7, state: Some(Bytes::copy_from_slice(text.as_bytes())) };
            assert_eq!(told(&mut members, "t", 1, shown), NOTHING, "{text:.20}");
        }
        assert_eq!(members.list()[0].state, Value::Null);
        assert_eq!(told(&mut members, "t", 1, state(7, json!({"typing": "yes", "cursor": null}))), NOTHING);
    }

    #[test]
    fn rooms_and_connections_are_bounded() {
        let mut members = Members::default();
        for peer in 0..PEERS_MAX as u64 + 10 {
            members.hear(None, Via::Itself, peer, 0, joined(""));
        }
        assert_eq!(members.len(), PEERS_MAX);
        assert_eq!(told(&mut members, "t", PEERS_MAX as u64 + 1, state(7, json!({"cursor": 1}))), NOTHING);
        for client in 0..CLIENTS_MAX as u64 + 10 {
            members.hear(None, Via::Itself, 0, 0, state(client, json!({})));
        }
        assert_eq!(members.peers[&0].clients.len(), CLIENTS_MAX);
        assert_eq!(told(&mut members, "t", 0, state(3, json!({"cursor": 1}))).len(), 1, "known ones are heard");
    }

    #[test]
    fn a_document_takes_along_those_who_were_in_it_but_not_those_who_came_back() {
        let mut members = Members::default();
        let (old, new) = (Via::Document(1), Via::Document(2));
        for peer in [1, 2] {
            members.hear(None, old, peer, 0, joined(&format!("u{peer}")));
        }
        members.hear(None, new, 2, 1, joined("u2"));
        assert!(members.hear(Some(&words("t")), old, 2, 2, Presence::Left).is_empty(), "that was another life");
        let told = members.forget(Some(&words("t")), old);
        assert_eq!(told.iter().map(|told| &*told.happening.name).collect::<Vec<_>>(), ["user:left"]);
        assert_eq!(members.list()[0].user_id.as_deref(), Some("u2"));
    }
}
