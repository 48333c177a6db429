//! Random lives of a local store, reboots and crashes among them: what was acknowledged is there, nothing is invented.

use std::fs;
use std::path::Path;

use bytes::Bytes;
use proptest::prelude::*;
use syncline::store::DiskFaults;
use syncline::store::DiskMood;
use syncline::store::LocalOptions;
use syncline::store::LocalStore;
use syncline::store::Store;
use syncline::store::StoreError;
use tempfile::TempDir;

use super::doc;
use super::model::Model;
use super::noise;
use super::record;
use super::snapshot;

#[derive(Debug, Clone)]
enum Step {
    Append {
        doc: u8,
        records: u8,
        size: u16,
    },
    /// Several appends called at once.
    Burst {
        docs: Vec<u8>,
    },
    Compact {
        doc: u8,
        behind: u8,
        size: u32,
    },
    Delete {
        doc: u8,
        memo: u16,
    },
    Revive {
        doc: u8,
    },
    Rebuild,
    /// The disk fails for one append; it must not count, nor harm what comes after.
    DiskFails {
        doc: u8,
        mood: DiskMood,
    },
    /// Closed and opened again.
    Reopen,
    /// The files as they are at this moment, opened as after a kill.
    Crash,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let moods = prop_oneof![Just(DiskMood::Full), Just(DiskMood::Torn), Just(DiskMood::SyncFails)];
    let step = prop_oneof![
        8 => (0..6_u8, 1..4_u8, 0..900_u16).prop_map(|(doc, records, size)| Step::Append { doc, records, size }),
        3 => prop::collection::vec(0..6_u8, 1..20).prop_map(|docs| Step::Burst { docs }),
        4 => (0..6_u8, 0..3_u8, 0..3000_u32).prop_map(|(doc, behind, size)| Step::Compact { doc, behind, size }),
        1 => (0..6_u8, 0..40_000_u16).prop_map(|(doc, memo)| Step::Delete { doc, memo }),
        2 => (0..6_u8).prop_map(|doc| Step::Revive { doc }),
        1 => Just(Step::Rebuild),
        1 => (0..6_u8, moods).prop_map(|(doc, mood)| Step::DiskFails { doc, mood }),
        1 => Just(Step::Reopen),
        2 => Just(Step::Crash),
    ];
    prop::collection::vec(step, 1..60)
}

struct World {
    dir: TempDir,
    store: LocalStore,
    faults: DiskFaults,
    model: Model,
    /// Makes every update different from every other.
    tick: u64,
}

fn open(dir: &Path) -> (LocalStore, DiskFaults) {
    let options = LocalOptions { segment_bytes: 3000, cache_bytes: 1 << 20, ..LocalOptions::new(dir) };
    let faults = options.faults.clone();
    (LocalStore::open(options).expect("it opens every time"), faults)
}

