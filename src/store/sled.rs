//! Snapshots in sled. The only file that knows sled.
//!
//! One database, two trees: snapshots, and the memos of deletions (`sled/memos.rs`). A snapshot is written in parts of at most 16 KiB under
//! `name │ 0 │ generation u64 BE │ part u32 BE`; names hold no control characters, so the 0 ends them. The log's note
//! about a document says which generation is in force: what is written here counts only once that note is durable.
//! Each part is sealed and says whose it is, and the whole has a checksum in the note.
//!
//! sled 0.34's `flush` starts the write-out and does not wait for the device, so its files are synced here as well.
//! It can panic on damaged files: that is caught and is an error like another. An open error is never answered by
//! deleting anything. The file never shrinks: [`Snapshots::rebuild`] copies what is in force into a new database.

mod memos;

use std::fs;
use std::fs::File;
use std::io;
use std::io::Read;
use std::panic::AssertUnwindSafe;
use std::panic::catch_unwind;
use std::path::Path;
use std::path::PathBuf;
use std::sync::PoisonError;
use std::sync::RwLock;
use std::time::Duration;

use bytes::Bytes;
use bytes::BytesMut;

use crate::name::DocName;
use crate::store::Seq;
use crate::store::Snapshot;
use crate::store::record;
use crate::store::record::StoredPart;
use crate::store::record::StoredSnapshotKey;
use crate::store::segments::files::sync_dir;

/// sled keeps up to 19 values in one page, and a page that does not fit into a segment of 512 KiB becomes a file of its
/// own, which it rewrites whole with every change and never syncs. Parts of this size keep pages inside segments.
const PART_BYTES: usize = 16 << 10;
const TREE: &str = "snapshots";
const MEMO_TREE: &str = "memos";
/// Room that sled is given beyond the values themselves.
const ROOM_BYTES_MIN: u64 = 4 << 20;
/// We hold the data directory, so sled's own lock can only be one that was just given up: by threads of the former
/// database that are still ending, or by a child process that was forked and has not begun. Two seconds in all.
const LOCK_TRIES: u32 = 200;
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// What went wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SnapshotError {
    /// The database as a whole.
    #[error("{0}")]
    Engine(String),
    /// This one snapshot.
    #[error("{0}")]
    Bad(String),
}

struct Open {
    db: ::sled::Db,
    tree: ::sled::Tree,
    memos: ::sled::Tree,
}

/// The database of snapshots.
pub(crate) struct Snapshots {
    dir: PathBuf,
    cache_bytes: u64,
    /// `None` after a failure, until it could be opened again.
    open: RwLock<Option<Open>>,
}

impl Snapshots {
    /// Opens or creates the database, after finishing a rebuild that a crash interrupted.
    pub(crate) fn open(dir: PathBuf, cache_bytes: u64) -> Result<Self, SnapshotError> {
        finish_swap(&dir).map_err(|error| engine(&error))?;
        let open = RwLock::new(Some(open_at(&dir, cache_bytes)?));
        Ok(Self { dir, cache_bytes, open })
    }

    /// Writes all parts of a snapshot and answers its key. Not durable before [`Snapshots::flush`].
    pub(crate) fn write(
        &self,
        doc: &DocName,
        epoch: u64,
        generation: u64,
        snapshot: &Snapshot,
    ) -> Result<StoredSnapshotKey, SnapshotError> {
        self.with(|open| write_at(&open.tree, doc, epoch, generation, snapshot))
    }

    /// Fails where there is no room for so many bytes of snapshots. sled can wait for ever once a write of its own found
    /// the disk full, so that is tried out with a file that is deleted again; sled writes pages, which takes more.
    pub(crate) fn make_room(&self, bytes: u64) -> Result<(), SnapshotError> {
        let path = sibling(&self.dir, "room");
        let wanted = bytes.saturating_mul(2).saturating_add(ROOM_BYTES_MIN);
        let tried = File::create(&path).and_then(|mut file| io::copy(&mut io::repeat(0).take(wanted), &mut file));
        let removed = fs::remove_file(&path);
        tried.and(removed).map_err(|error| engine(&format!("no room for {bytes} bytes: {error}")))
    }

    /// Makes everything written so far durable.
    pub(crate) fn flush(&self) -> Result<(), SnapshotError> {
        self.with(|open| guard(|| open.db.flush()))?;
        sync_files(&self.dir).map_err(|error| engine(&error))
    }

