//! The server's socket: it takes what it has room for, which may be half a frame.

use std::collections::VecDeque;
use std::io;
use std::io::ErrorKind;
use std::io::IoSlice;
use std::sync::Mutex;

use bytes::Bytes;
use syncline::outbox::Wire;

use crate::chance::Chance;

/// Bytes that a socket takes at once, at most: some frames, or a piece of one.
const ROOM_MAX: usize = 1500;

#[derive(Debug)]
pub(crate) struct Pipe(Mutex<State>);

#[derive(Debug)]
struct State {
    chance: Chance,
    room: usize,
    bytes: Vec<u8>,
}

impl Wire for Pipe {
    fn try_write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut state = self.0.lock().unwrap();
        let room = state.room;
        if room == 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        let offered: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).take(room).collect();
        state.room -= offered.len();
        state.bytes.extend_from_slice(&offered);
        Ok(offered.len())
    }
}

impl Pipe {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Mutex::new(State { chance: Chance::new(seed), room: 0, bytes: Vec::new() }))
    }

    /// The network has carried something away.
    pub(crate) fn make_room(&self) {
        let mut state = self.0.lock().unwrap();
        state.room = state.chance.between(1, ROOM_MAX);
    }

    /// Moves whole messages on. Answers whether there was one.
    pub(crate) fn deliver(&self, messages: &mut VecDeque<Bytes>) -> bool {
        let mut state = self.0.lock().unwrap();
        let before = messages.len();
        while let Some((header, length)) = payload(&state.bytes) {
            let rest = state.bytes.split_off(header + length);
            let frame = std::mem::replace(&mut state.bytes, rest);
            messages.push_back(Bytes::from(frame).slice(header..));
        }
        messages.len() > before
    }
}

/// Where the payload of the first frame starts, and how long it is; `None` when it is not all there.
fn payload(bytes: &[u8]) -> Option<(usize, usize)> {
    let (header, length) = match *bytes.get(1)? {
        126 => (4, u64::from(u16::from_be_bytes(*bytes[2..].first_chunk()?))),
        127 => (10, u64::from_be_bytes(*bytes[2..].first_chunk()?)),
        short => (2, u64::from(short)),
    };
    let length = usize::try_from(length).unwrap();
    (bytes.len() >= header + length).then_some((header, length))
}
