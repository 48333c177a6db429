//! Who is present in one document: an awareness store with the clock rules of the JavaScript clients, which win over any
//! other reading of the protocol (`y-protocols` 1.0.7, measured).
//!
//! Beyond those rules it knows which connection owns which client id, so that a connection that dies takes exactly its own
//! ids with it, and nobody can speak for another live connection's id.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use syncline_protocol::Moment;
use syncline_protocol::awareness::Entry;
use syncline_protocol::awareness::encode;

use super::request::ReaderId;

/// A state that nobody renewed for this long is gone. Clients renew theirs every 15 s.
const OUTDATED: Duration = Duration::from_secs(30);
/// Client ids remembered, present or gone. Full: the entries gone longest are forgotten first, then newcomers are ignored.
const KNOWN_MAX: usize = 20_000;
/// Client ids that one connection may own; an honest one has one, or a handful after reconnecting its document.
const OWNED_MAX: usize = 64;

/// The presence of one document.
#[derive(Debug, Default)]
pub struct Awareness {
    /// Ordered, so that frames and lists come out the same on every run. Boxed, because a map has room for a dozen entries
    /// from the first on, and most documents have one or two.
    known: BTreeMap<u64, Box<Known>>,
    /// No state runs out before this; later than it, somebody has to look.
    look_at: Option<Moment>,
}

#[derive(Debug)]
struct Known {
    clock: u64,
    state: Option<Bytes>,
    owner: Option<ReaderId>,
    /// The connection that rooms were told shows it.
    told: Option<ReaderId>,
    renewed: Moment,
}

/// A connection that says who is present.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Speaker {
    /// Which one.
    pub id: ReaderId,
    /// Whether its client sends back what it hears of others, and speaks up at once when it hears that it is gone itself.
    /// `y-websocket` does, and Hocuspocus providers before 4.0; later ones do neither.
    pub echoes: bool,
}

/// What rooms are to hear of one client.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Turn {
    /// This connection shows it no more.
    pub hidden_by: Option<ReaderId>,
    /// This connection shows it now, and this is what.
    pub shown_by: Option<(ReaderId, Bytes)>,
}

/// What one awareness message changed.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Client ids whose state everyone is to hear.
    pub changed: Vec<u64>,
    /// Client ids that the sender believes present and everyone else gone, at the same clock. Told so, a client
    /// raises its clock and speaks up again.
    pub stale: Vec<u64>,
}

impl Awareness {
    /// Merges what a connection says. `may_take` decides whether it may take an id over from a live connection: true for
    /// the same user, whose old connection is then a dead one that was not noticed yet.
    pub fn apply(
        &mut self,
        now: Moment,
        Speaker { id: from, echoes }: Speaker,
        entries: &[Entry],
        may_take: impl Fn(ReaderId) -> bool,
    ) -> Changes {
        let mut changes = Changes::default();
        // Clients relay what they hear of others in frames of several entries; only a frame of one introduces an id.
        let introduces =
            matches!(entries, [entry] if self.owns(from, entry.client) || self.owned(from).count() < OWNED_MAX);
        for entry in entries {
            let back = if introduces && !echoes { self.back(from, entry, &may_take, &mut changes) } else { None };
            self.apply_one(now, from, back.as_ref().unwrap_or(entry), introduces, &may_take, &mut changes);
        }
        changes
    }

    /// A client that comes back on another connection goes on at the clock that it had. If it was seen going, it is back at
    /// a later one, which it learns of; if it was not, the connection is its own all the same.
    fn back(
        &mut self,
        from: ReaderId,
        entry: &Entry,
        may_take: &impl Fn(ReaderId) -> bool,
        changes: &mut Changes,
    ) -> Option<Entry> {
        let known = self.known.get_mut(&entry.client).filter(|known| entry.clock <= known.clock)?;
        entry.state.as_ref()?;
        if known.state.is_some() {
            if known.owner.is_some_and(|owner| owner != from && may_take(owner)) && known.clock == entry.clock {
                known.owner = Some(from);
            }
            return None;
        }
        changes.stale.push(entry.client);
        Some(Entry { clock: known.clock + 1, ..entry.clone() })
    }

