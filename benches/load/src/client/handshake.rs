//! From a TCP connection to a WebSocket: one request, one answer.

use std::net::SocketAddr;

use anyhow::Result;
use anyhow::ensure;

/// Longest answer to an upgrade. What is longer is a web page, not an upgrade.
const ANSWER_BYTES_MAX: usize = 16 * 1024;

/// Every client's key, and the server's answer to it (RFC 6455, section 1.3). The key guards caches, of which there are
/// none between two processes of one machine.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// The request for a WebSocket at `path`.
pub(crate) fn request(addr: SocketAddr, path: &str) -> Vec<u8> {
    format!(
        "GET {path} HTTP/1.1\r\nHost: {addr}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: {KEY}\r\n\r\n"
    )
    .into_bytes()
}

/// Length of the answer at the front of `bytes`; `None` while it is not whole.
///
/// # Errors
/// When it is not an upgrade to WebSocket.
pub(crate) fn answer(bytes: &[u8]) -> Result<Option<usize>> {
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
        ensure!(bytes.len() < ANSWER_BYTES_MAX, "the answer to an upgrade does not end");
        return Ok(None);
    };
    let head = String::from_utf8_lossy(&bytes[..end]);
    let accepted = head.lines().filter_map(|line| line.split_once(':'));
    let mut accepted = accepted.filter(|(name, _)| name.eq_ignore_ascii_case("sec-websocket-accept"));
    let is_upgrade = head.starts_with("HTTP/1.1 101 ") && accepted.any(|(_, value)| value.trim() == ACCEPT);
    ensure!(is_upgrade, "no upgrade: {head}");
    Ok(Some(end + 4))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upgrade_is_taken_whole_and_what_follows_is_left() {
        let bytes = format!("HTTP/1.1 101 Switching Protocols\r\nsec-websocket-accept: {ACCEPT}\r\n\r\nnext");
        assert_eq!(answer(bytes.as_bytes()).unwrap(), Some(bytes.len() - 4));
        assert_eq!(answer(&bytes.as_bytes()[..20]).unwrap(), None);
    }

    #[test]
    fn everything_else_is_refused() {
        for head in ["HTTP/1.1 401 Unauthorized", "HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: other"] {
            assert!(answer(format!("{head}\r\n\r\n").as_bytes()).is_err());
        }
        assert!(answer(&[b'x'; ANSWER_BYTES_MAX]).is_err());
    }
}
