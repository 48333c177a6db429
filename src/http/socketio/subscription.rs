//! The rooms of one client: what it hears of each, and how it shows itself there.
//!
//! In the room of a document it is present like any editor of that document: as an entry of its awareness, which Yjs
//! clients see. In other rooms it tells the room itself.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Weak;
use std::time::Duration;

use bytes::Bytes;
use engineioxide::Str;
use futures_util::FutureExt;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;
use syncline_protocol::ErrorCode;
use syncline_protocol::awareness::Entry;
use syncline_protocol::channel::ChannelId;
use syncline_protocol::channel::DocumentMessage;
use syncline_protocol::limits::AWARENESS_STATE_BYTES_MAX;
use syncline_protocol::socket_io;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::sync::DropGuard;

use super::bell::Bell;
use super::rights::access_of;
use super::session::Session;
use super::stories::Stories;
use super::wire::Wire;
use crate::auth::Identity;
use crate::auth::Level;
use crate::auth::watch::Alarm;
use crate::auth::watch::Watched;
use crate::document::port::Ends;
use crate::document::port::Port;
use crate::event::Event;
use crate::event::EventId;
use crate::event::Listener;
use crate::http::problem::Problem;
use crate::http::rooms::Filter;
use crate::http::rooms::find_document;
use crate::hub::Membership;
use crate::name::RoomName;
use crate::room::Cursor;
use crate::room::Heard;
use crate::room::Seat;
use crate::table::events::Presence;

/// Rooms of one client.
const ROOMS_MAX: usize = 1_000;
/// Events of one room before the others have their turn.
const TURN: usize = 32;
/// Yjs clients forget whom they have not heard of for 30 s.
const RENEW_EVERY: Duration = Duration::from_secs(15);
/// The channel of the client's own room.
pub(super) const OWN: ChannelId = ChannelId(0);

/// The rooms of one client.
pub(super) struct Rooms {
    pub(super) by_name: BTreeMap<RoomName, Subscription>,
    following: FuturesUnordered<BoxFuture<'static, Option<Followed>>>,
    /// Beginnings to listen so far: what an abandoned one still hears is told apart.
    generations: u64,
    channels: u32,
    /// As Yjs clients know it.
    client: u64,
    renew_at: Option<Instant>,
    /// Where it shows its status without being there.
    shown_to: Option<RoomName>,
    /// Statuses so far: each is one thing, in however many rooms it is told.
    statuses: u64,
}

/// One room.
pub(super) struct Subscription {
    generation: u64,
    filter: Filter,
    /// Ends the listening when the room is left.
    stop: CancellationToken,
    _stops: DropGuard,
    pub(super) channel: ChannelId,
    pub(super) level: Level,
    watched: Option<Watched>,
    /// Present as a reader of the document of the same name.
    pub(super) membership: Option<Membership>,
    /// What it shows of itself here, beside who it is.
    shown: Map<String, Value>,
    clock: u64,
    _seat: Seat,
}

/// Something that was heard, and where to go on.
pub(super) struct Followed {
    room: RoomName,
    generation: u64,
    cursor: Cursor,
    heard: Heard,
}

/// What a client shows from now on, by key; `None` takes a key away.
pub(super) type Shown<'a> = &'a [(&'a str, Option<Value>)];

/// How a client wants to hear a room.
pub(super) struct Wish {
    pub(super) filter: Filter,
    pub(super) since: Option<String>,
}

/// What it is told when it hears it.
pub(super) struct Entered {
    pub(super) recovered: bool,
    pub(super) event_id: EventId,
}

/// Tells a client that a document let it go.
#[derive(Debug)]
struct Gone {
    bell: Weak<Bell>,
    channel: ChannelId,
}

impl Ends for Gone {
    fn ended(&self, code: ErrorCode) {
        if let Some(bell) = self.bell.upgrade() {
            bell.end(self.channel, code);
        }
    }
}

impl std::fmt::Debug for Bell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Bell")
    }
}

impl Rooms {
    pub(super) fn new() -> Self {
        Self {
            by_name: BTreeMap::new(),
            following: FuturesUnordered::new(),
            generations: 0,
            channels: OWN.0,
            client: u64::from(rand::random_range(1..=u32::MAX)),
            renew_at: None,
            shown_to: None,
            statuses: 0,
        }
    }

    /// What comes next in any of the rooms; `None` where there are none.
    pub(super) async fn next(&mut self) -> Option<Followed> {
        loop {
            // Nothing comes of a room that was left meanwhile.
            if let Some(followed) = self.following.next().await? {
                return Some(followed);
            }
        }
    }

