//! How channels and connections end, and how quiet ones are kept.

use super::*;

fn ended(channel: ChannelId, code: ErrorCode) -> Input {
    Input::Ended { channel, code }
}

#[test]
fn a_reason_that_stays_ends_the_channel_and_not_the_socket() {
    for code in ErrorCode::ALL.iter().filter(|code| code.is_permanent()) {
        let mut desk = desk_with(&["d"], V4);
        assert_eq!(desk.put(ended(A, *code)), put_out(A, "d", *code));
        desk.open("e", B, V4, for_good(Access::Write));
    }
}

#[test]
fn a_reason_that_passes_takes_the_socket_of_the_only_channel_so_that_it_comes_back() {
    for code in ErrorCode::ALL.iter().filter(|code| !code.is_permanent()) {
        let mut desk = desk_with(&["d"], V4);
        assert_eq!(desk.put(ended(A, *code)), [Output::Detach { channel: A }, closed(*code)]);
        let mut desk = desk_with(&["d", "e"], V4);
        assert_eq!(desk.put(ended(A, *code)), put_out(A, "d", *code), "neighbours are not disturbed");
        assert_eq!(desk.say("e", &update(1)), [heard(B, update(1))]);
    }
}

#[test]
fn a_broken_frame_ends_its_channel_alone() {
    let mut desk = desk_with(&["d", "e"], V4);
    for broken in [&[1, b'd', 0, 2, 9, 0], &[1, b'd', 0, 7, 0, 0]] {
        let mut desk = desk_with(&["d", "e"], V4);
        let out = desk.put(Input::Frame(Bytes::from_static(broken)));
        assert_eq!(out, put_out(A, "d", ErrorCode::InvalidPayload));
        assert_eq!(desk.say("e", &update(1)), [heard(B, update(1))]);
    }
    let no_type = Input::Frame(Bytes::from_static(&[1, b'd']));
    assert_eq!(desk.put(no_type), put_out(A, "d", ErrorCode::InvalidPayload));
}

#[test]
fn a_broken_frame_that_was_held_ends_its_channel_when_its_turn_comes() {
    let mut desk = desk_with(&["e"], V4);
    desk.say("d", &text("before"));
    desk.put(Input::Frame(Bytes::from_static(&[1, b'd', 1, 2, 1, 1])));
    desk.say("d", &text("after"));
    desk.show("d", "t", V4);
    let mut expected = let_in(B, "d", V4, Access::Write);
    expected.push(heard(B, text("before")));
    expected.extend(put_out(B, "d", ErrorCode::InvalidPayload));
    assert_eq!(desk.verdict(B, for_good(Access::Write)), expected);
    assert_eq!(desk.say("e", &update(1)), [heard(A, update(1))]);
}

#[test]
fn a_broadcast_is_not_a_clients_to_make() {
    let mut desk = desk_with(&["d", "e"], V4);
    let out = desk.put(Input::Frame(Bytes::from_static(&[1, b'd', 6, 1, b'x'])));
    assert_eq!(out, put_out(A, "d", ErrorCode::Forbidden));
}

#[test]
fn without_an_address_there_is_only_the_socket_to_blame() {
    let frames = [&b""[..], &[2, b'd'], &[0xff; 9], &[2, 0xc3, 0x28, 3]];
    let inputs = frames.map(|frame| Input::Frame(Bytes::from_static(frame))).into_iter().chain([Input::Text]);
    for input in inputs {
        let mut desk = desk_with(&["d", "e"], V4);
        let expected =
            [Output::Detach { channel: A }, Output::Detach { channel: B }, closed(ErrorCode::InvalidPayload)];
        assert_eq!(desk.put(input), expected);
        assert_eq!(desk.session.deadline(desk.now), None);
        assert_eq!(desk.show("d", "t", V4), []);
    }
}

#[test]
fn who_leaves_is_detached_and_may_come_back_as_another_channel() {
    let mut desk = desk_with(&["d", "e"], V4);
    assert_eq!(desk.leave("d"), [Output::Detach { channel: A }]);
    assert_eq!(desk.leave("d"), []);
    desk.open("d", C, V4, for_good(Access::Write));
    assert_eq!(desk.say("e", &update(1)), [heard(B, update(1))]);
}

#[test]
fn who_leaves_while_its_token_is_looked_at_is_not_let_in() {
    let mut desk = Desk::new(SETTINGS);
    desk.show("d", "old", V4);
    assert_eq!(desk.leave("d"), []);
    assert_eq!(desk.show("d", "new", V4), [asked(B, "d", "new")]);
    assert_eq!(desk.verdict(A, for_good(Access::Write)), [], "the verdict on a channel that is gone");
    assert_eq!(desk.verdict(B, for_good(Access::Read)), let_in(B, "d", V4, Access::Read));
}

