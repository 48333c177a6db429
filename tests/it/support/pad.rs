//! A replica, and the notes that its owner wrote into it: each can be found again, so that a lost one is missed.

use std::collections::BTreeMap;
use std::collections::HashSet;

use bytes::Bytes;
use rand::RngExt;
use rand::rngs::StdRng;
use syncline_protocol::update::ClientRange;
use syncline_protocol::update::UpdateLimits;
use syncline_protocol::update::validate;
use yrs::Any;
use yrs::ClientID;
use yrs::Doc;
use yrs::GetString;
use yrs::ID;
use yrs::Map;
use yrs::MapRef;
use yrs::OffsetKind;
use yrs::Options;
use yrs::Out;
use yrs::ReadTxn;
use yrs::StateVector;
use yrs::Text;
use yrs::TextRef;
use yrs::Transact;
use yrs::TransactionMut;
use yrs::Update;
use yrs::updates::decoder::Decode;
use yrs::updates::encoder::Encode;

/// Ends every note in the text. Outside the basic plane, so that offsets count.
const STOP: char = '\u{1d11e}';

/// A replica with one owner.
pub(crate) struct Pad {
    client: u64,
    doc: Doc,
    text: TextRef,
    map: MapRef,
    notes: Vec<Note>,
    count: u64,
    /// The count in the map, and our clock after each change of it.
    counted: Vec<(u64, u32)>,
    acknowledged: Vec<ClientRange>,
    acknowledged_deletes: Vec<ClientRange>,
}

/// Something written once and perhaps deleted later.
struct Note {
    words: String,
    written: u32,
    deleted: Option<Vec<ClientRange>>,
}

impl Pad {
    pub(crate) fn new(client: u64) -> Self {
        let mut options = Options::with_client_id(ClientID::new(client));
        options.offset_kind = OffsetKind::Utf16;
        options.skip_gc = true;
        let doc = Doc::with_options(options);
        let (text, map) = (doc.get_or_insert_text("text"), doc.get_or_insert_map("map"));
        let (notes, counted, acknowledged, acknowledged_deletes) = Default::default();
        Self { client, doc, text, map, notes, count: 0, counted, acknowledged, acknowledged_deletes }
    }

    /// A replica of these states.
    pub(crate) fn of(states: &[&[u8]]) -> Self {
        let mut pad = Self::new(1);
        states.iter().for_each(|state| pad.apply(state));
        pad
    }

    // ---- as an editor --------------------------------------------------------------------------------------------

    /// Any edit: mostly a new note, sometimes a deleted one or a count.
    pub(crate) fn edit(&mut self, rng: &mut StdRng) -> Bytes {
        match rng.random_range(0..10) {
            0..3 => self.delete(rng),
            3..5 => self.count(),
            _ => {
                let place = rng.random_range(0..=u32::MAX);
                self.write(place)
            }
        }
    }

    /// Writes a new note between two others; `place` chooses which.
    pub(crate) fn write(&mut self, place: u32) -> Bytes {
        let words = format!("{}:{}{STOP}", self.client, self.notes.len());
        let before = self.text();
        let ends: Vec<usize> = before.match_indices(STOP).map(|(at, _)| at + STOP.len_utf8()).collect();
        let at = ends.get(place as usize % (ends.len() + 1)).copied().unwrap_or(0);
        let (text, insert) = (self.text.clone(), words.clone());
        let update = self.change(|txn| text.insert(txn, utf16(&before[..at]), &insert));
        self.notes.push(Note { words, written: self.clock(), deleted: None });
        update
    }

    /// Text at the start that is nobody's note.
    pub(crate) fn paste(&mut self, words: &str) -> Bytes {
        let text = self.text.clone();
        self.change(|txn| text.insert(txn, 0, words))
    }

    fn delete(&mut self, rng: &mut StdRng) -> Bytes {
        let alive: Vec<usize> = (0..self.notes.len()).filter(|&n| self.notes[n].deleted.is_none()).collect();
        let Some(&chosen) = alive.get(rng.random_range(0..alive.len().max(1))) else { return self.write(0) };
        let (text, before, words) = (self.text.clone(), self.text(), self.notes[chosen].words.clone());
        let at = found(&before, &words).expect("our own note is in our own text");
        let update = self.change(|txn| text.remove_range(txn, utf16(&before[..at]), utf16(&words)));
        self.notes[chosen].deleted = Some(summary(&update).1);
        update
    }

    fn count(&mut self) -> Bytes {
        self.count += 1;
        let (map, key, count) = (self.map.clone(), self.client.to_string(), self.count);
        let update = self.change(|txn| {
            map.insert(txn, key, count.to_string());
        });
        self.counted.push((count, self.clock()));
        update
    }

    fn change(&mut self, change: impl FnOnce(&mut TransactionMut)) -> Bytes {
        let mut txn = self.doc.transact_mut();
        change(&mut txn);
        txn.commit();
        txn.encode_update_v1().into()
    }

    // ---- as a replica --------------------------------------------------------------------------------------------

