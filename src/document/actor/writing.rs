//! What was queued for the readers of a document goes to their sockets.

use std::sync::Arc;

use tokio::runtime::Handle;

use crate::document::port::Port;
use crate::document::touched::Touched;
use crate::outbox::Outbox;
use crate::outbox::Written;

use super::Actor;

/// Readers that a document writes to by itself. More of them are shared out, where there are other cores to share with.
const READERS_INLINE: usize = 256;

impl Actor {
    /// Writes what this batch has queued, one call to the system for each socket.
    pub(super) fn write_touched(&mut self) {
        let now = self.around.clock.now().moment;
        let mut written = Written::default();
        match std::mem::take(&mut self.touched) {
            Touched::Some(readers) => {
                let ports = readers.into_iter().filter_map(|reader| self.core.port(reader));
                for outbox in ports.filter_map(Port::outbox) {
                    written += outbox.flush(now);
                }
            }
            Touched::All => {
                let workers = Handle::current().metrics().num_workers();
                if self.core.readers().len() > READERS_INLINE && workers > 1 {
                    return self.write_in_parallel();
                }
                for outbox in self.core.readers().filter_map(|(_, port)| port.outbox()) {
                    written += outbox.flush(now);
                }
            }
        }
        self.around.metrics.sent(written.frames, written.bytes);
    }

    /// A call to the system costs microseconds; a thousand of them belong to more than one core.
    fn write_in_parallel(&self) {
        let outboxes: Vec<Arc<Outbox>> = self.core.readers().filter_map(|(_, port)| port.outbox().cloned()).collect();
        for share in outboxes.chunks(READERS_INLINE / 2) {
            let (share, clock, metrics) = (share.to_vec(), self.around.clock, self.around.metrics.clone());
            tokio::spawn(async move {
                let now = clock.now().moment;
                let mut written = Written::default();
                share.iter().for_each(|outbox| written += outbox.flush(now));
                metrics.sent(written.frames, written.bytes);
            });
        }
    }
}
