//! Every phase of a document × every input: what follows. A new phase or input does not compile until somebody decided.

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
use syncline::document::job::Outcome;
use syncline::document::request::Receipt;
use syncline::document::request::Request;
use syncline::document::states::Prepared;
use syncline::document::states::States;
use syncline::name::DocName;
use syncline::store::Epoch;
use syncline::store::Loaded;
use syncline::store::Seq;
use syncline::store::Snapshot;
use syncline::store::StoreError;
use syncline_protocol::Moment;
use syncline_protocol::channel::Access;
use syncline_protocol::channel::DocumentMessage;
use syncline_protocol::state_vector::StateVector;
use syncline_protocol::update::UpdateLimits;

const READER: ReaderId = ReaderId(1);
const NEWCOMER: ReaderId = ReaderId(2);

#[derive(Debug, Clone, Copy)]
enum Phase {
    Loading,
    Building,
    Live,
    Encoding,
    Deleting,
    Closed,
}

/// What is to happen.
#[derive(Debug, PartialEq, Eq)]
enum Then {
    /// The shell keeps it in the inbox until the store, or the engine, has answered.
    Waits,
    /// Exactly these effects, up to the end of the batch.
    Does(&'static [&'static str]),
}

use Then::Does;
use Then::Waits;

fn expected(phase: Phase, input: &Input<()>) -> Then {
    if let Input::Peer { .. }
    | Input::Others(_)
    | Input::NodeLost(_)
    | Input::Missed
    | Input::Resumed
    | Input::Pulled(_) = input
    {
        return Does(&[]); // There are no other nodes here.
    }
    match phase {
        Phase::Loading => match input {
            Input::Loaded(_) | Input::Appended { .. } | Input::Compacted(_) | Input::Erased(_) => Does(&[]),
            Input::Revived(_) => Does(&["Load"]),
            Input::Overflowed { .. } => Does(&[]),
            Input::Join { .. } | Input::Rights { .. } | Input::Leave { .. } | Input::Message { .. } => Waits,
            Input::Ask { .. } | Input::Drained { .. } | Input::Unload | Input::Tick => Waits,
            Input::Done(Outcome::Lost) => Does(&["Retire"]),
            Input::Done(_) => Does(&[]),
            _ => Does(&[]),
        },
        Phase::Building => match input {
            Input::Message { .. } => Does(&["State"]),
            Input::Ask { .. } => Waits,
            Input::Overflowed { .. } => Does(&["Count"]),
            Input::Done(Outcome::Lost) => Does(&["Presence", "End", "Retire"]),
            Input::Join { .. } | Input::Leave { .. } => Does(&["Presence"]),
            Input::Rights { .. } | Input::Drained { .. } => Does(&[]),
            Input::Loaded(_) | Input::Appended { .. } | Input::Compacted(_) | Input::Erased(_) => Does(&[]),
            Input::Revived(_) | Input::Done(_) | Input::Unload | Input::Tick => Does(&[]),
            _ => Does(&[]),
        },
        Phase::Encoding => match input {
            Input::Done(Outcome::Lost) => Does(&["Presence", "End", "Retire"]),
            Input::Done(Outcome::Encoded(_)) => Does(&["State"]),
            Input::Done(_) => Does(&["Presence", "End", "Retire"]),
            Input::Overflowed { .. } => Does(&["Count"]),
            Input::Loaded(_) | Input::Appended { .. } | Input::Compacted(_) | Input::Erased(_) => Does(&[]),
            Input::Revived(_) => Does(&[]),
            Input::Join { .. } | Input::Rights { .. } | Input::Leave { .. } | Input::Message { .. } => Waits,
            Input::Ask { .. } | Input::Drained { .. } | Input::Unload | Input::Tick => Waits,
            _ => Does(&[]),
        },
        Phase::Live => match input {
            Input::Join { .. } => Does(&["Presence", "Step1"]),
            Input::Leave { .. } => Does(&["Presence"]),
            Input::Message { .. } => Does(&["State"]),
            Input::Ask { .. } => Does(&["Answer"]),
            Input::Overflowed { .. } => Does(&["Count"]),
            Input::Rights { .. } | Input::Drained { .. } | Input::Tick => Does(&[]),
            Input::Loaded(_) | Input::Appended { .. } | Input::Compacted(_) | Input::Erased(_) => Does(&[]),
            Input::Revived(_) | Input::Done(_) | Input::Unload => Does(&[]),
            _ => Does(&[]),
        },
        Phase::Deleting => match input {
            Input::Erased(_) => Does(&["Answer", "Presence", "End", "Retire"]),
            Input::Overflowed { .. } => Does(&["Count"]),
            Input::Loaded(_) | Input::Appended { .. } | Input::Compacted(_) => Does(&[]),
            Input::Revived(_) | Input::Done(_) => Does(&[]),
            Input::Join { .. } | Input::Rights { .. } | Input::Leave { .. } | Input::Message { .. } => Waits,
            Input::Ask { .. } | Input::Drained { .. } | Input::Unload | Input::Tick => Waits,
            _ => Does(&[]),
        },
        Phase::Closed => match input {
            Input::Join { .. } => Does(&["End"]),
            Input::Ask { .. } => Does(&["Answer"]),
            Input::Message { .. } | Input::Rights { .. } | Input::Leave { .. } | Input::Drained { .. } => Does(&[]),
            Input::Overflowed { .. } | Input::Tick => Does(&[]),
            Input::Loaded(_) | Input::Appended { .. } | Input::Compacted(_) | Input::Erased(_) => Does(&[]),
            // It is leaving already.
            Input::Revived(_) | Input::Done(_) | Input::Unload => Does(&[]),
            _ => Does(&[]),
        },
    }
}

