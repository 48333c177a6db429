//! A client as the npm package `y-websocket` is one, or `@hocuspocus/provider`: it greets, answers, sends what it edits, renews
//! its presence, comes back when the connection is lost, and keeps what was edited meanwhile.

use std::collections::VecDeque;

use bytes::Bytes;
use syncline::document::request::Member;
use syncline_protocol::awareness;
use syncline_protocol::channel::DocumentMessage;
use syncline_protocol::hocuspocus;
use syncline_protocol::state_vector::StateVector;
use syncline_protocol::update::UpdateLimits;
use syncline_protocol::update::split_ready;
use syncline_protocol::update::validate;
use syncline_protocol::wire::Reader;
use syncline_protocol::y_websocket;
use yrs::ClientID;
use yrs::Doc;
use yrs::ReadTxn;
use yrs::Transact;
use yrs::Update;
use yrs::updates::decoder::Decode;

use crate::chance::Chance;
use crate::edits;
use crate::ledger::Ledger;
use crate::presence::Presence;
use crate::provider::Provider;
use crate::provider::Standing;
use crate::server::Go;
use crate::server::broken;
use crate::store::Cover;

/// No message for this long, and the client hangs up.
const WATCHDOG_MS: u64 = 30_000;

/// What follows from a frame to a provider.
#[derive(Debug)]
pub(crate) enum Heard {
    Nothing,
    /// Its count came to zero: all this is saved.
    Saved(Cover),
    /// It was not let in, or was sent away.
    Denied(String),
}

/// What the server grants this client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Right {
    Write,
    Read,
    Refused,
}

/// The browser.
pub(crate) struct Client {
    pub(crate) doc: usize,
    pub(crate) right: Right,
    pub(crate) member: Option<Member>,
    pub(crate) replica: Doc,
    /// What came before what it builds on, from other tabs.
    pending: Vec<Bytes>,
    pub(crate) presence: Presence,
    pub(crate) connection: Option<u64>,
    pub(crate) dial_at: u64,
    failures: u32,
    heard: u64,
    /// Sent on this connection and not heard again yet.
    pub(crate) unconfirmed: Vec<Bytes>,
    confirmed: Vec<Bytes>,
    /// What it heard on this connection since it lagged.
    returned: Cover,
    /// Clients that hear each other's edits directly, as browser tabs do.
    pub(crate) tab: Option<usize>,
    pub(crate) from_tabs: Vec<Bytes>,
    /// Whether it sends on what it hears from other tabs.
    pub(crate) relays: bool,
    /// Ids under which it wrote without being allowed to.
    pub(crate) forbidden: Vec<u64>,
    pub(crate) greeted: bool,
    dials: u32,
    /// Whether its present id was ever allowed to write.
    pub(crate) could_write: bool,
    /// Whether what it edits is a table.
    pub(crate) in_table: bool,
    /// Where that is what it is; else it is a `y-websocket`.
    pub(crate) provider: Option<Provider>,
}

impl Client {
    pub(crate) fn new(doc: usize, right: Right, member: Option<Member>, chance: &mut Chance) -> Self {
        let replica = edits::new_doc(chance);
        let presence = Presence::new(replica.client_id().get(), 0);
        Self {
            doc,
            right,
            member,
            replica,
            pending: Vec::new(),
            presence,
            connection: None,
            dial_at: chance.below(500) as u64,
            failures: 0,
            heard: 0,
            unconfirmed: Vec::new(),
            confirmed: Vec::new(),
            returned: Cover::default(),
            tab: None,
            from_tabs: Vec::new(),
            relays: false,
            forbidden: Vec::new(),
            greeted: false,
            dials: 0,
            could_write: right == Right::Write,
            in_table: false,
            provider: None,
        }
    }

    pub(crate) fn id(&self) -> u64 {
        self.replica.client_id().get()
    }

    /// It may write from now on, also what it could not before.
    pub(crate) fn allow(&mut self) {
        self.right = Right::Write;
        self.could_write = true;
        if let Some(provider) = &mut self.provider {
            self.forbidden.clear();
            provider.strays.clear();
        }
    }

    /// The application throws its copy away, as it does when it is told not to come back.
    pub(crate) fn start_anew(&mut self, now: u64, chance: &mut Chance) {
        self.could_write = self.right == Right::Write;
        self.replica = edits::new_doc(chance);
        self.presence = Presence::new(self.id(), now);
        self.pending.clear();
        self.from_tabs.clear();
        if let Some(provider) = &mut self.provider {
            provider.start_anew();
        }
    }

