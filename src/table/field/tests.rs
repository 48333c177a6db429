//! What is read as what, what is refused, and the law that holds both together: what was written is shown.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::Value;
use serde_json::json;

use super::*;

mod columns;

/// A field of every kind by one short description: its column.
pub(super) fn field(column: &Value) -> FieldView {
    from_column("c", column)
}

fn of(kind: &str) -> FieldView {
    let choices =
        json!({ "o1": { "n": "Open", "o": "a0" }, "o2": { "n": "Done", "o": "a1" }, "o3": { "n": "Done", "o": "a2" } });
    field(&json!({ "type": kind, "opts": { "choices": choices } }))
}

type Raw = BTreeMap<String, Value>;

fn raw(cells: &Value) -> Raw {
    cells.as_object().expect("keys").clone().into_iter().collect()
}

fn shown(field: &FieldView, raw: &Raw) -> Value {
    read(field, raw.iter().map(|(key, value)| (key.as_str(), value)))
}

fn written(field: &FieldView, wanted: &Value, mut raw: Raw) -> Result<Raw, Wrong> {
    for (key, value) in writes(field, wanted, raw.iter().map(|(key, value)| (key.as_str(), value)))? {
        assert_ne!(raw.get(&key), value.as_ref(), "{key} is written although it is so");
        match value {
            Some(value) => raw.insert(key, value),
            None => raw.remove(&key),
        };
    }
    Ok(raw)
}

#[test]
fn every_word_names_its_type() {
    for kind in FieldType::ALL {
        assert_eq!(FieldType::parse(kind.word()), Some(kind));
    }
    let words: std::collections::BTreeSet<_> = Rule::ALL.iter().map(|rule| rule.word()).collect();
    assert_eq!(words.len(), Rule::ALL.len());
}

#[test]
fn a_cell_is_read_as_the_type_of_its_field() {
    let table = [
        ("text", json!({ "c": "x" }), json!("x")),
        ("text", json!({ "c": 5.0 }), json!("5")),
        ("text", json!({ "c": 0.5 }), json!("0.5")),
        ("text", json!({ "c": true }), json!("true")),
        ("text", json!({ "c": "" }), json!(null)),
        ("text", json!({ "c": [1] }), json!(null)),
        ("number", json!({ "c": " 1e3 " }), json!(1000)),
        ("number", json!({ "c": "inf" }), json!(null)),
        ("number", json!({ "c": -0.0 }), json!(0)),
        ("number", json!({ "c": true }), json!(1)),
        ("number", json!({ "c": 1, "c#7": 2 }), json!(3)),
        ("rating", json!({ "c": "3.6" }), json!(4)),
        ("rating", json!({ "c": -2 }), json!(0)),
        ("counter", json!({ "c": 10, "c#7": 2, "c#8": -0.5 }), json!(11.5)),
        ("counter", json!({ "c#7": "x" }), json!(null)),
        ("counter", json!({}), json!(null)),
        ("checkbox", json!({ "c": "Yes" }), json!(true)),
        ("checkbox", json!({ "c": 0 }), json!(false)),
        ("checkbox", json!({ "c": "perhaps" }), json!(null)),
        ("select", json!({ "c": "gone" }), json!("gone")),
        ("select", json!({ "c/o2": true, "c/o1": true }), json!("o1")),
        ("multiselect", json!({ "c/o2": true, "c/o1": true, "c/o3": false }), json!(["o1", "o2"])),
        ("multiselect", json!({ "c": "o2" }), json!(["o2"])),
        ("link", json!({ "c": ["r2", "r1", 5], "c/r1": true }), json!(["r1", "r2"])),
        ("date", json!({ "c": "2024-02-29" }), json!("2024-02-29")),
        ("date", json!({ "c": "2023-02-29" }), json!(null)),
        ("date", json!({ "c": 86_400_000 }), json!("1970-01-02")),
        ("date", json!({ "c": "2024-02-29T23:00:00-05:00" }), json!("2024-02-29")),
        ("datetime", json!({ "c": 1.5 }), json!(2)),
        ("datetime", json!({ "c": "1970-01-02" }), json!(86_400_000)),
        ("datetime", json!({ "c": 1e300 }), json!(null)),
        ("json", json!({ "c": { "a": [1.0, ""] } }), json!({ "a": [1, ""] })),
        ("attachment", json!({ "c/f1": { "name": "n", "id": "x" }, "c/f2": 3 }), json!([{ "id": "f1", "name": "n" }])),
        ("rich", json!({ "c": "x" }), json!(null)),
        ("formula", json!({ "c": 1 }), json!(null)),
    ];
    for (kind, cells, expected) in table {
        assert_eq!(shown(&of(kind), &raw(&cells)), expected, "{kind} of {cells}");
    }
}

