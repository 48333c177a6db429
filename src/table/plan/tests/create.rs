//! Records that come.

use super::*;
use crate::table::limits;

#[test]
fn records_come_at_the_end_in_the_order_in_which_they_are_given() {
    let mut world = World::simple().row("r0", "a0", json!({}));
    let ids = world.run(create(vec![
        new_record("", json!({"t": "one"})),
        new_record("mine", json!({"Title": "two", "Count": 2.0})),
        new_record("", json!({})),
    ]));
    assert_eq!(ids[1], "mine");
    assert!(ids[0].len() == 12 && ids[2].len() == 12 && ids[0] != ids[2], "{ids:?}");
    assert_eq!(world.line(), ["r0", &ids[0], "mine", &ids[2]]);
    let raw = &world.raws["mine"];
    assert_eq!((&raw["t"], &raw["n"]), (&json!("two"), &json!(2)));
    assert_eq!(raw["$n"], json!({"t": 1_700_000_000_000_u64, "by": "bob"}));
}

#[test]
fn somebody_without_a_name_leaves_none() {
    let plan = World::simple().ask_as(None, create(vec![new_record("r", json!({}))])).unwrap();
    let [Put::NewRow { entries, .. }] = &plan.puts[..] else { panic!("{plan:?}") };
    assert_eq!(entries[1], ("$n".to_owned(), json!({"t": 1_700_000_000_000_u64})));
}

#[test]
fn records_of_a_table_with_components_get_a_map_for_them() {
    let with_components = |settings: Value| {
        let mut world = World::simple();
        world.table.meta.insert("settings".into(), settings);
        let plan = world.ask(create(vec![new_record("r", json!({}))])).unwrap();
        matches!(plan.puts[..], [Put::NewRow { components: true, .. }])
    };
    assert!(with_components(json!({"components": true})));
    assert!(!with_components(json!({"components": "yes"})));
    assert!(!with_components(json!(null)));
}

#[test]
fn cells_become_the_keys_that_their_types_keep() {
    let choices =
        json!({"choices": [{"id": "x", "name": "Ex", "order": "a0"}, {"id": "y", "name": "Why", "order": "a1"}]});
    let mut world = World::simple().field("m", "Tags", FieldType::Multiselect, choices);
    let plan = world.ask(create(vec![new_record("r", json!({"Tags": ["Why", "x"], "t": null}))])).unwrap();
    let [Put::NewRow { entries, .. }] = &plan.puts[..] else { panic!("{plan:?}") };
    let keys: Vec<_> = entries.iter().map(|(key, _)| key.as_str()).collect();
    assert_eq!(keys, ["$o", "$n", "m/x", "m/y"]);
}

#[test]
fn what_is_wrong_with_a_record_is_said_with_its_place() {
    let base = || {
        World::simple()
            .field("q", "Must", FieldType::Text, json!({"required": true}))
            .field("f", "Sum", FieldType::Formula, json!({}))
            .field("d1", "Twin", FieldType::Text, json!({}))
            .field("d2", "Twin", FieldType::Text, json!({}))
            .row("old", "a0", json!({"q": "here"}))
    };
    let fine = || new_record("", json!({"q": "x"}));
    let deep = (0..40).fold(json!(1), |inner, _| json!([inner]));
    let cases: Vec<(NewRecord, &str, &str)> = vec![
        (new_record("a/b", json!({"q": "x"})), "INVALID_PAYLOAD", "records[1].id"),
        (new_record("$o", json!({"q": "x"})), "INVALID_PAYLOAD", "records[1].id"),
        (new_record("__proto__", json!({"q": "x"})), "INVALID_PAYLOAD", "records[1].id"),
        (new_record("old", json!({"q": "x"})), "ALREADY_EXISTS", "records[1].id"),
        (new_record("", json!({"q": "x", "nope": 1})), "INVALID_PAYLOAD", "records[1].cells.nope"),
        (new_record("", json!({"q": "x", "$d": 1})), "INVALID_PAYLOAD", "records[1].cells.$d"),
        (new_record("", json!({"q": "x", "Twin": "?"})), "INVALID_PAYLOAD", "records[1].cells.Twin"),
        (new_record("", json!({"q": "x", "t": "a", "Title": "a"})), "INVALID_PAYLOAD", "records[1].cells.t"),
        (new_record("", json!({"q": "x", "n": "many"})), "INVALID_VALUE", "records[1].cells.n"),
        (new_record("", json!({"q": "x", "n": deep})), "INVALID_VALUE", "records[1].cells.n"),
        (new_record("", json!({"q": "x", "Sum": 1})), "INVALID_VALUE", "records[1].cells.Sum"),
        (new_record("", json!({"t": "x"})), "INVALID_VALUE", "records[1].cells.q"),
        (new_record("", json!({"q": ""})), "INVALID_VALUE", "records[1].cells.q"),
        (new_record("", json!({"q": "x".repeat(33 * 1024)})), "PAYLOAD_TOO_LARGE", "records[1].cells.q"),
        (NewRecord { after: Some(Some("gone".into())), ..fine() }, "INVALID_PAYLOAD", "records[1].after"),
    ];
    for (record, code, path) in cases {
        let told = format!("{record:?}");
        assert_eq!(no(base().ask(create(vec![fine(), record, fine()]))), (code, path.to_owned()), "{told:.200}");
    }
}

#[test]
fn a_refused_cell_names_its_rule_and_its_limit() {
    let refused = |value: Value| World::simple().ask(create(vec![new_record("", json!({"n": value}))])).unwrap_err();
    assert_eq!(refused(json!("x")).data["rule"], "wrong_type");
    let long = World::simple().ask(create(vec![new_record("", json!({"t": "x".repeat(33_000)}))])).unwrap_err();
    assert_eq!((&long.data["limit"], &long.data["rule"]), (&json!(32_768), &json!("too_long")));
}

