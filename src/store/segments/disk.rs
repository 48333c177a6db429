//! The writer's way to the disk, with a switch to let it fail.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::AtomicU8;
use std::sync::atomic::Ordering;

/// What the disk does from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum DiskMood {
    /// It works.
    #[default]
    Well = 0,
    /// There is no room: nothing can be written.
    Full = 1,
    /// Half of each write arrives, then there is no room.
    Torn = 2,
    /// Writes arrive, but making them durable fails.
    SyncFails = 3,
    /// There is room for what must be written, and for nothing ahead of it.
    Tight = 4,
}

/// Lets tests take the disk away from a running store. A store that was not given one works with the bare disk.
#[derive(Debug, Clone, Default)]
pub struct DiskFaults(Arc<AtomicU8>);

impl DiskFaults {
    /// Changes what the disk does.
    pub fn set(&self, mood: DiskMood) {
        self.0.store(mood as u8, Ordering::SeqCst);
    }

    fn is(&self, mood: DiskMood) -> bool {
        self.0.load(Ordering::SeqCst) == mood as u8
    }

    /// Fails where a write would.
    pub(crate) fn check_write(&self) -> io::Result<()> {
        if self.is(DiskMood::Full) || self.is(DiskMood::Torn) { Err(full()) } else { Ok(()) }
    }

    pub(crate) fn write_all_at(&self, file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
        if self.is(DiskMood::Torn) {
            file.write_all_at(&bytes[..bytes.len() / 2], at)?;
        }
        self.check_write()?;
        file.write_all_at(bytes, at)
    }

    /// Writes what may be left out: half of it arrives where there is no room.
    pub(crate) fn write_ahead(&self, file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
        if self.is(DiskMood::Tight) {
            file.write_all_at(&bytes[..bytes.len() / 2], at)?;
            return Err(full());
        }
        self.write_all_at(file, bytes, at)
    }

    pub(crate) fn sync_data(&self, file: &File) -> io::Result<()> {
        if self.is(DiskMood::SyncFails) { Err(io::Error::other("the disk does not answer")) } else { file.sync_data() }
    }
}

fn full() -> io::Error {
    io::Error::from(io::ErrorKind::StorageFull)
}
