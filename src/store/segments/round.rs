//! One round of the writer, decided before a byte is written.
//!
//! Each job is judged by the index and by what was decided before it in the same round. What comes out are the bytes to
//! write, the states to publish once they are durable, and the answers to give then.

use std::collections::HashMap;

use crate::name::DocName;
use crate::store::Epoch;
use crate::store::Seq;
use crate::store::StoreError;
use crate::store::record;
use crate::store::record::StoredExtent;
use crate::store::record::StoredNote;
use crate::store::record::StoredSnapshotKey;
use crate::store::segments::frame;
use crate::store::segments::frame::Header;
use crate::store::segments::frame::Kind;
use crate::store::segments::frame::Place;
use crate::store::segments::index::DocState;
use crate::store::segments::index::Extent;
use crate::store::segments::index::SegmentId;
use crate::store::segments::job::Append;
use crate::store::segments::job::Job;
use crate::store::segments::job::Moved;
use crate::store::segments::job::Reply;
use crate::store::segments::writer::Log;

/// Gives an answer, once it is known whether the round is durable.
pub(crate) type Finish = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

/// What one round will have done.
pub(crate) struct Round<'a> {
    log: &'a Log,
    /// The segment that is written to, and where.
    segment: SegmentId,
    base: u64,
    pub(crate) bytes: Vec<u8>,
    /// Records in it, of all documents.
    pub(crate) records: u32,
    pub(crate) changed: HashMap<DocName, DocState>,
    pub(crate) finish: Vec<Finish>,
    pub(crate) deleted: Vec<DocName>,
}

impl<'a> Round<'a> {
    pub(crate) fn new(log: &'a Log, segment: SegmentId, base: u64) -> Self {
        let (bytes, finish, deleted) = (Vec::new(), Vec::new(), Vec::new());
        Self { log, segment, base, bytes, records: 0, changed: HashMap::new(), finish, deleted }
    }

    pub(crate) fn decide(&mut self, job: Job) {
        match job {
            Job::Append { doc, epoch, append, reply } => {
                let outcome = self.append(&doc, epoch, &append);
                self.answer(reply, outcome);
            }
            Job::Delete { doc, reply } => {
                let outcome = self.delete(&doc);
                self.answer(reply, Ok(outcome));
            }
            Job::Revive { doc, reply } => {
                let outcome = self.revive(&doc);
                self.answer(reply, outcome);
            }
            Job::Snapshot { doc, epoch, key, reply } => {
                let outcome = self.snapshot(&doc, epoch, key);
                self.answer(reply, outcome);
            }
            Job::Move { doc, epoch, from, entries, reply } => {
                self.relocate(&doc, epoch, from, &entries);
                self.answer(reply, Ok(()));
            }
            Job::Probe { reply } => {
                self.entry(&mut plain(Kind::Probe, "", 0, 0), &[]);
                self.answer(reply, Ok(()));
            }
            Job::Roll { reply } => self.answer(reply, Ok(())),
        }
    }

    fn append(&mut self, doc: &DocName, epoch: Epoch, append: &Append) -> Result<Seq, StoreError> {
        let mut state = self.state(doc);
        state.admit(epoch.0)?;
        if append.count == 0 {
            return Ok(Seq(state.last));
        }
        let grown = state.extents.iter().position(|e| e.grows && e.segment == self.segment);
        let prev = grown.map_or(Place::default(), |at| head(&state.extents[at]));
        let mut header = Header {
            count: append.count,
            at_ms: append.at_ms,
            prev,
            ..plain(Kind::Append, doc.as_str(), epoch.0, state.last + 1)
        };
        let place = self.entry(&mut header, &append.body);
        match grown {
            Some(at) => state.extents[at].run.lengthen(&header, place),
            None => {
                state.extents.push(Extent { segment: self.segment, run: StoredExtent::of(&header, place), grows: true })
            }
        }
        let last = header.last();
        self.change(doc, state);
        Ok(Seq(last))
    }

    fn delete(&mut self, doc: &DocName) -> bool {
        let state = self.state(doc);
        if !state.exists() {
            return false;
        }
        let note = StoredNote { epoch: state.epoch, last: 0, deleted: true, snapshot: None, ..state.note.clone() };
        self.note(doc, state, note);
        self.deleted.push(doc.clone());
        true
    }

