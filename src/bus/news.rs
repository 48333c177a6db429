//! What nodes say to all nodes.

use bytes::BufMut;
use bytes::Bytes;
use bytes::BytesMut;
use syncline_protocol::wire::Reader;
use syncline_protocol::wire::write_var_bytes;
use syncline_protocol::wire::write_var_uint;

use crate::auth::Mode;
use crate::auth::revoked::Revoked;
use crate::auth::told::Notice;
use crate::name::DocName;

const VERSION: u8 = 1;
/// What a node calls its version, at most.
const VERSION_BYTES_MAX: usize = 64;
/// Revocations in one message: at most some hundred kilobytes.
pub const REFUSED_MAX: usize = 256;

/// Something for all nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// About one document, also for those who do not hold it now: where each node keeps its own copy.
    Doc {
        /// Which one.
        name: DocName,
        /// What holders of it say to each other.
        message: Bytes,
    },
    /// The sender lives.
    Alive(Alive),
    /// The sender ends.
    Goodbye,
    /// Rights were taken back on the sender.
    Revoked(Notice),
    /// A part of what the sender refuses: at most [`REFUSED_MAX`] entries.
    Refused(Vec<Revoked>),
}

/// What a node says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alive {
    /// Whether the others are to say so too, now: the sender has just come, or was cut off.
    pub asks: bool,
    /// Whether it sends its clients away, and ends soon.
    pub draining: bool,
    /// Where it keeps documents.
    pub keeps: Keeps,
    /// Its clock: milliseconds since 1970, UTC.
    pub at_ms: u64,
    /// [`crate::auth::Auth::refusal_fingerprint`] at that moment.
    pub refuses: u64,
    /// Of the program; at most 64 bytes.
    pub version: String,
}

/// Where a node keeps documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keeps {
    /// In a store of its own.
    Apart,
    /// In a store that it shares.
    Shared {
        /// Which one: the same for all that use it.
        store: u64,
    },
}

impl News {
    /// The bytes that go over the bus.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::from(&[VERSION][..]);
        match self {
            Self::Doc { name, message } => {
                out.put_u8(0);
                write_var_bytes(&mut out, name.as_str().as_bytes());
                write_var_bytes(&mut out, message);
            }
            Self::Alive(alive) => {
                out.put_u8(1);
                alive.write(&mut out);
            }
            Self::Goodbye => out.put_u8(2),
            Self::Revoked(notice) => {
                out.put_u8(3);
                write_notice(&mut out, notice);
            }
            Self::Refused(entries) => {
                out.put_u8(4);
                write_var_uint(&mut out, entries.len() as u64);
                entries.iter().for_each(|entry| write_revoked(&mut out, entry));
            }
        }
        out.freeze()
    }

    /// Reads what came over the bus; `None` for anything that [`Self::encode`] does not write.
    #[must_use]
    pub fn decode(bytes: Bytes) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        if reader.u8().ok()? != VERSION {
            return None;
        }
        let news = match reader.u8().ok()? {
            0 => {
                let name = DocName::parse(&reader.var_string().ok()?).ok()?;
                Self::Doc { name, message: reader.var_bytes().ok()? }
            }
            1 => Self::Alive(Alive::read(&mut reader)?),
            2 => Self::Goodbye,
            3 => Self::Revoked(read_notice(&mut reader)?),
            4 => {
                let count = reader.count().ok().filter(|count| *count <= REFUSED_MAX)?;
                let entries = (0..count).map(|_| read_revoked(&mut reader)).collect::<Option<_>>()?;
                Self::Refused(entries)
            }
            _ => return None,
        };
        reader.is_empty().then_some(news)
    }
}

impl Alive {
    fn write(&self, out: &mut BytesMut) {
        out.put_u8(u8::from(self.asks) | u8::from(self.draining) << 1);
        match self.keeps {
            Keeps::Apart => out.put_u8(0),
            Keeps::Shared { store } => {
                out.put_u8(1);
                out.put_u64(store);
            }
        }
        write_var_uint(out, self.at_ms);
        out.put_u64(self.refuses);
        write_var_bytes(out, self.version.as_bytes());
    }

    fn read(reader: &mut Reader) -> Option<Self> {
        let flags = reader.u8().ok().filter(|flags| *flags < 4)?;
        let keeps = match reader.u8().ok()? {
            0 => Keeps::Apart,
            1 => Keeps::Shared { store: read_u64(reader)? },
            _ => return None,
        };
        let (at_ms, refuses) = (reader.var_uint().ok()?, read_u64(reader)?);
        let is_sound = |version: &String| version.len() <= VERSION_BYTES_MAX && !version.chars().any(char::is_control);
        let version = reader.var_string().ok().filter(is_sound)?;
        Some(Self { asks: flags & 1 != 0, draining: flags & 2 != 0, keeps, at_ms, refuses, version })
    }
}

fn write_notice(out: &mut BytesMut, notice: &Notice) {
    match notice {
        Notice::Refused(entry) => {
            out.put_u8(0);
            write_revoked(out, entry);
        }
        Notice::Recheck(sub) => {
            out.put_u8(1);
            write_var_bytes(out, sub.as_bytes());
        }
        Notice::Room(room, mode) => {
            out.put_u8(if *mode == Mode::Recheck { 2 } else { 3 });
            write_var_bytes(out, room.as_bytes());
        }
    }
}

