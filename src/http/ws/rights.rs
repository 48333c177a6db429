//! Questions about rights that are being asked for a connection. Their answers may take as long as the application that is
//! asked, so a task of their own waits for each that is not there at once, and the connection goes on.
//!
//! Bounded by the session: it asks once at a time for each of its channels.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::task::Poll;

use futures_util::poll;
use syncline_protocol::ErrorCode;
use syncline_protocol::channel::Access;
use syncline_protocol::channel::ChannelId;
use syncline_protocol::channel::Token;

use crate::name::DocName;
use crate::outbox::Outbox;

use super::Sockets;
use super::admission::Entrant;

/// What was found out.
pub(super) enum Answer {
    /// What a token is good for.
    Verdict(ChannelId, Result<Arc<Entrant>, ErrorCode>),
    /// What somebody may do now who was let in before.
    Rechecked(ChannelId, Arc<Entrant>, Result<Access, ErrorCode>),
}

/// The answers that a connection has not taken yet.
#[derive(Clone)]
pub(super) struct Questions {
    answers: Arc<Mutex<Vec<Answer>>>,
    outbox: Arc<Outbox>,
}

impl Questions {
    /// None yet. The task of the outbox's connection is woken for every answer.
    pub(super) fn new(outbox: Arc<Outbox>) -> Self {
        Self { answers: Arc::default(), outbox }
    }

    /// Whether [`Self::take`] has something to give.
    pub(super) fn has_answers(&self) -> bool {
        !self.answers.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// The answers that have come since the last time, in the order in which they came.
    pub(super) fn take(&self) -> Vec<Answer> {
        std::mem::take(&mut *self.answers.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Asks what a token is good for.
    pub(super) async fn ask(&self, sockets: &Arc<Sockets>, peer: IpAddr, channel: ChannelId, doc: &str, token: Token) {
        let Ok(doc) = DocName::parse(doc) else {
            return self.answer(Answer::Verdict(channel, Err(ErrorCode::InvalidPayload)));
        };
        let asked = sockets.clone();
        let verdict = async move {
            let token = Some(token.secret()).filter(|secret| !secret.is_empty());
            Answer::Verdict(channel, asked.enter(peer, doc, token).await.map(Arc::new))
        };
        self.wait(sockets, verdict).await;
    }

    /// Asks what somebody may do now.
    pub(super) async fn ask_again(&self, sockets: &Arc<Sockets>, channel: ChannelId, who: Arc<Entrant>) {
        let asked = sockets.clone();
        let rechecked = async move {
            let access = asked.access(&who.identity, &who.doc).await;
            Answer::Rechecked(channel, who, access)
        };
        self.wait(sockets, rechecked).await;
    }

    async fn wait(&self, sockets: &Sockets, answer: impl Future<Output = Answer> + Send + 'static) {
        let mut answer = Box::pin(answer);
        if let Poll::Ready(answer) = poll!(&mut answer) {
            return self.answer(answer);
        }
        let questions = self.clone();
        sockets.tasks.spawn(async move { questions.answer(answer.await) });
    }

    fn answer(&self, answer: Answer) {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner).push(answer);
        self.outbox.nudge();
    }
}
