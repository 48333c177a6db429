//! One client that was let in: what it asks is done in order, what happens in its rooms is passed on, as fast as it reads.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use engineioxide::Str;
use futures_util::FutureExt;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use serde_json::Value;
use serde_json::json;
use syncline_protocol::ErrorCode;
use syncline_protocol::socket_io;
use syncline_protocol::socket_io::Kind;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio::time::sleep_until;

use super::Gateway;
use super::bell::Bell;
use super::commands;
use super::delivery::Deliveries;
use super::entry::unknown_namespace;
use super::pace::Class;
use super::reply;
use super::reply::Reply;
use super::stories::Stories;
use super::subscription::Rooms;
use super::typing::Typing;
use super::wire::Wire;
use crate::auth::Identity;
use crate::document::request::Member;
use crate::document::request::ReaderId;
use crate::http::AppState;
use crate::http::problem::Problem;
use crate::limit::ConnectionGuard;
use crate::limit::TokenBucket;
use crate::metrics::ConnectionGauge;
use crate::metrics::Transport;
use crate::table::change::Author;

/// Writes of one client that are not answered yet. Full: its next command waits.
const RUNNING_MAX: usize = 64;
/// A client that does not read is looked at again so soon.
const BLOCKED_PAUSE: Duration = Duration::from_millis(20);
/// A client is asked for a new token so long before its own runs out, or half of what is left of it.
const EXPIRING: Duration = Duration::from_secs(60);
/// Over how long the ends of a drain are spread, at least.
const DRAIN_LEAST: Duration = Duration::from_millis(1);

/// One client.
pub(super) struct Session {
    pub(super) gateway: Arc<Gateway>,
    pub(super) who: Identity,
    /// Its number in all rooms and documents.
    pub(super) peer: ReaderId,
    pub(super) wire: Wire,
    pub(super) rooms: Rooms,
    pub(super) typing: Typing,
    pub(super) bell: Arc<Bell>,
    stories: Stories,
    deliveries: Deliveries,
    running: FuturesUnordered<BoxFuture<'static, Done>>,
    pace: Option<TokenBucket>,
    /// Nothing is taken from it before this.
    resume: Option<Instant>,
    expiry: Expiry,
    _counted: ConnectionGuard,
    _gauge: ConnectionGauge,
}

/// Until when its token holds.
#[derive(Debug, Clone, Copy, Default)]
struct Expiry {
    /// It is told so.
    warn: Option<Instant>,
    /// It ends.
    end: Option<Instant>,
}

/// What a client asked.
#[derive(Debug)]
pub(super) struct Asked {
    /// The command.
    pub(super) event: String,
    /// What it brought along.
    pub(super) payload: Value,
    /// The number under which it waits for an acknowledgement.
    pub(super) id: Option<u64>,
}

/// What came of it.
pub(super) struct Done {
    pub(super) asked: Asked,
    pub(super) reply: Reply,
}

/// Why a session ends.
enum End {
    /// The client is gone, or is sent away to come back.
    Closed,
    /// It is to stay away until something changes.
    Dismissed(ErrorCode),
}

impl Session {
    pub(super) fn new(gateway: &Arc<Gateway>, wire: Wire, who: Identity, guard: ConnectionGuard) -> Self {
        let state = &gateway.state;
        let peer = state.hub.new_reader();
        let expiry = Expiry::of(&who, state);
        Self {
            gateway: gateway.clone(),
            peer,
            wire,
            rooms: Rooms::new(),
            typing: Typing::default(),
            bell: Arc::default(),
            stories: Stories::default(),
            deliveries: Deliveries::new(&state.courier, who.sub.clone()),
            running: FuturesUnordered::new(),
            pace: state.sockets.limits.updates.map(|(rate, burst)| TokenBucket::new(rate, burst)),
            resume: None,
            expiry,
            _counted: guard,
            who,
            _gauge: state.sockets.metrics.connected(Transport::SocketIo),
        }
    }

    pub(super) fn state(&self) -> &AppState {
        &self.gateway.state
    }

    /// Who it is, for documents; `None` under `--dev`, where nobody is signed in.
    pub(super) fn member(&self) -> Option<Member> {
        let Identity { sub, name, email, .. } = &self.who;
        let is_somebody = !self.state().auth.is_dev();
        is_somebody.then(|| Member { user: sub.clone(), name: name.clone(), email: email.clone() })
    }

