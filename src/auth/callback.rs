//! Asking the application what somebody may do in a room (`auth.callback_url`).
//!
//! Everybody who wants to know the same waits for one request. While the application is down, slow or talks nonsense,
//! answers that are young enough hold; without one nobody is let in, and is told to come back.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::Shared;
use futures_util::future::WeakShared;
use metrics::Counter;
use metrics::Histogram;
use serde::Deserialize;
use serde::Serialize;
use syncline_protocol::ErrorCode;
use tokio::sync::Semaphore;
use tracing::debug;
use tracing::info;
use tracing::warn;

use crate::auth::AuthError;
use crate::auth::Identity;
use crate::auth::Level;
use crate::auth::answers::Answers;
use crate::auth::answers::Bounds;
use crate::auth::answers::Found;
use crate::auth::answers::Question;
use crate::auth::answers::Turn;
use crate::auth::fetch;
use crate::auth::fetch::FetchError;
use crate::auth::keys::KeyError;
use crate::auth::watch::Whose;
use crate::clock::Clock;
use crate::config::CallbackConfig;
use crate::config::Secret;

/// Answers kept: about 3 MB of ordinary names, 40 MB of the longest. Full: the oldest is asked for again.
const KNOWN_MAX: usize = 10_000;
/// Questions under way, most of them waiting for their turn. Full: whoever asks is told to come back.
const ASKING_MAX: usize = 10_000;
/// Requests at the same time. Full: questions wait, within the time that an answer may take.
const REQUESTS_MAX: usize = 64;
/// `{"access":"write"}`, and room for what an application's framework adds.
const ANSWER_BYTES_MAX: usize = 16 * 1024;

/// What is counted.
pub(super) struct Counts {
    pub(super) requests: Counter,
    pub(super) failures: Counter,
    pub(super) seconds: Histogram,
}

impl Counts {
    pub(super) fn nowhere() -> Self {
        Self { requests: Counter::noop(), failures: Counter::noop(), seconds: Histogram::noop() }
    }
}

/// The application's door.
pub(super) struct Callback(Arc<Asker>);

struct Asker {
    url: Secret,
    client: reqwest::Client,
    time_max: Duration,
    clock: Clock,
    permits: Semaphore,
    answers: Mutex<Answers<WeakShared<Flight>>>,
    counts: Counts,
    /// A failure is logged once, and so is its end.
    failing: AtomicBool,
}

type Flight = Pin<Box<dyn Future<Output = Result<Level, NoAnswer>> + Send>>;

/// The application could not be asked, or said nothing that can be used. The reason was logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct NoAnswer;

/// What the application is told.
#[derive(Serialize)]
struct Asked<'a> {
    sub: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    email: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    jti: Option<&'a str>,
    room: &'a str,
}

/// What the application says.
#[derive(Deserialize)]
struct Answer {
    access: Level,
}

impl Callback {
    pub(super) fn new(config: &CallbackConfig, clock: Clock) -> Result<Self, KeyError> {
        let bounds = Bounds { keep: config.cache, known_max: KNOWN_MAX, asking_max: ASKING_MAX };
        Ok(Self(Arc::new(Asker {
            url: config.url.clone(),
            client: fetch::client(&config.url, config.timeout)?,
            time_max: config.timeout,
            clock,
            permits: Semaphore::new(REQUESTS_MAX),
            answers: Mutex::new(Answers::new(bounds)),
            counts: Counts::nowhere(),
            failing: AtomicBool::new(false),
        })))
    }

    /// Counts from now on.
    pub(super) fn count(&mut self, counts: Counts) {
        if let Some(asker) = Arc::get_mut(&mut self.0) {
            asker.counts = counts;
        }
    }

