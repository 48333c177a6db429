//! `syncline doc`: documents in a data directory that no server has open.

use std::fmt::Write as _;
use std::io;
use std::io::Read;
use std::io::Write as _;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Context;
use anyhow::anyhow;
use bytes::Bytes;
use clap::Args;
use clap::Subcommand;
use syncline_protocol::state_vector::StateVector;
use syncline_protocol::update::Readiness;
use syncline_protocol::update::UpdateLimits;
use syncline_protocol::update::validate;

use crate::cli::Failure;
use crate::clock::Clock;
use crate::config::Config;
use crate::config::StoreUrl;
use crate::document::replica::Deleted;
use crate::document::replica::Poisoned;
use crate::document::replica::Replica;
use crate::name::DocName;
use crate::store::LocalOptions;
use crate::store::Record;
use crate::store::StoreError;
use crate::store::tools;
use crate::store::tools::DamagedDoc;
use crate::store::tools::ToolError;

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

fn perform(config: &Config, task: DocTask) -> Result<(), Failure> {
    if !matches!(config.store.url, StoreUrl::Sled) {
        return Err(Failure::Configuration(
            "syncline doc works on a data directory; store.url names something else".into(),
        ));
    }
    match task {
        DocTask::List { prefix } => list(config, &prefix),
        DocTask::Export { doc, output } => export(config, &doc, output.as_deref()),
        DocTask::Import { doc, input } => import(config, &doc, input.as_deref()),
        DocTask::Verify { doc } => verify(config, doc.as_ref()),
    }
}

/// Name, bytes and time of the last change, with tabs between: names have no control characters.
fn list(config: &Config, prefix: &str) -> Result<(), Failure> {
    let docs = tools::list(&config.data_dir)?;
    let mut lines = String::new();
    for doc in docs.iter().filter(|doc| !doc.deleted && doc.name.starts_with(prefix)) {
        let at = jiff::Timestamp::from_millisecond(i64::try_from(doc.updated_at_ms)?)?;
        writeln!(lines, "{}\t{}\t{at}", doc.name, doc.bytes)?;
    }
    super::print(&lines)
}

fn export(config: &Config, doc: &DocName, output: Option<&Path>) -> Result<(), Failure> {
    let stored = stored(config, doc)?;
    let state = stored.replica.diff(&StateVector::default())?;
    match output {
        Some(path) => std::fs::write(path, &state).with_context(|| format!("cannot write {}", path.display()))?,
        None => io::stdout().lock().write_all(&state)?,
    }
    match stored.trouble {
        Some(trouble) => Err(anyhow!("{doc} is damaged, and this is only what could be read of it: {trouble}").into()),
        None => Ok(()),
    }
}

fn import(config: &Config, doc: &DocName, input: Option<&Path>) -> Result<(), Failure> {
    let mut update = Vec::new();
    match input {
        Some(path) => {
            update = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        }
        None => {
            io::stdin().lock().read_to_end(&mut update)?;
        }
    }
    let limits = UpdateLimits { bytes_max: usize::MAX, ..UpdateLimits::default() };
    let summary = validate(&update, &limits).context("this is not a Yjs update (v1)")?;
    let clocks = match stored(config, doc) {
        Ok(stored) if stored.trouble.is_none() => stored.replica.clocks().clone(),
        Ok(_) => return Err(anyhow!("{doc} is damaged; export what is left of it and import that elsewhere").into()),
        Err(Missing::Document) => StateVector::default(),
        Err(error) => return Err(error.into()),
    };
    if summary.has_gap() || summary.readiness(&clocks) != Readiness::Ready {
        return Err(anyhow!("the update builds on changes that {doc} does not have").into());
    }
    let at_ms = Clock::start().now().wall_ms;
    let record = Record { update: update.into(), user: None, at_ms, sidecar: Bytes::new() };
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    runtime.block_on(tools::import(LocalOptions::new(&config.data_dir), doc, vec![record]))?;
    Ok(())
}

/// Reads every stored byte, and builds the documents from them.
fn verify(config: &Config, only: Option<&DocName>) -> Result<(), Failure> {
    let mut report = tools::verify(&config.data_dir)?;
    for listed in tools::list(&config.data_dir)?.iter().filter(|doc| !doc.deleted) {
        let Ok(doc) = DocName::parse(&listed.name) else { continue };
        let known = report.damaged.iter().any(|damaged| damaged.name == listed.name);
        if known || only.is_some_and(|only| *only != doc) {
            continue;
        }
        if let Err(error) = stored(config, &doc) {
            report.damaged.push(DamagedDoc { name: listed.name.clone(), why: error.to_string() });
            report.ok = false;
        }
    }
    if let Some(only) = only {
        report.damaged.retain(|damaged| damaged.name == only.as_str());
        report.ok = report.damaged.is_empty();
    }
    super::print(&format!("{}\n", serde_json::to_string_pretty(&report)?))?;
    if report.ok { Ok(()) } else { Err(anyhow!("the data directory is damaged; the report names what").into()) }
}

struct Stored {
    replica: Replica,
    trouble: Option<String>,
}

#[derive(Debug, thiserror::Error)]
enum Missing {
    #[error("there is no such document")]
    Document,
    #[error("the stored updates cannot be merged")]
    Sense(#[from] Poisoned),
    #[error(transparent)]
    Tool(#[from] ToolError),
}

fn stored(config: &Config, doc: &DocName) -> Result<Stored, Missing> {
    let exported = match tools::export(&config.data_dir, doc) {
        Err(ToolError::Store(StoreError::Deleted)) => return Err(Missing::Document),
        exported => exported?,
    };
    if exported.snapshot.is_none() && exported.records.is_empty() && exported.trouble.is_none() {
        return Err(Missing::Document);
    }
    let snapshot = exported.snapshot.iter().map(|snapshot| &snapshot.state);
    let updates = snapshot.chain(exported.records.iter().map(|(_, record)| &record.update));
    Ok(Stored { replica: Replica::load(Deleted::Kept, updates)?, trouble: exported.trouble })
}
