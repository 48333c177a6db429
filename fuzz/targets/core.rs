//! Any life of one document: readers come, lag and leave, the store is slow or fails, and every law of the shell holds.
//!
//! The engine dies of some updates that no validator can tell from honest ones (`docs/HAZARDS.md`), and would take this
//! process with it. So what is *merged* here was written by Yjs: genuine updates in any order, doubled, joined, cut, or
//! with holes. Bytes that were tampered with are sent too, where the validator or the gate stops them. What the engine
//! makes of the rest is for `fuzz/hostile.sh`, which can afford to lose a process.

#![no_main]

#[path = "../../tests/hostile/shell.rs"]
mod shell;
#[allow(dead_code)]
#[path = "../../tests/hostile/stories.rs"]
mod stories;

use bytes::Bytes;
use libfuzzer_sys::arbitrary::Result;
use libfuzzer_sys::arbitrary::Unstructured;
use libfuzzer_sys::fuzz_target;
use syncline::document::core::Input;
use syncline::document::core::ReaderId;
use syncline::document::request::Request;
use syncline::store::StoreError;
use syncline_protocol::awareness;
use syncline_protocol::channel::Access;
use syncline_protocol::channel::DocumentMessage;
use syncline_protocol::state_vector::StateVector;
use syncline_protocol::update::UpdateLimits;
use syncline_protocol::update::merge;
use syncline_protocol::update::parts;
use syncline_protocol::update::split_ready;
use syncline_protocol::update::validate;

use shell::Shell;
use stories::STORIES;
use stories::Story;

fuzz_target!(|data: &[u8]| {
    let mut shell = Shell::new();
    // Running out of bytes ends a life early.
    let _ = live(&mut Unstructured::new(data), &mut shell);
    shell.rest();
    assert_eq!(shell.counts.poisoned, 0, "the engine refused what Yjs wrote");
});

fn live(choices: &mut Unstructured<'_>, shell: &mut Shell) -> Result<()> {
    let story = choices.choose(&STORIES)?;
    while !choices.is_empty() {
        // While the store is asked, the rest waits in the inbox.
        let kind = if shell.core.awaits_store() { 0 } else { choices.int_in_range(0..=15)? };
        match kind {
            0 | 1 => answer(choices, shell)?,
            2 => {
                shell.join(access(choices)?);
            }
            3 => with_reader(choices, shell, Shell::leave)?,
            4..=7 => send_update(choices, shell, story)?,
            8 => {
                let message = message(choices, shell)?;
                with_reader(choices, shell, |shell, reader| shell.say(reader, message))?;
            }
            9 => with_reader(choices, shell, |shell, reader| {
                shell.full.insert(reader);
            })?,
            10 => with_reader(choices, shell, Shell::drained)?,
            11 => {
                let access = access(choices)?;
                with_reader(choices, shell, |shell, reader| shell.handle(Input::Rights { reader, access }))?;
            }
            12 => {
                let request = request(choices, shell, story)?;
                shell.ask(request);
            }
            13 => shell.wait(choices.arbitrary::<u16>()?.into()),
            14 => shell.start_again(),
            _ => shell.flush(),
        }
        // An actor ends its batch whenever the store is asked.
        if shell.core.awaits_store() {
            shell.flush();
        }
    }
    Ok(())
}

fn answer(choices: &mut Unstructured<'_>, shell: &mut Shell) -> Result<()> {
    let call = choices.choose_index(shell.calls.len().max(1))?;
    let failure = match choices.int_in_range(0..=9)? {
        0 | 1 => Some(StoreError::Unavailable("for now".into())),
        2 => Some(StoreError::Damaged("for good".into())),
        _ => None,
    };
    shell.answer(call, failure);
    shell.flush();
    Ok(())
}

/// Somebody who is connected, or was told to end and does not know it yet.
fn with_reader(
    choices: &mut Unstructured<'_>,
    shell: &mut Shell,
    act: impl FnOnce(&mut Shell, ReaderId),
) -> Result<()> {
    let all: Vec<ReaderId> = shell.readers.iter().chain(&shell.ended).copied().collect();
    if !all.is_empty() {
        act(shell, *choices.choose(&all)?);
    }
    Ok(())
}

