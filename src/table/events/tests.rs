//! Components and channels, from the command to what is heard.

use std::sync::Arc;

use serde_json::Map;
use serde_json::json;
use yrs::Doc;
use yrs::Out;
use yrs::Transact;

use super::*;
use crate::event::Audience;
use crate::table::command::Command;
use crate::table::command::Guard;
use crate::table::command::NestedOp;
use crate::table::command::NewRecord;
use crate::table::command::OnConflict;
use crate::table::command::RecordPatch;
use crate::table::command::Write;
use crate::table::content;
use crate::table::plan::Sight;
use crate::table::plan::plan;
use crate::table::refused::Refused;
use crate::table::register::Register;

/// One document, on which `bob` writes on the connection 7.
struct Desk {
    name: DocName,
    doc: Doc,
    register: Register,
    draws: u32,
}

/// What came of one command.
struct Told {
    all: Vec<Happening>,
    elsewhere: Vec<(RoomName, Vec<Happening>)>,
}

impl Desk {
    fn new(name: &str) -> Self {
        let name = DocName::parse(name).unwrap();
        Self { name, doc: Doc::with_client_id(1 << 40), register: Register::default(), draws: 0 }
    }

    fn ask(&mut self, command: Command) -> Result<Told, Refused> {
        self.ask_guarded(command, None)
    }

    fn ask_guarded(&mut self, command: Command, guard: Option<Guard>) -> Result<Told, Refused> {
        let user: Option<Arc<str>> = Some("bob".into());
        let write = Write { command, user: user.clone(), once: None, correlation_id: None, peer: Some(7), guard };
        let planned = {
            let txn = self.doc.transact();
            let raw = |row: &str| content::raw_row(&txn, row);
            let components = |row: &str| content::row_components(&txn, row);
            let (doc, table, epoch, now_ms) = (self.name.as_str(), &self.register.table, Epoch(0), 1_000);
            let sight = Sight { doc, epoch, table, raw: &raw, components: &components, now_ms };
            let draws = &mut self.draws;
            plan(&sight, &write, &mut || {
                *draws += 1;
                draws.wrapping_mul(0x9e37_79b9)
            })?
        };
        let author = Author { user, peer: Some(7), ..Author::default() };
        let (_, change) = self
            .register
            .carry_out(&mut self.doc.transact_mut(), &planned.puts, &author, 2_000)
            .expect("our own update");
        Ok(self.told(&change))
    }

    fn told(&self, change: &ChangeSet) -> Told {
        let all = happenings(&self.name, change);
        assert_eq!(all.len(), count(&self.name, change));
        assert!(all.iter().all(|told| NAMES.contains(&&*told.name)));
        Told { all, elsewhere: elsewhere(&self.name, change) }
    }

    fn run(&mut self, command: Command) -> Told {
        self.ask(command).unwrap_or_else(|no| panic!("refused: {no:?}"))
    }
}

impl Told {
    fn names(&self) -> Vec<&str> {
        self.all.iter().map(|told| &*told.name).collect()
    }

    fn one(&self) -> &Happening {
        let [one] = &self.all[..] else { panic!("{:?}", self.names()) };
        one
    }

    /// The names told in the one other room.
    fn in_room(&self, room: &str) -> Vec<&str> {
        let [(other, told)] = &self.elsewhere[..] else { panic!("{:?}", self.elsewhere) };
        assert_eq!(other.as_str(), room);
        told.iter().map(|told| &*told.name).collect()
    }
}

fn object(value: Value) -> Map<String, Value> {
    let Value::Object(object) = value else { panic!("an object") };
    object
}

fn put(id: &str, cells: Value) -> Command {
    let patch = RecordPatch { id: id.into(), cells: object(cells).into_iter().collect(), ..RecordPatch::default() };
    Command::PutRecord { patch, on_conflict: OnConflict::Field }
}

fn nested(row: &str, op: NestedOp) -> Command {
    Command::Nested { row: row.into(), op, expected_version: None, on_conflict: OnConflict::Field }
}

fn assert_says(happening: &Happening, fields: Value) {
    for (name, want) in object(fields) {
        assert_eq!(happening.fields.get(&name), Some(&want), "{name} of {happening:?}");
    }
}

