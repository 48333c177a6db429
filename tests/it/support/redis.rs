//! A Redis of one's own: started on a free port, killed on drop.

use std::net::TcpListener;
use std::path::Path;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::sync::Arc;

use tempfile::TempDir;

use crate::server::PATIENCE;

/// Free ports that are taken in the moment before Redis takes them.
const STARTS_MAX: usize = 5;

/// A server that keeps nothing.
#[derive(Debug)]
pub(crate) struct Redis {
    child: Child,
    port: u16,
    home: Arc<TempDir>,
    arguments: Vec<String>,
}

impl Redis {
    pub(crate) async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// With more on its command line.
    pub(crate) async fn start_with(arguments: &[&str]) -> Self {
        let home = Arc::new(tempfile::tempdir().unwrap());
        let arguments: Vec<_> = arguments.iter().map(|&argument| argument.to_owned()).collect();
        // Somebody else may take the port in between: then it ends, and another one is tried.
        for _ in 0..STARTS_MAX {
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let child = spawn(port, home.path(), &arguments);
            let mut redis = Self { child, port, home: home.clone(), arguments: arguments.clone() };
            if redis.is_there().await {
                return redis;
            }
        }
        panic!("Redis does not start:\n{}", std::fs::read_to_string(home.path().join("log")).unwrap_or_default());
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Where it also listens.
    pub(crate) fn socket(&self) -> String {
        self.home.path().join("redis.sock").display().to_string()
    }

    /// It is gone from one moment to the next.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts again where it was, empty.
    pub(crate) async fn start_again(&mut self) {
        self.child = spawn(self.port, self.home.path(), &self.arguments);
        assert!(self.is_there().await, "the port is still free");
    }

    /// It neither answers nor hangs up until [`Self::thaw`].
    pub(crate) fn freeze(&self) {
        self.signal("STOP");
    }

    pub(crate) fn thaw(&self) {
        self.signal("CONT");
    }

    /// Runs one command, as anybody could who reaches it.
    pub(crate) fn ask<T: redis::FromRedisValue>(&self, command: &redis::Cmd) -> T {
        let mut connection = self.connect().expect("it is there");
        command.query(&mut connection).expect("the command is right")
    }

    /// Says something on a channel, as anybody could who reaches it. Answers how many heard.
    pub(crate) fn publish(&self, channel: &str, payload: &[u8]) -> usize {
        self.ask(redis::cmd("PUBLISH").arg(channel).arg(payload))
    }

    /// How many commands of a kind it has done.
    pub(crate) fn calls(&self, command: &str) -> u64 {
        let stats: String = self.ask(redis::cmd("INFO").arg("commandstats"));
        let line = stats.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{command}:calls=")));
        line.map_or(0, |line| line.split(',').next().unwrap().parse().unwrap())
    }

    fn connect(&self) -> redis::RedisResult<redis::Connection> {
        redis::Client::open(format!("redis+unix://{}", self.socket()))?.get_connection()
    }

    /// Waits until it answers; `false` when it ended instead.
    async fn is_there(&mut self) -> bool {
        let answers = async {
            loop {
                if self.child.try_wait().unwrap().is_some() {
                    return false;
                }
                if self.connect().is_ok() {
                    return true;
                }
                tokio::time::sleep(std::time::Duration::from_millis(5)).await; // poll
            }
        };
        tokio::time::timeout(PATIENCE, answers).await.expect("Redis starts or ends")
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("kill").arg(format!("-{name}")).arg(self.child.id().to_string()).status();
        assert!(sent.unwrap().success(), "kill -{name}");
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(port: u16, home: &Path, arguments: &[String]) -> Child {
    let mut command = Command::new("redis-server");
    command.args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--daemonize", "no"]);
    command.args(["--port", &port.to_string(), "--unixsocket", "redis.sock", "--dir"]).arg(home).args(arguments);
    let log = std::fs::File::options().create(true).append(true).open(home.join("log")).unwrap();
    command.current_dir(home).stdin(Stdio::null()).stdout(log).stderr(Stdio::null());
    command.spawn().expect("redis-server is installed: scripts/setup.sh")
}