    pub(crate) fn apply(&mut self, update: &[u8]) {
        self.doc.transact_mut().apply_update(Update::decode_v1(update).unwrap()).unwrap();
    }

    pub(crate) fn state_vector(&self) -> Bytes {
        self.doc.transact().state_vector().encode_v1().into()
    }

    pub(crate) fn diff(&self, state_vector: &[u8]) -> Bytes {
        self.doc.transact().encode_diff_v1(&StateVector::decode_v1(state_vector).unwrap()).into()
    }

    pub(crate) fn text(&self) -> String {
        self.text.get_string(&self.doc.transact())
    }

    fn counts(&self) -> BTreeMap<String, i64> {
        let txn = self.doc.transact();
        let number = |(key, value): (&str, Out)| match value {
            Out::Any(Any::String(n)) => (key.to_owned(), n.parse().unwrap()),
            other => panic!("{key} is {other:?}"),
        };
        self.map.iter(&txn).map(number).collect()
    }

    /// Equal replicas have the same words, counts, clocks and deletions.
    pub(crate) fn equals(&self, other: &Self) -> bool {
        let (ours, theirs) = (self.doc.transact(), other.doc.transact());
        let equal =
            ours.state_vector() == theirs.state_vector() && ours.snapshot().delete_set == theirs.snapshot().delete_set;
        drop((ours, theirs));
        equal && self.text() == other.text() && self.counts() == other.counts()
    }

    // ---- what was promised -----------------------------------------------------------------------------------------

    /// The server has promised to keep this.
    pub(crate) fn acknowledge(&mut self, update: &[u8]) {
        let (structs, deletes) = summary(update);
        self.acknowledged.extend(structs);
        self.acknowledged_deletes.extend(deletes);
    }

    /// What of the promises `kept` lacks; empty when all is there.
    pub(crate) fn lost_in(&self, kept: &Self) -> Vec<String> {
        let mut lost = Vec::new();
        let (clocks, deleted) = {
            let txn = kept.doc.transact();
            (txn.state_vector(), txn.snapshot().delete_set)
        };
        let missing = |range: &&ClientRange| clocks.get(&ClientID::new(range.client)) < range.end;
        lost.extend(self.acknowledged.iter().filter(missing).map(|range| format!("structs {range:?}")));
        let is_deleted = |client, clock| deleted.contains(&ID::new(ClientID::new(client), clock));
        let undeleted = |range: &&ClientRange| !(range.start..range.end).all(|clock| is_deleted(range.client, clock));
        lost.extend(self.acknowledged_deletes.iter().filter(undeleted).map(|range| format!("deletion {range:?}")));
        lost.extend(self.lost_content(kept));
        lost
    }

    /// The same question by what a person sees.
    fn lost_content(&self, kept: &Self) -> Vec<String> {
        let (text, counts) = (kept.text(), kept.counts());
        let words: HashSet<&str> = text.split_inclusive(STOP).collect();
        let own = self.acknowledged.iter().filter(|range| range.client == self.client);
        let until = own.map(|range| range.end).max().unwrap_or(0);
        let promised_deletion = |ranges: &Vec<ClientRange>| {
            let covered = |range: &ClientRange, clock| {
                let of = |r: &&ClientRange| r.client == range.client && (r.start..r.end).contains(&clock);
                self.acknowledged_deletes.iter().any(|deleted| of(&deleted))
            };
            ranges.iter().all(|range| (range.start..range.end).all(|clock| covered(range, clock)))
        };
        let mut lost = Vec::new();
        for note in self.notes.iter().filter(|note| note.written <= until) {
            let there = words.contains(note.words.as_str());
            match &note.deleted {
                None if !there => lost.push(format!("note {}", note.words)),
                Some(ranges) if there && promised_deletion(ranges) => lost.push(format!("deletion of {}", note.words)),
                _ => {}
            }
        }
        let promised = self.counted.iter().filter(|(_, clock)| *clock <= until).map(|(count, _)| *count as i64).max();
        let kept = counts.get(&self.client.to_string()).copied();
        if promised > kept {
            lost.push(format!("count {promised:?}, found {kept:?}"));
        }
        lost
    }

    fn clock(&self) -> u32 {
        self.doc.transact().state_vector().get(&ClientID::new(self.client))
    }
}

fn found(text: &str, words: &str) -> Option<usize> {
    let mut at = 0;
    for part in text.split_inclusive(STOP) {
        if part == words {
            return Some(at);
        }
        at += part.len();
    }
    None
}

fn utf16(text: &str) -> u32 {
    u32::try_from(text.encode_utf16().count()).unwrap()
}

/// Structs and deletions of an update.
pub(crate) fn summary(update: &[u8]) -> (Vec<ClientRange>, Vec<ClientRange>) {
    let limits = UpdateLimits { bytes_max: usize::MAX, ..UpdateLimits::default() };
    let summary = validate(update, &limits).expect("our own updates are valid");
    (summary.ranges().to_vec(), summary.deletes().collect())
}