#[test]
fn undeclared_fields_show_what_is_there() {
    let shown = |cells: &Value| read_free(raw(cells).iter().map(|(key, value)| (key.as_str(), value)));
    assert_eq!(shown(&json!({ "x": { "a": 1.0 } })), json!({ "a": 1 }));
    assert_eq!(shown(&json!({ "read/ann": true, "read/bob": true })), json!(["ann", "bob"]));
    assert_eq!(shown(&json!({ "f/1": { "n": 1 } })), json!({ "1": { "n": 1 } }));
    assert_eq!(shown(&json!({ "n#1": 1, "n#2": 2, "n": 3 })), json!(6));
    assert_eq!(shown(&json!({})), json!(null));
}

#[test]
fn a_value_that_a_field_does_not_take_is_refused() {
    let long = "x".repeat(CELL_BYTES_MAX + 1);
    let deep = (0..=JSON_DEPTH_MAX).fold(json!(1), |inner, _| json!([inner]));
    let table = [
        ("text", json!(5), Rule::WrongType),
        ("text", json!(long), Rule::TooLong),
        ("longtext", json!(long), Rule::TooLong),
        ("number", json!("5"), Rule::WrongType),
        ("checkbox", json!("yes"), Rule::WrongType),
        ("select", json!("Closed"), Rule::UnknownOption),
        ("select", json!("Done"), Rule::UnknownOption),
        ("multiselect", json!("o1"), Rule::WrongType),
        ("multiselect", json!(["o1", "o9"]), Rule::UnknownOption),
        ("multiselect", json!(vec!["o1"; FLAGS_MAX + 1]), Rule::TooLong),
        ("date", json!("2023-02-29"), Rule::BadFormat),
        ("date", json!("2023-2-9"), Rule::BadFormat),
        ("date", json!(5), Rule::WrongType),
        ("datetime", json!("yesterday"), Rule::BadFormat),
        ("datetime", json!(1e300), Rule::BadFormat),
        ("datetime", json!(1.5), Rule::BadFormat),
        ("datetime", json!(true), Rule::WrongType),
        ("person", json!("a\nb"), Rule::BadFormat),
        ("person", json!("x".repeat(256)), Rule::TooLong),
        ("link", json!(["a/b"]), Rule::BadId),
        ("link", json!(["__proto__"]), Rule::BadId),
        ("url", json!("example.com"), Rule::BadFormat),
        ("url", json!("javascript:alert(1)"), Rule::BadFormat),
        ("url", json!("https:"), Rule::BadFormat),
        ("email", json!("ann"), Rule::BadFormat),
        ("email", json!("a@b@c"), Rule::BadFormat),
        ("rating", json!(1.5), Rule::BadFormat),
        ("rating", json!(101), Rule::OutOfRange),
        ("counter", json!(1e17), Rule::OutOfRange),
        ("json", json!(long), Rule::TooLong),
        ("json", deep, Rule::TooLong),
        ("attachment", json!([{ "name": "n" }]), Rule::WrongType),
        ("attachment", json!([{ "name": "n", "url": " java\nscript:x" }]), Rule::BadFormat),
        ("attachment", json!([{ "name": "n", "url": "/f", "size": -1 }]), Rule::WrongType),
        ("rich", json!("x"), Rule::ReadOnly),
        ("created", json!(null), Rule::ReadOnly),
    ];
    for (kind, wanted, rule) in table {
        assert_eq!(check(&of(kind), &wanted).map_err(|wrong| wrong.rule), Err(rule), "{kind} of {wanted:.60}");
    }
    let path = check(&of("multiselect"), &json!(["o1", "o9"])).unwrap_err().under("cells.tags").path;
    assert_eq!(path, "cells.tags[1]");
}

