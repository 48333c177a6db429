//! What a connection does about its channels: what the session says is done, in order and to the end.

use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::Weak;

use syncline_protocol::ErrorCode;
use syncline_protocol::channel::Access;
use syncline_protocol::channel::ChannelId;
use syncline_protocol::channel::DocumentMessage;
use syncline_protocol::session::Grant;
use syncline_protocol::session::Input;
use syncline_protocol::session::Output;
use syncline_protocol::session::Peer;
use syncline_protocol::web_socket;
use syncline_protocol::web_socket::Opcode;

use crate::auth::watch::Alarm;
use crate::document::port::Language;
use crate::document::port::Line;
use crate::document::port::Port;
use crate::document::request::Refusal;
use crate::name::RoomName;
use crate::outbox::Closing;
use crate::outbox::Outbox;

use super::Sockets;
use super::admission::Entrant;
use super::connection::Connection;
use super::rights::Answer;
use super::seats::Seat;

impl Connection {
    pub(super) fn decide(&self, input: Input, outputs: &mut Vec<Output>) {
        self.lock_session().handle(self.now(), input, outputs);
    }

    /// Does what the session said, in its turn.
    pub(super) async fn act(&self, outputs: &mut Vec<Output>) {
        let _turn = self.turn.lock().await;
        self.finish(outputs).await;
    }

    /// Does what the session said and all that follows from it, in the turn that the caller has.
    pub(super) async fn finish(&self, outputs: &mut Vec<Output>) {
        loop {
            self.carry_out(outputs).await;
            for answer in self.questions.take() {
                self.learn(answer, outputs);
            }
            if outputs.is_empty() {
                return self.flush();
            }
        }
    }

    /// Does what the session said once, and leaves what follows from that. Messages to one document that follow each other
    /// go there together.
    async fn carry_out(&self, outputs: &mut Vec<Output>) {
        let mut failed = Vec::new();
        let mut said = outputs.drain(..).peekable();
        while let Some(output) = said.next() {
            match output {
                Output::Authenticate { channel, doc, token, .. } => {
                    Box::pin(self.questions.ask(&self.sockets, self.peer, channel, &doc, token)).await;
                }
                Output::Attach { channel, access, peer } => {
                    let attached = Box::pin(self.attach(channel, access, peer)).await;
                    failed.extend(attached.err().map(|refusal| (channel, refusal.code)));
                }
                Output::Document { channel, message } => {
                    let mut messages = vec![message];
                    while let Some(Output::Document { message, .. }) =
                        said.next_if(|next| matches!(next, Output::Document { channel: of, .. } if *of == channel))
                    {
                        messages.push(message);
                    }
                    let heard = self.say(channel, messages).await;
                    failed.extend(heard.err().map(|refusal| (channel, refusal.code)));
                }
                Output::Send(payload) => self.outbox.push_control(web_socket::frame(Opcode::Binary, &payload)),
                Output::Detach { channel } => self.seats.leave(channel),
                Output::Close { code, reason } => self.outbox.close(Closing { code, reason }),
            }
        }
        drop(said);
        for (channel, code) in failed {
            self.decide(Input::Ended { channel, code }, outputs);
        }
    }

    /// Joins the document, or changes the rights of a channel that has joined.
    async fn attach(&self, channel: ChannelId, access: Access, peer: Option<Peer>) -> Result<(), Refusal> {
        if let Some(seat) = self.seats.get(channel) {
            return seat.membership.set_access(access).await;
        }
        // A session attaches only who was let in; were that not so, nobody is let in.
        let no_entrant = || Refusal::new(ErrorCode::Internal, "nobody was let in here");
        let entrant = self.seats.entrant(channel).ok_or_else(no_entrant)?;
        let language = match peer {
            None => Language::YWebsocket,
            Some(Peer { address, provider }) => Language::Hocuspocus { address, provider },
        };
        let port = Port::Line(Line { outbox: self.outbox.clone(), channel, language });
        let Sockets { hub, feeds, .. } = &*self.sockets;
        let reader = hub.new_reader();
        let room = feeds.enter(&RoomName::from(&entrant.doc), reader.0);
        let room = room.map_err(|full| Refusal::new(ErrorCode::RoomFull, full.to_string()))?;
        let membership = hub.join_as(reader, &entrant.doc, access, Some(entrant.member()), port).await?;
        let watched = (!self.sockets.auth.is_dev()).then(|| {
            let alarm: Weak<Outbox> = Arc::downgrade(&self.outbox);
            self.sockets.auth.watch().enter(&entrant.identity, entrant.doc.as_str(), alarm, channel)
        });
        self.seats.take(channel, Seat::new(membership, room, entrant, watched));
        Ok(())
    }

