//! Who may enter a document, and how long somebody who may not is made to wait.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::http::HeaderMap;
use axum::http::Uri;
use percent_encoding::percent_decode_str;
use syncline_protocol::ErrorCode;
use syncline_protocol::Moment;
use syncline_protocol::channel::Access;
use syncline_protocol::session::Grant;

use crate::auth::AuthError;
use crate::auth::Identity;
use crate::auth::Level;
use crate::document::request::Member;
use crate::http::caller::token;
use crate::limit::ConnectionGuard;
use crate::limit::address_key;
use crate::name::DocName;

use super::DOCUMENT_PREFIX;
use super::Sockets;

/// Somebody who was let into a document.
#[derive(Debug)]
pub(super) struct Entrant {
    pub(super) doc: DocName,
    /// Kept because the rights may be looked up again.
    pub(super) identity: Identity,
    pub(super) access: Access,
    /// On the monotonic clock as it was when the token was checked: looking again must not move it.
    pub(super) expires_at: Option<Moment>,
}

impl Entrant {
    pub(super) fn grant(&self) -> Grant {
        Grant { access: self.access, expires_at: self.expires_at }
    }

    pub(super) fn member(&self) -> Member {
        let Identity { sub, name, email, .. } = &self.identity;
        Member { user: sub.clone(), name: name.clone(), email: email.clone() }
    }
}

/// What was found out about somebody who wants a WebSocket.
pub(super) struct Admission {
    pub(super) peer: IpAddr,
    pub(super) wish: Wish,
    /// Counts the connection, if it may stay.
    pub(super) guard: Option<ConnectionGuard>,
}

/// What somebody wants.
pub(super) enum Wish {
    /// One document, named by the address.
    Document(Result<Arc<Entrant>, ErrorCode>),
    /// Any documents, named later.
    Documents(Result<(), ErrorCode>),
}

impl Wish {
    /// Why nobody listens to what this client says, if nobody does.
    pub(super) fn refusal(&self) -> Option<ErrorCode> {
        match self {
            Self::Document(verdict) => verdict.as_ref().err().copied(),
            Self::Documents(verdict) => verdict.err(),
        }
    }
}

impl Sockets {
    pub(super) async fn admit(&self, peer: IpAddr, uri: &Uri, headers: &HeaderMap) -> Admission {
        let mut guard = None;
        let wish = match uri.path().strip_prefix(DOCUMENT_PREFIX) {
            Some(_) => {
                let verdict = self.admit_to_document(peer, uri, headers).await;
                let (verdict, counted) = verdict.map_or_else(|code| (Err(code), None), |(who, guard)| (Ok(who), guard));
                guard = counted;
                Wish::Document(verdict.map(Arc::new))
            }
            None => Wish::Documents(self.admit_to_any(headers).map(|counted| guard = Some(counted))),
        };
        if let Some(code) = wish.refusal() {
            self.metrics.refused(code);
        }
        Admission { peer, wish, guard }
    }

    async fn admit_to_document(
        &self,
        peer: IpAddr,
        uri: &Uri,
        headers: &HeaderMap,
    ) -> Result<(Entrant, Option<ConnectionGuard>), ErrorCode> {
        let doc = document_of(uri).ok_or(ErrorCode::InvalidPayload)?;
        self.admit_page(headers)?;
        let token = token(headers, uri).map_err(|_| ErrorCode::InvalidPayload)?;
        let entrant = self.enter(peer, doc, token.as_deref()).await?;
        let user = (!self.auth.is_dev()).then_some(entrant.identity.sub.as_ref());
        let guard = self.connections.try_enter(user)?;
        Ok((entrant, Some(guard)))
    }

    /// Who it is, and where it wants to go, is said on the socket.
    fn admit_to_any(&self, headers: &HeaderMap) -> Result<ConnectionGuard, ErrorCode> {
        self.admit_page(headers)?;
        self.connections.try_enter(None)
    }

    /// Refuses a page elsewhere, in the browser of somebody who is let in.
    fn admit_page(&self, headers: &HeaderMap) -> Result<(), ErrorCode> {
        if self.origins.admit(headers) {
            return Ok(());
        }
        tracing::debug!(event = "connection_refused", code = ErrorCode::Forbidden.word(), reason = "origin");
        Err(ErrorCode::Forbidden)
    }

    /// Checks a token, and what it is good for.
    pub(super) async fn enter(&self, peer: IpAddr, doc: DocName, token: Option<&str>) -> Result<Entrant, ErrorCode> {
        let identity = self.identify(peer, token).await.map_err(|error| error.code)?;
        let access = self.access(&identity, &doc).await?;
        let expires_at = identity.expires_at_ms.map(|at| self.moment_of(at));
        Ok(Entrant { doc, identity, access, expires_at })
    }

