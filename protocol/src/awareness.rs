//! Awareness entries: who is present, as every Yjs client encodes it.
//!
//! A frame may hold entries of many clients, several of one client, and none at all: clients relay what they heard. Which
//! of them are news is for the document's presence to decide, by their clocks.

use bytes::Bytes;
use bytes::BytesMut;
use serde::de::IgnoredAny;

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
    /// JSON text, as it came, valid and not `null`; `None` where the client left (`null` on the wire).
    pub state: Option<Bytes>,
}

/// Reads `varUint n`, then `n` entries.
///
/// # Errors
/// [`ReadError`] when the bytes end early or trail, an id is out of range, a state is not JSON or longer than
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
    check_json(&state)?;
    Ok(Entry { client, clock, state: (state.trim_ascii() != b"null").then_some(state) })
}

/// Refuses text that `JSON.parse` would: passed on, it would throw in every other client and take the rest of its frame
/// with it. `IgnoredAny` builds nothing and does not recurse.
fn check_json(state: &[u8]) -> Result<(), ReadError> {
    std::str::from_utf8(state).map_err(|_| ReadError::Utf8)?;
    serde_json::from_slice::<IgnoredAny>(state).map(drop).map_err(|_| ReadError::Json)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(client: u64, clock: u64, state: Option<&'static str>) -> Entry {
        Entry { client, clock, state: state.map(|text| Bytes::from_static(text.as_bytes())) }
    }

    /// One entry, of client 1 at clock 2.
    fn decode_state(state: &[u8]) -> Result<Option<Bytes>, ReadError> {
        let mut out = BytesMut::from([1, 1, 2].as_slice());
        write_var_bytes(&mut out, state);
        Ok(decode(out.freeze())?.remove(0).state)
    }

    #[test]
    fn a_client_may_appear_twice_and_order_is_kept() {
        let entries = [entry(7, 3, Some("{}")), entry(7, 2, None), entry(7, 3, Some("{}"))];
        assert_eq!(decode(encode(entries.iter())).as_deref(), Ok(entries.as_slice()));
    }

    #[test]
    fn a_state_is_json_or_refused() {
        let text = |text: &'static str| Ok(Some(Bytes::from_static(text.as_bytes())));
        assert_eq!(decode_state(b"null"), Ok(None));
        assert_eq!(decode_state(b" null\n"), Ok(None));
        assert_eq!(decode_state(b"{}"), text("{}"));
        assert_eq!(decode_state(br#""\ud800""#), text(r#""\ud800""#));
        assert_eq!(decode_state(b"1e999"), text("1e999"));
        for broken in [b"".as_slice(), b"{", b"{}x", b"nul", b"{'a':1}", b"[1,]", b"\xef\xbb\xbf{}"] {
            assert_eq!(decode_state(broken), Err(ReadError::Json), "{broken:02x?}");
        }
        assert_eq!(decode_state(b"\"\xff\""), Err(ReadError::Utf8));
    }

    #[test]
    fn a_state_has_a_bounded_length_and_any_depth() {
        let nested = |depth: usize| ["[".repeat(depth), "]".repeat(depth)].concat();
        assert!(decode_state(nested(AWARENESS_STATE_BYTES_MAX / 2).as_bytes()).is_ok());
        assert_eq!(decode_state(nested(AWARENESS_STATE_BYTES_MAX / 2 + 1).as_bytes()), Err(ReadError::Range));
    }

    #[test]
    fn a_count_is_believed_only_as_far_as_the_bytes_reach() {
        assert_eq!(decode(Bytes::from_static(&[0x80, 0x84, 0xaf, 0x5f])), Err(ReadError::End));
        assert_eq!(decode(vec![3; 2].into()), Err(ReadError::End));
        assert_eq!(decode(vec![0; 2].into()), Err(ReadError::Range));
    }
}