    /// A socket is up, or was already when a provider is new on it. `deletions` of the document so far.
    pub(crate) fn opened(&mut self, connection: u64, now: u64, deletions: u64, out: &mut VecDeque<Bytes>) {
        let again = self.connection == Some(connection);
        self.connection = Some(connection);
        self.greeted = false;
        self.failures = 0;
        self.dials += 1;
        self.heard = now;
        self.unconfirmed.clear();
        self.confirmed.clear();
        self.returned = Cover::default();
        if let Some(provider) = &mut self.provider {
            provider.opened(again, deletions, out);
        }
        self.begin(out);
        if self.presence.own_state().is_some() {
            self.send_presence(&[self.id()], out);
        }
    }

    fn begin(&mut self, out: &mut VecDeque<Bytes>) {
        let step1 = DocumentMessage::SyncStep1(self.clocks().encode());
        match &mut self.provider {
            Some(provider) => provider.begin(step1, out),
            None => out.push_back(y_websocket::encode_client(&step1)),
        }
    }

    /// `forceSync()`: the application wants it, or an interval is over.
    pub(crate) fn force(&mut self, out: &mut VecDeque<Bytes>) {
        if let Some(provider) = &mut self.provider {
            provider.force_due = false;
            self.begin(out);
        }
    }

    /// The connection is gone. Backs off, with some chance in it so that not all come at once.
    pub(crate) fn lost(&mut self, now: u64, chance: &mut Chance) {
        self.connection = None;
        self.presence.disconnected();
        if let Some(provider) = &mut self.provider {
            provider.lost();
        }
        self.failures = (self.failures + 1).min(5);
        self.dial_at = now + (100 << self.failures).min(2500) + chance.below(100) as u64;
    }

    /// One transaction. Answers the update, for the other tabs.
    pub(crate) fn edit(&mut self, chance: &mut Chance, out: Option<&mut VecDeque<Bytes>>) -> Option<Bytes> {
        let update = if self.in_table && !chance.one_in(4) {
            edits::edit_record(&self.replica, chance)
        } else {
            edits::edit(&self.replica, chance)?
        };
        self.send_update(update.clone(), out);
        Some(update)
    }

    fn send_update(&mut self, update: Bytes, out: Option<&mut VecDeque<Bytes>>) {
        if let Some(provider) = &mut self.provider {
            return provider.update(update, self.right == Right::Write, out);
        }
        if let Some(out) = out {
            self.unconfirmed.push(update.clone());
            out.push_back(y_websocket::encode_client(&DocumentMessage::Update(update)));
        }
    }

    fn say(&mut self, message: &DocumentMessage, out: Option<&mut VecDeque<Bytes>>) {
        match (&mut self.provider, out) {
            (Some(provider), out) => provider.say(message, out),
            (None, Some(out)) => out.push_back(y_websocket::encode_client(message)),
            (None, None) => {}
        }
    }

    pub(crate) fn set_presence(&mut self, state: Option<Bytes>, now: u64, out: Option<&mut VecDeque<Bytes>>) {
        self.presence.set(state, now);
        let entries = self.presence.entries(&[self.id()]);
        self.say(&DocumentMessage::Awareness(entries), out);
    }

    /// A clean goodbye.
    pub(crate) fn say_goodbye(&mut self, out: &mut VecDeque<Bytes>) {
        let entry =
            self.presence.entries(&[self.id()]).into_iter().map(|entry| awareness::Entry { state: None, ..entry });
        let goodbye = DocumentMessage::Awareness(entry.collect());
        self.say(&goodbye, Some(out));
    }

    /// A provider leaves its channel, and leaves the socket to others. It comes back with a new one.
    pub(crate) fn leave(&mut self, now: u64, out: &mut VecDeque<Bytes>, chance: &mut Chance) {
        self.say_goodbye(out);
        if let Some(provider) = &mut self.provider {
            provider.leave(out);
        }
        self.denied(now, chance);
    }

    /// It is not on its channel any more, though its socket is up.
    pub(crate) fn denied(&mut self, now: u64, chance: &mut Chance) {
        self.presence.disconnected();
        self.dial_at = now + 100 + chance.below(3_000) as u64;
    }

    /// Renews its presence, notices silence. `false`: it hangs up.
    pub(crate) fn tick(&mut self, now: u64, out: &mut VecDeque<Bytes>) -> bool {
        let changed = self.presence.tick(now);
        if !changed.is_empty() {
            self.send_presence(&changed, out);
        }
        now - self.heard <= WATCHDOG_MS
    }

