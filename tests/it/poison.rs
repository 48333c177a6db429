//! Updates that break the engine: sent live, found in the store, and noted by a process that died of them.

use std::path::Path;

use bytes::BufMut;
use bytes::Bytes;
use bytes::BytesMut;
use syncline::document::inflight::InFlight;
use syncline::document::inflight::Work;
use syncline::name::DocName;
use syncline::store::Epoch;
use syncline::store::LocalOptions;
use syncline::store::LocalStore;
use syncline::store::Record;
use syncline::store::Store;
use syncline_protocol::wire::write_var_uint;

use crate::server::Server;
use crate::server::Setup;
use crate::server::assert_no_panic;
use crate::server::quarantined;
use crate::support::client::Client;
use crate::support::client::converged;
use crate::support::pad::Pad;

pub(crate) fn unhex(hex: &str) -> Vec<u8> {
    let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex digits");
    (0..hex.len()).step_by(2).map(byte).collect()
}

/// A value nested so deep that the engine's decoder overflows any stack.
fn deep_value(depth: usize) -> Bytes {
    let mut update = BytesMut::from(&unhex("010101000801016101")[..]);
    (0..depth).for_each(|_| update.put_slice(&[117, 1]));
    update.put_slice(&[126, 0]);
    update.freeze()
}

/// Maps in maps: walking them overflows the stack where decoding does not.
fn deep_maps(depth: u64) -> Bytes {
    let mut update = BytesMut::new();
    write_var_uint(&mut update, 1);
    write_var_uint(&mut update, depth);
    update.put_slice(&unhex("010027010161016201"));
    for parent in 0..depth - 1 {
        update.put_slice(&[0x27, 0, 1]);
        write_var_uint(&mut update, parent);
        update.put_slice(&unhex("016201"));
    }
    update.put_u8(0);
    update.freeze()
}

/// What becomes of the sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// Closed with `INVALID_UPDATE`.
    Refused,
    /// Taken, because it is harmless where nobody reads it wrongly.
    Taken,
}

fn hostile() -> Vec<(&'static str, Vec<Bytes>, Fate)> {
    let known = [
        ("use after free in apply", &["0101020900040204000300", "0101020681020a0401030200030404"][..], Fate::Refused),
        ("use after free, second half alone", &["0101020681020a0401030200030404"], Fate::Refused),
        ("endless loop where an array is read", &["0101010004010361727204f09f988000"], Fate::Taken),
        ("encode panics while something waits", &["01010200830206016100"], Fate::Refused),
        ("encode panics while something waits, other", &["0101040a82010e000101011500"], Fate::Refused),
        ("poison", &["01035c000701016101b2005c000171017d012801016d026b31017d0100"], Fate::Refused),
        ("poison that survives", &["010226000701016101a20026000171017d00"], Fate::Refused),
        ("clock overflow", &["0101010000ffffffff0f00"], Fate::Refused),
        ("panic 1", &["0201010ca2011200077b2261223a317d010112000400"], Fate::Refused),
        ("panic 2", &["0101040281030bffffffffffffff0f0103010901"], Fate::Refused),
        ("panic 3", &["0202020200020a80010102feffffff0f0101000100"], Fate::Refused),
        ("allocation bomb", &["8084af5f"], Fate::Refused),
        ("an empty V2 update", &["00000000000001000000000000"], Fate::Refused),
        ("a subdocument", &["01010100290101610162016776000000"], Fate::Refused),
    ];
    let bytes = |updates: &[&str]| updates.iter().map(|hex| Bytes::from(unhex(hex))).collect();
    let mut all: Vec<_> = known.into_iter().map(|(what, updates, fate)| (what, bytes(updates), fate)).collect();
    all.push(("a value nested 10 000 deep", vec![deep_value(10_000)], Fate::Refused));
    all.push(("maps nested 10 000 deep", vec![deep_maps(10_000)], Fate::Refused));
    all
}

