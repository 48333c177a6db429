//! What stands in a frame: the messages of both dialects, read in place and written in parts.

use anyhow::Context;
use anyhow::Result;
use syncline_protocol::wire::read_var_uint;

const SYNC: u64 = 0;
const AWARENESS: u64 = 1;
const AUTH: u64 = 2;
const CLOSE: u64 = 7;
const SYNC_STATUS: u64 = 8;

const STEP_1: u64 = 0;
const STEP_2: u64 = 1;
const UPDATE: u64 = 2;

/// How messages are put into frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// One document a socket, named by the path.
    YWebsocket,
    /// Every frame begins with the document's name; `Auth` comes first.
    Hocuspocus,
}

/// One message of a server, borrowed from the bytes that were read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Message<'a> {
    /// What the server has; it wants to hear what it lacks.
    SyncStep1(&'a [u8]),
    /// What we lacked: a Yjs update. The first one means that the document is there.
    SyncStep2(&'a [u8]),
    /// A change: a Yjs update.
    Update(&'a [u8]),
    /// Presence: `varUint n`, then n entries.
    Awareness(&'a [u8]),
    /// Hocuspocus: the oldest update that was not answered yet is taken (`true`), or refused.
    SyncStatus(bool),
    /// Hocuspocus: the token is good.
    Authenticated,
    /// Permission denied, or the document was closed.
    Refused(&'a [u8]),
    /// Anything else; it means nothing to a client that only measures.
    Other,
}

/// Reads the message in a frame. `address` is what frames begin with: empty, or the document's name as a varString.
///
/// # Errors
/// When the bytes end early or the address is another one.
#[inline]
pub(crate) fn read<'a>(payload: &'a [u8], address: &[u8]) -> Result<Message<'a>> {
    // A Hocuspocus ping has no address.
    if payload == [9] && !address.is_empty() {
        return Ok(Message::Other);
    }
    let mut bytes = payload.strip_prefix(address).context("a frame for another document")?;
    Ok(match var_uint(&mut bytes)? {
        SYNC => {
            let step = var_uint(&mut bytes)?;
            let body = var_bytes(&mut bytes)?;
            match step {
                STEP_1 => Message::SyncStep1(body),
                STEP_2 => Message::SyncStep2(body),
                UPDATE => Message::Update(body),
                _ => anyhow::bail!("sync step {step}"),
            }
        }
        AWARENESS => Message::Awareness(var_bytes(&mut bytes)?),
        AUTH => match (var_uint(&mut bytes)?, address.is_empty()) {
            (2, false) => Message::Authenticated,
            (0, true) | (1, false) => Message::Refused(bytes),
            _ => Message::Other,
        },
        CLOSE if !address.is_empty() => Message::Refused(bytes),
        SYNC_STATUS if !address.is_empty() => Message::SyncStatus(var_uint(&mut bytes)? == 1),
        _ => Message::Other,
    })
}

/// Reads a varUint off the front.
///
/// # Errors
/// When the bytes end early, or it is too long.
#[inline]
pub(crate) fn var_uint(bytes: &mut &[u8]) -> Result<u64> {
    let (value, length) = read_var_uint(bytes)?;
    *bytes = &bytes[length..];
    Ok(value)
}

/// Reads a varByteArray off the front.
///
/// # Errors
/// When the bytes end early.
#[inline]
pub(crate) fn var_bytes<'a>(bytes: &mut &'a [u8]) -> Result<&'a [u8]> {
    let length = var_uint(bytes)?;
    let length = usize::try_from(length).ok().filter(|length| *length <= bytes.len());
    let (body, rest) = bytes.split_at(length.context("a length points past the end")?);
    *bytes = rest;
    Ok(body)
}

