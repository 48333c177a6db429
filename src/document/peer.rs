//! What the nodes that hold one document say to each other about it.
//!
//! ```text
//! 1 │ kind │ …
//! ```
//! Numbers are varUints, byte strings have their length before them, and what may be missing has a byte 0 or 1 before it.
//! A message of another version, or one that cannot be read, is passed over: what it brought is found missing later, and
//! asked for.

use std::sync::Arc;

use bytes::BufMut;
use bytes::Bytes;
use bytes::BytesMut;
use syncline_protocol::wire::ReadError;
use syncline_protocol::wire::Reader;
use syncline_protocol::wire::write_var_bytes;
use syncline_protocol::wire::write_var_uint;

use crate::bus::NodeId;
use crate::store::Epoch;
use crate::store::Record;
use crate::store::Seq;

use super::request::Member;

/// Written and read. Nodes of different versions pass each other's messages over, and meet in the store.
const VERSION: u8 = 1;

/// Something that one holder of a document says to the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PeerMessage {
    /// These records are durable: one append of the sender's.
    Records {
        /// The document's life.
        epoch: Epoch,
        /// The position of the first in a store that nodes share; the others follow without a gap.
        first: Seq,
        /// In order.
        records: Vec<Record>,
    },
    /// This is what I have.
    Digest(Digest),
    /// Send what I lack.
    Ask {
        /// The document's life.
        epoch: Epoch,
        /// Who is asked.
        whom: NodeId,
        /// An encoded state vector. Deletions are always sent whole.
        have: Bytes,
    },
    /// What somebody lacked; good for everybody.
    State {
        /// The document's life.
        epoch: Epoch,
        /// Yjs update v1.
        update: Bytes,
    },
    /// These clients are at the sender's.
    Here {
        /// Whether there are no others.
        all: bool,
        /// Each once.
        readers: Vec<PeerReader>,
    },
    /// These clients are there no more.
    Gone(Vec<u64>),
    /// What a client of the sender's says to all others.
    Stateless(Bytes),
    /// This life of the document is over.
    Deleted(Epoch),
    /// The sender holds the document no more.
    Bye,
}

/// What one holder of a document has, in short.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Digest {
    /// The document's life.
    pub epoch: Epoch,
    /// In a store that nodes share: everything up to here is in it.
    pub last: Seq,
    /// An encoded state vector.
    pub clocks: Bytes,
    /// A hash of what is deleted: two that have the same give the same.
    pub deleted: u64,
    /// A hash of the sender's clients: whoever knows others missed some.
    pub readers: u64,
    /// Whether the sender wants to hear what the others have: it has just loaded the document, or missed something.
    pub asks: bool,
}

/// A client of another node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerReader {
    /// Its number there.
    pub peer: u64,
    /// Who it is; not said again when only what it shows has changed.
    pub who: Option<PeerMember>,
    /// What it shows: encoded awareness entries, or nothing.
    pub entries: Bytes,
}

/// Who a client of another node is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerMember {
    /// When it came: milliseconds since 1970, UTC.
    pub since_ms: u64,
    /// Who signed in.
    pub member: Option<Member>,
}

impl PeerMessage {
    /// The bytes that go over the bus.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::from(&[VERSION][..]);
        match self {
            Self::Records { epoch, first, records } => {
                head(&mut out, 0, *epoch);
                write_var_uint(&mut out, first.0);
                write_var_uint(&mut out, records.len() as u64);
                records.iter().for_each(|record| write_record(&mut out, record));
            }
            Self::Digest(digest) => {
                head(&mut out, 1, digest.epoch);
                write_var_uint(&mut out, digest.last.0);
                write_var_bytes(&mut out, &digest.clocks);
                out.put_u64(digest.deleted);
                out.put_u64(digest.readers);
                out.put_u8(digest.asks.into());
            }
            Self::Ask { epoch, whom, have } => {
                head(&mut out, 2, *epoch);
                out.put_u64(whom.0);
                write_var_bytes(&mut out, have);
            }
            Self::State { epoch, update } => {
                head(&mut out, 3, *epoch);
                write_var_bytes(&mut out, update);
            }
            Self::Here { all, readers } => {
                out.put_slice(&[4, u8::from(*all)]);
                write_var_uint(&mut out, readers.len() as u64);
                readers.iter().for_each(|reader| write_reader(&mut out, reader));
            }
            Self::Gone(peers) => {
                out.put_u8(5);
                write_var_uint(&mut out, peers.len() as u64);
                peers.iter().for_each(|&peer| write_var_uint(&mut out, peer));
            }
            Self::Stateless(payload) => {
                out.put_u8(6);
                write_var_bytes(&mut out, payload);
            }
            Self::Deleted(epoch) => head(&mut out, 7, *epoch),
            Self::Bye => out.put_u8(8),
        }
        out.freeze()
    }

    /// Reads what came over the bus; `None` for anything that [`Self::encode`] does not write. Takes no more memory than a
    /// few times the message.
    #[must_use]
    pub fn decode(bytes: Bytes) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        let message = read(&mut reader).ok().flatten()?;
        reader.is_empty().then_some(message)
    }
}

