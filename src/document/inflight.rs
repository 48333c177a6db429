//! A note in a file before anything is given to the CRDT engine, gone when it came back.
//!
//! The engine can kill the process. A note that is still there at the next start names what was being merged when the
//! process died; `app` then tries exactly that in a child process ([`Suspect`]). If the child dies too or hangs, the update
//! is quarantined: the crash does not repeat when its writer reconnects. If the child lives, the note is an innocent
//! bystander of a power cut or a `kill -9`, and is forgotten.
//!
//! No fsync: the note has to survive the process, not the machine.

use std::fs::File;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::Instant;

use bytes::Bytes;
use serde::Deserialize;
use serde::Serialize;

/// What the engine was doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Work {
    /// Merging one update into a live document.
    Apply,
    /// Building a document from what is stored, or encoding it.
    Load,
    /// Building, collecting and encoding a document for a snapshot.
    Compact,
}

impl Work {
    /// Longer than this means that the engine does not come back. A 64 MiB document loads in seconds.
    #[must_use]
    pub fn patience(self) -> Duration {
        match self {
            Self::Apply => Duration::from_secs(60),
            Self::Load | Self::Compact => Duration::from_secs(300),
        }
    }
}

/// A note that was left behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suspect {
    /// What was being done.
    pub work: Work,
    /// To which document.
    pub doc: String,
    /// For whom.
    pub user: Option<String>,
    /// With which update; empty unless `work` is [`Work::Apply`].
    pub update: Bytes,
}

#[derive(Serialize, Deserialize)]
struct Header {
    work: Work,
    doc: String,
    user: Option<String>,
    update_bytes: usize,
}

/// The notes of this process. One file for each thread that is in the engine at the same time.
#[derive(Debug, Default)]
pub struct InFlight {
    dir: Option<PathBuf>,
    slots: Mutex<Slots>,
}

#[derive(Debug, Default)]
struct Slots {
    free: Vec<Arc<Slot>>,
    all: Vec<Arc<Slot>>,
}

#[derive(Debug)]
struct Slot {
    file: File,
    /// What the slot's thread is in, and since when; for [`InFlight::stuck`].
    begun: Mutex<Option<(Work, Instant)>>,
}

/// First byte of a slot file.
const CLEAR: u8 = 0;
const BEGUN: u8 = 1;
/// state, header length, checksum of header and update
const PREFIX_BYTES: usize = 9;
/// Files grown beyond this by a large update are cut again.
const SLOT_BYTES_KEPT: u64 = 1 << 20;

impl InFlight {
    /// Notes that are kept nowhere: for stores that lose everything with the process anyway.
    #[must_use]
    pub fn nowhere() -> Self {
        Self::default()
    }

    /// Opens the directory of notes and takes what the former process left there.
    ///
    /// # Errors
    /// When the directory cannot be made, read or emptied.
    pub fn open(dir: &Path) -> io::Result<(Self, Vec<Suspect>)> {
        std::fs::create_dir_all(dir)?;
        let mut suspects = Vec::new();
        for entry in std::fs::read_dir(dir)? {
            let path = entry?.path();
            suspects.extend(read_note(&std::fs::read(&path)?));
        }
        Ok((Self { dir: Some(dir.to_owned()), slots: Mutex::default() }, suspects))
    }

    /// Forgets what the former process left, once it has been judged.
    ///
    /// # Errors
    /// When a file cannot be removed.
    pub fn forget_suspects(&self) -> io::Result<()> {
        let Some(dir) = &self.dir else { return Ok(()) };
        for entry in std::fs::read_dir(dir)? {
            std::fs::remove_file(entry?.path())?;
        }
        Ok(())
    }

    /// Notes what is about to be given to the engine. A note that cannot be written does not stop the work: it is the
    /// second net, not the first.
    #[must_use]
    pub fn begin(&self, work: Work, doc: &str, user: Option<&str>, update: &[u8]) -> Flight<'_> {
        let slot = self.take_slot();
        if let Some(slot) = &slot {
            *lock(&slot.begun) = Some((work, Instant::now()));
            let note = write_note(work, doc, user, update);
            if let Err(error) = slot.file.write_all_at(&note, 0) {
                tracing::debug!(event = "inflight_note_failed", %error);
            }
        }
        Flight { notes: self, slot, noted_bytes: update.len() as u64 }
    }

    /// Work that the engine did not come back from in all its [`Work::patience`].
    #[must_use]
    pub fn stuck(&self) -> Option<Work> {
        let slots = lock(&self.slots);
        let late = |slot: &Arc<Slot>| {
            let begun = *lock(&slot.begun);
            begun.filter(|(work, since)| since.elapsed() > work.patience()).map(|(work, _)| work)
        };
        slots.all.iter().find_map(late)
    }

    fn take_slot(&self) -> Option<Arc<Slot>> {
        let dir = self.dir.as_ref()?;
        let mut slots = lock(&self.slots);
        if let Some(slot) = slots.free.pop() {
            return Some(slot);
        }
        let path = dir.join(format!("slot-{}", slots.all.len()));
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(path).ok()?;
        let slot = Arc::new(Slot { file, begun: Mutex::default() });
        slots.all.push(slot.clone());
        Some(slot)
    }
}

