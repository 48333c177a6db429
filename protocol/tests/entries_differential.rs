//! The index of map entries against replicas whose writers are watched: for every write the model knows what its writer
//! had seen, and every conflict that the index reads out of an update has to be one, and the other way round.
//!
//! Prints how many trials and conflicts there were; `ENTRIES_SEED` replays one trial.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::collections::HashSet;

use syncline_protocol::state_vector::StateVector;
use syncline_protocol::update::Content;
use syncline_protocol::update::Entries;
use syncline_protocol::update::EntryId;
use syncline_protocol::update::Readiness;
use syncline_protocol::update::Standing;
use syncline_protocol::update::Touch;
use syncline_protocol::update::UpdateLimits;
use syncline_protocol::update::validate;
use yrs::Any;
use yrs::Array;
use yrs::ClientID;
use yrs::Doc;
use yrs::ID;
use yrs::Map;
use yrs::MapPrelim;
use yrs::MapRef;
use yrs::OffsetKind;
use yrs::Options;
use yrs::Out;
use yrs::ReadTxn;
use yrs::Text;
use yrs::TextPrelim;
use yrs::Transact;
use yrs::TransactionMut;
use yrs::Update;
use yrs::merge_updates_v1;
use yrs::updates::decoder::Decode;

const TRIALS: u64 = 4_000;
const STEPS: usize = 40;

type Path = Vec<String>;

/// What is true of one write.
struct Truth {
    path: Path,
    /// The write that made the map.
    map: Option<EntryId>,
    /// What its writer had seen.
    seen: HashMap<u64, u32>,
}

impl Truth {
    fn had_seen(&self, id: EntryId) -> bool {
        self.seen.get(&id.client).is_some_and(|&clock| id.clock < clock)
    }
}

/// Small numbers that depend on the seed alone.
struct Chance(u64);

impl Chance {
    fn below(&mut self, below: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as usize % below
    }
}

struct Replica {
    doc: Doc,
    client: u64,
    /// What it wrote and did not send.
    queue: Vec<Vec<u8>>,
}

/// What was counted over all trials.
#[derive(Debug, Default)]
struct Counts {
    trials: u64,
    updates: u64,
    merged: u64,
    writes: u64,
    current_before: u64,
    conflicts: u64,
    /// Flagged because they were written over a conflicting write of the same update, by one who had learnt of it since.
    inherited: u64,
    rivals: u64,
    /// Several writers of one update, of which the bytes do not say whether they knew of each other.
    apart: u64,
    hidden: u64,
    gone: u64,
}

struct World {
    chance: Chance,
    replicas: Vec<Replica>,
    server: Doc,
    entries: Entries,
    truths: HashMap<EntryId, Truth>,
    counts: Counts,
}

fn document(client: u64, skip_gc: bool) -> Doc {
    let mut options = Options::with_client_id(ClientID::new(client));
    options.skip_gc = skip_gc;
    options.offset_kind = OffsetKind::Utf16;
    let doc = Doc::with_options(options);
    for root in ["rows", "meta"] {
        doc.get_or_insert_map(root);
    }
    doc.get_or_insert_text("t");
    doc.get_or_insert_array("a");
    doc
}

/// The id of what a transaction writes next.
fn next_id(txn: &TransactionMut<'_>, client: u64) -> EntryId {
    EntryId { client, clock: txn.state_vector().get(&ClientID::new(client)) }
}

/// Every value says in its text which item it is.
fn name(id: EntryId) -> String {
    format!("{}:{}", id.client, id.clock)
}

fn named(text: &str) -> Option<EntryId> {
    let (client, clock) = text.split_once(':')?;
    Some(EntryId { client: client.parse().ok()?, clock: clock.parse().ok()? })
}

fn id_of(txn: &impl ReadTxn, value: &Out) -> Option<EntryId> {
    match value {
        Out::Any(Any::String(text)) => named(text),
        Out::Any(Any::Array(list)) => match list.first() {
            Some(Any::String(text)) => named(text),
            _ => None,
        },
        Out::YMap(map) => match map.get(txn, "$id") {
            Some(Out::Any(Any::Array(list))) => match &list[1] {
                Any::String(text) => named(text),
                _ => None,
            },
            _ => None,
        },
        Out::YText(text) => named(&yrs::GetString::get_string(text, txn)),
        _ => None,
    }
}

