//! Frames recorded from the real npm packages (`vectors/capture`) are read as what they are, and written as they were.

use bytes::Bytes;
use serde_json::Value;
use syncline_protocol::awareness;
use syncline_protocol::channel::DocumentMessage;
use syncline_protocol::channel::ServerMessage;
use syncline_protocol::state_vector::StateVector;
use syncline_protocol::y_websocket;
use syncline_protocol::y_websocket::Message;

const RECORDINGS: &[(&str, &str)] = &[
    ("2.1.0", include_str!("../vectors/y-websocket-2.1.0.json")),
    ("3.0.0", include_str!("../vectors/y-websocket-3.0.0.json")),
    ("3.1.0", include_str!("../vectors/y-websocket-3.1.0.json")),
];

struct Frame {
    title: String,
    from_client: bool,
    bytes: Bytes,
}

fn frames() -> Vec<Frame> {
    RECORDINGS.iter().flat_map(|&(version, text)| recording(version, text)).collect()
}

fn recording(version: &str, text: &str) -> Vec<Frame> {
    let recording: Value = serde_json::from_str(text).expect("recordings are JSON");
    let frames = recording["frames"].as_array().expect("a list of frames");
    frames.iter().enumerate().map(|(number, frame)| read_frame(&format!("{version} #{number}"), frame)).collect()
}

fn read_frame(position: &str, frame: &Value) -> Frame {
    let text = |key: &str| frame[key].as_str().expect("names, directions and bytes are text");
    Frame {
        title: format!("{position} {} ({})", text("name"), text("direction")),
        from_client: text("direction") == "client",
        bytes: unhex(text("hex")),
    }
}

fn unhex(text: &str) -> Bytes {
    let byte = |at| u8::from_str_radix(&text[at..at + 2], 16).expect("hex");
    (0..text.len()).step_by(2).map(byte).collect()
}

/// Every recorded client sends exactly one message per frame, and is sent exactly one.
fn only_message(frame: &Frame) -> Message {
    let messages = y_websocket::decode(frame.bytes.clone());
    let mut messages = messages.unwrap_or_else(|error| panic!("{}: {error}", frame.title));
    assert_eq!(messages.len(), 1, "{}", frame.title);
    messages.remove(0)
}

#[test]
fn every_recorded_frame_is_written_as_it_was() {
    for frame in frames() {
        let written = match only_message(&frame) {
            Message::Document(message) if frame.from_client => y_websocket::encode_client(&message),
            Message::Document(DocumentMessage::SyncStep1(body)) => y_websocket::encode(&ServerMessage::SyncStep1(body)),
            Message::Document(DocumentMessage::SyncStep2(body)) => y_websocket::encode(&ServerMessage::SyncStep2(body)),
            Message::Document(DocumentMessage::Update(body)) => y_websocket::encode(&ServerMessage::Update(body)),
            Message::Document(DocumentMessage::Awareness(entries)) => {
                y_websocket::encode(&ServerMessage::Awareness(awareness::encode(entries.iter())))
            }
            Message::Document(message @ (DocumentMessage::QueryAwareness | DocumentMessage::Stateless(_))) => {
                y_websocket::encode_client(&message)
            }
            Message::Denied(reason) => y_websocket::permission_denied(&reason),
            Message::Unknown(kind) => panic!("{}: unknown type {kind}", frame.title),
        };
        assert_eq!(written, frame.bytes, "{}", frame.title);
    }
}

#[test]
fn every_recorded_state_vector_is_written_as_it_was() {
    for frame in frames() {
        if let Message::Document(DocumentMessage::SyncStep1(bytes)) = only_message(&frame) {
            let vector = StateVector::decode(bytes.clone()).unwrap_or_else(|error| panic!("{}: {error}", frame.title));
            assert_eq!(vector.encode(), bytes, "{}", frame.title);
        }
    }
}

#[test]
fn the_recordings_hold_every_kind_of_message_in_every_version() {
    for (version, text) in RECORDINGS {
        let frames = recording(version, text);
        let kinds = |from_client| {
            let heard = frames.iter().filter(|frame| frame.from_client == from_client);
            let mut kinds: Vec<_> = heard.map(|frame| kind(&only_message(frame))).collect();
            kinds.sort_unstable();
            kinds.dedup();
            kinds
        };
        assert_eq!(kinds(true), ["awareness", "step 1", "step 2", "update"], "{version}");
        assert_eq!(kinds(false), ["awareness", "denied", "query", "step 1", "step 2", "update"], "{version}");
        assert!(frames.iter().any(|frame| frame.bytes == y_websocket::KEEP_ALIVE), "{version}");
    }
}

fn kind(message: &Message) -> &'static str {
    match message {
        Message::Document(DocumentMessage::SyncStep1(_)) => "step 1",
        Message::Document(DocumentMessage::SyncStep2(_)) => "step 2",
        Message::Document(DocumentMessage::Update(_)) => "update",
        Message::Document(DocumentMessage::Awareness(_)) => "awareness",
        Message::Document(DocumentMessage::QueryAwareness) => "query",
        Message::Document(DocumentMessage::Stateless(_)) => "stateless",
        Message::Denied(_) => "denied",
        Message::Unknown(_) => "unknown",
    }
}
