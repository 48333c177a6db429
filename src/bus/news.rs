//! What nodes say to all nodes.

use bytes::BufMut;
use bytes::Bytes;
use bytes::BytesMut;
use syncline_protocol::wire::Reader;
use syncline_protocol::wire::write_var_bytes;

use crate::name::DocName;

const VERSION: u8 = 1;

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
            _ => return None,
        };
        reader.is_empty().then_some(news)
    }
}
