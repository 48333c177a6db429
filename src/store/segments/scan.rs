//! Reads a segment from its first byte to its last, when its table of contents is missing: after a crash, or damaged.
//!
//! Behind the last entry there may be room: zeros, for what would have been written next. That is the clean end. What was
//! being written when the machine stopped can lie in room in pieces, the later ones without the earlier ones, for a disk
//! keeps no order. Such a hole is told from damage by two things: nothing of a later round stands behind it, though a
//! round is begun only when the one before it is durable; and some sector of it is still room. Nobody was told that
//! anything in that round was kept, so it hurts no document; what is whole of it stays.
//!
//! Memory is bounded by the largest entry. Where the place is lost, the next entry, or the end of the spoilt one, is
//! searched for byte by byte. What was skipped is known by name where a header or a trailer is left of it. Where nothing
//! is left, the next roster tells which documents were written to, and how far. Only for a hole behind the last roster
//! nothing is known: then every document that has entries in the segment before the hole and none after it may have lost
//! its last one.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;

use crate::store::record;
use crate::store::record::StoredContents;
use crate::store::record::StoredExtent;
use crate::store::record::StoredLoss;
use crate::store::record::StoredNote;
use crate::store::record::StoredStanding;
use crate::store::segments::frame;
use crate::store::segments::frame::Header;
use crate::store::segments::frame::Kind;
use crate::store::segments::frame::Place;
use crate::store::segments::frame::Trailer;
use crate::store::segments::window::WINDOW_BYTES;
use crate::store::segments::window::Window;

/// Where the first entry of a segment starts.
pub(crate) const SEGMENT_HEADER_BYTES: u64 = 16;

/// What a scan found.
#[derive(Debug, Default)]
pub(crate) struct Scan {
    pub(crate) docs: BTreeMap<String, StoredContents>,
    /// End of the last whole entry. What follows is room, or a torn tail.
    pub(crate) end: u64,
    /// Bytes of what was being written when the machine stopped, before and behind `end`.
    pub(crate) torn: u64,
    /// Entries that were whole.
    pub(crate) entries: u64,
    /// Ranges that could not be read, each with what is known about it.
    pub(crate) holes: Vec<Hole>,
}

/// A damaged place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hole {
    pub(crate) from: u64,
    pub(crate) to: u64,
    /// The document whose entry it was, where that is known.
    pub(crate) doc: Option<String>,
}

/// Scans a whole segment.
pub(crate) fn scan(file: &File, salt: u32) -> io::Result<Scan> {
    let window = Window::over(file)?;
    let mut scanner = Scanner {
        salt,
        found: Scan { end: SEGMENT_HEADER_BYTES.min(window.len), ..Scan::default() },
        window,
        round: 0,
        told: SEGMENT_HEADER_BYTES,
        seen: BTreeMap::new(),
        hidden: Vec::new(),
        lost: Vec::new(),
        rosters: Vec::new(),
        standings: BTreeMap::new(),
    };
    scanner.run()?;
    scanner.forgive()?;
    Ok(scanner.finish())
}

struct Scanner<'a> {
    window: Window<'a>,
    salt: u32,
    found: Scan,
    /// Where the round began that the last entry belongs to.
    round: u64,
    /// End of the last entry that tells where its round began.
    told: u64,
    /// Where each document was met last.
    seen: BTreeMap<String, u64>,
    /// Holes of which nothing is left, by their ends.
    hidden: Vec<(u64, u64)>,
    /// Spoilt entries of which something is left.
    lost: Vec<Lost>,
    /// Rosters: where they are, and since where they tell.
    rosters: Vec<(u64, u64)>,
    standings: BTreeMap<String, StoredStanding>,
}

enum Next {
    Entry(u64),
    Trailer(u64, Trailer),
}

/// An entry that cannot be read, and whose it was.
struct Lost {
    from: u64,
    to: u64,
    name: String,
    loss: StoredLoss,
}