/// Everything that the engine shows, by path.
fn shown(doc: &Doc) -> BTreeMap<Path, (Option<EntryId>, EntryId)> {
    fn collect(
        txn: &impl ReadTxn,
        map: &MapRef,
        path: &Path,
        creator: Option<EntryId>,
        all: &mut BTreeMap<Path, (Option<EntryId>, EntryId)>,
    ) {
        for (key, value) in map.iter(txn) {
            let path: Path = path.iter().cloned().chain([key.to_owned()]).collect();
            let id = id_of(txn, &value).unwrap_or_else(|| panic!("{path:?} has a name"));
            all.insert(path.clone(), (creator, id));
            if let Out::YMap(inner) = value {
                collect(txn, &inner, &path, Some(id), all);
            }
        }
    }
    let mut all = BTreeMap::new();
    for root in ["rows", "meta"] {
        let map = doc.get_or_insert_map(root);
        collect(&doc.transact(), &map, &vec![root.to_owned()], None, &mut all);
    }
    all
}

fn text_path(path: &[std::sync::Arc<str>]) -> Path {
    path.iter().map(|part| part.to_string()).collect()
}

impl World {
    fn new(seed: u64) -> Self {
        let mut chance = Chance(seed);
        let count = 2 + chance.below(3);
        let replica = |index: usize, chance: &mut Chance| {
            // One of them is a server, whose ids are above those of browsers.
            let high = if index == 0 { 1 << 40 } else { 0 };
            let client = high + chance.below(1 << 31) as u64 * 8 + index as u64 + 1;
            Replica { doc: document(client, chance.below(2) == 0), client, queue: Vec::new() }
        };
        let replicas = (0..count).map(|index| replica(index, &mut chance)).collect();
        Self {
            chance,
            replicas,
            server: document(1, true),
            entries: Entries::default(),
            truths: HashMap::new(),
            counts: Counts { trials: 1, ..Counts::default() },
        }
    }

    fn step(&mut self) {
        let at = self.chance.below(self.replicas.len());
        match self.chance.below(12) {
            0..=5 => self.edit(at),
            6 => self.push_each(at),
            7 => self.push_joined(at),
            8 => self.push_difference(at),
            9 => self.push_two(at),
            10 => self.pull(at),
            _ => self.relay(at),
        }
    }

    /// One transaction of up to four writes.
    fn edit(&mut self, at: usize) {
        let Replica { doc, client, .. } = &self.replicas[at];
        let (doc, client) = (doc.clone(), *client);
        let (rows, meta) = (doc.get_or_insert_map("rows"), doc.get_or_insert_map("meta"));
        let (text, array) = (doc.get_or_insert_text("t"), doc.get_or_insert_array("a"));
        let mut txn = doc.transact_mut();
        for _ in 0..=self.chance.below(4) {
            let key = format!("k{}", self.chance.below(3));
            let row = format!("r{}", self.chance.below(2));
            match self.chance.below(16) {
                0..=2 => self.write(&mut txn, client, &meta, &["meta"], None, &key),
                3 => drop(meta.remove(&mut txn, &key)),
                4 => self.write_row(&mut txn, client, &rows, &row),
                5 => drop(rows.remove(&mut txn, &row)),
                6 => text.insert(&mut txn, 0, "noise "),
                7 => drop(array.insert(&mut txn, 0, MapPrelim::from([("k0", "noise")]))),
                other => match rows.get(&txn, &row) {
                    Some(Out::YMap(map)) if other < 14 => self.write_cell(&mut txn, client, &map, &row, &key),
                    Some(Out::YMap(map)) => drop(map.remove(&mut txn, &key)),
                    _ => self.write_row(&mut txn, client, &rows, &row),
                },
            }
        }
        let update = txn.encode_update_v1();
        drop(txn);
        self.replicas[at].queue.push(update);
    }

    fn write_cell(&mut self, txn: &mut TransactionMut<'_>, client: u64, map: &MapRef, row: &str, key: &str) {
        let creator = id_of(txn, &Out::YMap(map.clone()));
        match map.get(txn, "k2") {
            Some(Out::YMap(inner)) if self.chance.below(2) == 0 => {
                let creator = id_of(txn, &Out::YMap(inner.clone()));
                self.write(txn, client, &inner, &["rows", row, "k2"], creator, key);
            }
            _ if key == "k2" && self.chance.below(2) == 0 => {
                let path = ["rows", row, "k2"];
                self.create(txn, client, map, &path, creator);
            }
            _ => self.write(txn, client, map, &["rows", row], creator, key),
        }
    }

