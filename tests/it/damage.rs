//! Damaged files under the real process: it starts and says which documents are hurt, or says why it does not start. It
//! never panics, and never shows half a document as a whole one.

use std::fs;
use std::path::Path;
use std::path::PathBuf;

use rand::RngExt;
use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::server::Server;
use crate::server::Setup;
use crate::server::assert_no_panic;
use crate::support::client::Client;
use crate::support::pad::Pad;

const DOCS: u64 = 6;
const SEEDS: u64 = 36;

/// A data directory with logs and snapshots, and what is in it.
async fn filled() -> (Setup, Vec<Client>) {
    let setup = Setup::dev().set("STORE__COMPACT_BYTES", 1500);
    let server = setup.start().await;
    let mut rng = StdRng::seed_from_u64(1);
    let mut clients = Vec::new();
    for n in 0..DOCS {
        let client = Client::synced(&server, &format!("doc{n}"), n + 1).await;
        for _ in 0..20 + 30 * (n % 3) {
            client.edit(&mut rng);
            client.settled().await;
        }
        clients.push(client);
    }
    assert_eq!(server.sigterm().await.status.code(), Some(0));
    (setup, clients)
}

fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_dir(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if fs::metadata(&path).unwrap().len() > 0 {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Flips a bit, cuts the end off, or overwrites a stretch.
fn damage(path: &Path, rng: &mut StdRng) -> String {
    let mut bytes = fs::read(path).unwrap();
    let at = rng.random_range(0..bytes.len());
    let what = match rng.random_range(0..3) {
        0 => {
            bytes[at] ^= 1 << rng.random_range(0..8);
            "flipped"
        }
        1 => {
            bytes.truncate(at);
            "cut"
        }
        _ => {
            let end = bytes.len().min(at + rng.random_range(1..200));
            rng.fill(&mut bytes[at..end]);
            "overwritten"
        }
    };
    fs::write(path, bytes).unwrap();
    format!("{} {what} at {at}", path.file_name().unwrap().to_string_lossy())
}

/// What the server says of a document.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Whole,
    SaysSo,
    Lacks(Vec<String>),
}

async fn verdict(server: &Server, doc: u64, client: &Client) -> Verdict {
    let answer = reqwest::get(server.url(&format!("/v1/docs/doc{doc}/state"))).await.unwrap();
    let kept = match answer.status().as_u16() {
        200 => Pad::of(&[&answer.bytes().await.unwrap()]),
        404 => Pad::new(1),
        _ => {
            let text = answer.text().await.unwrap();
            assert!(text.contains("CHANNEL_ERROR"), "{text}");
            return Verdict::SaysSo;
        }
    };
    let lost = client.look(|state| state.pad.lost_in(&kept));
    if lost.is_empty() { Verdict::Whole } else { Verdict::Lacks(lost) }
}

#[tokio::test]
async fn damaged_files_are_noticed_and_cost_only_what_they_held() {
    let (original, clients) = filled().await;
    let (mut refused, mut hurt, mut whole) = (0, 0, 0);
    for seed in 0..SEEDS {
        let setup = Setup::dev();
        copy_dir(&original.data_dir(), &setup.data_dir());
        let found: Vec<_> = files(&setup.data_dir()).into_iter().filter(|path| !is_ours_to_lose(path)).collect();
        let mut rng = StdRng::seed_from_u64(seed);
        let what = format!("seed {seed}: {}", damage(&found[seed as usize % found.len()], &mut rng));
        let report = setup.doc_command(&["verify"]).await;
        assert!(matches!(report.status.code(), Some(0 | 1)), "{what}: {} {}", report.status, report.stderr);
        assert_no_panic(&report.stderr);
        match setup.try_start().await {
            Err(ended) => {
                refused += 1;
                assert_eq!(ended.status.code(), Some(1), "{what}: {} {}", ended.status, ended.stderr);
                assert_no_panic(&ended.stderr);
                assert!(ended.stderr.contains("data directory cannot be opened"), "{what}: {}", ended.stderr);
                assert_eq!(report.status.code(), Some(1), "{what}: verify saw nothing: {}", report.stdout);
            }
            Ok(server) => {
                let mut verdicts = Vec::new();
                for (doc, client) in (0..).zip(&clients) {
                    verdicts.push(verdict(&server, doc, client).await);
                }
                let harmed = verdicts.iter().filter(|verdict| **verdict != Verdict::Whole).count();
                let ended = server.sigterm().await;
                assert_no_panic(&ended.stderr);
                assert_eq!(ended.status.code(), Some(0), "{what}: {}", ended.stderr);
                if harmed == 0 {
                    whole += 1;
                    continue;
                }
                hurt += 1;
                assert_eq!(report.status.code(), Some(1), "{what}: verify saw nothing of {verdicts:?}");
                let silent = verdicts.iter().any(|verdict| matches!(verdict, Verdict::Lacks(_)));
                let said = ended.stderr.contains("torn") || ended.stderr.contains("cut");
                assert!(!silent || said, "{what}: {verdicts:?} and nothing was said: {}", ended.stderr);
            }
        }
    }
    eprintln!("{refused} refused, {hurt} started with documents hurt, {whole} unharmed");
    assert!(refused + hurt > 0, "the damage was too mild to prove anything");
}

/// Notes of a process at work, and its lock: nothing is lost with them.
fn is_ours_to_lose(path: &Path) -> bool {
    path.components().any(|part| part.as_os_str() == "inflight") || path.file_name().is_some_and(|name| name == "LOCK")
}
