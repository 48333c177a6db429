//! The servers under load: started on one processor, on data of their own, killed on drop.

mod npm;
mod process;
mod relay;
mod syncline;

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Result;

pub(crate) use npm::node;
pub(crate) use npm::version as npm_version;
pub(crate) use process::DataDir;
use process::Process;
pub(crate) use syncline::release_build;

use crate::client::Dialect;

/// A server under load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum TargetKind {
    /// This project: local store, acknowledgements when durable.
    Syncline,
    /// Copies frames, answers nothing.
    Relay,
    /// `@hocuspocus/server` with its SQLite extension.
    Hocuspocus,
    /// `@y/websocket-server` with leveldb.
    #[value(name = "y-websocket-server")]
    #[serde(rename = "y-websocket-server")]
    YWebsocketServer,
}

/// Who may connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Access {
    /// Everybody.
    #[default]
    Open,
    /// Who brings a token: [`Running::path`] adds one. Only Syncline has this.
    Token,
}

/// How to start a server.
#[derive(Debug, Clone)]
pub(crate) struct StartOptions {
    /// The processor it is bound to.
    pub(crate) core: usize,
    /// Who may connect.
    pub(crate) access: Access,
    /// Another program than `target/release/syncline`, for comparisons between builds.
    pub(crate) program: Option<PathBuf>,
    /// Variables of its environment on top of what the target sets.
    pub(crate) variables: Vec<(String, String)>,
}

impl Default for StartOptions {
    fn default() -> Self {
        Self { core: 0, access: Access::Open, program: None, variables: Vec::new() }
    }
}

impl TargetKind {
    /// What people call it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Syncline => "Syncline",
            Self::Relay => "relay",
            Self::Hocuspocus => "Hocuspocus",
            Self::YWebsocketServer => "y-websocket-server",
        }
    }

    /// Starts it on an empty data directory and waits until clients can connect.
    ///
    /// # Errors
    /// When the program is missing or ends before it listens.
    pub(crate) fn start(self, options: &StartOptions) -> Result<Running> {
        self.start_on(DataDir::empty()?, options)
    }

    /// Path and query of the WebSocket of a document. Every call stands for another user where tokens are needed.
    pub(crate) fn path(self, doc: &str, access: Access) -> String {
        match self {
            Self::Syncline => syncline::path(doc, access),
            Self::Relay | Self::YWebsocketServer => format!("/{doc}"),
            Self::Hocuspocus => "/".to_owned(),
        }
    }

    /// What it speaks.
    pub(crate) fn dialect(self) -> Dialect {
        match self {
            Self::Hocuspocus => Dialect::Hocuspocus,
            Self::Syncline | Self::Relay | Self::YWebsocketServer => Dialect::YWebsocket,
        }
    }

    /// Whether it answers a SyncStep1, and acknowledges updates by an echo or a SyncStatus. A relay does neither: its
    /// clients are ready when they are connected.
    pub(crate) fn answers_sync(self) -> bool {
        self != Self::Relay
    }

    /// Starts it on data that a former one left.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub(crate) fn start_on(self, data_dir: DataDir, options: &StartOptions) -> Result<Running> {
        match self {
            Self::Syncline => syncline::start(data_dir, options),
            Self::Relay => relay::start(data_dir, options),
            Self::Hocuspocus => npm::start(self, "hocuspocus.mjs", data_dir, options),
            Self::YWebsocketServer => npm::start(self, "y-websocket-server.mjs", data_dir, options),
        }
    }
}

/// A server that runs; dropping it kills it.
#[derive(Debug)]
pub(crate) struct Running {
    /// What it is.
    pub(crate) kind: TargetKind,
    /// Its process, for [`crate::target`]'s figures out of `/proc`.
    pub(crate) pid: u32,
    /// Where it listens.
    pub(crate) addr: SocketAddr,
    process: Process,
    data_dir: DataDir,
    options: StartOptions,
}

impl Running {
    /// Bytes of the files that the server keeps its data in.
    ///
    /// # Errors
    /// When they cannot be listed.
    pub(crate) fn data_bytes(&self) -> Result<u64> {
        self.data_dir.data_bytes()
    }

    /// SIGKILL, waits until it is gone, and gives what it left behind.
    ///
    /// # Errors
    /// When it cannot be waited for.
    fn sigkill(self) -> Result<DataDir> {
        let Self { mut process, data_dir, .. } = self;
        process.kill()?;
        Ok(data_dir)
    }

    /// SIGKILL and a new start on the same data.
    ///
    /// # Errors
    /// As [`TargetKind::start`].
    pub(crate) fn restart(self) -> Result<Self> {
        let (kind, options) = (self.kind, self.options.clone());
        kind.start_on(self.sigkill()?, &options)
    }
}
