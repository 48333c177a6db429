//! Saved means saved: the real process is killed at random moments, and nothing it has acknowledged is ever missing.
//!
//! One data directory for all rounds; several documents; writers over WebSocket and REST. After each kill the state is read
//! before any writer is back, because a writer that returns brings everything it has.
//!
//! `SYNCLINE_CRASH_ROUNDS` and `SYNCLINE_CRASH_SEED` choose how many rounds and which.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use rand::RngExt;
use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::sync::Notify;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::server::PATIENCE;
use crate::server::Server;
use crate::server::Setup;
use crate::server::assert_no_panic;
use crate::server::quarantined;
use crate::support::client::Client;
use crate::support::client::State;
use crate::support::client::converged;
use crate::support::pad::Pad;
use crate::support::socket::segment;

const ROUNDS: u64 = 200;
const DOCS: [&str; 4] = ["plain", "table:T", "notes/ü 1", "busy"];
/// Clients on each document.
const CLIENTS: u64 = 2;
/// What one client sends ahead of its acknowledgements.
const WINDOW: usize = 24;
/// So small that every round compacts.
const COMPACT_BYTES: usize = 2048;

/// When the process dies.
#[derive(Debug, Clone, Copy)]
enum Death {
    /// While it starts.
    Starting,
    /// While everybody comes back and documents load.
    Loading,
    /// After so many acknowledgements.
    Acknowledged(usize),
    /// While somebody who went away comes back with what they wrote alone.
    Returning,
}

/// Counts acknowledgements of all writers in this round, for the moment of death.
#[derive(Default)]
struct Progress {
    acknowledged: AtomicUsize,
    grew: Notify,
    stop: CancellationToken,
}

/// A writer over REST: one update in flight, sent again until it was taken.
struct Poster {
    doc: &'static str,
    pad: Pad,
    in_flight: Option<Bytes>,
    rng: StdRng,
}

struct World {
    clients: BTreeMap<&'static str, Vec<Arc<Client>>>,
    posters: Vec<Arc<tokio::sync::Mutex<Poster>>>,
    rng: StdRng,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_at_any_moment_loses_nothing_that_was_acknowledged() {
    let number = |name, default| std::env::var(name).map_or(default, |text| text.parse().expect("a number"));
    let (rounds, seed) = (number("SYNCLINE_CRASH_ROUNDS", ROUNDS), number("SYNCLINE_CRASH_SEED", 1));
    let setup = Setup::dev().set("STORE__COMPACT_BYTES", COMPACT_BYTES);
    let mut server = setup.start().await;
    let mut world = World::new(&server, seed);
    let round_now = Arc::new(Mutex::new((0, Death::Starting)));
    let _replay = Replay { seed, round: round_now.clone() };
    for round in 0..rounds {
        let death = world.death();
        *round_now.lock().unwrap() = (round, death);
        let former = world.live_and_die(server, death).await;
        server = world.come_back(&setup, death, former).await;
    }
    world.settle(&server).await;
    let ended = server.sigterm().await;
    assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);
    assert_no_panic(&ended.stderr);
    let verified = setup.doc_command(&["verify"]).await;
    assert_eq!(verified.status.code(), Some(0), "{}{}", verified.stdout, verified.stderr);
    let report: serde_json::Value = serde_json::from_str(&verified.stdout).unwrap();
    assert!(report["snapshots"].as_u64() > Some(0), "nothing was ever compacted: {report}");
    assert_eq!(quarantined(&setup.data_dir()), "", "an innocent update was quarantined");
    let acknowledged: usize = world.everybody().map(|client| client.look(|state| state.acknowledged)).sum();
    eprintln!("{rounds} rounds, {acknowledged} acknowledgements over WebSocket, none lost");
}

#[test]
fn a_lost_edit_would_be_noticed() {
    let (mut writer, mut rng) = (Pad::new(7), StdRng::seed_from_u64(1));
    let updates: Vec<Bytes> = (0..40).map(|_| writer.edit(&mut rng)).collect();
    updates.iter().for_each(|update| writer.acknowledge(update));
    let all = Pad::of(&updates.iter().map(Bytes::as_ref).collect::<Vec<_>>());
    assert_eq!(writer.lost_in(&all), Vec::<String>::new());
    for kept in 0..updates.len() {
        let most = Pad::of(&updates[..kept].iter().map(Bytes::as_ref).collect::<Vec<_>>());
        assert_ne!(writer.lost_in(&most), Vec::<String>::new(), "only {kept} of {} were kept", updates.len());
    }
}

