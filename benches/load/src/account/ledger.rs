//! One document: whose units reached whom, and when.

use anyhow::Context;
use anyhow::Result;
use anyhow::ensure;
use syncline_protocol::update::ClientRange;
use syncline_protocol::update::UpdateLimits;
use syncline_protocol::update::validate;

use crate::account::Histogram;
use crate::account::History;

/// Updates from this length on are looked up before they are read: merged ones go to every reader with the same bytes.
const KNOWN_BYTES_MIN: usize = 96;
/// Longer ones are read each time, so that what is kept stays below 16 MiB a document.
const KNOWN_BYTES_MAX: usize = 64 * 1024;
/// A burst of different frames that all readers of a document are sent, one reader after the other. More push each other
/// out, and are read each time.
const KNOWN_UPDATES: usize = 256;

/// What was counted over all documents of a run, since the last [`Self::clear`].
#[derive(Debug, Clone, Default)]
pub(crate) struct Tally {
    /// Updates that writers sent.
    pub(crate) sent: u64,
    /// Updates that reached a member who had not written them, each counted once per member.
    pub(crate) delivered: u64,
    /// Frames that brought them.
    pub(crate) frames: u64,
    /// From sending to delivery, per delivered update.
    pub(crate) latency: Histogram,
    /// From sending to the echo or the SyncStatus, per update.
    pub(crate) acknowledged: Histogram,
}

impl Tally {
    /// Begins to count anew.
    pub(crate) fn clear(&mut self) {
        (self.sent, self.delivered, self.frames) = (0, 0, 0);
        self.latency.clear();
        self.acknowledged.clear();
    }
}

/// The accounts of one document. Members are numbered from 0; the first ones write, all read.
#[derive(Debug)]
pub(crate) struct Ledger {
    author_base: u64,
    members: usize,
    /// Clocks that one update takes.
    units: u32,
    /// Per writer, the time of each update.
    sent_ns: Vec<Vec<u64>>,
    /// Per writer and member, the clock up to which it arrived. A writer's own is that of its echoes.
    clocks: Vec<u32>,
    /// Per writer, the updates that a SyncStatus has answered.
    statuses: Vec<usize>,
    known: Known,
    sampled: Option<(usize, History)>,
}

impl Ledger {
    /// For `members`, of whom the first `writers` write, as clients from `author_base` on, `units` clocks an update.
    pub(crate) fn new(author_base: u64, writers: usize, members: usize, units: u32) -> Self {
        Self {
            author_base,
            members,
            units,
            sent_ns: vec![Vec::new(); writers],
            clocks: vec![0; writers * members],
            statuses: vec![0; writers],
            known: Known::default(),
            sampled: None,
        }
    }

    /// Keeps everything that `member` is sent from now on.
    pub(crate) fn sample(&mut self, member: usize) {
        self.sampled = Some((member, History::default()));
    }

    /// What the sampled member was sent.
    pub(crate) fn history(&self) -> Option<&History> {
        self.sampled.as_ref().map(|(_, history)| history)
    }

    /// The client id that a member writes with.
    pub(crate) fn author(&self, member: usize) -> u64 {
        self.author_base + member as u64
    }

    /// `writer` sends its next update now.
    pub(crate) fn send(&mut self, writer: usize, now_ns: u64, tally: &mut Tally) {
        self.sent_ns[writer].push(now_ns);
        tally.sent += 1;
    }

    /// Updates that `writer` has sent.
    pub(crate) fn sent(&self, writer: usize) -> u64 {
        self.sent_ns[writer].len() as u64
    }

    /// Whether `member` has sent anything.
    pub(crate) fn has_written(&self, member: usize) -> bool {
        self.sent_ns.get(member).is_some_and(|sent_ns| !sent_ns.is_empty())
    }

    /// `member` was sent an update.
    ///
    /// # Errors
    /// When it is not valid, leaves out something that was written before, or holds what nobody wrote.
    #[inline]
    pub(crate) fn receive(&mut self, member: usize, now_ns: u64, update: &[u8], tally: &mut Tally) -> Result<()> {
        if let Some((sampled, history)) = &mut self.sampled
            && *sampled == member
        {
            history.keep(update)?;
        }
        let mut known = std::mem::take(&mut self.known);
        let received = match known.ranges(update) {
            Some(ranges) => self.advance_all(member, now_ns, ranges, tally),
            None => {
                let summary = validate(update, &UpdateLimits::default())?;
                known.keep(update, summary.ranges(), self.members);
                self.advance_all(member, now_ns, summary.ranges(), tally)
            }
        };
        self.known = known;
        received.with_context(|| format!("member {member}"))
    }