    /// Reads a snapshot and checks all of it.
    pub(crate) fn read(&self, doc: &DocName, epoch: u64, key: StoredSnapshotKey) -> Result<Snapshot, SnapshotError> {
        self.with(|open| read_at(&open.tree, doc, epoch, key))
    }

    /// Keys of all generations that have parts here, by what the parts say, newest first.
    pub(crate) fn generations(&self, doc: &DocName) -> Result<Vec<(u64, StoredSnapshotKey)>, SnapshotError> {
        self.with(|open| {
            let mut found: Vec<(u64, StoredSnapshotKey)> = Vec::new();
            for item in open.tree.scan_prefix(prefix(doc)) {
                let (_, value) = guard(|| item)?;
                let Ok(part) = record::unseal::<StoredPart<'_>>(&value) else { continue };
                let fits = part.name == doc.as_str() && !found.contains(&(part.epoch, part.key));
                if fits {
                    found.push((part.epoch, part.key));
                }
            }
            found.reverse();
            Ok(found)
        })
    }

    /// Whether anything of a document is here.
    pub(crate) fn any(&self, doc: &DocName) -> Result<bool, SnapshotError> {
        self.with(|open| guard(|| open.tree.scan_prefix(prefix(doc)).next().transpose()).map(|item| item.is_some()))
    }

    /// Whether nothing at all is here.
    pub(crate) fn is_empty(&self) -> Result<bool, SnapshotError> {
        self.with(|open| guard(|| open.tree.iter().next().transpose()).map(|item| item.is_none()))
    }

    /// Removes all generations but one.
    pub(crate) fn purge(&self, doc: &DocName, keep: Option<u64>) -> Result<(), SnapshotError> {
        self.with(|open| {
            for key in open.tree.scan_prefix(prefix(doc)).keys() {
                let key = guard(|| key)?;
                if keep.is_none_or(|keep| !key.starts_with(&generation_prefix(doc, keep))) {
                    guard(|| open.tree.remove(&key))?;
                }
            }
            Ok(())
        })
    }

    /// Bytes of the database's files.
    pub(crate) fn disk_bytes(&self) -> u64 {
        self.with(|open| guard(|| open.db.size_on_disk())).unwrap_or(0)
    }

    /// Opens the database again after a failure. Its writes since the last flush are gone; none of them counted.
    pub(crate) fn reopen(&self) -> Result<(), SnapshotError> {
        let mut slot = self.open.write().unwrap_or_else(PoisonError::into_inner);
        let former = slot.take();
        guard(move || {
            drop(former);
            Ok(())
        })?;
        *slot = Some(open_at(&self.dir, self.cache_bytes)?);
        Ok(())
    }

    /// Copies all that is needed into a new database and puts it in the old one's place. Reading goes on meanwhile,
    /// except for the moment of the exchange; the caller sees to it that nobody writes.
    ///
    /// Order: write `sled.new` · flush it · rename `sled` to `sled.old` · rename `sled.new` to `sled` · open it ·
    /// delete `sled.old`. [`finish_swap`] completes this after a crash at any point.
    pub(crate) fn rebuild(&self, keep: impl Fn(&str) -> Keep) -> Result<(), SnapshotError> {
        let (new, old) = (sibling(&self.dir, "new"), sibling(&self.dir, "old"));
        remove_dir(&new).and_then(|()| remove_dir(&old)).map_err(|error| engine(&error))?;
        let copy = open_at(&new, self.cache_bytes)?;
        self.with(|open| copy_kept(open, &copy, keep).and_then(|()| memos::copy(open, &copy)))?;
        guard(|| copy.db.flush())?;
        guard(move || {
            drop(copy);
            Ok(())
        })?;
        sync_files(&new).map_err(|error| engine(&error))?;
        let mut slot = self.open.write().unwrap_or_else(PoisonError::into_inner);
        let former = slot.take();
        guard(move || {
            drop(former);
            Ok(())
        })?;
        swap(&self.dir, &new, &old).map_err(|error| engine(&error))?;
        *slot = Some(open_at(&self.dir, self.cache_bytes)?);
        drop(slot);
        remove_dir(&old).map_err(|error| engine(&error))
    }

    /// Closes the database.
    pub(crate) fn close(&self) -> Result<(), SnapshotError> {
        let flushed = self.flush();
        let former = self.open.write().unwrap_or_else(PoisonError::into_inner).take();
        guard(move || {
            drop(former);
            Ok(())
        })?;
        flushed
    }

