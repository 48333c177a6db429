//! The fleet against servers that speak through another implementation of WebSocket.

use std::net::TcpListener;
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use tungstenite::Message as Frame;
use tungstenite::WebSocket;
use tungstenite::protocol::CloseFrame;

use super::*;

/// What a story has told so far, as text.
type Told = Vec<String>;

fn serve(tell: impl FnOnce(WebSocket<TcpStream>) + Send + 'static) -> (Door, thread::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let door = Door { addr: listener.local_addr().unwrap(), dialect: Dialect::YWebsocket, answers_sync: true };
    let server = thread::spawn(move || tell(tungstenite::accept(listener.accept().unwrap().0).unwrap()));
    (door, server)
}

/// What the next frame that is no control frame holds.
fn heard(socket: &mut WebSocket<TcpStream>) -> Vec<u8> {
    loop {
        match socket.read().unwrap() {
            Frame::Binary(bytes) => return bytes.to_vec(),
            Frame::Pong(bytes) => return [b"pong ", &bytes[..]].concat(),
            _ => {}
        }
    }
}

fn say(socket: &mut WebSocket<TcpStream>, frame: &[u8]) {
    socket.send(Frame::binary(frame.to_vec())).unwrap();
}

/// One event as a line.
fn line(event: Event<'_>) -> String {
    match event {
        Event::Message(Message::Update(update)) => format!("update of {} bytes", update.len()),
        other => format!("{other:?}"),
    }
}

/// Turns until the last line begins with `last`.
fn listen(fleet: &mut Fleet, told: &mut Told, last: &str) {
    while !told.last().is_some_and(|line| line.starts_with(last)) {
        fleet
            .turn(Duration::from_secs(1), |_, id, event| {
                told.push(format!("{}{}", if id == 0 { "" } else { "other " }, line(event)));
                Ok(())
            })
            .unwrap();
    }
}

#[test]
fn a_client_synchronises_writes_reads_and_is_sent_away() {
    const LARGE: usize = 600_000;
    let (door, server) = serve(|mut socket| {
        assert_eq!(heard(&mut socket), [0, 0, 1, 0], "the client's step 1");
        say(&mut socket, &[0, 0, 1, 0]);
        assert_eq!(heard(&mut socket), [0, 1, 2, 0, 0], "the answer to ours");
        say(&mut socket, &[0, 1, 2, 0, 0]);
        assert_eq!(heard(&mut socket), [0, 2, 3, 7, 8, 9], "an edit");
        socket.send(Frame::Ping(b"there?".to_vec().into())).unwrap();
        assert_eq!(heard(&mut socket), b"pong there?");
        let mut large = vec![0, 2];
        message::write_var_bytes(&mut large, &vec![5; LARGE]);
        say(&mut socket, &large);
        say(&mut socket, &[1, 1, 0]);
        let goodbye = CloseFrame { code: 1012.into(), reason: "restart".into() };
        socket.close(Some(goodbye)).unwrap();
        let _ = socket.flush();
    });
    let mut fleet = Fleet::new(door, 1).unwrap();
    let mut told = Told::new();
    let client = fleet.connect("/sync/d", "d", "").unwrap();
    listen(&mut fleet, &mut told, "Ready");
    assert_eq!(fleet.ready(), 1);
    fleet.send(client, Say::Update(&[7, 8, 9]));
    listen(&mut fleet, &mut told, "Closed");
    let expected = [
        "Message(SyncStep1([0]))",
        "Message(SyncStep2([0, 0]))",
        "Ready",
        &format!("update of {LARGE} bytes"),
        "Message(Awareness([0]))",
        r#"Closed(1012, "restart")"#,
    ];
    assert_eq!(told, expected);
    assert!(fleet.bytes_read() > LARGE as u64);
    server.join().unwrap();
}

