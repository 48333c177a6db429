//! One document, one writer, many readers.
//!
//! **Full speed** means the same for every server: the writer types as long as the slowest reader is less than a window
//! (`--window`, 1000 updates) behind it. Each keystroke is a frame of its own; what the window lets through at once leaves in
//! one write, as from a socket that was busy. So the backlog is bounded wherever a server keeps it, no server can look
//! fast by falling behind, and one that merges may merge at most a window. Latency at full speed is that of the window.

use std::iter;

use anyhow::Result;
use anyhow::bail;
use anyhow::ensure;

use crate::account::Ledger;
use crate::account::Tally;
use crate::account::rebuilt_text;
use crate::client::ClientId;
use crate::client::Event;
use crate::client::Fleet;
use crate::client::Message;
use crate::client::Say;
use crate::edit::Typist;
use crate::edit::letter;
use crate::edit::root_of;
use crate::scenario::Args;
use crate::scenario::Outcome;
use crate::scenario::Stage;
use crate::scenario::pace::Pace;
use crate::scenario::stage::Load;

const READERS: usize = 100;
const RATE: f64 = 50.0;

/// The writer's client; all others read.
const WRITER: ClientId = 0;

/// One writer at full speed.
///
/// # Errors
/// When something is lost.
pub(super) fn at_full_speed(args: &Args, stage: Stage) -> Result<Outcome> {
    let outcome = run(args, stage, Speed::Window(args.window))?;
    Ok(outcome.with("window", args.window as f64))
}

/// One writer at a rate.
///
/// # Errors
/// When something is lost.
pub(super) fn at_a_rate(args: &Args, stage: Stage) -> Result<Outcome> {
    let rate = args.rate.unwrap_or(RATE);
    let outcome = run(args, stage, Speed::Pace(Pace::new(rate)))?;
    Ok(outcome.with("rate", rate))
}

fn run(args: &Args, mut stage: Stage, speed: Speed) -> Result<Outcome> {
    let readers = args.readers.unwrap_or(READERS);
    ensure!(readers > 0, "somebody has to read");
    let mut load = Fanout::new(args, readers, speed);
    let document = stage.new_document();
    stage.open(iter::repeat_n(document, readers + 1), &mut load)?;
    let outcome = stage.measure(&mut load)?;
    stage.drain(&mut load)?;
    load.verify()?;
    Ok(outcome.verified()?.with("readers", readers as f64))
}

#[derive(Debug, Clone, Copy)]
enum Speed {
    Window(u64),
    Pace(Pace),
}

struct Fanout {
    ledger: Ledger,
    typist: Typist,
    speed: Speed,
    is_acknowledged: bool,
    update: Vec<u8>,
}

impl Fanout {
    fn new(args: &Args, readers: usize, speed: Speed) -> Self {
        let mut random = fastrand::Rng::with_seed(args.seed);
        let mut ledger = Ledger::new(author_base(&mut random), 1, readers + 1, 1);
        ledger.sample(random.usize(1..=readers));
        let typist = Typist::new(ledger.author(WRITER));
        Self { ledger, typist, speed, is_acknowledged: args.target.answers_sync(), update: Vec::new() }
    }

    fn verify(&self) -> Result<()> {
        let author = self.ledger.author(WRITER);
        let history = self.ledger.history().map(|history| history.updates());
        let text = rebuilt_text(history.into_iter().flatten(), &root_of(author))?;
        let is_same = text.bytes().eq((0..self.typist.typed()).map(letter));
        ensure!(is_same, "a reader's text of {} characters is not the writer's", text.len());
        Ok(())
    }
}

impl Load for Fanout {
    fn act(&mut self, fleet: &mut Fleet, tally: &mut Tally) -> Result<Option<u64>> {
        let now_ns = fleet.now_ns();
        let due = match &mut self.speed {
            Speed::Window(window) => {
                (self.ledger.reached_all(WRITER) + *window).saturating_sub(self.ledger.sent(WRITER))
            }
            Speed::Pace(pace) => pace.take_due(now_ns),
        };
        for _ in 0..due {
            self.typist.type_one(&mut self.update);
            self.ledger.send(WRITER, now_ns, tally);
            fleet.send(WRITER, Say::Update(&self.update));
        }
        Ok(match self.speed {
            Speed::Window(_) => None,
            Speed::Pace(pace) => Some(pace.next_ns()),
        })
    }

    fn on_event(&mut self, now_ns: u64, id: ClientId, event: Event<'_>, tally: &mut Tally) -> Result<()> {
        on_update(&mut self.ledger, id, now_ns, event, tally)
    }

    fn outstanding(&self) -> u64 {
        self.ledger.undelivered() + if self.is_acknowledged { self.ledger.unacknowledged() } else { 0 }
    }
}

