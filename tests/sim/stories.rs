//! Stories of one `Core`, without links and sessions: what a random history seldom reaches, or what once went wrong.

use std::time::Duration;

use bytes::Bytes;
use syncline::clock::Now;
use syncline::document::core::Cluster;
use syncline::document::core::Compacted;
use syncline::document::core::Core;
use syncline::document::core::CoreSettings;
use syncline::document::core::Effect;
use syncline::document::core::Guards;
use syncline::document::core::Input;
use syncline::document::core::Lost;
use syncline::document::core::ReaderId;
use syncline::document::core::Ticket;
use syncline::document::lineage::Lineage;
use syncline::document::request::Answer;
use syncline::document::request::Receipt;
use syncline::document::request::Request;
use syncline::document::request::Revision;
use syncline::document::states::Part;
use syncline::name::DocName;
use syncline::store::Epoch;
use syncline::store::Loaded;
use syncline::store::Record;
use syncline::store::Seq;
use syncline::store::StoreError;
use syncline_protocol::ErrorCode;
use syncline_protocol::Moment;
use syncline_protocol::channel::Access;
use syncline_protocol::channel::DocumentMessage;
use syncline_protocol::channel::ServerMessage;
use syncline_protocol::state_vector::StateVector;
use syncline_protocol::update::UpdateLimits;
use yrs::Doc;
use yrs::Text;
use yrs::Transact;

const ALICE: ReaderId = ReaderId(1);
const BOB: ReaderId = ReaderId(2);

/// A core, and what it did.
pub(crate) struct Desk {
    core: Core<()>,
    now: Now,
    done: Vec<Effect>,
}

impl Desk {
    fn new() -> Self {
        Self::with(CoreSettings {
            doc_bytes_max: 1 << 20,
            compact_bytes: 1 << 20,
            idle: Duration::from_secs(60),
            heavy_bytes: usize::MAX,
            update: UpdateLimits::default(),
            cluster: Cluster::Alone,
        })
    }

    fn with(settings: CoreSettings) -> Self {
        let mut done = Vec::new();
        let core = Core::new(DocName::parse("story").unwrap(), settings, Guards::nowhere(), &mut done);
        Self { core, now: Now::default(), done }
    }

    /// Loaded from an empty store, with Alice and Bob in it who have everything.
    pub(crate) fn shared() -> Self {
        let mut desk = Self::new();
        desk.put(Input::Loaded(Ok(Loaded::default())));
        desk.join(ALICE, Access::Write);
        desk.join(BOB, Access::Write);
        desk.take();
        desk
    }

    pub(crate) fn put(&mut self, input: Input<()>) {
        self.core.handle(self.now, input, &mut self.done);
    }

    /// Ends the batch and answers what there is to do.
    pub(crate) fn take(&mut self) -> Vec<Effect> {
        self.core.flush(self.now, &mut self.done);
        self.core.settled();
        std::mem::take(&mut self.done)
    }

    fn join(&mut self, reader: ReaderId, access: Access) {
        self.put(Input::Join { reader, access, receipt: Receipt::Echo, member: None, port: () });
        self.put(Input::Message { reader, message: DocumentMessage::SyncStep1(Bytes::from_static(&[0])) });
    }

    fn send(&mut self, reader: ReaderId, update: &Bytes) {
        self.put(Input::Message { reader, message: DocumentMessage::Update(update.clone()) });
    }

    fn ask(&mut self, ticket: u64, request: Request) {
        self.put(Input::Ask { ticket: Ticket(ticket), request });
    }

    fn wait(&mut self, seconds: u64) {
        self.now.moment = self.now.moment.after(Duration::from_secs(seconds));
        while self.core.deadline().is_some_and(|deadline| deadline <= self.now.moment) {
            let before = self.done.len();
            self.put(Input::Tick);
            self.core.flush(self.now, &mut self.done);
            if self.done.len() == before {
                break;
            }
        }
    }
}

/// Somebody who types.
pub(crate) struct Writer(Doc);

impl Writer {
    pub(crate) fn new(id: u64) -> Self {
        Self(Doc::with_client_id(id))
    }