/// Says how to see a failure again.
struct Replay {
    seed: u64,
    round: Arc<Mutex<(u64, Death)>>,
}

impl Drop for Replay {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let (round, death) = *self.round.lock().unwrap();
            let rounds = round + 1;
            eprintln!("round {round}, {death:?}: SYNCLINE_CRASH_SEED={} SYNCLINE_CRASH_ROUNDS={rounds}", self.seed);
        }
    }
}

impl World {
    fn new(server: &Server, seed: u64) -> Self {
        let mut clients = BTreeMap::new();
        let mut posters = Vec::new();
        for (n, doc) in (1..).zip(DOCS) {
            let on_doc = (0..CLIENTS).map(|k| Arc::new(Client::new(server, &segment(doc), "", n * 100 + k)));
            clients.insert(doc, on_doc.collect());
            let (pad, rng) = (Pad::new(n * 100 + 50), StdRng::seed_from_u64(seed * 1000 + n));
            posters.push(Arc::new(tokio::sync::Mutex::new(Poster { doc, pad, in_flight: None, rng })));
        }
        Self { clients, posters, rng: StdRng::seed_from_u64(seed) }
    }

    fn death(&mut self) -> Death {
        match self.rng.random_range(0..10) {
            0 => Death::Starting,
            1 => Death::Loading,
            2 => Death::Returning,
            3..6 => Death::Acknowledged(self.rng.random_range(1..20)),
            _ => Death::Acknowledged(self.rng.random_range(20..400)),
        }
    }

    /// How long a start or a load may go on before it is killed: somewhere around as long as it takes.
    fn moment(&mut self) -> Duration {
        Duration::from_millis(self.rng.random_range(0..60))
    }

    fn everybody(&self) -> impl Iterator<Item = &Arc<Client>> {
        self.clients.values().flatten()
    }

    /// Everybody writes until the process is killed, and a little longer.
    async fn live_and_die(&mut self, server: Server, death: Death) -> watch::Sender<String> {
        let progress = Arc::new(Progress::default());
        let mut writers = JoinSet::new();
        for client in self.everybody() {
            let rng = StdRng::seed_from_u64(client.look(|state| state.acknowledged as u64));
            writers.spawn(write(client.clone(), progress.clone(), rng));
        }
        for poster in &self.posters {
            writers.spawn(post(poster.clone(), server.url(""), progress.clone()));
        }
        match death {
            Death::Starting => {}
            Death::Loading => drop(tokio::time::timeout(self.moment(), progress.reaches(1, server.setup())).await),
            Death::Acknowledged(n) => progress.reaches(n, server.setup()).await,
            Death::Returning => {
                let away = self.everybody().next().expect("there are clients");
                away.go_offline();
                away.until("absence", |state| !state.connected).await;
                progress.reaches(20, server.setup()).await;
                away.go_online();
                away.until("the return", |state| state.connected).await;
            }
        }
        let former = server.sigkill().await;
        progress.stop.cancel();
        for client in self.everybody() {
            client.until("the end of the connection", |state| !state.connected).await;
        }
        while let Some(done) = writers.join_next().await {
            done.expect("a writer failed");
        }
        self.write_offline();
        former
    }

    fn write_offline(&mut self) {
        for client in self.clients.values().flatten() {
            for _ in 0..self.rng.random_range(0..3) {
                client.edit(&mut self.rng);
            }
        }
    }

