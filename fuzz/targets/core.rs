//! Lists of `Core` inputs, with the real engine behind: genuine updates of a few replicas, also cut, reordered and with bytes
//! changed; joins, leaves, rights; full and drained outboxes; the store's answers in any order.
//!
//! Laws: nothing panics; the engine holds nothing back; what waits and what is unsaved is bounded; no echo leaves before
//! anything was saved; each request is answered at most once.
#![no_main]

use std::collections::BTreeSet;
use std::time::Duration;

use arbitrary::Arbitrary;
use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use syncline::clock::Now;
use syncline::document::core::Compacted;
use syncline::document::core::Core;
use syncline::document::core::CoreSettings;
use syncline::document::core::Effect;
use syncline::document::core::Guards;
use syncline::document::core::Input;
use syncline::document::core::Lost;
use syncline::document::core::ReaderId;
use syncline::document::core::Ticket;
use syncline::document::request::Request;
use syncline::name::DocName;
use syncline::store::Epoch;
use syncline::store::Loaded;
use syncline::store::Record;
use syncline::store::Seq;
use syncline::store::StoreError;
use syncline_protocol::awareness::Entry;
use syncline_protocol::channel::Access;
use syncline_protocol::channel::DocumentMessage;
use syncline_protocol::state_vector::StateVector;
use syncline_protocol::update::UpdateLimits;
use syncline_protocol::update::validate;
use yrs::Array;
use yrs::Doc;
use yrs::Map;
use yrs::Text;
use yrs::Transact;

const STEPS_MAX: usize = 200;
const READERS: u64 = 4;

#[derive(Arbitrary, Debug)]
enum Step {
    Join {
        reader: u8,
        read_only: bool,
    },
    Leave {
        reader: u8,
    },
    Rights {
        reader: u8,
        read_only: bool,
    },
    /// One of the replicas types; the update is sent now, or kept to be sent later.
    Edit {
        reader: u8,
        replica: u8,
        kind: u8,
        keep: bool,
    },
    /// A kept update, once more or at last, perhaps with a byte changed.
    Send {
        reader: u8,
        kept: u8,
        change: Option<(u16, u8)>,
    },
    Raw {
        reader: u8,
        step2: bool,
        bytes: Vec<u8>,
    },
    Step1 {
        reader: u8,
        bytes: Vec<u8>,
    },
    Presence {
        reader: u8,
        client: u8,
        clock: u8,
        gone: bool,
    },
    Ask {
        kind: u8,
        kept: u8,
    },
    /// The store answers the append under way.
    Appended {
        ok: bool,
    },
    /// The store answers what else it was asked.
    Answered {
        ok: bool,
    },
    Compacted {
        ok: bool,
    },
    Overflowed {
        reader: u8,
        what: u8,
    },
    Drained {
        reader: u8,
    },
    Wait {
        seconds: u8,
    },
    Flush,
}

struct Desk {
    core: Core<()>,
    now: Now,
    effects: Vec<Effect>,
    stored: Vec<Record>,
    appending: Option<(u64, Vec<Record>)>,
    asking: Option<Effect>,
    compacting: bool,
    open: BTreeSet<Ticket>,
    tickets: u64,
    deleted: bool,
    epoch: Epoch,
}

fuzz_target!(|steps: Vec<Step>| {
    let settings = CoreSettings {
        doc_bytes_max: 1 << 16,
        compact_bytes: 1 << 10,
        idle: Duration::from_secs(10),
        update: UpdateLimits::default(),
    };
    let mut effects = Vec::new();
    let name = DocName::parse("fuzz").expect("a plain name");
    let core = Core::new(name, settings, Guards::nowhere(), &mut effects);
    let mut desk = Desk {
        core,
        now: Now::default(),
        effects,
        stored: Vec::new(),
        appending: None,
        asking: None,
        compacting: false,
        open: BTreeSet::new(),
        tickets: 0,
        deleted: false,
        epoch: Epoch(0),
    };
    desk.settle();
    let replicas: Vec<Doc> = (1..=3).map(Doc::with_client_id).collect();
    let mut kept = Vec::new();
    for step in steps.into_iter().take(STEPS_MAX) {
        desk.step(step, &replicas, &mut kept);
    }
});

