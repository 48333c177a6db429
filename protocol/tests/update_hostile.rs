//! Updates that broke the engine or would have, and what becomes of them here.

use bytes::BufMut;
use bytes::BytesMut;
use syncline_protocol::limits::ANY_DEPTH_MAX;
use syncline_protocol::state_vector::StateVector;
use syncline_protocol::update::Invalid;
use syncline_protocol::update::NESTING_MAX;
use syncline_protocol::update::Readiness;
use syncline_protocol::update::UpdateLimits;
use syncline_protocol::update::validate;
use syncline_protocol::wire::write_var_bytes;
use syncline_protocol::wire::write_var_uint;

fn unhex(hex: &str) -> Vec<u8> {
    let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex digits");
    (0..hex.len()).step_by(2).map(byte).collect()
}

fn refusal(update: &[u8]) -> Option<Invalid> {
    validate(update, &UpdateLimits::default()).err()
}

#[test]
fn hostile_corpus() {
    let refused = [
        ("use after free, first half: empty delete lists", "0101020900040204000300", Invalid::End { at: 6 }),
        ("use after free, second half", "0101020681020a0401030200030404", Invalid::ForwardReference { at: 5 }),
        ("encode panics while pending", "01010200830206016100", Invalid::ForwardReference { at: 5 }),
        ("encode panics while pending, other", "0101040a82010e000101011500", Invalid::JsonContent { at: 7 }),
        (
            "poison: every later encode panics",
            "01035c000701016101b2005c000171017d012801016d026b31017d0100",
            Invalid::Info { at: 9, info: 0xb2 },
        ),
        (
            "poison that survives encoding again",
            "010226000701016101a20026000171017d00",
            Invalid::JsonContent { at: 12 },
        ),
        ("clock overflow", "0101010000ffffffff0f00", Invalid::Clock { at: 5 }),
        ("panic", "0201010ca2011200077b2261223a317d010112000400", Invalid::ForwardReference { at: 5 }),
        ("panic", "0101040281030bffffffffffffff0f0103010901", Invalid::Clock { at: 7 }),
        ("panic", "0202020200020a80010102feffffff0f0101000100", Invalid::Clock { at: 11 }),
        ("allocation bomb of four bytes", "8084af5f", Invalid::End { at: 0 }),
        ("an empty V2 update", "00000000000001000000000000", Invalid::Trailing { at: 2 }),
        ("a type that is none", "01010100270101610162080000", Invalid::TypeRef { at: 10, type_ref: 8 }),
        ("a weak link", "01010100270101610162070000", Invalid::WeakLink { at: 10 }),
        ("an XML hook", "0101010027010161016205017800", Invalid::XmlHook { at: 10 }),
        ("a type number in two bytes", "0101010027010161016281000000", Invalid::TypeRef { at: 10, type_ref: 0x81 }),
        ("a move", "010101000b01016100000000", Invalid::Move { at: 8 }),
        ("a subdocument", "01010100290101610162016776000000", Invalid::Subdocument { at: 10 }),
        ("a content that is none", "010101000c01016100000000", Invalid::Info { at: 4, info: 12 }),
        ("a content that the engine takes for text", "0101010014010161016100", Invalid::Info { at: 4, info: 0x14 }),
        ("collected, with an origin", "01010100800201010000", Invalid::Info { at: 4, info: 0x80 }),
        ("a gap, with a parent key", "010101002a0201000000", Invalid::Info { at: 4, info: 0x2a }),
        ("a parent that is neither name nor id", "0101010004020161016100", Invalid::ParentInfo { at: 5 }),
        ("an empty text", "01010100040101610000", Invalid::Empty { at: 8 }),
        ("no values", "01010100080101610000", Invalid::Empty { at: 8 }),
        ("nothing collected", "01010100000000", Invalid::Empty { at: 5 }),
        ("an empty gap", "010101000a0000", Invalid::Empty { at: 5 }),
        ("a client without structs", "010005000000", Invalid::Empty { at: 1 }),
        ("a delete list without ranges", "00010100000000", Invalid::Empty { at: 3 }),
        ("a delete range of nothing", "000101010500", Invalid::Empty { at: 5 }),
        ("overlapping deletions", "0001010200020101", Invalid::DeleteOrder { at: 6 }),
        ("deletions out of order", "0001010205010001", Invalid::DeleteOrder { at: 6 }),
        ("deletions beyond the last clock", "00010101ffffffff0701", Invalid::Clock { at: 4 }),
        ("a client deleted twice in a row", "00020101000101010001", Invalid::DuplicateClient { at: 6, client: 1 }),
        (
            "a client deleted twice, another between",
            "0003010100010201000101010001",
            Invalid::DuplicateClient { at: 0, client: 1 },
        ),
        ("a client twice", "020101000001010101000100", Invalid::DuplicateClient { at: 0, client: 1 }),
        ("a clock of 2^31", "0101018080808008000100", Invalid::Clock { at: 3 }),
        ("a clock that the engine would wrap", "01010180808080800100000100", Invalid::Clock { at: 3 }),
        ("a padded integer", "018100010000010000", Invalid::Integer { at: 1 }),
        ("a client id of 2^53", "01018080808080808010000001000000", Invalid::Integer { at: 2 }),
        ("an item inside itself", "010101000400010004616162620000", Invalid::ForwardReference { at: 6 }),
        ("text that is not UTF-8", "01010100040101610180ff00", Invalid::Utf8 { at: 8 }),
        ("a root name that is not UTF-8", "010101000401018001610000", Invalid::Utf8 { at: 6 }),
        ("an embed that is not JSON", "0101010005010161027b7b00", Invalid::Json { at: 8 }),
        ("a format whose key is not UTF-8", "01010100060101610180013100", Invalid::Utf8 { at: 8 }),
        ("a value of an unknown kind", "01010100080101610173000000", Invalid::ValueTag { at: 9, tag: 0x73 }),
        ("more values than bytes", "01010100080101617f7f00", Invalid::End { at: 8 }),
        ("trailing bytes", "000000", Invalid::Trailing { at: 2 }),
        ("nothing", "", Invalid::End { at: 0 }),
    ];
    let wrong = refused.into_iter().filter(|(_, hex, expected)| refusal(&unhex(hex)) != Some(*expected));
    let wrong: Vec<_> = wrong.map(|(what, hex, _)| format!("{what}: {hex}: {:?}", refusal(&unhex(hex)))).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// A text with a character of two UTF-16 units under a root that somebody reads as an array made `iter` and `to_json` of
/// the engine run for ever. The very same bytes are what typing that character into a text of this name writes, so no
/// reader of one update can refuse them. Contained by the document, which never reads a root as a type that was not declared.
#[test]
fn a_surrogate_pair_in_a_sequence_is_valid_by_itself() {
    assert_eq!(refusal(&unhex("0101010004010361727204f09f988000")), None);
}

/// The first half of the use after free, without the empty lists that give it away: a struct that starts at clock 9 of a
/// client nobody has heard of, and deletions of what is not there.
#[test]
fn what_comes_too_early_is_stopped_by_the_gate() {
    let early = validate(&unhex("0101020900040103010205"), &UpdateLimits::default()).expect("valid by itself");
    let missing = |known: &[(u64, u32)]| early.readiness(&known.iter().copied().collect());
    assert_eq!(missing(&[]), Readiness::Missing(vec![(2, 9), (3, 7)]));
    assert_eq!(missing(&[(2, 8), (3, 7)]), Readiness::Missing(vec![(2, 9)]));
    assert_eq!(missing(&[(2, 9), (3, 6)]), Readiness::Missing(vec![(3, 7)]));
    assert_eq!(missing(&[(2, 9), (3, 7)]), Readiness::Ready);
    assert_eq!(missing(&[(2, 20), (3, 7)]), Readiness::Ready);
}

#[test]
fn structs_that_wait_for_each_other_are_refused() {
    // 2:0 follows 1:1, and 1:1 follows 2:0.
    let cycle = "02".to_owned()
        + "0102"
        + "00"
        + "84"
        + "0101"
        + "0161"
        + "0201"
        + "00"
        + "0401016101"
        + "62"
        + "84"
        + "0200"
        + "0163"
        + "00";
    assert_eq!(refusal(&unhex(&cycle)), Some(Invalid::Cycle { client: 2 }));
    // Without the first link there is an order: 1:0, 2:0 (after 1:0), 1:1 (after 2:0).
    let fine = cycle.replacen("840101", "840100", 1);
    assert_eq!(refusal(&unhex(&fine)), None);
}

#[test]
fn a_ring_of_many_clients_is_refused_and_a_chain_is_not() {
    let build = |clients: u64, first_follows: u64| {
        let mut out = BytesMut::new();
        write_var_uint(&mut out, clients);
        for client in (1..=clients).rev() {
            write_var_uint(&mut out, 1);
            write_var_uint(&mut out, client);
            out.put_slice(&[0, 0x84]);
            write_var_uint(&mut out, if client == 1 { first_follows } else { client - 1 });
            out.put_slice(&[0, 1, b'x']);
        }
        out.put_u8(0);
        out
    };
    assert!(matches!(refusal(&build(5_000, 5_000)), Some(Invalid::Cycle { .. })));
    let chain = validate(&build(5_000, 9_999), &UpdateLimits::default()).expect("a chain has an order");
    assert_eq!(chain.readiness(&StateVector::default()), Readiness::Missing(vec![(9_999, 1)]));
    assert_eq!(chain.readiness(&StateVector::from_iter([(9_999, 1)])), Readiness::Ready);
}

/// `levels` maps, each the value of a key in the one before; `beside` hangs each on a neighbour instead of naming its parent.
fn nested_maps(levels: u64, beside: bool) -> BytesMut {
    let mut out = BytesMut::new();
    let structs = if beside { 2 * levels - 1 } else { levels };
    out.put_u8(1);
    write_var_uint(&mut out, structs);
    out.put_slice(&[1, 0]);
    out.put_slice(&[0x27, 1, 1, b'a', 1, b'k', 1]);
    for level in 1..levels {
        if beside {
            // A value in the map before, then a map to the right of that value.
            let map = 2 * (level - 1);
            out.put_slice(&[0x08, 0, 1]);
            write_var_uint(&mut out, map);
            out.put_slice(&[1, 126]);
            out.put_slice(&[0x87, 1]);
            write_var_uint(&mut out, map + 1);
            out.put_u8(1);
        } else {
            out.put_slice(&[0x27, 0, 1]);
            write_var_uint(&mut out, level - 1);
            out.put_slice(&[1, b'k', 1]);
        }
    }
    out.put_u8(0);
    out
}

#[test]
fn nesting_bombs_are_refused_however_they_are_built() {
    for beside in [false, true] {
        for levels in [1, 2, NESTING_MAX as u64 + 1] {
            assert_eq!(refusal(&nested_maps(levels, beside)), None, "{levels} {beside}");
        }
        for levels in [NESTING_MAX as u64 + 2, 10_000] {
            let refusal = refusal(&nested_maps(levels, beside));
            assert!(matches!(refusal, Some(Invalid::Nesting { .. })), "{levels} {beside}: {refusal:?}");
        }
    }
}

#[test]
fn a_parent_that_cannot_have_children_is_refused() {
    // 1:0 is text, 1:1 claims to lie in it. The engine finds out halfway through.
    assert_eq!(refusal(&unhex("01020100040101610178280001000161017e00")), Some(Invalid::Parent { at: 10 }));
    // In what was deleted or collected it may.
    assert_eq!(refusal(&unhex("010201000101016101280001000161017e00")), None);
    assert_eq!(refusal(&unhex("010201000001280001000161017e00")), None);
}

#[test]
fn deep_values_are_refused() {
    let update = |levels: usize, value: &[u8]| {
        let mut out = BytesMut::from(&[1, 1, 1, 0, 8, 1, 1, b'a', 1][..]);
        (0..levels).for_each(|_| out.put_slice(value));
        out.put_slice(&[126, 0]);
        out
    };
    for value in [&[117, 1][..], &[118, 1, 1, b'k'][..]] {
        assert_eq!(refusal(&update(ANY_DEPTH_MAX, value)), None);
        for levels in [ANY_DEPTH_MAX + 1, 10_000, 1_000_000] {
            assert!(matches!(refusal(&update(levels, value)), Some(Invalid::ValueDepth { .. })), "{levels}");
        }
    }
    let mut embed = BytesMut::from(&[1, 1, 1, 0, 5, 1, 1, b'a'][..]);
    write_var_bytes(&mut embed, "[".repeat(10_000).as_bytes());
    embed.put_u8(0);
    assert_eq!(refusal(&embed), Some(Invalid::ValueDepth { at: 8 }));
}
