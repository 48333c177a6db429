//! Going in order: told to stop, the server sends everybody away, saves everything it took, and ends well.

use std::collections::BTreeSet;
use std::sync::Arc;

use rand::SeedableRng;
use rand::rngs::StdRng;
use syncline_protocol::channel::DocumentMessage;

use crate::server::Ended;
use crate::server::PATIENCE;
use crate::server::Server;
use crate::server::Setup;
use crate::server::assert_no_panic;
use crate::support::client::Client;
use crate::support::client::converged;
use crate::support::pad::Pad;
use crate::support::socket::Socket;

const DOCS: [&str; 3] = ["a", "b", "c"];

/// A document with its writers, and one who only reads.
type Room = (&'static str, Vec<Arc<Client>>, Arc<Client>);

struct Crowd {
    docs: Vec<Room>,
}

impl Crowd {
    async fn gather(server: &Server) -> Self {
        let mut docs = Vec::new();
        for (n, doc) in (1..).zip(DOCS) {
            let mut writers = Vec::new();
            for k in 0..2 {
                writers.push(Arc::new(Client::synced(server, doc, n * 10 + k).await));
            }
            docs.push((doc, writers, Arc::new(Client::synced(server, doc, n * 10 + 5).await)));
        }
        Self { docs }
    }

    fn everybody(&self) -> impl Iterator<Item = &Arc<Client>> {
        self.docs.iter().flat_map(|(_, writers, reader)| writers.iter().chain([reader]))
    }

    /// Everybody writes on until sent away.
    fn write(&self) -> tokio::task::JoinSet<()> {
        let mut writing = tokio::task::JoinSet::new();
        for (n, client) in (0..).zip(self.docs.iter().flat_map(|(_, writers, _)| writers)) {
            let (client, mut rng) = (client.clone(), StdRng::seed_from_u64(n));
            writing.spawn(async move {
                while client.look(|state| state.connected) {
                    client.edit(&mut rng);
                    client.until("room", |state| !state.connected || state.waiting() < 32).await;
                    tokio::task::yield_now().await;
                }
            });
        }
        writing
    }

    async fn has_written(&self, n: usize) {
        for client in self.docs.iter().flat_map(|(_, writers, _)| writers) {
            client.until("acknowledgements", |state| state.acknowledged >= n).await;
        }
    }

    /// The next process has everything that was promised, and everything that anybody was shown.
    async fn find_everything(&self, server: &Server) {
        for (doc, writers, reader) in &self.docs {
            let state = reqwest::get(server.url(&format!("/v1/docs/{doc}/state"))).await.unwrap();
            let kept = Pad::of(&[&state.bytes().await.unwrap()]);
            for writer in writers {
                assert_eq!(writer.look(|state| state.pad.lost_in(&kept)), Vec::<String>::new(), "{doc}");
            }
            // A reader writes nothing: all it has was accepted by the server, and is saved.
            let shown = reader.look(|state| Pad::of(&[&state.pad.diff(&[0])]));
            let mut both = Pad::of(&[&kept.diff(&[0])]);
            both.apply(&shown.diff(&[0]));
            assert!(both.equals(&kept), "{doc}: something was shown and not saved");
        }
    }

    async fn come_back(&self) {
        for (_, writers, reader) in &self.docs {
            converged(&[&writers[0], &writers[1], reader]).await;
        }
    }

    fn closes(&self) -> BTreeSet<(u16, String)> {
        self.everybody().flat_map(|client| client.look(|state| state.closes.clone())).collect()
    }
}

fn went_well(ended: &Ended) {
    assert_eq!(ended.status.code(), Some(0), "{}\n{}", ended.status, ended.stderr);
    assert_no_panic(&ended.stderr);
}

async fn drained_by(signals: &[&str]) {
    let setup = Setup::dev().set("DRAIN__STAGGER_SECONDS", 1).set("STORE__COMPACT_BYTES", 4096);
    let server = setup.start().await;
    let crowd = Crowd::gather(&server).await;
    let mut writing = crowd.write();
    crowd.has_written(20).await;
    let ready = server.url("/readyz");
    for signal in signals {
        server.signal(signal);
    }
    let told = crowd.everybody().map(|client| Box::pin(client.until("the close", |state| !state.closes.is_empty())));
    futures_util::future::select_all(told).await;
    let still = reqwest::get(ready).await;
    assert!(!still.is_ok_and(|response| response.status() == 200), "ready for more while it sends people away");
    for client in crowd.everybody() {
        client.until("the close", |state| !state.closes.is_empty()).await;
    }
    let (ended, address) = server.ended_with_address().await;
    went_well(&ended);
    while writing.join_next().await.is_some() {}
    assert_eq!(crowd.closes(), [(1012, "RESTART".to_owned())].into());

    let mut server = setup.start().await;
    crowd.find_everything(&server).await;
    server.take_address(address);
    crowd.come_back().await;
    went_well(&server.sigterm().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_under_load_loses_nothing() {
    drained_by(&["TERM"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigint_is_as_good() {
    drained_by(&["INT"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_impatient_second_signal_changes_nothing() {
    drained_by(&["TERM", "TERM", "INT"]).await;
}

/// What a client gets that asks for a WebSocket.
async fn upgrade(server: &Server, path: &str) -> reqwest::Response {
    let request = reqwest::Client::new().get(server.url(path)).header("connection", "upgrade");
    let request = request.header("upgrade", "websocket").header("sec-websocket-version", "13");
    request.header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==").send().await.unwrap()
}

async fn says_draining(response: reqwest::Response, what: &str) {
    assert_eq!(response.status(), 503, "{what}");
    let body: serde_json::Value = response.json().await.unwrap();
    assert_eq!((&body["code"], &body["data"]["reason"]), (&"OVERLOADED".into(), &"draining".into()), "{what}");
}

async fn not_ready(server: &Server) {
    let seen = async {
        while reqwest::get(server.url("/readyz")).await.expect("somebody still answers").status() == 200 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, seen).await.expect("it is not ready any more");
}

#[tokio::test]
async fn it_is_not_ready_before_the_first_close_and_a_second_signal_ends_the_wait() {
    // The first time nobody would be sent away within the test, the second time hardly anybody.
    for waits in ["DRAIN__DELAY_SECONDS", "DRAIN__STAGGER_SECONDS"] {
        let server = Setup::dev().set("DRAIN__STAGGER_SECONDS", 0).set(waits, 600).start().await;
        let mut sockets = Vec::new();
        for _ in 0..5 {
            let mut socket = server.ws("doc", None).await;
            socket.greeted().await.unwrap();
            sockets.push(socket);
        }
        server.signal("TERM");
        not_ready(&server).await;
        for path in ["/sync/doc", "/collab", "/socket.io/?EIO=4&transport=websocket"] {
            says_draining(upgrade(&server, path).await, path).await;
        }
        let poll = reqwest::get(server.url("/socket.io/?EIO=4&transport=polling")).await.unwrap();
        says_draining(poll, "polling").await;
        says_draining(reqwest::get(server.url("/readyz")).await.unwrap(), "readiness").await;
        assert_eq!(reqwest::get(server.url("/healthz")).await.unwrap().status(), 200);
        let update = Pad::new(1).paste("still here");
        if waits == "DRAIN__DELAY_SECONDS" {
            sockets[0].update(update.clone()).await;
            assert_eq!(sockets[0].acknowledged(&update).await, Ok(()));
        }
        server.signal("TERM");
        for socket in &mut sockets {
            assert_eq!(socket.closed().await, (1012, "RESTART".to_owned()));
        }
        went_well(&server.ended().await);
    }
}

#[tokio::test]
async fn an_operator_drains_over_rest() {
    let server = Setup::dev().set("DRAIN__STAGGER_SECONDS", 0).start().await;
    let client = Client::synced(&server, "doc", 1).await;
    client.change(|pad| pad.write(0));
    client.settled().await;
    let answer = reqwest::Client::new().post(server.url("/v1/admin/drain")).send().await.unwrap();
    assert!(answer.status().is_success(), "{answer:?}");
    client.until("the close", |state| !state.closes.is_empty()).await;
    assert_eq!(client.look(|state| state.closes.clone()), [(1012, "RESTART".to_owned())]);
    went_well(&server.ended().await);
}

#[tokio::test]
async fn a_client_that_reads_nothing_does_not_hold_it_up() {
    let setup = Setup::dev().set("DRAIN__STAGGER_SECONDS", 0);
    let server = setup.start().await;
    let author = Client::synced(&server, "doc", 1).await;
    let mut deaf = Socket::open_narrow(&server.address().borrow(), "/sync/doc").await;
    deaf.send(&DocumentMessage::SyncStep1(vec![0].into())).await;
    let mut hung_up = server.ws("doc", None).await;
    hung_up.greeted().await.unwrap();
    // More than sockets buffer, so that the server's writer waits for the deaf one.
    for _ in 0..24 {
        author.change(|pad| pad.paste(&"long ".repeat(100_000)));
    }
    author.settled().await;
    drop(hung_up);
    went_well(&server.sigterm().await);
    drop(deaf);
    let server = setup.start().await;
    let again = Client::synced(&server, "doc", 2).await;
    assert_eq!(again.look(|state| author.look(|former| former.pad.lost_in(&state.pad))), Vec::<String>::new());
}