impl Desk {
    fn step(&mut self, step: Step, replicas: &[Doc], kept: &mut Vec<Bytes>) {
        let id = |reader: u8| ReaderId(u64::from(reader) % READERS);
        let access = |read_only| if read_only { Access::Read } else { Access::Write };
        match step {
            Step::Join { reader, read_only } => {
                self.put(Input::Leave { reader: id(reader) });
                self.put(Input::Join { reader: id(reader), access: access(read_only), member: None, port: () });
            }
            Step::Leave { reader } => self.put(Input::Leave { reader: id(reader) }),
            Step::Rights { reader, read_only } => {
                self.put(Input::Rights { reader: id(reader), access: access(read_only) });
            }
            Step::Edit { reader, replica, kind, keep } => {
                let update = edit(&replicas[usize::from(replica) % replicas.len()], kind);
                kept.push(update.clone());
                if !keep {
                    self.say(id(reader), DocumentMessage::Update(update));
                }
            }
            Step::Send { reader, kept: which, change } => {
                let Some(update) = kept.get(usize::from(which) % kept.len().max(1)) else { return };
                let mut update = update.to_vec();
                if let Some((at, byte)) = change {
                    let at = usize::from(at) % update.len();
                    update[at] = byte;
                }
                self.say(id(reader), DocumentMessage::Update(update.into()));
            }
            Step::Raw { reader, step2: true, bytes } => self.say(id(reader), DocumentMessage::SyncStep2(bytes.into())),
            Step::Raw { reader, step2: false, bytes } => self.say(id(reader), DocumentMessage::Update(bytes.into())),
            Step::Step1 { reader, bytes } => self.say(id(reader), DocumentMessage::SyncStep1(bytes.into())),
            Step::Presence { reader, client, clock, gone } => {
                let state = (!gone).then(|| Bytes::from_static(b"{}"));
                let entry = Entry { client: client.into(), clock: clock.into(), state };
                self.say(id(reader), DocumentMessage::Awareness(vec![entry]));
            }
            Step::Ask { kind, kept: which } => {
                self.ask(kind, kept.get(usize::from(which) % kept.len().max(1)).cloned())
            }
            Step::Appended { ok } => self.appended(ok),
            Step::Answered { ok } => self.answered(ok),
            Step::Compacted { ok } => {
                if std::mem::take(&mut self.compacting) {
                    let done = Compacted { through: Seq(self.stored.len() as u64), state_bytes: 100 };
                    self.always(Input::Compacted(if ok { Ok(done) } else { unavailable() }));
                }
            }
            Step::Overflowed { reader, what } => {
                let lost = match what % 4 {
                    0 => Lost::Change,
                    1 => Lost::Awareness,
                    2 => Lost::State { have: StateVector::default(), answer: what > 127 },
                    _ => Lost::Echo(kept.last().cloned().unwrap_or_else(|| Bytes::from_static(&[0, 0]))),
                };
                self.always(Input::Overflowed { reader: id(reader), lost });
            }
            Step::Drained { reader } => self.put(Input::Drained { reader: id(reader) }),
            Step::Wait { seconds } => {
                self.now.moment = self.now.moment.after(Duration::from_secs(seconds.into()));
                if self.core.deadline().is_some_and(|deadline| deadline <= self.now.moment) {
                    self.put(Input::Tick);
                }
            }
            Step::Flush => self.settle(),
        }
    }

    fn say(&mut self, reader: ReaderId, message: DocumentMessage) {
        self.put(Input::Message { reader, message });
    }

    /// As the shell does: while the store is asked, the inbox waits.
    fn put(&mut self, input: Input<()>) {
        if !self.core.awaits_store() {
            self.always(input);
        }
    }

    fn always(&mut self, input: Input<()>) {
        self.core.handle(self.now, input, &mut self.effects);
        if self.core.awaits_store() {
            self.settle();
        }
    }

