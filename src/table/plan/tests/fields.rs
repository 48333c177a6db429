//! Tables and fields that come, change and go.

use super::*;
use crate::table::command::FieldPatch;
use crate::table::read::table_view;

fn create_table(fields: Vec<NewField>) -> Command {
    Command::CreateTable { title: Some("Plans".into()), fields, settings: None }
}

fn change(id: &str, patch: FieldPatch) -> Command {
    Command::ChangeField { id: id.into(), patch }
}

fn field_put(field: &str, key: &'static str, value: Value) -> Put {
    Put::Field { field: field.into(), key, value: Some(value).filter(|value| !value.is_null()) }
}

fn names(world: &World) -> Vec<String> {
    table_view(&world.table, 0).fields.into_iter().map(|field| field.name).collect()
}

#[test]
fn a_table_comes_with_its_fields_in_order() {
    let mut world = World::empty();
    let fields = [("Zoo", FieldType::Text), (" Ape ", FieldType::Number), ("Bee", FieldType::Date)];
    let plan = world.ask(create_table(fields.map(|(name, kind)| new_field(None, name, kind)).to_vec())).unwrap();
    let meta = |key, value| Put::Meta { key, value: Some(value) };
    let want = [meta("schema", json!("grid")), meta("schemaVersion", json!(1)), meta("title", json!("Plans"))];
    assert_eq!((&plan.puts[..3], &plan.report), (&want[..], &Report::Table));
    world.carry_out(&plan);
    assert_eq!(names(&world), ["Zoo", "Ape", "Bee"]);
    assert!(world.table.fields.keys().all(|id| id.len() == 6), "{:?}", world.table.fields.keys());
    assert_eq!(no(world.ask(create_table(vec![]))).0, "ALREADY_EXISTS");
}

#[test]
fn a_document_with_content_is_not_made_a_table_anew() {
    let undeclared = |mut world: World| {
        world.table.meta.clear();
        no(world.ask(create_table(vec![]))).0
    };
    assert_eq!(undeclared(World::simple()), "ALREADY_EXISTS");
    assert_eq!(undeclared(World::empty().row("r", "a0", json!({}))), "ALREADY_EXISTS");
    assert_eq!(no(World::declared().ask(create_table(vec![]))).0, "ALREADY_EXISTS");
}

#[test]
fn what_is_wrong_with_a_field_of_a_new_table_is_said_with_its_place() {
    let text = |id: Option<&str>, name: &str| new_field(id, name, FieldType::Text);
    let cases: Vec<(NewField, &str)> = vec![
        (text(None, "First"), "fields[1].name"),
        (text(None, " First "), "fields[1].name"),
        (text(None, "  "), "fields[1].name"),
        (text(Some("one"), "Second"), "fields[1].id"),
        (text(Some("a/b"), "Second"), "fields[1].id"),
        (text(Some("__proto__"), "Second"), "fields[1].id"),
        (NewField { after: Some("one".into()), ..text(None, "Second") }, "fields[1].after"),
        (NewField { primary: true, ..text(None, "Second") }, "fields[1].primary"),
        (NewField { width: Some(-1.0), ..text(None, "Second") }, "fields[1].width"),
    ];
    for (second, path) in cases {
        let first = NewField { primary: true, ..text(Some("one"), "First") };
        let told = format!("{second:?}");
        let refused = World::empty().ask(create_table(vec![first, second]));
        assert_eq!(no(refused), ("INVALID_PAYLOAD", path.to_owned()), "{told}");
    }
    let long = Command::CreateTable { title: Some("x".repeat(256)), fields: vec![], settings: None };
    assert_eq!(no(World::empty().ask(long)), ("INVALID_PAYLOAD", "title".into()));
}

#[test]
fn the_501st_field_is_refused() {
    let many = |count: usize| (0..count).map(|at| new_field(None, &format!("F{at}"), FieldType::Text)).collect();
    let refused = World::empty().ask(create_table(many(501))).unwrap_err();
    assert_eq!((refused.code.word(), &refused.data["limit"]), ("PAYLOAD_TOO_LARGE", &json!(500)));
    let mut world = World::empty();
    world.run(create_table(many(500)));
    let one_more = || Command::AddField(new_field(Some("last"), "Last", FieldType::Text));
    let refused = world.ask(one_more()).unwrap_err();
    assert_eq!((refused.code.word(), &refused.data["limit"]), ("PAYLOAD_TOO_LARGE", &json!(500)));
    let first = world.table.fields.keys().next().unwrap().to_string();
    world.run(Command::DeleteField { id: first.clone() });
    world.run(one_more());
    let back = change(&first, FieldPatch { deleted: Some(false), ..FieldPatch::default() });
    assert_eq!(no(world.ask(back)).0, "PAYLOAD_TOO_LARGE");
}

