//! Damaged data directories: they open or say why not, nothing panics, and a document is whole or says that it is not.

use std::collections::BTreeMap;
use std::fs;
use std::fs::File;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;
use std::io::Seek;
use std::io::SeekFrom;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Stdio;

use bytes::Bytes;
use syncline::name::DocName;
use syncline::store::Epoch;
use syncline::store::Loaded;
use syncline::store::LocalStore;
use syncline::store::OpenError;
use syncline::store::Store;
use syncline::store::StoreError;
use syncline::store::tools;
use tempfile::TempDir;

use crate::conformance::doc;
use crate::conformance::local_options;
use crate::conformance::noise;
use crate::conformance::record;
use crate::conformance::snapshot;

const FIRST: Epoch = Epoch(0);
pub(crate) const DOCS: u64 = 8;

pub(crate) type Kept = BTreeMap<DocName, Loaded>;

/// How the writing server ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Closed,
    Killed,
}

/// A data directory with records, snapshots, both, and a tombstone, and what is in it.
pub(crate) async fn filled(end: End) -> (TempDir, Kept) {
    let dir = tempfile::tempdir().unwrap();
    let store = LocalStore::open(local_options(dir.path())).unwrap();
    for n in 0..DOCS {
        let name = doc(&format!("doc {n}"));
        for k in 1..=6_u64 {
            store.append(&name, FIRST, vec![record(noise(60 + k as usize, n * 100 + k))]).await.unwrap();
        }
        if n % 2 == 1 {
            store.compact(&name, FIRST, snapshot(noise(700, n), 2 + n % 5)).await.unwrap();
        }
    }
    store.append(&doc("gone"), FIRST, vec![record("x")]).await.unwrap();
    store.delete(&doc("gone"), Bytes::new()).await.unwrap();
    for n in 0..DOCS {
        store.append(&doc(&format!("doc {n}")), FIRST, vec![record(noise(40, n))]).await.unwrap();
    }
    // Waits for the keeper: the files stand still afterwards.
    store.rebuild().await.unwrap();
    let mut kept = Kept::new();
    for n in 0..DOCS {
        let name = doc(&format!("doc {n}"));
        kept.insert(name.clone(), store.load(&name).await.unwrap());
    }
    if end == End::Closed {
        store.close().await.unwrap();
        return (dir, kept);
    }
    let copy = tempfile::tempdir().unwrap();
    copy_dir(dir.path(), copy.path());
    (copy, kept)
}

fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_dir(&entry.path(), &target)
        } else {
            drop(fs::copy(entry.path(), target))
        }
    }
}

pub(crate) fn copy_of(dir: &TempDir) -> TempDir {
    let copy = tempfile::tempdir().unwrap();
    copy_dir(dir.path(), copy.path());
    copy
}

pub(crate) fn files(dir: &Path, extension: Option<&str>) -> Vec<PathBuf> {
    let mut found: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    found.retain(|path| path.is_file() && extension.is_none_or(|wanted| path.extension().is_some_and(|e| e == wanted)));
    found.sort();
    found
}

/// What is written of a segment, without the room behind it.
pub(crate) fn written(path: &Path) -> Vec<u8> {
    let mut bytes = fs::read(path).unwrap();
    bytes.truncate(bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1));
    bytes
}

fn flip(path: &Path, at: u64, mask: u8) {
    let mut file = File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.seek(SeekFrom::Start(at)).unwrap();
    file.read_exact(&mut byte).unwrap();
    file.seek(SeekFrom::Start(at)).unwrap();
    file.write_all(&[byte[0] ^ mask]).unwrap();
}

/// What became of each document.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) whole: Vec<DocName>,
    /// It says that it is damaged.
    pub(crate) says_so: Vec<DocName>,
    /// A prefix of what it was: only a tail that was cut and reported may be missing.
    pub(crate) shorter: Vec<DocName>,
}

