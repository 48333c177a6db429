//! Who is typing where, and until when: nobody has to say that they stopped.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::name::RoomName;

/// After the last sign.
const LASTS: Duration = Duration::from_secs(5);

/// The rooms in which one client is typing.
#[derive(Debug, Default)]
pub(super) struct Typing(BTreeMap<RoomName, Instant>);

impl Typing {
    /// It types, or has stopped. Whether that is news.
    pub(super) fn set(&mut self, room: &RoomName, typing: bool, now: Instant) -> bool {
        if typing { self.0.insert(room.clone(), now + LASTS).is_none() } else { self.0.remove(room).is_some() }
    }

    /// When the first of them is over.
    pub(super) fn next(&self) -> Option<Instant> {
        self.0.values().min().copied()
    }

    /// Those that are over.
    pub(super) fn over(&mut self, now: Instant) -> Vec<RoomName> {
        let over: Vec<RoomName> =
            self.0.iter().filter(|(_, until)| **until <= now).map(|(room, _)| room.clone()).collect();
        for room in &over {
            self.0.remove(room);
        }
        over
    }

    pub(super) fn leave(&mut self, room: &RoomName) {
        self.0.remove(room);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typing_ends_by_itself_after_the_last_sign() {
        let (mut typing, now) = (Typing::default(), Instant::now());
        let [one, two] = ["channel:1", "channel:2"].map(|name| RoomName::parse(name).unwrap());
        assert!(typing.set(&one, true, now) && !typing.set(&one, true, now + LASTS / 2));
        assert!(typing.set(&two, true, now));
        assert_eq!(typing.next(), Some(now + LASTS));
        assert_eq!(typing.over(now + LASTS), std::slice::from_ref(&two));
        assert!(!typing.set(&two, false, now) && typing.set(&one, false, now));
        assert_eq!((typing.next(), typing.over(now + LASTS * 9)), (None, vec![]));
    }
}