    fn apply_one(
        &mut self,
        now: Moment,
        from: ReaderId,
        entry: &Entry,
        introduces: bool,
        may_take: &impl Fn(ReaderId) -> bool,
        changes: &mut Changes,
    ) {
        let known = self.known.get(&entry.client);
        let owner = known.and_then(|known| known.owner);
        if owner.is_some_and(|owner| owner != from && !(introduces && may_take(owner))) {
            return;
        }
        let told = known.and_then(|known| known.told);
        let (clock, present) = known.map_or((0, false), |known| (known.clock, known.state.is_some()));
        let newer = clock < entry.clock || (clock == entry.clock && entry.state.is_none() && present);
        if !newer {
            if introduces && clock == entry.clock && !present && entry.state.is_some() && known.is_some() {
                changes.stale.push(entry.client);
            }
            return;
        }
        if known.is_none() && !self.make_room() {
            return;
        }
        let was_present = present;
        let owner = if entry.state.is_none() {
            None
        } else if introduces {
            Some(from)
        } else {
            owner
        };
        // A copy: what came is a slice of all that was read together with it.
        let state = entry.state.as_deref().map(Bytes::copy_from_slice);
        let next = Known { clock: entry.clock, state, owner, told, renewed: now };
        match self.known.get_mut(&entry.client) {
            Some(known) => **known = next,
            None => drop(self.known.insert(entry.client, Box::new(next))),
        }
        self.look_at.get_or_insert(now.after(OUTDATED));
        if was_present || entry.state.is_some() {
            changes.changed.push(entry.client);
        }
    }

    /// A connection is gone, and its ids with it.
    pub fn leave(&mut self, from: ReaderId) -> Vec<u64> {
        let gone: Vec<u64> = self.owned(from).collect();
        for client in &gone {
            self.forget_state(*client);
        }
        gone
    }

    /// Drops states that nobody renewed and no live connection owns.
    pub fn expire(&mut self, now: Moment) -> Vec<u64> {
        if self.look_at.is_none_or(|at| now < at) {
            return Vec::new();
        }
        let old = |known: &Known| known.state.is_some() && now.since(known.renewed) >= OUTDATED;
        let gone: Vec<u64> = self.known.iter().filter(|(_, known)| old(known)).map(|(&client, _)| client).collect();
        for client in &gone {
            self.forget_state(*client);
        }
        let present = self.known.values().filter(|known| known.state.is_some());
        self.look_at = present.map(|known| known.renewed.after(OUTDATED)).min();
        gone
    }

    /// When [`Self::expire`] may have something to do next.
    #[must_use]
    pub fn deadline(&self) -> Option<Moment> {
        self.look_at
    }

    /// The encoded entries of `clients`, gone ones as `null`.
    #[must_use]
    pub fn encode(&self, clients: &[u64]) -> Bytes {
        let entries: Vec<Entry> = clients.iter().filter_map(|client| self.entry(*client)).collect();
        encode(entries.iter())
    }

    /// Encoded entries that say of `clients` that they were gone, as somebody has to hear it who did not notice.
    #[must_use]
    pub fn encode_gone(&self, clients: &[u64]) -> Bytes {
        let gone = |entry: Entry| Entry { clock: entry.clock - u64::from(entry.state.is_some()), state: None, ..entry };
        let entries: Vec<Entry> = clients.iter().filter_map(|client| self.entry(*client)).map(gone).collect();
        encode(entries.iter())
    }

    /// The encoded entries of everybody, present or known to have gone; `None` when there is nobody.
    #[must_use]
    pub fn encode_all(&self) -> Option<Bytes> {
        if self.known.is_empty() {
            return None;
        }
        let everyone: Vec<u64> = self.known.keys().copied().collect();
        Some(self.encode(&everyone))
    }

    /// What rooms are to hear of a client since the last time; from here on they know.
    pub fn turn(&mut self, client: u64) -> Turn {
        let Some(known) = self.known.get_mut(&client) else { return Turn::default() };
        let hidden_by = known.told.filter(|_| known.told != known.owner);
        known.told = known.owner;
        Turn { hidden_by, shown_by: known.owner.zip(known.state.clone()) }
    }