fn name(n: u8) -> syncline::name::DocName {
    doc(&format!("doc/{n}"))
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (store, faults) = open(dir.path());
        Self { dir, store, faults, model: Model::default(), tick: 0 }
    }

    fn records(&mut self, count: u8, size: u16) -> Vec<syncline::store::Record> {
        let mut fresh = || {
            self.tick += 1;
            record([&self.tick.to_le_bytes()[..], &noise(size.into(), self.tick)].concat())
        };
        (0..count).map(|_| fresh()).collect()
    }

    async fn take(&mut self, step: Step) {
        match step {
            Step::Append { doc, records, size } => {
                let records = self.records(records, size);
                let answer = self.store.append(&name(doc), self.model.epoch(doc), records.clone()).await;
                assert_eq!(answer, self.model.append(doc, &records));
            }
            Step::Burst { docs } => self.burst(docs).await,
            Step::Compact { doc, behind, size } => self.compact(doc, behind, size).await,
            Step::Delete { doc, memo } => {
                self.tick += 1;
                let memo = Bytes::from(noise(memo.into(), self.tick));
                let answer = self.store.delete(&name(doc), memo.clone()).await;
                assert_eq!(answer, Ok(self.model.delete(doc, memo)));
            }
            Step::Revive { doc } => assert_eq!(self.store.revive(&name(doc)).await, Ok(self.model.revive(doc))),
            Step::Rebuild => self.store.rebuild().await.expect("a rebuild works"),
            Step::DiskFails { doc, mood } => self.disk_fails(doc, mood).await,
            Step::Reopen => self.reopen().await,
            Step::Crash => self.crash().await,
        }
    }

    async fn burst(&mut self, docs: Vec<u8>) {
        let mut pending = Vec::new();
        for doc in docs {
            let records = self.records(1, 40);
            let append = self.store.append(&name(doc), self.model.epoch(doc), records.clone());
            pending.push((append, self.model.append(doc, &records)));
        }
        for (append, expected) in pending {
            assert_eq!(append.await, expected);
        }
    }

    async fn compact(&mut self, doc: u8, behind: u8, size: u32) {
        self.tick += 1;
        let last = self.model.load(doc).map_or(0, |d| d.last.0);
        let wanted = snapshot(noise(size as usize, self.tick), last.saturating_sub(behind.into()));
        let epoch = self.model.epoch(doc);
        let answer = self.store.compact(&name(doc), epoch, wanted.clone()).await;
        match self.model.compact(doc, wanted) {
            Some(true) => assert_eq!(answer, Ok(())),
            Some(false) => assert!(matches!(answer, Err(StoreError::Conflict(_))), "{answer:?}"),
            None => assert_eq!(answer, Err(StoreError::Deleted)),
        }
    }

    async fn disk_fails(&mut self, doc: u8, mood: DiskMood) {
        self.faults.set(mood);
        let records = self.records(2, 100);
        let answer = self.store.append(&name(doc), self.model.epoch(doc), records).await;
        let refused = matches!(answer, Err(StoreError::Unavailable(_)));
        // What is refused anyway needs no disk.
        assert!(refused || self.model.load(doc) == Err(StoreError::Deleted), "{answer:?}");
        assert!(matches!(self.store.probe().await, Err(StoreError::Unavailable(_))));
        self.faults.set(DiskMood::Well);
        assert_eq!(self.store.probe().await, Ok(()), "it recovers by itself");
    }

    async fn reopen(&mut self) {
        self.store.close().await.expect("it closes");
        (self.store, self.faults) = open(self.dir.path());
    }

    async fn crash(&mut self) {
        let copy = tempfile::tempdir().expect("a temporary directory");
        // Nothing is asked for while the files are copied; a last probe waits for the keeper's tail of work.
        self.store.rebuild().await.expect("a rebuild works");
        copy_dir(self.dir.path(), copy.path());
        self.store.close().await.expect("it closes");
        (self.store, self.faults) = open(copy.path());
        self.dir = copy;
    }

    async fn check(&self) {
        for doc in 0..6 {
            assert_eq!(self.store.load(&name(doc)).await, self.model.load(doc), "doc/{doc}");
        }
        let listed = self.store.list("doc/", None, 100).await.expect("it lists").docs;
        let expected = self.model.0.iter().filter(|(_, d)| !d.deleted && d.kept.last.0 > 0);
        assert!(listed.iter().map(|i| (i.name.clone(), i.last)).eq(expected.map(|(&n, d)| (name(n), d.kept.last))));
    }
}

fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory");
    for entry in fs::read_dir(from).expect("a directory") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("a type").is_dir() {
            copy_dir(&entry.path(), &target);
        } else {
            // A segment may be deleted between the listing and the copy: nothing needs it then.
            let _ = fs::copy(entry.path(), target);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, max_shrink_iters: 200, ..ProptestConfig::default() })]
    #[test]
    fn what_was_acknowledged_is_there_and_nothing_else(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().expect("a runtime");
        runtime.block_on(async {
            let mut world = World::new();
            for step in steps {
                world.take(step).await;
            }
            world.check().await;
            world.reopen().await;
            world.check().await;
        });
    }
}