#[tokio::test]
async fn hostile_updates_hurt_only_their_sender() {
    let server = Server::dev().await;
    let bystanders = [Client::synced(&server, "elsewhere", 1).await, Client::synced(&server, "elsewhere", 2).await];
    for (n, (what, updates, fate)) in hostile().into_iter().enumerate() {
        let doc = format!("doc {n}").replace(' ', "%20");
        let honest = [Client::synced(&server, &doc, 71).await, Client::synced(&server, &doc, 72).await];
        honest[0].change(|pad| pad.write(0));
        let mut attacker = server.ws(&doc, None).await;
        for update in &updates {
            attacker.update(update.clone()).await;
        }
        match fate {
            Fate::Refused => assert_eq!(attacker.closed().await, (4422, "INVALID_UPDATE".to_owned()), "{what}"),
            Fate::Taken => assert_eq!(attacker.acknowledged(&updates[0]).await, Ok(()), "{what}"),
        }
        over_rest(&server, &doc, &updates, fate, what).await;
        honest[1].change(|pad| pad.write(1));
        converged(&[&honest[0], &honest[1]]).await;
        server.json(&format!("/v1/docs/{doc}")).await;
        bystanders[n % 2].change(|pad| pad.write(0));
        let closes = honest.iter().map(|client| client.look(|state| state.closes.len())).sum::<usize>();
        assert_eq!(closes, 0, "{what}: honest clients were sent away");
    }
    converged(&[&bystanders[0], &bystanders[1]]).await;
    let setup = server.setup().clone();
    let ended = server.sigterm().await;
    assert_eq!(ended.status.code(), Some(0));
    assert_no_panic(&ended.stderr);
    assert_eq!(setup.doc_command(&["verify"]).await.status.code(), Some(0));
    assert_eq!(quarantined(&setup.data_dir()), "");
}

async fn over_rest(server: &Server, doc: &str, updates: &[Bytes], fate: Fate, what: &str) {
    for update in updates {
        let url = server.url(&format!("/v1/docs/{doc}/updates"));
        let answer = reqwest::Client::new().post(url).body(update.clone()).send().await.unwrap();
        let expected = if fate == Fate::Refused { 422 } else { 200 };
        assert_eq!(answer.status(), expected, "{what}: {}", answer.text().await.unwrap());
    }
}

/// A process that was killed in the engine, for whatever reason, leaves its notes.
fn leave_notes(data_dir: &Path, notes: &[(Work, &str, &[u8])]) {
    let (inflight, _) = InFlight::open(&data_dir.join("inflight")).unwrap();
    for (work, doc, update) in notes {
        std::mem::forget(inflight.begin(*work, doc, Some("alice"), update));
    }
}

#[tokio::test]
async fn an_innocent_update_in_flight_is_acquitted() {
    let setup = Setup::dev();
    let server = setup.start().await;
    let client = Client::synced(&server, "doc", 1).await;
    client.change(|pad| pad.write(0));
    client.settled().await;
    let update = client.look(|state| Pad::of(&[&state.pad.diff(&[0])]).write(0));
    let address = server.sigkill().await;
    let refused_anyway = deep_value(10_000);
    let notes: [(Work, &str, &[u8]); 6] = [
        (Work::Apply, "doc", &update),
        (Work::Apply, "never stored", &update),
        (Work::Apply, "doc", &refused_anyway),
        (Work::Load, "doc", &[]),
        (Work::Compact, "doc", &[]),
        (Work::Load, "\n is no name", &[]),
    ];
    leave_notes(&setup.data_dir(), &notes);
    let mut server = setup.start().await;
    server.take_address(address);
    assert_eq!(setup.stderr().matches("suspect_acquitted").count(), 5, "{}", setup.stderr());
    assert_eq!(quarantined(&setup.data_dir()), "");
    let mut socket = server.ws("doc", None).await;
    socket.update(update.clone()).await;
    assert_eq!(socket.acknowledged(&update).await, Ok(()));
    client.until("the update", |state| state.pad.text().matches(char::is_numeric).count() >= 4).await;
    server.sigkill().await;
    setup.start().await;
    assert_eq!(setup.stderr().matches("suspect_acquitted").count(), 5, "the notes were judged once");
}

