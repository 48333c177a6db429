//! Every phase of a document × every input: what follows. A new phase or input does not compile until somebody decided.

use std::time::Duration;

use bytes::Bytes;
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
use syncline::store::Seq;
use syncline::store::StoreError;
use syncline_protocol::Moment;
use syncline_protocol::channel::Access;
use syncline_protocol::channel::DocumentMessage;
use syncline_protocol::update::UpdateLimits;

const READER: ReaderId = ReaderId(1);
const NEWCOMER: ReaderId = ReaderId(2);

#[derive(Debug, Clone, Copy)]
enum Phase {
    Loading,
    Live,
    Deleting,
    Closed,
}

/// What is to happen.
#[derive(Debug, PartialEq, Eq)]
enum Then {
    /// The shell keeps it in the inbox until the store has answered.
    Waits,
    /// Exactly these effects, up to the end of the batch.
    Does(&'static [&'static str]),
}

use Then::Does;
use Then::Waits;

fn expected(phase: Phase, input: &Input<()>) -> Then {
    match phase {
        Phase::Loading => match input {
            Input::Loaded(_) | Input::Appended { .. } | Input::Compacted(_) | Input::Erased(_) => Does(&[]),
            Input::Revived(_) => Does(&["Load"]),
            Input::Overflowed { .. } => Does(&[]),
            Input::Join { .. } | Input::Rights { .. } | Input::Leave { .. } | Input::Message { .. } => Waits,
            Input::Ask { .. } | Input::Drained { .. } | Input::Tick => Waits,
        },
        Phase::Live => match input {
            Input::Join { .. } => Does(&["Step1"]),
            Input::Message { .. } => Does(&["State"]),
            Input::Ask { .. } => Does(&["Answer"]),
            Input::Overflowed { .. } => Does(&["Count"]),
            Input::Rights { .. } | Input::Leave { .. } | Input::Drained { .. } | Input::Tick => Does(&[]),
            Input::Loaded(_) | Input::Appended { .. } | Input::Compacted(_) | Input::Erased(_) => Does(&[]),
            Input::Revived(_) => Does(&[]),
        },
        Phase::Deleting => match input {
            Input::Erased(_) => Does(&["Answer", "End", "Retire"]),
            Input::Overflowed { .. } => Does(&["Count"]),
            Input::Loaded(_) | Input::Appended { .. } | Input::Compacted(_) => Does(&[]),
            Input::Revived(_) => Does(&[]),
            Input::Join { .. } | Input::Rights { .. } | Input::Leave { .. } | Input::Message { .. } => Waits,
            Input::Ask { .. } | Input::Drained { .. } | Input::Tick => Waits,
        },
        Phase::Closed => match input {
            Input::Join { .. } => Does(&["End"]),
            Input::Ask { .. } => Does(&["Answer"]),
            Input::Message { .. } | Input::Rights { .. } | Input::Leave { .. } | Input::Drained { .. } => Does(&[]),
            Input::Overflowed { .. } | Input::Tick => Does(&[]),
            Input::Loaded(_) | Input::Appended { .. } | Input::Compacted(_) | Input::Erased(_) => Does(&[]),
            Input::Revived(_) => Does(&[]),
        },
    }
}

fn inputs() -> Vec<Input<()>> {
    vec![
        Input::Loaded(Ok(Loaded::default())),
        Input::Join { reader: NEWCOMER, access: Access::Write, member: None, port: () },
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
        Input::Tick,
    ]
}

/// A document in that phase, with a reader where the phase has any.
fn core_in(phase: Phase, now: Now) -> Core<()> {
    let settings = CoreSettings {
        doc_bytes_max: 1 << 20,
        compact_bytes: 1 << 20,
        idle: Duration::from_secs(60),
        update: UpdateLimits::default(),
    };
    let mut effects = Vec::new();
    let mut core = Core::new(DocName::parse("phases").unwrap(), settings, Guards::nowhere(), &mut effects);
    let mut put = |core: &mut Core<()>, input| {
        core.handle(now, input, &mut effects);
        core.flush(now, &mut effects);
        core.settled();
    };
    let join = Input::Join { reader: READER, access: Access::Write, member: None, port: () };
    match phase {
        Phase::Loading => {}
        Phase::Closed => put(&mut core, Input::Loaded(Err(StoreError::Deleted))),
        Phase::Live | Phase::Deleting => {
            put(&mut core, Input::Loaded(Ok(Loaded { last: Seq(1), ..Loaded::default() })));
            put(&mut core, join);
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
    for phase in [Phase::Loading, Phase::Live, Phase::Deleting, Phase::Closed] {
        for input in inputs() {
            let mut core = core_in(phase, now);
            let (told, then) = (format!("{phase:?} × {input:?}"), expected(phase, &input));
            let Does(expected) = then else {
                assert!(core.awaits_store(), "{told}");
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
