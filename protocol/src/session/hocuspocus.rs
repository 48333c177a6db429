//! A Hocuspocus connection: documents come and go on it, each with a token of its own.
//!
//! ```text
//!   frame ─▶ Waiting ── Auth ──▶ Asking ── verdict: good ──▶ Open ── CLOSE, revoked, expired, broken, deleted ──▶ gone
//!               │ held              │ held     bad ─▶ "permission denied", gone
//! ```
//!
//! What a provider does decides what it is told; all of this was read in the sources of 2.15, 3.4 and 4.8:
//!
//! - After *permission denied* it keeps its place (2.x even stops listening) and comes back only when its application says so
//!   or the socket is opened anew; after CLOSE likewise. Only the end of the socket makes it start over. So a channel that
//!   ends for a reason that passes (a store that is away, a token that ran out) takes the socket along **when it is the only
//!   one**, and its client is back within a second, with a fresh token. Where there are other channels they are not
//!   disturbed: this one is told the reason, and that is all.
//! - On a socket without an open channel nothing is sent, so a provider's own watchdog opens it anew after 30 s, and asks
//!   again for whatever it was refused. [`HocuspocusSettings::auth_within`] closes it from our side, whether nobody ever said
//!   who he is or everybody has left. As `AUTH_EXPIRED` (4501), where the reference server says 4408: a client may come back
//!   from this, and what begins with 44 is only for what does not pass.
//! - It goes on sending presence and changes at an address where it was refused, and 2.x takes its presence back after it
//!   left. All that is ignored there until the next token, which is always followed by a full synchronisation; or it would
//!   open a channel that waits for a token, again and again.
//! - It sends the first synchronisation without waiting for the answer to its token, so frames are held until then. Breaking
//!   the bounds of that closes the socket as "reset" (4205), from which every version comes back.
//! - A token that comes late, on a channel that ended meanwhile, is not followed by a synchronisation. Such a client believes
//!   that it is in step and would diverge without noticing: the socket is closed, and it starts over.

use bytes::Bytes;

use super::HocuspocusSettings;
use super::Input;
use super::Output;
use super::Peer;
use super::keep_alive_at;
use crate::ErrorCode;
use crate::Moment;
use crate::channel::Access;
use crate::channel::Channel;
use crate::channel::ChannelId;
use crate::channel::DocumentMessage;
use crate::channel::Due;
use crate::channel::Grant;
use crate::channel::Held;
use crate::channel::Judgement;
use crate::channel::Phase;
use crate::channel::Sort;
use crate::channel::Terms;
use crate::channel::Token;
use crate::hocuspocus;
use crate::hocuspocus::Address;
use crate::hocuspocus::AddressError;
use crate::hocuspocus::Addressed;
use crate::hocuspocus::Frame;
use crate::hocuspocus::Kind;
use crate::hocuspocus::Message;
use crate::hocuspocus::Provider;
use crate::limits::HELD_BYTES_PER_SOCKET_MAX;
use crate::limits::WAITING_CHANNELS_MAX;
use table::Line;
use table::Place;
use table::Table;

mod table;

/// "Reset connection", in this dialect: every version comes back from it.
const CLOSE_RESET: u16 = 4205;

#[derive(Debug, Clone)]
pub(super) struct Hocuspocus {
    settings: HocuspocusSettings,
    state: State,
    table: Table,
    /// Whether a provider on this socket takes pings. All of them are of one version: they share the client's socket.
    pings: bool,
}

#[derive(Debug, Clone, Copy)]
enum State {
    /// No channel is open.
    Lonely {
        /// How long that may be so.
        until: Moment,
        /// How often somebody was refused since.
        refusals: usize,
    },
    /// Some channel is.
    Serving,
    /// Nothing follows.
    Over,
}

impl Hocuspocus {
    pub(super) fn begin(now: Moment, settings: HocuspocusSettings) -> Self {
        let state = State::Lonely { until: now.after(settings.auth_within), refusals: 0 };
        Self { settings, state, table: Table::new(settings.channels_max), pings: false }
    }

    /// Whether some channel is open.
    pub(super) fn is_proved(&self) -> bool {
        matches!(self.state, State::Serving)
    }

    /// Bytes of the frames that wait for verdicts.
    pub(super) fn held_bytes(&self) -> usize {
        self.table.held_bytes()
    }