    fn with<T>(&self, act: impl FnOnce(&Open) -> Result<T, SnapshotError>) -> Result<T, SnapshotError> {
        let slot = self.open.read().unwrap_or_else(PoisonError::into_inner);
        let open = slot.as_ref().ok_or_else(|| engine(&"the snapshot database is not open"))?;
        catch_unwind(AssertUnwindSafe(|| act(open))).unwrap_or_else(|_| Err(engine(&"the snapshot database panicked")))
    }
}

fn open_at(dir: &Path, cache_bytes: u64) -> Result<Open, SnapshotError> {
    let mut tries = 0;
    loop {
        match guard(|| try_open(dir, cache_bytes)) {
            Err(error) if is_lock(&error) && tries < LOCK_TRIES => tries += 1,
            outcome => return outcome,
        }
        std::thread::sleep(LOCK_PAUSE);
    }
}

fn try_open(dir: &Path, cache_bytes: u64) -> ::sled::Result<Open> {
    // Flushed by hand, after each batch.
    let config = ::sled::Config::new().path(dir).cache_capacity(cache_bytes).flush_every_ms(None);
    let db = config.open()?;
    let (tree, memos) = (db.open_tree(TREE)?, db.open_tree(MEMO_TREE)?);
    Ok(Open { db, tree, memos })
}

fn is_lock(error: &SnapshotError) -> bool {
    matches!(error, SnapshotError::Engine(why) if why.contains("could not acquire lock"))
}

fn write_at(
    tree: &::sled::Tree,
    doc: &DocName,
    epoch: u64,
    generation: u64,
    snapshot: &Snapshot,
) -> Result<StoredSnapshotKey, SnapshotError> {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&snapshot.state);
    crc.update(&snapshot.sidecar);
    let bytes = snapshot.state.len() + snapshot.sidecar.len();
    let parts = u32::try_from(bytes.div_ceil(PART_BYTES).max(1)).map_err(|error| engine(&error))?;
    let through = snapshot.through.0;
    let key = StoredSnapshotKey { generation, through, parts, bytes: bytes as u64, crc: crc.finalize() };
    let state_bytes = snapshot.state.len() as u64;
    for part in 0..parts {
        let bytes = piece(snapshot, part as usize * PART_BYTES);
        let stored = StoredPart { name: doc.as_str(), epoch, key, part, state_bytes, bytes: &bytes };
        let sealed = record::seal(&stored).map_err(|error| engine(&error))?;
        guard(|| tree.insert(part_key(doc, generation, part), sealed))?;
    }
    Ok(key)
}

fn read_at(tree: &::sled::Tree, doc: &DocName, epoch: u64, key: StoredSnapshotKey) -> Result<Snapshot, SnapshotError> {
    let mut bytes = BytesMut::new();
    let mut state_bytes = 0;
    for number in 0..key.parts {
        let value = guard(|| tree.get(part_key(doc, key.generation, number)))?;
        let value = value.ok_or_else(|| SnapshotError::Bad(format!("part {number} of its snapshot is gone")))?;
        let part: StoredPart<'_> = record::unseal(&value)
            .map_err(|error| SnapshotError::Bad(format!("part {number} of its snapshot cannot be read: {error}")))?;
        if part.name != doc.as_str() || part.epoch != epoch || part.key != key || part.part != number {
            return Err(SnapshotError::Bad(format!("part {number} of its snapshot belongs elsewhere")));
        }
        state_bytes = part.state_bytes;
        bytes.extend_from_slice(part.bytes);
    }
    let mut state: Bytes = bytes.freeze();
    let whole = state.len() as u64 == key.bytes && state_bytes <= key.bytes && crc32fast::hash(&state) == key.crc;
    if !whole {
        return Err(SnapshotError::Bad("its snapshot has a wrong checksum".to_owned()));
    }
    let sidecar = state.split_off(usize::try_from(state_bytes).unwrap_or(usize::MAX).min(state.len()));
    Ok(Snapshot { state, through: Seq(key.through), sidecar })
}

/// What a rebuild keeps of one document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keep {
    /// It was deleted.
    Nothing,
    /// The generation in force; all that is there where that one is not whole.
    Generation(u64),
    /// What the log does not know stays as it is: it may be all that is left of a document.
    Everything,
}

