//! A child process bound to one processor, and the directory that outlives it.

use std::fs;
use std::fs::File;
use std::io::BufRead;
use std::io::BufReader;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::Context;
use anyhow::Result;
use tempfile::TempDir;

/// Only ends what hangs.
const START_PATIENCE: Duration = Duration::from_secs(60);

/// Where a server keeps its data and its log; removed on drop.
#[derive(Debug)]
pub(crate) struct DataDir(TempDir);

impl DataDir {
    /// A new directory with nothing in it.
    ///
    /// # Errors
    /// When the place for temporary files is full or closed.
    pub(crate) fn empty() -> Result<Self> {
        Ok(Self(tempfile::Builder::new().prefix("syncline-load-").tempdir()?))
    }

    /// Where the server's data is.
    pub(crate) fn data(&self) -> PathBuf {
        self.0.path().join("data")
    }

    /// What the servers on this directory have said.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// The directory itself, for configuration files and scripts.
    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// Bytes of all files in the server's data.
    ///
    /// # Errors
    /// When a directory cannot be read.
    pub(crate) fn data_bytes(&self) -> Result<u64> {
        let mut dirs = vec![self.data()];
        let mut bytes = 0;
        while let Some(dir) = dirs.pop() {
            for entry in fs::read_dir(dir)? {
                let entry = entry?;
                // A file may be gone by now: servers rotate theirs.
                match entry.metadata() {
                    Ok(metadata) if metadata.is_dir() => dirs.push(entry.path()),
                    Ok(metadata) => bytes += metadata.len(),
                    Err(_) => {}
                }
            }
        }
        Ok(bytes)
    }

    fn log_path(&self) -> PathBuf {
        self.0.path().join("stderr.log")
    }
}

/// A running child; dropping it kills it.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
}

impl Process {
    /// Starts `program` bound to `core`, with standard error appended to the directory's log, and waits until a line of
    /// standard output satisfies `ready`, whose result is passed on. `setpriv` and
    /// `taskset` replace themselves by the program, so that the process id is the program's own.
    ///
    /// # Errors
    /// When it does not start, or ends or stays silent before it is ready.
    pub(crate) fn start<T>(
        core: usize,
        program: &Path,
        arrange: impl FnOnce(&mut Command),
        dir: &DataDir,
        ready: impl Fn(&str) -> Option<T>,
    ) -> Result<(Self, T)> {
        // Killed with this program however that ends: a server left behind would be part of every later measurement.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "taskset", "-c", &core.to_string()]).arg(program);
        arrange(&mut command);
        let log = File::options().create(true).append(true).open(dir.log_path())?;
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
        let mut child = command.spawn().context("setpriv and taskset are needed")?;
        let stdout = child.stdout.take().context("it is piped")?;
        let process = Self { child };
        let lines = lines_of(stdout);
        loop {
            let line = lines.recv_timeout(START_PATIENCE);
            let line = line.with_context(|| format!("{} does not start:\n{}", program.display(), dir.log()))?;
            if let Some(found) = ready(&line) {
                return Ok((process, found));
            }
        }
    }

    /// The process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL, and waits until it is gone.
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub(crate) fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}

/// The lines of a pipe, read to its end so that the writer never blocks on it.
fn lines_of(pipe: impl std::io::Read + Send + 'static) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            // Nobody listens any more once the server is up.
            let _ = sender.send(line);
        }
    });
    receiver
}
