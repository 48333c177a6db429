//! Any life of one connection: nothing after the close, nothing to a document that was not attached, no spinning clock.

#![no_main]

use std::time::Duration;

use bytes::Bytes;
use libfuzzer_sys::arbitrary::Result;
use libfuzzer_sys::arbitrary::Unstructured;
use libfuzzer_sys::fuzz_target;
use syncline_protocol::ErrorCode;
use syncline_protocol::Moment;
use syncline_protocol::channel::Access;
use syncline_protocol::channel::ChannelId;
use syncline_protocol::session::Grant;
use syncline_protocol::session::Input;
use syncline_protocol::session::Output;
use syncline_protocol::session::Session;
use syncline_protocol::session::SessionSettings;

fuzz_target!(|data: &[u8]| {
    // Running out of bytes ends a life early, like any hang-up.
    let _ = live(&mut Unstructured::new(data));
});

fn live(choices: &mut Unstructured<'_>) -> Result<()> {
    let mut shell = Shell::default();
    let verdict = if choices.arbitrary()? { Ok(grant(choices)?) } else { Err(code(choices)?) };
    let mut out = Vec::new();
    let mut session = Session::y_websocket(shell.now, settings(choices)?, verdict, &mut out);
    shell.perform(&mut out);
    while !choices.is_empty() {
        shell.now = Moment(shell.now.0 + u64::from(choices.arbitrary::<u16>()?));
        let input = input(choices, shell.last_sent)?;
        let is_tick = matches!(input, Input::Tick { .. });
        session.handle(shell.now, input, &mut out);
        shell.perform(&mut out);
        shell.check_deadline(&session, is_tick);
    }
    Ok(())
}

/// What a connection's task would do, and what it may rely on.
#[derive(Default)]
struct Shell {
    now: Moment,
    last_sent: Moment,
    attached: bool,
    closed: bool,
}

impl Shell {
    fn perform(&mut self, out: &mut Vec<Output>) {
        for output in out.drain(..) {
            assert!(!self.closed, "{output:?} after the close");
            match output {
                Output::Attach { .. } => self.attached = true,
                Output::Document { .. } => assert!(self.attached, "a message without a document"),
                Output::Authenticate { .. } => panic!("nobody is asked here"),
                Output::Send(_) => self.last_sent = self.now,
                Output::Detach { .. } => assert!(std::mem::take(&mut self.attached), "detached twice"),
                Output::Close { .. } => {
                    assert!(!self.attached, "closed while attached");
                    self.closed = true;
                }
            }
        }
    }

    fn check_deadline(&self, session: &Session, was_tick: bool) {
        let deadline = session.deadline(self.last_sent);
        assert_eq!(self.closed && deadline.is_some(), false, "a deadline after the close");
        assert!(deadline <= session.deadline(self.now) || deadline.is_none(), "sending brings the deadline nearer");
        if was_tick {
            assert!(deadline.is_none_or(|due| due > self.now), "a tick left its deadline where it was");
        }
    }
}

fn input(choices: &mut Unstructured<'_>, last_sent: Moment) -> Result<Input> {
    Ok(match choices.int_in_range(0..=5)? {
        0 => Input::Frame(Bytes::copy_from_slice(choices.arbitrary()?)),
        1 => Input::Text,
        2 => Input::Tick { last_sent },
        3 => Input::Renewed { channel: channel(choices)?, grant: grant(choices)? },
        4 => Input::Revoked { channel: channel(choices)?, code: code(choices)? },
        _ => Input::Ended { channel: channel(choices)?, code: code(choices)? },
    })
}

fn settings(choices: &mut Unstructured<'_>) -> Result<SessionSettings> {
    let mut wait = || choices.arbitrary::<u16>().map(|ms| Duration::from_millis(ms.into()));
    Ok(SessionSettings { keep_alive: wait()?, grace: wait()?, hold: wait()?, hold_ended: wait()? })
}

fn grant(choices: &mut Unstructured<'_>) -> Result<Grant> {
    let access = if choices.arbitrary()? { Access::Write } else { Access::Read };
    let expires_at = choices.arbitrary::<Option<u32>>()?.map(|at| Moment(at.into()));
    Ok(Grant { access, expires_at })
}

fn channel(choices: &mut Unstructured<'_>) -> Result<ChannelId> {
    choices.int_in_range(0..=1).map(ChannelId)
}

fn code(choices: &mut Unstructured<'_>) -> Result<ErrorCode> {
    choices.choose(ErrorCode::ALL).copied()
}