#[test]
fn a_hocuspocus_client_shows_its_token_first_and_own_statuses_only() {
    let (door, server) = serve(|mut socket| {
        assert_eq!(heard(&mut socket), message::auth(b"\x01d", "t"));
        assert_eq!(heard(&mut socket), b"\x01d\x00\x00\x01\x00");
        say(&mut socket, b"\x01d\x02\x02\x0aread-write");
        say(&mut socket, b"\x01d\x00\x00\x01\x00");
        say(&mut socket, b"\x01d\x00\x01\x02\x00\x00");
        assert_eq!(heard(&mut socket), b"\x01d\x00\x01\x02\x00\x00");
        say(&mut socket, b"\x01d\x08\x01");
        assert_eq!(heard(&mut socket), b"\x01d\x00\x02\x01\x07");
        say(&mut socket, b"\x01d\x08\x01");
        say(&mut socket, b"\x01d\x00\x02\x01\x07");
        // Until the client is gone.
        while socket.read().is_ok() {}
    });
    let mut fleet = Fleet::new(Door { dialect: Dialect::Hocuspocus, ..door }, 1).unwrap();
    let mut told = Told::new();
    let client = fleet.connect("/", "d", "t").unwrap();
    listen(&mut fleet, &mut told, "Ready");
    fleet.send(client, Say::Update(&[7]));
    listen(&mut fleet, &mut told, "update");
    let statuses = told.iter().filter(|line| line.contains("SyncStatus")).count();
    assert_eq!(statuses, 1, "that of the answer to step 1 is nobody's: {told:?}");
    assert_eq!(told[0], "Message(Authenticated)");
    fleet.hang_up(client).unwrap();
    server.join().unwrap();
}

#[test]
fn a_refused_upgrade_and_a_dead_server_are_errors() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let door = Door { addr: listener.local_addr().unwrap(), dialect: Dialect::YWebsocket, answers_sync: true };
    let server = thread::spawn(move || {
        use std::io::Write;
        let mut stream = listener.accept().unwrap().0;
        stream.write_all(b"HTTP/1.1 403 Forbidden\r\n\r\n").unwrap();
    });
    let clients = [("/sync/d".to_owned(), "d".to_owned())];
    let mut fleet = Fleet::new(door, 1).unwrap();
    let refused = fleet.open_all(clients.clone(), |_, _, _| Ok(())).unwrap_err();
    assert!(format!("{refused:#}").contains("403"), "{refused:#}");
    server.join().unwrap();

    let mut fleet = Fleet::new(door, 1).unwrap();
    let told = |_: u64, _: ClientId, event: Event<'_>| anyhow::bail!("{}", line(event));
    let gone = fleet.open_all(clients, told).unwrap_err();
    assert!(format!("{gone:#}").contains("Closed(1006"), "{gone:#}");
}

#[test]
fn what_the_socket_does_not_take_waits_and_nothing_is_lost() {
    const UPDATES: usize = 40_000;
    let (door, server) = serve(|mut socket| {
        assert_eq!(heard(&mut socket), [0, 0, 1, 0]);
        say(&mut socket, &[0, 1, 2, 0, 0]);
        for _ in 0..UPDATES {
            let frame = heard(&mut socket);
            say(&mut socket, &frame);
        }
    });
    let mut fleet = Fleet::new(door, 1).unwrap();
    let mut told = Told::new();
    let client = fleet.connect("/sync/d", "d", "").unwrap();
    listen(&mut fleet, &mut told, "Ready");
    (0..UPDATES).for_each(|_| fleet.send(client, Say::Update(&[7; 500])));
    let mut back = 0;
    let mut waited = 0;
    while back < UPDATES {
        waited = waited.max(fleet.unwritten(client));
        fleet
            .turn(Duration::from_secs(1), |_, _, event| {
                back += usize::from(event == Event::Message(Message::Update(&[7; 500])));
                Ok(())
            })
            .unwrap();
    }
    assert!(waited > 0);
    assert_eq!(fleet.unwritten(client), 0);
    server.join().unwrap();
}
