//! One suite for every store. A story is written once and told to each engine.

mod laws;
mod model;
mod stories;

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use syncline::config::Secret;
use syncline::name::DocName;
use syncline::store::Faulty;
use syncline::store::LocalOptions;
use syncline::store::LocalStore;
use syncline::store::MemoryStore;
use syncline::store::PostgresOptions;
use syncline::store::PostgresStore;
use syncline::store::Record;
use syncline::store::Seq;
use syncline::store::Snapshot;
use syncline::store::Store;
use tempfile::TempDir;

use crate::support::postgres as server;

/// Opens a store again and again over the same data.
pub(crate) trait Engine {
    /// Opens it. The former one was closed.
    fn open(&mut self) -> Arc<dyn Store>;
    /// Whether a second opening finds what the first one kept.
    fn persists(&self) -> bool {
        true
    }
}

pub(crate) struct Memory;

impl Engine for Memory {
    fn open(&mut self) -> Arc<dyn Store> {
        Arc::new(MemoryStore::new())
    }

    fn persists(&self) -> bool {
        false
    }
}

/// The local store, with segments so small that every story crosses several.
pub(crate) struct Local {
    pub(crate) dir: TempDir,
}

impl Local {
    pub(crate) fn new() -> Self {
        Self { dir: tempfile::tempdir().expect("a temporary directory") }
    }
}

pub(crate) fn local_options(dir: &Path) -> LocalOptions {
    LocalOptions { segment_bytes: 4096, ..LocalOptions::new(dir) }
}

impl Engine for Local {
    fn open(&mut self) -> Arc<dyn Store> {
        Arc::new(LocalStore::open(local_options(self.dir.path())).expect("the data directory opens"))
    }
}

/// The local store behind a fault injector without faults: it must not be noticed.
pub(crate) struct Wrapped(Local);

impl Engine for Wrapped {
    fn open(&mut self) -> Arc<dyn Store> {
        let store = LocalStore::open(local_options(self.0.dir.path())).expect("the data directory opens");
        Arc::new(Faulty::new(store).0)
    }
}

/// The shared store, in a database of its own on a real server.
pub(crate) struct Postgres {
    url: Secret,
}

impl Postgres {
    pub(crate) async fn new() -> Self {
        Self { url: Secret::new(server::database().await) }
    }
}

impl Engine for Postgres {
    fn open(&mut self) -> Arc<dyn Store> {
        Arc::new(PostgresStore::open(PostgresOptions::new(self.url.clone())).expect("the database opens"))
    }
}

/// Runs every story against one engine.
macro_rules! conforms {
    ($module:ident, $engine:expr, $($story:ident),+ $(,)?) => {
        mod $module {
            use super::*;
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $story() {
                    stories::$story(&mut $engine).await;
                }
            )+
        }
    };
}

macro_rules! every_story {
    ($module:ident, $engine:expr) => {
        conforms!(
            $module,
            $engine,
            appends_come_back_in_order,
            an_append_of_several_is_one,
            an_append_of_nothing_changes_nothing,
            a_dropped_future_was_called_all_the_same,
            names_of_every_shape,
            a_document_that_was_never_written,
            loading_what_is_beyond_a_position,
            compaction_keeps_later_records,
            compaction_that_does_not_fit_is_refused,
            compaction_again_and_again,
            an_older_epoch_is_refused,
            a_tombstone_and_a_new_life,
            a_memo_stays_for_as_long_as_the_name_lives,
            many_deletions_at_once,
            listing_in_pages,
            listing_leaves_out_the_deleted,
            reopening_keeps_everything,
            many_writers_to_many_documents,
            large_values,
            a_probe_succeeds,
            a_closed_store_says_so,
        );
    };
}

every_story!(memory, Memory);
every_story!(local, Local::new());
every_story!(local_behind_faulty, Wrapped(Local::new()));
every_story!(postgres, Postgres::new().await);

pub(crate) fn doc(name: &str) -> DocName {
    DocName::parse(name).expect("a valid name")
}

pub(crate) fn record(update: impl Into<Vec<u8>>) -> Record {
    let update: Vec<u8> = update.into();
    let at_ms = 1_700_000_000_000 + update.len() as u64;
    Record { update: update.into(), user: Some("alice".into()), at_ms, sidecar: Bytes::from_static(b"beside") }
}

pub(crate) fn snapshot(state: impl Into<Vec<u8>>, through: u64) -> Snapshot {
    let state: Vec<u8> = state.into();
    Snapshot { state: state.into(), through: Seq(through), sidecar: Bytes::from_static(b"folded") }
}

/// Bytes that do not repeat, the same for the same seed.
pub(crate) fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    (0..len).map(|_| next()).collect()
}