fn copy_kept(from: &Open, to: &Open, keep: impl Fn(&str) -> Keep) -> Result<(), SnapshotError> {
    let mut current: (Vec<u8>, Keep) = (Vec::new(), Keep::Everything);
    for item in from.tree.iter() {
        let (key, value) = guard(|| item)?;
        let name = key.split(|&byte| byte == 0).next().unwrap_or_default();
        if name != current.0 {
            let wanted = std::str::from_utf8(name).map_or(Keep::Everything, &keep);
            current = (name.to_vec(), only_if_whole(from, name, wanted)?);
        }
        let copied = match current.1 {
            Keep::Nothing => false,
            Keep::Everything => true,
            Keep::Generation(generation) => key.starts_with(&generation_prefix_of(name, generation)),
        };
        if copied {
            guard(|| to.tree.insert(key, value))?;
        }
    }
    Ok(())
}

fn only_if_whole(from: &Open, name: &[u8], keep: Keep) -> Result<Keep, SnapshotError> {
    let Keep::Generation(generation) = keep else { return Ok(keep) };
    let mut first = generation_prefix_of(name, generation);
    first.extend_from_slice(&0_u32.to_be_bytes());
    let part = guard(|| from.tree.get(first))?;
    let part = part.as_ref().and_then(|value| record::unseal::<StoredPart<'_>>(value).ok());
    let doc = std::str::from_utf8(name).ok().and_then(|name| DocName::parse(name).ok());
    let whole = part.zip(doc).is_some_and(|(part, doc)| read_at(&from.tree, &doc, part.epoch, part.key).is_ok());
    Ok(if whole { keep } else { Keep::Everything })
}

/// The bytes of state and sidecar together from `from` on, as many as a part takes.
fn piece(snapshot: &Snapshot, from: usize) -> Vec<u8> {
    let whole = snapshot.state.iter().chain(snapshot.sidecar.iter());
    if from + PART_BYTES <= snapshot.state.len() {
        return snapshot.state[from..from + PART_BYTES].to_vec();
    }
    whole.skip(from).take(PART_BYTES).copied().collect()
}

fn prefix(doc: &DocName) -> Vec<u8> {
    let mut key = doc.as_str().as_bytes().to_vec();
    key.push(0);
    key
}

fn generation_prefix(doc: &DocName, generation: u64) -> Vec<u8> {
    generation_prefix_of(doc.as_str().as_bytes(), generation)
}

fn generation_prefix_of(name: &[u8], generation: u64) -> Vec<u8> {
    let mut key = name.to_vec();
    key.push(0);
    key.extend_from_slice(&generation.to_be_bytes());
    key
}

fn part_key(doc: &DocName, generation: u64, part: u32) -> Vec<u8> {
    let mut key = generation_prefix(doc, generation);
    key.extend_from_slice(&part.to_be_bytes());
    key
}

/// Completes or undoes an exchange that a crash interrupted.
fn finish_swap(dir: &Path) -> io::Result<()> {
    let (new, old) = (sibling(dir, "new"), sibling(dir, "old"));
    match (dir.exists(), new.exists(), old.exists()) {
        // Between the two renames: the new one was complete before the first.
        (false, true, true) => fs::rename(&new, dir)?,
        (false, false, true) => return fs::rename(&old, dir),
        (false, true, false) | (true, true, _) => remove_dir(&new)?,
        _ => {}
    }
    remove_dir(&old)
}

fn swap(dir: &Path, new: &Path, old: &Path) -> io::Result<()> {
    fs::rename(dir, old)?;
    fs::rename(new, dir)?;
    dir.parent().map_or(Ok(()), sync_dir)
}

fn sibling(dir: &Path, extension: &str) -> PathBuf {
    dir.with_extension(extension)
}

fn remove_dir(dir: &Path) -> io::Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn sync_files(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        match File::open(&path).and_then(|file| file.sync_all()) {
            // sled replaces small files of its own while we look.
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    sync_dir(dir)
}

fn guard<T>(act: impl FnOnce() -> ::sled::Result<T>) -> Result<T, SnapshotError> {
    match catch_unwind(AssertUnwindSafe(act)) {
        Ok(outcome) => outcome.map_err(|error| engine(&error)),
        Err(_) => Err(engine(&"the snapshot database panicked")),
    }
}

fn engine(error: &dyn std::fmt::Display) -> SnapshotError {
    SnapshotError::Engine(error.to_string())
}
