//! The data directory: one server at a time, one format.
//!
//! ```text
//! LOCK      held while a process has the directory open
//! VERSION   format, and the random id that salts the log's checksums
//! log/      segments
//! sled/     snapshots
//! ```

use std::fs;
use std::fs::File;
use std::fs::TryLockError;
use std::io;
use std::path::Path;
use std::path::PathBuf;

use crate::store::segments::files;
use crate::store::segments::files::LogDir;
use crate::store::segments::files::LogError;
use crate::store::sled::SnapshotError;

const FORMAT: u32 = 1;
const HEADLINE: &str = "syncline data directory";

/// Why a data directory was not opened. Nothing was changed or deleted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error("{0} is in use by another process")]
    Locked(PathBuf),
    /// A newer version of the program wrote it.
    #[error("{0}; use the newer version, or restore a backup")]
    Newer(String),
    /// Something that must be there is gone or unreadable.
    #[error("{0}; nothing was changed: restore the directory from a backup, or look at it with `syncline doc verify`")]
    Damaged(String),
    /// The system refused.
    #[error("{what}: {why}")]
    Io {
        /// What was tried.
        what: String,
        /// What the system said.
        why: String,
    },
}

impl OpenError {
    pub(crate) fn io(what: impl Into<String>, error: &io::Error) -> Self {
        Self::Io { what: what.into(), why: error.to_string() }
    }
}

impl From<LogError> for OpenError {
    fn from(error: LogError) -> Self {
        match error {
            LogError::Io(error) => Self::io("the log cannot be read", &error),
            LogError::Newer(_) => Self::Newer(error.to_string()),
        }
    }
}

impl From<SnapshotError> for OpenError {
    fn from(error: SnapshotError) -> Self {
        Self::Damaged(format!("the snapshot database cannot be opened: {error}"))
    }
}

/// An open, locked data directory.
#[derive(Debug)]
pub(crate) struct DataDir {
    pub(crate) path: PathBuf,
    pub(crate) log: LogDir,
    _lock: Lock,
}

/// Holds a directory for this process.
#[derive(Debug)]
pub(crate) struct Lock(File);

impl Lock {
    /// Makes the directory if need be, and holds it: for a node that keeps its documents elsewhere and only notes here.
    pub(crate) fn on(path: &Path) -> Result<Self, OpenError> {
        let failed = |error| OpenError::io(format!("{} cannot be used as data directory", path.display()), &error);
        fs::create_dir_all(path).map_err(failed)?;
        lock(path)
    }
}

impl Drop for Lock {
    /// Closing the file would do, but for a child process that was just forked and still has it open.
    fn drop(&mut self) {
        let _ = self.0.unlock();
    }
}

impl DataDir {
    /// Opens a directory that must already hold data.
    pub(crate) fn existing(path: &Path) -> Result<Self, OpenError> {
        if !path.join("VERSION").exists() {
            let why = "there is no VERSION file in it".to_owned();
            return Err(OpenError::Io { what: format!("{} is no data directory", path.display()), why });
        }
        Self::open(path)
    }

    /// Opens or creates.
    pub(crate) fn open(path: &Path) -> Result<Self, OpenError> {
        let log = path.join("log");
        let failed = |error| OpenError::io(format!("{} cannot be used as data directory", path.display()), &error);
        let lock = Lock::on(path)?;
        let id = match fs::read_to_string(path.join("VERSION")) {
            Ok(text) => {
                let id = parse(&text)?;
                if !log.is_dir() {
                    return Err(OpenError::Damaged(format!("{} is gone", log.display())));
                }
                id
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => create(path, &log)?,
            Err(error) if error.kind() == io::ErrorKind::InvalidData => return Err(unreadable()),
            Err(error) => return Err(failed(error)),
        };
        let salt = crc32fast::hash(id.as_bytes());
        Ok(Self { path: path.to_owned(), log: LogDir { path: log, salt }, _lock: lock })
    }

    /// Where the snapshots are.
    pub(crate) fn snapshots(&self) -> PathBuf {
        self.path.join("sled")
    }

    /// Whether there is a database of snapshots, or one half exchanged for a rebuilt one.
    pub(crate) fn has_snapshots(&self) -> bool {
        ["sled", "sled.old"].iter().any(|name| self.path.join(name).exists())
    }
}

fn lock(path: &Path) -> Result<Lock, OpenError> {
    let file = File::options().create(true).truncate(false).write(true).open(path.join("LOCK"));
    let file = file.map_err(|error| OpenError::io("the lock file cannot be opened", &error))?;
    match file.try_lock() {
        Ok(()) => Ok(Lock(file)),
        Err(TryLockError::WouldBlock) => Err(OpenError::Locked(path.to_owned())),
        Err(TryLockError::Error(error)) => Err(OpenError::io("the data directory cannot be locked", &error)),
    }
}

/// The VERSION file comes last: a directory without one was never used.
fn create(path: &Path, log: &Path) -> Result<String, OpenError> {
    let failed = |error| OpenError::io(format!("{} cannot be prepared", path.display()), &error);
    let used = path.join("sled").exists() || log.read_dir().is_ok_and(|mut entries| entries.next().is_some());
    if used {
        return Err(OpenError::Damaged(format!("{} has data, but its VERSION file is gone", path.display())));
    }
    fs::create_dir_all(log).map_err(failed)?;
    let id = format!("{:032x}", rand::random::<u128>());
    files::replace_file(&path.join("VERSION"), text(FORMAT, &id).as_bytes()).map_err(failed)?;
    Ok(id)
}

fn text(format: u32, id: &str) -> String {
    let body = format!("{HEADLINE}\nformat {format}\nid {id}\n");
    format!("{body}check {:08x}\n", crc32fast::hash(body.as_bytes()))
}

fn parse(found: &str) -> Result<String, OpenError> {
    let mut lines = found.lines();
    let known = lines.next() == Some(HEADLINE);
    let format = lines.next().and_then(|line| line.strip_prefix("format ")).and_then(|n| n.parse::<u32>().ok());
    let id = lines.next().and_then(|line| line.strip_prefix("id "));
    let (true, Some(format), Some(id)) = (known, format, id) else { return Err(unreadable()) };
    if found != text(format, id) {
        return Err(unreadable());
    }
    if format > FORMAT {
        return Err(OpenError::Newer(format!("the data directory has format {format}, this version knows {FORMAT}")));
    }
    Ok(id.to_owned())
}

fn unreadable() -> OpenError {
    OpenError::Damaged("the VERSION file of the data directory is damaged".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_file_is_believed_only_when_whole() {
        let id = "0123456789abcdef0123456789abcdef";
        assert_eq!(parse(&text(1, id)).as_deref(), Ok(id));
        assert!(matches!(parse(&text(2, id)), Err(OpenError::Newer(_))));
        let whole = text(1, id);
        for at in 0..whole.len() {
            assert!(matches!(parse(&whole[..at]), Err(OpenError::Damaged(_))), "cut at {at}");
        }
        assert!(matches!(parse(&whole.replace("9ab", "9ac")), Err(OpenError::Damaged(_))));
    }

    #[test]
    fn one_process_at_a_time_and_no_second_birth() {
        let dir = tempfile::tempdir().unwrap();
        let open = DataDir::open(dir.path()).unwrap();
        assert!(matches!(DataDir::open(dir.path()), Err(OpenError::Locked(_))));
        drop(open);
        fs::create_dir(dir.path().join("sled")).unwrap();
        fs::remove_file(dir.path().join("VERSION")).unwrap();
        assert!(matches!(DataDir::open(dir.path()), Err(OpenError::Damaged(_))));
    }
}
