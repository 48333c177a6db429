//! What a revocation says to a client: which of its rooms to look at again, and which end.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::PoisonError;

use syncline_protocol::ErrorCode;
use syncline_protocol::channel::ChannelId;
use tokio::sync::Notify;

use crate::auth::watch::Alarm;

/// Rung by revocations.
#[derive(Default)]
pub(super) struct Bell {
    /// By room; `None`: look again. As many as the client has rooms.
    rung: Mutex<BTreeMap<u32, Option<ErrorCode>>>,
    notify: Notify,
}

impl Bell {
    fn ring(&self, channel: ChannelId, code: Option<ErrorCode>) {
        let mut rung = self.rung.lock().unwrap_or_else(PoisonError::into_inner);
        let known = rung.entry(channel.0).or_default();
        // An end stays an end.
        *known = known.or(code);
        drop(rung);
        self.notify.notify_one();
    }

    /// Waits until it is rung.
    pub(super) async fn rung(&self) -> BTreeMap<u32, Option<ErrorCode>> {
        loop {
            let rung = std::mem::take(&mut *self.rung.lock().unwrap_or_else(PoisonError::into_inner));
            if !rung.is_empty() {
                return rung;
            }
            self.notify.notified().await;
        }
    }
}

impl Alarm for Bell {
    fn recheck(&self, channel: ChannelId) {
        self.ring(channel, None);
    }

    fn end(&self, channel: ChannelId, code: ErrorCode) {
        self.ring(channel, Some(code));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_end_is_not_lost_behind_a_second_look() {
        let bell = Bell::default();
        bell.end(ChannelId(1), ErrorCode::Forbidden);
        bell.recheck(ChannelId(1));
        bell.recheck(ChannelId(2));
        assert_eq!(bell.rung().await, BTreeMap::from([(1, Some(ErrorCode::Forbidden)), (2, None)]));
    }
}