#[test]
fn a_component_is_created_changed_and_deleted() {
    let mut desk = Desk::new("component:C");
    let told = desk.run(put("self", json!({"entityType": "page", "entityId": "p1", "title": "A"})));
    let component = json!({"id": "C", "entityType": "page", "entityId": "p1", "title": "A"});
    assert_says(told.one(), json!({"componentId": "C", "component": component, "createdBy": "bob", "version": 1}));
    assert_eq!((&*told.one().name, &told.one().audience), ("component:created", &Audience::Room));
    assert_eq!(told.in_room("entity:page:p1"), ["component:created"]);

    let told = desk.run(put("self", json!({"title": "B"})));
    assert_says(told.one(), json!({"componentId": "C", "updates": {"title": "B"}, "updatedBy": "bob", "version": 2}));
    assert_eq!(told.one().data["previous"], json!({"title": "A"}));
    assert_eq!((&*told.one().name, &told.one().audience), ("component:updated", &Audience::Others(7)));
    assert_eq!(told.in_room("entity:page:p1"), ["component:updated"]);
    assert_eq!(told.elsewhere[0].1[0], *told.one());

    assert!(desk.run(put("self", json!({"title": "B"}))).all.is_empty(), "nothing changed");
    let told = desk.run(put("self", json!({"entityId": null})));
    assert_eq!((told.names(), told.elsewhere.len()), (vec!["component:updated"], 0));

    let told = desk.run(Command::DeleteRecord { id: "self".into(), expected_version: None });
    assert_eq!((told.names(), &told.one().data["soft"]), (vec!["component:deleted"], &json!(true)));
    let told = desk.run(Command::RestoreRecord { id: "self".into() });
    assert_eq!((told.names(), &told.one().data["restored"]), (vec!["component:updated"], &json!(true)));

    let names = |doc: &str| -> Vec<_> {
        let told = document_deleted(&DocName::parse(doc).unwrap());
        told.into_iter().map(|told| (told.name, told.fields)).collect()
    };
    let id = object(json!({"componentId": "C"}));
    assert_eq!(names("component:C"), [("component:deleted".into(), id.clone()), ("document:deleted".into(), id)]);
    assert_eq!(names("channel:H").len(), 1);
}

#[test]
fn nested_components_are_heard_as_they_were_sent() {
    let mut desk = Desk::new("component:C");
    let content = object(json!({"id": "ignored", "type": "button", "props": {"label": "Go"}, "size": 2}));
    let told = desk.run(nested("r1", NestedOp::Create { id: Some("b1".into()), content }));
    assert_eq!(told.names(), ["record:created", "component:nested-created"]);
    let created = &told.all[1];
    assert_says(created, json!({"componentId": "C", "rowId": "r1", "nestedComponentId": "b1", "createdBy": "bob"}));
    let sent = json!({"id": "b1", "type": "button", "props": {"label": "Go"}, "size": 2});
    assert_eq!(created.fields["nestedComponent"], sent);
    assert!(created.data["nestedComponent"]["$o"].is_string(), "who keeps a copy knows its place");
    assert_eq!(created.audience, Audience::Room);

    let updates = object(json!({"props": {"label": "Stop", "icon": "x"}, "parentId": "box", "size": null}));
    let told = desk.run(nested("r1", NestedOp::Update { id: "b1".into(), updates: updates.clone() }));
    assert_says(told.one(), json!({"updates": updates, "parentId": "box", "updatedBy": "bob", "version": 2}));
    assert_eq!(told.one().data["previous"]["props"], json!({"label": "Go", "icon": null}));
    assert_eq!((&*told.one().name, &told.one().audience), ("component:nested-updated", &Audience::Others(7)));

    let told = desk.run(nested("r1", NestedOp::Delete { id: "b1".into() }));
    assert_says(told.one(), json!({"deletedBy": "bob", "nestedComponentId": "b1", "version": 3}));
    assert_eq!((&*told.one().name, &told.one().audience), ("component:nested-deleted", &Audience::Room));
    let content = object(json!({"type": "text"}));
    let told = desk.run(nested("r1", NestedOp::Create { id: Some("b1".into()), content }));
    assert_eq!((told.names(), &told.one().data["restored"]), (vec!["component:nested-created"], &json!(true)));
    let mut shown = told.one().fields["nestedComponent"].clone();
    shown.as_object_mut().unwrap().remove("$o");
    assert_eq!(shown, json!({"id": "b1", "type": "text"}), "nothing is left of the former one");
    assert!(told.elsewhere.is_empty(), "the entity hears of the component itself");
}

