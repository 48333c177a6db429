//! A real PostgreSQL for tests: one that all tests of a run share, and private ones to be stopped, started and frozen.
//!
//! A server belongs to a *guardian*, a shell outside the test's process group that waits for its users to end, however
//! they end, and then stops the server and removes its files. The users of the shared server hold a shared lock on a
//! file; the user of a private one holds the other end of a pipe. Both go with the process, also when it is killed.
//!
//! The server runs with `fsync`, on a free port of 127.0.0.1, and asks for a password. It refuses to run as root, so root
//! runs it as the user `postgres`.

use std::fs;
use std::fs::File;
use std::io;
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::ChildStdin;
use std::process::Command;
use std::process::Stdio;
use std::sync::OnceLock;

use tempfile::TempDir;

/// A password that has to be escaped in a URL; it must not turn up in any log.
pub(crate) const PASSWORD: &str = "hunter2/@:%";
const PASSWORD_IN_URL: &str = "hunter2%2F%40%3A%25";
const USER: &str = "syncline";
/// The shared server waits so long for the next test before it is stopped.
const LINGER_SECONDS: u32 = 10;

/// An empty database of its own on the shared server. Nothing drops it: it goes with the server.
pub(crate) async fn database() -> String {
    let port = tokio::task::spawn_blocking(shared).await.expect("the shared server starts");
    create_database(port).await
}

/// A private server with one database. It is stopped and removed when this is dropped or the process ends.
pub(crate) struct Server {
    cluster: Cluster,
    port: u16,
    url: String,
    /// The guardian, and what it waits on.
    guardian: Option<(Child, ChildStdin)>,
    _dir: TempDir,
}

impl Server {
    /// Makes and starts one: about two seconds.
    pub(crate) async fn start() -> Self {
        let started = tokio::task::spawn_blocking(|| {
            let dir = tempfile::Builder::new().prefix("syncline-postgres-").tempdir().expect("a temporary directory");
            let cluster = Cluster::init(dir.path());
            let guardian = guard_private(&cluster);
            let port = cluster.start_anywhere();
            (cluster, port, guardian, dir)
        });
        let (cluster, port, guardian, dir) = started.await.expect("a private server starts");
        let url = create_database(port).await;
        Self { cluster, port, url, guardian: Some(guardian), _dir: dir }
    }

    /// Its database. Stays the same when it is stopped and started.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// As a crash: connections break, nothing is written out.
    pub(crate) fn stop(&self) {
        self.cluster.pg_ctl(&["stop", "-w", "-m", "immediate"]).expect("the server stops");
    }

    /// Starts it again after [`Self::stop`], at the same address; recovers what was committed.
    pub(crate) fn start_again(&self) {
        self.cluster.start(self.port).expect("the server starts again");
    }

    /// Starts it anew with TLS, as `localhost`. Answers the certificate that vouches for it, and one that does not.
    pub(crate) fn encrypt(&self) -> (PathBuf, PathBuf) {
        let data = &self.cluster.data;
        let file = |name: &str| data.join(name);
        let make = |name: &str, subject: &str, rest: &[&str]| {
            let mut openssl = Command::new("openssl");
            openssl.args([
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:P-256",
                "-noenc",
                "-days",
                "2",
            ]);
            openssl.args(["-subj", &format!("/CN={subject}")]).args(rest);
            openssl.arg("-keyout").arg(file(&format!("{name}.key"))).arg("-out").arg(file(&format!("{name}.crt")));
            run(openssl.current_dir(data)).expect("openssl makes certificates");
        };
        let constraints = "basicConstraints=critical,CA:FALSE";
        make("authority", "authority", &[]);
        make("stranger", "authority", &[]);
        let signed = ["-CA", "authority.crt", "-CAkey", "authority.key", "-addext", "subjectAltName=DNS:localhost"];
        make("server", "localhost", &[&signed[..], &["-addext", constraints]].concat());
        fs::set_permissions(file("server.key"), fs::Permissions::from_mode(0o600)).expect("the key is ours");
        if let Some((user, group)) = self.cluster.owner {
            chown(file("server.key"), Some(user), Some(group)).expect("root may give a file away");
        }
        // From here on it takes nobody in who does not encrypt.
        let doors = fs::read_to_string(file("pg_hba.conf")).expect("there are rules");
        fs::write(file("pg_hba.conf"), doors.replace("\nhost ", "\nhostssl ")).expect("the rules are ours");
        let mut settings = File::options().append(true).open(file("postgresql.conf")).expect("there are settings");
        io::Write::write_all(&mut settings, b"\nssl = on\n").expect("a line can be added");
        self.stop();
        self.start_again();
        (file("authority.crt"), file("stranger.crt"))
    }

