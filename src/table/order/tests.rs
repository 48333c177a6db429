//! Order keys against the npm packages, and the laws that hold for all of them.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

/// What the npm package answers; `tests/interop/order/vectors.mjs` says how it is written.
const VECTORS: &str = include_str!("../../../tests/interop/order/vectors.txt");
/// Keys of ours that `tests/interop/order.test.mjs` gives to the npm packages.
const JITTERED: &str = include_str!("../../../tests/interop/order/jittered.txt");

#[test]
fn the_answers_are_those_of_the_npm_package() {
    let mut cases = 0;
    for line in VECTORS.lines().filter(|line| !line.starts_with('#')) {
        let (question, answer) = line.split_once(" = ").expect("a case has an answer");
        let words: Vec<&str> = question.split(' ').collect();
        let side = |at: usize| Some(words[at]).filter(|word| *word != "-");
        let keys = match words.get(3) {
            Some(n) => keys_between(side(0), side(1), n.parse().expect("a count")),
            None => key_between(side(0), side(1)).map(|key| vec![key]),
        };
        assert_eq!(keys.map_or_else(|_| "!".to_owned(), |keys| keys.join(" ")), answer, "{question}");
        cases += 1;
    }
    assert!(cases > 2500, "{cases}");
}

#[test]
fn jittered_keys_are_those_that_the_npm_packages_have_accepted() {
    let ours: String = jittered_walk().into_iter().map(|key| key + "\n").collect();
    assert!(ours == JITTERED, "tests/interop/order/jittered.txt should be:\n{ours}");
}

/// Ten who always insert into the gap that they see, a few at the ends, and two pasted blocks.
fn jittered_walk() -> Vec<String> {
    let mut rand = chance(7);
    let mut keys = BTreeSet::from(["a0".to_owned(), "a1".to_owned()]);
    for _ in 0..20 {
        let seen: Vec<String> = keys.iter().take(2).cloned().collect();
        for _ in 0..10 {
            keys.insert(jittered_between(Some(&seen[0]), Some(&seen[1]), &mut rand).unwrap());
        }
        let (first, last) = (keys.first().cloned(), keys.last().cloned());
        keys.insert(jittered_between(last.as_deref(), None, &mut rand).unwrap());
        keys.insert(jittered_between(None, first.as_deref(), &mut rand).unwrap());
    }
    let block: Vec<String> = keys.iter().take(2).cloned().collect();
    for _ in 0..2 {
        keys.extend(jittered_keys_between(Some(&block[0]), Some(&block[1]), 40, &mut rand).unwrap());
    }
    keys.into_iter().collect()
}

#[test]
fn two_thousand_rounds_of_ten_in_one_gap_make_no_key_twice() {
    let mut rand = chance(1);
    for round in 0..2000 {
        let keys: BTreeSet<String> =
            (0..10).map(|_| jittered_between(Some("a0"), Some("a1"), &mut rand).unwrap()).collect();
        assert_eq!(keys.len(), 10, "round {round}");
    }
}

#[test]
fn keys_stay_short() {
    let mut rand = chance(3);
    let longest = |keys: &[String]| keys.iter().map(String::len).max().unwrap_or_default();
    assert_eq!(longest(&keys_between(None, None, 10_000).unwrap()), 4);
    assert_eq!(longest(&jittered_keys_between(None, None, 10_000, &mut rand).unwrap()), 8);
    assert_eq!(longest(&jittered_keys_between(None, Some("a01"), 10_000, &mut rand).unwrap()), 8);
    let mut upper = "a1".to_owned();
    for _ in 0..1000 {
        upper = jittered_between(Some("a0"), Some(&upper), &mut rand).unwrap();
    }
    assert!(upper.len() < 250, "{}", upper.len());
}