/// Opens and compares. Anything that is neither whole nor an honest refusal fails the test, but for a cut tail.
pub(crate) async fn outcome(dir: &Path, kept: &Kept, context: &str) -> Outcome {
    let store = LocalStore::open(local_options(dir)).unwrap_or_else(|error| panic!("{context}: {error}"));
    let mut outcome = Outcome::default();
    for (name, expected) in kept {
        match store.load(name).await {
            Ok(loaded) if loaded == *expected => outcome.whole.push(name.clone()),
            Ok(loaded) => {
                let prefix = loaded.snapshot == expected.snapshot && expected.records.starts_with(&loaded.records);
                assert!(prefix && loaded.epoch == expected.epoch, "{context}: {name} was made up: {loaded:?}");
                outcome.shorter.push(name.clone());
            }
            Err(StoreError::Damaged(_)) => outcome.says_so.push(name.clone()),
            Err(error) => panic!("{context}: {name}: {error}"),
        }
    }
    store.close().await.unwrap();
    outcome
}

#[tokio::test]
async fn a_tail_cut_at_any_byte_loses_only_itself() {
    let (dir, mut kept) = filled(End::Killed).await;
    let tail = files(&dir.path().join("log"), Some("log")).pop().unwrap();
    {
        // The last record, alone in its round.
        let store = LocalStore::open(local_options(dir.path())).unwrap();
        store.append(&doc("doc 0"), FIRST, vec![record("last")]).await.unwrap();
        kept.insert(doc("doc 0"), store.load(&doc("doc 0")).await.unwrap());
        let copy = copy_of(&dir);
        store.close().await.unwrap();
        let newest = files(&copy.path().join("log"), Some("log")).pop().unwrap();
        assert_ne!(newest.file_name(), tail.file_name());
        let whole = written(&newest);
        for len in 0..whole.len() {
            let cut = copy_of(&copy);
            fs::write(cut.path().join("log").join(newest.file_name().unwrap()), &whole[..len]).unwrap();
            let seen = outcome(cut.path(), &kept, &format!("cut to {len}")).await;
            assert_eq!((seen.shorter, seen.says_so), (vec![doc("doc 0")], vec![]), "cut to {len}");
        }
    }
}

#[tokio::test]
async fn a_flipped_bit_in_the_log_hurts_one_document() {
    for end in [End::Closed, End::Killed] {
        let (dir, kept) = filled(end).await;
        let logs = files(&dir.path().join("log"), None);
        for seed in 0..150_u64 {
            let copy = copy_of(&dir);
            let path = &logs[seed as usize % logs.len()];
            let len = written(path).len() as u64;
            let dice = u64::from_le_bytes(noise(8, seed + 1).try_into().unwrap());
            let (at, mask) = (dice % len, 1 << (dice >> 32 & 7));
            flip(&copy.path().join("log").join(path.file_name().unwrap()), at, mask);
            let context = format!("{end:?}, seed {seed}: {} byte {at}", path.display());
            // A version byte that says "newer" cannot be told from a newer version's.
            match LocalStore::open(local_options(copy.path())) {
                Err(OpenError::Newer(_)) if at == 7 => continue,
                Err(error) => panic!("{context}: {error}"),
                Ok(store) => store.close().await.unwrap(),
            }
            let seen = outcome(copy.path(), &kept, &context).await;
            assert!(seen.says_so.len() + seen.shorter.len() <= 1, "{context}: {seen:?}");
            assert!(end == End::Killed || seen.shorter.is_empty(), "{context}: {seen:?}");
            // The verdict is the same at the next start: what was found is written down.
            let again = outcome(copy.path(), &kept, &context).await;
            assert_eq!((again.says_so, again.shorter), (seen.says_so, seen.shorter), "{context}");
        }
    }
}

