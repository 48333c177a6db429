//! Frames recorded from the real npm packages (`vectors/capture`) are read as what they are and written as they were, and a
//! session that is told them lives as their client did.

use bytes::Bytes;
use serde_json::Value;
use syncline_protocol::ErrorCode;
use syncline_protocol::Moment;
use syncline_protocol::awareness;
use syncline_protocol::channel::Access;
use syncline_protocol::channel::DocumentMessage;
use syncline_protocol::channel::ServerMessage;
use syncline_protocol::hocuspocus;
use syncline_protocol::hocuspocus::Address;
use syncline_protocol::hocuspocus::Addressed;
use syncline_protocol::hocuspocus::Frame;
use syncline_protocol::hocuspocus::Message;
use syncline_protocol::session::Grant;
use syncline_protocol::session::HocuspocusSettings;
use syncline_protocol::session::Input;
use syncline_protocol::session::Output;
use syncline_protocol::session::Session;

const RECORDINGS: &[(&str, &str)] = &[
    ("2.15.3", include_str!("../vectors/hocuspocus-2.15.3.json")),
    ("3.4.4", include_str!("../vectors/hocuspocus-3.4.4.json")),
    ("4.8.0", include_str!("../vectors/hocuspocus-4.8.0.json")),
];

struct Recorded {
    title: String,
    /// What a server meant by it; `None` where a client said it.
    says: Option<Vec<Value>>,
    bytes: Bytes,
}

fn recording(version: &str, text: &str) -> Vec<Recorded> {
    let recording: Value = serde_json::from_str(text).expect("recordings are JSON");
    let frames = recording["frames"].as_array().expect("a list of frames");
    frames.iter().map(|frame| read(version, frame)).collect()
}

fn read(version: &str, frame: &Value) -> Recorded {
    let text = |key: &str| frame[key].as_str().expect("names and bytes are text");
    Recorded {
        title: format!("{version}, {} ({})", text("name"), text("direction")),
        says: frame["says"].as_array().cloned(),
        bytes: unhex(text("hex")),
    }
}

fn unhex(text: &str) -> Bytes {
    let byte = |at| u8::from_str_radix(&text[at..at + 2], 16).expect("hex");
    (0..text.len()).step_by(2).map(byte).collect()
}

fn all() -> impl Iterator<Item = (&'static str, Recorded)> {
    RECORDINGS
        .iter()
        .flat_map(|&(version, text)| recording(version, text).into_iter().map(move |frame| (version, frame)))
}

fn addressed(frame: &Recorded) -> Option<(Address, Addressed)> {
    match hocuspocus::split(frame.bytes.clone()) {
        Ok(Frame::Addressed(addressed)) => {
            Some((Address::parse(addressed.address()).expect("recorded addresses are good"), addressed))
        }
        Ok(Frame::Ping | Frame::Pong) => None,
        Err(error) => panic!("{}: {error}", frame.title),
    }
}

#[test]
fn what_clients_said_is_written_as_it_was() {
    for (version, frame) in all().filter(|(_, frame)| frame.says.is_none()) {
        let written = addressed(&frame).map_or(hocuspocus::PONG.clone(), |(address, addressed)| {
            match addressed.message().unwrap_or_else(|error| panic!("{}: {error}", frame.title)) {
                Message::Document(message) => hocuspocus::encode_client(&address, &message),
                Message::Auth { token, provider } => {
                    assert_eq!(provider.major, version.starts_with('4').then_some(4), "{}", frame.title);
                    hocuspocus::encode_token(&address, token.secret(), provider.major.map(|_| version))
                }
                Message::Close => hocuspocus::encode_close(&address),
                other => panic!("{}: {other:?}", frame.title),
            }
        });
        assert_eq!(written, frame.bytes, "{}", frame.title);
    }
}

