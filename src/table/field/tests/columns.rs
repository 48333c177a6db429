//! Descriptions of fields: from the document, from requests, and changed.

use proptest::prelude::*;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use super::super::*;
use super::field;
use super::json_value;
use crate::table::command::FieldPatch;
use crate::table::command::NewField;

fn new(options: &Value) -> NewField {
    NewField {
        id: None,
        name: "Status".to_owned(),
        kind: FieldType::Select,
        width: Some(120.0),
        after: None,
        primary: false,
        options: options.as_object().expect("options").clone(),
    }
}

fn counting() -> impl FnMut() -> u32 {
    let mut next = 0;
    move || {
        next += 7;
        next
    }
}

fn column_of(made: ColumnEntries) -> Value {
    let mut column: Map<String, Value> = made.entries.into_iter().collect();
    column.insert("opts".to_owned(), made.options.into());
    column.into()
}

fn patched(field: &FieldView, patch: Value) -> Result<FieldView, Wrong> {
    let patch = FieldPatch { options: patch.as_object().expect("options").clone(), ..FieldPatch::default() };
    let mut choices: Map<String, Value> = Map::new();
    for choice in field.options.get("choices").and_then(Value::as_array).into_iter().flatten() {
        let mut entry = json!({ "n": choice["name"], "o": choice["order"] });
        if let Some(color) = choice.get("color") {
            entry["c"] = color.clone();
        }
        choices.insert(choice["id"].as_str().unwrap().to_owned(), entry);
    }
    let mut options = field.options.clone();
    for (key, value) in patch_entries(field, &patch, &mut counting())?.options {
        let (map, key) = key.split_once('/').map_or((&mut options, key.as_str()), |(_, id)| (&mut choices, id));
        match value {
            Some(value) => map.insert(key.to_owned(), value),
            None => map.remove(key),
        };
    }
    options.insert("choices".to_owned(), choices.into());
    Ok(super::field(&json!({ "name": field.name, "type": field.kind.word(), "opts": options })))
}

fn names(field: &FieldView) -> Vec<String> {
    let choices = field.options["choices"].as_array().unwrap();
    choices
        .iter()
        .map(|choice| format!("{}:{}", choice["id"].as_str().unwrap(), choice["name"].as_str().unwrap()))
        .collect()
}

#[test]
fn a_column_is_read_whatever_it_holds() {
    for column in [json!(null), json!([]), json!({ "name": 5, "type": "tpe", "opts": [], "width": "x", "primary": 1 })]
    {
        let view = field(&column);
        assert_eq!((view.name.as_str(), view.kind, view.width, view.primary), ("c", FieldType::Text, None, false));
        assert!(!view.deleted && view.order.is_empty() && view.options.is_empty());
    }
    assert!(field(&json!({ "$d": false })).deleted);
    let view = field(&json!({ "opts": { "choices": { "b": 5, "a": { "n": "A", "c": "red", "o": "a1" }, "z": "Z" } } }));
    assert_eq!(names(&view), ["b:b", "z:Z", "a:A"]);
    assert_eq!(view.options["choices"][2], json!({ "id": "a", "name": "A", "color": "red", "order": "a1" }));
}

#[test]
fn a_new_field_is_read_as_it_was_given() {
    let given =
        new(&json!({ "choices": ["Open", { "id": "d", "name": "Done", "color": "red" }], "min": null, "hint": 1.0 }));
    let made = column_entries(&given, "a5", &mut counting()).unwrap();
    let view = field(&column_of(made));
    assert_eq!(
        (view.name.as_str(), view.kind, view.width, view.order.as_str()),
        ("Status", FieldType::Select, Some(120.0), "a5")
    );
    assert_eq!(view.options["hint"], json!(1));
    assert!(!view.options.contains_key("min"));
    assert_eq!(view.options["choices"][0]["name"], "Open");
    assert_eq!(view.options["choices"][1], json!({ "id": "d", "name": "Done", "color": "red", "order": "a1" }));
}

#[test]
fn a_field_that_cannot_be_is_refused_with_its_path() {
    let many: Vec<_> = (0..1001).map(|n| n.to_string()).collect();
    let options: Map<_, _> = (0..65).map(|n| (n.to_string(), json!(n))).collect();
    let table = [
        (json!({ "choices": {} }), "options.choices", Rule::WrongType),
        (json!({ "choices": ["A", { "name": " " }] }), "options.choices[1].name", Rule::BadFormat),
        (json!({ "choices": [{ "name": "A", "n": 1 }] }), "options.choices[0].n", Rule::WrongType),
        (json!({ "choices": [{ "id": "a/b", "name": "A" }] }), "options.choices[0].id", Rule::BadId),
        (
            json!({ "choices": [{ "id": "a", "name": "A" }, { "id": "a", "name": "B" }] }),
            "options.choices[1].id",
            Rule::BadId,
        ),
        (json!({ "choices": [{ "name": "A", "color": "x".repeat(65) }] }), "options.choices[0].color", Rule::TooLong),
        (json!({ "choices": many }), "options.choices", Rule::TooLong),
        (json!({ "min": "1" }), "options.min", Rule::WrongType),
        (json!({ "min": 2, "max": 1 }), "options.min", Rule::OutOfRange),
        (json!({ "precision": 1.5 }), "options.precision", Rule::OutOfRange),
        (json!({ "unique": 1 }), "options.unique", Rule::WrongType),
        (json!({ "choices/a": 1 }), "options.choices/a", Rule::BadId),
        (json!({ "x": "x".repeat(CELL_BYTES_MAX) }), "options.x", Rule::TooLong),
        (Value::Object(options), "options", Rule::TooLong),
    ];
    for (options, path, rule) in table {
        let wrong = check_new(&new(&options)).unwrap_err();
        assert_eq!((wrong.path.as_str(), wrong.rule), (path, rule), "{}", wrong.message);
    }
    let named =
        |name: &str| check_new(&NewField { name: name.to_owned(), ..new(&json!({})) }).map_err(|wrong| wrong.path);
    assert_eq!([named(""), named("\n"), named(&"ä".repeat(256))], [(); 3].map(|()| Err("name".to_owned())));
    assert_eq!(named(&"ä".repeat(255)), Ok(()));
    for width in [19.9, 2001.0, f64::NAN] {
        assert_eq!(check_new(&NewField { width: Some(width), ..new(&json!({})) }).unwrap_err().path, "width");
    }
    let id = Some("id".to_owned());
    assert_eq!(check_new(&NewField { id, ..new(&json!({})) }).unwrap_err().path, "id");
}

