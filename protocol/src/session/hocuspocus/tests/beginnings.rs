//! How channels begin: tokens, what is held until they are judged, and the bounds of that.

use super::*;
use crate::limits::HELD_BYTES_MAX;
use crate::limits::HELD_FRAMES_MAX;

#[test]
fn a_provider_says_everything_at_once_and_is_let_in() {
    let mut desk = Desk::new(SETTINGS);
    assert_eq!(desk.show("d", "t", V4), [asked(A, "d", "t")]);
    assert_eq!(desk.say("d", &STEP_1), []);
    assert_eq!(desk.say("d", &text("hi")), []);
    let mut expected = let_in(A, "d", V4, Access::Read);
    expected.extend([heard(A, STEP_1), heard(A, text("hi"))]);
    assert_eq!(desk.verdict(A, for_good(Access::Read)), expected);
    assert_eq!(desk.say("d", &update(3)), [heard(A, update(3))], "a reader's write is for the document to judge");
}

#[test]
fn verdicts_come_in_any_order_and_documents_do_not_wait_for_each_other() {
    let mut desk = Desk::new(SETTINGS);
    desk.show("a", "t", V4);
    desk.show("b", "u", UNSAID);
    desk.say("a", &STEP_1);
    assert_eq!(desk.verdict(B, for_good(Access::Write)), let_in(B, "b", UNSAID, Access::Write));
    assert_eq!(desk.say("b", &STEP_1), [heard(B, STEP_1)]);
    let opened = desk.verdict(A, for_good(Access::Write));
    assert_eq!(opened.last(), Some(&heard(A, STEP_1)));
}

#[test]
fn what_is_said_before_the_token_is_held_in_order() {
    let mut desk = Desk::new(SETTINGS);
    assert_eq!(desk.say("d", &STEP_1), []);
    assert_eq!(desk.say("d", &update(1)), []);
    assert_eq!(desk.say("d", &DocumentMessage::QueryAwareness), []);
    desk.show("d", "t", V4);
    assert_eq!(desk.say("d", &update(2)), []);
    let mut expected = let_in(A, "d", V4, Access::Write);
    let messages = [STEP_1, update(1), DocumentMessage::QueryAwareness, update(2)];
    expected.extend(messages.map(|message| heard(A, message)));
    assert_eq!(desk.verdict(A, for_good(Access::Write)), expected);
}

#[test]
fn changes_from_before_the_first_step_are_left_to_the_step_that_covers_them() {
    let mut desk = Desk::new(SETTINGS);
    for message in [update(1), text("kept"), STEP_1, DocumentMessage::SyncStep2(Bytes::from_static(&[0, 0])), update(2)]
    {
        desk.say("d", &message);
    }
    desk.show("d", "t", V4);
    desk.say("d", &STEP_1);
    desk.say("d", &update(3));
    let said = desk.verdict(A, for_good(Access::Write)).split_off(2);
    assert_eq!(said, [heard(A, text("kept")), heard(A, STEP_1), heard(A, update(3))]);
}

#[test]
fn the_newest_token_decides_where_the_first_was_bad() {
    let mut desk = Desk::new(SETTINGS);
    desk.show("d", "old", V4);
    assert_eq!(desk.show("d", "newer", V4), []);
    assert_eq!(desk.show("d", "newest", V4), []);
    assert_eq!(desk.verdict(A, Err(ErrorCode::AuthFailed)), [asked(A, "d", "newest")]);
    assert_eq!(desk.verdict(A, for_good(Access::Write)), let_in(A, "d", V4, Access::Write));
    assert_eq!(desk.verdict(A, Err(ErrorCode::AuthFailed)), [], "nothing was asked any more");
}

#[test]
fn a_token_that_came_meanwhile_renews_what_the_first_opened() {
    let mut desk = Desk::new(SETTINGS);
    desk.show("d", "old", V4);
    desk.show("d", "new", V4);
    let mut expected = let_in(A, "d", V4, Access::Read);
    expected.push(asked_again(A, "d", "new"));
    assert_eq!(desk.verdict(A, for_good(Access::Read)), expected);
    assert_eq!(desk.verdict(A, for_good(Access::Write)), let_in(A, "d", V4, Access::Write));
}

#[test]
fn who_is_refused_may_try_again_and_is_not_heard_before() {
    let mut desk = Desk::new(SETTINGS);
    desk.show("d", "bad", V4);
    desk.say("d", &STEP_1);
    assert_eq!(desk.verdict(A, Err(ErrorCode::Forbidden)), [denied("d", ErrorCode::Forbidden)]);
    assert_eq!(desk.say("d", &update(1)), []);
    assert_eq!(desk.verdict(A, for_good(Access::Write)), [], "that channel is gone");
    desk.open("d", B, V4, for_good(Access::Write));
}