fn head(out: &mut BytesMut, kind: u8, epoch: Epoch) {
    out.put_u8(kind);
    write_var_uint(out, epoch.0);
}

fn read(reader: &mut Reader) -> Result<Option<PeerMessage>, ReadError> {
    if reader.u8()? != VERSION {
        return Ok(None);
    }
    Ok(Some(match reader.u8()? {
        0 => PeerMessage::Records {
            epoch: Epoch(reader.var_uint()?),
            first: Seq(reader.var_uint()?),
            records: (0..reader.count()?).map(|_| read_record(reader)).collect::<Result<_, _>>()?,
        },
        1 => PeerMessage::Digest(Digest {
            epoch: Epoch(reader.var_uint()?),
            last: Seq(reader.var_uint()?),
            clocks: reader.var_bytes()?,
            deleted: read_u64(reader)?,
            readers: read_u64(reader)?,
            asks: reader.u8()? != 0,
        }),
        2 => PeerMessage::Ask {
            epoch: Epoch(reader.var_uint()?),
            whom: NodeId(read_u64(reader)?),
            have: reader.var_bytes()?,
        },
        3 => PeerMessage::State { epoch: Epoch(reader.var_uint()?), update: reader.var_bytes()? },
        4 => PeerMessage::Here {
            all: reader.u8()? != 0,
            readers: (0..reader.count()?).map(|_| read_reader(reader)).collect::<Result<_, _>>()?,
        },
        5 => PeerMessage::Gone((0..reader.count()?).map(|_| reader.var_uint()).collect::<Result<_, _>>()?),
        6 => PeerMessage::Stateless(reader.var_bytes()?),
        7 => PeerMessage::Deleted(Epoch(reader.var_uint()?)),
        8 => PeerMessage::Bye,
        _ => return Ok(None),
    }))
}

fn write_record(out: &mut BytesMut, record: &Record) {
    write_var_bytes(out, &record.update);
    write_text(out, record.user.as_deref());
    write_var_uint(out, record.at_ms);
    write_var_bytes(out, &record.sidecar);
}

fn read_record(reader: &mut Reader) -> Result<Record, ReadError> {
    let update = reader.var_bytes()?;
    let user = read_text(reader)?;
    Ok(Record { update, user, at_ms: reader.var_uint()?, sidecar: reader.var_bytes()? })
}

fn write_reader(out: &mut BytesMut, reader: &PeerReader) {
    write_var_uint(out, reader.peer);
    out.put_u8(reader.who.is_some().into());
    if let Some(PeerMember { since_ms, member }) = &reader.who {
        write_var_uint(out, *since_ms);
        out.put_u8(member.is_some().into());
        if let Some(member) = member {
            write_var_bytes(out, member.user.as_bytes());
            write_text(out, member.name.as_deref());
            write_text(out, member.email.as_deref());
        }
    }
    write_var_bytes(out, &reader.entries);
}

fn read_reader(reader: &mut Reader) -> Result<PeerReader, ReadError> {
    let peer = reader.var_uint()?;
    let who = if reader.u8()? == 0 { None } else { Some(read_member(reader)?) };
    Ok(PeerReader { peer, who, entries: reader.var_bytes()? })
}

fn read_member(reader: &mut Reader) -> Result<PeerMember, ReadError> {
    let since_ms = reader.var_uint()?;
    if reader.u8()? == 0 {
        return Ok(PeerMember { since_ms, member: None });
    }
    let user = reader.var_string()?.into();
    let member = Some(Member { user, name: read_text(reader)?, email: read_text(reader)? });
    Ok(PeerMember { since_ms, member })
}

fn write_text(out: &mut BytesMut, text: Option<&str>) {
    out.put_u8(text.is_some().into());
    if let Some(text) = text {
        write_var_bytes(out, text.as_bytes());
    }
}