#[test]
fn a_patch_sets_what_differs_and_nothing_else() {
    let choices = json!({ "a": { "n": "A", "o": "a0" }, "b": { "n": "B", "c": "red", "o": "a1" } });
    let view =
        field(&json!({ "name": "S", "type": "select", "width": 100, "opts": { "choices": choices, "hint": 1 } }));
    let same = FieldPatch {
        name: Some("S".to_owned()),
        kind: Some(FieldType::Select),
        width: Some(100.0),
        primary: Some(false),
        options: view.options.clone(),
        ..FieldPatch::default()
    };
    assert_eq!(patch_entries(&view, &same, &mut counting()), Ok(PatchEntries::default()));
    let given =
        json!({ "choices": ["A", "N", { "id": "b", "name": "B", "color": "blue" }], "hint": null, "format": "x" });
    let patch =
        FieldPatch { name: Some("T".to_owned()), options: given.as_object().unwrap().clone(), ..FieldPatch::default() };
    let PatchEntries { entries, options } = patch_entries(&view, &patch, &mut counting()).unwrap();
    assert_eq!(entries, [("name", Some(json!("T")))]);
    let keys: Vec<_> = options.iter().map(|(key, _)| key.as_str()).collect();
    assert!(keys[0].starts_with("choices/") && keys[1..] == ["choices/b", "format", "hint"], "{keys:?}");
    assert_eq!(options[0].1, Some(json!({ "n": "N", "o": "a0V" })));
    assert_eq!(options[1].1, Some(json!({ "n": "B", "c": "blue", "o": "a1" })));
    assert_eq!(options[3].1, None);
}

#[test]
fn choices_are_moved_removed_and_added() {
    let choices = json!({ "a": { "n": "A", "o": "a0" }, "b": { "n": "B", "o": "a1" }, "c": { "n": "C", "o": "a2" } });
    let view = field(&json!({ "type": "select", "opts": { "choices": choices } }));
    assert_eq!(names(&patched(&view, json!({ "choices": ["C", "A"] })).unwrap()), ["c:C", "a:A"]);
    assert_eq!(
        names(&patched(&view, json!({ "choices": [{ "id": "b", "name": "X" }, "C"] })).unwrap()),
        ["b:X", "c:C"]
    );
    assert!(names(&patched(&view, json!({ "choices": null })).unwrap()).is_empty());
    let twice = patched(&view, json!({ "choices": ["A", "A", "A"] })).unwrap();
    assert_eq!(names(&twice).len(), 3);
    assert_eq!(names(&twice)[0], "a:A");
}

#[test]
fn a_name_finds_its_field_unless_two_have_it() {
    let fields = [("f1", "Name"), ("f2", "Same"), ("f3", "Same"), ("f4", "f1")];
    let mut fields = fields.map(|(id, name)| from_column(id, &json!({ "name": name }))).to_vec();
    fields.push(from_column("f5", &json!({ "name": "Gone", "$d": {} })));
    let names = Names::new(&fields);
    let find = |name: &str| names.find(name).map(|field| field.id.to_string()).map_err(|wrong| wrong.rule);
    assert_eq!(find("Name"), Ok("f1".to_owned()));
    assert_eq!(find("f1"), Ok("f1".to_owned()));
    for unknown in ["Same", "Gone", "f5", "name", ""] {
        assert_eq!(find(unknown), Err(Rule::UnknownField), "{unknown}");
    }
}

proptest! {
    #[test]
    fn columns_of_noise_are_read(column in json_value(), options in json_value(), choices in json_value(), name in json_value()) {
        let _ = field(&column);
        let view = field(&json!({ "name": name, "type": "select", "opts": { "choices": choices, "x": options } }));
        let patch = FieldPatch { options: view.options.clone(), ..FieldPatch::default() };
        let _ = patch_entries(&view, &patch, &mut || 0);
    }

    #[test]
    fn options_of_noise_are_refused_or_kept(list in prop::collection::vec(json_value(), 0..4), other in json_value()) {
        let given = new(&json!({ "choices": list, "min": other, "max": 3, "x": other }));
        if let Ok(made) = column_entries(&given, "a0", &mut || 0) {
            let view = field(&column_of(made));
            prop_assert_eq!(view.options["choices"].as_array().unwrap().len(), list.len());
        }
    }
}
