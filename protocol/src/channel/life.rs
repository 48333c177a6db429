//! The life of a channel: who may it be, may it still be, must it end?

use std::time::Duration;

use super::Access;
use super::ChannelId;
use super::Grant;
use super::Held;
use super::Token;
use crate::ErrorCode;
use crate::Moment;

/// Where a channel stands in its life. It only ever moves down this list.
#[derive(Debug, Clone)]
pub enum Phase {
    /// Something was said on it, but not yet by whom.
    Waiting {
        /// What was said.
        held: Held,
        /// When the patience for an answer ends.
        until: Moment,
    },
    /// The token is being looked at.
    Asking {
        /// What was said meanwhile, and before.
        held: Held,
        /// A newer token, to be looked at next. It decides where the first was bad.
        next: Option<Token>,
        /// When the patience for an answer ends.
        until: Moment,
    },
    /// Not let in; kept waiting so that a client which redials at once is slowed down.
    Refused {
        /// Why.
        code: ErrorCode,
        /// When it has waited long enough.
        until: Moment,
    },
    /// Let in; its document knows it.
    Open(Opened),
    /// Over. Nothing follows.
    Closed,
}

/// What a channel has while it is open.
#[derive(Debug, Clone)]
pub struct Opened {
    grant: Grant,
    /// When the client must have begun to synchronise; `None` when it has, or need not.
    sync_by: Option<Moment>,
    request: Request,
    check: Option<Check>,
}

/// Whether the client is to be asked for a new token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Request {
    /// Not for this grant, or not again.
    Never,
    /// Then.
    At(Moment),
    /// It was; no answer yet.
    Sent,
}

/// A new token is being looked at.
#[derive(Debug, Clone)]
struct Check {
    /// Whether a good verdict is told to the client even where nothing changes: it came unasked, perhaps from another
    /// provider that took over the address and waits for an answer.
    announce: bool,
    /// A newer one, to be looked at next.
    next: Option<Token>,
}

/// What holds for every channel of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// How long a channel outlives its token, for a renewal to arrive.
    pub grace: Duration,
    /// How long before a token runs out the client is asked for another, at most; never more than a third of what is left
    /// of it. Zero for never.
    pub renew_before: Duration,
    /// How soon after it was let in a client must begin to synchronise; zero where it need not.
    pub sync_within: Duration,
}

/// What follows from a verdict on a token.
#[derive(Debug)]
pub enum Judgement {
    /// Nothing: nobody asked, or the verdict changes nothing, or a newer token decides.
    Nothing,
    /// Let in.
    Opened {
        /// With what access.
        access: Access,
        /// What was said before.
        held: Held,
    },
    /// Goes on under a new grant.
    Renewed {
        /// With what access.
        access: Access,
        /// Whether that is another access than before.
        changed: bool,
        /// Whether the client is to be told in any case.
        announce: bool,
    },
    /// Must end.
    Ends(ErrorCode),
}

/// What time demands of a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// Ask the client for a new token.
    Token,
    /// The client was let in and does not synchronise. It will not: it believes that it has.
    Sync,
    /// End it.
    End(ErrorCode),
}

/// One document on one connection.
#[derive(Debug, Clone)]
pub struct Channel {
    id: ChannelId,
    terms: Terms,
    phase: Phase,
}

impl Channel {
    /// Opens as the verdict says. A grant that ran out longer than `grace` ago is none; whoever is refused waits for `hold`.
    #[must_use]
    pub fn new(id: ChannelId, now: Moment, verdict: Result<Grant, ErrorCode>, grace: Duration, hold: Duration) -> Self {
        let terms = Terms { grace, renew_before: Duration::ZERO, sync_within: Duration::ZERO };
        let phase = match verdict.and_then(|grant| valid(grant, grace, now)) {
            Ok(grant) => Phase::Open(Opened::new(now, grant, &terms)),
            Err(code) => Phase::Refused { code, until: now.after(hold) },
        };
        Self { id, terms, phase }
    }

    /// Begins before anybody said who is asking.
    #[must_use]
    pub fn waiting(id: ChannelId, terms: Terms, until: Moment) -> Self {
        Self { id, terms, phase: Phase::Waiting { held: Held::default(), until } }
    }