#[tokio::test]
async fn a_hole_in_the_log_is_never_silent() {
    let (dir, kept) = filled(End::Killed).await;
    let logs = files(&dir.path().join("log"), Some("log"));
    for seed in 0..60_u64 {
        let copy = copy_of(&dir);
        let path = copy.path().join("log").join(logs[seed as usize % logs.len()].file_name().unwrap());
        let mut bytes = written(&path);
        let dice = u64::from_le_bytes(noise(8, seed + 1).try_into().unwrap()) as usize;
        let from = dice % bytes.len();
        let to = (from + 512).min(bytes.len());
        // A good entry is left behind the hole, or it would be a torn tail.
        if to + 600 > bytes.len() {
            continue;
        }
        bytes[from..to].fill(0);
        fs::write(&path, bytes).unwrap();
        let seen = outcome(copy.path(), &kept, &format!("seed {seed}: {} from {from}", path.display())).await;
        assert_eq!(seen.shorter, vec![], "seed {seed}");
    }
}

#[tokio::test]
async fn damage_in_sled_is_an_error_or_noticed_by_the_document() {
    let (dir, kept) = filled(End::Closed).await;
    let found = files(&dir.path().join("sled"), None);
    let (mut refused, mut noticed) = (0, 0);
    for seed in 0..120_u64 {
        let copy = copy_of(&dir);
        let path = &found[seed as usize % found.len()];
        let target = copy.path().join("sled").join(path.file_name().unwrap());
        let len = fs::metadata(&target).unwrap().len();
        if len == 0 {
            continue;
        }
        let dice = u64::from_le_bytes(noise(8, seed + 1).try_into().unwrap());
        match seed % 3 {
            0 => flip(&target, dice % len, 1 << (dice >> 32 & 7)),
            // The end cut off, and the end overwritten: what sled was seen to accept with holes.
            1 => File::options().write(true).open(&target).unwrap().set_len(dice % len).unwrap(),
            _ => (dice % len..len).step_by(7).for_each(|at| flip(&target, at, 0xff)),
        }
        let before = files(&copy.path().join("sled"), None).len();
        match LocalStore::open(local_options(copy.path())) {
            Err(OpenError::Damaged(_)) => {
                refused += 1;
                assert!(files(&copy.path().join("sled"), None).len() >= before, "nothing is deleted");
                continue;
            }
            Err(error) => panic!("seed {seed}: {error}"),
            Ok(store) => drop(store.close().await),
        }
        let Ok(store) = LocalStore::open(local_options(copy.path())) else { continue };
        for (name, expected) in &kept {
            match store.load(name).await {
                Ok(loaded) => assert_eq!(loaded, *expected, "seed {seed}: {name}"),
                Err(StoreError::Damaged(_) | StoreError::Unavailable(_)) => noticed += 1,
                Err(error) => panic!("seed {seed}: {name}: {error}"),
            }
            let has_snapshot = expected.snapshot.is_some();
            assert!(has_snapshot || store.load(name).await.is_ok(), "seed {seed}: {name} needs no sled");
        }
        drop(store.close().await);
    }
    assert!(refused + noticed > 0, "the damage was too mild to prove anything");
}

#[tokio::test]
async fn a_missing_half_is_not_taken_for_an_empty_one() {
    let (dir, _) = filled(End::Closed).await;
    for gone in ["sled", "log", "VERSION"] {
        let copy = copy_of(&dir);
        let path = copy.path().join(gone);
        if path.is_dir() {
            fs::remove_dir_all(&path).unwrap()
        } else {
            fs::remove_file(&path).unwrap()
        }
        let refused = LocalStore::open(local_options(copy.path()));
        assert!(matches!(refused, Err(OpenError::Damaged(_))), "{gone}: {refused:?}");
        assert!(!path.exists(), "{gone} was made up");
    }
    let copy = copy_of(&dir);
    for path in files(&copy.path().join("log"), None) {
        fs::remove_file(path).unwrap();
    }
    assert!(matches!(LocalStore::open(local_options(copy.path())), Err(OpenError::Damaged(_))));
}

#[tokio::test]
async fn a_segment_that_is_gone_is_missed() {
    let (dir, kept) = filled(End::Closed).await;
    for path in files(&dir.path().join("log"), Some("log")) {
        let copy = copy_of(&dir);
        fs::remove_file(copy.path().join("log").join(path.file_name().unwrap())).unwrap();
        let seen = outcome(copy.path(), &kept, &path.display().to_string()).await;
        assert_eq!(seen.shorter, vec![], "{}", path.display());
    }
}