/// The engine is at work. Dropping this says that it came back.
#[derive(Debug)]
pub struct Flight<'a> {
    notes: &'a InFlight,
    slot: Option<Arc<Slot>>,
    noted_bytes: u64,
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        let Some(slot) = self.slot.take() else { return };
        *lock(&slot.begun) = None;
        if slot.file.write_all_at(&[CLEAR], 0).is_err() || self.noted_bytes > SLOT_BYTES_KEPT {
            // Cutting also clears; if even that fails, the judge of the next start finds the note harmless.
            let _ = slot.file.set_len(0);
        }
        lock(&self.notes.slots).free.push(slot);
    }
}

fn write_note(work: Work, doc: &str, user: Option<&str>, update: &[u8]) -> Vec<u8> {
    let header = Header { work, doc: doc.to_owned(), user: user.map(str::to_owned), update_bytes: update.len() };
    let header = serde_json::to_vec(&header).unwrap_or_default();
    let mut note = Vec::with_capacity(PREFIX_BYTES + header.len() + update.len());
    note.push(BEGUN);
    note.extend_from_slice(&u32::try_from(header.len()).unwrap_or(u32::MAX).to_le_bytes());
    note.extend_from_slice(&[0; 4]);
    note.extend_from_slice(&header);
    note.extend_from_slice(update);
    let checksum = crc32fast::hash(&note[PREFIX_BYTES..]);
    note[5..PREFIX_BYTES].copy_from_slice(&checksum.to_le_bytes());
    note
}

/// `None` for a clear slot and for a note that was not written to its end: then the engine was not called yet.
fn read_note(bytes: &[u8]) -> Option<Suspect> {
    let (prefix, rest) = bytes.split_at_checked(PREFIX_BYTES)?;
    if prefix[0] != BEGUN {
        return None;
    }
    let header_bytes = u32::from_le_bytes(prefix[1..5].try_into().ok()?) as usize;
    let checksum = u32::from_le_bytes(prefix[5..PREFIX_BYTES].try_into().ok()?);
    let header: Header = serde_json::from_slice(rest.get(..header_bytes)?).ok()?;
    let noted = rest.get(..header_bytes.checked_add(header.update_bytes)?)?;
    if crc32fast::hash(noted) != checksum {
        return None;
    }
    let update = Bytes::copy_from_slice(&noted[header_bytes..]);
    Some(Suspect { work: header.work, doc: header.doc, user: header.user, update })
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_left_behind_only_while_the_engine_is_at_work() {
        let dir = tempfile::tempdir().unwrap();
        let (notes, suspects) = InFlight::open(dir.path()).unwrap();
        assert_eq!(suspects, vec![]);
        drop(notes.begin(Work::Apply, "done", Some("alice"), b"harmless"));
        let flight = notes.begin(Work::Apply, "d\u{fc}", Some("mallory"), b"deadly");
        std::mem::forget(flight); // as a killed process would

        let (notes, suspects) = InFlight::open(dir.path()).unwrap();
        let suspect = Suspect {
            work: Work::Apply,
            doc: "d\u{fc}".into(),
            user: Some("mallory".into()),
            update: Bytes::from_static(b"deadly"),
        };
        assert_eq!(suspects, vec![suspect]);
        notes.forget_suspects().unwrap();
        assert_eq!(InFlight::open(dir.path()).unwrap().1, vec![]);
    }

    #[test]
    fn a_shorter_note_over_a_longer_one_reads_as_itself() {
        let dir = tempfile::tempdir().unwrap();
        let (notes, _) = InFlight::open(dir.path()).unwrap();
        drop(notes.begin(Work::Apply, "doc", None, &[9; 10_000]));
        std::mem::forget(notes.begin(Work::Load, "d", None, &[]));
        let suspects = InFlight::open(dir.path()).unwrap().1;
        assert_eq!(suspects, vec![Suspect { work: Work::Load, doc: "d".into(), user: None, update: Bytes::new() }]);
    }

    #[test]
    fn damaged_notes_are_ignored() {
        let note = write_note(Work::Compact, "doc", None, b"update");
        assert!(read_note(&note).is_some());
        for length in 0..note.len() {
            assert_eq!(read_note(&note[..length]), None, "cut at {length}");
        }
        for at in 0..note.len() {
            let mut damaged = note.clone();
            damaged[at] ^= 0x40;
            assert_eq!(read_note(&damaged), None, "flipped at {at}");
        }
    }
}
