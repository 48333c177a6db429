//! One connection: made when it is needed, dropped when anything about it is in doubt.

use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_postgres::Client;
use tokio_postgres::Statement;
use tokio_postgres::error::SqlState;

use crate::store::StoreError;
use crate::store::postgres::address::Address;
use crate::store::postgres::outage::Outage;

/// Longer than this no connection takes to be made.
const CONNECT: Duration = Duration::from_secs(5);

/// Why the database did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Trouble {
    /// The connection is gone. What was under way may have been done.
    Lost(String),
    /// It said no, and has done nothing.
    Refused {
        /// SQLSTATE.
        code: String,
        why: String,
    },
    /// It answered, and the document is not as asked for.
    Unfit(StoreError),
}

impl Trouble {
    pub(super) fn has_code(&self, code: &SqlState) -> bool {
        matches!(self, Self::Refused { code: found, .. } if found == code.code())
    }

    /// Two that touched the same at the same time, in an engine that sends one of them back: it may come again at once.
    pub(super) fn is_passing(&self) -> bool {
        self.has_code(&SqlState::T_R_SERIALIZATION_FAILURE) || self.has_code(&SqlState::T_R_DEADLOCK_DETECTED)
    }

    pub(super) fn why(&self) -> String {
        match self {
            Self::Lost(why) => why.clone(),
            Self::Refused { code, why } => format!("{why} ({code})"),
            Self::Unfit(error) => error.to_string(),
        }
    }
}

impl From<Trouble> for StoreError {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Unfit(error) => error,
            other => Self::Unavailable(format!("the database: {}", other.why())),
        }
    }
}

impl From<StoreError> for Trouble {
    fn from(error: StoreError) -> Self {
        Self::Unfit(error)
    }
}

impl From<tokio_postgres::Error> for Trouble {
    fn from(error: tokio_postgres::Error) -> Self {
        let why = told(&error);
        let Some(code) = error.code().filter(|_| !error.is_closed()) else { return Self::Lost(why) };
        let ended = [
            SqlState::READ_ONLY_SQL_TRANSACTION,
            SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT,
            SqlState::ADMIN_SHUTDOWN,
            SqlState::CRASH_SHUTDOWN,
            SqlState::CANNOT_CONNECT_NOW,
        ];
        // Class 08 is about connections. A server that only reads is the wrong one by now.
        if ended.contains(code) || code.code().starts_with("08") {
            return Self::Lost(why);
        }
        Self::Refused { code: code.code().to_owned(), why }
    }
}

/// An error in one line. What a statement was given is not part of it, and no password.
pub(super) fn told(error: &tokio_postgres::Error) -> String {
    if let Some(db) = error.as_db_error() {
        return db.message().to_owned();
    }
    let mut line = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let more = error.to_string();
        if !line.contains(&more) {
            line = format!("{line}: {more}");
        }
        source = error.source();
    }
    line
}

/// How a connection is set up.
#[derive(Debug, Clone, Copy)]
pub(super) struct Manners {
    /// The database gives a statement up after this.
    pub(super) statement: Duration,
    /// Nobody waits longer for what is done over it, all together: it is given up with the connection.
    pub(super) patience: Duration,
    /// What is wanted beside that; an engine that does not know it does without.
    pub(super) wish: Option<&'static str>,
}

impl Manners {
    /// A node that freezes inside a transaction must not hold its locks for long. What the session says of isolation
    /// counts, whatever the role's default is; what the operator says of `synchronous_commit` counts unless it is `off`,
    /// because then nothing that is acknowledged would be durable.
    fn settings(self) -> String {
        let statement = self.statement.as_millis();
        format!(
            "SET statement_timeout = {statement}; SET lock_timeout = {lock}; \
             SET idle_in_transaction_session_timeout = 20000; \
             SET default_transaction_isolation = 'read committed'; \
             SELECT set_config('synchronous_commit', 'on', false) \
             WHERE current_setting('synchronous_commit', true) = 'off'",
            lock = statement / 2
        )
    }
}

/// An open connection.
pub(super) struct Open {
    pub(super) client: Client,
    talking: JoinHandle<String>,
    /// By their text, prepared when they are first used.
    statements: Vec<(&'static str, Statement)>,
}

impl Open {
    /// Connects and sets the session up.
    pub(super) async fn to(address: &Address, manners: Manners) -> Result<Self, Trouble> {
        let opening = async {
            let (client, connection) = address.config.connect(address.tls.clone()).await?;
            let talking = tokio::spawn(async move {
                connection.await.err().map_or_else(|| "it was closed".to_owned(), |error| told(&error))
            });
            let open = Self { client, talking, statements: Vec::new() };
            open.client.batch_execute(&manners.settings()).await?;
            if let Some(wish) = manners.wish
                && let Err(lost @ Trouble::Lost(_)) = open.client.batch_execute(wish).await.map_err(Trouble::from)
            {
                return Err(lost);
            }
            Ok(open)
        };
        timeout(CONNECT, opening).await.unwrap_or_else(|_| Err(silent()))
    }

    /// A statement, ready to be run: its text is sent once for each connection.
    pub(super) async fn statement(&mut self, sql: &'static str) -> Result<Statement, Trouble> {
        if let Some((_, known)) = self.statements.iter().find(|(text, _)| *text == sql) {
            return Ok(known.clone());
        }
        let statement = self.client.prepare(sql).await?;
        self.statements.push((sql, statement.clone()));
        Ok(statement)
    }

    /// Waits for the end of the connection; says why it ended.
    pub(super) async fn ended(&mut self) -> String {
        (&mut self.talking).await.unwrap_or_else(|_| "it was closed".to_owned())
    }
}

impl Drop for Open {
    /// A server that does not answer would never let the connection end by itself.
    fn drop(&mut self) {
        self.talking.abort();
    }
}

/// A connection that is made again whenever it is needed and not there.
pub(super) struct Link {
    address: Arc<Address>,
    manners: Manners,
    open: Option<Open>,
}

impl Link {
    pub(super) fn new(address: Arc<Address>, manners: Manners) -> Self {
        Self { address, manners, open: None }
    }

    /// Does something over the connection, as long as the database is there and within the time that it has. A
    /// connection about which there is doubt is not used again.
    pub(super) async fn attempt<T>(
        &mut self,
        outage: &Outage,
        act: impl AsyncFnOnce(&mut Open) -> Result<T, Trouble>,
    ) -> Result<T, StoreError> {
        let patience = self.manners.patience;
        let outcome = tokio::select! {
            biased;
            trouble = outage.begins() => Err(trouble),
            outcome = timeout(patience, async { act(self.open().await?).await }) => outcome.unwrap_or_else(|_| Err(silent())),
        };
        if matches!(outcome, Err(Trouble::Lost(_))) {
            self.open = None;
        }
        outcome.map_err(StoreError::from)
    }

    async fn open(&mut self) -> Result<&mut Open, Trouble> {
        let open = match self.open.take().filter(|open| !open.client.is_closed()) {
            Some(open) => open,
            None => Open::to(&self.address, self.manners).await?,
        };
        Ok(self.open.insert(open))
    }
}

/// What is said of a database that took too long.
pub(super) fn silent() -> Trouble {
    Trouble::Lost("it does not answer".to_owned())
}