    fn write_row(&mut self, txn: &mut TransactionMut<'_>, client: u64, rows: &MapRef, row: &str) {
        let id = next_id(txn, client);
        self.create(txn, client, rows, &["rows", row], None);
        let Some(Out::YMap(map)) = rows.get(txn, row) else { panic!("it was created above") };
        for cell in 0..self.chance.below(3) {
            self.write(txn, client, &map, &["rows", row], Some(id), &format!("k{cell}"));
        }
    }

    /// A map that says in itself which item created it.
    fn create(
        &mut self,
        txn: &mut TransactionMut<'_>,
        client: u64,
        map: &MapRef,
        path: &[&str],
        in_map: Option<EntryId>,
    ) {
        let id = next_id(txn, client);
        self.note(txn, id, path.iter().map(|part| (*part).to_owned()).collect(), in_map);
        let inner = map.insert(txn, *path.last().expect("a key"), MapPrelim::default());
        let own = next_id(txn, client);
        let path: Path = path.iter().chain(&["$id"]).map(|part| (*part).to_owned()).collect();
        self.note(txn, own, path, Some(id));
        inner.insert(txn, "$id", Any::from(vec![Any::from(name(own)), Any::from(name(id))]));
    }

    fn write(
        &mut self,
        txn: &mut TransactionMut<'_>,
        client: u64,
        map: &MapRef,
        path: &[&str],
        in_map: Option<EntryId>,
        key: &str,
    ) {
        let id = next_id(txn, client);
        let path = path.iter().copied().chain([key]).map(str::to_owned).collect();
        self.note(txn, id, path, in_map);
        match self.chance.below(6) {
            0 => drop(map.insert(txn, key, TextPrelim::new(name(id)))),
            1 => drop(map.insert(txn, key, Any::from(vec![Any::from(name(id)), Any::Null]))),
            _ => drop(map.insert(txn, key, name(id))),
        }
    }

    fn note(&mut self, txn: &TransactionMut<'_>, id: EntryId, path: Path, map: Option<EntryId>) {
        let seen = txn.state_vector().iter().map(|(client, &clock)| (client.get(), clock)).collect();
        self.truths.insert(id, Truth { path, map, seen });
    }

    fn push_each(&mut self, at: usize) {
        for update in std::mem::take(&mut self.replicas[at].queue) {
            self.arrive(&update);
        }
    }

    fn push_joined(&mut self, at: usize) {
        let queue = std::mem::take(&mut self.replicas[at].queue);
        if queue.len() > 1 {
            self.arrive(&merge_updates_v1(&queue).expect("the engine wrote them"));
        }
    }

    fn push_difference(&mut self, at: usize) {
        let known = self.server.transact().state_vector();
        let update = self.replicas[at].doc.transact().encode_diff_v1(&known);
        self.replicas[at].queue.clear();
        self.arrive(&update);
    }

    /// What two wrote, in one update: so it comes from a tab that speaks for others, or through a bus.
    fn push_two(&mut self, at: usize) {
        let other = (at + 1) % self.replicas.len();
        let mut queue = std::mem::take(&mut self.replicas[at].queue);
        queue.append(&mut self.replicas[other].queue);
        if queue.len() > 1 {
            self.counts.merged += 1;
            self.arrive(&merge_updates_v1(&queue).expect("the engine wrote them"));
        }
    }

    fn pull(&mut self, at: usize) {
        let doc = &self.replicas[at].doc;
        let known = doc.transact().state_vector();
        let update = self.server.transact().encode_diff_v1(&known);
        apply(doc, &update);
    }

    /// One replica learns from another, without the server.
    fn relay(&mut self, at: usize) {
        let other = (at + 1) % self.replicas.len();
        let (from, to) = (&self.replicas[other].doc, &self.replicas[at].doc);
        let update = from.transact().encode_diff_v1(&to.transact().state_vector());
        apply(to, &update);
    }