    /// As the author of what it does; under `--dev` everybody is one user, as over REST.
    pub(super) fn author(&self) -> Author {
        Author { user: Some(self.who.sub.clone()), peer: Some(self.peer.0), ..Author::default() }
    }

    /// The user to whom limits apply.
    pub(super) fn limited_user(&self) -> Option<&str> {
        (!self.state().auth.is_dev()).then_some(&*self.who.sub)
    }

    /// Runs until the client is gone.
    pub(super) async fn run(mut self, mut messages: mpsc::Receiver<Str>) {
        self.enter_own_room().await;
        let end = self.serve(&mut messages).await;
        if let End::Dismissed(code) = end {
            self.state().sockets.metrics.refused(code);
            self.wire.tell("error", &Problem::new(code, "this connection was ended").to_json());
            self.wire.send(socket_io::DISCONNECT);
            self.wire.flush();
        }
        self.leave_all().await;
    }

    async fn serve(&mut self, messages: &mut mpsc::Receiver<Str>) -> End {
        loop {
            let is_clear = self.wire.flush();
            let (over_at, renew_at) = (self.typing.next(), self.rooms.renew_at());
            let may_ask = is_clear && self.running.len() < RUNNING_MAX && self.resume.is_none();
            tokio::select! {
                biased;
                () = self.wire.socket().closed() => return End::Closed,
                () = self.gateway.state.sockets.drain.cancelled() => {
                    self.linger().await;
                    return End::Closed;
                }
                rung = self.bell.rung() => {
                    if let Err(code) = self.recheck(rung).await {
                        return End::Dismissed(code);
                    }
                }
                () = until(self.expiry.end) => {
                    let expired = Problem::new(ErrorCode::AuthExpired, "the token ran out; connect with a new one");
                    self.wire.tell("error", &expired.to_json());
                    self.wire.flush();
                    return End::Closed;
                }
                () = until(self.expiry.warn) => self.warn(),
                () = sleep_until(Instant::now() + BLOCKED_PAUSE), if !is_clear => {}
                Some(done) = self.running.next(), if is_clear => self.answer(done),
                () = until(self.resume), if self.resume.is_some() => self.resume = None,
                message = messages.recv(), if may_ask => {
                    let Some(message) = message else { return End::Closed };
                    self.wire.socket().data.taken(&message);
                    if !self.hear(&message).await {
                        return End::Closed;
                    }
                }
                Some(heard) = self.rooms.next(), if is_clear => {
                    self.rooms.pass_on(heard, &mut self.wire, &mut self.stories);
                }
                () = self.deliveries.wait(), if is_clear => self.deliveries.send(&mut self.wire, self.gateway.state.clock),
                () = until(over_at) => self.stop_typing().await,
                () = until(renew_at) => self.renew().await,
            }
        }
    }

    /// Everybody leaves at a time of their own, so that they do not all come back at once.
    async fn linger(&mut self) {
        let stagger = self.state().sockets.limits.drain_stagger.max(DRAIN_LEAST);
        let until = Instant::now() + stagger.mul_f64(rand::random_range(0.0..1.0));
        tokio::select! {
            () = self.wire.socket().closed() => {}
            () = self.state().sockets.hurry.cancelled() => {}
            () = sleep_until(until) => {}
        }
    }

    /// One message of the client. `false`: it leaves, or does not speak the protocol.
    async fn hear(&mut self, message: &str) -> bool {
        self.state().sockets.metrics.received(1, message.len());
        let Ok(packet) = socket_io::parse(message) else { return false };
        if packet.namespace != socket_io::ROOT {
            if packet.kind == Kind::Connect {
                self.wire.send(unknown_namespace(packet.namespace));
            }
            return true;
        }
        match packet.kind {
            Kind::Connect => {} // It is in.
            Kind::Disconnect => return false,
            Kind::Ack => packet.id.into_iter().for_each(|id| self.deliveries.acknowledged(id)),
            Kind::Binary { .. } => {
                let asked = Asked { event: event_of(packet.payload), payload: Value::Null, id: packet.id };
                let problem = Problem::unreadable("payload", "no command takes binary values");
                self.answer(Done { asked, reply: Err(problem) });
            }
            Kind::Event => match read_event(packet.payload, packet.id) {
                Some(asked) => self.obey(asked).await,
                None => return false,
            },
        }
        true
    }

