//! What goes over the bus around a message: who says it, and its number, by which those who listen notice that they missed
//! something.
//!
//! ```text
//! 1 │ node: 8 bytes │ stint │ number │ body …
//! ```
//! A node numbers what it says on a topic from 1 on for as long as it listens there itself; when it stops and begins
//! again, a new stint begins. What a node says where it does not listen is stint 0, number 0: not counted.

use bytes::BufMut;
use bytes::Bytes;
use bytes::BytesMut;
use syncline_protocol::wire::Reader;
use syncline_protocol::wire::write_var_uint;

use super::NodeId;

/// Written and read. What has another one is passed over.
const VERSION: u8 = 1;
/// Everything before the body, at most.
const HEAD_BYTES_MAX: usize = 1 + 8 + 8 + 8;

/// One body. Redis hangs up on a subscriber for which more than 32 MiB wait, as it is configured from the start; two bodies
/// of this size still fit. More is not sent: whoever needs it finds it in the store, or asks for it in parts.
pub const BODY_BYTES_MAX: usize = 15 << 20;

/// The place of a message among those of its node on its topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Mark {
    /// Grows each time that the node begins to listen to the topic.
    pub stint: u64,
    /// From 1 on; 0 where messages are not counted.
    pub number: u64,
}

/// A message with what stands before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// Who says it.
    pub from: NodeId,
    /// Its place.
    pub mark: Mark,
    /// What is said.
    pub body: Bytes,
}

impl Envelope {
    /// What stands before the body.
    #[must_use]
    pub fn head(from: NodeId, mark: Mark) -> Bytes {
        let mut out = BytesMut::with_capacity(HEAD_BYTES_MAX);
        out.put_u8(VERSION);
        out.put_u64(from.0);
        write_var_uint(&mut out, mark.stint);
        write_var_uint(&mut out, mark.number);
        out.freeze()
    }

    /// Reads what came over the bus; `None` for anything that no node writes.
    #[must_use]
    pub fn decode(bytes: Bytes) -> Option<Self> {
        if bytes.len() > HEAD_BYTES_MAX + BODY_BYTES_MAX {
            return None;
        }
        let mut reader = Reader::new(bytes.clone());
        if reader.u8().ok()? != VERSION {
            return None;
        }
        let node = reader.take(8).ok()?;
        let from = NodeId(u64::from_be_bytes(node.as_ref().try_into().ok()?));
        let mark = Mark { stint: reader.var_uint().ok()?, number: reader.var_uint().ok()? };
        // Both or neither.
        if (mark.stint == 0) != (mark.number == 0) {
            return None;
        }
        Some(Self { from, mark, body: bytes.slice(reader.position()..) })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encode(from: u64, stint: u64, number: u64, body: &[u8]) -> Bytes {
        let head = Envelope::head(NodeId(from), Mark { stint, number });
        [&head, body].concat().into()
    }

    /// Nodes of other versions are told apart by these bytes.
    #[test]
    fn the_format_is_what_it_was() {
        let bytes = encode(0x0102_0304_0506_0708, 3, 300, b"hello");
        assert_eq!(bytes.as_ref(), b"\x01\x01\x02\x03\x04\x05\x06\x07\x08\x03\xac\x02hello");
        let mark = Mark { stint: 3, number: 300 };
        let body = Bytes::from_static(b"hello");
        assert_eq!(Envelope::decode(bytes), Some(Envelope { from: NodeId(0x0102_0304_0506_0708), mark, body }));
    }

    #[test]
    fn what_no_node_writes_is_not_read() {
        let good = encode(7, 1, 1, b"");
        assert!(Envelope::decode(good.clone()).is_some(), "an empty body is one");
        for end in 0..good.len() {
            assert_eq!(Envelope::decode(good.slice(..end)), None, "{end}");
        }
        let mut other_version = good.to_vec();
        other_version[0] = 2;
        for bytes in [other_version.into(), encode(7, 0, 1, b"x"), encode(7, 1, 0, b"x")] {
            assert_eq!(Envelope::decode(bytes), None);
        }
        assert!(Envelope::decode(encode(7, 0, 0, b"not counted")).is_some());
        assert!(Envelope::decode(encode(7, 1, 1, &vec![0; BODY_BYTES_MAX])).is_some());
        assert_eq!(Envelope::decode(encode(7, 1, 1, &vec![0; BODY_BYTES_MAX + HEAD_BYTES_MAX])), None);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            from: u64,
            stint in 1..1_u64 << 53,
            number in 1..1_u64 << 53,
            body: Vec<u8>,
        ) {
            let read = Envelope::decode(encode(from, stint, number, &body)).unwrap();
            prop_assert_eq!((read.from, read.mark), (NodeId(from), Mark { stint, number }));
            prop_assert_eq!(read.body, body);
        }

        #[test]
        fn noise_is_survived(mut bytes: Vec<u8>, like_ours: bool) {
            if let (true, Some(first)) = (like_ours, bytes.first_mut()) {
                *first = VERSION;
            }
            let _ = Envelope::decode(bytes.into());
        }
    }
}
