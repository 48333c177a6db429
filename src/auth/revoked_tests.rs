//! What the list refuses, for how long, and what survives.

use super::*;

fn identity(sub: &str, jti: Option<&str>, issued_at_ms: Option<u64>) -> Identity {
    Identity {
        sub: sub.into(),
        name: None,
        email: None,
        jti: jti.map(Into::into),
        issued_at_ms,
        expires_at_ms: Some(u64::MAX),
        access: None,
        as_of: 0,
    }
}

fn token(jti: &str, until_ms: u64) -> Revoked {
    Revoked::Token { jti: jti.into(), until_ms }
}

fn user(sub: &str, issued_until_ms: u64, until_ms: u64) -> Revoked {
    Revoked::User { sub: sub.into(), issued_until_ms, until_ms }
}

fn list(max: usize) -> List {
    List::new(max)
}

#[test]
fn a_token_is_refused_until_it_would_have_run_out() {
    let mut list = list(10);
    assert!(!list.insert(token("t", 2_000), 1_000));
    let bearer = identity("alice", Some("t"), Some(5_000));
    assert!(list.refuses(&bearer, 1_999) && !list.refuses(&bearer, 2_000));
    for other in [identity("alice", Some("u"), None), identity("t", None, None), identity("alice", None, None)] {
        assert!(!list.refuses(&other, 1_000), "{other:?}");
    }
}

#[test]
fn tokens_of_a_user_are_refused_up_to_a_moment() {
    let mut list = list(10);
    assert!(!list.insert(user("alice", 1_000, 9_000), 1_000));
    for (issued, refused) in [(Some(0), true), (Some(1_000), true), (Some(1_001), false), (None, true)] {
        assert_eq!(list.refuses(&identity("alice", None, issued), 1_000), refused, "{issued:?}");
        assert!(!list.refuses(&identity("bob", Some("alice"), issued), 1_000));
    }
    assert!(!list.refuses(&identity("alice", None, None), 9_000));
}

#[test]
fn said_twice_the_stricter_holds() {
    let mut list = list(10);
    for entry in [user("alice", 2_000, 9_000), user("alice", 1_000, 5_000), token("t", 9_000), token("t", 5_000)] {
        assert!(!list.insert(entry, 0));
    }
    assert_eq!(list.len(), 2);
    assert!(list.refuses(&identity("alice", None, Some(2_000)), 8_999));
    assert!(list.refuses(&identity("bob", Some("t"), None), 8_999));
}

#[test]
fn when_it_is_full_the_expired_go_and_then_the_oldest() {
    let mut list = list(3);
    for entry in [user("oldest", 1, 1_000), token("short", 50), token("b", 1_000)] {
        assert!(!list.insert(entry, 10));
    }
    assert!(!list.insert(token("c", 1_000), 60), "the short one has run out and makes room");
    assert!(!list.insert(user("oldest", 2, 1_000), 60), "it is there, and the youngest now");
    assert!(list.insert(token("d", 1_000), 60), "somebody had to go");
    assert_eq!(list.len(), 3);
    assert!(!list.refuses(&identity("x", Some("b"), None), 60), "that was the oldest");
    for kept in [identity("oldest", None, None), identity("x", Some("c"), None), identity("x", Some("d"), None)] {
        assert!(list.refuses(&kept, 60), "{kept:?}");
    }
}

#[tokio::test]
async fn what_was_saved_is_there_after_a_restart_in_its_order() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("revoked.jsonl");
    let list = RevokedList::open(&path).unwrap();
    let entries = [token("z", u64::MAX), user("alice", 7, u64::MAX), token("a", u64::MAX)];
    for entry in &entries {
        let unsaved = list.add(entry.clone(), 0);
        list.save(unsaved).await.unwrap();
    }
    let again = RevokedList::open(&path).unwrap();
    assert_eq!(again.0.read().entries().0, entries);
    assert!(again.refuses(&identity("bob", Some("z"), None), 1));
    assert!(!RevokedList::nowhere().refuses(&identity("bob", Some("z"), None), 1));
}

#[tokio::test]
async fn many_changes_at_once_are_all_in_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("revoked.jsonl");
    let list = Arc::new(RevokedList::open(&path).unwrap());
    let changes = (0..50).map(|n| {
        let list = list.clone();
        tokio::spawn(async move {
            let unsaved = list.add(token(&n.to_string(), u64::MAX), 0);
            list.save(unsaved).await
        })
    });
    for change in futures_util::future::join_all(changes).await {
        change.unwrap().unwrap();
    }
    assert_eq!(RevokedList::open(&path).unwrap().0.read().len(), 50);
}

#[tokio::test]
async fn what_cannot_be_saved_is_in_force_and_goes_with_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let inner = dir.path().join("inner");
    let list = RevokedList::open(&inner.join("revoked.jsonl")).unwrap();
    let unsaved = list.add(token("t", u64::MAX), 0);
    assert!(list.save(unsaved).await.is_err(), "there is no such directory");
    assert!(list.refuses(&identity("alice", Some("t"), None), 1));
    std::fs::create_dir(&inner).unwrap();
    let unsaved = list.add(token("u", u64::MAX), 0);
    list.save(unsaved).await.unwrap();
    assert_eq!(RevokedList::open(&inner.join("revoked.jsonl")).unwrap().0.read().len(), 2);
}

#[test]
fn the_same_list_has_the_same_fingerprint_in_any_order() {
    let print = |entries: &[Revoked]| {
        let mut list = list(10);
        entries.iter().for_each(|entry| list.put(entry.clone()));
        list.fingerprint(4)
    };
    let (a, b, c) = (token("a", 5), user("a", 1, 5), user("b", 1, 5));
    let all = [a.clone(), b.clone(), c.clone()];
    assert_eq!(
        print(&all),
        print(&[c.clone(), a.clone(), token("gone", 4), b.clone()]),
        "what has run out is not in it"
    );
    let prints =
        [&[][..], &all[..1], &all[1..2], &all[2..], &all[..2], &[token("a", 6)], &[user("a", 2, 5)]].map(print);
    for (at, one) in prints.iter().enumerate() {
        assert!(!prints[at + 1..].contains(one), "{prints:?}");
    }
    assert_eq!((prints[0], prints[4]), (0, GOLDEN_FINGERPRINT));
}

/// Nodes of other versions compute the same.
const GOLDEN_FINGERPRINT: u64 = 7_944_896_078_653_846_136;

#[test]
fn what_another_node_refuses_is_added_once() {
    let list = RevokedList::nowhere();
    assert!(list.add_foreign(&token("t", 2_000), 1_000).is_some());
    assert!(list.add_foreign(&user("alice", 500, 2_000), 1_000).is_some());
    for known in [token("t", 2_000), token("t", 1_500), user("alice", 400, 2_000), user("alice", 500, 1_999)] {
        assert!(list.add_foreign(&known, 1_000).is_none(), "{known:?}");
    }
    assert!(list.add_foreign(&token("over", 1_000), 1_000).is_none(), "it has run out");
    assert!(list.add_foreign(&user("alice", 501, 2_000), 1_000).is_some(), "stricter");
    assert_eq!(list.in_force(1_999).len(), 2);
    assert_eq!(list.in_force(2_000), []);
}

#[test]
fn a_full_list_takes_what_others_refuse_for_its_oldest() {
    let mut list = list(2);
    list.put(token("a", 9_000));
    list.put(token("b", 9_000));
    assert!(list.insert_one_of_many(token("c", 9_000), 0));
    assert_eq!(list.len(), 2);
    assert!(!list.tokens.contains_key("a"));
}