    /// A new process on the same data: everything promised is there before anybody brings it again.
    async fn come_back(&mut self, setup: &Setup, death: Death, former: watch::Sender<String>) -> Server {
        if let Death::Starting = death {
            for _ in 0..3 {
                setup.start_and_kill(self.moment()).await;
            }
        }
        let mut server = setup.start().await;
        for doc in DOCS {
            let Some(kept) = stored(&server, doc).await else {
                self.nothing_promised(doc).await;
                continue;
            };
            for client in &self.clients[doc] {
                let lost = client.look(|state| state.pad.lost_in(&kept));
                assert_eq!(lost, Vec::<String>::new(), "{doc}\n{}", setup.stderr());
            }
            for poster in &self.posters {
                let poster = poster.lock().await;
                let lost = if poster.doc == doc { poster.pad.lost_in(&kept) } else { Vec::new() };
                assert_eq!(lost, Vec::<String>::new(), "{doc} over REST\n{}", setup.stderr());
            }
        }
        assert_eq!(quarantined(&setup.data_dir()), "", "an innocent update was quarantined");
        assert_no_panic(&setup.stderr());
        server.take_address(former);
        server
    }

    async fn nothing_promised(&self, doc: &str) {
        let empty = Pad::new(1);
        for client in &self.clients[doc] {
            assert_eq!(client.look(|state| state.pad.lost_in(&empty)), Vec::<String>::new(), "{doc} is gone");
        }
    }

    /// Everybody is back, everything is acknowledged, and all have the same.
    async fn settle(&self, server: &Server) {
        for (doc, clients) in &self.clients {
            let clients: Vec<&Client> = clients.iter().map(Arc::as_ref).collect();
            converged(&clients).await;
            let kept = stored(server, doc).await.expect("it was written to");
            assert!(clients[0].look(|state| state.pad.equals(&kept)), "{doc} is not what its clients have");
            for client in clients {
                assert_eq!(client.look(|state| state.closes.iter().find(|close| close.0 != 1006).cloned()), None);
            }
        }
    }
}

impl Progress {
    fn add(&self, n: usize) {
        self.acknowledged.fetch_add(n, Ordering::Relaxed);
        self.grew.notify_one();
    }

    async fn reaches(&self, n: usize, setup: &Setup) {
        let reached = async {
            while self.acknowledged.load(Ordering::Relaxed) < n {
                self.grew.notified().await;
            }
        };
        let waited = tokio::time::timeout(PATIENCE, reached).await;
        assert!(waited.is_ok(), "nothing is acknowledged any more\n{}", setup.stderr());
    }

    fn is_over(&self) -> bool {
        self.stop.is_cancelled()
    }
}

/// What a fresh process has of a document.
async fn stored(server: &Server, doc: &str) -> Option<Pad> {
    let response = reqwest::get(server.url(&format!("/v1/docs/{}/state", segment(doc)))).await.unwrap();
    match response.status().as_u16() {
        404 => None,
        200 => Some(Pad::of(&[&response.bytes().await.unwrap()])),
        other => panic!("{doc}: {other} {}\n{}", response.text().await.unwrap(), server.setup().stderr()),
    }
}

async fn write(client: Arc<Client>, progress: Arc<Progress>, mut rng: StdRng) {
    let mut counted = client.look(|state| state.acknowledged);
    while !progress.is_over() {
        let may_write = |state: &State| state.connected && state.waiting() < WINDOW;
        tokio::select! {
            () = client.until("room", |state| may_write(state) || state.acknowledged > counted) => {}
            () = progress.stop.cancelled() => return,
        }
        let acknowledged = client.look(|state| state.acknowledged);
        progress.add(acknowledged - counted);
        counted = acknowledged;
        if client.look(may_write) {
            client.edit(&mut rng);
        }
        tokio::task::yield_now().await;
    }
}

async fn post(poster: Arc<tokio::sync::Mutex<Poster>>, base: String, progress: Arc<Progress>) {
    let mut poster = poster.lock().await;
    let Poster { doc, pad, in_flight, rng } = &mut *poster;
    let url = format!("{base}/v1/docs/{}/updates", segment(doc));
    let http = reqwest::Client::new();
    while !progress.is_over() {
        let update = in_flight.take().unwrap_or_else(|| pad.edit(rng));
        let taken = http.post(&url).body(update.clone()).send().await;
        match taken {
            Ok(response) if response.status() == 200 => {
                pad.acknowledge(&update);
                progress.add(1);
            }
            Ok(response) => panic!("{doc}: {} {}", response.status(), response.text().await.unwrap_or_default()),
            Err(_) => {
                *in_flight = Some(update); // Nobody knows whether it was taken.
                return;
            }
        }
    }
}