fn inputs() -> Vec<Input<()>> {
    vec![
        Input::Loaded(Ok(Loaded::default())),
        Input::Join { reader: NEWCOMER, access: Access::Write, receipt: Receipt::Echo, member: None, port: () },
        Input::Rights { reader: READER, access: Access::Read },
        Input::Leave { reader: READER },
        Input::Message { reader: READER, message: DocumentMessage::SyncStep1(Bytes::from_static(&[0])) },
        Input::Ask { ticket: Ticket(9), request: Request::Presence },
        Input::Appended { batch: 99, result: Ok(Seq(9)) },
        Input::Compacted(Ok(Compacted { through: Seq(1), state_bytes: 2 })),
        Input::Erased(Ok(true)),
        Input::Revived(Ok(Epoch(1))),
        Input::Overflowed { reader: READER, lost: Lost::Change },
        Input::Drained { reader: READER },
        Input::Done(Outcome::Cut { loaded: stored(), states: States::default() }),
        Input::Done(Outcome::Encoded(Ok(Prepared::new(StateVector::default(), stored_update())))),
        Input::Done(Outcome::Lost),
        Input::Unload,
        Input::Tick,
    ]
}

/// One letter, by client 1.
fn stored_update() -> Bytes {
    Bytes::from_static(&[1, 1, 1, 0, 4, 1, 1, b't', 1, b'x', 0])
}

fn stored() -> Loaded {
    let snapshot = Snapshot { state: stored_update(), through: Seq(1), sidecar: Bytes::new() };
    Loaded { snapshot: Some(snapshot), last: Seq(1), ..Loaded::default() }
}

/// A document in that phase, with a reader where the phase has any.
fn core_in(phase: Phase, now: Now) -> Core<()> {
    // Everything is large in the phases that large documents have.
    let heavy_bytes = if matches!(phase, Phase::Loading | Phase::Building | Phase::Encoding) { 0 } else { usize::MAX };
    let settings = CoreSettings {
        doc_bytes_max: 1 << 20,
        compact_bytes: 1 << 20,
        idle: Duration::from_secs(60),
        heavy_bytes,
        update: UpdateLimits::default(),
        cluster: Cluster::Alone,
    };
    let mut effects = Vec::new();
    let mut core = Core::new(DocName::parse("phases").unwrap(), settings, Guards::nowhere(), &mut effects);
    let mut put = |core: &mut Core<()>, input| {
        core.handle(now, input, &mut effects);
        core.flush(now, &mut effects);
        core.settled();
        let job = effects.iter().position(|effect| matches!(effect, Effect::Run(_)));
        job.map(|job| effects.swap_remove(job))
    };
    let run = |job: Option<Effect>| match job {
        Some(Effect::Run(job)) => Input::Done(job.run()),
        other => panic!("no job: {other:?}"),
    };
    let join = Input::Join { reader: READER, access: Access::Write, receipt: Receipt::Echo, member: None, port: () };
    match phase {
        Phase::Loading => {}
        Phase::Closed => drop(put(&mut core, Input::Loaded(Err(StoreError::Deleted)))),
        Phase::Live | Phase::Deleting => {
            put(&mut core, Input::Loaded(Ok(Loaded { last: Seq(1), ..Loaded::default() })));
            put(&mut core, join);
        }
        Phase::Building | Phase::Encoding => {
            let cut = run(put(&mut core, Input::Loaded(Ok(stored()))));
            let build = put(&mut core, cut);
            put(&mut core, join);
            if let Phase::Encoding = phase {
                put(&mut core, run(build));
                // What the log has for newcomers is of no use to one who returns.
                let message = DocumentMessage::SyncStep1(Bytes::from_static(&[1, 1, 1]));
                put(&mut core, Input::Message { reader: READER, message });
            }
        }
    }
    if let Phase::Deleting = phase {
        put(&mut core, Input::Ask { ticket: Ticket(1), request: Request::Delete });
    }
    core
}

fn name(effect: &Effect) -> String {
    format!("{effect:?}").chars().take_while(|char| char.is_alphanumeric()).collect()
}

#[test]
fn every_phase_answers_every_input() {
    let now = Now { moment: Moment(10), wall_ms: 10 };
    let phases = [Phase::Loading, Phase::Building, Phase::Live, Phase::Encoding, Phase::Deleting, Phase::Closed];
    for phase in phases {
        for input in inputs() {
            let mut core = core_in(phase, now);
            let (told, then) = (format!("{phase:?} × {input:?}"), expected(phase, &input));
            let Does(expected) = then else {
                let message = if let Input::Message { message, .. } = &input { Some(message) } else { None };
                assert!(core.awaits_store() || core.must_wait(message), "{told}");
                continue;
            };
            let mut effects = Vec::new();
            core.handle(now, input, &mut effects);
            core.flush(now, &mut effects);
            let done: Vec<String> = effects.iter().map(name).collect();
            assert_eq!(done, expected, "{told}");
        }
    }
}