#[test]
fn a_token_that_ran_out_long_ago_is_none() {
    let mut desk = Desk::new(SETTINGS);
    desk.show("d", "t", V4);
    let over = until(Moment(desk.now.0 - 30_000));
    assert_eq!(desk.verdict(A, over), [denied("d", ErrorCode::AuthExpired)]);
    desk.show("d", "t", V4);
    assert_eq!(desk.verdict(B, until(Moment(desk.now.0 - 29_000))).len(), 2, "within the grace it is one");
}

#[test]
fn sessions_of_one_document_are_channels_of_their_own_and_one_address_is_one_channel() {
    let mut desk = desk_with(&["d", "d\0one", "d\0two"], V4);
    assert_eq!(desk.say("d\0two", &update(1)), [heard(C, update(1))]);
    assert_eq!(desk.say("d", &update(1)), [heard(A, update(1))]);
    assert_eq!(desk.show("d", "again", V4), [asked_again(A, "d", "again")]);
    assert_eq!(desk.leave("d\0one"), [Output::Detach { channel: B }]);
    assert_eq!(desk.say("d\0two", &update(2)), [heard(C, update(2))]);
}

#[test]
fn names_that_no_document_has_are_refused_without_disturbing_others() {
    let mut desk = desk_with(&["d"], V4);
    let frame = |name: &str, message: &[u8]| {
        let mut frame = bytes::BytesMut::new();
        crate::wire::write_var_bytes(&mut frame, name.as_bytes());
        frame.extend_from_slice(message);
        Input::Frame(frame.freeze())
    };
    for name in [" ".to_owned(), "x".repeat(256), "x\0".to_owned() + &"y".repeat(65)] {
        assert_eq!(desk.put(frame(&name, &[2, 0, 1, b't'])), [denied(&name, ErrorCode::InvalidPayload)]);
        assert_eq!(desk.put(frame(&name, &[0, 0, 1, 0])), []);
    }
    assert_eq!(desk.say("d", &update(1)), [heard(A, update(1))]);
}

#[test]
fn a_broken_token_is_no_token() {
    let mut desk = desk_with(&["d"], V4);
    let broken = Input::Frame(Bytes::from_static(&[1, b'e', 2, 0, 9, b't']));
    assert_eq!(desk.put(broken), [denied("e", ErrorCode::InvalidPayload)]);
    assert_eq!(desk.say("d", &update(1)), [heard(A, update(1))]);
}

#[test]
fn where_everybody_may_enter_the_first_step_is_enough() {
    let mut desk = Desk::new(HocuspocusSettings { anonymous: true, ..SETTINGS });
    assert_eq!(desk.say("d", &update(1)), [], "a provider that has a token may say this before");
    assert_eq!(desk.say("d", &STEP_1), [asked(A, "d", "")]);
    assert_eq!(desk.say("d", &STEP_1), [], "asked once");
    let mut expected = let_in(A, "d", UNSAID, Access::Write);
    expected.push(heard(A, STEP_1));
    assert_eq!(desk.verdict(A, for_good(Access::Write)), expected);
}

#[test]
fn types_that_are_not_known_are_ignored_everywhere() {
    let mut desk = desk_with(&["d"], V4);
    for raw in [b'd', b'e'] {
        for rest in [[8, 1], [4, 0], [9, 0], [10, 0], [11, 0], [2, 1]] {
            assert_eq!(desk.put(Input::Frame([vec![1, raw], rest.to_vec()].concat().into())), []);
        }
    }
    assert_eq!(desk.show("e", "t", V4), [asked(B, "e", "t")], "they opened nothing");
}

#[test]
fn a_ping_is_answered_and_a_pong_is_not() {
    let mut desk = Desk::new(SETTINGS);
    assert_eq!(desk.put(Input::Frame(hocuspocus::PING.clone())), [Output::Send(hocuspocus::PONG.clone())]);
    assert_eq!(desk.put(Input::Frame(hocuspocus::PONG.clone())), []);
}

// ---- bounds ------------------------------------------------------------------------------------------------------------

#[test]
fn too_many_held_frames_reset_the_socket() {
    let mut desk = desk_with(&["open"], V4);
    for _ in 0..HELD_FRAMES_MAX {
        assert_eq!(desk.say("d", &text("x")), []);
    }
    assert_eq!(desk.say("d", &text("x")), [Output::Detach { channel: A }, reset(ErrorCode::PayloadTooLarge)]);
    assert_eq!(desk.say("open", &text("x")), []);
}

