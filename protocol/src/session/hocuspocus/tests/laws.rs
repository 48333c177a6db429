//! Any life of a connection is orderly.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

const ADDRESSES: [&str; 4] = ["a", "b", "b\0one", "c"];

/// Something that happens.
#[derive(Debug, Clone)]
enum Event {
    Wait(u64),
    /// The clock rings when it was asked to.
    Ring,
    Show(usize, bool),
    Say(usize, DocumentMessage),
    Leave(usize),
    Raw(Vec<u8>),
    /// About one of the questions that are open.
    Answer(prop::sample::Index, Result<Grant, ErrorCode>),
    News(Input),
}

fn grant() -> impl Strategy<Value = Grant> {
    let access = prop_oneof![Just(Access::Read), Just(Access::Write)];
    (access, prop::option::of(0_u64..400_000)).prop_map(|(access, at)| Grant { access, expires_at: at.map(Moment) })
}

fn code() -> impl Strategy<Value = ErrorCode> {
    prop::sample::select(ErrorCode::ALL)
}

fn message() -> impl Strategy<Value = DocumentMessage> {
    prop_oneof![
        2 => Just(STEP_1),
        2 => (0_usize..4).prop_map(update),
        1 => Just(DocumentMessage::Awareness(vec![])),
        1 => Just(text("x")),
    ]
}

fn news() -> impl Strategy<Value = Input> {
    let channel = || (0_u32..12).prop_map(ChannelId);
    let verdict = prop_oneof![2 => grant().prop_map(Ok), 1 => code().prop_map(Err)];
    prop_oneof![
        2 => (channel(), grant()).prop_map(|(channel, grant)| Input::Renewed { channel, grant }),
        1 => (channel(), code()).prop_map(|(channel, code)| Input::Revoked { channel, code }),
        1 => (channel(), code()).prop_map(|(channel, code)| Input::Ended { channel, code }),
        1 => (channel(), verdict).prop_map(|(channel, verdict)| Input::Verdict { channel, verdict }),
    ]
}

fn event() -> impl Strategy<Value = Event> {
    let at = || 0..ADDRESSES.len();
    let verdict = prop_oneof![4 => grant().prop_map(Ok), 1 => code().prop_map(Err)];
    prop_oneof![
        2 => (0_u64..20_000).prop_map(Event::Wait),
        2 => Just(Event::Ring),
        5 => (at(), any::<bool>()).prop_map(|(at, says)| Event::Show(at, says)),
        8 => (at(), message()).prop_map(|(at, message)| Event::Say(at, message)),
        1 => at().prop_map(Event::Leave),
        1 => (b'a'..b'd', prop::collection::vec(0_u8..12, 0..6)).prop_map(|(at, rest)| Event::Raw([vec![1, at], rest].concat())),
        5 => (any::<prop::sample::Index>(), verdict).prop_map(|(index, verdict)| Event::Answer(index, verdict)),
        2 => news().prop_map(Event::News),
    ]
}

/// What a shell would know of its session, and what it may rely on.
#[derive(Default)]
struct Shell {
    /// Channels whose token is being looked at, with whether they were open when it was.
    asked: BTreeSet<ChannelId>,
    attached: BTreeMap<ChannelId, Access>,
    /// Channels that were attached once.
    gone: BTreeSet<ChannelId>,
    numbered: BTreeMap<ChannelId, String>,
    closed: bool,
}