#[test]
fn two_new_records_with_one_id_are_refused() {
    let twins = create(vec![new_record("r", json!({})), new_record("r", json!({}))]);
    assert_eq!(no(World::simple().ask(twins)), ("INVALID_PAYLOAD", "records[1].id".into()));
}

#[test]
fn a_deleted_field_takes_no_cells() {
    let mut world = World::simple();
    world.run(Command::DeleteField { id: "t".into() });
    let command = create(vec![new_record("r", json!({"t": "x"}))]);
    assert_eq!(no(world.ask(command)), ("INVALID_PAYLOAD", "records[0].cells.t".into()));
}

#[test]
fn unique_values_differ_from_those_of_all_records_that_are_not_deleted() {
    let mut world = World::declared()
        .field("u", "Code", FieldType::Number, json!({"unique": true}))
        .row("r1", "a0", json!({"u": 1.0}))
        .row("r2", "a1", json!({"u": 2}));
    let with = |values: &[Value]| create(values.iter().map(|value| new_record("", json!({"u": value}))).collect());
    assert_eq!(no(world.ask(with(&[json!(3), json!(1)]))), ("INVALID_VALUE", "records[1].cells.u".into()));
    assert_eq!(no(world.ask(with(&[json!(4), json!(4.0)]))), ("INVALID_VALUE", "records[1].cells.u".into()));
    assert!(world.ask(with(&[json!(null), json!(null), json!(5)])).is_ok(), "empty cells are alike, and may be");
    world.mark_deleted("r1");
    assert!(world.ask(with(&[json!(1)])).is_ok(), "a deleted record holds nothing");
}

#[test]
fn a_table_without_a_unique_field_is_not_read() {
    let world = World::simple().row("r1", "a0", json!({"t": "x"}));
    let raw = |_: &str| -> Raw { panic!("read") };
    let sight = Sight {
        doc: "table:t",
        epoch: Epoch(0),
        table: &world.table,
        raw: &raw,
        components: &NO_COMPONENTS,
        now_ms: 0,
    };
    let command = create(vec![new_record("r", json!({"t": "x"}))]);
    let write = Write { command, user: None, once: None, correlation_id: None, peer: None, guard: None };
    assert_eq!(plan(&sight, &write, &mut || 7).unwrap().puts.len(), 1);
}

#[test]
fn a_document_that_nobody_made_a_table_takes_records_only_if_its_kind_needs_no_fields() {
    let empty = World::empty();
    let ask = |doc: &str| {
        let raw = |_: &str| Raw::new();
        let sight =
            Sight { doc, epoch: Epoch(0), table: &empty.table, raw: &raw, components: &NO_COMPONENTS, now_ms: 0 };
        let command = create(vec![new_record("self", json!({"any key": 1}))]);
        let free = create(vec![new_record("self", json!({"colour": {"r": 1.0}}))]);
        let ask = |command| {
            plan(
                &sight,
                &Write { command, user: None, once: None, correlation_id: None, peer: None, guard: None },
                &mut || 7,
            )
        };
        (ask(command).map(drop), ask(free))
    };
    assert_eq!(ask("table:t").1.unwrap_err().code.word(), "NOT_FOUND");
    let (spaced, free) = ask("component:c");
    assert_eq!(spaced.unwrap_err().data["path"], "records[0].cells.any key");
    let [Put::NewRow { entries, .. }] = &free.unwrap().puts[..] else { panic!("one record") };
    assert_eq!(entries[2], ("colour".to_owned(), json!({"r": 1})));
}

#[test]
fn a_table_ends_at_its_limits() {
    let mut world = World::simple();
    world.table.live = limits::ROWS_MAX - 1;
    let some = |count: usize| create(vec![new_record("", json!({"t": "x"})); count]);
    assert!(world.ask(some(1)).is_ok());
    let refused = world.ask(some(2)).unwrap_err();
    assert_eq!((refused.code.word(), &refused.data["limit"]), ("PAYLOAD_TOO_LARGE", &json!(100_000)));

    let mut world = World::simple();
    world.table.cells = limits::CELLS_MAX - 2;
    assert!(world.ask(some(2)).is_ok());
    let refused = world.ask(some(3)).unwrap_err();
    assert_eq!((refused.code.word(), &refused.data["limit"]), ("PAYLOAD_TOO_LARGE", &json!(1_000_000)));
}

#[test]
fn a_record_ends_at_128_kilobytes() {
    let world = (0..5).fold(World::declared(), |world, at| {
        world.field(&format!("t{at}"), &format!("T{at}"), FieldType::Longtext, json!({}))
    });
    let mut world = world;
    let of = |fields: usize| {
        let text = "x".repeat(32 * 1024);
        let object: Map<_, _> = (0..fields).map(|at| (format!("t{at}"), text.as_str().into())).collect();
        create(vec![new_record("", object.into())])
    };
    assert!(world.ask(of(3)).is_ok());
    let refused = world.ask(of(4)).unwrap_err();
    assert_eq!((refused.code.word(), &refused.data["limit"]), ("PAYLOAD_TOO_LARGE", &json!(131_072)));
    assert_eq!(refused.data["path"], "records[0].cells");
}

#[test]
fn no_records_are_no_change() {
    let plan = World::simple().ask(create(vec![])).unwrap();
    assert_eq!(plan, Plan { puts: vec![], report: Report::Records(vec![]) });
}
