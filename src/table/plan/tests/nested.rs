//! Nested components of records.

use super::*;
use crate::table::command::NestedOp;

fn nested(row: &str, op: NestedOp) -> Command {
    at(row, op, None, OnConflict::Field)
}

fn at(row: &str, op: NestedOp, expected_version: Option<u64>, on_conflict: OnConflict) -> Command {
    Command::Nested { row: row.into(), op, expected_version, on_conflict }
}

fn object(value: Value) -> Map<String, Value> {
    let Value::Object(object) = value else { panic!("an object") };
    object
}

fn new(id: &str, content: Value) -> NestedOp {
    NestedOp::Create { id: Some(id.to_owned()).filter(|id| !id.is_empty()), content: object(content) }
}

fn update(id: &str, updates: Value) -> NestedOp {
    NestedOp::Update { id: id.into(), updates: object(updates) }
}

fn delete(id: &str) -> NestedOp {
    NestedOp::Delete { id: id.into() }
}

/// A record `r` with a component `k`.
fn world() -> World {
    let mut world = World::simple().row("r", "a0", json!({"t": "x"}));
    world.run(nested("r", new("k", json!({"label": "a", "props": {"w": 1}}))));
    world
}

#[test]
fn a_component_gets_an_id_and_its_record_where_there_is_none() {
    let mut world = World { doc: "component:c", ..World::empty() };
    let ids = world.run(nested("row", new("", json!({"type": "x"}))));
    assert_eq!((ids[0].len(), world.line()), (12, vec!["row".to_owned()]));
    assert_eq!(world.components["row"][ids[0].as_str()]["type"], "x");
    let more = world.run(nested("row", new("", json!({}))));
    assert_eq!((world.components["row"].len(), world.table.rows["row"].version), (2, 2));
    assert_ne!(ids, more);
    let into_nothing = World::empty().ask(nested("row", new("k", json!({}))));
    assert_eq!(no(into_nothing).0, "NOT_FOUND", "a table is created knowingly");
}

#[test]
fn only_what_differs_is_written() {
    let world = &mut world();
    let puts = |world: &mut World, updates| world.ask(nested("r", update("k", updates))).unwrap().puts;
    assert_eq!(puts(world, json!({"label": "a", "props": {"w": 1.0}, "id": "else", "gone": null})), []);
    let put = |key: &str, value: Option<Value>| Put::Component {
        row: "r".into(),
        component: "k".into(),
        key: key.into(),
        value,
    };
    let came = puts(world, json!({"label": null, "parentId": "p", "props": {"w": null, "h": [1]}}));
    let want =
        [put("label", None), put("parent", Some(json!("p"))), put("props/h", Some(json!([1]))), put("props/w", None)];
    assert_eq!(came, want);
    assert_eq!(puts(world, json!({"props": null})), [put("props", None)]);
}

#[test]
fn what_a_component_may_not_be_is_refused() {
    let deep = "x".repeat(40_000);
    let mut world = world();
    world.run(nested("r", new("inner", json!({"parentId": "k"}))));
    for (op, want) in [
        (new("k", json!({})), ("ALREADY_EXISTS", "")),
        (new("a/b", json!({})), ("INVALID_PAYLOAD", "nestedComponent.id")),
        (new("n", json!({"$d": 1})), ("INVALID_PAYLOAD", "nestedComponent.$d")),
        (new("n", json!({"__proto__": 1})), ("INVALID_PAYLOAD", "nestedComponent.__proto__")),
        (new("n", json!({"props": 1})), ("INVALID_PAYLOAD", "nestedComponent.props")),
        (new("n", json!({"props": {"a/b": 1}})), ("INVALID_PAYLOAD", "nestedComponent.props.a/b")),
        (new("n", json!({"text": deep})), ("PAYLOAD_TOO_LARGE", "nestedComponent.text")),
        (new("n", json!({"parentId": 7})), ("INVALID_PAYLOAD", "nestedComponent.parentId")),
        (new("n", json!({"parentId": "n"})), ("INVALID_PAYLOAD", "nestedComponent.parentId")),
        (update("k", json!({"parentId": "inner"})), ("INVALID_PAYLOAD", "updates.parentId")),
        (update("k", json!({"$o": "a"})), ("INVALID_PAYLOAD", "updates.$o")),
        (update("none", json!({})), ("NOT_FOUND", "")),
        (delete("none"), ("NOT_FOUND", "")),
    ] {
        let shown = format!("{op:?}").chars().take(100).collect::<String>();
        let (code, path) = no(world.ask(nested("r", op)));
        assert_eq!((code, &*path), want, "{shown}");
    }
    let missing = world.ask(nested("r", update("none", json!({})))).unwrap_err();
    assert_eq!((&missing.data["nestedComponentId"], &missing.data["recordId"]), (&json!("none"), &json!("r")));
    assert_eq!(no(world.ask(nested("none", update("k", json!({}))))).0, "NOT_FOUND");
    world.mark_deleted("r");
    assert_eq!(no(world.ask(nested("r", update("k", json!({}))))).0, "RECORD_DELETED");
    assert_eq!(no(world.ask(nested("r", new("n", json!({}))))).0, "RECORD_DELETED");
}

