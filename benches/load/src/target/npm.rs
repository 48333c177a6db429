//! Servers from npm under load, as `benches/load/npm` pins and starts them: their own persistence, their own defaults.

use std::fs;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Context;
use anyhow::Result;
use anyhow::ensure;

use crate::target::DataDir;
use crate::target::Process;
use crate::target::Running;
use crate::target::StartOptions;
use crate::target::TargetKind;

/// Where the packages are, seen from the repository's root.
const HOME: &str = "benches/load/npm";

/// Starts the server of `kind` with the script named `script`.
///
/// # Errors
/// When Node or the packages are missing, or it does not start.
pub(crate) fn start(kind: TargetKind, script: &str, data_dir: DataDir, options: &StartOptions) -> Result<Running> {
    let node = node()?;
    let home = Path::new(HOME);
    ensure!(
        home.join("node_modules").is_dir(),
        "{HOME}/node_modules is missing: run `npm ci --prefix {HOME}` at the repository's root"
    );
    fs::create_dir_all(data_dir.data())?;
    let arrange = |command: &mut std::process::Command| {
        command.arg(home.join(script)).arg("0").arg(data_dir.data());
        command.env("NODE_ENV", "production");
        command.envs(options.variables.iter().cloned());
    };
    let ready = |line: &str| line.strip_prefix("ready ")?.parse().ok();
    let (process, addr) = Process::start(options.core, &node, arrange, &data_dir, ready)?;
    Ok(Running { kind, pid: process.id(), addr, process, data_dir, options: options.clone() })
}

/// The version of an installed package.
///
/// # Errors
/// When it is not installed.
pub(crate) fn version(package: &str) -> Result<String> {
    let path = Path::new(HOME).join("node_modules").join(package).join("package.json");
    let text = fs::read_to_string(&path).with_context(|| format!("{package} is not installed"))?;
    let manifest: serde_json::Value = serde_json::from_str(&text)?;
    Ok(manifest["version"].as_str().context("a package without a version")?.to_owned())
}

/// The program that a shell would start for `node`.
///
/// # Errors
/// When there is none.
pub(crate) fn node() -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut programs = std::env::split_paths(&path).map(|dir| dir.join("node"));
    programs.find(|program| program.is_file()).context("node is not installed, or not in PATH")
}