impl Scanner<'_> {
    fn run(&mut self) -> io::Result<()> {
        let mut at = SEGMENT_HEADER_BYTES;
        while at < self.window.len {
            match self.step(at)? {
                Some(next) => at = next,
                None => return Ok(()),
            }
        }
        Ok(())
    }

    /// Takes what is at `at`; answers where to go on, or nothing when only a torn tail is left.
    fn step(&mut self, at: u64) -> io::Result<Option<u64>> {
        let head = frame::header(self.window.slice(at, frame::HEADER_BYTES_MAX)?, self.salt);
        let Some((header, sum)) = head else { return self.skip(at) };
        let end = at + header.frame_bytes() as u64;
        let bytes = self.window.slice(at, header.frame_bytes())?;
        if bytes.len() < header.frame_bytes() {
            return self.skip(at);
        }
        let Some(body) = frame::body(bytes, &header, sum, self.salt) else {
            return self.spoilt(at, end, &header);
        };
        // A note that says something else than a note would is damage that the checksum cannot show.
        let note = if header.kind == Kind::Note { record::unseal::<StoredNote>(body).ok() } else { None };
        let roster = if header.kind == Kind::Roster { record::unseal(body).ok() } else { None };
        let trailer = frame::trailer(&bytes[frame::trailer_distance(&header)..], self.salt);
        if trailer.is_none() && self.search(end)?.is_none() {
            // All of it but its end: the machine stopped while it was written.
            return Ok(None);
        }
        self.enter_round(at, end, trailer.as_ref())?;
        if header.kind == Kind::Roster {
            let standings: Vec<StoredStanding> = roster.unwrap_or_default();
            self.rosters.push((at, header.first));
            // Later rosters know better.
            self.standings.extend(standings.into_iter().map(|standing| (standing.name.clone(), standing)));
        }
        self.absorb(at, &header, note);
        self.found.end = end;
        Ok(Some(end))
    }

    fn absorb(&mut self, at: u64, header: &Header, note: Option<StoredNote>) {
        self.found.entries += 1;
        if matches!(header.kind, Kind::Probe | Kind::Roster) {
            return;
        }
        self.seen.insert(header.name.clone(), at);
        let doc = contents(&mut self.found.docs, &header.name);
        if header.kind == Kind::Append {
            extend(&mut doc.extents, at, header);
        } else if let Some(note) = note {
            if doc.note.as_ref().is_none_or(|had| had.version <= note.version) {
                doc.note = Some(note);
            }
        } else {
            doc.losses.push(StoredLoss { epoch: header.epoch, last: 0, note: header.first, possible: false });
        }
    }

    /// The header is good and the body is not.
    fn spoilt(&mut self, at: u64, end: u64, header: &Header) -> io::Result<Option<u64>> {
        let trailer_at = at + frame::trailer_distance(header) as u64;
        let trailer = frame::trailer(self.window.slice(trailer_at, frame::TRAILER_BYTES_MAX)?, self.salt);
        if trailer.is_none() && self.search(end)?.is_none() {
            // Nothing good behind it: a write that the machine did not finish, and that nobody was told of.
            return Ok(None);
        }
        self.enter_round(at, end, trailer.as_ref())?;
        let note = if header.kind == Kind::Note { header.first } else { 0 };
        let last = if header.kind == Kind::Append { header.last() } else { 0 };
        self.lose(at, end, header.kind, &header.name, StoredLoss { epoch: header.epoch, last, note, possible: false });
        Ok(Some(end))
    }

    /// The header is not good: search for what is.
    fn skip(&mut self, at: u64) -> io::Result<Option<u64>> {
        let (from, end) = match self.search(at + 1)? {
            None => return Ok(None),
            Some(Next::Entry(next)) => (next, next),
            Some(Next::Trailer(place, trailer)) => {
                let start = place.saturating_sub(trailer.distance.into());
                let end = place + trailer.bytes as u64;
                (self.round, self.told) = (round_of(start, &trailer), end);
                let (last, note) = if trailer.kind == Kind::Note { (0, trailer.last) } else { (trailer.last, 0) };
                let loss = StoredLoss { epoch: trailer.epoch, last, note, possible: false };
                self.lose(start.max(at), end, trailer.kind, &trailer.name, loss);
                (if start < at { end } else { start }, end)
            }
        };
        if from > at {
            self.hidden.push((at, from));
        }
        self.found.end = end;
        Ok(Some(end))
    }

    /// Notes which round the entry at `at..end` belongs to. One whose trailer is still room belongs to a round that was not
    /// finished, so to none that began behind the one before; one whose trailer is spoilt may be a round by itself.
    fn enter_round(&mut self, at: u64, end: u64, trailer: Option<&Trailer>) -> io::Result<()> {
        match trailer {
            Some(trailer) => (self.round, self.told) = (round_of(at, trailer), end),
            None if self.window.has_room_in(at, end, at)? => {}
            None => self.round = at,
        }
        Ok(())
    }

    fn lose(&mut self, from: u64, to: u64, kind: Kind, name: &str, loss: StoredLoss) {
        self.found.end = to;
        if matches!(kind, Kind::Probe | Kind::Roster) {
            return;
        }
        self.seen.insert(name.to_owned(), from);
        self.lost.push(Lost { from, to, name: name.to_owned(), loss });
    }

    /// The next place at or after `at` where a header or a trailer reads well.
    fn search(&mut self, mut at: u64) -> io::Result<Option<Next>> {
        while at < self.window.len {
            let bytes = self.window.slice(at, WINDOW_BYTES + frame::HEADER_BYTES_MAX)?;
            let starts = bytes.len().min(WINDOW_BYTES);
            for (i, &byte) in bytes.iter().enumerate().take(starts) {
                let place = at + i as u64;
                if byte == frame::HEADER_MAGIC[0] && frame::header(&bytes[i..], self.salt).is_some() {
                    return Ok(Some(Next::Entry(place)));
                }
                if byte == frame::TRAILER_MAGIC[0]
                    && let Some(trailer) = frame::trailer(&bytes[i..], self.salt)
                {
                    return Ok(Some(Next::Trailer(place, trailer)));
                }
            }
            at += starts.max(1) as u64;
        }
        Ok(None)
    }

    /// Takes what was being written when the machine stopped off the lists of damage.
    fn forgive(&mut self) -> io::Result<()> {
        self.found.torn = self.window.written_end(self.found.end)? - self.found.end;
        let (window, torn, round, told) = (&mut self.window, &mut self.found.torn, self.round, self.told);
        let mut stays = |from: u64, to: u64| {
            // Behind the last entry that tells its round, a hole may be where another round began.
            let since = if from >= told { from } else { round };
            let unfinished = from >= round && window.has_room_in(from, to, since)?;
            *torn += if unfinished { to - from } else { 0 };
            io::Result::Ok(!unfinished)
        };
        for (from, to) in std::mem::take(&mut self.hidden) {
            if stays(from, to)? {
                self.hidden.push((from, to));
            }
        }
        for lost in std::mem::take(&mut self.lost) {
            if stays(lost.from, lost.to)? {
                self.lost.push(lost);
            }
        }
        Ok(())
    }

    fn finish(mut self) -> Scan {
        let hidden = self.hidden.iter().map(|&(from, to)| Hole { from, to, doc: None });
        self.found.holes.extend(hidden);
        for Lost { from, to, name, loss } in std::mem::take(&mut self.lost) {
            contents(&mut self.found.docs, &name).losses.push(loss);
            self.found.holes.push(Hole { from, to, doc: Some(name) });
        }
        self.found.holes.sort_by_key(|hole| hole.from);
        if !self.hidden.is_empty() {
            self.compare_with_rosters();
        }
        let told = |hole: &(u64, u64)| self.rosters.iter().any(|&(at, since)| since <= hole.0 && at >= hole.1);
        let untold = self.hidden.iter().filter(|hole| !told(hole)).map(|hole| hole.0).max();
        let Some(hidden_at) = untold else { return self.found };
        for (name, doc) in &mut self.found.docs {
            if self.seen.get(name).is_some_and(|&at| at < hidden_at) {
                let epoch = doc.extents.iter().map(|e| e.epoch).chain(doc.note.as_ref().map(|n| n.epoch)).max();
                doc.losses.push(StoredLoss { epoch: epoch.unwrap_or(0), last: 0, note: 0, possible: true });
            }
        }
        self.found
    }

    /// What a roster has seen must be here, or in an older segment: a document that is not found there as far has lost
    /// something.
    fn compare_with_rosters(&mut self) {
        for (name, standing) in std::mem::take(&mut self.standings) {
            let doc = contents(&mut self.found.docs, &name);
            let runs = doc.extents.iter().filter(|e| e.epoch == standing.epoch);
            let last = runs.map(|e| e.last).max().unwrap_or(0);
            let noted = doc.note.as_ref().map_or(0, |note| note.version);
            if last < standing.last || noted < standing.note {
                let StoredStanding { epoch, last, note, .. } = standing;
                doc.losses.push(StoredLoss { epoch, last, note, possible: false });
            }
        }
    }
}