    /// Its number on this connection.
    #[must_use]
    pub fn id(&self) -> ChannelId {
        self.id
    }

    /// Where it stands.
    #[must_use]
    pub fn phase(&self) -> &Phase {
        &self.phase
    }

    /// What it may do with its document, while it is open.
    #[must_use]
    pub fn access(&self) -> Option<Access> {
        if let Phase::Open(opened) = &self.phase { Some(opened.grant.access) } else { None }
    }

    /// What is held on it, while it is not open.
    pub fn held(&mut self) -> Option<&mut Held> {
        match &mut self.phase {
            Phase::Waiting { held, .. } | Phase::Asking { held, .. } => Some(held),
            Phase::Refused { .. } | Phase::Open(_) | Phase::Closed => None,
        }
    }

    // ---- time --------------------------------------------------------------------------------------------------------

    /// When it must end unless something changes.
    #[must_use]
    pub fn ends_at(&self) -> Option<Moment> {
        match &self.phase {
            Phase::Waiting { until, .. } | Phase::Asking { until, .. } | Phase::Refused { until, .. } => Some(*until),
            Phase::Open(opened) => opened.grant.expires_at.map(|expires_at| expires_at.after(self.terms.grace)),
            Phase::Closed => None,
        }
    }

    /// Why it must end now, if it must.
    #[must_use]
    pub fn overdue(&self, now: Moment) -> Option<ErrorCode> {
        self.ends_at().filter(|&end| end <= now)?;
        match self.phase {
            Phase::Refused { code, .. } => Some(code),
            Phase::Waiting { .. } | Phase::Open(_) => Some(ErrorCode::AuthExpired),
            Phase::Asking { .. } => Some(ErrorCode::Overloaded),
            Phase::Closed => None,
        }
    }

    /// When time demands something of it next.
    #[must_use]
    pub fn due_at(&self) -> Option<Moment> {
        let (request, sync_by) = match &self.phase {
            Phase::Open(Opened { request: Request::At(at), sync_by, .. }) => (Some(*at), *sync_by),
            Phase::Open(opened) => (None, opened.sync_by),
            _ => (None, None),
        };
        self.ends_at().into_iter().chain(request).chain(sync_by).min()
    }

    /// What time demands of it now. Asking for a token is demanded once.
    pub fn due(&mut self, now: Moment) -> Option<Due> {
        if let Some(code) = self.overdue(now) {
            return Some(Due::End(code));
        }
        let Phase::Open(opened) = &mut self.phase else { return None };
        if opened.sync_by.is_some_and(|at| at <= now) {
            return Some(Due::Sync);
        }
        let asks = matches!(opened.request, Request::At(at) if at <= now);
        asks.then(|| {
            opened.request = Request::Sent;
            Due::Token
        })
    }

    /// The client has begun to synchronise. Answers whether it was waited for.
    pub fn begun(&mut self) -> bool {
        if let Phase::Open(opened) = &mut self.phase { opened.sync_by.take().is_some() } else { false }
    }

    // ---- rights ------------------------------------------------------------------------------------------------------

    /// Takes a token: the token to be looked at now, unless another is. The newest waits for its turn then, and any other
    /// that waited is forgotten.
    #[must_use]
    pub fn present(&mut self, token: Token) -> Option<Token> {
        match &mut self.phase {
            Phase::Waiting { held, until } => {
                self.phase = Phase::Asking { held: std::mem::take(held), next: None, until: *until };
                Some(token)
            }
            Phase::Asking { next, .. } => {
                *next = Some(token);
                None
            }
            Phase::Open(opened) => opened.present(token),
            Phase::Refused { .. } | Phase::Closed => None,
        }
    }

