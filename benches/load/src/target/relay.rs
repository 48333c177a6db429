//! The relay under load: this program, started once more.

use anyhow::Result;

use crate::target::DataDir;
use crate::target::Process;
use crate::target::Running;
use crate::target::StartOptions;
use crate::target::TargetKind;

/// Starts it.
///
/// # Errors
/// When it does not start.
pub(crate) fn start(data_dir: DataDir, options: &StartOptions) -> Result<Running> {
    let program = std::env::current_exe()?;
    let arrange = |command: &mut std::process::Command| {
        command.args(["relay", "--listen", "127.0.0.1:0"]);
    };
    let ready = |line: &str| line.strip_prefix("ready ")?.parse().ok();
    let (process, addr) = Process::start(options.core, &program, arrange, &data_dir, ready)?;
    Ok(Running { kind: TargetKind::Relay, pid: process.id(), addr, process, data_dir, options: options.clone() })
}
