//! One document on one connection: what is said on it, and how far its rights reach.
//!
//! A [`Channel`] knows no dialect. It says *that* it must end and why; its session says so in the client's language.

use std::time::Duration;

use bytes::Bytes;

use crate::ErrorCode;
use crate::Moment;
use crate::awareness::Entry;

/// A connection's own number for one of its documents. The `y-websocket` dialect has exactly one, number 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChannelId(pub u32);

/// What a holder may do with a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Access {
    /// See everything, be present, write nothing.
    Read,
    /// See and write.
    Write,
}

/// What a client tells a document, whatever its dialect. All bytes are slices of the frame they came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DocumentMessage {
    /// "This is what I have": an encoded state vector. Answered with a step 2.
    SyncStep1(Bytes),
    /// "This is what you lack": an update in answer to our step 1. Acknowledged like [`Self::Update`].
    SyncStep2(Bytes),
    /// A change, as Yjs update v1. Acknowledged once, when durable.
    Update(Bytes),
    /// Presence of one or more client ids.
    Awareness(Vec<Entry>),
    /// "Who is here?" Answered with every known presence.
    QueryAwareness,
}

/// What a document tells a client; each dialect has its own encoding of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServerMessage {
    /// Our encoded state vector; without it a client's offline edits would never arrive.
    SyncStep1(Bytes),
    /// The answer to a client's step 1: an update v1.
    SyncStep2(Bytes),
    /// A change, as update v1.
    Update(Bytes),
    /// Encoded awareness entries (`varUint n`, then `n` entries); `00` is the keep-alive.
    Awareness(Bytes),
}

/// What somebody was allowed, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grant {
    /// How much.
    pub access: Access,
    /// When it runs out; `None` for never.
    pub expires_at: Option<Moment>,
}

/// Where a channel stands in its life. It only ever moves down this list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Not let in; kept waiting so that a client which redials at once is slowed down.
    Refused {
        /// Why.
        code: ErrorCode,
        /// When it has waited long enough.
        until: Moment,
    },
    /// Let in; its document knows it.
    Open(Grant),
    /// Over. Nothing follows.
    Closed,
}

/// One document on one connection.
#[derive(Debug, Clone)]
pub struct Channel {
    id: ChannelId,
    grace: Duration,
    phase: Phase,
}

impl Channel {
    /// Opens as the verdict says. A grant that ran out longer than `grace` ago is none; whoever is refused waits for `hold`.
    #[must_use]
    pub fn new(id: ChannelId, now: Moment, verdict: Result<Grant, ErrorCode>, grace: Duration, hold: Duration) -> Self {
        let phase = match verdict.and_then(|grant| valid(grant, grace, now)) {
            Ok(grant) => Phase::Open(grant),
            Err(code) => Phase::Refused { code, until: now.after(hold) },
        };
        Self { id, grace, phase }
    }

    /// Its number on this connection.
    #[must_use]
    pub fn id(&self) -> ChannelId {
        self.id
    }

    /// Where it stands.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// When it must end unless something changes.
    #[must_use]
    pub fn ends_at(&self) -> Option<Moment> {
        match self.phase {
            Phase::Refused { until, .. } => Some(until),
            Phase::Open(grant) => grant.expires_at.map(|expires_at| expires_at.after(self.grace)),
            Phase::Closed => None,
        }
    }

    /// Why it must end now, if it must.
    #[must_use]
    pub fn overdue(&self, now: Moment) -> Option<ErrorCode> {
        self.ends_at().filter(|&end| end <= now)?;
        match self.phase {
            Phase::Refused { code, .. } => Some(code),
            Phase::Open(_) => Some(ErrorCode::AuthExpired),
            Phase::Closed => None,
        }
    }

    /// Takes a new grant in place of the old one: the new access, where it differs. Only an open channel has anything to
    /// renew.
    ///
    /// # Errors
    /// Why the channel must end instead: the grant ran out, or it takes the right to write away. A client cannot be told
    /// the latter; it would go on writing and diverge without noticing.
    pub fn renew(&mut self, now: Moment, grant: Grant) -> Result<Option<Access>, ErrorCode> {
        let Phase::Open(old) = self.phase else { return Ok(None) };
        let grant = valid(grant, self.grace, now)?;
        if grant.access < old.access {
            return Err(ErrorCode::Forbidden);
        }
        self.phase = Phase::Open(grant);
        Ok((grant.access != old.access).then_some(grant.access))
    }

    /// Ends it; gives the phase that this ended.
    pub fn close(&mut self) -> Phase {
        std::mem::replace(&mut self.phase, Phase::Closed)
    }
}

fn valid(grant: Grant, grace: Duration, now: Moment) -> Result<Grant, ErrorCode> {
    let over = grant.expires_at.is_some_and(|expires_at| expires_at.after(grace) <= now);
    if over { Err(ErrorCode::AuthExpired) } else { Ok(grant) }
}