    fn send_presence(&mut self, clients: &[u64], out: &mut VecDeque<Bytes>) {
        let entries = self.presence.entries(clients);
        self.say(&DocumentMessage::Awareness(entries), Some(out));
    }

    /// Something has arrived on its socket, for whomever.
    pub(crate) fn socket_lives(&mut self, now: u64, out: &mut VecDeque<Bytes>) {
        self.heard = now;
        if let Some(provider) = &mut self.provider {
            provider.socket_lives(out);
        }
    }

    /// One frame from the server to a provider. `ledger` has what was sent, if anybody ever let it in.
    pub(crate) fn hear_addressed(
        &mut self,
        frame: &Bytes,
        ledger: Option<&mut Ledger>,
        now: u64,
        out: &mut VecDeque<Bytes>,
    ) -> Go<Heard> {
        let Some(provider) = &mut self.provider else { return broken("an address for one that has none") };
        let Some(message) = provider.message_in(frame)? else {
            out.push_back(hocuspocus::PONG.clone());
            return Ok(Heard::Nothing);
        };
        let kinds = (message.first().copied(), message.get(1).copied());
        let has_left = provider.standing == Standing::Left;
        match kinds {
            (Some(8), Some(saved @ (0 | 1))) if message.len() == 2 => {
                let sent = ledger.and_then(Ledger::arrived);
                // Who has left is gone from the socket's book: nobody hears it.
                let saved = if has_left { None } else { provider.status(saved == 1, sent)? };
                Ok(saved.cloned().map_or(Heard::Nothing, Heard::Saved))
            }
            (Some(7), _) if provider.version.is_none() => broken("CLOSE to one that does not know it"),
            (Some(7), _) => Ok(Heard::Nothing),
            _ if has_left => Ok(Heard::Nothing),
            (Some(2), Some(kind @ (1 | 2))) => {
                let Ok(word) = Reader::new(message.slice(2..)).var_string() else { return broken("no word") };
                if kind == 1 { self.hear_no(word) } else { self.hear_yes(&word) }
            }
            _ if self.right == Right::Refused => broken("a refused client was told something"),
            (Some(1), _) => self.hear_presence(message, now, out).map(|()| Heard::Nothing),
            _ => self.hear(message, false, now, out).map(|()| Heard::Nothing),
        }
    }

    fn hear_no(&mut self, word: String) -> Go<Heard> {
        if let Some(provider) = &mut self.provider {
            provider.standing = Standing::Denied;
        }
        Ok(Heard::Denied(word))
    }

    fn hear_yes(&mut self, scope: &str) -> Go<Heard> {
        let Some(provider) = &mut self.provider else { return Ok(Heard::Nothing) };
        let writes = scope == "read-write";
        provider.force_due |= writes && provider.standing == Standing::In { writes: false };
        provider.standing = Standing::In { writes };
        Ok(Heard::Nothing)
    }

    /// One frame from the server, from its kind on.
    pub(crate) fn hear(&mut self, frame: Bytes, lagged: bool, now: u64, out: &mut VecDeque<Bytes>) -> Go {
        self.heard = now;
        if self.right == Right::Refused {
            return if frame.first() == Some(&2) { Ok(()) } else { broken("a refused client was told something") };
        }
        let mut reader = Reader::new(frame);
        let kinds = (reader.var_uint(), if reader.remaining() > 1 { reader.var_uint() } else { Ok(0) });
        let Ok(payload) = reader.var_bytes() else { return broken("the server sent a frame that cannot be read") };
        if !reader.is_empty() {
            return broken("the server sent two messages in one frame");
        }
        match kinds {
            (Ok(0), Ok(0)) => self.answer_step1(payload, out),
            (Ok(0), Ok(kind @ (1 | 2))) => {
                self.greeted |= kind == 1;
                self.confirm(&payload, lagged);
                let former = self.provider.as_ref().is_some_and(Provider::may_hear_of_former);
                self.take(payload, former)
            }
            _ => broken("the server sent an unknown message"),
        }
    }

    /// Presence frames have one kind byte only.
    pub(crate) fn hear_presence(&mut self, frame: Bytes, now: u64, out: &mut VecDeque<Bytes>) -> Go {
        self.heard = now;
        let mut reader = Reader::new(frame.slice(1..));
        let entries = reader.var_bytes().and_then(awareness::decode);
        let Ok(entries) = entries else { return broken("the server sent presence that cannot be read") };
        let changed = self.presence.apply(&entries, now);
        // From 4.0 on, providers keep to themselves what they hear.
        let echoes = self.provider.as_ref().is_none_or(|provider| provider.version.is_none());
        if !changed.is_empty() && echoes {
            self.send_presence(&changed, out);
        }
        Ok(())
    }

