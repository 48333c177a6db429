//! Whose client ids are whose.
//!
//! A Yjs client id is made at random for each copy of a document, so the user whose connection brings its first block is
//! its user, for good. Later blocks of it may come through somebody else's connection: another tab, a colleague's relay.

use std::collections::BTreeMap;
use std::sync::Arc;

/// Ids from here on are the server's own: many users write through one of them.
pub const SERVER_CLIENTS: u64 = 1 << 32;

/// Client id to user. Bounded as the state vector is: there is no entry without a block.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ledger {
    users: BTreeMap<u64, Arc<str>>,
}

impl Ledger {
    /// A block of `client` that begins at `clock` came through a connection of `user`.
    pub fn see(&mut self, client: u64, clock: u32, user: &Arc<str>) {
        if clock == 0 && client < SERVER_CLIENTS {
            self.users.entry(client).or_insert_with(|| user.clone());
        }
    }

    /// Whose it is, where that is known.
    #[must_use]
    pub fn user_of(&self, client: u64) -> Option<&Arc<str>> {
        self.users.get(&client)
    }

    pub(super) fn iter(&self) -> impl ExactSizeIterator<Item = (u64, &Arc<str>)> {
        self.users.iter().map(|(&client, user)| (client, user))
    }

    pub(super) fn insert(&mut self, client: u64, user: Arc<str>) {
        self.users.insert(client, user);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_block_binds_and_nothing_later_does() {
        let (alice, bob): (Arc<str>, Arc<str>) = ("alice".into(), "bob".into());
        let mut ledger = Ledger::default();
        ledger.see(7, 0, &alice);
        ledger.see(7, 0, &bob);
        ledger.see(8, 3, &bob);
        ledger.see(SERVER_CLIENTS, 0, &bob);
        assert_eq!(ledger.user_of(7), Some(&alice));
        assert_eq!((ledger.user_of(8), ledger.user_of(SERVER_CLIENTS)), (None, None));
    }
}