#[test]
fn too_many_held_bytes_on_a_channel_reset_the_socket() {
    let mut desk = Desk::new(SETTINGS);
    desk.show("d", "t", V4);
    assert_eq!(desk.say("d", &update(HELD_BYTES_MAX / 2)), []);
    assert_eq!(desk.say("d", &update(HELD_BYTES_MAX / 2)), [reset(ErrorCode::PayloadTooLarge)]);
}

#[test]
fn too_many_held_bytes_on_all_channels_reset_the_socket() {
    let mut desk = Desk::new(SETTINGS);
    let each = HELD_BYTES_MAX - 100;
    for raw in ["a", "b", "c"] {
        assert_eq!(desk.say(raw, &update(each)), []);
    }
    assert_eq!(desk.say("d", &update(each)), [reset(ErrorCode::PayloadTooLarge)]);
}

#[test]
fn what_was_let_go_or_let_in_is_held_no_longer() {
    let mut desk = Desk::new(SETTINGS);
    let each = HELD_BYTES_MAX - 100;
    for (channel, raw) in [(0, "a"), (1, "b"), (2, "c"), (3, "d"), (4, "e")] {
        desk.say(raw, &update(each));
        match channel % 3 {
            0 => assert_eq!(desk.say(raw, &STEP_1), [], "the step covers it"),
            1 => assert_eq!(desk.leave(raw), []),
            _ => {
                desk.show(raw, "t", V4);
                assert_eq!(desk.verdict(ChannelId(channel), for_good(Access::Write)).len(), 3);
            }
        }
    }
}

#[test]
fn too_many_channels_without_a_token_reset_the_socket() {
    let mut desk = Desk::new(SETTINGS);
    for number in 0..WAITING_CHANNELS_MAX {
        assert_eq!(desk.say(&format!("d{number}"), &STEP_1), []);
    }
    assert_eq!(desk.show("with", "t", V4).len(), 1, "tokens are not what is bounded here");
    assert_eq!(desk.say("one more", &STEP_1), [reset(ErrorCode::Overloaded)]);
}

#[test]
fn two_hundred_documents_come_at_once() {
    let mut desk = Desk::new(SETTINGS);
    let name = |number: u32| format!("doc {number}");
    for number in 0..200 {
        assert_eq!(desk.show(&name(number), "t", V4).len(), 1);
    }
    for number in 0..200 {
        assert_eq!(desk.say(&name(number), &STEP_1), []);
    }
    for number in 0..200 {
        assert_eq!(desk.verdict(ChannelId(number), for_good(Access::Write)).len(), 3);
    }
}

#[test]
fn beyond_the_most_channels_there_is_only_a_refusal() {
    let mut desk = Desk::new(HocuspocusSettings { channels_max: 2, ..SETTINGS });
    desk.open("a", A, V4, for_good(Access::Write));
    desk.show("b", "t", V4);
    assert_eq!(desk.show("c", "t", V4), [denied("c", ErrorCode::Overloaded)]);
    assert_eq!(desk.say("c", &STEP_1), []);
    assert_eq!(desk.say("a", &update(1)), [heard(A, update(1))]);
    desk.leave("a");
    desk.open("c", C, V4, for_good(Access::Write));
}

#[test]
fn who_is_refused_without_end_is_closed() {
    let mut desk = Desk::new(HocuspocusSettings { channels_max: 3, ..SETTINGS });
    for number in 0..3 {
        desk.show("d", "guess", V4);
        assert_eq!(desk.verdict(ChannelId(number), Err(ErrorCode::AuthFailed)), [denied("d", ErrorCode::AuthFailed)]);
    }
    desk.show("d", "guess", V4);
    let last = desk.verdict(ChannelId(3), Err(ErrorCode::AuthFailed));
    assert_eq!(last, [denied("d", ErrorCode::AuthFailed), closed(ErrorCode::RateLimited)]);
}

#[test]
fn the_memory_of_endings_is_bounded_and_losing_it_is_harmless() {
    let mut desk = Desk::new(HocuspocusSettings { channels_max: 3, ..SETTINGS });
    desk.open("open", A, V4, for_good(Access::Write));
    for number in 1..20 {
        let raw = format!("d{number}");
        desk.show(&raw, "bad", V4);
        assert_eq!(desk.verdict(ChannelId(number), Err(ErrorCode::AuthFailed)), [denied(&raw, ErrorCode::AuthFailed)]);
    }
    assert_eq!(desk.say("d1", &update(1)), [], "forgotten, and waits for a token again");
    assert_eq!(desk.say("d19", &update(1)), [], "remembered, and not heard");
    assert_eq!(desk.show("d1", "good", V4), [asked(ChannelId(20), "d1", "good")]);
}