    pub(crate) fn types(&self, words: &str) -> Bytes {
        let text = self.0.get_or_insert_text("text");
        let mut txn = self.0.transact_mut();
        let end = text.len(&txn);
        text.insert(&mut txn, end, words);
        txn.commit();
        txn.encode_update_v1().into()
    }

    pub(crate) fn clears(&self) -> Bytes {
        let text = self.0.get_or_insert_text("text");
        let mut txn = self.0.transact_mut();
        let length = text.len(&txn);
        text.remove_range(&mut txn, 0, length);
        txn.commit();
        txn.encode_update_v1().into()
    }
}

fn appends(effects: &[Effect]) -> Vec<(u64, &Vec<Record>)> {
    let append =
        |effect| if let &Effect::Append { batch, ref records, .. } = effect { Some((batch, records)) } else { None };
    effects.iter().filter_map(append).collect()
}

fn echoes(effects: &[Effect]) -> Vec<(ReaderId, Bytes)> {
    let echo = |effect: &Effect| {
        if let Effect::Echo { reader, update } = effect { Some((*reader, update.clone())) } else { None }
    };
    effects.iter().filter_map(echo).collect()
}

fn ends(effects: &[Effect]) -> Vec<(ReaderId, ErrorCode)> {
    let end = |effect: &Effect| if let Effect::End { reader, code } = effect { Some((*reader, *code)) } else { None };
    effects.iter().filter_map(end).collect()
}

fn answers(effects: &[Effect]) -> Vec<(Ticket, Result<Answer, ErrorCode>)> {
    let answer = |effect: &Effect| match effect {
        Effect::Answer { ticket, result } => Some((*ticket, result.clone().map_err(|refusal| refusal.code))),
        _ => None,
    };
    effects.iter().filter_map(answer).collect()
}

fn step1s(effects: &[Effect]) -> usize {
    effects.iter().filter(|effect| matches!(effect, Effect::Step1 { .. })).count()
}

fn unavailable<T>() -> Result<T, StoreError> {
    Err(StoreError::Unavailable("a story".into()))
}

#[test]
fn an_update_is_heard_at_once_and_echoed_when_durable() {
    let mut desk = Desk::shared();
    let update = Writer::new(7).types("hello");
    desk.send(ALICE, &update);
    let effects = desk.take();
    assert!(effects.contains(&Effect::Broadcast { update: update.clone(), except: vec![ALICE] }));
    assert_eq!(echoes(&effects), vec![]);
    let (batch, records) = appends(&effects)[0];
    assert_eq!(records[0].update, update);
    desk.put(Input::Appended { batch, result: Ok(Seq(1)) });
    assert_eq!(echoes(&desk.take()), vec![(ALICE, update)]);
}

#[test]
fn what_comes_before_its_predecessor_waits_and_heals() {
    let mut desk = Desk::shared();
    let writer = Writer::new(7);
    let (first, second) = (writer.types("a"), writer.types("b"));
    desk.send(BOB, &second);
    assert_eq!(appends(&desk.take()), vec![]);
    assert_eq!(desk.core.waiting_len(), 1);
    desk.send(ALICE, &first);
    let effects = desk.take();
    assert_eq!(appends(&effects)[0].1.len(), 2);
    assert_eq!(desk.core.waiting_len(), 0);
    assert_eq!(desk.core.replica().unwrap().clocks().clock(7), 2);
}

/// Two drops within the pause between two requests: the second was never asked for again.
#[test]
fn everything_that_was_dropped_is_asked_for() {
    let mut desk = Desk::shared();
    let writer = Writer::new(7);
    let _missing = writer.types("a");
    for _ in 0..300 {
        desk.send(BOB, &writer.types("b"));
    }
    assert_eq!(step1s(&desk.take()), 1, "once at first, however many were dropped");
    desk.wait(6);
    assert_eq!(step1s(&desk.take()), 1, "again for those dropped after the first request");
    assert!(desk.core.waiting_len() <= 256);
}