#[test]
fn who_was_refused_and_leaves_is_forgotten() {
    let mut desk = Desk::new(SETTINGS);
    desk.show("d", "bad", V4);
    desk.verdict(A, Err(ErrorCode::AuthFailed));
    assert_eq!(desk.leave("d"), []);
    assert_eq!(desk.say("d", &text("early")), []);
    desk.show("d", "good", V4);
    let said = desk.verdict(B, for_good(Access::Write));
    assert_eq!(said.last(), Some(&heard(B, text("early"))), "what comes after leaving belongs to the next");
}

// ---- time --------------------------------------------------------------------------------------------------------------

#[test]
fn a_socket_that_never_says_who_it_is_is_closed_and_may_come_back() {
    let closed = Output::Close { code: 4501, reason: "AUTH_EXPIRED" };
    let mut silent = Desk::new(SETTINGS);
    assert_eq!(silent.pass(59), []);
    assert_eq!(silent.pass(1), std::slice::from_ref(&closed));
    let mut talking = Desk::new(SETTINGS);
    talking.say("d", &STEP_1);
    talking.say("d", &text("presence, perhaps"));
    talking.wait(59);
    talking.show("e", "t", V4);
    assert_eq!(talking.tick(), []);
    talking.wait(1);
    assert_eq!(talking.tick(), [denied("d", ErrorCode::AuthFailed), closed], "who meant to synchronise is told why");
}

#[test]
fn a_socket_that_everybody_left_is_closed_and_one_that_was_returned_to_is_not() {
    let mut desk = desk_with(&["d"], V4);
    desk.wait(1000);
    desk.leave("d");
    desk.wait(59);
    desk.open("d", B, V4, for_good(Access::Write));
    desk.wait(59);
    assert_eq!(desk.tick(), []);
    desk.leave("d");
    assert_eq!(desk.pass(60), [closed(ErrorCode::AuthExpired)]);
}

#[test]
fn a_channel_without_a_token_goes_alone_where_others_are_open() {
    let mut desk = desk_with(&["open"], V4);
    desk.say("quiet", &text("presence, perhaps"));
    desk.say("waiting", &STEP_1);
    let all: Vec<_> = desk.pass(60).into_iter().filter(|out| *out != Output::Send(hocuspocus::PING.clone())).collect();
    assert_eq!(all, [denied("waiting", ErrorCode::AuthFailed)], "who meant to synchronise is told");
    assert_eq!(desk.show("quiet", "late", V4), [asked(ChannelId(3), "quiet", "late")]);
    assert_eq!(desk.verdict(ChannelId(3), for_good(Access::Write)).len(), 2, "nothing is held of it");
}

#[test]
fn a_token_without_a_verdict_is_refused_in_the_end() {
    let mut desk = desk_with(&["open"], V4);
    desk.show("d", "t", V4);
    desk.wait(60);
    assert_eq!(desk.tick(), [denied("d", ErrorCode::Overloaded)]);
    assert_eq!(desk.verdict(B, for_good(Access::Write)), []);
}

#[test]
fn who_is_let_in_and_does_not_synchronise_must_start_over() {
    let mut desk = desk_with(&["d", "e"], V4);
    desk.put(Input::Revoked { channel: A, code: ErrorCode::AuthExpired });
    desk.show("d", "late", V4);
    desk.verdict(C, for_good(Access::Write));
    assert_eq!(desk.say("d", &update(1)), [heard(C, update(1))]);
    desk.wait(10);
    assert_eq!(
        desk.tick(),
        [Output::Detach { channel: B }, Output::Detach { channel: C }, closed(ErrorCode::ChannelError)]
    );
}

#[test]
fn a_quiet_socket_is_kept_alive_as_its_provider_understands_it() {
    for (version, frame) in [(V4, hocuspocus::PING.clone()), (UNSAID, hocuspocus::keep_alive(&address("d")))] {
        let mut desk = desk_with(&["d", "e"], version);
        desk.show("f", "t", version);
        assert_eq!(desk.session.deadline(desk.now), Some(desk.now.after(SETTINGS.keep_alive)));
        let last_sent = desk.now;
        desk.wait(20);
        assert_eq!(desk.put(Input::Tick { last_sent }), [Output::Send(frame)], "one for the whole socket");
        assert_eq!(desk.tick(), []);
    }
}

#[test]
fn a_socket_without_a_channel_is_not_kept_alive() {
    let mut desk = desk_with(&["d"], V4);
    desk.leave("d");
    let last_sent = desk.now;
    desk.wait(40);
    assert_eq!(desk.put(Input::Tick { last_sent }), []);
}
