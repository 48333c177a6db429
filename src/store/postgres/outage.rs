//! Whether the database is there, as the task that writes knows it: said once when it goes and once when it is back.

use std::time::Duration;

use tokio::sync::watch;

use crate::store::postgres::address::Address;
use crate::store::postgres::link::Manners;
use crate::store::postgres::link::Open;
use crate::store::postgres::link::Trouble;

/// The first try to come back is soon: a restarted server is there within the second.
const FIRST: Duration = Duration::from_millis(50);
/// Later ones are so far apart at most, which is about how long the database is back before it is noticed.
const LAST: Duration = Duration::from_secs(2);

/// What is wrong, where something is.
#[derive(Debug)]
pub(super) struct Outage(watch::Sender<Standing>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Standing {
    Well,
    /// It answers, but does not write.
    Refusing,
    Away(String),
}

impl Outage {
    pub(super) fn none() -> Self {
        Self(watch::Sender::new(Standing::Well))
    }

    /// The connection is gone.
    pub(super) fn began(&self, address: &str, why: &str) {
        let before = self.0.send_replace(Standing::Away(why.to_owned()));
        if before == Standing::Well {
            tracing::error!(event = "store_lost", address, error = why, "the database cannot be reached");
        }
    }

    /// It refuses to write.
    pub(super) fn refusing(&self, why: &str) {
        if self.0.send_replace(Standing::Refusing) == Standing::Well {
            tracing::error!(event = "store_lost", error = why, "the database does not write");
        }
    }

    /// It works.
    pub(super) fn over(&self) {
        let changed = self.0.send_if_modified(|standing| std::mem::replace(standing, Standing::Well) != Standing::Well);
        if changed {
            tracing::info!(event = "store_back", "the database is there again");
        }
    }

    /// Waits until there is no connection; at once where there is none.
    pub(super) async fn begins(&self) -> Trouble {
        let mut standing = self.0.subscribe();
        // The sender is in `self`, so this ends only with an outage.
        let away = standing.wait_for(|standing| matches!(standing, Standing::Away(_))).await;
        match away.as_deref() {
            Ok(Standing::Away(why)) => Trouble::Lost(why.clone()),
            _ => Trouble::Lost("the store is closed".to_owned()),
        }
    }

    /// Tries until there is a connection again, further and further apart, and not all nodes at the same moment.
    pub(super) async fn until_back(&self, address: &Address, manners: Manners) -> Open {
        let mut wait = FIRST;
        loop {
            tokio::time::sleep(wait.mul_f64(rand::random_range(0.5..1.0))).await;
            match Open::to(address, manners).await {
                Ok(open) => return open,
                Err(trouble) => tracing::debug!(event = "store_still_lost", error = trouble.why()),
            }
            wait = LAST.min(wait * 2);
        }
    }
}