/// It was merged piece by piece while it waited, past the look at the rights.
#[test]
fn what_waits_is_not_merged_once_its_writer_may_only_read() {
    let mut desk = Desk::shared();
    let (writer, other) = (Writer::new(7), Writer::new(8));
    let (first, second, _missing) = (writer.types("a"), writer.types("b"), other.types("c"));
    let far = other.types("d");
    let both = Bytes::from(yrs::merge_updates_v1([second.as_ref(), far.as_ref()]).unwrap());
    desk.send(BOB, &both);
    desk.put(Input::Rights { reader: BOB, access: Access::Read });
    desk.send(ALICE, &first);
    let effects = desk.take();
    assert_eq!(desk.core.replica().unwrap().clocks().clock(7), 1);
    assert_eq!(ends(&effects), vec![(BOB, ErrorCode::Forbidden)]);
}

#[test]
fn a_request_whose_update_lacks_something_changes_nothing() {
    let mut desk = Desk::shared();
    let (whole, torn) = (Writer::new(7), Writer::new(8));
    let (first, _missing, third) = (torn.types("a"), torn.types("b"), torn.types("c"));
    let pieces = [whole.types("a"), first, third];
    let update = Bytes::from(yrs::merge_updates_v1(pieces.iter()).unwrap());
    desk.ask(1, Request::Update { update, member: None });
    let effects = desk.take();
    assert_eq!(answers(&effects), vec![(Ticket(1), Err(ErrorCode::ChannelError))]);
    assert_eq!(desk.core.replica().unwrap().clocks(), &StateVector::default());
}

#[test]
fn a_reader_may_repeat_what_is_known_and_nothing_else() {
    let mut desk = Desk::shared();
    let writer = Writer::new(7);
    let known = writer.types("a");
    desk.send(ALICE, &known);
    let (batch, _) = appends(&desk.take())[0];
    desk.put(Input::Appended { batch, result: Ok(Seq(1)) });
    desk.join(ReaderId(3), Access::Read);
    desk.take();
    desk.send(ReaderId(3), &known);
    assert_eq!(echoes(&desk.take()), vec![(ReaderId(3), known)]);
    for news in [writer.clears(), writer.types("b")] {
        let mut desk = Desk::shared();
        desk.join(ReaderId(3), Access::Read);
        desk.take();
        desk.send(ReaderId(3), &news);
        let effects = desk.take();
        assert_eq!(ends(&effects), vec![(ReaderId(3), ErrorCode::Forbidden)]);
        assert_eq!(appends(&effects), vec![]);
    }
}

#[test]
fn a_failing_store_is_asked_again_and_its_backlog_is_folded() {
    let mut desk = Desk::shared();
    let writer = Writer::new(7);
    desk.send(ALICE, &writer.types("a"));
    let (batch, _) = appends(&desk.take())[0];
    desk.put(Input::Appended { batch, result: unavailable() });
    assert!(desk.core.is_store_failing());
    for _ in 0..10_001 {
        desk.send(ALICE, &writer.types("b"));
        desk.core.flush(desk.now, &mut desk.done);
    }
    desk.take();
    desk.wait(3);
    let effects = desk.take();
    let (batch, records) = appends(&effects)[0];
    assert!(records.len() <= 2, "one whole state in place of ten thousand updates");
    desk.put(Input::Appended { batch, result: Ok(Seq(1)) });
    let states = desk.take().into_iter().filter(|effect| matches!(effect, Effect::State { reader: ALICE, .. })).count();
    assert_eq!(states, 1, "one catch-up in place of ten thousand echoes");
}

#[test]
fn a_folded_acknowledgement_survives_a_deletion_that_fails() {
    let mut desk = Desk::shared();
    let writer = Writer::new(7);
    desk.send(ALICE, &writer.types("a"));
    let (batch, _) = appends(&desk.take())[0];
    desk.put(Input::Appended { batch, result: unavailable() });
    for _ in 0..10_001 {
        desk.send(ALICE, &writer.types("b"));
    }
    desk.take();
    desk.wait(3);
    let (batch, _) = appends(&desk.take())[0];
    desk.ask(1, Request::Delete);
    desk.take();
    desk.put(Input::Appended { batch, result: Ok(Seq(1)) });
    desk.put(Input::Erased(unavailable()));
    assert!(desk.take().iter().any(|effect| matches!(effect, Effect::State { reader: ALICE, .. })));
}

