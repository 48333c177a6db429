//! The server on a database: what is saved is there, whoever serves it next; while the database is away nobody is lied to.

use std::time::Duration;

use reqwest::Client;
use reqwest::StatusCode;
use yrs::Doc;
use yrs::GetString;
use yrs::ReadTxn;
use yrs::StateVector;
use yrs::Text;
use yrs::Transact;
use yrs::Update;
use yrs::updates::decoder::Decode;

use crate::server::PATIENCE;
use crate::server::Server;
use crate::server::Setup;
use crate::support::postgres;

/// Types a word at the end of `doc`, saves it, and answers how that went.
async fn save(server: &Server, client: u64, word: &str) -> StatusCode {
    let doc = Doc::with_client_id(client);
    let text = doc.get_or_insert_text("text");
    text.push(&mut doc.transact_mut(), word);
    let update = doc.transact().encode_state_as_update_v1(&StateVector::default());
    let request = Client::new().post(server.url("/v1/docs/notes%2Fone/updates")).body(update);
    request.timeout(PATIENCE).send().await.expect("it answers").status()
}

fn words(state: &[u8]) -> Vec<String> {
    let doc = Doc::new();
    let text = doc.get_or_insert_text("text");
    doc.transact_mut().apply_update(Update::decode_v1(state).unwrap()).unwrap();
    let mut words: Vec<_> = text.get_string(&doc.transact()).split_whitespace().map(str::to_owned).collect();
    words.sort();
    words
}

async fn read(server: &Server) -> Vec<String> {
    let answer = Client::new().get(server.url("/v1/docs/notes%2Fone/state")).send().await.expect("it answers");
    assert_eq!(answer.status(), StatusCode::OK);
    words(&answer.bytes().await.unwrap())
}

async fn until_ready(server: &Server, wanted: StatusCode) {
    let seen = async {
        while Client::new().get(server.url("/readyz")).send().await.expect("it answers").status() != wanted {
            tokio::time::sleep(Duration::from_millis(20)).await; // poll: the server is another process
        }
    };
    tokio::time::timeout(PATIENCE, seen).await.unwrap_or_else(|_| panic!("/readyz never answers {wanted}"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_on_a_database_survives_both() {
    let database = postgres::Server::start().await;
    let setup = || Setup::dev().set("STORE__URL", database.url());
    let server = setup().start().await;
    assert_eq!(save(&server, 1, "before ").await, StatusCode::OK);
    database.stop();
    assert_eq!(save(&server, 2, "during ").await, StatusCode::SERVICE_UNAVAILABLE);
    until_ready(&server, StatusCode::SERVICE_UNAVAILABLE).await;
    database.start_again();
    until_ready(&server, StatusCode::OK).await;
    assert_eq!(save(&server, 3, "after ").await, StatusCode::OK);
    // Behind "after" everything that came before it is saved: it is one log.
    let first = server.setup().clone();
    server.sigkill().await;
    let log = first.stderr();
    assert!(log.contains("store_lost") && log.contains("store_back"), "{log}");
    let other = setup().start().await;
    assert_eq!(read(&other).await, ["after", "before", "during"]);
    assert!(other.sigterm().await.status.success());
    assert!(!log.contains("hunter2"), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_documents_in_a_database_can_be_listed_exported_and_verified() {
    let setup = Setup::dev().set("STORE__URL", postgres::database().await);
    let server = setup.start().await;
    assert_eq!(save(&server, 1, "kept ").await, StatusCode::OK);
    // The server goes on: a database can be looked at meanwhile.
    let listed = setup.doc_command(&["list"]).await;
    assert!(listed.status.success() && listed.stdout.starts_with("notes/one\t"), "{listed:?}");
    let file = setup.data_dir().join("one.update");
    let path = file.to_str().expect("a plain path");
    let exported = setup.doc_command(&["export", "notes/one", "--output", path]).await;
    assert!(exported.status.success(), "{exported:?}");
    assert_eq!(words(&std::fs::read(&file).unwrap()), ["kept"]);
    let imported = setup.doc_command(&["import", "notes/two", "--input", path]).await;
    assert!(imported.status.success(), "{imported:?}");
    let verified = setup.doc_command(&["verify"]).await;
    assert!(verified.status.success() && verified.stdout.contains("\"documents\": 2"), "{verified:?}");
    let missing = setup.doc_command(&["export", "notes/three"]).await;
    assert_eq!(missing.status.code(), Some(1), "{missing:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_servers_on_one_database_need_directories_of_their_own() {
    let setup = Setup::dev().set("STORE__URL", postgres::database().await);
    let _first = setup.start().await;
    let second = setup.try_start().await.expect_err("its directory is taken");
    assert_eq!(second.status.code(), Some(1));
    assert!(second.stderr.contains("in use by another process"), "{}", second.stderr);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_that_makes_no_sense_is_a_mistake_in_the_configuration() {
    let setup = Setup::dev().set("STORE__URL", "postgres://u:hunter2@h/db?sslmode=maybe");
    let ended = setup.try_start().await.expect_err("it does not start");
    assert_eq!(ended.status.code(), Some(2));
    assert!(ended.stderr.contains("store.url") && ended.stderr.contains("sslmode"), "{}", ended.stderr);
    assert!(!ended.stderr.contains("hunter2"), "{}", ended.stderr);
}
