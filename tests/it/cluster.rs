//! Several nodes as processes on one Redis: who is known to be there, and whom rights are taken from.

use reqwest::StatusCode;
use serde_json::Value;
use serde_json::json;

use crate::server::PATIENCE;
use crate::server::Server;
use crate::server::Setup;
use crate::server::assert_no_panic;
use crate::server::signed;
use crate::server::wall_seconds;
use crate::support::cable::Cable;
use crate::support::pad::Pad;
use crate::support::postgres::database;
use crate::support::redis::Redis;
use crate::support::socket::Socket;

fn node(url: &str) -> Setup {
    let setup = Setup::with_secret().set("BUS__URL", url).set("BUS__HEARTBEAT_SECONDS", 1);
    setup.set("AUTH__HOLD_REFUSED_SECONDS", 0).set("DRAIN__STAGGER_SECONDS", 0)
}

fn token(sub: &str, more: Value) -> String {
    let mut claims = json!({"sub": sub, "iat": wall_seconds(), "exp": wall_seconds() + 3600, "access": {"*": "write"}});
    claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    signed(&claims)
}

fn operator() -> String {
    token("operator", json!({"access": {"*": "admin"}}))
}

async fn nodes(server: &Server) -> u64 {
    let request = reqwest::Client::new().get(server.url("/v1/admin/stats")).bearer_auth(operator());
    request.send().await.unwrap().json::<Value>().await.unwrap()["nodes"].as_u64().unwrap()
}

/// Until all of them know of so many nodes.
async fn know_of(servers: &[&Server], count: u64) {
    for server in servers {
        until("they know of each other", async || nodes(server).await == count).await;
    }
}

async fn until(what: &str, condition: impl AsyncFn() -> bool) {
    let met = async {
        while !condition().await {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await; // poll
        }
    };
    tokio::time::timeout(PATIENCE, met).await.unwrap_or_else(|_| panic!("{what}"));
}

async fn metric(server: &Server, name: &str) -> f64 {
    let text = reqwest::get(server.url("/metrics")).await.unwrap().text().await.unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name} "))).expect("it is shown");
    line.trim().parse().unwrap()
}

async fn revoke(server: &Server, body: Value) {
    let request = reqwest::Client::new().post(server.url("/v1/admin/revoke")).bearer_auth(operator());
    let response = request.body(body.to_string()).send().await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
}

async fn rest(server: &Server, token: &str) -> StatusCode {
    reqwest::Client::new().get(server.url("/v1/docs/doc/state")).bearer_auth(token).send().await.unwrap().status()
}

async fn open(server: &Server, doc: &str, token: &str) -> Socket {
    let mut socket = server.ws(doc, Some(token)).await;
    assert_eq!(socket.greeted().await, Ok(()));
    socket
}

async fn goes_on(socket: &mut Socket, client: u64) {
    let update = Pad::new(client).paste("here");
    socket.update(update.clone()).await;
    assert_eq!(socket.acknowledged(&update).await, Ok(()));
}

#[tokio::test]
async fn nodes_find_each_other_and_notice_who_goes() {
    let redis = Redis::start().await;
    let setups = [node(&redis.url()), node(&redis.url()), node(&redis.url())];
    let (a, b, c) = (setups[0].start().await, setups[1].start().await, setups[2].start().await);
    know_of(&[&a, &b, &c], 3).await;
    let ended = c.sigterm().await;
    assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);
    know_of(&[&a, &b], 2).await;
    b.sigkill().await;
    know_of(&[&a], 1).await;
    let b = setups[1].start().await;
    know_of(&[&a, &b], 2).await;
    assert_eq!((metric(&a, "syncline_nodes_alive").await, metric(&a, "syncline_bus_up").await), (2.0, 1.0));
    let log = setups[0].stderr();
    for event in
        ["\"node_left\"", "\"node_lost\"", "\"node_draining\"", "\"cluster\"", "each node keeps what it has served"]
    {
        assert!(log.contains(event), "{event}: {log}");
    }
    assert_no_panic(&log);
}

#[tokio::test]
async fn a_node_serves_alone_until_redis_is_there() {
    let mut redis = Redis::start().await;
    redis.kill();
    let (first, second) = (node(&redis.url()), node(&redis.url()));
    let (a, b) = (first.start().await, second.start().await);
    goes_on(&mut open(&a, "doc", &token("alice", json!({}))).await, 1).await;
    assert_eq!((nodes(&a).await, metric(&a, "syncline_bus_up").await), (1, 0.0));
    redis.start_again().await;
    know_of(&[&a, &b], 2).await;
    redis.kill();
    until("they notice", async || metric(&a, "syncline_bus_up").await == 0.0).await;
    goes_on(&mut open(&a, "doc", &token("alice", json!({}))).await, 2).await;
    know_of(&[&a, &b], 1).await;
    redis.start_again().await;
    know_of(&[&a, &b], 2).await;
}

