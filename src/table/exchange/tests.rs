//! What is read from both formats, what is refused on which line, and round trips through them.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use serde_json::Value;
use serde_json::json;

use super::*;
use crate::table::field::FieldType;
use crate::table::field::Names;
use crate::table::field::Rule;
use crate::table::field::from_column;
use crate::table::view::RecordView;

fn read(format: Format, text: &[u8], piece_bytes: usize) -> Result<Vec<Row>, Broken> {
    let mut reader = Reader::new(format);
    let mut rows = Vec::new();
    for piece in text.chunks(piece_bytes.max(1)) {
        rows.extend(reader.feed(piece)?);
    }
    rows.extend(reader.finish()?);
    Ok(rows)
}

/// Line, id and cells, as one short text each.
fn brief(rows: Vec<Row>) -> Vec<String> {
    let cell = |(name, cell): &(Arc<str>, Cell)| match cell {
        Cell::Text(text) => format!("{name}={text}"),
        Cell::Json(value) => format!("{name}={value}"),
    };
    let row = |row: Row| {
        let cells: Vec<_> = row.cells.iter().map(cell).collect();
        format!("{} {} {}", row.line, row.id.unwrap_or_else(|| "-".to_owned()), cells.join("|"))
    };
    rows.into_iter().map(row).collect()
}

#[test]
fn csv_is_read_wherever_it_is_cut() {
    let text = "\u{feff}name , id,\"no\"\"te\"\r\nAnn,r1,\"a, \"\"b\"\"\r\nc\"\n\n5\" pipe,,\rlast,r3,ü";
    let expected = ["2 r1 name=Ann|no\"te=a, \"b\"\r\nc", "5 - name=5\" pipe|no\"te=", "6 r3 name=last|no\"te=ü"];
    for piece_bytes in 1..=text.len() {
        assert_eq!(brief(read(Format::Csv, text.as_bytes(), piece_bytes).unwrap()), expected, "{piece_bytes}");
    }
    let mut reader = Reader::new(Format::Csv);
    reader.feed(text.as_bytes()).unwrap();
    assert_eq!(reader.header(), [Arc::from("name"), Arc::from("no\"te")]);
}

#[test]
fn json_lines_are_read_wherever_they_are_cut() {
    let text = "\u{feff}{\"id\":\"r1\",\"a\":1}\r\n\n {\"cells\":{\"b\":[2]},\"id\":\"r2\",\"version\":3}\n{\"cells\":5,\"id\":null}";
    let expected = ["1 r1 a=1", "3 r2 b=[2]", "4 - cells=5"];
    for piece_bytes in 1..=text.len() {
        assert_eq!(brief(read(Format::Ndjson, text.as_bytes(), piece_bytes).unwrap()), expected, "{piece_bytes}");
    }
}

#[test]
fn the_first_broken_line_is_named() {
    let wide = vec!["x"; COLUMNS_MAX + 2].join(",");
    let named: Vec<_> = (0..=COLUMNS_MAX).map(|n| format!("\"{n}\":0")).collect();
    let long = "x".repeat(ROW_BYTES_MAX + 1);
    let csv = [
        ("", "line 1: there is no header"),
        ("\u{feff}", "line 1: there is no header"),
        ("a,a\n", "line 1: two columns are named \"a\""),
        ("a,,b\n", "line 1: column 2 has no name"),
        ("a,b\n1,2\n1\n", "line 3: 1 cells in 2 columns"),
        ("a,b\n1,2,3", "line 2: 3 cells in 2 columns"),
        ("a\n\"x\ny\" z\n", "line 3: text behind a closing quote"),
        ("a\n1\n\"x\n2\n3\n", "line 3: a quote is not closed"),
        ("id,a\nr1,1\nr1,2\n", "line 3: a row before has the same id"),
        ("id,a\na/b,1\n", "line 2: an id has no `/`, `#`, `~`, spaces or control characters"),
        (&wide, "line 1: more than 500 columns"),
        (&format!("a\n1\n{long}"), "line 3: a row of more than 131072 bytes"),
        (&format!("a\n\"1\n{long}"), "line 2: a row of more than 131072 bytes: is a quote not closed?"),
    ];
    for (text, message) in csv {
        assert_eq!(read(Format::Csv, text.as_bytes(), 7).unwrap_err().to_string(), message, "{text:.40}");
    }
    let lines = [
        ("{}\n[]", "line 2: not a JSON object"),
        ("{}\n{\"a\":}", "line 2: not JSON, at byte 6"),
        ("{\"id\":5}", "line 1: `id` is not a string"),
        ("{\"id\":\"$x\"}", "line 1: this id is reserved"),
        ("{\"cells\":{},\"b\":1}", "line 1: \"b\" stands beside `cells`"),
        (&format!("{{{}}}", named.join(",")), "line 1: more than 500 different fields"),
        (&format!("{{}}\n\n{long}"), "line 3: a row of more than 131072 bytes"),
    ];
    for (text, message) in lines {
        assert_eq!(read(Format::Ndjson, text.as_bytes(), 7).unwrap_err().to_string(), message, "{text:.40}");
    }
    assert_eq!(read(Format::Csv, b"a\n\xff\n", 9).unwrap_err().to_string(), "line 2: not UTF-8");
    assert_eq!(read(Format::Csv, b"\xef\xbb", 9).unwrap_err().to_string(), "line 1: not UTF-8");
}