#[tokio::test]
async fn two_servers_do_not_share_a_directory() {
    let dir = tempfile::tempdir().unwrap();
    let store = LocalStore::open(local_options(dir.path())).unwrap();
    assert!(matches!(LocalStore::open(local_options(dir.path())), Err(OpenError::Locked(_))));
    store.close().await.unwrap();
    LocalStore::open(local_options(dir.path())).unwrap().close().await.unwrap();
}

#[tokio::test]
async fn the_tools_see_what_the_server_sees() {
    let (dir, kept) = filled(End::Killed).await;
    let report = tools::verify(dir.path()).unwrap();
    assert!(report.ok, "{report:?}");
    assert_eq!((report.documents, report.tombstones, report.snapshots), (DOCS, 1, DOCS / 2));
    let listed = tools::list(dir.path()).unwrap();
    assert_eq!(listed.iter().filter(|l| !l.deleted).count() as u64, DOCS);
    for (name, expected) in &kept {
        let exported = tools::export(dir.path(), name).unwrap();
        assert_eq!((&exported.snapshot, &exported.records), (&expected.snapshot, &expected.records));
        assert_eq!(exported.trouble, None);
    }
    let last = tools::import(local_options(dir.path()), &doc("gone"), vec![record("new")]).await.unwrap();
    assert_eq!(last.0, 1);
    assert_eq!(tools::export(dir.path(), &doc("gone")).unwrap().epoch, Epoch(1));
    // Damage one entry in the middle: the report names its document, the export brings the rest.
    let victim = files(&dir.path().join("log"), Some("log")).remove(0);
    flip(&victim, 16 + 70, 1);
    let report = tools::verify(dir.path()).unwrap();
    assert!(!report.ok);
    let name = doc(&report.damaged[0].name);
    let rest = tools::export(dir.path(), &name).unwrap();
    assert!(rest.trouble.is_some());
    assert!(rest.records.len() + 1 >= kept[&name].records.len() / 2);
    assert!(serde_json::to_string(&report).unwrap().contains("\"damaged\""));
}

/// What the child of the next test does: writes until it is killed, and says what was acknowledged. Does nothing unless it
/// is that child.
#[test]
fn a_writer_to_be_killed() {
    let Ok(dir) = std::env::var("STORE_TO_FILL") else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
    runtime.block_on(async {
        let store = LocalStore::open(local_options(Path::new(&dir))).unwrap();
        let mut last = BTreeMap::new();
        for n in 0..4_u64 {
            last.insert(n, store.load(&doc(&format!("doc {n}"))).await.unwrap().last.0);
        }
        for k in 0.. {
            let n = k % 4;
            let name = doc(&format!("doc {n}"));
            let before = last[&n];
            let records = (1..=3).map(|i| record(noise(50, before + i))).collect();
            // What is acknowledged is said in one write, or not at all.
            let seq = store.append(&name, FIRST, records).await.unwrap();
            last.insert(n, seq.0);
            println!("\nacknowledged {n} {}", seq.0);
            if k % 3 == 0 {
                // Not awaited: the kill meets the keeper in the middle of its work.
                drop(store.compact(&name, FIRST, snapshot(noise(900, seq.0), seq.0)));
            }
        }
    });
}