    /// Freezes it: connections stay, nothing answers.
    pub(crate) fn freeze(&self) {
        self.cluster.signal("STOP");
    }

    /// Lets it go on after [`Self::freeze`].
    pub(crate) fn thaw(&self) {
        self.cluster.signal("CONT");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some((mut guardian, pipe)) = self.guardian.take() {
            drop(pipe);
            let _ = guardian.wait();
        }
    }
}

async fn create_database(port: u16) -> String {
    let url = |database: &str| format!("postgres://{USER}:{PASSWORD_IN_URL}@127.0.0.1:{port}/{database}");
    let (client, connection) =
        tokio_postgres::connect(&url("postgres"), tokio_postgres::NoTls).await.expect("the server takes us in");
    let talking = tokio::spawn(connection);
    let name = format!("t{:016x}", rand::random::<u64>());
    client.batch_execute(&format!("CREATE DATABASE {name}")).await.expect("a database can be made");
    drop(client);
    let _ = talking.await;
    url(&name)
}

/// The files of one server, and who runs it.
struct Cluster {
    data: PathBuf,
    /// User and group, where they are not our own.
    owner: Option<(u32, u32)>,
}

impl Cluster {
    fn at(dir: &Path) -> Self {
        let root = fs::metadata("/proc/self").is_ok_and(|us| us.uid() == 0);
        Self { data: dir.join("data"), owner: root.then(postgres_user) }
    }

    /// Makes the files in `dir`, which is ours alone.
    fn init(dir: &Path) -> Self {
        let cluster = Self::at(dir);
        fs::create_dir(&cluster.data).expect("a directory");
        let secret = dir.join("password");
        fs::write(&secret, PASSWORD).expect("a file");
        if let Some((user, group)) = cluster.owner {
            for path in [dir, &cluster.data, &secret] {
                chown(path, Some(user), Some(group)).expect("root may give a file away");
            }
        }
        fs::set_permissions(&cluster.data, fs::Permissions::from_mode(0o700)).expect("the directory is ours");
        let mut initdb = cluster.command("initdb");
        initdb.arg("--pwfile").arg(&secret).args(["-U", USER, "-A", "scram-sha-256", "-E", "UTF8", "--locale", "C"]);
        run(initdb.args(["--no-sync", "--no-instructions", "-D"]).arg(&cluster.data)).expect("initdb works");
        cluster
    }

    /// A free port may be taken by somebody else in the moment between.
    fn start_anywhere(&self) -> u16 {
        for _ in 0..10 {
            let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
            let port = free.local_addr().expect("it is bound").port();
            drop(free);
            if self.start(port).is_ok() {
                return port;
            }
        }
        panic!("no port to be had: {}", fs::read_to_string(self.data.join("log")).unwrap_or_default());
    }

    fn start(&self, port: u16) -> io::Result<()> {
        let options = format!(
            "-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c max_connections=300 \
             -c shared_buffers=32MB -c max_wal_size=256MB -c log_min_messages=warning -c log_checkpoints=off"
        );
        self.pg_ctl(&["start", "-w", "-t", "120", "-l", &self.data.join("log").to_string_lossy(), "-o", &options])
    }

    fn pg_ctl(&self, arguments: &[&str]) -> io::Result<()> {
        run(self.command("pg_ctl").arg("-D").arg(&self.data).args(arguments))
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(bin().join(program));
        // Somewhere that the other user may be.
        command.current_dir("/");
        if let Some((user, group)) = self.owner {
            command.uid(user).gid(group);
        }
        command
    }

    /// To the server and all its processes, the one first that would start others.
    fn signal(&self, signal: &str) {
        let pid = fs::read_to_string(self.data.join("postmaster.pid")).expect("it runs");
        let pid = pid.lines().next().expect("the first line is the process").to_owned();
        let send = |to: &[&str]| run(Command::new("kill").arg(format!("-{signal}")).args(to));
        send(&[&pid]).expect("it runs");
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        for child in children.split_whitespace() {
            // One that has ended meanwhile needs no signal.
            let _ = send(&[child]);
        }
    }
}