/// Writes a varUint.
#[inline]
pub(crate) fn write_var_uint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Writes a varByteArray.
pub(crate) fn write_var_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    write_var_uint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// What a client says. The head goes before the body, which is a varByteArray.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Say<'a> {
    /// "This is what I have": a state vector.
    SyncStep1(&'a [u8]),
    /// "This is what you lack": a Yjs update.
    SyncStep2(&'a [u8]),
    /// A change: a Yjs update.
    Update(&'a [u8]),
    /// Presence: `varUint n`, then n entries.
    Awareness(&'a [u8]),
}

impl<'a> Say<'a> {
    /// Writes everything but the body, and gives the body.
    pub(crate) fn write_head(self, out: &mut Vec<u8>) -> &'a [u8] {
        let (head, body): (&[u8], _) = match self {
            Self::SyncStep1(vector) => (&[0, 0], vector),
            Self::SyncStep2(update) => (&[0, 1], update),
            Self::Update(update) => (&[0, 2], update),
            Self::Awareness(entries) => (&[1], entries),
        };
        out.extend_from_slice(head);
        write_var_uint(out, body.len() as u64);
        body
    }
}

/// The Hocuspocus message that opens a document: a token and the provider's version.
pub(crate) fn auth(address: &[u8], token: &str) -> Vec<u8> {
    let mut out = address.to_vec();
    out.extend_from_slice(&[AUTH as u8, 0]);
    write_var_bytes(&mut out, token.as_bytes());
    write_var_bytes(&mut out, b"4.8.0");
    out
}

/// What frames about `document` begin with.
pub(crate) fn address(dialect: Dialect, document: &str) -> Vec<u8> {
    let mut out = Vec::new();
    if dialect == Dialect::Hocuspocus {
        write_var_bytes(&mut out, document.as_bytes());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(say: Say<'_>, address: &[u8]) -> Vec<u8> {
        let mut out = address.to_vec();
        let body = say.write_head(&mut out);
        out.extend_from_slice(body);
        out
    }

    #[test]
    fn frames_captured_from_real_clients() {
        let d = address(Dialect::Hocuspocus, "d");
        assert_eq!(auth(&d, "t"), [1, 0x64, 2, 0, 1, 0x74, 5, 0x34, 0x2e, 0x38, 0x2e, 0x30]);
        assert_eq!(said(Say::SyncStep1(&[0]), &d), [1, 0x64, 0, 0, 1, 0]);
        assert_eq!(said(Say::SyncStep2(&[0, 0]), &[]), [0, 1, 2, 0, 0]);
        assert_eq!(said(Say::Awareness(&[1, 1, 0, 2, 0x7b, 0x7d]), &[]), [1, 6, 1, 1, 0, 2, 0x7b, 0x7d]);
    }

    #[test]
    fn what_servers_say_is_understood_in_both_dialects() {
        let d = address(Dialect::Hocuspocus, "d");
        let table: &[(&[u8], Message<'_>)] = &[
            (&[0, 0, 1, 0], Message::SyncStep1(&[0])),
            (&[0, 1, 2, 0, 0], Message::SyncStep2(&[0, 0])),
            (&[0, 2, 1, 7], Message::Update(&[7])),
            (&[1, 1, 0], Message::Awareness(&[0])),
            (&[3], Message::Other),
        ];
        for (bytes, message) in table {
            assert_eq!(read(bytes, &[]).unwrap(), *message);
            assert_eq!(read(&[&d, *bytes].concat(), &d).unwrap(), *message);
        }
        assert_eq!(read(&[1, 0x64, 8, 1], &d).unwrap(), Message::SyncStatus(true));
        assert_eq!(read(&[1, 0x64, 8, 0], &d).unwrap(), Message::SyncStatus(false));
        assert_eq!(read(&[1, 0x64, 2, 2, 1, 0x72], &d).unwrap(), Message::Authenticated);
        assert_eq!(read(&[1, 0x64, 2, 1, 1, 0x6e], &d).unwrap(), Message::Refused(&[1, 0x6e]));
        assert_eq!(read(&[1, 0x64, 7, 1, 0x6e], &d).unwrap(), Message::Refused(&[1, 0x6e]));
        assert_eq!(read(&[2, 0, 1, 0x6e], &[]).unwrap(), Message::Refused(&[1, 0x6e]));
        assert_eq!(read(&[9], &d).unwrap(), Message::Other);
    }

    #[test]
    fn what_is_cut_short_or_for_others_is_refused() {
        for bytes in [&[][..], &[0], &[0, 2], &[0, 2, 5, 1], &[0, 9, 0]] {
            assert!(read(bytes, &[]).is_err(), "{bytes:02x?}");
        }
        assert!(read(&[1, 0x65, 0, 0, 1, 0], &[1, 0x64]).is_err());
    }
}