    fn ask(&mut self, kind: u8, update: Option<Bytes>) {
        if self.core.awaits_store() {
            return;
        }
        let update = update.unwrap_or_else(|| Bytes::from_static(&[0, 0]));
        let request = match kind % 6 {
            0 => Request::Update { update, member: None },
            1 => Request::Create { template: update, member: None },
            2 => Request::State { have: StateVector::default() },
            3 => Request::Presence,
            4 => Request::Delete,
            _ => Request::Flush,
        };
        self.tickets += 1;
        self.open.insert(Ticket(self.tickets));
        self.always(Input::Ask { ticket: Ticket(self.tickets), request });
    }

    fn appended(&mut self, ok: bool) {
        let Some((batch, records)) = self.appending.take() else { return };
        let result = match ok {
            true if self.deleted => Err(StoreError::Deleted),
            true => {
                self.stored.extend(records);
                Ok(Seq(self.stored.len() as u64))
            }
            false => unavailable(),
        };
        self.always(Input::Appended { batch, result });
    }

    fn answered(&mut self, ok: bool) {
        let input = match self.asking.take() {
            Some(Effect::Load) if self.deleted => Input::Loaded(Err(StoreError::Deleted)),
            Some(Effect::Load) => Input::Loaded(if ok { Ok(self.loaded()) } else { unavailable() }),
            Some(Effect::Delete) if ok => {
                self.deleted = true;
                self.stored.clear();
                Input::Erased(Ok(true))
            }
            Some(Effect::Delete) => Input::Erased(unavailable()),
            Some(Effect::Revive) if ok => {
                self.deleted = false;
                self.epoch = Epoch(self.epoch.0 + 1);
                Input::Revived(Ok(self.epoch))
            }
            Some(Effect::Revive) => Input::Revived(unavailable()),
            _ => return,
        };
        self.always(input);
    }

    fn loaded(&self) -> Loaded {
        let numbered = self.stored.iter().enumerate().map(|(index, record)| (Seq(index as u64 + 1), record.clone()));
        Loaded { snapshot: None, records: numbered.collect(), last: Seq(self.stored.len() as u64), epoch: self.epoch }
    }

    fn settle(&mut self) {
        self.core.flush(self.now, &mut self.effects);
        while !self.effects.is_empty() {
            for effect in std::mem::take(&mut self.effects) {
                self.perform(effect);
            }
        }
        self.core.settled();
        assert!(self.core.waiting_len() <= 256);
        assert!(self.core.backlog_bytes() <= 64 << 20);
        assert!(!self.core.replica().is_some_and(|replica| replica.has_pending()));
    }

    fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Append { batch, records, .. } => self.appending = Some((batch, records)),
            Effect::Load | Effect::Delete | Effect::Revive => self.asking = Some(effect),
            Effect::Compact { .. } => self.compacting = true,
            Effect::Echo { update, .. } => {
                let says_nothing = validate(&update, &UpdateLimits::default()).is_ok_and(|summary| summary.is_empty());
                assert!(says_nothing || !self.stored.is_empty() || self.deleted, "nothing is saved yet");
            }
            Effect::Answer { ticket, .. } => assert!(self.open.remove(&ticket), "answered twice"),
            Effect::Retire => self.core.stay(self.now),
            _ => {}
        }
    }
}

fn edit(doc: &Doc, kind: u8) -> Bytes {
    let (text, map, list) = (doc.get_or_insert_text("t"), doc.get_or_insert_map("m"), doc.get_or_insert_array("l"));
    let mut txn = doc.transact_mut();
    let (length, items) = (text.len(&txn), list.len(&txn));
    match kind % 6 {
        0 => text.insert(&mut txn, u32::from(kind) % (length + 1), "ab"),
        1 if length > 0 => text.remove_range(&mut txn, u32::from(kind) % length, 1),
        2 => drop(map.insert(&mut txn, format!("k{}", kind % 3), f64::from(kind))),
        3 => drop(map.remove(&mut txn, &format!("k{}", kind % 3))),
        4 if items > 0 => list.remove(&mut txn, u32::from(kind) % items),
        _ => drop(list.insert(&mut txn, u32::from(kind) % (items + 1), f64::from(kind))),
    }
    txn.commit();
    txn.encode_update_v1().into()
}

fn unavailable<T>() -> Result<T, StoreError> {
    Err(StoreError::Unavailable("fuzz".into()))
}
