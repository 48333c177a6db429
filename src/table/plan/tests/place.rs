//! Where records stand.

use super::*;
use crate::table::order;

fn behind(id: &str, after: Option<&str>) -> NewRecord {
    NewRecord { after: Some(after.map(str::to_owned)), ..new_record(id, json!({})) }
}

fn to(id: &str, after: Option<&str>) -> RecordPatch {
    RecordPatch { after: Some(after.map(str::to_owned)), ..patch_of(id, json!({}), None) }
}

fn abc() -> World {
    World::simple().row("a", "a0", json!({})).row("b", "a1", json!({})).row("c", "a2", json!({}))
}

#[test]
fn new_records_go_where_they_are_wanted() {
    let cases: Vec<(Vec<NewRecord>, &[&str])> = vec![
        (vec![new_record("x", json!({}))], &["a", "b", "c", "x"]),
        (vec![behind("x", None)], &["x", "a", "b", "c"]),
        (vec![behind("x", Some("a"))], &["a", "x", "b", "c"]),
        (vec![behind("x", Some("c"))], &["a", "b", "c", "x"]),
        (vec![behind("x", Some("a")), behind("y", Some("a"))], &["a", "x", "y", "b", "c"]),
        (vec![behind("x", None), behind("y", None)], &["x", "y", "a", "b", "c"]),
        (vec![behind("x", Some("a")), behind("y", Some("x"))], &["a", "x", "y", "b", "c"]),
        (vec![new_record("x", json!({})), behind("y", Some("x"))], &["a", "b", "c", "x", "y"]),
        (vec![behind("x", Some("b")), behind("y", Some("a")), behind("z", Some("x"))], &["a", "y", "b", "x", "z", "c"]),
    ];
    for (records, line) in cases {
        let mut world = abc();
        world.run(create(records.clone()));
        assert_eq!(world.line(), line, "{records:?}");
    }
}

#[test]
fn records_move_where_they_are_wanted() {
    let cases: Vec<(Vec<RecordPatch>, &[&str], usize)> = vec![
        (vec![to("a", Some("c"))], &["b", "c", "a"], 1),
        (vec![to("c", None)], &["c", "a", "b"], 1),
        (vec![to("c", Some("a"))], &["a", "c", "b"], 1),
        (vec![to("b", Some("a"))], &["a", "b", "c"], 0),
        (vec![to("a", None)], &["a", "b", "c"], 0),
        (vec![to("b", Some("a")), to("c", Some("b"))], &["a", "b", "c"], 0),
        (vec![to("c", None), to("a", Some("c"))], &["c", "a", "b"], 2),
        (vec![to("a", Some("b")), to("b", Some("a"))], &["a", "b", "c"], 2),
    ];
    for (patches, line, moved) in cases {
        let mut world = abc();
        let plan = world.ask(batch(patches.clone())).unwrap();
        assert_eq!(plan.puts.len(), moved, "{patches:?}");
        world.carry_out(&plan);
        assert_eq!(world.line(), line, "{patches:?}");
    }
}

#[test]
fn a_deleted_record_between_is_no_reason_to_move() {
    let mut world = abc();
    world.mark_deleted("b");
    assert_eq!(world.ask(batch(vec![to("c", Some("a"))])).unwrap().puts, []);
}

#[test]
fn nothing_stands_behind_itself_or_behind_nothing() {
    for (patch, path) in [(to("b", Some("b")), "after"), (to("b", Some("gone")), "after")] {
        let command =
            |is_batch| Command::PatchRecords { records: vec![patch.clone()], on_conflict: OnConflict::Field, is_batch };
        assert_eq!(no(abc().ask(command(false))), ("INVALID_PAYLOAD", path.into()));
        assert_eq!(no(abc().ask(command(true))), ("INVALID_PAYLOAD", format!("records[0].{path}")));
    }
    let later = vec![to("a", Some("c")), patch_of("c", json!({"t": "x"}), None), to("b", Some("gone"))];
    assert_eq!(no(abc().ask(batch(later))), ("INVALID_PAYLOAD", "records[2].after".into()));
}

