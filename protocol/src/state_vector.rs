//! How much of each client's history somebody has.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::hash::Hasher;

use bytes::Bytes;
use bytes::BytesMut;

use crate::limits::CLIENT_ID_MAX;
use crate::limits::CLOCK_MAX;
use crate::limits::STATE_VECTOR_CLIENTS_MAX;
use crate::wire::ReadError;
use crate::wire::Reader;
use crate::wire::write_var_uint;

/// Spreads client ids over hash buckets. They are chosen by clients, so a fixed odd multiplier is mixed with the high bits;
/// the number of ids is bounded wherever a map of them is kept.
#[derive(Debug, Default, Clone, Copy)]
pub struct ClientHasher(u64);

impl Hasher for ClientHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(self.0 ^ u64::from(byte));
        }
    }

    fn write_u64(&mut self, value: u64) {
        let mixed = value.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = mixed ^ (mixed >> 32);
    }
}

/// A map keyed by client id.
pub type ClientMap<T> = HashMap<u64, T, BuildHasherDefault<ClientHasher>>;

/// Next expected clock of each client: everything below it is there.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StateVector {
    clocks: ClientMap<u32>,
}

impl StateVector {
    /// The next clock of `client`; 0 for one never heard of.
    #[must_use]
    pub fn clock(&self, client: u64) -> u32 {
        self.clocks.get(&client).copied().unwrap_or(0)
    }

    /// Raises the clock of `client`; never lowers it.
    pub fn advance(&mut self, client: u64, clock: u32) {
        if clock > 0 {
            let known = self.clocks.entry(client).or_insert(0);
            *known = (*known).max(clock);
        }
    }

    /// Lowers the clock of `client` to at most `clock`: "assume that no more than this was received".
    pub fn lower(&mut self, client: u64, clock: u32) {
        if clock == 0 {
            self.clocks.remove(&client);
        } else if let Some(known) = self.clocks.get_mut(&client) {
            *known = (*known).min(clock);
        }
    }

    /// Lowers every clock to what `other` has too.
    pub fn meet(&mut self, other: &Self) {
        self.clocks.retain(|client, clock| {
            *clock = (*clock).min(other.clock(*client));
            *clock > 0
        });
    }

    /// Number of clients.
    #[must_use]
    pub fn len(&self) -> usize {
        self.clocks.len()
    }

    /// Whether nothing was ever received.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.clocks.is_empty()
    }

    /// Every client with its next clock, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (u64, u32)> + '_ {
        self.clocks.iter().map(|(&client, &clock)| (client, clock))
    }

    /// Whether everything in `other` is here too. Says nothing of deletions.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        other.iter().all(|(client, clock)| self.clock(client) >= clock)
    }

    /// Reads an encoded state vector: `varUint n`, then `n` pairs of client id and clock.
    ///
    /// # Errors
    /// [`ReadError`] when the bytes end early or trail, an id or a clock is out of range, or there are more clients
    /// than [`STATE_VECTOR_CLIENTS_MAX`].
    pub fn decode(bytes: Bytes) -> Result<Self, ReadError> {
        let mut reader = Reader::new(bytes);
        let count = reader.count()?;
        if count > STATE_VECTOR_CLIENTS_MAX {
            return Err(ReadError::Range);
        }
        let mut vector = Self::default();
        for _ in 0..count {
            let client = reader.var_uint()?;
            let clock = u32::try_from(reader.var_uint()?).map_err(|_| ReadError::Range)?;
            if client > CLIENT_ID_MAX || clock > CLOCK_MAX {
                return Err(ReadError::Range);
            }
            vector.advance(client, clock);
        }
        if reader.is_empty() { Ok(vector) } else { Err(ReadError::Range) }
    }

    /// Encodes with higher client ids first, as Yjs does.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut pairs: Vec<_> = self.iter().collect();
        pairs.sort_unstable_by(|a, b| b.cmp(a));
        let mut out = BytesMut::with_capacity(4 + pairs.len() * 10);
        write_var_uint(&mut out, pairs.len() as u64);
        for (client, clock) in pairs {
            write_var_uint(&mut out, client);
            write_var_uint(&mut out, u64::from(clock));
        }
        out.freeze()
    }
}

impl FromIterator<(u64, u32)> for StateVector {
    fn from_iter<T: IntoIterator<Item = (u64, u32)>>(pairs: T) -> Self {
        let mut vector = Self::default();
        for (client, clock) in pairs {
            vector.advance(client, clock);
        }
        vector
    }
}