    async fn obey(&mut self, asked: Asked) {
        let now = self.state().clock.now().moment;
        let pause = self.pace.as_mut().map(|pace| pace.debit(now, 1)).filter(|pause| !pause.is_zero());
        self.resume = pause.map(|pause| Instant::now() + pause);
        if let Some(mut work) = commands::obey(self, asked).await {
            // What can begin begins now: writes reach their documents in the order in which they were asked.
            match (&mut work).now_or_never() {
                Some(done) => self.answer(done),
                None => self.running.push(work),
            }
        }
    }

    /// Tells the client what came of a command.
    pub(super) fn answer(&mut self, done: Done) {
        let Done { asked, reply } = done;
        match &reply {
            Ok(answer) => {
                if let (Some(id), "record:create") = (answer.get("recordId"), asked.event.as_str()) {
                    self.wire.tell("record:created:ack", &json!({"recordId": id}));
                }
            }
            Err(problem) => {
                self.state().sockets.metrics.refused(problem.code());
                for (event, payload) in reply::error_events(&asked.event, &asked.payload, problem, asked.id.is_some()) {
                    self.wire.tell(&event, &payload);
                }
            }
        }
        if let Some(id) = asked.id {
            let answer = match reply {
                Ok(answer) => reply::success(answer),
                Err(problem) => {
                    let mut refusal = reply::refusal(&problem);
                    if asked.event.starts_with("subscribe_") {
                        refusal["error"] = refusal["message"].clone();
                    }
                    refusal
                }
            };
            self.wire.send(socket_io::ack(id, &answer.to_string()));
        }
    }

    /// Counts one command of a class that is limited.
    pub(super) fn count(&self, class: Class) -> Result<(), Problem> {
        let now = self.state().clock.now().moment;
        self.gateway.rates.take(class, self.limited_user(), now)
    }

    /// A token that holds longer.
    pub(super) async fn renew_token(&mut self, token: &str) -> Reply {
        if self.state().auth.is_dev() {
            return Ok(json!({}));
        }
        let renewed = self.state().auth.authenticate(Some(token)).await?;
        if renewed.sub != self.who.sub {
            return Err(Problem::new(ErrorCode::Forbidden, "a connection stays that of the user who opened it"));
        }
        self.expiry = Expiry::of(&renewed, self.state());
        self.rooms.renewed(&renewed);
        self.who = renewed;
        // What the new token does not open is left; that it was revoked in this very moment shows there too.
        self.recheck_all().await.map_err(|code| Problem::new(code, "the new token does not hold"))?;
        Ok(json!({"expiresAt": self.who.expires_at_ms.map(crate::clock::rfc3339)}))
    }

    fn warn(&mut self) {
        self.expiry.warn = None;
        let expires_at = self.who.expires_at_ms.map(crate::clock::rfc3339);
        self.wire.tell("token:expiring", &json!({"expiresAt": expires_at}));
    }
}

impl Expiry {
    fn of(who: &Identity, state: &AppState) -> Self {
        let Some(at_ms) = who.expires_at_ms else { return Self::default() };
        let left = Duration::from_millis(at_ms.saturating_sub(state.clock.now().wall_ms));
        let warn = left - EXPIRING.min(left / 2);
        let now = Instant::now();
        Self { warn: now.checked_add(warn), end: now.checked_add(left + state.sockets.limits.grace) }
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => pending().await,
    }
}

/// The name and the payload of an event. `None`: that is not what an event looks like.
fn read_event(payload: &str, id: Option<u64>) -> Option<Asked> {
    let mut arguments: Vec<Value> = serde_json::from_str(payload).ok()?;
    let Some(Value::String(event)) = arguments.first_mut().map(Value::take) else { return None };
    let payload = arguments.get_mut(1).map(Value::take).unwrap_or_default();
    Some(Asked { event, payload, id })
}

fn event_of(payload: &str) -> String {
    read_event(payload, None).map(|asked| asked.event).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_a_name_and_perhaps_a_payload() {
        let asked = read_event("[\"a\",{\"b\":1},2]", Some(3)).unwrap();
        assert_eq!((asked.event.as_str(), asked.payload, asked.id), ("a", json!({"b": 1}), Some(3)));
        assert_eq!(read_event("[\"a\"]", None).unwrap().payload, Value::Null);
        for wrong in ["", "{}", "[]", "[1]", "[\"a\"", "null"] {
            assert!(read_event(wrong, None).is_none(), "{wrong}");
        }
    }
}