/// Enters what a member of a document was sent.
///
/// # Errors
/// When it is not what should be sent, or the server asks for what it was already sent: it dropped something.
pub(super) fn on_update(
    ledger: &mut Ledger,
    member: usize,
    now_ns: u64,
    event: Event<'_>,
    tally: &mut Tally,
) -> Result<()> {
    match event {
        Event::Message(Message::Update(update) | Message::SyncStep2(update)) => {
            ledger.receive(member, now_ns, update, tally)
        }
        Event::Message(Message::SyncStatus(is_taken)) => ledger.status(member, now_ns, is_taken, tally),
        Event::Message(Message::SyncStep1(_)) if ledger.has_written(member) => {
            bail!("the server asks a writer again: it dropped what it was sent")
        }
        Event::Message(Message::Refused(reason)) => bail!("refused: {}", String::from_utf8_lossy(reason)),
        Event::Message(_) | Event::Ready | Event::Closed(..) => Ok(()),
    }
}

/// Client ids as Yjs makes them: random, and in five bytes on the wire.
pub(super) fn author_base(random: &mut fastrand::Rng) -> u64 {
    random.u64(0x4000_0000..0xf000_0000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Door;
    use crate::scenario::args_of;

    const READERS: usize = 3;
    const WINDOW: u64 = 10;

    /// A writer whose server is played by the test: what it typed, as it would arrive.
    struct Story {
        load: Fanout,
        fleet: Fleet,
        tally: Tally,
        typed: Vec<Vec<u8>>,
    }

    fn story() -> Story {
        let args = args_of(&["--scenario", "fanout", "--target", "relay"]);
        let load = Fanout::new(&args, READERS, Speed::Window(WINDOW));
        // Nobody accepts; what is sent stays in the client.
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let door = Door { addr: listener.local_addr().unwrap(), dialect: args.target.dialect(), answers_sync: false };
        let mut fleet = Fleet::new(door, 1).unwrap();
        fleet.connect("/", "d", "").unwrap();
        Story { load, fleet, tally: Tally::default(), typed: Vec::new() }
    }

    impl Story {
        fn act(&mut self) -> u64 {
            let (before, mut copy) = (self.load.ledger.sent(WRITER), self.load.typist.clone());
            self.load.act(&mut self.fleet, &mut self.tally).unwrap();
            let sent = self.load.ledger.sent(WRITER) - before;
            for _ in 0..sent {
                let mut update = Vec::new();
                copy.type_one(&mut update);
                self.typed.push(update);
            }
            sent
        }

        fn deliver(&mut self, reader: ClientId, update: &[u8]) {
            let event = Event::Message(Message::Update(update));
            self.load.on_event(self.fleet.now_ns(), reader, event, &mut self.tally).unwrap();
        }

        fn deliver_all(&mut self, reader: ClientId, updates: std::ops::Range<usize>) {
            for index in updates {
                let update = self.typed[index].clone();
                self.deliver(reader, &update);
            }
        }
    }

    #[test]
    fn a_writer_at_full_speed_is_a_window_ahead_of_the_slowest_reader_and_no_more() {
        let mut story = story();
        assert_eq!((story.act(), story.act()), (WINDOW, 0));
        story.deliver_all(1, 0..10);
        story.deliver_all(2, 0..10);
        assert_eq!(story.act(), 0);
        story.deliver_all(3, 0..4);
        assert_eq!(story.act(), 4);
        assert_eq!(story.load.outstanding(), 4 + 4 + 10);
    }

    #[test]
    fn what_was_changed_on_the_way_is_noticed_though_its_clock_is_right() {
        for is_changed in [false, true] {
            let mut story = story();
            story.act();
            let mut changed = story.typed[7].clone();
            let letter_at = changed.len() - 2;
            changed[letter_at] = if is_changed { b'!' } else { changed[letter_at] };
            for reader in 1..=READERS {
                story.deliver_all(reader, 0..7);
                story.deliver(reader, &changed);
                story.deliver_all(reader, 8..10);
            }
            assert_eq!(story.load.outstanding(), 0);
            assert_eq!(story.load.verify().is_err(), is_changed);
        }
    }

    #[test]
    fn refusals_and_second_questions_end_the_run() {
        let mut story = story();
        let mut says = |message| {
            let event = Event::Message(message);
            story.load.on_event(0, WRITER, event, &mut story.tally).map_err(|error| error.to_string())
        };
        assert_eq!(says(Message::SyncStep1(&[0])), Ok(()), "everybody is asked once");
        assert!(says(Message::Refused(b"no")).unwrap_err().contains("no"));
        story.act();
        let again = Event::Message(Message::SyncStep1(&[0]));
        assert!(story.load.on_event(0, WRITER, again, &mut story.tally).is_err());
    }
}