    pub(super) fn handle(&mut self, now: Moment, input: Input, out: &mut Vec<Output>) {
        if self.is_over() {
            return;
        }
        match input {
            // News of the rights come before the clock: a renewal may be what saves a channel, and a reason to stay away must
            // not be reported as one to come back.
            Input::Verdict { channel, verdict } => self.judge(now, channel, verdict, out),
            Input::Renewed { channel, grant } => self.renew(now, channel, grant, out),
            Input::Revoked { channel, code } => self.evict(channel, code, out),
            Input::Ended { channel, code } => self.end(channel, code, out),
            Input::Frame(_) | Input::Text | Input::Tick { .. } => {
                self.elapse(now, out);
                self.happen(now, input, out);
            }
        }
        self.settle(now);
    }

    pub(super) fn deadline(&self, last_sent: Moment) -> Option<Moment> {
        let own = match self.state {
            State::Lonely { until, .. } => Some(until),
            State::Serving => keep_alive_at(self.settings.keep_alive, last_sent),
            State::Over => return None,
        };
        own.into_iter().chain(self.table.due_at()).min()
    }

    fn is_over(&self) -> bool {
        matches!(self.state, State::Over)
    }

    /// Whether somebody is there is counted by the table; since when nobody is, is noted here.
    fn settle(&mut self, now: Moment) {
        match self.state {
            State::Lonely { .. } if self.table.open() > 0 => self.state = State::Serving,
            State::Serving if self.table.open() == 0 => {
                self.state = State::Lonely { until: now.after(self.settings.auth_within), refusals: 0 };
            }
            State::Lonely { .. } | State::Serving | State::Over => {}
        }
    }

    fn happen(&mut self, now: Moment, input: Input, out: &mut Vec<Output>) {
        match input {
            _ if self.is_over() => {}
            Input::Frame(frame) => self.hear(now, frame, out),
            Input::Tick { last_sent } => self.keep_alive(now, last_sent, out),
            // No frame of this dialect is text, so there is no channel to blame.
            _ => self.close(ErrorCode::InvalidPayload, out),
        }
    }

    // ---- time --------------------------------------------------------------------------------------------------------

    fn elapse(&mut self, now: Moment, out: &mut Vec<Output>) {
        while let Some(id) = self.table.due(now) {
            match self.table.change(id, |line| line.channel.due(now)).flatten() {
                Some(Due::Token) => self.request_token(id, out),
                Some(Due::Sync) => self.close(ErrorCode::ChannelError, out),
                Some(Due::End(code)) => self.run_out(id, code, out),
                None => break,
            }
        }
        if matches!(self.state, State::Lonely { until, .. } if until <= now) {
            self.close(ErrorCode::AuthExpired, out);
        }
    }

    fn request_token(&self, id: ChannelId, out: &mut Vec<Output>) {
        out.extend(self.table.line(id).map(|line| Output::Send(hocuspocus::token_request(&line.address))));
    }

    /// Who never showed a token is told so only if it meant to synchronise: a provider that is still waiting for its token may
    /// say something before, and 2.x would not use the token after a refusal.
    fn run_out(&mut self, id: ChannelId, code: ErrorCode, out: &mut Vec<Output>) {
        match self.table.line(id).map(|line| line.channel.phase()) {
            Some(Phase::Waiting { held, .. }) if held.has_begun() => self.refuse(id, ErrorCode::AuthFailed, out),
            Some(Phase::Waiting { .. }) => drop(self.table.remove(id)),
            _ => self.end(id, code, out),
        }
    }

    fn keep_alive(&self, now: Moment, last_sent: Moment, out: &mut Vec<Output>) {
        if keep_alive_at(self.settings.keep_alive, last_sent).is_none_or(|due| due > now) {
            return;
        }
        let Some(line) = self.table.open_ids().next().and_then(|id| self.table.line(id)) else { return };
        let frame = if self.pings { hocuspocus::PING.clone() } else { hocuspocus::keep_alive(&line.address) };
        out.push(Output::Send(frame));
    }

    // ---- what the client says ----------------------------------------------------------------------------------------

    fn hear(&mut self, now: Moment, frame: Bytes, out: &mut Vec<Output>) {
        let addressed = match hocuspocus::split(frame) {
            Ok(Frame::Addressed(addressed)) => addressed,
            Ok(Frame::Ping) => return out.push(Output::Send(hocuspocus::PONG.clone())),
            Ok(Frame::Pong) => return,
            Err(_) => return self.close(ErrorCode::InvalidPayload, out),
        };
        match (self.table.place(addressed.address()), addressed.kind()) {
            (Some(Place::Live(id)), _) => self.hear_on(id, addressed, out),
            (Some(Place::Ended), Kind::Auth) => self.admit(now, addressed, out),
            (Some(Place::Ended), Kind::SyncStep1) if self.settings.anonymous => self.admit(now, addressed, out),
            (Some(Place::Ended), _) | (None, Kind::Close | Kind::Unknown) => {}
            (None, _) => self.admit(now, addressed, out),
        }
    }