fn read_text(reader: &mut Reader) -> Result<Option<Arc<str>>, ReadError> {
    if reader.u8()? == 0 { Ok(None) } else { Ok(Some(reader.var_string()?.into())) }
}

fn read_u64(reader: &mut Reader) -> Result<u64, ReadError> {
    let bytes = reader.take(8)?;
    Ok(bytes.iter().fold(0, |number, &byte| number << 8 | u64::from(byte)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bytes() -> impl Strategy<Value = Bytes> {
        prop::collection::vec(any::<u8>(), 0..20).prop_map(Bytes::from)
    }

    fn text() -> impl Strategy<Value = Option<Arc<str>>> {
        prop::option::of("\\PC{0,9}").prop_map(|text| text.map(Arc::from))
    }

    fn number() -> impl Strategy<Value = u64> {
        0..1_u64 << 53
    }

    fn member() -> impl Strategy<Value = Option<Member>> {
        let member = ("\\PC{0,9}", text(), text());
        prop::option::of(member.prop_map(|(user, name, email)| Member { user: user.into(), name, email }))
    }

    fn reader() -> impl Strategy<Value = PeerReader> {
        let who = prop::option::of((number(), member()).prop_map(|(since_ms, member)| PeerMember { since_ms, member }));
        (number(), who, bytes()).prop_map(|(peer, who, entries)| PeerReader { peer, who, entries })
    }

    fn record() -> impl Strategy<Value = Record> {
        let parts = (bytes(), text(), number(), bytes());
        parts.prop_map(|(update, user, at_ms, sidecar)| Record { update, user, at_ms, sidecar })
    }

    fn message() -> impl Strategy<Value = PeerMessage> {
        let epoch = || number().prop_map(Epoch);
        prop_oneof![
            (epoch(), number(), prop::collection::vec(record(), 0..4))
                .prop_map(|(epoch, first, records)| { PeerMessage::Records { epoch, first: Seq(first), records } }),
            (epoch(), number(), bytes(), any::<(u64, u64)>(), any::<bool>()).prop_map(
                |(epoch, last, clocks, (deleted, readers), asks)| {
                    PeerMessage::Digest(Digest { epoch, last: Seq(last), clocks, deleted, readers, asks })
                }
            ),
            (epoch(), any::<u64>(), bytes()).prop_map(|(epoch, whom, have)| PeerMessage::Ask {
                epoch,
                whom: NodeId(whom),
                have
            }),
            (epoch(), bytes()).prop_map(|(epoch, update)| PeerMessage::State { epoch, update }),
            (any::<bool>(), prop::collection::vec(reader(), 0..4))
                .prop_map(|(all, readers)| PeerMessage::Here { all, readers }),
            prop::collection::vec(number(), 0..4).prop_map(PeerMessage::Gone),
            bytes().prop_map(PeerMessage::Stateless),
            epoch().prop_map(PeerMessage::Deleted),
            Just(PeerMessage::Bye),
        ]
    }

    proptest! {
        #[test]
        fn messages_come_back(message in message()) {
            prop_assert_eq!(PeerMessage::decode(message.encode()), Some(message));
        }

        #[test]
        fn noise_never_panics(kind in 0_u8..10, noise in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = PeerMessage::decode([&[VERSION, kind], noise.as_slice()].concat().into());
        }

        #[test]
        fn what_is_cut_or_trailed_is_nothing(message in message(), cut in 1_usize..9) {
            let bytes = message.encode();
            let short = bytes.slice(..bytes.len().saturating_sub(cut));
            prop_assert_ne!(PeerMessage::decode(short), Some(message.clone()));
            let long = [bytes.as_ref(), &[0]].concat();
            prop_assert_eq!(PeerMessage::decode(long.into()), None);
        }
    }

    /// Golden: what one version wrote, every later version of the same number reads.
    #[test]
    fn the_bytes_of_version_1() {
        let record =
            Record { update: Bytes::from_static(&[7]), user: Some("u".into()), at_ms: 3, sidecar: Bytes::new() };
        let records = PeerMessage::Records { epoch: Epoch(1), first: Seq(2), records: vec![record] };
        assert_eq!(records.encode().as_ref(), [1, 0, 1, 2, 1, 1, 7, 1, 1, b'u', 3, 0]);
        assert_eq!(PeerMessage::Bye.encode().as_ref(), [1, 8]);
        assert_eq!(PeerMessage::decode(Bytes::from_static(&[2, 8])), None, "another version");
    }
}