#[test]
fn bounds_and_switches_of_a_field_are_kept() {
    let bounded = field(&json!({ "type": "number", "opts": { "min": 1, "max": 5, "required": true } }));
    let rule = |wanted: Value| check(&bounded, &wanted).map_err(|wrong| wrong.rule);
    assert_eq!(rule(json!(5.0)), Ok(json!(5)));
    assert_eq!(rule(json!(5.5)), Err(Rule::OutOfRange));
    assert_eq!(rule(json!(null)), Err(Rule::Required));
    assert_eq!(rule(json!("")), Err(Rule::Required));
    let collab = field(&json!({ "type": "text", "opts": { "collab": true } }));
    assert_eq!(check(&collab, &json!("x")).unwrap_err().rule, Rule::ReadOnly);
    assert_eq!(text_root(&collab, "r1").as_deref(), Some("t/r1/c"));
    assert_eq!(text_root(&of("rich"), "r1").as_deref(), Some("f/r1/c"));
    let people = field(&json!({ "type": "person", "opts": { "multiple": true } }));
    assert_eq!(check(&people, &json!(["b", "a", "b"])), Ok(json!(["a", "b"])));
}

#[test]
fn only_the_keys_that_differ_are_written() {
    let some =
        |cells: Value| cells.as_object().unwrap().clone().into_iter().map(|(k, v)| (k, Some(v))).collect::<Vec<_>>();
    let none: Vec<(String, Option<Value>)> = Vec::new();
    let table = [
        ("number", json!({ "c": 5 }), json!(5.0), none.clone()),
        ("text", json!({}), json!(null), none.clone()),
        ("select", json!({}), json!("Open"), some(json!({ "c": "o1" }))),
        ("datetime", json!({}), json!("1970-01-01T00:00:01Z"), some(json!({ "c": 1000 }))),
        ("multiselect", json!({ "c/o1": true }), json!(["o2", "Open"]), some(json!({ "c/o2": true }))),
        ("multiselect", json!({ "c": "o1" }), json!(["o1"]), none.clone()),
        ("counter", json!({ "c#1": 2, "c#2": 3 }), json!(15), some(json!({ "c": 10 }))),
        ("counter", json!({}), json!(0), some(json!({ "c": 0 }))),
        ("json", json!({ "c": [1] }), json!([1.0]), none),
        ("counter", json!({ "c": 5, "c#1": 1 }), json!(null), vec![("c".into(), None), ("c#1".into(), None)]),
        (
            "multiselect",
            json!({ "c": "o1" }),
            json!(["o2"]),
            vec![("c".into(), None), ("c/o2".into(), Some(json!(true)))],
        ),
        ("select", json!({ "c/o1": true }), json!("o2"), vec![("c".into(), Some(json!("o2"))), ("c/o1".into(), None)]),
    ];
    for (kind, cells, wanted, expected) in table {
        let raw = raw(&cells);
        let raw = raw.iter().map(|(key, value)| (key.as_str(), value));
        assert_eq!(writes(&of(kind), &wanted, raw), Ok(expected), "{kind}: {wanted} over {cells}");
    }
}