    /// Who a token was made for. Failures are counted by address.
    ///
    /// # Errors
    /// As [`crate::auth::Auth::authenticate`]; `RATE_LIMITED` from an address that failed too often.
    pub async fn identify(&self, peer: IpAddr, token: Option<&str>) -> Result<Identity, AuthError> {
        let now = self.clock.now();
        let limiter = self.failed_connects.as_ref().filter(|_| !self.auth.is_dev());
        if limiter.is_some_and(|limiter| limiter.check(&address_key(peer), now.moment).is_err()) {
            let message = "too many failed attempts from this address; try again later".into();
            return Err(AuthError { code: ErrorCode::RateLimited, message });
        }
        self.auth.authenticate(token).await.inspect_err(|error| {
            if let Some(limiter) = limiter {
                let _ = limiter.take(&address_key(peer), now.moment); // This failure counts; whether it was one too many shows next time.
            }
            tracing::debug!(event = "connection_refused", code = error.code.word(), reason = %error.message);
        })
    }

    /// How long an address that failed too often is not listened to.
    pub fn failed_connects_wait(&self, peer: IpAddr) -> Option<Duration> {
        let limiter = self.failed_connects.as_ref().filter(|_| !self.auth.is_dev())?;
        limiter.check(&address_key(peer), self.clock.now().moment).err()
    }

    /// What somebody may do with a document right now.
    pub(super) async fn access(&self, identity: &Identity, doc: &DocName) -> Result<Access, ErrorCode> {
        let level = self.auth.authorize(identity, doc.as_str()).await.map_err(|error| {
            tracing::debug!(event = "connection_refused", code = error.code.word(), reason = %error.message);
            error.code
        })?;
        match level {
            Level::None => Err(ErrorCode::Forbidden),
            Level::Read => Ok(Access::Read),
            Level::Write | Level::Admin => Ok(Access::Write),
        }
    }

    /// A wall-clock time on the monotonic clock: later changes of the wall clock neither prolong nor cut a session.
    fn moment_of(&self, wall_ms: u64) -> Moment {
        let now = self.clock.now();
        now.moment.after(Duration::from_millis(wall_ms.saturating_sub(now.wall_ms)))
    }

    /// Takes one of the places in which refused sockets are held.
    pub(super) fn hold_place(self: &Arc<Self>) -> Option<HeldPlace> {
        let place = HeldPlace(self.clone());
        let held = self.held.fetch_add(1, Ordering::Relaxed);
        (held < self.limits.held_max).then_some(place) // Otherwise the place is given back as it is dropped.
    }
}

/// One of the places in which refused sockets are held.
pub(super) struct HeldPlace(Arc<Sockets>);

impl Drop for HeldPlace {
    fn drop(&mut self) {
        self.0.held.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What a connection on which nobody has proved anything yet has sent, and what waits of it. Counted together over all such
/// connections. Full: a connection that would need more is closed, and may come back.
pub(super) struct Unproved {
    sockets: Arc<Sockets>,
    bytes: usize,
}

impl Unproved {
    pub(super) fn new(sockets: Arc<Sockets>) -> Self {
        Self { sockets, bytes: 0 }
    }

    /// Counts what waits now. `false`: there is no room for it.
    pub(super) fn set(&mut self, bytes: usize) -> bool {
        let all = &self.sockets.unproved_bytes;
        all.fetch_sub(self.bytes, Ordering::Relaxed);
        let others = all.fetch_add(bytes, Ordering::Relaxed);
        self.bytes = bytes;
        others + bytes <= self.sockets.limits.unproved_bytes_max || bytes == 0
    }
}

impl Drop for Unproved {
    fn drop(&mut self) {
        self.sockets.unproved_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// The document that an address names: everything after the prefix, percent-decoded once.
fn document_of(uri: &Uri) -> Option<DocName> {
    let raw = uri.path().strip_prefix(DOCUMENT_PREFIX)?;
    let name = percent_decode_str(raw).decode_utf8().ok()?;
    DocName::parse(&name).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_is_named_by_its_address() {
        let named = |path: &str| document_of(&path.parse().unwrap()).map(|name| name.to_string());
        assert_eq!(named("/sync/a%20b/%C3%BC"), Some("a b/ü".into()));
        assert_eq!(named("/sync/table:T?token=x"), Some("table:T".into()));
        assert_eq!(named("/sync/a%252Fb"), Some("a%2Fb".into()), "decoded once");
        assert_eq!(named("/sync/a%2Fb"), Some("a/b".into()));
        assert_eq!(named("/sync/%ff"), None);
        assert_eq!(named("/sync/"), None);
        assert_eq!(named("/sync/user:bob"), None);
    }
}