    fn advance_all(&mut self, member: usize, now_ns: u64, ranges: &[ClientRange], tally: &mut Tally) -> Result<()> {
        let before = tally.delivered;
        for range in ranges {
            // Others wrote what was there before the run.
            let writer = range.client.wrapping_sub(self.author_base);
            if writer < self.sent_ns.len() as u64 {
                self.advance(writer as usize, member, now_ns, range, tally)?;
            }
        }
        tally.frames += u64::from(tally.delivered > before);
        Ok(())
    }

    fn advance(
        &mut self,
        writer: usize,
        member: usize,
        now_ns: u64,
        range: &ClientRange,
        tally: &mut Tally,
    ) -> Result<()> {
        let clock = &mut self.clocks[writer * self.members + member];
        let sent_ns = &self.sent_ns[writer];
        ensure!(range.start <= *clock, "lost: clocks {clock} to {} of writer {writer}", range.start);
        let (first, end) = ((*clock / self.units) as usize, (range.end / self.units) as usize);
        ensure!(end <= sent_ns.len(), "clock {} of writer {writer}, who wrote {} updates", range.end, sent_ns.len());
        *clock = range.end.max(*clock);
        if end <= first {
            return Ok(());
        }
        if writer == member {
            sent_ns[first..end].iter().for_each(|sent_ns| tally.acknowledged.record(now_ns - sent_ns));
        } else {
            sent_ns[first..end].iter().for_each(|sent_ns| tally.latency.record(now_ns - sent_ns));
            tally.delivered += (end - first) as u64;
        }
        Ok(())
    }

    /// A SyncStatus for `writer`: its oldest update without one is taken.
    ///
    /// # Errors
    /// When it was refused, or there is no such update.
    pub(crate) fn status(&mut self, writer: usize, now_ns: u64, is_taken: bool, tally: &mut Tally) -> Result<()> {
        ensure!(is_taken, "an update of writer {writer} was refused");
        let next = &mut self.statuses[writer];
        let sent_ns = self.sent_ns[writer].get(*next).context("a SyncStatus for an update that was not sent")?;
        *next += 1;
        tally.acknowledged.record(now_ns - sent_ns);
        Ok(())
    }

    /// Updates of `writer` that every other member has.
    pub(crate) fn reached_all(&self, writer: usize) -> u64 {
        let clocks = &self.clocks[writer * self.members..][..self.members];
        let (before, after) = (&clocks[..writer], &clocks[writer + 1..]);
        let slowest = before.iter().chain(after).min().copied();
        slowest.map_or(self.sent(writer), |clock| u64::from(clock / self.units))
    }

    /// Updates that have not reached everybody yet, summed over writers and readers.
    pub(crate) fn undelivered(&self) -> u64 {
        let of = |writer: usize| -> u64 {
            let others = (0..self.members).filter(|member| *member != writer);
            others.map(|member| self.sent(writer) - self.updates_of(writer, member)).sum()
        };
        (0..self.sent_ns.len()).map(of).sum()
    }

    /// Updates that neither an echo nor a SyncStatus has acknowledged yet.
    pub(crate) fn unacknowledged(&self) -> u64 {
        let of = |writer: usize| self.sent(writer) - self.updates_of(writer, writer).max(self.statuses[writer] as u64);
        (0..self.sent_ns.len()).map(of).sum()
    }

    fn updates_of(&self, writer: usize, member: usize) -> u64 {
        u64::from(self.clocks[writer * self.members + member] / self.units)
    }
}

/// The ranges of updates that were read a moment ago, for the other readers who are sent the same bytes.
#[derive(Debug, Default)]
struct Known {
    slots: Vec<(Vec<u8>, Vec<ClientRange>)>,
}

impl Known {
    fn ranges(&self, update: &[u8]) -> Option<&[ClientRange]> {
        let (bytes, ranges) = self.slots.get(slot_of(update)?)?;
        (bytes == update).then_some(ranges)
    }

    fn keep(&mut self, update: &[u8], ranges: &[ClientRange], members: usize) {
        let Some(slot) = slot_of(update).filter(|_| members > 2) else { return };
        if self.slots.is_empty() {
            self.slots.resize_with(KNOWN_UPDATES, Default::default);
        }
        let (bytes, known) = &mut self.slots[slot];
        bytes.clear();
        bytes.extend_from_slice(update);
        known.clear();
        known.extend_from_slice(ranges);
    }
}