impl Shell {
    fn perform(&mut self, input: &Input, out: &[Output]) -> Result<(), TestCaseError> {
        if let Input::Verdict { channel, .. } = input {
            self.asked.remove(channel);
        }
        for output in out {
            prop_assert!(!self.closed, "{:?} after the close", output);
            match output {
                Output::Authenticate { channel, doc, renewal, .. } => {
                    prop_assert!(self.asked.insert(*channel), "two questions about {:?}", channel);
                    prop_assert_eq!(*renewal, self.attached.contains_key(channel));
                    prop_assert_eq!(self.numbered.entry(*channel).or_insert_with(|| doc.clone()), doc);
                }
                Output::Attach { channel, access, peer } => {
                    prop_assert!(!self.gone.contains(channel), "{:?} again", channel);
                    prop_assert_ne!(self.attached.insert(*channel, *access), Some(*access), "no news");
                    let doc = peer.as_ref().map(|peer| peer.address.name());
                    prop_assert_eq!(doc, self.numbered.get(channel).map(String::as_str));
                }
                Output::Document { channel, .. } => prop_assert!(self.attached.contains_key(channel)),
                Output::Detach { channel } => {
                    prop_assert!(self.attached.remove(channel).is_some(), "{:?} was not there", channel);
                    self.gone.insert(*channel);
                }
                Output::Send(_) => {}
                Output::Close { .. } => {
                    prop_assert!(self.attached.is_empty(), "closed while attached");
                    self.closed = true;
                }
            }
        }
        Ok(())
    }
}

fn input_of(event: Event, shell: &Shell, last_sent: Moment) -> Option<Input> {
    Some(match event {
        Event::Wait(_) | Event::Ring => Input::Tick { last_sent },
        Event::Show(at, says) => {
            let version = if says { V4 } else { UNSAID };
            Input::Frame(hocuspocus::encode_token(&address(ADDRESSES[at]), "t", version))
        }
        Event::Say(at, message) => Input::Frame(hocuspocus::encode_client(&address(ADDRESSES[at]), &message)),
        Event::Leave(at) => Input::Frame(hocuspocus::encode_close(&address(ADDRESSES[at]))),
        Event::Raw(bytes) => Input::Frame(bytes.into()),
        Event::Answer(index, verdict) => {
            let asked: Vec<_> = shell.asked.iter().copied().collect();
            (!asked.is_empty()).then(|| Input::Verdict { channel: *index.get(&asked), verdict })?
        }
        Event::News(input) => input,
    })
}

proptest! {
    #[test]
    fn any_life_is_orderly(events in prop::collection::vec(event(), 0..120), few in any::<bool>()) {
        let channels_max = if few { 2 } else { 1000 };
        let mut desk = Desk::new(HocuspocusSettings { channels_max, ..SETTINGS });
        let mut shell = Shell::default();
        let mut last_sent = START;
        for event in events {
            match event {
                Event::Wait(ms) => desk.now = Moment(desk.now.0 + ms),
                Event::Ring => desk.now = desk.session.deadline(last_sent).unwrap_or(desk.now).max(desk.now),
                _ => {}
            }
            let Some(input) = input_of(event, &shell, last_sent) else { continue };
            let out = desk.put(input.clone());
            shell.perform(&input, &out)?;
            if out.iter().any(|output| matches!(output, Output::Send(_))) {
                last_sent = desk.now;
            }
            let deadline = desk.session.deadline(last_sent);
            prop_assert_eq!(shell.closed, deadline.is_none());
            if let Input::Tick { .. } = input {
                prop_assert!(deadline.is_none_or(|due| due > desk.now), "a tick leaves nothing due");
            }
        }
    }

    /// Whatever is said on one channel, its neighbour's messages arrive, unless the socket is closed.
    #[test]
    fn a_neighbour_is_never_disturbed(frames in prop::collection::vec((b'b'..b'd', prop::collection::vec(0_u8..12, 0..8)), 0..60)) {
        let mut desk = desk_with(&["a"], V4);
        for (at, rest) in frames {
            let out = desk.put(Input::Frame([vec![1, at], rest].concat().into()));
            let asked = out.iter().find_map(|output| match output {
                Output::Authenticate { channel, .. } => Some(*channel),
                _ => None,
            });
            if let Some(channel) = asked {
                desk.verdict(channel, for_good(Access::Write));
            }
            prop_assert_eq!(desk.say("a", &update(1)), [heard(A, update(1))]);
        }
    }
}
