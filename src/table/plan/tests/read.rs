//! What is shown of a table.

use super::*;
use crate::table::command::Position;
use crate::table::read::field_view;
use crate::table::read::record_view;
use crate::table::read::table_view;

fn ids(
    world: &World,
    after: Option<&Position>,
    limit: usize,
    include_deleted: bool,
) -> (Vec<String>, Option<Position>) {
    let raw = |row: &str| world.raws.get(row).cloned().unwrap_or_default();
    let (records, next) = page(&world.table, &raw, after, limit, None, include_deleted).unwrap();
    (records.into_iter().map(|record| record.id.to_string()).collect(), next)
}

fn five() -> World {
    // Byte order: capitals come first, ids break ties.
    let orders = [("e", "a2"), ("d", "a1"), ("c", "a1"), ("b", "Zz"), ("a", "b00")];
    orders.into_iter().fold(World::simple(), |world, (id, order)| world.row(id, order, json!({"t": id})))
}

#[test]
fn pages_follow_each_other_without_a_gap() {
    let world = five();
    for limit in [0, 1, 2, 4, 5, 6] {
        let (mut seen, mut after, mut pages) = (Vec::new(), None, 0);
        loop {
            let (records, next) = ids(&world, after.as_ref(), limit, false);
            assert!(records.len() <= limit.max(1));
            seen.extend(records);
            pages += 1;
            after = next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(seen, ["b", "c", "d", "e", "a"], "pages of {limit}");
        assert_eq!(pages, 5_usize.div_ceil(limit.max(1)), "no empty page at the end");
    }
}

#[test]
fn a_page_begins_behind_a_place_whoever_stood_there() {
    let at = |order: &str, id: &str| Position { order: order.into(), id: id.into() };
    assert_eq!(ids(&five(), Some(&at("a1", "cc")), 9, false).0, ["d", "e", "a"]);
    assert_eq!(ids(&five(), Some(&at("z", "")), 9, false).0, [""; 0]);
}

#[test]
fn deleted_records_are_shown_to_who_asks_for_them() {
    let mut world = five();
    world.mark_deleted("a");
    world.mark_deleted("c");
    assert_eq!(ids(&world, None, 3, false), (vec!["b".into(), "d".into(), "e".into()], None));
    assert_eq!(ids(&world, None, 9, true).0, ["b", "c", "d", "e", "a"]);
    let record = record_view(&world.table, "a", &world.raws["a"]).unwrap();
    assert_eq!(record.json()["deleted"], json!({"at": "2023-11-14T22:13:20.000Z", "by": "bob"}));
}

#[test]
fn a_page_shows_the_fields_that_are_asked_for() {
    let world = World::simple().row("r", "a0", json!({"t": "x", "n": 1}));
    let raw = |row: &str| world.raws.get(row).cloned().unwrap_or_default();
    let shown = |fields: &[&str]| {
        let fields: Vec<_> = fields.iter().map(|field| (*field).to_owned()).collect();
        page(&world.table, &raw, None, 9, Some(&fields), false).map(|(records, _)| records[0].json()["cells"].clone())
    };
    assert_eq!(shown(&["Count"]).unwrap(), json!({"n": 1}));
    assert_eq!(shown(&[]).unwrap(), json!({}));
    let refused = shown(&["t", "nope"]).unwrap_err();
    assert_eq!((refused.code.word(), &refused.data["path"]), ("INVALID_PAYLOAD", &json!("fields")));
}

#[test]
fn cells_are_shown_one_to_a_field() {
    let choices = json!({"choices": [{"id": "x", "name": "Ex", "order": "a0"}]});
    let world = World::simple()
        .field("m", "Tags", FieldType::Multiselect, choices)
        .field("k", "Score", FieldType::Counter, json!({}))
        .field("made", "Made", FieldType::Created, json!({}))
        .field("seen", "Seen", FieldType::Updated, json!({}))
        .row("r", "a0", json!({"t": "x", "tt": "no field", "m/x": true, "k#1": 2, "k#77": 3, "$h": 40}));
    let record = record_view(&world.table, "r", &world.raws["r"]).unwrap();
    let made = 1_600_000_000_000_u64;
    assert_eq!(record.json()["cells"], json!({"t": "x", "m": ["x"], "k": 5, "made": made, "seen": made}));
    assert_eq!(record.height, Some(40.0));
    assert_eq!(record_view(&world.table, "gone", &Raw::new()), None);
}

#[test]
fn a_table_that_declares_nothing_shows_everything() {
    let mut world = World::simple().row("r", "a0", json!({"t": "x", "size": {"w": 1}, "tags/a": true, "tags/b": true}));
    world.table.meta.clear();
    world.run(Command::DeleteField { id: "t".into() });
    let record = record_view(&world.table, "r", &world.raws["r"]).unwrap();
    assert_eq!(record.json()["cells"], json!({"size": {"w": 1}, "tags": ["a", "b"]}));
}

#[test]
fn a_table_shows_its_fields_in_order() {
    let mut world = World::simple().row("r", "a0", json!({}));
    world.table.meta.insert("title".into(), "Plans".into());
    world.table.meta.insert("settings".into(), json!({"staleOffline": "crdt"}));
    world.table.fields.get_mut("t").unwrap().order = "a9".into();
    let view = table_view(&world.table, 12);
    assert_eq!(view.fields.iter().map(|field| &*field.id).collect::<Vec<_>>(), ["n", "t"]);
    assert_eq!((view.title.as_deref(), view.record_count, view.revision), (Some("Plans"), 1, 12));
    assert_eq!(view.settings, json!({"staleOffline": "crdt"}));
    world.run(Command::DeleteField { id: "n".into() });
    assert_eq!(table_view(&world.table, 12).fields.len(), 1);
    assert!(field_view(&world.table, "n").is_some_and(|field| field.deleted));
    assert_eq!(field_view(&world.table, "x"), None);
}