fn send_update(choices: &mut Unstructured<'_>, shell: &mut Shell, story: &Story) -> Result<()> {
    let update = update(choices, shell, story)?;
    let message =
        if choices.arbitrary()? { DocumentMessage::Update(update) } else { DocumentMessage::SyncStep2(update) };
    with_reader(choices, shell, |shell, reader| shell.say(reader, message))
}

fn update(choices: &mut Unstructured<'_>, shell: &Shell, story: &Story) -> Result<Bytes> {
    let one = choices.choose(&story.updates)?.clone();
    let limits = UpdateLimits::default();
    Ok(match choices.int_in_range(0..=7)? {
        0..=3 => one,
        4 => {
            let other = choices.choose(&story.updates)?.clone();
            merge(&[one, other]).unwrap_or_default()
        }
        5 => {
            let known: StateVector = shell.core.replica().map(|replica| replica.clocks().clone()).unwrap_or_default();
            let (ready, rest) = split_ready(&one, &known, &limits).unwrap_or_default();
            if choices.arbitrary()? { ready } else { rest }.unwrap_or_default()
        }
        6 => {
            let pieces = parts(&one, &StateVector::default(), choices.arbitrary::<u8>()?.into()).unwrap_or_default();
            if pieces.is_empty() { one } else { choices.choose(&pieces)?.clone() }
        }
        _ => tampered(choices, &one)?,
    })
}

/// Changed bytes, as long as the validator stops them.
fn tampered(choices: &mut Unstructured<'_>, update: &Bytes) -> Result<Bytes> {
    let mut bytes = update.to_vec();
    for _ in 0..choices.int_in_range(1..=4)? {
        let at = choices.choose_index(bytes.len().max(1))?;
        if let Some(byte) = bytes.get_mut(at) {
            *byte = choices.arbitrary()?;
        }
    }
    let accepted = validate(&bytes, &UpdateLimits::default()).is_ok();
    Ok(if accepted { update.clone() } else { bytes.into() })
}

fn message(choices: &mut Unstructured<'_>, shell: &Shell) -> Result<DocumentMessage> {
    Ok(match choices.int_in_range(0..=4)? {
        0 => DocumentMessage::SyncStep1(StateVector::default().encode()),
        1 => {
            let clocks = shell.core.replica().map(|replica| replica.clocks().clone()).unwrap_or_default();
            let shift = choices.arbitrary::<u32>()?;
            let had: StateVector =
                clocks.iter().map(|(client, clock)| (client, clock.wrapping_sub(shift % 8))).collect();
            DocumentMessage::SyncStep1(had.encode())
        }
        2 => DocumentMessage::SyncStep1(Bytes::copy_from_slice(choices.arbitrary()?)),
        3 => DocumentMessage::Awareness(presence(choices)?),
        _ => DocumentMessage::QueryAwareness,
    })
}

fn presence(choices: &mut Unstructured<'_>) -> Result<Vec<awareness::Entry>> {
    let count = choices.int_in_range(0..=3)?;
    (0..count)
        .map(|_| {
            let states = [None, Some(&b"{}"[..]), Some(b"{\"cursor\":1}")];
            let state = choices.choose(&states)?.map(Bytes::from_static);
            Ok(awareness::Entry {
                client: choices.int_in_range(1..=6)?,
                clock: choices.arbitrary::<u8>()?.into(),
                state,
            })
        })
        .collect()
}

fn request(choices: &mut Unstructured<'_>, shell: &Shell, story: &Story) -> Result<Request> {
    Ok(match choices.int_in_range(0..=6)? {
        0 => Request::State { have: StateVector::default() },
        1 | 2 => Request::Update { update: update(choices, shell, story)?, member: None },
        3 => Request::Create { template: update(choices, shell, story)?, member: None },
        4 => Request::Presence,
        5 => Request::Delete,
        _ => Request::Flush,
    })
}

fn access(choices: &mut Unstructured<'_>) -> Result<Access> {
    Ok(if choices.int_in_range(0..=3)? == 0 { Access::Read } else { Access::Write })
}
