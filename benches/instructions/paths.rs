//! The paths that are counted, and those of them that need no document.

use std::hint::black_box;
use std::io;
use std::io::IoSlice;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use syncline::auth::Auth;
use syncline::auth::Level;
use syncline::auth::jwt::NewToken;
use syncline::auth::jwt::mint;
use syncline::clock::Clock;
use syncline::config;
use syncline::config::KeySource;
use syncline::config::Sources;
use syncline::document::awareness::Awareness;
use syncline::document::awareness::Speaker;
use syncline::document::request::ReaderId;
use syncline::outbox::Budget;
use syncline::outbox::Outbox;
use syncline::outbox::OutboxLimits;
use syncline::outbox::Wire;
use syncline::store::Record;
use syncline::store::record::decode_records;
use syncline::store::record::encode_records;
use syncline_protocol::Moment;
use syncline_protocol::awareness::Entry;
use syncline_protocol::channel::Access;
use syncline_protocol::channel::ChannelId;
use syncline_protocol::channel::DocumentMessage;
use syncline_protocol::channel::ServerMessage;
use syncline_protocol::session::Grant;
use syncline_protocol::session::Input;
use syncline_protocol::session::Session;
use syncline_protocol::session::SessionSettings;
use syncline_protocol::update::UpdateLimits;
use syncline_protocol::update::merge;
use syncline_protocol::update::validate;
use syncline_protocol::web_socket::Decoder;
use syncline_protocol::y_websocket;

use crate::document;
use crate::material::cell;
use crate::material::many_structs;
use crate::material::typing;
use crate::room;

/// One hot path.
pub(crate) struct Path {
    pub(crate) name: &'static str,
    /// How often it runs: so that it weighs more than what the two runs may differ in besides, and takes a second or two.
    pub(crate) rounds: usize,
    /// Makes what is needed for at most so many rounds, and gives the operation. It is told which round it is in.
    pub(crate) prepare: fn(usize) -> Operation,
}

pub(crate) type Operation = Box<dyn FnMut(usize)>;

/// Everything that is counted, in the order of a keystroke's way.
pub(crate) const PATHS: &[Path] = &[
    Path { name: "token/authenticate", rounds: 200, prepare: authenticate },
    Path { name: "frame/decode-64", rounds: 500, prepare: |_| unframing() },
    Path { name: "session/keystroke", rounds: 5_000, prepare: |_| session(&keystroke()) },
    Path {
        name: "session/cursor",
        rounds: 2_000,
        prepare: |_| session(&DocumentMessage::Awareness(vec![cursor(7, 9)])),
    },
    Path { name: "validate/keystroke", rounds: 10_000, prepare: |_| validating(typing(1, 33).remove(32)) },
    Path { name: "validate/cell", rounds: 10_000, prepare: |_| validating(cell(1)[1].clone()) },
    Path { name: "validate/64-structs", rounds: 1_000, prepare: |_| validating(many_structs(64)) },
    Path { name: "core/keystroke-1-reader", rounds: 1_000, prepare: |rounds| document::keystrokes(1, rounds) },
    Path { name: "core/keystroke-10-readers", rounds: 1_000, prepare: |rounds| document::keystrokes(10, rounds) },
    Path { name: "core/keystroke-100-readers", rounds: 1_000, prepare: |rounds| document::keystrokes(100, rounds) },
    Path { name: "core/batch-of-64", rounds: 50, prepare: document::batches },
    Path { name: "core/cursor-of-100", rounds: 1_000, prepare: |_| document::cursors() },
    Path { name: "core/state-500-KB-cached", rounds: 1_000, prepare: |_| document::joins_cached() },
    Path { name: "core/state-500-KB-anew", rounds: 4, prepare: document::joins_anew },
    Path { name: "core/load-500-KB", rounds: 2, prepare: |_| document::loads() },
    Path { name: "merge/64-keystrokes", rounds: 200, prepare: |_| merging() },
    Path { name: "room/keystroke-1-reader", rounds: 500, prepare: |rounds| room::keystrokes(1, rounds) },
    Path { name: "room/keystroke-10-readers", rounds: 500, prepare: |rounds| room::keystrokes(10, rounds) },
    Path { name: "room/keystroke-100-readers", rounds: 200, prepare: |rounds| room::keystrokes(100, rounds) },
    Path { name: "room/batch-of-64-100-readers", rounds: 20, prepare: room::batches },
    Path { name: "room/join-500-KB", rounds: 10, prepare: |_| room::joins() },
    Path { name: "frame/encode", rounds: 5_000, prepare: |_| framing() },
    Path { name: "outbox/frame-to-100", rounds: 200, prepare: |_| outboxes() },
    Path { name: "store/encode-1", rounds: 5_000, prepare: |_| encoding(1) },
    Path { name: "store/encode-64", rounds: 500, prepare: |_| encoding(64) },
    Path { name: "store/decode-64", rounds: 500, prepare: |_| decoding(64) },
    Path { name: "awareness/apply", rounds: 5_000, prepare: |_| presence_applied() },
    Path { name: "awareness/encode-100", rounds: 500, prepare: |_| presence_encoded() },
];

