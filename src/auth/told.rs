//! Taking rights back in steps: in force here, told to other nodes, written down; and doing what another node took back.
//!
//! Nodes that were away catch up: what is refused is a list, nodes compare a hash of it, and send it where it differs. What
//! has no place in the list happens once, on the nodes that hear of it.

use std::io;

use syncline_protocol::ErrorCode;
use tracing::warn;

use super::Auth;
use super::Mode;
use super::Revocation;
use super::jwt;
use super::revoked;
use super::revoked::Revoked;
use super::revoked::Unsaved;
use super::watch::Ring;
use super::watch::Whose;

/// A revocation as other nodes hear it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// This is refused from now on, and its channels end.
    Refused(Revoked),
    /// This user's rights are to be looked up again.
    Recheck(String),
    /// Everybody who is in this room.
    Room(String, Mode),
}

/// A revocation that is in force on this node and not yet written down.
#[derive(Debug)]
#[must_use = "a restart forgets what is not kept, and other nodes know nothing"]
pub struct TakenBack {
    /// For the other nodes.
    pub notice: Notice,
    reached: usize,
    unsaved: Option<Unsaved>,
}

impl Auth {
    /// Takes rights back, on this node, at once. [`Self::keep`] makes it last.
    pub fn take_back(&self, revocation: &Revocation) -> TakenBack {
        self.revocations.increment(1);
        let (whose, ring) = match revocation {
            Revocation::Token(jti) => (Whose::Token(jti), Ring::End(ErrorCode::AuthFailed)),
            Revocation::User(sub, mode) => (Whose::User(sub), mode.ring()),
            Revocation::Room(room, mode) => (Whose::Room(room), mode.ring()),
        };
        // Who looks after it was rung, or comes in after, has to find everything in place.
        let entry = self.entry(revocation);
        let unsaved = entry.clone().map(|entry| self.revoked.add(entry, self.clock.now().wall_ms));
        self.warn_of_forgetting(unsaved);
        let reached = self.ring(whose, ring);
        let notice = match (entry, revocation) {
            (Some(entry), _) => Notice::Refused(entry),
            (None, Revocation::Room(room, mode)) => Notice::Room(room.clone(), *mode),
            (None, Revocation::User(name, _) | Revocation::Token(name)) => Notice::Recheck(name.clone()),
        };
        TakenBack { notice, reached, unsaved }
    }

    /// Writes down what was taken back. Answers how many live channels were told.
    ///
    /// # Errors
    /// When the list of what is refused could not be written: it is in force, but a restart would forget it.
    pub async fn keep(&self, taken: TakenBack) -> io::Result<usize> {
        if let Some(unsaved) = taken.unsaved {
            self.revoked.save(unsaved).await?;
        }
        Ok(taken.reached)
    }

    /// Does what another node took back. `true` when something is to be written down, by [`Self::keep_told`]; what is in
    /// force already changes nothing.
    pub fn hear(&self, notice: &Notice) -> bool {
        match notice {
            Notice::Refused(entry) => return self.refuse_too(entry),
            Notice::Recheck(sub) => self.ring(Whose::User(sub), Ring::Recheck),
            Notice::Room(room, mode) => self.ring(Whose::Room(room), mode.ring()),
        };
        false
    }

    /// Writes down everything that other nodes took back.
    ///
    /// # Errors
    /// As [`Self::keep`].
    pub async fn keep_told(&self) -> io::Result<()> {
        self.revoked.save_all().await
    }

    /// What is refused and has not run out by then: milliseconds since 1970, UTC.
    #[must_use]
    pub fn refused(&self, at_ms: u64) -> Vec<Revoked> {
        self.revoked.in_force(at_ms)
    }

    /// A hash of that: nodes that refuse the same have the same, and 0 is nothing.
    #[must_use]
    pub fn refusal_fingerprint(&self, at_ms: u64) -> u64 {
        self.revoked.fingerprint(at_ms)
    }

    fn refuse_too(&self, entry: &Revoked) -> bool {
        let now = self.clock.now().wall_ms;
        let (whose, ring) = match entry {
            Revoked::Token { jti, .. } => (Whose::Token(jti), Ring::End(ErrorCode::AuthFailed)),
            Revoked::User { sub, .. } => (Whose::User(sub), Ring::End(ErrorCode::Forbidden)),
        };
        let unsaved = self.revoked.add_foreign(entry, now);
        if unsaved.is_some() {
            self.warn_of_forgetting(unsaved);
            self.ring(whose, ring);
        }
        unsaved.is_some()
    }

    fn ring(&self, whose: Whose<'_>, ring: Ring) -> usize {
        if let Some(callback) = &self.callback {
            callback.forget(whose);
        }
        self.watch.ring(whose, ring)
    }

    fn warn_of_forgetting(&self, unsaved: Option<Unsaved>) {
        if unsaved.is_some_and(|unsaved| unsaved.forgot) {
            self.revocations_forgotten.increment(1);
            warn!(event = "revocation_forgotten", kept = revoked::REVOKED_MAX);
        }
    }
}

impl Notice {
    /// Whether this is about something that can exist: what comes over the bus may name anything.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        match self {
            Self::Refused(Revoked::Token { jti, .. }) => (1..=jwt::CLAIM_BYTES_MAX).contains(&jti.len()),
            Self::Refused(Revoked::User { sub, .. }) | Self::Recheck(sub) => jwt::is_sound_sub(sub),
            Self::Room(room, _) => crate::name::RoomName::parse(room).is_ok(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(jti: &str, until_ms: u64) -> Revoked {
        Revoked::Token { jti: jti.into(), until_ms }
    }

    fn user(sub: &str, issued_until_ms: u64, until_ms: u64) -> Revoked {
        Revoked::User { sub: sub.into(), issued_until_ms, until_ms }
    }

    #[test]
    fn only_what_can_exist_is_done() {
        assert!(Notice::Refused(token("t", 1)).is_sound() && Notice::Refused(user("alice", 1, 1)).is_sound());
        assert!(Notice::Room("user:a".into(), Mode::Recheck).is_sound() && Notice::Recheck("a".into()).is_sound());
        for notice in [
            Notice::Refused(token("", 1)),
            Notice::Refused(token(&"x".repeat(1025), 1)),
            Notice::Refused(user("", 1, 1)),
            Notice::Recheck("a\n".into()),
            Notice::Room(String::new(), Mode::Disconnect),
        ] {
            assert!(!notice.is_sound(), "{notice:?}");
        }
    }
}
