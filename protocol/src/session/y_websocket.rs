//! A `y-websocket` connection: one channel, whose end is the connection's.

use bytes::Bytes;

use super::Input;
use super::Output;
use super::SessionSettings;
use super::keep_alive_at;
use crate::ErrorCode;
use crate::Moment;
use crate::channel::Channel;
use crate::channel::ChannelId;
use crate::channel::Grant;
use crate::channel::Phase;
use crate::y_websocket;
use crate::y_websocket::Message;

/// The channel of a connection that has only one.
const ONLY: ChannelId = ChannelId(0);

#[derive(Debug, Clone)]
pub(super) struct YWebsocket {
    settings: SessionSettings,
    channel: Channel,
}

impl YWebsocket {
    pub(super) fn begin(
        now: Moment,
        settings: SessionSettings,
        verdict: Result<Grant, ErrorCode>,
        out: &mut Vec<Output>,
    ) -> Self {
        let mut channel = Channel::new(ONLY, now, verdict, settings.grace, settings.hold);
        if let Some(access) = channel.access() {
            out.push(Output::Attach { channel: ONLY, access, peer: None });
        } else if let Phase::Refused { code, .. } = channel.phase() {
            out.push(Output::Send(y_websocket::permission_denied(code.word())));
        }
        if let Some(code) = channel.overdue(now) {
            close(&mut channel, code, out);
        }
        Self { settings, channel }
    }

    pub(super) fn handle(&mut self, now: Moment, input: Input, out: &mut Vec<Output>) {
        match self.channel.phase() {
            Phase::Refused { .. } => wait(&mut self.channel, now, out),
            Phase::Open(_) => open(&mut self.channel, &self.settings, now, input, out),
            // Nobody is asked on this connection: its verdict was there before it began.
            Phase::Waiting { .. } | Phase::Asking { .. } | Phase::Closed => {}
        }
    }

    pub(super) fn deadline(&self, last_sent: Moment) -> Option<Moment> {
        let is_open = self.channel.access().is_some();
        let keep_alive = is_open.then(|| keep_alive_at(self.settings.keep_alive, last_sent)).flatten();
        keep_alive.into_iter().chain(self.channel.ends_at()).min()
    }
}

/// A refused client is not listened to, whatever it says: it is closed when it has waited long enough.
fn wait(channel: &mut Channel, now: Moment, out: &mut Vec<Output>) {
    if let Some(code) = channel.overdue(now) {
        close(channel, code, out);
    }
}

fn open(channel: &mut Channel, settings: &SessionSettings, now: Moment, input: Input, out: &mut Vec<Output>) {
    match (input, channel.overdue(now)) {
        // News of the rights come before the clock: a renewal may be what saves the channel, and a reason to stay away
        // must not be reported as one to come back.
        (Input::Renewed { channel: id, grant }, _) if id == channel.id() => renew(channel, now, grant, out),
        (Input::Revoked { channel: id, code }, _) if id == channel.id() => close(channel, code, out),
        (Input::Ended { channel: id, code }, _) if id == channel.id() => end(channel, settings, now, code, out),
        (Input::Renewed { .. } | Input::Revoked { .. } | Input::Ended { .. } | Input::Verdict { .. }, _) => {}
        (_, Some(code)) => close(channel, code, out),
        (Input::Frame(frame), None) => hear(channel, frame, out),
        (Input::Text, None) => close(channel, ErrorCode::InvalidPayload, out),
        (Input::Tick { last_sent }, None) => keep_alive(settings, now, last_sent, out),
    }
}

/// Closed rather than demoted: a client that may no longer write cannot be told. It would go on writing and diverge without
/// noticing.
fn renew(channel: &mut Channel, now: Moment, grant: Grant, out: &mut Vec<Output>) {
    let before = channel.access();
    match channel.renew(now, grant) {
        Ok(None) => {}
        Ok(Some(access)) if Some(access) < before => close(channel, ErrorCode::Forbidden, out),
        Ok(Some(access)) => out.push(Output::Attach { channel: channel.id(), access, peer: None }),
        Err(code) => close(channel, code, out),
    }
}

fn keep_alive(settings: &SessionSettings, now: Moment, last_sent: Moment, out: &mut Vec<Output>) {
    if keep_alive_at(settings.keep_alive, last_sent).is_some_and(|due| due <= now) {
        out.push(Output::Send(y_websocket::KEEP_ALIVE.clone()));
    }
}

fn hear(channel: &mut Channel, frame: Bytes, out: &mut Vec<Output>) {
    let Ok(messages) = y_websocket::decode(frame) else {
        return close(channel, ErrorCode::InvalidPayload, out);
    };
    for message in messages {
        match message {
            Message::Document(message) => out.push(Output::Document { channel: channel.id(), message }),
            Message::Denied(_) | Message::Unknown(_) => {}
        }
    }
}

/// Before 3.1.0 a client dials again at once when a socket had opened, whatever the code, and brings the same again. It is told
/// now, and not listened to any more.
fn end(channel: &mut Channel, settings: &SessionSettings, now: Moment, code: ErrorCode, out: &mut Vec<Output>) {
    if !code.is_permanent() || settings.hold_ended.is_zero() {
        return close(channel, code, out);
    }
    out.push(Output::Detach { channel: channel.id() });
    out.push(Output::Send(y_websocket::permission_denied(code.word())));
    channel.refuse(code, now.after(settings.hold_ended));
}

fn close(channel: &mut Channel, code: ErrorCode, out: &mut Vec<Output>) {
    if let Phase::Open(_) = channel.close() {
        out.push(Output::Detach { channel: channel.id() });
    }
    out.push(super::close(code));
}

#[cfg(test)]
mod tests;