    /// What the application lets somebody do in a room.
    ///
    /// # Errors
    /// [`ErrorCode::Overloaded`] when it cannot be asked right now.
    pub(super) async fn level(&self, identity: &Identity, room: &str) -> Result<Level, AuthError> {
        let flight = match self.find_or_begin(Question::new(identity, room)) {
            Ok(level) => return Ok(level),
            Err(flight) => flight,
        };
        let answer = match flight {
            Some(flight) => flight.await,
            None => Err(NoAnswer),
        };
        answer.map_err(|NoAnswer| AuthError {
            code: ErrorCode::Overloaded,
            message: "the application cannot be asked for your rights right now".into(),
        })
    }

    /// Whoever asks next gets an answer of after this call.
    pub(super) fn forget(&self, whose: Whose<'_>) {
        self.0.lock().forget(whose);
    }

    /// The answer; or who brings it, if there is room to ask.
    fn find_or_begin(&self, question: Question) -> Result<Level, Option<Shared<Flight>>> {
        let mut answers = self.0.lock();
        match answers.find(&question, self.0.clock.now().moment) {
            Found::Known(level) => Ok(level),
            Found::Full => Err(None),
            Found::Asking(flight) => match flight.upgrade() {
                Some(flight) => Err(Some(flight)),
                // Everybody who waited has just gone; what they left behind is replaced.
                None => Err(Some(self.begin(&mut answers, question))),
            },
            Found::Nothing => Err(Some(self.begin(&mut answers, question))),
        }
    }

    fn begin(&self, answers: &mut Answers<WeakShared<Flight>>, question: Question) -> Shared<Flight> {
        let (question, turn) = (Arc::new(question), answers.next_turn());
        let pending = Pending { asker: self.0.clone(), question: question.clone(), turn, answer: None };
        let flight: Flight = Box::pin(pending.ask());
        let flight = flight.shared();
        answers.begin(question, turn, flight.downgrade().expect("it was not polled yet"));
        flight
    }
}

/// A question under way. It is carried on by whoever waits for it, and ends with the last of them.
struct Pending {
    asker: Arc<Asker>,
    question: Arc<Question>,
    turn: Turn,
    answer: Option<Level>,
}

impl Pending {
    async fn ask(mut self) -> Result<Level, NoAnswer> {
        let asker = self.asker.clone();
        let answer = tokio::time::timeout(asker.time_max, asker.ask(&self.question)).await;
        match answer.unwrap_or_else(|_| Err(FetchError("no answer in time".into()))) {
            Ok(level) => {
                self.answer = Some(level);
                asker.note_success();
                Ok(level)
            }
            Err(error) => {
                asker.note_failure(&error);
                Err(NoAnswer)
            }
        }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        let now = self.asker.clock.now().moment;
        self.asker.lock().end(&self.question, self.turn, self.answer, now);
    }
}

impl Asker {
    async fn ask(&self, question: &Question) -> Result<Level, FetchError> {
        let _permit = self.permits.acquire().await.map_err(|error| FetchError(error.to_string()))?;
        self.counts.requests.increment(1);
        let begun = self.clock.now().moment;
        let Question { sub, name, email, jti, room } = question;
        let asked = Asked { sub, name: name.as_deref(), email: email.as_deref(), jti: jti.as_deref(), room };
        let response = self.client.post(self.url.reveal()).json(&asked).send().await?;
        let body = fetch::body(response, ANSWER_BYTES_MAX).await?;
        let answer: Answer = serde_json::from_slice(&body)
            .map_err(|_| FetchError("the answer is not {\"access\":\"none|read|write|admin\"}".into()))?;
        self.counts.seconds.record(self.clock.now().moment.since(begun));
        Ok(answer.access)
    }

    fn note_success(&self) {
        if self.failing.swap(false, Ordering::Relaxed) {
            info!(event = "callback_recovered");
        }
    }

    fn note_failure(&self, error: &FetchError) {
        self.counts.failures.increment(1);
        if self.failing.swap(true, Ordering::Relaxed) {
            debug!(event = "callback_failing", %error);
        } else {
            warn!(event = "callback_failed", %error);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Answers<WeakShared<Flight>>> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
