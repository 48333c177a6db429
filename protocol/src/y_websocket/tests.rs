//! What the dialect reads and writes, example by example, and any bytes at all.

use proptest::prelude::*;

use super::*;
use crate::awareness;
use crate::awareness::Entry;
use crate::limits::CLIENT_ID_MAX;
use crate::wire::ReadError;

fn body() -> impl Strategy<Value = Bytes> {
    prop::collection::vec(any::<u8>(), 0..300).prop_map(Bytes::from)
}

fn entry() -> impl Strategy<Value = Entry> {
    let text = prop::option::of(".{0,20}");
    (0..=CLIENT_ID_MAX, 0..=CLIENT_ID_MAX, text).prop_map(|(client, clock, text)| Entry {
        client,
        clock,
        state: text.map(|text| serde_json::json!({ "name": text }).to_string().into()),
    })
}

fn document_message() -> impl Strategy<Value = DocumentMessage> {
    prop_oneof![
        body().prop_map(DocumentMessage::SyncStep1),
        body().prop_map(DocumentMessage::SyncStep2),
        body().prop_map(DocumentMessage::Update),
        prop::collection::vec(entry(), 0..20).prop_map(DocumentMessage::Awareness),
        Just(DocumentMessage::QueryAwareness),
    ]
}

fn server_message() -> impl Strategy<Value = ServerMessage> {
    prop_oneof![
        body().prop_map(ServerMessage::SyncStep1),
        body().prop_map(ServerMessage::SyncStep2),
        body().prop_map(ServerMessage::Update),
        prop::collection::vec(entry(), 0..20)
            .prop_map(|entries| ServerMessage::Awareness(awareness::encode(entries.iter()))),
    ]
}

/// What a client makes of what a server says; the two speak the same messages.
fn as_heard(message: ServerMessage) -> DocumentMessage {
    match message {
        ServerMessage::SyncStep1(body) => DocumentMessage::SyncStep1(body),
        ServerMessage::SyncStep2(body) => DocumentMessage::SyncStep2(body),
        ServerMessage::Update(body) => DocumentMessage::Update(body),
        ServerMessage::Awareness(entries) => {
            DocumentMessage::Awareness(awareness::decode(entries).expect("encoded by the strategy"))
        }
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode(bytes.into());
    }

    #[test]
    fn what_a_client_says_survives_the_wire(messages in prop::collection::vec(document_message(), 1..6)) {
        let frame: Vec<u8> = messages.iter().flat_map(encode_client).collect();
        let expected: Vec<_> = messages.into_iter().map(Message::Document).collect();
        prop_assert_eq!(decode(frame.into()), Ok(expected));
    }

    #[test]
    fn what_a_server_says_survives_the_wire_and_fills_its_buffer(message in server_message()) {
        let frame = encode(&message);
        prop_assert_eq!(frame.len(), message::server_len(&message));
        prop_assert_eq!(decode(frame), Ok(vec![Message::Document(as_heard(message))]));
    }

    #[test]
    fn a_cut_message_is_refused(message in document_message(), cut in any::<prop::sample::Index>()) {
        let frame = encode_client(&message);
        let cut = cut.index(frame.len());
        prop_assert!(decode(frame.slice(..cut)).is_err());
    }

    #[test]
    fn a_denial_survives_the_wire(reason in ".{0,40}") {
        prop_assert_eq!(decode(permission_denied(&reason)), Ok(vec![Message::Denied(reason)]));
    }
}

#[test]
fn frames_are_read_or_refused_as_the_reference_says() {
    let too_large: &[u8] = &[0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x10];
    type Row = (&'static [u8], Result<Vec<Message>, DecodeError>);
    let table: &[Row] = &[
        (&[], Err(ReadError::End.into())),
        (&[0], Err(ReadError::End.into())),
        (&[0, 0, 1, 0], Ok(vec![Message::Document(DocumentMessage::SyncStep1(Bytes::from_static(&[0])))])),
        (&[0, 1, 2, 0, 0], Ok(vec![Message::Document(DocumentMessage::SyncStep2(Bytes::from_static(&[0, 0])))])),
        (&[0, 2, 9, 0, 0], Err(ReadError::End.into())),
        (&[0, 3, 0], Err(DecodeError::SyncStep(3))),
        (&[1, 1, 0], Ok(vec![Message::Document(DocumentMessage::Awareness(vec![]))])),
        (&[1, 0], Err(ReadError::End.into())),
        (&[1, 2, 0, 0], Err(ReadError::Range.into())),
        (&[1, 4, 0x80, 0x84, 0xaf, 0x5f], Err(ReadError::End.into())),
        (&[2, 0, 1, b'x'], Ok(vec![Message::Denied("x".into())])),
        (&[2, 0, 1, 0xff], Err(ReadError::Utf8.into())),
        (&[2, 7, 1, 2, 3], Ok(vec![Message::Unknown(2)])),
        (&[3], Ok(vec![Message::Document(DocumentMessage::QueryAwareness)])),
        (&[102, 3, 1, 2], Ok(vec![Message::Unknown(102)])),
        (&[0xff, 0x7f], Ok(vec![Message::Unknown(16_383)])),
        (&[3, 9, 0, 2], Ok(vec![Message::Document(DocumentMessage::QueryAwareness), Message::Unknown(9)])),
        (&[3, 0, 2, 5, 0], Err(ReadError::End.into())),
        (too_large, Err(ReadError::Range.into())),
    ];
    for (frame, expected) in table {
        assert_eq!(&decode(Bytes::from_static(frame)), expected, "frame {frame:02x?}");
    }
}

#[test]
fn a_frame_carries_a_bounded_number_of_messages() {
    let query = [message::QUERY_AWARENESS];
    let full = decode(query.repeat(MESSAGES_PER_FRAME_MAX).into()).expect("as many as allowed");
    assert_eq!(full.len(), MESSAGES_PER_FRAME_MAX);
    assert_eq!(decode(query.repeat(MESSAGES_PER_FRAME_MAX + 1).into()), Err(DecodeError::TooMany));
}

#[test]
fn a_frame_carries_a_bounded_amount_of_presence() {
    let gone = vec![Entry { client: 1, clock: 1, state: None }; AWARENESS_ENTRIES_MAX];
    let frame = encode_client(&DocumentMessage::Awareness(gone));
    assert!(decode(frame.clone()).is_ok());
    assert_eq!(decode([frame.clone(), frame].concat().into()), Err(DecodeError::TooMany));
}

#[test]
fn updates_are_slices_of_their_frame() {
    let frame = encode_client(&DocumentMessage::Update(Bytes::from_static(&[7; 100])));
    let messages = decode(frame.clone()).expect("just encoded");
    let [Message::Document(DocumentMessage::Update(update))] = messages.as_slice() else {
        panic!("one update was sent, got {messages:?}");
    };
    assert_eq!(update.as_ptr(), frame[3..].as_ptr());
}

#[test]
fn the_keep_alive_is_presence_of_nobody() {
    assert_eq!(KEEP_ALIVE, encode(&ServerMessage::Awareness(awareness::encode([].iter()))));
}