    fn answer_step1(&mut self, payload: Bytes, out: &mut VecDeque<Bytes>) -> Go {
        let Ok(theirs) = StateVector::decode(payload) else { return broken("a step 1 that cannot be read") };
        let mut vector = yrs::StateVector::default();
        for (client, clock) in theirs.iter() {
            vector.set_max(ClientID::new(client), clock);
        }
        let mut update = Bytes::from(self.replica.transact().encode_diff_v1(&vector));
        if !self.pending.is_empty() {
            // As Yjs does: with what waits, and holes where its predecessors are missing.
            let pieces: Vec<&[u8]> = std::iter::once(&update).chain(&self.pending).map(AsRef::as_ref).collect();
            update = yrs::merge_updates_v1(pieces).expect("these are updates").into();
        }
        if let Some(provider) = &mut self.provider {
            provider.answers(update, out);
            return Ok(());
        }
        if update.as_ref() != [0, 0] {
            self.unconfirmed.push(update.clone());
        }
        out.push_back(y_websocket::encode_client(&DocumentMessage::SyncStep2(update)));
        Ok(())
    }

    /// Its own update came back, or, after it lagged, what was in it.
    fn confirm(&mut self, update: &Bytes, lagged: bool) {
        if let Some(index) = self.unconfirmed.iter().position(|sent| sent == update) {
            self.confirmed.push(self.unconfirmed.remove(index));
        }
        if lagged {
            // It may come back in several frames.
            self.returned.add(update);
            let Self { unconfirmed, returned, .. } = self;
            unconfirmed.retain(|sent| !returned.contains(&Cover::of(sent)));
        }
    }

    /// Whether the same acknowledgement came twice; only to be asked where nobody else sends the same bytes. After a
    /// reconnect its own former connection may: what was under way on it is news to the new one. Of deletions alone anybody
    /// may send the same bytes.
    pub(crate) fn was_confirmed(&self, update: &Bytes) -> bool {
        let is_own =
            |update| validate(update, &UpdateLimits::default()).is_ok_and(|summary| !summary.ranges().is_empty());
        self.dials == 1 && self.confirmed.contains(update) && !self.unconfirmed.contains(update) && is_own(update)
    }

    /// Another tab edited.
    pub(crate) fn hear_tab(&mut self, update: Bytes, out: Option<&mut VecDeque<Bytes>>) -> Go {
        self.take(update.clone(), true)?;
        if self.relays {
            self.send_update(update, out);
        }
        Ok(())
    }

    fn take(&mut self, update: Bytes, may_wait: bool) -> Go {
        self.pending.push(update);
        let limits = UpdateLimits::default();
        loop {
            let before = self.pending.len();
            let mut progress = false;
            for update in std::mem::take(&mut self.pending) {
                let Ok((ready, rest)) = split_ready(&update, &self.clocks(), &limits) else {
                    return broken("the server sent an update that is none");
                };
                if let Some(ready) = ready {
                    progress = true;
                    let decoded = Update::decode_v1(&ready).expect("it was validated");
                    self.replica.transact_mut().apply_update(decoded).expect("it is ready");
                }
                self.pending.extend(rest);
            }
            if !progress || self.pending.is_empty() || self.pending.len() > before {
                break;
            }
        }
        if !self.pending.is_empty() && !may_wait && self.tab.is_none() {
            return broken("the server sent something before what it builds on");
        }
        Ok(())
    }

    pub(crate) fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    pub(crate) fn clocks(&self) -> StateVector {
        let vector = self.replica.transact().state_vector();
        vector.iter().map(|(client, clock)| (client.get(), *clock)).collect()
    }

    pub(crate) fn state(&self) -> Bytes {
        self.replica.transact().encode_diff_v1(&yrs::StateVector::default()).into()
    }
}

/// The update in a frame, if it carries one.
pub(crate) fn update_in(frame: &Bytes) -> Option<Bytes> {
    let mut reader = Reader::new(frame.clone());
    let kinds = (reader.var_uint().ok()?, reader.var_uint().ok()?);
    let update = if kinds == (0, 2) { reader.var_bytes().ok() } else { None };
    update.filter(|update| validate(update, &UpdateLimits::default()).is_ok())
}