    /// The server gets an update; one that is not ready is dropped, what it says comes again with a difference.
    fn arrive(&mut self, update: &[u8]) {
        let summary = validate(update, &UpdateLimits::default()).expect("the engine wrote it");
        let known: StateVector =
            self.server.transact().state_vector().iter().map(|(client, &clock)| (client.get(), clock)).collect();
        if summary.has_gap() || summary.readiness(&known) != Readiness::Ready {
            return;
        }
        self.counts.updates += 1;
        let before = shown(&self.server);
        let touches = self.entries.survey(update).expect("it was accepted");
        self.apply_and_settle(update);
        let after = shown(&self.server);
        let new = |id: &EntryId| {
            summary.ranges().iter().any(|r| r.client == id.client && (r.start..r.end).contains(&id.clock))
                && known.clock(id.client) <= id.clock
        };
        let new: HashSet<EntryId> = self.truths.keys().copied().filter(new).collect();
        for touch in &touches {
            self.judge(touch, &before, &after, &new);
        }
        let covered =
            |id: &EntryId| summary.deletes().any(|r| r.client == id.client && (r.start..r.end).contains(&id.clock));
        for (path, (map, id)) in &before {
            let touch = touches.iter().find(|touch| text_path(&touch.path) == *path && touch.map == *map);
            assert_eq!(touch.is_some_and(|touch| touch.deletes_current), covered(id), "{path:?}");
        }
        self.nothing_is_overlooked(&touches, &before, &after, &new);
    }

    fn apply_and_settle(&mut self, update: &[u8]) {
        let decoded = Update::decode_v1(update).expect("the engine wrote it");
        let server = self.server.clone();
        let mut txn = server.transact_mut();
        txn.apply_update(decoded).expect("it is ready");
        let deleted = txn.delete_set();
        let is_deleted = |client, clock| deleted.contains(&ID::new(ClientID::new(client), clock));
        self.entries.settle(update, is_deleted).expect("it was accepted");
    }

    fn judge(
        &mut self,
        touch: &Touch,
        before: &BTreeMap<Path, (Option<EntryId>, EntryId)>,
        after: &BTreeMap<Path, (Option<EntryId>, EntryId)>,
        new: &HashSet<EntryId>,
    ) {
        let path = text_path(&touch.path);
        let current = before.get(&path).filter(|(map, _)| *map == touch.map).map(|&(_, id)| id);
        assert_eq!(touch.current, current, "{path:?}");
        assert!(!touch.deletes_current || after.get(&path).is_none_or(|(_, id)| Some(*id) != current), "{path:?}");
        assert!(touch.deletes_current || !touch.writes.is_empty(), "{path:?} is not touched");
        self.counts.hidden += u64::from(touch.standing == Standing::Hidden);
        for written in &touch.writes {
            assert!(new.contains(&written.id), "{:?} is no new write: {touch:?}", written.id);
            let truth = &self.truths[&written.id];
            assert_eq!((&truth.path, truth.map), (&path, touch.map));
            self.counts.writes += 1;
            self.counts.gone += u64::from(written.content == Content::Gone);
            let Some(current) = current else {
                assert!(!written.is_concurrent, "{path:?}: there was nothing");
                continue;
            };
            self.counts.current_before += 1;
            let had_seen = truth.had_seen(current);
            let inherits = || {
                let others = new.iter().filter(|other| **other != written.id && truth.had_seen(**other));
                let mut beside = others.map(|other| &self.truths[other]).filter(|other| other.path == path);
                beside.any(|other| other.map == truth.map && !other.had_seen(current))
            };
            match (written.is_concurrent, had_seen) {
                (true, false) => self.counts.conflicts += 1,
                (false, true) => {}
                (false, false) => panic!("missed: {:?} at {path:?} had not seen {current:?}", written.id),
                (true, true) if inherits() => self.counts.inherited += 1,
                (true, true) => panic!("false alarm: {:?} at {path:?} had seen {current:?}", written.id),
            }
        }
        let slot = |id: &EntryId| (&self.truths[id].path, self.truths[id].map) == (&path, touch.map);
        let beside: Vec<EntryId> = new.iter().copied().filter(slot).collect();
        let unknown = |one: EntryId, other: EntryId| !self.truths[&one].had_seen(other) && one != other;
        let strangers = |ids: &[EntryId]| {
            ids.iter().any(|&one| ids.iter().any(|&other| unknown(one, other) && unknown(other, one)))
        };
        assert!(strangers(&beside) || !touch.has_rivals(), "no rivals at {path:?}: {:?}", touch.writes);
        // Those that were collected on the way cannot be told from what was never written.
        let beside: Vec<EntryId> = beside.into_iter().filter(|id| self.entries.find(*id).is_some()).collect();
        let apart = touch.last_writes().count() > 1;
        assert!(apart || !strangers(&beside), "rivals at {path:?}: {:?}", touch.writes);
        self.counts.rivals += u64::from(touch.has_rivals());
        self.counts.apart += u64::from(apart && !touch.has_rivals());
    }

