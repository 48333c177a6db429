//! What the dialect reads and writes, example by example, and any bytes at all.

use proptest::prelude::*;

use super::*;
use crate::awareness;
use crate::awareness::Entry;

fn address(raw: &str) -> Address {
    Address::parse(raw.as_bytes()).expect("an address")
}

fn hex(text: &str) -> Bytes {
    let digits: String = text.split_whitespace().collect();
    let byte = |at| u8::from_str_radix(&digits[at..at + 2], 16).expect("hex");
    (0..digits.len()).step_by(2).map(byte).collect()
}

fn addressed(frame: Bytes) -> Addressed {
    match split(frame) {
        Ok(Frame::Addressed(addressed)) => addressed,
        other => panic!("an addressed frame was meant, got {other:?}"),
    }
}

/// What a client's frame says, and where.
fn read(frame: Bytes) -> (String, Message) {
    let addressed = addressed(frame);
    let address = String::from_utf8(addressed.address().to_vec()).expect("the addresses here are text");
    (address, addressed.message().expect("the messages here are whole"))
}

/// The payload of a whole WebSocket frame.
fn unframed(frame: &Bytes) -> Bytes {
    let header = [2, 4, 10].into_iter().find(|&header| {
        let length = frame.len() - header;
        let mut out = BytesMut::new();
        web_socket::write_header(&mut out, Opcode::Binary, length);
        frame.starts_with(&out) && out.len() == header
    });
    frame.slice(header.expect("a header that fits")..)
}

#[test]
fn what_the_reference_server_was_seen_to_say_is_said() {
    let (d, e) = (address("d"), address("e"));
    let table: &[(Bytes, &str)] = &[
        (authenticated(&d, Access::Write), "01 64 02 02 0a 72 65 61 64 2d 77 72 69 74 65"),
        (authenticated(&d, Access::Read), "01 64 02 02 08 72 65 61 64 6f 6e 6c 79"),
        (
            permission_denied(b"e", "permission-denied"),
            "01 65 02 01 11 70 65 72 6d 69 73 73 69 6f 6e 2d 64 65 6e 69 65 64",
        ),
        (close(&e, "Reset Connection"), "01 65 07 10 52 65 73 65 74 20 43 6f 6e 6e 65 63 74 69 6f 6e"),
        (token_request(&d), "01 64 02 00"),
        (keep_alive(&d), "01 64 01 01 00"),
        (encode(&d, &ServerMessage::SyncStep1(hex("00"))), "01 64 00 00 01 00"),
        (encode(&d, &ServerMessage::SyncStep2(hex("00 00"))), "01 64 00 01 02 00 00"),
        (encode(&d, &ServerMessage::Update(hex("00 00"))), "01 64 00 02 02 00 00"),
        (encode(&d, &ServerMessage::Awareness(hex("01 01 00 02 7b 7d"))), "01 64 01 06 01 01 00 02 7b 7d"),
        (unframed(&sync_status_frame(&d, true)), "01 64 08 01"),
        (unframed(&sync_status_frame(&d, false)), "01 64 08 00"),
        (unframed(&stateless_frame(&d, b"hi")), "01 64 05 02 68 69"),
        (PING.clone(), "09"),
        (PONG.clone(), "0a"),
    ];
    for (written, expected) in table {
        assert_eq!(*written, hex(expected), "{expected}");
    }
}

#[test]
fn what_a_provider_was_seen_to_say_is_understood() {
    let auth = |token: &str, major| Message::Auth { token: Token::new(token.into()), provider: Provider { major } };
    let table: &[(&str, Message)] = &[
        ("01 64 02 00 01 74 05 34 2e 38 2e 30", auth("t", Some(4))),
        ("01 64 02 00 01 74", auth("t", None)),
        ("01 64 02 00 00", auth("", None)),
        ("01 64 00 00 01 00", Message::Document(DocumentMessage::SyncStep1(hex("00")))),
        ("01 64 00 01 02 00 00", Message::Document(DocumentMessage::SyncStep2(hex("00 00")))),
        ("01 64 00 02 02 00 00", Message::Document(DocumentMessage::Update(hex("00 00")))),
        (
            "01 64 01 06 01 01 00 02 7b 7d",
            Message::Document(DocumentMessage::Awareness(vec![Entry {
                client: 1,
                clock: 0,
                state: Some(Bytes::from_static(b"{}")),
            }])),
        ),
        ("01 64 03", Message::Document(DocumentMessage::QueryAwareness)),
        ("01 64 05 02 68 69", Message::Document(DocumentMessage::Stateless(hex("68 69")))),
        ("01 64 06 02 68 69", Message::Broadcast),
        ("01 64 07", Message::Close),
        ("01 64 08 01", Message::Unknown(8)),
        ("01 64 ff 7f 00", Message::Unknown(16_383)),
        ("01 64 02 01 00", Message::Unknown(2)),
    ];
    for (frame, expected) in table {
        assert_eq!(read(hex(frame)), ("d".into(), expected.clone()), "{frame}");
    }
    assert_eq!(split(hex("09")), Ok(Frame::Ping));
    assert_eq!(split(hex("0a")), Ok(Frame::Pong));
}

