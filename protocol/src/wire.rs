//! lib0 v1 primitives, with bounds: little-endian base-128 integers, byte arrays and strings.
//!
//! A [`Reader`] never reads past its end, never allocates for a length it was merely told, and hands out byte arrays as
//! slices of the frame they came in.

use bytes::BufMut;
use bytes::Bytes;
use bytes::BytesMut;

/// Why bytes could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The bytes end inside a value, or a length points past the end.
    #[error("unexpected end")]
    End,
    /// An integer of more than eight bytes, or of 2^53 and more.
    #[error("integer out of range")]
    Range,
    /// A string that is not UTF-8.
    #[error("text is not UTF-8")]
    Utf8,
    /// Text that should be JSON and is not.
    #[error("text is not JSON")]
    Json,
}

/// Reads lib0 values off the front of a frame.
#[derive(Debug, Clone)]
pub struct Reader {
    bytes: Bytes,
    at: usize,
}

impl Reader {
    /// A reader at the start of `bytes`.
    #[must_use]
    pub fn new(bytes: Bytes) -> Self {
        Self { bytes, at: 0 }
    }

    /// Bytes not yet read.
    #[must_use]
    pub fn remaining(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// Whether everything was read.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.remaining() == 0
    }

    /// Bytes already read.
    #[must_use]
    pub fn position(&self) -> usize {
        self.at
    }

    /// Reads one byte.
    ///
    /// # Errors
    /// [`ReadError::End`] at the end.
    pub fn u8(&mut self) -> Result<u8, ReadError> {
        let byte = *self.bytes.get(self.at).ok_or(ReadError::End)?;
        self.at += 1;
        Ok(byte)
    }

    /// Reads a varUint below 2^53.
    ///
    /// # Errors
    /// [`ReadError::Range`] for more than eight bytes or too large a value, [`ReadError::End`] at the end.
    pub fn var_uint(&mut self) -> Result<u64, ReadError> {
        let (value, length) = read_var_uint(&self.bytes[self.at..])?;
        self.at += length;
        Ok(value)
    }

    /// Reads a varUint that counts things of at least one byte each, so that it can never exceed what is left.
    ///
    /// # Errors
    /// As [`Self::var_uint`]; [`ReadError::End`] when more is announced than the bytes can hold.
    pub fn count(&mut self) -> Result<usize, ReadError> {
        let count = self.var_uint()?;
        let count = usize::try_from(count).map_err(|_| ReadError::Range)?;
        if count > self.remaining() { Err(ReadError::End) } else { Ok(count) }
    }

    /// Reads `length` bytes as a slice of the frame.
    ///
    /// # Errors
    /// [`ReadError::End`] when fewer are left.
    pub fn take(&mut self, length: usize) -> Result<Bytes, ReadError> {
        if length > self.remaining() {
            return Err(ReadError::End);
        }
        let slice = self.bytes.slice(self.at..self.at + length);
        self.at += length;
        Ok(slice)
    }

    /// Reads a varByteArray as a slice of the frame.
    ///
    /// # Errors
    /// As [`Self::count`].
    pub fn var_bytes(&mut self) -> Result<Bytes, ReadError> {
        let length = self.count()?;
        self.take(length)
    }

    /// Reads a varString.
    ///
    /// # Errors
    /// As [`Self::var_bytes`]; [`ReadError::Utf8`] when the bytes are not UTF-8.
    pub fn var_string(&mut self) -> Result<String, ReadError> {
        let bytes = self.var_bytes()?;
        String::from_utf8(bytes.to_vec()).map_err(|_| ReadError::Utf8)
    }
}

/// Reads a varUint off the front of a slice: its value and its length in bytes.
///
/// # Errors
/// [`ReadError::Range`] for more than eight bytes or a value of 2^53 and more, [`ReadError::End`] at the end.
#[inline]
pub fn read_var_uint(bytes: &[u8]) -> Result<(u64, usize), ReadError> {
    let mut value = 0_u64;
    for (index, &byte) in bytes.iter().take(8).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte < 0x80 {
            return if value < 1 << 53 { Ok((value, index + 1)) } else { Err(ReadError::Range) };
        }
    }
    Err(if bytes.len() < 8 { ReadError::End } else { ReadError::Range })
}

/// Writes a varUint.
pub fn write_var_uint(out: &mut BytesMut, mut value: u64) {
    while value >= 0x80 {
        out.put_u8((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

/// Writes a varByteArray.
pub fn write_var_bytes(out: &mut BytesMut, bytes: &[u8]) {
    write_var_uint(out, bytes.len() as u64);
    out.put_slice(bytes);
}

/// Length in bytes of a varUint.
#[must_use]
pub const fn var_uint_len(value: u64) -> usize {
    let bits = 64 - (value | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn integers_survive_the_wire(value in 0_u64..1 << 53) {
            let mut out = BytesMut::new();
            write_var_uint(&mut out, value);
            prop_assert_eq!(out.len(), var_uint_len(value));
            prop_assert_eq!(read_var_uint(&out), Ok((value, out.len())));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let mut reader = Reader::new(bytes.into());
            while reader.var_bytes().is_ok() && !reader.is_empty() {}
        }
    }

    #[test]
    fn integers_out_of_range_are_refused() {
        assert_eq!(read_var_uint(&[0xff; 7]), Err(ReadError::End));
        assert_eq!(read_var_uint(&[0xff; 8]), Err(ReadError::Range));
        assert_eq!(read_var_uint(&[0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x10]), Err(ReadError::Range));
        assert_eq!(read_var_uint(&[]), Err(ReadError::End));
    }

    #[test]
    fn a_length_past_the_end_is_refused_before_anything_is_allocated() {
        let mut reader = Reader::new(Bytes::from_static(&[0xff, 0xff, 0xff, 0x7f, 1]));
        assert_eq!(reader.var_bytes(), Err(ReadError::End));
    }
}
