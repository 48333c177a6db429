//! `syncline doc`: documents in a data directory that no server has open.

use std::path::PathBuf;

use clap::Args;
use clap::Subcommand;

use crate::cli::Failure;
use crate::config::Config;
use crate::name::DocName;

/// Arguments of `syncline doc`.
#[derive(Args)]
pub struct DocArgs {
    #[command(subcommand)]
    task: DocTask,
    /// Where documents are kept [default: as configured, else ./data]
    #[arg(long, value_name = "DIRECTORY", global = true)]
    data_dir: Option<String>,
    /// A TOML file with settings
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
}

/// One task on stored documents.
#[derive(Subcommand, Debug, Clone, PartialEq, Eq)]
pub enum DocTask {
    /// List documents: name, bytes, last change
    List {
        /// Only names that start with this
        #[arg(long, default_value = "")]
        prefix: String,
    },
    /// Write a document's state as one Yjs update
    Export {
        /// The document
        #[arg(value_parser = DocName::parse)]
        doc: DocName,
        /// Where to; standard output without it
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Merge a Yjs update into a document, creating it if need be
    Import {
        /// The document
        #[arg(value_parser = DocName::parse)]
        doc: DocName,
        /// The update; standard input without it
        #[arg(long, short, value_name = "FILE")]
        input: Option<PathBuf>,
    },
    /// Read everything that is stored, and report what is damaged
    Verify {
        /// Only this document
        #[arg(value_parser = DocName::parse)]
        doc: Option<DocName>,
    },
}

/// Runs one task.
///
/// # Errors
/// [`Failure::Configuration`] for wrong settings, [`Failure::Other`] for what goes wrong with the documents.
pub fn run(args: DocArgs) -> Result<(), Failure> {
    // A key to check tokens with is not needed here: only local files are touched.
    let settings = super::Settings { config: args.config, data_dir: args.data_dir, ..Default::default() };
    let config = settings.load_without_key()?.config;
    perform(&config, args.task)
}

/// Where the tools of the store are called.
fn perform(_config: &Config, _task: DocTask) -> Result<(), Failure> {
    Err(anyhow::anyhow!("this build has no tools for stored documents yet").into())
}