    fn nothing_is_overlooked(
        &self,
        touches: &[Touch],
        before: &BTreeMap<Path, (Option<EntryId>, EntryId)>,
        after: &BTreeMap<Path, (Option<EntryId>, EntryId)>,
        new: &HashSet<EntryId>,
    ) {
        let paths: HashSet<Path> = touches.iter().map(|touch| text_path(&touch.path)).collect();
        let touched = |path: &Path| (2..=path.len()).any(|length| paths.contains(&path[..length]));
        for path in before.keys().chain(after.keys()) {
            assert!(before.get(path) == after.get(path) || touched(path), "{path:?} changed and was not touched");
        }
        // Collected items have no place any more: their map was deleted where they come from.
        for (id, place) in new.iter().filter_map(|id| Some((id, self.entries.find(*id)?))) {
            let slot = |touch: &&Touch| touch.path == place.path && touch.map == place.map;
            let touch = touches.iter().find(slot).unwrap_or_else(|| panic!("{id:?} is in no touch"));
            // Squashed ones are stood for by their last.
            assert!(touch.writes.iter().any(|w| w.id.client == id.client && w.id.clock >= id.clock), "{id:?}");
        }
    }

    /// The index is that of a server that starts now, and shows what the engine shows.
    fn agree(&self) {
        let state = self.server.transact().encode_diff_v1(&yrs::StateVector::default());
        let fresh = Entries::read(&state).expect("the engine wrote it");
        let known = self.server.transact().state_vector();
        for (client, &clocks) in known.iter() {
            for clock in 0..clocks {
                let id = EntryId { client: client.get(), clock };
                assert_eq!(self.entries.find(id), fresh.find(id), "{id:?}");
                if let (Some(place), Some(truth)) = (fresh.find(id), self.truths.get(&id)) {
                    assert_eq!((text_path(&place.path), place.map), (truth.path.clone(), truth.map));
                }
            }
        }
        let engine: BTreeMap<Path, EntryId> =
            shown(&self.server).into_iter().map(|(path, (_, id))| (path, id)).collect();
        let collected = document(2, false);
        apply(&collected, &state);
        let collected = collected.transact().encode_diff_v1(&yrs::StateVector::default());
        let collected = Entries::read(&collected).expect("the engine wrote it");
        for entries in [&self.entries, &fresh, &collected] {
            let ours: BTreeMap<Path, EntryId> = entries.shown().map(|(path, id)| (text_path(&path), id)).collect();
            assert_eq!(ours, engine);
            for (path, id) in &engine {
                let path: Vec<&str> = path.iter().map(String::as_str).collect();
                assert_eq!(entries.current(&path), Some(*id));
            }
        }
    }
}

fn apply(doc: &Doc, update: &[u8]) {
    let update = Update::decode_v1(update).expect("the engine wrote it");
    doc.transact_mut().apply_update(update).expect("the engine wrote it");
}

fn trial(seed: u64) -> Counts {
    let mut world = World::new(seed);
    for _ in 0..STEPS {
        world.step();
    }
    world.agree();
    for at in 0..world.replicas.len() {
        world.push_difference(at);
    }
    world.agree();
    world.counts
}

#[test]
fn a_write_is_a_conflict_exactly_when_its_writer_had_not_seen_what_it_replaces() {
    if let Some(seed) = std::env::var("ENTRIES_SEED").ok().and_then(|seed| seed.parse().ok()) {
        println!("{:?}", trial(seed));
        return;
    }
    let mut all = Counts::default();
    for seed in 0..TRIALS {
        let counts = std::panic::catch_unwind(|| trial(seed));
        let counts = counts.unwrap_or_else(|_| panic!("replay with ENTRIES_SEED={seed}"));
        all.trials += counts.trials;
        all.updates += counts.updates;
        all.merged += counts.merged;
        all.writes += counts.writes;
        all.current_before += counts.current_before;
        all.conflicts += counts.conflicts;
        all.inherited += counts.inherited;
        all.rivals += counts.rivals;
        all.apart += counts.apart;
        all.hidden += counts.hidden;
        all.gone += counts.gone;
    }
    println!("0 misses, 0 false alarms: {all:#?}");
    assert!(all.conflicts > 1_000 && all.rivals > 100 && all.hidden > 100, "too little happened: {all:?}");
}