#[test]
fn a_deleted_component_is_none_and_its_id_is_free() {
    let mut world = world();
    world.run(nested("r", delete("k")));
    assert_eq!(world.ask(nested("r", delete("k"))).unwrap().puts, [], "a repeated request succeeds");
    assert_eq!(no(world.ask(nested("r", update("k", json!({}))))).0, "NOT_FOUND");
    world.run(nested("r", new("k", json!({"label": "again"}))));
    assert_eq!(world.components["r"]["k"]["label"], "again");
    assert!(!world.components["r"]["k"].contains_key("$d"));
}

#[test]
fn a_component_is_one_field_of_its_record() {
    let mut world = world();
    world.run(nested("r", new("other", json!({}))));
    world.run(set("r", json!({"t": "y"})));
    let at_two = |id: &str, on_conflict| at("r", update(id, json!({"label": "b"})), Some(2), on_conflict);
    let Report::Nested { id, row: (row, Some(merged)) } = world.ask(at_two("k", OnConflict::Field)).unwrap().report
    else {
        panic!("merged over what it did not touch")
    };
    assert_eq!((&*id, &*row, merged.over, merged.changed_since), ("k", "r", (3, 4), vec!["t".to_owned()]));
    world.run(nested("r", update("k", json!({"label": "c"}))));
    let refused = world.ask(at_two("k", OnConflict::Field)).unwrap_err();
    assert_eq!((refused.code.word(), &refused.data["nestedComponentId"]), ("CONCURRENT_EDIT", &json!("k")));
    assert_eq!(refused.data["currentValue"]["label"], "c");
    assert_eq!(refused.data["currentVersion"], 5);
    assert_eq!(no(world.ask(at_two("other", OnConflict::Record))).0, "CONCURRENT_EDIT");
    assert!(world.ask(at_two("k", OnConflict::Force)).is_ok());
    assert_eq!(no(world.ask(at("none", new("k", json!({})), Some(1), OnConflict::Field))).0, "NOT_FOUND");
    // Cells do not see components as changed fields.
    let plan = world.ask(patch_one("r", json!({"n": 1}), Some(4), OnConflict::Field)).unwrap();
    let Report::Records(done) = plan.report else { panic!("a record") };
    assert_eq!(done[0].1.as_ref().unwrap().changed_since, Vec::<String>::new());
}

#[test]
fn a_record_has_room_for_so_many_components_and_so_much_in_them() {
    let mut world = World::simple().row("r", "a0", json!({}));
    let all = (0..crate::table::limits::COMPONENTS_MAX).map(|n| (format!("k{n}").into(), object(json!({"$o": "a0"}))));
    world.components.insert("r".into(), all.collect());
    let refused = world.ask(nested("r", new("one-more", json!({})))).unwrap_err();
    assert_eq!((refused.code.word(), &refused.data["limit"]), ("PAYLOAD_TOO_LARGE", &json!(500)));
    world.components.get_mut("r").unwrap().insert("k0".into(), object(json!({"$d": {"t": 1}})));
    assert!(world.ask(nested("r", new("one-more", json!({})))).is_ok(), "a deleted one takes no place");

    let long = "x".repeat(30_000);
    let mut world = World::simple().row("r", "a0", json!({}));
    let mut fill = |n: usize| {
        world.ask(nested("r", new(&format!("k{n}"), json!({"text": long})))).map(|plan| world.carry_out(&plan))
    };
    let full = (0..100).find_map(|n| fill(n).err()).unwrap();
    assert_eq!((full.code.word(), &full.data["limit"]), ("PAYLOAD_TOO_LARGE", &json!(1024 * 1024)));
    let shorter = world.ask(nested("r", update("k0", json!({"text": "x"}))));
    assert!(shorter.is_ok(), "what makes room is taken");
}