/// How much the awareness paths have to hold.
pub(crate) const PEOPLE: u64 = 100;

pub(crate) fn keystroke() -> DocumentMessage {
    DocumentMessage::Update(typing(1, 33).remove(32))
}

pub(crate) fn cursor(client: u64, clock: u64) -> Entry {
    let state = Bytes::from_static(br##"{"user":{"name":"Ada","color":"#30bced"},"cursor":{"anchor":17,"head":23}}"##);
    Entry { client, clock, state: Some(state) }
}

// ---- what a socket brings ------------------------------------------------------------------------------------------

/// A token as applications make them, checked as a connection does it.
fn authenticate(_: usize) -> Operation {
    const SECRET: &str = "a secret of at least thirty-two bytes";
    let environment = vec![("SYNCLINE_AUTH__SECRET".to_owned(), SECRET.to_owned())];
    let loaded = config::load(&Sources { environment, ..Sources::default() }).expect("a secret is enough");
    let Some(KeySource::Secret(secret)) = &loaded.config.auth.key else { unreachable!("it was just set") };
    let access = [("notes/*".to_owned(), Level::Write), ("table:*".to_owned(), Level::Read)].into();
    let (name, jti) = (Some("Ada Lovelace"), Some("0c5e4f3a"));
    let token =
        mint(secret, &NewToken { sub: "ada", iat: 1_700_000_000, exp: 9_999_999_999, name, email: None, jti, access });
    let token = token.expect("ada is a good name");
    let auth = Auth::new(&loaded.config.auth, false, Clock::start()).expect("the secret is long enough");
    Box::new(move |_| {
        let identity = auth.authenticate(Some(black_box(&token))).now_or_never().expect("a secret needs no fetching");
        let level = auth.authorize(&identity.expect("it is good"), "notes/today").now_or_never();
        assert_eq!(level.expect("nobody is asked"), Ok(Level::Write));
    })
}

/// A frame comes in, what it says goes to the document.
fn session(message: &DocumentMessage) -> Operation {
    let (frame, now) = (y_websocket::encode_client(message), Moment(1_000));
    let patience = Duration::from_secs(30);
    let settings = SessionSettings { keep_alive: patience, grace: patience, hold: patience, hold_ended: patience };
    let grant = Grant { access: Access::Write, expires_at: Some(Moment(u64::MAX / 2)) };
    let mut outputs = Vec::with_capacity(4);
    let mut session = Session::y_websocket(now, settings, Ok(grant), &mut outputs);
    Box::new(move |_| {
        outputs.clear();
        session.handle(now, Input::Frame(black_box(&frame).clone()), &mut outputs);
        assert_eq!(outputs.len(), 1);
    })
}

fn validating(update: Bytes) -> Operation {
    let limits = UpdateLimits::default();
    Box::new(move |_| assert!(validate(black_box(&update), &limits).is_ok()))
}

fn merging() -> Operation {
    let letters = typing(1, 64);
    Box::new(move |_| assert!(merge(black_box(&letters)).is_some()))
}

// ---- what a socket takes -------------------------------------------------------------------------------------------

/// Takes everything.
#[derive(Debug)]
struct Sink;

impl Wire for Sink {
    fn try_write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        Ok(slices.iter().map(|slice| slice.len()).sum())
    }
}