#[test]
fn a_field_makes_a_table_of_what_is_none() {
    let mut world = World::empty();
    let plan = world.ask(Command::AddField(new_field(Some("t"), "Title", FieldType::Text))).unwrap();
    assert!(matches!(plan.puts[0], Put::Meta { key: "schema", .. }), "{plan:?}");
    world.carry_out(&plan);
    let plan = world.ask(Command::AddField(new_field(Some("n"), "Count", FieldType::Number))).unwrap();
    assert!(matches!(plan.puts[..], [Put::NewField { .. }]), "{plan:?}");
    assert_eq!(plan.report, Report::Field("n".into()));
}

#[test]
fn a_field_goes_where_it_is_wanted() {
    for (after, want) in [
        (None, ["Title", "Count", "New"]),
        (Some("t"), ["Title", "New", "Count"]),
        (Some("n"), ["Title", "Count", "New"]),
    ] {
        let mut world = World::simple();
        let new = NewField { after: after.map(str::to_owned), ..new_field(None, "New", FieldType::Text) };
        world.run(Command::AddField(new));
        assert_eq!(names(&world), want, "{after:?}");
    }
}

#[test]
fn a_field_that_cannot_come_is_refused() {
    let cases: Vec<(NewField, &str, &str)> = vec![
        (new_field(Some("t"), "New", FieldType::Text), "ALREADY_EXISTS", "id"),
        (new_field(None, "Title", FieldType::Text), "INVALID_PAYLOAD", "name"),
        (new_field(None, "Title ", FieldType::Text), "INVALID_PAYLOAD", "name"),
        (new_field(Some("$x"), "New", FieldType::Text), "INVALID_PAYLOAD", "id"),
        (
            NewField { after: Some("gone".into()), ..new_field(None, "New", FieldType::Text) },
            "INVALID_PAYLOAD",
            "after",
        ),
    ];
    for (new, code, path) in cases {
        let told = format!("{new:?}");
        assert_eq!(no(World::simple().ask(Command::AddField(new))), (code, path.to_owned()), "{told}");
    }
    assert!(World::simple().ask(Command::AddField(new_field(None, "title", FieldType::Text))).is_ok());
}

#[test]
fn properties_of_a_field_change_one_by_one() {
    let patch = FieldPatch {
        name: Some(" Heading ".into()),
        kind: Some(FieldType::Longtext),
        width: Some(120.0),
        ..FieldPatch::default()
    };
    let mut world = World::simple();
    let plan = world.ask(change("t", patch.clone())).unwrap();
    let want = [
        field_put("t", "name", json!("Heading")),
        field_put("t", "type", json!("longtext")),
        field_put("t", "width", json!(120)),
    ];
    assert_eq!((&plan.puts[..], &plan.report), (&want[..], &Report::Field("t".into())));
    world.carry_out(&plan);
    assert_eq!(world.ask(change("t", patch)).unwrap().puts, [], "it is so already");
    assert_eq!(world.ask(change("t", FieldPatch::default())).unwrap().puts, []);
}

#[test]
fn options_change_one_by_one() {
    let mut world = World::declared().field("n", "Count", FieldType::Number, json!({"min": 1, "max": 5}));
    let Value::Object(options) = json!({"min": null, "max": 5, "required": true}) else { unreachable!() };
    let plan = world.ask(change("n", FieldPatch { options, ..FieldPatch::default() })).unwrap();
    let option = |key: &str, value| Put::FieldOption { field: "n".into(), key: key.into(), value };
    assert_eq!(plan.puts, [option("min", None), option("required", Some(json!(true)))]);
}

#[test]
fn fields_move() {
    for (id, after, want) in [
        ("n", Some(None), ["Count", "Title", "Note"]),
        ("t", Some(Some("c")), ["Count", "Note", "Title"]),
        ("c", Some(Some("t")), ["Title", "Note", "Count"]),
    ] {
        let mut world = World::simple().field("c", "Note", FieldType::Text, json!({}));
        let after = after.map(|after: Option<&str>| after.map(str::to_owned));
        let plan = world.ask(change(id, FieldPatch { after: after.clone(), ..FieldPatch::default() })).unwrap();
        assert!(matches!(plan.puts[..], [Put::Field { key: "$o", .. }]), "{plan:?}");
        world.carry_out(&plan);
        assert_eq!(names(&world), want);
        let again = change(id, FieldPatch { after, ..FieldPatch::default() });
        assert_eq!(world.ask(again).unwrap().puts, [], "it stands there already");
    }
}

