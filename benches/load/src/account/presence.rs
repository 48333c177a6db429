//! One document: whose presence reached whom, and when. A newer state replaces an older one, so servers may leave states
//! out; what counts is that everybody knows this state or a later one.

use anyhow::Result;
use anyhow::ensure;

use crate::account::Tally;
use crate::client::message::var_bytes;
use crate::client::message::var_uint;
use crate::client::message::write_var_bytes;
use crate::client::message::write_var_uint;

/// The accounts of one document's presence. Every member has a state and hears the others'.
#[derive(Debug)]
pub(crate) struct Presence {
    client_base: u64,
    members: usize,
    /// Per member, the time of each of its states; the first has clock 1.
    sent_ns: Vec<Vec<u64>>,
    /// Per owner and member, the newest clock that has arrived.
    clocks: Vec<u32>,
}

impl Presence {
    /// For `members` with client ids from `client_base` on.
    pub(crate) fn new(client_base: u64, members: usize) -> Self {
        Self { client_base, members, sent_ns: vec![Vec::new(); members], clocks: vec![0; members * members] }
    }

    /// `member` moves now: `out` is replaced by its awareness update, a user with a cursor as editors send it.
    pub(crate) fn send(&mut self, member: usize, now_ns: u64, out: &mut Vec<u8>, tally: &mut Tally) {
        self.sent_ns[member].push(now_ns);
        tally.sent += 1;
        let clock = self.sent_ns[member].len();
        out.clear();
        write_var_uint(out, 1);
        write_var_uint(out, self.client_base + member as u64);
        write_var_uint(out, clock as u64);
        write_var_bytes(out, state(member, clock).as_bytes());
    }

    /// `member` was sent an awareness update.
    ///
    /// # Errors
    /// When it cannot be read, or holds a state that nobody sent.
    pub(crate) fn receive(&mut self, member: usize, now_ns: u64, entries: &[u8], tally: &mut Tally) -> Result<()> {
        let mut bytes = entries;
        let before = tally.delivered;
        for _ in 0..var_uint(&mut bytes)? {
            let (client, clock) = (var_uint(&mut bytes)?, var_uint(&mut bytes)?);
            let text = var_bytes(&mut bytes)?;
            let owner = client.wrapping_sub(self.client_base) as usize;
            if owner < self.members && owner != member {
                self.advance(owner, member, now_ns, clock as usize, text, tally)?;
            }
        }
        tally.frames += u64::from(tally.delivered > before);
        Ok(())
    }

    fn advance(
        &mut self,
        owner: usize,
        member: usize,
        now_ns: u64,
        clock: usize,
        text: &[u8],
        tally: &mut Tally,
    ) -> Result<()> {
        let sent_ns = &self.sent_ns[owner];
        let known = &mut self.clocks[owner * self.members + member];
        ensure!(clock <= sent_ns.len(), "state {clock} of member {owner}, who had {}", sent_ns.len());
        if clock <= *known as usize {
            return Ok(());
        }
        ensure!(text == state(owner, clock).as_bytes(), "state {clock} of member {owner} is not what was sent");
        sent_ns[*known as usize..clock].iter().for_each(|sent_ns| tally.latency.record(now_ns - sent_ns));
        tally.delivered += (clock - *known as usize) as u64;
        *known = clock as u32;
        Ok(())
    }

    /// Members, per owner, who do not know the owner's last state yet.
    pub(crate) fn outdated(&self) -> u64 {
        let of = |owner: usize| {
            let last = self.sent_ns[owner].len() as u32;
            let clocks = self.clocks[owner * self.members..][..self.members].iter().enumerate();
            clocks.filter(|(member, clock)| *member != owner && **clock < last).count() as u64
        };
        (0..self.members).map(of).sum()
    }
}

fn state(member: usize, clock: usize) -> String {
    format!(r#"{{"user":{{"name":"member {member}","color":"blue"}},"cursor":{{"anchor":{clock},"head":{clock}}}}}"#)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(presence: &mut Presence, member: usize, tally: &mut Tally) -> Vec<u8> {
        let mut out = Vec::new();
        presence.send(member, 0, &mut out, tally);
        out
    }

    #[test]
    fn a_later_state_stands_for_those_before_it() {
        let (mut presence, mut tally) = (Presence::new(500, 2), Tally::default());
        let states = [0, 0, 0].map(|member| sent(&mut presence, member, &mut tally));
        presence.receive(1, 10, &states[0], &mut tally).unwrap();
        assert_eq!(presence.outdated(), 1);
        presence.receive(1, 10, &states[2], &mut tally).unwrap();
        assert_eq!((presence.outdated(), tally.delivered), (0, 3));
        presence.receive(1, 10, &states[1], &mut tally).unwrap();
        assert_eq!((tally.delivered, tally.frames), (3, 2));
    }

    #[test]
    fn a_lost_last_state_is_noticed() {
        let (mut presence, mut tally) = (Presence::new(500, 3), Tally::default());
        let first = sent(&mut presence, 2, &mut tally);
        let _lost = sent(&mut presence, 2, &mut tally);
        presence.receive(0, 10, &first, &mut tally).unwrap();
        assert_eq!(presence.outdated(), 2);
    }

    #[test]
    fn what_nobody_sent_is_noticed() {
        let (mut presence, mut tally) = (Presence::new(500, 2), Tally::default());
        let mut state = sent(&mut presence, 0, &mut tally);
        *state.last_mut().unwrap() = b'!';
        assert!(presence.receive(1, 10, &state, &mut tally).is_err());
        let mut other = Presence::new(500, 2);
        assert!(other.receive(1, 10, &state, &mut tally).is_err());
        assert!(presence.receive(1, 10, &[1, 2], &mut tally).is_err());
    }

    #[test]
    fn nobody_is_no_presence() {
        let (mut presence, mut tally) = (Presence::new(500, 2), Tally::default());
        presence.receive(1, 10, &[0], &mut tally).unwrap();
        assert_eq!(tally.frames, 0);
    }
}