#[test]
fn equal_order_keys_are_stepped_over() {
    let mut world = World::simple().row("a", "a1", json!({})).row("b", "a1", json!({})).row("c", "a2", json!({}));
    world.run(create(vec![behind("x", Some("a"))]));
    assert_eq!(world.line(), ["a", "b", "x", "c"]);
    let mut world = World::simple().row("a", "a1", json!({})).row("b", "a1", json!({}));
    world.run(create(vec![behind("x", Some("a")), new_record("y", json!({}))]));
    assert_eq!(world.line(), ["a", "b", "x", "y"]);
}

#[test]
fn records_come_beside_keys_that_are_none() {
    let nonsense = || {
        World::simple()
            .row("none", "", json!({}))
            .row("a", "a0", json!({}))
            .row("odd", "a1 !", json!({}))
            .row("b", "a2", json!({}))
            .row("wild", "~~~", json!({}))
    };
    for (record, line) in [
        (new_record("x", json!({})), ["none", "a", "odd", "b", "x", "wild"]),
        (behind("x", None), ["none", "x", "a", "odd", "b", "wild"]),
        (behind("x", Some("none")), ["none", "x", "a", "odd", "b", "wild"]),
        (behind("x", Some("odd")), ["none", "a", "odd", "x", "b", "wild"]),
        (behind("x", Some("wild")), ["none", "a", "odd", "b", "x", "wild"]),
    ] {
        let mut world = nonsense();
        world.run(create(vec![record.clone()]));
        assert_eq!(world.line(), line, "{record:?}");
        let key = &world.table.rows["x"].order;
        assert!(order::is_valid(key), "{key}");
    }
}

#[test]
fn a_gap_that_is_worn_out_gives_everybody_a_new_place() {
    let upper = format!("a0{}1", "0".repeat(order::KEY_BYTES_MAX - 3));
    let mut world = World::simple().row("a", "a0", json!({})).row("b", &upper, json!({})).row("c", "a2", json!({}));
    let before = world.table.rows["c"].version;
    let ids = world.run(create(vec![behind("x", Some("a")), behind("y", Some("a"))]));
    assert_eq!(ids, ["x", "y"]);
    assert_eq!(world.line(), ["a", "x", "y", "b", "c"]);
    assert!(world.table.rows.values().all(|row| row.order.len() < 20), "all keys are short again");
    assert_eq!(world.table.rows["c"].version, before + 1);

    world.run(batch(vec![to("c", Some("x"))]));
    assert_eq!(world.line(), ["a", "x", "c", "y", "b"]);
}

#[test]
fn a_pasted_block_has_short_keys_wherever_it_goes() {
    let chain = |count: usize, first: Option<&str>| {
        let id = |at: usize| format!("x{at:05}");
        let after = |at: usize| if at == 0 { first.map(str::to_owned) } else { Some(id(at - 1)) };
        (0..count).map(|at| behind(&id(at), after(at).as_deref())).collect::<Vec<_>>()
    };
    for first in [None, Some("a"), Some("c")] {
        let mut world = abc();
        let ids = world.run(create(chain(2_000, first)));
        let line = world.line();
        let start = first.map_or(0, |first| line.iter().position(|id| id == first).unwrap() + 1);
        assert_eq!(line[start..start + ids.len()], ids);
        let longest = world.table.rows.values().map(|row| row.order.len()).max();
        assert!(longest <= Some(12), "{longest:?} behind {first:?}");
    }
}

#[test]
fn ten_thousand_records_at_once_are_ten_thousand_places() {
    let mut world = abc();
    let ids = world.run(create(vec![new_record("", json!({"t": "x", "n": 1})); 10_000]));
    assert_eq!(world.line()[3..], ids);
}

#[test]
fn a_source_of_chance_that_repeats_itself_still_gives_ids() {
    let world = abc();
    let raw = |_: &str| Raw::new();
    let sight = Sight {
        doc: "table:t",
        epoch: Epoch(0),
        table: &world.table,
        raw: &raw,
        components: &NO_COMPONENTS,
        now_ms: 0,
    };
    let command = create(vec![new_record("", json!({})); 3]);
    let plan = plan(
        &sight,
        &Write { command, user: None, once: None, correlation_id: None, peer: None, guard: None },
        &mut || 0,
    )
    .unwrap();
    let Report::Records(records) = plan.report else { panic!("records were asked for") };
    let ids: Vec<_> = records.iter().map(|(id, _)| &**id).collect();
    assert_eq!(ids, ["000000000000", "0000000000000", "0000000000001"]);
}
