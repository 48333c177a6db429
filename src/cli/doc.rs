//! `syncline doc`: documents in a data directory that no server has open, or in a database.

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
use crate::store::PostgresOptions;
use crate::store::PostgresStore;
use crate::store::Record;
use crate::store::Seq;
use crate::store::StoreError;
use crate::store::tools;
use crate::store::tools::DamagedDoc;
use crate::store::tools::Exported;
use crate::store::tools::ListedDoc;
use crate::store::tools::Report;
use crate::store::tools::ToolError;
use crate::store::tools::database;

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
    // A key to check tokens with is not needed here: nobody is let in.
    let settings = super::Settings { config: args.config, data_dir: args.data_dir, ..Default::default() };
    let config = settings.load_without_key()?.config;
    super::check_store(&config)?;
    perform(&Archive::of(&config)?, args.task)
}

fn perform(archive: &Archive, task: DocTask) -> Result<(), Failure> {
    match task {
        DocTask::List { prefix } => list(archive, &prefix),
        DocTask::Export { doc, output } => export(archive, &doc, output.as_deref()),
        DocTask::Import { doc, input } => import(archive, &doc, input.as_deref()),
        DocTask::Verify { doc } => verify(archive, doc.as_ref()),
    }
}

/// Where the documents are.
enum Archive {
    Directory(PathBuf),
    Database(PostgresStore, tokio::runtime::Runtime),
}

impl Archive {
    fn of(config: &Config) -> Result<Self, Failure> {
        match &config.store.url {
            StoreUrl::Sled => Ok(Self::Directory(config.data_dir.clone())),
            StoreUrl::Postgres(url) => {
                Ok(Self::Database(PostgresStore::open(PostgresOptions::new(url.clone()))?, runtime()?))
            }
            StoreUrl::Memory => {
                let why = "syncline doc works on what is kept: store.url is memory, and nothing is";
                Err(Failure::Configuration(why.into()))
            }
        }
    }

    fn list(&self) -> Result<Vec<ListedDoc>, ToolError> {
        match self {
            Self::Directory(dir) => Ok(tools::list(dir)?),
            Self::Database(store, runtime) => runtime.block_on(database::list(store)),
        }
    }

    fn export(&self, doc: &DocName) -> Result<Exported, ToolError> {
        match self {
            Self::Directory(dir) => tools::export(dir, doc),
            Self::Database(store, runtime) => runtime.block_on(database::export(store, doc)),
        }
    }

    fn import(&self, doc: &DocName, records: Vec<Record>) -> Result<Seq, Failure> {
        Ok(match self {
            Self::Directory(dir) => runtime()?.block_on(tools::import(LocalOptions::new(dir), doc, records))?,
            Self::Database(store, runtime) => runtime.block_on(database::import(store, doc, records))?,
        })
    }

    fn verify(&self) -> Result<Report, ToolError> {
        match self {
            Self::Directory(dir) => Ok(tools::verify(dir)?),
            Self::Database(store, runtime) => runtime.block_on(database::verify(store)),
        }
    }
}

fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().build()
}

/// Name, bytes and time of the last change, with tabs between: names have no control characters.
fn list(archive: &Archive, prefix: &str) -> Result<(), Failure> {
    let docs = archive.list()?;
    let mut lines = String::new();
    for doc in docs.iter().filter(|doc| !doc.deleted && doc.name.starts_with(prefix)) {
        let at = jiff::Timestamp::from_millisecond(i64::try_from(doc.updated_at_ms)?)?;
        writeln!(lines, "{}\t{}\t{at}", doc.name, doc.bytes)?;
    }
    super::print(&lines)
}

fn export(archive: &Archive, doc: &DocName, output: Option<&Path>) -> Result<(), Failure> {
    let stored = stored(archive, doc)?;
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

fn import(archive: &Archive, doc: &DocName, input: Option<&Path>) -> Result<(), Failure> {
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
    let clocks = match stored(archive, doc) {
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
    archive.import(doc, vec![record])?;
    Ok(())
}

/// Reads every stored byte, and builds the documents from them.
fn verify(archive: &Archive, only: Option<&DocName>) -> Result<(), Failure> {
    let mut report = archive.verify()?;
    for listed in archive.list()?.iter().filter(|doc| !doc.deleted) {
        let Ok(doc) = DocName::parse(&listed.name) else { continue };
        let known = report.damaged.iter().any(|damaged| damaged.name == listed.name);
        if known || only.is_some_and(|only| *only != doc) {
            continue;
        }
        if let Err(error) = stored(archive, &doc) {
            report.damaged.push(DamagedDoc { name: listed.name.clone(), why: error.to_string() });
            report.ok = false;
        }
    }
    if let Some(only) = only {
        report.damaged.retain(|damaged| damaged.name == only.as_str());
        report.ok = report.damaged.is_empty();
    }
    super::print(&format!("{}\n", serde_json::to_string_pretty(&report)?))?;
    if report.ok { Ok(()) } else { Err(anyhow!("what is stored is damaged; the report names what").into()) }
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

fn stored(archive: &Archive, doc: &DocName) -> Result<Stored, Missing> {
    let exported = match archive.export(doc) {
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