#[test]
fn each_component_and_its_props_are_maps_of_their_own() {
    let mut desk = Desk::new("table:T");
    desk.run(Command::CreateTable { title: None, fields: vec![], settings: None });
    desk.run(Command::CreateRecords {
        records: vec![NewRecord { id: Some("r1".into()), ..NewRecord::default() }],
        import: false,
    });
    let content = object(json!({"props": {"a": 1, "gone": null}}));
    desk.run(nested("r1", NestedOp::Create { id: Some("k1".into()), content }));
    desk.run(nested("r1", NestedOp::Create { id: Some("k2".into()), content: Map::new() }));
    desk.run(nested("r1", NestedOp::Update { id: "k2".into(), updates: object(json!({"props": {"b": 2}})) }));
    let txn = desk.doc.transact();
    let all = content::row_components(&txn, "r1");
    assert_eq!((&all["k1"]["props"], &all["k2"]["props"]), (&json!({"a": 1}), &json!({"b": 2})));
    assert!(all["k1"]["$o"].as_str() < all["k2"]["$o"].as_str(), "the second stands behind the first");
    let row = content::row(&txn, "r1").unwrap();
    for id in ["k1", "k2"] {
        let Some(Out::YMap(all)) = yrs::Map::get(&row, &txn, "$k") else { panic!("all of them") };
        let Some(Out::YMap(component)) = yrs::Map::get(&all, &txn, id) else { panic!("{id}") };
        assert!(matches!(yrs::Map::get(&component, &txn, "props"), Some(Out::YMap(_))), "props of {id}");
    }
}

#[test]
fn other_records_of_a_component_are_told_as_those_of_a_table() {
    let mut desk = Desk::new("component:C");
    let new = |id: &str| NewRecord { id: Some(id.into()), ..NewRecord::default() };
    let told = desk.run(Command::CreateRecords { records: ["a", "b", "self"].map(new).into(), import: false });
    assert_eq!(told.names(), ["component:created", "records:updated"]);
    assert_eq!(told.all[1].data["created"].as_array().map(Vec::len), Some(2));
    assert_eq!(desk.run(put("a", json!({"x": 1}))).names(), ["grid:cell-edited", "record:updated"]);
    let mut grid = Desk::new("table:T");
    grid.run(Command::CreateTable { title: None, fields: vec![], settings: None });
    let told = grid.run(Command::CreateRecords { records: vec![new("self")], import: false });
    assert_eq!((told.names(), told.elsewhere.len()), (vec!["record:created"], 0), "a table has no such record");
}