#[test]
fn one_field_names_the_record() {
    let mut world = World::simple().field("c", "Note", FieldType::Text, json!({}));
    let primary = |id: &str| change(id, FieldPatch { primary: Some(true), ..FieldPatch::default() });
    let primaries = |world: &World| {
        let named = world.table.fields.values().filter(|field| field.primary);
        named.map(|field| field.id.to_string()).collect::<Vec<_>>()
    };
    world.run(primary("t"));
    world.run(primary("n"));
    assert_eq!(primaries(&world), ["n"]);
    let new = NewField { primary: true, ..new_field(Some("x"), "X", FieldType::Text) };
    world.run(Command::AddField(new));
    assert_eq!(primaries(&world), ["x"]);

    world.run(Command::DeleteField { id: "x".into() });
    world.table.fields.get_mut("t").unwrap().primary = true;
    world.run(change("x", FieldPatch { deleted: Some(false), ..FieldPatch::default() }));
    assert_eq!(primaries(&world), ["t"], "who comes back gives way");
    world.run(change("t", FieldPatch { primary: Some(false), ..FieldPatch::default() }));
    assert!(primaries(&world).is_empty());
}

#[test]
fn a_field_is_marked_and_the_mark_is_taken_away() {
    let mut world = World::simple();
    let delete = || Command::DeleteField { id: "t".into() };
    let plan = world.ask(delete()).unwrap();
    assert_eq!(plan.puts, [field_put("t", "$d", json!({"t": 1_700_000_000_000_u64, "by": "bob"}))]);
    world.carry_out(&plan);
    assert_eq!(names(&world), ["Count"]);
    assert_eq!(world.ask(delete()).unwrap(), Plan { puts: vec![], report: Report::Field("t".into()) });

    let restore = || change("t", FieldPatch { deleted: Some(false), ..FieldPatch::default() });
    assert_eq!(world.ask(restore()).unwrap().puts, [field_put("t", "$d", Value::Null)]);
    world.run(Command::AddField(new_field(Some("t2"), "Title", FieldType::Text)));
    assert_eq!(no(world.ask(restore())), ("INVALID_PAYLOAD", "name".into()));
    let renamed = FieldPatch { deleted: Some(false), name: Some("Old".into()), ..FieldPatch::default() };
    world.run(change("t", renamed));
    assert_eq!(names(&world), ["Old", "Count", "Title"]);
    assert_eq!(world.ask(restore()).unwrap().puts, [], "it is there");
}

#[test]
fn a_change_that_cannot_be_made_is_refused() {
    let mut world = World::simple().field("x", "Gone", FieldType::Text, json!({}));
    world.run(Command::DeleteField { id: "x".into() });
    let name = |name: &str| FieldPatch { name: Some(name.into()), ..FieldPatch::default() };
    let after = |id: &str| FieldPatch { after: Some(Some(id.into())), ..FieldPatch::default() };
    let cases: Vec<(&str, FieldPatch, &str, &str)> = vec![
        ("nope", FieldPatch::default(), "NOT_FOUND", ""),
        ("x", name("Back"), "NOT_FOUND", ""),
        ("t", name("Count"), "INVALID_PAYLOAD", "name"),
        ("t", name("\u{7}"), "INVALID_PAYLOAD", "name"),
        ("t", after("t"), "INVALID_PAYLOAD", "after"),
        ("t", after("nope"), "INVALID_PAYLOAD", "after"),
        ("t", FieldPatch { deleted: Some(true), ..FieldPatch::default() }, "INVALID_PAYLOAD", "deleted"),
        ("t", FieldPatch { width: Some(f64::NAN), ..FieldPatch::default() }, "INVALID_PAYLOAD", "width"),
    ];
    for (id, patch, code, path) in cases {
        let told = format!("{id}: {patch:?}");
        assert_eq!(no(world.ask(change(id, patch))), (code, path.to_owned()), "{told}");
    }
    assert_eq!(no(world.ask(Command::DeleteField { id: "nope".into() })).0, "NOT_FOUND");
    assert!(world.ask(change("t", name("Title"))).unwrap().puts.is_empty(), "its own name");
    assert!(world.ask(change("t", name("Gone"))).is_ok(), "the name of a deleted field is free");
}

#[test]
fn settings_are_kept_and_a_misspelt_policy_is_refused() {
    let create =
        |settings: Value| Command::CreateTable { title: None, fields: vec![], settings: settings.as_object().cloned() };
    let mut world = World::default();
    let refused = world.ask(create(json!({"staleOffline": "latest"}))).unwrap_err();
    assert_eq!((refused.code.word(), &refused.data["path"]), ("INVALID_PAYLOAD", &json!("settings.staleOffline")));
    let refused = world.ask(create(json!({"notes": "x".repeat(40_000)}))).unwrap_err();
    assert_eq!((refused.code.word(), &refused.data["limit"]), ("PAYLOAD_TOO_LARGE", &json!(32_768)));
    world.run(create(json!({"staleOffline": "online-wins", "mine": [1]})));
    assert_eq!(world.table.meta["settings"], json!({"staleOffline": "online-wins", "mine": [1]}));
}