    /// Takes the verdict on the token that is being looked at: what follows, and the token to be looked at next.
    #[must_use]
    pub fn judge(&mut self, now: Moment, verdict: Result<Grant, ErrorCode>) -> (Judgement, Option<Token>) {
        let verdict = verdict.and_then(|grant| valid(grant, self.terms.grace, now));
        match &mut self.phase {
            Phase::Asking { held, next, .. } => {
                let next = next.take();
                match verdict {
                    Ok(grant) => {
                        let held = std::mem::take(held);
                        let mut opened = Opened::new(now, grant, &self.terms);
                        let next = next.and_then(|token| opened.present(token));
                        self.phase = Phase::Open(opened);
                        (Judgement::Opened { access: grant.access, held }, next)
                    }
                    Err(_) if next.is_some() => (Judgement::Nothing, next),
                    Err(code) => (Judgement::Ends(code), None),
                }
            }
            Phase::Open(opened) => opened.judge(now, verdict, &self.terms),
            Phase::Waiting { .. } | Phase::Refused { .. } | Phase::Closed => (Judgement::Nothing, None),
        }
    }

    /// Takes a new grant in place of the old one: the new access, where it differs. Only an open channel has anything to
    /// renew.
    ///
    /// # Errors
    /// Why the channel must end instead: the grant ran out.
    pub fn renew(&mut self, now: Moment, grant: Grant) -> Result<Option<Access>, ErrorCode> {
        let Phase::Open(opened) = &mut self.phase else { return Ok(None) };
        let grant = valid(grant, self.terms.grace, now)?;
        Ok(opened.renew(now, grant, &self.terms).then_some(grant.access))
    }

    /// Ends it for its document; its client is kept waiting until then.
    pub fn refuse(&mut self, code: ErrorCode, until: Moment) {
        self.phase = Phase::Refused { code, until };
    }

    /// Ends it; gives the phase that this ended.
    pub fn close(&mut self) -> Phase {
        std::mem::replace(&mut self.phase, Phase::Closed)
    }
}

impl Opened {
    fn new(now: Moment, grant: Grant, terms: &Terms) -> Self {
        let sync_by = (!terms.sync_within.is_zero()).then(|| now.after(terms.sync_within));
        Self { grant, sync_by, request: Request::before_the_end(now, grant, terms), check: None }
    }

    fn present(&mut self, token: Token) -> Option<Token> {
        let unasked = self.request != Request::Sent;
        if !unasked {
            self.request = Request::Never;
        }
        match &mut self.check {
            Some(check) => {
                check.announce |= unasked;
                check.next = Some(token);
                None
            }
            None => {
                self.check = Some(Check { announce: unasked, next: None });
                Some(token)
            }
        }
    }

    /// A transient refusal leaves the old grant until it runs out: it says nothing of the user.
    fn judge(&mut self, now: Moment, verdict: Result<Grant, ErrorCode>, terms: &Terms) -> (Judgement, Option<Token>) {
        let Some(Check { announce, next }) = self.check.take() else { return (Judgement::Nothing, None) };
        if next.is_some() {
            self.check = Some(Check { announce: announce && verdict.is_err(), next: None });
        }
        let judgement = match verdict {
            Ok(grant) => {
                let changed = self.renew(now, grant, terms);
                Judgement::Renewed { access: grant.access, changed, announce }
            }
            Err(code) if next.is_none() && code.is_permanent() => Judgement::Ends(code),
            Err(_) => Judgement::Nothing,
        };
        (judgement, next)
    }

    /// Whether the access changed. A grant that runs out when the old one does is none to ask again for.
    fn renew(&mut self, now: Moment, grant: Grant, terms: &Terms) -> bool {
        if grant.expires_at != self.grant.expires_at {
            self.request = Request::before_the_end(now, grant, terms);
        }
        let changed = grant.access != self.grant.access;
        self.grant = grant;
        changed
    }
}

impl Request {
    fn before_the_end(now: Moment, grant: Grant, terms: &Terms) -> Self {
        match grant.expires_at {
            Some(expires_at) if !terms.renew_before.is_zero() => {
                let left = expires_at.since(now);
                Self::At(now.after(left - terms.renew_before.min(left / 3)))
            }
            _ => Self::Never,
        }
    }
}

fn valid(grant: Grant, grace: Duration, now: Moment) -> Result<Grant, ErrorCode> {
    let over = grant.expires_at.is_some_and(|expires_at| expires_at.after(grace) <= now);
    if over { Err(ErrorCode::AuthExpired) } else { Ok(grant) }
}