#[test]
fn neighbours_that_are_equal_or_reversed_are_refused() {
    assert_eq!(key_between(Some("a1"), Some("a1")), Err(BadKey::NotBetween));
    assert_eq!(key_between(Some("a2"), Some("a1")), Err(BadKey::NotBetween));
    assert_eq!(keys_between(Some("a2"), Some("a1"), 2), Err(BadKey::NotBetween));
    assert_eq!(keys_between(Some("a2"), Some("a1"), 0), Ok(Vec::new()));
}

#[test]
fn what_is_no_key_is_refused() {
    let long = format!("a0{}V", "1".repeat(KEY_BYTES_MAX - 2));
    for bad in ["", "a", "0", "a0!", "a0é", "a0 1", "a00", "a0V0", LOWEST, "-", &long] {
        assert!(!is_valid(bad), "{bad:?}");
        assert_eq!(key_between(Some(bad), None), Err(BadKey::Invalid), "{bad:?}");
        assert_eq!(key_between(None, Some(bad)), Err(BadKey::Invalid), "{bad:?}");
    }
    assert!(is_valid(&long[1..].replacen('0', "a0", 1)[..KEY_BYTES_MAX]));
}

#[test]
fn a_worn_out_gap_says_so_and_the_line_has_no_lowest_key_without_room_before_it() {
    let worn = format!("a0{}", "1".repeat(KEY_BYTES_MAX - 2));
    assert_eq!(key_between(Some(&worn), Some(&format!("{}2", &worn[..KEY_BYTES_MAX - 1]))), Err(BadKey::Full));
    let lowest = format!("A{}1", "0".repeat(25));
    let before = key_between(None, Some(&lowest)).unwrap();
    assert!(is_valid(&before) && before < lowest);
    assert!(key_between(None, Some(&before)).unwrap() < before);
}

#[test]
fn a_gap_steps_over_equal_keys_and_over_what_is_no_key() {
    assert_eq!(gap_after(["a1", "a1", "a1", "a2"]), (Some("a1"), Some("a2")));
    assert_eq!(gap_after(["a1", "a1!", "a10", "a1V"]), (Some("a1"), Some("a1V")));
    assert_eq!(gap_after(["a1"]), (Some("a1"), None));
    assert_eq!(gap_after([]), (None, None));
}

proptest! {
    #[test]
    fn keys_lie_between(steps in prop::collection::vec((any::<prop::sample::Index>(), any::<bool>(), 1..6_usize), 1..60), seed in any::<u32>()) {
        let mut rand = chance(seed);
        let mut keys: Vec<String> = Vec::new();
        for (at, is_jittered, n) in steps {
            let at = at.index(keys.len() + 1);
            let a = at.checked_sub(1).map(|at| keys[at].as_str());
            let b = keys.get(at).map(String::as_str);
            let fresh = if is_jittered { jittered_keys_between(a, b, n, &mut rand) } else { keys_between(a, b, n) };
            keys.splice(at..at, fresh.unwrap());
            prop_assert!(keys.iter().all(|key| is_valid(key)));
            prop_assert!(keys.windows(2).all(|pair| pair[0] < pair[1]));
        }
    }

    #[test]
    fn noise_never_panics(a in "\\PC{0,8}|[A-Za-z0-9]{0,40}", b in "[A-Za-z0-9]{0,40}", n in 0..5_usize) {
        let mut rand = chance(0);
        let _ = keys_between(Some(&a), Some(&b), n);
        let _ = jittered_keys_between(None, Some(&a), n, &mut rand);
        let _ = jittered_keys_between(Some(&b), None, n, &mut rand);
        if let Ok(key) = jittered_between(Some(&a), Some(&b), &mut rand) {
            prop_assert!(a < key && key < b && is_valid(&key));
        }
    }
}

/// Numbers that a seed determines (`SplitMix64`, its upper half).
fn chance(seed: u32) -> impl FnMut() -> u32 {
    let mut state = u64::from(seed);
    move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        u32::try_from((mixed ^ (mixed >> 31)) >> 32).expect("32 bits are left")
    }
}