    async fn say(&self, channel: ChannelId, messages: Vec<DocumentMessage>) -> Result<(), Refusal> {
        match self.seats.get(channel) {
            Some(seat) => seat.membership.say(messages).await,
            None => Ok(()),
        }
    }

    // ---- rights --------------------------------------------------------------------------------------------------

    /// Tells the session what was found out.
    fn learn(&self, answer: Answer, outputs: &mut Vec<Output>) {
        match answer {
            Answer::Verdict(channel, verdict) => match verdict.and_then(|who| self.count(&who).map(|()| who)) {
                Ok(who) => self.let_in(channel, who, outputs),
                Err(code) => {
                    self.sockets.metrics.refused(code);
                    self.decide(Input::Verdict { channel, verdict: Err(code) }, outputs);
                }
            },
            Answer::Rechecked(channel, who, access) => {
                // A token that came meanwhile was checked later than this.
                if self.seats.get(channel).is_some_and(|seat| Arc::ptr_eq(&seat.holder(), &who)) {
                    self.decide(
                        match access {
                            Ok(access) => Input::Renewed { channel, grant: Grant { access, ..who.grant() } },
                            Err(code) => Input::Revoked { channel, code },
                        },
                        outputs,
                    );
                }
            }
        }
    }

    fn let_in(&self, channel: ChannelId, who: Arc<Entrant>, outputs: &mut Vec<Output>) {
        let grant = who.grant();
        self.seats.enter(channel, who);
        let before = outputs.len();
        self.decide(Input::Verdict { channel, verdict: Ok(grant) }, outputs);
        let attaches = |output: &Output| matches!(output, Output::Attach { channel: of, .. } if *of == channel);
        if !outputs[before..].iter().any(attaches) && self.seats.get(channel).is_none() {
            self.seats.leave(channel); // The client has thought better of it.
        }
    }

    /// Counts the connection for its user.
    fn count(&self, who: &Entrant) -> Result<(), ErrorCode> {
        let mut guard = self.guard.lock().unwrap_or_else(PoisonError::into_inner);
        match guard.as_mut().filter(|_| !self.sockets.auth.is_dev()) {
            Some(guard) => guard.identify(&who.identity.sub),
            None => Ok(()),
        }
    }

    /// Looks rights up again.
    pub(super) async fn recheck(&self, channels: Vec<ChannelId>) {
        for channel in channels {
            if let Some(seat) = self.seats.get(channel) {
                self.questions.ask_again(&self.sockets, channel, seat.holder()).await;
            }
        }
    }

    pub(super) async fn tell_ended(&self, channels: Vec<(ChannelId, ErrorCode)>) {
        let _turn = self.turn.lock().await;
        let mut outputs = Vec::new();
        for (channel, code) in channels {
            self.decide(Input::Ended { channel, code }, &mut outputs);
        }
        self.finish(&mut outputs).await;
    }

    pub(super) async fn tell_drained(&self, channels: Vec<ChannelId>) {
        for channel in channels {
            let Some(seat) = self.seats.get(channel) else { continue };
            if let Err(refusal) = seat.membership.drained().await {
                self.outbox.end(channel, refusal.code);
            }
        }
    }
}

impl Alarm for Outbox {
    fn recheck(&self, channel: ChannelId) {
        Self::recheck(self, channel);
    }

    fn end(&self, channel: ChannelId, code: ErrorCode) {
        Self::end(self, channel, code);
    }
}
