//! One open stream of server-sent events: it follows the room, and the rights of the one who listens.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::Weak;
use std::time::Duration;

use axum::response::sse;
use futures_util::Stream;
use futures_util::stream;
use serde_json::json;
use syncline_protocol::ErrorCode;
use syncline_protocol::channel::ChannelId;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::auth::Auth;
use crate::auth::Identity;
use crate::auth::Level;
use crate::auth::watch::Alarm;
use crate::auth::watch::Watched;
use crate::event::Event;
use crate::event::EventId;
use crate::event::Listener;
use crate::http::AppState;
use crate::http::problem::Problem;
use crate::limit::ConnectionGuard;
use crate::name::RoomName;
use crate::room::Cursor;
use crate::room::Heard;
use crate::room::Seat;

/// A silent stream says something this often, for proxies that hang up on silence after 30 s or more.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Names in one filter.
const NAMES_MAX: usize = 100;
/// A stream has one channel.
const ONLY: ChannelId = ChannelId(0);
/// When the server goes, everybody is asked to come back after a time of their own, so that they do not all come at once.
const RETRY_MS: std::ops::Range<u64> = 1_000..5_000;

/// Which events somebody wants.
#[derive(Debug, Clone)]
pub(in crate::http) struct Filter(Option<Vec<String>>);

impl Filter {
    /// All of them.
    pub(in crate::http) fn everything() -> Self {
        Self(None)
    }

    /// Takes names and beginnings of names with a `*`.
    pub(in crate::http) fn of(names: Vec<String>) -> Result<Self, Problem> {
        if names.len() > NAMES_MAX {
            return Err(Problem::too_large(NAMES_MAX, "too many names of events"));
        }
        if names.iter().any(String::is_empty) {
            return Err(Problem::wrong("events", "expected names of events"));
        }
        Ok(Self(Some(names)))
    }

    /// Reads names and beginnings of names with a `*`, separated by commas. Nothing is everything.
    pub(super) fn parse(text: Option<&str>) -> Result<Self, Problem> {
        let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(Self(None)) };
        Self::of(text.split(',').map(|name| name.trim().to_owned()).collect())
    }

    pub(in crate::http) fn admits(&self, name: &str) -> bool {
        let fits = |wanted: &String| match wanted.strip_suffix('*') {
            Some(beginning) => name.starts_with(beginning),
            None => name == wanted,
        };
        self.0.as_ref().is_none_or(|names| names.iter().any(fits))
    }
}

/// What a revocation says to this stream.
#[derive(Default)]
struct Bell {
    /// `None`: look again.
    rung: Mutex<Option<Option<ErrorCode>>>,
    notify: Notify,
}

impl Bell {
    fn ring(&self, code: Option<ErrorCode>) {
        let mut rung = self.rung.lock().unwrap_or_else(PoisonError::into_inner);
        // An end stays an end.
        *rung = Some(rung.flatten().or(code));
        drop(rung);
        self.notify.notify_one();
    }

    async fn rung(&self) -> Option<ErrorCode> {
        loop {
            let rung = self.rung.lock().unwrap_or_else(PoisonError::into_inner).take();
            match rung {
                Some(code) => return code,
                None => self.notify.notified().await,
            }
        }
    }
}

impl Alarm for Bell {
    fn recheck(&self, _: ChannelId) {
        self.ring(None);
    }

    fn end(&self, _: ChannelId, code: ErrorCode) {
        self.ring(Some(code));
    }
}

/// Somebody who listens.
pub(super) struct Live {
    room: RoomName,
    cursor: Cursor,
    filter: Filter,
    /// The first word.
    ready: Option<sse::Event>,
    /// The last event that the filter held back since the last one that was sent.
    passed: Option<EventId>,
    auth: Arc<Auth>,
    identity: Identity,
    /// When the token, and the grace after it, is over.
    expires_at: Option<Instant>,
    bell: Arc<Bell>,
    _watched: Option<Watched>,
    _counted: ConnectionGuard,
    _seat: Seat,
    draining: CancellationToken,
}

/// What comes next in the stream.
enum Next {
    Heard(Heard),
    Rung(Option<ErrorCode>),
    Expired,
    Draining,
    Silence,
}

impl Live {
    pub(super) async fn begin(
        state: &AppState,
        identity: &Identity,
        room: RoomName,
        filter: Filter,
        since: Option<&str>,
    ) -> Result<Self, Problem> {
        let user = (!state.auth.is_dev()).then(|| identity.sub.clone());
        let counted = state.sockets.connections.try_enter(user.as_deref());
        let counted = counted.map_err(|code| Problem::new(code, "too many connections are open; try again later"))?;
        let seat = state.feeds.enter_unnumbered(&room)?;
        // Under `--dev` everybody is one user, who hears what is for that user alone.
        let listener = Listener { user: Some(identity.sub.clone()), peer: None };
        let listening = state.feeds.follow(&room, listener, since).await?;
        let bell = Arc::<Bell>::default();
        let watched = user.is_some().then(|| {
            let alarm: Weak<Bell> = Arc::downgrade(&bell);
            state.auth.watch().enter(identity, room.as_str(), alarm, ONLY)
        });
        let left = identity.expires_at_ms.map(|at| at.saturating_sub(state.clock.now().wall_ms));
        let left = left.map(|ms| Duration::from_millis(ms) + state.sockets.limits.grace);
        Ok(Self {
            room,
            cursor: listening.cursor,
            filter,
            // The missed events come after this: their ids, and not that of the last, say how far the client is.
            ready: Some(ready(listening.recovered, listening.event_id, since.is_none() || !listening.recovered)),
            passed: None,
            auth: state.auth.clone(),
            identity: identity.clone(),
            expires_at: left.and_then(|left| Instant::now().checked_add(left)),
            bell,
            _watched: watched,
            _counted: counted,
            _seat: seat,
            draining: state.sockets.drain.clone(),
        })
    }