/// Twelve kills, one data directory. The first round that fails prints what was expected.
#[tokio::test]
async fn a_killed_writer_loses_nothing_that_it_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let mut acknowledged: BTreeMap<u64, u64> = BTreeMap::new();
    for round in 0..12_u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--nocapture", "store_damage::a_writer_to_be_killed"])
            .env("STORE_TO_FILL", dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut wanted = 5 + u64::from(noise(1, round)[0]) / 3;
        for line in BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok) {
            let Some((n, seq)) = line.strip_prefix("acknowledged ").and_then(|rest| rest.split_once(' ')) else {
                continue;
            };
            acknowledged.insert(n.parse().unwrap(), seq.parse().unwrap());
            wanted = wanted.saturating_sub(1);
            if wanted == 0 {
                child.kill().unwrap();
            }
        }
        child.wait().unwrap();
        let store = LocalStore::open(local_options(dir.path())).unwrap();
        for (n, seq) in &acknowledged {
            let loaded = store.load(&doc(&format!("doc {n}"))).await.unwrap();
            assert!(loaded.last.0 >= *seq, "round {round}: doc {n} ends at {:?}, {seq} was acknowledged", loaded.last);
            assert!(loaded.last.0.is_multiple_of(3), "round {round}: an append is kept whole or not at all");
            if let Some(found) = loaded.snapshot {
                assert_eq!(found, snapshot(noise(900, found.through.0), found.through.0), "round {round}");
            }
            assert!(loaded.records.iter().all(|(seq, r)| *r == record(noise(50, seq.0))), "round {round}: doc {n}");
        }
        store.close().await.unwrap();
    }
    assert_eq!(acknowledged.len(), 4);
}

#[tokio::test]
async fn the_log_stays_small_beside_a_document_that_is_never_compacted() {
    let dir = tempfile::tempdir().unwrap();
    let store = LocalStore::open(local_options(dir.path())).unwrap();
    store.append(&doc("idle"), FIRST, vec![record("kept for ever")]).await.unwrap();
    assert_eq!(store.pinning(9), vec![doc("idle")]);
    for n in 1..=400_u64 {
        store.append(&doc("busy"), FIRST, vec![record(noise(500, n))]).await.unwrap();
        if n % 10 == 0 {
            store.compact(&doc("busy"), FIRST, snapshot(noise(100, n), n)).await.unwrap();
        }
    }
    store.rebuild().await.unwrap();
    let idle = store.load(&doc("idle")).await.unwrap();
    assert_eq!(idle.records[0].1, record("kept for ever"));
    // 400 records are 250 KB; what is needed is a few hundred bytes.
    let log: u64 = files(&dir.path().join("log"), None).iter().map(|path| fs::metadata(path).unwrap().len()).sum();
    assert!(log < 40_000, "the log has {log} bytes");
    store.close().await.unwrap();
}

#[tokio::test]
async fn restarts_do_not_pile_up_segments() {
    let dir = tempfile::tempdir().unwrap();
    for n in 1..=60_u64 {
        let options = syncline::store::LocalOptions::new(dir.path());
        let store = LocalStore::open(options).unwrap();
        let seq = store.append(&doc("d"), FIRST, vec![record(noise(20, n))]).await.unwrap();
        assert_eq!(seq.0, n);
        store.close().await.unwrap();
    }
    let segments = files(&dir.path().join("log"), Some("log")).len();
    assert!(segments <= 40, "{segments} segments");
    assert!(tools::verify(dir.path()).unwrap().ok);
}

#[tokio::test]
async fn a_rebuild_gives_space_back_and_keeps_everything() {
    let (dir, kept) = filled(End::Closed).await;
    let store = LocalStore::open(local_options(dir.path())).unwrap();
    for n in 7..60_u64 {
        store.append(&doc("doc 1"), FIRST, vec![record("more")]).await.unwrap();
        store.compact(&doc("doc 1"), FIRST, snapshot(noise(200_000, n), n)).await.unwrap();
    }
    let size = || files(&dir.path().join("sled"), None).iter().map(|p| fs::metadata(p).unwrap().len()).sum::<u64>();
    let before = size();
    store.rebuild().await.unwrap();
    assert!(size() < before / 2, "{before} became {}", size());
    for (name, expected) in kept.iter().filter(|(name, _)| name.as_str() != "doc 1") {
        assert_eq!(store.load(name).await.as_ref(), Ok(expected));
    }
    assert_eq!(store.load(&doc("doc 1")).await.unwrap().snapshot, Some(snapshot(noise(200_000, 59), 59)));
    store.close().await.unwrap();
}
