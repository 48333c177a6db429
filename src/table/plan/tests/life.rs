//! Records that go and come back.

use super::*;
use crate::table::limits;

fn delete(id: &str, expected_version: Option<u64>) -> Command {
    Command::DeleteRecord { id: id.into(), expected_version }
}

fn restore(id: &str) -> Command {
    Command::RestoreRecord { id: id.into() }
}

#[test]
fn a_record_is_marked_and_the_mark_is_taken_away() {
    let mut world = World::simple().row("r", "a0", json!({"t": "x"}));
    let plan = world.ask(delete("r", Some(1))).unwrap();
    assert_eq!(plan.puts, [cell_put("r", "$d", json!({"t": 1_700_000_000_000_u64, "by": "bob"}))]);
    assert_eq!(plan.report, Report::Records(vec![("r".into(), None)]));
    world.carry_out(&plan);
    assert!(world.line().is_empty());

    let plan = world.ask(restore("r")).unwrap();
    assert_eq!(plan.puts, [cell_put("r", "$d", Value::Null)]);
    world.carry_out(&plan);
    assert_eq!(world.line(), ["r"]);
}

#[test]
fn asking_again_changes_nothing() {
    let mut world = World::simple().row("r", "a0", json!({"t": "x"}));
    let untouched = Plan { puts: vec![], report: Report::Records(vec![("r".into(), None)]) };
    assert_eq!(world.ask(restore("r")).unwrap(), untouched);
    world.run(delete("r", Some(1)));
    // The same request once more: its answer was lost.
    assert_eq!(world.ask(delete("r", Some(1))).unwrap(), untouched);
}

#[test]
fn a_record_that_is_not_there_neither_goes_nor_comes_back() {
    for command in [delete("gone", None), restore("gone")] {
        let refused = World::simple().ask(command).unwrap_err();
        assert_eq!((refused.code.word(), &refused.data["recordId"]), ("NOT_FOUND", &json!("gone")));
    }
}

#[test]
fn a_record_that_changed_is_not_deleted_by_who_has_not_seen_it() {
    let mut world = World::simple().row("r", "a0", json!({"t": "x"}));
    world.run(set("r", json!({"t": "y"})));
    let refused = world.ask(delete("r", Some(1))).unwrap_err();
    assert_eq!(refused.code.word(), "CONCURRENT_EDIT");
    let want =
        json!({"expectedVersion": 1, "currentVersion": 2, "fields": [], "changedSince": ["t"], "currentValue": null});
    for (key, value) in pairs(&want) {
        assert_eq!(&refused.data[key], value, "{key}");
    }
    assert_eq!(refused.data["record"]["cells"], json!({"t": "y"}));
    assert_eq!(world.ask(delete("r", Some(3))).unwrap_err().code.word(), "VERSION_AHEAD");
    assert!(world.ask(delete("r", Some(2))).is_ok());
}

#[test]
fn what_comes_back_must_still_be_unique_and_have_room() {
    let mut world = World::declared()
        .field("u", "Code", FieldType::Text, json!({"unique": true}))
        .row("r1", "a0", json!({"u": "k"}))
        .row("r2", "a1", json!({}));
    world.mark_deleted("r1");
    assert!(world.ask(restore("r1")).is_ok());
    world.run(set("r2", json!({"u": "k"})));
    assert_eq!(no(world.ask(restore("r1"))), ("INVALID_VALUE", "cells.u".into()));
    world.run(set("r2", json!({"u": null})));
    world.table.live = limits::ROWS_MAX;
    assert_eq!(no(world.ask(restore("r1"))).0, "PAYLOAD_TOO_LARGE");
}
