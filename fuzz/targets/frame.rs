//! Any bytes as a frame, as awareness entries and as a state vector: read or refused, and what was read survives the wire.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use syncline_protocol::awareness;
use syncline_protocol::channel::DocumentMessage;
use syncline_protocol::state_vector::StateVector;
use syncline_protocol::y_websocket;
use syncline_protocol::y_websocket::Message;

fuzz_target!(|data: &[u8]| {
    let bytes = Bytes::copy_from_slice(data);
    for message in y_websocket::decode(bytes.clone()).unwrap_or_default() {
        check_message(message);
    }
    check_awareness(bytes.clone());
    check_state_vector(bytes);
});

fn check_message(message: Message) {
    let again = match &message {
        Message::Document(document) => y_websocket::encode_client(document),
        Message::Denied(reason) => y_websocket::permission_denied(reason),
        Message::Unknown(_) => return,
    };
    if let Message::Document(DocumentMessage::SyncStep1(vector)) = &message {
        check_state_vector(vector.clone());
    }
    assert_eq!(y_websocket::decode(again), Ok(vec![message]));
}

fn check_awareness(bytes: Bytes) {
    if let Ok(entries) = awareness::decode(bytes) {
        assert_eq!(awareness::decode(awareness::encode(entries.iter())), Ok(entries));
    }
}

fn check_state_vector(bytes: Bytes) {
    if let Ok(vector) = StateVector::decode(bytes) {
        assert_eq!(StateVector::decode(vector.encode()), Ok(vector));
    }
}