    /// The ids and states that a connection owns.
    pub fn states_of(&self, owner: ReaderId) -> impl Iterator<Item = (u64, Bytes)> + '_ {
        self.known.iter().filter_map(move |(&client, known)| {
            (known.owner == Some(owner)).then(|| known.state.clone().map(|state| (client, state))).flatten()
        })
    }

    fn owns(&self, owner: ReaderId, client: u64) -> bool {
        self.known.get(&client).is_some_and(|known| known.owner == Some(owner))
    }

    fn owned(&self, owner: ReaderId) -> impl Iterator<Item = u64> + '_ {
        self.known.iter().filter(move |(_, known)| known.owner == Some(owner)).map(|(&client, _)| client)
    }

    fn entry(&self, client: u64) -> Option<Entry> {
        self.known.get(&client).map(|known| Entry { client, clock: known.clock, state: known.state.clone() })
    }

    /// The clock stays: at the same clock a removal wins, and a later state needs a higher one.
    fn forget_state(&mut self, client: u64) {
        if let Some(known) = self.known.get_mut(&client) {
            known.state = None;
            known.owner = None;
        }
    }

    fn make_room(&mut self) -> bool {
        if self.known.len() < KNOWN_MAX {
            return true;
        }
        let gone = self.known.iter().filter(|(_, known)| known.state.is_none() && known.told.is_none());
        let oldest = gone.min_by_key(|(_, known)| known.renewed).map(|(&client, _)| client);
        oldest.is_some_and(|client| self.known.remove(&client).is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALICE: ReaderId = ReaderId(1);
    const BOB: ReaderId = ReaderId(2);
    const NOW: Moment = Moment(1_000);

    fn entry(client: u64, clock: u64, state: Option<&'static str>) -> Entry {
        Entry { client, clock, state: state.map(|state| Bytes::from_static(state.as_bytes())) }
    }

    fn say(awareness: &mut Awareness, from: ReaderId, client: u64, clock: u64, state: Option<&'static str>) -> Changes {
        awareness.apply(NOW, echoing(from), &[entry(client, clock, state)], |_| false)
    }

    fn echoing(id: ReaderId) -> Speaker {
        Speaker { id, echoes: true }
    }

    fn changed(clients: &[u64]) -> Changes {
        Changes { changed: clients.to_vec(), stale: vec![] }
    }

    #[test]
    fn a_first_frame_at_clock_zero_leaves_no_trace() {
        let mut awareness = Awareness::default();
        assert_eq!(say(&mut awareness, ALICE, 7, 0, Some("{}")), changed(&[]));
        assert_eq!(awareness.encode_all(), None);
        assert_eq!(say(&mut awareness, ALICE, 7, 1, Some("{}")), changed(&[7]));
    }

    #[test]
    fn only_a_higher_clock_or_a_removal_at_the_same_clock_is_news() {
        let mut awareness = Awareness::default();
        say(&mut awareness, ALICE, 7, 5, Some("{}"));
        assert_eq!(say(&mut awareness, ALICE, 7, 5, Some("{\"a\":1}")), changed(&[]));
        assert_eq!(say(&mut awareness, ALICE, 7, 4, None), changed(&[]));
        assert_eq!(say(&mut awareness, ALICE, 7, 5, None), changed(&[7]));
        assert_eq!(say(&mut awareness, ALICE, 7, 5, None), changed(&[]));
        assert_eq!(say(&mut awareness, ALICE, 7, 6, Some("{}")), changed(&[7]));
    }

    #[test]
    fn a_client_that_returns_at_its_old_clock_is_told_that_it_is_gone() {
        let mut awareness = Awareness::default();
        say(&mut awareness, ALICE, 7, 5, Some("{}"));
        assert_eq!(awareness.leave(ALICE), vec![7]);
        assert_eq!(say(&mut awareness, BOB, 7, 5, Some("{}")), Changes { changed: vec![], stale: vec![7] });
        assert_eq!(say(&mut awareness, BOB, 7, 6, Some("{}")), changed(&[7]));
    }

    #[test]
    fn a_client_that_does_not_speak_up_is_back_all_the_same() {
        let mut awareness = Awareness::default();
        let bob = Speaker { id: BOB, echoes: false };
        say(&mut awareness, ALICE, 7, 5, Some("{}"));
        awareness.leave(ALICE);
        let back = awareness.apply(NOW, bob, &[entry(7, 5, Some("[]"))], |_| false);
        assert_eq!(back, Changes { changed: vec![7], stale: vec![7] });
        assert_eq!(awareness.encode(&[7]), encode([entry(7, 6, Some("[]"))].iter()));
        assert_eq!(awareness.leave(BOB), vec![7]);

        // Its old connection is not known to be dead yet.
        say(&mut awareness, ALICE, 8, 5, Some("{}"));
        assert_eq!(awareness.apply(NOW, bob, &[entry(8, 5, Some("{}"))], |_| true), changed(&[]));
        assert_eq!(awareness.leave(ALICE), Vec::<u64>::new());
        assert_eq!(awareness.leave(BOB), vec![8]);
    }

    #[test]
    fn nobody_speaks_for_another_live_connection() {
        let mut awareness = Awareness::default();
        say(&mut awareness, ALICE, 7, 5, Some("{}"));
        assert_eq!(say(&mut awareness, BOB, 7, 6, Some("{\"name\":\"not alice\"}")), changed(&[]));
        assert_eq!(say(&mut awareness, BOB, 7, 6, None), changed(&[]));
        let same_user = awareness.apply(NOW, echoing(BOB), &[entry(7, 6, Some("{}"))], |_| true);
        assert_eq!(same_user, changed(&[7]));
        assert_eq!(awareness.leave(ALICE), Vec::<u64>::new());
        assert_eq!(awareness.leave(BOB), vec![7]);
    }

    #[test]
    fn a_relayed_state_has_no_owner_and_expires() {
        let mut awareness = Awareness::default();
        let relayed = [entry(7, 1, Some("{}")), entry(8, 1, Some("{}"))];
        assert_eq!(awareness.apply(NOW, echoing(ALICE), &relayed, |_| false), changed(&[7, 8]));
        assert_eq!(awareness.leave(ALICE), Vec::<u64>::new());
        assert_eq!(awareness.expire(NOW.after(Duration::from_secs(29))), Vec::<u64>::new());
        assert_eq!(awareness.deadline(), Some(NOW.after(OUTDATED)));
        assert_eq!(awareness.expire(NOW.after(OUTDATED)), vec![7, 8]);
        assert_eq!(awareness.deadline(), None);
    }

    #[test]
    fn rooms_hear_who_shows_a_client_and_who_no_more() {
        let mut awareness = Awareness::default();
        let shown_by = |reader, state: &'static str| Some((reader, Bytes::from_static(state.as_bytes())));
        say(&mut awareness, ALICE, 7, 1, Some("{}"));
        assert_eq!(awareness.turn(7), Turn { hidden_by: None, shown_by: shown_by(ALICE, "{}") });
        say(&mut awareness, ALICE, 7, 2, Some("[]"));
        assert_eq!(awareness.turn(7), Turn { hidden_by: None, shown_by: shown_by(ALICE, "[]") });

        // Her other connection is heard, while this one was not noticed to be dead.
        awareness.apply(NOW, echoing(BOB), &[entry(7, 3, Some("{}"))], |_| true);
        assert_eq!(awareness.turn(7), Turn { hidden_by: Some(ALICE), shown_by: shown_by(BOB, "{}") });
        say(&mut awareness, BOB, 7, 4, None);
        assert_eq!(awareness.turn(7), Turn { hidden_by: Some(BOB), shown_by: None });
        assert_eq!(awareness.turn(7), Turn::default());

        // Came and went before rooms were told, never was here, and nobody's.
        say(&mut awareness, ALICE, 8, 1, Some("{}"));
        awareness.leave(ALICE);
        awareness.apply(NOW, echoing(BOB), &[entry(1, 1, Some("{}")), entry(2, 1, Some("{}"))], |_| false);
        for client in [8, 9, 1] {
            assert_eq!(awareness.turn(client), Turn::default());
        }
    }

    #[test]
    fn a_flood_of_client_ids_is_bounded() {
        let mut awareness = Awareness::default();
        for client in 0..30_000 {
            say(&mut awareness, ReaderId(client), client, 1, Some("{}"));
        }
        assert_eq!(awareness.known.len(), KNOWN_MAX);
        for client in 0..200 {
            say(&mut awareness, ReaderId(99_999), 100_000 + client, 1, Some("{}"));
        }
        assert_eq!(awareness.known.len(), KNOWN_MAX);
    }
}
