//! A server of its own process, and who speaks HTTP to it: over one connection that stays, one request after the other.

use std::fs;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;
use std::io::Write;
use std::net::SocketAddr;
use std::net::TcpStream;
use std::path::Path;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use anyhow::ensure;
use serde_json::Value;

use crate::material::Material;

/// The kernel counts processor time in hundredths of a second.
const TICK: Duration = Duration::from_millis(10);
/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(120);

/// `syncline serve --dev`, killed when it goes out of scope.
pub(crate) struct Server {
    child: Child,
    pub(crate) address: SocketAddr,
}

impl Server {
    pub(crate) fn start(data_dir: &Path) -> Result<Self> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_syncline"));
        // Whoever measures may have settings of their own: what is measured has only these.
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("SYNCLINE_")) {
            command.env_remove(name);
        }
        let mut child = command
            .args(["serve", "--dev", "--listen", "127.0.0.1:0", "--data-dir"])
            .arg(data_dir)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let mut lines = BufReader::new(child.stdout.take().context("it has an output")?).lines();
        let address = loop {
            let line = lines.next().context("the server ended before it listened")??;
            if let Some((_, address)) = line.split_once("listening on http://") {
                break address.trim().parse()?;
            }
        };
        // What else it prints is read, so that it never waits for us.
        std::thread::spawn(move || lines.for_each(drop));
        Ok(Self { child, address })
    }

    pub(crate) fn client(&self) -> Result<Client> {
        Client::connect(self.address)
    }

    /// Resident memory in bytes.
    pub(crate) fn resident(&self) -> u64 {
        resident(self.child.id())
    }

    /// Processor time so far, all threads, user and kernel.
    pub(crate) fn processor(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap_or_default();
        // The second field is the program's name in brackets and may hold blanks.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<u32>().ok()).unwrap_or(0);
        TICK * (ticks(11) + ticks(12))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Resident memory of a process in bytes.
pub(crate) fn resident(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0) << 10
}

/// One connection.
pub(crate) struct Client {
    stream: BufReader<TcpStream>,
    request: Vec<u8>,
}

impl Client {
    fn connect(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self { stream: BufReader::new(stream), request: Vec::new() })
    }

    /// Sends a request and reads the whole answer. Anything but success is an error.
    pub(crate) fn ask(&mut self, method: &str, path: &str, body: &[u8]) -> Result<Vec<u8>> {
        self.send(method, path, body)?;
        let (status, length) = self.head()?;
        let mut answer = vec![0; length.context("the answer has no length")?];
        self.stream.read_exact(&mut answer)?;
        ensure!((200..300).contains(&status), "{method} {path}: {status} {}", String::from_utf8_lossy(&answer));
        Ok(answer)
    }

    pub(crate) fn json(&mut self, method: &str, path: &str, body: &Value) -> Result<Value> {
        Ok(serde_json::from_slice(&self.ask(method, path, body.to_string().as_bytes())?)?)
    }

    /// Makes a table of the updates of an ordinary client.
    pub(crate) fn make(&mut self, table: &str, material: &Material) -> Result<()> {
        let path = format!("/v1/docs/table%3A{table}/updates");
        material.table.iter().try_for_each(|edit| self.ask("POST", &path, &edit.update).map(drop))
    }

    fn send(&mut self, method: &str, path: &str, body: &[u8]) -> Result<()> {
        self.request.clear();
        write!(self.request, "{method} {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n", body.len())?;
        self.request.extend_from_slice(body);
        Ok(self.stream.get_mut().write_all(&self.request)?)
    }

    /// The status, and the length of what follows.
    fn head(&mut self) -> Result<(u16, Option<usize>)> {
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        let status = line.split(' ').nth(1).context("no answer")?.parse()?;
        let mut length = None;
        loop {
            line.clear();
            self.stream.read_line(&mut line)?;
            let Some((name, value)) = line.trim_end().split_once(':') else { return Ok((status, length)) };
            if name.eq_ignore_ascii_case("content-length") {
                length = Some(value.trim().parse()?);
            }
        }
    }

    /// Listens to a room: what follows are its events, for [`Listening::next`].
    pub(crate) fn listen(mut self, room: &str) -> Result<Listening> {
        self.send("GET", &format!("/v1/rooms/{room}/events"), b"")?;
        let (status, _) = self.head()?;
        ensure!(status == 200, "the stream of events was refused: {status}");
        let mut listening = Listening { stream: self.stream, line: String::new() };
        ensure!(listening.next()? == "ready", "a stream begins with `ready`");
        Ok(listening)
    }
}

/// An open stream of events.
pub(crate) struct Listening {
    stream: BufReader<TcpStream>,
    line: String,
}

impl Listening {
    /// The name of the next event. Frames of the transfer encoding stand on lines of their own, and are passed over.
    pub(crate) fn next(&mut self) -> Result<&str> {
        loop {
            self.line.clear();
            if self.stream.read_line(&mut self.line)? == 0 {
                bail!("the stream ended");
            }
            if self.line.starts_with("event:") {
                return Ok(self.line["event:".len()..].trim());
            }
        }
    }
}
