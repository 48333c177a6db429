//! Reads lib0 values off a borrowed slice and knows where it is.
//!
//! Stricter than the lib0 reader: integers must be in their shortest form. No writer writes others, and where two readers
//! could understand the same bytes differently, what was validated would not be what is applied.

use crate::limits::CLIENT_ID_MAX;
use crate::limits::CLOCK_MAX;
use crate::update::Invalid;
use crate::wire::ReadError;
use crate::wire::read_var_uint;

/// One struct's address: a client and the number of the first unit of content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Id {
    pub(super) client: u64,
    pub(super) clock: u32,
}

#[derive(Debug, Clone)]
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    #[inline]
    pub(super) fn at(&self) -> usize {
        self.at
    }

    #[inline]
    pub(super) fn remaining(&self) -> usize {
        self.bytes.len() - self.at
    }

    #[inline]
    pub(super) fn u8(&mut self) -> Result<u8, Invalid> {
        let byte = *self.bytes.get(self.at).ok_or(Invalid::End { at: self.at })?;
        self.at += 1;
        Ok(byte)
    }

    #[inline]
    pub(super) fn uint(&mut self) -> Result<u64, Invalid> {
        match self.bytes.get(self.at) {
            Some(&byte) if byte < 0x80 => {
                self.at += 1;
                Ok(u64::from(byte))
            }
            _ => self.long_uint(),
        }
    }

    fn long_uint(&mut self) -> Result<u64, Invalid> {
        let at = self.at;
        let (value, length) = read_var_uint(&self.bytes[at..]).map_err(|error| match error {
            ReadError::End => Invalid::End { at },
            ReadError::Range | ReadError::Utf8 | ReadError::Json => Invalid::Integer { at },
        })?;
        self.at += length;
        if self.bytes[self.at - 1] == 0 { Err(Invalid::Integer { at }) } else { Ok(value) }
    }

    /// A count of things that take at least `bytes_each` bytes, so it can never ask for more than is there.
    #[inline]
    pub(super) fn count(&mut self, bytes_each: usize) -> Result<usize, Invalid> {
        let at = self.at;
        let count = self.uint()?;
        match usize::try_from(count) {
            Ok(count) if count <= self.remaining() / bytes_each => Ok(count),
            _ => Err(Invalid::End { at }),
        }
    }

    /// A length of content that the bytes need not contain: at least 1, and below 2^31.
    #[inline]
    pub(super) fn length(&mut self) -> Result<u32, Invalid> {
        let at = self.at;
        match self.clock()? {
            0 => Err(Invalid::Empty { at }),
            length => Ok(length),
        }
    }

    #[inline]
    pub(super) fn clock(&mut self) -> Result<u32, Invalid> {
        let at = self.at;
        let value = self.uint()?;
        match u32::try_from(value) {
            Ok(clock) if clock <= CLOCK_MAX => Ok(clock),
            _ => Err(Invalid::Clock { at }),
        }
    }

    #[inline]
    pub(super) fn client(&mut self) -> Result<u64, Invalid> {
        let at = self.at;
        let client = self.uint()?;
        if client > CLIENT_ID_MAX { Err(Invalid::Integer { at }) } else { Ok(client) }
    }

    #[inline]
    pub(super) fn id(&mut self) -> Result<Id, Invalid> {
        Ok(Id { client: self.client()?, clock: self.clock()? })
    }

    pub(super) fn skip(&mut self, length: usize) -> Result<(), Invalid> {
        if length > self.remaining() {
            return Err(Invalid::End { at: self.at });
        }
        self.at += length;
        Ok(())
    }

    #[inline]
    pub(super) fn bytes(&mut self) -> Result<&'a [u8], Invalid> {
        let length = self.count(1)?;
        let slice = &self.bytes[self.at..self.at + length];
        self.at += length;
        Ok(slice)
    }

    #[inline]
    pub(super) fn string(&mut self) -> Result<&'a str, Invalid> {
        let at = self.at;
        std::str::from_utf8(self.bytes()?).map_err(|_| Invalid::Utf8 { at })
    }

    /// A varInt: sign and six bits first, then seven bits a byte. Its value does not matter here.
    pub(super) fn int(&mut self) -> Result<(), Invalid> {
        let at = self.at;
        let first = self.u8()?;
        let mut more = first & 0x80 != 0;
        let mut bits = 6;
        while more {
            let byte = self.u8()?;
            more = byte & 0x80 != 0;
            bits += 7;
            let significant = bits - 7 + (8 - (byte & 0x7f).leading_zeros() as usize);
            if (!more && byte == 0) || significant > 53 {
                return Err(Invalid::Integer { at });
            }
        }
        Ok(())
    }
}