/// One frame into a hundred outboxes, and out of them.
fn outboxes() -> Operation {
    let limits = OutboxLimits { bytes_max: 4 << 20, frames_max: 1024 };
    let (budget, now) = (Budget::new(1 << 30), Moment(1_000));
    let outboxes: Vec<_> = (0..100).map(|_| Outbox::new(now, limits, budget.clone(), Arc::new(Sink))).collect();
    let frame = y_websocket::frame(&ServerMessage::Update(typing(1, 33).remove(32)));
    Box::new(move |_| {
        for outbox in &outboxes {
            assert!(outbox.push(ChannelId(0), black_box(&frame).clone()));
        }
        for outbox in &outboxes {
            assert_eq!(outbox.flush(now).frames, 1);
        }
    })
}

/// A letter's frame, as it is made once for all readers.
fn framing() -> Operation {
    let message = ServerMessage::Update(typing(1, 33).remove(32));
    Box::new(move |_| assert!(!y_websocket::frame(black_box(&message)).is_empty()))
}

/// 64 letters' frames as they come from a socket, masked, in one read.
fn unframing() -> Operation {
    let frames: Vec<u8> =
        typing(1, 64).into_iter().flat_map(|letter| masked(&DocumentMessage::Update(letter))).collect();
    let (mut decoder, mut buffer, mut messages) = (Decoder::new(1 << 20), frames.clone(), Vec::with_capacity(64));
    Box::new(move |_| {
        // A socket would copy as well.
        buffer.copy_from_slice(&frames);
        messages.clear();
        assert!(decoder.decode(black_box(&mut buffer), &mut messages).is_ok());
        assert_eq!(messages.len(), 64);
    })
}

/// A small message as a browser frames it (RFC 6455, 5.2).
fn masked(message: &DocumentMessage) -> Vec<u8> {
    const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
    let payload = y_websocket::encode_client(message);
    let length = u8::try_from(payload.len()).ok().filter(|length| *length < 126).expect("a letter is short");
    let mut frame = vec![0x82, 0x80 | length];
    frame.extend(MASK);
    frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

// ---- what is kept --------------------------------------------------------------------------------------------------

fn records(count: usize) -> Vec<Record> {
    let record = |update| Record { update, user: Some("ada".into()), at_ms: 1_700_000_000_000, sidecar: Bytes::new() };
    typing(1, count).into_iter().map(record).collect()
}

/// Encoded and sealed with a checksum, as they stand in the log.
fn encoding(count: usize) -> Operation {
    let records = records(count);
    Box::new(move |_| assert!(encode_records(black_box(&records)).is_ok()))
}

fn decoding(count: usize) -> Operation {
    let sealed = Bytes::from(encode_records(&records(count)).expect("they are small"));
    Box::new(move |_| assert!(decode_records(black_box(&sealed)).is_ok()))
}

// ---- who is here ---------------------------------------------------------------------------------------------------

fn crowd() -> Awareness {
    let mut awareness = Awareness::default();
    for client in 1..=PEOPLE {
        awareness.apply(Moment(1_000), speaker(client), &[cursor(client, 1)], |_| false);
    }
    awareness
}

/// One of a hundred people moves the cursor, and the change is encoded for the others.
fn presence_applied() -> Operation {
    let mut awareness = crowd();
    Box::new(move |round| {
        let (client, clock) = (round as u64 % PEOPLE + 1, round as u64 / PEOPLE + 2);
        let changes = awareness.apply(Moment(1_000), speaker(client), &[cursor(client, clock)], |_| false);
        assert_eq!(changes.changed, [client]);
        black_box(awareness.encode(&changes.changed));
    })
}

fn presence_encoded() -> Operation {
    let awareness = crowd();
    Box::new(move |_| {
        black_box(awareness.encode_all().is_some());
    })
}

fn speaker(client: u64) -> Speaker {
    Speaker { id: ReaderId(client), echoes: true }
}
