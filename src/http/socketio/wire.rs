//! The way to one client: packets go at once while there is room, and wait otherwise.

use std::collections::VecDeque;
use std::sync::Arc;

use engineioxide::Str;
use serde_json::Value;
use syncline_protocol::socket_io;

use super::Socket;
use crate::metrics::Metrics;

/// Places that are left free for the transport's own pings: without one, it takes its client for dead.
const HEADROOM: usize = 4;

/// What is on its way to one client.
pub(super) struct Wire {
    socket: Arc<Socket>,
    metrics: Arc<Metrics>,
    /// Does not fit now. Whoever adds to it looks at [`Self::is_clear`] first, so this is what one step makes.
    pending: VecDeque<Str>,
}

impl Wire {
    pub(super) fn new(socket: Arc<Socket>, metrics: Arc<Metrics>) -> Self {
        Self { socket, metrics, pending: VecDeque::new() }
    }

    pub(super) fn socket(&self) -> &Socket {
        &self.socket
    }

    /// Whether nothing waits.
    pub(super) fn is_clear(&self) -> bool {
        self.pending.is_empty()
    }

    /// Sends a packet, after all that wait.
    pub(super) fn send(&mut self, packet: impl Into<Str>) {
        let packet = packet.into();
        if !self.is_clear() || !self.fits(&packet) {
            self.pending.push_back(packet);
        }
    }

    /// Tells one client alone.
    pub(super) fn tell(&mut self, event: &str, payload: &Value) {
        self.send(socket_io::event(None, event, &payload.to_string()));
    }

    /// Sends what waits, as far as there is room. Whether all of it went.
    pub(super) fn flush(&mut self) -> bool {
        while let Some(packet) = self.pending.front() {
            if !self.fits(packet) {
                return false;
            }
            self.pending.pop_front();
        }
        true
    }

    /// Sends it if there is room. To a closed socket there always is.
    fn fits(&self, packet: &Str) -> bool {
        let mut free = Vec::with_capacity(HEADROOM);
        for _ in 0..HEADROOM {
            match self.socket.reserve() {
                Ok(place) => free.push(place),
                Err(_) => return self.socket.is_closed(),
            }
        }
        match self.socket.reserve() {
            Ok(place) => {
                self.metrics.sent(1, packet.len() as u64);
                place.emit(packet.clone());
                true
            }
            Err(_) => self.socket.is_closed(),
        }
    }
}