async fn store_directly(setup: &Setup, doc: &str, update: Bytes) {
    let store = LocalStore::open(LocalOptions::new(setup.data_dir())).unwrap();
    let record = Record { update, user: None, at_ms: 0, sidecar: Bytes::new() };
    store.append(&DocName::parse(doc).unwrap(), Epoch(0), vec![record]).await.unwrap();
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_document_that_kills_the_process_does_so_once() {
    let setup = Setup::dev();
    let server = setup.start().await;
    let client = Client::synced(&server, "good", 1).await;
    client.change(|pad| pad.write(0));
    client.settled().await;
    let (ended, address) = server.sigterm_with_address().await;
    assert_eq!(ended.status.code(), Some(0));
    store_directly(&setup, "deadly", deep_value(500_000)).await;

    let mut server = setup.start().await;
    server.take_address(address);
    let mut visitor = server.ws("deadly", None).await;
    assert_eq!(visitor.closed().await.0, 1006);
    let (ended, address) = server.ended_with_address().await;
    assert_eq!(ended.status.code(), None, "the stack overflow should have killed it: {}", ended.status);

    let mut server = setup.start().await;
    server.take_address(address);
    assert_eq!(setup.stderr().matches("suspect_quarantined").count(), 1, "{}", setup.stderr());
    let server = the_deadly_is_locked_up(server, &client).await;
    let server = server.restart().await;
    let server = the_deadly_is_locked_up(server, &client).await;
    assert_eq!(quarantined(&setup.data_dir()).lines().count(), 1);
    assert_eq!(server.sigterm().await.status.code(), Some(0));
}

async fn the_deadly_is_locked_up(server: Server, client: &Client) -> Server {
    for _ in 0..2 {
        let mut visitor = server.ws("deadly", None).await;
        visitor.update(Pad::new(5).write(0)).await;
        assert_eq!(visitor.closed().await, (4510, "CHANNEL_ERROR".to_owned()));
    }
    let answer = reqwest::get(server.url("/v1/docs/deadly")).await.unwrap();
    assert_eq!(answer.status(), 409);
    assert_eq!(answer.json::<serde_json::Value>().await.unwrap()["code"], "CHANNEL_ERROR");
    client.change(|pad| pad.write(0));
    client.until("the return", |state| state.connected).await;
    let other = Client::synced(&server, "good", 2).await;
    converged(&[client, &other]).await;
    server
}

#[tokio::test]
async fn an_update_that_kills_the_process_is_refused_ever_after() {
    let setup = Setup::dev();
    let server = setup.start().await;
    server.sigterm().await;
    // The judge's child does what the dead process did, on what is stored: here that is what kills.
    store_directly(&setup, "doc", deep_value(500_000)).await;
    let mut pad = Pad::new(9);
    let (deadly, harmless) = (pad.write(0), Pad::new(10).write(0));
    leave_notes(&setup.data_dir(), &[(Work::Apply, "doc", &deadly)]);
    let server = setup.start().await;
    let entry = quarantined(&setup.data_dir());
    assert!(entry.contains("\"alice\"") && entry.contains("\"apply\""), "{entry}");
    server.sigterm().await;
    // The store is repaired from outside; the update stays out, in whatever company, and others come in.
    let data = setup.data_dir();
    for part in ["log", "sled", "VERSION"] {
        let path = data.join(part);
        if path.is_dir() { std::fs::remove_dir_all(path).unwrap() } else { std::fs::remove_file(path).unwrap() }
    }
    let server = setup.start().await;
    for update in [deadly.clone(), {
        pad.write(1);
        pad.diff(&[0])
    }] {
        let mut socket = server.ws("doc", None).await;
        socket.update(update).await;
        assert_eq!(socket.closed().await, (4422, "INVALID_UPDATE".to_owned()));
    }
    let mut socket = server.ws("doc", None).await;
    socket.update(harmless.clone()).await;
    assert_eq!(socket.acknowledged(&harmless).await, Ok(()));
    let mut elsewhere = server.ws("other", None).await;
    elsewhere.update(deadly.clone()).await;
    assert_eq!(elsewhere.acknowledged(&deadly).await, Ok(()), "a quarantine is of one document");
}
