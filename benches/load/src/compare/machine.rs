//! Where a session takes place, and with which versions: what a reader needs to judge its figures.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use anyhow::ensure;

use crate::compare::record::Session;
use crate::target;
use crate::target::TargetKind;

/// File systems that keep nothing when the power goes: an acknowledgement from there costs nothing and means nothing.
const IN_MEMORY: &[&str] = &["tmpfs", "ramfs"];

/// Everything that is written about a session with `targets`.
///
/// # Errors
/// When a program that is compared is missing, or data would be kept in memory.
pub(crate) fn session(seed: u64, rounds: u32, targets: &[TargetKind], program: Option<&Path>) -> Result<Session> {
    let data_dir = std::env::temp_dir();
    let file_system = file_system_of(&fs::canonicalize(&data_dir)?)?;
    ensure!(
        !IN_MEMORY.contains(&file_system.as_str()),
        "{} is {file_system}, which is no disk: set TMPDIR to a directory on one",
        data_dir.display()
    );
    let mut facts = vec![
        ("Processors".to_owned(), format!("{}, {}", processors()?, processor_model()?)),
        ("Memory".to_owned(), format!("{:.0} GiB", memory_kib()? / f64::from(1 << 20))),
        ("Kernel".to_owned(), first_line("/proc/sys/kernel/osrelease")?),
        ("File system of the data".to_owned(), file_system),
        ("Load average at the start (1, 5, 15 minutes)".to_owned(), load_average()?),
    ];
    for target in targets {
        facts.extend(versions_of(*target, program)?);
    }
    Ok(Session { seed, rounds, facts })
}

fn versions_of(target: TargetKind, program: Option<&Path>) -> Result<Vec<(String, String)>> {
    let packages: &[&str] = match target {
        TargetKind::Relay => return Ok(Vec::new()),
        TargetKind::Syncline => return Ok(vec![("Syncline".to_owned(), syncline_version(program)?)]),
        TargetKind::Hocuspocus => &["@hocuspocus/server", "@hocuspocus/extension-sqlite", "better-sqlite3", "yjs"],
        TargetKind::YWebsocketServer => &["@y/websocket-server", "y-leveldb", "leveldown", "yjs"],
    };
    let versions = packages.iter().map(|package| Ok(format!("`{package}` {}", target::npm_version(package)?)));
    let versions = versions.collect::<Result<Vec<_>>>()?.join(", ");
    let node = said(&target::node()?, &["--version"])?;
    Ok(vec![(target.name().to_owned(), format!("{versions}, Node {node}"))])
}

/// Its version, and the commit of the working tree when there is one.
fn syncline_version(program: Option<&Path>) -> Result<String> {
    let program = program.map_or_else(target::release_build, Path::to_owned);
    let version = said(&program, &["--version"])?;
    let version = version.trim_start_matches("syncline ");
    let commit = said(Path::new("git"), &["rev-parse", "--short", "HEAD"]);
    Ok(commit.map_or_else(|_| version.to_owned(), |commit| format!("{version}, commit {commit}")))
}

/// What a program prints.
fn said(program: &Path, args: &[&str]) -> Result<String> {
    let output = Command::new(program).args(args).output().with_context(|| format!("{}", program.display()))?;
    ensure!(output.status.success(), "{} {} failed", program.display(), args.join(" "));
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn processors() -> Result<usize> {
    let text = fs::read_to_string("/proc/cpuinfo")?;
    Ok(text.lines().filter(|line| line.starts_with("processor")).count())
}

fn processor_model() -> Result<String> {
    let text = fs::read_to_string("/proc/cpuinfo")?;
    let model = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    Ok(model.map_or("unknown model", |(_, model)| model).to_owned())
}

fn memory_kib() -> Result<f64> {
    let line = first_line("/proc/meminfo")?;
    let kib = line.split_ascii_whitespace().nth(1).and_then(|kib| kib.parse().ok());
    kib.context("/proc/meminfo is not what it was")
}

fn load_average() -> Result<String> {
    let line = first_line("/proc/loadavg")?;
    Ok(line.split_ascii_whitespace().take(3).collect::<Vec<_>>().join(", "))
}

fn first_line(path: &str) -> Result<String> {
    let text = fs::read_to_string(path)?;
    Ok(text.lines().next().context("a file of the kernel is empty")?.to_owned())
}

/// The type of the file system that holds `path`: that of the longest mount point above it.
fn file_system_of(path: &Path) -> Result<String> {
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let mounts = mounts.lines().filter_map(|line| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        Some((Path::new(fields.next()?), fields.next()?))
    });
    let above = mounts.filter(|(point, _)| path.starts_with(point));
    // Of two at one place the later one covers the earlier.
    match above.max_by_key(|(point, _)| point.as_os_str().len()) {
        Some((_, file_system)) => Ok(file_system.to_owned()),
        None => bail!("{} is on no file system", path.display()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_is_known() {
        assert!(processors().unwrap() > 0);
        assert!(memory_kib().unwrap() > 1000.0);
        assert!(!first_line("/proc/sys/kernel/osrelease").unwrap().is_empty());
    }

    #[test]
    fn the_nearest_mount_point_decides() {
        assert_eq!(file_system_of(Path::new("/proc/self")).unwrap(), "proc");
        assert_ne!(file_system_of(Path::new("/")).unwrap(), "proc");
    }
}