#[test]
fn a_session_has_channels_of_its_own() {
    let (raw, message) = read(hex("0d 64 00 67 78 74 31 68 6c 6f 7a 63 69 64 03"));
    assert_eq!(message, Message::Document(DocumentMessage::QueryAwareness));
    let with_session = address(&raw);
    assert_eq!((with_session.name(), with_session.session()), ("d", Some("gxt1hlozcid")));
    assert_eq!((address("d").name(), address("d").session()), ("d", None));
    assert_eq!(address("d\0").session(), Some(""));
    assert_eq!(address("d\0a\0b").session(), Some("a\0b"));
    let reply = token_request(&with_session);
    assert_eq!(reply, hex("0d 64 00 67 78 74 31 68 6c 6f 7a 63 69 64 02 00"));
}

#[test]
fn an_address_is_bounded_text_with_a_name() {
    let long =
        |name: usize, session: usize| Address::parse(["x".repeat(name), "y".repeat(session)].join("\0").as_bytes());
    assert!(long(255, 64).is_ok());
    assert_eq!(long(256, 0), Err(AddressError::Name));
    assert_eq!(long(1, 65), Err(AddressError::Name));
    for blank in ["", " ", "\t\n", "\0session"] {
        assert_eq!(Address::parse(blank.as_bytes()), Err(AddressError::Name), "{blank:?}");
    }
    assert_eq!(Address::parse(b"\xff"), Err(AddressError::Utf8));
}

#[test]
fn a_frame_without_a_readable_address_is_refused() {
    let with_length = |length: u64, bytes: usize| {
        let mut out = BytesMut::new();
        crate::wire::write_var_uint(&mut out, length);
        out.put_bytes(b'x', bytes);
        split(out.freeze())
    };
    assert_eq!(split(Bytes::new()), Err(ReadError::End));
    assert_eq!(with_length(2, 1), Err(ReadError::End));
    assert_eq!(with_length(1 << 40, 9), Err(ReadError::Range));
    assert_eq!(with_length(ADDRESS_BYTES_MAX as u64 + 1, ADDRESS_BYTES_MAX + 1), Err(ReadError::Range));
    assert!(with_length(ADDRESS_BYTES_MAX as u64, ADDRESS_BYTES_MAX).is_ok());
    assert_eq!(addressed(hex("01 64")).message(), Err(ReadError::End.into()));
    assert_eq!(addressed(hex("01 64")).kind(), Kind::Other);
}

#[test]
fn what_trails_is_refused_after_content_and_ignored_elsewhere() {
    for content in ["00 00 01 00", "00 02 02 00 00", "01 01 00", "05 01 61"] {
        let frame = [hex("01 64"), hex(content), hex("00")].concat();
        assert_eq!(addressed(frame.into()).message(), Err(DecodeError::TooMany), "{content}");
    }
    for bare in ["02 00 01 74 01 34 00", "03 00", "07 01 78"] {
        let frame = [hex("01 64"), hex(bare)].concat();
        assert!(addressed(frame.into()).message().is_ok(), "{bare}");
    }
}

#[test]
fn broken_messages_are_refused() {
    for broken in
        ["00", "00 03 00", "00 02 05 00", "01 02 01 01", "02 00 05 74", "02 00 01 ff", "02 00 01 74 05", "05 01 ff"]
    {
        let frame = [hex("01 64"), hex(broken)].concat();
        assert!(addressed(frame.into()).message().is_err(), "{broken}");
    }
    let token = |length: usize| addressed(encode_token(&address("d"), &"t".repeat(length), None)).message();
    assert!(token(TOKEN_BYTES_MAX).is_ok());
    assert_eq!(token(TOKEN_BYTES_MAX + 1), Err(DecodeError::TooMany));
}

#[test]
fn only_those_that_said_so_are_sent_what_is_new() {
    let table = [
        (None, false, false),
        (Some("2.15.3"), false, false),
        (Some("3.4.4"), true, false),
        (Some("4.0.0-rc.1"), true, true),
        (Some("10.0.0"), true, true),
        (Some("next"), false, false),
        (Some(""), false, false),
        (Some("99999999999"), false, false),
    ];
    for (version, close, ping) in table {
        let (_, message) = read(encode_token(&address("d"), "t", version));
        let Message::Auth { provider, .. } = message else { panic!("a token was sent, got {message:?}") };
        assert_eq!((provider.understands_close(), provider.understands_ping()), (close, ping), "{version:?}");
    }
}