#[test]
fn a_file_without_an_id_is_added_once() {
    let file = json!([{ "name": "n", "url": "/f" }]);
    let once = written(&of("attachment"), &file, Raw::new()).unwrap();
    assert_eq!(written(&of("attachment"), &file, once.clone()), Ok(once.clone()));
    assert_eq!(once.len(), 1);
}

#[test]
fn what_comes_in_an_edit_is_judged_by_what_it_would_be_read_as() {
    let long = "x".repeat(CELL_BYTES_MAX + 1);
    let table = [
        ("text", "c", json!("x"), Ok(())),
        ("text", "c", json!(5), Err(Rule::WrongType)),
        ("text", "c", json!(long), Err(Rule::TooLong)),
        ("text", "c/x", json!(true), Err(Rule::WrongType)),
        ("text", "d", json!("x"), Err(Rule::UnknownField)),
        ("text", "c", json!(null), Ok(())),
        ("number", "c", json!("5"), Err(Rule::WrongType)),
        ("number", "c#1", json!(5), Err(Rule::WrongType)),
        ("checkbox", "c", json!(1), Err(Rule::WrongType)),
        ("select", "c", json!("o9"), Err(Rule::UnknownOption)),
        ("select", "c", json!("Open"), Err(Rule::UnknownOption)),
        ("select", "c", json!(""), Ok(())),
        ("multiselect", "c/o1", json!(true), Ok(())),
        ("multiselect", "c/o9", json!(true), Err(Rule::UnknownOption)),
        ("multiselect", "c/o9", json!(false), Ok(())),
        ("multiselect", "c/o1", json!("true"), Err(Rule::WrongType)),
        ("multiselect", "c", json!(["o1"]), Err(Rule::WrongType)),
        ("link", "c/__proto__", json!(true), Err(Rule::BadId)),
        ("date", "c", json!("soon"), Err(Rule::BadFormat)),
        ("datetime", "c", json!(1e300), Err(Rule::OutOfRange)),
        ("url", "c", json!("half an addr"), Ok(())),
        ("url", "c", json!("JavaScript:alert(1)"), Err(Rule::BadFormat)),
        ("counter", "c#77", json!(1), Ok(())),
        ("counter", "c#77", json!("1"), Err(Rule::WrongType)),
        ("counter", "c", json!(1e300), Err(Rule::OutOfRange)),
        ("attachment", "c/f1", json!({ "name": "n", "url": "/f" }), Ok(())),
        ("attachment", "c/f1", json!(true), Err(Rule::WrongType)),
        ("json", "c", json!(long), Err(Rule::TooLong)),
        ("rich", "c", json!("x"), Err(Rule::ReadOnly)),
        ("updated", "c", json!(1), Err(Rule::ReadOnly)),
        ("updated", "c", json!(null), Ok(())),
    ];
    for (kind, key, value, expected) in table {
        assert_eq!(check_raw(&of(kind), key, &value), expected, "{kind}: {key} is {value:.60}");
    }
    assert_eq!(check_raw(&of("link"), &format!("c/{}", "x".repeat(400)), &json!(true)), Err(Rule::TooLong));
}

#[test]
fn ids_are_plain_words() {
    for bad in
        ["", "$o", "a/b", "a#b", "a~1", "a b", "a\u{7f}", "__proto__", "constructor", "prototype", &"x".repeat(65)]
    {
        assert_eq!(check_row_id(bad).map_err(|wrong| wrong.rule), Err(Rule::BadId), "{bad:?}");
    }
    for good in ["r1", "self", "6fa459ea-ee8a-3ca4-894e-db77e160355e", "größe", &"x".repeat(64)] {
        assert_eq!(check_row_id(good), Ok(()), "{good:?}");
    }
    assert!(check_field_id("id").is_err());
    let mut next = 0;
    let mut rand = || {
        next += 1;
        next
    };
    assert_eq!((new_row_id(&mut rand).len(), new_field_id(&mut rand).len(), new_view_id(&mut rand).len()), (12, 6, 8));
    assert_eq!((field_of("c/o#1"), field_of("c#1/x"), field_of("c")), ("c", "c", "c"));
    assert!(is_reserved("$o") && !is_reserved("o$"));
}

