//! What happens to rights on a live channel: renewal, expiry, change, revocation.

use super::*;

fn requested(raw: &str) -> Output {
    Output::Send(hocuspocus::token_request(&address(raw)))
}

fn in_seconds(desk: &Desk, seconds: u64) -> Result<Grant, ErrorCode> {
    until(desk.now.after(Duration::from_secs(seconds)))
}

#[test]
fn a_client_is_asked_for_its_next_token_once_and_in_time() {
    let mut desk = Desk::new(SETTINGS);
    desk.open("d", A, V4, until(START.after(Duration::from_secs(600))));
    desk.now = Moment(START.0 + 569_999);
    assert_eq!(desk.tick(), []);
    desk.now = Moment(START.0 + 570_000);
    assert_eq!(desk.tick(), [requested("d")]);
    desk.wait(20);
    assert_eq!(desk.tick(), []);
    assert_eq!(desk.show("d", "new", V4), [asked_again(A, "d", "new")]);
    assert_eq!(desk.say("d", &update(1)), [heard(A, update(1))], "it goes on meanwhile");
    assert_eq!(desk.verdict(A, in_seconds(&desk, 600)), [], "an answer to our question needs no answer");
    assert_eq!(desk.session.deadline(Moment(u64::MAX)), Some(desk.now.after(Duration::from_secs(570))));
}

#[test]
fn a_five_second_token_lasts_with_a_client_that_renews() {
    let mut desk = Desk::new(SETTINGS);
    desk.open("d", A, UNSAID, in_seconds(&Desk::new(SETTINGS), 5));
    let mut renewals = 0;
    while desk.now < START.after(Duration::from_secs(30)) {
        desk.now = desk.session.deadline(desk.now).expect("an open channel with a token");
        assert_eq!(desk.tick(), [requested("d")]);
        assert_eq!(desk.show("d", "new", UNSAID), [asked_again(A, "d", "new")]);
        assert_eq!(desk.verdict(A, in_seconds(&desk, 5)), []);
        assert_eq!(desk.say("d", &update(1)), [heard(A, update(1))]);
        renewals += 1;
    }
    assert!((8..=12).contains(&renewals), "{renewals} renewals of 5 s in 30 s");
}

#[test]
fn the_same_token_again_is_not_asked_for_again() {
    let mut desk = Desk::new(SETTINGS);
    let same = in_seconds(&desk, 90);
    desk.open("d", A, V4, same);
    desk.wait(60);
    assert_eq!(desk.tick(), [requested("d")]);
    desk.show("d", "t", V4);
    assert_eq!(desk.verdict(A, same), []);
    desk.wait(59);
    assert_eq!(desk.tick(), []);
    desk.wait(1);
    assert_eq!(desk.tick(), [Output::Detach { channel: A }, closed(ErrorCode::AuthExpired)]);
}

#[test]
fn a_token_that_nobody_asked_for_is_answered() {
    let mut desk = desk_with(&["d"], UNSAID);
    desk.show("d", "of another provider at this address", UNSAID);
    assert_eq!(desk.verdict(A, for_good(Access::Write)), [authenticated("d", Access::Write)]);
}

#[test]
fn a_renewal_may_give_and_take() {
    let mut desk = desk_with(&["d"], V4);
    desk.show("d", "less", V4);
    assert_eq!(desk.verdict(A, for_good(Access::Read)), let_in(A, "d", V4, Access::Read));
    let grant = Grant { access: Access::Write, expires_at: None };
    assert_eq!(desk.put(Input::Renewed { channel: A, grant }), let_in(A, "d", V4, Access::Write));
    assert_eq!(desk.put(Input::Renewed { channel: A, grant }), []);
    let grant = Grant { access: Access::Read, expires_at: None };
    assert_eq!(desk.put(Input::Renewed { channel: A, grant }), let_in(A, "d", V4, Access::Read));
    assert_eq!(desk.put(Input::Renewed { channel: B, grant }), []);
}