/// The rest of the batch was sent to whole readers only, and counted as what this one had.
#[test]
fn a_reader_whose_echo_does_not_fit_still_gets_the_rest_of_the_batch() {
    let mut desk = Desk::shared();
    let (alice, bob) = (Writer::new(7).types("a"), Writer::new(8).types("b"));
    desk.send(ALICE, &alice);
    let (batch, _) = appends(&desk.take())[0];
    desk.put(Input::Appended { batch, result: Ok(Seq(1)) });
    desk.send(BOB, &bob);
    desk.core.flush(desk.now, &mut desk.done);
    desk.put(Input::Overflowed { reader: ALICE, lost: Lost::Echo(alice) });
    desk.take();
    desk.put(Input::Drained { reader: ALICE });
    let effects = desk.take();
    let state = effects.iter().find_map(|effect| match effect {
        Effect::State { reader: ALICE, have, parts, .. } => Some((have, parts)),
        _ => None,
    });
    let (have, parts) = state.unwrap();
    assert_eq!((have.clock(7), have.clock(8)), (0, 0));
    assert!(matches!(&parts[..], [Part { message: ServerMessage::Update(_), .. }]));
}

#[test]
fn a_document_over_its_size_refuses_and_goes_on() {
    let settings = CoreSettings {
        doc_bytes_max: 200,
        compact_bytes: 1 << 20,
        idle: Duration::from_secs(60),
        heavy_bytes: usize::MAX,
        update: UpdateLimits::default(),
        cluster: Cluster::Alone,
    };
    let mut desk = Desk::with(settings);
    desk.put(Input::Loaded(Ok(Loaded::default())));
    desk.join(ALICE, Access::Write);
    desk.join(BOB, Access::Write);
    desk.take();
    desk.send(ALICE, &Writer::new(7).types(&"x".repeat(300)));
    assert_eq!(ends(&desk.take()), vec![(ALICE, ErrorCode::PayloadTooLarge)]);
    desk.send(BOB, &Writer::new(8).types("small"));
    assert_eq!(appends(&desk.take()).len(), 1);
}

#[test]
fn a_deleted_document_is_closed_and_lives_again_only_when_created() {
    let mut desk = Desk::shared();
    desk.send(ALICE, &Writer::new(7).types("a"));
    let (batch, _) = appends(&desk.take())[0];
    desk.put(Input::Appended { batch, result: Ok(Seq(1)) });
    desk.ask(1, Request::Delete);
    let memo = Lineage::default().memo(Epoch(0), &[(7, 1)].into_iter().collect());
    let effects = desk.take();
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Delete { ending } if ending.memo() == memo)));
    assert!(desk.core.awaits_store());
    desk.put(Input::Erased(Ok(true)));
    let effects = desk.take();
    assert_eq!(answers(&effects), vec![(Ticket(1), Ok(Answer::Done))]);
    assert_eq!(ends(&effects), vec![(ALICE, ErrorCode::NotFound), (BOB, ErrorCode::NotFound)]);
    desk.ask(2, Request::Update { update: Writer::new(8).types("b"), member: None });
    assert_eq!(answers(&desk.take()), vec![(Ticket(2), Err(ErrorCode::NotFound))]);
    desk.ask(3, Request::Create { template: Bytes::from_static(&[0, 0]), member: None });
    assert!(desk.take().contains(&Effect::Revive));
    desk.put(Input::Revived(Ok(Epoch(1))));
    assert!(desk.take().contains(&Effect::Load));
    desk.put(Input::Loaded(Ok(Loaded { epoch: Epoch(1), memo, ..Loaded::default() })));
    let effects = desk.take();
    let (batch, _) = appends(&effects)[0];
    assert!(matches!(
        effects.iter().find(|e| matches!(e, Effect::Append { .. })),
        Some(Effect::Append { epoch: Epoch(1), .. })
    ));
    desk.put(Input::Appended { batch, result: Ok(Seq(1)) });
    let reborn = Revision { epoch: Epoch(1), seq: Seq(1), settled: true };
    assert_eq!(answers(&desk.take()), vec![(Ticket(3), Ok(Answer::Created { created: true, revision: reborn }))]);
}