fn contents<'a>(docs: &'a mut BTreeMap<String, StoredContents>, name: &str) -> &'a mut StoredContents {
    docs.entry(name.to_owned()).or_insert_with(|| StoredContents { name: name.to_owned(), ..StoredContents::default() })
}

/// Where the round began that an entry at `at` belongs to.
fn round_of(at: u64, trailer: &Trailer) -> u64 {
    at.saturating_sub(trailer.in_round.into())
}

/// Links an entry to the run whose head it names, or starts a new run with it.
fn extend(extents: &mut Vec<StoredExtent>, at: u64, header: &Header) {
    let place = Place { offset: at, bytes: u32::try_from(header.frame_bytes()).unwrap_or(u32::MAX) };
    match extents.iter_mut().find(|e| e.head == header.prev.offset && e.epoch == header.epoch) {
        Some(run) => run.lengthen(header, place),
        None => extents.push(StoredExtent::of(header, place)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::sample::Index;

    use super::*;
    use crate::store::segments::round::plain;

    const SALT: u32 = 7;

    /// Rounds of appends, one per document and each to a document of its own, with room behind.
    struct Image {
        bytes: Vec<u8>,
        /// Where each round begins, and where the last one ends.
        rounds: Vec<usize>,
        /// Where each entry lies, and whose it is.
        entries: Vec<(usize, usize, String)>,
    }

    fn image(rounds: &[Vec<usize>]) -> Image {
        let mut image = Image { bytes: vec![1; 16], rounds: vec![16], entries: Vec::new() };
        for bodies in rounds {
            let (mut round, base) = (Vec::new(), image.bytes.len());
            for &body_bytes in bodies {
                let (from, name) = (base + round.len(), format!("doc {}", image.entries.len()));
                let mut header = Header { count: 1, ..plain(Kind::Append, &name, 0, 1) };
                frame::write(&mut round, SALT, &mut header, &vec![0xee; body_bytes]);
                image.entries.push((from, base + round.len(), name));
            }
            image.bytes.extend(round);
            image.rounds.push(image.bytes.len());
        }
        image.bytes.resize(image.bytes.len() + 3000, 0);
        image
    }

    fn scanned(bytes: &[u8]) -> Scan {
        let mut file = tempfile::tempfile().unwrap();
        std::io::Write::write_all(&mut file, bytes).unwrap();
        scan(&file, SALT).unwrap()
    }

    /// Documents that have all that they had, and those that say that they have not.
    fn verdict(scan: &Scan) -> (Vec<&str>, Vec<&str>) {
        let names = |of: fn(&&StoredContents) -> bool| {
            scan.docs.values().filter(of).map(|doc| doc.name.as_str()).collect::<Vec<_>>()
        };
        (names(|doc| !doc.extents.is_empty()), names(|doc| !doc.losses.is_empty()))
    }

    #[test]
    fn room_is_the_clean_end_however_much_of_it_there_is() {
        let image = image(&[vec![60, 60], vec![700]]);
        let end = *image.rounds.last().unwrap();
        for len in end..image.bytes.len() {
            let scan = scanned(&image.bytes[..len]);
            assert_eq!((scan.end, scan.torn, scan.entries, scan.holes), (end as u64, 0, 3, vec![]), "{len} bytes");
        }
    }

    #[test]
    fn a_write_cut_at_any_byte_is_a_torn_tail_with_room_behind_it_and_without() {
        let image = image(&[vec![60], vec![700]]);
        let (from, end) = (image.rounds[1], image.rounds[2]);
        for cut in from..end {
            let mut with_room = image.bytes.clone();
            with_room[cut..].fill(0);
            for bytes in [&image.bytes[..cut], &with_room] {
                let scan = scanned(bytes);
                assert_eq!((scan.end, scan.entries), (from as u64, 1), "cut at {cut}");
                assert!(scan.torn <= (cut - from) as u64, "cut at {cut}");
                assert_eq!(verdict(&scan), (vec!["doc 0"], vec![]), "cut at {cut}");
            }
            assert_eq!(scanned(&image.bytes[..cut]).torn > 0, cut > from, "cut at {cut}");
        }
    }

    #[test]
    fn zeros_before_the_last_round_are_damage_wherever_they_are() {
        let image = image(&[vec![60], vec![700], vec![60, 60], vec![60]]);
        let last = image.rounds[3];
        for from in 16..last {
            for len in [1, 64, 512, 1100] {
                let to = (from + len).min(last);
                let mut bytes = image.bytes.clone();
                bytes[from..to].fill(0);
                if bytes == image.bytes {
                    continue;
                }
                let scan = scanned(&bytes);
                assert_eq!(scan.end, image.rounds[4] as u64, "{from}..{to}: it is not the end");
                let hit = |entry: &&(usize, usize, String)| bytes[entry.0..entry.1] != image.bytes[entry.0..entry.1];
                for (_, _, name) in image.entries.iter().filter(hit) {
                    let (whole, says_so) = verdict(&scan);
                    let told = whole.contains(&name.as_str()) || says_so.contains(&name.as_str());
                    // Nothing of a document that is known from nowhere else can be named; the hole itself is.
                    assert!(told || !scan.holes.is_empty(), "{from}..{to}: {name} is gone");
                }
            }
        }
    }

    #[test]
    fn a_flipped_bit_in_the_last_round_is_damage_and_not_a_write_that_was_not_finished() {
        let image = image(&[vec![60], vec![700, 60]]);
        let (from, to, _) = image.entries[1];
        for at in from..to {
            let mut bytes = image.bytes.clone();
            bytes[at] ^= 0x10;
            let scan = scanned(&bytes);
            let (whole, says_so) = verdict(&scan);
            assert!(says_so.contains(&"doc 1") || whole.contains(&"doc 1"), "byte {at}");
            assert!(whole.contains(&"doc 2") && !says_so.contains(&"doc 2"), "byte {at}");
        }
    }

    proptest! {
        /// A disk keeps no order within a round: any of its sectors may still be room.
        #[test]
        fn a_round_that_arrived_in_pieces_hurts_nobody(
            before in prop::collection::vec(prop::collection::vec(1..900_usize, 1..4), 1..4),
            last in prop::collection::vec(1..3000_usize, 1..5),
            missing in prop::collection::vec(any::<Index>(), 1..6),
        ) {
            let image = image(&[before, vec![last]].concat());
            let (from, end) = (image.rounds[image.rounds.len() - 2], image.rounds[image.rounds.len() - 1]);
            let mut bytes = image.bytes.clone();
            for sector in missing.iter().map(|index| from / 512 + index.index(end / 512 - from / 512 + 1)) {
                bytes[(sector * 512).max(from)..(sector * 512 + 512).min(end)].fill(0);
            }
            let scan = scanned(&bytes);
            prop_assert_eq!(&scan.holes, &vec![]);
            let (whole, says_so) = verdict(&scan);
            prop_assert_eq!(says_so, Vec::<&str>::new());
            for (from, to, name) in &image.entries {
                let intact = bytes[*from..*to] == image.bytes[*from..*to];
                prop_assert!(!intact || whole.contains(&name.as_str()), "{} is whole and was dropped", name);
            }
        }
    }
}
