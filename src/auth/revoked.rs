//! Tokens that are refused although they are sound: single ones by `jti`, and all of a user's up to a moment.
//!
//! The list is in force as soon as something stands in it, and written to a file before anybody is told so: a restart
//! must not let in who was thrown out.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::RwLock;
use std::sync::RwLockReadGuard;
use std::sync::RwLockWriteGuard;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use crate::auth::Identity;
use crate::auth::revoked_file;

/// Tokens and users together: some 10 MB at worst, in memory and in the file. Full: the oldest goes, with a warning, so
/// whoever has more to revoke within one lifetime of tokens should shorten that.
pub const REVOKED_MAX: usize = 100_000;

/// What is refused. Times are milliseconds since 1970, UTC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Revoked {
    /// One token.
    Token {
        /// Its id.
        jti: String,
        /// From then on it has run out anyway.
        until_ms: u64,
    },
    /// Tokens of a user that were issued up to a moment, and those that do not say when they were issued.
    User {
        /// Who.
        sub: String,
        /// The moment.
        issued_until_ms: u64,
        /// From then on they have run out anyway.
        until_ms: u64,
    },
}

/// The list, and the file that it is kept in.
pub struct RevokedList(Arc<Shared>);

struct Shared {
    list: RwLock<List>,
    /// A copy of the list's length: while nothing is revoked, a connect looks no further.
    len: AtomicUsize,
    file: Option<File>,
}

struct File {
    path: PathBuf,
    /// Which version of the list the file has. Held while writing, which may take as long as the disk does.
    written: Mutex<u64>,
}

/// Both maps hold at most `max` entries together.
#[derive(Debug)]
struct List {
    tokens: HashMap<String, Entry>,
    users: HashMap<String, Entry>,
    /// Grows by one with each change.
    version: u64,
    max: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    /// The version that it came with: its place in the order of age.
    age: u64,
    /// Of a user's tokens; not read for a single token.
    issued_until_ms: u64,
    until_ms: u64,
}

/// A change that is in force and not yet in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "a restart forgets what is not saved"]
pub(super) struct Unsaved {
    version: u64,
    /// Whether an older entry had to go that was still in force.
    pub(super) forgot: bool,
}

impl Revoked {
    fn until_ms(&self) -> u64 {
        match self {
            Self::Token { until_ms, .. } | Self::User { until_ms, .. } => *until_ms,
        }
    }
}

impl RevokedList {
    /// A list that ends with the process.
    #[must_use]
    pub fn nowhere() -> Self {
        Self::new(None, List::new(REVOKED_MAX))
    }

    /// Reads the file, if it is there.
    ///
    /// # Errors
    /// When the file cannot be read or is damaged; the message says what to do. Starting without it would let in who was
    /// thrown out.
    pub fn open(path: &Path) -> io::Result<Self> {
        let mut list = List::new(REVOKED_MAX);
        for entry in revoked_file::read(path)? {
            list.put(entry);
        }
        let file = File { path: path.to_owned(), written: Mutex::new(list.version) };
        Ok(Self::new(Some(file), list))
    }

    fn new(file: Option<File>, list: List) -> Self {
        Self(Arc::new(Shared { len: AtomicUsize::new(list.len()), list: RwLock::new(list), file }))
    }

    /// Whether a token that was just found sound is refused all the same.
    pub(super) fn refuses(&self, identity: &Identity, wall_ms: u64) -> bool {
        self.0.len.load(Ordering::SeqCst) > 0 && self.0.read().refuses(identity, wall_ms)
    }

    /// Refuses from now on. [`Self::save`] makes it last.
    pub(super) fn add(&self, entry: Revoked, wall_ms: u64) -> Unsaved {
        let mut list = self.0.write();
        let forgot = list.insert(entry, wall_ms);
        self.0.len.store(list.len(), Ordering::SeqCst);
        Unsaved { version: list.version, forgot }
    }

    /// As [`Self::add`], for what another node refuses; `None` when this one refuses it already.
    pub(super) fn add_foreign(&self, entry: &Revoked, wall_ms: u64) -> Option<Unsaved> {
        let mut list = self.0.write();
        if list.covers(entry, wall_ms) {
            return None;
        }
        let forgot = list.insert_one_of_many(entry.clone(), wall_ms);
        self.0.len.store(list.len(), Ordering::SeqCst);
        Some(Unsaved { version: list.version, forgot })
    }

    /// Everything that is in force at a moment, the oldest first.
    pub(super) fn in_force(&self, wall_ms: u64) -> Vec<Revoked> {
        let (mut entries, _) = self.0.read().entries();
        entries.retain(|entry| entry.until_ms() > wall_ms);
        entries
    }

    /// A hash of everything that is in force at a moment, whatever its order. 0 for nothing.
    pub(super) fn fingerprint(&self, wall_ms: u64) -> u64 {
        if self.0.len.load(Ordering::SeqCst) == 0 {
            return 0;
        }
        self.0.read().fingerprint(wall_ms)
    }

    /// As [`Self::save`], with all that was added so far.
    pub(super) async fn save_all(&self) -> io::Result<()> {
        let version = self.0.read().version;
        self.save(Unsaved { version, forgot: false }).await
    }

    /// Writes the list, unless somebody else has written it since the change. What was begun goes on when the caller gives
    /// up.
    ///
    /// # Errors
    /// When the file cannot be written. The list is in force all the same; the next change is written with all before it.
    pub(super) async fn save(&self, unsaved: Unsaved) -> io::Result<()> {
        let shared = self.0.clone();
        if shared.file.is_none() {
            return Ok(());
        }
        tokio::task::spawn_blocking(move || shared.save(unsaved.version)).await.map_err(io::Error::other)?
    }
}

