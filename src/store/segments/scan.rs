//! Reads a segment from its first byte to its last, when its table of contents is missing: after a crash, or damaged.
//!
//! Memory is bounded by the largest entry. Where the place is lost, the next entry, or the end of the spoilt one, is
//! searched for byte by byte. What was skipped is known by name where a header or a trailer is left of it. Where nothing
//! is left, the next roster tells which documents were written to, and how far. Only for a hole behind the last roster
//! nothing is known: then every document that has entries in the segment before the hole and none after it may have lost
//! its last one.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

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

/// Where the first entry of a segment starts.
pub(crate) const SEGMENT_HEADER_BYTES: u64 = 16;
/// How much is read at once.
const WINDOW_BYTES: usize = 256 << 10;

/// What a scan found.
#[derive(Debug, Default)]
pub(crate) struct Scan {
    pub(crate) docs: BTreeMap<String, StoredContents>,
    /// End of the last whole entry. What follows, if anything, is a torn tail.
    pub(crate) end: u64,
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
    let len = file.metadata()?.len();
    let mut scanner = Scanner {
        window: Window { file, len, start: 0, bytes: Vec::new() },
        salt,
        found: Scan { end: SEGMENT_HEADER_BYTES.min(len), ..Scan::default() },
        seen: BTreeMap::new(),
        hidden: Vec::new(),
        rosters: Vec::new(),
        standings: BTreeMap::new(),
    };
    scanner.run()?;
    Ok(scanner.finish())
}

struct Scanner<'a> {
    window: Window<'a>,
    salt: u32,
    found: Scan,
    /// Where each document was met last.
    seen: BTreeMap<String, u64>,
    /// Holes of which nothing is left, by their ends.
    hidden: Vec<(u64, u64)>,
    /// Rosters: where they are, and since where they tell.
    rosters: Vec<(u64, u64)>,
    standings: BTreeMap<String, StoredStanding>,
}

enum Next {
    Entry(u64),
    Trailer(u64, frame::Trailer),
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
        if header.kind == Kind::Roster {
            let standings = record::unseal::<Vec<StoredStanding>>(body).unwrap_or_default();
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
        let landed = frame::trailer(self.window.slice(trailer_at, frame::TRAILER_BYTES_MAX)?, self.salt).is_some();
        if !landed && self.search(end)?.is_none() {
            // Nothing good behind it: a write that the machine did not finish, and that nobody was told of.
            return Ok(None);
        }
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
                let (last, note) = if trailer.kind == Kind::Note { (0, trailer.last) } else { (trailer.last, 0) };
                let loss = StoredLoss { epoch: trailer.epoch, last, note, possible: false };
                self.lose(start.max(at), end, trailer.kind, &trailer.name, loss);
                (if start < at { end } else { start }, end)
            }
        };
        if from > at {
            self.found.holes.push(Hole { from: at, to: from, doc: None });
            self.hidden.push((at, from));
        }
        self.found.end = end;
        Ok(Some(end))
    }

    fn lose(&mut self, from: u64, to: u64, kind: Kind, name: &str, loss: StoredLoss) {
        self.found.end = to;
        if matches!(kind, Kind::Probe | Kind::Roster) {
            return;
        }
        self.seen.insert(name.to_owned(), from);
        self.found.holes.push(Hole { from, to, doc: Some(name.to_owned()) });
        contents(&mut self.found.docs, name).losses.push(loss);
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

    fn finish(mut self) -> Scan {
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

/// Links an entry to the run whose head it names, or starts a new run with it.
fn extend(extents: &mut Vec<StoredExtent>, at: u64, header: &Header) {
    let place = Place { offset: at, bytes: u32::try_from(header.frame_bytes()).unwrap_or(u32::MAX) };
    match extents.iter_mut().find(|e| e.head == header.prev.offset && e.epoch == header.epoch) {
        Some(run) => run.lengthen(header, place),
        None => extents.push(StoredExtent::of(header, place)),
    }
}

/// A sliding view of a file.
struct Window<'a> {
    file: &'a File,
    len: u64,
    start: u64,
    bytes: Vec<u8>,
}

impl Window<'_> {
    /// Up to `want` bytes from `at`; fewer only at the end of the file.
    fn slice(&mut self, at: u64, want: usize) -> io::Result<&[u8]> {
        let left = usize::try_from(self.len.saturating_sub(at)).unwrap_or(usize::MAX);
        let want = want.min(left);
        let inside = at >= self.start && at + want as u64 <= self.start + self.bytes.len() as u64;
        if !inside {
            let fill = want.max(WINDOW_BYTES).min(left);
            self.bytes.resize(fill, 0);
            self.start = at;
            self.file.read_exact_at(&mut self.bytes, at)?;
        }
        let from = usize::try_from(at - self.start).unwrap_or(0);
        Ok(&self.bytes[from..from + want])
    }
}
