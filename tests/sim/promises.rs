//! What is always true of a server: saved means saved, and no queue is over its bound.

use crate::server::Actor;
use crate::server::Go;
use crate::server::Server;
use crate::server::broken;
use crate::store::Cover;

impl Server {
    /// Somebody hears that this is saved: then it is, now and whatever comes.
    pub(crate) fn promise(&mut self, doc: usize, update: &[u8], how: &str) -> Go {
        self.promise_all(doc, &Cover::of(update), how)
    }

    pub(crate) fn promise_all(&mut self, doc: usize, cover: &Cover, how: &str) -> Go {
        if self.disk.is_deleted(doc) || self.disk.had(doc, cover) {
            return Ok(()); // It was saved, and then deleted; the document may have been created anew since.
        }
        if !self.disk.has(doc, cover) {
            return broken(format!("doc{doc}: {how} says saved, and the disk does not have it"));
        }
        self.promised[doc].merge(cover);
        Ok(())
    }

    pub(crate) fn check_bounds(&self, actor: &Actor) -> Go {
        if actor.core.waiting_len() > 256 {
            return broken("more updates wait than may");
        }
        if actor.inbox.len() > self.limits.inbox {
            return broken("the inbox is over its bound");
        }
        if actor.core.backlog_bytes() > 64 << 20 {
            return broken("the backlog of a failing store was not folded");
        }
        if actor.core.replica().is_some_and(|replica| replica.has_pending()) {
            return broken("the engine was given something that it cannot integrate");
        }
        Ok(())
    }

    /// What was promised is on disk.
    pub(crate) fn check_promises(&mut self) -> Go {
        for (doc, promised) in self.promised.iter().enumerate() {
            if !self.disk.is_deleted(doc) && !self.disk.has(doc, promised) {
                return broken(format!("doc{doc}: something that was called saved is gone"));
            }
        }
        Ok(())
    }
}
