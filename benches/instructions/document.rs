//! The core of a document with readers that only count: what it decides, without sockets, store and runtime.

use std::time::Duration;

use bytes::Bytes;
use syncline::clock::Now;
use syncline::document::core::Cluster;
use syncline::document::core::Core;
use syncline::document::core::CoreSettings;
use syncline::document::core::Effect;
use syncline::document::core::Guards;
use syncline::document::core::Input;
use syncline::document::core::ReaderId;
use syncline::document::job::HEAVY_BYTES;
use syncline::document::request::Receipt;
use syncline::name::DocName;
use syncline::store::Loaded;
use syncline::store::Seq;
use syncline::store::Snapshot;
use syncline_protocol::Moment;
use syncline_protocol::channel::Access;
use syncline_protocol::channel::DocumentMessage;
use syncline_protocol::state_vector::StateVector;
use syncline_protocol::update::UpdateLimits;

use crate::material::paper;
use crate::material::typing;
use crate::paths::Operation;
use crate::paths::PEOPLE;
use crate::paths::cursor;

/// The one who writes.
const WRITER: ReaderId = ReaderId(1);

/// A letter alone: judged, merged, sent to everybody, saved, acknowledged.
pub(crate) fn keystrokes(readers: u64, rounds: usize) -> Operation {
    let letters = typing(1, rounds);
    let mut desk = Desk::open(Loaded::default(), readers);
    Box::new(move |round| {
        desk.say(WRITER, DocumentMessage::Update(letters[round].clone()));
        assert_eq!(desk.finish().frames, readers as usize);
    })
}

/// 64 letters that came together, for a hundred readers.
pub(crate) fn batches(rounds: usize) -> Operation {
    let letters = typing(1, 64 * rounds);
    let mut desk = Desk::open(Loaded::default(), 100);
    Box::new(move |round| {
        for letter in &letters[64 * round..64 * (round + 1)] {
            desk.say(WRITER, DocumentMessage::Update(letter.clone()));
        }
        // One frame for each of the others, and 64 acknowledgements.
        assert_eq!(desk.finish().frames, 99 + 64);
    })
}

/// One of a hundred people moves the cursor, after a moment in which nobody did.
pub(crate) fn cursors() -> Operation {
    let mut desk = Desk::open(Loaded::default(), PEOPLE);
    for client in 1..=PEOPLE {
        desk.say(ReaderId(client), DocumentMessage::Awareness(vec![cursor(client, 1)]));
    }
    desk.finish();
    Box::new(move |round| {
        desk.now.moment = desk.now.moment.after(Duration::from_millis(10));
        let (client, clock) = (round as u64 % PEOPLE + 1, round as u64 / PEOPLE + 2);
        desk.say(ReaderId(client), DocumentMessage::Awareness(vec![cursor(client, clock)]));
        assert_eq!(desk.finish().frames, PEOPLE as usize);
    })
}

/// Somebody opens a large document that somebody else just opened.
pub(crate) fn joins_cached() -> Operation {
    let mut desk = Desk::open(stored(), 2);
    Box::new(move |_| {
        desk.say(WRITER, step1());
        assert!(desk.finish().parts > 1);
    })
}

/// Somebody opens a large document in which somebody just wrote a letter.
pub(crate) fn joins_anew(rounds: usize) -> Operation {
    let letters = typing(1, rounds);
    let mut desk = Desk::open(stored(), 2);
    Box::new(move |round| {
        desk.say(WRITER, DocumentMessage::Update(letters[round].clone()));
        desk.say(ReaderId(2), step1());
        assert!(desk.finish().parts > 1);
    })
}

/// A large document comes into memory. It stays there: dropping it is not on anybody's way.
pub(crate) fn loads() -> Operation {
    let stored = stored();
    Box::new(move |_| std::mem::forget(Desk::open(stored.clone(), 1)))
}

fn step1() -> DocumentMessage {
    DocumentMessage::SyncStep1(StateVector::default().encode())
}

pub(crate) fn stored() -> Loaded {
    let snapshot = Snapshot { state: paper(), through: Seq(1), sidecar: Bytes::new() };
    Loaded { snapshot: Some(snapshot), last: Seq(1), ..Loaded::default() }
}

pub(crate) fn settings() -> CoreSettings {
    CoreSettings {
        doc_bytes_max: 64 << 20,
        compact_bytes: 1 << 20,
        idle: Duration::from_secs(60),
        heavy_bytes: HEAVY_BYTES,
        update: UpdateLimits::default(),
        cluster: Cluster::Alone,
    }
}

/// What a batch came to.
#[derive(Debug, Default)]
struct Outcome {
    /// Frames for readers, each counted once per reader.
    frames: usize,
    /// Parts of states.
    parts: usize,
}

/// A core, and a shell that does nothing with its effects but count them. Its store always says yes, at once.
struct Desk {
    core: Core<()>,
    effects: Vec<Effect>,
    now: Now,
    saved: u64,
}

impl Desk {
    fn open(stored: Loaded, readers: u64) -> Self {
        let mut effects = Vec::new();
        let name = DocName::parse("paper").expect("a plain name");
        let core = Core::new(name, settings(), Guards::nowhere(), &mut effects);
        let now = Now { moment: Moment(1_000), wall_ms: 1_700_000_000_000 };
        let mut desk = Self { core, effects, now, saved: stored.last.0 };
        desk.handle(Input::Loaded(Ok(stored)));
        desk.finish();
        for reader in (1..=readers).map(ReaderId) {
            desk.handle(Input::Join { reader, access: Access::Write, receipt: Receipt::Echo, member: None, port: () });
            desk.say(reader, step1());
        }
        desk.finish();
        desk
    }

    fn say(&mut self, reader: ReaderId, message: DocumentMessage) {
        self.handle(Input::Message { reader, message });
    }

    fn handle(&mut self, input: Input<()>) {
        self.core.handle(self.now, input, &mut self.effects);
    }

    fn finish(&mut self) -> Outcome {
        let mut outcome = Outcome::default();
        self.core.flush(self.now, &mut self.effects);
        while !self.effects.is_empty() {
            for effect in std::mem::take(&mut self.effects) {
                self.perform(effect, &mut outcome);
            }
        }
        self.core.settled();
        outcome
    }

    fn perform(&mut self, effect: Effect, outcome: &mut Outcome) {
        match effect {
            Effect::Append { batch, records, .. } => {
                self.saved += records.len() as u64;
                self.handle(Input::Appended { batch, result: Ok(Seq(self.saved)) });
            }
            // Elsewhere it has a thread of its own; here its cost is part of the whole.
            Effect::Run(job) => self.handle(Input::Done(job.run())),
            Effect::Broadcast { except, .. } => {
                outcome.frames += self.core.whole_readers().filter(|(reader, ())| !except.contains(reader)).count();
            }
            Effect::BroadcastAwareness(_) => outcome.frames += self.core.readers().count(),
            Effect::Echo { .. } => outcome.frames += 1,
            Effect::State { parts, .. } => outcome.parts += parts.len(),
            _ => {}
        }
    }
}