/// Ends a server in `$1`, frozen or not, and removes its files.
const END: &str = r#"
end() {
    pid=$(head -n 1 "$1/data/postmaster.pid" 2>/dev/null) && [ -n "$pid" ] && {
        kill -CONT "$pid" $(cat "/proc/$pid/task/$pid/children" 2>/dev/null)
        kill -QUIT "$pid"
        while kill -0 "$pid"; do sleep 0.05; done
    } 2>/dev/null
    rm -rf "$1"
}
"#;

/// Waits for the end of its standard input.
fn guard_private(cluster: &Cluster) -> (Child, ChildStdin) {
    let dir = cluster.data.parent().expect("it is in a directory");
    let script = format!("{END} cat >/dev/null; end \"$1\"");
    let mut guardian = guardian(&script).arg(dir).stdin(Stdio::piped()).spawn().expect("there is a shell");
    let pipe = guardian.stdin.take().expect("it was asked for");
    (guardian, pipe)
}

/// Waits until nobody has a shared lock on `$2/users`; whoever begins to use the server holds `$2/door` while it does.
#[expect(clippy::zombie_processes, reason = "it outlives this process")]
fn guard_shared(data: &Path, locks: &Path) {
    let script = format!(
        r#"{END}
        exec 9>"$2/guardian"; flock -n 9 || exit 0
        while :; do
            flock -x "$2/users" true
            sleep {LINGER_SECONDS}
            exec 8>"$2/door"; flock 8
            if flock -n -x "$2/users" true; then rm -f "$2/port"; end "$1"; exit 0; fi
            exec 8>&-
        done"#
    );
    guardian(&script).arg(data).arg(locks).stdin(Stdio::null()).spawn().expect("there is a shell");
}

/// In a group of its own, so that what ends a test's processes does not end it.
fn guardian(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("trap '' INT TERM HUP; {script}"), "sh"]).current_dir("/");
    command.stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
    command
}

/// The port of the shared server, which runs at least as long as this process.
fn shared() -> u16 {
    static SHARED: OnceLock<(u16, File)> = OnceLock::new();
    SHARED.get_or_init(join_shared).0
}

fn join_shared() -> (u16, File) {
    let locks = Path::new(env!("CARGO_TARGET_TMPDIR")).join("postgres");
    fs::create_dir_all(&locks).expect("the target directory is ours");
    let open = |name: &str| File::options().create(true).append(true).open(locks.join(name)).expect("a file");
    let (door, users) = (open("door"), open("users"));
    door.lock().expect("files can be locked");
    users.lock_shared().expect("files can be locked");
    // Not in the target directory: its parents may be closed to the user that runs the server.
    let dir = std::env::temp_dir().join(format!("syncline-postgres-{:x}", place_of(&locks)));
    let port = fs::read_to_string(locks.join("port")).ok().and_then(|port| port.parse().ok());
    let port = port.filter(|_| Cluster::at(&dir).pg_ctl(&["status"]).is_ok()).unwrap_or_else(|| {
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir(&dir).expect("a temporary directory");
        let port = Cluster::init(&dir).start_anywhere();
        fs::write(locks.join("port"), port.to_string()).expect("a file");
        port
    });
    guard_shared(&dir, &locks);
    (port, users)
}

/// The same for the same directory, as a file system knows it.
fn place_of(dir: &Path) -> u64 {
    let found = fs::metadata(dir).expect("it is there");
    found.ino() ^ found.dev().rotate_left(40)
}

/// Debian keeps each version's programs apart; elsewhere they are where all others are.
fn bin() -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let newest = versions.max_by_key(|version| version.file_name().to_string_lossy().parse::<u32>().unwrap_or(0));
    newest.map(|version| version.path().join("bin")).filter(|bin| bin.join("initdb").exists()).unwrap_or_default()
}

fn postgres_user() -> (u32, u32) {
    let users = fs::read_to_string("/etc/passwd").expect("there are users");
    let line = users.lines().find(|line| line.starts_with("postgres:")).expect("root needs the user postgres");
    let ids: Vec<u32> = line.split(':').skip(2).take(2).filter_map(|id| id.parse().ok()).collect();
    (ids[0], ids[1])
}

fn run(command: &mut Command) -> io::Result<()> {
    // Into a file and not a pipe: what pg_ctl starts would keep a pipe open.
    let mut said = tempfile::tempfile()?;
    let status = command.stdin(Stdio::null()).stdout(said.try_clone()?).stderr(said.try_clone()?).status()?;
    if status.success() {
        return Ok(());
    }
    let mut text = String::new();
    io::Seek::rewind(&mut said)?;
    io::Read::read_to_string(&mut said, &mut text)?;
    Err(io::Error::other(format!("{command:?}: {status}: {text}")))
}
