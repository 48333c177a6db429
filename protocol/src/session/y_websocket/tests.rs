//! Every phase against every input, and laws over random lists of inputs.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::channel::Access;
use crate::channel::DocumentMessage;
use crate::message::DecodeError;
use crate::session::Session;

const SETTINGS: SessionSettings = SessionSettings {
    keep_alive: Duration::from_secs(20),
    grace: Duration::from_secs(30),
    hold: Duration::from_secs(5),
    hold_ended: Duration::from_secs(5),
};
const START: Moment = Moment(101_000);
const EXPIRY: Moment = Moment(201_000);
/// When a channel with that expiry ends.
const END: Moment = Moment(231_000);
/// When whoever was refused at the start has waited long enough.
const HELD: Moment = Moment(106_000);
/// Neither held long enough, nor silent for long, nor run out.
const SOON: Moment = Moment(102_000);

fn grant(access: Access) -> Grant {
    Grant { access, expires_at: Some(EXPIRY) }
}

fn begin(verdict: Result<Grant, ErrorCode>) -> (Session, Vec<Output>) {
    let mut out = Vec::new();
    (Session::y_websocket(START, SETTINGS, verdict, &mut out), out)
}

fn handle(session: &mut Session, now: Moment, input: Input) -> Vec<Output> {
    let mut out = Vec::new();
    session.handle(now, input, &mut out);
    out
}

fn attach(access: Access) -> Output {
    Output::Attach { channel: ONLY, access, peer: None }
}

fn closed(code: ErrorCode) -> Output {
    Output::Close { code: code.close_code_or_internal(), reason: code.word() }
}

fn ended(code: ErrorCode) -> Vec<Output> {
    vec![Output::Detach { channel: ONLY }, closed(code)]
}

/// Every situation that a session can be in, with the moment at which the table below looks at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Row {
    Waiting,
    WaitedOut,
    Reading,
    Writing,
    RunOut,
    Over,
}

impl Row {
    const ALL: [Self; 6] = [Self::Waiting, Self::WaitedOut, Self::Reading, Self::Writing, Self::RunOut, Self::Over];

    fn session(self) -> (Session, Moment) {
        let (verdict, now) = match self {
            Self::Waiting => (Err(ErrorCode::AuthFailed), SOON),
            Self::WaitedOut => (Err(ErrorCode::AuthFailed), HELD),
            Self::Reading => (Ok(grant(Access::Read)), SOON),
            Self::Writing | Self::Over => (Ok(grant(Access::Write)), SOON),
            Self::RunOut => (Ok(grant(Access::Write)), END),
        };
        let (mut session, _) = begin(verdict);
        if self == Self::Over {
            handle(&mut session, SOON, Input::Text);
        }
        (session, now)
    }
}

const UPDATE: &[u8] = &[0, 2, 2, 0, 0];
const BROKEN: &[u8] = &[0, 2, 2, 0, 0, 0, 2];
const DENIED: &[u8] = &[2, 0, 0];
const STRANGER: ChannelId = ChannelId(1);
/// Long ago, as seen from every situation.
const QUIET: Moment = Moment(0);

fn inputs() -> Vec<Input> {
    let later = Some(Moment(1_000_000));
    let mut inputs = vec![Input::Text, Input::Tick { last_sent: START }, Input::Tick { last_sent: QUIET }];
    inputs.extend([UPDATE, BROKEN, DENIED].map(|frame| Input::Frame(Bytes::from_static(frame))));
    for channel in [ONLY, STRANGER] {
        inputs.extend([
            Input::Renewed { channel, grant: Grant { access: Access::Read, expires_at: later } },
            Input::Renewed { channel, grant: Grant { access: Access::Write, expires_at: later } },
            Input::Renewed { channel, grant: Grant { access: Access::Write, expires_at: Some(Moment(0)) } },
            Input::Verdict { channel, verdict: Err(ErrorCode::AuthFailed) },
            Input::Revoked { channel, code: ErrorCode::Forbidden },
            Input::Ended { channel, code: ErrorCode::NotFound },
        ]);
    }
    inputs
}

