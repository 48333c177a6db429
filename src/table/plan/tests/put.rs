//! Records that are put, heights, flags, and what guards a write.

use super::*;

fn channel() -> World {
    World { doc: "channel:h", ..World::empty() }
}

fn put(id: &str, object: Value, expected: Option<u64>, on_conflict: OnConflict) -> Command {
    Command::PutRecord { patch: patch_of(id, object, expected), on_conflict }
}

#[test]
fn a_record_that_is_put_comes_once_and_changes_then() {
    let mut world = channel();
    assert_eq!(world.run(put("m", json!({"text": "a", "gone": null}), None, OnConflict::Field)), ["m"]);
    assert_eq!(world.run(put("m", json!({"text": "b"}), None, OnConflict::Field)), ["m"]);
    assert_eq!((&world.raws["m"]["text"], world.table.rows["m"].version), (&json!("b"), 2));
    assert!(!world.raws["m"].contains_key("gone"));
    assert_eq!(world.line(), ["m"]);
}

#[test]
fn a_put_says_what_it_expects() {
    use OnConflict::Field;
    use OnConflict::Force;
    use OnConflict::Record;
    let mut world = channel().row("there", "a0", json!({"a": 1})).row("deleted", "a1", json!({"a": 1}));
    world.mark_deleted("deleted");
    for (id, expected, on_conflict, want) in [
        ("new", None, Field, "ok"),
        ("new", Some(0), Field, "ok"),
        ("new", Some(0), Record, "ok"),
        ("new", Some(1), Field, "NOT_FOUND"),
        ("new", Some(1), Force, "ok"),
        ("there", Some(0), Field, "CONCURRENT_EDIT"),
        ("there", Some(0), Record, "CONCURRENT_EDIT"),
        ("there", Some(0), Force, "ok"),
        ("there", Some(1), Record, "ok"),
        ("there", Some(2), Field, "VERSION_AHEAD"),
        ("deleted", None, Field, "RECORD_DELETED"),
        ("deleted", Some(0), Force, "RECORD_DELETED"),
        ("no/id", None, Field, "INVALID_PAYLOAD"),
        ("$d", None, Field, "INVALID_PAYLOAD"),
    ] {
        let came = world.ask(put(id, json!({"b": 2}), expected, on_conflict));
        assert_eq!(came.map_or_else(|no| no.code.word(), |_| "ok"), want, "{id} {expected:?} {on_conflict:?}");
    }
    assert_eq!(no(world.ask(put("no/id", json!({}), None, Field))).1, "id");
    assert_eq!(no(world.ask(put("new", json!({"no key": 1}), None, Field))).1, "cells.no key");
}

#[test]
fn records_of_a_table_are_not_put() {
    let refused = World::simple().ask(put("r", json!({"t": "x"}), None, OnConflict::Field)).unwrap_err();
    assert_eq!(refused.code.word(), "CHANNEL_ERROR");
}

#[test]
fn a_height_is_set_where_it_differs_and_fits() {
    let patch = |height| RecordPatch { id: "r".into(), height: Some(height), ..RecordPatch::default() };
    let one = |height| Command::PatchRecords {
        records: vec![patch(height)],
        on_conflict: OnConflict::Field,
        is_batch: false,
    };
    let mut world = World::simple().row("r", "a0", json!({}));
    assert_eq!(world.ask(one(40.0)).unwrap().puts, [cell_put("r", "$h", json!(40.0))]);
    world.run(one(40.0));
    assert_eq!(world.ask(one(40.0)).unwrap().puts, []);
    for height in [0.0, 0.5, 2000.5, -1.0, f64::NAN, f64::INFINITY] {
        assert_eq!(no(world.ask(one(height))), ("INVALID_PAYLOAD", "height".into()), "{height}");
    }
    assert_eq!(no(world.ask(batch(vec![patch(0.0)]))).1, "records[0].height");
    let mut free = channel();
    let new = |height| Command::PutRecord { patch: patch(height), on_conflict: OnConflict::Field };
    assert_eq!(no(free.ask(new(9000.0))), ("INVALID_PAYLOAD", "height".into()));
    free.run(new(12.0));
    assert_eq!(free.raws["r"]["$h"], json!(12.0));
}

#[test]
fn a_flag_is_set_beside_others_and_taken_away_alone() {
    let mut world = channel().row("m", "a0", json!({"read/ann": true}));
    assert_eq!(world.ask(set("m", json!({"read/b/c": true}))).unwrap().puts, [cell_put("m", "read/b/c", json!(true))]);
    world.run(set("m", json!({"read/bob": true, "read/carol": true})));
    assert_eq!(world.ask(set("m", json!({"read/bob": true}))).unwrap().puts, []);
    assert_eq!(world.ask(set("m", json!({"read/bob": null}))).unwrap().puts, [cell_put("m", "read/bob", Value::Null)]);
    assert_eq!(no(world.ask(set("m", json!({"read/bob": 1})))).0, "INVALID_VALUE");
    let long = format!("read/{}", "u".repeat(256));
    for key in ["read/", "/bob", "$d/x", "read/a\nb", &long] {
        assert_eq!(no(world.ask(set("m", json!({key: true})))).0, "INVALID_PAYLOAD", "{key}");
    }
    let known = World::simple().row("r", "a0", json!({})).ask(set("r", json!({"t/x": true})));
    assert_eq!(no(known).0, "INVALID_PAYLOAD", "a declared field says itself how it is kept");
}

#[test]
fn a_guard_holds_for_every_record_that_is_named() {
    let mut world = World::simple().row("a", "a0", json!({"t": "ann"})).row("b", "a1", json!({"t": "bob"}));
    world.guard = Some(Guard { field: "Title".into(), is: "ann".into(), message: "not yours".into() });
    let patch = |id: &str| patch_of(id, json!({"n": 1}), None);
    let delete = |id: &str| Command::DeleteRecord { id: id.into(), expected_version: Some(9) };
    for (command, want) in [
        (batch(vec![patch("a")]), "ok"),
        (batch(vec![patch("a"), patch("b")]), "FORBIDDEN"),
        (batch(vec![patch("a"), patch("none")]), "NOT_FOUND"),
        // Before versions: who may not write learns nothing about them.
        (delete("b"), "FORBIDDEN"),
        (delete("a"), "VERSION_AHEAD"),
        (Command::RestoreRecord { id: "b".into() }, "FORBIDDEN"),
        (create(vec![new_record("c", json!({}))]), "ok"),
    ] {
        let shown = format!("{command:?}");
        assert_eq!(world.ask(command).map_or_else(|no| no.code.word(), |_| "ok"), want, "{shown}");
    }
    world.guard = Some(Guard { field: "no such field".into(), is: Value::Null, message: String::new() });
    assert_eq!(no(world.ask(set("a", json!({})))).0, "FORBIDDEN", "what cannot be looked at is not as it should be");
}