impl Shared {
    fn save(&self, version: u64) -> io::Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        let mut written = file.written.lock().unwrap_or_else(PoisonError::into_inner);
        if *written >= version {
            return Ok(());
        }
        let (entries, version) = self.read().entries();
        revoked_file::write(&file.path, &entries)?;
        *written = version;
        Ok(())
    }

    fn read(&self) -> RwLockReadGuard<'_, List> {
        self.list.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, List> {
        self.list.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl List {
    fn new(max: usize) -> Self {
        Self { tokens: HashMap::new(), users: HashMap::new(), version: 0, max }
    }

    fn len(&self) -> usize {
        self.tokens.len() + self.users.len()
    }

    fn refuses(&self, identity: &Identity, wall_ms: u64) -> bool {
        let token = identity.jti.as_deref().and_then(|jti| self.tokens.get(jti));
        let user = self.users.get(identity.sub.as_ref());
        // A token that does not say when it was issued may be as old as any.
        let is_old = |entry: &&Entry| identity.issued_at_ms.unwrap_or(0) <= entry.issued_until_ms;
        [token, user.filter(is_old)].into_iter().flatten().any(|entry| entry.until_ms > wall_ms)
    }

    /// Adds an entry, and answers whether another had to go that was still in force.
    fn insert(&mut self, entry: Revoked, wall_ms: u64) -> bool {
        self.tokens.retain(|_, entry| entry.until_ms > wall_ms);
        self.users.retain(|_, entry| entry.until_ms > wall_ms);
        self.put(entry);
        self.len() > self.max && self.forget_oldest()
    }

    /// As [`Self::insert`], without looking through everything each time.
    fn insert_one_of_many(&mut self, entry: Revoked, wall_ms: u64) -> bool {
        if self.len() < self.max {
            self.put(entry);
            return false;
        }
        self.insert(entry, wall_ms)
    }

    fn fingerprint(&self, wall_ms: u64) -> u64 {
        let hashes = |kind: u8, map: &HashMap<String, Entry>| {
            let in_force = map.iter().filter(|(_, entry)| entry.until_ms > wall_ms);
            in_force.map(|(name, entry)| hash(kind, name, entry)).fold(0, u64::wrapping_add)
        };
        hashes(0, &self.tokens).wrapping_add(hashes(1, &self.users))
    }

    /// Whether what the entry refuses is refused without it, or has run out.
    fn covers(&self, entry: &Revoked, wall_ms: u64) -> bool {
        let (known, issued) = match entry {
            Revoked::Token { jti, .. } => (self.tokens.get(jti), 0),
            Revoked::User { sub, issued_until_ms, .. } => (self.users.get(sub), *issued_until_ms),
        };
        let until_ms = entry.until_ms();
        until_ms <= wall_ms || known.is_some_and(|known| known.until_ms >= until_ms && known.issued_until_ms >= issued)
    }

    fn put(&mut self, entry: Revoked) {
        self.version += 1;
        let (map, name, issued_until_ms, until_ms) = match entry {
            Revoked::Token { jti, until_ms } => (&mut self.tokens, jti, u64::MAX, until_ms),
            Revoked::User { sub, issued_until_ms, until_ms } => (&mut self.users, sub, issued_until_ms, until_ms),
        };
        let entry = Entry { age: self.version, issued_until_ms, until_ms };
        // Said twice, the stricter holds.
        map.entry(name)
            .and_modify(|known| {
                known.age = entry.age;
                known.issued_until_ms = known.issued_until_ms.max(issued_until_ms);
                known.until_ms = known.until_ms.max(until_ms);
            })
            .or_insert(entry);
    }

    /// Looks through everything: this is rare, and cheaper than an order that is kept at all times.
    fn forget_oldest(&mut self) -> bool {
        let oldest = self.tokens.values().chain(self.users.values()).map(|entry| entry.age).min();
        self.tokens.retain(|_, entry| Some(entry.age) != oldest);
        self.users.retain(|_, entry| Some(entry.age) != oldest);
        true
    }

    /// Everything, the oldest first, and which version of the list this is.
    fn entries(&self) -> (Vec<Revoked>, u64) {
        let token = |(jti, entry): (&String, &Entry)| {
            (entry.age, Revoked::Token { jti: jti.clone(), until_ms: entry.until_ms })
        };
        let user = |(sub, entry): (&String, &Entry)| {
            let &Entry { age, issued_until_ms, until_ms } = entry;
            (age, Revoked::User { sub: sub.clone(), issued_until_ms, until_ms })
        };
        let mut entries: Vec<_> = self.tokens.iter().map(token).chain(self.users.iter().map(user)).collect();
        entries.sort_by_key(|(age, _)| *age);
        (entries.into_iter().map(|(_, entry)| entry).collect(), self.version)
    }
}

/// The same in every build: FNV-1a, then mixed so that sums do not cancel out.
fn hash(kind: u8, name: &str, entry: &Entry) -> u64 {
    let numbers = [entry.issued_until_ms.to_be_bytes(), entry.until_ms.to_be_bytes()].concat();
    let bytes = std::iter::once(&kind).chain(&numbers).chain(name.as_bytes());
    let fnv = bytes
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3));
    let mixed = (fnv ^ (fnv >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
    mixed ^ (mixed >> 32)
}

#[cfg(test)]
#[path = "revoked_tests.rs"]
mod tests;
