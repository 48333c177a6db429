//! Any life of a connection of many documents: nothing after the close, nothing to a document that was not attached, one
//! question at a time, no spinning clock.

#![no_main]

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use libfuzzer_sys::arbitrary::Result;
use libfuzzer_sys::arbitrary::Unstructured;
use libfuzzer_sys::fuzz_target;
use syncline_protocol::ErrorCode;
use syncline_protocol::Moment;
use syncline_protocol::channel::Access;
use syncline_protocol::channel::ChannelId;
use syncline_protocol::hocuspocus;
use syncline_protocol::hocuspocus::Address;
use syncline_protocol::session::Grant;
use syncline_protocol::session::HocuspocusSettings;
use syncline_protocol::session::Input;
use syncline_protocol::session::Output;
use syncline_protocol::session::Session;

const ADDRESSES: [&str; 4] = ["a", "b", "b\0one", "c"];

fuzz_target!(|data: &[u8]| {
    // Running out of bytes ends a life early, like any hang-up.
    let _ = live(&mut Unstructured::new(data));
});

fn live(choices: &mut Unstructured<'_>) -> Result<()> {
    let mut shell = Shell::default();
    let mut out = Vec::new();
    let mut session = Session::hocuspocus(shell.now, settings(choices)?);
    while !choices.is_empty() {
        shell.now = Moment(shell.now.0 + u64::from(choices.arbitrary::<u16>()?));
        let input = input(choices, &shell)?;
        let is_tick = matches!(input, Input::Tick { .. });
        if let Input::Verdict { channel, .. } = &input {
            shell.asked.remove(channel);
        }
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
    asked: BTreeSet<ChannelId>,
    attached: BTreeMap<ChannelId, Access>,
    gone: BTreeSet<ChannelId>,
    closed: bool,
}

impl Shell {
    fn perform(&mut self, out: &mut Vec<Output>) {
        for output in out.drain(..) {
            assert!(!self.closed, "{output:?} after the close");
            match output {
                Output::Authenticate { channel, renewal, .. } => {
                    assert!(self.asked.insert(channel), "two questions at a time");
                    assert_eq!(renewal, self.attached.contains_key(&channel), "a renewal of nothing");
                }
                Output::Attach { channel, access, peer } => {
                    assert!(peer.is_some() && !self.gone.contains(&channel), "a number that was used before");
                    assert_ne!(self.attached.insert(channel, access), Some(access), "no news");
                }
                Output::Document { channel, .. } => {
                    assert!(self.attached.contains_key(&channel), "a message without a document");
                }
                Output::Send(_) => self.last_sent = self.now,
                Output::Detach { channel } => {
                    assert!(self.attached.remove(&channel).is_some(), "detached twice");
                    self.gone.insert(channel);
                }
                Output::Close { .. } => {
                    assert!(self.attached.is_empty(), "closed while attached");
                    self.closed = true;
                }
            }
        }
    }

    fn check_deadline(&self, session: &Session, was_tick: bool) {
        let deadline = session.deadline(self.last_sent);
        assert!(!self.closed || deadline.is_none(), "a deadline after the close");
        let is_idle = !self.closed && self.attached.is_empty();
        assert!(!is_idle || deadline.is_some(), "a connection without a channel would stay for ever");
        if was_tick {
            assert!(deadline.is_none_or(|due| due > self.now), "a tick left its deadline where it was");
        }
    }
}

fn input(choices: &mut Unstructured<'_>, shell: &Shell) -> Result<Input> {
    Ok(match choices.int_in_range(0..=9)? {
        0..=3 => Input::Frame(addressed(choices)?),
        4 => Input::Frame(Bytes::copy_from_slice(choices.arbitrary()?)),
        5 => Input::Tick { last_sent: shell.last_sent },
        6 => Input::Verdict { channel: channel(choices)?, verdict: verdict(choices)? },
        7 => Input::Renewed { channel: channel(choices)?, grant: grant(choices)? },
        8 => Input::Revoked { channel: channel(choices)?, code: code(choices)? },
        _ => Input::Ended { channel: channel(choices)?, code: code(choices)? },
    })
}

fn addressed(choices: &mut Unstructured<'_>) -> Result<Bytes> {
    let address = Address::parse(choices.choose(&ADDRESSES)?.as_bytes()).expect("these are addresses");
    if choices.arbitrary()? {
        let version = choices.arbitrary::<bool>()?.then_some("4.8.0");
        return Ok(hocuspocus::encode_token(&address, "t", version));
    }
    let mut frame = vec![address.as_str().len() as u8];
    frame.extend_from_slice(address.as_str().as_bytes());
    frame.extend_from_slice(choices.arbitrary()?);
    Ok(frame.into())
}

fn settings(choices: &mut Unstructured<'_>) -> Result<HocuspocusSettings> {
    let mut wait = || choices.arbitrary::<u16>().map(|ms| Duration::from_millis(ms.into()));
    let (keep_alive, grace, renew_before, auth_within, sync_within) = (wait()?, wait()?, wait()?, wait()?, wait()?);
    let channels_max = choices.int_in_range(1..=8)?;
    let auth_within = auth_within.max(Duration::from_millis(1));
    let anonymous = choices.arbitrary()?;
    Ok(HocuspocusSettings { keep_alive, grace, renew_before, auth_within, sync_within, channels_max, anonymous })
}

fn verdict(choices: &mut Unstructured<'_>) -> Result<std::result::Result<Grant, ErrorCode>> {
    Ok(if choices.ratio(3, 4)? { Ok(grant(choices)?) } else { Err(code(choices)?) })
}

fn grant(choices: &mut Unstructured<'_>) -> Result<Grant> {
    let access = if choices.arbitrary()? { Access::Write } else { Access::Read };
    let expires_at = choices.arbitrary::<Option<u32>>()?.map(|at| Moment(at.into()));
    Ok(Grant { access, expires_at })
}

fn channel(choices: &mut Unstructured<'_>) -> Result<ChannelId> {
    choices.int_in_range(0..=15).map(ChannelId)
}

fn code(choices: &mut Unstructured<'_>) -> Result<ErrorCode> {
    choices.choose(ErrorCode::ALL).copied()
}
