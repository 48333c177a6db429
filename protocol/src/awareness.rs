//! Awareness entries: who is present, as every Yjs client encodes it.

use bytes::Bytes;
use bytes::BytesMut;

use crate::limits::AWARENESS_ENTRIES_MAX;
use crate::limits::AWARENESS_STATE_BYTES_MAX;
use crate::limits::CLIENT_ID_MAX;
use crate::wire::ReadError;
use crate::wire::Reader;
use crate::wire::write_var_bytes;
use crate::wire::write_var_uint;

/// One client's presence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The Yjs client id.
    pub client: u64,
    /// Counts that client's changes of presence.
    pub clock: u64,
    /// JSON text, as it came; `None` where the client left (`null` on the wire).
    pub state: Option<Bytes>,
}

/// Reads `varUint n`, then `n` entries.
///
/// # Errors
/// [`ReadError`] when the bytes end early or trail, an id is out of range, a state is not UTF-8 or longer than
/// [`AWARENESS_STATE_BYTES_MAX`], or there are more entries than [`AWARENESS_ENTRIES_MAX`].
pub fn decode(bytes: Bytes) -> Result<Vec<Entry>, ReadError> {
    let mut reader = Reader::new(bytes);
    let count = reader.count()?;
    if count > AWARENESS_ENTRIES_MAX {
        return Err(ReadError::Range);
    }
    let mut entries = Vec::with_capacity(count.min(64));
    for _ in 0..count {
        entries.push(decode_entry(&mut reader)?);
    }
    if reader.is_empty() { Ok(entries) } else { Err(ReadError::Range) }
}

fn decode_entry(reader: &mut Reader) -> Result<Entry, ReadError> {
    let client = reader.var_uint()?;
    let clock = reader.var_uint()?;
    let state = reader.var_bytes()?;
    if client > CLIENT_ID_MAX || state.len() > AWARENESS_STATE_BYTES_MAX {
        return Err(ReadError::Range);
    }
    std::str::from_utf8(&state).map_err(|_| ReadError::Utf8)?;
    Ok(Entry { client, clock, state: (state.as_ref() != b"null").then_some(state) })
}

/// Encodes entries as [`decode`] reads them.
#[must_use]
pub fn encode<'a>(entries: impl ExactSizeIterator<Item = &'a Entry>) -> Bytes {
    let mut out = BytesMut::new();
    write_var_uint(&mut out, entries.len() as u64);
    for entry in entries {
        write_var_uint(&mut out, entry.client);
        write_var_uint(&mut out, entry.clock);
        write_var_bytes(&mut out, entry.state.as_deref().unwrap_or(b"null"));
    }
    out.freeze()
}