    /// Opens a channel for the first frame at an address.
    fn admit(&mut self, now: Moment, addressed: Addressed, out: &mut Vec<Output>) {
        let is_auth = addressed.kind() == Kind::Auth;
        let address = match Address::parse(addressed.address()) {
            Ok(address) => address,
            Err(AddressError::Utf8) => return self.close(ErrorCode::InvalidPayload, out),
            // Nothing is kept of it, so what follows its token goes the same way, unanswered.
            Err(AddressError::Name) if is_auth => {
                return self.deny(addressed.address(), ErrorCode::InvalidPayload, out);
            }
            Err(AddressError::Name) => return,
        };
        if self.table.len() >= self.settings.channels_max {
            self.table.remember(address);
            return self.deny(addressed.address(), ErrorCode::Overloaded, out);
        }
        if !is_auth && self.table.waiting() >= WAITING_CHANNELS_MAX {
            return self.reset(ErrorCode::Overloaded, out);
        }
        let Some(id) = self.table.number() else { return self.close(ErrorCode::Overloaded, out) };
        let until = now.after(self.settings.auth_within);
        self.table.insert(address, Channel::waiting(id, self.terms(), until));
        self.hear_on(id, addressed, out);
    }

    fn terms(&self) -> Terms {
        let HocuspocusSettings { grace, renew_before, sync_within, .. } = self.settings;
        Terms { grace, renew_before, sync_within }
    }

    fn hear_on(&mut self, id: ChannelId, addressed: Addressed, out: &mut Vec<Output>) {
        let is_open = self.table.line(id).is_some_and(|line| line.channel.access().is_some());
        let sort = match addressed.kind() {
            Kind::SyncStep1 => Sort::Beginning,
            Kind::Change => Sort::Change,
            Kind::Other => Sort::Other,
            Kind::Auth | Kind::Close | Kind::Unknown => return self.understand(id, &addressed, out),
        };
        if is_open { self.understand(id, &addressed, out) } else { self.hold(id, sort, addressed, out) }
    }

    fn understand(&mut self, id: ChannelId, addressed: &Addressed, out: &mut Vec<Output>) {
        match addressed.message() {
            Ok(Message::Document(message)) => {
                if let DocumentMessage::SyncStep1(_) = message {
                    self.table.change(id, |line| line.channel.begun());
                }
                out.push(Output::Document { channel: id, message });
            }
            Ok(Message::Auth { token, provider }) => self.authenticate(id, token, provider, out),
            Ok(Message::Close) => self.leave(id, out),
            Ok(Message::Broadcast) => self.end(id, ErrorCode::Forbidden, out),
            Ok(Message::Unknown(_)) => {}
            Err(_) => self.end(id, ErrorCode::InvalidPayload, out),
        }
    }

    fn hold(&mut self, id: ChannelId, sort: Sort, addressed: Addressed, out: &mut Vec<Output>) {
        let fits = self
            .table
            .change(id, |line| line.channel.held().is_some_and(|held| held.push(sort, addressed.into_frame())));
        if fits != Some(true) || self.table.held_bytes() > HELD_BYTES_PER_SOCKET_MAX {
            return self.reset(ErrorCode::PayloadTooLarge, out);
        }
        let waits = self.table.line(id).is_some_and(|line| matches!(line.channel.phase(), Phase::Waiting { .. }));
        if self.settings.anonymous && sort == Sort::Beginning && waits {
            self.authenticate(id, Token::default(), Provider::default(), out);
        }
    }

    fn leave(&mut self, id: ChannelId, out: &mut Vec<Output>) {
        let line = self.table.remove(id);
        if line.is_some_and(|line| line.channel.access().is_some()) {
            out.push(Output::Detach { channel: id });
        }
    }

    // ---- rights ------------------------------------------------------------------------------------------------------

    fn authenticate(&mut self, id: ChannelId, token: Token, provider: Provider, out: &mut Vec<Output>) {
        self.pings |= provider.understands_ping();
        let token = self.table.change(id, |line| {
            line.provider = provider;
            line.channel.present(token)
        });
        self.ask(id, token.flatten(), out);
    }

    fn ask(&self, id: ChannelId, token: Option<Token>, out: &mut Vec<Output>) {
        if let (Some(line), Some(token)) = (self.table.line(id), token) {
            let renewal = line.channel.access().is_some();
            out.push(Output::Authenticate { channel: id, doc: line.address.name().to_owned(), token, renewal });
        }
    }