    /// Passes on what was heard, and what else is there, until it is another room's turn.
    pub(super) fn pass_on(&mut self, followed: Followed, wire: &mut Wire, stories: &mut Stories) {
        let Followed { room, generation, mut cursor, heard } = followed;
        let Some(known) = self.by_name.get(&room).filter(|known| known.generation == generation) else { return };
        let mut next = Some(heard);
        for _ in 0..TURN {
            match next.take() {
                Some(Heard::Event(event)) if known.filter.admits(&event.name) && stories.is_new(event.story) => {
                    wire.send(packet(&event));
                }
                Some(Heard::Event(_)) => {}
                Some(Heard::Lagged(event_id)) => wire.tell("room:recovered", &lagged(&room, event_id)),
                None => break,
            }
            next = if wire.is_clear() { cursor.try_next() } else { None };
        }
        self.following.push(follow(room, generation, cursor, next, known.stop.clone()));
    }

    /// Begins to follow a room: under which generation, and what ends it.
    fn follow(&mut self, room: &RoomName, cursor: Cursor) -> (u64, CancellationToken) {
        let stop = CancellationToken::new();
        self.generations += 1;
        self.following.push(follow(room.clone(), self.generations, cursor, None, stop.clone()));
        (self.generations, stop)
    }

    /// The number of its next status.
    pub(super) fn next_status(&mut self) -> u64 {
        self.statuses += 1;
        self.statuses
    }

    /// When it has to show itself again.
    pub(super) fn renew_at(&self) -> Option<Instant> {
        self.renew_at
    }

    /// It has another token.
    pub(super) fn renewed(&self, who: &Identity) {
        self.by_name.values().filter_map(|room| room.watched.as_ref()).for_each(|watched| watched.renew(who));
    }

    pub(super) fn has(&self, room: &RoomName) -> bool {
        self.by_name.contains_key(room)
    }

    /// The one room of a kind in which it is, if there is one and no other.
    pub(super) fn only(&self, kind: &str) -> Option<&RoomName> {
        let mut of_kind =
            self.by_name.keys().filter(|room| room.as_str().split_once(':').is_some_and(|(of, _)| of == kind));
        of_kind.next().filter(|_| of_kind.next().is_none())
    }
}

/// Waits for what comes next in a room, or has it already.
fn follow(
    room: RoomName,
    generation: u64,
    mut cursor: Cursor,
    next: Option<Heard>,
    stop: CancellationToken,
) -> BoxFuture<'static, Option<Followed>> {
    let next = async move {
        let heard = match next {
            Some(heard) => heard,
            None => stop.run_until_cancelled(cursor.next()).await?,
        };
        Some(Followed { room, generation, cursor, heard })
    };
    next.boxed()
}

/// An event as it goes over the wire: made once for all who hear it.
fn packet(event: &Event) -> Str {
    event.shown(|event| {
        // What the server encoded is text.
        let payload = std::str::from_utf8(&event.json).unwrap_or("null");
        Str::from(socket_io::event(None, &event.name, payload))
    })
}

fn lagged(room: &RoomName, event_id: EventId) -> Value {
    json!({"room": room.as_str(), "recovered": false, "eventId": event_id.to_string()})
}

impl Session {
    /// Every client is in the room of its own user without asking.
    pub(super) async fn enter_own_room(&mut self) {
        let Ok(room) = RoomName::parse(&format!("user:{}", self.who.sub)) else { return };
        let wish = Wish { filter: Filter::everything(), since: None };
        // The owner may read it, whatever the token says; and perhaps more.
        let level = self.state().auth.authorize(&self.who, room.as_str()).await.unwrap_or(Level::Read);
        if let Err(problem) = self.listen(room, OWN, level.max(Level::Read), wish).await {
            tracing::warn!(event = "own_room_closed", code = problem.code().word(), userId = &*self.who.sub);
        }
    }