#[test]
fn a_bad_renewal_ends_the_channel_and_an_unknown_one_does_not() {
    for code in ErrorCode::ALL {
        let mut desk = desk_with(&["d", "e"], V4);
        desk.show("d", "new", V4);
        let out = desk.verdict(A, Err(*code));
        if code.is_permanent() {
            assert_eq!(out, put_out(A, "d", *code));
        } else {
            assert_eq!(out, [], "{code:?} says nothing of the user");
            assert_eq!(desk.say("d", &update(1)), [heard(A, update(1))]);
        }
        assert_eq!(desk.say("e", &update(1)), [heard(B, update(1))]);
    }
}

#[test]
fn one_renewal_is_looked_at_and_the_newest_waits() {
    let mut desk = desk_with(&["d"], V4);
    assert_eq!(desk.show("d", "1", V4), [asked_again(A, "d", "1")]);
    assert_eq!(desk.show("d", "2", V4), []);
    assert_eq!(desk.show("d", "3", V4), []);
    assert_eq!(desk.verdict(A, Err(ErrorCode::AuthFailed)), [asked_again(A, "d", "3")], "the newest decides");
    assert_eq!(desk.verdict(A, for_good(Access::Write)), [authenticated("d", Access::Write)]);
    assert_eq!(desk.verdict(A, Err(ErrorCode::AuthFailed)), []);
}

#[test]
fn at_the_end_of_the_grace_a_channel_goes_and_its_neighbours_stay() {
    let mut desk = Desk::new(SETTINGS);
    desk.open("d", A, V4, in_seconds(&Desk::new(SETTINGS), 60));
    desk.open("e", B, V4, for_good(Access::Write));
    let all = desk.pass(89);
    assert!(!all.iter().any(|output| matches!(output, Output::Detach { .. })), "{all:?}");
    assert_eq!(desk.say("d", &update(1)), [heard(A, update(1))]);
    desk.wait(1);
    assert_eq!(desk.say("d", &update(1)), put_out(A, "d", ErrorCode::AuthExpired), "noticed without a tick");
    assert_eq!(desk.say("e", &update(1)), [heard(B, update(1))]);
    assert_eq!(desk.verdict(A, for_good(Access::Write)), [], "too late");
}

#[test]
fn news_come_before_the_clock() {
    let mut desk = Desk::new(SETTINGS);
    desk.open("d", A, V4, in_seconds(&Desk::new(SETTINGS), 60));
    desk.show("d", "new", V4);
    desk.wait(90);
    assert_eq!(desk.verdict(A, for_good(Access::Write)), [authenticated("d", Access::Write)]);
    assert_eq!(desk.say("d", &update(1)), [heard(A, update(1))]);
}

#[test]
fn who_is_revoked_is_evicted_for_good_whatever_the_reason() {
    for code in [ErrorCode::Forbidden, ErrorCode::AuthExpired] {
        let mut desk = desk_with(&["d"], V4);
        assert_eq!(desk.put(Input::Revoked { channel: A, code }), put_out(A, "d", code));
        assert_eq!(desk.put(Input::Revoked { channel: A, code }), []);
        for message in [update(1), text("x"), DocumentMessage::Awareness(vec![])] {
            assert_eq!(desk.say("d", &message), [], "it goes on as if nothing had happened");
        }
        assert_eq!(desk.show("d", "t", V4), [asked(B, "d", "t")]);
    }
}

#[test]
fn providers_that_did_not_say_their_version_are_sent_nothing_that_they_throw_on() {
    let mut desk = desk_with(&["d", "e"], UNSAID);
    let out = desk.put(Input::Revoked { channel: A, code: ErrorCode::Forbidden });
    assert_eq!(out, [Output::Detach { channel: A }, denied("d", ErrorCode::Forbidden)]);
    let kept_alive = desk.pass(20);
    assert_eq!(kept_alive, [Output::Send(hocuspocus::keep_alive(&address("e")))]);
}

#[test]
fn who_is_revoked_while_its_token_is_looked_at_stays_out() {
    let mut desk = Desk::new(SETTINGS);
    desk.show("d", "t", V4);
    assert_eq!(
        desk.put(Input::Revoked { channel: A, code: ErrorCode::Forbidden }).first(),
        Some(&denied("d", ErrorCode::Forbidden))
    );
    assert_eq!(desk.verdict(A, for_good(Access::Write)), []);
}