#[test]
fn line_seven_thousand_is_named_and_the_reader_stays_broken() {
    let mut text = "a,b\n".to_owned() + &"1,2\n".repeat(6998);
    text += "1,\"2\n\" 3\n4,5\n";
    let mut reader = Reader::new(Format::Csv);
    let broken = reader.feed(text.as_bytes()).unwrap_err();
    assert_eq!((broken.line, broken.kind), (7001, BrokenKind::Malformed));
    assert_eq!(reader.feed(b"1,2\n"), Err(broken.clone()));
    assert_eq!(reader.finish(), Err(broken));
}

#[test]
fn an_import_has_a_last_row() {
    let full = "a\n".to_owned() + &"1\n".repeat(ROWS_MAX);
    assert_eq!(read(Format::Csv, full.as_bytes(), 65_536).unwrap().len(), ROWS_MAX);
    let broken = read(Format::Csv, (full + "1\n").as_bytes(), 65_536).unwrap_err();
    assert_eq!((broken.line, broken.kind), (ROWS_MAX as u64 + 2, BrokenKind::TooLarge));
}

fn of(kind: &str, multiple: bool) -> FieldView {
    let choices = json!({
        "o1": { "n": "Open", "o": "a0" }, "o2": { "n": "Done", "o": "a1" }, "o3": { "n": "Done", "o": "a2" },
        "o4": { "n": " a; b\\ ", "o": "a3" }, "o5": { "n": "o1", "o": "a4" },
    });
    from_column("c", &json!({ "name": "C", "type": kind, "opts": { "choices": choices, "multiple": multiple } }))
}

#[test]
fn text_is_read_as_people_write_it() {
    let table = [
        ("text", " x ", Ok(json!(" x "))),
        ("text", "", Ok(json!(null))),
        ("number", " 1.50 ", Ok(json!(1.5))),
        ("number", "1,5", Err(Rule::WrongType)),
        ("number", "NaN", Err(Rule::WrongType)),
        ("checkbox", "YES", Ok(json!(true))),
        ("checkbox", "0", Ok(json!(false))),
        ("checkbox", "maybe", Err(Rule::WrongType)),
        ("select", " Open ", Ok(json!("o1"))),
        ("select", "Done", Err(Rule::UnknownOption)),
        ("multiselect", "Open;o2; \\ a\\; b\\\\\\ ;", Ok(json!(["o1", "o2", "o4"]))),
        ("multiselect", " ; ", Ok(json!(null))),
        ("link", "r2;r1", Ok(json!(["r1", "r2"]))),
        ("date", " 2024-02-29", Ok(json!("2024-02-29"))),
        ("date", "29.2.2024", Err(Rule::BadFormat)),
        ("datetime", "1970-01-01T01:00:00+01:00", Ok(json!(0))),
        ("datetime", "2024", Err(Rule::WrongType)),
        ("json", "{\"a\": 1.0}", Ok(json!({ "a": 1 }))),
        ("json", "null", Ok(json!(null))),
        ("json", "word", Err(Rule::WrongType)),
        ("url", "https://a.b ", Ok(json!("https://a.b"))),
        ("formula", "1", Err(Rule::ReadOnly)),
        ("created", "", Err(Rule::ReadOnly)),
    ];
    for (kind, text, expected) in table {
        assert_eq!(text_to_value(&of(kind, false), text).map_err(|wrong| wrong.rule), expected, "{kind}: {text:?}");
    }
}