    fn revive(&mut self, doc: &DocName) -> Result<Epoch, StoreError> {
        let state = self.state(doc);
        if !state.deleted() {
            return state.damage().map_or(Ok(Epoch(state.epoch)), Err);
        }
        let epoch = state.epoch + 1;
        let note = StoredNote { epoch, last: 0, deleted: false, snapshot: None, ..state.note.clone() };
        self.note(doc, state, note);
        Ok(Epoch(epoch))
    }

    fn snapshot(&mut self, doc: &DocName, epoch: Epoch, key: StoredSnapshotKey) -> Result<(), StoreError> {
        let state = self.state(doc);
        state.admit_snapshot(epoch.0, key.through)?;
        let note = StoredNote {
            epoch: epoch.0,
            last: state.last,
            deleted: false,
            updated_at_ms: state.updated_at_ms,
            generation: key.generation,
            snapshot: Some(key),
            ..state.note.clone()
        };
        self.note(doc, state, note);
        Ok(())
    }

    /// Writes the next note of a document.
    fn note(&mut self, doc: &DocName, mut state: DocState, mut note: StoredNote) {
        let lost = state.losses.iter().map(|(_, loss)| loss.note).max().unwrap_or(0);
        note.version = state.note.version.max(lost) + 1;
        state.note = note;
        self.write_note(doc, &mut state);
        self.change(doc, state);
    }

    fn write_note(&mut self, doc: &DocName, state: &mut DocState) {
        let body = record::seal(&state.note).expect("a note is small");
        self.entry(&mut plain(Kind::Note, doc.as_str(), state.note.epoch, state.note.version), &body);
        state.note_in = Some(self.segment);
    }

    /// Moves only what is still as it was when it was read: the document may have been compacted or deleted since.
    fn relocate(&mut self, doc: &DocName, epoch: u64, from: SegmentId, entries: &[Moved]) {
        let mut state = self.state(doc);
        if state.note_in == Some(from) {
            self.write_note(doc, &mut state);
        }
        if state.epoch == epoch && state.extents.iter().any(|e| e.segment == from) {
            let through = state.through();
            state.extents.retain(|e| e.segment != from);
            let mut extent: Option<Extent> = None;
            for moved in entries {
                let mut header = Header {
                    count: moved.append.count,
                    at_ms: moved.append.at_ms,
                    prev: extent.as_ref().map_or(Place::default(), head),
                    ..plain(Kind::Append, doc.as_str(), epoch, moved.first)
                };
                if header.last() <= through {
                    continue;
                }
                let place = self.entry(&mut header, &moved.append.body);
                match &mut extent {
                    Some(extent) => extent.run.lengthen(&header, place),
                    None => {
                        let run = StoredExtent::of(&header, place);
                        extent = Some(Extent { segment: self.segment, run, grows: false });
                    }
                }
            }
            state.extents.extend(extent);
        }
        self.change(doc, state);
    }

    fn state(&self, doc: &DocName) -> DocState {
        let known = self.changed.get(doc).cloned();
        known.or_else(|| self.log.index().docs.get(doc).cloned()).unwrap_or_default()
    }

    pub(crate) fn entry(&mut self, header: &mut Header, body: &[u8]) -> Place {
        let offset = self.base + self.bytes.len() as u64;
        frame::write(&mut self.bytes, self.log.dir.salt, header, body);
        self.records = self.records.saturating_add(header.count);
        let bytes = u32::try_from(header.frame_bytes()).expect("entries are bounded by BODY_BYTES_MAX");
        Place { offset, bytes }
    }

    fn change(&mut self, doc: &DocName, mut state: DocState) {
        state.settle();
        self.changed.insert(doc.clone(), state);
    }

    /// Answers when the round is durable; a refusal too, so that answers keep the order of the calls.
    fn answer<T: Send + 'static>(&mut self, reply: Reply<T>, outcome: Result<T, StoreError>) {
        self.finish.push(Box::new(move |done| {
            // The caller may have gone away; what it asked for is done all the same.
            let _ = reply.send(done.and(outcome));
        }));
    }
}

/// A header with nothing in it but what every entry has.
pub(crate) fn plain(kind: Kind, name: &str, epoch: u64, first: u64) -> Header {
    let prev = Place::default();
    Header { kind, name: name.to_owned(), epoch, first, count: 0, at_ms: 0, prev, body_bytes: 0 }
}

fn head(extent: &Extent) -> Place {
    Place { offset: extent.run.head, bytes: extent.run.head_bytes }
}
