//! Framing, against the examples of RFC 6455 and in pieces of every size.

use proptest::prelude::*;

use super::*;

/// A frame as a client sends it.
fn masked(first: u8, payload: &[u8], mask: [u8; 4]) -> Vec<u8> {
    let mut out = BytesMut::new();
    write_header(&mut out, Opcode::Binary, payload.len());
    out[0] = first;
    out[1] |= MASKED;
    out.extend_from_slice(&mask);
    let at = out.len();
    out.extend_from_slice(payload);
    unmask(&mut out[at..], mask, 0);
    out.to_vec()
}

fn binary(payload: &[u8]) -> Vec<u8> {
    masked(0x82, payload, [1, 2, 3, 4])
}

fn decode(bytes: &[u8]) -> (Vec<Message>, Result<(), FrameError>) {
    decode_in_pieces(bytes, usize::MAX)
}

fn decode_in_pieces(bytes: &[u8], size: usize) -> (Vec<Message>, Result<(), FrameError>) {
    let (mut decoder, mut out) = (Decoder::new(100_000), Vec::new());
    for piece in bytes.chunks(size.min(bytes.len().max(1))) {
        if let Err(error) = decoder.decode(&mut piece.to_vec(), &mut out) {
            return (out, Err(error));
        }
    }
    (out, Ok(()))
}

#[test]
fn the_examples_of_the_rfc_are_understood() {
    let hello = [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
    assert_eq!(decode(&hello), (vec![Message::Text], Ok(())));
    let ping = [0x89, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
    assert_eq!(decode(&ping), (vec![Message::Ping("Hello".into())], Ok(())));
    assert_eq!(&frame(Opcode::Binary, &[7; 256])[..4], [0x82, 0x7e, 0x01, 0x00]);
    assert_eq!(&frame(Opcode::Binary, &[7; 65536])[..10], [0x82, 0x7f, 0, 0, 0, 0, 0, 1, 0, 0]);
    assert_eq!(&close_frame(1000, "bye")[..], b"\x88\x05\x03\xe8bye");
}

#[test]
fn what_breaks_the_protocol_is_refused() {
    let broken = |bytes: &[u8]| matches!(decode(bytes).1, Err(FrameError::Broken(_)));
    assert!(broken(&[0x82, 0x01, 7]), "no mask");
    assert!(broken(&masked(0xc2, b"x", [0; 4])), "a reserved bit");
    assert!(broken(&masked(0x83, b"x", [0; 4])), "an unknown opcode");
    assert!(broken(&masked(0x80, b"x", [0; 4])), "a continuation of nothing");
    assert!(broken(&masked(0x09, b"x", [0; 4])), "a ping in pieces");
    assert!(broken(&masked(0x89, &[0; 126], [0; 4])), "a long ping");
    assert!(broken(&masked(0x88, &[3], [0; 4])), "half a close code");
    assert!(broken(&[masked(0x02, b"a", [0; 4]), binary(b"b")].concat()), "a message inside another");
}

#[test]
fn a_message_that_is_too_large_is_refused_by_its_header() {
    let too_large = |bytes: &[u8]| decode(bytes).1 == Err(FrameError::TooLarge);
    assert!(!too_large(&binary(&vec![0; 100_000])));
    assert!(too_large(&binary(&vec![0; 100_001])[..14]));
    assert!(too_large(&[0x82, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]));
    let halves = [masked(0x02, &[0; 60_000], [0; 4]), masked(0x80, &[0; 60_000], [0; 4])].concat();
    assert!(too_large(&halves), "in several frames too");
}

#[test]
fn control_frames_may_come_between_the_pieces_of_a_message() {
    let bytes = [masked(0x02, b"one ", [9; 4]), masked(0x89, b"?", [8; 4]), masked(0x80, b"message", [7; 4])].concat();
    assert_eq!(decode(&bytes).0, [Message::Ping("?".into()), Message::Binary("one message".into())]);
}

#[test]
fn after_the_close_nothing_is_read() {
    let close = masked(0x88, &1001_u16.to_be_bytes(), [5; 4]);
    let bytes = [close, binary(b"late"), vec![0xff; 20]].concat();
    assert_eq!(decode(&bytes), (vec![Message::Close(Some(1001))], Ok(())));
    assert_eq!(decode(&masked(0x88, b"", [5; 4])).0, [Message::Close(None)]);
}

#[test]
fn a_close_is_answered_with_a_code_that_may_be_sent() {
    assert_eq!(
        [None, Some(1001), Some(4403), Some(1005), Some(0)].map(answer_to_close),
        [1000, 1001, 4403, 1002, 1002]
    );
}

#[test]
fn a_header_claims_no_memory() {
    let mut decoder = Decoder::new(usize::MAX);
    let mut header = [0x82, 0xff, 0, 0, 0, 1, 0, 0, 0, 0, 1, 2, 3, 4, 0];
    decoder.decode(&mut header, &mut Vec::new()).unwrap();
    let State::Payload(partial) = &decoder.state else { panic!("4 GiB are announced") };
    assert!(partial.payload.capacity() <= FIRST_ROOM);
    assert!(!decoder.is_at_rest());
}

proptest! {
    #[test]
    fn messages_are_the_same_in_pieces_of_any_size(
        payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 1..6),
        size in 1_usize..40,
    ) {
        let bytes: Vec<u8> = payloads.iter().flat_map(|payload| binary(payload)).collect();
        let expected: Vec<Message> = payloads.iter().map(|payload| Message::Binary(payload.clone().into())).collect();
        prop_assert_eq!(decode_in_pieces(&bytes, size), (expected.clone(), Ok(())));
        prop_assert_eq!(decode(&bytes), (expected, Ok(())));
    }

    #[test]
    fn any_bytes_are_decoded_or_refused_alike_however_they_arrive(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        size in 1_usize..20,
    ) {
        prop_assert_eq!(decode_in_pieces(&bytes, size), decode(&bytes));
    }
}