/// What must follow. No wildcard on either side: a new input or situation does not compile until it was thought about.
fn expected(row: Row, input: &Input) -> Vec<Output> {
    let (waited_out, run_out) = (vec![closed(ErrorCode::AuthFailed)], ended(ErrorCode::AuthExpired));
    match row {
        Row::Waiting | Row::Over => return vec![],
        Row::WaitedOut => return waited_out,
        Row::Reading | Row::Writing | Row::RunOut => {}
    }
    match input {
        Input::Verdict { .. }
        | Input::Revoked { channel: STRANGER, .. }
        | Input::Ended { channel: STRANGER, .. }
        | Input::Renewed { channel: STRANGER, .. } => vec![],
        Input::Revoked { code, .. } => ended(*code),
        Input::Ended { code, .. } => {
            vec![Output::Detach { channel: ONLY }, Output::Send(y_websocket::permission_denied(code.word()))]
        }
        Input::Renewed { grant: Grant { expires_at: Some(Moment(0)), .. }, .. } => run_out,
        Input::Renewed { grant: Grant { access: Access::Read, .. }, .. } => match row {
            Row::Writing | Row::RunOut => ended(ErrorCode::Forbidden),
            Row::Reading | Row::Waiting | Row::WaitedOut | Row::Over => vec![],
        },
        Input::Renewed { grant: Grant { access: Access::Write, .. }, .. } => match row {
            Row::Reading => vec![attach(Access::Write)],
            Row::Writing | Row::RunOut | Row::Waiting | Row::WaitedOut | Row::Over => vec![],
        },
        Input::Frame(_) | Input::Text | Input::Tick { .. } if row == Row::RunOut => run_out,
        Input::Text => ended(ErrorCode::InvalidPayload),
        Input::Tick { last_sent: START } => vec![],
        Input::Tick { .. } => vec![Output::Send(y_websocket::KEEP_ALIVE.clone())],
        Input::Frame(frame) if frame == DENIED => vec![],
        Input::Frame(frame) if frame == BROKEN => ended(ErrorCode::InvalidPayload),
        Input::Frame(frame) => {
            vec![Output::Document { channel: ONLY, message: DocumentMessage::Update(frame.slice(3..)) }]
        }
    }
}

#[test]
fn every_input_in_every_situation_has_its_answer() {
    for row in Row::ALL {
        for input in inputs() {
            let (mut session, now) = row.session();
            let want = expected(row, &input);
            assert_eq!(handle(&mut session, now, input.clone()), want, "{row:?}, {input:?}");
        }
    }
}

#[test]
fn the_granted_are_attached_and_the_refused_are_told() {
    assert_eq!(begin(Ok(grant(Access::Read))).1, [attach(Access::Read)]);
    let (session, out) = begin(Err(ErrorCode::Forbidden));
    assert_eq!(out, [Output::Send(Bytes::from_static(b"\x02\x00\x09FORBIDDEN"))]);
    assert_eq!(session.deadline(START), Some(HELD));
}

#[test]
fn without_a_hold_the_refused_are_closed_at_once() {
    let mut out = Vec::new();
    let settings = SessionSettings { hold: Duration::ZERO, ..SETTINGS };
    let mut session = Session::y_websocket(START, settings, Err(ErrorCode::Overloaded), &mut out);
    assert_eq!(out.last(), Some(&Output::Close { code: 4503, reason: "OVERLOADED" }));
    assert_eq!(session.deadline(START), None);
    assert_eq!(handle(&mut session, END, Input::Text), []);
}

#[test]
fn who_is_ended_for_good_is_held_and_not_heard_and_who_may_come_back_is_closed() {
    let (mut session, _) = begin(Ok(grant(Access::Write)));
    handle(&mut session, SOON, Input::Ended { channel: ONLY, code: ErrorCode::StaleHistory });
    let until = SOON.after(SETTINGS.hold_ended);
    assert_eq!(session.deadline(SOON), Some(until));
    assert_eq!(handle(&mut session, SOON, Input::Frame(Bytes::from_static(UPDATE))), []);
    assert_eq!(handle(&mut session, SOON, Input::Ended { channel: ONLY, code: ErrorCode::NotFound }), []);
    let close = closed(ErrorCode::StaleHistory);
    assert_eq!(handle(&mut session, until, Input::Tick { last_sent: SOON }), [close]);

    let (mut session, _) = begin(Ok(grant(Access::Write)));
    let transient = Input::Ended { channel: ONLY, code: ErrorCode::StoreUnavailable };
    assert_eq!(handle(&mut session, SOON, transient), ended(ErrorCode::StoreUnavailable));
}

#[test]
fn a_token_that_ran_out_long_ago_never_attaches() {
    let mut out = Vec::new();
    let session = Session::y_websocket(END, SETTINGS, Ok(grant(Access::Write)), &mut out);
    assert_eq!(out, [Output::Send(y_websocket::permission_denied("AUTH_EXPIRED"))]);
    assert_eq!(session.deadline(END), Some(END.after(SETTINGS.hold)));
}

