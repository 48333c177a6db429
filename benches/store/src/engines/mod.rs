//! The engines that the store stands beside, each used as a log of updates and a place for snapshots.
//!
//! All are given the same encoded values, one for each append, under the same names, and the group commit that suits
//! them best: whatever waits goes into one transaction with one flush.

mod bare;
mod fjall;
mod redb;
mod sled;

use std::path::Path;

use anyhow::Result;
use bytes::Bytes;
use syncline::name::DocName;

pub(crate) use crate::engines::bare::Bare;
pub(crate) use crate::engines::fjall::Fjall;
pub(crate) use crate::engines::redb::Redb;
pub(crate) use crate::engines::sled::Sled;

/// How much memory an engine may use for what it reads; its own default is often a gigabyte.
const CACHE_BYTES: u64 = 64 << 20;

/// One append to one document.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) doc: DocName,
    /// The last record of the append.
    pub(crate) seq: u64,
    pub(crate) value: Bytes,
}

/// A snapshot that takes the place of the records up to `through`.
#[derive(Debug, Clone)]
pub(crate) struct Folded {
    pub(crate) doc: DocName,
    pub(crate) through: u64,
    pub(crate) state: Bytes,
}

/// What is kept of a document: its snapshot, and the values after it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) snapshot: Bytes,
    pub(crate) values: Vec<Bytes>,
}

/// What a log of many documents needs of an engine.
pub(crate) trait Engine: Send {
    /// Makes a group of appends durable.
    fn commit(&mut self, group: &[Entry]) -> Result<()>;
    /// Makes a group of snapshots durable and removes what they cover.
    fn fold(&mut self, group: &[Folded]) -> Result<()>;
    /// Reads a document.
    fn load(&mut self, doc: &DocName) -> Result<Kept>;
}

/// Whom the store is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Ours,
    Bare,
    Sled,
    Redb,
    Fjall,
}

impl Kind {
    pub(crate) const ALL: [Self; 5] = [Self::Ours, Self::Bare, Self::Sled, Self::Redb, Self::Fjall];
    /// Those that can hold documents: a bare file has no way to give anything back.
    pub(crate) const STORES: [Self; 4] = [Self::Ours, Self::Sled, Self::Redb, Self::Fjall];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ours => "syncline",
            Self::Bare => "bare append",
            Self::Sled => "sled 0.34",
            Self::Redb => "redb 4",
            Self::Fjall => "fjall 3",
        }
    }

    pub(crate) fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Opens an engine; not for [`Kind::Ours`], which is no engine but a store.
    pub(crate) fn open(self, dir: &Path) -> Result<Box<dyn Engine>> {
        std::fs::create_dir_all(dir)?;
        Ok(match self {
            Self::Ours => anyhow::bail!("the store is opened as such"),
            Self::Bare => Box::new(Bare::open(dir)?),
            Self::Sled => Box::new(Sled::open(dir)?),
            Self::Redb => Box::new(Redb::open(dir)?),
            Self::Fjall => Box::new(Fjall::open(dir)?),
        })
    }
}

/// The key of an append: in order of the document's log.
fn log_key(doc: &DocName, seq: u64) -> Vec<u8> {
    let mut key = log_prefix(doc);
    key.extend_from_slice(&seq.to_be_bytes());
    key
}

fn log_prefix(doc: &DocName) -> Vec<u8> {
    [doc.as_str().as_bytes(), b"\0r"].concat()
}

/// The key of a part of a snapshot.
fn snapshot_key(doc: &DocName, part: u32) -> Vec<u8> {
    let mut key = snapshot_prefix(doc);
    key.extend_from_slice(&part.to_be_bytes());
    key
}

fn snapshot_prefix(doc: &DocName) -> Vec<u8> {
    [doc.as_str().as_bytes(), b"\0s"].concat()
}