#[tokio::test]
async fn what_is_revoked_on_one_node_is_revoked_on_all() {
    let redis = Redis::start().await;
    let (first, second) = (node(&redis.url()), node(&redis.url()));
    let (a, b) = (first.start().await, second.start().await);
    know_of(&[&a, &b], 2).await;
    let (alice, bob) = (token("alice", json!({})), token("bob", json!({"jti": "lost"})));
    let (mut hers, mut his) = (open(&b, "doc", &alice).await, open(&b, "doc", &bob).await);
    let mut carols = open(&b, "room", &token("carol", json!({}))).await;
    revoke(&a, json!({"sub": "alice", "mode": "disconnect"})).await;
    assert_eq!(hers.closed().await, (4403, "FORBIDDEN".to_owned()));
    assert_eq!(rest(&b, &alice).await, StatusCode::UNAUTHORIZED);
    revoke(&a, json!({"jti": "lost"})).await;
    assert_eq!(his.closed().await, (4401, "AUTH_FAILED".to_owned()));
    goes_on(&mut carols, 1).await;
    revoke(&a, json!({"room": "room", "mode": "disconnect"})).await;
    assert_eq!(carols.closed().await, (4403, "FORBIDDEN".to_owned()));
    goes_on(&mut open(&b, "room", &token("carol", json!({}))).await, 2).await;
    let b = b.restart().await;
    for old in [&alice, &bob] {
        assert_eq!(rest(&b, old).await, StatusCode::UNAUTHORIZED, "it was written down there too");
    }
}

#[tokio::test]
async fn another_cluster_on_the_same_prefix_is_passed_over() {
    let redis = Redis::start().await;
    let setups = [
        node(&redis.url()).set("STORE__URL", database().await),
        node(&redis.url()).set("STORE__URL", database().await),
    ];
    let (ours, theirs) = (setups[0].start().await, setups[1].start().await);
    know_of(&[&ours, &theirs], 2).await;
    let (alice, bob) = (token("alice", json!({})), token("bob", json!({})));
    let (mut hers, mut his) = (open(&ours, "doc", &alice).await, open(&theirs, "doc", &bob).await);
    goes_on(&mut hers, 1).await;
    // What is revoked is told behind what she wrote, over the same connection, and holds for both.
    revoke(&ours, json!({"sub": "alice", "mode": "disconnect"})).await;
    assert_eq!(hers.closed().await, (4403, "FORBIDDEN".to_owned()));
    until("it is heard", async || rest(&theirs, &alice).await == StatusCode::UNAUTHORIZED).await;
    assert_eq!(rest(&theirs, &operator()).await, StatusCode::NOT_FOUND, "nothing was written there");
    assert_eq!(rest(&ours, &operator()).await, StatusCode::OK);
    goes_on(&mut his, 2).await;
    for setup in &setups {
        let log = setup.stderr();
        assert!(log.contains("\"nodes_differ\"") && log.contains("\"what\":\"store\""), "{log}");
        assert_no_panic(&log);
    }
}

#[tokio::test]
async fn a_revocation_reaches_who_was_away() {
    let redis = Redis::start().await;
    let cable = Cable::to(redis.port()).await;
    let (first, second) = (node(&redis.url()), node(&format!("redis://127.0.0.1:{}", cable.port())));
    let (a, b) = (first.start().await, second.start().await);
    know_of(&[&a, &b], 2).await;
    let (alice, bob) = (token("alice", json!({})), token("bob", json!({"jti": "lost"})));
    let (mut hers, mut his) = (open(&a, "doc", &alice).await, open(&b, "doc", &bob).await);
    cable.pull();
    until("it notices", async || metric(&b, "syncline_bus_up").await == 0.0).await;
    // Each side takes something back that the other one does not hear.
    revoke(&a, json!({"jti": "lost"})).await;
    revoke(&b, json!({"sub": "alice", "mode": "disconnect"})).await;
    goes_on(&mut hers, 1).await;
    goes_on(&mut his, 2).await;
    cable.plug();
    assert_eq!(his.closed().await, (4401, "AUTH_FAILED".to_owned()));
    assert_eq!(hers.closed().await, (4403, "FORBIDDEN".to_owned()));
    let third = node(&redis.url()).set("STORE__URL", "memory:");
    let c = third.start().await;
    for old in [&alice, &bob] {
        until("a new node hears of it", async || rest(&c, old).await == StatusCode::UNAUTHORIZED).await;
    }
}

#[tokio::test]
async fn a_wrong_password_is_told_and_not_repeated() {
    let redis = Redis::start_with(&["--requirepass", "right"]).await;
    let setup = node(&format!("redis://:hunter2@127.0.0.1:{}", redis.port()));
    let server = setup.start().await;
    until("it is told", async || setup.stderr().contains("\"bus_down\"")).await;
    goes_on(&mut open(&server, "doc", &token("alice", json!({}))).await, 1).await;
    let ended = server.sigterm().await;
    assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);
    assert!(!ended.stderr.contains("hunter2"), "{}", ended.stderr);
}

#[tokio::test]
async fn redis_is_reached_over_tls_if_its_certificate_holds() {
    let home = tempfile::tempdir().unwrap();
    let path = |name: &str| home.path().join(name).display().to_string();
    let made = std::process::Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"])
        .args([
            "-subj",
            "/CN=redis",
            "-addext",
            "basicConstraints=critical,CA:FALSE",
            "-addext",
            "subjectAltName=IP:127.0.0.1",
            "-keyout",
            &path("key"),
            "-out",
            &path("cert"),
        ])
        .output()
        .expect("openssl is installed: scripts/setup.sh");
    assert!(made.status.success(), "{made:?}");
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let tls = ["--tls-auth-clients", "no", "--tls-cert-file", &path("cert"), "--tls-key-file", &path("key")];
    let redis = Redis::start_with(&[&tls[..], &["--tls-port", &port.to_string()]].concat()).await;
    let url = format!("rediss://127.0.0.1:{port}");
    let (first, second) = (node(&url).variable("SSL_CERT_FILE", &path("cert")), node(&redis.url()));
    let (a, b) = (first.start().await, second.start().await);
    know_of(&[&a, &b], 2).await;
    let stranger = node(&url);
    let _c = stranger.start().await;
    until("it is told", async || stranger.stderr().contains("\"bus_down\"")).await;
    assert_eq!(nodes(&a).await, 2);
}
