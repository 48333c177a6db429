//! Room ahead of the log's end: it is neither records nor damage, it goes when it is not needed, and no write needs it.

use std::fs;
use std::fs::File;
use std::path::Path;
use std::path::PathBuf;

use syncline::store::DiskFaults;
use syncline::store::DiskMood;
use syncline::store::Epoch;
use syncline::store::LocalOptions;
use syncline::store::LocalStore;
use syncline::store::Seq;
use syncline::store::Store;
use syncline::store::tools;
use tempfile::TempDir;

use crate::conformance::doc;
use crate::conformance::noise;
use crate::conformance::record;
use crate::store_damage::DOCS;
use crate::store_damage::End;
use crate::store_damage::Kept;
use crate::store_damage::copy_of;
use crate::store_damage::files;
use crate::store_damage::filled;
use crate::store_damage::outcome;
use crate::store_damage::written;

const FIRST: Epoch = Epoch(0);

fn segments(dir: &Path) -> Vec<PathBuf> {
    files(&dir.join("log"), Some("log"))
}

fn bytes_of(path: &Path) -> u64 {
    fs::metadata(path).unwrap().len()
}

/// A killed server's directory, its last segment, which has room, and what was acknowledged.
async fn killed() -> (TempDir, PathBuf, Kept) {
    let (dir, kept) = filled(End::Killed).await;
    let last = segments(dir.path()).pop().unwrap();
    assert!(bytes_of(&last) > written(&last).len() as u64 + 100, "there is room");
    (dir, last, kept)
}

#[tokio::test]
async fn room_is_no_damage_and_is_given_back_at_the_next_start() {
    let (dir, last, kept) = killed().await;
    let report = tools::verify(dir.path()).unwrap();
    assert!(report.ok, "{report:?}");
    assert!(report.segments.iter().all(|s| s.torn_bytes == 0 && s.holes.is_empty()), "{report:?}");
    let seen = outcome(dir.path(), &kept, "after a kill").await;
    assert_eq!((seen.whole.len() as u64, bytes_of(&last)), (DOCS, written(&last).len() as u64));
}

/// A crash in the middle of making room: any part of it may be there.
#[tokio::test]
async fn any_part_of_the_room_is_the_clean_end() {
    let (dir, last, kept) = killed().await;
    for len in (written(&last).len() as u64..=bytes_of(&last)).step_by(97) {
        let copy = copy_of(&dir);
        let target = copy.path().join("log").join(last.file_name().unwrap());
        File::options().write(true).open(&target).unwrap().set_len(len).unwrap();
        let report = tools::verify(copy.path()).unwrap();
        assert!(report.ok && report.segments.iter().all(|s| s.torn_bytes == 0), "{len} bytes: {report:?}");
        assert_eq!(outcome(copy.path(), &kept, "part of the room").await.whole.len() as u64, DOCS, "{len} bytes");
    }
}

#[tokio::test]
async fn a_record_that_was_half_written_into_room_is_a_torn_tail() {
    let (dir, last, mut kept) = killed().await;
    let before = written(&last).len();
    // One more record in the same segment, then any part of it.
    let (len, name) = (bytes_of(&last), doc("doc 0"));
    let store = LocalStore::open(LocalOptions::new(dir.path())).unwrap();
    store.append(&name, FIRST, vec![record(noise(900, 1))]).await.unwrap();
    let copy = copy_of(&dir);
    kept.insert(name.clone(), store.load(&name).await.unwrap());
    store.close().await.unwrap();
    let newest = segments(copy.path()).pop().unwrap();
    let whole = written(&newest);
    assert!(len as usize > before && bytes_of(&newest) > whole.len() as u64 + (60 << 10), "the next one has room too");
    for cut in (0..whole.len()).step_by(13).chain([whole.len() - 1]) {
        let torn = copy_of(&copy);
        let mut bytes = whole[..cut].to_vec();
        bytes.resize(whole.len() + 5000, 0);
        fs::write(torn.path().join("log").join(newest.file_name().unwrap()), bytes).unwrap();
        let report = tools::verify(torn.path()).unwrap();
        let said = report.segments.iter().map(|s| s.torn_bytes).sum::<u64>();
        assert!(report.ok && (said > 0) == (cut > 16), "cut at {cut}: {report:?}");
        let seen = outcome(torn.path(), &kept, &format!("cut at {cut}")).await;
        assert_eq!((seen.shorter, seen.says_so), (vec![name.clone()], vec![]), "cut at {cut}");
    }
}

#[tokio::test]
async fn a_closed_store_leaves_no_room_and_a_full_segment_neither() {
    let (dir, kept) = filled(End::Closed).await;
    let all = segments(dir.path());
    assert!(all.len() > 1, "several segments were completed");
    for path in all {
        // A checksum may end in zeros itself.
        assert!(bytes_of(&path) - (written(&path).len() as u64) < 4, "{}", path.display());
    }
    assert_eq!(outcome(dir.path(), &kept, "closed").await.whole.len() as u64, DOCS);
}

#[tokio::test]
async fn what_fits_is_written_even_when_room_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let faults = DiskFaults::default();
    let store = LocalStore::open(LocalOptions { faults: faults.clone(), ..LocalOptions::new(dir.path()) }).unwrap();
    faults.set(DiskMood::Tight);
    for n in 1..=40 {
        assert_eq!(store.append(&doc("d"), FIRST, vec![record(noise(300, n))]).await, Ok(Seq(n)));
    }
    let last = segments(dir.path()).pop().unwrap();
    assert_eq!(bytes_of(&last), written(&last).len() as u64, "nothing is ahead of the end");
    let killed = copy_of(&dir);
    store.close().await.unwrap();
    let store = LocalStore::open(LocalOptions::new(killed.path())).unwrap();
    let loaded = store.load(&doc("d")).await.unwrap();
    assert!((1..).zip(&loaded.records).all(|(n, (seq, r))| *seq == Seq(n) && *r == record(noise(300, n))));
    assert_eq!(loaded.last, Seq(40));
    store.close().await.unwrap();
}

/// A disk that fills up while room is made, and is freed later: appends go on, and none is lost by cutting room back.
#[tokio::test]
async fn a_disk_that_fills_up_and_empties_again_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let faults = DiskFaults::default();
    let store = LocalStore::open(LocalOptions { faults: faults.clone(), ..LocalOptions::new(dir.path()) }).unwrap();
    let (mut sent, mut kept) = (0, Vec::new());
    for mood in [DiskMood::Well, DiskMood::Tight, DiskMood::Torn, DiskMood::Full, DiskMood::SyncFails, DiskMood::Well] {
        faults.set(mood);
        for _ in 0..3 {
            sent += 1;
            if store.append(&doc("d"), FIRST, vec![record(noise(30_000, sent))]).await.is_ok() {
                kept.push(record(noise(30_000, sent)));
            }
        }
    }
    assert_eq!(kept.len(), 9);
    let killed = copy_of(&dir);
    store.close().await.unwrap();
    for dir in [&killed, &dir] {
        let store = LocalStore::open(LocalOptions::new(dir.path())).unwrap();
        let loaded = store.load(&doc("d")).await.unwrap();
        assert!(loaded.records.iter().map(|(_, r)| r).eq(&kept), "{} records", loaded.records.len());
        store.close().await.unwrap();
    }
}
