//! The real program as a child process: started on a free port, killed on drop, its complaints kept for failure messages.

use std::path::Path;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;
use std::time::SystemTime;

use jsonwebtoken::EncodingKey;
use jsonwebtoken::Header;
use serde_json::Value;
use serde_json::json;
use tempfile::TempDir;
use tokio::io::AsyncBufReadExt;
use tokio::io::BufReader;
use tokio::io::Lines;
use tokio::process::Child;
use tokio::process::ChildStdout;
use tokio::process::Command;
use tokio::sync::watch;

use crate::support::socket::Socket;

/// Only ends what hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
const SECRET: &str = "a secret of at least thirty-two bytes";

/// How a server is to be started.
#[derive(Debug, Clone)]
pub(crate) struct Setup {
    dev: bool,
    variables: Vec<(String, String)>,
    home: Arc<TempDir>,
}

impl Setup {
    /// Everybody may do everything.
    pub(crate) fn dev() -> Self {
        Self { dev: true, variables: Vec::new(), home: Arc::new(tempfile::tempdir().unwrap()) }
            .set("LOG__FORMAT", "json")
    }

    /// Tokens are needed; [`token`] makes them.
    pub(crate) fn with_secret() -> Self {
        Self { dev: false, ..Self::dev() }.set("AUTH__SECRET", SECRET)
    }

    /// One setting, by the name of its variable without `SYNCLINE_`.
    pub(crate) fn set(mut self, name: &str, value: impl ToString) -> Self {
        self.variables.push((format!("SYNCLINE_{name}"), value.to_string()));
        self
    }

    /// A variable of somebody else's.
    pub(crate) fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// What has no variable.
    pub(crate) fn file(self, toml: &str) -> Self {
        std::fs::write(self.config(), toml).unwrap();
        self
    }

    fn config(&self) -> PathBuf {
        self.home.path().join("syncline.toml")
    }

    /// The data directory.
    pub(crate) fn data_dir(&self) -> PathBuf {
        self.home.path().join("data")
    }

    pub(crate) async fn start(&self) -> Server {
        match self.try_start().await {
            Ok(server) => server,
            Err(ended) => panic!("the server ended with {}:\n{}", ended.status, ended.stderr),
        }
    }

    /// Starts, and waits until clients can connect.
    pub(crate) async fn try_start(&self) -> Result<Server, Ended> {
        let mut process = Process::spawn(self);
        let line = tokio::time::timeout(PATIENCE, process.stdout.next_line()).await;
        let line = line.unwrap_or_else(|_| panic!("the server does not start:\n{}", self.stderr())).unwrap();
        let Some(line) = line else { return Err(process.ended(self).await) };
        let at = line.strip_prefix("syncline listening on http://").expect("the one line of standard output");
        let (address, _) = watch::channel(at.to_owned());
        Ok(Server { at: at.to_owned(), address, process, setup: self.clone() })
    }

    /// Starts, and kills it while it starts: after `patience`, or once it is up.
    pub(crate) async fn start_and_kill(&self, patience: Duration) {
        let mut process = Process::spawn(self);
        let _ = tokio::time::timeout(patience, process.stdout.next_line()).await;
        process.child.kill().await.unwrap();
    }

    /// Runs another command of the program on the same data.
    pub(crate) async fn doc_command(&self, arguments: &[&str]) -> Ended {
        let output = Command::new(env!("CARGO_BIN_EXE_syncline"))
            .arg("doc")
            .args(arguments)
            .arg("--data-dir")
            .arg(self.data_dir())
            .env_clear()
            .envs(self.variables.iter().cloned())
            .output();
        let output = tokio::time::timeout(PATIENCE, output).await.expect("the command ends").unwrap();
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        Ended { status: output.status, stdout: text(&output.stdout), stderr: text(&output.stderr) }
    }

    /// What the servers so far have said.
    pub(crate) fn stderr(&self) -> String {
        std::fs::read_to_string(self.log()).unwrap_or_default()
    }

    fn log(&self) -> PathBuf {
        self.home.path().join("stderr.log")
    }
}

/// How a process ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

#[derive(Debug)]
struct Process {
    child: Child,
    stdout: Lines<BufReader<ChildStdout>>,
}

impl Process {
    fn spawn(setup: &Setup) -> Self {
        let log = std::fs::File::options().create(true).append(true).open(setup.log()).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_syncline"));
        command.args(["serve", "--listen", "127.0.0.1:0", "--data-dir"]).arg(setup.data_dir());
        if setup.dev {
            command.arg("--dev");
        }
        if setup.config().exists() {
            command.arg("--config").arg(setup.config());
        }
        command.env_clear().envs(setup.variables.iter().cloned());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log).kill_on_drop(true);
        let mut child = command.spawn().expect("the program starts");
        let stdout = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        Self { child, stdout }
    }

    async fn ended(mut self, setup: &Setup) -> Ended {
        let status = tokio::time::timeout(PATIENCE, self.child.wait()).await;
        let status = status.unwrap_or_else(|_| panic!("the server does not end:\n{}", setup.stderr())).unwrap();
        Ended { status, stdout: String::new(), stderr: setup.stderr() }
    }

    fn signal(&self, name: &str) {
        let Some(pid) = self.child.id() else { return };
        let sent = std::process::Command::new("kill").arg(format!("-{name}")).arg(pid.to_string()).status();
        assert!(sent.unwrap().success(), "kill -{name}");
    }
}