/// Clients that redialled kept it closed for ever.
#[test]
fn a_document_that_could_not_be_loaded_is_tried_again() {
    let mut desk = Desk::new();
    desk.put(Input::Join { reader: ALICE, access: Access::Write, receipt: Receipt::Echo, member: None, port: () });
    desk.put(Input::Loaded(unavailable()));
    assert_eq!(ends(&desk.take()), vec![(ALICE, ErrorCode::StoreUnavailable)]);
    desk.now.moment = Moment(500);
    desk.join(BOB, Access::Write);
    assert_eq!(ends(&desk.take()), vec![(BOB, ErrorCode::StoreUnavailable)]);
    desk.now.moment = Moment(1_100);
    desk.put(Input::Join {
        reader: ReaderId(3),
        access: Access::Write,
        receipt: Receipt::Echo,
        member: None,
        port: (),
    });
    assert!(desk.take().contains(&Effect::Load));
    desk.put(Input::Loaded(Ok(Loaded::default())));
    assert_eq!(step1s(&desk.take()), 1, "who waited is greeted");
}

#[test]
fn an_idle_document_leaves_a_snapshot_behind_and_then_memory() {
    let mut desk = Desk::shared();
    desk.send(ALICE, &Writer::new(7).types(&"x".repeat(70_000)));
    let (batch, _) = appends(&desk.take())[0];
    desk.put(Input::Appended { batch, result: Ok(Seq(1)) });
    desk.put(Input::Leave { reader: ALICE });
    desk.put(Input::Leave { reader: BOB });
    desk.take();
    desk.wait(61);
    assert!(desk.take().contains(&Effect::Compact { epoch: Epoch(0) }));
    desk.put(Input::Compacted(Ok(Compacted { through: Seq(1), state_bytes: 70_000 })));
    assert!(!desk.take().contains(&Effect::Retire));
    desk.wait(61);
    assert!(desk.take().contains(&Effect::Retire));
}

/// Clients take any frame that brings their own content back for "saved", not only the echo.
#[test]
fn a_lagging_writer_is_caught_up_only_when_its_own_edits_are_durable() {
    let mut desk = Desk::shared();
    desk.send(BOB, &Writer::new(8).types("b"));
    let (batch, _) = appends(&desk.take())[0];
    desk.put(Input::Overflowed { reader: ALICE, lost: Lost::Change });
    desk.put(Input::Appended { batch, result: Ok(Seq(1)) });
    desk.send(ALICE, &Writer::new(7).types("a"));
    let (batch, _) = appends(&desk.take())[0];
    desk.put(Input::Drained { reader: ALICE });
    let states = |effects: Vec<Effect>| effects.into_iter().any(|effect| matches!(effect, Effect::State { .. }));
    assert!(!states(desk.take()), "it would bring Alice's own edit back before it is on disk");
    desk.put(Input::Appended { batch, result: Ok(Seq(2)) });
    assert!(states(desk.take()));
    assert!(desk.core.is_whole(ALICE));
}

/// What a reader has and we lack may be another's edit that a crash took: 4403 would send the reader away for good.
#[test]
fn a_reader_that_answers_with_more_than_we_have_hears_no_and_stays() {
    let mut desk = Desk::shared();
    let reader = ReaderId(3);
    desk.join(reader, Access::Read);
    desk.take();
    let lost = Writer::new(7).types("a");
    desk.put(Input::Message { reader, message: DocumentMessage::SyncStep2(lost) });
    let effects = desk.take();
    assert!(effects.contains(&Effect::Deny { reader, code: ErrorCode::Forbidden }));
    assert_eq!((ends(&effects), appends(&effects)), (vec![], vec![]));
}

#[test]
fn a_second_creation_is_answered_when_the_first_is_durable() {
    let mut desk = Desk::shared();
    for ticket in [1, 2] {
        desk.ask(ticket, Request::Create { template: Bytes::from_static(&[0, 0]), member: None });
    }
    let effects = desk.take();
    assert_eq!(answers(&effects), vec![]);
    let (batch, _) = appends(&effects)[0];
    desk.put(Input::Appended { batch, result: Ok(Seq(1)) });
    let revision = Revision { epoch: Epoch(0), seq: Seq(1), settled: true };
    let created = |created| Ok(Answer::Created { created, revision });
    assert_eq!(answers(&desk.take()), vec![(Ticket(1), created(true)), (Ticket(2), created(false))]);
}