#[test]
fn values_are_written_as_people_read_them() {
    let table = [
        ("multiselect", json!(["o1", "o2", "o4", "o5", "gone"]), "Open; o2; \\ a\\; b\\\\\\ ; o5; gone"),
        ("select", json!("o1"), "Open"),
        ("datetime", json!(1_700_000_000_123_i64), "2023-11-14T22:13:20.123Z"),
        ("text", json!("=1+1"), "=1+1"),
        ("json", json!("x"), "\"x\""),
        ("checkbox", json!(false), "false"),
        ("number", json!(0.1), "0.1"),
    ];
    for (kind, value, expected) in table {
        assert_eq!(value_to_text(&of(kind, false), &value), expected, "{kind}");
    }
}

#[test]
fn an_export_goes_by_names_where_they_find_their_field() {
    let columns = [("f1", "Name"), ("f2", "Same"), ("f3", "Same"), ("f4", "id"), ("f5", " x"), ("f6", "f1")];
    let mut fields = columns.map(|(id, name)| from_column(id, &json!({ "name": name }))).to_vec();
    fields.push(from_column("f7", &json!({ "name": "Made", "type": "created" })));
    let record = |id: &str, cells: Value| RecordView {
        id: id.into(),
        cells: cells.as_object().unwrap().iter().map(|(key, value)| (Arc::from(key.as_str()), value.clone())).collect(),
        ..RecordView::default()
    };
    let mut out = Vec::new();
    let writer = Writer::new(Format::Csv, fields.clone());
    writer.head(&mut out);
    writer.row(&record("r1", json!({ "f1": "a\nb", "f2": "x,\"y\"", "f7": 5 })), &mut out);
    assert_eq!(String::from_utf8(out).unwrap(), "id,Name,f2,f3,f4,f5,f6\r\nr1,\"a\nb\",\"x,\"\"y\"\"\",,,,\r\n");
    let mut out = Vec::new();
    let writer = Writer::new(Format::Ndjson, fields);
    writer.head(&mut out);
    writer.row(&record("r1", json!({ "f1": "a", "f7": 5 })), &mut out);
    assert_eq!(String::from_utf8(out).unwrap(), "{\"cells\":{\"f1\":\"a\"},\"id\":\"r1\"}\n");
}

/// A value that the field takes, or [`Value::Null`].
fn cell(field: FieldView) -> impl Strategy<Value = (FieldView, Value)> {
    let word = "\\PC{0,6}|[ ;\\\\,\"\r\n\ta=]{0,6}";
    let ids = || prop::collection::vec(prop_oneof![Just("o1".to_owned()), "o[2-5]", "[^/#~$\\s\\p{C}]{1,5}"], 0..4);
    let wanted = match field.kind {
        FieldType::Number => any::<f64>().prop_map(Value::from).boxed(),
        FieldType::Counter | FieldType::Rating => (0..100_i64).prop_map(Value::from).boxed(),
        FieldType::Checkbox => any::<bool>().prop_map(Value::from).boxed(),
        FieldType::Select => "o[1-5]".prop_map(Value::from).boxed(),
        FieldType::Multiselect => prop::collection::vec("o[1-5]", 0..5).prop_map(Value::from).boxed(),
        FieldType::Link => ids().prop_map(Value::from).boxed(),
        FieldType::Person => prop_oneof![ids().prop_map(Value::from), word.prop_map(Value::from)].boxed(),
        FieldType::Date => "20[0-9]{2}-0[1-9]-[0-2][0-9]".prop_map(Value::from).boxed(),
        FieldType::Datetime => (-60_000_000_000_000..253_000_000_000_000_i64).prop_map(Value::from).boxed(),
        FieldType::Url => "[a-z]{1,4}:[!-~]{1,9}".prop_map(Value::from).boxed(),
        FieldType::Email => "[!-?]{1,4}@[a-z.]{1,5}".prop_map(Value::from).boxed(),
        FieldType::Attachment => word
            .prop_map(|name| json!([{ "name": name, "url": "/f", "size": 1 }, { "id": "x", "name": "n", "url": "u" }]))
            .boxed(),
        FieldType::Json => (word, any::<f64>()).prop_map(|(word, n)| json!([word, { "n": n, "w": word }])).boxed(),
        _ => word.prop_map(Value::from).boxed(),
    };
    wanted.prop_map(move |wanted| (field.clone(), check(&field, &wanted).unwrap_or_default()))
}