    /// Begins to hear a room, and to be present in it; or changes what is heard of it.
    ///
    /// # Errors
    /// `FORBIDDEN` without the right to read; `ROOM_FULL`; `OVERLOADED`; `PAYLOAD_TOO_LARGE` for too many rooms.
    pub(super) async fn enter(&mut self, room: RoomName, wish: Wish) -> Result<Entered, Problem> {
        let level = self.require(Level::Read, room.as_str()).await?;
        if let Some(known) = self.rooms.by_name.get_mut(&room) {
            known.filter = wish.filter.clone();
            if wish.since.is_none() {
                let event_id = self.state().feeds.last(&room);
                return Ok(Entered { recovered: true, event_id });
            }
            return self.listen_again(&room, wish).await;
        }
        if self.rooms.by_name.len() >= ROOMS_MAX {
            return Err(Problem::too_large(ROOMS_MAX, "this connection is in too many rooms"));
        }
        // Loaded first, so that ids come out behind those of its log.
        find_document(self.state(), &room).await?;
        self.rooms.channels += 1;
        let channel = ChannelId(self.rooms.channels);
        let entered = self.listen(room.clone(), channel, level, wish).await?;
        if let Err(problem) = self.appear(&room).await {
            self.rooms.by_name.remove(&room);
            return Err(problem);
        }
        Ok(entered)
    }

    async fn listen(
        &mut self,
        room: RoomName,
        channel: ChannelId,
        level: Level,
        wish: Wish,
    ) -> Result<Entered, Problem> {
        let seat = self.state().feeds.enter(&room, self.peer.0)?;
        let (cursor, entered) = self.begin(&room, wish.since.as_deref()).await?;
        let watched = (!self.state().auth.is_dev()).then(|| {
            let alarm: Weak<Bell> = Arc::downgrade(&self.bell);
            self.state().auth.watch().enter(&self.who, room.as_str(), alarm as Weak<dyn Alarm>, channel)
        });
        let (generation, stop) = self.rooms.follow(&room, cursor);
        let known = Subscription {
            generation,
            filter: wish.filter,
            _stops: stop.clone().drop_guard(),
            stop,
            channel,
            level,
            watched,
            membership: None,
            shown: Map::new(),
            clock: 0,
            _seat: seat,
        };
        self.rooms.by_name.insert(room, known);
        Ok(entered)
    }

    /// From another place on, in a room in which it is.
    async fn listen_again(&mut self, room: &RoomName, wish: Wish) -> Result<Entered, Problem> {
        let (cursor, entered) = self.begin(room, wish.since.as_deref()).await?;
        let (generation, stop) = self.rooms.follow(room, cursor);
        if let Some(known) = self.rooms.by_name.get_mut(room) {
            known.generation = generation;
            known._stops = stop.clone().drop_guard();
            known.stop = stop;
        }
        Ok(entered)
    }

    async fn begin(&mut self, room: &RoomName, since: Option<&str>) -> Result<(Cursor, Entered), Problem> {
        let listener = Listener { user: Some(self.who.sub.clone()), peer: Some(self.peer.0) };
        let feeds = self.state().feeds.clone();
        let listening = feeds.follow(room, listener, since).await?;
        Ok((listening.cursor, Entered { recovered: listening.recovered, event_id: listening.event_id }))
    }

    /// Comes in, for the others to see.
    async fn appear(&mut self, room: &RoomName) -> Result<(), Problem> {
        if let Some(doc) = room.as_doc() {
            let Some(known) = self.rooms.by_name.get(room) else { return Ok(()) };
            let access = access_of(known.level);
            let gone = Gone { bell: Arc::downgrade(&self.bell), channel: known.channel };
            let joining =
                self.state().hub.join_as(self.peer, &doc, access, self.member(), Port::silent(Arc::new(gone)));
            let membership = joining.await?;
            if let Some(known) = self.rooms.by_name.get_mut(room) {
                known.membership = Some(membership);
            }
            self.rooms.renew_at.get_or_insert(Instant::now() + RENEW_EVERY);
        } else {
            self.tell_presence(room, self.joined());
        }
        self.show_again(room).await
    }

    /// Shows something else of itself in a room in which it is.
    ///
    /// # Errors
    /// `CHANNEL_ERROR` where it is not; `PAYLOAD_TOO_LARGE` for more than 8 KiB in all.
    pub(super) async fn show(&mut self, room: &RoomName, shown: Shown<'_>) -> Result<(), Problem> {
        let who = self.face();
        let Some(known) = self.rooms.by_name.get_mut(room) else {
            return Err(Problem::new(ErrorCode::ChannelError, "subscribe to the room first"));
        };
        let former = known.shown.clone();
        for (key, value) in shown {
            match value {
                Some(value) => drop(known.shown.insert((*key).to_owned(), value.clone())),
                None => drop(known.shown.remove(*key)),
            }
        }
        let state = state_of(&who, &known.shown);
        if state.len() > AWARENESS_STATE_BYTES_MAX {
            known.shown = former;
            return Err(Problem::too_large(AWARENESS_STATE_BYTES_MAX, "too much to show of one connection"));
        }
        self.send_state(room, state).await
    }

