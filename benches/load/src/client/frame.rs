//! WebSocket frames (RFC 6455), the client's half: masked on the way out, read in place on the way in.

use std::ops::Range;

use anyhow::Result;
use anyhow::ensure;

/// Largest frame that is read. Servers send 16 MiB at most; what announces more is not a frame.
pub(crate) const FRAME_BYTES_MAX: usize = 64 * 1024 * 1024;

const FINAL: u8 = 0x80;
const MASKED: u8 = 0x80;
const RESERVED: u8 = 0x70;

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Opcode {
    /// Text: no server for Yjs sends it.
    Text,
    /// A message.
    Binary,
    /// The end, with a code and a reason.
    Close,
    /// To be answered with its own payload.
    Ping,
    /// An answer to a ping.
    Pong,
}

impl Opcode {
    fn from_bits(bits: u8) -> Option<Self> {
        Some(match bits {
            1 => Self::Text,
            2 => Self::Binary,
            8 => Self::Close,
            9 => Self::Ping,
            10 => Self::Pong,
            _ => return None,
        })
    }

    const fn bits(self) -> u8 {
        match self {
            Self::Text => 1,
            Self::Binary => 2,
            Self::Close => 8,
            Self::Ping => 9,
            Self::Pong => 10,
        }
    }
}

/// What stands at the front of the bytes of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Parsed {
    /// A whole frame; the range is that of its payload, whose end is the frame's end.
    Frame(Opcode, Range<usize>),
    /// The beginning of a frame. With its header comes the number of bytes that it takes in all.
    Partial(Option<usize>),
}

/// Reads the frame at the front of `bytes`.
///
/// # Errors
/// For masked, compressed, fragmented or unknown frames, and for frames above [`FRAME_BYTES_MAX`]: nothing was negotiated
/// that allows them, and none of the servers splits its messages.
#[inline]
pub(crate) fn parse(bytes: &[u8]) -> Result<Parsed> {
    let &[first, second, ..] = bytes else { return Ok(Parsed::Partial(None)) };
    ensure!(second & MASKED == 0, "a server's frame is masked");
    ensure!(first & RESERVED == 0, "a frame has reserved bits");
    let (start, length) = match second {
        126 => match bytes.get(2..4) {
            Some(length) => (4, u64::from(u16::from_be_bytes([length[0], length[1]]))),
            None => return Ok(Parsed::Partial(None)),
        },
        127 => match bytes.get(2..10).and_then(|length| length.try_into().ok()) {
            Some(length) => (10, u64::from_be_bytes(length)),
            None => return Ok(Parsed::Partial(None)),
        },
        short => (2, u64::from(short)),
    };
    ensure!(length <= FRAME_BYTES_MAX as u64, "a frame of {length} bytes");
    let opcode = Opcode::from_bits(first & 0x0f);
    let (true, Some(opcode)) = (first & FINAL != 0, opcode) else {
        anyhow::bail!("a message in fragments, or an unknown kind of frame: {first:#04x}");
    };
    let end = start + length as usize;
    Ok(if bytes.len() < end { Parsed::Partial(Some(end)) } else { Parsed::Frame(opcode, start..end) })
}

/// Appends one masked frame whose payload is `parts`, one after the other. Nothing is copied twice.
pub(crate) fn write(out: &mut Vec<u8>, opcode: Opcode, mask: u32, parts: &[&[u8]]) {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    out.push(FINAL | opcode.bits());
    match length {
        0..=125 => out.push(MASKED | length as u8),
        126..=0xffff => {
            out.push(MASKED | 126);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        _ => {
            out.push(MASKED | 127);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    let mask = mask.to_be_bytes();
    out.extend_from_slice(&mask);
    let start = out.len();
    parts.iter().for_each(|part| out.extend_from_slice(part));
    for chunk in out[start..].chunks_mut(4) {
        chunk.iter_mut().zip(mask).for_each(|(byte, mask)| *byte ^= mask);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As a server sends it.
    fn server_frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut masked = Vec::new();
        write(&mut masked, Opcode::Binary, 0, &[payload]);
        let header = masked.len() - payload.len() - 4;
        let mut frame = masked[..header].to_vec();
        frame[0] = first;
        frame[1] &= !MASKED;
        frame.extend_from_slice(payload);
        frame
    }

    #[test]
    fn the_example_of_the_specification() {
        // RFC 6455, section 5.7: "Hello", masked.
        let mut out = Vec::new();
        write(&mut out, Opcode::Text, 0x37fa_213d, &[b"Hel", b"lo"]);
        assert_eq!(out, [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58]);
        let unmasked = [0x81, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f];
        assert_eq!(parse(&unmasked).unwrap(), Parsed::Frame(Opcode::Text, 2..7));
    }

    #[test]
    fn every_length_is_read_and_no_beginning_is_taken_for_the_whole() {
        for length in [0, 1, 125, 126, 127, 0xffff, 0x1_0000, 70_000] {
            let frame = server_frame(0x82, &vec![7; length]);
            let whole = parse(&frame).unwrap();
            assert_eq!(whole, Parsed::Frame(Opcode::Binary, frame.len() - length..frame.len()));
            for cut in [0, 1, 2, 3, 4, 9, 10, frame.len() / 2, frame.len() - 1].into_iter().filter(|&c| c < frame.len())
            {
                match parse(&frame[..cut]).unwrap() {
                    Parsed::Partial(Some(needed)) => assert_eq!(needed, frame.len()),
                    Parsed::Partial(None) => assert!(cut < frame.len() - length),
                    Parsed::Frame(..) => panic!("{cut} bytes of {} were taken for the whole", frame.len()),
                }
            }
        }
    }

    #[test]
    fn only_the_first_frame_is_taken() {
        let bytes = [server_frame(0x89, b"now"), server_frame(0x82, b"then")].concat();
        let Parsed::Frame(Opcode::Ping, payload) = parse(&bytes).unwrap() else { panic!("a ping") };
        assert_eq!(parse(&bytes[payload.end..]).unwrap(), Parsed::Frame(Opcode::Binary, 2..6));
    }

    #[test]
    fn what_was_not_negotiated_is_refused() {
        let masked = [0x82, 0x81, 0, 0, 0, 0, 0];
        let compressed = [0xc2, 0x00];
        let fragment = [0x02, 0x00];
        let continuation = [0x80, 0x00];
        let huge = [0x82, 127, 1, 0, 0, 0, 0, 0, 0, 0];
        for bytes in [&masked[..], &compressed, &fragment, &continuation, &huge] {
            assert!(parse(bytes).is_err(), "{bytes:02x?}");
        }
    }
}