#[test]
fn what_clients_were_told_is_told() {
    for (_, frame) in all() {
        let Some(says) = &frame.says else { continue };
        let text = |at: usize| says[at].as_str().expect("text");
        let Some((address, addressed)) = addressed(&frame) else {
            assert_eq!((text(0), &frame.bytes), ("ping", &hocuspocus::PING));
            continue;
        };
        let written = match text(0) {
            "authenticated" if text(1) == "readonly" => hocuspocus::authenticated(&address, Access::Read),
            "authenticated" => hocuspocus::authenticated(&address, Access::Write),
            "denied" => hocuspocus::permission_denied(addressed.address(), text(1)),
            "close" => hocuspocus::close(&address, text(1)),
            "token request" => hocuspocus::token_request(&address),
            "keep-alive" => hocuspocus::keep_alive(&address),
            "stateless" => hocuspocus::stateless_frame(&address, text(1).as_bytes()).slice(2..),
            "sync status" => hocuspocus::sync_status_frame(&address, says[1] == 1).slice(2..),
            "query" => hocuspocus::encode_client(&address, &DocumentMessage::QueryAwareness),
            _ => hocuspocus::encode(&address, &as_said(&addressed)),
        };
        assert_eq!(written, frame.bytes, "{}", frame.title);
    }
}

/// Both sides use the same words for what every dialect has.
fn as_said(addressed: &Addressed) -> ServerMessage {
    match addressed.message() {
        Ok(Message::Document(DocumentMessage::SyncStep1(vector))) => ServerMessage::SyncStep1(vector),
        Ok(Message::Document(DocumentMessage::SyncStep2(update))) => ServerMessage::SyncStep2(update),
        Ok(Message::Document(DocumentMessage::Update(update))) => ServerMessage::Update(update),
        Ok(Message::Document(DocumentMessage::Awareness(entries))) => {
            ServerMessage::Awareness(awareness::encode(entries.iter()))
        }
        other => panic!("a server would not say {other:?}"),
    }
}

/// Every version, from its first token to its last word: let in at once, and refused and evicted where it was.
#[test]
fn a_session_follows_every_recorded_life() {
    for (version, text) in RECORDINGS {
        let mut life = Life::new();
        for frame in recording(version, text) {
            match frame.says.as_ref().and_then(|says| says[0].as_str()) {
                None => life.hear(frame.bytes),
                Some("denied" | "close") => life.evict(),
                Some(_) => {}
            }
        }
        let sessions = usize::from(version.starts_with('4'));
        assert_eq!(life.attached, 3 + sessions, "{version}: two documents, one of them twice, and a session");
        let evicted = usize::from(!version.starts_with('2'));
        assert_eq!(life.detached, 2 + evicted, "{version}: refused, left, and evicted where that is understood");
        assert_eq!(life.steps, 4 + sessions, "{version}: a first step for each, and one that was forced");
        assert!(!life.closed, "{version}");
    }
}

struct Life {
    session: Session,
    newest: Option<syncline_protocol::channel::ChannelId>,
    attached: usize,
    detached: usize,
    steps: usize,
    closed: bool,
}

const NOW: Moment = Moment(1_000);

impl Life {
    fn new() -> Self {
        let wait = std::time::Duration::from_secs(20);
        let settings = HocuspocusSettings {
            keep_alive: wait,
            grace: wait,
            renew_before: wait,
            auth_within: wait,
            sync_within: wait,
            channels_max: 100,
            anonymous: false,
        };
        let session = Session::hocuspocus(NOW, settings);
        Self { session, newest: None, attached: 0, detached: 0, steps: 0, closed: false }
    }

    fn hear(&mut self, frame: Bytes) {
        self.put(Input::Frame(frame));
    }

    fn evict(&mut self) {
        let channel = self.newest.expect("somebody was there");
        self.put(Input::Revoked { channel, code: ErrorCode::Forbidden });
    }

    fn put(&mut self, input: Input) {
        let mut out = Vec::new();
        self.session.handle(NOW, input, &mut out);
        for output in out {
            match output {
                Output::Authenticate { channel, .. } => {
                    let verdict = Ok(Grant { access: Access::Write, expires_at: None });
                    self.put(Input::Verdict { channel, verdict });
                }
                Output::Attach { channel, .. } => {
                    self.newest = Some(channel);
                    self.attached += 1;
                }
                Output::Detach { .. } => self.detached += 1,
                Output::Document { message: DocumentMessage::SyncStep1(_), .. } => self.steps += 1,
                Output::Document { .. } | Output::Send(_) => {}
                Output::Close { .. } => self.closed = true,
            }
        }
    }
}