    async fn show_again(&mut self, room: &RoomName) -> Result<(), Problem> {
        let Some(known) = self.rooms.by_name.get(room) else { return Ok(()) };
        let state = state_of(&self.face(), &known.shown);
        self.send_state(room, state).await
    }

    async fn send_state(&mut self, room: &RoomName, state: Bytes) -> Result<(), Problem> {
        let (client, state) = (self.rooms.client, Some(state));
        let Some(known) = self.rooms.by_name.get_mut(room) else { return Ok(()) };
        known.clock += 1;
        match &known.membership {
            Some(membership) => {
                let entry = Entry { client, clock: known.clock, state };
                membership.say(vec![DocumentMessage::Awareness(vec![entry])]).await?;
            }
            None => self.tell_presence(room, Presence::State { client, state }),
        }
        Ok(())
    }

    /// Shows itself again, before Yjs clients forget it; and comes in again where its document had let it go.
    pub(super) async fn renew(&mut self) {
        let docs: Vec<RoomName> = self.rooms.by_name.keys().filter(|room| room.as_doc().is_some()).cloned().collect();
        self.rooms.renew_at = (!docs.is_empty()).then(|| Instant::now() + RENEW_EVERY);
        for room in docs {
            let is_in = self.rooms.by_name.get(&room).is_some_and(|known| known.membership.is_some());
            let shown = if is_in { self.show_again(&room).await } else { self.appear(&room).await };
            if let Err(problem) = shown {
                tracing::debug!(
                    event = "presence_not_renewed",
                    code = problem.code().word(),
                    channelId = room.as_str()
                );
                if let Some(known) = self.rooms.by_name.get_mut(&room) {
                    known.membership = None;
                }
            }
        }
    }

    /// Leaves a room. Whether it was there.
    pub(super) async fn leave(&mut self, room: &RoomName) -> bool {
        let Some(known) = self.rooms.by_name.remove(room) else { return false };
        self.typing.leave(room);
        match known.membership {
            Some(membership) => membership.leave().await,
            None if known.channel != OWN => self.tell_presence(room, Presence::Left),
            None => {}
        }
        true
    }

    /// Shows a status to those who follow everybody's, whether or not it follows them.
    pub(super) fn show_everybody(&mut self, everybody: &RoomName, shown: Shown<'_>) {
        let who = self.face();
        let present = shown.iter().filter_map(|(key, value)| Some(((*key).to_owned(), value.clone()?)));
        let state = state_of(&who, &present.collect());
        if self.rooms.shown_to.is_none() {
            self.tell_presence(everybody, self.joined());
            self.rooms.shown_to = Some(everybody.clone());
        }
        self.tell_presence(everybody, Presence::State { client: self.rooms.client, state: Some(state) });
    }

    /// Leaves all rooms, as it is gone.
    pub(super) async fn leave_all(&mut self) {
        if let Some(everybody) = self.rooms.shown_to.take() {
            self.tell_presence(&everybody, Presence::Left);
        }
        let rooms: Vec<RoomName> = self.rooms.by_name.keys().cloned().collect();
        for room in rooms {
            self.leave(&room).await;
        }
    }

    /// The rooms in which others see it.
    pub(super) fn rooms_shown(&self) -> Vec<RoomName> {
        let shown = self.rooms.by_name.iter().filter(|(_, known)| known.channel != OWN);
        shown.map(|(room, _)| room.clone()).collect()
    }

    fn tell_presence(&self, room: &RoomName, presence: Presence) {
        let at_ms = self.state().clock.now().wall_ms;
        self.state().feeds.presence(room, self.peer.0, at_ms, presence);
    }

    fn joined(&self) -> Presence {
        let member = self.member();
        let (user, name, email) = member.map_or((None, None, None), |who| (Some(who.user), who.name, who.email));
        Presence::Joined { user, name, email }
    }

    /// Who it is, as others see it.
    fn face(&self) -> Value {
        let Identity { sub, name, email, .. } = &self.who;
        let mut face = json!({"id": &**sub});
        for (key, value) in [("name", name), ("email", email)] {
            if let Some(value) = value {
                face[key] = Value::from(&**value);
            }
        }
        face
    }
}

/// A state as Yjs clients have it: JSON text.
fn state_of(who: &Value, shown: &Map<String, Value>) -> Bytes {
    let mut state = shown.clone();
    state.insert("user".to_owned(), who.clone());
    Value::Object(state).to_string().into()
}