/// Where an update is kept: its length and its first struct's id, which stand at the front, tell it from its neighbours.
fn slot_of(update: &[u8]) -> Option<usize> {
    if !(KNOWN_BYTES_MIN..=KNOWN_BYTES_MAX).contains(&update.len()) {
        return None;
    }
    let front = u128::from_le_bytes(*update.first_chunk()?);
    let mixed = (front as u64 ^ (front >> 64) as u64 ^ update.len() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    Some((mixed >> 32) as usize % KNOWN_UPDATES)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use syncline_protocol::update::merge;

    use super::*;
    use crate::edit::Typist;

    const BASE: u64 = 0x7000_0000;

    /// A writer, two readers, and what the writer types.
    struct Story {
        ledger: Ledger,
        tally: Tally,
        updates: Vec<Bytes>,
    }

    fn story(updates: u64) -> Story {
        let mut ledger = Ledger::new(BASE, 1, 3, 1);
        let (mut tally, mut typist) = (Tally::default(), Typist::new(ledger.author(0)));
        let mut type_one = |at: u64| {
            let mut update = Vec::new();
            typist.type_one(&mut update);
            ledger.send(0, at * 1000, &mut tally);
            Bytes::from(update)
        };
        let updates = (0..updates).map(&mut type_one).collect();
        Story { ledger, tally, updates }
    }

    impl Story {
        fn receive(&mut self, member: usize, updates: std::ops::Range<usize>) -> Result<()> {
            let merged = merge(&self.updates[updates]).unwrap();
            self.ledger.receive(member, 1_000_000, &merged, &mut self.tally)
        }
    }

    #[test]
    fn merged_or_one_by_one_everybody_gets_everything() {
        let mut story = story(100);
        (0..100).for_each(|one| story.receive(1, one..one + 1).unwrap());
        assert_eq!(story.ledger.reached_all(0), 0);
        assert_eq!(story.ledger.undelivered(), 100);
        story.receive(2, 0..60).unwrap();
        assert_eq!(story.ledger.reached_all(0), 60);
        story.receive(2, 60..100).unwrap();
        assert_eq!((story.ledger.undelivered(), story.tally.delivered, story.tally.frames), (0, 200, 102));
        assert_eq!(story.tally.latency.count(), 200);
        assert_eq!(story.ledger.unacknowledged(), 100);
        story.receive(0, 0..100).unwrap();
        assert_eq!((story.ledger.unacknowledged(), story.tally.delivered), (0, 200));
    }

    #[test]
    fn a_lost_update_is_noticed() {
        let mut story = story(100);
        story.receive(1, 0..40).unwrap();
        let error = story.receive(1, 41..100).unwrap_err();
        assert!(format!("{error:#}").contains("lost: clocks 40 to 41"), "{error:#}");
    }

    #[test]
    fn a_lost_last_update_is_noticed() {
        let mut story = story(100);
        story.receive(1, 0..100).unwrap();
        story.receive(2, 0..99).unwrap();
        assert_eq!(story.ledger.undelivered(), 1);
    }

    #[test]
    fn a_repeated_update_counts_once() {
        let mut story = story(100);
        story.receive(1, 0..50).unwrap();
        story.receive(1, 0..50).unwrap();
        assert_eq!(story.tally.delivered, 50);
        story.receive(1, 30..80).unwrap();
        assert_eq!(story.tally.delivered, 80);
    }

    #[test]
    fn what_nobody_wrote_is_noticed() {
        let mut long = story(100);
        let mut short = story(10);
        short.updates = std::mem::take(&mut long.updates);
        assert!(short.receive(1, 0..11).is_err());
        assert!(short.ledger.receive(2, 0, &[0xff; 20], &mut short.tally).is_err());
    }

    #[test]
    fn bytes_that_look_alike_are_not_taken_for_known_ones() {
        let mut story = story(100);
        story.receive(1, 0..50).unwrap();
        let mut merged = merge(&story.updates[0..50]).unwrap().to_vec();
        // The same length and beginning, but the count of structs no longer fits what follows.
        let last = merged.len() - 1;
        merged[last] = 1;
        assert!(story.ledger.receive(2, 0, &merged, &mut story.tally).is_err());
    }

    #[test]
    fn a_status_acknowledges_the_oldest_and_a_refusal_is_an_error() {
        let mut story = story(2);
        story.ledger.status(0, 5000, true, &mut story.tally).unwrap();
        assert_eq!(story.ledger.unacknowledged(), 1);
        assert!(story.ledger.status(0, 5000, false, &mut story.tally).is_err());
        story.ledger.status(0, 5000, true, &mut story.tally).unwrap();
        assert!(story.ledger.status(0, 5000, true, &mut story.tally).is_err());
        assert_eq!(story.tally.acknowledged.count(), 2);
    }

    #[test]
    fn what_the_sampled_member_got_can_be_built_again() {
        let mut story = story(100);
        story.ledger.sample(2);
        story.receive(1, 0..100).unwrap();
        story.receive(2, 0..10).unwrap();
        story.receive(2, 10..100).unwrap();
        let history = story.ledger.history().unwrap();
        assert_eq!(history.updates().count(), 2);
        let text = crate::account::rebuilt_text(history.updates(), &format!("text-{BASE}")).unwrap();
        assert!(text.bytes().eq((0..100).map(crate::edit::letter)));
    }
}
