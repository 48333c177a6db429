//! Syncline under load: the release build with its local store, so that every acknowledgement means "on disk".

use std::path::Path;
use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::SystemTime;

use anyhow::Result;
use jsonwebtoken::EncodingKey;
use jsonwebtoken::Header;

use crate::target::Access;
use crate::target::DataDir;
use crate::target::Process;
use crate::target::Running;
use crate::target::StartOptions;
use crate::target::TargetKind;

const SECRET: &str = "a secret of at least thirty-two bytes";

/// Fewer than `limits.connections_per_user`, which stays as it is by default.
const CONNECTIONS_PER_USER: u64 = 50;

/// Starts it.
///
/// # Errors
/// When the release build is missing or does not start.
pub(crate) fn start(data_dir: DataDir, options: &StartOptions) -> Result<Running> {
    let program = options.program.clone().unwrap_or_else(release_build);
    let arrange = |command: &mut std::process::Command| {
        command.args(["serve", "--listen", "127.0.0.1:0", "--data-dir"]).arg(data_dir.data());
        command.env_clear();
        match options.access {
            Access::Open => command.arg("--dev"),
            Access::Token => command.env("SYNCLINE_AUTH__SECRET", SECRET),
        };
        // One writer at full speed is what is measured; no other server holds it back.
        command.env("SYNCLINE_LIMITS__UPDATES_PER_SECOND", "0");
        command.envs(options.variables.iter().cloned());
    };
    let ready = |line: &str| line.strip_prefix("syncline listening on http://")?.parse().ok();
    let (process, addr) = Process::start(options.core, &program, arrange, &data_dir, ready)?;
    Ok(Running { kind: TargetKind::Syncline, pid: process.id(), addr, process, data_dir, options: options.clone() })
}

/// Path and query for one more connection to `doc`.
pub(crate) fn path(doc: &str, access: Access) -> String {
    match access {
        Access::Open => format!("/sync/{doc}"),
        Access::Token => format!("/sync/{doc}?token={}", token()),
    }
}

/// A token that opens everything for an hour; the user changes often enough for every user's limit.
fn token() -> String {
    static CONNECTIONS: AtomicU64 = AtomicU64::new(0);
    let user = CONNECTIONS.fetch_add(1, Ordering::Relaxed) / CONNECTIONS_PER_USER;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let claims = serde_json::json!({"sub": format!("user-{user}"), "exp": now + 3600, "access": {"*": "write"}});
    jsonwebtoken::encode(&Header::default(), &claims, &EncodingKey::from_secret(SECRET.as_bytes()))
        .expect("these claims are plain JSON and the key is for this algorithm")
}

/// Beside this program when both were built for release, otherwise where cargo puts it.
pub(crate) fn release_build() -> PathBuf {
    let beside = std::env::current_exe().ok().and_then(|own| Some(own.parent()?.join("syncline")));
    beside
        .filter(|path| path.is_file() && path.parent().is_some_and(|dir| dir.ends_with("release")))
        .unwrap_or_else(|| Path::new("target/release/syncline").to_owned())
}
