//! The command line: what a person types becomes a configuration and one call.
//!
//! Exit codes: 0 fine, 2 bad configuration or usage, 1 anything else.

pub mod doc;
mod token;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use clap::Parser;
use clap::Subcommand;
use tracing::warn;

use crate::app;
use crate::auth::Auth;
use crate::clock::Clock;
use crate::config;
use crate::config::Config;
use crate::config::Loaded;
use crate::config::Sources;
use crate::config::StoreUrl;
use crate::store::postgres;
use crate::telemetry;

/// The engine walks nested content by recursion, and a chain that grew over many updates can be deep. Address space, not
/// memory: pages are taken as they are touched.
const STACK_BYTES: usize = 32 << 20;

#[derive(Parser)]
#[command(name = "syncline", version, about = "A self-hosted server for collaborative state on Yjs")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the server.
    Serve(Settings),
    /// Print the effective configuration, with secrets hidden, and check it.
    CheckConfig(Settings),
    /// Make a development token from the configured secret.
    Token(token::TokenArgs),
    /// Do once more, in a process of its own, what a server was doing when it died
    #[command(name = app::judge::TRIAL_COMMAND, hide = true)]
    TrySuspect,
    /// Work on the documents in a data directory that no server has open.
    Doc(doc::DocArgs),
}

/// Settings that have a flag. All others come from the file or the environment.
#[derive(Args, Debug, Clone, Default)]
pub struct Settings {
    /// A TOML file with settings
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where clients connect; port 0 takes any free one [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<String>,
    /// Where documents are kept [default: ./data]
    #[arg(long, value_name = "DIRECTORY")]
    data_dir: Option<String>,
    /// No token needed, everyone may do everything; only on a loopback address
    #[arg(long)]
    dev: bool,
    /// Where operators connect [default: the same as --listen]
    #[arg(long, value_name = "ADDRESS:PORT")]
    admin_listen: Option<String>,
}

/// How a command ends that does not end well.
#[derive(Debug)]
pub enum Failure {
    /// The configuration or the arguments are wrong: exit code 2. One or more lines.
    Configuration(String),
    /// Anything else: exit code 1.
    Other(anyhow::Error),
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Other(error.into())
    }
}

/// Runs what the arguments of this process say.
#[must_use]
pub fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Serve(settings) => serve(&settings),
        Command::CheckConfig(settings) => check_config(&settings),
        Command::Token(args) => token::run(&args),
        Command::TrySuspect => app::judge::try_suspect(std::io::stdin().lock()).map_err(Failure::from),
        Command::Doc(args) => doc::run(args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Configuration(lines)) => {
            lines.lines().for_each(complain);
            ExitCode::from(2)
        }
        Err(Failure::Other(error)) => {
            complain(&format!("{error:#}"));
            ExitCode::from(1)
        }
    }
}

impl Settings {
    /// Reads everything a configuration is made of from this process, and checks it.
    ///
    /// # Errors
    /// [`Failure::Configuration`] with a line for each mistake.
    pub fn load(&self) -> Result<Loaded, Failure> {
        config::load(&self.sources()).map_err(|error| Failure::Configuration(error.to_string()))
    }

    /// As [`Self::load`], for commands that let nobody in: a missing key is no mistake.
    ///
    /// # Errors
    /// [`Failure::Configuration`] with a line for each mistake.
    pub fn load_without_key(&self) -> Result<Loaded, Failure> {
        config::load_without_key(&self.sources()).map_err(|error| Failure::Configuration(error.to_string()))
    }

    fn sources(&self) -> Sources {
        let text = |flag, name, value: &Option<String>| value.clone().map(|value| (flag, name, value));
        let flags = [
            text("--listen", "listen", &self.listen),
            text("--data-dir", "data_dir", &self.data_dir),
            self.dev.then(|| ("--dev", "dev", "true".to_owned())),
            text("--admin-listen", "admin_listen", &self.admin_listen),
        ];
        // What is not UTF-8 in our variables becomes a value that no setting takes, and is complained about there.
        let environment = std::env::vars_os()
            .map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()))
            .collect();
        Sources { file: self.config.clone(), environment, flags: flags.into_iter().flatten().collect() }
    }
}

/// Also reads the key files: a wrong one is a mistake in the configuration, not an accident of the server.
fn check_keys(config: &Config) -> Result<(), Failure> {
    match Auth::new(&config.auth, config.dev, Clock::start()) {
        Ok(_) => Ok(()),
        Err(error) => Err(Failure::Configuration(format!("auth: {error}"))),
    }
}

/// An address that cannot be understood is a mistake in the configuration too.
fn check_store(config: &Config) -> Result<(), Failure> {
    let StoreUrl::Postgres(url) = &config.store.url else { return Ok(()) };
    postgres::check_url(url).map_err(|error| Failure::Configuration(format!("store.url: {error}")))
}

fn serve(settings: &Settings) -> Result<(), Failure> {
    let Loaded { config, warnings, .. } = settings.load()?;
    check_keys(&config)?;
    check_store(&config)?;
    telemetry::init(&config.log);
    for warning in warnings {
        warn!(detail = warning, "configuration warning");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().thread_stack_size(STACK_BYTES).enable_all().build()?;
    Ok(runtime.block_on(app::serve(config))?)
}

fn check_config(settings: &Settings) -> Result<(), Failure> {
    let loaded = settings.load()?;
    check_keys(&loaded.config)?;
    check_store(&loaded.config)?;
    for warning in &loaded.warnings {
        complain(&format!("warning: {warning}"));
    }
    print(&loaded.to_toml())
}

/// Writes to standard output; a closed pipe is an error like any other, not a panic.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}

fn complain(line: &str) {
    // There is nowhere left to say that standard error is gone.
    let _ = writeln!(std::io::stderr(), "syncline: {line}");
}
