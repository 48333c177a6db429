//! A key set that somebody else keeps and rotates: fetched again when a token names a key that is not in it, and now
//! and then; while fetching fails, the last good set is used.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::RwLock;
use std::time::Duration;

use syncline_protocol::Moment;
use tokio::sync::Mutex;
use tracing::info;
use tracing::warn;

use crate::auth::fetch;
use crate::auth::fetch::FetchError;
use crate::auth::keys::KEY_FILE_BYTES_MAX;
use crate::auth::keys::Key;
use crate::auth::keys::KeyError;
use crate::auth::keys::KeySet;
use crate::clock::Clock;
use crate::config::Secret;
use crate::config::without_password;

/// How often a set is fetched without a reason. A key that was withdrawn is believed for this long.
const REFRESH: Duration = Duration::from_secs(600);
/// Unknown key ids fetch no more often than this: anybody can write one into a token.
const REFETCH_MIN: Duration = Duration::from_secs(5);
/// A login waits for this at worst.
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);

/// Why no key was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoKey {
    /// The set is fresh and has no such key.
    Unknown,
    /// The set is old or was never there, and cannot be fetched right now.
    Unavailable,
}

enum Source {
    File(PathBuf),
    Url { url: Secret, client: reqwest::Client },
}

/// The set and where it comes from.
pub(super) struct Jwks {
    source: Source,
    clock: Clock,
    set: RwLock<Arc<KeySet>>,
    /// Held while fetching, so that a hundred tokens with a new key cause one request.
    last: Mutex<Option<Attempt>>,
}

#[derive(Clone, Copy)]
struct Attempt {
    at: Moment,
    succeeded: bool,
}

impl Jwks {
    pub(super) fn of_file(path: PathBuf, clock: Clock) -> Self {
        Self::new(Source::File(path), clock)
    }

    pub(super) fn of_url(url: &Secret, clock: Clock) -> Result<Self, KeyError> {
        let client = fetch::client(url, FETCH_TIMEOUT)?;
        Ok(Self::new(Source::Url { url: url.clone(), client }, clock))
    }

    fn new(source: Source, clock: Clock) -> Self {
        Self { source, clock, set: RwLock::default(), last: Mutex::new(None) }
    }

    /// The key that a token names, fetched if need be.
    pub(super) async fn key(&self, id: Option<&str>) -> Result<Key, NoKey> {
        if let Some(key) = self.known(id) {
            return Ok(key);
        }
        let mut last = self.last.lock().await;
        // Somebody else may have fetched while this call waited.
        if let Some(key) = self.known(id) {
            return Ok(key);
        }
        let now = self.clock.now().moment;
        if last.is_some_and(|attempt| now.since(attempt.at) < REFETCH_MIN) {
            // The key may have been made a second ago. A transient answer makes an honest client try again; a final one
            // would stop it for ever.
            return Err(NoKey::Unavailable);
        }
        let succeeded = self.fetch_into_set().await;
        *last = Some(Attempt { at: self.clock.now().moment, succeeded });
        match self.known(id) {
            Some(key) => Ok(key),
            None if succeeded => Err(NoKey::Unknown),
            None => Err(NoKey::Unavailable),
        }
    }

    fn known(&self, id: Option<&str>) -> Option<Key> {
        self.set.read().unwrap_or_else(PoisonError::into_inner).find(id).cloned()
    }

    /// Fetches now. `false` when that failed; then the old set stays.
    pub(super) async fn refresh(&self) -> bool {
        let mut last = self.last.lock().await;
        let succeeded = self.fetch_into_set().await;
        *last = Some(Attempt { at: self.clock.now().moment, succeeded });
        succeeded
    }

    /// Fetches now and then, for ever; sooner after a failure.
    pub(super) async fn keep_fresh(&self) {
        loop {
            let failed = self.last.lock().await.is_some_and(|attempt| !attempt.succeeded);
            tokio::time::sleep(if failed { REFETCH_MIN * 6 } else { REFRESH }).await;
            self.refresh().await;
        }
    }

    async fn fetch_into_set(&self) -> bool {
        match self.fetch().await {
            Ok(set) => {
                info!(keys = set.len(), source = self.shown(), "key set read");
                *self.set.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(set);
                true
            }
            Err(error) => {
                warn!(%error, source = self.shown(), "key set not read; the last one stays in use");
                false
            }
        }
    }

    fn shown(&self) -> String {
        match &self.source {
            Source::File(path) => path.display().to_string(),
            Source::Url { url, .. } => without_password(url.reveal()),
        }
    }

    async fn fetch(&self) -> Result<KeySet, KeyError> {
        match &self.source {
            Source::File(path) => {
                let path = path.clone();
                tokio::task::spawn_blocking(move || KeySet::from_file(&path))
                    .await
                    .map_err(|_| KeyError("reading was cut off".into()))?
            }
            Source::Url { url, client } => KeySet::parse(&download(client, url).await?),
        }
    }
}

async fn download(client: &reqwest::Client, url: &Secret) -> Result<Vec<u8>, FetchError> {
    fetch::body(client.get(url.reveal()).send().await?, KEY_FILE_BYTES_MAX).await
}