/// A running server.
#[derive(Debug)]
pub(crate) struct Server {
    at: String,
    address: watch::Sender<String>,
    process: Process,
    setup: Setup,
}

impl Server {
    pub(crate) async fn dev() -> Self {
        Setup::dev().start().await
    }

    pub(crate) async fn with_secret() -> Self {
        Setup::with_secret().start().await
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.at)
    }

    pub(crate) fn token(&self, sub: &str, access: Value) -> String {
        token(sub, access, 3600)
    }

    /// A bare WebSocket on a document. `doc` is percent-encoded by the caller.
    pub(crate) async fn ws(&self, doc: &str, token: Option<&str>) -> Socket {
        let query = token.map(|token| format!("?token={token}")).unwrap_or_default();
        Socket::open(&format!("ws://{}/sync/{doc}{query}", self.at)).await
    }

    /// Where clients dial, also after a restart; see [`Self::take_address`].
    pub(crate) fn address(&self) -> watch::Receiver<String> {
        self.address.subscribe()
    }

    /// Goes on with the address that a former server's clients dial, and tells them where this one is.
    pub(crate) fn take_address(&mut self, former: watch::Sender<String>) {
        self.address = former;
        self.address.send_replace(self.at.clone());
    }

    pub(crate) fn setup(&self) -> &Setup {
        &self.setup
    }

    pub(crate) fn signal(&self, name: &str) {
        self.process.signal(name);
    }

    /// Most bytes of memory that the process has had at one time.
    pub(crate) fn peak_memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.child.id().unwrap())).unwrap();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("Linux says how much");
        peak.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
    }

    /// From here on, [`Self::peak_memory`] counts anew.
    pub(crate) fn forget_peak_memory(&self) {
        std::fs::write(format!("/proc/{}/clear_refs", self.process.child.id().unwrap()), "5").unwrap();
    }

    /// SIGKILL, and waits until it is gone. Gives what clients dial.
    pub(crate) async fn sigkill(mut self) -> watch::Sender<String> {
        self.process.child.kill().await.unwrap();
        self.address
    }

    /// SIGKILL and a new start on the same data; clients that reconnect find it.
    pub(crate) async fn restart(self) -> Self {
        let setup = self.setup.clone();
        let former = self.sigkill().await;
        let mut server = setup.start().await;
        server.take_address(former);
        server
    }

    /// SIGTERM, and waits for the end.
    pub(crate) async fn sigterm(self) -> Ended {
        self.signal("TERM");
        self.ended().await
    }

    /// As [`Self::sigterm`]; also gives what clients dial.
    pub(crate) async fn sigterm_with_address(self) -> (Ended, watch::Sender<String>) {
        self.signal("TERM");
        self.ended_with_address().await
    }

    /// Waits for the end.
    pub(crate) async fn ended(self) -> Ended {
        self.process.ended(&self.setup).await
    }

    /// Waits for the end; also gives what clients dial.
    pub(crate) async fn ended_with_address(self) -> (Ended, watch::Sender<String>) {
        (self.process.ended(&self.setup).await, self.address)
    }

    /// The parsed body of an answer that must be fine.
    pub(crate) async fn json(&self, path: &str) -> Value {
        let response = reqwest::get(self.url(path)).await.unwrap();
        let (status, text) = (response.status(), response.text().await.unwrap());
        assert_eq!(status, 200, "{path}: {text}");
        serde_json::from_str(&text).unwrap()
    }
}

/// A token that is good for so many seconds; negative for one that ran out.
pub(crate) fn token(sub: &str, access: Value, seconds: i64) -> String {
    signed(&json!({"sub": sub, "exp": wall_seconds().checked_add_signed(seconds).unwrap(), "access": access}))
}

/// Seconds since 1970.
pub(crate) fn wall_seconds() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
}

/// A token with these claims.
pub(crate) fn signed(claims: &Value) -> String {
    jsonwebtoken::encode(&Header::default(), claims, &EncodingKey::from_secret(SECRET.as_bytes())).unwrap()
}

/// No process may ever have panicked.
pub(crate) fn assert_no_panic(stderr: &str) {
    assert!(!stderr.contains("panicked"), "{stderr}");
}

/// Everything quarantined in a data directory.
pub(crate) fn quarantined(data_dir: &Path) -> String {
    std::fs::read_to_string(data_dir.join("quarantine.jsonl")).unwrap_or_default()
}