    /// The stream, until it ends.
    pub(super) fn into_stream(self) -> impl Stream<Item = Result<sse::Event, Infallible>> {
        stream::unfold(Some(self), |live| async {
            let mut live = live?;
            let (event, goes_on) = live.next().await;
            Some((Ok(event), goes_on.then_some(live)))
        })
    }

    /// What to send next, and whether the stream goes on after it.
    async fn next(&mut self) -> (sse::Event, bool) {
        if let Some(ready) = self.ready.take() {
            return (ready, true);
        }
        let silence = Instant::now() + KEEP_ALIVE;
        loop {
            match self.wait(silence).await {
                Next::Heard(Heard::Event(event)) if self.filter.admits(&event.name) => {
                    self.passed = None;
                    return (shown(&event), true);
                }
                Next::Heard(Heard::Event(event)) => self.passed = Some(event.id),
                Next::Heard(Heard::Lagged(event_id)) => return (ready(false, event_id, true), true),
                Next::Rung(Some(code)) => return (ended(code), false),
                Next::Rung(None) => {
                    if let Err(code) = self.look_again().await {
                        return (ended(code), false);
                    }
                }
                Next::Expired => return (ended(ErrorCode::AuthExpired), false),
                Next::Draining => {
                    let retry = Duration::from_millis(rand::random_range(RETRY_MS));
                    return (sse::Event::default().comment("the server goes").retry(retry), false);
                }
                Next::Silence => return (self.sign_of_life(), true),
            }
        }
    }

    /// What ends the stream goes before what flows in it.
    async fn wait(&mut self, silence: Instant) -> Next {
        let expired = async {
            match self.expires_at {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = self.draining.cancelled() => Next::Draining,
            code = self.bell.rung() => Next::Rung(code),
            () = expired => Next::Expired,
            heard = self.cursor.next() => Next::Heard(heard),
            () = tokio::time::sleep_until(silence) => Next::Silence,
        }
    }

    /// Looks the rights up again.
    async fn look_again(&self) -> Result<(), ErrorCode> {
        match self.auth.authorize(&self.identity, self.room.as_str()).await {
            Ok(level) if level >= Level::Read => Ok(()),
            Ok(_) => Err(ErrorCode::Forbidden),
            Err(error) => Err(error.code),
        }
    }

    /// Tells how far the stream has come, where the filter held everything back: the client shall not come back to
    /// something that is forgotten by then. An id without data is no event to a browser.
    fn sign_of_life(&mut self) -> sse::Event {
        match self.passed.take() {
            Some(id) => sse::Event::default().id(id.to_string()),
            None => sse::Event::default().comment(""),
        }
    }
}

fn ready(recovered: bool, event_id: EventId, is_here: bool) -> sse::Event {
    let event_id = event_id.to_string();
    let data = json!({"recovered": recovered, "eventId": event_id}).to_string();
    let event = sse::Event::default().event("ready").data(data);
    if is_here { event.id(event_id) } else { event }
}

fn shown(event: &Event) -> sse::Event {
    // Names have no line breaks: ours are words, and those of applications were checked.
    let text = std::str::from_utf8(&event.json).unwrap_or_default();
    sse::Event::default().id(event.id.to_string()).event(&event.name).data(text)
}

fn ended(code: ErrorCode) -> sse::Event {
    let message = match code {
        ErrorCode::AuthExpired => "the token ran out",
        ErrorCode::Forbidden => "this needs the right \"read\" in the room",
        _ => "the right to listen could not be confirmed",
    };
    let data = json!({"status": "error", "code": code.word(), "message": message, "data": {}});
    sse::Event::default().event("end").data(data.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_take_names_and_beginnings() {
        let filter = Filter::parse(Some("record:*, grid:cell-edited")).unwrap();
        for (name, admitted) in [
            ("record:created", true),
            ("records:updated", false),
            ("grid:cell-edited", true),
            ("grid:cell-edited2", false),
        ] {
            assert_eq!(filter.admits(name), admitted, "{name}");
        }
        assert!(Filter::parse(None).unwrap().admits("anything") && Filter::parse(Some("")).unwrap().admits("x"));
        assert!(Filter::parse(Some("*")).unwrap().admits("anything"));
        assert!(Filter::parse(Some("a,,b")).is_err());
        assert!(Filter::parse(Some(&"a,".repeat(NAMES_MAX))).is_err());
    }

    #[tokio::test]
    async fn an_end_is_not_lost_behind_a_second_look() {
        let bell = Bell::default();
        bell.ring(Some(ErrorCode::Forbidden));
        bell.ring(None);
        assert_eq!(bell.rung().await, Some(ErrorCode::Forbidden));
        bell.ring(None);
        assert_eq!(bell.rung().await, None);
    }
}
