//! A client as the npm package `y-websocket` is one: it greets, answers, sends what it edits, renews its presence, comes
//! back when the connection is lost, and keeps what was edited meanwhile.

use std::collections::VecDeque;

use bytes::Bytes;
use syncline::document::request::Member;
use syncline_protocol::awareness;
use syncline_protocol::channel::DocumentMessage;
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
use crate::presence::Presence;
use crate::server::Go;
use crate::server::broken;
use crate::store::Cover;

/// No message for this long, and the client hangs up.
const WATCHDOG_MS: u64 = 30_000;

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
            tab: None,
            from_tabs: Vec::new(),
            relays: false,
            forbidden: Vec::new(),
            greeted: false,
            dials: 0,
            could_write: right == Right::Write,
        }
    }

    pub(crate) fn id(&self) -> u64 {
        self.replica.client_id().get()
    }

    /// The application throws its copy away, as it does when it is told not to come back.
    pub(crate) fn start_anew(&mut self, now: u64, chance: &mut Chance) {
        self.could_write = self.right == Right::Write;
        self.replica = edits::new_doc(chance);
        self.presence = Presence::new(self.id(), now);
        self.pending.clear();
        self.from_tabs.clear();
    }

    pub(crate) fn opened(&mut self, connection: u64, now: u64, out: &mut VecDeque<Bytes>) {
        self.connection = Some(connection);
        self.greeted = false;
        self.failures = 0;
        self.dials += 1;
        self.heard = now;
        self.unconfirmed.clear();
        self.confirmed.clear();
        send(out, DocumentMessage::SyncStep1(self.clocks().encode()));
        if self.presence.own_state().is_some() {
            self.send_presence(&[self.id()], out);
        }
    }

    /// The connection is gone. Backs off, with some chance in it so that not all come at once.
    pub(crate) fn lost(&mut self, now: u64, chance: &mut Chance) {
        self.connection = None;
        self.presence.disconnected();
        self.failures = (self.failures + 1).min(5);
        self.dial_at = now + (100 << self.failures).min(2500) + chance.below(100) as u64;
    }

    /// One transaction. Answers the update, for the other tabs.
    pub(crate) fn edit(&mut self, chance: &mut Chance, out: Option<&mut VecDeque<Bytes>>) -> Option<Bytes> {
        let update = edits::edit(&self.replica, chance)?;
        self.send_update(update.clone(), out);
        Some(update)
    }

    fn send_update(&mut self, update: Bytes, out: Option<&mut VecDeque<Bytes>>) {
        if let Some(out) = out {
            self.unconfirmed.push(update.clone());
            send(out, DocumentMessage::Update(update));
        }
    }

    pub(crate) fn set_presence(&mut self, state: Option<Bytes>, now: u64, out: Option<&mut VecDeque<Bytes>>) {
        self.presence.set(state, now);
        if let Some(out) = out {
            self.send_presence(&[self.id()], out);
        }
    }

    /// A clean goodbye.
    pub(crate) fn say_goodbye(&mut self, out: &mut VecDeque<Bytes>) {
        let entry =
            self.presence.entries(&[self.id()]).into_iter().map(|entry| awareness::Entry { state: None, ..entry });
        send(out, DocumentMessage::Awareness(entry.collect()));
    }

    /// Renews its presence, notices silence. `false`: it hangs up.
    pub(crate) fn tick(&mut self, now: u64, out: &mut VecDeque<Bytes>) -> bool {
        let changed = self.presence.tick(now);
        if !changed.is_empty() {
            self.send_presence(&changed, out);
        }
        now - self.heard <= WATCHDOG_MS
    }

    fn send_presence(&self, clients: &[u64], out: &mut VecDeque<Bytes>) {
        send(out, DocumentMessage::Awareness(self.presence.entries(clients)));
    }

    /// One frame from the server.
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
                self.take(payload, false)
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
        if !changed.is_empty() {
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
        if update.as_ref() != [0, 0] {
            self.unconfirmed.push(update.clone());
        }
        send(out, DocumentMessage::SyncStep2(update));
        Ok(())
    }

    /// Its own update came back, or, after it lagged, what was in it.
    fn confirm(&mut self, update: &Bytes, lagged: bool) {
        if let Some(index) = self.unconfirmed.iter().position(|sent| sent == update) {
            self.confirmed.push(self.unconfirmed.remove(index));
        }
        if lagged {
            let cover = Cover::of(update);
            self.unconfirmed.retain(|sent| !cover.contains(&Cover::of(sent)));
        }
    }

    /// Whether the same acknowledgement came twice; only to be asked where nobody else sends the same bytes. After a
    /// reconnect its own former connection may: what was under way on it is news to the new one.
    pub(crate) fn was_confirmed(&self, update: &Bytes) -> bool {
        self.dials == 1 && self.confirmed.contains(update) && !self.unconfirmed.contains(update)
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

fn send(out: &mut VecDeque<Bytes>, message: DocumentMessage) {
    out.push_back(y_websocket::encode_client(&message));
}

/// The update in a frame, if it carries one.
pub(crate) fn update_in(frame: &Bytes) -> Option<Bytes> {
    let mut reader = Reader::new(frame.clone());
    let kinds = (reader.var_uint().ok()?, reader.var_uint().ok()?);
    let update = if kinds == (0, 2) { reader.var_bytes().ok() } else { None };
    update.filter(|update| validate(update, &UpdateLimits::default()).is_ok())
}
