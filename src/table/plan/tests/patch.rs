//! Changes to records, and what versions say about them.

use OnConflict::Field;
use OnConflict::Force;
use OnConflict::Record;

use super::*;
use crate::table::command::Merged;

/// `r` at version 3: made by ann with `t` and `n`, then `t` changed by bob, then `n`.
fn at_three() -> World {
    let mut world = World::simple()
        .field("c", "Note", FieldType::Text, json!({}))
        .row("r", "a0", json!({"t": "first", "n": 1}))
        .row("s", "a1", json!({"t": "other"}));
    world.run(set("r", json!({"t": "second"})));
    world.run(set("r", json!({"n": 2})));
    world
}

fn merged(plan: &Plan) -> Option<Merged> {
    let Report::Records(records) = &plan.report else { panic!("{plan:?}") };
    records[0].1.clone()
}

#[test]
fn versions_decide() {
    let over = |from: u64, fields: &[&str]| {
        Ok(Some(Merged { over: (from, 3), changed_since: fields.iter().map(|id| (*id).to_owned()).collect() }))
    };
    type Case = (Value, Option<u64>, OnConflict, Result<Option<Merged>, &'static str>);
    let cases: Vec<Case> = vec![
        (json!({"t": "x"}), None, Field, Ok(None)),
        (json!({"t": "x"}), None, Record, Ok(None)),
        (json!({"t": "x"}), Some(3), Field, Ok(None)),
        (json!({"t": "x"}), Some(3), Record, Ok(None)),
        (json!({"t": "x"}), Some(2), Field, over(3, &["n"])),
        (json!({"t": "x"}), Some(2), Record, Err("CONCURRENT_EDIT")),
        (json!({"t": "x"}), Some(2), Force, Ok(None)),
        (json!({"n": 9}), Some(2), Field, Err("CONCURRENT_EDIT")),
        (json!({"t": "x"}), Some(1), Field, Err("CONCURRENT_EDIT")),
        (json!({"c": "x"}), Some(1), Field, over(2, &["n", "t"])),
        (json!({"c": "x"}), Some(1), Record, Err("CONCURRENT_EDIT")),
        (json!({"t": "x", "c": "x"}), Some(0), Field, Err("CONCURRENT_EDIT")),
        (json!({"c": "x"}), Some(0), Field, over(1, &["n", "t"])),
        (json!({}), Some(1), Field, over(2, &["n", "t"])),
        (json!({"t": "x"}), Some(4), Field, Err("VERSION_AHEAD")),
        (json!({"t": "x"}), Some(4), Record, Err("VERSION_AHEAD")),
        (json!({"t": "x"}), Some(u64::MAX), Force, Ok(None)),
        // It is there already, but who asks has not seen it.
        (json!({"n": 2}), Some(2), Field, Err("CONCURRENT_EDIT")),
    ];
    for (cells, expected, on_conflict, want) in cases {
        let told = format!("{cells} on {expected:?}, {on_conflict:?}");
        let outcome = at_three().ask(patch_one("r", cells, expected, on_conflict));
        let outcome = outcome.as_ref().map(merged).map_err(|no| no.code.word());
        assert_eq!(outcome, want, "{told}");
    }
}

#[test]
fn a_conflict_says_all_that_is_needed_to_solve_it() {
    let mut world = at_three();
    let command = patch_one("r", json!({"Title": "mine", "Count": 7.0, "c": "note"}), Some(1), Field);
    let refused = world.ask(command).unwrap_err();
    let by_bob = |field: &str, yours: Value, current: Value, version: u64| {
        json!({
            "fieldId": field, "yourValue": yours, "currentValue": current, "currentVersion": version,
            "updatedBy": "bob", "updatedAt": "2023-11-14T22:13:20.000Z",
        })
    };
    let want = json!({
        "doc": "table:t", "recordId": "r", "expectedVersion": 1, "currentVersion": 3, "currentValue": 2,
        "fields": [by_bob("n", json!(7), json!(2), 3), by_bob("t", json!("mine"), json!("second"), 2)],
        "record": {
            "id": "r", "cells": {"t": "second", "n": 2}, "order": "a0", "version": 3,
            "createdAt": "2020-09-13T12:26:40.000Z", "createdBy": "ann",
            "updatedAt": "2020-09-13T12:26:40.000Z", "updatedBy": "ann",
        },
        "changedSince": ["n", "t"], "retry": {"expectedVersion": 3},
    });
    assert_eq!(Value::Object(refused.data), want);
}

#[test]
fn a_conflict_about_the_record_names_every_requested_field() {
    let refused = at_three().ask(patch_one("r", json!({"c": "note", "t": "x"}), Some(2), Record)).unwrap_err();
    let fields = refused.data["fields"].as_array().unwrap();
    let versions: Vec<_> = fields.iter().map(|field| (&field["fieldId"], &field["currentVersion"])).collect();
    assert_eq!(versions, [(&json!("c"), &json!(0)), (&json!("t"), &json!(2))]);
    assert_eq!((&fields[0]["updatedBy"], &fields[0]["updatedAt"]), (&Value::Null, &Value::Null));
    assert_eq!(refused.data["currentValue"], Value::Null);
}

#[test]
fn a_version_from_another_life_is_told_as_such() {
    let refused = at_three().ask(patch_one("r", json!({"t": "x"}), Some(9), Field)).unwrap_err();
    let want = json!({"doc": "table:t", "recordId": "r", "expectedVersion": 9, "currentVersion": 3, "epoch": 3});
    assert_eq!(Value::Object(refused.data), want);
}

#[test]
fn a_deleted_record_must_be_restored_first_whatever_is_expected() {
    let mut world = at_three();
    world.mark_deleted("r");
    for (expected, on_conflict) in [(None, Field), (Some(4), Field), (Some(1), Record), (None, Force), (Some(9), Force)]
    {
        let refused = world.ask(patch_one("r", json!({"t": "x"}), expected, on_conflict)).unwrap_err();
        assert_eq!((refused.code.word(), &refused.data["currentVersion"]), ("RECORD_DELETED", &json!(4)));
    }
}

#[test]
fn what_is_so_already_is_not_written() {
    let mut world = at_three();
    let same = json!({"t": "second", "Count": 2.0, "c": "", "c2": null});
    assert_eq!(no(world.ask(set("r", same))), ("INVALID_PAYLOAD", "cells.c2".into()));
    assert_eq!(world.ask(set("r", json!({"t": "second", "Count": 2.0, "c": ""}))).unwrap().puts, []);
    let plan = world.ask(set("r", json!({"t": "second", "n": null, "c": "new"}))).unwrap();
    assert_eq!(plan.puts, [cell_put("r", "c", json!("new")), cell_put("r", "n", Value::Null)]);
}

#[test]
fn one_record_is_pointed_at_without_a_number() {
    let cases = [
        (set("gone", json!({"nope": 1})), ("NOT_FOUND", "")),
        (set("r", json!({"nope": 1})), ("INVALID_PAYLOAD", "cells.nope")),
        (set("r", json!({"n": "x"})), ("INVALID_VALUE", "cells.n")),
        (set("r", json!({"t": "x", "Title": "y"})), ("INVALID_PAYLOAD", "cells.t")),
    ];
    for (command, (code, path)) in cases {
        assert_eq!(no(at_three().ask(command)), (code, path.to_owned()));
    }
}

#[test]
fn an_unknown_field_beside_another_keeps_its_conflict_to_itself() {
    let refused = at_three().ask(patch_one("r", json!({"t": "x", "nope": 1}), Some(1), Field));
    assert_eq!(no(refused), ("INVALID_PAYLOAD", "cells.nope".into()));
}

#[test]
fn required_fields_are_not_cleared() {
    let mut world = World::declared().field("q", "Must", FieldType::Text, json!({"required": true})).row(
        "r",
        "a0",
        json!({"q": "x"}),
    );
    let refused = world.ask(set("r", json!({"q": null}))).unwrap_err();
    assert_eq!((refused.code.word(), &refused.data["rule"]), ("INVALID_VALUE", &json!("required")));
}

#[test]
fn unique_values_may_change_hands_in_one_batch() {
    let mut world = World::declared()
        .field("u", "Code", FieldType::Text, json!({"unique": true}))
        .row("r1", "a0", json!({"u": "a"}))
        .row("r2", "a1", json!({"u": "b"}))
        .row("r3", "a2", json!({"u": "c"}));
    let swap = vec![patch_of("r1", json!({"u": "b"}), None), patch_of("r2", json!({"u": "a"}), None)];
    assert_eq!(world.ask(batch(swap)).unwrap().puts.len(), 2);
    assert!(world.ask(set("r1", json!({"u": "a"}))).is_ok(), "its own value");
    assert_eq!(no(world.ask(set("r1", json!({"u": "c"})))), ("INVALID_VALUE", "cells.u".into()));
    let same = vec![patch_of("r1", json!({"u": "n"}), None), patch_of("r2", json!({"u": "n"}), None)];
    let refused = world.ask(batch(same)).unwrap_err();
    assert_eq!((&refused.data["path"], &refused.data["rule"]), (&json!("records[1].cells.u"), &json!("not_unique")));
}

#[test]
fn a_batch_is_answered_in_its_order() {
    let plan =
        at_three().ask(batch(vec![patch_of("s", json!({"t": "x"}), None), patch_of("r", json!({"c": "x"}), Some(2))]));
    let since = Merged { over: (3, 3), changed_since: vec!["n".into()] };
    assert_eq!(plan.unwrap().report, Report::Records(vec![("s".into(), None), ("r".into(), Some(since))]));
}

#[test]
fn a_batch_is_refused_whole_and_says_what_came_of_each() {
    let mut world = at_three().row("d", "a2", json!({}));
    world.mark_deleted("d");
    let refused = world.ask(batch(vec![
        patch_of("s", json!({"t": "x"}), Some(1)),
        patch_of("gone", json!({"t": "x"}), None),
        patch_of("r", json!({"t": "x"}), Some(1)),
        patch_of("d", json!({"t": "x"}), None),
    ]));
    let refused = refused.unwrap_err();
    assert_eq!((refused.code.word(), &refused.data["doc"]), ("CONCURRENT_EDIT", &json!("table:t")));
    let results = refused.data["results"].as_array().unwrap();
    assert_eq!(results[0], json!({"recordId": "s", "status": "ok", "currentVersion": 1}));
    let told: Vec<_> = results.iter().map(|result| (&result["recordId"], &result["status"], &result["code"])).collect();
    let (r, d) = (json!("r"), json!("d"));
    assert_eq!(told[1], (&json!("gone"), &json!("missing"), &json!("NOT_FOUND")));
    assert_eq!(told[2], (&r, &json!("conflict"), &json!("CONCURRENT_EDIT")));
    assert_eq!(told[3], (&d, &json!("conflict"), &json!("RECORD_DELETED")));
    assert_eq!(results[2]["fields"][0]["currentValue"], "second");
    assert_eq!(results[2]["retry"], json!({"expectedVersion": 3}));
}

#[test]
fn a_batch_takes_its_code_from_the_first_record_that_changed() {
    let gone = || patch_of("gone", json!({}), None);
    let ahead = || patch_of("r", json!({}), Some(9));
    for (records, code) in [(vec![gone(), ahead()], "VERSION_AHEAD"), (vec![gone()], "NOT_FOUND")] {
        assert_eq!(at_three().ask(batch(records)).unwrap_err().code.word(), code);
    }
}

#[test]
fn a_batch_names_a_record_once() {
    let twice = vec![patch_of("r", json!({"t": "x"}), None), patch_of("r", json!({"n": 5}), None)];
    assert_eq!(no(at_three().ask(batch(twice))), ("INVALID_PAYLOAD", "records[1].id".into()));
}

#[test]
fn a_bad_value_in_a_batch_is_pointed_at_before_versions_are_looked_at() {
    let records = vec![patch_of("r", json!({"t": "x"}), Some(1)), patch_of("s", json!({"n": "x"}), None)];
    assert_eq!(no(at_three().ask(batch(records))), ("INVALID_VALUE", "records[1].cells.n".into()));
}

#[test]
fn the_answer_to_a_large_conflict_stays_small() {
    let text = "x".repeat(30_000);
    let world = (0..100)
        .fold(World::simple(), |world, at| world.row(&format!("r{at:02}"), &format!("a{at:02}1"), json!({"t": text})));
    let mut world = world;
    let records = (0..100).map(|at| patch_of(&format!("r{at:02}"), json!({"t": "y"}), Some(0))).collect();
    let refused = world.ask(batch(records)).unwrap_err();
    let results = refused.data["results"].as_array().unwrap();
    assert_eq!(results.len(), 100);
    assert!(results[0]["record"].is_object() && results[0]["fields"][0]["currentValue"].is_string());
    assert_eq!((&results[99]["currentVersion"], &results[99]["code"]), (&json!(1), &json!("CONCURRENT_EDIT")));
    assert!(results[99].get("record").is_none());
    let bytes = serde_json::to_string(&refused.data).unwrap().len();
    assert!(bytes < 1_200_000, "{bytes}");
}

#[test]
fn a_record_that_grew_too_large_elsewhere_may_shrink() {
    let text = "x".repeat(70_000);
    let mut world = World::simple().field("c", "Note", FieldType::Longtext, json!({})).row(
        "r",
        "a0",
        json!({"t": text, "c": text}),
    );
    assert_eq!(no(world.ask(set("r", json!({"n": 1})))), ("PAYLOAD_TOO_LARGE", "cells".into()));
    assert_eq!(world.ask(set("r", json!({"c": "short"}))).unwrap().puts.len(), 1);
    assert_eq!(world.ask(set("r", json!({"c": "x".repeat(32_000)}))).unwrap().puts.len(), 1);
}

#[test]
fn a_table_that_declares_nothing_takes_cells_of_any_kind() {
    let mut world = World::empty().row("self", "a0", json!({"name": "Mill", "tags/a": true}));
    let plan = world.ask(set("self", json!({"name": "Mill", "size": {"w": 2.0}, "tags": ["a", "b"]}))).unwrap();
    let want = [cell_put("self", "size", json!({"w": 2})), cell_put("self", "tags/b", json!(true))];
    assert_eq!(plan.puts, want);
    assert_eq!(no(world.ask(set("self", json!({"__proto__": 1})))), ("INVALID_PAYLOAD", "cells.__proto__".into()));
    assert_eq!(no(world.ask(set("self", json!({"$d": 1})))), ("INVALID_PAYLOAD", "cells.$d".into()));
}