fn any_cell() -> impl Strategy<Value = (FieldView, Value)> {
    let kinds: Vec<FieldType> = FieldType::ALL.into_iter().filter(|kind| !kind.is_computed()).collect();
    (prop::sample::select(kinds), any::<bool>()).prop_flat_map(|(kind, multiple)| cell(of(kind.word(), multiple)))
}

proptest! {
    #[test]
    fn a_cell_goes_through_text((field, value) in any_cell()) {
        if !crate::table::field::is_read_only(&field) {
            let text = value_to_text(&field, &value);
            prop_assert_eq!(text_to_value(&field, &text), Ok(value), "{:?}", text);
        }
    }

    #[test]
    fn a_table_goes_through_both_formats(
        cells in prop::collection::vec(any_cell(), 1..5),
        rows in 1..4_usize,
        piece_bytes in 1..50_usize,
        is_csv in any::<bool>(),
    ) {
        let format = if is_csv { Format::Csv } else { Format::Ndjson };
        let fields: Vec<FieldView> = cells.iter().enumerate().map(|(at, (field, _))| {
            FieldView { id: format!("f{at}").into(), name: format!("F {}", at / 2), ..field.clone() }
        }).collect();
        let kept = fields.iter().zip(&cells).filter(|(field, (_, value))| !value.is_null() && !crate::table::field::is_read_only(field));
        let record: BTreeMap<Arc<str>, Value> = kept.map(|(field, (_, value))| (field.id.clone(), value.clone())).collect();
        let writer = Writer::new(format, fields.clone());
        let mut out = Vec::new();
        writer.head(&mut out);
        for row in 0..rows {
            let id = format!("r{row}").into();
            writer.row(&RecordView { id, cells: record.clone(), ..RecordView::default() }, &mut out);
        }
        let names = Names::new(&fields);
        let back = read(format, &out, piece_bytes).unwrap();
        prop_assert_eq!(back.len(), rows);
        for (at, row) in back.into_iter().enumerate() {
            prop_assert_eq!(row.id, Some(format!("r{at}")));
            let cells = row.cells.iter().map(|(name, cell)| {
                let field = names.find(name).unwrap();
                (field.id.clone(), cell.value(field).unwrap())
            });
            let cells: BTreeMap<_, _> = cells.filter(|(_, value)| !value.is_null()).collect();
            prop_assert_eq!(&cells, &record);
        }
    }

    #[test]
    fn noise_is_refused_or_read_the_same_however_it_is_cut(
        text in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..60),
            "[a,\"\r\n\u{feff} ]{0,40}".prop_map(String::into_bytes),
            "(\\{\"id\":(\"[a-c]\"|5),\"c\":[0-9]\\}|[{}\\[\\]\",:a]{0,5})(\n|\r\n)".prop_map(String::into_bytes),
        ],
        piece_bytes in 1..10_usize,
        is_csv in any::<bool>(),
    ) {
        let format = if is_csv { Format::Csv } else { Format::Ndjson };
        prop_assert_eq!(read(format, &text, piece_bytes), read(format, &text, text.len()));
    }

    #[test]
    fn texts_of_noise_are_refused_or_read((field, _) in any_cell(), text in "\\PC{0,12}|[0-9TZ:+. -]{0,24}|[;\\\\ a]{0,9}") {
        if let Ok(value) = text_to_value(&field, &text) {
            prop_assert_eq!(text_to_value(&field, &value_to_text(&field, &value)), Ok(value));
        }
    }
}
