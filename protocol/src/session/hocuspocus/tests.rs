//! Stories of connections, one for each rule, and laws over random lives.

use std::time::Duration;

use super::*;
use crate::session::Session;

mod beginnings;
mod endings;
mod laws;
mod rights;

const SETTINGS: HocuspocusSettings = HocuspocusSettings {
    keep_alive: Duration::from_secs(20),
    grace: Duration::from_secs(30),
    renew_before: Duration::from_secs(30),
    auth_within: Duration::from_secs(60),
    sync_within: Duration::from_secs(10),
    channels_max: 1000,
    anonymous: false,
};
const START: Moment = Moment(100_000);
const V4: Option<&str> = Some("4.8.0");
const UNSAID: Option<&str> = None;
const STEP_1: DocumentMessage = DocumentMessage::SyncStep1(Bytes::from_static(&[0]));

const A: ChannelId = ChannelId(0);
const B: ChannelId = ChannelId(1);
const C: ChannelId = ChannelId(2);

fn address(raw: &str) -> Address {
    Address::parse(raw.as_bytes()).expect("an address")
}

fn update(length: usize) -> DocumentMessage {
    DocumentMessage::Update(vec![0; length].into())
}

fn text(text: &str) -> DocumentMessage {
    DocumentMessage::Stateless(text.to_owned().into())
}

fn for_good(access: Access) -> Result<Grant, ErrorCode> {
    Ok(Grant { access, expires_at: None })
}

fn until(at: Moment) -> Result<Grant, ErrorCode> {
    Ok(Grant { access: Access::Write, expires_at: Some(at) })
}

/// A connection and the clock it is looked at by.
struct Desk {
    session: Session,
    now: Moment,
}

impl Desk {
    fn new(settings: HocuspocusSettings) -> Self {
        Self { session: Session::hocuspocus(START, settings), now: START }
    }

    fn put(&mut self, input: Input) -> Vec<Output> {
        let mut out = Vec::new();
        self.session.handle(self.now, input, &mut out);
        out
    }

    fn wait(&mut self, seconds: u64) {
        self.now = self.now.after(Duration::from_secs(seconds));
    }

    /// Lets time pass in which the client says nothing; everything that comes of it.
    fn pass(&mut self, seconds: u64) -> Vec<Output> {
        let end = self.now.after(Duration::from_secs(seconds));
        let (mut last_sent, mut all) = (self.now, Vec::new());
        while let Some(due) = self.session.deadline(last_sent).filter(|&due| due <= end) {
            self.now = self.now.max(due);
            let out = self.put(Input::Tick { last_sent });
            if out.iter().any(|output| matches!(output, Output::Send(_))) {
                last_sent = self.now;
            }
            all.extend(out);
        }
        self.now = end;
        all
    }

    fn tick(&mut self) -> Vec<Output> {
        self.put(Input::Tick { last_sent: self.now })
    }

    fn say(&mut self, raw: &str, message: &DocumentMessage) -> Vec<Output> {
        self.put(Input::Frame(hocuspocus::encode_client(&address(raw), message)))
    }

    fn show(&mut self, raw: &str, token: &str, version: Option<&str>) -> Vec<Output> {
        self.put(Input::Frame(hocuspocus::encode_token(&address(raw), token, version)))
    }

    fn leave(&mut self, raw: &str) -> Vec<Output> {
        self.put(Input::Frame(hocuspocus::encode_close(&address(raw))))
    }

    fn verdict(&mut self, channel: ChannelId, verdict: Result<Grant, ErrorCode>) -> Vec<Output> {
        self.put(Input::Verdict { channel, verdict })
    }

    /// Token, verdict, first synchronisation: an open channel.
    fn open(&mut self, raw: &str, channel: ChannelId, version: Option<&str>, verdict: Result<Grant, ErrorCode>) {
        assert_eq!(self.show(raw, "t", version), [asked(channel, raw, "t")]);
        let access = verdict.expect("this opens").access;
        assert_eq!(self.verdict(channel, verdict), let_in(channel, raw, version, access));
        assert_eq!(self.say(raw, &STEP_1), [heard(channel, STEP_1)]);
    }
}

/// A desk at which `raw` addresses are open, numbered in order.
fn desk_with(raws: &[&str], version: Option<&str>) -> Desk {
    let mut desk = Desk::new(SETTINGS);
    for (channel, raw) in (0..).map(ChannelId).zip(raws) {
        desk.open(raw, channel, version, for_good(Access::Write));
    }
    desk
}

fn asked(channel: ChannelId, raw: &str, token: &str) -> Output {
    let doc = address(raw).name().to_owned();
    Output::Authenticate { channel, doc, token: Token::new(token.into()), renewal: false }
}

fn asked_again(channel: ChannelId, raw: &str, token: &str) -> Output {
    let doc = address(raw).name().to_owned();
    Output::Authenticate { channel, doc, token: Token::new(token.into()), renewal: true }
}

fn heard(channel: ChannelId, message: DocumentMessage) -> Output {
    Output::Document { channel, message }
}

fn attach(channel: ChannelId, raw: &str, version: Option<&str>, access: Access) -> Output {
    let provider = version.map(Provider::of_version).unwrap_or_default();
    Output::Attach { channel, access, peer: Some(Peer { address: address(raw), provider }) }
}

fn authenticated(raw: &str, access: Access) -> Output {
    Output::Send(hocuspocus::authenticated(&address(raw), access))
}

fn let_in(channel: ChannelId, raw: &str, version: Option<&str>, access: Access) -> Vec<Output> {
    vec![authenticated(raw, access), attach(channel, raw, version, access)]
}

fn denied(raw: &str, code: ErrorCode) -> Output {
    Output::Send(hocuspocus::permission_denied(raw.as_bytes(), code.word()))
}

fn put_out(channel: ChannelId, raw: &str, code: ErrorCode) -> Vec<Output> {
    let close = Output::Send(hocuspocus::close(&address(raw), code.word()));
    vec![Output::Detach { channel }, denied(raw, code), close]
}

fn closed(code: ErrorCode) -> Output {
    Output::Close { code: code.close_code_or_internal(), reason: code.word() }
}

fn reset(code: ErrorCode) -> Output {
    Output::Close { code: 4205, reason: code.word() }
}
