//! One document at work, without sockets and without a disk.

use std::time::Duration;

use bytes::Bytes;
use criterion::BatchSize;
use criterion::Criterion;
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
use syncline_protocol::awareness::Entry;
use syncline_protocol::channel::Access;
use syncline_protocol::channel::DocumentMessage;
use syncline_protocol::state_vector::StateVector;
use syncline_protocol::update::UpdateLimits;

use crate::material::typing;

const READERS: u64 = 100;
/// Long enough that setting a document up does not count, short enough that it stays the document of one paragraph.
const LETTERS: usize = 200;

pub(crate) fn benches(criterion: &mut Criterion) {
    edit(criterion);
    presence(criterion);
}

/// A letter: judged, merged, one frame for a hundred readers, one append, acknowledged.
fn edit(criterion: &mut Criterion) {
    let updates = typing(1, LETTERS);
    let mut group = criterion.benchmark_group("core");
    group.throughput(criterion::Throughput::Elements(LETTERS as u64));
    group.bench_function("200 updates, 100 readers", |bencher| {
        bencher.iter_batched_ref(
            || Desk::open(Loaded::default(), READERS),
            |desk| {
                for update in &updates {
                    desk.say(ReaderId(1), DocumentMessage::Update(update.clone()));
                    desk.finish();
                }
            },
            BatchSize::LargeInput,
        );
    });
    group.finish();
}

/// A hundred people move their cursors, and the batch leaves as one frame.
fn presence(criterion: &mut Criterion) {
    let mut desk = Desk::open(Loaded::default(), READERS);
    let mut clock = 0;
    let state = Bytes::from_static(br##"{"user":{"name":"Ada","color":"#30bced"},"cursor":{"anchor":17,"head":23}}"##);
    let mut group = criterion.benchmark_group("awareness");
    group.throughput(criterion::Throughput::Elements(READERS));
    group.bench_function("100 clients", |bencher| {
        bencher.iter(|| {
            clock += 1;
            for client in 1..=READERS {
                let entry = Entry { client, clock, state: Some(state.clone()) };
                desk.say(ReaderId(client), DocumentMessage::Awareness(vec![entry]));
            }
            desk.finish();
        });
    });
    group.finish();
}

/// A document with its readers, and a store that always says yes.
pub(crate) struct Desk {
    core: Core<()>,
    effects: Vec<Effect>,
    now: Now,
    saved: u64,
}

impl Desk {
    /// A document as it is stored, with so many readers who have all of it.
    pub(crate) fn open(stored: Loaded, readers: u64) -> Self {
        let settings = CoreSettings {
            doc_bytes_max: 64 << 20,
            compact_bytes: 1 << 20,
            idle: Duration::from_secs(60),
            heavy_bytes: HEAVY_BYTES,
            update: UpdateLimits::default(),
            cluster: Cluster::Alone,
        };
        let mut effects = Vec::new();
        let name = DocName::parse("bench").expect("a plain name");
        let core = Core::new(name, settings, Guards::nowhere(), &mut effects);
        let mut desk = Self { core, effects, now: Now::default(), saved: stored.last.0 };
        desk.handle(Input::Loaded(Ok(stored)));
        desk.finish();
        for reader in 1..=readers {
            let reader = ReaderId(reader);
            desk.handle(Input::Join { reader, access: Access::Write, receipt: Receipt::Echo, member: None, port: () });
            desk.say(reader, DocumentMessage::SyncStep1(StateVector::default().encode()));
        }
        desk.finish();
        desk
    }

    pub(crate) fn say(&mut self, reader: ReaderId, message: DocumentMessage) {
        self.handle(Input::Message { reader, message });
    }

    fn handle(&mut self, input: Input<()>) {
        self.core.handle(self.now, input, &mut self.effects);
    }

    /// Ends the batch; what it appends is durable at once.
    pub(crate) fn finish(&mut self) {
        self.core.flush(self.now, &mut self.effects);
        while !self.effects.is_empty() {
            for effect in std::mem::take(&mut self.effects) {
                match effect {
                    Effect::Append { batch, records, .. } => {
                        self.saved += records.len() as u64;
                        self.handle(Input::Appended { batch, result: Ok(Seq(self.saved)) });
                    }
                    // Elsewhere it has a thread of its own; here its cost is part of the whole.
                    Effect::Run(job) => self.handle(Input::Done(job.run())),
                    _ => {}
                }
            }
        }
        self.core.settled();
    }
}