#[test]
fn a_message_is_sent_edited_read_and_deleted() {
    let mut desk = Desk::new("channel:H");
    let cells = json!({"text": "hi", "authorId": "alice", "threadId": "t/1", "clientId": "c1", "mood": 3});
    let told = desk.run(put("m1", cells));
    let sent = json!({
        "channelId": "H", "messageId": "m1", "text": "hi", "authorId": "alice", "threadId": "t/1", "clientId": "c1",
        "version": 1, "createdAt": "1970-01-01T00:00:02.000Z",
    });
    assert_says(told.one(), sent);
    assert_eq!(told.one().data["cells"], json!({"mood": 3}));
    assert_eq!(told.in_room("thread:t/1"), ["message:sent"]);
    assert_eq!(told.elsewhere[0].1[0], *told.one());

    let told = desk.run(put("m1", json!({"text": "hello"})));
    let edited = json!({"messageId": "m1", "text": "hello", "editedAt": "1970-01-01T00:00:02.000Z", "version": 2});
    assert_says(told.one(), edited);
    assert_eq!((&*told.one().name, told.elsewhere.len()), ("message:edited", 0));
    assert_eq!(desk.run(put("m1", json!({"mood": 4}))).names(), Vec::<&str>::new());

    let told = desk.run(put("m1", json!({"read/carol": true})));
    assert_says(told.one(), json!({"messageId": "m1", "status": "read", "version": 4}));
    assert_eq!((&*told.one().name, told.one().user.as_deref()), ("message:status", Some("carol")));
    assert!(desk.run(put("m1", json!({"read/carol": true}))).all.is_empty());
    let both = desk.run(put("m1", json!({"read/dave": true, "delivered/auth0|d/e": true})));
    let users: Vec<_> = both.all.iter().map(|told| (told.fields["status"].clone(), told.user.as_deref())).collect();
    assert_eq!(users, [(json!("delivered"), Some("auth0|d/e")), (json!("read"), Some("dave"))]);
    assert!(desk.run(put("m1", json!({"read/dave": null}))).all.is_empty(), "unread is not told");

    let told = desk.run(Command::DeleteRecord { id: "m1".into(), expected_version: None });
    assert_eq!((told.names(), &told.one().fields["messageId"]), (vec!["message:deleted"], &json!("m1")));
    let told = desk.run(Command::RestoreRecord { id: "m1".into() });
    assert_eq!((told.names(), &told.one().fields["version"]), (vec!["message:restored"], &json!(8)));
}

#[test]
fn only_its_author_edits_a_message() {
    let mut desk = Desk::new("channel:H");
    desk.run(put("m1", json!({"text": "hi", "authorId": "alice"})));
    let by = |author: &str| {
        Some(Guard { field: "authorId".into(), is: author.into(), message: "this message is somebody else's".into() })
    };
    let refused = desk.ask_guarded(put("m1", json!({"text": "x"})), by("bob")).err().unwrap();
    assert_eq!((refused.code.word(), &*refused.message), ("FORBIDDEN", "this message is somebody else's"));
    let refused = desk.ask_guarded(put("m2", json!({"text": "x"})), by("bob")).err().unwrap();
    assert_eq!(refused.code.word(), "NOT_FOUND");
    assert_eq!(desk.ask_guarded(put("m1", json!({"text": "x"})), by("alice")).unwrap().names(), ["message:edited"]);
    let told = desk.ask_guarded(Command::DeleteRecord { id: "m1".into(), expected_version: None }, by("alice"));
    assert_eq!(told.unwrap().names(), ["message:deleted"]);
}

#[test]
fn many_messages_at_once_are_told_one_by_one_up_to_a_bound() {
    let mut desk = Desk::new("channel:H");
    let new = |n: usize| NewRecord { id: Some(format!("m{n:04}")), ..NewRecord::default() };
    let told =
        desk.run(Command::CreateRecords { records: (0..RECORDS_PER_EVENT + 3).map(new).collect(), import: true });
    assert_eq!(told.all.len(), RECORDS_PER_EVENT + 1);
    assert!(told.all[..RECORDS_PER_EVENT].iter().all(|told| told.name == "message:sent"));
    assert_eq!(told.all[RECORDS_PER_EVENT].data["created"].as_array().map(Vec::len), Some(3));
    let in_thread = |n: usize| NewRecord { cells: [("threadId".to_owned(), json!("t"))].into(), ..new(n + 10_000) };
    let records = (0..RECORDS_PER_EVENT + 3).map(in_thread).collect();
    let told = desk.run(Command::CreateRecords { records, import: true });
    assert_eq!(told.in_room("thread:t").len(), RECORDS_PER_EVENT);
}

#[test]
fn a_thread_whose_name_is_no_room_is_left_out() {
    let mut desk = Desk::new("channel:H");
    for thread in [json!("t".repeat(300)), json!(""), json!(7), json!("a\nb")] {
        let told = desk.run(put(&format!("m{}", desk.draws), json!({"threadId": thread})));
        assert_eq!((told.names(), told.elsewhere.len()), (vec!["message:sent"], 0), "{thread}");
    }
    let mut desk = Desk::new("component:C");
    let told = desk.run(put("self", json!({"entityType": "t".repeat(200), "entityId": "i".repeat(200)})));
    assert_eq!(told.elsewhere.len(), 0);
}