    fn judge(&mut self, now: Moment, id: ChannelId, verdict: Result<Grant, ErrorCode>, out: &mut Vec<Output>) {
        let Some((judgement, next)) = self.table.change(id, |line| line.channel.judge(now, verdict)) else { return };
        match judgement {
            Judgement::Nothing => {}
            Judgement::Opened { access, held } => self.open(id, access, held, out),
            Judgement::Renewed { access, changed, announce } => {
                if changed || announce {
                    self.say_access(id, access, out);
                }
                if changed {
                    self.attach(id, access, out);
                }
            }
            Judgement::Ends(code) => self.end(id, code, out),
        }
        self.ask(id, next, out);
    }

    /// The held frames follow as if they came now: the first that is broken ends the channel.
    fn open(&mut self, id: ChannelId, access: Access, held: Held, out: &mut Vec<Output>) {
        self.say_access(id, access, out);
        self.attach(id, access, out);
        for frame in held.into_frames() {
            if self.table.line(id).is_none() {
                return;
            }
            if let Ok(Frame::Addressed(addressed)) = hocuspocus::split(frame) {
                self.understand(id, &addressed, out);
            }
        }
    }

    fn renew(&mut self, now: Moment, id: ChannelId, grant: Grant, out: &mut Vec<Output>) {
        match self.table.change(id, |line| line.channel.renew(now, grant)) {
            None | Some(Ok(None)) => {}
            Some(Ok(Some(access))) => {
                self.say_access(id, access, out);
                self.attach(id, access, out);
            }
            Some(Err(code)) => self.end(id, code, out),
        }
    }

    fn say_access(&self, id: ChannelId, access: Access, out: &mut Vec<Output>) {
        out.extend(self.table.line(id).map(|line| Output::Send(hocuspocus::authenticated(&line.address, access))));
    }

    fn attach(&self, id: ChannelId, access: Access, out: &mut Vec<Output>) {
        let Some(line) = self.table.line(id) else { return };
        let peer = Peer { address: line.address.clone(), provider: line.provider };
        out.push(Output::Attach { channel: id, access, peer: Some(peer) });
    }

    // ---- endings -----------------------------------------------------------------------------------------------------

    /// Ends a channel for a reason of its document's or its own; see the head of this file.
    fn end(&mut self, id: ChannelId, code: ErrorCode, out: &mut Vec<Output>) {
        let Some(line) = self.table.line(id) else { return };
        match line.channel.access() {
            None => self.refuse(id, code, out),
            Some(_) if self.table.len() == 1 && !code.is_permanent() => self.close(code, out),
            Some(_) => self.evict(id, code, out),
        }
    }

    /// Takes a channel away from its client, for good.
    fn evict(&mut self, id: ChannelId, code: ErrorCode, out: &mut Vec<Output>) {
        let Some(line) = self.table.remove(id) else { return };
        let Line { channel, address, provider } = *line;
        if channel.access().is_some() {
            out.push(Output::Detach { channel: id });
        }
        out.push(Output::Send(hocuspocus::permission_denied(address.as_str().as_bytes(), code.word())));
        if provider.understands_close() {
            out.push(Output::Send(hocuspocus::close(&address, code.word())));
        }
    }

    /// Does not let a channel in. Its address is free for another try.
    fn refuse(&mut self, id: ChannelId, code: ErrorCode, out: &mut Vec<Output>) {
        if let Some(line) = self.table.remove(id) {
            self.deny(line.address.as_str().as_bytes(), code, out);
        }
    }

    /// Who is refused again and again, and let in nowhere, is not at home here.
    fn deny(&mut self, address: &[u8], code: ErrorCode, out: &mut Vec<Output>) {
        out.push(Output::Send(hocuspocus::permission_denied(address, code.word())));
        if let State::Lonely { refusals, .. } = &mut self.state {
            *refusals += 1;
            if *refusals > self.settings.channels_max {
                self.close(ErrorCode::RateLimited, out);
            }
        }
    }

    fn close(&mut self, code: ErrorCode, out: &mut Vec<Output>) {
        self.finish(super::close(code), out);
    }

    fn reset(&mut self, code: ErrorCode, out: &mut Vec<Output>) {
        self.finish(Output::Close { code: CLOSE_RESET, reason: code.word() }, out);
    }

    fn finish(&mut self, close: Output, out: &mut Vec<Output>) {
        out.extend(self.table.open_ids().map(|channel| Output::Detach { channel }));
        out.push(close);
        self.table = Table::new(0);
        self.state = State::Over;
    }
}

#[cfg(test)]
mod tests;