#[test]
fn a_silent_client_is_kept_alive_until_its_token_runs_out_and_renewal_moves_that() {
    let (mut session, _) = begin(Ok(grant(Access::Write)));
    let mut last_sent = START;
    let mut sent = 0;
    while let Some(now) = session.deadline(last_sent).filter(|&at| at < END) {
        assert_eq!(
            handle(&mut session, now, Input::Tick { last_sent }),
            [Output::Send(y_websocket::KEEP_ALIVE.clone())]
        );
        last_sent = now;
        sent += 1;
    }
    assert_eq!(sent, 6);
    let renewed = Grant { access: Access::Write, expires_at: None };
    assert_eq!(handle(&mut session, Moment(END.0 - 1), Input::Renewed { channel: ONLY, grant: renewed }), []);
    assert_eq!(session.deadline(last_sent), Some(last_sent.after(SETTINGS.keep_alive)));
}

#[test]
fn a_broken_message_takes_back_the_good_ones_before_it() {
    let frame = Bytes::from_static(BROKEN);
    assert!(matches!(y_websocket::decode(frame.clone()), Err(DecodeError::Read(_))));
    let (mut session, _) = begin(Ok(grant(Access::Write)));
    assert_eq!(handle(&mut session, SOON, Input::Frame(frame)), ended(ErrorCode::InvalidPayload));
}

fn access() -> impl Strategy<Value = Access> {
    prop_oneof![Just(Access::Read), Just(Access::Write)]
}

fn any_grant() -> impl Strategy<Value = Grant> {
    (access(), prop::option::of(0_u64..400_000)).prop_map(|(access, at)| Grant { access, expires_at: at.map(Moment) })
}

fn any_input() -> impl Strategy<Value = Input> {
    let channel = || (0_u32..2).prop_map(ChannelId);
    let code = || prop::sample::select(ErrorCode::ALL);
    prop_oneof![
        4 => prop::collection::vec(0_u8..6, 0..8).prop_map(|bytes| Input::Frame(bytes.into())),
        4 => Just(Input::Frame(Bytes::from_static(UPDATE))),
        1 => Just(Input::Text),
        4 => any::<u32>().prop_map(|at| Input::Tick { last_sent: Moment(at.into()) }),
        2 => (channel(), any_grant()).prop_map(|(channel, grant)| Input::Renewed { channel, grant }),
        1 => (channel(), code()).prop_map(|(channel, code)| Input::Revoked { channel, code }),
        1 => (channel(), code()).prop_map(|(channel, code)| Input::Ended { channel, code }),
    ]
}

proptest! {
    #[test]
    fn any_life_is_orderly(
        verdict in prop_oneof![3 => any_grant().prop_map(Ok), 1 => Just(Err(ErrorCode::AuthFailed))],
        steps in prop::collection::vec((0_u64..30_000, any_input()), 0..40),
    ) {
        let (mut session, mut out) = begin(verdict);
        let mut now = START;
        for (wait, input) in steps {
            now = Moment(now.0 + wait);
            session.handle(now, input, &mut out);
        }
        let mut attached = false;
        for (at, output) in out.iter().enumerate() {
            match output {
                Output::Attach { .. } => attached = true,
                Output::Document { .. } => prop_assert!(attached),
                Output::Detach { .. } => prop_assert!(std::mem::take(&mut attached)),
                Output::Close { .. } => prop_assert!(!attached && at + 1 == out.len()),
                Output::Authenticate { .. } => prop_assert!(false, "nobody is asked here"),
                Output::Send(_) => {}
            }
        }
        let over = matches!(out.last(), Some(Output::Close { .. }));
        prop_assert_eq!(over, session.deadline(now).is_none());
    }

    /// A shell that ticks when it is told to never spins.
    #[test]
    fn after_a_tick_the_next_lies_ahead(verdict in any_grant(), late in prop::collection::vec(0_u64..50_000, 1..20)) {
        let (mut session, _) = begin(Ok(verdict));
        let mut last_sent = START;
        for late in late {
            let Some(due) = session.deadline(last_sent) else { break };
            let now = Moment(due.0 + late);
            if handle(&mut session, now, Input::Tick { last_sent }).iter().any(|o| matches!(o, Output::Send(_))) {
                last_sent = now;
            }
            prop_assert!(session.deadline(last_sent).is_none_or(|next| next > now));
        }
    }
}