#[test]
fn a_token_never_shows() {
    let (_, message) = read(encode_token(&address("d"), "hunter2", None));
    assert!(!format!("{message:?}").contains("hunter2"));
    let Message::Auth { token, .. } = message else { panic!("a token was sent") };
    assert_eq!(token.secret(), "hunter2");
}

#[test]
fn an_update_is_read_without_copying_or_allocating() {
    let bytes: &'static [u8] = Box::leak(
        encode_client(&address("doc\0session"), &DocumentMessage::Update(vec![7; 100].into()))
            .to_vec()
            .into_boxed_slice(),
    );
    let places = std::collections::BTreeMap::from([(address("doc\0session"), 1), (address("doc"), 2)]);
    let frame = Bytes::from_static(bytes);
    let mut update = None;
    let used = allocation_counter::measure(|| {
        let Ok(Frame::Addressed(addressed)) = split(frame) else { return };
        if places.get(addressed.address()) == Some(&1) && addressed.kind() == Kind::Change {
            update = addressed.message().ok();
        }
    });
    let Some(Message::Document(DocumentMessage::Update(update))) = update else { panic!("an update was sent") };
    assert_eq!(update.as_ptr(), bytes[bytes.len() - 100..].as_ptr());
    assert_eq!(used.count_total, 0);
}

fn body() -> impl Strategy<Value = Bytes> {
    prop::collection::vec(any::<u8>(), 0..300).prop_map(Bytes::from)
}

fn any_address() -> impl Strategy<Value = Address> {
    ("[a-zé/:]{1,40}", prop::option::of("[a-z0-9]{0,12}")).prop_map(|(name, session)| match session {
        Some(session) => address(&format!("{name}\0{session}")),
        None => address(&name),
    })
}

fn document_message() -> impl Strategy<Value = DocumentMessage> {
    let entry = (0_u64..1 << 53, 0_u64..1 << 53).prop_map(|(client, clock)| Entry { client, clock, state: None });
    prop_oneof![
        body().prop_map(DocumentMessage::SyncStep1),
        body().prop_map(DocumentMessage::SyncStep2),
        body().prop_map(DocumentMessage::Update),
        prop::collection::vec(entry, 0..5).prop_map(DocumentMessage::Awareness),
        Just(DocumentMessage::QueryAwareness),
        ".{0,40}".prop_map(|text| DocumentMessage::Stateless(text.into())),
    ]
}

fn kind_of(message: &DocumentMessage) -> Kind {
    match message {
        DocumentMessage::SyncStep1(_) => Kind::SyncStep1,
        DocumentMessage::SyncStep2(_) | DocumentMessage::Update(_) => Kind::Change,
        DocumentMessage::Awareness(_) | DocumentMessage::QueryAwareness | DocumentMessage::Stateless(_) => Kind::Other,
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(Frame::Addressed(addressed)) = split(bytes.into()) {
            let _ = (Address::parse(addressed.address()), addressed.kind(), addressed.message());
        }
    }

    #[test]
    fn what_a_client_says_survives_the_wire(address in any_address(), message in document_message()) {
        let frame = encode_client(&address, &message);
        prop_assert_eq!(addressed(frame.clone()).kind(), kind_of(&message));
        prop_assert_eq!(read(frame), (address.as_str().to_owned(), Message::Document(message)));
    }

    #[test]
    fn a_cut_message_is_refused(address in any_address(), message in document_message(), cut in any::<prop::sample::Index>()) {
        let frame = encode_client(&address, &message);
        let cut = frame.slice(..cut.index(frame.len()));
        let whole = match split(cut) {
            Ok(Frame::Addressed(addressed)) => addressed.message().is_ok(),
            // A ping or a pong is what is left of an address of nine or ten bytes.
            Ok(Frame::Ping | Frame::Pong) | Err(_) => false,
        };
        prop_assert!(!whole);
    }

    #[test]
    fn a_text_survives_the_wire(address in any_address(), text in ".{0,200}") {
        let message = Message::Document(DocumentMessage::Stateless(text.clone().into()));
        let frame = stateless_frame(&address, text.as_bytes());
        prop_assert_eq!(read(unframed(&frame)), (address.as_str().to_owned(), message));
    }

    #[test]
    fn a_frame_is_a_header_and_the_message_and_fills_its_buffer(address in any_address(), body in body()) {
        let entries = awareness::encode([].iter());
        for message in [
            ServerMessage::SyncStep1(body.clone()),
            ServerMessage::SyncStep2(body.clone()),
            ServerMessage::Update(body.clone()),
            ServerMessage::Awareness(entries.clone()),
        ] {
            prop_assert_eq!(unframed(&frame(&address, &message)), encode(&address, &message));
            prop_assert_eq!(encode(&address, &message).len(), address_len(&address) + message::server_len(&message));
        }
    }
}
