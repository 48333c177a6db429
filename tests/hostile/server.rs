//! A real server process, and what becomes of it when it is sent a sequence that killed a child.

use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;
use std::io::Write;
use std::net::TcpStream;
use std::path::Path;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;

use bytes::Bytes;
use syncline_protocol::channel::DocumentMessage;
use syncline_protocol::state_vector::StateVector;
use syncline_protocol::y_websocket;
use tungstenite::Message;
use tungstenite::WebSocket;

use crate::worker::Stage;

/// Longer than the engine's own patience with one update, after which a server that hangs ends itself.
const PATIENCE: Duration = Duration::from_secs(100);
const POLL: Duration = Duration::from_millis(20);

/// What a server made of a deadly sequence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It lived: wild memory is not equally wild everywhere.
    Unhurt,
    /// It died once, came back, and refuses that update since.
    Quarantined,
    /// It died once and came back, and the same sequence does no harm a second time.
    DiedOnce,
    /// It dies again and again.
    Again(String),
}

struct Server {
    child: Child,
    port: u16,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    fn start(dir: &Path) -> Result<Self, String> {
        let mut child = Command::new(env!("CARGO_BIN_EXE_syncline"))
            .args(["serve", "--dev", "--listen", "127.0.0.1:0", "--data-dir"])
            .arg(dir)
            .env_clear()
            // Snapshots at every chance: their engine work is part of the attack.
            .env("SYNCLINE_STORE__COMPACT_BYTES", "0")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| error.to_string())?;
        let mut line = String::new();
        let mut stdout = BufReader::new(child.stdout.take().ok_or("no standard output")?);
        stdout.read_line(&mut line).map_err(|error| error.to_string())?;
        let port = line.trim().rsplit(':').next().and_then(|port| port.parse().ok());
        Ok(Self { child, port: port.ok_or_else(|| format!("it does not start: {line:?}"))? })
    }

    fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Whether it ends by itself, given the chance: a lost connection is noticed before the process is gone.
    fn ends(&mut self, patience: Duration) -> bool {
        let since = Instant::now();
        while self.is_running() {
            if since.elapsed() > patience {
                return false;
            }
            std::thread::sleep(POLL); // poll
        }
        true
    }

    fn dial(&self, doc: &str) -> Option<Talk> {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        let url = format!("ws://127.0.0.1:{}/sync/{doc}", self.port);
        tungstenite::client(url, stream).ok().map(|(socket, _)| Talk { socket })
    }

    fn get(&self, path: &str) -> Option<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").ok()?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).ok()?;
        Some(String::from_utf8_lossy(&answer).into_owned())
    }

    /// Sends the updates one after the other, each until the server has said something about it. Answers the last close
    /// code, or `None` when the server does not answer any more.
    fn attack(&self, updates: &[Bytes]) -> Option<Option<u16>> {
        let mut last = None;
        let mut talk = None;
        for update in updates {
            let connection = match &mut talk {
                Some(connection) => connection,
                empty => empty.insert(self.dial("attacked")?),
            };
            last = connection.tell(update)?;
            if last.is_some() {
                talk = None;
            }
        }
        Some(last)
    }
}

struct Talk {
    socket: WebSocket<TcpStream>,
}

impl Talk {
    /// Sends an update and asks for the whole state behind it. `Some(code)` when the server closes over it.
    fn tell(&mut self, update: &Bytes) -> Option<Option<u16>> {
        for message in
            [DocumentMessage::Update(update.clone()), DocumentMessage::SyncStep1(StateVector::default().encode())]
        {
            let _ = self.socket.send(Message::Binary(y_websocket::encode_client(&message)));
        }
        loop {
            match self.socket.read().ok()? {
                Message::Binary(frame) if is_answer(frame.clone()) => return Some(None),
                Message::Close(frame) => return Some(Some(frame.map_or(1005, |frame| frame.code.into()))),
                _ => {}
            }
        }
    }

    /// Sends an update and waits until it is saved.
    fn save(&mut self, update: &Bytes) -> Option<()> {
        let message = DocumentMessage::Update(update.clone());
        self.socket.send(Message::Binary(y_websocket::encode_client(&message))).ok()?;
        loop {
            if let Message::Binary(frame) = self.socket.read().ok()? {
                let echo = y_websocket::Message::Document(message.clone());
                if y_websocket::decode(frame).ok()?.contains(&echo) {
                    return Some(());
                }
            }
        }
    }
}

fn is_answer(frame: Bytes) -> bool {
    let messages = y_websocket::decode(frame).unwrap_or_default();
    messages.iter().any(|message| matches!(message, y_websocket::Message::Document(DocumentMessage::SyncStep2(_))))
}

/// Two updates of an honest author.
fn honest() -> [Bytes; 2] {
    ["0101010004010174016800", "01010101840100016500"].map(crate::stories::unhex)
}

/// Sends a sequence to a server, and looks whether it is ended by it, comes back, and stays.
pub(crate) fn judge(updates: &[Bytes], stage: Stage) -> Result<Outcome, String> {
    let dir = tempfile::tempdir().map_err(|error| error.to_string())?;
    let [first, second] = honest();
    let mut server = Server::start(dir.path())?;
    server.dial("honest").and_then(|mut talk| talk.save(&first)).ok_or("an honest edit was not saved")?;
    if !provoked(&mut server, updates, stage) {
        return Ok(Outcome::Unhurt);
    }
    for life in 1..=2 {
        drop(server);
        server = Server::start(dir.path())?;
        let mut talk = server.dial("honest").ok_or("the honest document cannot be reached")?;
        talk.save(&first).ok_or("the honest document lost an edit")?;
        talk.save(&second).ok_or("an honest edit was not saved after the crash")?;
        let quarantine = std::fs::read_to_string(dir.path().join("quarantine.jsonl")).unwrap_or_default();
        let died = provoked(&mut server, updates, stage);
        let refused = !died && server.attack(updates).flatten() == Some(4422);
        match (died, refused) {
            (false, true) if quarantine.contains("attacked") => return Ok(Outcome::Quarantined),
            (false, _) => return Ok(Outcome::DiedOnce),
            (true, _) if life == 2 => return Ok(Outcome::Again(format!("in {stage:?}; quarantine: {quarantine:?}"))),
            (true, _) => {}
        }
    }
    unreachable!("the second life returns")
}

/// Does to the server what killed the child. Answers whether it died.
fn provoked(server: &mut Server, updates: &[Bytes], stage: Stage) -> bool {
    let answered = server.attack(updates).is_some();
    if stage >= Stage::Json && answered {
        let _ = server.get("/v1/docs/attacked");
    }
    let patience = if answered { Duration::from_secs(2) } else { PATIENCE };
    server.ends(patience)
}