/// JSON as it comes, with the words and keys that mean something here.
pub(super) fn json_value() -> impl Strategy<Value = Value> {
    let word = prop::sample::select(vec![
        "",
        "o1",
        "o2",
        "Open",
        "Done",
        "true",
        "0",
        "2024-02-29",
        "https://a.b/c",
        "a@b",
        ";",
        "\\",
        " x ",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        (-5..20_i64).prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        word.prop_map(Value::from),
        "\\PC{0,6}|[\\s\\S]{0,4}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("id|name|url|size|[a-z]{1,3}", inner, 0..4)
                .prop_map(|map| map.into_iter().collect::<serde_json::Map<_, _>>().into()),
        ]
    })
}

pub(super) fn any_field() -> impl Strategy<Value = FieldView> {
    (prop::sample::select(FieldType::ALL.to_vec()), any::<bool>()).prop_map(|(kind, multiple)| {
        let mut field = of(kind.word());
        field.options.insert("multiple".to_owned(), multiple.into());
        field
    })
}

fn any_raw() -> impl Strategy<Value = Raw> {
    prop::collection::btree_map("c|c/(o1|o2|r1|f1)|c#[1-3]|c/|c#|c/#", json_value(), 0..5)
}

proptest! {
    #[test]
    fn what_was_written_is_shown(field in any_field(), wanted in json_value(), raw in any_raw()) {
        if let Ok(canonical) = check(&field, &wanted) {
            let raw = written(&field, &wanted, raw).unwrap();
            let now = shown(&field, &raw);
            if field.kind == FieldType::Counter && canonical.is_number() {
                // Adding up loses digits where the parts are much larger than the sum.
                let scale = raw.values().filter_map(Value::as_f64).fold(1.0, |scale: f64, part| scale.max(part.abs()));
                let off = now.as_f64().unwrap_or(f64::NAN) - canonical.as_f64().unwrap();
                prop_assert!(off.abs() <= scale * 1e-15 || !scale.is_finite() || scale > 1e300, "{now} for {canonical}");
            } else {
                prop_assert_eq!(&now, &canonical);
                prop_assert_eq!(written(&field, &wanted, raw.clone()).unwrap(), raw);
            }
            prop_assert_eq!(check(&field, &canonical), Ok(canonical));
        }
    }

    #[test]
    fn what_may_stay_is_shown_as_it_is(field in any_field(), value in json_value()) {
        let is_plain = matches!(Shape::of(&field), Shape::Plain) && !matches!(field.kind, FieldType::Datetime);
        if is_plain && check_raw(&field, "c", &value).is_ok() && value != "" {
            let raw = Raw::from([("c".to_owned(), value.clone())]);
            prop_assert_eq!(shown(&field, &raw), super::read::normal(&value));
        }
    }

    #[test]
    fn undeclared_cells_keep_what_was_written(wanted in json_value(), raw in any_raw()) {
        let mut raw = raw;
        if let Ok(puts) = writes_free("c", &wanted, raw.iter().map(|(key, value)| (key.as_str(), value))) {
            for (key, value) in puts {
                match value {
                    Some(value) => raw.insert(key, value),
                    None => raw.remove(&key),
                };
            }
            let now = read_free(raw.iter().map(|(key, value)| (key.as_str(), value)));
            prop_assert!(now == super::read::normal(&wanted) || now.is_number() && wanted.is_number(), "{} for {}", now, wanted);
        }
    }

    #[test]
    fn keys_of_noise_are_judged(field in any_field(), key in "c?[/#$]?\\PC{0,5}", value in json_value()) {
        let _ = check_raw(&field, &key, &value);
    }
}