fn read_notice(reader: &mut Reader) -> Option<Notice> {
    let notice = match reader.u8().ok()? {
        0 => Notice::Refused(read_revoked(reader)?),
        1 => Notice::Recheck(reader.var_string().ok()?),
        2 => Notice::Room(reader.var_string().ok()?, Mode::Recheck),
        3 => Notice::Room(reader.var_string().ok()?, Mode::Disconnect),
        _ => return None,
    };
    notice.is_sound().then_some(notice)
}

fn write_revoked(out: &mut BytesMut, entry: &Revoked) {
    match entry {
        Revoked::Token { jti, until_ms } => {
            out.put_u8(0);
            write_var_bytes(out, jti.as_bytes());
            out.put_u64(*until_ms);
        }
        Revoked::User { sub, issued_until_ms, until_ms } => {
            out.put_u8(1);
            write_var_bytes(out, sub.as_bytes());
            out.put_u64(*issued_until_ms);
            out.put_u64(*until_ms);
        }
    }
}

fn read_revoked(reader: &mut Reader) -> Option<Revoked> {
    let entry = match reader.u8().ok()? {
        0 => Revoked::Token { jti: reader.var_string().ok()?, until_ms: read_u64(reader)? },
        1 => Revoked::User {
            sub: reader.var_string().ok()?,
            issued_until_ms: read_u64(reader)?,
            until_ms: read_u64(reader)?,
        },
        _ => return None,
    };
    Notice::Refused(entry.clone()).is_sound().then_some(entry)
}

fn read_u64(reader: &mut Reader) -> Option<u64> {
    Some(u64::from_be_bytes(reader.take(8).ok()?.as_ref().try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all() -> Vec<(News, &'static [u8])> {
        let (token, user) = (
            Revoked::Token { jti: "t".into(), until_ms: 258 },
            Revoked::User { sub: "al".into(), issued_until_ms: 1, until_ms: 2 },
        );
        let alive = Alive {
            asks: true,
            draining: false,
            keeps: Keeps::Shared { store: 7 },
            at_ms: 300,
            refuses: 9,
            version: "0.1".into(),
        };
        let apart = Alive { asks: false, draining: true, keeps: Keeps::Apart, ..alive.clone() };
        let doc = News::Doc { name: DocName::parse("d").unwrap(), message: Bytes::from_static(b"m") };
        vec![
            (doc, b"\x01\x00\x01d\x01m"),
            (
                News::Alive(alive),
                b"\x01\x01\x01\x01\x00\x00\x00\x00\x00\x00\x00\x07\xac\x02\x00\x00\x00\x00\x00\x00\x00\x09\x030.1",
            ),
            (News::Alive(apart), b"\x01\x01\x02\x00\xac\x02\x00\x00\x00\x00\x00\x00\x00\x09\x030.1"),
            (News::Goodbye, b"\x01\x02"),
            (
                News::Revoked(Notice::Refused(token.clone())),
                b"\x01\x03\x00\x00\x01t\x00\x00\x00\x00\x00\x00\x01\x02",
            ),
            (News::Revoked(Notice::Recheck("al".into())), b"\x01\x03\x01\x02al"),
            (News::Revoked(Notice::Room("r".into(), Mode::Recheck)), b"\x01\x03\x02\x01r"),
            (News::Revoked(Notice::Room("r".into(), Mode::Disconnect)), b"\x01\x03\x03\x01r"),
            (
                News::Refused(vec![token, user]),
                b"\x01\x04\x02\x00\x01t\x00\x00\x00\x00\x00\x00\x01\x02\x01\x02al\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x02",
            ),
        ]
    }

    /// Nodes of other versions read these.
    #[test]
    fn the_format_is_what_it_was() {
        for (news, bytes) in all() {
            assert_eq!(news.encode().as_ref(), bytes, "{news:?}");
            assert_eq!(News::decode(Bytes::from_static(bytes)), Some(news));
        }
    }

    #[test]
    fn what_no_node_says_is_not_read() {
        for (news, bytes) in all() {
            for end in 0..bytes.len() {
                assert_eq!(News::decode(Bytes::from_static(&bytes[..end])), None, "{news:?} up to {end}");
            }
            assert_eq!(News::decode([bytes, b"x"].concat().into()), None, "{news:?} with something behind");
        }
        let many = vec![Revoked::Token { jti: "t".into(), until_ms: 1 }; REFUSED_MAX + 1];
        assert_eq!(News::decode(News::Refused(many).encode()), None);
        let nobody = Notice::Recheck(String::new());
        assert_eq!(News::decode(News::Revoked(nobody).encode()), None);
    }

    proptest! {
        #[test]
        fn noise_is_survived(mut bytes: Vec<u8>, kind in 0_u8..6) {
            if let [first, second, ..] = &mut bytes[..] {
                (*first, *second) = (VERSION, kind);
            }
            let _ = News::decode(bytes.into());
        }
    }
}
